//! Versions of the policy that wait for a second administrator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{PolicyFileDoc, PolicyVersion};

/// What came of a publish or a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Published {
    /// It is in force.
    InForce(Box<PolicyVersion>),
    /// It touches a policy that says `@approval("two-person")`, so it waits; the answer is 202.
    Waits(Box<ProposalDoc>),
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProposalState {
    /// Nobody has decided it yet.
    Open,
    /// It became a version.
    Approved,
    /// It didn't.
    Rejected,
    /// Nobody decided it in time.
    Expired,
}

impl ProposalState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ProposalState::Open => "open",
            ProposalState::Approved => "approved",
            ProposalState::Rejected => "rejected",
            ProposalState::Expired => "expired",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Approved, Self::Rejected, Self::Expired].into_iter().find(|state| state.as_str() == word)
    }
}

/// A version of the policy that waits for a second administrator, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalDoc {
    /// Id (`prp_…`).
    pub proposal: String,
    /// SHA-256, in hexadecimal, of policies, tests, invariants, how they would be published, and `base`.
    pub digest: String,
    /// The version that it is a change to. Once another is in force it can't be approved any more.
    pub base: u64,
    /// Whether another version is in force by now.
    pub stale: bool,
    /// `publish` or `rollback`.
    pub kind: String,
    /// Names of the policies that it touches and that it takes two to change.
    pub protected: Vec<String>,
    /// Who proposes it.
    pub by: String,
    /// When.
    pub created: u64,
    /// Why.
    pub note: String,
    /// Until when it waits.
    pub open_until: u64,
    /// Seconds within which it has to be confirmed once it is in force; else the version before comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<u64>,
    /// What became of it.
    pub state: ProposalState,
    /// Who decided it.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<u64>,
    /// What was noted with that.
    pub decision: String,
    /// The version that it became.
    pub became: Option<u64>,
    /// The files, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PolicyFileDoc>,
    /// Its tests, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<PolicyFileDoc>,
    /// Its invariants, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<PolicyFileDoc>,
}

/// Decides a proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideProposal {
    /// Refuses unless this is the proposal's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A line for the record, at most 200 characters.
    #[serde(default)]
    pub note: String,
}
