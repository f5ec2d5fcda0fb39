//! What changes, counted and put together for people.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Outcome;
use vouchsafe_model::name::{GroupName, ResourceName, UserName};
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_policy::OwnedDetail;
use vouchsafe_wire::audit::Record;

use crate::recorded::{NotReplayed, Recorded};
use crate::replay::{Outcomes, Told, Was};

/// Most kinds of change that are told apart, and most that an answer tells.
const MOST_KINDS: usize = 10_000;
const MOST_TOLD: usize = 1_000;
/// Most people that are listed of one kind of change; most that are told apart, and in all.
const MOST_LISTED: usize = 100;
const MOST_PEOPLE: usize = 10_000;
/// Examples of each kind: the newest.
const EXAMPLES: usize = 3;

/// What a part of the log comes to.
#[derive(Debug, Default)]
pub struct Tally {
    records: u64,
    oldest: Option<u64>,
    skipped: BTreeMap<NotReplayed, u64>,
    /// Requests of nobody that went on by a mode.
    nobody: u64,
    was: [u64; 3],
    covered: u64,
    changed: BTreeMap<Turn, Sum>,
    kinds: BTreeMap<Kind, Bundle>,
    /// Changed requests of kinds beyond those that are told apart.
    others: u64,
}

/// A way in which the outcome changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// It was allowed, and would be denied.
    Lost,
    /// It went on by its resource's mode alone, and would be denied once that is over.
    Tolerated,
    /// It was denied, and would be allowed.
    Gained,
}

#[derive(Debug, Default)]
struct Sum {
    count: u64,
    already: u64,
    people: BTreeSet<UserName>,
}

/// What is told together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    turn: Turn,
    resource: ResourceName,
    action: Action,
    device: DeviceClass,
    mode: Option<&'static str>,
    before: Told,
    after: Told,
}

#[derive(Debug)]
struct Bundle {
    count: u64,
    already: u64,
    people: BTreeMap<UserName, u64>,
    /// Groups that all of them were in.
    groups: BTreeSet<GroupName>,
    first: u64,
    last: u64,
    examples: Vec<Example>,
}

/// What recorded requests come to under another policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Simulated {
    /// Version that the outcome is compared with; absent when it is that of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Version that was tried; the next one for a draft.
    pub after: u64,
    /// From when on records were looked at, unix seconds.
    pub since: u64,
    /// Until when.
    pub until: u64,
    /// Time of the oldest record that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// Whether all were looked at, and not the newest alone.
    pub whole: bool,
    /// Records of decisions that were looked at.
    pub records: u64,
    /// Of these, how many were decided again.
    pub replayed: u64,
    /// Why others were not.
    pub skipped: Vec<Skipped>,
    /// Of those decided again: allowed before.
    pub allowed: u64,
    /// Denied before, and it stood.
    pub denied: u64,
    /// Denied before, and went on by a mode.
    pub passed: u64,
    /// Requests of nobody that went on by a mode; no policy ever allows those.
    pub nobody: u64,
    /// Allowed, and would be denied.
    pub lost: Count,
    /// Of those, how many the policy in force denies already: it isn't the draft that takes them away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_already: u64,
    /// Went on by a mode, and would be denied once that is over.
    pub tolerated: Count,
    /// Went on by a mode, and would be allowed.
    pub covered: u64,
    /// Denied, and would be allowed.
    pub gained: Count,
    /// What changes; together where it is the same for several people.
    pub changes: Vec<Changed>,
    /// Changed requests that `changes` doesn't tell.
    pub untold: u64,
}

/// Requests, and of how many people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// People.
    pub people: usize,
}

/// Records that were not decided again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Why, as a code.
    pub why: String,
    /// Why, in words.
    pub words: String,
    /// How many.
    pub count: u64,
}

/// A change that is the same for some people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// In which way.
    pub turn: Turn,
    /// Requests.
    pub count: u64,
    /// Of these, how many the policy in force decides so already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub already: u64,
    /// Whose, those with most requests first.
    pub people: Vec<Person>,
    /// How many people there are.
    pub people_count: usize,
    /// Groups that all of them were in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// On what kind of device.
    pub device: DeviceClass,
    /// Name of the resource.
    pub resource: String,
    /// What was done to it.
    pub action: String,
    /// By which mode it went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Why it came out as it did.
    pub before: Why,
    /// Why it would come out otherwise.
    pub after: Why,
    /// When the first of them was, unix seconds.
    pub first: u64,
    /// When the last of them was.
    pub last: u64,
    /// The newest of them.
    pub examples: Vec<Example>,
}

/// Somebody, and her requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Person {
    /// Name of the user.
    pub user: String,
    /// Requests.
    pub count: u64,
}

/// Why a request came out as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// Code of the reason.
    pub reason: String,
    /// Policies and grants that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

