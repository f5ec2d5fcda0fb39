//! The audit spool: numbered records in segment files, written by one thread in groups.
//!
//! A segment is a row of frames (`docs/spec/audit-record.md`) and is named by the number of its
//! first record. `write(2)` makes a record survive the death of this process, `fdatasync(2)` that
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

use vouchsafe_wire::audit::{Record, RecordError};
use vouchsafe_wire::spool::{Frame, push_frame, read_frame};

use crate::record::Until;

/// Size at which a new segment begins, bytes.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longest piece read at once for delivery, bytes.
const READ_BYTES: usize = 512 * 1024;

/// Failure of the spool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// A file could not be read or written.
    #[error("audit spool `{path}` can't be used", path = path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A record could not be made.
    #[error("audit record can't be made")]
    Record(#[from] RecordError),
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
    source: String,
    path: PathBuf,
    file: File,
    /// End of the last record's frame.
    end: u64,
    next_seq: u64,
    /// Size at which a new segment begins, bytes.
    segment_bytes: u64,
    /// This segment can't be trusted with another record: the next one begins a new segment.
    spoiled: bool,
}

impl Spool {
    /// Opens the directory, repairs the end of the last segment and continues its numbering, or
    /// that of the controller when it knows more (`known`: highest number it holds).
    pub(crate) fn open(dir: &Path, source: String, known: u64) -> Result<Self, SpoolError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let mut next_seq = known + 1;
        if let Some((first, path)) = segments(dir)?.pop() {
            let (last, end) = scan(&path, first)?;
            let file = OpenOptions::new().write(true).open(&path).map_err(at(&path))?;
            file.set_len(end).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
            next_seq = next_seq.max(last + 1);
            if next_seq == last + 1 && end < SEGMENT_BYTES {
                return Self::resume(dir, source, path, file, end, next_seq);
            }
        }
        let (path, file) = new_segment(dir, next_seq)?;
        Self::resume(dir, source, path, file, 0, next_seq)
    }

    fn resume(
        dir: &Path,
        source: String,
        path: PathBuf,
        mut file: File,
        end: u64,
        next_seq: u64,
    ) -> Result<Self, SpoolError> {
        file.seek(SeekFrom::Start(end)).map_err(at(&path))?;
        let dir = dir.to_owned();
        Ok(Self { dir, source, path, file, end, next_seq, segment_bytes: SEGMENT_BYTES, spoiled: false })
    }

    /// Number of the record that comes next: those below it are written.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Numbers and writes records, and for [`Until::Durable`] syncs them and all before them.
    /// Either all of them are in the spool afterwards, or none is.
    pub(crate) fn append(&mut self, records: &mut [Record], until: Until) -> Result<(), SpoolError> {
        let mut bytes = Vec::with_capacity(records.len() * 512);
        let mut seq = self.next_seq;
        for record in records {
            record.seq = seq;
            record.source.clone_from(&self.source);
            push_frame(&mut bytes, &record.to_canonical()?);
            seq += 1;
        }
        if self.spoiled || self.end >= self.segment_bytes {
            self.turn_over()?;
        }
        if let Err(source) = self.file.write_all(&bytes) {
            self.cut_off();
            return Err(SpoolError::File { path: self.path.clone(), source });
        }
        if until == Until::Durable
            && let Err(error) = self.sync()
        {
            self.cut_off();
            return Err(error);
        }
        self.end += bytes.len() as u64;
        self.next_seq = seq;
        Ok(())
    }

    /// Makes segments of another size, to have many of them.
    #[cfg(test)]
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Makes everything appended so far survive the death of the machine.
    pub(crate) fn sync(&mut self) -> Result<(), SpoolError> {
        // After a failure the system may have dropped what it could not write, and says so only
        // once: another sync of this file would prove nothing.
        self.file.sync_data().inspect_err(|_| self.spoiled = true).map_err(at(&self.path))
    }

    fn turn_over(&mut self) -> Result<(), SpoolError> {
        let was_spoiled = self.spoiled;
        match self.sync() {
            Err(error) if was_spoiled => tracing::error!(%error, "audit spool goes on in a new segment"),
            other => other?,
        }
        let (path, file) = new_segment(&self.dir, self.next_seq)?;
        (self.path, self.file, self.end, self.spoiled) = (path, file, 0, false);
        Ok(())
    }

    /// Removes what a failed attempt left behind the last record.
    fn cut_off(&mut self) {
        let cut = self.file.set_len(self.end).and_then(|()| self.file.seek(SeekFrom::Start(self.end)));
        if let Err(error) = cut {
            tracing::error!(%error, path = %self.path.display(), "the rest of a failed write stays in the audit spool");
            self.spoiled = true;
        }
    }
}

/// The reading end, for delivery to the controller.
pub(crate) struct SpoolReader {
    dir: PathBuf,
    first: u64,
    offset: u64,
    next_seq: u64,
}

impl SpoolReader {
    /// Starts at the oldest record that is still here.
    pub(crate) fn open(dir: &Path) -> Result<Self, SpoolError> {
        let first = segments(dir)?.first().map_or(1, |(first, _)| *first);
        Ok(Self { dir: dir.to_owned(), first, offset: 0, next_seq: first })
    }

    /// The next records below number `committed`, in order, at most about half a megabyte; empty
    /// when there is none.
    pub(crate) fn next_batch(&mut self, committed: u64) -> Result<Vec<(u64, Vec<u8>)>, SpoolError> {
        loop {
            // Looked for before the segment is read: once there is a newer one, the writer is done
            // with this one, and what is read after that is all there is.
            let newer = segments(&self.dir)?.into_iter().map(|(first, _)| first).find(|first| *first > self.first);
            let path = segment_path(&self.dir, self.first);
            let batch = self.read_segment(&path, committed.min(newer.unwrap_or(u64::MAX)))?;
            if !batch.is_empty() {
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

    fn read_segment(&mut self, path: &Path, end_seq: u64) -> Result<Vec<(u64, Vec<u8>)>, SpoolError> {
        if self.next_seq >= end_seq {
            return Ok(Vec::new());
        }
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(at(path))?,
        };
        file.seek(SeekFrom::Start(self.offset)).map_err(at(path))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES as u64).read_to_end(&mut bytes).map_err(at(path))?;
        let mut batch = Vec::new();
        let mut rest = bytes.as_slice();
        while self.next_seq < end_seq
            && let Frame::Whole { payload, length } = read_frame(rest)
        {
            batch.push((self.next_seq, payload.to_vec()));
            self.next_seq += 1;
            self.offset += length as u64;
            rest = rest.get(length..).unwrap_or_default();
        }
        if batch.is_empty() && !rest.is_empty() {
            tracing::error!(path = %path.display(), seq = self.next_seq, "audit spool is damaged");
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

fn new_segment(dir: &Path, first: u64) -> Result<(PathBuf, File), SpoolError> {
    let path = segment_path(dir, first);
    // There may be a file of that name: the rest of a failed attempt at this very record. It holds
    // nothing that counts.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(at(&path))?;
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
    if end < bytes.len() {
        tracing::warn!(path = %path.display(), cut_bytes = bytes.len() - end, "cut a torn record off the audit spool");
    }
    Ok((last, end as u64))
}

#[cfg(test)]
mod tests;
