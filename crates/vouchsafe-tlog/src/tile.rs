//! Names of tiles and entry bundles (C2SP `tlog-tiles`): `<L>/<N>[.p/<W>]` and `entries/<N>[.p/<W>]`.

use std::fmt;

use crate::text::number;
use crate::tree::{LEVELS, TILE_WIDTH};

/// A row of hashes of one level, or the entries below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub of: Of,
    /// Which one, from 0.
    pub index: u64,
    /// How many it holds, 1 to 256; fewer than 256 make a partial one.
    pub width: u64,
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// Hashes of that level.
    Hashes(u8),
    /// Entries themselves.
    Entries,
}

impl Tile {
    /// The tile of that name, which has one form.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        // The longest index has seven elements.
        if path.len() > 64 {
            return None;
        }
        let (of, rest) = path.split_once('/')?;
        let of = match of {
            "entries" => Of::Entries,
            level => Of::Hashes(u8::try_from(number(level)?).ok().filter(|level| *level < LEVELS)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, number(width).filter(|width| (1..TILE_WIDTH).contains(width))?),
            None => (rest, TILE_WIDTH),
        };
        let index = parse_index(index)?;
        let tile = Self { of, index, width };
        // What lies beyond any position has no name.
        tile.first().checked_add(width).map(|_| tile)
    }

    /// Index of its first hash or entry in its level.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }

    /// The tiles of a level that a tree of that size has: the full ones, and the partial one if any.
    pub fn of_tree(of: Of, size: u64) -> impl Iterator<Item = Self> {
        let level = match of {
            Of::Hashes(level) => u32::from(level),
            Of::Entries => 0,
        };
        let count = TILE_WIDTH.checked_pow(level).map_or(0, |below| size / below);
        let (full, width) = (count / TILE_WIDTH, count % TILE_WIDTH);
        let whole = (0..full).map(move |index| Self { of, index, width: TILE_WIDTH });
        whole.chain((width > 0).then_some(Self { of, index: full, width }))
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Of::Hashes(level) => write!(f, "{level}/")?,
            Of::Entries => f.write_str("entries/")?,
        }
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        let last = groups.len() - 1;
        for (at, group) in groups.iter().rev().enumerate() {
            if at == last { write!(f, "{group:03}")? } else { write!(f, "x{group:03}/")? }
        }
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

fn parse_index(text: &str) -> Option<u64> {
    let mut index: u64 = 0;
    let mut elements = text.split('/').peekable();
    let mut leading = true;
    while let Some(element) = elements.next() {
        let digits = match elements.peek() {
            Some(_) => element.strip_prefix('x')?,
            None => element,
        };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // `x000/001` would be a second name of 001.
        if leading && digits == "000" && elements.peek().is_some() {
            return None;
        }
        leading = false;
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    // Its last entry has a number, too.
    index.checked_mul(TILE_WIDTH)?.checked_add(TILE_WIDTH)?;
    Some(index)
}

/// Adds an entry to a bundle: its length in two bytes, big-endian, and its bytes. Nothing for what is longer.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    bundle.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

/// The entries of a bundle; nothing when it is cut short or has more than a tile.
#[must_use]
pub fn entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        found.push(entry);
        bundle = rest;
    }
    (bundle.is_empty() && found.len() as u64 <= TILE_WIDTH).then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        let tile = |of, index, width| Tile { of, index, width }.to_string();
        assert_eq!(tile(Of::Hashes(0), 1_234_067, 256), "0/x001/x234/067");
        assert_eq!(tile(Of::Hashes(1), 0, 17), "1/000.p/17");
        assert_eq!(tile(Of::Entries, 999, 256), "entries/999");
        assert_eq!(tile(Of::Entries, 1_000, 1), "entries/x001/000.p/1");
        for wrong in [
            "",
            "0",
            "0/",
            "0/1",
            "0/0001",
            "0/x000/001",
            // Its last entry would be the 2^64th.
            "0/x072/x057/x594/x037/x927/935",
            "0/x001",
            "0/001/",
            "0/001.p/0",
            "0/001.p/256",
            "0/001.p/01",
            "00/001",
            "8/001",
            "63/001",
            "-1/001",
            "0/x01/001",
            "0/001.p/",
            "entries",
            "entries/1",
            "Entries/001",
            "0/x999/x999/x999/x999/x999/x999/999",
            "0/١٢٣",
        ] {
            assert_eq!(Tile::parse(wrong), None, "{wrong}");
        }
    }

    /// The example of the specification: a tree of 70,000 entries.
    #[test]
    fn a_tree_has_the_tiles_of_the_specification() {
        let of = |of| Tile::of_tree(of, 70_000).collect::<Vec<_>>();
        assert_eq!(of(Of::Hashes(0)).len(), 274);
        assert_eq!(of(Of::Hashes(0)).last().map(ToString::to_string).as_deref(), Some("0/273.p/112"));
        assert_eq!(of(Of::Hashes(1)).iter().map(ToString::to_string).collect::<Vec<_>>(), ["1/000", "1/001.p/17"]);
        assert_eq!(of(Of::Hashes(2)).iter().map(ToString::to_string).collect::<Vec<_>>(), ["2/000.p/1"]);
        assert!(of(Of::Hashes(3)).is_empty() && of(Of::Hashes(7)).is_empty());
        assert_eq!(Tile::of_tree(Of::Hashes(1), 256).map(|tile| tile.to_string()).collect::<Vec<_>>(), ["1/000.p/1"]);
    }

    proptest! {
        #[test]
        fn a_name_reads_back(level in 0..LEVELS, index in 0..(u64::MAX >> 9), width in 1..=TILE_WIDTH, entries: bool) {
            let of = if entries { Of::Entries } else { Of::Hashes(level) };
            let tile = Tile { of, index, width };
            prop_assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9x/.pentris]{0,30}") {
            if let Some(tile) = Tile::parse(&text) {
                prop_assert_eq!(tile.to_string(), text);
            }
        }

        #[test]
        fn a_bundle_reads_back(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40), cut: u8) {
            let mut bundle = Vec::new();
            list.iter().for_each(|entry| push_entry(&mut bundle, entry).unwrap());
            let expected: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(entries(&bundle), Some(expected.clone()));
            let shorter = bundle.len().saturating_sub(usize::from(cut) + 1);
            prop_assert!(bundle.is_empty() || entries(&bundle[..shorter]) != Some(expected));
        }
    }

    #[test]
    fn an_entry_is_no_longer_than_its_length_can_say() {
        let mut bundle = Vec::new();
        assert!(push_entry(&mut bundle, &[0; 65_535]).is_some());
        assert!(push_entry(&mut bundle, &[0; 65_536]).is_none());
        assert_eq!(bundle.len(), 65_537, "nothing of it is left behind");
    }
}
