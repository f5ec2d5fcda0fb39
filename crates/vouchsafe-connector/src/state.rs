//! What a connector keeps of itself: its key, which was made here and never leaves, and its certificate. One
//! file, replaced as a whole, that only its owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::{BaseDomain, SiteName};
use vouchsafe_runtime::{clock, tls};
use vouchsafe_wire::connector::Joined;
use zeroize::Zeroizing;

pub(crate) const FOLDER: &str = "connector";
const FILE: &str = "connector.json";
/// Longest file that is read back, bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Failure of the connector's own files.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No connector has joined under this directory.
    #[error("no connector has joined under `{}`; run `vouchsafe connector join` first", dir.display())]
    NotJoined {
        /// The directory.
        dir: PathBuf,
    },
    /// One has.
    #[error("a connector has joined under `{}` already; take another directory", dir.display())]
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
    #[error("`{}` of the connector is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// Content of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Port under which clients reach gateways.
    pub(crate) port: u16,
    /// PEM of the key.
    #[serde(with = "secret")]
    pub(crate) key: Zeroizing<String>,
    /// What was said when it joined, or at the last renewal.
    pub(crate) joined: Joined,
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

/// Who a connector is.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id.
    pub id: ConnectorId,
    /// Its name.
    pub name: String,
    /// The site it serves.
    pub site: SiteName,
    /// Base domain.
    pub domain: BaseDomain,
    /// Port under which clients reach gateways.
    pub port: u16,
}

impl Member {
    /// The host at which gateways are found, and asked.
    pub(crate) fn gateway_host(&self) -> String {
        self.domain.host("gw")
    }
}

impl Kept {
    /// Who it is; `None` when it says what can't be.
    pub(crate) fn member(&self) -> Option<Member> {
        let Joined { connector, name, site, domain, .. } = &self.joined;
        Some(Member {
            id: connector.parse().ok()?,
            name: name.clone(),
            site: SiteName::parse(site).ok()?,
            domain: BaseDomain::parse(domain).ok()?,
            port: self.port,
        })
    }
}

/// The connector's file.
pub(crate) struct State {
    path: PathBuf,
    kept: watch::Sender<Arc<Kept>>,
    member: Member,
}

impl State {
    /// Reads it.
    pub(crate) fn load(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FOLDER).join(FILE);
        let text = read(&path)?.ok_or_else(|| StateError::NotJoined { dir: dir.to_owned() })?;
        let text = Zeroizing::new(text);
        let damaged = || StateError::Damaged { path: path.clone() };
        let kept: Kept = serde_json::from_str(&text).map_err(|_| damaged())?;
        let member = kept.member().ok_or_else(damaged)?;
        Ok(Self { path, kept: watch::Sender::new(Arc::new(kept)), member })
    }

    /// Refuses a directory in which a connector lives, and makes sure that one can.
    pub(crate) fn prepare(dir: &Path) -> Result<(), StateError> {
        let folder = dir.join(FOLDER);
        let failed = |source| StateError::File { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        match read(&folder.join(FILE))? {
            Some(_) => Err(StateError::AlreadyJoined { dir: dir.to_owned() }),
            None => Ok(()),
        }
    }

    /// Writes a new connector's.
    pub(crate) fn create(dir: &Path, kept: &Kept) -> Result<(), StateError> {
        write(&dir.join(FOLDER).join(FILE), kept)
    }

    /// The installation's root, as it was pinned when the connector joined.
    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>, StateError> {
        let damaged = |_| StateError::Damaged { path: self.path.clone() };
        tls::roots(&self.kept.borrow().joined.root, "root").map_err(damaged)
    }

    /// Who it is.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// What is kept, and a signal when it is replaced.
    pub(crate) fn kept(&self) -> watch::Receiver<Arc<Kept>> {
        self.kept.subscribe()
    }

    /// Replaces what is kept: on disk first.
    pub(crate) fn replace(&self, kept: Kept) -> Result<(), StateError> {
        write(&self.path, &kept)?;
        self.kept.send_replace(Arc::new(kept));
        Ok(())
    }
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

fn write(path: &Path, kept: &Kept) -> Result<(), StateError> {
    let text = serde_json::to_vec_pretty(kept).map_err(|_| StateError::Damaged { path: path.to_owned() })?;
    replace_file(path, &Zeroizing::new(text))
}

/// Replaces a file as a whole; a reader sees the old or the new, also after a power cut.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let failed = |source| StateError::File { path: path.to_owned(), source };
    let beside = path.with_extension(format!("new-{}", clock::random_code()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written.map_err(failed)
}
