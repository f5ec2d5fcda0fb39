//! Rows of the audit log: canonical bytes, and columns to find them by. Rows are only ever added.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use vouchsafe_wire::audit::Record;

use super::{StoreError, from_db, to_db};

/// What to look for; all given members must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) user: Option<String>,
    /// Id of the device.
    pub(crate) device: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) reason: Option<String>,
    /// Id of a decision, flow or session.
    pub(crate) id: Option<String>,
    pub(crate) since_us: Option<u64>,
    pub(crate) until_us: Option<u64>,
}

/// Where in the log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Newest first, from just before this position on.
    Before(u64),
    /// Oldest first, what lies behind the first position up to and with the second.
    Between(u64, u64),
}

/// Inserts one record with its index columns; a record that is known already is skipped.
/// Returns whether it was new.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    record: &Record,
    bytes: &[u8],
) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO audit (source, seq, time_us, kind, user, device, resource, outcome, reason, ref, flow, session, record)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (source, seq) DO NOTHING",
    )
    .bind(&record.source)
    .bind(to_db(record.seq))
    .bind(to_db(record.time_us))
    .bind(record.kind.as_str())
    .bind(&record.user)
    .bind(&record.device)
    .bind(&record.resource)
    .bind(&record.outcome)
    .bind(&record.reason)
    .bind(&record.id)
    .bind(&record.flow)
    .bind(&record.session)
    .bind(bytes)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The bytes of the record that a source gave a number, when there is one.
pub(crate) async fn bytes_of(
    connection: &mut SqliteConnection,
    source: &str,
    seq: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = sqlx::query_scalar("SELECT record FROM audit WHERE source = $1 AND seq = $2")
        .bind(source)
        .bind(to_db(seq))
        .fetch_optional(connection)
        .await?;
    Ok(bytes)
}

/// Highest sequence number known of a source; 0 when there is none.
pub(crate) async fn last_seq(connection: &mut SqliteConnection, source: &str) -> Result<u64, StoreError> {
    let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM audit WHERE source = $1")
        .bind(source)
        .fetch_one(connection)
        .await?;
    Ok(from_db(last))
}

/// Position of the newest record; 0 when there is none. Rows are never removed, so it is also how
/// many there are, but for positions that an undone change left out.
pub(crate) async fn newest(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(position), 0) FROM audit").fetch_one(connection).await?;
    Ok(from_db(newest))
}

/// Positions and canonical bytes of matching records within a span, at most `limit`.
pub(crate) async fn read(
    connection: &mut SqliteConnection,
    filter: &Filter,
    span: Span,
    limit: u32,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT position, record FROM audit WHERE ");
    match span {
        Span::Before(position) => {
            query.push("position < ").push_bind(to_db(position));
        }
        Span::Between(after, until) => {
            query.push("position > ").push_bind(to_db(after));
            query.push(" AND position <= ").push_bind(to_db(until));
        }
    }
    let Filter { user, device, resource, outcome, kind, reason, id, since_us, until_us } = filter;
    // Column names are ours; values are bound.
    let texts = [
        (" AND user = ", user),
        (" AND device = ", device),
        (" AND resource = ", resource),
        (" AND outcome = ", outcome),
        (" AND kind = ", kind),
        (" AND reason = ", reason),
    ];
    for (column, value) in texts {
        if let Some(value) = value {
            query.push(column).push_bind(value.clone());
        }
    }
    if let Some(id) = id {
        let column = match id.split('_').next() {
            Some("flw") => " AND flow = ",
            Some("ses") => " AND session = ",
            _ => " AND ref = ",
        };
        query.push(column).push_bind(id.clone());
    }
    if let Some(since) = since_us {
        query.push(" AND time_us >= ").push_bind(to_db(*since));
    }
    if let Some(until) = until_us {
        query.push(" AND time_us < ").push_bind(to_db(*until));
    }
    query.push(match span {
        Span::Before(_) => " ORDER BY position DESC LIMIT ",
        Span::Between(..) => " ORDER BY position LIMIT ",
    });
    query.push_bind(limit);
    let rows: Vec<(i64, Vec<u8>)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(position, record)| (from_db(position), record)).collect())
}
