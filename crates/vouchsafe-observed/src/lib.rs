//! Logs that exist, read as observed accesses: who used what, before there was a gateway.
//!
//! - `lines`: records of a file of any size, in bounded memory
//! - `time`: times as logs write them
//! - `format`: what a record says, whichever program wrote it
//! - `web` (nginx, Apache), `haproxy`, `postgres`, `sshd`: one parser each
//! - `names`: names in logs, and the users and resources that somebody says they are
//! - `import`: all of it together, with what could not be used and why
//! - `file`: observed accesses as they are written (`docs/spec/observed.md`)
//!
//! Pure: callers open files. Whatever stands in a log was chosen by strangers, so nothing is guessed: a line that
//! doesn't have its form to the last byte is malformed, and a name that nobody said a user for is nobody's.

pub mod file;
mod format;
pub mod haproxy;
pub mod import;
mod lines;
pub mod names;
mod postgres;
mod sshd;
pub mod time;
pub mod web;
