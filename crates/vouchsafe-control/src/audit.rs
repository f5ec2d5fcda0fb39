//! The audit log: taking in what gateways deliver, answering questions, and following what is new.
//! Reading it is recorded, too. The record's format: `docs/spec/audit-record.md`.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_wire::api::{
    AuditPage, AuditQuery, CountedBy, Counts, CountsAt, CountsQuery, ExportQuery, OutcomeCounts, Used, Uses, UsesQuery,
    ValueCount,
};
use vouchsafe_wire::audit::{Kind, Record, Words};

use crate::administrator::shortened;
use crate::context::Context;
use crate::directory::{Actor, DirectoryError, devices};
use crate::log::{
    self, Counted, Division, Field, Filter, Log, LogError, Span, Steps, Sums, TakeError, Use, UsesFilter,
};
use crate::store::{StoreError, blocking};

/// Records that one page has unless asked otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Most records of one page.
const MAX_LIMIT: u32 = 10_000;
/// Most pieces of time that are counted apart.
const MAX_STEPS: u64 = 1_000;
/// Values that are counted apart unless asked otherwise, and most of them.
const DEFAULT_TOP: u32 = 10;
const MAX_TOP: u32 = 50;
/// Records that a follower reads at once.
const TAIL_BATCH: u32 = 500;
/// Records that an export reads at once, and positions that it looks at before it tells how far it is.
const EXPORT_BATCH: u32 = 1_000;
const EXPORT_SPAN: u64 = 65_536;

