//! Which records of a closed segment have which values and words: `<position>.terms` beside it, made apart from the
//! commits, read by pieces. Format: `docs/spec/audit-log.md`.
//!
//! It holds nothing that the segment doesn't say. While it is missing, damaged or of another format, the segment
//! is searched without it, and it is made again.

mod build;
mod numbered;
mod uses;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use self::build::Maker;
pub(super) use self::uses::Table;
use super::bits::Bits;
use super::block::Field;

/// Begins the file.
const MARK: [u8; 4] = *b"vst2";
/// Bytes of the header.
const HEADER_BYTES: usize = 64;
/// Keys with no more records than this have them in their entry.
const INLINE: u32 = 4;
/// What more words than this begin with has a set of its own, so that none is put together from thousands.
const FEW: usize = 64;
/// Most bytes of one piece that a header may ask to read: more than a segment can need.
const MAX_PIECE_BYTES: usize = 256 * 1024 * 1024;

pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.terms"))
}

/// What a record can be asked for: a value of a field, or the beginning of a word.
pub(super) fn value_key(field: Field, value: &[u8]) -> Vec<u8> {
    let mut key = vec![tag(field)];
    key.extend_from_slice(value);
    key
}

pub(super) fn word_key(word: &[u8]) -> Vec<u8> {
    let mut key = vec![WORD];
    key.extend_from_slice(word);
    key
}

/// What many words begin with.
fn beginning_key(word: &[u8]) -> Vec<u8> {
    let mut key = vec![BEGINNING];
    key.extend_from_slice(word);
    key
}

const WORD: u8 = b'w';
const BEGINNING: u8 = b'b';

const fn tag(field: Field) -> u8 {
    match field {
        Field::Device => b'd',
        Field::Flow => b'f',
        Field::Id => b'i',
        Field::Kind => b'k',
        Field::Outcome => b'o',
        Field::Passed => b'p',
        Field::Reason => b'r',
        Field::Resource => b'R',
        Field::Session => b's',
        Field::User => b'u',
    }
}

/// A part of the file, with the CRC-32 of its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Piece {
    at: u64,
    bytes: u32,
    sum: u32,
}

/// What is remembered of a file: all but the pieces themselves.
#[derive(Debug)]
pub(super) struct Terms {
    /// Position of the segment's first record.
    pub(super) first: u64,
    /// How many it has.
    pub(super) size: usize,
    /// Earliest and latest time of a record, unix microseconds.
    pub(super) times: (u64, u64),
    /// Times of all records, eight bytes each.
    times_piece: Piece,
    /// Where the frames of all records begin in the segment, four bytes each.
    places_piece: Piece,
    /// Who used what.
    uses_piece: Piece,
    /// Entries, by the first key of each piece, rising.
    pages: Vec<(Vec<u8>, Piece)>,
}

/// The file can't be used: it is missing, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable;

/// One key and where it stands.
struct Entry {
    key: Vec<u8>,
    /// How many records.
    count: u32,
    records: Records,
}

enum Records {
    Inline(Vec<u32>),
    Piece(Piece),
}

/// The same of an entry that is written.
enum Where<'n> {
    Inline(&'n [u32]),
    Piece(Piece),
}

impl Entry {
    /// Takes the key of an entry, and all of it if it is `wanted`.
    fn read(rest: &mut &[u8], wanted: impl FnOnce(&[u8]) -> bool) -> Option<Option<Self>> {
        let length = usize::from(u16::from_le_bytes(take(rest)?));
        let (key, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        let count = number(rest)?;
        if !wanted(key) {
            let length = if count <= INLINE { count as usize * 4 } else { Piece::BYTES };
            *rest = rest.get(length..)?;
            return Some(None);
        }
        let records = if count <= INLINE {
            Records::Inline((0..count).map(|_| number(rest)).collect::<Option<Vec<u32>>>()?)
        } else {
            Records::Piece(Piece::take(rest)?)
        };
        Some(Some(Self { key: key.to_vec(), count, records }))
    }

    fn write(key: &[u8], count: u32, records: &Where<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&count.to_le_bytes());
        match records {
            Where::Inline(numbers) => numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes())),
            Where::Piece(piece) => piece.write(out),
        }
    }
}

