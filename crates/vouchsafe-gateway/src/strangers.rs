//! Denials of those who have proven nothing: each is recorded, until there are too many of them.
//!
//! A flood of requests without credentials must not fill the disk. Past a number for each address,
//! and one for all together, denials are counted, and every few seconds one record for each address
//! and reason stands for all that were counted (`repeated`). What a user or a device has proven is never counted:
//! there every decision has its own record.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vouchsafe_model::decision::{Outcome, Reason};
use vouchsafe_model::id::DecisionId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::limits::{
    STRANGER_RECORDS_AT_ONCE, STRANGER_RECORDS_OF_ALL_AT_ONCE, STRANGER_RECORDS_OF_ALL_PER_SECOND,
    STRANGER_RECORDS_PER_SECOND,
};
use vouchsafe_wire::audit::{Draft, Kind, Member, Members, RecordError};

use crate::gateway::Shared;

/// How often what was counted is recorded.
const PERIOD: Duration = Duration::from_secs(5);
/// Addresses that are told apart; others count as one.
const MOST_SOURCES: usize = 50_000;

/// What of one denial is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It has a record of its own.
    Recorded,
    /// It is one of those that a later record stands for.
    Counted,
}

/// Denials of strangers, by address.
pub(crate) struct Strangers(Mutex<State>);

struct State {
    sources: HashMap<IpAddr, Bucket>,
    all: Bucket,
    /// Denials that no record tells of yet.
    counted: HashMap<(Option<IpAddr>, Reason), u64>,
}

/// So many at once, and then so many each second.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, at_once: u64, per_second: u64) -> bool {
        let passed = u64::try_from(now.saturating_duration_since(self.filled).as_millis()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(per_second) / 1_000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(at_once);
            self.filled = now;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

impl Strangers {
    pub(crate) fn new(now: Instant) -> Self {
        let all = Bucket { left: STRANGER_RECORDS_OF_ALL_AT_ONCE, filled: now };
        Self(Mutex::new(State { sources: HashMap::new(), all, counted: HashMap::new() }))
    }

    /// Notes a denial; whether it is to be recorded by itself.
    pub(crate) fn denied(&self, ip: IpAddr, reason: Reason, now: Instant) -> Stranger {
        let state = &mut *self.0.lock();
        let known = state.sources.len() < MOST_SOURCES || state.sources.contains_key(&ip);
        let fits = known && {
            let fresh = Bucket { left: STRANGER_RECORDS_AT_ONCE, filled: now };
            let bucket = state.sources.entry(ip).or_insert(fresh);
            bucket.take(now, STRANGER_RECORDS_AT_ONCE, STRANGER_RECORDS_PER_SECOND)
        };
        let all = (STRANGER_RECORDS_OF_ALL_AT_ONCE, STRANGER_RECORDS_OF_ALL_PER_SECOND);
        if fits && state.all.take(now, all.0, all.1) {
            return Stranger::Recorded;
        }
        let ip = Some(ip).filter(|_| known && state.counted.len() < MOST_SOURCES);
        *state.counted.entry((ip, reason)).or_default() += 1;
        Stranger::Counted
    }

    /// Takes what was counted, and forgets addresses that have been quiet.
    fn sweep(&self, now: Instant) -> HashMap<(Option<IpAddr>, Reason), u64> {
        let state = &mut *self.0.lock();
        let refill = Duration::from_secs(STRANGER_RECORDS_AT_ONCE / STRANGER_RECORDS_PER_SECOND);
        state.sources.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < refill);
        std::mem::take(&mut state.counted)
    }
}

/// Records what was counted, until the drain, and then once more.
pub(crate) async fn record_counts(shared: Arc<Shared>) {
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(PERIOD) => false,
            () = shared.tasks.draining() => true,
        };
        for ((ip, reason), count) in shared.strangers.sweep(Instant::now()) {
            match record(shared.recorder.source(), ip, reason, count) {
                Ok(draft) => shared.recorder.note(draft),
                Err(error) => tracing::error!(%error, count, "the record of counted denials can't be made"),
            }
        }
        if last {
            return;
        }
    }
}

/// One record for denials that were counted.
fn record(source: &str, ip: Option<IpAddr>, reason: Reason, count: u64) -> Result<Draft, RecordError> {
    let before = |m: &mut Members<'_>| {
        m.text(Member::Id, &DecisionId::from_random(clock::random()).to_string());
        m.maybe_text(Member::Ip, ip.map(|ip| ip.to_string()).as_deref());
        m.kind(Kind::Decision);
        m.text(Member::Outcome, Outcome::Deny.as_str());
        m.text(Member::Reason, reason.code());
        m.number(Member::Repeated, count);
    };
    let after = |m: &mut Members<'_>| {
        m.number(Member::TimeUs, clock::unix_micros(clock::now()));
        m.format();
        m.text(Member::Words, reason.words());
    };
    Draft::write(source, before, None, after)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use vouchsafe_wire::audit::Record;
    use vouchsafe_wire::spool::HEADER_BYTES;

    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + last))
    }

    #[test]
    fn i11_a_flood_of_one_address_is_counted_and_another_is_still_recorded() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let denied = |ip, now| strangers.denied(ip, Reason::SignInRequired, now);
        for _ in 0..STRANGER_RECORDS_AT_ONCE {
            assert_eq!(denied(address(1), now), Stranger::Recorded);
        }
        for _ in 0..70 {
            assert_eq!(denied(address(1), now), Stranger::Counted);
        }
        assert_eq!(strangers.denied(address(1), Reason::Ambiguous, now), Stranger::Counted);
        assert_eq!(denied(address(2), now), Stranger::Recorded);
        let later = now + Duration::from_secs(1);
        for _ in 0..STRANGER_RECORDS_PER_SECOND {
            assert_eq!(denied(address(1), later), Stranger::Recorded);
        }
        assert_eq!(denied(address(1), later), Stranger::Counted);
        let counted = strangers.sweep(later);
        assert_eq!(counted[&(Some(address(1)), Reason::SignInRequired)], 71);
        assert_eq!(counted[&(Some(address(1)), Reason::Ambiguous)], 1);
        assert!(strangers.sweep(later).is_empty());
        assert!(strangers.0.lock().sources.len() == 2);
        strangers.sweep(later + Duration::from_secs(3_600));
        assert!(strangers.0.lock().sources.is_empty());
    }

    #[test]
    fn i11_many_addresses_together_are_bounded_too() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let mut recorded = 0;
        for source in 0..200_000 {
            let is = strangers.denied(address(source), Reason::SignInRequired, now);
            recorded += u64::from(is == Stranger::Recorded);
        }
        assert_eq!(recorded, STRANGER_RECORDS_OF_ALL_AT_ONCE);
        let state = strangers.0.lock();
        assert!(state.sources.len() <= MOST_SOURCES && state.counted.len() <= MOST_SOURCES + 1);
        assert_eq!(state.counted.values().sum::<u64>(), 200_000 - recorded);
    }

    #[test]
    fn a_count_is_a_record_of_its_own() {
        let mut frame = Vec::new();
        record("gtw_x", Some(address(1)), Reason::SignInRequired, 71).unwrap().push_frame(9, &mut frame);
        let record = Record::from_canonical(&frame[HEADER_BYTES..]).unwrap();
        assert_eq!((record.repeated, record.seq, record.outcome.as_deref()), (Some(71), 9, Some("deny")));
    }
}
