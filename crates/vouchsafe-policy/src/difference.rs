//! What changes for whom between two policies: over everybody, every resource and action, and each
//! class of devices.
//!
//! It is tried, not argued: where two policies differ, requests are decided under both, with every
//! value that lies between any two which the policies tell apart. So each change that is told has an
//! example that was decided, and there is none that isn't told (a property test says both), except where
//! [`Difference::exact`] says that not everything could be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_model::subject::{AuthFacts, DeviceFacts, Grade, SubjectFacts, UserFacts};

use crate::decide::{self, Allowed, Asked};
use crate::engine::{Engine, Entry, Target};
use crate::evaluator::{Device, Reads};
use crate::facts::Who;
use crate::request::{KeyAgreement, OwnedDetail, Request};
use crate::rights::{self, Alike, People, Rights, Wanted, classes, reads, subject};
use crate::subject::Reach;

mod grid;

use grid::Grid;

/// Most requests that one comparison decides.
const MAX_DECIDED: usize = 4_000_000;

/// What changes between two policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Version of the one.
    pub before: u64,
    /// Version of the other.
    pub after: u64,
    /// What changes; together where it is the same for several users, resources or actions.
    pub changes: Vec<Change>,
    /// Whether nothing else can change. If not, a condition reads something in a way of which not every
    /// case could be tried, or there were too many cases.
    pub exact: bool,
}

impl Difference {
    /// Whether somebody gains something.
    #[must_use]
    pub fn gains(&self) -> bool {
        self.changes.iter().any(|change| change.gains.is_some())
    }

    /// Whether somebody loses something.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.changes.iter().any(|change| change.loses.is_some())
    }
}

/// A change that is the same for some users, resources and actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// How many users.
    pub count: usize,
    /// Their names, sorted.
    pub users: Vec<UserName>,
    /// Names of resources, sorted.
    pub resources: Vec<String>,
    /// What is done to them.
    pub actions: Vec<String>,
    /// What was denied and becomes allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gains: Option<Shift>,
    /// What was allowed and becomes denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loses: Option<Shift>,
    /// How far it was open; absent when it wasn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Rights>,
    /// How far it becomes open; absent when it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Rights>,
}

/// One direction of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shift {
    /// Grades of devices on which there is such a request, weakest first.
    pub grades: Vec<String>,
    /// One such request.
    pub example: Example,
}

/// A request that is decided differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// Who.
    pub user: UserName,
    /// For what.
    pub resource: String,
    /// To do what.
    pub action: String,
    /// Grade of the device; `none` for one that isn't proven.
    pub grade: String,
    /// Name of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whose device it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserName>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Seconds since the sign-in.
    pub auth_age: u64,
    /// When, unix seconds.
    pub at: u64,
    /// From where.
    pub ip: IpAddr,
    /// Whether the key of the connection was agreed on in a post-quantum way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_quantum: bool,
    /// What only requests of its kind have.
    pub detail: OwnedDetail,
}

/// Names the host under which a resource is asked for.
pub type HostOf<'h> = &'h dyn Fn(&ResourceName) -> String;

/// The groups whose members have to be known to compare two policies.
#[must_use]
pub fn groups_between(before: &Engine, after: &Engine) -> Wanted {
    let mut all = Reads::default();
    for engine in [before, after] {
        for target in engine.targets() {
            let reads = reads(&engine.about(target));
            all.groups.extend(reads.groups);
            all.all_groups |= reads.all_groups;
        }
    }
    rights::wanted(&all)
}

/// What changes for whom when the one policy takes the place of the other, over the resources of the
/// other.
#[must_use]
pub fn difference(before: &Engine, after: &Engine, people: &People, host: HostOf<'_>, now: SystemTime) -> Difference {
    let mut comparing =
        Comparing { before, after, people, host, now, left: MAX_DECIDED, exact: true, found: Vec::new() };
    for alike in comparing.alike_resources() {
        comparing.resources(&alike);
    }
    let Comparing { exact, found, .. } = comparing;
    Difference { before: before.version(), after: after.version(), changes: merged(found, people), exact }
}

