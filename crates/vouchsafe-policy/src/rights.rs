//! Who can do what, over everybody and everything, with the conditions still attached.
//!
//! No circumstances are known here, so an answer is not yes or no: it names the permits of which one
//! has to hold, the forbids of which none may, and of each the conditions that no user, action or
//! resource decides. Under any circumstances at all, what an answer comes to is what
//! [`crate::PreparedSubject`] decides (a property test says so).
//!
//! Users who agree in all that the policies read of them are asked about once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::id::{SessionId, UserId};
use vouchsafe_model::name::{GroupName, PolicyName, ResourceName, UserName};
use vouchsafe_model::resource::ResourceKind;
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, SubjectFacts, UserFacts};

use crate::annotation::Effect;
use crate::engine::{Engine, Entry, Target};
use crate::evaluator::{Device, Limit, Part, Reads, Sketch, Truth};
use crate::facts::Who;
use crate::index::Side;
use crate::moment;

/// How far one action on one resource is open to one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Rights {
    /// Permits, of which one has to hold. Never empty. Those with fewest conditions first.
    pub ways: Vec<Way>,
    /// Forbids, of which none may hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<Way>,
    /// Policies that may fail rather than hold or not, which denies whatever else permits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_fail: Vec<Way>,
}

/// A policy or grant, with the conditions that are still attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Way {
    /// Its `@id`, or the id of a grant.
    pub policy: PolicyName,
    /// All of them have to hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Limit>,
    /// Whether it counts only on an enrolled device, and it isn't known whether there is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enrolled_device: bool,
    /// When it stops to permit, as in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Way {
    /// Whether nothing is attached to it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.conditions.is_empty() && !self.enrolled_device
    }
}

impl Rights {
    /// Whether it is open whatever the circumstances.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.ways.iter().any(Way::is_plain) && self.unless.is_empty() && self.may_fail.is_empty()
    }
}

/// Everybody, as far as policies can tell them apart.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// Who there is.
    pub users: Vec<UserName>,
    /// Who is in which group; who isn't among the users doesn't count.
    pub members: BTreeMap<GroupName, Vec<UserName>>,
}

/// Who can do something to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoCan {
    /// Name of the resource.
    pub resource: String,
    /// What is to be done to it.
    pub action: String,
    /// Version of the policies.
    pub policy_version: u64,
    /// How many users there are.
    pub users: usize,
    /// Those who can, together where they can in the same way; the fewest conditions first.
    pub can: Vec<Class>,
}

/// Users who can do something in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Class {
    /// How many they are.
    pub count: usize,
    /// Their names, sorted.
    pub users: Vec<UserName>,
    /// How far.
    pub rights: Rights,
}

/// What one user can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhatCan {
    /// Name of the user.
    pub user: String,
    /// Name of the device, where one was asked about; `none` for one that isn't proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Version of the policies.
    pub policy_version: u64,
    /// How many resources there are, the console too.
    pub resources: usize,
    /// What is open, by resource.
    pub can: Vec<Open>,
}

/// Actions on one resource that are open in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Open {
    /// Name of the resource.
    pub resource: String,
    /// Its kind.
    pub kind: String,
    /// The actions.
    pub actions: Vec<String>,
    /// How far.
    pub rights: Rights,
}

/// On what device a user is asked about.
#[derive(Debug, Clone)]
pub enum OnDevice {
    /// On whatever device: what policies demand of it stays as a condition.
    Any,
    /// On this one; `None` is one that isn't proven.
    This(Option<DeviceFacts>),
}

/// Names of groups that have to be known to answer a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All there are.
    All,
    /// These.
    Groups(BTreeSet<GroupName>),
}

impl Engine {
    /// The groups whose members have to be known to say who can do something to a resource.
    #[must_use]
    pub fn groups_about(&self, resource: &ResourceName) -> Wanted {
        match self.target(resource) {
            Some(target) => wanted(&reads(&self.about(target))),
            None => Wanted::Groups(BTreeSet::new()),
        }
    }

