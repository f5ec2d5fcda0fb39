//! A suggestion tried: compiled, and everybody's rights under it counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use vouchsafe_model::action::Action;
use vouchsafe_model::id::{DeviceId, UserId};
use vouchsafe_model::name::{DeviceName, PolicyName, ResourceName, UserName};
use vouchsafe_model::resource::{Resource, ResourceKind, ResourceSpec};
use vouchsafe_model::subject::{DeviceFacts, Grade, UserFacts};

use super::cover::Groups;
use super::{Coverage, GiveUp, OfResource, RightsCounted, Sorted, SuggestError};
use crate::annotation::Effect;
use crate::engine::Engine;
use crate::request::{Detail, KeyAgreement, Request};
use crate::rights::{People, subject};
use crate::source::{PolicyFile, PolicySource};
use crate::subject::PreparedSubject;

/// What a suggestion has to give, and nothing else.
pub(super) struct Meant<'m> {
    pub(super) kept: &'m BTreeMap<ResourceName, OfResource>,
    pub(super) beyond: &'m BTreeMap<(ResourceName, Action), BTreeSet<UserName>>,
}

/// The files alone, over the resources that there are.
pub(super) fn compiled(engine: &Engine, files: Vec<PolicyFile>) -> Result<Arc<Engine>, SuggestError> {
    let resources = engine.resources().map(|resource| Resource::clone(resource)).collect();
    let source = PolicySource { version: 0, files, grants: Vec::new(), resources };
    Engine::compile(source).map_err(|wrong| {
        let first = wrong.first().map(ToString::to_string).unwrap_or_default();
        SuggestError::Wrong(format!("it doesn't compile: {first}"))
    })
}

/// Counts rights under both policies; an error where the draft gives less or more than it has to.
pub(super) fn rights(
    live: &Engine,
    draft: &Engine,
    people: &People,
    asked: &BTreeMap<ResourceName, ResourceKind>,
    meant: &Meant<'_>,
    now: SystemTime,
    give_up: GiveUp<'_>,
) -> Result<RightsCounted, SuggestError> {
    let mut counted = RightsCounted::default();
    for (resource, kind) in asked {
        for action in kind.actions() {
            if give_up() {
                return Err(SuggestError::TooLong);
            }
            let today = holders(live, *action, resource, people, now);
            let suggested = holders(draft, *action, resource, people, now);
            let used = meant.kept.get(resource).and_then(|of| of.get(action));
            let mut right: BTreeSet<&UserName> = used.into_iter().flat_map(BTreeMap::keys).collect();
            right.extend(meant.beyond.get(&(resource.clone(), *action)).into_iter().flatten());
            if !right.iter().copied().eq(&suggested) {
                return Err(SuggestError::Wrong(format!("{action} on {resource} is not given to whom it should be")));
            }
            counted.today += today.len();
            counted.suggested += suggested.len();
            counted.gone += today.difference(&suggested).count();
            counted.new += suggested.difference(&today).count();
        }
    }
    Ok(counted)
}

/// Everybody who has a right, whatever the conditions.
pub(super) fn holders(
    engine: &Engine,
    action: Action,
    resource: &ResourceName,
    people: &People,
    now: SystemTime,
) -> BTreeSet<UserName> {
    let answer = engine.who_can(action, resource, people, now);
    answer.into_iter().flat_map(|answer| answer.can).flat_map(|class| class.users).collect()
}

/// Decides each kept access under the draft, on a device as it came from.
pub(super) fn coverage(draft: &Arc<Engine>, groups: &Groups<'_>, sorted: &Sorted, now: SystemTime) -> Coverage {
    let mut coverage = Coverage::default();
    // Whoever used several resources is made ready once for each grade.
    let mut by_user: BTreeMap<(&UserName, Option<Grade>), Vec<(&ResourceName, Action, u64)>> = BTreeMap::new();
    for (resource, of) in &sorted.kept {
        for (action, uses) in of {
            for (user, used) in uses {
                coverage.kept = coverage.kept.saturating_add(used.count);
                by_user.entry((user, used.grade)).or_default().push((resource, *action, used.count));
            }
        }
    }
    for ((user, grade), accesses) in by_user {
        let on = |grade| {
            let facts = UserFacts { id: UserId::from_random([0; 16]), name: user.clone(), groups: groups.of(user) };
            PreparedSubject::new(Arc::clone(draft), Arc::new(subject(facts, device(user, grade), now)))
        };
        let here = on(grade.unwrap_or(Grade::Software));
        for (resource, action, count) in accesses {
            let Some(detail) = draft.resource(resource).map(|resource| detail(&resource.spec)) else { continue };
            let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
            if here.decide(&Request { resource, action, ip, agreement: KeyAgreement::Other, detail }, now).is_ok() {
                coverage.allowed = coverage.allowed.saturating_add(count);
            } else if grade == Some(Grade::None) {
                coverage.without_device = coverage.without_device.saturating_add(count);
            }
        }
    }
    let count = |all: &mut dyn Iterator<Item = u64>| all.fold(0_u64, u64::saturating_add);
    coverage.rare = count(&mut sorted.rare_seen.iter().map(|one| one.count));
    coverage.left_out = count(&mut sorted.left_out.iter().map(|left| left.access.count));
    coverage.observed = count(&mut [coverage.kept, coverage.rare, coverage.left_out].into_iter());
    coverage
}

fn device(user: &UserName, grade: Grade) -> Option<DeviceFacts> {
    let name = DeviceName::parse("device").ok()?;
    let owner = Some(user.clone());
    let facts = DeviceFacts { id: DeviceId::from_random([0; 16]), name, grade, owner, tags: BTreeSet::new() };
    (grade != Grade::None).then_some(facts)
}

fn detail(spec: &ResourceSpec) -> Detail<'static> {
    match spec {
        ResourceSpec::Http(_) => Detail::Http { method: "GET", host: "host", path: "/" },
        ResourceSpec::Tcp(spec) => Detail::Net { port: spec.port },
        ResourceSpec::Udp(spec) => Detail::Net { port: spec.port },
        ResourceSpec::Console => Detail::Console { operation: "" },
    }
}

/// Policies in force about these resources by name, grants apart: those that permit, and those that forbid.
pub(super) fn about(
    engine: &Engine,
    asked: &BTreeMap<ResourceName, ResourceKind>,
) -> (Vec<PolicyName>, Vec<PolicyName>) {
    let listed: BTreeSet<PolicyName> = engine.policies().into_iter().map(|policy| policy.id).collect();
    let (mut permits, mut forbids) = (BTreeSet::new(), BTreeSet::new());
    let targets = asked.keys().filter_map(|name| engine.target(name));
    for entry in targets.flat_map(|target| engine.about(target)) {
        if listed.contains(&entry.name) {
            match entry.effect {
                Effect::Permit => permits.insert(entry.name.clone()),
                Effect::Forbid => forbids.insert(entry.name.clone()),
            };
        }
    }
    (permits.into_iter().collect(), forbids.into_iter().collect())
}
