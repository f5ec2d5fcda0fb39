//! What recorded decisions would come to under another policy, read out of the audit log.
//!
//! The newest records come first, a page at a time: a page is read, decoded and decided apart from the controller's
//! tasks, on all cores, before the next one is; so memory has a bound, and whoever stops to listen stops the work.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use vouchsafe_replay::{Against, Looked, Replay, Simulated, Tally};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_wire::api::{AuditQuery, DiffRequest, SimulateLine, SimulateProgress, SimulateRequest};
use vouchsafe_wire::audit::{Kind, Record};

use super::AdministratorError;
use super::difference::{self, Usual};
use crate::audit;
use crate::context::Context;
use crate::directory::Actor;
use crate::log::{Filter, Span};
use crate::store::{StoreError, blocking};

/// How far back it looks unless asked otherwise.
const USUAL_SECONDS: u64 = 30 * 86_400;
/// Records that are looked at unless asked otherwise, and most of them.
const USUAL_RECORDS: u64 = 2_000_000;
const MOST_RECORDS: u64 = 20_000_000;
/// Longest time; what was looked at by then is told.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often one that waits says so.
const WORD: Duration = Duration::from_secs(10);
/// Records of one page: tens of megabytes while it is worked on.
const PAGE: u32 = if cfg!(test) { 4 } else { 16_384 };
/// Pieces that a page is cut into, each of its neighbours in time.
const PIECES: usize = 4;
/// Simulations at once, and how many more may wait.
const AT_ONCE: usize = 1;
const WAITING: usize = 8;

/// Whose turn it is: two simulations at once would only take each other's cores.
pub(crate) struct Turns {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING)) }
    }
}

