//! Work that is worth all cores, such as reading thousands of policies.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does pieces of work side by side, on as many threads as there are cores for this process, and
/// returns when all are done. It blocks: call it from where that is allowed.
///
/// # Panics
/// When a piece of work does.
pub fn side_by_side(work: Vec<Box<dyn FnOnce() + Send + '_>>) {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(work.len());
    let work = Mutex::new(work.into_iter());
    let some = || {
        while let Some(next) = { work.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            next();
        }
    };
    thread::scope(|scope| {
        for _ in 1..cores {
            // Where no thread is to be had, this one does it all.
            let _helper = thread::Builder::new().name("side-by-side".to_owned()).spawn_scoped(scope, some);
        }
        some();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn add(sum: &AtomicUsize, each: usize) -> Box<dyn FnOnce() + Send + '_> {
        Box::new(move || {
            sum.fetch_add(each, Ordering::Relaxed);
        })
    }

    #[test]
    fn all_work_is_done_once() {
        for pieces in [0, 1, 2, 500] {
            let sum = AtomicUsize::new(0);
            side_by_side((0..pieces).map(|each| add(&sum, each)).collect());
            assert_eq!(sum.into_inner(), (0..pieces).sum::<usize>());
        }
    }

    #[test]
    fn a_panic_is_not_lost() {
        let result = thread::spawn(|| {
            let mut work: Vec<Box<dyn FnOnce() + Send>> = (0..50).map(|_| Box::new(|| {}) as _).collect();
            work.push(Box::new(|| panic!("as wanted")));
            side_by_side(work);
        });
        assert!(result.join().is_err());
    }
}
