//! Writing records in groups, and what is done while they can't be written.
//!
//! A group is written by one of the requests that wait for it: the first one leads, lets the others
//! of this turn of the runtime come, and writes for all. That needs no other thread. The writer's
//! own thread does what takes longer: it syncs, begins segments, and tries again after a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::{Draft, Kind, Record};

use super::Until;
use super::handover::Handover;
use super::queue::{Entry, Queue, Supply, Tally, Waiter};
use crate::spool::{Spool, SpoolError};

/// Longest time a written record waits for its sync. DESIGN §9 promises 100 ms.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// A sync that takes longer than this holds up what is not written yet: what nobody can promise to
/// be durable soon must not pile up.
const LATE_SYNC: Duration = Duration::from_millis(100);
/// First and longest pause between attempts while records can't be written.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the last records are tried for at the end of the process.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// Most records in one write.
const GROUP: usize = 512;

/// What requests and the thread share.
pub(super) struct Pen {
    queue: Arc<Queue>,
    writer: Mutex<Writer>,
    /// A request leads a group that is not taken yet.
    led: AtomicBool,
    /// The thread runs; without it nothing is ever synced.
    running: AtomicBool,
    /// When the sync under way began.
    syncing_since: Mutex<Option<Instant>>,
    pub(super) handover: Handover,
}

struct Writer {
    spool: Spool,
    source: Arc<str>,
    queue: Arc<Queue>,
    committed: watch::Sender<u64>,
    group: Vec<Entry>,
    /// Waiters for a sync, with the numbers of their records.
    unsynced: VecDeque<(u64, Waiter)>,
    /// Records of what has happened already, kept for another attempt after a failure.
    backlog: VecDeque<Draft>,
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

/// The right to write a group; when it is dropped the group is written.
pub(super) struct Lead<'p>(&'p Pen);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // Whoever comes after this leads a group of its own.
        self.0.led.store(false, Ordering::SeqCst);
        self.0.write_here();
    }
}

/// Tells those who wait when the writer ends, in whatever way.
struct Ending(Arc<Pen>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue.end();
        let mut writer = self.0.writer.lock();
        writer.unsynced.clear();
        // Also those who watch for the end of all writing.
        writer.committed = watch::channel(0).0;
    }
}

impl Pen {
    pub(super) fn new(spool: Spool, source: Arc<str>, queue: Arc<Queue>, committed: watch::Sender<u64>) -> Self {
        let writer = Writer {
            spool,
            source,
            queue: Arc::clone(&queue),
            committed,
            group: Vec::with_capacity(GROUP),
            unsynced: VecDeque::new(),
            backlog: VecDeque::new(),
            sync_at: None,
            trouble: None,
        };
        Self {
            queue,
            writer: Mutex::new(writer),
            led: AtomicBool::new(false),
            running: AtomicBool::new(false),
            syncing_since: Mutex::new(None),
            handover: Handover::default(),
        }
    }

    /// The lead of the next group, unless somebody has it.
    pub(super) fn lead(&self) -> Option<Lead<'_>> {
        (!self.led.swap(true, Ordering::SeqCst)).then_some(Lead(self))
    }

    /// Writes what is there, where that is no more than a write; otherwise leaves it to the thread.
    fn write_here(&self) {
        let late = || self.syncing_since.lock().is_some_and(|since| since.elapsed() > LATE_SYNC);
        if self.running.load(Ordering::Acquire)
            && !late()
            && let Some(mut writer) = self.writer.try_lock()
            && writer.trouble.is_none()
            && !writer.spool.must_turn_over()
            && !writer.write(&self.handover)
        {
            let durable = !writer.unsynced.is_empty();
            drop(writer);
            return if durable { self.queue.rouse() } else { self.queue.nudge() };
        }
        self.queue.rouse();
    }

    /// The thread: syncs, and writes what nobody else does, until the queue is closed and empty.
    pub(super) fn run(self: Arc<Self>) {
        let _ending = Ending(Arc::clone(&self));
        self.running.store(true, Ordering::Release);
        let mut due = Some(Instant::now());
        loop {
            let supply = self.queue.sleep(due);
            let more = self.writer.lock().turn(&self.handover);
            self.sync_if_due();
            if supply == Supply::Over && !more {
                return self.end();
            }
            due = if more { Some(Instant::now()) } else { self.writer.lock().due() };
        }
    }

    /// Syncs without keeping others from writing.
    fn sync_if_due(&self) {
        let (sync, waiters) = {
            let mut writer = self.writer.lock();
            let is_due = !writer.unsynced.is_empty() || writer.sync_at.is_some_and(|at| at <= Instant::now());
            if writer.trouble.is_some() || !is_due {
                return;
            }
            writer.sync_at = None;
            (writer.spool.begin_sync(), std::mem::take(&mut writer.unsynced))
        };
        *self.syncing_since.lock() = Some(Instant::now());
        let outcome = sync.run();
        *self.syncing_since.lock() = None;
        let mut writer = self.writer.lock();
        match writer.spool.end_sync(outcome) {
            Ok(()) => {
                drop(writer);
                for (_, waiter) in waiters {
                    // Who does not hear it has hung up.
                    let _ = waiter.done.send(());
                }
            }
            // Dropping the waiters tells them.
            Err(error) => writer.fail(&error),
        }
    }

    /// The last attempts at what is left, and the last sync.
    fn end(&self) {
        let begun = Instant::now();
        loop {
            let mut writer = self.writer.lock();
            writer.catch_up(&self.handover);
            if writer.trouble.is_none() {
                return;
            }
            if begun.elapsed() >= LAST_ATTEMPTS {
                tracing::error!(
                    lost = writer.backlog.len(),
                    "the last audit records could not be written and are lost"
                );
                return;
            }
            drop(writer);
            std::thread::park_timeout(SYNC_AFTER);
        }
    }
}