/// A kind of device, as policies can tell devices apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct DeviceClass {
    /// `none` for one that wasn't proven.
    pub grade: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Whose a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The user's own.
    Own,
    /// Another user's.
    Another,
    /// Nobody's.
    Nobody,
}

/// One request that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// When, unix seconds.
    pub at: u64,
    /// Id of its decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who.
    pub user: String,
    /// Name of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Seconds since the sign-in.
    pub auth_age: u64,
    /// From where.
    pub ip: IpAddr,
    /// Whether the key of the connection was agreed on in a post-quantum way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_quantum: bool,
    /// What only requests of its kind have.
    pub detail: OwnedDetail,
}

/// What was looked at, of which a tally is.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// Version that the outcome is compared with.
    pub before: Option<u64>,
    /// Version that was tried.
    pub after: u64,
    /// From when on, unix seconds.
    pub since: u64,
    /// Until when.
    pub until: u64,
    /// Whether that was all.
    pub whole: bool,
}

impl Simulated {
    /// Requests whose outcome changes.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.lost.requests + self.gained.requests
    }
}

impl Tally {
    /// How many records of decisions it is of.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn looked_at(&mut self, record: &Record) {
        self.records += 1;
        let at = record.time_us / 1_000_000;
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
    }

    pub(crate) fn skip(&mut self, why: NotReplayed, record: &Record) {
        let is_of_nobody = why == NotReplayed::NoPolicyAsked && record.passed.is_some();
        self.nobody += u64::from(is_of_nobody);
        *self.skipped.entry(why).or_default() += 1;
    }

    pub(crate) fn count(&mut self, outcomes: &Outcomes<'_>) {
        let Outcomes { asked, was, before, after, already } = outcomes;
        let place = match was {
            Was::Allowed => 0,
            Was::Denied => 1,
            Was::Passed(_) => 2,
        };
        if let Some(count) = self.was.get_mut(place) {
            *count += 1;
        }
        let (turn, mode) = match (was, after.outcome) {
            (Was::Allowed, Outcome::Allow) | (Was::Denied, Outcome::Deny) => return,
            (Was::Passed(_), Outcome::Allow) => {
                self.covered += 1;
                return;
            }
            (Was::Allowed, Outcome::Deny) => (Turn::Lost, None),
            (Was::Denied, Outcome::Allow) => (Turn::Gained, None),
            (Was::Passed(by), Outcome::Deny) => (Turn::Tolerated, Some(by.as_str())),
        };
        let kind = Kind {
            turn,
            resource: asked.resource.clone(),
            action: asked.action,
            device: DeviceClass::of(asked),
            mode,
            before: before.clone(),
            after: Told::of(after),
        };
        let user = &asked.subject.user.name;
        let sum = self.changed.entry(turn).or_default();
        sum.count += 1;
        sum.already += u64::from(*already);
        if sum.people.len() < MOST_PEOPLE && !sum.people.contains(user) {
            sum.people.insert(user.clone());
        }
        let bundle = Bundle::of(asked, u64::from(*already));
        self.add(kind, bundle);
    }

    fn add(&mut self, kind: Kind, bundle: Bundle) {
        let is_full = self.kinds.len() >= MOST_KINDS;
        match self.kinds.entry(kind) {
            Entry::Occupied(mut known) => known.get_mut().merge(bundle),
            Entry::Vacant(_) if is_full => self.others += bundle.count,
            Entry::Vacant(place) => drop(place.insert(bundle)),
        }
    }

    /// Adds what another part came to.
    pub fn merge(&mut self, other: Self) {
        let Self { records, oldest, skipped, nobody, was, covered, changed, kinds, others } = other;
        self.records += records;
        self.oldest = match (self.oldest, oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.nobody += nobody;
        self.covered += covered;
        self.others += others;
        for (count, more) in self.was.iter_mut().zip(was) {
            *count += more;
        }
        for (why, count) in skipped {
            *self.skipped.entry(why).or_default() += count;
        }
        for (turn, Sum { count, already, people }) in changed {
            let sum = self.changed.entry(turn).or_default();
            sum.count += count;
            sum.already += already;
            let room = MOST_PEOPLE.saturating_sub(sum.people.len());
            sum.people.extend(people.into_iter().take(room));
        }
        for (kind, bundle) in kinds {
            self.add(kind, bundle);
        }
    }

    /// The whole, for people.
    #[must_use]
    pub fn told(self, looked: Looked) -> Simulated {
        let Looked { before, after, since, until, whole } = looked;
        let Self { records, oldest, skipped, nobody, was: [allowed, denied, passed], covered, changed, kinds, others } =
            self;
        let of = |turn| {
            let sum = changed.get(&turn);
            sum.map(|sum| Count { requests: sum.count, people: sum.people.len() }).unwrap_or_default()
        };
        let mut changes: Vec<Changed> = kinds.into_iter().map(|(kind, bundle)| bundle.told(kind)).collect();
        changes.sort_by(|a, b| (a.turn, b.count).cmp(&(b.turn, a.count)));
        let cut: u64 = changes.iter().skip(MOST_TOLD).map(|change| change.count).sum();
        changes.truncate(MOST_TOLD);
        Simulated {
            before,
            after,
            since,
            until,
            oldest,
            whole,
            records,
            replayed: allowed + denied + passed,
            skipped: told_skipped(skipped),
            allowed,
            denied,
            passed,
            nobody,
            lost: of(Turn::Lost),
            lost_already: changed.get(&Turn::Lost).map(|sum| sum.already).unwrap_or_default(),
            tolerated: of(Turn::Tolerated),
            covered,
            gained: of(Turn::Gained),
            changes,
            untold: others + cut,
        }
    }
}

