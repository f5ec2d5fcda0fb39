//! What happened lately, counted from the audit log.

use std::collections::BTreeMap;

use vouchsafe_model::decision::Reason;
use vouchsafe_model::mode::Lenience;
use vouchsafe_model::name::ResourceName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, CountedBy, Counts, CountsAt, CountsQuery, OutcomeCounts};
use vouchsafe_wire::audit::{Kind, Record};

use crate::audit::{self, AuditError};
use crate::context::Context;
use crate::directory::Actor;

/// Records among which the latest are looked for that aren't the console's own.
const LOOKED_AT: u64 = 500;
/// Reasons that are told apart.
const MOST_REASONS: u32 = 50;
/// Names that a list has.
const TOP: usize = 6;

/// Decisions that are shown one by one.
pub(super) const LATEST: usize = 20;

/// Whether it is none that people look for: on the console or the API, of which whoever looks at a page would see little
/// else; or a browser's that asks again by itself.
pub(super) fn is_left_out(record: &Record) -> bool {
    record.resource.as_deref() == Some("console") || record.reason.as_deref() == Some(Reason::Misdirected.code())
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
    let answers = audit::counts_of_all(context, &questions(&matching, since, until, window.step), by).await?;
    let mut latest = Vec::new();
    let query = AuditQuery { kind: Some(Kind::Decision.as_str().to_owned()), since: Some(since), ..matching };
    audit::fold(context, &query, LOOKED_AT, "audit.count", by, |record| {
        if latest.len() < LATEST && !is_left_out(&record) {
            latest.push(record);
        }
    })
    .await?;
    Ok(Figures { latest, ..told(&answers, since, until) })
}

/// What the index is asked: decisions over time and why they were denied; of those, what a mode let pass; and, unless it
/// is about one resource anyway, what is left out of each: the console's own, and what browsers send over a connection of
/// another name before they ask again.
fn questions(matching: &AuditQuery, since: u64, until: u64, step: u64) -> Vec<CountsQuery> {
    let AuditQuery { user, device, resource, reason, id, text, .. } = matching.clone();
    let all = CountsQuery {
        user,
        device,
        resource,
        reason,
        id,
        text,
        kind: Some(Kind::Decision.as_str().to_owned()),
        since: Some(since),
        until: Some(until),
        ..CountsQuery::default()
    };
    let denied = CountsQuery {
        outcome: Some("deny".to_owned()),
        by: Some(CountedBy::Reason),
        top: Some(MOST_REASONS),
        ..all.clone()
    };
    let passed = |mode: &str| CountsQuery { passed: Some(mode.to_owned()), ..denied.clone() };
    let mut asked = vec![
        CountsQuery { step: Some(step), ..all.clone() },
        denied.clone(),
        passed(Lenience::Observe.as_str()),
        passed(Lenience::Warn.as_str()),
    ];
    if all.resource.is_none() {
        let own = Some(ResourceName::console().to_string());
        let misdirected = Some(Reason::Misdirected.code().to_owned());
        let mut left_out = vec![CountsQuery { resource: own, ..all.clone() }];
        // Of another reason there are none.
        if all.reason.is_none() {
            left_out.push(CountsQuery { reason: misdirected, ..all });
        }
        asked.extend(left_out.iter().map(|query| CountsQuery { step: Some(step), ..query.clone() }));
        // No mode lets anything of these pass.
        let CountsQuery { outcome, by, top, .. } = denied;
        asked.extend(left_out.into_iter().map(|query| CountsQuery { outcome: outcome.clone(), by, top, ..query }));
    }
    asked
}

