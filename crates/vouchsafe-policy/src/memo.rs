//! Decisions remembered by what they were made on.
//!
//! A memo belongs to one prepared subject, so to one epoch of its facts and one version of the
//! policies; it can't outlive either. Its keys hold what else a decision depends on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::decide::Ruling;
use crate::evaluator::Key;

/// Most bytes that one half of a subject's memo takes, keys and an estimate of the rest.
const MAX_HALF_BYTES: usize = 256 << 10;
/// What an entry takes besides its key: table, allocations, and the decision when nobody shares it.
const ENTRY_BYTES: usize = 128;

/// What one subject's requests came to. Forgets the half that was not asked for lately.
#[derive(Default)]
pub(crate) struct Memo(RwLock<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<Box<[u8]>, Arc<Ruling>>,
    young_bytes: usize,
    old: HashMap<Box<[u8]>, Arc<Ruling>>,
}

impl Memo {
    /// What was decided under this key.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Ruling>> {
        let halves = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = halves.young.get(key.as_bytes()) {
            return Some(Arc::clone(found));
        }
        let found = Arc::clone(halves.old.get(key.as_bytes())?);
        drop(halves);
        self.keep(key, Arc::clone(&found));
        Some(found)
    }

    /// Remembers a ruling. When the young half is full it becomes the old one, which is forgotten.
    pub(crate) fn keep(&self, key: &Key, ruling: Arc<Ruling>) {
        let bytes = key.as_bytes().len() + ENTRY_BYTES;
        let mut halves = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if halves.young_bytes + bytes > MAX_HALF_BYTES {
            halves.old = std::mem::take(&mut halves.young);
            halves.young_bytes = 0;
        }
        if halves.young.insert(key.as_bytes().into(), ruling).is_none() {
            halves.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use vouchsafe_model::decision::{Decision, Reason};

    use super::*;
    use crate::decide::Allowed;

    /// As long as what an entry takes besides, so that entries fill a half exactly.
    fn key(number: u64) -> Key {
        Key::of_test(number, ENTRY_BYTES)
    }

    fn ruling() -> Arc<Ruling> {
        Arc::new(Ruling { decision: Decision::denied(Reason::NoPermit, 1), allowed: Allowed::No })
    }

    fn lengths(memo: &Memo) -> (usize, usize, usize) {
        let halves = memo.0.read().expect("no panic");
        (halves.young.len(), halves.young_bytes, halves.old.len())
    }

    #[test]
    fn a_full_half_becomes_the_old_one_and_the_one_before_is_forgotten() {
        let memo = Memo::default();
        let full = u64::try_from(MAX_HALF_BYTES / (2 * ENTRY_BYTES)).expect("fits");
        (0..full).for_each(|number| memo.keep(&key(number), ruling()));
        assert_eq!(lengths(&memo), (1_024, MAX_HALF_BYTES, 0));
        memo.keep(&key(0), ruling());
        assert_eq!(lengths(&memo).0, 1, "what is kept twice also counts against a full half");
        (1..full).for_each(|number| memo.keep(&key(full + number), ruling()));
        assert_eq!(lengths(&memo), (1_024, MAX_HALF_BYTES, 1_024));
        assert!(memo.find(&key(5)).is_some(), "the old half is still known");
        assert_eq!(lengths(&memo), (1, 2 * ENTRY_BYTES, 1_024), "and what is asked for moves to the young one");
        assert!(memo.find(&key(6)).is_none() && memo.find(&key(full + 6)).is_some());
    }

    #[test]
    fn what_is_kept_again_is_counted_once_and_found_as_it_was_kept() {
        let memo = Memo::default();
        let (first, second) = (ruling(), ruling());
        memo.keep(&key(1), Arc::clone(&first));
        assert!(memo.find(&key(1)).is_some_and(|found| Arc::ptr_eq(&found, &first)));
        memo.keep(&key(1), Arc::clone(&second));
        assert!(memo.find(&key(1)).is_some_and(|found| Arc::ptr_eq(&found, &second)));
        assert_eq!(lengths(&memo), (1, 2 * ENTRY_BYTES, 0));
        assert!(memo.find(&key(2)).is_none());
    }
}
