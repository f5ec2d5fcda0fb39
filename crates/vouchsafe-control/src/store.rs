//! The store: SQLite in WAL mode behind one writer. The only module that knows SQL.
//!
//! Every change goes through [`Store::write`]: one transaction that carries the change itself, its
//! audit record and its row in the change feed. Only after the commit is durable
//! (`synchronous = FULL`) do gateways hear of it, so nobody acts on what a crash could undo, and a
//! change without a record can't be written.
//!
//! The audit log itself is no table (see [`crate::log`]): the transaction puts the record into an
//! outbox, and right after the commit it is moved to the log. What a crash left there is moved at
//! the next start, before anything else.

pub(crate) mod ceremonies;
pub(crate) mod certified;
pub(crate) mod connectors;
pub(crate) mod devices;
pub(crate) mod enrolment;
pub(crate) mod facts;
pub(crate) mod feed;
pub(crate) mod gateways;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod idempotency;
pub(crate) mod invites;
pub(crate) mod keys;
pub(crate) mod locks;
mod outbox;
pub(crate) mod passkeys;
pub(crate) mod policy;
pub(crate) mod proposals;
pub(crate) mod purge;
pub(crate) mod requests;
pub(crate) mod resources;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod streams;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod webhooks;

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, broadcast, mpsc, watch};
use vouchsafe_model::id::{GatewayId, MessageId};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{Change, Commits, Delta, News};
use vouchsafe_wire::audit::{Record, RecordError};
use vouchsafe_wire::spool::push_frame;

use self::feed::{Entry, FeedReader};
use crate::log::{CONTROLLER_SOURCE, Log, LogError, TakeError};
use crate::webhooks::{Event, EventKind};

/// Name of the audit log's directory beside the database.
pub(crate) const LOG_DIRECTORY: &str = "audit";

/// Connections that read. Who holds one must not wait for another: those who do so at the same time could have all.
pub(crate) const READERS: u32 = 4;

/// Failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// An audit record could not be made, so its change must not happen.
    #[error("the audit record of a change could not be made")]
    Record(#[from] RecordError),
    /// The audit log failed, so no change may happen.
    #[error("the audit log failed")]
    Log(#[from] LogError),
    /// The outbox holds a record that the log has with other content.
    #[error("the audit log does not take the controller's own records; hint: database and log are not of one backup")]
    Outbox(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The end of a change was not waited for: the process is going down.
    #[error("the process ends")]
    Ending,
    /// A row does not hold what its column promises.
    #[error("the database holds an unreadable {what}")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
}

/// Handle to the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    signals: Arc<Signals>,
    log: Log,
    outbox: Arc<Mutex<Outbox>>,
}

/// Whether the log has all that was committed.
enum Outbox {
    Moved,
    /// Rows are left that could not be moved; no change happens before they are.
    Behind,
}

struct Signals {
    changes: broadcast::Sender<News>,
    /// Number of the newest row of the change feed that is committed.
    newest: watch::Sender<u64>,
    commits: Commits,
    snapshot: mpsc::UnboundedSender<()>,
    /// A message to a webhook was committed.
    messages: Notify,
    held: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Store {
    /// Opens the database file and brings its schema up to date. The receiver gets a signal after
    /// every commit that changes the snapshot.
    pub(crate) async fn open(path: &Path) -> Result<(Self, mpsc::UnboundedReceiver<()>), StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Sorting must not spill secrets, or anything, to a directory that is not ours.
            .pragma("temp_store", "memory")
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        migrator(usize::MAX).run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
        let (snapshot, snapshot_signals) = mpsc::unbounded_channel();
        let known = outbox::state(&mut *reader.acquire().await?).await?.log_size;
        let dir = path.with_file_name(LOG_DIRECTORY);
        let log = blocking(move || Log::open(&dir, known)).await??;
        let newest = watch::Sender::new(feed::newest(&mut *reader.acquire().await?).await?);
        let changes = broadcast::channel(4096).0;
        let signals = Arc::new(Signals {
            changes,
            newest,
            commits: Commits::default(),
            snapshot,
            messages: Notify::new(),
            held: OnceLock::new(),
        });
        let store = Self { writer, reader, signals, log, outbox: Arc::new(Mutex::new(Outbox::Behind)) };
        // What a crash left in the outbox is moved before anything else happens.
        let mut write = store.write().await?;
        feed::begin_era(write.connection()).await?;
        write.commit().await?;
        Ok((store, snapshot_signals))
    }

    /// The audit log.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Keeps something until the last handle is gone: the lock on the state directory, which must
    /// not be free while anything still writes.
    pub(crate) fn hold(&self, held: impl Any + Send + Sync) {
        let _ = self.signals.held.set(Box::new(held));
    }

    /// Begins a change. One at a time: `BEGIN IMMEDIATE` takes the write lock before anything is
    /// read, so a check and the change it guards can't be torn apart.
    ///
    /// The turn lasts until the records of the change are in the log, so that they stand there in
    /// the order of the commits; records that could not be moved before are moved first.
    pub(crate) async fn write(&self) -> Result<Write, StoreError> {
        let mut outbox = Arc::clone(&self.outbox).lock_owned().await;
        if let Outbox::Behind = *outbox {
            let left = outbox::rows(&mut *self.reader.acquire().await?).await?;
            move_to_log(&self.log, left).await?;
            *outbox = Outbox::Moved;
        }
        let transaction = self.begin().await?;
        Ok(Write {
            transaction,
            outbox,
            log: self.log.clone(),
            signals: Arc::clone(&self.signals),
            records: Vec::new(),
            entries: Vec::new(),
            snapshot: Snapshot::Unchanged,
            messages: Messages::None,
        })
    }

    /// A commit that met a full disk leaves a connection on which nothing begins any more, also when there is room again.
    /// What it was to commit is undone with it; another one takes its place.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            Ok(transaction) => Ok(transaction),
            Err(error) => {
                tracing::warn!(%error, "no change can begin; the connection to the database is opened anew");
                self.writer.acquire().await?.close().await?;
                Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
            }
        }
    }

    /// Changes of facts from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<News> {
        self.signals.changes.subscribe()
    }

    /// Waits until a message to a webhook is committed.
    pub(crate) async fn message(&self) {
        self.signals.messages.notified().await;
    }

    /// When what has that number in the change feed was committed, if it is one of the latest.
    pub(crate) fn committed(&self, sequence: u64) -> Option<Instant> {
        self.signals.commits.at(sequence)
    }

    /// Number of the newest row of the change feed that is committed.
    pub(crate) fn newest(&self) -> u64 {
        *self.signals.newest.borrow()
    }

    /// The change feed from behind a number on.
    pub(crate) fn follow(&self, after: u64) -> FeedReader {
        FeedReader::new(self.clone(), self.signals.newest.subscribe(), after)
    }

    /// Begins reading: all that is read through one of these is of one moment.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.reader.begin().await?)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    Unchanged,
    Changed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Messages {
    None,
    Some,
}

