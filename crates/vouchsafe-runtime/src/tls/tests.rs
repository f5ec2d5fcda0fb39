//! Real handshakes in memory, with certificates made for each case.

mod peers;
mod resumption;
mod verifier;
