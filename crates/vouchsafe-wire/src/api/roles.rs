//! Gateways and connectors: how they join and what is known of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A gateway that is a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gateway {
    /// Id (`gtw_…`).
    pub id: String,
    /// Name.
    pub name: String,
    /// End of its certificates, unix seconds.
    pub certificate_expires: u64,
    /// When it joined, unix seconds.
    pub created: u64,
    /// When it last attached, unix seconds.
    pub last_seen: Option<u64>,
    /// How it is attached now; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
}

/// How a gateway is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attached {
    /// Address it comes from.
    pub ip: String,
    /// Since when, unix seconds.
    pub since: u64,
    /// When it last gave a sign of life, unix seconds.
    pub heard: u64,
    /// Changes that it has not acknowledged yet.
    pub behind: u64,
}

/// Invites a gateway.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGateway {
    /// Name it gets.
    pub name: String,
}

/// A one-time code for a gateway.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct GatewayInvited {
    /// What `vouchsafe gateway join` takes: a secret until it is used.
    pub code: String,
    /// Until when it is good, unix seconds.
    pub expires: u64,
}

/// A connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connector {
    /// Id (`con_…`).
    pub id: String,
    /// Name.
    pub name: String,
    /// Site that it serves.
    pub site: String,
    /// End of its certificate, unix seconds.
    pub certificate_expires: u64,
    /// When it joined, unix seconds.
    pub created: u64,
    /// Gateways that it is attached to.
    #[serde(default)]
    pub attached: Vec<AttachedTo>,
}

/// How a connector is attached to one gateway, as that gateway last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachedTo {
    /// Name of the gateway, or its id where it has none.
    pub gateway: String,
    /// Since when, unix seconds.
    pub since: u64,
    /// Connections.
    pub connections: u32,
    /// Streams that are open through it.
    pub streams: u32,
}

/// Invites a connector.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConnector {
    /// Site that it is to serve.
    pub site: String,
}

/// A one-time code for a connector.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConnectorInvited {
    /// What `vouchsafe connector join` takes: a secret until it is used.
    pub code: String,
    /// Until when it is good, unix seconds.
    pub expires: u64,
}
