//! The tree over the audit log, and the checkpoints by which anybody can tell that the log only ever grew.
//!
//! A task takes new records into the tree and signs a checkpoint of it within a second. Before one is published it has
//! been proven to continue the one before, and it is kept durably in every [place](mod@places): the database, a file beside the
//! log, and a copy elsewhere if there is one; then [witnesses](mod@witnesses) are asked to cosign it. What a place knows and the log has not means that the log was set back: then
//! nothing is signed until an administrator begins a [new log](mod@fork). Records are taken in all the same.
//! Why: `docs/decisions/0028-checkpoints.md`.

mod fork;
mod gateways;
mod places;
mod publish;
mod serve;
mod witnesses;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::note::{Note, NoteSigner, VerifierKey};
use vouchsafe_wire::api::{AuditLogState, AuditTrouble};

pub(crate) use self::fork::begin as fork;
pub(crate) use self::gateways::compare as compare_with_gateway;
use self::places::Places;
pub(crate) use self::serve::{AskError, bundle, evidence, tile};
use self::witnesses::Circle;
pub use self::witnesses::{Witness, Witnesses};
use crate::ca::Ca;
use crate::context::{Context, Settings};
use crate::log::{Log, LogError, Merkle};
use crate::store::{Store, StoreError, blocking, settings};

/// Shortest time from one checkpoint to the next.
const INTERVAL: Duration = Duration::from_millis(400);
/// Where the origin stands behind the domain of the API.
const ORIGIN_PATH: &str = "v1/audit/log";

/// Checkpoints can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The log, or the tree over it, can't be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A place for checkpoints can't be used.
    #[error("checkpoints can't be kept in `{}`", path.display())]
    Place {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// The tree, and what was said of it.
pub(crate) struct Checkpoints {
    merkle: Merkle,
    places: Places,
    witnesses: Circle,
    state: RwLock<State>,
    /// Whose turn it is to publish, or to begin a new log.
    turn: Mutex<()>,
    /// Size of the newest published checkpoint, for those who wait for it.
    published: watch::Sender<u64>,
}

struct State {
    /// Number of this log: 1, and one more for each that had to be begun anew.
    epoch: u64,
    /// The highest number of a log that anybody has told of.
    known_epoch: u64,
    signer: Arc<NoteSigner>,
    published: Option<Arc<Published>>,
    /// When that was signed.
    signed_at: Option<SystemTime>,
    /// The newest that enough witnesses have cosigned.
    cosigned: Option<Arc<Published>>,
    trouble: Option<Trouble>,
}

/// A checkpoint that everybody may know.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: Note,
}

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A place knows a larger log: records are gone, or a backup was restored.
    SetBack { known: u64, found: u64, place: String },
    /// A place knows another log than this one: the records are not those that were signed.
    Differs { size: u64, place: String },
    /// What a place holds is no checkpoint of ours.
    Foreign { place: String },
    /// Records that retention removed have no hashes any more.
    HashesLost { removed: u64, hashed: u64 },
    /// It is tried again.
    Passing { why: String },
}

impl Trouble {
    /// In words, and what to do.
    pub(crate) fn words(&self) -> (String, &'static str) {
        const FORK: &str = "restore the newest backup of the audit log; if its records are gone for good, begin a new log: \
                            `vouchsafe audit fork --reason …`";
        match self {
            Trouble::SetBack { known, found, place } => (
                format!("no checkpoint is signed: {place} knows {known} records of the audit log, but it had {found}"),
                FORK,
            ),
            Trouble::Differs { size, place } => (
                format!("no checkpoint is signed: the first {size} records are not those that {place} knows"),
                "`vouchsafe audit verify` says which record differs; then restore a backup, or begin a new log: \
                 `vouchsafe audit fork --reason …`",
            ),
            Trouble::Foreign { place } => (
                format!("no checkpoint is signed: what {place} holds is no checkpoint of this audit log"),
                "find out who changed it, and move it out of the way; then start the controller again",
            ),
            Trouble::HashesLost { removed, hashed } => (
                format!(
                    "no checkpoint is signed: the first {removed} records were removed, but of these only {hashed} have \
                     their hashes"
                ),
                "stop the controller, and restore the directory `audit/merkle` from its newest backup",
            ),
            Trouble::Passing { why } => {
                (format!("no checkpoint is signed at present: {why}"), "look whether the disk is full, and at the log")
            }
        }
    }