struct Comparing<'c> {
    before: &'c Engine,
    after: &'c Engine,
    people: &'c People,
    host: HostOf<'c>,
    now: SystemTime,
    /// Requests that may still be decided.
    left: usize,
    exact: bool,
    found: Vec<Found>,
}

/// A change for users and resources that are alike.
struct Found {
    users: Vec<usize>,
    resources: Vec<String>,
    action: Action,
    gains: Option<Shift>,
    loses: Option<Shift>,
    before: Option<Rights>,
    after: Option<Rights>,
}

/// A resource under both policies, with the policies about it.
struct Both<'c> {
    before: &'c Target,
    after: &'c Target,
    about_before: Vec<&'c Arc<Entry>>,
    about_after: Vec<&'c Arc<Entry>>,
    /// Names of all that are alike, this one first.
    names: Vec<String>,
}

impl<'c> Comparing<'c> {
    /// Resources about which the policies differ, each with those that no policy tells from it.
    fn alike_resources(&self) -> Vec<Both<'c>> {
        let mut found: Vec<Both<'c>> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for after in self.after.targets() {
            let Some(before) = self.before.target(&after.resource.name) else { continue };
            let (about_before, about_after) = (self.before.about(before), self.after.about(after));
            if same(&about_before, &about_after) && before.resource == after.resource {
                continue;
            }
            let name = after.resource.name.to_string();
            let all = || about_before.iter().chain(&about_after);
            let conditions = || all().filter_map(|entry| entry.condition.as_deref());
            let itself = conditions().any(|it| it.reads_resource_itself() || it.inputs().place())
                || before.resource != after.resource;
            let resource = &after.resource;
            let policies: Vec<&str> = all().map(|entry| entry.name.as_str()).collect();
            let key = format!(
                "{:?}",
                (
                    resource.spec.kind(),
                    &resource.groups,
                    &resource.tags,
                    resource.sensitivity,
                    about_before.len(),
                    policies,
                    itself.then_some(&name)
                )
            );
            match places.get(&key).and_then(|at| found.get_mut(*at)) {
                Some(both) => both.names.push(name),
                None => {
                    places.insert(key, found.len());
                    found.push(Both { before, after, about_before, about_after, names: vec![name] });
                }
            }
        }
        found
    }

    fn resources(&mut self, both: &Both<'c>) {
        for action in both.after.resource.spec.kind().actions() {
            let of = |about: &[&'c Arc<Entry>]| -> Vec<&'c Arc<Entry>> {
                about.iter().filter(|entry| entry.scope.action.actions.contains(action)).copied().collect()
            };
            let (old, new) = (of(&both.about_before), of(&both.about_after));
            if same(&old, &new) && both.before.resource == both.after.resource {
                continue;
            }
            let all: Vec<&Arc<Entry>> = old.iter().chain(&new).copied().collect();
            for class in classes(self.people, &reads(&all)) {
                self.class(both, *action, &class, &old, &new);
            }
        }
    }

    fn class(&mut self, both: &Both<'c>, action: Action, class: &Alike<'_>, old: &[&Arc<Entry>], new: &[&Arc<Entry>]) {
        let Some(user) = class.facts(self.people) else { return };
        let Some(who) = Who::new(self.after.words, &subject(user.clone(), None, self.now)) else { return };
        let of = |about: &[&'_ Arc<Entry>]| -> Vec<Arc<Entry>> {
            about.iter().filter(|entry| entry.scope.principal.matches(&who.lineage)).map(|it| Arc::clone(it)).collect()
        };
        let (old_here, new_here) = (of(old), of(new));
        let refs = |list: &[Arc<Entry>]| list.iter().map(|it| it.text.clone()).collect::<BTreeSet<_>>();
        let is_same = refs(&old_here) == refs(&new_here) && both.before.resource == both.after.resource;
        if is_same {
            return;
        }
        let policies: Vec<&Entry> = old_here.iter().chain(&new_here).map(Arc::as_ref).collect();
        let resource = &both.after.resource;
        let grid = Grid::of(&policies, &user.name, resource, &(self.host)(&resource.name), action, self.now);
        self.exact &= grid.exact;
        let (gains, loses) = self.tried(both, action, &user, &grid);
        if gains.is_none() && loses.is_none() {
            return;
        }
        let rights = |engine: &Engine, about: &[&Arc<Entry>], target: &Target| {
            rights::rights(engine, about, &who, target, action, Device::Open, self.now)
        };
        self.found.push(Found {
            users: class.users.clone(),
            resources: both.names.clone(),
            action,
            gains,
            loses,
            before: rights(self.before, old, both.before),
            after: rights(self.after, new, both.after),
        });
    }

    /// Decides everything in the grid under both policies.
    fn tried(
        &mut self,
        both: &Both<'_>,
        action: Action,
        user: &UserFacts,
        grid: &Grid,
    ) -> (Option<Shift>, Option<Shift>) {
        let (mut gains, mut loses) = (Shifting::default(), Shifting::default());
        if grid.points() > self.left {
            self.exact = false;
            return (None, None);
        }
        self.left -= grid.points();
        for device in &grid.devices {
            let facts = subject(user.clone(), device.clone(), self.now);
            let grade = facts.grade();
            if gains.has(grade) && loses.has(grade) {
                continue;
            }
            let Some(who) = Who::new(self.after.words, &facts) else { continue };
            for at in &grid.times {
                let reach = |engine, target| Reach::new(engine, &who, target, *at, || 0);
                let (old, new) = (reach(self.before, both.before), reach(self.after, both.after));
                for age in &grid.ages {
                    let signed_in = at.checked_sub(Duration::from_secs(*age)).unwrap_or(UNIX_EPOCH);
                    let expires = at.checked_add(Duration::from_secs(3_600)).unwrap_or(*at);
                    let auth = AuthFacts { methods: facts.auth.methods.clone(), at: signed_in };
                    let facts = SubjectFacts { auth, expires, ..facts.clone() };
                    for ip in &grid.ips {
                        for (detail, agreement) in grid.requests() {
                            let (age, at, ip) = (*age, *at, *ip);
                            let point = Point { facts: &facts, age, at, ip, agreement, detail, action };
                            let was = point.allowed(self.before, &who, old.as_ref(), &both.before.resource.name);
                            let is = point.allowed(self.after, &who, new.as_ref(), &both.after.resource.name);
                            match (was, is) {
                                (false, true) => gains.note(grade, &point, both),
                                (true, false) => loses.note(grade, &point, both),
                                (true, true) | (false, false) => {}
                            }
                        }
                    }
                }
            }
        }
        (gains.finish(), loses.finish())
    }
}

