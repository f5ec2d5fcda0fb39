//! Finding records. Of a closed segment its terms say which match, and those are read. Where there are none yet, and in
//! the open segment, blocks are passed over by what is known of them, and the rest is read and scanned.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vouchsafe_wire::audit::{MAX_RECORD_BYTES, Scanned, canonical_text, scan as scan_record};
use vouchsafe_wire::spool::{Frame, HEADER_BYTES, read_frame};

use super::block::Block;
use super::filter::{Among, Filter, Needle};
use super::segment::{self, read_group};
use super::terms::{Terms, Unusable};
use super::{LogError, Shared, at};

/// Where in the log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Newest first, from just before this position on.
    Before(u64),
    /// Oldest first, from the first position on, up to just before the second.
    Between(u64, u64),
}

impl Span {
    fn holds(self, position: u64) -> bool {
        match self {
            Span::Before(end) => position < end,
            Span::Between(start, end) => (start..end).contains(&position),
        }
    }

    /// Whether any position from `first` to just before `next` is in it.
    fn meets(self, first: u64, next: u64) -> bool {
        match self {
            Span::Before(end) => first < end,
            Span::Between(start, end) => first < end && start < next,
        }
    }
}

/// A piece of a segment whose records belong together.
struct Piece {
    /// First position of the segment.
    segment: u64,
    /// Positions of its first record, and behind its last.
    positions: (u64, u64),
    /// Where it begins and ends in the segment.
    bytes: (u64, u64),
    /// What is known of it; nothing of the newest.
    block: Option<Arc<Block>>,
}

impl Piece {
    fn of(segment: u64, block: &Arc<Block>) -> Self {
        Self {
            segment,
            positions: (block.first, block.first + block.count),
            bytes: (block.start, block.end),
            block: Some(Arc::clone(block)),
        }
    }
}

/// A segment: positions of its first record and behind its last.
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) next: u64,
    /// Of the open one, which nothing is written about yet.
    pieces: Option<Vec<Piece>>,
}

impl Segment {
    /// What is known of the values and words in it.
    pub(super) fn terms(&self, shared: &Shared) -> Option<Arc<Terms>> {
        if self.pieces.is_some() { None } else { shared.terms(self.first, self.next) }
    }

    fn into_pieces(self, shared: &Shared) -> Result<Vec<Piece>, LogError> {
        match self.pieces {
            Some(pieces) => Ok(pieces),
            None => {
                let index = shared.index(self.first, self.next)?;
                Ok(index.blocks.iter().map(|block| Piece::of(self.first, block)).collect())
            }
        }
    }
}

/// All segments at one moment, oldest first; the last is the open one.
pub(super) fn segments(shared: &Shared) -> Vec<Segment> {
    let view = shared.view.read();
    let open = &view.open;
    let ends = view.closed.iter().skip(1).chain([&open.first]);
    let mut pieces: Vec<Piece> = open.blocks.iter().map(|block| Piece::of(open.first, block)).collect();
    let (start, first) = open.open_block();
    if first < open.next {
        let positions = (first, open.next);
        pieces.push(Piece { segment: open.first, positions, bytes: (start, open.end), block: None });
    }
    let closed = view.closed.iter().zip(ends).map(|(first, next)| Segment { first: *first, next: *next, pieces: None });
    closed.chain([Segment { first: open.first, next: open.next, pieces: Some(pieces) }]).collect()
}

/// Calls `visit` for each piece of a segment in the span that `wanted` takes, newest or oldest first, until it says
/// that it is enough.
fn walk_segment(
    shared: &Shared,
    segment: Segment,
    (span, newest_first): (Span, bool),
    wanted: &dyn Fn(&Piece) -> bool,
    visit: &mut dyn FnMut(&Piece, &[u8]) -> Result<Next, LogError>,
) -> Result<Next, LogError> {
    let path = segment::path(&shared.dir, segment.first);
    let mut pieces = segment.into_pieces(shared)?;
    if newest_first {
        pieces.reverse();
    }
    let mut file = None;
    let mut bytes = Vec::new();
    for piece in pieces.iter().filter(|piece| span.meets(piece.positions.0, piece.positions.1) && wanted(piece)) {
        let file = match &mut file {
            Some(file) => file,
            none => none.insert(File::open(&path).map_err(at(&path))?),
        };
        let length = usize::try_from(piece.bytes.1.saturating_sub(piece.bytes.0)).unwrap_or_default();
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes, piece.bytes.0).map_err(at(&path))?;
        if visit(piece, &bytes)? == Next::Enough {
            return Ok(Next::Enough);
        }
    }
    Ok(Next::More)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

