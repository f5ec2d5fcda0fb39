//! Making the file from the segment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use smallvec::SmallVec;
use vouchsafe_wire::audit::{each_word, texts};
use vouchsafe_wire::spool;

use super::super::bits::Bits;
use super::super::block::Field;
use super::super::segment::{self, GROUP_HEADER_BYTES, read_group};
use super::super::{LogError, at, gently};
use super::numbered::Numbered;
use super::uses::Count;
use super::{BEGINNING, Entry, FEW, HEADER_BYTES, INLINE, MARK, Piece, WORD, Where, beginning_key, path, tag};

/// Bytes from which on a page of entries is full.
const PAGE_BYTES: usize = 4_096;

/// Texts whose words are remembered: most members of a record say what many others say.
const REMEMBERED_TEXTS: usize = 4_096;

/// Records of one key, rising. Most keys are of one record.
type Postings = SmallVec<[u32; INLINE as usize]>;

/// Makes files of terms. Its memory is kept from one segment to the next: to give it back and take it again costs more
/// than what is done with it.
#[derive(Default)]
pub(crate) struct Maker {
    segment: Vec<u8>,
    seen: Seen,
    pages: Vec<u8>,
    out: Vec<u8>,
}

/// What was seen of a segment.
#[derive(Default)]
struct Seen {
    times: Vec<u64>,
    places: Vec<u32>,
    keys: Numbered,
    /// By the number of the key.
    records: Vec<Postings>,
    texts: Numbered,
    /// Numbers of the words of all texts, and where those of each text end.
    words: Vec<u32>,
    word_ends: Vec<usize>,
    uses: Count,
    /// The key that is looked up.
    key: Vec<u8>,
}

impl Seen {
    fn clear(&mut self) {
        let Self { times, places, keys, records, texts, words, word_ends, uses, key } = self;
        times.clear();
        places.clear();
        records.clear();
        words.clear();
        word_ends.clear();
        key.clear();
        keys.clear();
        texts.clear();
        *uses = Count::default();
    }

    fn add_value(&mut self, field: Field, value: &[u8], number: u32) {
        let key = self.number_of(tag(field), value);
        push(&mut self.records, key, number);
    }

    /// Adds the words of a text in canonical form.
    fn add_text(&mut self, text: &[u8], number: u32) {
        if let Some(known) = self.texts.find(text) {
            let end_of = |text: usize| self.word_ends.get(text).copied().unwrap_or_default();
            let words = known.checked_sub(1).map_or(0, end_of)..end_of(known);
            for word in self.words.get(words).unwrap_or_default() {
                push(&mut self.records, *word, number);
            }
            return;
        }
        let remembered = self.texts.len() < REMEMBERED_TEXTS;
        let mut words = std::mem::take(&mut self.words);
        each_word(text, |word| {
            let key = self.number_of(WORD, word);
            push(&mut self.records, key, number);
            if remembered {
                words.push(key);
            }
        });
        self.words = words;
        if remembered {
            self.texts.number_of(text);
            self.word_ends.push(self.words.len());
        }
    }

    /// The number of a key, a new one if need be.
    fn number_of(&mut self, tag: u8, rest: &[u8]) -> u32 {
        self.key.clear();
        self.key.push(tag);
        self.key.extend_from_slice(rest);
        let number = self.keys.number_of(&self.key);
        if self.keys.len() > self.records.len() {
            self.records.push(Postings::new());
        }
        number
    }
}

fn push(records: &mut [Postings], key: u32, number: u32) {
    if let Some(records) = records.get_mut(key as usize)
        && records.last() != Some(&number)
    {
        records.push(number);
    }
}

