//! Walking over the records in the order of positions, without a look into them: what the tree over the log is made of.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{self, GROUP_HEADER_BYTES, Group, payloads};
use super::{Log, LogError, Shared, at};

/// A place in the log. It remembers where it is, so that the next step doesn't look for it.
pub(crate) struct Walker {
    /// Position of the next record.
    next: u64,
    /// Where its group begins, once it is known: segment and byte.
    place: Option<(u64, u64)>,
    buffer: Vec<u8>,
}

/// A segment as the walker sees it: first position, position behind its last durable record.
struct Part {
    first: u64,
    next: u64,
}

impl Walker {
    /// Begins with the record at that position.
    pub(crate) fn at(next: u64) -> Self {
        Self { next, place: None, buffer: Vec::new() }
    }

    /// Position of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Calls `each` for the canonical bytes of the records of one group more, and says whether there was one.
    ///
    /// # Errors
    /// [`LogError`] when a file can't be read, or is damaged; the place stays.
    pub(crate) fn step(&mut self, log: &Log, each: &mut dyn FnMut(&[u8])) -> Result<bool, LogError> {
        let shared = &log.0;
        let Some(part) = part(shared, self.next) else { return Ok(false) };
        let path = segment::path(&shared.dir, part.first);
        let file = File::open(&path).map_err(at(&path))?;
        let mut offset = match self.place {
            Some((first, offset)) if first == part.first => offset,
            Some(_) | None => find(&file, &path, &part, self.next)?,
        };
        // Records of one group have one source and one commit, so most steps are of many.
        let damaged = |offset| LogError::Damaged { path: path.clone(), position: self.next, offset };
        let mut header = [0; GROUP_HEADER_BYTES];
        file.read_exact_at(&mut header, offset).map_err(at(&path))?;
        let group = Group::read(&header).ok_or_else(|| damaged(offset))?;
        let skipped = self.next.checked_sub(group.first).filter(|skipped| *skipped < u64::from(group.count));
        let skipped = skipped.ok_or_else(|| damaged(offset))?;
        self.buffer.resize(GROUP_HEADER_BYTES + group.bytes as usize, 0);
        file.read_exact_at(&mut self.buffer, offset).map_err(at(&path))?;
        let found = payloads(&self.buffer, group.first).ok_or_else(|| damaged(offset))?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        found.iter().skip(skipped).for_each(|payload| each(payload));
        offset += self.buffer.len() as u64;
        self.next = group.first + u64::from(group.count);
        self.place = Some((part.first, offset));
        Ok(true)
    }
}

/// The segment that holds the record at that position, if it is durable.
fn part(shared: &Shared, position: u64) -> Option<Part> {
    let view = shared.view.read();
    let open = Part { first: view.open.first, next: view.open.next };
    if position >= open.next {
        return None;
    }
    if position >= open.first {
        return Some(open);
    }
    let behind = view.closed.partition_point(|first| *first <= position);
    let first = *view.closed.get(behind.checked_sub(1)?)?;
    Some(Part { first, next: view.closed.get(behind).copied().unwrap_or(open.first) })
}

/// Where the group stands that holds the record at that position, by the headers of those before it.
fn find(file: &File, path: &Path, part: &Part, position: u64) -> Result<u64, LogError> {
    let (mut offset, mut next) = (0, part.first);
    loop {
        let damaged = || LogError::Damaged { path: path.to_owned(), position: next, offset };
        let mut header = [0; GROUP_HEADER_BYTES];
        file.read_exact_at(&mut header, offset).map_err(at(path))?;
        let group = Group::read(&header).filter(|group| group.first == next && group.count > 0);
        let group = group.filter(|group| next + u64::from(group.count) <= part.next).ok_or_else(damaged)?;
        next += u64::from(group.count);
        if position < next {
            return Ok(offset);
        }
        offset += GROUP_HEADER_BYTES as u64 + u64::from(group.bytes);
    }
}
