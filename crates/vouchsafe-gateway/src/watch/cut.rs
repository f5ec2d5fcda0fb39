//! The end that can come to a flow at any time: access ended, or nothing moved for too long.
//!
//! Every exchange has one, so it costs no allocation of its own and no timer: bodies leave a waker,
//! and one task looks at all flows every second for those that are silent.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use vouchsafe_model::decision::Reason;

/// Why a flow must end at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is no longer permitted.
    Revoked(Reason),
    /// Nothing moved for that long.
    Silent(Duration),
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the upstream.
    Inward,
    /// From the upstream to the client.
    Outward,
}

/// Fires once, for everybody who waits on it: the two bodies of the flow, and any task.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    ended: OnceLock<Ended>,
    tasks: Notify,
    inward: AtomicWaker,
    outward: AtomicWaker,
    /// The answer is over, so what is left of the request body is not wanted any more.
    upload_over: AtomicBool,
    /// Longest silence, in milliseconds; 0 is for ever.
    patience: AtomicU64,
}

impl Cut {
    /// Ends the flow. The first reason stays.
    pub(crate) fn end(&self, why: Ended) {
        if self.ended.set(why).is_ok() {
            self.tasks.notify_waiters();
            self.inward.wake();
            self.outward.wake();
        }
    }

    /// Why it ended, once it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }

    /// Resolves when the flow must end. Any number of tasks may wait.
    pub(crate) async fn cancelled(&self) -> Ended {
        loop {
            let mut notified = std::pin::pin!(self.tasks.notified());
            // Counted as waiting before the look at the state, so that no end falls in between.
            notified.as_mut().enable();
            if let Some(ended) = self.ended() {
                return ended;
            }
            notified.await;
        }
    }

    /// Leaves the waker of a body that is polled. Each way has one body, so one waker.
    pub(crate) fn watch(&self, way: Way, cx: &Context<'_>) {
        match way {
            Way::Inward => self.inward.register(cx.waker()),
            Way::Outward => self.outward.register(cx.waker()),
        }
    }

    /// The answer is over: the upload ends where it is.
    pub(crate) fn end_upload(&self) {
        self.upload_over.store(true, Ordering::Release);
        self.inward.wake();
    }

    /// Whether the upload is not wanted any more.
    pub(crate) fn is_upload_over(&self) -> bool {
        self.upload_over.load(Ordering::Acquire)
    }

    /// From now on the flow may be silent for that long.
    pub(crate) fn expect_within(&self, patience: Duration) {
        self.patience.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long the flow may be silent; `None` is for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.patience.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn everybody_who_waits_is_told_and_the_first_reason_stays() {
        let cut = Arc::new(Cut::default());
        let (one, other) = (Arc::clone(&cut), Arc::clone(&cut));
        let ender = async {
            tokio::task::yield_now().await;
            cut.end(Ended::Silent(Duration::from_secs(1)));
            cut.end(Ended::Revoked(Reason::SessionEnded));
        };
        let (first, second, ()) = tokio::join!(one.cancelled(), other.cancelled(), ender);
        assert_eq!((first, second), (Ended::Silent(Duration::from_secs(1)), Ended::Silent(Duration::from_secs(1))));
        assert_eq!(cut.cancelled().await, first, "also who comes late");
    }
}
