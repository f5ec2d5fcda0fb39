//! The store: SQLite in WAL mode behind one writer. The only module that knows SQL.
//!
//! Every change goes through [`Store::write`]: one transaction that carries the change itself, its
//! audit record and its row in the change feed. Only after the commit is durable
//! (`synchronous = FULL`) do gateways hear of it, so nobody acts on what a crash could undo, and a
//! change without a record can't be written.

pub(crate) mod audit;
pub(crate) mod ceremonies;
pub(crate) mod devices;
pub(crate) mod enrolment;
pub(crate) mod facts;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod invites;
pub(crate) mod keys;
pub(crate) mod passkeys;
pub(crate) mod policy;
pub(crate) mod purge;
pub(crate) mod resources;
pub(crate) mod sessions;
pub(crate) mod settings;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tokens;
pub(crate) mod users;

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::{broadcast, mpsc, watch};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::{Record, RecordError};

/// Name under which the controller's own records stand in the log.
pub(crate) const CONTROLLER_SOURCE: &str = "controller";

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
}

struct Signals {
    changes: broadcast::Sender<Change>,
    snapshot: mpsc::UnboundedSender<()>,
    recorded: watch::Sender<u64>,
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
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let migration = Migration::new(
            1,
            "init".into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(include_str!("../migrations/0001_init.sql")),
            false,
        );
        Migrator::with_migrations(vec![migration]).run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        let (snapshot, snapshot_signals) = mpsc::unbounded_channel();
        let newest = audit::newest(&mut *reader.acquire().await?).await?;
        let signals = Arc::new(Signals {
            changes: broadcast::channel(4096).0,
            snapshot,
            recorded: watch::channel(newest).0,
            held: OnceLock::new(),
        });
        Ok((Self { writer, reader, signals }, snapshot_signals))
    }

    /// Keeps something until the last handle is gone: the lock on the state directory, which must
    /// not be free while anything still writes.
    pub(crate) fn hold(&self, held: impl Any + Send + Sync) {
        let _ = self.signals.held.set(Box::new(held));
    }

    /// Begins a change. One at a time: `BEGIN IMMEDIATE` takes the write lock before anything is
    /// read, so a check and the change it guards can't be torn apart.
    pub(crate) async fn write(&self) -> Result<Write, StoreError> {
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Write {
            transaction,
            signals: Arc::clone(&self.signals),
            records: Vec::new(),
            changes: Vec::new(),
            snapshot: Snapshot::Unchanged,
        })
    }

    /// Changes of facts from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.signals.changes.subscribe()
    }

    /// Begins reading: all that is read through one of these is of one moment.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.reader.begin().await?)
    }

    /// Position of the newest durable audit record, and a signal at each commit with new ones.
    pub(crate) fn recorded(&self) -> watch::Receiver<u64> {
        self.signals.recorded.subscribe()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    Unchanged,
    Changed,
}

/// One change under way. Dropping it undoes everything.
pub(crate) struct Write {
    transaction: Transaction<'static, Sqlite>,
    signals: Arc<Signals>,
    records: Vec<Record>,
    changes: Vec<Change>,
    snapshot: Snapshot,
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
        self.changes.push(change);
    }

    /// Notes that resources, policy or grants change with this commit.
    pub(crate) fn snapshot_changed(&mut self) {
        self.snapshot = Snapshot::Changed;
    }

    /// Makes everything durable, then tells the gateways.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        if !self.records.is_empty() {
            let mut seq = audit::last_seq(&mut self.transaction, CONTROLLER_SOURCE).await?;
            for mut record in std::mem::take(&mut self.records) {
                seq += 1;
                record.seq = seq;
                CONTROLLER_SOURCE.clone_into(&mut record.source);
                let bytes = record.to_canonical()?;
                audit::insert(&mut self.transaction, &record, &bytes).await?;
            }
        }
        let now = to_db(clock::unix_micros(clock::now()));
        for change in &self.changes {
            sqlx::query("INSERT INTO feed (change, time_us) VALUES ($1, $2)")
                .bind(format!("{change:?}"))
                .bind(now)
                .execute(&mut *self.transaction)
                .await?;
        }
        if self.snapshot == Snapshot::Changed {
            sqlx::query("INSERT INTO feed (change, time_us) VALUES ('Snapshot', $1)")
                .bind(now)
                .execute(&mut *self.transaction)
                .await?;
        }
        let newest = audit::newest(&mut self.transaction).await?;
        self.transaction.commit().await?;
        // Nobody listening is fine: a gateway that comes later reads the facts afresh.
        for change in self.changes {
            let _ = self.signals.changes.send(change);
        }
        if self.snapshot == Snapshot::Changed {
            let _ = self.signals.snapshot.send(());
        }
        self.signals.recorded.send_if_modified(|known| {
            let risen = newest > *known;
            *known = newest.max(*known);
            risen
        });
        Ok(())
    }
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
