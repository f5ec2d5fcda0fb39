//! What a gateway keeps of itself: its keys, which were made here and never leave, its certificates, and
//! how far it has come. One file, replaced as a whole, that only its owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::GatewayIdentity;
use vouchsafe_wire::gateway::{Joined, point};
use vouchsafe_wire::ticket::{hex, unhex};
use zeroize::Zeroizing;

use super::follow::Seen;

const FOLDER: &str = "gateway";
const FILE: &str = "gateway.json";
/// Number of the highest snapshot that was in force, and its era; apart, since it changes often.
const SNAPSHOT: &str = "snapshot";
/// Checkpoints of the controller's audit log, a JSON list of texts; apart for the same reason.
const CHECKPOINTS: &str = "checkpoints";
/// Longest file that is read back, bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Failure of the gateway's own files.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No gateway has joined under this directory.
    #[error("no gateway has joined under `{}`; run `vouchsafe gateway join CODE` first", dir.display())]
    NotJoined {
        /// The directory.
        dir: PathBuf,
    },
    /// One has.
    #[error("a gateway has joined under `{}` already; take another directory", dir.display())]
    AlreadyJoined {
        /// The directory.
        dir: PathBuf,
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
    /// A file is not what was written there.
    #[error("`{}` of the gateway is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// Content of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Where the controller listens for gateways.
    pub(super) host: String,
    pub(super) port: u16,
    /// PEM of the key by which controller and upstreams know the gateway.
    #[serde(with = "secret")]
    pub(super) identity_key: Zeroizing<String>,
    /// PEM of the key for our own host names.
    #[serde(with = "secret")]
    pub(super) server_key: Zeroizing<String>,
    /// PEM of the key that signs assertions.
    #[serde(with = "secret")]
    pub(super) assertion_key: Zeroizing<String>,
    /// What the controller said.
    pub(super) joined: Joined,
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

/// The gateway's files.
pub(super) struct State {
    folder: PathBuf,
    kept: RwLock<Kept>,
}

impl State {
    /// Reads them.
    pub(super) fn load(dir: &Path) -> Result<Self, StateError> {
        let folder = dir.join(FOLDER);
        let text = read(&folder.join(FILE))?.ok_or_else(|| StateError::NotJoined { dir: dir.to_owned() })?;
        let text = Zeroizing::new(text);
        let kept = serde_json::from_str(&text).map_err(|_| StateError::Damaged { path: folder.join(FILE) })?;
        Ok(Self { folder, kept: RwLock::new(kept) })
    }

    /// Refuses a directory in which a gateway lives, and makes sure that one can.
    pub(super) fn prepare(dir: &Path) -> Result<(), StateError> {
        let folder = dir.join(FOLDER);
        let failed = |source| StateError::File { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        match read(&folder.join(FILE))? {
            Some(_) => Err(StateError::AlreadyJoined { dir: dir.to_owned() }),
            None => Ok(()),
        }
    }

    /// Writes a new gateway's.
    pub(super) fn create(dir: &Path, kept: &Kept) -> Result<(), StateError> {
        write_kept(&dir.join(FOLDER), kept)
    }

    pub(super) fn kept(&self) -> Kept {
        self.kept.read().clone()
    }

    /// Replaces what is kept: on disk first.
    pub(super) fn replace(&self, kept: Kept) -> Result<(), StateError> {
        write_kept(&self.folder, &kept)?;
        *self.kept.write() = kept;
        Ok(())
    }

    /// What a gateway is started with.
    pub(super) fn identity(&self) -> Result<GatewayIdentity, StateError> {
        let damaged = || StateError::Damaged { path: self.folder.join(FILE) };
        let Kept { assertion_key, joined, .. } = self.kept();
        let domain = BaseDomain::parse(&joined.domain).map_err(|_| damaged())?;
        let issuer = match joined.port {
            443 => format!("https://{}", domain.host("auth")),
            port => format!("https://{}:{port}", domain.host("auth")),
        };
        let keys = joined.certificates.token_keys.iter();
        let token_keys = keys.map(|key| Some((key.kid.clone(), point(&key.point)?))).collect::<Option<_>>();
        Ok(GatewayIdentity {
            id: joined.gateway.parse().map_err(|_| damaged())?,
            domain,
            issuer,
            device_roots_pem: joined.certificates.device_roots,
            connector_roots_pem: joined.certificates.connector_roots,
            assertion_key_pem: assertion_key,
            assertion_kid: joined.assertion_kid,
            token_keys: token_keys.ok_or_else(damaged)?,
        })
    }

    /// The key that signs snapshots.
    pub(super) fn snapshot_key(&self) -> Result<Vec<u8>, StateError> {
        let damaged = || StateError::Damaged { path: self.folder.join(FILE) };
        point(&self.kept.read().joined.snapshot_key).ok_or_else(damaged)
    }

    /// How far it has come: the number of the highest snapshot, and the id of its era.
    pub(super) fn seen(&self) -> Result<Seen, StateError> {
        let path = self.folder.join(SNAPSHOT);
        let Some(text) = read(&path)? else { return Ok(Seen::default()) };
        let mut words = text.split_whitespace();
        let highest = words.next().and_then(|number| number.parse().ok());
        // An older version kept no era.
        let era = match words.next() {
            None => Some(Bytes::new()),
            Some(word) => unhex(word).map(|id| Bytes::copy_from_slice(&id)),
        };
        match (highest, era, words.next()) {
            (Some(highest), Some(era), None) => Ok(Seen { highest, era }),
            _ => Err(StateError::Damaged { path }),
        }
    }

    /// The checkpoints of audit logs that it has kept.
    pub(super) fn checkpoints(&self) -> Result<Vec<Bytes>, StateError> {
        let path = self.folder.join(CHECKPOINTS);
        let Some(text) = read(&path)? else { return Ok(Vec::new()) };
        let notes: Vec<String> = serde_json::from_str(&text).map_err(|_| StateError::Damaged { path })?;
        Ok(notes.into_iter().map(Bytes::from).collect())
    }

    /// Keeps them.
    pub(super) fn keep_checkpoints(&self, notes: &[Bytes]) -> Result<(), StateError> {
        let path = self.folder.join(CHECKPOINTS);
        let notes: Vec<_> = notes.iter().map(|note| String::from_utf8_lossy(note)).collect();
        let text = serde_json::to_vec(&notes).map_err(|_| StateError::Damaged { path: path.clone() })?;
        write(&path, &text)
    }

    /// Remembers it.
    pub(super) fn keep_seen(&self, seen: &Seen) -> Result<(), StateError> {
        let Seen { highest, era } = seen;
        write(&self.folder.join(SNAPSHOT), format!("{highest} {}\n", hex(era)).as_bytes())
    }
}

fn write_kept(folder: &Path, kept: &Kept) -> Result<(), StateError> {
    let path = folder.join(FILE);
    let text = serde_json::to_vec_pretty(kept).map_err(|_| StateError::Damaged { path: path.clone() })?;
    write(&path, &Zeroizing::new(text))
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    let failed = |source| StateError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Replaces a file as a whole; a reader sees the old or the new, also after a power cut.
fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let failed = |source| StateError::File { path: path.to_owned(), source };
    let beside = path.with_extension(format!("new-{}", clock::random_code()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written.map_err(failed)
}
