//! The state that is wanted: plan, apply, and how far a resource is on its way to being enforced.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PolicyFileDoc;
use crate::resource::{ResourceDoc, TrialDoc};

/// Wanted state, from a directory of TOML and Cedar files (`docs/spec/manifest.md`). What is
/// absent (`None`) is left as it is; a present list is complete: what it lacks is removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Groups of users; members are users that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupDoc>>,
    /// Resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceDoc>>,
    /// Policy files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Vec<PolicyFileDoc>>,
    /// Tests of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Vec<PolicyFileDoc>>,
    /// What is to be proven of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariants: Option<Vec<PolicyFileDoc>>,
}

/// A group in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupDoc {
    /// Name.
    pub name: String,
    /// Members; absent leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

/// What an apply would do or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Changes in the order in which they are made; empty when the state is as wanted.
    pub changes: Vec<PlannedChange>,
    /// Binds an apply to this plan: SHA-256 over the changes and the state they start from.
    pub digest: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    /// `add`, `change` or `remove`.
    pub verb: String,
    /// Such as `resource/wiki`, `group/marketing`, `policy`.
    pub target: String,
    /// What exactly, a line each.
    pub details: Vec<String>,
}

/// The mode of one resource, set anew.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModeDoc {
    /// `enforce`, `warn` or `observe`.
    pub mode: String,
    /// With `warn` and `observe`: the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<TrialDoc>,
}

/// What [`Progress`] is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressQuery {
    /// Days to look at, 1 to 90, default 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// How far a resource is on its way to being enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Name of the resource.
    pub resource: String,
    /// The mode in force: `enforce` where another one is over.
    pub mode: String,
    /// Whether there is another mode, and it is over.
    pub over: bool,
    /// When it ends or ended, unix seconds.
    pub ends: Option<u64>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it began, while it runs.
    pub begun: Option<u64>,
    /// From when on records were looked at, unix seconds.
    pub since: u64,
    /// Days that were asked for.
    pub days: u32,
    /// Whether all records since were looked at.
    pub whole: bool,
    /// Requests that went on: permitted ones, and denied ones that passed.
    pub accesses: u64,
    /// Denied ones that passed.
    pub would_deny: u64,
    /// Denials that stood.
    pub denied: u64,
    /// Why, with how often, the most frequent first.
    pub reasons: Vec<ProgressReason>,
    /// Who, those first who would be denied most often.
    pub people: Vec<ProgressPerson>,
    /// How many more there are.
    pub more_people: u64,
    /// Accesses of people beyond those who are told apart.
    pub uncounted: u64,
    /// The mode that comes next.
    pub next: Option<String>,
    /// Whether nothing speaks against it.
    pub safe: bool,
    /// What speaks for it, and against it.
    pub checks: Vec<ProgressCheck>,
}

/// Why requests would be denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressReason {
    /// Code of the reason.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Somebody who reached a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressPerson {
    /// User name; the address where nobody was proven.
    pub who: String,
    /// Whether it is a user.
    pub known: bool,
    /// Requests that went on.
    pub accesses: u64,
    /// Those that would be denied.
    pub would_deny: u64,
    /// When the last one was, unix seconds.
    pub last: u64,
    /// Why some would be denied.
    pub reasons: Vec<String>,
}

/// Something that speaks for going on, or against it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressCheck {
    /// Whether it speaks for it.
    pub holds: bool,
    /// In words.
    pub words: String,
}

/// Applies a plan that was shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The wanted state.
    pub manifest: Manifest,
    /// Digest of the plan; refused with 409 when the state has changed since.
    pub digest: String,
}
