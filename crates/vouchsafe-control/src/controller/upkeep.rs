//! What goes on while the controller runs: removing what has expired, and saying goodbye.

use std::sync::OnceLock;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::sync::oneshot;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::GrantDoc;

use super::start;
use crate::administrator::confirm;
use crate::administrator::grants::described;
use crate::administrator::{approval, modes, requests};
use crate::checkpoints;
use crate::context::Context;
use crate::directory::{self, Actor, locks};
use crate::log::{Log, Maker};
use crate::store::{StoreError, Write, grants, purge, sessions, settings};

/// How often expired rows are removed.
const PERIOD: Duration = Duration::from_secs(60);
/// How often it is looked whether a policy should have been confirmed.
const CONFIRMATIONS: Duration = Duration::from_secs(5);
/// How long to wait when certificates can't be renewed: there is a month left then.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// Rows of each kind that one transaction removes.
const BATCH: u32 = 500;
/// How far the clock may go ahead of the time that passed, seconds: clocks are corrected.
const JUMP_SECONDS: u64 = 300;
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
    let unconfirmed = context.clone();
    tasks.spawn_vital("confirmations", async move {
        loop {
            if let Err(error) = confirm::overdue(&unconfirmed, clock::unix_seconds(clock::now())).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a policy that wasn't confirmed in time is still in force; it is tried again"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(CONFIRMATIONS) => {}
                () = unconfirmed.tasks.draining() => return,
            }
        }
    });
    let log = context.store.log().clone();
    let indexing = context.tasks.clone();
    tasks.spawn_vital("audit index", async move {
        let indexer = match Indexer::start(log.clone()) {
            Ok(indexer) => indexer,
            Err(error) => return tracing::error!(%error, "no thread can be started for the audit log's index"),
        };
        loop {
            let more = tokio::select! {
                more = indexer.next() => more,
                () = indexing.draining() => return,
            };
            match more {
                Some(true) => continue,
                Some(false) => {}
                None => {
                    tracing::error!(
                        "the audit log isn't indexed any more, so searches take longer; restart the controller"
                    );
                    return indexing.draining().await;
                }
            }
            tokio::select! {
                () = log.to_index() => {}
                () = indexing.draining() => return,
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
        checkpoints::finish(&goodbye).await;
    });
}

/// How long its memory is kept for the next segment.
const IDLE_INDEX: Duration = Duration::from_secs(10);

/// How much later than others the index gets a processor (`nice(2)`): last.
const INDEX_NICE: i32 = 19;

/// The thread that makes the index. Making it takes a core for a tenth of a second at a time, and nobody waits for it: so
/// it is a thread of its own that comes after those that people wait for.
struct Indexer(std::sync::mpsc::Sender<oneshot::Sender<bool>>);

impl Indexer {
    fn start(log: Log) -> std::io::Result<Self> {
        let (ask, asked) = std::sync::mpsc::channel::<oneshot::Sender<bool>>();
        std::thread::Builder::new().name("audit index".to_owned()).spawn(move || {
            // On Linux this is about the calling thread alone. Where it is refused, it is indexed all the same.
            if let Err(error) = rustix::process::nice(INDEX_NICE) {
                tracing::info!(%error, "the audit log's index is made at the priority of everything else");
            }
            let mut maker = Maker::default();
            loop {
                match asked.recv_timeout(IDLE_INDEX) {
                    // Nobody may wait any more.
                    Ok(answer) => drop(answer.send(log.index_next(&mut maker))),
                    Err(RecvTimeoutError::Timeout) => maker = Maker::default(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self(ask))
    }

    /// Makes what is to be made next; says whether there may be more, or nothing where the thread is gone.
    async fn next(&self) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).ok()?;
        answered.await.ok()
    }
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
        expire_grant(&mut write, &grant).await?;
        removed += 1;
    }
    removed += modes::end_over(&mut write, now, BATCH).await?;
    removed += requests::end_over(&mut write, now, BATCH).await?;
    removed += approval::end_over(&mut write, now, BATCH).await?;
    if clock_jumped(now) {
        tracing::warn!("the clock went ahead of the time that passed, so locks with an end stay until a new start");
    } else {
        removed += locks::expire(&mut write, now, BATCH).await?;
    }
    write.commit().await?;
    Ok(removed)
}

/// Takes a grant away whose time is over.
pub(super) async fn expire_grant(write: &mut Write, grant: &GrantDoc) -> Result<(), StoreError> {
    grants::remove(write.connection(), &grant.id).await?;
    write.snapshot_changed();
    let record = Actor::Controller.changed("grant.expire", format!("grant/{}", grant.id), described(grant));
    write.audit(record);
    Ok(())
}

/// Whether the clock was set ahead while this process runs. Everything else ends too early by that, which is safe;
/// a lock must not, and no audit record may go.
pub(crate) fn clock_jumped(now: u64) -> bool {
    /// Seconds at the first look, by the clock and since the machine was started.
    static FIRST: OnceLock<(u64, u64)> = OnceLock::new();
    let since_boot = clock::since_boot().as_secs();
    let (by_clock, by_machine) = *FIRST.get_or_init(|| (now, since_boot));
    jumped(now.saturating_sub(by_clock), since_boot.saturating_sub(by_machine))
}

fn jumped(by_clock: u64, by_machine: u64) -> bool {
    by_clock > by_machine.saturating_add(JUMP_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::jumped;

    #[test]
    fn a_clock_that_went_ahead_is_told_from_time_that_passed() {
        for (by_clock, by_machine, expected) in [
            (0, 0, false),
            (86_400, 86_390, false),
            (86_400, 86_200, false),
            (90_000, 86_400, true),
            (10, 86_400, false),
        ] {
            assert_eq!(jumped(by_clock, by_machine), expected, "{by_clock} {by_machine}");
        }
    }
}