impl Piece {
    /// Length of what tells it.
    const BYTES: usize = 16;

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Some(Self { at: u64::from_le_bytes(take(rest)?), bytes: number(rest)?, sum: number(rest)? })
    }

    fn read(self, file: &File) -> Result<Vec<u8>, Unusable> {
        let length = usize::try_from(self.bytes).map_err(|_| Unusable)?;
        if length > MAX_PIECE_BYTES {
            return Err(Unusable);
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, self.at).map_err(|_| Unusable)?;
        if crc32fast::hash(&bytes) == self.sum { Ok(bytes) } else { Err(Unusable) }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

impl Terms {
    /// Reads header and directory of the file of the segment from `first` to before `next`.
    pub(super) fn load(dir: &Path, first: u64, next: u64) -> Result<Self, Unusable> {
        let file = File::open(path(dir, first)).map_err(|_| Unusable)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(|_| Unusable)?;
        let parse = || {
            let mut rest = header.strip_prefix(&MARK)?;
            let sum = number(&mut rest)?;
            if crc32fast::hash(rest) != sum {
                return None;
            }
            let (of, size) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
            let times = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
            let directory = Piece::take(&mut rest)?;
            (of == first && of.checked_add(size) == Some(next)).then_some((size, times, directory))
        };
        let (size, times, directory) = parse().ok_or(Unusable)?;
        let directory = directory.read(&file)?;
        let mut rest = directory.as_slice();
        let mut parse = || {
            let mut piece = || Piece::take(&mut rest);
            let (times_piece, places_piece, uses_piece) = (piece()?, piece()?, piece()?);
            let mut pages = Vec::new();
            while !rest.is_empty() {
                let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
                let (key, behind) = rest.split_at_checked(length)?;
                rest = behind;
                pages.push((key.to_vec(), Piece::take(&mut rest)?));
            }
            let size = usize::try_from(size).ok()?;
            Some(Self { first, size, times, times_piece, places_piece, uses_piece, pages })
        };
        parse().ok_or(Unusable)
    }

    /// Opens the file to read from it.
    pub(super) fn open<'t>(&'t self, dir: &Path) -> Result<Open<'t>, Unusable> {
        let file = File::open(path(dir, self.first)).map_err(|_| Unusable)?;
        Ok(Open { terms: self, file, page: None })
    }
}

/// A file that is read from.
pub(super) struct Open<'t> {
    terms: &'t Terms,
    file: File,
    /// The page that was read last, by its number.
    page: Option<(usize, Vec<u8>)>,
}

/// Where records of a key or several stand, not read yet.
pub(super) struct Found {
    /// How many records, at most.
    pub(super) count: u64,
    entries: Vec<Entry>,
}

#[cfg(test)]
impl Found {
    /// How many sets they are put together from.
    pub(super) fn sets(&self) -> usize {
        self.entries.len()
    }
}

