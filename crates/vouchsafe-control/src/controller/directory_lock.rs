//! The state directory: ours alone, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the file that is locked.
const LOCK: &str = "lock";

/// Failure to take the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirectoryError {
    /// Another process has it.
    #[error(
        "the state directory `{}` is in use by {holder}; \
         hint: stop that process, or give another directory with --dir", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Process that holds it, such as `process 123`.
        holder: String,
    },
    /// It is another user's.
    #[error(
        "the state directory `{}` belongs to user id {owner}, but this process runs as {runs_as}; \
         hint: run as its owner, or give another directory with --dir", dir.display()
    )]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whose the process is.
        runs_as: u32,
    },
    /// Others may look into it.
    #[error(
        "the state directory `{}` holds other files and is open to other users (mode {mode:o}); \
         hint: chmod 700 {}, or give another directory with --dir", dir.display(), dir.display()
    )]
    OpenToOthers {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file or directory in it failed.
    #[error("`{}` can't be opened", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A state directory that this process holds. Dropping it lets go.
#[derive(Debug)]
pub(super) struct StateDirectory {
    dir: PathBuf,
    owner: u32,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory where it is missing, and locks it.
    pub(super) fn lock(dir: &Path) -> Result<Self, StateDirectoryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StateDirectoryError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let metadata = std::fs::metadata(dir).map_err(failed(dir))?;
        let (owner, runs_as) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != runs_as {
            return Err(StateDirectoryError::NotOurs { dir: dir.to_owned(), owner, runs_as });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            // An empty directory was made for us; one with files may be somebody's home or /tmp.
            if std::fs::read_dir(dir).map_err(failed(dir))?.next().is_some() {
                return Err(StateDirectoryError::OpenToOthers { dir: dir.to_owned(), mode });
            }
            std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed(dir))?;
        }
        let path = dir.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateDirectoryError::InUse { dir: dir.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed(&path))?;
        Ok(Self { dir: dir.to_owned(), owner, _lock: lock })
    }

    /// User id of the owner.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Path of a file in it that only its owner may open; made empty when it is missing.
    pub(super) fn private_file(&self, name: &str) -> Result<PathBuf, StateDirectoryError> {
        let path = self.dir.join(name);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        match opened {
            Ok(_) => Ok(path),
            Err(source) => Err(StateDirectoryError::Io { path, source }),
        }
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!("process {}", text.trim()),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
