//! The words of vouchsafe as types: ids, names, subjects, resources, actions, decisions.
//!
//! Pure: no sockets, files, threads, async runtime, clock or randomness. Everything here is
//! parsed once at an edge; inside, the type is the proof.
//!
//! - [`id`]: opaque identifiers with a printed prefix
//! - [`name`]: validated names that people choose
//! - [`resource`]: what can be asked for, and where it lives
//! - [`action`]: what can be done to a resource
//! - [`subject`]: facts about who asks, and on what device
//! - [`decision`]: allow or deny, with reasons a person can act on
//! - [`grant`]: one person's time-boxed right to one resource
//! - [`address`]: the one form of a client's address
//! - [`mode`]: what becomes of a denial, and the bounded time in which one may pass
//! - [`moment`]: instants as text
//! - [`observed`]: what people really did, counted

pub mod action;
pub mod address;
pub mod decision;
pub mod grant;
pub mod id;
pub mod mode;
pub mod moment;
pub mod name;
pub mod observed;
pub mod resource;
pub mod subject;
