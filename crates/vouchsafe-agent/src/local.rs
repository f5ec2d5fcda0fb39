//! Listeners that serve this user alone.
//!
//! A local listener turns anybody who can connect to it into the signed-in user on this device. So
//! it binds loopback addresses only, and on each connection the kernel is asked who the peer is:
//! a process of another user on the same machine is closed the door before a byte is read.

pub(crate) mod peer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Failure to listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not a loopback one.
    #[error("`{address}` can be reached from other machines, which would then act as you")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address can't be bound.
    #[error("can't listen on `{address}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// A loopback listener for processes of this user.
#[derive(Debug)]
pub struct LocalListener {
    listener: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
}

/// A connection of this user, and its place among those that may be open.
pub struct LocalStream {
    /// The connection.
    pub stream: TcpStream,
    /// Given back when dropped.
    pub place: OwnedSemaphorePermit,
}

impl LocalListener {
    /// Listens on a loopback address for at most `connections` at a time; more wait in the backlog.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: SocketAddr, connections: usize) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback { address });
        }
        let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { listener, address, places: Arc::new(Semaphore::new(connections)) })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection of this user. Never fails: what can't be accepted is logged.
    pub async fn accept(&self) -> LocalStream {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                // INVARIANT: the semaphore is never closed.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => match peer::of_this_user(from, self.address) {
                    Ok(()) => {
                        drop(stream.set_nodelay(true));
                        return LocalStream { stream, place };
                    }
                    Err(error) => {
                        tracing::warn!(%error, "refused a local connection");
                        reset(&stream);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "can't accept local connections");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Makes the end of a connection a reset, which no client takes for an empty answer.
pub(crate) fn reset(stream: &TcpStream) {
    drop(stream.set_zero_linger());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a295_never_listens_where_others_can_come_from() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = LocalListener::bind(address.parse().unwrap(), 1).await.unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback { .. }), "{address}");
        }
    }

    #[tokio::test]
    async fn own_processes_are_let_in_and_no_more_than_may_be() {
        let listener = LocalListener::bind("127.0.0.1:0".parse().unwrap(), 1).await.unwrap();
        let _one = TcpStream::connect(listener.address()).await.unwrap();
        let _two = TcpStream::connect(listener.address()).await.unwrap();
        let first = listener.accept().await;
        assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
        drop(first);
        listener.accept().await;
    }
}