impl Open<'_> {
    /// The records that have a value.
    pub(super) fn value(&mut self, key: &[u8]) -> Result<Found, Unusable> {
        let mut found = Found { count: 0, entries: Vec::new() };
        self.from(key, &mut |entry| {
            if entry.key == key {
                found.count = u64::from(entry.count);
                found.entries.push(entry);
            }
            false
        })?;
        Ok(found)
    }

    /// The records that have a key with this beginning.
    pub(super) fn beginning(&mut self, prefix: &[u8]) -> Result<Found, Unusable> {
        let mut found = Found { count: 0, entries: Vec::new() };
        self.from(prefix, &mut |entry| {
            let goes_on = entry.key.starts_with(prefix);
            if goes_on {
                found.count = found.count.saturating_add(u64::from(entry.count));
                found.entries.push(entry);
            }
            goes_on
        })?;
        Ok(found)
    }

    /// The records that have a word with this beginning.
    pub(super) fn words(&mut self, word: &[u8]) -> Result<Found, Unusable> {
        let prefix = beginning_key(word);
        let mut found = Found { count: 0, entries: Vec::new() };
        // Of beginnings that the same words have, only the longest is written; it stands before longer ones of fewer words.
        self.from(&prefix, &mut |entry| {
            if entry.key.starts_with(&prefix) {
                found.count = u64::from(entry.count);
                found.entries.push(entry);
            }
            false
        })?;
        if found.entries.is_empty() { self.beginning(&word_key(word)) } else { Ok(found) }
    }

    /// Calls `each` for every value of a field: in canonical form, with its number of records and, when `wanted`, those.
    pub(super) fn values(
        &mut self,
        field: Field,
        among: Option<&Bits>,
        each: &mut dyn FnMut(&[u8], u64),
    ) -> Result<(), Unusable> {
        let found = self.beginning(&[tag(field)])?;
        let span = self.span(&found, among.is_some())?;
        for entry in &found.entries {
            let value = entry.key.get(1..).unwrap_or_default();
            match among {
                None => each(value, u64::from(entry.count)),
                Some(among) => match &entry.records {
                    Records::Inline(numbers) => {
                        each(value, numbers.iter().filter(|number| among.holds(**number)).count() as u64);
                    }
                    Records::Piece(piece) => {
                        each(value, among.common_with(span.part(*piece)?, self.terms.size).ok_or(Unusable)?);
                    }
                },
            }
        }
        Ok(())
    }

    /// The records that were found.
    pub(super) fn records(&self, found: &Found) -> Result<Bits, Unusable> {
        let size = self.terms.size;
        let mut bits = Bits::none(size);
        let span = self.span(found, true)?;
        for entry in &found.entries {
            match &entry.records {
                Records::Inline(numbers) => numbers.iter().for_each(|number| bits.insert(*number)),
                Records::Piece(piece) => bits.read(span.part(*piece)?, size).ok_or(Unusable)?,
            }
        }
        Ok(bits)
    }

    /// Times of all records.
    pub(super) fn times(&self) -> Result<Vec<u64>, Unusable> {
        let bytes = self.terms.times_piece.read(&self.file)?;
        let (times, []) = bytes.as_chunks::<8>() else { return Err(Unusable) };
        let times: Vec<u64> = times.iter().map(|time| u64::from_le_bytes(*time)).collect();
        if times.len() == self.terms.size { Ok(times) } else { Err(Unusable) }
    }

    /// Where the frames of all records begin in the segment.
    pub(super) fn places(&self) -> Result<Vec<u32>, Unusable> {
        let bytes = self.terms.places_piece.read(&self.file)?;
        let (places, []) = bytes.as_chunks::<4>() else { return Err(Unusable) };
        let places: Vec<u32> = places.iter().map(|place| u32::from_le_bytes(*place)).collect();
        if places.len() == self.terms.size { Ok(places) } else { Err(Unusable) }
    }

    /// Who used what.
    pub(super) fn uses(&self) -> Result<Table, Unusable> {
        Table::read(&self.terms.uses_piece.read(&self.file)?).ok_or(Unusable)
    }

    /// Calls `each` for the entries from `key` on, as long as it says so.
    fn from(&mut self, key: &[u8], each: &mut dyn FnMut(Entry) -> bool) -> Result<(), Unusable> {
        let behind = self.terms.pages.partition_point(|(first, _)| first.as_slice() <= key);
        let mut number = behind.saturating_sub(1);
        while let Some((_, piece)) = self.terms.pages.get(number) {
            let page = match self.page.take() {
                Some((last, page)) if last == number => page,
                Some(_) | None => piece.read(&self.file)?,
            };
            let mut rest = page.as_slice();
            while !rest.is_empty() {
                let entry = Entry::read(&mut rest, |here| here >= key).ok_or(Unusable)?;
                if let Some(entry) = entry
                    && !each(entry)
                {
                    self.page = Some((number, page));
                    return Ok(());
                }
            }
            self.page = Some((number, page));
            number += 1;
        }
        Ok(())
    }

    /// Pieces of several entries, which stand side by side, in one go.
    fn span(&self, found: &Found, wanted: bool) -> Result<Side, Unusable> {
        let pieces = || {
            found.entries.iter().filter_map(|entry| match &entry.records {
                Records::Piece(piece) if wanted => Some(*piece),
                Records::Piece(_) | Records::Inline(_) => None,
            })
        };
        let Some(at) = pieces().map(|piece| piece.at).min() else { return Ok(Side { at: 0, bytes: Vec::new() }) };
        let end = pieces().map(|piece| piece.at.saturating_add(u64::from(piece.bytes))).max().unwrap_or(at);
        let length = usize::try_from(end - at).ok().filter(|length| *length <= MAX_PIECE_BYTES).ok_or(Unusable)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(|_| Unusable)?;
        Ok(Side { at, bytes })
    }
}

/// Bytes of the file from somewhere on.
struct Side {
    at: u64,
    bytes: Vec<u8>,
}

impl Side {
    fn part(&self, piece: Piece) -> Result<&[u8], Unusable> {
        let part = || {
            let from = usize::try_from(piece.at.checked_sub(self.at)?).ok()?;
            let part = self.bytes.get(from..from.checked_add(piece.bytes as usize)?)?;
            (crc32fast::hash(part) == piece.sum).then_some(part)
        };
        part().ok_or(Unusable)
    }
}
