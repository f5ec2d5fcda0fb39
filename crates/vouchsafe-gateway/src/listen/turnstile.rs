//! Handshakes one after the other: they are what costs a stranger least and us most.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// Lets handshakes be worked on by at most half of the processors at any moment; the other half is
/// always there for connections that are established. Who waits for bytes holds no turn.
#[derive(Debug, Clone)]
pub(crate) struct Turnstile(Arc<Semaphore>);

impl Turnstile {
    /// For that many processors.
    pub(crate) fn new(processors: usize) -> Self {
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }

    /// Takes a turn, which ends when this is dropped.
    #[cfg(test)]
    pub(crate) async fn take_one(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// Runs a future, each step of it in its turn.
    pub(crate) fn pass<F: Future>(&self, future: F) -> Passing<F> {
        let turns = Some(PollSemaphore::new(Arc::clone(&self.0)));
        Passing { turns, over: None, future: Box::pin(future) }
    }

    /// The same, until somebody says that the handshake is over.
    pub(crate) fn pass_until<F: Future>(&self, over: Arc<AtomicBool>, future: F) -> Passing<F> {
        Passing { over: Some(over), ..self.pass(future) }
    }
}

/// A future each step of which takes a turn.
pub(crate) struct Passing<F> {
    /// None: no more turns are taken.
    turns: Option<PollSemaphore>,
    over: Option<Arc<AtomicBool>>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Passing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed)) {
            // Dropped, so that a turn that was waited for goes to somebody else.
            self.turns = None;
        }
        // The semaphore is never closed; were it, everybody would pass.
        let turn = match &mut self.turns {
            Some(turns) => ready!(turns.poll_acquire(cx)),
            None => None,
        };
        let polled = self.future.as_mut().poll(cx);
        drop(turn);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_holds_no_turn() {
        let turnstile = Turnstile::new(1);
        let (send, receive) = tokio::sync::oneshot::channel();
        let waiting = turnstile.pass(receive);
        let other = turnstile.pass(async move { send.send(7) });
        let (received, sent) = tokio::join!(waiting, other);
        assert_eq!((received, sent), (Ok(7), Ok(())));
    }

    #[tokio::test]
    async fn whose_handshake_is_over_takes_no_turn_and_leaves_none_behind() {
        let turnstile = Turnstile::new(1);
        let taken = turnstile.take_one().await;
        let over = Arc::<AtomicBool>::default();
        let (arriving, arrived) = (turnstile.pass(async {}), turnstile.pass_until(Arc::clone(&over), async {}));
        let (mut arriving, mut arrived) = (polled(arriving), polled(arrived));
        assert!(arriving().is_pending() && arrived().is_pending(), "the one turn is taken");
        over.store(true, Ordering::Relaxed);
        assert!(arriving().is_pending() && arrived().is_ready());
        drop((taken, arrived));
        assert!(arriving().is_ready(), "the turn that was waited for is free again");
    }

    /// Polls a future that does not care who wakes it.
    fn polled<F: Future + Unpin>(mut future: F) -> impl FnMut() -> Poll<F::Output> {
        move || Pin::new(&mut future).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
