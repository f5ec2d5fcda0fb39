//! What is asked.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::name::ResourceName;

/// One request, in the canonical form that is also recorded and sent on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for; [`ResourceName::console`] for the console.
    pub resource: &'a ResourceName,
    /// What is to be done to it.
    pub action: Action,
    /// Where the request came from.
    pub ip: IpAddr,
    /// How the key of the connection that carries it was agreed on.
    pub agreement: KeyAgreement,
    /// What only requests of this kind have.
    pub detail: Detail<'a>,
}

/// How the key of the connection that carries a request was agreed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyAgreement {
    /// So that what is sent now stays secret from whoever has a quantum computer later: with a group such as
    /// X25519MLKEM768.
    PostQuantum,
    /// In another way, or nobody knows how.
    #[default]
    Other,
}

impl KeyAgreement {
    /// Whether it is known to be post-quantum.
    #[must_use]
    pub const fn is_post_quantum(self) -> bool {
        match self {
            KeyAgreement::PostQuantum => true,
            KeyAgreement::Other => false,
        }
    }

    /// The one that is post-quantum, or the other.
    #[must_use]
    pub const fn of(is_post_quantum: bool) -> Self {
        if is_post_quantum { KeyAgreement::PostQuantum } else { KeyAgreement::Other }
    }
}

/// What only requests of one kind have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail<'a> {
    /// Of an `http:*` action.
    Http {
        /// Upper-case, such as `GET`.
        method: &'a str,
        /// Lower-case host name that was asked for, without the port.
        host: &'a str,
        /// Canonical path, without the query.
        path: &'a str,
    },
    /// Of a `net:*` action.
    Net {
        /// TCP port of the resource.
        port: u16,
    },
    /// Of a `console:*` action.
    Console {
        /// What is to be done, such as `policy.publish`.
        operation: &'a str,
    },
}

/// A [`Detail`] that owns its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OwnedDetail {
    /// Of an `http:*` action.
    Http {
        /// Upper-case, such as `GET`.
        method: String,
        /// Lower-case host name that was asked for, without the port.
        host: String,
        /// Canonical path, without the query.
        path: String,
    },
    /// Of a `net:*` action.
    Net {
        /// TCP port of the resource.
        port: u16,
    },
    /// Of a `console:*` action.
    Console {
        /// What is to be done, such as `policy.publish`.
        operation: String,
    },
}

impl OwnedDetail {
    /// The same, borrowed.
    #[must_use]
    pub fn as_detail(&self) -> Detail<'_> {
        match self {
            OwnedDetail::Http { method, host, path } => Detail::Http { method, host, path },
            OwnedDetail::Net { port } => Detail::Net { port: *port },
            OwnedDetail::Console { operation } => Detail::Console { operation },
        }
    }
}

impl From<Detail<'_>> for OwnedDetail {
    fn from(detail: Detail<'_>) -> Self {
        match detail {
            Detail::Http { method, host, path } => {
                OwnedDetail::Http { method: method.to_owned(), host: host.to_owned(), path: path.to_owned() }
            }
            Detail::Net { port } => OwnedDetail::Net { port },
            Detail::Console { operation } => OwnedDetail::Console { operation: operation.to_owned() },
        }
    }
}
