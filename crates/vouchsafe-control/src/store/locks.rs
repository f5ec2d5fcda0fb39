//! Locks: what nobody may use until they are taken away. Facts of a locked user or device, and a locked resource,
//! aren't read at all ([`super::facts`], [`super::resources::all`]), so no way around is left open.

use sqlx::SqliteConnection;
use vouchsafe_wire::api::{Lock, LockKind};

use super::{StoreError, from_db, to_db};

/// Locks that are remembered after their end.
const MAX_REMEMBERED: i64 = 10_000;

type LockRow = (String, String, String, String, i64, Option<i64>);

fn lock((kind, name, reason, by, created, expires): LockRow) -> Result<Lock, StoreError> {
    Ok(Lock {
        kind: LockKind::from_word(&kind).ok_or(StoreError::Corrupt { what: "kind of a lock" })?,
        name,
        reason,
        by,
        created: from_db(created),
        expires: expires.map(from_db),
    })
}

/// Writes a lock in the place of the one of the same thing.
pub(crate) async fn put(connection: &mut SqliteConnection, lock: &Lock) -> Result<(), StoreError> {
    let Lock { kind, name, reason, by, created, expires } = lock;
    sqlx::query(
        "INSERT INTO locks (kind, name, reason, created_by, created, expires) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, name) DO UPDATE SET reason = excluded.reason, created_by = excluded.created_by,
             created = excluded.created, expires = excluded.expires",
    )
    .bind(kind.as_str())
    .bind(name)
    .bind(reason)
    .bind(by)
    .bind(to_db(*created))
    .bind(expires.map(to_db))
    .execute(connection)
    .await?;
    Ok(())
}

/// The lock of one thing.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    kind: LockKind,
    name: &str,
) -> Result<Option<Lock>, StoreError> {
    let row: Option<LockRow> = sqlx::query_as(
        "SELECT kind, name, reason, created_by, created, expires FROM locks WHERE kind = $1 AND name = $2",
    )
    .bind(kind.as_str())
    .bind(name)
    .fetch_optional(connection)
    .await?;
    row.map(lock).transpose()
}

/// All locks, the newest first.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<Lock>, StoreError> {
    page(connection, (u64::MAX, "", ""), u32::MAX).await
}

/// Locks behind one, by when they were made, the newest first, then kind and name; at most `limit`.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    (created, kind, name): (u64, &str, &str),
    limit: u32,
) -> Result<Vec<Lock>, StoreError> {
    let rows: Vec<LockRow> = sqlx::query_as(
        "SELECT kind, name, reason, created_by, created, expires FROM locks
         WHERE created < $1 OR (created = $1 AND (kind, name) > ($2, $3)) ORDER BY created DESC, kind, name LIMIT $4",
    )
    .bind(to_db(created))
    .bind(kind)
    .bind(name)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(lock).collect()
}

/// Locks whose time is over, at most `limit`.
pub(crate) async fn expired(connection: &mut SqliteConnection, now: u64, limit: u32) -> Result<Vec<Lock>, StoreError> {
    let rows: Vec<LockRow> = sqlx::query_as(
        "SELECT kind, name, reason, created_by, created, expires FROM locks WHERE expires <= $1
         ORDER BY expires LIMIT $2",
    )
    .bind(to_db(now))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(lock).collect()
}

/// Takes a lock away.
pub(crate) async fn remove(connection: &mut SqliteConnection, kind: LockKind, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM locks WHERE kind = $1 AND name = $2")
        .bind(kind.as_str())
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Remembers a lock whose time is over, for a while.
pub(crate) async fn remember(connection: &mut SqliteConnection, lock: &Lock) -> Result<(), StoreError> {
    let Lock { kind, name, reason, by, created, expires } = lock;
    sqlx::query(
        "INSERT OR REPLACE INTO ended_locks (kind, name, reason, created_by, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(kind.as_str())
    .bind(name)
    .bind(reason)
    .bind(by)
    .bind(to_db(*created))
    .bind(to_db(expires.unwrap_or_default()))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM ended_locks WHERE rowid <= (SELECT MAX(rowid) FROM ended_locks) - $1")
        .bind(MAX_REMEMBERED)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the remembered locks out that by this time would not be over, and are of things that aren't locked.
pub(crate) async fn take_unended(connection: &mut SqliteConnection, now: u64) -> Result<Vec<Lock>, StoreError> {
    let rows: Vec<LockRow> = sqlx::query_as(
        "DELETE FROM ended_locks WHERE expires > $1 AND NOT EXISTS
             (SELECT 1 FROM locks WHERE locks.kind = ended_locks.kind AND locks.name = ended_locks.name)
         RETURNING kind, name, reason, created_by, created, expires",
    )
    .bind(to_db(now))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(lock).collect()
}

/// Forgets that a lock of that thing ended by itself: somebody decided on it since.
pub(crate) async fn forget(connection: &mut SqliteConnection, kind: LockKind, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM ended_locks WHERE kind = $1 AND name = $2")
        .bind(kind.as_str())
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}
