//! Transparency logs as pure computation: no files, sockets or clock.
//!
//! - [`hash`]: hashes of RFC 6962 over SHA-256
//! - [`tree`]: a tree that grows, roots and subtrees out of stored hashes
//! - [`proof`]: proofs of inclusion and consistency, made and verified
//! - [`tile`]: names of tiles and entry bundles (C2SP `tlog-tiles`)
//! - [`note`]: signed notes and verifier keys (C2SP `signed-note`)
//! - [`checkpoint`]: what a log says of its tree (C2SP `tlog-checkpoint`), and cosignatures of others (`tlog-cosignature`)
//! - [`evidence`]: a file that proves one record to anybody (C2SP `tlog-proof`)
//! - [`witness`]: what a log asks of a witness, and what may be cosigned (C2SP `tlog-witness`)
//!
//! How vouchsafe uses them: `docs/spec/audit-log.md`.

pub mod checkpoint;
pub mod evidence;
pub mod hash;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tree;
pub mod witness;

mod text;
