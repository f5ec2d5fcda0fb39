//! What a witness has seen of each log: the newest checkpoint that it has cosigned, as the log signed it.
//!
//! It is durable before the cosignature leaves, and looked at and replaced under one lock: whenever the process is killed,
//! and however many ask at once, no two histories of a log get a cosignature.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::note::{KeyKind, Note, NoteSignature, NoteSigner, VerifierKey};
use vouchsafe_tlog::witness::{AddCheckpoint, Refusal, Seen};
use vouchsafe_wire::ticket::hex;

use super::state::{self, State, StateError};

/// Most keys of logs.
const MAX_LOGS: usize = 10_000;

/// No cosignature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It must not be cosigned.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// It could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// All logs that a witness knows.
pub(crate) struct Memory {
    logs: BTreeMap<String, Known>,
}

/// One log.
struct Known {
    keys: Vec<VerifierKey>,
    /// File of the newest cosigned checkpoint.
    path: PathBuf,
    /// File of the first checkpoint that did not continue it.
    refused: PathBuf,
    seen: Mutex<Option<Seen>>,
}

impl Memory {
    /// Reads what was seen of these logs.
    pub(crate) fn open(state: &State, keys: &[VerifierKey]) -> Result<Self, StateError> {
        if keys.is_empty() || keys.len() > MAX_LOGS {
            return Err(StateError::Logs { why: format!("a witness knows 1 to {MAX_LOGS} logs, not {}", keys.len()) });
        }
        let mut by_origin: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for key in keys {
            if key.kind() != KeyKind::Ed25519 {
                let why =
                    format!("`{key}` is the key of a witness; a log's is wanted, as `vouchsafe audit key` shows it");
                return Err(StateError::Logs { why });
            }
            by_origin.entry(key.name().to_owned()).or_default().push(key.clone());
        }
        let mut logs = BTreeMap::new();
        for (origin, keys) in by_origin {
            let name = hex(&sha256(origin.as_bytes()));
            let path = state.path(&format!("{name}.checkpoint"));
            let refused = state.path(&format!("{name}.refused"));
            let seen = match state::read(&path)? {
                Some(bytes) => Some(seen(&bytes, &origin, &keys, &path)?),
                None => None,
            };
            logs.insert(origin, Known { keys, path, refused, seen: Mutex::new(seen) });
        }
        Ok(Self { logs })
    }

    /// Origins, and the sizes that were cosigned last.
    pub(crate) fn logs(&self) -> Vec<(String, Option<u64>)> {
        self.logs.iter().map(|(origin, known)| (origin.clone(), known.seen.lock().map(|seen| seen.size))).collect()
    }

    /// Cosigns, if it may: durable first. It blocks. `now` in unix seconds.
    pub(crate) fn cosign(
        &self,
        asked: &AddCheckpoint,
        signer: &NoteSigner,
        now: u64,
    ) -> Result<NoteSignature, Refused> {
        let known = self.logs.get(&asked.origin()?).ok_or(Refusal::UnknownOrigin)?;
        let keys: Vec<&VerifierKey> = known.keys.iter().collect();
        let mut seen = known.seen.lock();
        let checkpoint = match asked.judge(&keys, *seen) {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => {
                known.keep_refused(asked, refusal, *seen);
                return Err(refusal.into());
            }
        };
        let next = Seen { size: checkpoint.size, root: checkpoint.root };
        if *seen != Some(next) {
            let text = asked.note.to_string();
            state::write(&known.path, text.as_bytes()).map_err(state::at(&known.path))?;
            *seen = Some(next);
        }
        Ok(signer.sign(asked.note.text(), now))
    }
}

impl Known {
    /// Keeps the first checkpoint that contradicts what was seen: with the one beside it, it shows that the log's key has
    /// signed two histories.
    fn keep_refused(&self, asked: &AddCheckpoint, refusal: Refusal, seen: Option<Seen>) {
        let contradicts = match refusal {
            Refusal::Inconsistent => true,
            Refusal::Conflict { size } => {
                let named = Checkpoint::parse(asked.note.text());
                let keys: Vec<&VerifierKey> = self.keys.iter().collect();
                let other = |checkpoint: &Checkpoint| seen.is_some_and(|seen| seen.root != checkpoint.root);
                let same_size = named.is_ok_and(|checkpoint| checkpoint.size == size && other(&checkpoint));
                same_size && asked.note.verify(&keys).is_ok()
            }
            Refusal::Malformed | Refusal::UnknownOrigin | Refusal::Unsigned => false,
        };
        if !contradicts {
            return;
        }
        let path = self.refused.display();
        tracing::error!(%path, "a checkpoint that its log has signed does not continue what was seen of that log");
        if !self.refused.exists()
            && let Err(error) = state::write(&self.refused, asked.to_string().as_bytes())
        {
            tracing::error!(%path, %error, "it can't be kept");
        }
    }
}

fn seen(bytes: &[u8], origin: &str, keys: &[VerifierKey], path: &std::path::Path) -> Result<Seen, StateError> {
    let note = Note::parse(bytes).map_err(|_| StateError::Damaged { path: path.to_owned() })?;
    let valid = keys.iter().find_map(|key| Checkpoint::verify(&note, key).ok());
    let Checkpoint { size, root, .. } =
        valid.ok_or_else(|| StateError::OtherKey { path: path.to_owned(), origin: origin.to_owned() })?;
    Ok(Seen { size, root })
}
