//! Records decisions and flows: the recorder's handle, its writer, and delivery.
//!
//! A request waits until its record is *written* (it survives the death of this process) before
//! the client hears anything; tunnels and resources with `audit = "before"` wait until it is
//! *durable* (it survives the death of the machine) before anything goes upstream. When records
//! can't be written, nothing is allowed.
//!
//! What nobody waits for has happened already, such as the end of a flow: it is kept in memory
//! until it can be written. [`Finisher::finish`] waits for that at the end of the process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::limits::{AUDIT_QUEUE, AUDIT_WAIT};
use vouchsafe_runtime::link::{ControlLink, RecordBatch};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::audit::Draft;

use self::queue::{Claim, Handle, Queue, Waiter};
use self::writer::Pen;
use crate::spool::{Spool, SpoolError, SpoolReader};

mod handover;
mod queue;
mod writer;

/// Most records kept in memory that nobody waits for: minutes of ended flows on a full disk, in
/// about a hundred megabytes. Later ones are lost, and counted.
const MOST_NOTES: usize = 100_000;
/// How long the end of the process waits for the last records.
const FINISH_WAIT: Duration = Duration::from_secs(5);

/// The record could not be kept, so what it records must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit record can't be kept: the spool is full, slow or broken")]
pub struct NotRecorded;

/// How far a record must have got before the caller goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It survives the death of this process.
    Written,
    /// It survives the death of the machine.
    Durable,
}

/// Handle to the writer. Cheap to clone; the writer ends behind the last one.
#[derive(Clone)]
pub struct Recorder {
    handle: Arc<Handle>,
    pen: Arc<Pen>,
    source: Arc<str>,
    committed: watch::Receiver<u64>,
    delivered: Arc<Delivered>,
}

/// How far the delivery to the controller has got.
#[derive(Default)]
struct Delivered {
    /// Highest number that is acknowledged.
    through: AtomicU64,
    /// When the batch was taken up that is on its way.
    since: Mutex<Option<Instant>>,
}

/// How it stands with the records of this gateway.
pub(crate) struct State {
    /// They can be written.
    pub(crate) is_writable: bool,
    /// They wait to be written.
    pub(crate) queued: usize,
    /// They are written, and the controller has not acknowledged them.
    pub(crate) undelivered: u64,
    /// How long the oldest of those have been on their way.
    pub(crate) lag: Duration,
}

/// A record under way.
struct Receipt {
    done: oneshot::Receiver<()>,
    claim: Arc<Claim>,
}

impl Receipt {
    /// Waits until the record has got as far as was asked. On failure the record is not in the
    /// log, unless the disk held up a write or a sync for longer than anyone can wait, or failed to
    /// sync what was written: then the end of its flow says that nothing was done.
    async fn wait(mut self) -> Result<(), NotRecorded> {
        if let Ok(done) = tokio::time::timeout(AUDIT_WAIT, &mut self.done).await {
            return done.map_err(|_| NotRecorded);
        }
        if self.claim.give_up() {
            return Err(NotRecorded);
        }
        // The writer has begun to write it: what becomes of that decides.
        match tokio::time::timeout(AUDIT_WAIT, &mut self.done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                self.claim.abandon();
                Err(NotRecorded)
            }
        }
    }
}

impl Recorder {
    /// Opens the spool, and starts its writer thread and the delivery to the controller.
    pub fn start(
        dir: &Path,
        gateway: GatewayId,
        known: u64,
        link: Arc<dyn ControlLink>,
        tasks: &TaskGroup,
    ) -> Result<Self, SpoolError> {
        let spool = Spool::open(dir, known)?;
        let reader = SpoolReader::open(dir)?;
        let (recorder, writer) = Self::launch(spool, gateway.to_string().into(), Queue::new(AUDIT_QUEUE, MOST_NOTES));
        tasks.spawn_vital("audit writer", async move {
            if let Err(error) = writer.await {
                tracing::error!(%error, "audit writer failed");
            }
        });
        recorder.delivered.through.store(known, Ordering::Relaxed);
        let delivery = Delivery {
            delivered: Arc::clone(&recorder.delivered),
            reader: Some(reader),
            pen: Arc::clone(&recorder.pen),
            committed: recorder.committed.clone(),
            gateway,
            link,
            tasks: tasks.clone(),
        };
        tasks.spawn("audit delivery", delivery.run());
        Ok(recorder)
    }

    fn launch(spool: Spool, source: Arc<str>, queue: Queue) -> (Self, JoinHandle<()>) {
        let recorder = Self::new(spool, source, queue);
        let pen = Arc::clone(&recorder.pen);
        (recorder, tokio::task::spawn_blocking(move || pen.run()))
    }

    fn new(spool: Spool, source: Arc<str>, queue: Queue) -> Self {
        let queue = Arc::new(queue);
        let (publish, committed) = watch::channel(spool.next_seq());
        let pen = Arc::new(Pen::new(spool, Arc::clone(&source), Arc::clone(&queue), publish));
        Self { handle: Arc::new(Handle(queue)), pen, source, committed, delivered: Arc::default() }
    }

    /// The name of this source in its records.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How it stands with the records.
    pub(crate) fn state(&self) -> State {
        let (is_writable, queued) = self.handle.0.state();
        let written = self.committed.borrow().saturating_sub(1);
        let undelivered = written.saturating_sub(self.delivered.through.load(Ordering::Relaxed));
        let lag = self.delivered.since.lock().map_or(Duration::ZERO, |since| since.elapsed());
        State { is_writable, queued, undelivered, lag }
    }

