//! Finding records: blocks are passed over by what is known of them, the rest is read and scanned.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vouchsafe_wire::audit::{Scanned, canonical_text};

use super::block::Block;
use super::filter::{Filter, Needle};
use super::segment::{self, read_group};
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

/// All segments at one moment: first positions of the closed ones and behind them, and the pieces of the open one.
struct Snapshot {
    closed: Vec<(u64, u64)>,
    open: (u64, u64),
    open_pieces: Vec<Piece>,
}

impl Snapshot {
    fn take(shared: &Shared) -> Self {
        let view = shared.view.read();
        let open = &view.open;
        let ends = view.closed.iter().skip(1).chain([&open.first]);
        let mut open_pieces: Vec<Piece> = open.blocks.iter().map(|block| Piece::of(open.first, block)).collect();
        let (start, first) = open.open_block();
        if first < open.next {
            let positions = (first, open.next);
            open_pieces.push(Piece { segment: open.first, positions, bytes: (start, open.end), block: None });
        }
        Self {
            closed: view.closed.iter().copied().zip(ends.copied()).collect(),
            open: (open.first, open.next),
            open_pieces,
        }
    }
}

/// Calls `visit` for each piece of each segment in the span that `wanted` takes, newest or oldest
/// first, until it says that it is enough.
fn walk(
    shared: &Shared,
    span: Span,
    newest_first: bool,
    wanted: &dyn Fn(&Piece) -> bool,
    visit: &mut dyn FnMut(&Piece, &[u8]) -> Result<Next, LogError>,
) -> Result<(), LogError> {
    let Snapshot { closed, open, open_pieces } = Snapshot::take(shared);
    let mut segments: Vec<(u64, u64)> = closed;
    segments.push(open);
    if newest_first {
        segments.reverse();
    }
    let mut open_pieces = Some(open_pieces);
    for (first, next) in segments {
        if !span.meets(first, next) {
            continue;
        }
        let mut pieces = match (first == open.0).then(|| open_pieces.take()).flatten() {
            Some(pieces) => pieces,
            None => shared.index(first, next)?.blocks.iter().map(|block| Piece::of(first, block)).collect(),
        };
        if newest_first {
            pieces.reverse();
        }
        let path = segment::path(&shared.dir, first);
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
                return Ok(());
            }
        }
    }
    Ok(())
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
    if limit == 0 {
        return Ok(found);
    }
    let wanted = |piece: &Piece| piece.block.as_ref().is_none_or(|block| needle.may_be_in(block));
    walk(shared, span, newest_first, &wanted, &mut |piece, bytes| {
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
    Ok(found)
}

/// Calls `each` for every record of blocks that may hold a matching one, oldest first, with its canonical bytes, until
/// it says no.
pub(super) fn scan(
    shared: &Shared,
    needle: &Needle,
    each: &mut dyn FnMut(&[u8], &Scanned<'_>) -> bool,
) -> Result<(), LogError> {
    let wanted = |piece: &Piece| piece.block.as_ref().is_none_or(|block| needle.may_be_in(block));
    walk(shared, Span::Between(0, u64::MAX), false, &wanted, &mut |piece, bytes| {
        let mut goes_on = true;
        records(shared, piece, bytes, &mut |_, payload, record| goes_on = goes_on && each(payload, record))?;
        Ok(if goes_on { Next::More } else { Next::Enough })
    })
}

/// From the first block that may hold a matching record to behind the last, without reading either.
pub(super) fn part(shared: &Shared, filter: &Filter) -> Result<(u64, u64), LogError> {
    let needle = Needle::new(filter);
    let Snapshot { closed, open, open_pieces } = Snapshot::take(shared);
    let mut part: Option<(u64, u64)> = None;
    let mut add = |piece: &Piece| {
        if piece.block.as_ref().is_none_or(|block| needle.may_be_in(block)) {
            let (first, next) = piece.positions;
            part = Some((part.map_or(first, |(begin, _)| begin.min(first)), next));
        }
    };
    for (first, next) in closed {
        shared.index(first, next)?.blocks.iter().for_each(|block| add(&Piece::of(first, block)));
    }
    open_pieces.iter().for_each(&mut add);
    Ok(part.unwrap_or((open.1, open.1)))
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
    walk(shared, Span::Before(u64::MAX), true, &wanted, &mut |piece, bytes| {
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
    Ok(found)
}
