//! Decisions of the past, decided again: from audit records to questions, and to what another policy would have said.
//!
//! Pure: no sockets, files, threads, async runtime, clock or randomness. The gateway's tests write records and ask them
//! back here; the controller replays its log (`policy simulate`).
//!
//! - `recorded`: a record turned back into the question that was decided, or why it can't be
//! - `replay`: many records decided again under another policy
//! - `tally`: what changes, counted and put together for people
//! - `words`: the same in one line

mod recorded;
mod replay;
mod tally;
mod words;

pub use recorded::{NotReplayed, Recorded, Verdict, What};
pub use replay::{Against, Replay, Was};
pub use tally::{Changed, Count, DeviceClass, Example, Looked, Owner, Person, Simulated, Skipped, Tally, Turn, Why};
pub use words::grouped;
