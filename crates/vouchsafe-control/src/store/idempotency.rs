//! Requests that are to be carried out once, however often they are sent, and what was answered.

use sqlx::SqliteConnection;

use super::{StoreError, to_db};

/// How long an answer is known, seconds.
pub(crate) const KEPT_SECONDS: u64 = 24 * 60 * 60;
/// Most that are known at once.
pub(crate) const MOST: i64 = 10_000;

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing: whoever asked carries it out.
    New,
    /// It was sent before, with this digest of its body; and what was answered, sealed.
    Known { body: Vec<u8>, answer: Option<(u16, Vec<u8>)> },
    /// More are known than may be.
    Full,
}

/// Takes a request on, unless it is known.
pub(crate) async fn claim(
    connection: &mut SqliteConnection,
    id: &[u8],
    body: &[u8],
    now: u64,
) -> Result<Claim, StoreError> {
    type Row = (Vec<u8>, Option<i64>, Option<Vec<u8>>);
    let known: Option<Row> =
        sqlx::query_as("SELECT body, status, sealed FROM idempotency WHERE id = $1 AND created > $2")
            .bind(id)
            .bind(to_db(now.saturating_sub(KEPT_SECONDS)))
            .fetch_optional(&mut *connection)
            .await?;
    if let Some((body, status, sealed)) = known {
        let status = status.and_then(|status| u16::try_from(status).ok());
        return Ok(Claim::Known { body, answer: status.zip(sealed) });
    }
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM idempotency").fetch_one(&mut *connection).await?;
    if count >= MOST {
        return Ok(Claim::Full);
    }
    sqlx::query("INSERT OR REPLACE INTO idempotency (id, body, created) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(body)
        .bind(to_db(now))
        .execute(connection)
        .await?;
    Ok(Claim::New)
}

/// Keeps what was answered.
pub(crate) async fn answered(
    connection: &mut SqliteConnection,
    id: &[u8],
    status: u16,
    sealed: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE idempotency SET status = $2, sealed = $3 WHERE id = $1")
        .bind(id)
        .bind(i64::from(status))
        .bind(sealed)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets those whose day is over. Returns how many.
pub(crate) async fn expired(connection: &mut SqliteConnection, now: u64, limit: u32) -> Result<u64, StoreError> {
    let removed = sqlx::query(
        "DELETE FROM idempotency WHERE id IN (SELECT id FROM idempotency WHERE created <= $1 ORDER BY created LIMIT $2)",
    )
    .bind(to_db(now.saturating_sub(KEPT_SECONDS)))
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}

/// Forgets one by which nothing was done.
pub(crate) async fn forget(connection: &mut SqliteConnection, id: &[u8]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}
