//! The demo: a small company on one machine, and a walk through who reaches what, and why.
//!
//! Used by `vouchsafe demo` and by integration tests. It knows vouchsafe only from outside: the
//! administrator's socket, a browser, and the device agent.
//!
//! - [`admin`]: client of the administrator's API over its Unix socket
//! - [`apps`]: two small web apps that show who the verified assertion says is asking
//! - [`authenticator`]: a WebAuthn authenticator in software
//! - [`browser`]: an HTTP client that behaves as a browser does
//! - [`laptop`]: one person's device, run by the real agent library
//! - [`postgres`]: private PostgreSQL clusters, thrown away at the end
//! - [`story`]: the walk itself, as steps with what was expected and what came

pub mod admin;
pub mod apps;
pub mod authenticator;
pub mod browser;
pub mod laptop;
pub mod postgres;
pub mod story;