/// Calls `each` for the records of a piece, oldest first, with their positions.
fn records<'b>(
    shared: &Shared,
    piece: &Piece,
    mut bytes: &'b [u8],
    each: &mut dyn FnMut(u64, &'b [u8], &Scanned<'b>),
) -> Result<(), LogError> {
    let mut position = piece.positions.0;
    while position < piece.positions.1 {
        let Some(group) = read_group(bytes, position) else {
            let left = bytes.len() as u64;
            let path = segment::path(&shared.dir, piece.segment);
            tracing::error!(path = %path.display(), position, "the audit log is damaged");
            return Err(LogError::Damaged { path, position, offset: piece.bytes.1.saturating_sub(left) });
        };
        for (payload, record) in &group.records {
            each(position, payload, record);
            position += 1;
        }
        bytes = bytes.get(group.length..).unwrap_or_default();
    }
    Ok(())
}

/// Positions and bytes of matching records, at most `limit`.
pub(super) fn read(
    shared: &Shared,
    filter: &Filter,
    span: Span,
    limit: u32,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let needle = Needle::new(filter);
    let newest_first = matches!(span, Span::Before(_));
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut segments = segments(shared);
    if newest_first {
        segments.reverse();
    }
    for segment in segments.into_iter().filter(|segment| span.meets(segment.first, segment.next)) {
        if found.len() >= limit || cancelled() {
            break;
        }
        let room = limit - found.len();
        if needle.asks_for_more_than_time()
            && let Some(terms) = segment.terms(shared)
        {
            match picked(shared, &terms, &needle, (span, newest_first), room) {
                Ok(Picked::These(records)) => {
                    found.extend(records?);
                    continue;
                }
                Ok(Picked::TooMany) => {}
                Err(Unusable) => shared.spoiled_terms(terms.first),
            }
        }
        let wanted = |piece: &Piece| piece.block.as_ref().is_none_or(|block| needle.may_be_in(block));
        walk_segment(shared, segment, (span, newest_first), &wanted, &mut |piece, bytes| {
            if cancelled() {
                return Ok(Next::Enough);
            }
            let mut here = Vec::new();
            records(shared, piece, bytes, &mut |position, payload, record| {
                if span.holds(position) && needle.is(record, payload) {
                    here.push((position, payload));
                }
            })?;
            if newest_first {
                here.reverse();
            }
            let room = limit - found.len();
            found.extend(here.into_iter().take(room).map(|(position, payload)| (position, payload.to_vec())));
            Ok(if found.len() >= limit { Next::Enough } else { Next::More })
        })?;
    }
    Ok(found)
}

/// What came of a look at a segment's terms.
enum Picked {
    /// The matching records, or a failure of the segment itself.
    These(Result<Vec<(u64, Vec<u8>)>, LogError>),
    /// So many match that reading the segment as a whole is cheaper.
    TooMany,
}

/// Part of a segment's records from which on they are not read one by one: one of so many.
const SPARSE: u64 = 4;

