//! Sending: a task for each stream, which follows the log from the stream's position on, for as long as it exists.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{StreamFormat, StreamKind};
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::ocsf;

use super::otlp::Collector;
use super::syslog::Receiver;
use super::target::{PATIENCE, Target};
use crate::context::Context;
use crate::log::{Filter, Span};
use crate::outward::chain;
use crate::store::streams::{self, Numbered};
use crate::store::{StoreError, blocking};

/// Records of one batch.
const BATCH: u64 = 512;
/// Bytes of records from which on a batch is not made longer.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often a position is made durable.
const SAVES: Duration = Duration::from_secs(1);
/// How often it is looked for streams, when none was added.
const PERIOD: Duration = Duration::from_secs(30);
/// Seconds until the next attempt: doubled each time, up to the second.
const PAUSES: (u64, u64) = (1, 60);

/// Records that go together.
pub(super) struct Batch {
    /// Position behind the last of them.
    pub(super) next: u64,
    /// Positions, records, and what each is sent as.
    pub(super) records: Vec<(u64, Record, String)>,
}

/// Starts what sends.
pub(crate) fn start(context: &Context) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.clone().spawn_vital("audit streams", async move {
        let busy: Arc<Mutex<BTreeSet<i64>>> = Arc::default();
        let mut changed = context.streams.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Err(error) = begin(&context, &busy).await {
                tracing::error!(error = &error as &dyn std::error::Error, "streams of the audit log can't be read");
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = tasks.draining() => return,
            }
        }
    });
}

/// Begins with each stream that isn't being served.
async fn begin(context: &Context, busy: &Arc<Mutex<BTreeSet<i64>>>) -> Result<(), StoreError> {
    let mut read = context.store.read().await?;
    for Numbered { id, doc } in streams::list(&mut read).await? {
        if !busy.lock().insert(id) {
            continue;
        }
        context.streams.note(&doc.name, |figures| figures.next = doc.next);
        let (context, busy) = (context.clone(), Arc::clone(busy));
        context.tasks.clone().spawn("audit stream", async move {
            serve(&context, id).await;
            busy.lock().remove(&id);
        });
    }
    Ok(())
}

/// Why sending ended.
enum Ended {
    /// The stream was removed, or the process goes down.
    ForGood,
    /// It couldn't be reached, or broke.
    Broken(String),
}

async fn serve(context: &Context, id: i64) {
    let mut failed_in_row = 0_u32;
    loop {
        let found = async { streams::find(&mut *context.store.read().await?, id).await };
        let ended = match found.await {
            Ok(None) => return,
            Ok(Some((stream, sealed))) => match Target::open(context, &stream.doc, &sealed) {
                Ok(target) => follow(context, &stream, &target, &mut failed_in_row).await,
                Err(error) => Ended::Broken(chain(&error)),
            },
            Err(error) => Ended::Broken(chain(&error)),
        };
        let why = match ended {
            Ended::ForGood => return,
            Ended::Broken(why) => why,
        };
        if let Err(error) = note_failure(context, id, &why).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the failure of a stream can't be noted");
        }
        let (first, longest) = PAUSES;
        let pause = first.checked_shl(failed_in_row.min(16)).unwrap_or(longest).min(longest);
        failed_in_row = failed_in_row.saturating_add(1);
        // Up to a quarter longer, so that not all that broke at once come back at once.
        let [more] = clock::random::<1>();
        let pause = Duration::from_millis(pause.saturating_mul(1_000 + u64::from(more)));
        let mut changed = context.streams.changed.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = changed.changed() => {}
            () = context.tasks.draining() => return,
        }
    }
}

async fn note_failure(context: &Context, id: i64, why: &str) -> Result<(), StoreError> {
    let Some((stream, _)) = streams::find(&mut *context.store.read().await?, id).await? else { return Ok(()) };
    let name = &stream.doc.name;
    context.streams.note(name, |figures| figures.failures += 1);
    tracing::warn!(stream = name, why, "a stream of the audit log takes nothing; it is tried again");
    let mut write = context.store.write().await?;
    streams::failed(write.connection(), id, why, clock::unix_seconds(clock::now())).await?;
    write.commit().await
}

/// A way to a place that takes records.
enum Way<'t> {
    Syslog(Box<Receiver>),
    Otlp(Collector<'t>),
}

impl<'t> Way<'t> {
    async fn open(target: &'t Target, context: &Context, next: u64) -> Result<Self, String> {
        match target.kind {
            StreamKind::Syslog => {
                let receiver = tokio::time::timeout(PATIENCE, Receiver::connect(target, context, next)).await;
                receiver.unwrap_or_else(|_| Err("it did not answer in time".to_owned())).map(Box::new).map(Way::Syslog)
            }
            StreamKind::Otlp => Collector::new(target, context).map(Way::Otlp),
        }
    }

