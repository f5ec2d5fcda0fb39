//! Rows of sessions, and of those that ended before their time.

use sqlx::SqliteConnection;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::AuthMethod;
use vouchsafe_wire::api;

use super::{StoreError, from_db, list_to_db, parsed, to_db};

/// Where a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// In a browser, by cookies.
    Browser,
    /// On a device's command line, by tokens.
    Cli,
}

impl SessionKind {
    /// The word in the column and in answers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            SessionKind::Browser => "browser",
            SessionKind::Cli => "cli",
        }
    }
}

/// A session to be opened. Times are unix seconds.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) user: UserName,
    pub(crate) device: Option<DeviceId>,
    pub(crate) kind: SessionKind,
    pub(crate) methods: Vec<AuthMethod>,
    pub(crate) auth_time: u64,
    pub(crate) created: u64,
    pub(crate) expires: u64,
}

/// What ending a session needs to know of it.
#[derive(Debug, Clone)]
pub(crate) struct OpenSession {
    pub(crate) id: SessionId,
    pub(crate) user: UserName,
    pub(crate) device: Option<DeviceId>,
    pub(crate) expires: u64,
}

/// Opens a session.
pub(crate) async fn insert(connection: &mut SqliteConnection, session: &NewSession) -> Result<(), StoreError> {
    let NewSession { id, user, device, kind, methods, auth_time, created, expires } = session;
    let methods: Vec<String> = methods.iter().map(|method| method.as_str().to_owned()).collect();
    sqlx::query(
        "INSERT INTO sessions (id, user_name, device_id, kind, methods, auth_time, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.to_string())
    .bind(user.as_str())
    .bind(device.map(|device| device.to_string()))
    .bind(kind.as_str())
    .bind(list_to_db(&methods))
    .bind(to_db(*auth_time))
    .bind(to_db(*created))
    .bind(to_db(*expires))
    .execute(connection)
    .await?;
    Ok(())
}

type OpenRow = (String, String, Option<String>, i64);

fn open_session((id, user, device, expires): OpenRow) -> Result<OpenSession, StoreError> {
    Ok(OpenSession {
        id: parsed(&id, "session id")?,
        user: parsed(&user, "user name")?,
        device: device.as_deref().map(|device| parsed(device, "device id")).transpose()?,
        expires: from_db(expires),
    })
}

/// The session of that id, expired or not.
pub(crate) async fn find(connection: &mut SqliteConnection, id: &SessionId) -> Result<Option<OpenSession>, StoreError> {
    let row: Option<OpenRow> = sqlx::query_as("SELECT id, user_name, device_id, expires FROM sessions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(open_session).transpose()
}

/// Notes that the person of a session proved anew who she is, and how.
pub(crate) async fn renew(
    connection: &mut SqliteConnection,
    id: &SessionId,
    methods: &[AuthMethod],
    auth_time: u64,
) -> Result<(), StoreError> {
    let methods: Vec<String> = methods.iter().map(|method| method.as_str().to_owned()).collect();
    sqlx::query("UPDATE sessions SET methods = $1, auth_time = $2 WHERE id = $3")
        .bind(list_to_db(&methods))
        .bind(to_db(auth_time))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// All sessions of a user.
pub(crate) async fn of_user(
    connection: &mut SqliteConnection,
    user: &UserName,
) -> Result<Vec<OpenSession>, StoreError> {
    let rows: Vec<OpenRow> =
        sqlx::query_as("SELECT id, user_name, device_id, expires FROM sessions WHERE user_name = $1 ORDER BY id")
            .bind(user.as_str())
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(open_session).collect()
}

/// All sessions on a device.
pub(crate) async fn of_device(
    connection: &mut SqliteConnection,
    device: &DeviceId,
) -> Result<Vec<OpenSession>, StoreError> {
    let rows: Vec<OpenRow> =
        sqlx::query_as("SELECT id, user_name, device_id, expires FROM sessions WHERE device_id = $1 ORDER BY id")
            .bind(device.to_string())
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(open_session).collect()
}

/// Sessions whose time is over, at most `limit`.
pub(crate) async fn expired(
    connection: &mut SqliteConnection,
    now: u64,
    limit: u32,
) -> Result<Vec<OpenSession>, StoreError> {
    let rows: Vec<OpenRow> = sqlx::query_as(
        "SELECT id, user_name, device_id, expires FROM sessions WHERE expires <= $1 ORDER BY expires LIMIT $2",
    )
    .bind(to_db(now))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(open_session).collect()
}

/// Removes a session with its cookies, codes and tokens, and remembers until it would have expired
/// that it and its cookies ended.
pub(crate) async fn end(connection: &mut SqliteConnection, session: &OpenSession, why: &str) -> Result<(), StoreError> {
    let id = session.id.to_string();
    sqlx::query("INSERT INTO ended_sessions (id, why, until) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
        .bind(&id)
        .bind(why)
        .bind(to_db(session.expires))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO ended_cookies (token_hash, session_id, label)
         SELECT token_hash, session_id, label FROM cookies WHERE session_id = $1",
    )
    .bind(&id)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(&id).execute(connection).await?;
    Ok(())
}

/// Why a session ended before its time, when it did.
pub(crate) async fn ended_why(connection: &mut SqliteConnection, id: &SessionId) -> Result<Option<String>, StoreError> {
    let why = sqlx::query_scalar("SELECT why FROM ended_sessions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(why)
}

type SessionRow = (String, String, Option<String>, Option<String>, String, i64, i64);

/// Open sessions by user and then id, at most `limit`, from behind one of them on.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    (user, id): (&str, &str),
    limit: u32,
    now: u64,
) -> Result<Vec<api::Session>, StoreError> {
    let rows: Vec<SessionRow> = sqlx::query_as(
        "SELECT s.id, s.user_name, s.device_id, d.name, s.kind, s.created, s.expires
         FROM sessions s LEFT JOIN devices d ON d.id = s.device_id
         WHERE s.expires > $1 AND (s.user_name, s.id) > ($2, $3) ORDER BY s.user_name, s.id LIMIT $4",
    )
    .bind(to_db(now))
    .bind(user)
    .bind(id)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let session = |(id, user, device, device_name, kind, created, expires): SessionRow| api::Session {
        id,
        user,
        device,
        device_name,
        kind,
        created: from_db(created),
        expires: from_db(expires),
    };
    Ok(rows.into_iter().map(session).collect())
}

/// How many sessions are open.
pub(crate) async fn count(connection: &mut SqliteConnection, now: u64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE expires > $1")
        .bind(to_db(now))
        .fetch_one(connection)
        .await?;
    Ok(from_db(count))
}
