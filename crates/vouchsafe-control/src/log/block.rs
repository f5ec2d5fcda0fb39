//! What is known of a block of neighbouring records without reading them, so that a search can
//! pass it over: its times, its sources, and a Bloom filter of the values in it.
//!
//! Blocks of a closed segment stand in an index file beside it. It holds nothing that the segment
//! does not say, and is made again when it is missing or damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vouchsafe_wire::audit::Scanned;

use super::summed;

/// Records from which on a block is closed, at the end of a group.
const BLOCK_RECORDS: u32 = 1_024;
/// Bits of the filter for each value; with six probes one in a thousand blocks is read in vain.
const BITS_PER_VALUE: usize = 12;
/// Places of the filter that each value sets.
const PROBES: u64 = 6;

/// A member that is searched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Device,
    Flow,
    Id,
    Kind,
    Outcome,
    Reason,
    Resource,
    Session,
    User,
    // Behind the others, since the place goes into the hashes of blocks that are closed.
    Passed,
}

impl Field {
    /// How many there are.
    const COUNT: usize = 10;

    /// Every field, with its value in a record.
    pub(super) fn values<'b>(record: &Scanned<'b>) -> [(Field, Option<&'b [u8]>); Self::COUNT] {
        let Scanned { device, flow, id, kind, outcome, passed, reason, resource, session, user, .. } = *record;
        [
            (Field::Device, device),
            (Field::Flow, flow),
            (Field::Id, id),
            (Field::Kind, Some(kind)),
            (Field::Outcome, outcome),
            (Field::Reason, reason),
            (Field::Resource, resource),
            (Field::Session, session),
            (Field::User, user),
            (Field::Passed, passed),
        ]
    }

    pub(super) fn of<'b>(self, record: &Scanned<'b>) -> Option<&'b [u8]> {
        let values = Self::values(record);
        values.into_iter().find(|(field, _)| *field == self).and_then(|(_, value)| value)
    }

    /// Hash of a value of this field, canonical form. Only blocks that are passed over depend on
    /// it: a collision costs time, never a record.
    pub(super) fn hash(self, value: &[u8]) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |hash: u64, word: u64| {
            let product = (hash ^ word).wrapping_mul(FACTOR);
            product ^ (product >> 32)
        };
        let (eights, rest) = value.as_chunks::<8>();
        let start = mix(self as u64 + 1, value.len() as u64);
        let hash = eights.iter().fold(start, |hash, eight| mix(hash, u64::from_le_bytes(*eight)));
        let tail = rest.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        mix(mix(hash, tail), FACTOR)
    }
}

/// A closed block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// Position of its first record.
    pub(super) first: u64,
    /// How many records it has.
    pub(super) count: u64,
    /// Where its first group begins in the segment.
    pub(super) start: u64,
    /// Where its last group ends.
    pub(super) end: u64,
    /// Earliest and latest time of a record, unix microseconds.
    pub(super) times: (u64, u64),
    /// Lowest and highest number of each source.
    pub(super) sources: BTreeMap<String, (u64, u64)>,
    filter: Filter,
}

impl Block {
    /// Whether a record with this value can be in it.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.filter.may_hold(hash)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Filter(Vec<u64>);

impl Filter {
    fn new(hashes: &mut Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        let words = (hashes.len() * BITS_PER_VALUE).div_ceil(64).next_power_of_two();
        let mut filter = Self(vec![0; words]);
        for hash in hashes {
            for (word, bit) in filter.places(*hash) {
                if let Some(word) = filter.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        filter
    }

    fn may_hold(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.0.get(word).is_none_or(|word| word & bit != 0))
    }

    /// Word and bit of each probe.
    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        // A power of two, at least one.
        let mask = (self.0.len() as u64 * 64).wrapping_sub(1);
        let step = (hash >> 32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(step.wrapping_mul(probe)) & mask;
            (usize::try_from(bit / 64).unwrap_or(usize::MAX), 1 << (bit % 64))
        })
    }
}

/// The block that is being filled.
#[derive(Debug, Clone)]
pub(super) struct OpenBlock {
    pub(super) first: u64,
    pub(super) start: u64,
    count: u32,
    times: (u64, u64),
    sources: BTreeMap<String, (u64, u64)>,
    hashes: Vec<u64>,
    /// Last hash of each field: most values are those of the record before.
    last: [u64; Field::COUNT],
}

impl OpenBlock {
    pub(super) fn new(first: u64, start: u64) -> Self {
        let times = (u64::MAX, 0);
        Self { first, start, count: 0, times, sources: BTreeMap::new(), hashes: Vec::new(), last: [0; Field::COUNT] }
    }

    /// Adds one record of a source.
    pub(super) fn add(&mut self, source: &str, record: &Scanned<'_>) {
        self.count += 1;
        self.times = (self.times.0.min(record.time_us), self.times.1.max(record.time_us));
        match self.sources.get_mut(source) {
            Some((_, high)) => *high = record.seq,
            None => drop(self.sources.insert(source.to_owned(), (record.seq, record.seq))),
        }
        for ((field, value), last) in Field::values(record).into_iter().zip(&mut self.last) {
            if let Some(value) = value {
                let hash = field.hash(value);
                if hash != *last {
                    *last = hash;
                    self.hashes.push(hash);
                }
            }
        }
    }

    /// Closes it when it is large enough or `last` of its segment; `end` is where its last group ends.
    pub(super) fn close(&mut self, end: u64, last: bool) -> Option<Arc<Block>> {
        if self.count == 0 || (self.count < BLOCK_RECORDS && !last) {
            return None;
        }
        let next = Self::new(self.first + u64::from(self.count), end);
        let Self { first, start, count, times, sources, mut hashes, .. } = std::mem::replace(self, next);
        let filter = Filter::new(&mut hashes);
        Some(Arc::new(Block { first, count: u64::from(count), start, end, times, sources, filter }))
    }
}

/// Format of index files. Version 1 did not always have what stands behind `user` in [`Field::values`].
const VERSION: u8 = 2;

/// The index file of a closed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    v: u8,
    /// Position behind its last record.
    pub(super) next: u64,
    /// Where its last group ends.
    pub(super) end: u64,
    /// Highest number of each source, in this segment and all before it.
    pub(super) sources: BTreeMap<String, u64>,
    pub(super) blocks: Vec<Arc<Block>>,
}

impl Index {
    pub(super) fn new(next: u64, end: u64, sources: BTreeMap<String, u64>, blocks: Vec<Arc<Block>>) -> Self {
        Self { v: VERSION, next, end, sources, blocks }
    }

    pub(super) fn to_file(&self) -> Vec<u8> {
        summed::write(self)
    }

    #[cfg(test)]
    pub(super) fn of_version(mut self, v: u8) -> Vec<u8> {
        self.v = v;
        self.to_file()
    }

    pub(super) fn from_file(bytes: &[u8]) -> Option<Self> {
        summed::read(bytes).filter(|index: &Self| index.v == VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_holds_what_was_put_in_and_little_else() {
        let hash = |number: u32| Field::Id.hash(format!("\"dec_{number:026}\"").as_bytes());
        let mut hashes: Vec<u64> = (0..3_000).map(hash).collect();
        let filter = Filter::new(&mut hashes);
        assert!((0..3_000).all(|number| filter.may_hold(hash(number))));
        let wrong = (3_000..103_000).filter(|number| filter.may_hold(hash(*number))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
        assert_ne!(Field::Id.hash(b"\"x\""), Field::User.hash(b"\"x\""));
    }
}
