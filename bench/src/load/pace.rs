//! When the next request is due.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::Failure;

/// How fast to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Closed,
    /// So many a second, whatever comes back.
    PerSecond(u32),
}

/// The right to one request.
pub(super) struct Ticket {
    /// Since when it should have been made.
    pub(super) due: Instant,
}

/// Shared by all connections of a run.
#[derive(Clone)]
pub(crate) struct Schedule {
    begun: Instant,
    length: Duration,
    open: Option<Arc<Open>>,
}

struct Open {
    interval: Duration,
    due: Semaphore,
    taken: AtomicU32,
}

impl Schedule {
    pub(super) fn begin(pace: Pace, length: Duration) -> Result<Self, Failure> {
        let open = match pace {
            Pace::Closed => None,
            Pace::PerSecond(rate) => {
                let interval = Duration::from_secs(1) / rate;
                Some(Arc::new(Open { interval, due: Semaphore::new(0), taken: AtomicU32::new(0) }))
            }
        };
        let schedule = Self { begun: Instant::now(), length, open };
        if let Some(open) = &schedule.open {
            let (open, begun) = (Arc::clone(open), schedule.begun);
            std::thread::Builder::new().name("pace".into()).spawn(move || {
                wake_in_time();
                issue(&open, begun, length);
            })?;
        }
        Ok(schedule)
    }

    /// Waits for the next request that is due; `None` when the run is over.
    pub(super) async fn next(&self) -> Option<Ticket> {
        match &self.open {
            None => {
                let now = Instant::now();
                (now.duration_since(self.begun) < self.length).then_some(Ticket { due: now })
            }
            Some(open) => {
                open.due.acquire().await.ok()?.forget();
                let number = open.taken.fetch_add(1, Ordering::Relaxed);
                Some(Ticket { due: self.begun + open.interval * (number + 1) })
            }
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Lets as many requests be made as are due, then no more. On a thread of its own: the runtime's timers
/// are too coarse by far.
fn issue(open: &Open, begun: Instant, length: Duration) {
    let mut issued = 0;
    while begun.elapsed() < length {
        let due = begun.elapsed().as_nanos() / open.interval.as_nanos().max(1);
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        open.due.add_permits(due - issued);
        issued = due;
        std::thread::park_timeout(open.interval);
    }
    // What is due is still made.
    while open.due.available_permits() > 0 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    open.due.close();
}

/// By how much the system may be late for this thread: as little as it can.
fn wake_in_time() {
    // Without it a sleep is some fifty microseconds longer, for all contenders alike.
    let Ok(own) = fs::read_link("/proc/thread-self") else { return };
    if let Some(thread) = own.file_name() {
        let _ = fs::write(Path::new("/proc").join(thread).join("timerslack_ns"), "1");
    }
}
