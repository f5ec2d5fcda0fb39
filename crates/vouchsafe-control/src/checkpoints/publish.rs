//! Taking records into the tree, and publishing what it has become.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vouchsafe_runtime::clock;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::hash::Hash;
use vouchsafe_tlog::proof::{consistency, verify_consistency};

use super::{CheckpointError, Checkpoints, INTERVAL, Published, Trouble, witnesses};
use crate::context::Context;
use crate::log::LogError;
use crate::store::blocking;

/// Records that are much: then it is told how far it is.
const MUCH: u64 = 200_000;
/// How often it is told.
const TELL: Duration = Duration::from_secs(5);
/// Records after which one more checkpoint is kept for good, to find where a log was changed.
const MILESTONE: u64 = 16_384;

/// Goes on until the drain.
pub(super) async fn run(context: Context) {
    let mut grown = context.store.log().grown();
    witnesses::consult(&context).await;
    loop {
        grown.borrow_and_update();
        round(&context).await;
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return },
            () = context.tasks.draining() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = context.tasks.draining() => return,
        }
    }
}

/// Takes in what is new and publishes it, if that may be.
pub(super) async fn round(context: &Context) {
    let checkpoints = &context.checkpoints;
    // Whoever knows more than is known here is heard first.
    if !checkpoints.witnesses.is_consulted() {
        return;
    }
    let _turn = checkpoints.turn.lock().await;
    let trouble = match publish(context).await {
        Ok(()) => return,
        Err(Failure::Trouble(trouble)) => trouble,
        Err(Failure::Error(error)) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            Trouble::Passing { why: causes.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
        }
    };
    // Told once, not at each new attempt.
    if checkpoints.trouble().as_ref() != Some(&trouble) {
        let (words, hint) = trouble.words();
        tracing::error!(hint, "{words}");
    }
    checkpoints.state.write().trouble = Some(trouble);
}

enum Failure {
    Trouble(Trouble),
    Error(CheckpointError),
}

impl<E: Into<CheckpointError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

async fn publish(context: &Context) -> Result<(), Failure> {
    let checkpoints = &context.checkpoints;
    grow(context).await?;
    let (before, signer) = {
        let state = checkpoints.state.read();
        if state.trouble.as_ref().is_some_and(Trouble::stands) {
            return Ok(());
        }
        (state.published.clone(), Arc::clone(&state.signer))
    };
    let size = checkpoints.merkle.size();
    let removed = context.store.log().first();
    if size < removed {
        return Err(Failure::Trouble(Trouble::HashesLost { removed, hashed: size }));
    }
    if before.as_ref().is_some_and(|before| before.checkpoint.size >= size) || size == 0 {
        return Ok(());
    }
    let known = before.as_ref().map(|before| (before.checkpoint.size, before.checkpoint.root));
    let root = match continued(context, known, size).await? {
        Some(root) => root,
        // The hashes on disk may have been changed, not the log: they are made again, once.
        None => {
            tracing::warn!("the hashes of the audit log do not lead to its last checkpoint; they are made again");
            let again = context.clone();
            blocking(move || again.checkpoints.merkle.forget(again.store.log().first())).await??;
            grow(context).await?;
            let size = known.map_or(0, |(size, _)| size);
            let differs = Trouble::Differs { size, place: "its own checkpoint".to_owned() };
            continued(context, known, checkpoints.merkle.size()).await?.ok_or(Failure::Trouble(differs))?
        }
    };
    let size = checkpoints.merkle.size();
    let origin = signer.verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size, root, extension: String::new() };
    let note = checkpoint.sign(&signer);
    let published = Published { checkpoint, note };
    let milestone = known.map_or(0, |(size, _)| size / MILESTONE) < size / MILESTONE;
    checkpoints.places.keep(&published, milestone).await?;
    let mut state = checkpoints.state.write();
    state.published = Some(Arc::new(published));
    state.signed_at = Some(clock::now());
    state.trouble = None;
    drop(state);
    checkpoints.published.send_replace(size);
    Ok(())
}

/// Takes in all that the log has, and makes it durable.
async fn grow(context: &Context) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        let (checkpoints, log) = (Arc::clone(&context.checkpoints), context.store.log().clone());
        let more = blocking(move || checkpoints.merkle.grow(&log)).await??;
        if !more {
            break;
        }
        let (have, all) = (context.checkpoints.merkle.size(), context.store.log().size());
        if all.saturating_sub(have) > MUCH && told.elapsed() > TELL || (told > begun && have == all) {
            told = Instant::now();
            let percent = have.saturating_mul(100) / all.max(1);
            tracing::info!(hashed = have, records = all, "the audit log is hashed: {percent} %");
        }
        if context.tasks.is_draining() {
            break;
        }
    }
    let checkpoints = Arc::clone(&context.checkpoints);
    Ok(blocking(move || checkpoints.merkle.sync()).await??)
}

/// The root of the tree, if it continues the one that is known.
async fn continued(context: &Context, known: Option<(u64, Hash)>, size: u64) -> Result<Option<Hash>, Failure> {
    let checkpoints = Arc::clone(&context.checkpoints);
    let proven = blocking(move || checkpoints.prove_continuation(known, size)).await?;
    Ok(proven?)
}

impl Checkpoints {
    fn prove_continuation(&self, known: Option<(u64, Hash)>, size: u64) -> Result<Option<Hash>, LogError> {
        let root = self.merkle.root(size)?;
        let Some((old, old_root)) = known else { return Ok(Some(root)) };
        if old > size {
            return Ok(None);
        }
        let proof = consistency(self.merkle.levels(), old, size)?;
        Ok(verify_consistency(old, &old_root, size, &root, &proof).is_ok().then_some(root))
    }
}
