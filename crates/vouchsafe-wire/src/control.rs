//! What a gateway and its controller say to each other on the wire (`docs/spec/control-channel.md`):
//! protobuf messages in one bidirectional gRPC stream.
//!
//! - [`message`]: the messages, field by field
//! - [`convert`]: between them and the words of the model, strictly: what can't be read is refused whole
//! - [`frames`]: messages out of a stream of bytes, and into one
//!
//! Fields that a version doesn't know are skipped. A message of an unknown kind reads as one without
//! a kind, which its reader skips as well; so new kinds may be sent to old readers where being skipped
//! is harmless, and everything else takes a new [`VERSION`].

use std::ops::RangeInclusive;
use std::time::Duration;

pub mod convert;
pub mod frames;
pub mod message;

pub use self::convert::Unreadable;
pub use self::frames::{FrameError, Frames, decode, encode, frame};

/// The version that this text is about, and the only one so far.
pub const VERSION: u32 = 1;

/// Path of the one method (gRPC over HTTP/2).
pub const ATTACH: &str = "/vouchsafe.control.v1.Control/Attach";
/// Longest message to a controller, bytes: a batch of audit records is at most 4 MiB and a little more.
pub const MAX_UP_BYTES: usize = 8 * 1024 * 1024;
/// Longest message to a gateway, bytes: a snapshot of 10,000 policies and as many resources takes a
/// quarter of it.
pub const MAX_DOWN_BYTES: usize = 64 * 1024 * 1024;
/// Most changes in one message.
pub const MAX_CHANGES: usize = 1_000;
/// Shortest and longest lease; a gateway refuses a controller that says another.
pub const LEASES: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(3600);
/// What a snapshot's signature is over: these bytes, then the payload. No other signature of ours is.
pub const SNAPSHOT_CONTEXT: &[u8] = b"vouchsafe snapshot v1\n";

/// The bytes that a snapshot's signature is over.
#[must_use]
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [SNAPSHOT_CONTEXT, payload].concat()
}

#[cfg(test)]
mod tests;
