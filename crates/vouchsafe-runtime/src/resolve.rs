//! Looks up names for upstreams, within limits.
//!
//! The system's resolver blocks a thread and can't be told to stop. A name server that doesn't answer
//! must hold a few threads only, and a name that hangs must leave turns for the others.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{MAX_RESOLVING, MAX_RESOLVING_PER_NAME};

/// Looks up names; one for a process.
#[derive(Debug)]
pub struct Resolver {
    all: Arc<Semaphore>,
    by_name: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What a look-up holds as long as its thread is blocked, also when nobody waits for it any more.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Default for Resolver {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_RESOLVING)), by_name: Mutex::default() }
    }
}

impl Resolver {
    /// Addresses of a name, in the resolver's order. Waits for its turn; the caller limits the time.
    ///
    /// # Errors
    /// The resolver's.
    pub async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.turn(name).await?;
        let name = name.to_owned();
        let looking = tokio::task::spawn_blocking(move || {
            // Port 0 stands for none; only addresses are wanted.
            let found = (name.as_str(), 0).to_socket_addrs();
            drop(turn);
            found.map(|found| found.map(|address| address.ip()).collect())
        });
        looking.await.map_err(io::Error::other)?
    }

    async fn turn(&self, name: &str) -> io::Result<Turn> {
        let of_name = self.of_name(name).acquire_owned().await.map_err(io::Error::other)?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
        Ok((of_name, of_all))
    }

    fn of_name(&self, name: &str) -> Arc<Semaphore> {
        let mut by_name = self.by_name.lock();
        if !by_name.contains_key(name) {
            // Forgets names that nobody looks up now.
            by_name.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = by_name.entry(name.to_owned());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(MAX_RESOLVING_PER_NAME))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_name_that_hangs_leaves_turns_for_others() {
        let resolver = Resolver::default();
        let mut held = Vec::new();
        for _ in 0..MAX_RESOLVING_PER_NAME {
            held.push(resolver.turn("hangs.test").await.unwrap());
        }
        assert!(now_or_never(resolver.turn("hangs.test")).is_none());
        for number in MAX_RESOLVING_PER_NAME..MAX_RESOLVING {
            held.push(now_or_never(resolver.turn(&format!("{number}.test"))).expect("a turn").unwrap());
        }
        assert!(now_or_never(resolver.turn("one-more.test")).is_none());
        drop(held);
        let _last = resolver.turn("last.test").await.unwrap();
        assert_eq!(resolver.by_name.lock().len(), 1);
    }

    #[tokio::test]
    async fn names_are_found() {
        let found = Resolver::default().look_up("localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
