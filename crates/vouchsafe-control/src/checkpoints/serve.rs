//! What others ask of the tree: tiles, bundles of entries, and proofs of single records.

use std::time::Duration;

use vouchsafe_tlog::evidence::Evidence;
use vouchsafe_tlog::proof::inclusion;
use vouchsafe_tlog::tile::{Of, Tile, push_entry};
use vouchsafe_tlog::tree::Stored;
use vouchsafe_wire::api::AuditProof;
use vouchsafe_wire::audit::Kind;

use super::Checkpoints;
use crate::audit::read_log;
use crate::context::Context;
use crate::directory::Actor;
use crate::log::{Filter, LogError, Span};
use crate::store::{StoreError, blocking};

/// How long a record that is new is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited that witnesses have cosigned it.
const COSIGN_PATIENCE: Duration = Duration::from_secs(4);
/// Records of one id that are told.
const MAX_OTHERS: u32 = 100;

/// What was asked for can't be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No record matches.
    #[error("no record is `{given}`")]
    NoRecord {
        /// Id or position, shortened.
        given: String,
    },
    /// The tree has no such tile, or there is none of that name.
    #[error("there is no such tile")]
    NoTile,
    /// Nothing is signed yet.
    #[error("no checkpoint covers it yet")]
    NotYet,
    /// No checkpoint has the cosignatures of enough witnesses.
    #[error("no checkpoint is cosigned by enough witnesses yet")]
    NotCosigned,
    /// What comes out does not lead to the checkpoint.
    #[error("the hashes of the log do not lead to its checkpoint")]
    Unproven,
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The hashes of a tile, one after another.
///
/// # Errors
/// [`AskError`].
pub(crate) async fn tile(context: &Context, tile: Tile) -> Result<Vec<u8>, AskError> {
    let checkpoints = std::sync::Arc::clone(&context.checkpoints);
    let Of::Hashes(level) = tile.of else { return Err(AskError::NoTile) };
    blocking(move || {
        if tile.first() + tile.width > checkpoints.merkle.levels().count(level)? {
            return Err(AskError::NoTile);
        }
        let hashes = checkpoints.merkle.levels().hashes(level, tile.first(), tile.width)?;
        Ok(hashes.iter().flat_map(|hash| hash.0).collect())
    })
    .await?
}

/// The records of a bundle. That they were read is recorded.
///
/// # Errors
/// [`AskError`].
pub(crate) async fn bundle(context: &Context, tile: Tile, by: &Actor) -> Result<Vec<u8>, AskError> {
    let next = tile.first() + tile.width;
    if tile.of != Of::Entries || next > context.checkpoints.merkle.size() {
        return Err(AskError::NoTile);
    }
    record_read(context, "audit.entries", &tile.to_string(), by).await?;
    let limit = u32::try_from(tile.width).unwrap_or(u32::MAX);
    let found = read_log(context, Filter::default(), Span::Between(tile.first(), next), limit).await?;
    let mut bundle = Vec::new();
    for (_, record) in &found {
        // INVARIANT: no record is longer than its length can say.
        push_entry(&mut bundle, record).ok_or(AskError::NoTile)?;
    }
    if found.len() as u64 == tile.width { Ok(bundle) } else { Err(AskError::NoTile) }
}

/// A proof of the record at a position, or with an id of a decision, flow or session: of several its oldest.
///
/// # Errors
/// [`AskError`].
pub(crate) async fn evidence(context: &Context, given: &str, by: &Actor) -> Result<AuditProof, AskError> {
    let missing = || AskError::NoRecord { given: given.chars().take(80).collect() };
    let is_position = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit());
    let (filter, span) = match given.parse::<u64>().ok().filter(|_| is_position) {
        Some(position) => (Filter::default(), Span::Between(position, position.saturating_add(1))),
        None => (Filter { id: Some(given.to_owned()), ..Filter::default() }, Span::Before(u64::MAX)),
    };
    record_read(context, "audit.prove", given, by).await?;
    let mut found = read_log(context, filter, span, MAX_OTHERS).await?;
    found.sort_by_key(|(position, _)| *position);
    let mut found = found.into_iter();
    let (position, record) = found.next().ok_or_else(missing)?;
    let others: Vec<u64> = found.map(|(position, _)| position).collect();
    let covered = tokio::time::timeout(PATIENCE, context.checkpoints.covered(position + 1)).await;
    covered.map_err(|_| AskError::NotYet)?;
    if !context.checkpoints.witnesses.is_empty() {
        // Without them it proves less, but it proves.
        let _ = tokio::time::timeout(COSIGN_PATIENCE, context.checkpoints.witnesses.covered(position + 1)).await;
    }
    let checkpoints = std::sync::Arc::clone(&context.checkpoints);
    let (proof, cosigned_by) = blocking(move || checkpoints.prove(position, record)).await??;
    Ok(AuditProof { position, proof, cosigned_by, others })
}

impl Checkpoints {
    fn prove(&self, position: u64, record: Vec<u8>) -> Result<(String, Vec<String>), AskError> {
        let cosigned = self.cosigned().filter(|cosigned| cosigned.checkpoint.size > position);
        let published = cosigned.or_else(|| self.published()).ok_or(AskError::NotYet)?;
        let proof = inclusion(self.merkle.levels(), position, published.checkpoint.size)?;
        let evidence = Evidence { record: Some(record), index: position, proof, note: published.note.clone() };
        // Nothing leaves that would not convince who gets it.
        evidence.verify(&self.key()).map_err(|_| AskError::Unproven)?;
        Ok((evidence.to_string(), self.witnesses.signed(&evidence.note)))
    }
}

async fn record_read(context: &Context, verb: &str, what: &str, by: &Actor) -> Result<(), StoreError> {
    let mut record = by.changed(verb, "audit".to_owned(), what.chars().take(80).collect());
    record.kind = Kind::AuditRead;
    let mut write = context.store.write().await?;
    write.audit(record);
    write.commit().await
}