/// Failure to read the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A filter has a value that it can't have.
    #[error("`{member}` is `{given}`, but must be {expected}")]
    Value {
        /// The filter.
        member: &'static str,
        /// The value, shortened.
        given: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The device that is filtered by isn't known.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refusal of what a gateway delivered; nothing of the batch is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// Something about a record is wrong, or the log failed.
    #[error("records of {gateway} are not taken")]
    Refused {
        /// Who delivered it.
        gateway: GatewayId,
        /// What is wrong.
        #[source]
        source: TakeError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes in a batch from a gateway: all of it or, when any record is refused, nothing. Records that
/// are known are skipped. Returns the highest number up to which all that came are durable.
pub(crate) async fn deliver(context: &Context, gateway: GatewayId, batch: RecordBatch) -> Result<u64, DeliveryError> {
    let (log, name) = (context.store.log().clone(), gateway.to_string());
    let known = log.last_seq(&name);
    let RecordBatch { first_seq, count, frames } = batch;
    if count == 0 {
        return Ok(known);
    }
    if first_seq > known + 1 {
        // Only for records that are in order is it worth telling that some are missing before them.
        let (name, checked) = (name.clone(), frames.clone());
        let check = blocking(move || log::check(&name, first_seq, &checked).map(drop)).await?;
        check.map_err(|source| DeliveryError::Refused { gateway, source })?;
        record_gap(context, gateway, known + 1, first_seq - 1).await?;
    }
    let taken = blocking(move || log.take_in(&name, first_seq, &frames)).await?;
    taken.map_err(|source| DeliveryError::Refused { gateway, source })
}

/// Records that records never arrived. The gateway keeps what was not acknowledged, so this means a
/// lost disk on one side. It is told before what comes behind the gap is taken in: a crash in
/// between makes it be told twice rather than not at all.
async fn record_gap(context: &Context, gateway: GatewayId, from: u64, to: u64) -> Result<(), StoreError> {
    tracing::error!(%gateway, from, to, "audit records never arrived");
    let mut gap = Actor::Controller.record(Kind::Lifecycle, clock::now());
    gap.action = Some("audit.gap".to_owned());
    gap.outcome = Some("failed".to_owned());
    gap.target = Some(format!("gateway/{gateway}"));
    gap.detail = Some(format!("records {from} to {to} never arrived"));
    let mut write = context.store.write().await?;
    write.audit(gap);
    write.commit().await
}

/// Answers a question, newest first, and records that it was asked.
pub(crate) async fn query(context: &Context, query: &AuditQuery, by: &Actor) -> Result<AuditPage, AuditError> {
    let limit = limit_of(query, DEFAULT_LIMIT)?;
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, query).await?;
    drop(read);
    record_read(context, query, "audit.query", by).await?;
    // One more than asked for tells whether there is another page.
    let span = Span::Before(query.after.unwrap_or(u64::MAX));
    let mut found = read_log(context, filter, span, limit + 1).await?;
    let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().map(|(position, _)| *position).filter(|_| more);
    let records = found
        .iter()
        .map(|(_, bytes)| Record::from_canonical(bytes).map_err(|_| StoreError::Corrupt { what: "audit record" }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(AuditPage { records, next })
}

/// Counts records, and records that it was asked.
pub(crate) async fn counts(context: &Context, query: &CountsQuery, by: &Actor) -> Result<Counts, AuditError> {
    let found = counts_of_all(context, std::slice::from_ref(query), by).await?;
    Ok(found.into_iter().next().unwrap_or_else(|| told(Counted::default(), Division::default(), 0)))
}

/// Answers several questions of one page, and records once that they were asked.
pub(crate) async fn counts_of_all(
    context: &Context,
    queries: &[CountsQuery],
    by: &Actor,
) -> Result<Vec<Counts>, AuditError> {
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let mut asked = Vec::new();
    for query in queries {
        let (filters, division, top) = divided(query, now)?;
        asked.push((filter_of(&mut read, &filters).await?, division, top));
    }
    drop(read);
    let detail = match queries {
        [one] => serde_json::to_string(one),
        several => serde_json::to_string(several),
    };
    record(context, detail.unwrap_or_default(), "audit.counts", by).await?;
    let mut answers = Vec::new();
    for (filter, division, top) in asked {
        let found = asked_of_log(context, move |log, cancelled| log.count(&filter, division, cancelled)).await?;
        answers.push(told(found, division, top));
    }
    Ok(answers)
}

/// The filters of what is to be counted, how it is divided, and how many values are told.
fn divided(query: &CountsQuery, now: u64) -> Result<(AuditQuery, Division, usize), AuditError> {
    let CountsQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, step, by, top } =
        query.clone();
    let top = match top {
        None => DEFAULT_TOP,
        Some(top @ 1..=MAX_TOP) => top,
        Some(other) => {
            return Err(AuditError::Value { member: "top", given: other.to_string(), expected: "1 to 50" });
        }
    };
    // Also the last second's records are counted.
    let until = until.or(step.map(|_| now.saturating_add(1)));
    let steps = match (step, since, until) {
        (None, _, _) => None,
        (Some(step), Some(since), Some(until)) if step > 0 && since <= until => {
            let count = (until - since).div_ceil(step);
            if count > MAX_STEPS {
                let expected = "at least a thousandth of the time from `since` to `until`";
                return Err(AuditError::Value { member: "step", given: step.to_string(), expected });
            }
            Some(Steps { since, step, count: usize::try_from(count).unwrap_or_default() })
        }
        (Some(step), _, _) => {
            let expected = "seconds, with a `since` that is not after `until`";
            return Err(AuditError::Value { member: "step", given: step.to_string(), expected });
        }
    };
    let by = by.map(|by| match by {
        CountedBy::Device => Field::Device,
        CountedBy::Kind => Field::Kind,
        CountedBy::Outcome => Field::Outcome,
        CountedBy::Reason => Field::Reason,
        CountedBy::Resource => Field::Resource,
        CountedBy::User => Field::User,
    });
    let (limit, after) = (None, None);
    let filters =
        AuditQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, limit, after };
    Ok((filters, Division { steps, by }, usize::try_from(top).unwrap_or_default()))
}

/// What was counted, as it is told.
fn told(found: Counted, division: Division, top: usize) -> Counts {
    let Counted { total, over_time, values } = found;
    let by_outcome = |sums: Sums| {
        let Sums { records, allow, deny, passed, ok, failed } = sums;
        OutcomeCounts { records, allow, deny, passed, ok, failed }
    };
    let starts = division.steps.map(|Steps { since, step, .. }| (since, step)).unwrap_or_default();
    let over_time = over_time.into_iter().zip(0_u64..).map(|(sums, piece)| CountsAt {
        at: starts.0.saturating_add(starts.1.saturating_mul(piece)),
        counts: by_outcome(sums),
    });
    let with: u64 = values.values().sum();
    let mut values: Vec<(Vec<u8>, u64)> = values.into_iter().collect();
    let by_count = |one: &(Vec<u8>, u64), other: &(Vec<u8>, u64)| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0));
    if values.len() > top && top > 0 {
        values.select_nth_unstable_by(top - 1, by_count);
        values.truncate(top);
    }
    values.sort_unstable_by(by_count);
    // INVARIANT: values are texts in canonical form.
    let value = |canonical: &[u8]| serde_json::from_slice(canonical).unwrap_or_default();
    let top: Vec<ValueCount> =
        values.iter().map(|(canonical, records)| ValueCount { value: value(canonical), records: *records }).collect();
    let told: u64 = top.iter().map(|value| value.records).sum();
    Counts {
        total: by_outcome(total),
        over_time: over_time.collect(),
        others: with.saturating_sub(told),
        without: division.by.map_or(0, |_| total.records.saturating_sub(with)),
        top,
    }
}

