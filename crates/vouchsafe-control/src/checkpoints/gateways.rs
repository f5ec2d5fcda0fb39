//! What gateways kept of checkpoints: each holds the newest that it was told, and says so when it attaches. Whoever sets
//! back the controller with all of its places doesn't reach them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vouchsafe_runtime::link::MAX_KEPT_CHECKPOINTS;
use vouchsafe_tlog::note::MAX_NOTE_BYTES;
use vouchsafe_tlog::tree;

use super::places::{Read, read_note};
use super::{CheckpointError, Trouble};
use crate::context::Context;
use crate::store::blocking;

/// How often it is looked whether the tree has what a gateway knows.
const PERIOD: Duration = Duration::from_millis(200);

/// Holds what a gateway kept against the log; what isn't signed by the log's key says nothing.
pub(crate) async fn compare(context: &Context, gateway: &str, kept: &[Bytes]) {
    for note in kept.iter().take(MAX_KEPT_CHECKPOINTS).filter(|note| note.len() <= MAX_NOTE_BYTES) {
        match one(context, gateway, note).await {
            Ok(None) => {}
            Ok(Some(trouble)) => context.checkpoints.stop(trouble).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(gateway, error, "the checkpoint of a gateway can't be compared with the log");
            }
        }
    }
}

async fn one(context: &Context, gateway: &str, note: &[u8]) -> Result<Option<Trouble>, CheckpointError> {
    let checkpoints = &context.checkpoints;
    let (signer, epoch) = {
        let state = checkpoints.state.read();
        (Arc::clone(&state.signer), state.epoch)
    };
    let place = || format!("the gateway `{gateway}`");
    let found = context.store.log().size();
    let kept = match read_note(note, &signer, epoch) {
        Read::Ours(kept) => kept.checkpoint,
        Read::Newer(known, other) => {
            // The next log must be none that was signed already.
            let mut state = checkpoints.state.write();
            state.known_epoch = state.known_epoch.max(other);
            return Ok(Some(Trouble::SetBack { known, found, place: place() }));
        }
        Read::Older | Read::Foreign => return Ok(None),
    };
    if kept.size > found {
        return Ok(Some(Trouble::SetBack { known: kept.size, found, place: place() }));
    }
    while checkpoints.merkle.size() < kept.size {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = context.tasks.draining() => return Ok(None),
        }
    }
    let (tree, size) = (Arc::clone(checkpoints), kept.size);
    let root = blocking(move || tree::root(tree.merkle.levels(), size)).await??;
    Ok((root != kept.root).then(|| Trouble::Differs { size: kept.size, place: place() }))
}
