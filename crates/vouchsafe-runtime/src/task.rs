//! Named tasks with an owner, and shutdown in two steps: drain, then cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// Owns the tasks of one role. Cheap to clone; all clones share one group.
#[derive(Debug, Clone, Default)]
pub struct TaskGroup {
    tracker: TaskTracker,
    drain: Signal,
    cut: Signal,
    failed: CancellationToken,
    panics: Arc<AtomicU64>,
}

/// Notes a panic that goes through it.
struct Alarm<'g>(&'g TaskGroup, &'static str);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note_panic(self.1);
        }
    }
}

pin_project! {
    /// A task of a group. Written out, since an `async` block would hold the future twice: as it was
    /// given, and as it is awaited.
    struct Supervised<F> {
        #[pin]
        future: F,
        #[pin]
        cut: Signalled,
        group: TaskGroup,
        name: &'static str,
    }
}

/// Something that happens once to a whole group.
#[derive(Debug, Clone, Default)]
struct Signal {
    token: CancellationToken,
    /// The same, to look at without a lock.
    given: Arc<AtomicBool>,
}

impl Signal {
    fn give(&self) {
        self.given.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    fn is_given(&self) -> bool {
        self.given.load(Ordering::SeqCst)
    }

    fn given(&self) -> Signalled {
        Signalled { wait: self.token.clone().cancelled_owned(), given: Arc::clone(&self.given), waker: None }
    }
}

pin_project! {
    /// Waits for a [`Signal`]. Tasks ask for it at every turn of theirs, so once it knows whom to wake,
    /// it only looks.
    struct Signalled {
        #[pin]
        wait: WaitForCancellationFutureOwned,
        given: Arc<AtomicBool>,
        waker: Option<Waker>,
    }
}

impl Future for Signalled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let is_known = this.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if is_known && !this.given.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        if this.wait.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !is_known {
            *this.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Future for Supervised<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let _alarm = Alarm(this.group, this.name);
        if this.future.poll(cx).is_ready() {
            tracing::trace!(task = this.name, "task ended");
            return Poll::Ready(());
        }
        ready!(this.cut.poll(cx));
        tracing::debug!(task = this.name, "task was cut");
        Poll::Ready(())
    }
}

impl TaskGroup {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task until it ends or the group is cut. Its end is nobody's concern: use it for work
    /// that comes and goes, such as connections.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = self.cut.given();
        self.tracker.spawn(Supervised { future, cut, group: self.clone(), name });
    }

    /// Runs a task that must live as long as the role: its end before the drain fails the group
    /// ([`TaskGroup::failed`]), and the role stops.
    pub fn spawn_vital<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (drain, failed) = (self.drain.clone(), self.failed.clone());
        self.spawn(name, async move {
            // Dropped on the way out of a panic as well, which is an unexpected end too.
            let guard = failed.drop_guard();
            future.await;
            if drain.is_given() {
                guard.disarm();
            } else {
                tracing::error!(task = name, "a task that must not end has ended");
            }
        });
    }

    /// Notes that something of this name panicked. It is a mistake of ours that ended that alone:
    /// counted, and told of at once.
    pub fn note_panic(&self, name: &'static str) {
        let panics = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(name, panics, "a panic ended this work; please report it");
    }

    /// How many panics there were.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Resolves when the group should stop accepting work.
    pub async fn draining(&self) {
        self.drain.given().await;
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_given()
    }

    /// Resolves when a vital task ended unexpectedly.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Whether a vital task ended unexpectedly.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Stops accepting, waits for open work until the deadline, then cuts what is left.
    /// Returns whether all work ended by itself.
    pub async fn shut_down(&self, deadline: Duration) -> Drained {
        self.drain.give();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return Drained::Completely;
        }
        self.cut.give();
        self.tracker.wait().await;
        Drained::ByCutting
    }
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All open work ended by itself.
    Completely,
    /// Some work was cut at the deadline.
    ByCutting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_may_end_during_the_drain_and_is_cut_after_it() {
        let group = TaskGroup::new();
        group.spawn("short", tokio::time::sleep(Duration::from_secs(1)));
        assert_eq!(group.shut_down(Duration::from_secs(5)).await, Drained::Completely);
        let group = TaskGroup::new();
        group.spawn("endless", std::future::pending());
        assert_eq!(group.shut_down(Duration::from_secs(5)).await, Drained::ByCutting);
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_and_is_counted() {
        let group = TaskGroup::new();
        let (send, receive) = tokio::sync::oneshot::channel();
        group.spawn("broken", async { panic!("as a mistake would") });
        group.spawn("whole", async move {
            let _ = send.send(());
        });
        receive.await.unwrap();
        group.shut_down(Duration::from_secs(5)).await;
        assert_eq!(group.panics(), 1);
    }

    #[tokio::test]
    async fn the_end_of_a_vital_task_fails_the_group() {
        let group = TaskGroup::new();
        group.spawn_vital("vital", async {});
        group.failed().await;
    }
}
