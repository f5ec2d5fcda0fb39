//! The audit spool: numbered records in segment files, written by one thread in groups.
//!
//! A segment is a row of frames (`docs/spec/audit-record.md`) in room that was reserved for it, and
//! is named by the number of its first record. `write(2)` makes a record survive the death of this process, `fdatasync(2)` that
//! of the machine. After a crash the torn end of the last segment is cut off and numbering goes on
//! behind the last whole record.
//!
//! Bytes become records when the writer says so: it publishes the number behind the last record
//! that it wrote, and the reader never goes beyond. What a failed write left in a file is cut off
//! or, when that fails too, given up together with the segment: a segment's records end where the
//! next segment begins, whatever else is in the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use vouchsafe_runtime::limits::AUDIT_SPOOL_BYTES;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_wire::audit::Draft;
use vouchsafe_wire::spool::{Frame, read_frame};

/// Size at which a new segment begins, bytes.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longest piece read at once for delivery, bytes.
const READ_BYTES: usize = 512 * 1024;

/// Failure of the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file could not be read or written.
    #[error("audit spool `{path}` can't be used", path = path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The controller has not taken records for so long that there is no more room.
    #[error("audit spool `{path}` is full: the controller has not taken its records", path = path.display())]
    Full {
        /// The directory.
        path: PathBuf,
    },
    /// A record that was written is not there any more.
    #[error("audit spool `{path}` is damaged at record {seq}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Number of the record that can't be read.
        seq: u64,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SpoolError + '_ {
    move |source| SpoolError::File { path: path.to_owned(), source }
}

/// The writing end.
pub(crate) struct Spool {
    dir: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    /// Earlier segments with something in them that is not synced yet.
    unsynced: Vec<(PathBuf, Arc<File>)>,
    /// Frames of the newest group.
    group: Vec<u8>,
    /// End of the last record's frame.
    end: u64,
    next_seq: u64,
    /// Size at which a new segment begins, bytes.
    segment_bytes: u64,
    /// Room for all segments together, bytes.
    most_bytes: u64,
    /// This segment can't be trusted with another record: the next one begins a new segment.
    spoiled: bool,
}

