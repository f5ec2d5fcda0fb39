//! Rows of requests for access.

use sqlx::SqliteConnection;
use vouchsafe_model::id::RequestId;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_wire::api::{AskedTemplate, RequestDoc, RequestState};

use super::{StoreError, from_db, to_db};

/// Columns of one, in the order of [`RequestRow`].
macro_rules! columns {
    () => {
        "id, user_name, resource_name, seconds, reason, state, created, open_until, decided_by, decided, note, grant_id,
         template, template_digest"
    };
}

type RequestRow = (
    String,
    String,
    String,
    i64,
    String,
    String,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// How many of them an answer has: all that can be open, and of the others the newest.
const MOST: u32 = 11_000;

fn doc(row: RequestRow) -> Result<RequestDoc, StoreError> {
    let (id, user, resource, seconds, reason, state, created, open_until, decided_by, decided, note, grant, of, digest) =
        row;
    // What the template says stands in the policy.
    let template = match (of, digest) {
        (None, None) => None,
        (Some(name), Some(digest)) => Some(AskedTemplate::new(name, digest)),
        (Some(_), None) | (None, Some(_)) => return Err(StoreError::Corrupt { what: "request" }),
    };
    Ok(RequestDoc {
        id,
        user,
        resource,
        seconds: from_db(seconds),
        template,
        reason,
        state: RequestState::from_word(&state).ok_or(StoreError::Corrupt { what: "request" })?,
        created: from_db(created),
        open_until: from_db(open_until),
        decided_by,
        decided: decided.map(from_db),
        note,
        grant,
    })
}

/// Keeps a new request.
pub(crate) async fn insert(connection: &mut SqliteConnection, request: &RequestDoc) -> Result<(), StoreError> {
    let RequestDoc {
        id,
        user,
        resource,
        seconds,
        template,
        reason,
        state,
        created,
        open_until,
        decided_by,
        decided,
        note,
        grant,
    } = request;
    sqlx::query(
        "INSERT INTO requests (id, user_name, resource_name, seconds, reason, state, created, open_until, decided_by,
             decided, note, grant_id, template, template_digest)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(id)
    .bind(user)
    .bind(resource)
    .bind(to_db(*seconds))
    .bind(reason)
    .bind(state.as_str())
    .bind(to_db(*created))
    .bind(to_db(*open_until))
    .bind(decided_by)
    .bind(decided.map(to_db))
    .bind(note)
    .bind(grant)
    .bind(template.as_ref().map(|template| template.name.as_str()))
    .bind(template.as_ref().map(|template| template.digest.as_str()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes what became of a request; whether it was open until then.
pub(crate) async fn settle(connection: &mut SqliteConnection, request: &RequestDoc) -> Result<bool, StoreError> {
    let RequestDoc { id, state, decided_by, decided, note, grant, .. } = request;
    let settled = sqlx::query(
        "UPDATE requests SET state = $2, decided_by = $3, decided = $4, note = $5, grant_id = $6
         WHERE id = $1 AND state = 'open'",
    )
    .bind(id)
    .bind(state.as_str())
    .bind(decided_by)
    .bind(decided.map(to_db))
    .bind(note)
    .bind(grant)
    .execute(connection)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// One request.
pub(crate) async fn show(connection: &mut SqliteConnection, id: &RequestId) -> Result<Option<RequestDoc>, StoreError> {
    let row: Option<RequestRow> = sqlx::query_as(concat!("SELECT ", columns!(), " FROM requests WHERE id = $1"))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(doc).transpose()
}

/// Requests: open ones first, those first that wait longest; then the newest. Of one user where one is named.
pub(crate) async fn list(
    connection: &mut SqliteConnection,
    user: Option<&UserName>,
) -> Result<Vec<RequestDoc>, StoreError> {
    let rows: Vec<RequestRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM requests WHERE $1 IS NULL OR user_name = $1
         ORDER BY state != 'open', CASE state WHEN 'open' THEN created ELSE -created END, id LIMIT $2"
    ))
    .bind(user.map(UserName::as_str))
    .bind(MOST)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(doc).collect()
}

/// The newest requests of a user, open ones first.
pub(crate) async fn newest_of(
    connection: &mut SqliteConnection,
    user: &UserName,
    limit: u32,
) -> Result<Vec<RequestDoc>, StoreError> {
    let rows: Vec<RequestRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM requests WHERE user_name = $1 ORDER BY state != 'open', created DESC, id LIMIT $2"
    ))
    .bind(user.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(doc).collect()
}

/// How many open requests there are: of everybody, of that user, and of hers for that resource.
pub(crate) async fn count_open(
    connection: &mut SqliteConnection,
    user: &UserName,
    resource: &ResourceName,
) -> Result<(u64, u64, u64), StoreError> {
    let (all, own, same): (i64, i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COALESCE(SUM(user_name = $1), 0), COALESCE(SUM(user_name = $1 AND resource_name = $2), 0)
         FROM requests WHERE state = 'open'",
    )
    .bind(user.as_str())
    .bind(resource.as_str())
    .fetch_one(connection)
    .await?;
    Ok((from_db(all), from_db(own), from_db(same)))
}

/// How many requests a user has made since then.
pub(crate) async fn count_since(
    connection: &mut SqliteConnection,
    user: &UserName,
    since: u64,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM requests WHERE user_name = $1 AND created > $2")
        .bind(user.as_str())
        .bind(to_db(since))
        .fetch_one(connection)
        .await?;
    Ok(from_db(count))
}

/// Forgets requests that were settled before then, at most `limit`; the audit log has them.
pub(crate) async fn forget_settled(
    connection: &mut SqliteConnection,
    before: u64,
    limit: u32,
) -> Result<u64, StoreError> {
    let forgotten = sqlx::query(
        "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE state != 'open' AND decided <= $1 LIMIT $2)",
    )
    .bind(to_db(before))
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected())
}

/// Open requests whose time is over, at most `limit`.
pub(crate) async fn over(
    connection: &mut SqliteConnection,
    now: u64,
    limit: u32,
) -> Result<Vec<RequestDoc>, StoreError> {
    let rows: Vec<RequestRow> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM requests WHERE state = 'open' AND open_until <= $1 ORDER BY open_until LIMIT $2"
    ))
    .bind(to_db(now))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(doc).collect()
}
