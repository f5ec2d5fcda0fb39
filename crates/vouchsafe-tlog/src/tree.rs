//! A tree that grows by its right edge, and roots and subtrees out of hashes that are stored.
//!
//! Stored are the hashes of every eighth height, which are those of tiles: level 0 has the leaves, level 1 the roots of
//! 256 leaves each, level 2 of 65,536, and so on. Every other hash is made of at most 128 of them.

use crate::hash::{Hash, perfect};

/// Hashes that one tile has, when it is full.
pub const TILE_WIDTH: u64 = 256;
/// Heights of the tree between two levels.
pub const TILE_HEIGHT: u8 = 8;
/// Levels that a tree of any size can have.
pub const LEVELS: u8 = 8;

/// Where hashes are stored.
pub trait Stored {
    /// Why they can't be read.
    type Error;

    /// `count` hashes of a level, from that index on; at most 256.
    ///
    /// # Errors
    /// When they can't be read, or are not there.
    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Self::Error>;
}

/// The right edge of a tree: what is needed to let it grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// For each level the hashes of its tile that isn't full.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// That of a stored tree with so many entries.
    ///
    /// # Errors
    /// Those of the store.
    pub fn load<S: Stored>(stored: &S, size: u64) -> Result<Self, S::Error> {
        let mut levels = Vec::new();
        let (mut level, mut count) = (0, size);
        while count > 0 {
            let width = count % TILE_WIDTH;
            levels.push(if width == 0 { Vec::new() } else { stored.hashes(level, count - width, width)? });
            count /= TILE_WIDTH;
            level += 1;
        }
        Ok(Self { size, levels })
    }

    /// How many entries the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the hash of an entry; tells each hash that is to be stored, with its level and index there.
    pub fn push(&mut self, leaf: Hash, store: &mut dyn FnMut(u8, u64, Hash)) {
        let mut index = self.size;
        self.size += 1;
        let (mut hash, mut level) = (leaf, 0_u8);
        loop {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            store(level, index, hash);
            let Some(tile) = self.levels.get_mut(at) else { return };
            tile.push(hash);
            if (tile.len() as u64) < TILE_WIDTH {
                return;
            }
            hash = perfect(std::mem::take(tile));
            index /= TILE_WIDTH;
            level += 1;
        }
    }

    /// The root (RFC 6962 §2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut root = None;
        for tile in &self.levels {
            // Perfect trees from the right, which are the small ones, to the left.
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let size = 1 << rest.len().trailing_zeros();
                let (left, tree) = rest.split_at(rest.len() - size);
                let tree = perfect(tree.to_vec());
                root = Some(root.map_or(tree, |right| Hash::of_node(&tree, &right)));
                rest = left;
            }
        }
        root.unwrap_or_else(Hash::of_nothing)
    }
}

/// The root of the first `size` entries of a stored tree.
///
/// # Errors
/// Those of the store.
pub fn root<S: Stored>(stored: &S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 { Ok(Hash::of_nothing()) } else { range(stored, 0, size) }
}

/// Hash of the entries from `first` to before `next`, as RFC 6962 §2.1 cuts trees: `first` is a multiple of the largest
/// power of two that is smaller than their number.
pub(crate) fn range<S: Stored>(stored: &S, first: u64, next: u64) -> Result<Hash, S::Error> {
    let count = next.saturating_sub(first);
    if count.is_power_of_two() {
        return subtree(stored, count.trailing_zeros(), first / count);
    }
    let middle = first + split(count);
    Ok(Hash::of_node(&range(stored, first, middle)?, &range(stored, middle, next)?))
}

/// The largest power of two that is smaller than `count`, which is at least 2.
pub(crate) fn split(count: u64) -> u64 {
    1 << (63 - count.saturating_sub(1).leading_zeros().min(63))
}

fn subtree<S: Stored>(stored: &S, height: u32, index: u64) -> Result<Hash, S::Error> {
    let (level, above) = (height / u32::from(TILE_HEIGHT), height % u32::from(TILE_HEIGHT));
    let count = 1 << above;
    let level = u8::try_from(level).unwrap_or(LEVELS);
    Ok(perfect(stored.hashes(level, index << above, count)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A tree in memory, which stores what an edge tells it.
    #[derive(Default)]
    pub(crate) struct Memory {
        pub(crate) edge: Edge,
        pub(crate) leaves: Vec<Hash>,
        stored: HashMap<(u8, u64), Hash>,
    }

    impl Memory {
        pub(crate) fn of(size: u64) -> Self {
            let mut memory = Self::default();
            (0..size).for_each(|number| memory.push(&number.to_be_bytes()));
            memory
        }

        pub(crate) fn push(&mut self, entry: &[u8]) {
            let leaf = Hash::of_leaf(entry);
            self.leaves.push(leaf);
            let stored = &mut self.stored;
            self.edge.push(leaf, &mut |level, index, hash| {
                assert!(stored.insert((level, index), hash).is_none(), "each is told once");
            });
        }
    }

    impl Stored for Memory {
        type Error = (u8, u64);

        fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Self::Error> {
            assert!((1..=TILE_WIDTH).contains(&count));
            (first..first + count)
                .map(|index| self.stored.get(&(level, index)).copied().ok_or((level, index)))
                .collect()
        }
    }

    /// RFC 6962 §2.1, word by word.
    pub(crate) fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of_nothing(),
            [one] => *one,
            more => {
                let mut k = 1;
                while k * 2 < more.len() {
                    k *= 2;
                }
                Hash::of_node(&defined(&more[..k]), &defined(&more[k..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition_at_each_size() {
        let mut memory = Memory::default();
        assert_eq!(memory.edge.root(), Hash::of_nothing());
        for size in 1..=1_200_u64 {
            memory.push(&(size - 1).to_be_bytes());
            if size < 70 || size % 37 == 0 || size.is_power_of_two() || (size + 1).is_power_of_two() {
                let expected = defined(&memory.leaves);
                assert_eq!(memory.edge.root(), expected, "{size}");
                assert_eq!(root(&memory, size), Ok(expected), "{size}");
                assert_eq!(Edge::load(&memory, size).unwrap(), memory.edge, "{size}");
            }
        }
        for size in [1, 2, 255, 256, 257, 511, 512, 513, 1_000] {
            assert_eq!(root(&memory, size), Ok(defined(&memory.leaves[..usize::try_from(size).unwrap()])), "{size}");
        }
    }

    #[test]
    fn three_levels_are_stored_where_they_belong() {
        let mut memory = Memory::of(70_000);
        assert_eq!(memory.stored.keys().filter(|(level, _)| *level == 1).count(), 273);
        assert_eq!(memory.stored.keys().filter(|(level, _)| *level == 2).count(), 1);
        assert_eq!(memory.stored[&(2, 0)], defined(&memory.leaves[..65_536]));
        assert_eq!(memory.edge.root(), defined(&memory.leaves));
        let mut again = Edge::load(&memory, 70_000).unwrap();
        memory.push(b"one more");
        again.push(Hash::of_leaf(b"one more"), &mut |level, index, hash| {
            assert_eq!(memory.stored[&(level, index)], hash)
        });
        assert_eq!(again, memory.edge);
    }
}