impl Spool {
    /// Opens the directory, repairs the end of the last segment and continues its numbering, or
    /// that of the controller when it knows more (`known`: highest number it holds).
    pub(crate) fn open(dir: &Path, known: u64) -> Result<Self, SpoolError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let mut next_seq = known + 1;
        if let Some((first, path)) = segments(dir)?.pop() {
            let (last, end) = scan(&path, first)?;
            let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
            file.set_len(end).map_err(at(&path))?;
            next_seq = next_seq.max(last + 1);
            let goes_on = next_seq == last + 1 && end < SEGMENT_BYTES;
            if goes_on {
                reserve(&file, SEGMENT_BYTES).map_err(at(&path))?;
            }
            file.sync_all().map_err(at(&path))?;
            if goes_on {
                return Self::resume(dir, path, file, end, next_seq);
            }
        }
        let (path, file) = new_segment(dir, next_seq, SEGMENT_BYTES)?;
        Self::resume(dir, path, file, 0, next_seq)
    }

    fn resume(dir: &Path, path: PathBuf, mut file: File, end: u64, next_seq: u64) -> Result<Self, SpoolError> {
        file.seek(SeekFrom::Start(end)).map_err(at(&path))?;
        Ok(Self {
            dir: dir.to_owned(),
            path,
            file: Arc::new(file),
            unsynced: Vec::new(),
            group: Vec::new(),
            end,
            next_seq,
            segment_bytes: SEGMENT_BYTES,
            most_bytes: AUDIT_SPOOL_BYTES,
            spoiled: false,
        })
    }

    /// Number of the record that comes next: those below it are written.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether the next group begins a new segment, which takes longer than a write.
    pub(crate) fn must_turn_over(&self) -> bool {
        self.spoiled || self.end >= self.segment_bytes
    }

    /// Numbers and writes a group. Either all of it is in the spool afterwards, or nothing.
    /// Returns its frames.
    pub(crate) fn append<'d>(&mut self, drafts: impl Iterator<Item = &'d Draft>) -> Result<&[u8], SpoolError> {
        if self.must_turn_over() {
            self.turn_over()?;
        }
        self.group.clear();
        let mut seq = self.next_seq;
        for draft in drafts {
            draft.push_frame(seq, &mut self.group);
            seq += 1;
        }
        if let Err(source) = (&*self.file).write_all(&self.group) {
            self.cut_off();
            return Err(SpoolError::File { path: self.path.clone(), source });
        }
        self.end += self.group.len() as u64;
        self.next_seq = seq;
        Ok(&self.group)
    }

    /// Makes segments of another size, to have many of them.
    #[cfg(test)]
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Makes everything appended so far survive the death of the machine.
    pub(crate) fn sync(&mut self) -> Result<(), SpoolError> {
        let outcome = self.begin_sync().run();
        self.end_sync(outcome)
    }

    /// What has to be synced, to do it while more is appended.
    pub(crate) fn begin_sync(&mut self) -> Sync {
        let mut files = std::mem::take(&mut self.unsynced);
        files.push((self.path.clone(), Arc::clone(&self.file)));
        Sync { files }
    }

    /// Notes how it went.
    pub(crate) fn end_sync(&mut self, outcome: Result<(), SpoolError>) -> Result<(), SpoolError> {
        // After a failure the system may have dropped what it could not write, and says so only
        // once: another sync of this file would prove nothing.
        outcome.inspect_err(|_| self.spoiled = true)
    }

    fn turn_over(&mut self) -> Result<(), SpoolError> {
        // Room for a whole segment is reserved at its start, so this is the one place where the
        // spool grows, and where a full disk is met.
        let used = segments(&self.dir)?.len() as u64 * self.segment_bytes;
        if used >= self.most_bytes {
            return Err(SpoolError::Full { path: self.dir.clone() });
        }
        let (path, file) = new_segment(&self.dir, self.next_seq, self.segment_bytes)?;
        // Gives back the room that was not used. The records end where the next segment begins
        // in any case.
        if let Err(error) = self.file.set_len(self.end) {
            tracing::debug!(%error, path = %self.path.display(), "an audit segment keeps room that it does not need");
        }
        let before = std::mem::replace(&mut self.path, path);
        let file = std::mem::replace(&mut self.file, Arc::new(file));
        if self.spoiled {
            tracing::error!(path = %before.display(), "audit spool goes on in a new segment");
        } else {
            self.unsynced.push((before, file));
        }
        (self.end, self.spoiled) = (0, false);
        Ok(())
    }

    /// Removes what a failed attempt left behind the last record.
    fn cut_off(&mut self) {
        let cut = self
            .file
            .set_len(self.end)
            .and_then(|()| reserve(&self.file, self.segment_bytes.max(self.end)))
            .and_then(|()| (&*self.file).seek(SeekFrom::Start(self.end)));
        if let Err(error) = cut {
            tracing::error!(%error, path = %self.path.display(), "the rest of a failed write stays in the audit spool");
            self.spoiled = true;
        }
    }
}

/// A sync that is to be run.
pub(crate) struct Sync {
    files: Vec<(PathBuf, Arc<File>)>,
}

impl Sync {
    pub(crate) fn run(&self) -> Result<(), SpoolError> {
        self.files.iter().try_for_each(|(path, file)| file.sync_data().map_err(at(path)))
    }
}

/// The reading end, for delivery to the controller.
pub(crate) struct SpoolReader {
    dir: PathBuf,
    first: u64,
    offset: u64,
    /// Number of the record at that place.
    next_seq: u64,
    /// Records below this number have been delivered in another way.
    wanted: u64,
}

impl SpoolReader {
    /// Starts at the oldest record that is still here.
    pub(crate) fn open(dir: &Path) -> Result<Self, SpoolError> {
        let first = segments(dir)?.first().map_or(1, |(first, _)| *first);
        Ok(Self { dir: dir.to_owned(), first, offset: 0, next_seq: first, wanted: first })
    }

