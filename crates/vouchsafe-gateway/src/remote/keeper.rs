//! Keeps on disk how far the gateway has come, apart from the control channel: a disk that is slow must hold up no news.
//!
//! So a snapshot can be in force before its number is kept: for a moment, or for as long as the disk hangs or fails. Whoever
//! loses what wasn't kept, by a kill or a power cut, could be given a snapshot again that is older by as much.

use std::sync::Arc;
use std::time::Duration;

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
    /// Nothing more comes.
    ends: bool,
}

/// Handle to the keeping. What was handed over before the last of it goes is kept before the task ends.
pub(super) struct Keeper(Arc<Shared>);

struct Shared {
    wanted: Mutex<Wanted>,
    told: Notify,
}

/// How long it waits after a failure.
const AGAIN: Duration = Duration::from_secs(1);

impl Keeper {
    /// Starts it.
    pub(super) fn start(state: Arc<State>, tasks: &TaskGroup) -> Self {
        let shared = Arc::new(Shared { wanted: Mutex::default(), told: Notify::new() });
        tasks.spawn_vital("gateway state", Arc::clone(&shared).run(state));
        Self(shared)
    }

    pub(super) fn seen(&self, seen: Seen) {
        self.0.wanted.lock().seen = Some(seen);
        self.0.told.notify_one();
    }

    pub(super) fn checkpoints(&self, notes: Vec<Bytes>) {
        self.0.wanted.lock().checkpoints = Some(notes);
        self.0.told.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.wanted.lock().ends = true;
        self.0.told.notify_one();
    }
}

impl Shared {
    async fn run(self: Arc<Self>, state: Arc<State>) {
        loop {
            self.told.notified().await;
            let Wanted { seen, checkpoints, ends } = std::mem::take(&mut *self.wanted.lock());
            let state = Arc::clone(&state);
            let kept = tokio::task::spawn_blocking(move || {
                let seen = seen
                    .filter(|seen| failed(state.keep_seen(seen), "the number of the newest snapshot can't be kept"));
                let checkpoints = checkpoints.filter(|notes| {
                    failed(state.keep_checkpoints(notes), "the newest checkpoint of the audit log can't be kept")
                });
                (seen, checkpoints)
            });
            let Ok((seen, checkpoints)) = kept.await else { return };
            if ends {
                return;
            }
            if seen.is_some() || checkpoints.is_some() {
                // It is tried again, unless something newer came.
                {
                    let mut wanted = self.wanted.lock();
                    wanted.seen = wanted.seen.take().or(seen);
                    wanted.checkpoints = wanted.checkpoints.take().or(checkpoints);
                }
                tokio::time::sleep(AGAIN).await;
                self.told.notify_one();
            }
        }
    }
}

/// Whether it failed, which is told.
fn failed(kept: Result<(), StateError>, words: &str) -> bool {
    kept.inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "{words}")).is_err()
}
