//! The Merkle tree over the log, on disk: hashes by level, in files beside the segments (`docs/spec/audit-log.md`).
//!
//! `merkle/<L>` holds the hashes of level `L` one after another: tile `N` of it is the 8,192 bytes from `N` times 8,192 on.
//! Nothing in it is not in the segments, too; what a crash left half written is cut off and made again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use vouchsafe_tlog::hash::{HASH_BYTES, Hash};
use vouchsafe_tlog::tree::{self, Edge, LEVELS, Stored, TILE_WIDTH};

use super::walk::Walker;
use super::{Log, LogError, at, gently};

/// Name of the directory beside the segments.
pub(crate) const MERKLE_DIRECTORY: &str = "merkle";
/// Records after which a batch of hashes is written.
const BATCH: u64 = 16_384;

/// Path of the newest checkpoint beside a log.
pub(crate) fn checkpoint_path(dir: &Path) -> PathBuf {
    dir.join(MERKLE_DIRECTORY).join("checkpoint")
}

/// Path of the newest checkpoint that witnesses have cosigned.
pub(crate) fn cosigned_path(dir: &Path) -> PathBuf {
    dir.join(MERKLE_DIRECTORY).join("cosigned")
}

/// Keeps one more checkpoint, by its size, to find later where a log was changed.
pub(crate) fn keep_milestone(dir: &Path, size: u64, note: &[u8]) -> io::Result<()> {
    let path = dir.join(format!("{size:020}.checkpoint"));
    let draft = path.with_extension("new");
    fs::write(&draft, note)?;
    fs::rename(draft, path)
}

/// The tree on disk. Its methods block.
pub(crate) struct Merkle {
    levels: Levels,
    writer: Mutex<Writer>,
    /// How many records are in it.
    size: AtomicU64,
}

struct Writer {
    edge: Edge,
    walker: Walker,
}

/// Files of hashes.
pub(crate) struct Levels {
    dir: PathBuf,
    files: Vec<File>,
}

