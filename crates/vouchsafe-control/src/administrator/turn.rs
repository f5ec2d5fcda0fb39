//! Work on everybody's rights takes a core for seconds, and whoever may read the console can ask for it: so there are
//! few at a time, and the others wait.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::AdministratorError;

/// How much of it goes on at once.
const AT_ONCE: usize = 2;

/// Whose turn it is.
#[derive(Clone)]
pub(crate) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turn {
    /// Works apart from the tasks, when it is its turn. The turn is over when the work is, also when nobody waits for
    /// it any more.
    pub(super) async fn work<A: Send + 'static>(
        &self,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, AdministratorError> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(|_| AdministratorError::BrokenOff)?;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| AdministratorError::BrokenOff)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_work_and_no_more_begins() {
        let turn = Turn::default();
        let mut ends = Vec::new();
        for _ in 0..AT_ONCE {
            let (end, wait) = mpsc::channel::<()>();
            let (begin, begun) = tokio::sync::oneshot::channel();
            let work = move || {
                let _ = begin.send(());
                let _ = wait.recv();
            };
            // Who asked goes away; the work doesn't.
            tokio::select! {
                _ = turn.work(work) => panic!("it has no end yet"),
                begun = begun => begun.unwrap(),
            }
            ends.push(end);
        }
        let next = turn.work(|| 7);
        tokio::pin!(next);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err(), "it waits");
        drop(ends);
        assert_eq!(next.await.unwrap(), 7);
    }
}
