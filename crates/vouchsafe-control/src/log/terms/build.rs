//! Making the file from the segment.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ahash::RandomState;
use smallvec::SmallVec;
use vouchsafe_wire::audit::{each_word, texts};
use vouchsafe_wire::spool;

use super::super::bits::Bits;
use super::super::block::Field;
use super::super::segment::{self, GROUP_HEADER_BYTES, read_group};
use super::super::{LogError, at};
use super::uses::Count;
use super::{BEGINNING, Entry, FEW, HEADER_BYTES, INLINE, MARK, Piece, Records, WORD, beginning_key, path, tag};

/// Bytes from which on a page of entries is full.
const PAGE_BYTES: usize = 4_096;

/// Texts whose words are remembered: most members of a record say what many others say.
const REMEMBERED_TEXTS: usize = 4_096;

/// Records of one key, rising. Most keys are of one record.
type Postings = SmallVec<[u32; INLINE as usize]>;

/// What was seen of a segment. What is hashed comes from strangers, so it is hashed with a key of this process.
#[derive(Default)]
struct Seen {
    times: Vec<u64>,
    places: Vec<u32>,
    /// Places of keys in `records`.
    keys: HashMap<Box<[u8]>, usize, RandomState>,
    records: Vec<Postings>,
    /// Places of the words of texts.
    texts: HashMap<Box<[u8]>, Box<[usize]>, RandomState>,
    uses: Count,
    /// The key that is looked up.
    key: Vec<u8>,
}

impl Seen {
    fn add_value(&mut self, field: Field, value: &[u8], number: u32) {
        let place = self.place(tag(field), value);
        self.push(place, number);
    }

    /// Adds the words of a text in canonical form.
    fn add_text(&mut self, text: &[u8], number: u32) {
        if let Some(words) = self.texts.get(text) {
            for place in words {
                push(&mut self.records, *place, number);
            }
            return;
        }
        let mut words = Vec::new();
        each_word(text, |word| words.push(self.place(WORD, word)));
        for place in &words {
            self.push(*place, number);
        }
        if self.texts.len() < REMEMBERED_TEXTS {
            self.texts.insert(text.into(), words.into());
        }
    }

    /// The place of a key, a new one if need be.
    fn place(&mut self, tag: u8, rest: &[u8]) -> usize {
        self.key.clear();
        self.key.push(tag);
        self.key.extend_from_slice(rest);
        if let Some(place) = self.keys.get(self.key.as_slice()) {
            return *place;
        }
        let place = self.records.len();
        self.keys.insert(self.key.as_slice().into(), place);
        self.records.push(Postings::new());
        place
    }

    fn push(&mut self, place: usize, number: u32) {
        push(&mut self.records, place, number);
    }
}

fn push(records: &mut [Postings], place: usize, number: u32) {
    if let Some(records) = records.get_mut(place)
        && records.last() != Some(&number)
    {
        records.push(number);
    }
}

/// Makes the file of the closed segment from `first` to before `next`; it appears whole or not at all.
pub(in super::super) fn build(dir: &Path, first: u64, next: u64) -> Result<(), LogError> {
    let segment = segment::path(dir, first);
    let bytes = fs::read(&segment).map_err(at(&segment))?;
    let mut seen = Seen::default();
    let (mut rest, mut position, mut place) = (bytes.as_slice(), first, 0);
    while position < next {
        let Some(group) = read_group(rest, position) else {
            return Err(LogError::Damaged { path: segment, position, offset: place as u64 });
        };
        let mut frame = place + GROUP_HEADER_BYTES;
        for (payload, record) in &group.records {
            let number = u32::try_from(position - first).unwrap_or(u32::MAX);
            seen.times.push(record.time_us);
            seen.uses.add(record);
            seen.places.push(u32::try_from(frame).unwrap_or(u32::MAX));
            for (field, value) in Field::values(record) {
                if let Some(value) = value {
                    seen.add_value(field, value, number);
                }
            }
            texts(payload, |text| seen.add_text(text, number));
            frame += spool::HEADER_BYTES + payload.len();
            position += 1;
        }
        place += group.length;
        rest = rest.get(group.length..).unwrap_or_default();
    }
    let file = write(first, seen);
    keep(dir, first, &file).map_err(at(&path(dir, first)))
}