fn told_skipped(skipped: BTreeMap<NotReplayed, u64>) -> Vec<Skipped> {
    let mut told: Vec<Skipped> = skipped
        .into_iter()
        .map(|(why, count)| Skipped { why: why.code().to_owned(), words: why.to_string(), count })
        .collect();
    told.sort_by_key(|skipped| std::cmp::Reverse(skipped.count));
    told
}

impl Bundle {
    fn of(asked: &Recorded, already: u64) -> Self {
        let at = seconds(asked.at);
        Self {
            count: 1,
            already,
            people: BTreeMap::from([(asked.subject.user.name.clone(), 1)]),
            groups: asked.subject.user.groups.clone(),
            first: at,
            last: at,
            examples: vec![Example::of(asked)],
        }
    }

    fn merge(&mut self, other: Self) {
        let Self { count, already, people, groups, first, last, examples } = other;
        self.count += count;
        self.already += already;
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.groups.retain(|group| groups.contains(group));
        for (user, count) in people {
            let is_full = self.people.len() >= MOST_PEOPLE;
            match self.people.entry(user) {
                Entry::Occupied(mut known) => *known.get_mut() += count,
                Entry::Vacant(_) if is_full => {}
                Entry::Vacant(place) => drop(place.insert(count)),
            }
        }
        let is_newer = |example: &Example| self.examples.last().is_none_or(|last| example.order() < last.order());
        if self.examples.len() < EXAMPLES || examples.iter().any(is_newer) {
            self.examples.extend(examples);
            self.examples.sort_by(|a, b| a.order().cmp(&b.order()));
            self.examples.truncate(EXAMPLES);
        }
    }

    fn told(self, kind: Kind) -> Changed {
        let Kind { turn, resource, action, device, mode, before, after } = kind;
        let Self { count, already, people, groups, first, last, examples } = self;
        let people_count = people.len();
        let mut people: Vec<Person> =
            people.into_iter().map(|(user, count)| Person { user: user.to_string(), count }).collect();
        people.sort_by(|a, b| (b.count, &a.user).cmp(&(a.count, &b.user)));
        people.truncate(MOST_LISTED);
        Changed {
            turn,
            count,
            already,
            people,
            people_count,
            groups: groups.iter().map(ToString::to_string).collect(),
            device,
            resource: resource.to_string(),
            action: action.to_string(),
            mode: mode.map(str::to_owned),
            before: Why::of(before),
            after: Why::of(after),
            first,
            last,
            examples,
        }
    }
}

impl Why {
    fn of(told: Told) -> Self {
        Self { reason: told.reason.to_owned(), policies: told.policies }
    }
}

impl DeviceClass {
    fn of(asked: &Recorded) -> Self {
        let grade = asked.subject.grade().to_string();
        let Some(DeviceFacts { id: _, name: _, grade: _, owner, tags }) = &asked.subject.device else {
            return Self { grade, owner: None, tags: Vec::new() };
        };
        let owner = match owner {
            Some(owner) if *owner == asked.subject.user.name => Owner::Own,
            Some(_) => Owner::Another,
            None => Owner::Nobody,
        };
        Self { grade, owner: Some(owner), tags: tags.iter().map(ToString::to_string).collect() }
    }
}

impl Example {
    fn of(asked: &Recorded) -> Self {
        let subject = &asked.subject;
        Self {
            at: seconds(asked.at),
            id: asked.id.clone(),
            user: subject.user.name.to_string(),
            device: subject.device.as_ref().map(|device| device.name.to_string()),
            auth_age: asked.at.duration_since(subject.auth.at).unwrap_or_default().as_secs(),
            ip: asked.ip,
            post_quantum: asked.agreement.is_post_quantum(),
            detail: asked.what.detail.clone(),
        }
    }

    /// The newest first; the same whatever the order in which they come.
    fn order(&self) -> (std::cmp::Reverse<u64>, Option<&str>) {
        (std::cmp::Reverse(self.at), self.id.as_deref())
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