/// Begins a simulation; its answer is lines of JSON, the last of which is the result.
pub(crate) async fn simulate(
    context: &Context,
    asked: &SimulateRequest,
    by: &Actor,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, AdministratorError> {
    let run = begin(context, asked, by, PATIENCE).await?;
    Ok(unfold(Some(run), |run| async move {
        let mut run = run?;
        let (line, next) = match run.step().await {
            Ok(Step::On(progress)) => (SimulateLine::Progress(progress), Some(run)),
            Ok(Step::Done(result)) => (SimulateLine::Result(*result), None),
            Err(error) => (SimulateLine::Problem(crate::api::problem(error.into())), None),
        };
        Some((line_of(&line), next))
    }))
}

/// Simulates for a page: what can be looked at within this time, and nothing when it isn't its turn by then.
pub(crate) async fn glance(
    context: &Context,
    asked: &SimulateRequest,
    by: &Actor,
    patience: Duration,
) -> Result<Simulated, AdministratorError> {
    let mut run = begin(context, asked, by, patience).await?;
    loop {
        match run.step().await? {
            Step::Done(result) => return Ok(*result),
            Step::On(_) if matches!(run.stage, Stage::Waiting(_)) => return Err(AdministratorError::Busy),
            Step::On(_) => {}
        }
    }
}

async fn begin(
    context: &Context,
    asked: &SimulateRequest,
    by: &Actor,
    patience: Duration,
) -> Result<Run, AdministratorError> {
    let SimulateRequest { before, after, files, since, until, limit } = asked;
    let limit = match limit {
        None => USUAL_RECORDS,
        Some(limit @ 1..=MOST_RECORDS) => *limit,
        Some(other) => {
            let given = other.to_string();
            return Err(AdministratorError::Value { member: "limit", given, expected: "1 to 20000000" });
        }
    };
    let now = clock::unix_seconds(clock::now());
    let until = until.unwrap_or(now.saturating_add(1));
    let since = since.unwrap_or(until.saturating_sub(USUAL_SECONDS));
    let waiting = Arc::clone(&context.simulations.waiting);
    let place = waiting.try_acquire_owned().map_err(|_| AdministratorError::Busy)?;
    let wanted = DiffRequest { before: *before, after: *after, files: files.clone() };
    let mut read = context.store.read().await?;
    let (other, after) = difference::engines(context, &mut read, &wanted, Usual::InForce).await?;
    drop(read);
    let query = AuditQuery {
        kind: Some(Kind::Decision.as_str().to_owned()),
        since: Some(since),
        until: Some(until),
        ..AuditQuery::default()
    };
    audit::record_read(context, &query, "audit.simulate", by).await?;
    let looked = Looked { before: before.map(|_| other.version()), after: after.version(), since, until, whole: false };
    let against = match before {
        Some(_) => Against::Policy(other),
        None => Against::Records { in_force: other },
    };
    let filter = Filter {
        kind: query.kind,
        since_us: Some(since.saturating_mul(1_000_000)),
        until_us: Some(until.saturating_mul(1_000_000)),
        ..Filter::default()
    };
    let run = Run {
        context: context.clone(),
        replay: Arc::new(Replay::new(after, against)),
        filter,
        looked,
        left: limit,
        tally: Tally::default(),
        patience,
        stage: Stage::Waiting(Box::pin(Arc::clone(&context.simulations.running).acquire_owned())),
        _place: place,
    };
    Ok(run)
}

fn line_of(line: &SimulateLine<Simulated>) -> Result<Bytes, StoreError> {
    let mut bytes = serde_json::to_vec(line).map_err(|_| StoreError::Corrupt { what: "result of a simulation" })?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// A simulation under way.
struct Run {
    context: Context,
    replay: Arc<Replay>,
    filter: Filter,
    looked: Looked,
    /// Records that may still be looked at.
    left: u64,
    tally: Tally,
    /// How long it may take, from its turn on.
    patience: Duration,
    stage: Stage,
    _place: OwnedSemaphorePermit,
}

enum Stage {
    /// For its turn.
    Waiting(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>),
    Reading(Reading),
}

/// Where it is in the log.
struct Reading {
    /// The next record is before this position.
    before: u64,
    /// Positions of the log's part that is walked.
    part: (u64, u64),
    deadline: Instant,
    _turn: OwnedSemaphorePermit,
}

enum Step {
    On(SimulateProgress),
    Done(Box<Simulated>),
}

impl Run {
    async fn step(&mut self) -> Result<Step, StoreError> {
        let reading = match &mut self.stage {
            Stage::Waiting(turn) => {
                // Whoever waits hears so now and then, and doesn't take silence for the end.
                let Ok(turn) = tokio::time::timeout(WORD, turn).await else {
                    return Ok(Step::On(SimulateProgress { records: 0, done: 0, of: 0 }));
                };
                let turn = turn.map_err(|_| StoreError::Ending)?;
                let (log, filter) = (self.context.store.log().clone(), self.filter.clone());
                let part = blocking(move || log.part(&filter)).await??;
                let deadline = Instant::now() + self.patience;
                self.stage = Stage::Reading(Reading { before: part.1, part, deadline, _turn: turn });
                return Ok(Step::On(SimulateProgress { records: 0, done: 0, of: part.1 - part.0 }));
            }
            Stage::Reading(reading) => reading,
        };
        if self.context.tasks.is_draining() {
            return Err(StoreError::Ending);
        }
        let limit = PAGE.min(u32::try_from(self.left).unwrap_or(PAGE));
        let span = Span::Before(reading.before);
        let found = audit::read_log(&self.context, self.filter.clone(), span, limit).await?;
        let count = found.len() as u64;
        let is_last = count < u64::from(limit);
        reading.before = found.last().map_or(reading.before, |(position, _)| *position);
        self.left = self.left.saturating_sub(count);
        let replay = Arc::clone(&self.replay);
        self.tally.merge(blocking(move || tally(&replay, &found)).await??);
        let is_late = Instant::now() >= reading.deadline;
        if !is_last && self.left > 0 && !is_late {
            let (first, end) = reading.part;
            let done = end.saturating_sub(reading.before.max(first));
            let records = self.tally.records();
            return Ok(Step::On(SimulateProgress { records, done, of: end - first }));
        }
        let whole = is_last || {
            let span = Span::Before(reading.before);
            audit::read_log(&self.context, self.filter.clone(), span, 1).await?.is_empty()
        };
        Ok(Step::Done(Box::new(std::mem::take(&mut self.tally).told(Looked { whole, ..self.looked }))))
    }
}

/// Decides a page again, side by side.
fn tally(replay: &Replay, found: &[(u64, Vec<u8>)]) -> Result<Tally, StoreError> {
    let all = Mutex::new(Ok(Tally::default()));
    let piece = |records: &[(u64, Vec<u8>)]| -> Result<Tally, StoreError> {
        let corrupt = |_| StoreError::Corrupt { what: "audit record" };
        let records: Result<Vec<Record>, StoreError> =
            records.iter().map(|(_, bytes)| Record::from_canonical(bytes).map_err(corrupt)).collect();
        Ok(replay.tally(records?))
    };
    let work = found.chunks(found.len().div_ceil(PIECES).max(1)).map(|records| -> Box<dyn FnOnce() + Send + '_> {
        let (all, piece) = (&all, &piece);
        Box::new(move || {
            let part = piece(records);
            let mut all = all.lock();
            match (all.as_mut(), part) {
                (Ok(all), Ok(part)) => all.merge(part),
                (Ok(_), Err(error)) => *all = Err(error),
                (Err(_), _) => {}
            }
        })
    });
    side_by_side(work.collect());
    all.into_inner()
}

#[cfg(test)]
mod tests;
