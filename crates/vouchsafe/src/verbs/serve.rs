//! Serving until the process is told to stop, as `up`, `controller` and `gateway` do.

use tokio::signal::unix::{Signal, SignalKind, signal};
use vouchsafe_runtime::limits::DRAIN_TIMEOUT;
use vouchsafe_runtime::task::{Drained, TaskGroup};

use crate::call::Call;
use crate::error::VerbError;

/// Signals, caught before anything is started, so that none is missed.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn catch() -> Result<Self, VerbError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves when the process is told to stop: true when the role failed.
    pub(crate) async fn stopped(&mut self, tasks: &TaskGroup, on_hangup: impl Fn()) -> bool {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return false,
                _ = self.interrupt.recv() => return false,
                () = tasks.failed() => return true,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }

    /// Serves until the process is told to stop, then drains.
    ///
    /// # Errors
    /// [`VerbError`] when a part of the role ended unexpectedly.
    pub(crate) async fn serve(mut self, tasks: &TaskGroup, call: &Call, on_hangup: impl Fn()) -> Result<(), VerbError> {
        let failed = self.stopped(tasks, on_hangup).await;
        call.out.note("stopping: no new connections, open ones may finish");
        if tasks.shut_down(DRAIN_TIMEOUT).await == Drained::ByCutting {
            call.out.note("stopped; connections that were still open have been cut");
        }
        ended(failed)
    }
}

/// What it means that the role stopped.
///
/// # Errors
/// [`VerbError`] when it failed.
pub(crate) fn ended(failed: bool) -> Result<(), VerbError> {
    if !failed {
        return Ok(());
    }
    Err(VerbError::failed("a part of the process ended unexpectedly, so all of it stopped")
        .hint("the log above says which; start it again, and report it if it happens twice"))
}