/// Whether these are the same policies, to the letter.
fn same(one: &[&Arc<Entry>], other: &[&Arc<Entry>]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            Arc::ptr_eq(one, other) || (one.name == other.name && one.text == other.text && one.ends() == other.ends())
        })
}

struct Point<'p> {
    facts: &'p SubjectFacts,
    age: u64,
    at: SystemTime,
    ip: IpAddr,
    agreement: KeyAgreement,
    detail: &'p OwnedDetail,
    action: Action,
}

impl Point<'_> {
    fn allowed(&self, engine: &Engine, who: &Who, reach: Option<&Reach>, resource: &ResourceName) -> bool {
        let Some(reach) = reach else { return false };
        let (action, ip, agreement, detail) = (self.action, self.ip, self.agreement, self.detail.as_detail());
        let request = Request { resource, action, ip, agreement, detail };
        let asked = Asked::new(self.facts, reach, &request, self.at);
        let ruling = asked.and_then(|asked| decide::rule(engine, self.facts, who, reach, &asked));
        ruling.is_ok_and(|ruling| ruling.allowed == Allowed::Yes)
    }

    fn example(&self, both: &Both<'_>) -> Example {
        let device: Option<&DeviceFacts> = self.facts.device.as_ref();
        Example {
            user: self.facts.user.name.clone(),
            resource: both.after.resource.name.to_string(),
            action: self.action.to_string(),
            grade: self.facts.grade().to_string(),
            device: device.map(|device| device.name.to_string()),
            owner: device.and_then(|device| device.owner.clone()),
            tags: device.into_iter().flat_map(|device| &device.tags).map(ToString::to_string).collect(),
            auth_age: self.age,
            at: self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            ip: self.ip,
            post_quantum: self.agreement.is_post_quantum(),
            detail: self.detail.clone(),
        }
    }
}

