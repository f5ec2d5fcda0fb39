//! Room on the disk for the audit log. Before it ends somebody is told: in the log, by figures, by `/readyz` and `status`,
//! and on the console. What happens when it has ended is the log's and the gateways' to say (`docs/guide/audit.md`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vouchsafe_runtime::clock;

use crate::context::Context;
use crate::store::{StoreError, blocking};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(2);
/// How often it is told while it lasts.
const TELL: Duration = Duration::from_secs(60);
/// Less is never enough: room for the next segments of the log and of a gateway's spool, and for the database.
const LEAST: u64 = 64 * 1024 * 1024;
/// More is always enough.
const AMPLE: u64 = 2 * 1024 * 1024 * 1024;
/// Below this the next segment can't be made.
const ENDED: u64 = 16 * 1024 * 1024;

/// How much room there is.
#[derive(Debug, Default)]
pub(crate) struct Room {
    available: AtomicU64,
    total: AtomicU64,
    /// Since when there is little, unix seconds; 0 when there is enough.
    since: AtomicU64,
}

/// Whether that is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supply {
    /// There is enough, or nobody has looked yet.
    Enough,
    /// It will end.
    Low,
    /// No segment can be made any more.
    Ended,
}

impl Supply {
    /// The first number is what is free, the second the size of the file system.
    fn of(available: u64, total: u64) -> Self {
        let enough = (total / 20).clamp(LEAST, AMPLE);
        match available {
            _ if total == 0 => Supply::Enough,
            ..ENDED => Supply::Ended,
            _ if available < enough => Supply::Low,
            _ => Supply::Enough,
        }
    }

    /// 0, 1 or 2, rising with the trouble.
    pub(crate) const fn level(self) -> u64 {
        match self {
            Supply::Enough => 0,
            Supply::Low => 1,
            Supply::Ended => 2,
        }
    }
}

impl Room {
    /// Whether there is enough.
    pub(crate) fn supply(&self) -> Supply {
        Supply::of(self.available(), self.total.load(Ordering::Relaxed))
    }

    /// Bytes that are free for us.
    pub(crate) fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Since when there is little, unix seconds.
    pub(crate) fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// What is wrong, for people; nothing when there is enough.
    pub(crate) fn words(&self) -> Option<String> {
        let mebibytes = self.available() / (1024 * 1024);
        match self.supply() {
            Supply::Enough => None,
            Supply::Low => {
                Some(format!("the disk of the audit log has {mebibytes} MiB left; when it is full, nothing is allowed"))
            }
            Supply::Ended => Some(format!(
                "the disk of the audit log is full ({mebibytes} MiB left): nothing changes, and soon nothing is allowed, until there is room"
            )),
        }
    }

    fn note(&self, available: u64, total: u64) {
        self.available.store(available, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        match (self.supply(), self.since()) {
            (Supply::Enough, _) => self.since.store(0, Ordering::Relaxed),
            (Supply::Low | Supply::Ended, None) => {
                self.since.store(clock::unix_seconds(clock::now()), Ordering::Relaxed);
            }
            (Supply::Low | Supply::Ended, Some(_)) => {}
        }
    }
}

/// Starts the look-out.
pub(crate) fn start(context: &Context) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.clone().spawn_vital("room", async move {
        let mut told: Option<(Supply, Instant)> = None;
        loop {
            if let Err(error) = look(&context).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "room on the disk can't be asked for");
            }
            tell(&context.room, &mut told);
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = tasks.draining() => return,
            }
        }
    });
}

/// Tells when it changes, and once a minute while it lasts.
fn tell(room: &Room, told: &mut Option<(Supply, Instant)>) {
    let supply = room.supply();
    let before = told.map_or(Supply::Enough, |(supply, _)| supply);
    let again = supply != before || told.is_some_and(|(_, at)| at.elapsed() >= TELL);
    match room.words() {
        None if supply != before => {
            tracing::info!(available = room.available(), "the disk of the audit log has room again")
        }
        None => {}
        Some(words) if again => tracing::error!(available = room.available(), "{words}"),
        Some(_) => return,
    }
    *told = (supply != Supply::Enough).then(|| (supply, Instant::now()));
}

async fn look(context: &Context) -> Result<(), StoreError> {
    let dir = context.store.log().dir().to_owned();
    let found = blocking(move || free(&dir)).await?;
    match found {
        Ok((available, total)) => context.room.note(available, total),
        Err(error) => tracing::debug!(%error, "room on the disk can't be asked for"),
    }
    Ok(())
}

/// Bytes that are free for us, and the size of the file system.
fn free(dir: &Path) -> std::io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(dir)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_twentieth_is_low_within_bounds_and_less_than_a_segment_is_the_end() {
        for (available, total, supply) in [
            (0, 0, Supply::Enough),
            (100 * MIB, 160 * MIB, Supply::Enough),
            (63 * MIB, 160 * MIB, Supply::Low),
            (15 * MIB, 160 * MIB, Supply::Ended),
            (499 * MIB, 10_000 * MIB, Supply::Low),
            (501 * MIB, 10_000 * MIB, Supply::Enough),
            (2_049 * MIB, 10_000_000 * MIB, Supply::Enough),
            (2_047 * MIB, 10_000_000 * MIB, Supply::Low),
        ] {
            assert_eq!(Supply::of(available, total), supply, "{available} of {total}");
        }
    }

    #[test]
    fn it_is_told_when_it_changes_and_not_all_the_time() {
        let room = Room::default();
        let mut told = None;
        tell(&room, &mut told);
        assert_eq!((told, room.since(), room.words()), (None, None, None));
        room.note(20 * MIB, 160 * MIB);
        tell(&room, &mut told);
        let first = told;
        assert!(first.is_some_and(|(supply, _)| supply == Supply::Low) && room.since().is_some());
        tell(&room, &mut told);
        assert_eq!(told, first, "not again within the minute");
        room.note(MIB, 160 * MIB);
        tell(&room, &mut told);
        assert!(told.is_some_and(|(supply, _)| supply == Supply::Ended));
        room.note(100 * MIB, 160 * MIB);
        tell(&room, &mut told);
        assert_eq!((told, room.since()), (None, None));
    }
}
