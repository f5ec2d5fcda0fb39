//! Rows of streams, with the position that each has come to.

use sqlx::SqliteConnection;
use vouchsafe_wire::api::{StreamDoc, StreamFormat, StreamKind};

use super::{StoreError, from_db, to_db};

type StreamRow = (i64, String, String, String, String, String, i64, i64, Option<String>, Option<i64>, i64, i64);

/// A stream with its number, which another one of its name won't have.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) id: i64,
    /// Its `behind` is for who knows the log to fill in.
    pub(crate) doc: StreamDoc,
}

fn numbered(row: StreamRow) -> Result<Numbered, StoreError> {
    let (id, name, kind, address, format, by, created, next, last, last_at, failures, rejected) = row;
    let doc = StreamDoc {
        name,
        kind: StreamKind::from_word(&kind).ok_or(StoreError::Corrupt { what: "kind of a stream" })?,
        address,
        format: StreamFormat::from_word(&format).ok_or(StoreError::Corrupt { what: "format of a stream" })?,
        by,
        created: from_db(created),
        next: from_db(next),
        behind: 0,
        last,
        last_at: last_at.map(from_db),
        failures: from_db(failures),
        rejected: from_db(rejected),
    };
    Ok(Numbered { id, doc })
}

/// Adds one.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    stream: &StreamDoc,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let StreamDoc {
        name,
        kind,
        address,
        format,
        by,
        created,
        next,
        behind: _,
        last: _,
        last_at: _,
        failures: _,
        rejected: _,
    } = stream;
    sqlx::query(
        "INSERT INTO audit_streams (name, kind, address, format, sealed, created_by, created, next)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(name)
    .bind(kind.as_str())
    .bind(address)
    .bind(format.as_str())
    .bind(sealed)
    .bind(by)
    .bind(to_db(*created))
    .bind(to_db(*next))
    .execute(connection)
    .await?;
    Ok(())
}

/// All of them, by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<Numbered>, StoreError> {
    let rows: Vec<StreamRow> = sqlx::query_as(
        "SELECT id, name, kind, address, format, created_by, created, next, last, last_at, failures, rejected
         FROM audit_streams ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(numbered).collect()
}

/// The one with that number, and what is sealed of it.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<(Numbered, Vec<u8>)>, StoreError> {
    let Some(found) = list(&mut *connection).await?.into_iter().find(|stream| stream.id == id) else {
        return Ok(None);
    };
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM audit_streams WHERE id = $1").bind(id).fetch_one(connection).await?;
    Ok(Some((found, sealed)))
}

/// Removes one; says whether it was there.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM audit_streams WHERE name = $1").bind(name).execute(connection).await?;
    Ok(removed.rows_affected() == 1)
}

/// Notes how far it has come, and that it takes what it gets; says whether it is there still.
pub(crate) async fn moved(
    connection: &mut SqliteConnection,
    id: i64,
    next: u64,
    rejected: u64,
    now: u64,
) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "UPDATE audit_streams SET next = $2, rejected = rejected + $3, last = 'taken', last_at = $4, failures = 0
         WHERE id = $1",
    )
    .bind(id)
    .bind(to_db(next))
    .bind(to_db(rejected))
    .bind(to_db(now))
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Notes that an attempt failed.
pub(crate) async fn failed(connection: &mut SqliteConnection, id: i64, why: &str, now: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE audit_streams SET last = $2, last_at = $3, failures = failures + 1 WHERE id = $1")
        .bind(id)
        .bind(why)
        .bind(to_db(now))
        .execute(connection)
        .await?;
    Ok(())
}