/// The whole file.
fn write(first: u64, seen: Seen) -> Vec<u8> {
    let Seen { times, places, keys, mut records, uses, .. } = seen;
    let size = times.len();
    let mut out = vec![0; HEADER_BYTES];
    let times_piece = piece(&mut out, |out| times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes())));
    let places_piece =
        piece(&mut out, |out| places.iter().for_each(|place| out.extend_from_slice(&place.to_le_bytes())));
    let uses_piece = piece(&mut out, |out| uses.write(out));
    let mut keys: Vec<(Box<[u8]>, Postings)> = keys
        .into_iter()
        .map(|(key, place)| (key, records.get_mut(place).map(std::mem::take).unwrap_or_default()))
        .collect();
    keys.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let beginnings = beginnings(&keys, size);
    let at = keys.partition_point(|(key, _)| key.first() < Some(&BEGINNING));
    keys.splice(at..at, beginnings);
    let mut pages: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for (key, numbers) in &keys {
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let records = if count <= INLINE {
            Records::Inline(numbers.to_vec())
        } else {
            Records::Piece(piece(&mut out, |out| Bits::write(numbers, size, out)))
        };
        match pages.last_mut().filter(|(_, page)| page.len() < PAGE_BYTES) {
            Some((_, page)) => Entry::write(key, count, &records, page),
            None => {
                let mut page = Vec::new();
                Entry::write(key, count, &records, &mut page);
                pages.push((key, page));
            }
        }
    }
    let pages: Vec<(&[u8], Piece)> =
        pages.iter().map(|(key, page)| (*key, piece(&mut out, |out| out.extend_from_slice(page)))).collect();
    let directory = piece(&mut out, |out| {
        times_piece.write(out);
        places_piece.write(out);
        uses_piece.write(out);
        for (key, page) in pages {
            out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(key);
            page.write(out);
        }
    });
    let mut header = Vec::new();
    let earliest = times.iter().min().copied().unwrap_or_default();
    let latest = times.iter().max().copied().unwrap_or_default();
    for number in [first, size as u64, earliest, latest] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    directory.write(&mut header);
    header.resize(HEADER_BYTES - 8, 0);
    let sum = crc32fast::hash(&header).to_le_bytes();
    let header = MARK.into_iter().chain(sum).chain(header);
    out.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    out
}

/// What more than a few words begin with, and the records that have one of them, in order. Of beginnings that the same
/// words have, the longest.
fn beginnings(keys: &[(Box<[u8]>, Postings)], size: usize) -> Vec<(Box<[u8]>, Postings)> {
    let start = keys.partition_point(|(key, _)| key.first() < Some(&WORD));
    let words = keys.get(start..).unwrap_or_default();
    let words = words.get(..words.partition_point(|(key, _)| key.first() == Some(&WORD))).unwrap_or_default();
    let mut found = Vec::new();
    let mut groups = vec![words];
    while let Some(group) = groups.pop() {
        let [(first, _), .., (last, _)] = group else { continue };
        if group.len() <= FEW {
            continue;
        }
        // They are in order, so what the outermost share, all do.
        let shared = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        let word = first.get(1..shared).unwrap_or_default();
        if !word.is_empty() {
            let mut records = Bits::none(size);
            group.iter().flat_map(|(_, numbers)| numbers).for_each(|number| records.insert(*number));
            found.push((beginning_key(word).into(), records.iter().collect()));
        }
        groups.extend(group.chunk_by(|(one, _), (other, _)| one.get(shared) == other.get(shared)));
    }
    found.sort_unstable_by(|(one, _): &(Box<[u8]>, Postings), (other, _)| one.cmp(other));
    found
}

/// Appends a piece, and says where it is.
fn piece(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Piece {
    let at = out.len();
    write(out);
    let bytes = out.get(at..).unwrap_or_default();
    Piece { at: at as u64, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX), sum: crc32fast::hash(bytes) }
}

fn keep(dir: &Path, first: u64, bytes: &[u8]) -> io::Result<()> {
    let path = path(dir, first);
    let draft = path.with_extension("terms-draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    fs::rename(draft, path)
}
