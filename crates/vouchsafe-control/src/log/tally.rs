//! What is known of a segment by having seen every record in it, in order: kept while it is
//! written, and found again by reading it.

use std::collections::BTreeMap;
use std::sync::Arc;

use vouchsafe_wire::audit::Scanned;

use super::block::{Block, Index, OpenBlock};
use super::segment::{holds_later_group, read_group};

/// A segment, and the highest numbers of all sources up to its end.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Position of its first record.
    pub(super) first: u64,
    /// Position behind its last record.
    pub(super) next: u64,
    /// Where its last group ends.
    pub(super) end: u64,
    pub(super) sources: BTreeMap<String, u64>,
    pub(super) blocks: Vec<Arc<Block>>,
    open: OpenBlock,
}

/// How the reading of a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With zeroes only, or nothing, behind the last group.
    Cleanly,
    /// With something that is no whole group, and no group behind it: a commit that a crash cut short.
    Torn,
    /// With something that can't be read in front of a later group.
    Damaged,
}

impl Default for Tally {
    fn default() -> Self {
        Self::begin(0, BTreeMap::new())
    }
}

impl Tally {
    pub(super) fn begin(first: u64, sources: BTreeMap<String, u64>) -> Self {
        Self { first, next: first, end: 0, sources, blocks: Vec::new(), open: OpenBlock::new(first, 0) }
    }

    /// Where the block begins that has no summary yet, and the position of its first record.
    pub(super) fn open_block(&self) -> (u64, u64) {
        (self.open.start, self.open.first)
    }

    /// Adds a group of one source; `bytes` is its length with header.
    pub(super) fn add_group<'r, 'b: 'r>(
        &mut self,
        source: &str,
        records: impl Iterator<Item = &'r Scanned<'b>>,
        bytes: usize,
    ) {
        for record in records {
            self.add(source, record);
        }
        self.group_ends(bytes);
    }

    fn add(&mut self, source: &str, record: &Scanned<'_>) {
        self.open.add(source, record);
        self.next += 1;
        match self.sources.get_mut(source) {
            Some(highest) => *highest = record.seq,
            None => drop(self.sources.insert(source.to_owned(), record.seq)),
        }
    }

    fn group_ends(&mut self, bytes: usize) {
        self.end += bytes as u64;
        self.blocks.extend(self.open.close(self.end, false));
    }

    /// Reads groups as long as they are whole, up to the position `until`.
    pub(super) fn replay(&mut self, bytes: &[u8], until: u64) -> Ended {
        let mut rest = bytes;
        while self.next < until
            && let Some(whole) = read_group(rest, self.next)
        {
            for (_, record) in &whole.records {
                // INVARIANT: the scan has checked that it is a text in quotes.
                let source: String = serde_json::from_slice(record.source).unwrap_or_default();
                self.add(&source, record);
            }
            self.group_ends(whole.length);
            rest = rest.get(whole.length..).unwrap_or_default();
        }
        if rest.iter().all(|byte| *byte == 0) {
            Ended::Cleanly
        } else if holds_later_group(rest, self.next) {
            Ended::Damaged
        } else {
            Ended::Torn
        }
    }

    /// Its index, as of a closed segment.
    pub(super) fn close(&mut self) -> Index {
        self.blocks.extend(self.open.close(self.end, true));
        Index::new(self.next, self.end, self.sources.clone(), self.blocks.clone())
    }
}