/// One change under way. Dropping it undoes everything.
pub(crate) struct Write {
    transaction: Transaction<'static, Sqlite>,
    outbox: OwnedMutexGuard<Outbox>,
    log: Log,
    signals: Arc<Signals>,
    records: Vec<Record>,
    entries: Vec<Entry>,
    snapshot: Snapshot,
    messages: Messages,
}

impl Write {
    /// The connection of this transaction.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Adds an audit record of the controller's own; `source` and `seq` are set at the commit.
    pub(crate) fn audit(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Notes facts that cease to be true with this commit.
    pub(crate) fn change(&mut self, change: Change) {
        self.entries.push(Entry::Facts(change));
    }

    /// Notes that a gateway is none of ours any more with this commit.
    pub(crate) fn gateway_removed(&mut self, id: GatewayId) {
        self.entries.push(Entry::Gateway(id));
    }

    /// Notes that resources, policy or grants change with this commit.
    pub(crate) fn snapshot_changed(&mut self) {
        self.snapshot = Snapshot::Changed;
    }

    /// Makes everything durable, tells the gateways, and moves the records to the log.
    ///
    /// It runs to its end even when nobody waits for it any more: a client that hangs up must not
    /// keep a revocation that is committed from the gateways.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        #[expect(clippy::disallowed_methods, reason = "it must not be cancelled with the request that it is part of")]
        let finished = tokio::spawn(self.finish());
        finished.await.unwrap_or(Err(StoreError::Ending))
    }