    /// Who can do that to a resource. `None` when there is no such resource.
    #[must_use]
    pub fn who_can(&self, action: Action, resource: &ResourceName, people: &People, now: SystemTime) -> Option<WhoCan> {
        let target = self.target(resource)?;
        let exists = target.resource.spec.kind().actions().contains(&action);
        let counts =
            |entry: &&Arc<Entry>| exists && entry.scope.action.actions.contains(&action) && !entry.is_expired(now);
        let about: Vec<&Arc<Entry>> = self.about(target).into_iter().filter(counts).collect();
        let mut by_rights: BTreeMap<Rights, Vec<UserName>> = BTreeMap::new();
        for class in classes(people, &reads(&about)) {
            let Some(who) = class.subject(self, people, now) else { continue };
            if let Some(rights) = rights(self, &about, &who, target, action, Device::Open, now) {
                by_rights.entry(rights).or_default().extend(class.names(people));
            }
        }
        let mut can: Vec<Class> =
            by_rights.into_iter().map(|(rights, users)| Class { count: users.len(), users, rights }).collect();
        can.iter_mut().for_each(|class| class.users.sort());
        can.sort_by_key(|class| (weight(&class.rights), std::cmp::Reverse(class.count)));
        Some(WhoCan {
            resource: resource.as_str().to_owned(),
            action: action.to_string(),
            policy_version: self.version(),
            users: people.users.len(),
            can,
        })
    }

    /// What one user can do.
    #[must_use]
    pub fn what_can(&self, user: &UserFacts, device: &OnDevice, now: SystemTime) -> WhatCan {
        self.what_can_while(user, device, now, || true)
    }

    /// The same, for as long as whoever asks wants it to go on; she is asked before each resource.
    #[must_use]
    pub fn what_can_while(
        &self,
        user: &UserFacts,
        device: &OnDevice,
        now: SystemTime,
        mut goes_on: impl FnMut() -> bool,
    ) -> WhatCan {
        let (facts, known, name) = match device {
            OnDevice::Any => (None, Device::Open, None),
            OnDevice::This(facts) => {
                let name = facts.as_ref().map_or("none".to_owned(), |facts| facts.name.to_string());
                (facts.clone(), Device::Known, Some(name))
            }
        };
        let mut can = Vec::new();
        let targets: Vec<&Target> = self.targets().collect();
        let resources = targets.len();
        if let Some(who) = Who::new(self.words, &subject(user.clone(), facts, now)) {
            for target in targets {
                if !goes_on() {
                    break;
                }
                let about: Vec<&Arc<Entry>> = self
                    .index
                    .candidates(&who.lineage, &target.lineage)
                    .into_iter()
                    .filter_map(|number| self.entry(number))
                    .filter(|entry| entry.scope.resource.matches(&target.lineage) && !entry.is_expired(now))
                    .collect();
                open(self, &about, &who, target, known, now, &mut can);
            }
        }
        WhatCan { user: user.name.to_string(), device: name, policy_version: self.version(), resources, can }
    }

    /// The policies about a resource, for whomever, by name.
    pub(crate) fn about(&self, target: &Target) -> Vec<&Arc<Entry>> {
        let numbers = self.index.about(&target.lineage);
        let entries = numbers.into_iter().filter_map(|number| self.entry(number));
        let mut about: Vec<&Arc<Entry>> =
            entries.filter(|entry| entry.scope.resource.matches(&target.lineage)).collect();
        about.sort_by(|one, other| one.name.cmp(&other.name));
        about
    }
}

/// Adds what is open on one resource, actions together where they are open in the same way.
fn open(
    engine: &Engine,
    about: &[&Arc<Entry>],
    who: &Who,
    target: &Target,
    device: Device,
    now: SystemTime,
    can: &mut Vec<Open>,
) {
    if !about.iter().any(|entry| entry.effect == Effect::Permit) {
        return;
    }
    let kind: ResourceKind = target.resource.spec.kind();
    let first = can.len();
    for action in kind.actions() {
        let Some(rights) = rights(engine, about, who, target, *action, device, now) else { continue };
        let same = can.get_mut(first..).and_then(|here| here.iter_mut().find(|open| open.rights == rights));
        match same {
            Some(open) => open.actions.push(action.to_string()),
            None => can.push(Open {
                resource: target.resource.name.to_string(),
                kind: kind.to_string(),
                actions: vec![action.to_string()],
                rights,
            }),
        }
    }
}