/// Reads at most `room` matching records of a closed segment, one by one.
fn picked(
    shared: &Shared,
    terms: &Terms,
    needle: &Needle,
    (span, newest_first): (Span, bool),
    room: usize,
) -> Result<Picked, Unusable> {
    let mut open = terms.open(&shared.dir)?;
    let numbers = match needle.among(terms, &mut open)? {
        Among::All => return Ok(Picked::TooMany),
        Among::These(bits) if bits.is_empty() => return Ok(Picked::These(Ok(Vec::new()))),
        Among::These(bits) if bits.len().saturating_mul(SPARSE) > terms.size as u64 => return Ok(Picked::TooMany),
        Among::These(bits) => bits,
    };
    let places = open.places()?;
    let path = segment::path(&shared.dir, terms.first);
    let read = || {
        let file = File::open(&path).map_err(at(&path))?;
        let mut found = Vec::new();
        let mut rising = numbers.iter();
        let mut bytes = Vec::new();
        while found.len() < room
            && let Some(number) = if newest_first { rising.next_back() } else { rising.next() }
        {
            let position = terms.first + u64::from(number);
            if !span.holds(position) {
                continue;
            }
            let place = u64::from(places.get(number as usize).copied().unwrap_or(u32::MAX));
            let damaged = || LogError::Damaged { path: path.clone(), position, offset: place };
            let payload = read_one(&file, place, &mut bytes).ok_or_else(damaged)?;
            let record = scan_record(payload).map_err(|_| damaged())?;
            if needle.is(&record, payload) {
                found.push((position, payload.to_vec()));
            }
        }
        Ok(found)
    };
    Ok(Picked::These(read()))
}

/// The payload of the frame at a place.
fn read_one<'b>(file: &File, place: u64, bytes: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    const USUAL: usize = 1_024;
    bytes.resize(USUAL, 0);
    let got = file.read_at(bytes, place).ok()?;
    let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
    let whole =
        HEADER_BYTES.checked_add(usize::try_from(length).ok()?).filter(|_| length as usize <= MAX_RECORD_BYTES)?;
    if whole > got {
        bytes.resize(whole, 0);
        file.read_exact_at(bytes, place).ok()?;
    }
    match read_frame(bytes.get(..whole)?) {
        Frame::Whole { payload, .. } => Some(payload),
        _ => None,
    }
}

/// Calls `each` for every record of a segment's blocks that may hold a matching one, oldest first, with its canonical
/// bytes.
pub(super) fn scan(
    shared: &Shared,
    segment: Segment,
    needle: &Needle,
    each: &mut dyn FnMut(&[u8], &Scanned<'_>),
) -> Result<(), LogError> {
    let wanted = |piece: &Piece| piece.block.as_ref().is_none_or(|block| needle.may_be_in(block));
    walk_segment(shared, segment, (Span::Between(0, u64::MAX), false), &wanted, &mut |piece, bytes| {
        records(shared, piece, bytes, &mut |_, payload, record| each(payload, record))?;
        Ok(Next::More)
    })?;
    Ok(())
}

/// From the first block that may hold a matching record to behind the last, without reading either.
pub(super) fn part(shared: &Shared, filter: &Filter) -> Result<(u64, u64), LogError> {
    let needle = Needle::new(filter);
    let segments = segments(shared);
    let end = segments.last().map_or(0, |open| open.next);
    let mut part: Option<(u64, u64)> = None;
    for segment in segments {
        for piece in segment.into_pieces(shared)? {
            if piece.block.as_ref().is_none_or(|block| needle.may_be_in(block)) {
                let (first, next) = piece.positions;
                part = Some((part.map_or(first, |(begin, _)| begin.min(first)), next));
            }
        }
    }
    Ok(part.unwrap_or((end, end)))
}

/// Canonical bytes of up to `count` records of a source, by number from `first` on.
pub(super) fn of_source(
    shared: &Shared,
    source: &str,
    first: u64,
    count: usize,
) -> Result<HashMap<u64, Vec<u8>>, LogError> {
    let numbers = first..first.saturating_add(count as u64);
    let own = canonical_text(source);
    let mut found = HashMap::new();
    let wanted = |piece: &Piece| {
        piece.block.as_ref().is_none_or(|block| {
            block.sources.get(source).is_some_and(|(low, high)| *low < numbers.end && *high >= numbers.start)
        })
    };
    for segment in segments(shared).into_iter().rev() {
        let next = walk_segment(shared, segment, (Span::Before(u64::MAX), true), &wanted, &mut |piece, bytes| {
            let mut is_older = false;
            records(shared, piece, bytes, &mut |_, payload, record| {
                if record.source == own {
                    is_older |= record.seq <= numbers.start;
                    if numbers.contains(&record.seq) {
                        found.insert(record.seq, payload.to_vec());
                    }
                }
            })?;
            // Numbers of a source rise with positions.
            Ok(if is_older { Next::Enough } else { Next::More })
        })?;
        if next == Next::Enough {
            break;
        }
    }
    Ok(found)
}
