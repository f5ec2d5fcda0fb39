//! Where the datagrams of a connection go, by the stream that they are of (RFC 9297 §2.1).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Datagrams of one stream that may wait to be read; more are dropped.
const QUEUE: usize = 64;
/// How long a client may go on sending to a flow that has ended: it doesn't know yet, and what is on its way can't be
/// called back.
const LATE: Duration = Duration::from_secs(10);
/// Ended flows that are remembered for that.
const MAX_ENDED: usize = 256;

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its flow has it, or was too slow for it.
    ByItsFlow,
    /// Its flow has ended just now.
    TooLate,
    /// There is no such flow, or not for a good while.
    ByNobody,
}

/// The takers, by the number of their stream divided by four.
#[derive(Default)]
pub(super) struct Takers(Mutex<HashMap<u64, Taker>>);

struct Taker {
    sender: mpsc::Sender<Bytes>,
    /// When it was noticed that nobody takes any more.
    ended: Option<Instant>,
}

impl Taker {
    fn ended_for(&mut self, now: Instant) -> Option<Duration> {
        self.sender.is_closed().then(|| now.saturating_duration_since(*self.ended.get_or_insert(now)))
    }
}

impl Takers {
    /// Takes what is of that stream from now on.
    pub(super) fn add(&self, quarter: u64, now: Instant) -> mpsc::Receiver<Bytes> {
        let (sender, incoming) = mpsc::channel(QUEUE);
        let mut takers = self.0.lock();
        takers.retain(|_, taker| taker.ended_for(now).is_none_or(|ended| ended < LATE));
        if takers.values().filter(|taker| taker.ended.is_some()).count() >= MAX_ENDED {
            takers.retain(|_, taker| taker.ended.is_none());
        }
        takers.insert(quarter, Taker { sender, ended: None });
        incoming
    }

    /// Gives a datagram to the flow that it is of. Never waits.
    pub(super) fn give(&self, quarter: u64, datagram: Bytes, now: Instant) -> Taken {
        let mut takers = self.0.lock();
        let Some(taker) = takers.get_mut(&quarter) else { return Taken::ByNobody };
        match taker.ended_for(now) {
            None => {
                let _ = taker.sender.try_send(datagram);
                Taken::ByItsFlow
            }
            Some(ended) if ended < LATE => Taken::TooLate,
            Some(_) => {
                takers.remove(&quarter);
                Taken::ByNobody
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_a_flow_that_has_just_ended_is_no_flood() {
        let (takers, begin) = (Takers::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let give = |quarter, now| takers.give(quarter, Bytes::from_static(b"x"), now);
        assert_eq!(give(7, begin), Taken::ByNobody);
        let mut incoming = takers.add(7, begin);
        for _ in 0..2 * QUEUE {
            assert_eq!(give(7, begin), Taken::ByItsFlow);
        }
        assert_eq!(incoming.try_recv().unwrap(), "x");
        drop(incoming);
        for _ in 0..10_000 {
            assert_eq!(give(7, after(1)), Taken::TooLate);
        }
        // Also when others begin meanwhile, but not for ever.
        let _other = takers.add(8, after(9));
        assert_eq!(give(7, after(10)), Taken::TooLate);
        assert_eq!(give(7, after(11)), Taken::ByNobody);
        assert_eq!(give(8, after(11)), Taken::ByItsFlow);
        // Flows that end in numbers are not remembered in numbers.
        (100..10_000).for_each(|quarter| drop(takers.add(quarter, after(12))));
        assert!((100..9_000).all(|quarter| give(quarter, after(12)) != Taken::ByItsFlow));
        let _last = takers.add(9, after(12));
        assert!(takers.0.lock().len() <= MAX_ENDED + 3);
    }
}
