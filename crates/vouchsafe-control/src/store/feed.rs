//! The change feed: every commit that changes what gateways act on leaves a numbered row here, in its own
//! transaction, so a reader that knows where it stopped can't miss one.
//!
//! Numbers rise by one and are never given again, also when rows are rolled back or purged.

use bytes::Bytes;
use sqlx::SqliteConnection;
use tokio::sync::watch;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::control::message::Era;
use vouchsafe_wire::ticket::{hex, unhex};

use super::{Store, StoreError, from_db, parsed, to_db};

/// Most rows that are read at once.
pub(crate) const BATCH: u32 = 1_000;

/// Eras that are kept: a gateway that was away for more starts with changes than that joins anew.
const MAX_ERAS: u32 = 256;

/// What one row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Facts ceased to be true.
    Facts(Change),
    /// Resources, policy or grants changed: there is a new snapshot.
    Snapshot,
    /// A gateway was removed. It is for the controller's end of its control channel.
    Gateway(GatewayId),
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) sequence: u64,
    pub(crate) entry: Entry,
}

/// What a reader that stopped at a number has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// These rows, in order and without a gap; at most [`BATCH`] at once.
    Rows(Vec<Row>),
    /// More than is kept, or it comes from another history (a database that was restored): it must take
    /// everything afresh, and go on behind this number.
    Everything {
        /// The newest row's number.
        sequence: u64,
    },
}

impl Entry {
    fn to_columns(&self) -> (&'static str, String) {
        match self {
            Entry::Facts(Change::User(name)) => ("user", name.to_string()),
            Entry::Facts(Change::Device(id)) => ("device", id.to_string()),
            Entry::Facts(Change::Session(id)) => ("session", id.to_string()),
            Entry::Facts(Change::Everything) => ("everything", String::new()),
            Entry::Snapshot => ("snapshot", String::new()),
            Entry::Gateway(id) => ("gateway", id.to_string()),
        }
    }

    /// A word that this version doesn't know is of a later one, and may mean anything.
    fn from_columns(kind: &str, name: &str) -> Result<Self, StoreError> {
        Ok(match kind {
            "user" => Entry::Facts(Change::User(parsed(name, "user name in the change feed")?)),
            "device" => Entry::Facts(Change::Device(parsed(name, "device id in the change feed")?)),
            "session" => Entry::Facts(Change::Session(parsed(name, "session id in the change feed")?)),
            "snapshot" => Entry::Snapshot,
            "gateway" => Entry::Gateway(parsed(name, "gateway id in the change feed")?),
            _ => Entry::Facts(Change::Everything),
        })
    }
}

/// Begins an era of this history: whatever comes from here on is of this start, and of no other of the same backup.
pub(super) async fn begin_era(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let highest = newest(connection).await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM feed_eras)").fetch_one(&mut *connection).await?;
    // Rows of before there were eras are of the first.
    let first = if known { highest + 1 } else { 0 };
    sqlx::query("INSERT OR REPLACE INTO feed_eras (first, id) VALUES ($1, $2)")
        .bind(to_db(first))
        .bind(hex(&clock::random::<32>()))
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM feed_eras WHERE first NOT IN (SELECT first FROM feed_eras ORDER BY first DESC LIMIT $1)")
        .bind(MAX_ERAS)
        .execute(connection)
        .await?;
    Ok(())
}

/// The eras of this history, the oldest first.
pub(crate) async fn eras(connection: &mut SqliteConnection) -> Result<Vec<Era>, StoreError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT first, id FROM feed_eras ORDER BY first").fetch_all(connection).await?;
    let corrupt = || StoreError::Corrupt { what: "era of the change feed" };
    let era = |(first, id): (i64, String)| {
        let id = unhex(&id).ok_or_else(corrupt)?;
        Ok(Era { first: from_db(first), id: Bytes::copy_from_slice(&id) })
    };
    rows.into_iter().map(era).collect()
}

/// Adds a row; gives its number.
pub(super) async fn append(connection: &mut SqliteConnection, entry: &Entry, time_us: u64) -> Result<u64, StoreError> {
    let (kind, name) = entry.to_columns();
    let sequence: i64 =
        sqlx::query_scalar("INSERT INTO feed (kind, name, time_us) VALUES ($1, $2, $3) RETURNING sequence")
            .bind(kind)
            .bind(name)
            .bind(to_db(time_us))
            .fetch_one(connection)
            .await?;
    Ok(from_db(sequence))
}

/// Number of the newest row; 0 when there has been none.
pub(crate) async fn newest(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let highest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(sequence), 0) FROM feed").fetch_one(connection).await?;
    Ok(from_db(highest))
}

/// Number of the newest row that tells of a new snapshot; 0 when none is kept.
pub(crate) async fn newest_snapshot(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(sequence), 0) FROM feed WHERE kind = 'snapshot'")
        .fetch_one(connection)
        .await?;
    Ok(from_db(newest))
}

/// What came after a number. `connection` must read one moment ([`Store::read`]).
pub(crate) async fn since(connection: &mut SqliteConnection, after: u64) -> Result<Since, StoreError> {
    let newest = newest(connection).await?;
    if after == newest {
        return Ok(Since::Rows(Vec::new()));
    }
    if after > newest {
        return Ok(Since::Everything { sequence: newest });
    }
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT sequence, kind, name FROM feed WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(to_db(after))
            .bind(BATCH)
            .fetch_all(connection)
            .await?;
    let mut expected = after;
    let mut read = Vec::with_capacity(rows.len());
    for (sequence, kind, name) in rows {
        expected += 1;
        // The next number is missing: it was purged.
        if from_db(sequence) != expected {
            return Ok(Since::Everything { sequence: newest });
        }
        read.push(Row { sequence: expected, entry: Entry::from_columns(&kind, &name)? });
    }
    Ok(Since::Rows(read))
}

/// Reads the feed from a number on, and waits for what comes.
pub(crate) struct FeedReader {
    store: Store,
    newest: watch::Receiver<u64>,
    after: u64,
}

impl FeedReader {
    /// A reader that has read until `after`. It subscribes here, before it reads anything, so what
    /// commits from now on wakes it.
    pub(super) fn new(store: Store, newest: watch::Receiver<u64>, after: u64) -> Self {
        Self { store, newest, after }
    }

    /// The next rows, at least one; or word that everything is to be taken afresh. Nothing is lost when
    /// the wait is given up.
    ///
    /// # Errors
    /// [`StoreError`]; the reader stays where it is.
    pub(crate) async fn next(&mut self) -> Result<Since, StoreError> {
        loop {
            self.newest.mark_unchanged();
            let found = self.now().await?;
            if found != Since::Rows(Vec::new()) {
                return Ok(found);
            }
            if self.newest.changed().await.is_err() {
                return Err(StoreError::Ending);
            }
        }
    }

    /// What is there at this moment, without waiting.
    ///
    /// # Errors
    /// [`StoreError`]; the reader stays where it is.
    pub(crate) async fn now(&mut self) -> Result<Since, StoreError> {
        let mut read = self.store.read().await?;
        let found = since(&mut read, self.after).await?;
        match &found {
            Since::Rows(rows) => self.after = rows.last().map_or(self.after, |row| row.sequence),
            Since::Everything { sequence } => self.after = *sequence,
        }
        Ok(found)
    }

    /// Number of the last row that was read.
    pub(crate) fn position(&self) -> u64 {
        self.after
    }
}

#[cfg(test)]
mod tests;
