//! Real handshakes in memory, with certificates made for each case.

mod limbo;
mod peers;
mod resumption;
mod roles;
mod verifier;
