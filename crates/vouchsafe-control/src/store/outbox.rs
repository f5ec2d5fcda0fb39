//! The outbox: records of the controller on their way from the transaction of a change to the
//! audit log, and what the database remembers of the log.

use sqlx::SqliteConnection;

use super::{StoreError, from_db, to_db};

/// What the database remembers of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Number of the controller's newest record.
    pub(super) seq: u64,
    /// How many records the log had at the last change; it can only have more since.
    pub(super) log_size: u64,
}

pub(super) async fn state(connection: &mut SqliteConnection) -> Result<State, StoreError> {
    let (seq, log_size): (i64, i64) =
        sqlx::query_as("SELECT seq, log_size FROM audit_state").fetch_one(connection).await?;
    Ok(State { seq: from_db(seq), log_size: from_db(log_size) })
}

pub(super) async fn set_state(connection: &mut SqliteConnection, state: &State) -> Result<(), StoreError> {
    let State { seq, log_size } = state;
    sqlx::query("UPDATE audit_state SET seq = $1, log_size = $2")
        .bind(to_db(*seq))
        .bind(to_db(*log_size))
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts in one record.
pub(super) async fn insert(connection: &mut SqliteConnection, seq: u64, record: &[u8]) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO audit_outbox (seq, record) VALUES ($1, $2)")
        .bind(to_db(seq))
        .bind(record)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes the records up to a number: the log has them.
pub(super) async fn forget(connection: &mut SqliteConnection, moved: u64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM audit_outbox WHERE seq <= $1").bind(to_db(moved)).execute(connection).await?;
    Ok(())
}

/// Everything in it, in order. Numbers have no gaps.
pub(super) async fn rows(connection: &mut SqliteConnection) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, record FROM audit_outbox ORDER BY seq").fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(seq, record)| (from_db(seq), record)).collect())
}
