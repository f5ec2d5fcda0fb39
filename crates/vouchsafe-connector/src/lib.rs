//! The connector: it stands in a network that gateways don't reach, dials out to them, and opens what they ask
//! for there (`docs/spec/connector.md`).
//!
//! - `allow`: its own list of targets, which nobody but who runs it can widen
//! - `state`: what it keeps of itself on disk
//! - `join`: how it becomes one, and gets its next certificate
//! - `roster`: the list of gateways, and which of them are believed
//! - `dial`: the way to a gateway, through a proxy if there has to be one
//! - `link`: one gateway, for as long as it is wanted; `serve`: one connection to it
//! - `stream`: one target, asked for by a gateway; `datagrams`: one by UDP
//!
//! It listens nowhere, decides about nobody, and knows no user: a gateway asks only for what it permitted, and
//! the list says what could be asked for at all.

mod allow;
mod connector;
mod datagrams;
mod dial;
mod join;
mod link;
mod roster;
mod serve;
mod state;
mod stream;

pub use allow::{AllowList, PatternError};
pub use connector::{Connector, Options};
pub use dial::{Address, AddressError, Proxy};
pub use join::{JoinError, join};
pub use state::{Member, StateError};