    /// Whether only an administrator can end it.
    const fn stands(&self) -> bool {
        self.ends_by_fork() || matches!(self, Trouble::HashesLost { .. })
    }

    /// Whether beginning a new log ends it.
    const fn ends_by_fork(&self) -> bool {
        match self {
            Trouble::SetBack { .. } | Trouble::Differs { .. } | Trouble::Foreign { .. } => true,
            Trouble::HashesLost { .. } | Trouble::Passing { .. } => false,
        }
    }
}

/// The origin of the log of that number.
fn origin(domain: &BaseDomain, epoch: u64) -> String {
    match epoch {
        1 => format!("{}/{ORIGIN_PATH}", domain.host("api")),
        epoch => format!("{}/{ORIGIN_PATH}/{epoch}", domain.host("api")),
    }
}

impl Checkpoints {
    /// Opens the tree, and looks at what every place knows of the log.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub(crate) async fn open(
        store: &Store,
        ca: &Ca,
        settings: &Settings,
        copy: Option<PathBuf>,
        witnesses: Witnesses,
    ) -> Result<Self, crate::controller::OpenError> {
        let epoch = {
            let mut read = store.read().await.map_err(CheckpointError::from)?;
            let epoch = settings::read(&mut read, settings::AUDIT_EPOCH).await.map_err(CheckpointError::from)?;
            epoch.and_then(|text| text.parse().ok()).unwrap_or(1)
        };
        let now = clock::unix_seconds(clock::now());
        let signer = ca.audit_signer(store, settings, &origin(&settings.domain, epoch), now).await?;
        let places = Places::new(store.clone(), copy);
        let looked = places.look(&signer, epoch).await?;
        let size = store.log().size();
        let trouble = looked.trouble(size);
        if let Some(trouble) = &trouble {
            let (words, hint) = trouble.words();
            tracing::error!(hint, "{words}");
        }
        // Of removed records the hashes are all there is: they were synced before, whatever the places know.
        let (dir, synced) = (store.log().dir().to_owned(), looked.own_size().max(store.log().first()));
        let merkle = blocking(move || Merkle::open(&dir, synced)).await.map_err(CheckpointError::from)?;
        let merkle = merkle.map_err(CheckpointError::from)?;
        // What is shown must be provable from what is here.
        let published = if trouble.is_some() { looked.own() } else { looked.newest() }.map(Arc::new);
        places.show_key(signer.verifier()).await?;
        let witnesses = Circle::new(witnesses);
        let (cosigned, signed_at) = places.cosigned(&signer).await?;
        let cosigned =
            cosigned.filter(|cosigned| cosigned.checkpoint.size <= size && witnesses.suffices(&cosigned.note));
        witnesses.tell(cosigned.as_ref().map_or(0, |cosigned| cosigned.checkpoint.size));
        let cosigned = cosigned.map(Arc::new);
        let signed_at = signed_at.filter(|_| published.is_some());
        let told = watch::Sender::new(published.as_ref().map_or(0, |published| published.checkpoint.size));
        let state =
            State { epoch, known_epoch: epoch, signer: Arc::new(signer), published, signed_at, cosigned, trouble };
        Ok(Self { merkle, places, witnesses, state: RwLock::new(state), turn: Mutex::new(()), published: told })
    }

    /// The newest published checkpoint.
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.state.read().published.clone()
    }

    /// Why nothing is signed, if so.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.state.read().trouble.clone()
    }

    /// The key that verifies checkpoints.
    pub(crate) fn key(&self) -> VerifierKey {
        self.state.read().signer.verifier().clone()
    }

    /// How many records are in the tree.
    pub(crate) fn integrated(&self) -> u64 {
        self.merkle.size()
    }

    /// How it is, for administrators.
    pub(crate) fn describe(&self, log: &Log) -> AuditLogState {
        let state = self.state.read();
        let published = state.published.as_ref();
        AuditLogState {
            origin: state.signer.verifier().name().to_owned(),
            key: state.signer.verifier().to_string(),
            records: log.size(),
            removed: log.first(),
            hashed: self.merkle.size(),
            signed: published.map_or(0, |published| published.checkpoint.size),
            root: published.map(|published| published.checkpoint.root.to_string()),
            signed_at: state.signed_at.map(clock::unix_seconds),
            cosigned: (!self.witnesses.is_empty())
                .then(|| state.cosigned.as_ref().map_or(0, |cosigned| cosigned.checkpoint.size)),
            quorum: (!self.witnesses.is_empty()).then(|| self.witnesses.quorum()),
            witnesses: self.witnesses.describe(),
            trouble: state.trouble.as_ref().map(|trouble| {
                let (words, hint) = trouble.words();
                AuditTrouble { words, hint: hint.to_owned() }
            }),
        }
    }

    /// How many witnesses there are that gave no cosignature when they were asked last; nothing where there are none.
    pub(crate) fn silent_witnesses(&self) -> Option<usize> {
        (!self.witnesses.is_empty()).then(|| self.witnesses.silent())
    }

    /// How it is, in a line for those who run it.
    pub(crate) fn words(&self, log: &Log) -> String {
        let AuditLogState { records, signed, signed_at, cosigned, witnesses, trouble, .. } = self.describe(log);
        let mut words = format!("{signed} of {records} records of the audit log are signed");
        if let Some(at) = signed_at {
            let age = clock::unix_seconds(clock::now()).saturating_sub(at);
            words.push_str(&format!("; the newest checkpoint is {age} s old"));
        }
        if let Some(cosigned) = cosigned {
            words.push_str(&format!("; witnesses have cosigned {cosigned}"));
        }
        let silent = witnesses.into_iter().filter_map(|witness| Some((witness.name, witness.trouble?)));
        silent.for_each(|(name, why)| words.push_str(&format!("; the witness `{name}` doesn't: {why}")));
        match trouble {
            Some(trouble) => format!("{}; {words}", trouble.words),
            None => words,
        }
    }

    /// Follows the size of the newest published checkpoint.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Signs nothing any more, until an administrator acts.
    async fn stop(&self, trouble: Trouble) {
        let _turn = self.turn.lock().await;
        let mut state = self.state.write();
        if state.trouble.as_ref().is_some_and(Trouble::stands) {
            return;
        }
        let (words, hint) = trouble.words();
        tracing::error!(hint, "{words}");
        state.trouble = Some(trouble);
    }

    /// Waits until a checkpoint covers that many records.
    pub(crate) async fn covered(&self, records: u64) {
        let mut published = self.published.subscribe();
        // Its sender is ours.
        let _ = published.wait_for(|size| *size >= records).await;
    }
}

/// Starts the task.
pub(crate) fn start(context: &Context) {
    let context = context.clone();
    let tasks: TaskGroup = context.tasks.clone();
    let asking = context.clone();
    tasks.spawn_vital("checkpoints", async move { publish::run(context).await });
    if !asking.checkpoints.witnesses.is_empty() {
        tasks.spawn_vital("witnesses", async move { witnesses::run(asking).await });
    }
}

/// Signs what came at last, at the end of the process.
pub(crate) async fn finish(context: &Context) {
    publish::round(context).await;
}

#[cfg(test)]
mod tests;
