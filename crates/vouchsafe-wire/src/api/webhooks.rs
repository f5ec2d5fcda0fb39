//! Webhooks: places that are told what happens. What they get: `docs/spec/webhooks.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds a webhook.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Its name.
    pub name: String,
    /// Where messages go: `https://…`, or `http://` to a loopback address. May itself be a secret.
    pub url: String,
    /// What it is told, such as `request.created`; empty for all.
    #[serde(default)]
    pub events: Vec<String>,
    /// PEM of the roots that vouch for it; absent is the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots_pem: Option<String>,
}

impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, url: _, events, roots_pem: _ } = self;
        f.debug_struct("NewWebhook").field("name", name).field("events", events).finish_non_exhaustive()
    }
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookDoc {
    /// Its name.
    pub name: String,
    /// Scheme, host and port of where messages go.
    pub origin: String,
    /// What it is told; empty for all.
    pub events: Vec<String>,
    /// Who added it.
    pub by: String,
    /// When.
    pub created: u64,
    /// How the last attempt went: `delivered`, or why not; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<u64>,
    /// Attempts that failed since one went well.
    pub failures: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that were given up, or found no place.
    pub dropped: u64,
}

/// A webhook that was added.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct WebhookAdded {
    /// The webhook.
    pub webhook: WebhookDoc,
    /// What its messages are signed with (`whsec_…`). Never told again.
    pub secret: String,
}

/// What came of a message that was sent for a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookTried {
    /// Whether it was taken.
    pub delivered: bool,
    /// `delivered`, or why not.
    pub outcome: String,
}
