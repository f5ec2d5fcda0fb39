//! Work on many policies at once. This crate knows no threads, so the caller lends them.

use std::sync::{Mutex, PoisonError};

/// A piece of work that needs nothing of another.
pub type Work<'w> = Box<dyn FnOnce() + Send + 'w>;

/// Does pieces of work, side by side where there are cores for it, and returns when all are done.
pub type Spread<'s> = &'s (dyn for<'w> Fn(Vec<Work<'w>>) + Sync);

/// Pieces that work is cut into: enough for many cores to share, few enough to cost nothing.
const PIECES: usize = 32;
/// What isn't worth to be cut.
const FEW: usize = 1;

/// Does one piece of work after the other.
pub fn in_turn(work: Vec<Work<'_>>) {
    work.into_iter().for_each(|each| each());
}

/// What each item comes to, in order. `None` when not all the work was done.
pub(crate) fn map<T: Send, R: Send>(spread: Spread<'_>, items: Vec<T>, each: impl Fn(T) -> R + Sync) -> Option<Vec<R>> {
    let count = items.len();
    if count <= FEW {
        return Some(items.into_iter().map(each).collect());
    }
    let size = count.div_ceil(PIECES);
    let mut left = items.into_iter();
    let mut slots: Vec<(Vec<T>, Mutex<Vec<R>>)> = Vec::new();
    while left.len() > 0 {
        slots.push((left.by_ref().take(size).collect(), Mutex::default()));
    }
    let mut work: Vec<Work<'_>> = Vec::new();
    for (items, done) in &mut slots {
        let (items, done, each) = (std::mem::take(items), &*done, &each);
        work.push(Box::new(move || {
            let results = items.into_iter().map(each).collect();
            *done.lock().unwrap_or_else(PoisonError::into_inner) = results;
        }));
    }
    spread(work);
    let done = slots.into_iter().flat_map(|(_, done)| done.into_inner().unwrap_or_else(PoisonError::into_inner));
    let done: Vec<R> = done.collect();
    (done.len() == count).then_some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items_however_the_work_is_done() {
        let backwards: Spread<'_> = &|mut work: Vec<Work<'_>>| {
            work.reverse();
            in_turn(work);
        };
        for count in [0, 1, FEW, FEW + 1, 1_000, 1_001] {
            let items: Vec<usize> = (0..count).collect();
            let meant: Vec<usize> = (0..count).map(|each| each * 3).collect();
            for spread in [&in_turn as Spread<'_>, backwards] {
                assert_eq!(map(spread, items.clone(), |each| each * 3), Some(meant.clone()));
            }
        }
    }

    #[test]
    fn work_that_was_not_done_is_missed() {
        let lazy: Spread<'_> = &|mut work: Vec<Work<'_>>| {
            work.pop();
            in_turn(work);
        };
        assert_eq!(map(lazy, (0..1_000).collect(), |each: usize| each), None);
    }
}