    /// Number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.wanted.max(self.next_seq)
    }

    /// Goes on at that record; those before it have been delivered.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        self.wanted = seq;
    }

    /// The next records below number `committed`, in order, at most about half a megabyte; empty
    /// when there is none.
    pub(crate) fn next_batch(&mut self, committed: u64) -> Result<RecordBatch, SpoolError> {
        if self.wanted > self.next_seq {
            // Not through what was skipped, when there is a segment that begins behind it.
            let newest = segments(&self.dir)?.into_iter().map(|(first, _)| first).rfind(|first| *first <= self.wanted);
            if let Some(first) = newest.filter(|first| *first > self.first) {
                (self.first, self.offset, self.next_seq) = (first, 0, first);
            }
        }
        loop {
            // Looked for before the segment is read: once there is a newer one, the writer is done
            // with this one, and what is read after that is all there is.
            let newer = segments(&self.dir)?.into_iter().map(|(first, _)| first).find(|first| *first > self.first);
            let path = segment_path(&self.dir, self.first);
            let batch = self.read_segment(&path, committed.min(newer.unwrap_or(u64::MAX)))?;
            if batch.count > 0 {
                return Ok(batch);
            }
            match newer {
                Some(first) if first <= committed => {
                    (self.first, self.offset, self.next_seq) = (first, 0, first);
                }
                None if self.next_seq < committed => return Err(SpoolError::Damaged { path, seq: self.next_seq }),
                Some(_) | None => return Ok(batch),
            }
        }
    }

    fn read_segment(&mut self, path: &Path, end_seq: u64) -> Result<RecordBatch, SpoolError> {
        let mut batch = RecordBatch::default();
        while batch.count == 0 && self.next_seq < end_seq {
            let mut file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(batch),
                other => other.map_err(at(path))?,
            };
            file.seek(SeekFrom::Start(self.offset)).map_err(at(path))?;
            let mut bytes = Vec::new();
            file.take(READ_BYTES as u64).read_to_end(&mut bytes).map_err(at(path))?;
            let (mut start, mut end) = (0, 0);
            while self.next_seq < end_seq
                && let Frame::Whole { length, .. } = read_frame(bytes.get(end..).unwrap_or_default())
            {
                end += length;
                if self.next_seq < self.wanted {
                    start = end;
                } else {
                    batch.count += 1;
                }
                self.next_seq += 1;
            }
            if end == 0 {
                if !bytes.is_empty() {
                    tracing::error!(path = %path.display(), seq = self.next_seq, "audit spool is damaged");
                }
                return Ok(batch);
            }
            self.offset += end as u64;
            batch.first_seq = self.next_seq - batch.count;
            batch.frames = Bytes::from(bytes).slice(start..end);
        }
        Ok(batch)
    }

    /// Removes segments whose every record the controller has. The one being written stays.
    pub(crate) fn forget(&self, acknowledged: u64) -> Result<(), SpoolError> {
        let all = segments(&self.dir)?;
        for ((_, path), (next_first, _)) in all.iter().zip(all.iter().skip(1)) {
            if *next_first > acknowledged + 1 {
                break;
            }
            fs::remove_file(path).map_err(at(path))?;
        }
        Ok(())
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.spool"))
}

/// All segments with the number of their first record, oldest first.
fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SpoolError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".spool"))
            .and_then(|digits| digits.parse().ok());
        if let Some(first) = first {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reserves room, so that a sync writes no more than the records.
fn reserve(file: &File, room: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, room) {
        // Not every file system can; then the file grows as it is written.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn new_segment(dir: &Path, first: u64, room: u64) -> Result<(PathBuf, File), SpoolError> {
    let path = segment_path(dir, first);
    // There may be a file of that name: the rest of a failed attempt at this very record. It holds
    // nothing that counts.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(at(&path))?;
    if let Err(source) = reserve(&file, room) {
        let _ = fs::remove_file(&path);
        return Err(SpoolError::File { path, source });
    }
    // The name must survive a crash as well as the content.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    Ok((path, file))
}

/// Number of the last whole record of a segment (one below `first` when there is none) and the
/// end of its frame.
fn scan(path: &Path, first: u64) -> Result<(u64, u64), SpoolError> {
    let bytes = fs::read(path).map_err(at(path))?;
    let (mut last, mut end) = (first - 1, 0);
    while let Frame::Whole { length, .. } = read_frame(bytes.get(end..).unwrap_or_default()) {
        last += 1;
        end += length;
    }
    if bytes.iter().skip(end).any(|byte| *byte != 0) {
        tracing::warn!(path = %path.display(), cut_bytes = bytes.len() - end, "cut a torn record off the audit spool");
    }
    Ok((last, end as u64))
}

#[cfg(test)]
mod tests;
