//! A least-privilege policy from what was really used, and rights that nobody used.
//!
//! The rule (`docs/decisions/0022-suggestions.md`): a right goes to exactly those who used it. A group stands for its
//! members where all of them did, or where somebody asked for less, as many as she asked for; what that gives beyond
//! is told by name. What was used seldom is left for a person to choose.
//!
//! A suggestion is tried, not argued: it is compiled, everybody's rights under it are counted, and what isn't exactly
//! the rule is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{GroupName, PolicyName, ResourceName, UserName};
use vouchsafe_model::observed::Observed;
use vouchsafe_model::resource::ResourceKind;
use vouchsafe_model::subject::Grade;

use crate::engine::Engine;
use crate::rights::People;
use crate::source::PolicyFile;

mod cover;
mod text;
mod tried;
mod unused;

pub use unused::{Unused, UnusedRight};

/// Fewest members of a group that can stand for its members.
const FEWEST_MEMBERS: usize = 2;

/// How a policy is to be suggested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuggestOptions {
    /// For which resources; `None` for all but the console.
    pub resources: Option<BTreeSet<ResourceName>>,
    /// Accesses of one user to one resource by one action that are fewer are rare.
    pub rare: u64,
    /// How many of a group's members must have used something so that the group stands for them, percent, 1 to 100.
    pub share: u8,
    /// Whether policies demand the grade that all accesses came from.
    pub demand_grade: bool,
    /// Whether policies need no device where accesses came without one.
    pub without_device: bool,
}

impl Default for SuggestOptions {
    fn default() -> Self {
        Self { resources: None, rare: 2, share: 100, demand_grade: false, without_device: false }
    }
}

/// Failure to suggest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuggestError {
    /// It took too long.
    #[error("counting everybody's rights took too long")]
    TooLong,
    /// A resource that is asked about does not exist.
    #[error("there is no resource `{0}`")]
    NoResource(ResourceName),
    /// What came out is not what the rule says: a fault of ours.
    #[error("the suggested policy is not what it should be: {0}")]
    Wrong(String),
}

/// Says that work is to be given up.
pub type GiveUp<'g> = &'g dyn Fn() -> bool;

/// A policy that allows what was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suggestion {
    /// Version of the policies in force.
    pub policy_version: u64,
    /// Cedar files, one for each resource; rare accesses stand in them as comments.
    pub files: Vec<SuggestedFile>,
    /// The policies in them.
    pub policies: Vec<Suggested>,
    /// Accesses that are left for a person to choose.
    pub rare: Vec<Observed>,
    /// Accesses that say nothing about the directory of now.
    pub left_out: Vec<LeftOut>,
    /// How much of what was observed it allows.
    pub coverage: Coverage,
    /// How many rights there are.
    pub rights: RightsCounted,
    /// Resources that nobody used, which it has no policy for.
    pub unused: Vec<ResourceName>,
    /// Policies in force that permit something on these resources, and maybe on others: where they are about these
    /// alone it takes their place, the others have to be narrowed.
    pub replaces: Vec<PolicyName>,
    /// Policies in force that forbid something on these resources: they have to stay.
    pub keeps: Vec<PolicyName>,
}

/// A file of Cedar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuggestedFile {
    /// Name of the file.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// One suggested policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suggested {
    /// Its `@id`.
    pub id: PolicyName,
    /// For what.
    pub resource: ResourceName,
    /// To do what.
    pub actions: Vec<Action>,
    /// The group it is for; absent where it is for people by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Whom it is for, active members of the group or named.
    pub users: usize,
    /// Those of them who used all of it.
    pub used: usize,
    /// Those who didn't use all of it and may now, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<UserName>,
    /// Accesses that it is made of.
    pub accesses: u64,
    /// The first and the last of them, unix seconds.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The weakest grade that it demands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<String>,
    /// Its `@reason`.
    pub reason: String,
}

/// Accesses that no policy is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// What was observed.
    pub access: Observed,
    /// Why.
    pub why: String,
}

