//! The device's side: its key and certificate, the sign-in on it, and local ends of tunnels.
//!
//! Knows no policy and decides nothing: the gateway does. What this crate protects is the device's
//! key, the session's tokens, and that nobody else on this machine uses them.
//!
//! - [`state`]: files of the device, written atomically, readable by their owner alone
//! - [`dial`]: from a name to a TCP connection, `.localhost` included
//! - [`device`]: key, enrolment, renewal, and TLS to the gateway's names
//! - `exchange`: one HTTPS request to the gateway, and what a refusal says
//! - [`session`]: who is signed in here, and a fresh access token
//! - [`login`]: the sign-in itself (RFC 8628)
//! - [`tunnel`]: CONNECT streams on shared HTTP/2 connections
//! - [`local`]: listeners that serve this user alone
//! - [`connect`], [`connect_udp`], [`pipe`], [`proxy`]: the local ends of a tunnel

pub mod connect;
pub mod connect_udp;
pub mod device;
pub mod dial;
mod exchange;
pub mod local;
pub mod login;
pub mod pipe;
pub mod proxy;
pub mod session;
pub mod state;
pub mod tunnel;

pub use exchange::{ExchangeError, Refusal};