/// How far back uses are told unless asked otherwise, seconds.
pub(crate) const USES_FOR: u64 = 30 * 86_400;
/// Most pairs of users and resources whose uses are told apart.
const MOST_PAIRS: usize = 50_000;
/// Pairs that are told unless asked otherwise, and most of them.
const DEFAULT_PAIRS: u32 = 100;
const MAX_PAIRS: u32 = 1_000;

/// Says who used what, and records that it was asked.
pub(crate) async fn uses(context: &Context, query: &UsesQuery, by: &Actor) -> Result<Uses, AuditError> {
    let limit = match query.limit {
        None => DEFAULT_PAIRS,
        Some(limit @ 1..=MAX_PAIRS) => limit,
        Some(other) => {
            return Err(AuditError::Value { member: "limit", given: other.to_string(), expected: "1 to 1000" });
        }
    };
    let (mut uses, whole) = all_uses(context, query, by).await?;
    uses.sort_unstable_by(|a, b| (b.count, &a.user, &a.resource).cmp(&(a.count, &b.user, &b.resource)));
    let others = uses.len();
    uses.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let others = u64::try_from(others - uses.len()).unwrap_or(u64::MAX);
    Ok(Uses { uses, others, whole })
}

/// The same without an end, in no order, and whether that is all of it.
pub(crate) async fn all_uses(
    context: &Context,
    query: &UsesQuery,
    by: &Actor,
) -> Result<(Vec<Used>, bool), AuditError> {
    let UsesQuery { user, device, resource, since, limit: _ } = query;
    let device = match device {
        None => None,
        Some(text) => Some(devices::resolve(&mut *context.store.read().await?, text).await?.to_string()),
    };
    record(context, serde_json::to_string(query).unwrap_or_default(), "audit.uses", by).await?;
    let since = since.unwrap_or_else(|| clock::unix_seconds(clock::now()).saturating_sub(USES_FOR));
    let (user, resource) = (user.clone(), resource.clone());
    let filter = UsesFilter { user, device, resource, since_us: since.saturating_mul(1_000_000) };
    let found = asked_of_log(context, move |log, cancelled| log.uses(&filter, MOST_PAIRS, cancelled)).await?;
    // INVARIANT: values are texts in canonical form.
    let value = |canonical: &[u8]| serde_json::from_slice(canonical).unwrap_or_default();
    let told = found.by_values().map(|(user, resource, one)| {
        let Use { count, passed, last_us } = one;
        Used { user: value(user), resource: value(resource), count, passed, last: last_us / 1_000_000 }
    });
    Ok((told.collect(), !found.beyond))
}

/// What somebody may ask of the log about herself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// What she did, and tried to do.
    Accesses,
    /// What she was denied, and what a mode let pass.
    Denials,
    /// When and where she signed in.
    SignIns,
    /// Who asked the log for her by name.
    Readers,
}

impl Own {
    fn word(self) -> &'static str {
        match self {
            Own::Accesses => "accesses",
            Own::Denials => "denials",
            Own::SignIns => "sign-ins",
            Own::Readers => "readers",
        }
    }

    fn filter(self, user: &UserName) -> Filter {
        let kind = |kind: Kind| Some(kind.as_str().to_owned());
        let own = Filter { user: Some(user.to_string()), ..Filter::default() };
        match self {
            Own::Accesses => Filter { kind: kind(Kind::Decision), ..own },
            Own::Denials => Filter { kind: kind(Kind::Decision), outcome: Some("deny".to_owned()), ..own },
            Own::SignIns => Filter { kind: kind(Kind::SignIn), ..own },
            // What begins with her name is found; whether it is her is looked at then.
            Own::Readers => {
                let words: Vec<&str> = user.as_str().split(|letter: char| !letter.is_alphanumeric()).collect();
                let words = words.into_iter().filter(|word| !word.is_empty()).take(8).collect::<Vec<_>>().join(" ");
                Filter { kind: kind(Kind::AuditRead), text: Words::parse(&words).ok(), ..Filter::default() }
            }
        }
    }

    fn is_told(self, record: &Record, user: &UserName) -> bool {
        match self {
            Own::Accesses | Own::Denials | Own::SignIns => true,
            Own::Readers => {
                let named = format!("\"user\":\"{user}\"");
                record.user.as_deref() != Some(user.as_str())
                    && record.detail.as_deref().is_some_and(|detail| detail.contains(&named))
            }
        }
    }
}