/// How far an action is open to a user; `None` when it isn't, whatever the circumstances.
///
/// Of the policies, those that aren't about the user, the action and the resource are passed over.
pub(crate) fn rights(
    engine: &Engine,
    policies: &[&Arc<Entry>],
    who: &Who,
    target: &Target,
    action: Action,
    device: Device,
    now: SystemTime,
) -> Option<Rights> {
    let applies = |entry: &&&Arc<Entry>| {
        entry.scope.action.actions.contains(&action)
            && !entry.is_expired(now)
            && entry.scope.principal.matches(&who.lineage)
    };
    let policies: Vec<&Arc<Entry>> = policies.iter().filter(applies).copied().collect();
    if !policies.iter().any(|entry| entry.effect == Effect::Permit) {
        return None;
    }
    let world = who.principal.at(&target.object)?;
    let sketch = Sketch::new(&who.principal, engine.words.verb(action)?, &world, device);
    let mut rights = Rights { ways: Vec::new(), unless: Vec::new(), may_fail: Vec::new() };
    for entry in policies {
        let sketched = sketched(entry, &sketch);
        if let Some(conditions) = sketched.fails {
            if conditions.is_empty() {
                return None;
            }
            rights.may_fail.push(way(entry, &conditions, Device::Known));
        }
        let Some(conditions) = sketched.holds else { continue };
        match entry.effect {
            Effect::Permit if entry.needs_device() && device == Device::Known && !who.has_device() => {}
            Effect::Permit => rights.ways.push(way(entry, &conditions, device)),
            Effect::Forbid if conditions.is_empty() => return None,
            Effect::Forbid => rights.unless.push(way(entry, &conditions, Device::Known)),
        }
    }
    rights.ways.sort_by_key(|way| (way.conditions.len() + usize::from(way.enrolled_device), way.policy.clone()));
    rights.unless.sort();
    rights.may_fail.sort();
    (!rights.ways.is_empty()).then_some(rights)
}

/// What is known of one policy whose scope matches.
struct Sketched<'e> {
    /// What it takes that it holds; `None` when it never does.
    holds: Option<Vec<&'e Part>>,
    /// The parts of which one may fail, up to the last such; `None` when none can. Empty when it fails
    /// whatever the circumstances.
    fails: Option<Vec<&'e Part>>,
}

fn sketched<'e>(entry: &'e Entry, sketch: &Sketch<'_>) -> Sketched<'e> {
    let mut attached: Vec<&Part> = Vec::new();
    let mut fails = None;
    for part in entry.condition.as_deref().map(|condition| condition.parts()).unwrap_or_default() {
        match sketch.truth(part) {
            Truth::True => {}
            Truth::False => return Sketched { holds: None, fails },
            Truth::Open => {
                attached.push(part);
                if part.can_fail {
                    fails = Some(attached.clone());
                }
            }
            Truth::Error => {
                // It fails where all before it holds; with nothing before it, always.
                if !attached.is_empty() {
                    attached.push(part);
                }
                return Sketched { holds: None, fails: Some(attached) };
            }
        }
    }
    Sketched { holds: Some(attached), fails }
}

fn way(entry: &Entry, conditions: &[&Part], device: Device) -> Way {
    Way {
        policy: entry.name.clone(),
        conditions: conditions.iter().map(|part| part.limit().clone()).collect(),
        enrolled_device: entry.needs_device() && device == Device::Open,
        expires: entry.ends().and_then(moment::to_text),
    }
}

/// What comes first for people: what has the fewest conditions.
fn weight(rights: &Rights) -> usize {
    let fewest = rights.ways.first().map_or(0, |way| way.conditions.len() + usize::from(way.enrolled_device));
    fewest + rights.unless.len() + rights.may_fail.len()
}

