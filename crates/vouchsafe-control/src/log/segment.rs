//! Segment files: groups of frames, one group for each commit (`docs/spec/audit-log.md`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vouchsafe_wire::audit::{Scanned, scan};
use vouchsafe_wire::spool::{Frame, read_frame};

/// Bytes in front of each group.
pub(super) const GROUP_HEADER_BYTES: usize = 24;
/// Begins each group.
const MARK: [u8; 4] = *b"vsg1";

/// What the header of a group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Bytes of its frames.
    pub(super) bytes: u32,
    /// Position of its first record.
    pub(super) first: u64,
    /// How many records it has.
    pub(super) count: u32,
}

impl Group {
    pub(super) fn header(self) -> [u8; GROUP_HEADER_BYTES] {
        let mut header = [0; GROUP_HEADER_BYTES];
        let parts = MARK
            .into_iter()
            .chain(self.bytes.to_le_bytes())
            .chain(self.first.to_le_bytes())
            .chain(self.count.to_le_bytes());
        header.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        let sum = crc32fast::hash(header.get(..20).unwrap_or_default());
        header.iter_mut().skip(20).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
        header
    }

    /// What the header at the start of `bytes` says, when it is one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<GROUP_HEADER_BYTES>()?;
        let rest = header.strip_prefix(&MARK)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let sum = u32::from_le_bytes(*rest.first_chunk::<4>()?);
        let group = Self {
            bytes: u32::from_le_bytes(*length),
            first: u64::from_le_bytes(*first),
            count: u32::from_le_bytes(*count),
        };
        (sum == crc32fast::hash(header.get(..20)?)).then_some(group)
    }
}

/// One whole group.
pub(super) struct Whole<'b> {
    /// Header and frames.
    pub(super) length: usize,
    /// Canonical bytes and what is searched by, in order.
    pub(super) records: Vec<(&'b [u8], Scanned<'b>)>,
}

/// Reads the group at the start of `bytes`, which must begin with the record at position `next`.
/// `None` when it isn't there whole.
pub(super) fn read_group(bytes: &[u8], next: u64) -> Option<Whole<'_>> {
    let group = Group::read(bytes).filter(|group| group.first == next && group.count > 0)?;
    let length = GROUP_HEADER_BYTES + group.bytes as usize;
    let mut rest = bytes.get(GROUP_HEADER_BYTES..length)?;
    let mut records = Vec::with_capacity(group.count.min(4_096) as usize);
    while !rest.is_empty() {
        let Frame::Whole { payload, length } = read_frame(rest) else { return None };
        records.push((payload, scan(payload).ok()?));
        rest = rest.get(length..)?;
    }
    (records.len() == group.count as usize).then_some(Whole { length, records })
}

/// The frames of the group at the start of `bytes` without a look into their records; they must be all there is.
pub(super) fn payloads(bytes: &[u8], next: u64) -> Option<Vec<&[u8]>> {
    let group = Group::read(bytes).filter(|group| group.first == next && group.count > 0)?;
    let mut rest = bytes.get(GROUP_HEADER_BYTES..)?;
    let mut found = Vec::with_capacity(group.count.min(4_096) as usize);
    while !rest.is_empty() {
        let Frame::Whole { payload, length } = read_frame(rest) else { return None };
        found.push(payload);
        rest = rest.get(length..)?;
    }
    (found.len() == group.count as usize).then_some(found)
}

/// Whether a later group stands anywhere in these bytes. Groups are synced one after another, so
/// what is before a later group was durable once: if it can't be read, it was damaged. A header
/// alone doesn't tell: all of it can be letters, so whoever asks for a path can have one written
/// into a record. A frame with a record in it can't be, for a record's text has no byte below 32.
pub(super) fn holds_later_group(bytes: &[u8], next: u64) -> bool {
    let begins_here = |rest: &[u8]| {
        let begins_with_a_record =
            |frames: &[u8]| matches!(read_frame(frames), Frame::Whole { payload, .. } if scan(payload).is_ok());
        Group::read(rest).is_some_and(|group| group.first > next)
            && rest.get(GROUP_HEADER_BYTES..).is_some_and(begins_with_a_record)
    };
    let mut starts = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    starts.any(|(at, _)| bytes.get(at..).is_some_and(begins_here))
}

/// Path of the segment that begins with the record at that position.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Positions that segments begin with, rising.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a segment: empty, with its room reserved, and its name durable.
pub(super) fn create(dir: &Path, first: u64, room: u64) -> io::Result<File> {
    // A file of that name is the rest of a failed attempt at this very record; nothing in it counts.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path(dir, first))?;
    reserve(&file, room)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Reserves room on disk, so that a commit neither grows the file nor meets a full disk.
pub(super) fn reserve(file: &File, room: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, room) {
        // Not every file system can; then the file grows as it is written.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
