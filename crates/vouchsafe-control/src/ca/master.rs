//! The master key: seals every private key of the CA before it goes into the database.
//!
//! It lies apart from the database, so that a stolen copy or backup of the database alone holds no
//! usable key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use vouchsafe_runtime::clock;
use zeroize::Zeroizing;

const FILE_NAME: &str = "master.key";
const KEY_BYTES: usize = 32;
/// Keeps these seals apart from any other use of the same key.
const PURPOSE: &[u8] = b"vouchsafe sealed key v1\0";

/// Failure to read or make the master key, or to open a seal.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The database holds sealed keys, but the key that opens them is gone.
    #[error(
        "the master key `{}` is missing, but the database holds keys sealed under it; \
         put the file back from your backup (without it the certificate authority can't be used)",
        path.display()
    )]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// The file is not a master key.
    #[error("`{}` is not a master key: it has {bytes} bytes instead of {KEY_BYTES}; put the right file back", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Others than its owner may read it.
    #[error("`{}` can be read by others (mode {mode:o}); run `chmod 600` on it and consider its keys known", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file can't be read or written.
    #[error("`{}` can't be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A seal does not open: another master key, a row of another name, or altered bytes.
    #[error(
        "the sealed key `{name}` does not open: the database was altered, or `master.key` is of another installation"
    )]
    Seal {
        /// Name of the key.
        name: String,
    },
}

/// Opens and makes seals.
pub(super) struct MasterKey {
    key: RandomizedNonceKey,
}

impl MasterKey {
    /// Reads the key of that state directory; `None` when there is none yet.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, MasterKeyError> {
        let path = dir.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MasterKeyError::File { path, source }),
        };
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(source) => return Err(MasterKeyError::File { path, source }),
        };
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Permissions { path, mode });
        }
        Self::of(&bytes).map(Some).ok_or(MasterKeyError::Length { path, bytes: bytes.len() })
    }

    /// Makes a new key; it is durable before this returns, so nothing is ever sealed under a key
    /// that a crash could lose.
    pub(super) fn create(dir: &Path) -> Result<Self, MasterKeyError> {
        let path = dir.join(FILE_NAME);
        let bytes = Zeroizing::new(clock::random::<KEY_BYTES>());
        let written = || -> io::Result<()> {
            let fresh = dir.join("master.key.new");
            match fs::remove_file(&fresh) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&*bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(dir)?.sync_all()
        };
        written().map_err(|source| MasterKeyError::File { path: path.clone(), source })?;
        Self::of(&*bytes).ok_or(MasterKeyError::Length { path, bytes: bytes.len() })
    }

    /// The error for keys without a master key.
    pub(super) fn missing(dir: &Path) -> MasterKeyError {
        MasterKeyError::Missing { path: dir.join(FILE_NAME) }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        Some(Self { key: RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()? })
    }

    /// Seals a secret under that name: a fresh random nonce, then cipher text and tag.
    pub(super) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let mut sealed = Zeroizing::new(secret.to_vec());
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(associated(name)), &mut *sealed)
            .map_err(|_| MasterKeyError::Seal { name: name.to_owned() })?;
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed under exactly that name.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let refused = || MasterKeyError::Seal { name: name.to_owned() };
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let length =
            self.key.open_in_place(nonce, Aad::from(associated(name)), &mut buffer).map_err(|_| refused())?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn associated(name: &str) -> Vec<u8> {
    [PURPOSE, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_only_under_its_own_name_and_key() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MasterKey::read(dir.path()).unwrap().is_none());
        let key = MasterKey::create(dir.path()).unwrap();
        let sealed = key.seal("devices", b"secret bytes").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(*key.open("devices", &sealed).unwrap(), b"secret bytes");
        assert!(matches!(key.open("root", &sealed), Err(MasterKeyError::Seal { .. })));
        let mut altered = sealed.clone();
        altered[14] ^= 1;
        assert!(key.open("devices", &altered).is_err());
        assert!(key.open("devices", &sealed[..5]).is_err());
        let again = MasterKey::read(dir.path()).unwrap().unwrap();
        assert_eq!(*again.open("devices", &sealed).unwrap(), b"secret bytes");
        assert_ne!(key.seal("devices", b"secret bytes").unwrap(), sealed, "the nonce must be fresh");
    }

    #[test]
    fn a_file_that_others_can_read_or_of_wrong_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        MasterKey::create(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::read(dir.path()), Err(MasterKeyError::Permissions { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(matches!(MasterKey::read(dir.path()), Err(MasterKeyError::Length { bytes: 5, .. })));
    }
}