    /// Sends a batch; gives how many of its records were refused for good.
    async fn send(&mut self, batch: &Batch) -> Result<u64, String> {
        let sent = async {
            match self {
                Way::Syslog(receiver) => receiver.send(batch).await.map(|()| 0),
                Way::Otlp(collector) => collector.send(batch).await,
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err("it did not take it in time".to_owned()))
    }

    /// Position before which everything is taken, of what was sent up to `sent`.
    fn taken(&mut self, sent: u64) -> u64 {
        match self {
            Way::Syslog(receiver) => receiver.settled(),
            Way::Otlp(_) => sent,
        }
    }

    /// Comes back when the other side has ended it.
    async fn broken(&mut self) -> String {
        match self {
            Way::Syslog(receiver) => receiver.broken().await,
            Way::Otlp(_) => std::future::pending().await,
        }
    }

    /// Ends it; gives the position before which everything is taken.
    async fn finish(self, sent: u64) -> u64 {
        match self {
            Way::Syslog(receiver) => receiver.finish().await,
            Way::Otlp(_) => sent,
        }
    }
}

/// Sends from the stream's position on until it breaks.
async fn follow(context: &Context, stream: &Numbered, target: &Target, failed_in_row: &mut u32) -> Ended {
    let name = &stream.doc.name;
    let mut grown = context.store.log().grown();
    let mut changed = context.streams.changed.subscribe();
    // A log that was restored from a backup may be shorter than what was sent of the one before.
    let begun = stream.doc.next.min(*grown.borrow_and_update());
    let mut saved = Saved { id: stream.id, name, next: begun, rejected: 0, at: None };
    let mut way = match Way::open(target, context, begun).await {
        Ok(way) => way,
        Err(why) => return Ended::Broken(why),
    };
    let mut next = begun;
    loop {
        let size = *grown.borrow_and_update();
        if next < size {
            let batch = match read(context, target.format, next, size).await {
                Ok(batch) => batch,
                Err(error) => return Ended::Broken(chain(&error)),
            };
            let sent = tokio::select! {
                sent = way.send(&batch) => sent,
                () = context.tasks.draining() => {
                    saved.save(context, way.taken(next)).await;
                    return Ended::ForGood;
                }
            };
            match sent {
                Ok(rejected) => saved.rejected += rejected,
                Err(why) => {
                    saved.save(context, way.taken(next)).await;
                    return Ended::Broken(why);
                }
            }
            context.streams.note(name, |figures| figures.sent += batch.next - next);
            next = batch.next;
            *failed_in_row = 0;
        }
        let taken = way.taken(next);
        if saved.is_due(taken) && !saved.save(context, taken).await {
            return Ended::ForGood;
        }
        if next < size {
            continue;
        }
        let look_again = if saved.next < next { SAVES } else { PERIOD };
        tokio::select! {
            grown = grown.changed() => if grown.is_err() { return Ended::ForGood },
            why = way.broken() => {
                saved.save(context, way.taken(next)).await;
                return Ended::Broken(why);
            }
            () = tokio::time::sleep(look_again) => {}
            _ = changed.changed() => if !saved.save(context, taken).await { return Ended::ForGood },
            () = context.tasks.draining() => {
                let taken = way.finish(next).await;
                saved.save(context, taken).await;
                return Ended::ForGood;
            }
        }
    }
}

/// What is durable of a stream's position.
struct Saved<'n> {
    id: i64,
    name: &'n str,
    next: u64,
    rejected: u64,
    at: Option<Instant>,
}

impl Saved<'_> {
    /// Whether there is something to save, and it wasn't done just now.
    fn is_due(&self, taken: u64) -> bool {
        let long_ago = self.at.is_none_or(|at| at.elapsed() >= SAVES);
        // The first time also tells that it takes what it gets.
        long_ago && (taken > self.next || self.at.is_none())
    }

    /// Says whether the stream is there still. What can't be saved is sent again after the next start, no worse.
    async fn save(&mut self, context: &Context, taken: u64) -> bool {
        self.at = Some(Instant::now());
        let done = async {
            let mut write = context.store.write().await?;
            let now = clock::unix_seconds(clock::now());
            let there = streams::moved(write.connection(), self.id, taken, self.rejected, now).await?;
            write.commit().await?;
            Ok::<_, StoreError>(there)
        };
        match done.await {
            Ok(false) => return false,
            Ok(true) => {
                self.next = taken;
                self.rejected = 0;
                context.streams.note(self.name, |figures| figures.next = taken);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(stream = self.name, error, "the position of a stream can't be saved");
            }
        }
        true
    }
}

/// The records from a position on, made ready to be sent.
async fn read(context: &Context, format: StreamFormat, next: u64, size: u64) -> Result<Batch, StoreError> {
    let log = context.store.log().clone();
    let until = size.min(next.saturating_add(BATCH));
    let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
    blocking(move || {
        let found = log.read(&Filter::default(), Span::Between(next, until), limit, &|| false)?;
        if (found.len() as u64) < until - next {
            // They were let go while the stream was behind; the log says so too.
            tracing::error!(from = next, until, "records that a stream had not yet taken are kept no longer");
        }
        let mut batch = Batch { next: until, records: Vec::with_capacity(found.len()) };
        let mut length = 0;
        for (position, bytes) in found {
            if length >= BATCH_BYTES {
                batch.next = position;
                break;
            }
            let corrupt = || StoreError::Corrupt { what: "audit record" };
            let record = Record::from_canonical(&bytes).map_err(|_| corrupt())?;
            let body = match format {
                StreamFormat::Ocsf => ocsf::event(position, &record).to_string(),
                StreamFormat::Json => String::from_utf8(bytes).map_err(|_| corrupt())?,
            };
            length += body.len();
            batch.records.push((position, record, body));
        }
        Ok(batch)
    })
    .await?
}
