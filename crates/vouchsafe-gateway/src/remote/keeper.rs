//! Keeps on disk how far the gateway has come, apart from the control channel: a disk that is slow must hold up no news.
//!
//! So a snapshot can be in force a moment before its number is kept. Only who loses that moment, in a power cut, could be
//! given a snapshot again that is older by as much; it would still be the controller's word, and deltas follow it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use vouchsafe_runtime::task::TaskGroup;

use super::follow::Seen;
use super::state::{State, StateError};

/// What is to be kept; of several, the newest.
#[derive(Default)]
struct Wanted {
    seen: Option<Seen>,
    checkpoints: Option<Vec<Bytes>>,
}

/// Handle to the keeping.
pub(super) struct Keeper {
    wanted: Mutex<Wanted>,
    told: Notify,
}

impl Keeper {
    /// Starts it; what was handed over before the gateway drains is kept before it ends.
    pub(super) fn start(state: Arc<State>, tasks: &TaskGroup) -> Arc<Self> {
        let keeper = Arc::new(Self { wanted: Mutex::default(), told: Notify::new() });
        tasks.spawn_vital("gateway state", Arc::clone(&keeper).run(state, tasks.clone()));
        keeper
    }

    pub(super) fn seen(&self, seen: Seen) {
        self.wanted.lock().seen = Some(seen);
        self.told.notify_one();
    }

    pub(super) fn checkpoints(&self, notes: Vec<Bytes>) {
        self.wanted.lock().checkpoints = Some(notes);
        self.told.notify_one();
    }

    async fn run(self: Arc<Self>, state: Arc<State>, tasks: TaskGroup) {
        loop {
            let ends = tokio::select! {
                () = self.told.notified() => false,
                () = tasks.draining() => true,
            };
            let Wanted { seen, checkpoints } = std::mem::take(&mut *self.wanted.lock());
            let state = Arc::clone(&state);
            let kept = tokio::task::spawn_blocking(move || {
                if let Some(seen) = seen {
                    complain(state.keep_seen(&seen), "the number of the newest snapshot can't be kept");
                }
                if let Some(notes) = checkpoints {
                    complain(state.keep_checkpoints(&notes), "the newest checkpoint of the audit log can't be kept");
                }
            });
            if kept.await.is_err() || ends {
                return;
            }
        }
    }
}

fn complain(kept: Result<(), StateError>, words: &str) {
    if let Err(error) = kept {
        tracing::error!(error = &error as &dyn std::error::Error, "{words}");
    }
}