    /// Records, and waits until that has got as far as is asked. When the queue is full the caller
    /// waits: that is the back-pressure on requests. When records can't be written at the moment it
    /// is refused at once.
    pub async fn keep(&self, draft: Draft, until: Until) -> Result<(), NotRecorded> {
        let receipt = self.hand_over(draft, until).await?;
        if let Some(lead) = self.pen.lead() {
            // Others that are ready at this moment come first, and their records go with ours.
            tokio::task::yield_now().await;
            drop(lead);
        }
        receipt.wait().await
    }

    async fn hand_over(&self, draft: Draft, until: Until) -> Result<Receipt, NotRecorded> {
        let (done, receipt) = oneshot::channel();
        let claim = Arc::<Claim>::default();
        let push = self.handle.0.push(draft, Waiter { until, done, claim: Arc::clone(&claim) });
        match tokio::time::timeout(AUDIT_WAIT, push).await {
            Ok(Ok(())) => Ok(Receipt { done: receipt, claim }),
            Ok(Err(NotRecorded)) | Err(_) => Err(NotRecorded),
        }
    }

    /// Hands over the record of something that has happened already, such as the end of a flow.
    /// Never waits; it is kept in memory until it can be written.
    pub fn note(&self, draft: Draft) {
        self.handle.0.note(draft);
    }

    /// What the owner of the gateway keeps to wait for the last record. It is no handle: it does
    /// not keep the writer going.
    pub fn finisher(&self) -> Finisher {
        Finisher { queue: Arc::clone(&self.handle.0), committed: self.committed.clone() }
    }
}

/// Waits for the end of the writer.
pub struct Finisher {
    queue: Arc<Queue>,
    committed: watch::Receiver<u64>,
}

impl Finisher {
    /// Takes no more records, and waits a few seconds until all so far are written and synced. To
    /// be called when every flow is gone.
    pub async fn finish(mut self) {
        self.queue.close();
        let ended = async { while self.committed.changed().await.is_ok() {} };
        if tokio::time::timeout(FINISH_WAIT, ended).await.is_err() {
            tracing::error!(kept = self.queue.kept(), "the audit writer hangs; what it has not written is lost");
        }
    }
}

/// Records from which on a batch is delivered without a pause behind it.
const LARGE_BATCH: u64 = 2_048;
/// How long another batch is followed by a pause in which the next one grows: it costs the
/// controller a commit, and better a few large ones.
const GATHER: Duration = Duration::from_millis(50);

/// Delivers records in order, again and again until they are acknowledged: those just written from
/// memory, and what was left behind from disk.
struct Delivery {
    /// Away while it reads.
    reader: Option<SpoolReader>,
    pen: Arc<Pen>,
    committed: watch::Receiver<u64>,
    delivered: Arc<Delivered>,
    gateway: GatewayId,
    link: Arc<dyn ControlLink>,
    tasks: TaskGroup,
}

impl Delivery {
    async fn run(mut self) {
        loop {
            let end_seq = *self.committed.borrow_and_update();
            let batch = match self.next_batch(end_seq).await {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    tracing::error!(%error, "audit spool can't be read; trying again");
                    if self.committed.has_changed().is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                None => return,
            };
            if batch.count == 0 {
                if self.committed.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let is_large = batch.count >= LARGE_BATCH;
            *self.delivered.since.lock() = Some(Instant::now());
            let Some(acknowledged) = self.deliver(batch).await else { return };
            self.delivered.through.store(acknowledged, Ordering::Relaxed);
            *self.delivered.since.lock() = None;
            if let Some(Err(error)) = self.reader.as_ref().map(|reader| reader.forget(acknowledged)) {
                tracing::warn!(%error, "delivered audit segments can't be removed");
            }
            if !is_large {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// The next records below `end_seq`; `None` when the process ends.
    async fn next_batch(&mut self, end_seq: u64) -> Option<Result<RecordBatch, SpoolError>> {
        let mut reader = self.reader.take()?;
        if let Some(batch) = self.pen.handover.take(reader.next_seq()) {
            reader.skip_to(batch.first_seq + batch.count);
            self.reader = Some(reader);
            return Some(Ok(batch));
        }
        let until = self.pen.handover.first_seq().map_or(end_seq, |first| first.min(end_seq));
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(until);
            (reader, batch)
        });
        let (reader, batch) = read.await.ok()?;
        self.reader = Some(reader);
        Some(batch)
    }

    /// Delivers one batch; `None` when the process ends before the controller takes it.
    async fn deliver(&self, batch: RecordBatch) -> Option<u64> {
        let last = batch.first_seq + batch.count.saturating_sub(1);
        let mut pause = Duration::from_millis(50);
        loop {
            match self.link.deliver(self.gateway, batch.clone()).await {
                Ok(acknowledged) if acknowledged >= last => return Some(acknowledged),
                Ok(acknowledged) => {
                    tracing::error!(acknowledged, last, "the controller did not take all audit records");
                }
                Err(error) => tracing::warn!(%error, "audit records can't be delivered; they stay in the spool"),
            }
            if self.tasks.is_draining() {
                // They are in the spool, and delivered at the next start.
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tasks.draining() => {}
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }
}

#[cfg(test)]
mod tests;
