//! Revocations that could not be written: whom this process treats as revoked all the same (A129).
//!
//! Whoever asked for one got an error, and will try again; until then nobody may go on who was to be kept out. So what
//! facts are read of says so, in a table of each connection that is in memory and takes no room on any disk, and gateways
//! are told that they have to ask. It ends when the same is written, or is taken back by an administrator who unlocks; a
//! restart forgets it, and then the database decides, in which the revocation is not. The audit log says that it failed,
//! as soon as it takes records again.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use sqlx::SqliteConnection;
use tokio::sync::watch;
use vouchsafe_model::id::SessionId;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::Record;

use super::StoreError;

/// Most that are told apart; past it nobody at all has facts, until the process is started anew.
const MOST: usize = 10_000;
/// Most records that wait to be written.
const MOST_RECORDS: usize = 1_000;

/// Made on each connection: to read facts is to read it.
pub(super) const TABLE: &str =
    "CREATE TEMP TABLE IF NOT EXISTS suspended (kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (kind, name))";

/// A revocation that is about to be written.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    /// Whom, or what, it is about.
    pub(crate) whom: Vec<Change>,
    /// What is on record where it can't be written. Writing the same, by its action and target, ends what not writing it
    /// began.
    pub(crate) record: Box<Record>,
}

impl Revocation {
    fn what(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{} {}", text(&self.record.action), text(&self.record.target))
    }
}

/// Whether what went wrong is that the store failed: then nobody knows what is written.
pub(crate) trait OfTheStore {
    /// Whether it is.
    fn is_of_the_store(&self) -> bool;
}

impl OfTheStore for StoreError {
    fn is_of_the_store(&self) -> bool {
        true
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// What is suspended, and by what that could not be written.
    by: BTreeMap<(&'static str, String), BTreeSet<String>>,
    /// There was more than is told apart.
    everything: bool,
    records: Vec<Record>,
    /// Records that did not fit.
    left_out: u64,
}

/// What could not be written.
#[derive(Debug)]
pub(crate) struct Suspended {
    kept: Mutex<Kept>,
    /// How often it has changed; 0 for a process that wrote everything until now.
    version: watch::Sender<u64>,
}

impl Default for Suspended {
    fn default() -> Self {
        Self { kept: Mutex::default(), version: watch::Sender::new(0) }
    }
}

fn key(change: &Change) -> (&'static str, String) {
    match change {
        Change::User(name) => ("user", name.to_string()),
        Change::Device(id) => ("device", id.to_string()),
        Change::Session(id) => ("session", id.to_string()),
        Change::Everything => ("everything", String::new()),
    }
}

impl Suspended {
    /// Keeps whom a revocation was about from going on.
    pub(super) fn add(&self, revocation: &Revocation, why: &StoreError) {
        let (Revocation { whom, record }, what) = (revocation, revocation.what());
        tracing::error!(
            error = why as &dyn std::error::Error,
            what,
            "a revocation can't be written; this process treats it as done until it can, or until a restart"
        );
        let mut kept = self.kept.lock();
        for change in whom {
            if kept.by.len() >= MOST || matches!(change, Change::Everything) {
                kept.everything = true;
            } else {
                kept.by.entry(key(change)).or_default().insert(what.clone());
            }
        }
        if kept.records.len() < MOST_RECORDS {
            kept.records.push(failed(record));
        } else {
            kept.left_out = kept.left_out.saturating_add(1);
        }
        drop(kept);
        self.version.send_modify(|version| *version += 1);
    }

    /// It is written. Says whether anything had been suspended for want of it.
    pub(super) fn written(&self, revocation: &Revocation) -> bool {
        self.lift(&revocation.whom, |verbs| {
            verbs.remove(&revocation.what());
        })
    }

    /// An administrator takes back all that was to keep them out.
    pub(super) fn taken_back(&self, whom: &[Change]) -> bool {
        self.lift(whom, BTreeSet::clear)
    }

    fn lift(&self, whom: &[Change], of: impl Fn(&mut BTreeSet<String>)) -> bool {
        let mut kept = self.kept.lock();
        let before = kept.by.len();
        for key in whom.iter().map(key) {
            if let Some(verbs) = kept.by.get_mut(&key) {
                of(verbs);
                if verbs.is_empty() {
                    kept.by.remove(&key);
                }
            }
        }
        let lifted = kept.by.len() != before;
        drop(kept);
        if lifted {
            self.version.send_modify(|version| *version += 1);
        }
        lifted
    }

    /// Writes it into the memory of a connection that facts will be read on.
    pub(super) async fn tell(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if *self.version.borrow() == 0 {
            return Ok(());
        }
        let (rows, everything) = {
            let kept = self.kept.lock();
            (kept.by.keys().cloned().collect::<Vec<_>>(), kept.everything)
        };
        sqlx::query("DELETE FROM temp.suspended").execute(&mut *connection).await?;
        let everything = everything.then(|| key(&Change::Everything));
        for (kind, name) in rows.into_iter().chain(everything) {
            sqlx::query("INSERT INTO temp.suspended (kind, name) VALUES ($1, $2)")
                .bind(kind)
                .bind(name)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Records that wait to be written; they are the caller's to give back.
    pub(super) fn take_records(&self) -> Vec<Record> {
        let mut kept = self.kept.lock();
        let mut records = std::mem::take(&mut kept.records);
        if kept.left_out > 0
            && let Some(last) = records.last_mut()
        {
            let more = format!("; {} more revocations that could not be written have no record", kept.left_out);
            last.detail.get_or_insert_default().push_str(&more);
            kept.left_out = 0;
        }
        records
    }

    /// Takes records back that could not be written either.
    pub(super) fn return_records(&self, mut records: Vec<Record>) {
        let mut kept = self.kept.lock();
        records.append(&mut kept.records);
        kept.records = records;
    }

    /// Whether something waits to be written: records, or that sessions have ended.
    pub(crate) fn waits(&self) -> bool {
        let has_records = !self.kept.lock().records.is_empty();
        has_records || !self.sessions().is_empty()
    }

    /// Sessions that are treated as ended.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let kept = self.kept.lock();
        kept.by.keys().filter(|(kind, _)| *kind == "session").filter_map(|(_, id)| id.parse().ok()).collect()
    }

    /// Changes with each suspension and each end of one.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// What is on record of one that could not be written.
fn failed(record: &Record) -> Record {
    let mut record = record.clone();
    record.outcome = Some("failed".to_owned());
    let what = "could not be written; this process treats it as done until it is written, or until a restart";
    record.detail = Some(match record.detail.take() {
        Some(detail) => format!("{detail}; {what}"),
        None => what.to_owned(),
    });
    record
}
