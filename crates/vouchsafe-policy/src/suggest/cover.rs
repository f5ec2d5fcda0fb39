//! For whom a policy is: groups where they stand for those who used something, and people by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vouchsafe_model::action::Action;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_model::subject::Grade;

use super::{FEWEST_MEMBERS, OfResource, SuggestOptions, Use, Uses};
use crate::rights::People;

/// Groups with their active members.
pub(super) struct Groups<'p> {
    members: BTreeMap<&'p GroupName, BTreeSet<&'p UserName>>,
    of_user: HashMap<&'p UserName, Vec<&'p GroupName>>,
}

impl<'p> Groups<'p> {
    pub(super) fn new(people: &'p People) -> Self {
        let active: BTreeSet<&UserName> = people.users.iter().collect();
        let mut members: BTreeMap<&GroupName, BTreeSet<&UserName>> = BTreeMap::new();
        let mut of_user: HashMap<&UserName, Vec<&GroupName>> = HashMap::new();
        for (group, names) in &people.members {
            let names: BTreeSet<&UserName> = names.iter().filter(|name| active.contains(name)).collect();
            for name in &names {
                of_user.entry(name).or_default().push(group);
            }
            members.insert(group, names);
        }
        Self { members, of_user }
    }

    pub(super) fn members(&self, group: &GroupName) -> impl Iterator<Item = &'p UserName> {
        self.members.get(group).into_iter().flatten().copied()
    }

    pub(super) fn of(&self, user: &UserName) -> BTreeSet<GroupName> {
        self.of_user.get(user).into_iter().flatten().map(|group| (*group).clone()).collect()
    }
}

/// Whom a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Principal {
    Group(GroupName),
    Users(BTreeSet<UserName>),
}

/// A policy about one resource, before it is written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) principal: Principal,
    pub(super) actions: BTreeSet<Action>,
    /// The weakest grade of those accesses that are of whom it is for; `None` where that isn't known of all.
    pub(super) grade: Option<Grade>,
    /// Whether some of them came without a proven device.
    pub(super) deviceless: bool,
    pub(super) accesses: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Draft {
    /// Everybody whom it is for.
    pub(super) fn users(&self, groups: &Groups<'_>) -> BTreeSet<UserName> {
        match &self.principal {
            Principal::Group(group) => groups.members(group).cloned().collect(),
            Principal::Users(users) => users.clone(),
        }
    }

    /// What it gives: to whom, by each action.
    pub(super) fn gives(&self, groups: &Groups<'_>) -> Vec<(Action, BTreeSet<UserName>)> {
        let users = self.users(groups);
        self.actions.iter().map(|action| (*action, users.clone())).collect()
    }
}

/// Policies that give one resource to those who used it, groups first.
pub(super) fn drafts(groups: &Groups<'_>, kept: &OfResource, options: &SuggestOptions) -> Vec<Draft> {
    let mut by_group: BTreeMap<GroupName, BTreeSet<Action>> = BTreeMap::new();
    let mut by_user: BTreeMap<UserName, BTreeSet<Action>> = BTreeMap::new();
    for (action, uses) in kept {
        let (chosen, rest) = covered(groups, uses, options.share);
        for group in chosen {
            by_group.entry(group).or_default().insert(*action);
        }
        for user in rest {
            by_user.entry(user).or_default().insert(*action);
        }
    }
    let mut by_actions: BTreeMap<BTreeSet<Action>, BTreeSet<UserName>> = BTreeMap::new();
    for (user, actions) in by_user {
        by_actions.entry(actions).or_default().insert(user);
    }
    let of_groups = by_group.into_iter().map(|(group, actions)| (Principal::Group(group), actions));
    let of_users = by_actions.into_iter().map(|(actions, users)| (Principal::Users(users), actions));
    of_groups.chain(of_users).map(|(principal, actions)| draft(groups, principal, actions, kept)).collect()
}

fn draft(groups: &Groups<'_>, principal: Principal, actions: BTreeSet<Action>, kept: &OfResource) -> Draft {
    let mut draft = Draft {
        principal,
        actions,
        grade: Some(Grade::HardwareAttested),
        deviceless: false,
        accesses: 0,
        first: u64::MAX,
        last: 0,
    };
    let users = draft.users(groups);
    let uses = draft.actions.iter().filter_map(|action| kept.get(action));
    let uses = uses.flat_map(|uses| users.iter().filter_map(|user| uses.get(user)));
    for Use { count, first, last, grade } in uses.copied().collect::<Vec<_>>() {
        draft.accesses = draft.accesses.saturating_add(count);
        draft.first = draft.first.min(first);
        draft.last = draft.last.max(last);
        draft.grade = draft.grade.zip(grade).map(|(one, other)| one.min(other));
        draft.deviceless |= grade == Some(Grade::None);
    }
    draft
}

/// Groups that stand for those who used something, and who is left. The group that brings most people comes first; of
/// several the one that gives least beyond them, then the first by name. One that brings a single person is none:
/// her name says the same and gives nothing to others.
fn covered(groups: &Groups<'_>, uses: &Uses, share: u8) -> (Vec<GroupName>, BTreeSet<UserName>) {
    let names: BTreeSet<&GroupName> =
        uses.keys().filter_map(|user| groups.of_user.get(user)).flatten().copied().collect();
    let mut candidates: Vec<(&GroupName, BTreeSet<&UserName>, usize)> = Vec::new();
    for group in names {
        let Some(members) = groups.members.get(group) else { continue };
        let used: BTreeSet<&UserName> = members.iter().copied().filter(|member| uses.contains_key(*member)).collect();
        let enough = used.len() * 100 >= members.len() * usize::from(share);
        if members.len() >= FEWEST_MEMBERS && enough {
            candidates.push((group, used, members.len()));
        }
    }
    let mut left: BTreeSet<&UserName> = uses.keys().collect();
    let mut chosen = Vec::new();
    loop {
        let best = candidates
            .iter()
            .map(|(group, used, members)| (used.intersection(&left).count(), members - used.len(), *group, used))
            .filter(|(brings, ..)| *brings >= FEWEST_MEMBERS)
            .min_by_key(|(brings, beyond, group, _)| (std::cmp::Reverse(*brings), *beyond, *group));
        let Some((_, _, group, used)) = best else { break };
        left.retain(|user| !used.contains(user));
        chosen.push(group.clone());
    }
    chosen.sort();
    (chosen, left.into_iter().cloned().collect())
}
