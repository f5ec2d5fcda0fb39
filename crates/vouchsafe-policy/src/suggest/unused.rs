//! Rights that nobody used for a while, and a draft that takes exactly them away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_model::observed::Observed;
use vouchsafe_model::resource::ResourceKind;

use super::text::{Ids, by_name, comment, day, rule};
use super::{GiveUp, SuggestError, SuggestedFile, tried};
use crate::engine::Engine;
use crate::rights::People;

/// Rights under the policy in force that were not used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unused {
    /// Version of the policies in force.
    pub policy_version: u64,
    /// Since when it was looked at, unix seconds.
    pub since: u64,
    /// How many rights there are: users, resources and actions.
    pub rights: usize,
    /// How many of them were not used.
    pub unused: usize,
    /// Those, together by resource and actions; most people first.
    pub can: Vec<UnusedRight>,
    /// A draft that takes them away, to be added to the policy in force. Rights by grants aren't in it: they are taken
    /// away by removing the grant.
    pub files: Vec<SuggestedFile>,
}

/// People who have the same rights to one resource and didn't use them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnusedRight {
    /// To what.
    pub resource: ResourceName,
    /// To do what.
    pub actions: Vec<Action>,
    /// How many people.
    pub count: usize,
    /// Who, sorted.
    pub users: Vec<UserName>,
    /// The policies and grants that give it.
    pub by: Vec<PolicyName>,
    /// Whether nobody who has the right used it.
    pub nobody: bool,
    /// Whether grants alone give it.
    pub granted: bool,
}

pub(super) fn unused(
    engine: &Arc<Engine>,
    people: &People,
    observed: &[Observed],
    asked: &BTreeMap<ResourceName, ResourceKind>,
    since: u64,
    now: SystemTime,
    give_up: GiveUp<'_>,
) -> Result<Unused, SuggestError> {
    let mut used: BTreeMap<(&ResourceName, Action), BTreeSet<&UserName>> = BTreeMap::new();
    for one in observed.iter().filter(|one| one.last >= since) {
        used.entry((&one.resource, one.action)).or_default().insert(&one.user);
    }
    let mut found = Unused { policy_version: engine.version(), since, ..Unused::default() };
    // One that was published before stays as it is, and what is taken away now comes beside it.
    let templates = engine.templates().into_iter().map(|template| template.id);
    let mut ids = Ids::besides(engine.policies().into_iter().map(|policy| policy.id).chain(templates));
    let today = day(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    for (resource, kind) in asked {
        // What each person has and didn't use: actions, and what gives them.
        let mut of_user: BTreeMap<UserName, (BTreeSet<Action>, BTreeSet<PolicyName>)> = BTreeMap::new();
        let mut active: BTreeSet<Action> = BTreeSet::new();
        for action in kind.actions() {
            if give_up() {
                return Err(SuggestError::TooLong);
            }
            let Some(answer) = engine.who_can(*action, resource, people, now) else { continue };
            let users = used.get(&(resource, *action));
            for class in answer.can {
                let by: BTreeSet<PolicyName> = class.rights.ways.iter().map(|way| way.policy.clone()).collect();
                for user in class.users {
                    found.rights += 1;
                    if users.is_some_and(|users| users.contains(&user)) {
                        active.insert(*action);
                        continue;
                    }
                    found.unused += 1;
                    let (actions, ways) = of_user.entry(user).or_default();
                    actions.insert(*action);
                    ways.extend(by.iter().cloned());
                }
            }
        }
        let mut alike: BTreeMap<(BTreeSet<Action>, BTreeSet<PolicyName>), BTreeSet<UserName>> = BTreeMap::new();
        for (user, of) in of_user {
            alike.entry(of).or_default().insert(user);
        }
        found.files.extend(draft(resource, *kind, &alike, since, &today, &mut ids));
        found.can.extend(alike.into_iter().map(|((actions, by), users)| UnusedRight {
            resource: resource.clone(),
            nobody: actions.is_disjoint(&active),
            granted: by.iter().all(PolicyName::is_of_grant),
            actions: actions.into_iter().collect(),
            count: users.len(),
            users: users.into_iter().collect(),
            by: by.into_iter().collect(),
        }));
    }
    found.can.sort_by(|one, other| {
        (other.count, &one.resource, &one.actions).cmp(&(one.count, &other.resource, &other.actions))
    });
    // By itself; beside the policy in force it has names of its own.
    let files = found.files.iter();
    let files = files.map(|file| crate::PolicyFile { name: file.name.clone(), text: file.text.clone() }).collect();
    tried::compiled(engine, files)?;
    Ok(found)
}

/// A file that takes away what policies give; it names people, so nobody who comes later is concerned.
fn draft(
    resource: &ResourceName,
    kind: ResourceKind,
    alike: &BTreeMap<(BTreeSet<Action>, BTreeSet<PolicyName>), BTreeSet<UserName>>,
    since: u64,
    today: &str,
    ids: &mut Ids,
) -> Option<SuggestedFile> {
    let mut by_actions: BTreeMap<&BTreeSet<Action>, BTreeSet<UserName>> = BTreeMap::new();
    for ((actions, by), users) in alike.iter().filter(|((_, by), _)| !by.iter().all(PolicyName::is_of_grant)) {
        debug_assert!(!by.is_empty(), "a right comes from somewhere");
        by_actions.entry(actions).or_default().extend(users.iter().cloned());
    }
    if by_actions.is_empty() {
        return None;
    }
    let day = day(since);
    let mut text = comment(&format!(
        "Suggested by `vouchsafe policy suggest --unused`: takes away rights to {resource} that were not used since {day}. \
         Add it to the policy in force; take it out to give them back. Better still, narrow the permits that give them."
    ));
    for (actions, users) in by_actions {
        let id = ids.name(&format!("unused-{resource}-{today}"));
        let (scope, conditions) = by_name(&users);
        text.push_str(&format!(
            "\n@id(\"{id}\")\n@reason(\"Your right to {resource} was not used since {day}; an administrator can give it back.\")\n{}",
            rule("forbid", &scope, actions, kind, resource, &conditions)
        ));
    }
    Some(SuggestedFile { name: format!("unused-{resource}-{today}.cedar"), text })
}
