//! Who drives a connection of HTTP/1.1: its one exchange, or a task.
//!
//! The library gives a connection as a future that writes requests and reads answers whenever it is
//! polled. While nothing but an answer moves, whoever waits for that answer polls it: a task of its own
//! would be woken for every request, wake the other one for every answer, and be a turn late each time.
//! Where a request's body moves as well, which must go on while nobody reads the answer, it gets a task,
//! and keeps it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;
use vouchsafe_runtime::task::TaskGroup;

type Work = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What drives one connection.
pub(super) enum Driver {
    /// Whoever has its exchange.
    Exchange(Work),
    /// A task.
    Task,
    /// Nothing any more.
    Over,
}

impl Driver {
    /// Of a new connection.
    pub(super) fn new(work: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        Self::Exchange(Box::pin(work))
    }

    /// From now on the connection moves by itself.
    pub(super) fn set_apart(&mut self, tasks: &TaskGroup) {
        if let Self::Exchange(work) = std::mem::replace(self, Self::Task) {
            tasks.spawn("upstream connection", async move { tell(work.await) });
        }
    }

    /// Lets the connection do what it can, and then `rest`, which waits for nothing but the connection.
    pub(super) fn poll_with<T>(&mut self, cx: &mut Context<'_>, rest: impl FnOnce(&mut Context<'_>) -> T) -> T {
        match self {
            Self::Task => rest(cx),
            Self::Exchange(_) | Self::Over => {
                self.poll(cx);
                // The connection was just polled and is again before this is asked again; to be woken
                // by it as well would only be another turn.
                rest(&mut Context::from_waker(Waker::noop()))
            }
        }
    }

    /// Looks whether anything has happened to a connection that waits, such as its end; and leaves
    /// nobody behind whom it would wake.
    pub(super) fn look(&mut self) {
        // What is looked at once needs no turn of its own in the budget of this task.
        let look = unconstrained(poll_fn(|cx| {
            self.poll(cx);
            Poll::Ready(())
        }));
        let _ = pin!(look).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::Exchange(work) = self
            && let Poll::Ready(ended) = work.as_mut().poll(cx)
        {
            *self = Self::Over;
            tell(ended);
        }
    }
}

fn tell(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "upstream connection ended");
    }
}
