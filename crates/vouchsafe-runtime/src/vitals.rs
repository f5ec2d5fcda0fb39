//! What a role shows of itself to those who run it: figures for Prometheus, and whether it can do its work.
//!
//! - `page`: figures in Prometheus' text format; [`Histogram`], the one figure that needs more than a number
//! - `serve`: the listener, on loopback or a Unix socket
//!
//! Whoever works counts in plain atomics, or not at all: what can be read from its state is read when somebody
//! asks. No label comes from a request, so there are as many figures as are written down here.

mod histogram;
mod page;
mod serve;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use vouchsafe_wire::health::{Check, Health, Note};

pub use self::histogram::Histogram;
pub use self::page::Page;
pub use self::serve::{ListenError, Where};
use crate::clock;
use crate::internal::BoxFuture;
use crate::task::TaskGroup;

/// Longest wait for the checks of one part; a part that can't even say how it is isn't ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// A part of the process that shows how it is.
pub trait Vitals: Send + Sync + 'static {
    /// Writes its figures.
    ///
    /// # Errors
    /// What the page gives.
    fn figures(&self, page: &mut Page<'_>) -> fmt::Result;

    /// What else whoever runs it may want to know, in words.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// What must hold so that it can do its work.
    fn checks(&self) -> BoxFuture<'_, Vec<Check>>;
}

/// All parts of one process. Cheap to clone.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    role: &'static str,
    version: &'static str,
    started_unix_seconds: u64,
    tasks: TaskGroup,
    /// All of its parts are here and serve.
    complete: AtomicBool,
    parts: RwLock<Vec<Arc<dyn Vitals>>>,
}

impl Board {
    /// The board of a process that starts as `role`, and does its work in `tasks`.
    #[must_use]
    pub fn new(role: &'static str, version: &'static str, tasks: TaskGroup) -> Self {
        Self(Arc::new(Inner {
            role,
            version,
            started_unix_seconds: clock::unix_seconds(clock::now()),
            tasks,
            complete: AtomicBool::new(false),
            parts: RwLock::default(),
        }))
    }

    /// Adds a part.
    pub fn add(&self, part: Arc<dyn Vitals>) {
        self.0.parts.write().push(part);
    }

    /// Notes that every part is added and serves.
    pub fn complete(&self) {
        self.0.complete.store(true, Ordering::Release);
    }

    /// Whether the process should go on at all. One that is not alive is to be started anew.
    fn is_alive(&self) -> bool {
        !self.0.tasks.has_failed()
    }

    /// How it is.
    pub async fn health(&self) -> Health {
        let mut checks = vec![self.course()];
        for part in self.parts() {
            match tokio::time::timeout(PATIENCE, part.checks()).await {
                Ok(found) => checks.extend(found),
                Err(_) => checks.push(Check::fails(
                    "answer",
                    format!("a part of the process said nothing for {PATIENCE:?}"),
                    "look at its log; if it stays so, start it anew",
                )),
            }
        }
        let ready = checks.iter().all(|check| check.holds);
        let notes = self.parts().iter().flat_map(|part| part.notes()).collect();
        Health { ready, role: self.0.role.to_owned(), version: self.0.version.to_owned(), checks, notes }
    }

    fn course(&self) -> Check {
        let name = "serving";
        if !self.is_alive() {
            Check::fails(name, "a part of it ended unexpectedly", "look at its log, and start it anew")
        } else if self.0.tasks.is_draining() {
            Check::fails(name, "it is stopping: no new work is taken on", "send work elsewhere")
        } else if self.0.complete.load(Ordering::Acquire) {
            Check::holds(name, "all listeners are open")
        } else {
            Check::fails(name, "it is starting", "wait; if it stays so, the other checks and the log say why")
        }
    }

    fn parts(&self) -> Vec<Arc<dyn Vitals>> {
        self.0.parts.read().clone()
    }

    /// All figures, as text.
    async fn page(&self) -> Result<String, fmt::Error> {
        let health = self.health().await;
        let (board, parts) = (self.clone(), self.parts());
        page::text(move |page| {
            page.info("vouchsafe_build", "What runs here", [("version", board.0.version), ("role", board.0.role)])?;
            page.gauge(
                "vouchsafe_start_time_seconds",
                "When the process began, in seconds since 1970",
                board.0.started_unix_seconds,
            )?;
            page.counter("vouchsafe_panics", "Mistakes of ours that ended some work", board.0.tasks.panics())?;
            page.gauge("vouchsafe_ready", "1 when all checks hold, as /readyz says", u64::from(health.ready))?;
            let checks = health.checks.iter().map(|check| ([("check", check.name.as_str())], u64::from(check.holds)));
            page.gauges("vouchsafe_check", "1 for each check of /readyz that holds", checks)?;
            parts.iter().try_for_each(|part| part.figures(page))
        })
    }
}

#[cfg(test)]
mod tests;
