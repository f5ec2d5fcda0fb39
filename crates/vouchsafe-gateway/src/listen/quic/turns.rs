//! Drivers of QUIC connections, which take turns until their handshake is over.
//!
//! The library does all of a connection's work in a task of its own, handshake and requests alike, and
//! the first packet's where the connection is accepted. So both pass the turnstile of all handshakes,
//! and the task does so until the handshake is over ([decision 0010](../../../../../docs/decisions/0010-floods-and-sandbox.md)).

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Connecting, ConnectionError, Incoming, Runtime, TokioRuntime};

use crate::listen::turnstile::Turnstile;

thread_local! {
    /// Says when the handshake is over of the connection that is being accepted on this thread.
    static ACCEPTING: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// A connection under way.
pub(super) struct Arriving {
    pub(super) connecting: Connecting,
    over: Arc<AtomicBool>,
}

impl Arriving {
    /// Accepts it, in its turn.
    pub(super) async fn accept(turnstile: &Turnstile, incoming: Incoming) -> Result<Self, ConnectionError> {
        let over = Arc::<AtomicBool>::default();
        let for_driver = Arc::clone(&over);
        let accepting = async move {
            // The library starts the driver within this call.
            ACCEPTING.set(Some(for_driver));
            let accepted = incoming.accept();
            ACCEPTING.set(None);
            accepted
        };
        Ok(Self { connecting: turnstile.pass(accepting).await?, over })
    }

    /// Waits until the handshake is over; from then on the driver takes no more turns.
    pub(super) async fn arrive(self) -> Result<quinn::Connection, ConnectionError> {
        let arrived = self.connecting.await;
        self.over.store(true, Ordering::Relaxed);
        arrived
    }
}

/// The library's runtime, with turns for drivers of connections that arrive.
#[derive(Debug)]
pub(super) struct InTurn(pub(super) Turnstile);

impl Runtime for InTurn {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        match ACCEPTING.take() {
            Some(over) => TokioRuntime.spawn(Box::pin(self.0.pass_until(over, future))),
            None => TokioRuntime.spawn(future),
        }
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_starts_while_a_connection_is_accepted_waits_for_its_turn() {
        let turnstile = Turnstile::new(1);
        let runtime = InTurn(turnstile.clone());
        let started = |runtime: &InTurn| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            runtime.spawn(Box::pin(async move {
                let _ = sender.send(());
            }));
            receiver
        };
        let taken = turnstile.take_one().await;
        // The endpoint's own task is no connection's.
        started(&runtime).await.unwrap();
        ACCEPTING.set(Some(Arc::default()));
        let mut arriving = started(&runtime);
        assert!(ACCEPTING.take().is_none(), "one connection, one driver");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(arriving.try_recv().is_err(), "the one turn is taken");
        drop(taken);
        arriving.await.unwrap();
    }
}
