//! Frames that were just written, on their way to the controller without a read from disk.

use parking_lot::Mutex;
use vouchsafe_runtime::link::RecordBatch;

/// Most bytes held: what comes later is read from disk when its turn comes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The newest records, in a row.
#[derive(Default)]
pub(super) struct Handover(Mutex<Held>);

#[derive(Default)]
struct Held {
    first_seq: u64,
    count: u64,
    frames: Vec<u8>,
}

impl Handover {
    /// Adds a group that was written. It is left out when there is no room, or when one was left
    /// out before: what is held has no gap.
    pub(super) fn put(&self, first_seq: u64, count: u64, frames: &[u8]) {
        let mut held = self.0.lock();
        if held.count == 0 {
            held.first_seq = first_seq;
        }
        if held.first_seq + held.count == first_seq && held.frames.len() + frames.len() <= MOST_BYTES {
            held.count += count;
            held.frames.extend_from_slice(frames);
        }
    }

    /// What is held, if it begins with that record. What begins before it is dropped: it was read
    /// from disk.
    pub(super) fn take(&self, next_seq: u64) -> Option<RecordBatch> {
        let mut held = self.0.lock();
        if held.count == 0 || held.first_seq > next_seq {
            return None;
        }
        let Held { first_seq, count, frames } = std::mem::take(&mut *held);
        (first_seq == next_seq).then(|| RecordBatch { first_seq, count, frames: frames.into() })
    }

    /// Number of the first record that is held.
    pub(super) fn first_seq(&self) -> Option<u64> {
        let held = self.0.lock();
        (held.count > 0).then_some(held.first_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_has_no_gap_and_begins_where_it_must() {
        let handover = Handover::default();
        handover.put(5, 2, b"56");
        handover.put(7, 1, b"7");
        assert!(handover.take(4).is_none());
        assert_eq!(handover.first_seq(), Some(5));
        let batch = handover.take(5).unwrap();
        assert_eq!((batch.first_seq, batch.count, &batch.frames[..]), (5, 3, &b"567"[..]));
        assert!(handover.take(8).is_none());
        handover.put(8, 1, &vec![0; MOST_BYTES]);
        handover.put(9, 1, b"9");
        handover.put(10, 1, b"a");
        assert_eq!(handover.take(8).unwrap().count, 1);
        handover.put(11, 1, b"b");
        assert!(handover.take(9).is_none());
        assert_eq!(handover.first_seq(), Some(11));
        assert!(handover.take(12).is_none());
        assert_eq!(handover.first_seq(), None, "it was read from disk");
    }
}
