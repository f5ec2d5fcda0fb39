//! Grants of single rights, what they are made from, and requests for them.

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
    /// Template of the policy that it is made from; absent for the built-in one, by which everything is permitted that
    /// can be done to the resource, on enrolled devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Who gave it.
    pub by: String,
    /// When.
    pub created: u64,
}

/// A template of the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateDoc {
    /// Its `@id`.
    pub name: String,
    /// File that it stands in.
    pub file: String,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Its `@owner`.
    pub owner: Option<String>,
    /// Its `@expires`, as in RFC 3339: no grant that is made from it holds longer.
    pub expires: Option<String>,
    /// What a grant that is made from it can permit.
    pub actions: Vec<String>,
    /// Its text, with what else it demands.
    pub text: String,
    /// SHA-256 of the text, hexadecimal.
    pub digest: String,
    /// How many grants in force are made from it.
    pub grants: u64,
}

/// The template that a request asks for a grant of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskedTemplate {
    /// Its name.
    pub name: String,
    /// SHA-256 of its text when it was asked for, hexadecimal. The request can be approved as long as it is that.
    pub digest: String,
    /// Whether that is in force. Looked at for open requests alone, of which no other can be approved.
    #[serde(default)]
    pub stands: bool,
    /// What a grant can permit, where it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Its text, for those who decide.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl AskedTemplate {
    /// As it is asked for.
    #[must_use]
    pub fn new(name: String, digest: String) -> Self {
        Self { name, digest, stands: false, actions: Vec::new(), text: String::new() }
    }
}

/// Asks for a right to a resource for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// For how long, 60 to 2592000 (thirty days), from the approval on.
    pub seconds: u64,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
    /// Template of the policy; absent for the built-in one.
    #[serde(default)]
    pub template: Option<String>,
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
    /// Template of the policy; absent for the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<AskedTemplate>,
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
    /// Template of the policy; absent for the built-in one.
    #[serde(default)]
    pub template: Option<String>,
}
