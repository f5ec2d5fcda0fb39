//! Beginning a new log, when the old one can't go on: its records were lost, and others know of them.
//!
//! The records that are there stay, and are the first of the new log. It has another origin, so nothing that was signed
//! before speaks for it, and everything that was signed before stays what it was. That it happened, when, by whom and why
//! is a record of the new log, and can't be hidden: whoever holds a checkpoint of the old one asks for the new.

use std::sync::Arc;

use vouchsafe_runtime::clock;

use super::{origin, publish};
use crate::administrator::AdministratorError;
use crate::context::Context;
use crate::directory::{Actor, DirectoryError};
use crate::store::settings;

/// Longest reason.
const MAX_REASON_CHARS: usize = 1_000;

/// Begins a new log; it must be needed.
///
/// # Errors
/// [`AdministratorError::NoFork`] when checkpoints are signed; [`AdministratorError::Checkpoints`].
pub(crate) async fn begin(context: &Context, reason: &str, by: &Actor) -> Result<(), AdministratorError> {
    let checkpoints = &context.checkpoints;
    if !checkpoints.trouble().is_some_and(|trouble| trouble.ends_by_fork()) {
        return Err(AdministratorError::NoFork);
    }
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        return Err(DirectoryError::Reason.into());
    }
    {
        let _turn = checkpoints.turn.lock().await;
        let (epoch, known_epoch, trouble, signer) = {
            let state = checkpoints.state.read();
            let trouble = state.trouble.clone().filter(super::Trouble::ends_by_fork);
            (state.epoch, state.known_epoch, trouble.ok_or(AdministratorError::NoFork)?, Arc::clone(&state.signer))
        };
        let next = checkpoints.places.look(&signer, epoch).await?.epoch.max(known_epoch).saturating_add(1);
        let now = clock::unix_seconds(clock::now());
        let name = origin(&context.settings.domain, next);
        let before = signer.verifier().clone();
        let signer = context.ca.audit_signer(&context.store, &context.settings, &name, now).await?;
        let mut write = context.store.write().await?;
        settings::put(write.connection(), settings::AUDIT_EPOCH, &next.to_string()).await?;
        settings::remove(write.connection(), settings::AUDIT_CHECKPOINT).await?;
        let (words, _) = trouble.words();
        let detail = format!("{reason}; {words}; before: {before}; now: {}", signer.verifier());
        write.audit(by.changed("audit.fork", format!("audit-log/{next}"), detail));
        write.commit().await?;
        checkpoints.places.set_aside(epoch).await?;
        checkpoints.places.show_key(signer.verifier()).await?;
        let mut state = checkpoints.state.write();
        state.epoch = next;
        state.known_epoch = next;
        state.signer = Arc::new(signer);
        state.published = None;
        state.signed_at = None;
        state.cosigned = None;
        checkpoints.witnesses.forget();
        state.trouble = None;
    }
    publish::round(context).await;
    Ok(())
}
