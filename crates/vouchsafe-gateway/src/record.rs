//! Records decisions and flows: the recorder's handle, its writer thread, and delivery.
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
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::limits::{AUDIT_QUEUE, AUDIT_WAIT};
use vouchsafe_runtime::link::ControlLink;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::audit::Record;

use self::queue::{Claim, Handle, Queue};
use self::writer::Writer;
use crate::spool::{Spool, SpoolError, SpoolReader};

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
pub(crate) struct NotRecorded;

/// How far a record must have got before the caller goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// It survives the death of this process.
    Written,
    /// It survives the death of the machine.
    Durable,
}

/// Handle to the writer. Cheap to clone; the writer ends behind the last one.
#[derive(Clone)]
pub(crate) struct Recorder {
    handle: Arc<Handle>,
    committed: watch::Receiver<u64>,
}

/// A record under way.
pub(crate) struct Receipt {
    done: oneshot::Receiver<()>,
    claim: Arc<Claim>,
}

impl Receipt {
    /// Waits until the record has got as far as was asked. On failure the record is not in the
    /// log, unless the disk held up a write for longer than anyone can wait.
    pub(crate) async fn wait(mut self) -> Result<(), NotRecorded> {
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
    pub(crate) fn start(
        dir: &Path,
        gateway: GatewayId,
        known: u64,
        link: Arc<dyn ControlLink>,
        tasks: &TaskGroup,
    ) -> Result<Self, SpoolError> {
        let spool = Spool::open(dir, gateway.to_string(), known)?;
        let reader = SpoolReader::open(dir)?;
        let (recorder, writer) = Self::launch(spool, Queue::new(AUDIT_QUEUE, MOST_NOTES));
        tasks.spawn_vital("audit writer", async move {
            if let Err(error) = writer.await {
                tracing::error!(%error, "audit writer failed");
            }
        });
        tasks.spawn("audit delivery", deliver(reader, recorder.committed.clone(), gateway, link));
        Ok(recorder)
    }

    fn launch(spool: Spool, queue: Queue) -> (Self, JoinHandle<()>) {
        let queue = Arc::new(queue);
        let (publish, committed) = watch::channel(spool.next_seq());
        let writer = Writer::new(spool, Arc::clone(&queue), publish);
        (Self { handle: Arc::new(Handle(queue)), committed }, tokio::task::spawn_blocking(move || writer.run()))
    }

    /// Hands a record to the writer. When the queue is full the caller waits: that is the
    /// back-pressure on requests. When records can't be written at the moment it is refused at once.
    pub(crate) async fn record(&self, record: Record, until: Until) -> Result<Receipt, NotRecorded> {
        let (done, receipt) = oneshot::channel();
        let claim = Arc::<Claim>::default();
        let push = self.handle.0.push(record, until, done, Arc::clone(&claim));
        match tokio::time::timeout(AUDIT_WAIT, push).await {
            Ok(Ok(())) => Ok(Receipt { done: receipt, claim }),
            Ok(Err(NotRecorded)) | Err(_) => Err(NotRecorded),
        }
    }

    /// Hands over the record of something that has happened already, such as the end of a flow.
    /// Never waits; it is kept in memory until it can be written.
    pub(crate) fn note(&self, record: Record) {
        self.handle.0.note(record);
    }

    /// What the owner of the gateway keeps to wait for the last record. It is no handle: it does
    /// not keep the writer going.
    pub(crate) fn finisher(&self) -> Finisher {
        Finisher { queue: Arc::clone(&self.handle.0), committed: self.committed.clone() }
    }
}

/// Waits for the end of the writer.
pub(crate) struct Finisher {
    queue: Arc<Queue>,
    committed: watch::Receiver<u64>,
}

impl Finisher {
    /// Takes no more records, and waits a few seconds until all so far are written and synced. To
    /// be called when every flow is gone.
    pub(crate) async fn finish(mut self) {
        self.queue.close();
        let ended = async { while self.committed.changed().await.is_ok() {} };
        if tokio::time::timeout(FINISH_WAIT, ended).await.is_err() {
            tracing::error!(kept = self.queue.kept(), "the audit writer hangs; what it has not written is lost");
        }
    }
}

/// Records from which on a batch is worth the controller's sync by itself.
const LARGE_BATCH: usize = 256;
/// How long a small batch is followed by a pause in which the next one grows.
const GATHER: Duration = Duration::from_millis(25);

/// Delivers what the spool holds, in order, again and again until it is acknowledged.
async fn deliver(
    mut reader: SpoolReader,
    mut committed: watch::Receiver<u64>,
    gateway: GatewayId,
    link: Arc<dyn ControlLink>,
) {
    loop {
        let end_seq = *committed.borrow_and_update();
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(end_seq);
            (reader, batch)
        })
        .await;
        let batch = match read {
            Ok((back, Ok(batch))) => {
                reader = back;
                batch
            }
            Ok((back, Err(error))) => {
                tracing::error!(%error, "audit spool can't be read; trying again");
                reader = back;
                if committed.has_changed().is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(_) => return,
        };
        if batch.is_empty() {
            if committed.changed().await.is_err() {
                return;
            }
            continue;
        }
        let is_small = batch.len() < LARGE_BATCH;
        let acknowledged = deliver_batch(&*link, gateway, batch).await;
        if let Err(error) = reader.forget(acknowledged) {
            tracing::warn!(%error, "delivered audit segments can't be removed");
        }
        if is_small {
            // A batch costs the controller a transaction and a sync: better a few large ones.
            tokio::time::sleep(GATHER).await;
        }
    }
}

async fn deliver_batch(link: &dyn ControlLink, gateway: GatewayId, batch: Vec<(u64, Vec<u8>)>) -> u64 {
    let last = batch.last().map_or(0, |(seq, _)| *seq);
    let mut pause = Duration::from_millis(50);
    loop {
        match link.deliver(gateway, batch.clone()).await {
            Ok(acknowledged) if acknowledged >= last => return acknowledged,
            Ok(acknowledged) => tracing::error!(acknowledged, last, "the controller did not take all audit records"),
            Err(error) => tracing::warn!(%error, "audit records can't be delivered; they stay in the spool"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

#[cfg(test)]
mod tests;
