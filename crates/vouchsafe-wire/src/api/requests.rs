//! Grants of single rights, and requests for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantDoc {
    /// Id (`grt_…`).
    pub id: String,
    /// Who may.
    pub user: String,
    /// What.
    pub resource: String,
    /// Until when.
    pub expires: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub by: String,
    /// When.
    pub created: u64,
}

/// Asks for a right to a resource for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// For how long, 60 to 2592000 (thirty days), from the approval on.
    pub seconds: u64,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
}

/// Decides a request, or takes it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// A line for the record, at most 200 characters.
    #[serde(default)]
    pub note: String,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Nobody has decided it yet.
    Open,
    /// There was a grant.
    Approved,
    /// There was none.
    Denied,
    /// Who asked took it back.
    Withdrawn,
    /// Nobody decided it in time.
    Expired,
}

impl RequestState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RequestState::Open => "open",
            RequestState::Approved => "approved",
            RequestState::Denied => "denied",
            RequestState::Withdrawn => "withdrawn",
            RequestState::Expired => "expired",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Open, Self::Approved, Self::Denied, Self::Withdrawn, Self::Expired];
        all.into_iter().find(|state| state.as_str() == word)
    }
}

/// A request for a right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestDoc {
    /// Id (`req_…`).
    pub id: String,
    /// Who asks.
    pub user: String,
    /// For what; whether there is such a resource is not said.
    pub resource: String,
    /// For how long, from the approval on.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub state: RequestState,
    /// When it was asked.
    pub created: u64,
    /// Until when it waits to be decided.
    pub open_until: u64,
    /// Who decided it, or took it back.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<u64>,
    /// What was noted with that.
    pub note: String,
    /// The grant that was given (`grt_…`).
    pub grant: Option<String>,
}

/// Gives a grant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// Who may.
    pub user: String,
    /// What.
    pub resource: String,
    /// For how many seconds; absent lasts until removed.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}
