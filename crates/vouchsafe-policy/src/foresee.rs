//! What accesses that were observed elsewhere would come to under another policy.
//!
//! Logs of other programs say who did what how often, and not from which device, with which path or how long after the
//! sign-in. So nothing is decided again: what is compared is how far each access is open to its user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_model::observed::Observed;
use vouchsafe_model::subject::Grade;

use crate::engine::Engine;
use crate::rights::{People, Rights, Way};
use crate::suggest::{GiveUp, LeftOut, SuggestError, says_nothing};

/// What observed accesses would come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Foreseen {
    /// Version of the one policy.
    pub before: u64,
    /// Version of the other, under which they are looked at.
    pub after: u64,
    /// Accesses of people and to resources that there are.
    pub accesses: u64,
    /// Those that go on whatever else is asked; on an enrolled device where it isn't known from which they came.
    pub open: u64,
    /// Those that go on under conditions of which the log says nothing.
    pub depends: u64,
    /// Those that are denied.
    pub denied: u64,
    /// Those of the denied that are denied by the one policy already.
    pub denied_already: u64,
    /// What is denied and what depends; together where it is the same for several people. What is denied comes first,
    /// and of that what isn't yet.
    pub concerned: Vec<Concerned>,
    /// Accesses that say nothing about the directory of now.
    pub left_out: Vec<LeftOut>,
}

/// Accesses that don't simply go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Concerned {
    /// To what.
    pub resource: ResourceName,
    /// To do what.
    pub action: Action,
    /// How many people.
    pub count: usize,
    /// Who, sorted.
    pub users: Vec<UserName>,
    /// How many accesses.
    pub accesses: u64,
    /// The last of them, unix seconds.
    pub last: u64,
    /// Whether they came without a proven device, as far as is known.
    pub without_device: bool,
    /// Whether they would be denied, and not only depend.
    pub denied: bool,
    /// How far it is open to them by the one policy; absent when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Rights>,
    /// How far it is by the other; absent when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Rights>,
}

/// How far something is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Openness {
    Denied,
    Depends,
    Open,
}

/// What accesses of the same action to the same resource have in common when the same is said of them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    without_device: bool,
    before: Option<Rights>,
    after: Option<Rights>,
}

/// Looks what observed accesses would come to when the other policy takes the place of the one; `people` with the
/// members of all groups.
///
/// # Errors
/// [`SuggestError::TooLong`].
pub fn foresee(
    before: &Arc<Engine>,
    after: &Arc<Engine>,
    people: &People,
    observed: &[Observed],
    now: SystemTime,
    give_up: GiveUp<'_>,
) -> Result<Foreseen, SuggestError> {
    let mut found = Foreseen { before: before.version(), after: after.version(), ..Foreseen::default() };
    let mut all: BTreeMap<(&ResourceName, Action), Vec<&Observed>> = BTreeMap::new();
    let active: BTreeSet<&UserName> = people.users.iter().collect();
    for one in observed {
        match says_nothing(after, &active, one) {
            Some(why) => found.left_out.push(LeftOut { access: one.clone(), why: why.to_owned() }),
            None => all.entry((&one.resource, one.action)).or_default().push(one),
        }
    }
    for ((resource, action), accesses) in all {
        if give_up() {
            return Err(SuggestError::TooLong);
        }
        let (was, is) = (open_to(before, action, resource, people, now), open_to(after, action, resource, people, now));
        let mut alike: BTreeMap<Alike, Concerned> = BTreeMap::new();
        for one in accesses {
            let (was, is) = (was.get(&one.user), is.get(&one.user));
            found.accesses = found.accesses.saturating_add(one.count);
            let denied = match openness(is, one.grade) {
                Openness::Open => {
                    found.open = found.open.saturating_add(one.count);
                    continue;
                }
                Openness::Depends => {
                    found.depends = found.depends.saturating_add(one.count);
                    false
                }
                Openness::Denied => {
                    found.denied = found.denied.saturating_add(one.count);
                    if openness(was, one.grade) == Openness::Denied {
                        found.denied_already = found.denied_already.saturating_add(one.count);
                    }
                    true
                }
            };
            let without_device = one.grade == Some(Grade::None);
            let same = Alike { without_device, before: was.cloned(), after: is.cloned() };
            let concerned = alike.entry(same).or_insert_with_key(|same| Concerned {
                resource: resource.clone(),
                action,
                count: 0,
                users: Vec::new(),
                accesses: 0,
                last: 0,
                without_device,
                denied,
                before: same.before.clone(),
                after: same.after.clone(),
            });
            concerned.users.push(one.user.clone());
            concerned.accesses = concerned.accesses.saturating_add(one.count);
            concerned.last = concerned.last.max(one.last);
        }
        found.concerned.extend(alike.into_values().map(|mut concerned| {
            // The same person may be seen in several logs.
            concerned.users.sort();
            concerned.users.dedup();
            concerned.count = concerned.users.len();
            concerned
        }));
    }
    let new = |one: &Concerned| one.denied && one.before.is_some();
    found.concerned.sort_by(|one, other| {
        (other.denied, new(other), other.accesses, &one.resource).cmp(&(
            one.denied,
            new(one),
            one.accesses,
            &other.resource,
        ))
    });
    Ok(found)
}

/// How far it is open to whom; who isn't there can't do it.
fn open_to(
    engine: &Engine,
    action: Action,
    resource: &ResourceName,
    people: &People,
    now: SystemTime,
) -> BTreeMap<UserName, Rights> {
    let classes = engine.who_can(action, resource, people, now).map(|answer| answer.can).unwrap_or_default();
    let each = |class: crate::rights::Class| {
        let rights = class.rights;
        class.users.into_iter().map(move |user| (user, rights.clone()))
    };
    classes.into_iter().flat_map(each).collect()
}

/// How far it is open to who came from a device of that grade.
fn openness(rights: Option<&Rights>, grade: Option<Grade>) -> Openness {
    let Some(Rights { ways, unless, may_fail }) = rights else { return Openness::Denied };
    let enrolled = grade != Some(Grade::None);
    let mut ways = ways.iter().filter(|way| enrolled || !way.enrolled_device).peekable();
    if ways.peek().is_none() {
        return Openness::Denied;
    }
    let plain = |way: &Way| way.conditions.is_empty();
    if unless.is_empty() && may_fail.is_empty() && ways.any(plain) { Openness::Open } else { Openness::Depends }
}
