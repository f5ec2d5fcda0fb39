//! Retention: records that are old enough leave the audit log, and what was signed of them stays provable.
//!
//! Whole segments go, the oldest first; the hashes of their records stay, so every checkpoint, every proof and every record
//! that somebody has kept can still be verified. That they go is a record itself, and covered by a checkpoint before it
//! happens: `audit verify` believes that records are missing from the beginning only where the log says so. Why:
//! `docs/decisions/0034-retention.md`.

use std::time::{Duration, SystemTime};

use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Kind;

use crate::context::Context;
use crate::controller::clock_jumped;
use crate::directory::Actor;
use crate::log::{LogError, removal_words};
use crate::store::{StoreError, blocking, streams};

/// The shortest time that records can be kept: pages and suggestions look back a month.
pub const SHORTEST_KEEP_DAYS: u32 = 31;
/// How often it is looked. Files stay for one such time after nobody sees them any more, for those who are reading.
const PERIOD: Duration = Duration::from_secs(3_600);
/// How long a checkpoint over the record of a removal is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

/// Nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionError {
    /// The log's files failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing speaks for the removal yet.
    #[error("no checkpoint covers the record of the removal; `vouchsafe audit key` says why")]
    NotSigned,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Segments whose files went.
    pub(crate) files: usize,
    /// Records that are not seen any more; their files go at the next look.
    pub(crate) records: u64,
}

/// Starts the task, if records are to go at all.
pub(crate) fn start(context: &Context, keep_days: Option<u32>) {
    let Some(days) = keep_days else { return };
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.spawn_vital("retention", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = context.tasks.draining() => return,
            }
            let now = clock::now();
            // A clock that is ahead would take the whole log.
            if clock_jumped(clock::unix_seconds(now)) {
                tracing::warn!(
                    "the clock went ahead of the time that passed, so no audit record is removed until a new start"
                );
                continue;
            }
            match round(&context, days, now).await {
                Ok(Removed { files: 0, records: 0 }) => {}
                Ok(Removed { files, records }) => {
                    tracing::info!(files, records, days, "old audit records were removed")
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "old audit records could not be removed; it is tried again"
                ),
            }
        }
    });
}

/// Removes what is older than so many days, and what the round before took out of sight.
///
/// # Errors
/// [`RetentionError`].
pub(crate) async fn round(context: &Context, days: u32, now: SystemTime) -> Result<Removed, RetentionError> {
    let log = context.store.log();
    let one = log.clone();
    let files = blocking(move || one.remove_old()).await??;
    let ago = |times: u32| {
        let time = DAY * days.max(SHORTEST_KEEP_DAYS) * times;
        now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let (before, long_before) = (ago(1), ago(2));
    // While it isn't clear what the log was, all of it is evidence.
    let signed = match (context.checkpoints.trouble(), context.checkpoints.published()) {
        (None, Some(published)) => published.checkpoint.size,
        (Some(_), _) | (None, None) => return Ok(Removed { files, records: 0 }),
    };
    // What a stream has not sent on yet waits for it, but not for ever.
    let streams = streams::list(&mut *context.store.read().await?).await?;
    let sent = streams.iter().map(|stream| stream.doc.next).min().unwrap_or(u64::MAX);
    let (one, from) = (log.clone(), log.first());
    let oldest = move || {
        let sent_on = one.older_than(before, signed.min(sent))?;
        Ok::<_, LogError>(sent_on.max(one.older_than(long_before, signed)?))
    };
    let first = blocking(oldest).await??;
    if first <= from {
        return Ok(Removed { files, records: 0 });
    }
    let mut told = Actor::Controller.record(Kind::Lifecycle, clock::now());
    told.action = Some("audit.retention".to_owned());
    told.outcome = Some("ok".to_owned());
    told.target = Some("audit-log".to_owned());
    told.detail = Some(removal_words(first, days));
    let mut write = context.store.write().await?;
    write.audit(told);
    write.commit().await?;
    let covered = tokio::time::timeout(PATIENCE, context.checkpoints.covered(log.size())).await;
    covered.map_err(|_| RetentionError::NotSigned)?;
    let one = log.clone();
    blocking(move || one.begin_at(first)).await??;
    Ok(Removed { files, records: first - from })
}

#[cfg(test)]
mod tests;
