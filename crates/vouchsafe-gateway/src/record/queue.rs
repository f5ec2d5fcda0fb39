//! The queue between those who record and whoever writes.
//!
//! Records that somebody waits for have a limited number of places; more callers wait for one.
//! Records that nobody waits for have happened: they are always taken, up to a bound far beyond.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};
use vouchsafe_wire::audit::Draft;

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
    pub(super) draft: Draft,
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
    thread: Thread,
}

/// What the writer's thread does, as far as waking it depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// It is at work, and looks here again before it sleeps.
    Awake,
    /// The same, and it must not sleep at all.
    Roused,
    /// It sleeps for some milliseconds at most.
    Dozing,
    /// It sleeps until it is woken.
    Asleep,
}

/// What happened to records that were not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that were denied for it.
    pub(super) refused: u64,
    /// Records of what had happened that found no place.
    pub(super) lost: u64,
}

/// Whether records may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// They may.
    Open,
    /// None will, ever.
    Over,
}

pub(super) struct Queue {
    state: Mutex<State>,
    roused: Condvar,
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
            thread: Thread::Awake,
        };
        Self { state: Mutex::new(state), roused: Condvar::new(), places: Semaphore::new(places), most_notes }
    }

    /// Adds a record that somebody waits for, once there is a place. It is for the caller to see to
    /// it that it is written.
    pub(super) async fn push(&self, draft: Draft, waiter: Waiter) -> Result<(), NotRecorded> {
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => {
                self.state.lock().admit()?;
                self.places.acquire().await.map_err(|_| NotRecorded)?
            }
        };
        {
            let mut state = self.state.lock();
            // It may have broken while we waited for the place.
            state.admit()?;
            state.entries.push_back(Entry { draft, waiter: Some(waiter) });
        }
        place.forget();
        Ok(())
    }

    /// Adds a record that nobody waits for. It goes with the next group, or when the thread wakes up.
    pub(super) fn note(&self, draft: Draft) {
        let mut state = self.state.lock();
        if state.closed || state.condition == Condition::Ended {
            drop(state);
            tracing::error!("an audit record came after the end and is lost");
            return;
        }
        if !state.keep_note(self.most_notes) {
            return;
        }
        state.entries.push_back(Entry { draft, waiter: None });
        self.nudge_locked(&mut state);
    }

    /// Takes no more records; the thread ends after those that are here.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.roused.notify_one();
    }

    /// Makes the thread look within some milliseconds: something was written, or is here.
    pub(super) fn nudge(&self) {
        self.nudge_locked(&mut self.state.lock());
    }

    fn nudge_locked(&self, state: &mut State) {
        match state.thread {
            Thread::Dozing | Thread::Roused => {}
            Thread::Awake => state.thread = Thread::Roused,
            Thread::Asleep => {
                state.thread = Thread::Roused;
                self.roused.notify_one();
            }
        }
    }

    /// Makes the thread look at once.
    pub(super) fn rouse(&self) {
        let mut state = self.state.lock();
        if state.thread != Thread::Roused {
            let slept = state.thread != Thread::Awake;
            state.thread = Thread::Roused;
            if slept {
                self.roused.notify_one();
            }
        }
    }

    /// For the thread: sleeps until it is woken, or the deadline.
    pub(super) fn sleep(&self, deadline: Option<Instant>) -> Supply {
        let mut state = self.state.lock();
        if state.thread != Thread::Roused {
            state.thread = if deadline.is_some() { Thread::Dozing } else { Thread::Asleep };
        }
        while !state.closed && state.thread != Thread::Roused {
            match deadline {
                Some(deadline) => {
                    if self.roused.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
                None => self.roused.wait(&mut state),
            }
        }
        state.thread = Thread::Awake;
        if state.closed { Supply::Over } else { Supply::Open }
    }

    /// Whether records can be written at the moment, and how many wait for it.
    pub(super) fn state(&self) -> (bool, usize) {
        let state = self.state.lock();
        (state.condition == Condition::Working, state.entries.len())
    }

    /// Records that nobody waits for and that are not written yet.
    pub(super) fn kept(&self) -> usize {
        self.state.lock().notes
    }

    /// For the writer: takes up to `most` entries; whether there are more.
    pub(super) fn take(&self, group: &mut Vec<Entry>, most: usize) -> bool {
        let mut state = self.state.lock();
        let count = most.min(state.entries.len());
        group.extend(state.entries.drain(..count));
        let more = !state.entries.is_empty();
        drop(state);
        let places = group.iter().filter(|entry| entry.waiter.is_some()).count();
        if places > 0 {
            self.places.add_permits(places);
        }
        more
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