/// What policies read of a user, in their scopes and conditions.
pub(crate) fn reads(policies: &[&Arc<Entry>]) -> Reads {
    let mut reads = Reads::default();
    for entry in policies {
        match &entry.scope.principal {
            Side::Any | Side::Is(_) | Side::Slot => {}
            Side::Eq(uid) | Side::In(uid) | Side::IsIn(_, uid) => {
                let name = uid.id().unescaped().to_owned();
                // A user is in herself too.
                if uid.type_name().basename() == "Group" {
                    reads.groups.insert(name)
                } else {
                    reads.users.insert(name)
                };
            }
        }
        if let Some(condition) = entry.condition.as_deref() {
            condition.read_principal(&mut reads);
        }
    }
    reads
}

pub(crate) fn wanted(reads: &Reads) -> Wanted {
    if reads.all_groups {
        return Wanted::All;
    }
    Wanted::Groups(reads.groups.iter().filter_map(|name| GroupName::parse(name).ok()).collect())
}

/// Users who agree in all that is read of them.
pub(crate) struct Alike<'p> {
    /// Indices into the users.
    pub(crate) users: Vec<usize>,
    groups: Vec<&'p GroupName>,
}

impl Alike<'_> {
    /// One of them in Cedar's terms; the others are answered alike.
    pub(crate) fn subject(&self, engine: &Engine, people: &People, now: SystemTime) -> Option<Who> {
        Who::new(engine.words, &subject(self.facts(people)?, None, now))
    }

    /// One of them, with those groups that are read.
    pub(crate) fn facts(&self, people: &People) -> Option<UserFacts> {
        let name = people.users.get(*self.users.first()?)?.clone();
        let groups = self.groups.iter().copied().cloned().collect();
        Some(UserFacts { id: UserId::from_random([0; 16]), name, groups })
    }

    pub(crate) fn names<'n>(&'n self, people: &'n People) -> impl Iterator<Item = UserName> + 'n {
        self.users.iter().filter_map(|index| people.users.get(*index)).cloned()
    }
}

/// Everybody, those together whom nothing that is read tells apart.
pub(crate) fn classes<'p>(people: &'p People, reads: &Reads) -> Vec<Alike<'p>> {
    let index: HashMap<&UserName, usize> = people.users.iter().zip(0..).collect();
    let mut marks: Vec<Vec<usize>> = vec![Vec::new(); people.users.len()];
    let read = |group: &&GroupName| reads.all_groups || reads.groups.contains(group.as_str());
    let groups: Vec<&GroupName> = people.members.keys().filter(read).collect();
    for (number, group) in groups.iter().enumerate() {
        for member in people.members.get(*group).into_iter().flatten() {
            if let Some(marks) = index.get(member).and_then(|at| marks.get_mut(*at)) {
                marks.push(number);
            }
        }
    }
    // Whoever is named is like nobody else.
    for (at, user) in people.users.iter().enumerate() {
        if (reads.each || reads.users.contains(user.as_str()))
            && let Some(marks) = marks.get_mut(at)
        {
            marks.push(groups.len().saturating_add(at));
        }
    }
    let mut alike: HashMap<Vec<usize>, Vec<usize>> = HashMap::new();
    for (at, mut marks) in marks.into_iter().enumerate() {
        // A member may be listed twice.
        marks.dedup();
        alike.entry(marks).or_default().push(at);
    }
    let mut classes: Vec<Alike<'p>> = alike
        .into_iter()
        .map(|(marks, users)| Alike {
            users,
            groups: marks.iter().filter_map(|mark| groups.get(*mark).copied()).collect(),
        })
        .collect();
    classes.sort_by(|one, other| one.users.first().cmp(&other.users.first()));
    classes
}

/// Somebody who has just signed in.
pub(crate) fn subject(user: UserFacts, device: Option<DeviceFacts>, now: SystemTime) -> SubjectFacts {
    SubjectFacts {
        session: SessionId::from_random([0; 16]),
        user,
        device,
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: now },
        expires: now.checked_add(Duration::from_secs(3_600)).unwrap_or(now),
        epoch: Epoch::default(),
    }
}
