//! The controller: who people and devices are, what they may reach, and the record of all of it.
//!
//! - [`Controller`]: the composition; what the binary starts
//! - `store`: SQLite behind one writer; the only module that knows SQL
//! - `directory`: users, groups, devices and sessions, and who acts on them
//! - `identity`: passkeys, sign-in, enrolment of devices, tokens
//! - `ca`: the own certificate authority and every other private key
//! - `acme`: certificates of a public authority, for the names that browsers use
//! - `administrator`: resources, grants, versions of the policy, plan and apply, explain
//! - `audit`: taking in records, asking for them, following them
//! - `log`: the audit log's files
//! - `checkpoints`: the tree over the audit log, and what is signed of it
//! - `link`: what gateways ask (implements `vouchsafe_runtime::link::ControlLink`)
//! - `channel`: the same over the network, for gateways that are processes of their own
//! - `api`: the administrator's API; `admin_socket`: the same for the owner of the machine
//! - `console`: pages of `console.<domain>`
//! - `prover`: who proves what is to hold of a policy, of whom there is one outside of the sandbox
//! - `pages`: what pages share: layout, styles, scripts
//! - `precondition`: whether something still is what somebody read
//! - `retention`: old audit records go, and what was signed of them stays
//! - `rosters`: the signed list of gateways for connectors
//! - `context`: what all of them share
//! - `vitals`: what is shown to those who run it
//! - `streams`: places that get every record of the audit log
//! - `webhooks`: places that are told what happens

mod acme;
mod admin_socket;
mod administrator;
mod api;
mod audit;
mod ca;
mod channel;
mod checkpoints;
mod console;
mod context;
mod controller;
mod directory;
#[cfg(test)]
#[path = "../../../fuzz/roles/control.rs"]
mod fuzzed;
mod identity;
mod link;
mod log;
mod outward;
mod pages;
mod precondition;
mod prover;
mod retention;
mod room;
mod rosters;
mod store;
mod streams;
#[cfg(test)]
mod testing;
mod vitals;
mod webhooks;

pub use acme::{AcmeError, AcmeOptions, ChallengeKind};
pub use admin_socket::AdminSocketError;
pub use ca::CaError;
pub use channel::{ChannelError, ChannelOptions, MAX_CONNECTIONS};
pub use checkpoints::{CheckpointError, Witness, Witnesses};
pub use controller::{Controller, DATABASE, OpenError, OpenOptions, StateDirectoryError};
pub use identity::IdentityError;
pub use log::{Finding, LogError, Verification, Verified, verify as verify_log};
pub use prover::{Prover, ProverError};
pub use retention::SHORTEST_KEEP_DAYS;
pub use store::StoreError;