/// How much of what was observed a suggestion allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// All accesses of the resources that were asked about.
    pub observed: u64,
    /// Those that policies are made of.
    pub kept: u64,
    /// Those of the kept that are allowed, on a device as they came from; on an enrolled one where that isn't known.
    pub allowed: u64,
    /// Those of the kept that came without a proven device, where the policy demands one.
    pub without_device: u64,
    /// Those that are rare.
    pub rare: u64,
    /// Those that say nothing about the directory of now.
    pub left_out: u64,
}

/// How many rights there are: of users to resources by actions, whatever the conditions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RightsCounted {
    /// Under the policy in force.
    pub today: usize,
    /// Under what is suggested alone.
    pub suggested: usize,
    /// Those of today that go.
    pub gone: usize,
    /// Those that come: used before there was a right, or given by a group.
    pub new: usize,
}

/// What one user did to one resource by one action, wherever it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    count: u64,
    first: u64,
    last: u64,
    /// The weakest grade; `None` where that isn't known of all of it.
    grade: Option<Grade>,
}

pub(crate) type Uses = BTreeMap<UserName, Use>;

/// Uses of one resource, by action.
pub(crate) type OfResource = BTreeMap<Action, Uses>;

/// What was observed, sorted.
#[derive(Default)]
pub(crate) struct Sorted {
    pub(crate) kept: BTreeMap<ResourceName, OfResource>,
    pub(crate) rare: BTreeMap<ResourceName, OfResource>,
    rare_seen: Vec<Observed>,
    left_out: Vec<LeftOut>,
}

/// Suggests a policy of what was observed; `people` with the members of all groups.
///
/// # Errors
/// [`SuggestError`].
pub fn suggest(
    engine: &Arc<Engine>,
    people: &People,
    observed: &[Observed],
    options: &SuggestOptions,
    now: SystemTime,
    give_up: GiveUp<'_>,
) -> Result<Suggestion, SuggestError> {
    let asked = asked_about(engine, options.resources.as_ref())?;
    let sorted = sorted(engine, people, observed, options);
    let groups = cover::Groups::new(people);
    let mut suggestion = Suggestion { policy_version: engine.version(), ..Suggestion::default() };
    let mut beyond: BTreeMap<(ResourceName, Action), BTreeSet<UserName>> = BTreeMap::new();
    let mut names = text::Ids::default();
    for (resource, kind) in &asked {
        let none = OfResource::new();
        let kept = sorted.kept.get(resource).unwrap_or(&none);
        let rare = sorted.rare.get(resource).unwrap_or(&none);
        if kept.is_empty() && rare.is_empty() {
            suggestion.unused.push(resource.clone());
            continue;
        }
        let drafts = cover::drafts(&groups, kept, options);
        for draft in &drafts {
            for (action, given) in draft.gives(&groups) {
                let used = kept.get(&action);
                let more = given.into_iter().filter(|user| used.is_none_or(|used| !used.contains_key(user)));
                beyond.entry((resource.clone(), action)).or_default().extend(more);
            }
        }
        let (file, policies) = text::file(&groups, resource, *kind, &drafts, kept, rare, options, &mut names);
        suggestion.files.push(file);
        suggestion.policies.extend(policies);
    }
    let files: Vec<PolicyFile> =
        suggestion.files.iter().map(|file| PolicyFile { name: file.name.clone(), text: file.text.clone() }).collect();
    let draft = tried::compiled(engine, files)?;
    let meant = tried::Meant { kept: &sorted.kept, beyond: &beyond };
    suggestion.rights = tried::rights(engine, &draft, people, &asked, &meant, now, give_up)?;
    suggestion.coverage = tried::coverage(&draft, &groups, &sorted, now);
    (suggestion.replaces, suggestion.keeps) = tried::about(engine, &asked);
    let Sorted { rare_seen, left_out, .. } = sorted;
    (suggestion.rare, suggestion.left_out) = (rare_seen, left_out);
    Ok(suggestion)
}