/// Takes the answers to [`questions`] together.
fn told(answers: &[Counts], since: u64, until: u64) -> Figures {
    // Behind the four that are always asked: over time, and by reason.
    let left_out = answers.len().saturating_sub(4) / 2;
    let mut answers = answers.iter();
    let all = answers.next().map(|counts| counts.over_time.as_slice()).unwrap_or_default();
    let mut buckets: Vec<Bucket> = all.iter().map(bucket).collect();
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    if let Some(denied) = answers.next() {
        reasons = denied.top.iter().map(|one| (one.value.as_str(), one.records)).collect();
    }
    let mut less = |counts: &Counts| {
        for one in &counts.top {
            if let Some(number) = reasons.get_mut(one.value.as_str()) {
                *number = number.saturating_sub(one.records);
            }
        }
    };
    answers.by_ref().take(2).for_each(&mut less);
    for own in answers.by_ref().take(left_out) {
        for (bucket, at) in buckets.iter_mut().zip(&own.over_time) {
            let own = self::bucket(at);
            bucket.allowed = bucket.allowed.saturating_sub(own.allowed);
            bucket.denied = bucket.denied.saturating_sub(own.denied);
            bucket.passed = bucket.passed.saturating_sub(own.passed);
        }
    }
    answers.for_each(less);
    let mut reasons: Vec<(String, u64)> =
        reasons.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect();
    reasons.sort_by(|(one, of_one), (other, of_other)| (of_other, one).cmp(&(of_one, other)));
    reasons.truncate(TOP);
    Figures { since, until, buckets, reasons, latest: Vec::new() }
}

fn bucket(at: &CountsAt) -> Bucket {
    let OutcomeCounts { allow, deny, passed, .. } = at.counts;
    Bucket { from: at.at, allowed: allow, denied: deny.saturating_sub(passed), passed }
}

#[cfg(test)]
mod tests {
    use vouchsafe_wire::audit::Record;

    use super::*;

    async fn context_with(records: Vec<Record>, dir: &std::path::Path) -> Context {
        let context = Context::for_test(dir).await;
        let mut write = context.store.write().await.unwrap();
        records.into_iter().for_each(|record| write.audit(record));
        write.commit().await.unwrap();
        context
    }

    #[tokio::test]
    async fn decisions_are_counted_where_they_belong_and_the_consoles_own_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::unix_seconds(clock::now());
        let record = |age: u64, outcome: &str, resource: &str| {
            let mut record = Record::new(Kind::Decision, (now - age) * 1_000_000);
            record.outcome = Some(outcome.to_owned());
            record.resource = Some(resource.to_owned());
            record.reason = Some(format!("reason_of_{outcome}"));
            record
        };
        let passed = Record { passed: Some("observe".to_owned()), ..record(5, "deny", "wiki") };
        let records = vec![
            record(4_000, "allow", "wiki"),
            record(600, "allow", "wiki"),
            record(600, "deny", "ledger"),
            record(5, "deny", "wiki"),
            passed,
            record(5, "allow", "console"),
            record(5, "deny", "console"),
            Record { resource: None, reason: Some("misdirected_request".to_owned()), ..record(5, "deny", "") },
        ];
        let context = context_with(records, dir.path()).await;
        let [hour, ..] = WINDOWS;
        let figures = count(&context, hour, AuditQuery::default(), &Actor::Controller).await.unwrap();
        assert_eq!(figures.totals(), (1, 1, 2), "{figures:?}");
        assert_eq!(figures.reasons, [("reason_of_deny".to_owned(), 2)]);
        assert_eq!(figures.buckets.len(), 60);
        assert_eq!(figures.latest.len(), 4, "what is older, or the console's own, isn't shown");
        let of_reason = AuditQuery { reason: Some("reason_of_deny".to_owned()), ..AuditQuery::default() };
        let figures = count(&context, hour, of_reason, &Actor::Controller).await.unwrap();
        assert_eq!(figures.totals(), (0, 1, 2), "what is left out has other reasons: {figures:?}");
        let of_wiki = AuditQuery { resource: Some("wiki".to_owned()), ..AuditQuery::default() };
        let figures = count(&context, hour, of_wiki, &Actor::Controller).await.unwrap();
        assert_eq!(figures.totals(), (1, 1, 1));
    }
}