#[derive(Default)]
struct Shifting {
    grades: BTreeSet<Grade>,
    example: Option<Example>,
}

impl Shifting {
    fn has(&self, grade: Grade) -> bool {
        self.grades.contains(&grade)
    }

    fn note(&mut self, grade: Grade, point: &Point<'_>, both: &Both<'_>) {
        self.grades.insert(grade);
        self.example.get_or_insert_with(|| point.example(both));
    }

    fn finish(self) -> Option<Shift> {
        let grades = self.grades.iter().map(ToString::to_string).collect();
        Some(Shift { grades, example: self.example? })
    }
}

/// Changes that are the same, told once: first for several actions, then for several resources, then
/// for several users.
fn merged(found: Vec<Found>, people: &People) -> Vec<Change> {
    type Kind = (Option<Vec<String>>, Option<Vec<String>>, Option<Rights>, Option<Rights>);
    fn kind(found: &Found) -> Kind {
        let grades = |shift: &Option<Shift>| shift.as_ref().map(|shift| shift.grades.clone());
        (grades(&found.gains), grades(&found.loses), found.before.clone(), found.after.clone())
    }
    let mut by_actions: BTreeMap<(Vec<String>, Vec<usize>, Kind), (Vec<String>, Found)> = BTreeMap::new();
    for each in found {
        let key = (each.resources.clone(), each.users.clone(), kind(&each));
        let action = each.action.to_string();
        by_actions.entry(key).or_insert_with(|| (Vec::new(), each)).0.push(action);
    }
    let mut by_resources: BTreeMap<(Vec<String>, Vec<usize>, Kind), (Vec<String>, Found)> = BTreeMap::new();
    for ((resources, users, kind), (actions, found)) in by_actions {
        by_resources.entry((actions, users, kind)).or_insert_with(|| (Vec::new(), found)).0.extend(resources);
    }
    let mut by_users: BTreeMap<(Vec<String>, Vec<String>, Kind), (Vec<usize>, Found)> = BTreeMap::new();
    for ((actions, users, kind), (mut resources, found)) in by_resources {
        resources.sort();
        by_users.entry((actions, resources, kind)).or_insert_with(|| (Vec::new(), found)).0.extend(users);
    }
    let mut changes: Vec<Change> = by_users
        .into_iter()
        .map(|((actions, resources, _), (users, found))| {
            let mut names: Vec<UserName> = users.iter().filter_map(|at| people.users.get(*at)).cloned().collect();
            names.sort();
            let Found { gains, loses, before, after, .. } = found;
            Change { count: names.len(), users: names, resources, actions, gains, loses, before, after }
        })
        .collect();
    // Who gains comes first: that is what can hurt.
    changes.sort_by(|one, other| {
        (one.gains.is_none(), std::cmp::Reverse(one.count), &one.resources, &one.actions).cmp(&(
            other.gains.is_none(),
            std::cmp::Reverse(other.count),
            &other.resources,
            &other.actions,
        ))
    });
    changes
}
