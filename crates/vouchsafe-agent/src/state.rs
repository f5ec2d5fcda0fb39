//! Files of the device: `<state>/device/`, a folder that only its owner can enter.
//!
//! Every file is replaced as a whole: written beside its place, synced, renamed, and the folder
//! synced. A reader therefore sees the old or the new content, also after a power cut.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vouchsafe_runtime::clock;

/// Longest file that is read back, bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// How long another process may hold the lock: one exchange with the gateway, and some.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Failure to keep or read the device's files.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file can't be read or written.
    #[error("can't {what} `{}`", path.display())]
    File {
        /// What was tried, such as `write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file is longer than any of ours.
    #[error("`{}` is too long to be a file of vouchsafe", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// Another process of this user holds the lock and does not let go.
    #[error("another vouchsafe process has held `{}` for {after:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
}

/// The folder of one device's files.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// Keeps other processes from changing the device's files until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// The device's folder below the state directory; nothing is made yet.
    #[must_use]
    pub fn below(state: &Path) -> Self {
        Self { path: state.join("device") }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder with mode 0700, or brings it to that mode.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn create(&self) -> Result<(), StateError> {
        let failed = |source| StateError::File { what: "make the folder", path: self.path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)).map_err(failed)
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(name);
        let failed = |source| StateError::File { what: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE_BYTES { Err(StateError::TooLong { path }) } else { Ok(Some(text)) }
    }

    /// Replaces a file as a whole. Its mode is 0600 from the first byte on.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn write(&self, name: &str, content: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        // A random name: two processes never write to the same one, and a left-over of a crash is
        // in nobody's way.
        let beside = self.path.join(format!(".{name}.{}", clock::random_code()));
        let failed = |source| StateError::File { what: "write", path: path.clone(), source };
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        })();
        if written.is_err() {
            drop(fs::remove_file(&beside));
        }
        written.map_err(failed)
    }

    /// Gives a file another name, durably.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StateError> {
        let path = self.path.join(to);
        fs::rename(self.path.join(from), &path)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(|source| StateError::File { what: "write", path, source })
    }

    /// Removes a file; one that isn't there is fine.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::File { what: "remove", path, source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for the lock. Whoever holds it may change files, after reading them anew.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.path.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StateError::File { what: "open", path: path.clone(), source })?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(StateLock { _file: file }),
                Err(fs::TryLockError::Error(source)) => return Err(StateError::File { what: "lock", path, source }),
                Err(fs::TryLockError::WouldBlock) if waited >= LOCK_PATIENCE => {
                    return Err(StateError::Locked { path, after: LOCK_PATIENCE });
                }
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
            }
            waited += LOCK_POLL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::below(temp.path());
        state.create().unwrap();
        (temp, state)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_can_read() {
        let (_temp, state) = state();
        state.write("device.key", "secret").unwrap();
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(mode(&state.path().join("device.key")), 0o600);
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        state.create().unwrap();
        assert_eq!(mode(state.path()), 0o700, "a folder that was opened to others is closed again");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let (_temp, state) = state();
        state.write("a", "first, which is longer").unwrap();
        let old = File::open(state.path().join("a")).unwrap();
        state.write("a", "second").unwrap();
        let mut still_open = String::new();
        (&old).read_to_string(&mut still_open).unwrap();
        assert_eq!(still_open, "first, which is longer", "an open reader keeps the old content");
        assert_eq!(state.read("a").unwrap().as_deref(), Some("second"));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let (_temp, state) = state();
        fs::create_dir(state.path().join("a")).unwrap();
        fs::write(state.path().join("a/kept"), "x").unwrap();
        assert!(state.write("a", "new").is_err());
        assert!(state.path().join("a/kept").exists());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn absent_is_none_and_endless_is_refused() {
        let (_temp, state) = state();
        assert_eq!(state.read("nothing").unwrap(), None);
        state.remove("nothing").unwrap();
        fs::write(state.path().join("big"), vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(state.read("big"), Err(StateError::TooLong { .. })));
    }

    #[tokio::test]
    async fn one_holder_at_a_time() {
        let (_temp, state) = state();
        let held = state.lock().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(80), state.lock()).await.is_err());
        drop(held);
        state.lock().await.unwrap();
    }
}
