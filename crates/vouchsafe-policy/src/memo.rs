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