/// The rights under the policy in force that nobody used since, and a draft that takes them away.
///
/// # Errors
/// [`SuggestError`].
pub fn unused(
    engine: &Arc<Engine>,
    people: &People,
    observed: &[Observed],
    resources: Option<&BTreeSet<ResourceName>>,
    since: u64,
    now: SystemTime,
    give_up: GiveUp<'_>,
) -> Result<Unused, SuggestError> {
    let asked = asked_about(engine, resources)?;
    unused::unused(engine, people, observed, &asked, since, now, give_up)
}

/// The resources that are asked about, each with its kind.
fn asked_about(
    engine: &Engine,
    wanted: Option<&BTreeSet<ResourceName>>,
) -> Result<BTreeMap<ResourceName, ResourceKind>, SuggestError> {
    let console = ResourceName::console();
    let all = engine.resources().map(|resource| (resource.name.clone(), resource.spec.kind()));
    let all: BTreeMap<_, _> = all.filter(|(name, _)| *name != console).collect();
    let Some(wanted) = wanted else { return Ok(all) };
    let kind = |name: &ResourceName| all.get(name).map(|kind| (name.clone(), *kind));
    wanted.iter().map(|name| kind(name).ok_or_else(|| SuggestError::NoResource(name.clone()))).collect()
}

/// Why an access says nothing about the directory of now, where it doesn't.
pub(crate) fn says_nothing(engine: &Engine, active: &BTreeSet<&UserName>, one: &Observed) -> Option<&'static str> {
    match engine.resource(&one.resource).map(|resource| resource.spec.kind()) {
        None => Some("there is no such resource"),
        Some(kind) if !kind.actions().contains(&one.action) => Some("the resource knows no such action"),
        Some(_) if !active.contains(&one.user) => Some("there is no such user, or she is disabled or locked"),
        Some(_) => None,
    }
}

/// Sorts accesses into those that policies are made of, rare ones, and those that say nothing.
fn sorted(engine: &Engine, people: &People, observed: &[Observed], options: &SuggestOptions) -> Sorted {
    let active: BTreeSet<&UserName> = people.users.iter().collect();
    let mut sorted = Sorted::default();
    // The same access may be seen in several logs.
    let mut all: BTreeMap<(&ResourceName, Action), BTreeMap<&UserName, (Use, Vec<&Observed>)>> = BTreeMap::new();
    let here = |one: &&Observed| options.resources.as_ref().is_none_or(|wanted| wanted.contains(&one.resource));
    for one in observed.iter().filter(here) {
        if let Some(why) = says_nothing(engine, &active, one) {
            sorted.left_out.push(LeftOut { access: one.clone(), why: why.to_owned() });
            continue;
        }
        let Observed { count, first, last, grade, .. } = *one;
        let users = all.entry((&one.resource, one.action)).or_default();
        let known = users.entry(&one.user).or_insert_with(|| (Use { count: 0, first, last, grade }, Vec::new()));
        known.0 = Use {
            count: known.0.count.saturating_add(count),
            first: known.0.first.min(first),
            last: known.0.last.max(last),
            grade: known.0.grade.zip(grade).map(|(one, other)| one.min(other)),
        };
        known.1.push(one);
    }
    for ((resource, action), users) in all {
        for (user, (used, seen)) in users {
            // By the log that saw it most often: one access that went through two logs is one.
            let mut by_source: BTreeMap<_, u64> = BTreeMap::new();
            for one in &seen {
                let count = by_source.entry(&one.source).or_default();
                *count = count.saturating_add(one.count);
            }
            let rare = by_source.into_values().max().unwrap_or_default() < options.rare;
            let to = if rare { &mut sorted.rare } else { &mut sorted.kept };
            to.entry(resource.clone()).or_default().entry(action).or_default().insert(user.clone(), used);
            if rare {
                sorted.rare_seen.extend(seen.into_iter().cloned());
            }
        }
    }
    sorted
}
