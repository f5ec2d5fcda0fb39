//! The thread that writes records in groups, and what it does while they can't be written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::{Kind, Record};

use super::Until;
use super::queue::{Entry, Queue, Supply, Tally};
use crate::spool::{Spool, SpoolError};

/// Longest time a written record waits for its sync. DESIGN §9 promises 100 ms.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// First and longest pause between attempts while records can't be written.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the last records are tried for at the end of the process.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// Most records in one write.
const GROUP: usize = 512;

pub(super) struct Writer {
    spool: Spool,
    queue: Arc<Queue>,
    committed: watch::Sender<u64>,
    /// Records of what has happened already, kept for another attempt after a failure.
    backlog: VecDeque<Record>,
    /// When something is written that is not synced: when it must be.
    sync_at: Option<Instant>,
    trouble: Option<Trouble>,
}

/// Records can't be written.
struct Trouble {
    since: Instant,
    pause: Duration,
    retry_at: Instant,
}

/// Tells those who wait when the writer ends, in whatever way.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    pub(super) fn new(spool: Spool, queue: Arc<Queue>, committed: watch::Sender<u64>) -> Self {
        Self { spool, queue, committed, backlog: VecDeque::new(), sync_at: None, trouble: None }
    }

    /// Writes until the queue is closed and empty, syncs and ends.
    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.queue));
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let supply = self.queue.take(&mut group, GROUP, self.due());
            if self.trouble.is_some() {
                group.drain(..).for_each(|entry| self.set_aside(entry));
            } else {
                self.write(&mut group);
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.catch_up();
            }
            if supply == Supply::Over {
                return self.end();
            }
        }
    }

    /// When [`Writer::catch_up`] has something to do.
    fn due(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at).or(self.sync_at)
    }

    /// Writes one group and tells the waiters.
    fn write(&mut self, group: &mut Vec<Entry>) {
        // A waiter that gave up has denied its request: there must be no record that allows it.
        group.retain(|entry| entry.waiter.as_ref().is_none_or(|waiter| waiter.claim.take()));
        if group.is_empty() {
            return;
        }
        let durable = group.iter().filter_map(|entry| entry.waiter.as_ref()).any(|w| w.until == Until::Durable);
        let until = if durable { Until::Durable } else { Until::Written };
        let (mut records, waiters): (Vec<_>, Vec<_>) = group.drain(..).map(|e| (e.record, e.waiter)).unzip();
        if let Err(error) = self.append(&mut records, until) {
            self.fail(&error);
            let entries = records.into_iter().zip(waiters);
            entries.for_each(|(record, waiter)| self.set_aside(Entry { record, waiter }));
            return;
        }
        self.sync_at = if durable { None } else { self.sync_at.or_else(|| Instant::now().checked_add(SYNC_AFTER)) };
        self.queue.settle(waiters.iter().filter(|waiter| waiter.is_none()).count());
        for waiter in waiters.into_iter().flatten() {
            // Who does not hear it has hung up.
            let _ = waiter.done.send(());
        }
    }

    fn append(&mut self, records: &mut [Record], until: Until) -> Result<(), SpoolError> {
        self.spool.append(records, until)?;
        // Only now are they records for the delivery.
        self.committed.send_replace(self.spool.next_seq());
        Ok(())
    }

    /// While records can't be written: what somebody waits for must not happen, and dropping the
    /// waiter tells so. What nobody waits for has happened; it is kept.
    fn set_aside(&mut self, Entry { record, waiter }: Entry) {
        match waiter {
            None => self.backlog.push_back(record),
            Some(waiter) if waiter.is_gone() => {
                if self.queue.adopt() {
                    self.backlog.push_back(record);
                }
            }
            Some(_) => self.queue.refuse(),
        }
    }

    /// Syncs; and after a failure writes what was set aside and a record of the failure itself,
    /// which is the proof that records can be written again.
    fn catch_up(&mut self) {
        let tally = self.queue.tally();
        let caught_up = self.write_backlog().and_then(|()| match self.report(tally) {
            Some(report) => self.append(&mut [report], Until::Durable),
            None => self.spool.sync(),
        });
        match caught_up {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!(refused = tally.refused, lost = tally.lost, "audit records are written again");
                    self.queue.heal(tally);
                } else if tally.lost > 0 {
                    self.queue.heal(tally);
                }
                self.sync_at = None;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn write_backlog(&mut self) -> Result<(), SpoolError> {
        while !self.backlog.is_empty() {
            let count = GROUP.min(self.backlog.len());
            let Some(oldest) = self.backlog.make_contiguous().get_mut(..count) else { break };
            self.spool.append(oldest, Until::Written)?;
            self.committed.send_replace(self.spool.next_seq());
            self.backlog.drain(..count);
            self.queue.settle(count);
        }
        Ok(())
    }

    /// The record of a failure, when there was one.
    fn report(&self, tally: Tally) -> Option<Record> {
        if self.trouble.is_none() && tally.lost == 0 {
            return None;
        }
        let mut report = Record::new(Kind::Lifecycle, clock::unix_micros(clock::now()));
        report.action = Some("audit.interrupted".to_owned());
        report.outcome = Some("failed".to_owned());
        report.duration_us =
            self.trouble.as_ref().map(|t| u64::try_from(t.since.elapsed().as_micros()).unwrap_or(u64::MAX));
        report.detail = Some(format!(
            "audit records could not be written: {} requests were denied for it, {} records of ended flows are lost",
            tally.refused, tally.lost
        ));
        Some(report)
    }

    /// Begins to refuse requests, or goes on to.
    fn fail(&mut self, error: &SpoolError) {
        let now = Instant::now();
        let (first_pause, longest_pause) = RETRY_AFTER;
        let trouble = match self.trouble.take() {
            Some(before) => {
                tracing::debug!(error = error as &dyn std::error::Error, "audit records still can't be written");
                Trouble { pause: (before.pause * 2).min(longest_pause), ..before }
            }
            None => {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "audit records can't be written; requests are denied until they can"
                );
                self.queue.break_down();
                Trouble { since: now, pause: first_pause, retry_at: now }
            }
        };
        self.trouble = Some(Trouble { retry_at: now + trouble.pause, ..trouble });
    }

    /// The last attempts at what is left, and the last sync.
    fn end(&mut self) {
        let begun = Instant::now();
        loop {
            self.catch_up();
            if self.trouble.is_none() {
                return;
            }
            if begun.elapsed() >= LAST_ATTEMPTS {
                tracing::error!(lost = self.backlog.len(), "the last audit records could not be written and are lost");
                return;
            }
            std::thread::park_timeout(SYNC_AFTER);
        }
    }
}
