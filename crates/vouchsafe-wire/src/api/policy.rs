//! Versions of the policy, and questions about it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::observed::Observed;

use super::{Diagnostic, Problem};
use crate::proof::FindingDoc;

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFileDoc {
    /// Path within the policy directory, such as `apps/wiki.cedar`.
    pub name: String,
    /// Cedar text.
    pub text: String,
}

/// Files whose texts differ, by name: what each was, and what it is; empty where it isn't there.
#[must_use]
pub fn changed_files<'f>(old: &[&'f PolicyFileDoc], new: &[&'f PolicyFileDoc]) -> Vec<(&'f str, &'f str, &'f str)> {
    let mut texts: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for file in old {
        texts.entry(&file.name).or_default().0 = &file.text;
    }
    for file in new {
        texts.entry(&file.name).or_default().1 = &file.text;
    }
    let changed = texts.into_iter().filter(|(_, (was, is))| was != is);
    changed.map(|(name, (was, is))| (name, was, is)).collect()
}

/// Policy files to check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// The files.
    pub files: Vec<PolicyFileDoc>,
}

/// Result of a check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// Whether it could be published.
    pub ok: bool,
    /// Number of policies read.
    pub policies: u64,
    /// What was found.
    pub diagnostics: Vec<Diagnostic>,
}

/// Publishes a policy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// All files of the new version.
    pub files: Vec<PolicyFileDoc>,
    /// All tests of the new version; absent keeps those of the version in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Vec<PolicyFileDoc>>,
    /// All invariants of the new version, which are proven before it is in force; absent keeps those of the version
    /// in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariants: Option<Vec<PolicyFileDoc>>,
    /// Also says whether anything is allowed that was not before.
    #[serde(default)]
    pub compare: bool,
    /// Why, for the history.
    #[serde(default)]
    pub note: String,
    /// Refuses with 409 unless this is the version in force.
    #[serde(default)]
    pub expected_version: Option<u64>,
    /// Seconds, 30 to 86,400, within which it has to be confirmed; else the version before comes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<u64>,
}

impl PolicyVersion {
    /// Policies, tests and invariants.
    #[must_use]
    pub fn all_files(&self) -> Vec<&PolicyFileDoc> {
        self.files.iter().chain(&self.tests).chain(&self.invariants).collect()
    }
}

/// Confirms a version that would go back by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The version, which has to be in force.
    pub version: u64,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersion {
    /// Number, from 1.
    pub version: u64,
    /// When.
    pub created: u64,
    /// Who.
    pub by: String,
    /// Who stood up for it beside its author, where it took two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Why.
    pub note: String,
    /// Whether it is in force.
    pub current: bool,
    /// Until when somebody has to confirm it, unix seconds; else the version before comes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by: Option<u64>,
    /// Number of policies.
    pub policies: u64,
    /// The files, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PolicyFileDoc>,
    /// Its tests, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<PolicyFileDoc>,
    /// Its invariants, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<PolicyFileDoc>,
    /// What was proven of it, in the answer to its publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<FindingDoc>,
}

/// Publishes an earlier version again, as a new one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Version to go back to.
    pub version: u64,
}

/// Asks why something is or would be allowed or denied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// User name.
    pub user: String,
    /// Device id or name; absent means no proven device.
    #[serde(default)]
    pub device: Option<String>,
    /// Grade to assume instead of the device's.
    #[serde(default)]
    pub grade: Option<String>,
    /// Resource name, or `console`.
    pub resource: String,
    /// Action; absent takes the kind's first.
    #[serde(default)]
    pub action: Option<String>,
    /// HTTP method.
    #[serde(default)]
    pub method: Option<String>,
    /// HTTP path.
    #[serde(default)]
    pub path: Option<String>,
    /// Source address.
    #[serde(default)]
    pub ip: Option<String>,
    /// Whether the key of the connection was agreed on in a post-quantum way; absent means it was not.
    #[serde(default)]
    pub post_quantum: bool,
    /// Seconds since the sign-in.
    #[serde(default)]
    pub auth_age: Option<u64>,
    /// Unix seconds to assume as now.
    #[serde(default)]
    pub at: Option<u64>,
}

/// Asks what changes for whom between two policies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// Version to compare; absent is the one in force, or the one before it when nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Version to compare with; absent is the one in force, unless there are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Files of a draft to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PolicyFileDoc>>,
}

/// Asks what recorded decisions would come to under another policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRequest {
    /// Version whose outcome is compared with; absent, it is the outcome that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Version to try; absent is the one in force, unless there are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Files of a draft to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PolicyFileDoc>>,
    /// Records from then on, unix seconds; absent is thirty days ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Records before then; absent is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// At most so many, the newest; absent is two million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A line of the answer: how far it is, again and again, and last what came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulateLine<R> {
    /// How far it is.
    Progress(SimulateProgress),
    /// What came of it; the last line.
    Result(R),
    /// Why nothing came of it; the last line.
    Problem(Box<Problem>),
}

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SimulateProgress {
    /// Decisions that were looked at.
    pub records: u64,
    /// How much of the log was walked.
    pub done: u64,
    /// How much of it there is to walk.
    pub of: u64,
}

/// Asks for a least-privilege policy from what was used.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuggestRequest {
    /// Days of the audit log to look at, 1 to 366; absent is 30, or none where something else was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Accesses that were observed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// Names of resources; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Fewer accesses than these are rare, 1 to 1,000,000; default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rare: Option<u64>,
    /// Percent of a group's members that must have used something so that the group stands for them, 1 to 100, which
    /// is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_share: Option<u8>,
    /// Whether policies demand the grade of device that all accesses came from.
    #[serde(default)]
    pub demand_grade: bool,
    /// Whether policies need no device where accesses came without one.
    #[serde(default)]
    pub without_device: bool,
}

/// Asks what accesses that were observed elsewhere would come to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeseeRequest {
    /// The accesses.
    pub observed: Vec<Observed>,
    /// Version to look at them under; absent is the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// A draft to look at them under, in place of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PolicyFileDoc>>,
}

/// Asks for rights that nobody used.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnusedRequest {
    /// Days in which they weren't used, 1 to 366.
    pub days: u32,
    /// Accesses that were observed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// Names of resources; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

/// An answer that is made of what was observed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Seen<A> {
    /// What was looked at.
    pub looked: Looked,
    /// The answer.
    pub answer: A,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Looked {
    /// Since when the audit log was looked at, unix seconds; absent when it wasn't.
    pub since: Option<u64>,
    /// Whether all of its records since were looked at. Of too many, the latest were.
    pub whole: bool,
    /// The oldest decision among them, unix seconds.
    pub oldest: Option<u64>,
    /// Decisions in it that let somebody go on.
    pub decisions: u64,
    /// Those of nobody known, which can't be suggested for anybody.
    pub nobody: u64,
    /// Those that grants alone allowed, which have their own end.
    pub granted: u64,
    /// Those beyond the most kinds of accesses that are told apart.
    pub beyond: u64,
    /// Kinds of accesses that were given with the question.
    pub given: usize,
}

/// Asks who can do something.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoCanQuery {
    /// Action, such as `http:read`.
    pub action: String,
    /// Resource name, or `console`.
    pub resource: String,
}

/// Asks what a user can do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatCanQuery {
    /// User name.
    pub user: String,
    /// Device id or name, or `none` for one that isn't proven; absent leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}
