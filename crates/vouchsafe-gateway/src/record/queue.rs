//! The queue between those who record and the thread that writes.
//!
//! Records that somebody waits for have a limited number of places; more callers wait for one.
//! Records that nobody waits for have happened: they are always taken, up to a bound far beyond.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};
use vouchsafe_wire::audit::Record;

use super::{NotRecorded, Until};

/// What writer and waiter agree on: when the waiter gives up first the record is not written,
/// when the writer takes it first its success decides.
#[derive(Default)]
pub(super) struct Claim(AtomicU8);

const OPEN: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Claim {
    /// For the writer, before the write; `false` when the waiter has given up.
    pub(super) fn take(&self) -> bool {
        self.0.compare_exchange(OPEN, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// For the waiter, in time; `false` when the writer has taken the record.
    pub(super) fn give_up(&self) -> bool {
        self.0.compare_exchange(OPEN, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// For the waiter, when the writer has it but says nothing.
    pub(super) fn abandon(&self) {
        self.0.store(GIVEN_UP, Ordering::Release);
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Acquire) == GIVEN_UP
    }
}

/// Who waits for a record.
pub(super) struct Waiter {
    pub(super) until: Until,
    pub(super) done: oneshot::Sender<()>,
    pub(super) claim: Arc<Claim>,
}

impl Waiter {
    /// Whether the request went away without being denied, as when its client hung up. It may have
    /// gone upstream, so its record counts like one that nobody waits for.
    pub(super) fn is_gone(&self) -> bool {
        self.done.is_closed() && !self.claim.is_given_up()
    }
}

pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) waiter: Option<Waiter>,
}

/// Whether records can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Working,
    /// A write failed, and none has succeeded since.
    Broken,
    /// The writer is gone.
    Ended,
}

struct State {
    entries: VecDeque<Entry>,
    condition: Condition,
    /// No record is taken any more.
    closed: bool,
    /// Records that nobody waits for, here and set aside by the writer.
    notes: usize,
    tally: Tally,
}

/// What happened to records that were not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that were denied for it.
    pub(super) refused: u64,
    /// Records of what had happened that found no place.
    pub(super) lost: u64,
}

/// What [`Queue::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// There may be more.
    Open,
    /// That was all, for ever.
    Over,
}

pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Places for records that somebody waits for.
    places: Semaphore,
    most_notes: usize,
}

/// Keeps the queue open; the last one closes it.
pub(super) struct Handle(pub(super) Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Queue {
    pub(super) fn new(places: usize, most_notes: usize) -> Self {
        let state = State {
            entries: VecDeque::new(),
            condition: Condition::Working,
            closed: false,
            notes: 0,
            tally: Tally::default(),
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), places: Semaphore::new(places), most_notes }
    }

    /// Adds a record that somebody waits for, once there is a place.
    pub(super) async fn push(
        &self,
        record: Record,
        until: Until,
        done: oneshot::Sender<()>,
        claim: Arc<Claim>,
    ) -> Result<(), NotRecorded> {
        self.state.lock().admit()?;
        let place = self.places.acquire().await.map_err(|_| NotRecorded)?;
        {
            let mut state = self.state.lock();
            // It may have broken while we waited for the place.
            state.admit()?;
            state.entries.push_back(Entry { record, waiter: Some(Waiter { until, done, claim }) });
        }
        place.forget();
        self.filled.notify_one();
        Ok(())
    }

    /// Adds a record that nobody waits for.
    pub(super) fn note(&self, record: Record) {
        {
            let mut state = self.state.lock();
            if state.closed || state.condition == Condition::Ended {
                drop(state);
                tracing::error!(flow = record.flow, id = record.id, "an audit record came after the end and is lost");
                return;
            }
            if !state.keep_note(self.most_notes) {
                return;
            }
            state.entries.push_back(Entry { record, waiter: None });
        }
        self.filled.notify_one();
    }

    /// Takes no more records; the writer ends after those that are here.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Records that nobody waits for and that are not written yet.
    pub(super) fn kept(&self) -> usize {
        self.state.lock().notes
    }

    /// For the writer: takes up to `most` entries, and waits for the first until `deadline`, or as
    /// long as it takes.
    pub(super) fn take(&self, group: &mut Vec<Entry>, most: usize, deadline: Option<Instant>) -> Supply {
        let mut state = self.state.lock();
        while state.entries.is_empty() && !state.closed {
            match deadline {
                Some(deadline) => {
                    if self.filled.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
                None => self.filled.wait(&mut state),
            }
        }
        let count = most.min(state.entries.len());
        group.extend(state.entries.drain(..count));
        let supply = if state.closed && state.entries.is_empty() { Supply::Over } else { Supply::Open };
        drop(state);
        self.places.add_permits(group.iter().filter(|entry| entry.waiter.is_some()).count());
        supply
    }

    /// For the writer: from now on requests are refused.
    pub(super) fn break_down(&self) {
        self.state.lock().condition = Condition::Broken;
    }

    /// For the writer: records can be written again, and this much has been reported.
    pub(super) fn heal(&self, reported: Tally) {
        let mut state = self.state.lock();
        state.condition = Condition::Working;
        state.tally.refused = state.tally.refused.saturating_sub(reported.refused);
        state.tally.lost = state.tally.lost.saturating_sub(reported.lost);
    }

    /// For the writer: a request with a record already taken is refused.
    pub(super) fn refuse(&self) {
        self.state.lock().tally.refused += 1;
    }

    /// For the writer: a record that somebody waited for becomes one that nobody waits for;
    /// `false` when there are too many.
    pub(super) fn adopt(&self) -> bool {
        self.state.lock().keep_note(self.most_notes)
    }

    /// For the writer: so many records that nobody waits for are written.
    pub(super) fn settle(&self, notes: usize) {
        let mut state = self.state.lock();
        state.notes = state.notes.saturating_sub(notes);
    }

    /// What was not written and not yet reported.
    pub(super) fn tally(&self) -> Tally {
        self.state.lock().tally
    }

    /// For the writer, at its end: those who still wait are told.
    pub(super) fn end(&self) {
        let left = {
            let mut state = self.state.lock();
            state.condition = Condition::Ended;
            std::mem::take(&mut state.entries)
        };
        self.places.close();
        if !left.is_empty() {
            tracing::error!(lost = left.len(), "the audit writer ended before all records were written");
        }
    }
}

impl State {
    fn admit(&mut self) -> Result<(), NotRecorded> {
        match self.condition {
            Condition::Working if !self.closed => Ok(()),
            Condition::Working | Condition::Ended => Err(NotRecorded),
            Condition::Broken => {
                self.tally.refused += 1;
                Err(NotRecorded)
            }
        }
    }

    fn keep_note(&mut self, most: usize) -> bool {
        if self.notes < most {
            self.notes += 1;
            return true;
        }
        if self.tally.lost == 0 {
            tracing::error!(kept = self.notes, "no place is left for audit records of ended flows; they are lost");
        }
        self.tally.lost += 1;
        false
    }
}