/// Records that are looked at to find those that are told: so many at once, and so often.
const OWN_BATCH: u32 = 100;
const OWN_BATCHES: u32 = 4;

/// Answers questions of a user about herself, each with at most `limit` records from before position `after`. That she
/// asked is recorded, once for all of them and without her name in the question: so that her own looks are none of
/// those that she is told.
pub(crate) async fn own(
    context: &Context,
    user: &UserName,
    asked: &[(Own, u32)],
    after: Option<u64>,
    by: &Actor,
) -> Result<Vec<AuditPage>, AuditError> {
    let words: Vec<&str> = asked.iter().map(|(own, _)| own.word()).collect();
    record(context, words.join(", "), "audit.own", by).await?;
    let mut pages = Vec::new();
    for (own, limit) in asked {
        pages.push(own_page(context, user, *own, (*limit).min(OWN_BATCH), after).await?);
    }
    Ok(pages)
}

async fn own_page(
    context: &Context,
    user: &UserName,
    own: Own,
    limit: u32,
    after: Option<u64>,
) -> Result<AuditPage, AuditError> {
    // One more than asked for tells whether there is another page.
    let batch = if own == Own::Readers { OWN_BATCH } else { limit + 1 };
    let limit = usize::try_from(limit).unwrap_or_default();
    let (mut before, mut records) = (after.unwrap_or(u64::MAX), Vec::new());
    for _ in 0..OWN_BATCHES {
        let found = read_log(context, own.filter(user), Span::Before(before), batch).await?;
        for (position, bytes) in &found {
            if records.len() == limit {
                return Ok(AuditPage { records, next: Some(before) });
            }
            before = *position;
            let record = Record::from_canonical(bytes).map_err(|_| StoreError::Corrupt { what: "audit record" })?;
            if own.is_told(&record, user) {
                records.push(record);
            }
        }
        if found.len() < usize::try_from(batch).unwrap_or(usize::MAX) {
            return Ok(AuditPage { records, next: None });
        }
    }
    Ok(AuditPage { records, next: Some(before) })
}

/// Calls `each` for every record that matches, newest first, and records that it was asked; says whether those were
/// all, or `most` of them.
pub(crate) async fn fold(
    context: &Context,
    query: &AuditQuery,
    most: u64,
    verb: &str,
    by: &Actor,
    mut each: impl FnMut(Record),
) -> Result<bool, AuditError> {
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, query).await?;
    drop(read);
    record_read(context, query, verb, by).await?;
    let (mut before, mut left) = (u64::MAX, most);
    while left > 0 {
        let limit = MAX_LIMIT.min(u32::try_from(left).unwrap_or(MAX_LIMIT));
        let found = read_log(context, filter.clone(), Span::Before(before), limit).await?;
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        left = left.saturating_sub(count);
        for (position, bytes) in &found {
            before = *position;
            each(Record::from_canonical(bytes).map_err(|_| StoreError::Corrupt { what: "audit record" })?);
        }
        if count < u64::from(limit) {
            return Ok(true);
        }
        tokio::task::yield_now().await;
    }
    Ok(false)
}

/// Follows the log: the newest `limit` matching records (none unless asked for), or all behind
/// position `after`, and then each new one, as lines of canonical JSON. Ends when the role drains.
///
/// Lines are read from the log by position, so a reader that is slow misses nothing and holds
/// no memory: it only lags.
pub(crate) async fn tail(
    context: &Context,
    query: &AuditQuery,
    by: &Actor,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, AuditError> {
    let limit = limit_of(query, 0)?;
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, query).await?;
    drop(read);
    record_read(context, query, "audit.tail", by).await?;
    let mut grown = context.store.log().grown();
    let size = *grown.borrow_and_update();
    let mut first = match query.after {
        Some(_) => Vec::new(),
        None => read_log(context, filter.clone(), Span::Before(size), limit).await?,
    };
    first.reverse();
    let follower = Follower {
        context: context.clone(),
        filter,
        next: query.after.map_or(size, |after| after.saturating_add(1)),
        grown,
        lines: first.into_iter().map(|(_, bytes)| line(bytes)).collect(),
    };
    Ok(unfold(follower, |mut follower| async move { follower.next().await.map(|line| (line, follower)) }))
}