    async fn finish(mut self) -> Result<(), StoreError> {
        let rows = self.write_outbox().await?;
        let now = clock::unix_micros(clock::now());
        let mut newest = None;
        let mut deltas = Vec::with_capacity(self.entries.len());
        for entry in std::mem::take(&mut self.entries) {
            let sequence = feed::append(&mut self.transaction, &entry, now).await?;
            newest = Some(sequence);
            if let Entry::Facts(change) = entry {
                // Who is in this process is asked in no time.
                deltas.push(Delta { sequence, change, outcome: None });
            }
        }
        if self.snapshot == Snapshot::Changed {
            newest = Some(feed::append(&mut self.transaction, &Entry::Snapshot, now).await?);
        }
        *self.outbox = Outbox::Behind;
        self.transaction.commit().await?;
        // Nobody listening is fine: a gateway that comes later reads the facts afresh.
        if let Some(newest) = newest {
            self.signals.commits.note(newest, Instant::now());
            self.signals.newest.send_replace(newest);
        }
        if self.messages == Messages::Some {
            self.signals.messages.notify_one();
        }
        for delta in deltas {
            let _ = self.signals.changes.send(News::Changed(delta));
        }
        if self.snapshot == Snapshot::Changed {
            let _ = self.signals.snapshot.send(());
        }
        match move_to_log(&self.log, rows).await {
            Ok(()) => *self.outbox = Outbox::Moved,
            // The change has happened, and its record is durable in the outbox. The next change
            // waits for it.
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the record of a change can't be moved to the audit log; no more changes until it can"
            ),
        }
        Ok(())
    }

    /// Numbers the records and puts them into the outbox; removes those that the log has.
    async fn write_outbox(&mut self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut rows = Vec::with_capacity(self.records.len());
        if self.records.is_empty() {
            return Ok(rows);
        }
        let moved = self.log.last_seq(CONTROLLER_SOURCE);
        outbox::forget(&mut self.transaction, moved).await?;
        // The log knows more than a database that was restored from a backup.
        let mut seq = outbox::state(&mut self.transaction).await?.seq.max(moved);
        for mut record in std::mem::take(&mut self.records) {
            seq += 1;
            record.seq = seq;
            CONTROLLER_SOURCE.clone_into(&mut record.source);
            let bytes = record.to_canonical()?;
            outbox::insert(&mut self.transaction, seq, &bytes).await?;
            // What is recorded is what webhooks are told, so nothing of it can be lost or be told of nothing.
            if let Some(Event { kind, body }) = Event::of(&record).filter(|event| event.kind != EventKind::Test) {
                let (id, now) = (MessageId::from_random(clock::random()), clock::unix_seconds(clock::now()));
                let told = webhooks::enqueue(&mut self.transaction, &id.to_string(), kind.as_str(), &body, now).await?;
                if told {
                    self.messages = Messages::Some;
                }
            }
            rows.push((seq, bytes));
        }
        let state = outbox::State { seq, log_size: self.log.size() };
        outbox::set_state(&mut self.transaction, &state).await?;
        Ok(rows)
    }
}

/// Brings a database up to date, with the first `count` of our migrations.
fn migrator(count: usize) -> Migrator {
    let migration = |version, name: &'static str, text: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sqlx::SqlStr::from_static(text), false)
    };
    let mut migrations = vec![
        migration(1, "init", include_str!("../migrations/0001_init.sql")),
        migration(2, "outbox", include_str!("../migrations/0002_outbox.sql")),
        migration(3, "feed", include_str!("../migrations/0003_feed.sql")),
        migration(4, "certificates", include_str!("../migrations/0004_certificates.sql")),
        migration(5, "gateways", include_str!("../migrations/0005_gateways.sql")),
        migration(6, "locks", include_str!("../migrations/0006_locks.sql")),
        migration(7, "invites", include_str!("../migrations/0007_invites.sql")),
        migration(8, "eras and locks", include_str!("../migrations/0008_eras_and_locks.sql")),
        migration(9, "connectors", include_str!("../migrations/0009_connectors.sql")),
        migration(10, "policy tests", include_str!("../migrations/0010_policy_tests.sql")),
        migration(11, "policy confirmation", include_str!("../migrations/0011_policy_confirmation.sql")),
        migration(12, "modes", include_str!("../migrations/0012_modes.sql")),
        migration(13, "invariants", include_str!("../migrations/0013_invariants.sql")),
        migration(14, "requests", include_str!("../migrations/0014_requests.sql")),
        migration(15, "proposals", include_str!("../migrations/0015_proposals.sql")),
        migration(16, "gateway addresses", include_str!("../migrations/0016_gateway_addresses.sql")),
        migration(17, "webhooks", include_str!("../migrations/0017_webhooks.sql")),
        migration(18, "templates", include_str!("../migrations/0018_templates.sql")),
        migration(19, "idempotency", include_str!("../migrations/0019_idempotency.sql")),
        migration(20, "streams", include_str!("../migrations/0020_streams.sql")),
    ];
    migrations.truncate(count);
    Migrator::with_migrations(migrations)
}

/// Moves records of the controller to the log; those that are there already are skipped.
async fn move_to_log(log: &Log, rows: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
    let Some((first, _)) = rows.first() else { return Ok(()) };
    let (log, first) = (log.clone(), *first);
    let mut frames = Vec::new();
    rows.iter().for_each(|(_, record)| push_frame(&mut frames, record));
    match blocking(move || log.take_in(CONTROLLER_SOURCE, first, &frames)).await? {
        Ok(_) => Ok(()),
        Err(TakeError::Log(error)) => Err(error.into()),
        Err(error) => Err(StoreError::Outbox(Box::new(error))),
    }
}

/// Runs what blocks on the disk apart from the tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Ending)
}

/// A number as a column holds it. Times, counts and versions stay far below the limit.
pub(crate) fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number out of a column; none of them is ever negative.
pub(crate) fn from_db(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Reads a value out of a text column through its own parser.
pub(crate) fn parsed<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what })
}

/// A list of texts in a column, as JSON.
pub(crate) fn list_to_db(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

/// A list of texts out of a column.
pub(crate) fn list_from_db(text: &str, what: &'static str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what })
}

#[cfg(test)]
mod tests;
