//! Removal of rows whose time is over, in bounded batches, so that no purge holds the writer long.

use sqlx::SqliteConnection;

use super::{StoreError, idempotency, to_db};

/// Rows of the change feed that are kept; a reader further behind takes everything afresh.
const KEPT_CHANGES: i64 = 100_000;

/// Removes expired codes, invitations, ceremonies and remembered ends, and old changes: at most
/// `limit` of each. Returns how many rows went.
pub(crate) async fn expired(connection: &mut SqliteConnection, now: u64, limit: u32) -> Result<u64, StoreError> {
    let statements = [
        "DELETE FROM app_codes WHERE rowid IN (SELECT rowid FROM app_codes WHERE expires <= $1 LIMIT $2)",
        "DELETE FROM device_codes WHERE rowid IN (SELECT rowid FROM device_codes WHERE expires <= $1 LIMIT $2)",
        "DELETE FROM invites WHERE rowid IN (SELECT rowid FROM invites WHERE expires <= $1 LIMIT $2)",
        "DELETE FROM ceremonies WHERE rowid IN (SELECT rowid FROM ceremonies WHERE expires <= $1 LIMIT $2)",
        "DELETE FROM ended_sessions WHERE rowid IN (SELECT rowid FROM ended_sessions WHERE until <= $1 LIMIT $2)",
    ];
    let mut removed = idempotency::expired(connection, now, limit).await?;
    for statement in statements {
        removed += sqlx::query(statement).bind(to_db(now)).bind(limit).execute(&mut *connection).await?.rows_affected();
    }
    removed += sqlx::query(
        "DELETE FROM feed WHERE sequence IN
         (SELECT sequence FROM feed WHERE sequence <= (SELECT MAX(sequence) FROM feed) - $1 ORDER BY sequence LIMIT $2)",
    )
    .bind(KEPT_CHANGES)
    .bind(limit)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(removed)
}
