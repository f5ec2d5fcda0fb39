//! Which of the records that were written to a syslog receiver are taken for good.
//!
//! RFC 5425 has no acknowledgement: what was written may stand in buffers on the way, or in the memory of a receiver that is
//! killed. So what was written shortly before a break is sent again. How much that is, is bounded here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is older than this is taken: TCP gives a connection up after [`super::syslog::UNANSWERED`], so by then the other
/// side's system had it.
const SETTLES: Duration = Duration::from_secs(30);
/// The newest bytes may stand in buffers of a receiver that is slow.
const IN_BUFFERS: u64 = 8 * 1024 * 1024;
/// But not for ever.
const SETTLES_SURELY: Duration = Duration::from_secs(300);
/// Writes that are remembered as one.
const TOGETHER: Duration = Duration::from_secs(1);

/// What was written, and when.
#[derive(Debug)]
pub(super) struct Written {
    /// Position before which everything is taken.
    settled: u64,
    marks: VecDeque<Mark>,
    bytes: u64,
}

#[derive(Debug)]
struct Mark {
    begun: Instant,
    ended: Instant,
    /// Position behind its last record.
    next: u64,
    /// Bytes that were written by then.
    bytes: u64,
}

impl Written {
    /// Nothing yet; everything before that position was taken earlier.
    pub(super) fn from(next: u64) -> Self {
        Self { settled: next, marks: VecDeque::new(), bytes: 0 }
    }

    /// Notes what was written: so many bytes, up to that position.
    pub(super) fn note(&mut self, next: u64, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        let total = self.bytes;
        match self.marks.back_mut().filter(|mark| now.saturating_duration_since(mark.begun) < TOGETHER) {
            Some(mark) => (mark.ended, mark.next, mark.bytes) = (now, next, total),
            None => self.marks.push_back(Mark { begun: now, ended: now, next, bytes: total }),
        }
    }

    /// Position before which everything is taken.
    pub(super) fn settled(&mut self, now: Instant) -> u64 {
        while let Some(mark) = self.marks.front() {
            let age = now.saturating_duration_since(mark.ended);
            let behind = self.bytes.saturating_sub(mark.bytes);
            if age < SETTLES || (behind < IN_BUFFERS && age < SETTLES_SURELY) {
                break;
            }
            self.settled = mark.next;
            self.marks.pop_front();
        }
        self.settled
    }

    /// The receiver has said that it got all.
    pub(super) fn all_taken(&mut self) -> u64 {
        if let Some(mark) = self.marks.back() {
            self.settled = mark.next;
        }
        self.marks.clear();
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_written_settles_when_it_is_old_and_left_the_buffers() {
        let start = Instant::now();
        let mut written = Written::from(7);
        written.note(10, 100, start);
        assert_eq!(written.settled(start + SECOND * 29), 7);
        assert_eq!(written.settled(start + SECOND * 31), 7, "old, but it may stand in a buffer still");
        written.note(20, IN_BUFFERS, start + SECOND * 31);
        assert_eq!(written.settled(start + SECOND * 31), 10);
        assert_eq!(written.settled(start + SECOND * 330), 10);
        assert_eq!(written.settled(start + SECOND * 332), 20, "nothing stands in buffers for ever");
    }

    #[test]
    fn writes_without_a_pause_settle_too() {
        let start = Instant::now();
        let mut written = Written::from(0);
        for step in 0..10_000_u64 {
            written.note(step + 1, IN_BUFFERS, start + Duration::from_millis(step * 10));
        }
        let settled = written.settled(start + SECOND * 100);
        assert!((6_800..=7_100).contains(&settled), "{settled}");
        assert!(written.marks.len() < 50);
        assert_eq!(written.all_taken(), 10_000);
    }
}