impl Maker {
    /// Makes the file of the closed segment from `first` to before `next`; it appears whole or not at all.
    pub(in super::super) fn make(&mut self, dir: &Path, first: u64, next: u64) -> Result<(), LogError> {
        let segment = segment::path(dir, first);
        File::open(&segment).and_then(|file| gently::read_all(&file, &mut self.segment)).map_err(at(&segment))?;
        self.look(&segment, first, next)?;
        self.write(first);
        keep(dir, first, &self.out).map_err(at(&path(dir, first)))
    }

    fn look(&mut self, segment: &Path, first: u64, next: u64) -> Result<(), LogError> {
        let seen = &mut self.seen;
        seen.clear();
        let (mut rest, mut position, mut place) = (self.segment.as_slice(), first, 0);
        while position < next {
            let Some(group) = read_group(rest, position) else {
                return Err(LogError::Damaged { path: segment.to_owned(), position, offset: place as u64 });
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
        Ok(())
    }

    /// The whole file, into `out`.
    fn write(&mut self, first: u64) {
        let Self { seen: Seen { times, places, keys, records, uses, .. }, pages, out, .. } = self;
        let size = times.len();
        out.clear();
        out.resize(HEADER_BYTES, 0);
        let times_piece = piece(out, |out| times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes())));
        let places_piece =
            piece(out, |out| places.iter().for_each(|place| out.extend_from_slice(&place.to_le_bytes())));
        let uses_piece = piece(out, |out| std::mem::take(uses).write(out));
        let with_records = |(key, number): (_, u32)| records.get(number as usize).map(|records| (key, records));
        let keys: Vec<(&[u8], &Postings)> = keys.sorted().filter_map(with_records).collect();
        let beginnings = beginnings(&keys, size);
        let (before, behind) = keys.split_at(keys.partition_point(|(key, _)| key.first() < Some(&BEGINNING)));
        let between = beginnings.iter().map(|(key, numbers)| (&**key, numbers));
        let entries = before.iter().copied().chain(between).chain(behind.iter().copied());
        // Where pages begin, with their first keys.
        let mut starts: Vec<(&[u8], usize)> = Vec::new();
        pages.clear();
        for (key, numbers) in entries {
            let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            if starts.last().is_none_or(|(_, start)| pages.len() - start >= PAGE_BYTES) {
                starts.push((key, pages.len()));
            }
            if count <= INLINE {
                Entry::write(key, count, &Where::Inline(numbers), pages);
            } else {
                let set = piece(out, |out| Bits::write(numbers, size, out));
                Entry::write(key, count, &Where::Piece(set), pages);
            }
        }
        let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([pages.len()]);
        let pages: Vec<(&[u8], Piece)> = starts
            .iter()
            .zip(ends)
            .map(|((key, start), end)| {
                let page = pages.get(*start..end).unwrap_or_default();
                (*key, piece(out, |out| out.extend_from_slice(page)))
            })
            .collect();
        let directory = piece(out, |out| {
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
    }
}

/// What more than a few words begin with, and the records that have one of them, in order. Of beginnings that the same
/// words have, the longest.
fn beginnings(keys: &[(&[u8], &Postings)], size: usize) -> Vec<(Box<[u8]>, Postings)> {
    let start = keys.partition_point(|(key, _)| key.first() < Some(&WORD));
    let words = keys.get(start..).unwrap_or_default();
    let words = words.get(..words.partition_point(|(key, _)| key.first() == Some(&WORD))).unwrap_or_default();
    let mut found = Vec::new();
    let mut groups = vec![words];
    while let Some(group) = groups.pop() {
        let [(first, _), .., (last, _)] = *group else { continue };
        if group.len() <= FEW {
            continue;
        }
        // They are in order, so what the outermost share, all do.
        let shared = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        let word = first.get(1..shared).unwrap_or_default();
        if !word.is_empty() {
            let mut records = Bits::none(size);
            group.iter().flat_map(|(_, numbers)| numbers.iter()).for_each(|number| records.insert(*number));
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
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    gently::write_all_at(&file, bytes, 0)?;
    fs::rename(draft, path)
}
