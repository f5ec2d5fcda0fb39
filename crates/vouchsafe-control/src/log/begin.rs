//! Where the log begins, once its oldest segments were removed (`docs/spec/audit-log.md`, Retention).
//!
//! The file `begin` says it, and which numbers the sources had reached there. It is durable before any segment goes, so
//! a removal that a crash cut short is gone on with, and a source that has been silent since is still known.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Log, LogError, Shared, at, index_path, segment, summed, terms};

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    /// Position of the oldest record that is kept.
    pub(super) first: u64,
    /// Highest number of each source before it.
    pub(super) sources: BTreeMap<String, u64>,
}

/// What the record of a removal says: records before that position go.
pub(crate) fn removal_words(first: u64, days: u32) -> String {
    format!("records before {first} are removed: they are older than {days} days")
}

/// Before which position records were removed, by what such a record says.
pub(super) fn removed_before(words: &str) -> Option<u64> {
    words.strip_prefix("records before ")?.split_once(" are removed")?.0.parse().ok()
}

fn path(dir: &Path) -> PathBuf {
    dir.join("begin")
}

impl Begin {
    /// What is said of the log in `dir`; without the file it begins with the first record.
    ///
    /// # Errors
    /// [`LogError::File`], also when the file is damaged.
    pub(super) fn read(dir: &Path) -> Result<Self, LogError> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(bytes) => summed::read(&bytes).ok_or_else(|| at(&path)(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Makes it durable; the file is there as a whole or as it was.
    fn keep(&self, dir: &Path) -> Result<(), LogError> {
        let path = path(dir);
        let draft = path.with_extension("draft");
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let written = opened.and_then(|mut file| file.write_all(&summed::write(self)).and_then(|()| file.sync_all()));
        let kept = written.and_then(|()| fs::rename(&draft, &path)).and_then(|()| File::open(dir)?.sync_all());
        kept.map_err(at(&path))
    }
}

/// Removes what lies before `first`: segments, and what is known of them. Segments go oldest first, so that what is
/// left is always the end of the log.
pub(super) fn remove_before(dir: &Path, first: u64) -> Result<usize, LogError> {
    let mut removed = 0;
    for old in segment::list(dir).map_err(at(dir))?.into_iter().take_while(|old| *old < first) {
        for path in [segment::path(dir, old), index_path(dir, old), terms::path(dir, old)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
                _ => {}
            }
        }
        removed += 1;
    }
    if removed > 0 {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    }
    Ok(removed)
}

impl Log {
    /// Position of the oldest record that is kept.
    pub(crate) fn first(&self) -> u64 {
        let view = self.0.view.read();
        view.closed.first().copied().unwrap_or(view.open.first)
    }

    /// Where the log would begin without the closed segments that were complete before `before`: the first position that
    /// stays, at most `most`. What counts is when a segment was written last, and its latest record, if that is later:
    /// gateways give records their times, and clocks err.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn older_than(&self, before: SystemTime, most: u64) -> Result<u64, LogError> {
        let spans = self.0.closed();
        let mut stays = self.first();
        let before_us = vouchsafe_runtime::clock::unix_micros(before);
        let now_us = vouchsafe_runtime::clock::unix_micros(vouchsafe_runtime::clock::now());
        for (first, next) in spans {
            let path = segment::path(&self.0.dir, first);
            let written = fs::metadata(&path).and_then(|found| found.modified()).map_err(at(&path))?;
            let index = self.0.index(first, next)?;
            let latest = index.blocks.iter().map(|block| block.times.1).max().unwrap_or(0);
            // A time in the future is no time of a record: it would keep the log for ever.
            if written >= before || (latest >= before_us && latest <= now_us) || next > most {
                break;
            }
            stays = next;
        }
        Ok(stays)
    }

    /// Has the log begin at a segment: readers don't see what is before it any more. The files stay until
    /// [`Log::remove_old`], for those who are reading.
    ///
    /// # Errors
    /// [`LogError`]; then nothing has changed.
    pub(crate) fn begin_at(&self, first: u64) -> Result<(), LogError> {
        let shared = &self.0;
        let spans = shared.closed();
        let Some((last, next)) = spans.into_iter().find(|(_, next)| *next == first) else { return Ok(()) };
        let sources = shared.index(last, next)?.sources.clone();
        Begin { first, sources }.keep(&shared.dir)?;
        shared.view.write().closed.retain(|closed| *closed >= first);
        shared.remembered.lock().retain(|closed, _| *closed >= first);
        shared.terms.lock().retain(|closed, _| *closed >= first);
        let mut unindexed = shared.unindexed.lock();
        unindexed.wanted.retain(|closed| *closed >= first);
        unindexed.failed.retain(|closed| *closed >= first);
        Ok(())
    }

    /// Removes the files of what is before the log's beginning, and says of how many segments.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub(crate) fn remove_old(&self) -> Result<usize, LogError> {
        remove_before(&self.0.dir, self.first())
    }
}

impl Shared {
    /// Closed segments: positions of the first record, and behind the last.
    fn closed(&self) -> Vec<(u64, u64)> {
        let view = self.view.read();
        let ends = view.closed.iter().skip(1).chain([&view.open.first]);
        view.closed.iter().copied().zip(ends.copied()).collect()
    }
}
