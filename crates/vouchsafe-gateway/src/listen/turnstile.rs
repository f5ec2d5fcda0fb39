//! Handshakes one after the other: they are what costs a stranger least and us most.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// Lets handshakes be worked on by at most half of the processors at any moment; the other half is
/// always there for connections that are established. Who waits for bytes holds no turn.
#[derive(Debug)]
pub(crate) struct Turnstile(Arc<Semaphore>);

impl Turnstile {
    /// For that many processors.
    pub(crate) fn new(processors: usize) -> Self {
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }

    /// Runs a future, each step of it in its turn.
    pub(crate) fn pass<F: Future>(&self, future: F) -> Passing<F> {
        Passing { turns: PollSemaphore::new(Arc::clone(&self.0)), future: Box::pin(future) }
    }
}

/// A future each step of which takes a turn.
pub(crate) struct Passing<F> {
    turns: PollSemaphore,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Passing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // The semaphore is never closed; were it, everybody would pass.
        let turn = ready!(self.turns.poll_acquire(cx));
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
}