fn line(mut bytes: Vec<u8>) -> Bytes {
    bytes.push(b'\n');
    bytes.into()
}

struct Follower {
    context: Context,
    filter: Filter,
    /// Position of the next record to look at.
    next: u64,
    grown: watch::Receiver<u64>,
    lines: VecDeque<Bytes>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            let size = *self.grown.borrow_and_update();
            if self.next < size {
                if let Err(error) = self.read(size).await {
                    return Some(Err(error));
                }
                continue;
            }
            tokio::select! {
                changed = self.grown.changed() => changed.ok()?,
                () = self.context.tasks.draining() => return None,
            }
        }
    }

    async fn read(&mut self, size: u64) -> Result<(), StoreError> {
        let span = Span::Between(self.next, size);
        let found = read_log(&self.context, self.filter.clone(), span, TAIL_BATCH).await?;
        let full = found.len() >= usize::try_from(TAIL_BATCH).unwrap_or(usize::MAX);
        self.next = found.last().map(|(position, _)| position + 1).filter(|_| full).unwrap_or(size);
        self.lines.extend(found.into_iter().map(|(_, bytes)| line(bytes)));
        Ok(())
    }
}

/// Exports the log from a position on, oldest first: each matching record with the position behind it, and now and then
/// how far it is, so that whoever kept the last of these goes on there. Ends with the records that were there, or never.
pub(crate) async fn export(
    context: &Context,
    query: &ExportQuery,
    by: &Actor,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, AuditError> {
    let ExportQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, from, follow } =
        query.clone();
    let (limit, after) = (None, None);
    let filters =
        AuditQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, limit, after };
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, &filters).await?;
    drop(read);
    record(context, serde_json::to_string(query).unwrap_or_default(), "audit.export", by).await?;
    let mut grown = context.store.log().grown();
    let size = *grown.borrow_and_update();
    let exporter = Exporter {
        context: context.clone(),
        filter,
        next: from.unwrap_or_default(),
        end: (!follow).then_some(size),
        grown,
        begun: false,
    };
    Ok(unfold(exporter, |mut exporter| async move { exporter.next().await.map(|lines| (lines, exporter)) }))
}

struct Exporter {
    context: Context,
    filter: Filter,
    /// Position of the next record to look at.
    next: u64,
    /// Where it ends; it goes on for ever without.
    end: Option<u64>,
    grown: watch::Receiver<u64>,
    begun: bool,
}

impl Exporter {
    /// The next lines. The first come at once, also when there is nothing, so that the client knows how much there is.
    async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let size = self.end.unwrap_or(*self.grown.borrow_and_update());
            if self.next < size {
                return Some(self.read(size).await);
            }
            if !std::mem::replace(&mut self.begun, true) {
                let mut lines = Vec::new();
                push_progress(&mut lines, self.next, size);
                return Some(Ok(lines.into()));
            }
            if self.end.is_some() {
                return None;
            }
            tokio::select! {
                changed = self.grown.changed() => changed.ok()?,
                () = self.context.tasks.draining() => return None,
            }
        }
    }

    async fn read(&mut self, size: u64) -> Result<Bytes, StoreError> {
        let until = size.min(self.next.saturating_add(EXPORT_SPAN));
        let found = read_log(&self.context, self.filter.clone(), Span::Between(self.next, until), EXPORT_BATCH).await?;
        let full = found.len() >= usize::try_from(EXPORT_BATCH).unwrap_or(usize::MAX);
        self.next = found.last().map(|(position, _)| position + 1).filter(|_| full).unwrap_or(until);
        self.begun = true;
        let mut lines = Vec::with_capacity(found.iter().map(|(_, record)| record.len() + 64).sum());
        for (position, record) in &found {
            lines.extend_from_slice(format!("{{\"next\":{},\"record\":", position + 1).as_bytes());
            lines.extend_from_slice(record);
            lines.extend_from_slice(format!(",\"size\":{size}}}\n").as_bytes());
        }
        push_progress(&mut lines, self.next, size);
        Ok(lines.into())
    }
}

fn push_progress(lines: &mut Vec<u8>, next: u64, size: u64) {
    lines.extend_from_slice(format!("{{\"next\":{next},\"size\":{size}}}\n").as_bytes());
}

/// Reads the log apart from the tasks, until it is done or nobody waits for it any more.
pub(crate) async fn read_log(
    context: &Context,
    filter: Filter,
    span: Span,
    limit: u32,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    asked_of_log(context, move |log, cancelled| log.read(&filter, span, limit, cancelled)).await
}

