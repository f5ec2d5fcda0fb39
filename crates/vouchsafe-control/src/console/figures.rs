//! What happened lately, counted from the audit log.

use std::collections::BTreeMap;

use vouchsafe_runtime::clock;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use crate::audit::{self, AuditError};
use crate::context::Context;
use crate::directory::Actor;

/// Most records that are counted; of more, the latest are, and the page says so.
const MOST_RECORDS: u64 = 30_000;
/// Most names that are told apart.
const MOST_NAMES: usize = 5_000;
/// Names that a list has.
const TOP: usize = 6;

/// Decisions that are shown one by one.
pub(super) const LATEST: usize = 20;

/// Whether it is a decision on the console or the API: whoever looks at a page would see little else.
pub(super) fn is_consoles_own(record: &Record) -> bool {
    record.resource.as_deref() == Some("console")
}

/// For how long back, and in what steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) word: &'static str,
    pub(super) seconds: u64,
    pub(super) step: u64,
}

/// The windows that a page offers.
pub(super) const WINDOWS: [Window; 3] = [
    Window { word: "1h", seconds: 3_600, step: 60 },
    Window { word: "24h", seconds: 86_400, step: 1_800 },
    Window { word: "7d", seconds: 604_800, step: 7_200 },
];

impl Window {
    /// The window of that word; a day when there is none.
    pub(super) fn of(word: Option<&str>) -> Self {
        let [_, day, _] = WINDOWS;
        WINDOWS.into_iter().find(|window| Some(window.word) == word).unwrap_or(day)
    }
}

/// Decisions of one step of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Unix seconds.
    pub(super) from: u64,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    /// Denied, and passed by a mode.
    pub(super) passed: u64,
}

impl Bucket {
    pub(super) fn all(&self) -> u64 {
        self.allowed + self.denied + self.passed
    }
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) buckets: Vec<Bucket>,
    /// Why access was denied, most frequent first.
    pub(super) reasons: Vec<(String, u64)>,
    /// The newest of them.
    pub(super) latest: Vec<Record>,
    /// Whether all records of the window were counted.
    pub(super) whole: bool,
}

impl Figures {
    /// Allowed, passed and denied.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&Bucket) -> u64| self.buckets.iter().map(of).sum();
        (sum(|bucket| bucket.allowed), sum(|bucket| bucket.passed), sum(|bucket| bucket.denied))
    }
}

/// Counts decisions on requests that match; the console's own are none.
pub(super) async fn count(
    context: &Context,
    window: Window,
    matching: AuditQuery,
    by: &Actor,
) -> Result<Figures, AuditError> {
    let now = clock::unix_seconds(clock::now());
    let until = now - now % window.step + window.step;
    let since = until.saturating_sub(window.seconds);
    let query = AuditQuery { kind: Some(Kind::Decision.as_str().to_owned()), since: Some(since), ..matching };
    let mut counting = Counting::new(since, until, window.step);
    let whole = audit::fold(context, &query, MOST_RECORDS, "audit.count", by, |record| counting.add(&record)).await?;
    Ok(counting.told(whole))
}

struct Counting {
    figures: Figures,
    step: u64,
    reasons: BTreeMap<String, u64>,
}

impl Counting {
    fn new(since: u64, until: u64, step: u64) -> Self {
        let buckets =
            (0..(until - since) / step).map(|place| Bucket { from: since + place * step, ..Bucket::default() });
        let figures = Figures { since, until, buckets: buckets.collect(), ..Figures::default() };
        Self { figures, step, reasons: BTreeMap::new() }
    }

    fn add(&mut self, record: &Record) {
        if is_consoles_own(record) {
            return;
        }
        if self.figures.latest.len() < LATEST {
            self.figures.latest.push(record.clone());
        }
        let Some(seconds) = (record.time_us / 1_000_000).checked_sub(self.figures.since) else { return };
        let place = usize::try_from(seconds / self.step).unwrap_or(usize::MAX);
        let Some(bucket) = self.figures.buckets.get_mut(place) else { return };
        let count = 1 + record.repeated.unwrap_or_default();
        match (record.outcome.as_deref(), &record.passed) {
            (Some("allow"), _) => bucket.allowed += count,
            (Some("deny"), Some(_)) => bucket.passed += count,
            (Some("deny"), None) => {
                bucket.denied += count;
                bump(&mut self.reasons, record.reason.as_deref().unwrap_or("unknown"), count);
            }
            (Some(_) | None, _) => {}
        }
    }

    fn told(self, whole: bool) -> Figures {
        Figures { reasons: top(self.reasons), whole, ..self.figures }
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if let Some(known) = counts.get_mut(name) {
        *known += count;
    } else if counts.len() < MOST_NAMES {
        counts.insert(name.to_owned(), count);
    }
}

fn top(counts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = counts.into_iter().collect();
    all.sort_by(|(one, of_one), (other, of_other)| (of_other, one).cmp(&(of_one, other)));
    all.truncate(TOP);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_counted_where_they_belong_and_the_consoles_own_are_left_out() {
        let mut counting = Counting::new(1_000, 1_120, 60);
        let record = |seconds: u64, outcome: &str, resource: &str| {
            let mut record = Record::new(Kind::Decision, seconds * 1_000_000);
            record.outcome = Some(outcome.to_owned());
            record.resource = Some(resource.to_owned());
            record.reason = Some(format!("reason of {outcome}"));
            record
        };
        counting.add(&record(1_000, "allow", "wiki"));
        counting.add(&record(1_059, "deny", "wiki"));
        counting.add(&Record { repeated: Some(4), ..record(1_060, "deny", "ledger") });
        counting.add(&Record { passed: Some("observe".to_owned()), ..record(1_119, "deny", "wiki") });
        counting.add(&record(1_119, "allow", "console"));
        counting.add(&record(1_120, "allow", "wiki"));
        counting.add(&record(3, "allow", "wiki"));
        let figures = counting.told(true);
        assert_eq!(figures.totals(), (1, 1, 6));
        assert_eq!(figures.buckets.iter().map(Bucket::all).collect::<Vec<_>>(), [2, 6]);
        assert_eq!(figures.reasons, [("reason of deny".to_owned(), 6)]);
    }
}
