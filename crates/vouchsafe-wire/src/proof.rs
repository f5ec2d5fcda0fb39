//! What is asked of the prover (`vouchsafe-proof`, in a process of its own) and what it answers. The findings
//! stand in the API too, where a publish is refused because something is not proven.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::PolicyFileDoc;

/// A policy, and what is to be proven of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofQuestion {
    /// Cedar files.
    pub files: Vec<PolicyFileDoc>,
    /// Cedar files of the policy that must not be exceeded; absent when nobody wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Vec<PolicyFileDoc>>,
    /// Files of invariants.
    pub invariants: Vec<PolicyFileDoc>,
    /// Unix seconds: permits that have expired by then don't count.
    pub now: u64,
}

/// What the prover says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofAnswer {
    /// SHA-256 of the question's bytes, in hexadecimal: what this is the answer to.
    pub of: String,
    /// How it came out.
    pub outcome: ProofOutcome,
}

/// How a question to the prover came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProofOutcome {
    /// Each thing that was asked, invariants first.
    Findings(Vec<FindingDoc>),
    /// Nothing could be asked: mistakes in the invariants, no solver. One line.
    Failed(String),
}

/// What was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// That an invariant holds.
    Invariant,
    /// That a policy can't fail.
    CannotFail,
    /// That there is something a policy applies to; not asked at a publish.
    Applies,
    /// That nothing is allowed which was not before.
    NoMore,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictDoc {
    /// There is no case against it.
    Proven,
    /// There is one.
    Refuted,
    /// It says nothing: there is no request that it could be about.
    Vacant,
    /// Nobody knows, which is not proven.
    Open,
}

/// One question and its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingDoc {
    /// What was asked about.
    pub about: About,
    /// Name of the invariant or policy; empty for [`About::NoMore`].
    pub name: String,
    /// `never` or `always`, for an invariant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub claim: String,
    /// Why the invariant is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// File of the invariant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Line in the file, from 1; 0 without one.
    #[serde(default)]
    pub line: usize,
    /// How it came out.
    pub verdict: VerdictDoc,
    /// Why nobody knows, for [`VerdictDoc::Open`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The case, for [`VerdictDoc::Refuted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<CaseDoc>,
}

/// One request that shows what does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseDoc {
    /// Who asks, such as `some User`.
    pub principal: String,
    /// For what, such as `Action::"http:read"`.
    pub action: String,
    /// Of what.
    pub resource: String,
    /// What else is so, a line each.
    pub facts: Vec<String>,
    /// Whether the policies allow it.
    pub allowed: bool,
    /// Policies that decide it.
    pub policies: Vec<String>,
    /// Why a policy fails on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}