/// Asks the log apart from the tasks, once it is this question's turn, until there is an answer or nobody waits for it
/// any more.
async fn asked_of_log<T: Send + 'static>(
    context: &Context,
    question: impl FnOnce(&Log, &dyn Fn() -> bool) -> Result<T, LogError> + Send + 'static,
) -> Result<T, StoreError> {
    let log = context.store.log().clone();
    let turn = log.turn().await;
    let waiting = CancellationToken::new();
    let (cancelled, _guard) = (waiting.clone(), waiting.drop_guard());
    let ask = move || {
        let _turn = turn;
        question(&log, &|| cancelled.is_cancelled())
    };
    Ok(blocking(ask).await??)
}

fn limit_of(query: &AuditQuery, default: u32) -> Result<u32, AuditError> {
    match query.limit {
        None => Ok(default),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(AuditError::Value { member: "limit", given: other.to_string(), expected: "1 to 10000" }),
    }
}

async fn filter_of(connection: &mut sqlx::SqliteConnection, query: &AuditQuery) -> Result<Filter, AuditError> {
    let AuditQuery {
        user,
        device,
        resource,
        outcome,
        passed,
        kind,
        reason,
        id,
        text,
        since,
        until,
        limit: _,
        after: _,
    } = query;
    if let Some(given) = kind.as_deref().filter(|given| !Kind::ALL.iter().any(|kind| kind.as_str() == *given)) {
        return Err(AuditError::Value {
            member: "kind",
            given: shortened(given),
            expected: "decision, flow_end, sign_in, session_end, passkey, device, admin, audit_read or lifecycle",
        });
    }
    if let Some(given) = outcome.as_deref().filter(|given| !["allow", "deny", "ok", "failed"].contains(given)) {
        return Err(AuditError::Value {
            member: "outcome",
            given: shortened(given),
            expected: "allow, deny, ok or failed",
        });
    }
    if let Some(given) = passed.as_deref().filter(|given| !["observe", "warn"].contains(given)) {
        return Err(AuditError::Value { member: "passed", given: shortened(given), expected: "observe or warn" });
    }
    let text = text.as_deref().map(|given| {
        let expected = "one to eight words of letters and digits";
        Words::parse(given).map_err(|_| AuditError::Value { member: "text", given: shortened(given), expected })
    });
    let device = match device {
        None => None,
        Some(text) => Some(devices::resolve(connection, text).await?.to_string()),
    };
    Ok(Filter {
        user: user.clone(),
        device,
        resource: resource.clone(),
        outcome: outcome.clone(),
        passed: passed.clone(),
        kind: kind.clone(),
        reason: reason.clone(),
        id: id.clone(),
        text: text.transpose()?,
        since_us: since.map(|seconds| seconds.saturating_mul(1_000_000)),
        until_us: until.map(|seconds| seconds.saturating_mul(1_000_000)),
    })
}

pub(crate) async fn record_read(
    context: &Context,
    query: &AuditQuery,
    verb: &str,
    by: &Actor,
) -> Result<(), StoreError> {
    record(context, serde_json::to_string(query).unwrap_or_default(), verb, by).await
}

async fn record(context: &Context, detail: String, verb: &str, by: &Actor) -> Result<(), StoreError> {
    let mut record = by.changed(verb, "audit".to_owned(), detail);
    record.kind = Kind::AuditRead;
    let mut write = context.store.write().await?;
    write.audit(record);
    write.commit().await
}

#[cfg(test)]
mod tests {
    use vouchsafe_wire::spool::{Frame, push_frame, read_frame};

    use super::*;

    /// Vectors of `docs/spec/audit-record.md`: a change as the directory records it, and its frame.
    #[test]
    fn an_administrative_record_and_its_frame_match_the_published_vectors() {
        let expected = include_str!("../../../docs/spec/vectors/audit-record-2.json").trim_end_matches('\n');
        let mut record =
            Actor::Local { uid: 0 }.changed("user.add", "user/alice".to_owned(), "groups: marketing".to_owned());
        record.seq = 4;
        record.source = "controller".to_owned();
        record.time_us = 1_790_000_000_000_000;
        let bytes = record.to_canonical().unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let mut frame = Vec::new();
        push_frame(&mut frame, &bytes);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../../docs/spec/vectors/spool-frame-1.hex").trim_end());
        assert_eq!(read_frame(&frame), Frame::Whole { payload: &bytes, length: frame.len() });
    }
}
