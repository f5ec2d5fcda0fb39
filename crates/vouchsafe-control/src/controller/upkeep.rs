//! What goes on while the controller runs: removing what has expired, and saying goodbye.

use std::time::Duration;

use vouchsafe_runtime::clock;

use super::start;
use crate::administrator::grants::described;
use crate::context::Context;
use crate::directory::{self, Actor, locks};
use crate::store::{StoreError, grants, purge, sessions, settings};

/// How often expired rows are removed.
const PERIOD: Duration = Duration::from_secs(60);
/// How long to wait when certificates can't be renewed: there is a month left then.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// Rows of each kind that one transaction removes.
const BATCH: u32 = 500;
/// Transactions of one round; what is left waits for the next.
const MAX_BATCHES: u32 = 20;

/// Starts the tasks.
pub(super) fn start(context: &Context) {
    let tasks = &context.tasks;
    let upkeep = context.clone();
    tasks.spawn_vital("upkeep", async move {
        loop {
            if let Err(error) = round(&upkeep).await {
                tracing::error!(error = &error as &dyn std::error::Error, "expired rows could not be removed");
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = upkeep.tasks.draining() => return,
            }
        }
    });
    let renewal = context.clone();
    tasks.spawn_vital("certificates", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(renew(&renewal).await) => {}
                () = renewal.tasks.draining() => return,
            }
        }
    });
    let goodbye = context.clone();
    tasks.spawn("goodbye", async move {
        goodbye.tasks.draining().await;
        if let Err(error) = start::record_stop(&goodbye).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the stop could not be recorded");
        }
    });
}

/// Renews what gateways show, if it is time; says when to ask again.
async fn renew(context: &Context) -> Duration {
    let now = clock::unix_seconds(clock::now());
    match context.ca.renew(&context.store, &context.settings, now).await {
        Ok(false) => PERIOD,
        Ok(true) => {
            tracing::info!("our own certificates have been renewed");
            PERIOD
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "our own certificates can't be renewed; the present ones are shown on, and it is tried again"
            );
            RENEW_AGAIN
        }
    }
}

async fn round(context: &Context) -> Result<(), StoreError> {
    for _ in 0..MAX_BATCHES {
        if remove_expired(context).await? < u64::from(BATCH) {
            break;
        }
    }
    Ok(())
}

/// Removes one batch. Decisions never waited for it: expiry is looked at wherever it matters.
pub(super) async fn remove_expired(context: &Context) -> Result<u64, StoreError> {
    let now = clock::unix_seconds(clock::now());
    let mut write = context.store.write().await?;
    settings::put(write.connection(), settings::CLOCK, &now.to_string()).await?;
    let mut removed = purge::expired(write.connection(), now, BATCH).await?;
    for session in sessions::expired(write.connection(), now, BATCH).await? {
        directory::end_session(&mut write, &session.id, "expired", &Actor::Controller).await?;
        removed += 1;
    }
    for grant in grants::expired(write.connection(), now, BATCH).await? {
        grants::remove(write.connection(), &grant.id).await?;
        write.snapshot_changed();
        let record = Actor::Controller.changed("grant.expire", format!("grant/{}", grant.id), described(&grant));
        write.audit(record);
        removed += 1;
    }
    removed += locks::expire(&mut write, now, BATCH).await?;
    write.commit().await?;
    Ok(removed)
}