impl Writer {
    /// When the thread has something to do.
    fn due(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at).or(self.sync_at)
    }

    /// The thread's turn: whether there is more to write.
    fn turn(&mut self, handover: &Handover) -> bool {
        let more = if self.trouble.is_some() {
            let mut group = std::mem::take(&mut self.group);
            let more = self.queue.take(&mut group, GROUP);
            group.drain(..).for_each(|entry| self.set_aside(entry));
            self.group = group;
            more
        } else {
            self.write(handover)
        };
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= Instant::now())
            || self.queue.tally().lost > 0
        {
            self.catch_up(handover);
        }
        more
    }

    /// Writes one group and tells the waiters; whether there is more.
    fn write(&mut self, handover: &Handover) -> bool {
        let mut group = std::mem::take(&mut self.group);
        let more = self.queue.take(&mut group, GROUP);
        // A waiter that gave up has denied its request: there must be no record that allows it.
        group.retain(|entry| entry.waiter.as_ref().is_none_or(|waiter| waiter.claim.take()));
        if group.is_empty() {
            self.group = group;
            return more;
        }
        let first_seq = self.spool.next_seq();
        match self.append(group.iter().map(|entry| &entry.draft), group.len(), handover) {
            Ok(()) => {
                let mut notes = 0;
                for (seq, entry) in (first_seq..).zip(group.drain(..)) {
                    match entry.waiter {
                        None => notes += 1,
                        Some(waiter) if waiter.until == Until::Durable => self.unsynced.push_back((seq, waiter)),
                        // Who does not hear it has hung up.
                        Some(waiter) => {
                            let _ = waiter.done.send(());
                        }
                    }
                }
                if notes > 0 {
                    self.queue.settle(notes);
                }
                self.sync_at = self.sync_at.or_else(|| Instant::now().checked_add(SYNC_AFTER));
            }
            Err(error) => {
                self.fail(&error);
                group.drain(..).for_each(|entry| self.set_aside(entry));
            }
        }
        self.group = group;
        more
    }

    fn append<'d>(
        &mut self,
        drafts: impl Iterator<Item = &'d Draft>,
        count: usize,
        handover: &Handover,
    ) -> Result<(), SpoolError> {
        let first_seq = self.spool.next_seq();
        let frames = self.spool.append(drafts)?;
        handover.put(first_seq, count as u64, frames);
        // Only now are they records for the delivery.
        self.committed.send_replace(self.spool.next_seq());
        Ok(())
    }

    /// While records can't be written: what somebody waits for must not happen, and dropping the
    /// waiter tells so. What nobody waits for has happened; it is kept.
    fn set_aside(&mut self, Entry { draft, waiter }: Entry) {
        match waiter {
            None => self.backlog.push_back(draft),
            Some(waiter) if waiter.is_gone() => {
                if self.queue.adopt() {
                    self.backlog.push_back(draft);
                }
            }
            Some(_) => self.queue.refuse(),
        }
    }

    /// Syncs; and after a failure writes what was set aside and a record of the failure itself,
    /// which is the proof that records can be written again.
    fn catch_up(&mut self, handover: &Handover) {
        let tally = self.queue.tally();
        let caught_up = self.write_backlog(handover).and_then(|()| {
            if let Some(report) = self.report(tally) {
                self.append(std::iter::once(&report), 1, handover)?;
            }
            self.spool.sync()
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
                for (_, waiter) in self.unsynced.drain(..) {
                    let _ = waiter.done.send(());
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn write_backlog(&mut self, handover: &Handover) -> Result<(), SpoolError> {
        while !self.backlog.is_empty() {
            let count = GROUP.min(self.backlog.len());
            let oldest: Vec<Draft> = self.backlog.iter().take(count).cloned().collect();
            self.append(oldest.iter(), count, handover)?;
            self.backlog.drain(..count);
            self.queue.settle(count);
        }
        Ok(())
    }

    /// The record of a failure, when there was one.
    fn report(&self, tally: Tally) -> Option<Draft> {
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
        Draft::of(&report, &self.source).ok()
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
                // What was to be synced may not be: dropping the waiters tells them.
                self.unsynced.clear();
                Trouble { since: now, pause: first_pause, retry_at: now }
            }
        };
        self.trouble = Some(Trouble { retry_at: now + trouble.pause, ..trouble });
    }
}
