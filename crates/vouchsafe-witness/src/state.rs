//! A witness's directory: a lock, its key, and what it has seen, each file replaced as a whole and for its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use vouchsafe_tlog::note::{KeyKind, NoteSigner};
use zeroize::Zeroizing;

const FOLDER: &str = "witness";
const KEY: &str = "key.json";
const LOCK: &str = "lock";
/// Longest file that is read back, bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Failure of a witness's own files.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process is the witness.
    #[error("another process is the witness of `{}`; two could cosign two histories of one log", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It has no key yet, and needs a name for one.
    #[error("there is no witness's key under `{}` yet; give it a name: `--name witness.example.org/w1`", dir.display())]
    Nameless {
        /// The directory.
        dir: PathBuf,
    },
    /// The key is of another name.
    #[error("the witness under `{}` is `{known}`, not `{given}`; leave `--name` out, or take another directory", dir.display())]
    OtherName {
        /// The directory.
        dir: PathBuf,
        /// Name of the key that is there.
        known: String,
        /// Name that was asked for.
        given: String,
    },
    /// No key can have such a name.
    #[error("`{name}` can't name a key: no spaces, no `+`, at most 512 bytes")]
    Name {
        /// As given.
        name: String,
    },
    /// A file is not what was written there.
    #[error("`{}` of the witness is damaged; don't remove it: what it has cosigned would be forgotten", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// What it has seen of a log was signed by a key that it isn't given any more.
    #[error("`{}` holds a checkpoint of `{origin}` that none of the given keys has signed", path.display())]
    OtherKey {
        /// Which file.
        path: PathBuf,
        /// The log.
        origin: String,
    },
    /// A key that verifies cosignatures, or too many logs.
    #[error("{why}")]
    Logs {
        /// What is wrong.
        why: String,
    },
    /// A file can't be read or written.
    #[error("`{}` can't be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// The key as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKey {
    name: String,
    #[serde(with = "secret")]
    pkcs8: Zeroizing<String>,
}

mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(secret: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

/// The directory, held by this process.
pub struct State {
    dir: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory where it is missing, and holds it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn lock(dir: &Path) -> Result<Self, StateError> {
        let folder = dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
        let path = folder.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = file.map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StateError::File { path, source }),
        }
    }

    /// The key, made under that name where there is none; it is durable when this returns.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn signer(&self, name: Option<&str>) -> Result<NoteSigner, StateError> {
        let path = self.folder.join(KEY);
        let damaged = || StateError::Damaged { path: path.clone() };
        if let Some(bytes) = read(&path)? {
            let bytes = Zeroizing::new(bytes);
            let KeptKey { name: known, pkcs8 } = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            if let Some(given) = name.filter(|given| *given != known) {
                return Err(StateError::OtherName { dir: self.dir.clone(), known, given: given.to_owned() });
            }
            let pkcs8 = Zeroizing::new(STANDARD.decode(&*pkcs8).map_err(|_| damaged())?);
            return NoteSigner::from_pkcs8(&known, KeyKind::Cosignature, &pkcs8).map_err(|_| damaged());
        }
        let name = name.ok_or_else(|| StateError::Nameless { dir: self.dir.clone() })?;
        let unusable = || at(&path)(io::Error::other("no key could be made"));
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| unusable())?;
        let unfit = |_| StateError::Name { name: name.chars().take(80).collect() };
        let signer = NoteSigner::from_pkcs8(name, KeyKind::Cosignature, made.as_ref()).map_err(unfit)?;
        let kept = KeptKey { name: name.to_owned(), pkcs8: Zeroizing::new(STANDARD.encode(made.as_ref())) };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&kept).map_err(|_| damaged())?);
        write(&path, &text).map_err(at(&path))?;
        Ok(signer)
    }

    /// Where a file of it lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A file that is there, if it isn't longer than any of ours.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(StateError::Damaged { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Writes a file; it appears whole, and is durable when this returns.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::lock(dir.path()).unwrap();
        assert!(matches!(state.signer(None), Err(StateError::Nameless { .. })));
        assert!(matches!(state.signer(Some("a b")), Err(StateError::Name { .. })));
        let made = state.signer(Some("witness.example/w1")).unwrap().verifier().clone();
        assert_eq!(made.kind(), KeyKind::Cosignature);
        assert_eq!(state.signer(None).unwrap().verifier(), &made);
        assert!(matches!(state.signer(Some("witness.example/w2")), Err(StateError::OtherName { .. })));
        let path = dir.path().join("witness/key.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(State::lock(dir.path()), Err(StateError::InUse { .. })));
        drop(state);
        fs::write(&path, "{}").unwrap();
        let state = State::lock(dir.path()).unwrap();
        assert!(matches!(state.signer(Some("witness.example/w1")), Err(StateError::Damaged { .. })));
    }
}
