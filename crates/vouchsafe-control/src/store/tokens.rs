//! What people and programs present: cookies, one-time codes for app hosts, refresh tokens. Only
//! their SHA-256 is here.

use sqlx::SqliteConnection;
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::UserName;
use vouchsafe_wire::api;

use super::{StoreError, from_db, parsed, to_db};

/// Cookies that one session may have for one host. A browser needs one; the others are left over
/// from tabs that signed in at the same moment.
const COOKIES_PER_HOST: i64 = 8;

/// Gives a session a cookie for the host of that label; the oldest go when there are too many, which is the answer.
pub(crate) async fn insert_cookie(
    connection: &mut SqliteConnection,
    token_hash: &str,
    session: &SessionId,
    label: &str,
) -> Result<bool, StoreError> {
    let session = session.to_string();
    let gone = sqlx::query(
        "DELETE FROM cookies WHERE session_id = $1 AND label = $2 AND rowid NOT IN
         (SELECT rowid FROM cookies WHERE session_id = $1 AND label = $2 ORDER BY rowid DESC LIMIT $3)",
    )
    .bind(&session)
    .bind(label)
    .bind(COOKIES_PER_HOST - 1)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO cookies (token_hash, session_id, label) VALUES ($1, $2, $3)")
        .bind(token_hash)
        .bind(&session)
        .bind(label)
        .execute(connection)
        .await?;
    Ok(gone.rows_affected() > 0)
}

/// Takes a cookie away from whoever has it.
pub(crate) async fn remove_cookie(connection: &mut SqliteConnection, token_hash: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM cookies WHERE token_hash = $1").bind(token_hash).execute(connection).await?;
    Ok(())
}

/// Takes all cookies of a session away; the session goes on.
pub(crate) async fn remove_cookies(connection: &mut SqliteConnection, session: &SessionId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM cookies WHERE session_id = $1").bind(session.to_string()).execute(connection).await?;
    Ok(())
}

/// A one-time code that carries a session to an app host.
pub(crate) struct AppCode {
    pub(crate) session: SessionId,
    pub(crate) label: String,
    pub(crate) expires: u64,
}

/// Keeps a one-time code and forgets those whose time is over.
pub(crate) async fn insert_app_code(
    connection: &mut SqliteConnection,
    code_hash: &str,
    code: &AppCode,
    now: u64,
) -> Result<(), StoreError> {
    let AppCode { session, label, expires } = code;
    sqlx::query("DELETE FROM app_codes WHERE expires <= $1").bind(to_db(now)).execute(&mut *connection).await?;
    sqlx::query("INSERT INTO app_codes (code_hash, session_id, label, expires) VALUES ($1, $2, $3, $4)")
        .bind(code_hash)
        .bind(session.to_string())
        .bind(label)
        .bind(to_db(*expires))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a one-time code is there, good or not. Only [`take_app_code`] says what it is worth.
pub(crate) async fn knows_app_code(connection: &mut SqliteConnection, code_hash: &str) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM app_codes WHERE code_hash = $1)");
    Ok(found.bind(code_hash).fetch_one(connection).await?)
}

/// Takes a one-time code out, good or not.
pub(crate) async fn take_app_code(
    connection: &mut SqliteConnection,
    code_hash: &str,
) -> Result<Option<AppCode>, StoreError> {
    let row: Option<(String, String, i64)> =
        sqlx::query_as("DELETE FROM app_codes WHERE code_hash = $1 RETURNING session_id, label, expires")
            .bind(code_hash)
            .fetch_optional(connection)
            .await?;
    let Some((session, label, expires)) = row else { return Ok(None) };
    Ok(Some(AppCode { session: parsed(&session, "session id")?, label, expires: from_db(expires) }))
}

/// Whether a refresh token was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefreshState {
    /// It is the newest of its session.
    Unused,
    /// It was exchanged already: somebody holds a copy.
    Used,
}

/// Keeps a refresh token.
pub(crate) async fn insert_refresh(
    connection: &mut SqliteConnection,
    token_hash: &str,
    session: &SessionId,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO refresh_tokens (token_hash, session_id) VALUES ($1, $2)")
        .bind(token_hash)
        .bind(session.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// The session of a refresh token, and whether it was used.
pub(crate) async fn find_refresh(
    connection: &mut SqliteConnection,
    token_hash: &str,
) -> Result<Option<(SessionId, RefreshState)>, StoreError> {
    let row: Option<(String, i64)> =
        sqlx::query_as("SELECT session_id, used FROM refresh_tokens WHERE token_hash = $1")
            .bind(token_hash)
            .fetch_optional(connection)
            .await?;
    let Some((session, used)) = row else { return Ok(None) };
    let state = if used == 0 { RefreshState::Unused } else { RefreshState::Used };
    Ok(Some((parsed(&session, "session id")?, state)))
}

/// Marks a refresh token as used.
pub(crate) async fn use_refresh(connection: &mut SqliteConnection, token_hash: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE refresh_tokens SET used = 1 WHERE token_hash = $1")
        .bind(token_hash)
        .execute(connection)
        .await?;
    Ok(())
}

type SessionRow = (String, Option<String>, Option<String>, String, i64, i64);

/// Open sessions of one user, newest first.
pub(crate) async fn sessions_of(
    connection: &mut SqliteConnection,
    user: &UserName,
    now: u64,
) -> Result<Vec<api::Session>, StoreError> {
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT s.id, s.device_id, d.name, s.kind, s.created, s.expires
         FROM sessions s LEFT JOIN devices d ON d.id = s.device_id
         WHERE s.user_name = $1 AND s.expires > $2 ORDER BY s.created DESC, s.id",
    )
    .bind(user.as_str())
    .bind(to_db(now))
    .fetch_all(connection)
    .await?;
    let session = |(id, device, device_name, kind, created, expires): SessionRow| api::Session {
        id,
        user: user.to_string(),
        device,
        device_name,
        kind,
        created: from_db(created),
        expires: from_db(expires),
    };
    Ok(rows.into_iter().map(session).collect())
}