impl Merkle {
    /// Opens the tree of the log in `dir`. `synced` is how many records were in it, at most, when it was last synced:
    /// what is behind that may be torn, and is made again.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub(crate) fn open(dir: &Path, synced: u64) -> Result<Self, LogError> {
        let levels = Levels::create(&dir.join(MERKLE_DIRECTORY))?;
        let size = levels.mend(synced)?;
        let edge = Edge::load(&levels, size)?;
        let writer = Mutex::new(Writer { edge, walker: Walker::at(size) });
        Ok(Self { levels, writer, size: AtomicU64::new(size) })
    }

    /// How many records are in it.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Takes in what the log has and it has not, but not much more than a batch at once; says whether there was anything.
    ///
    /// # Errors
    /// [`LogError`]; what was taken in stays.
    pub(crate) fn grow(&self, log: &Log) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        let Writer { edge, walker } = &mut *writer;
        // Work on a copy: when writing fails, nothing has happened.
        let mut grown = edge.clone();
        let mut rows: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut walked = Walker::at(walker.next());
        std::mem::swap(&mut walked, walker);
        let result = (|| {
            while grown.size() < edge.size() + BATCH {
                let more = walked.step(log, &mut |record| {
                    grown.push(Hash::of_leaf(record), &mut |level, index, hash| keep(&mut rows, level, index, hash));
                })?;
                if !more {
                    break;
                }
            }
            for ((first, bytes), level) in rows.iter().zip(0..LEVELS) {
                self.levels.write(level, *first, bytes)?;
            }
            Ok(())
        })();
        match result {
            Ok(()) => {
                let more = grown.size() > edge.size();
                *walker = walked;
                *edge = grown;
                self.size.store(edge.size(), Ordering::Release);
                Ok(more)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins anew with the hashes of the first `kept` records: of what was removed from the log there is nothing else.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn forget(&self, kept: u64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        let kept = kept.min(self.size());
        let edge = Edge::load(&self.levels, kept)?;
        *writer = Writer { edge, walker: Walker::at(kept) };
        self.size.store(kept, Ordering::Release);
        self.levels.cut(kept)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.levels.sync()
    }

    /// The hashes on disk.
    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The root of the first `size` records.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn root(&self, size: u64) -> Result<Hash, LogError> {
        let writer = self.writer.lock();
        if writer.edge.size() == size {
            return Ok(writer.edge.root());
        }
        drop(writer);
        tree::root(&self.levels, size)
    }
}

/// Puts a hash behind those of its level: they come without gaps.
fn keep(rows: &mut Vec<(u64, Vec<u8>)>, level: u8, index: u64, hash: Hash) {
    while rows.len() <= usize::from(level) {
        rows.push((u64::MAX, Vec::new()));
    }
    if let Some((first, bytes)) = rows.get_mut(usize::from(level)) {
        *first = index.min(*first);
        bytes.extend_from_slice(&hash.0);
    }
}

impl Levels {
    fn create(dir: &Path) -> Result<Self, LogError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let open = |level: u8| {
            let path = dir.join(level.to_string());
            let options =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            options.map_err(at(&path))
        };
        let files = (0..LEVELS).map(open).collect::<Result<_, _>>()?;
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// The files of a log that somebody else may be writing, to read only.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub(crate) fn read_only(dir: &Path) -> Result<Self, LogError> {
        let mut files = Vec::new();
        for level in 0..LEVELS {
            let path = dir.join(level.to_string());
            match File::open(&path) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(at(&path)(error)),
            }
        }
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// Path of a level's file.
    pub(crate) fn path(&self, level: u8) -> PathBuf {
        self.dir.join(level.to_string())
    }

    /// How many hashes a level has.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub(crate) fn count(&self, level: u8) -> Result<u64, LogError> {
        let Some(file) = self.files.get(usize::from(level)) else { return Ok(0) };
        let length = file.metadata().map_err(at(&self.path(level)))?.len();
        Ok(length / HASH_BYTES as u64)
    }

    fn file(&self, level: u8) -> Result<&File, LogError> {
        let missing = || at(&self.path(level))(io::ErrorKind::NotFound.into());
        self.files.get(usize::from(level)).ok_or_else(missing)
    }

    fn write(&self, level: u8, first: u64, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() {
            return Ok(());
        }
        gently::write_all_at(self.file(level)?, bytes, first * HASH_BYTES as u64).map_err(at(&self.path(level)))
    }

    fn sync(&self) -> Result<(), LogError> {
        self.files.iter().zip(0..).try_for_each(|(file, level)| file.sync_data().map_err(at(&self.path(level))))
    }

    /// Cuts every level to a tree of that size.
    fn cut(&self, size: u64) -> Result<(), LogError> {
        let mut count = size;
        for (file, level) in self.files.iter().zip(0..) {
            file.set_len(count * HASH_BYTES as u64).map_err(at(&self.path(level)))?;
            count /= TILE_WIDTH;
        }
        Ok(())
    }

    /// Brings all levels to one size, at most `most`, and gives it. What a level lacks is made from the one below.
    fn mend(&self, most: u64) -> Result<u64, LogError> {
        let size = self.count(0)?.min(most);
        let mut want = size;
        for level in 1..LEVELS {
            want /= TILE_WIDTH;
            let have = self.count(level)?.min(want);
            for index in have..want {
                let below = self.hashes(level - 1, index * TILE_WIDTH, TILE_WIDTH)?;
                let mut edge = Edge::default();
                below.into_iter().for_each(|hash| edge.push(hash, &mut |_, _, _| {}));
                self.write(level, index, &edge.root().0)?;
            }
        }
        self.cut(size)?;
        Ok(size)
    }
}

impl Stored for Levels {
    type Error = LogError;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, LogError> {
        let width = usize::try_from(count.min(TILE_WIDTH)).unwrap_or_default();
        let mut bytes = vec![0; width * HASH_BYTES];
        let file = self.file(level)?;
        file.read_exact_at(&mut bytes, first.saturating_mul(HASH_BYTES as u64)).map_err(at(&self.path(level)))?;
        let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
        Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
    }
}

#[cfg(test)]
pub(super) mod tests;
