//! The rows that enrolment makes of devices, and sign-ins on devices under way.

use sqlx::SqliteConnection;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::{DeviceName, UserName};
use vouchsafe_model::subject::Grade;

use super::certified::Issued;
use super::invites::DeviceInvite;
use super::{StoreError, from_db, list_to_db, parsed, to_db};

/// A device to be enrolled.
pub(crate) struct NewDevice<'n> {
    pub(crate) id: DeviceId,
    pub(crate) name: &'n DeviceName,
    pub(crate) invite: &'n DeviceInvite,
    pub(crate) grade: Grade,
    pub(crate) issued: Issued<'n>,
}

/// Enrols a device.
pub(crate) async fn insert_device(
    connection: &mut SqliteConnection,
    device: &NewDevice<'_>,
    now: u64,
) -> Result<(), StoreError> {
    let NewDevice { id, name, invite: DeviceInvite { owner, tags }, grade, issued } = device;
    let Issued { key_sha256, sha256, not_after } = issued;
    sqlx::query(
        "INSERT INTO devices
         (id, name, owner, grade, tags, key_sha256, certificate_expires, created, last_seen, certificate_sha256)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
    )
    .bind(id.to_string())
    .bind(name.as_str())
    .bind(owner.as_ref().map(UserName::as_str))
    .bind(grade.as_str())
    .bind(list_to_db(tags))
    .bind(key_sha256)
    .bind(to_db(*not_after))
    .bind(to_db(now))
    .bind(sha256)
    .execute(connection)
    .await?;
    Ok(())
}

/// What a person said to a sign-in on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeState {
    /// Nothing yet.
    Pending,
    /// Yes, in the session that the row names.
    Approved,
    /// No.
    Denied,
}

impl CodeState {
    const fn as_str(self) -> &'static str {
        match self {
            CodeState::Pending => "pending",
            CodeState::Approved => "approved",
            CodeState::Denied => "denied",
        }
    }

    fn from_word(word: &str) -> Result<Self, StoreError> {
        [CodeState::Pending, CodeState::Approved, CodeState::Denied]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(StoreError::Corrupt { what: "state of a device code" })
    }
}

/// A sign-in on a device under way (RFC 8628). Times are unix seconds.
pub(crate) struct DeviceCode {
    pub(crate) code_hash: String,
    pub(crate) device: DeviceId,
    pub(crate) ip: String,
    pub(crate) state: CodeState,
    /// The session in which it was approved.
    pub(crate) session: Option<SessionId>,
    /// Least seconds between polls.
    pub(crate) interval: u64,
    pub(crate) last_poll: u64,
    pub(crate) created: u64,
    pub(crate) expires: u64,
}

/// Keeps a new code; it takes the place of any earlier one of the same device.
pub(crate) async fn insert_code(
    connection: &mut SqliteConnection,
    code: &DeviceCode,
    user_code_hash: &str,
) -> Result<(), StoreError> {
    let DeviceCode { code_hash, device, ip, state, session, interval, last_poll, created, expires } = code;
    let device = device.to_string();
    sqlx::query("DELETE FROM device_codes WHERE device_id = $1 OR expires <= $2")
        .bind(&device)
        .bind(to_db(*created))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO device_codes
         (code_hash, user_code_hash, device_id, ip, state, session_id, interval, last_poll, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(code_hash)
    .bind(user_code_hash)
    .bind(&device)
    .bind(ip)
    .bind(state.as_str())
    .bind(session.map(|session| session.to_string()))
    .bind(to_db(*interval))
    .bind(to_db(*last_poll))
    .bind(to_db(*created))
    .bind(to_db(*expires))
    .execute(connection)
    .await?;
    Ok(())
}

type CodeRow = (String, String, String, String, Option<String>, i64, i64, i64, i64);

fn device_code(row: CodeRow) -> Result<DeviceCode, StoreError> {
    let (code_hash, device, ip, state, session, interval, last_poll, created, expires) = row;
    Ok(DeviceCode {
        code_hash,
        device: parsed(&device, "device id")?,
        ip,
        state: CodeState::from_word(&state)?,
        session: session.map(|session| parsed(&session, "session id")).transpose()?,
        interval: from_db(interval),
        last_poll: from_db(last_poll),
        created: from_db(created),
        expires: from_db(expires),
    })
}

/// The sign-in of that device code.
pub(crate) async fn find_code(
    connection: &mut SqliteConnection,
    code_hash: &str,
) -> Result<Option<DeviceCode>, StoreError> {
    let row: Option<CodeRow> = sqlx::query_as(
        "SELECT code_hash, device_id, ip, state, session_id, interval, last_poll, created, expires
         FROM device_codes WHERE code_hash = $1",
    )
    .bind(code_hash)
    .fetch_optional(connection)
    .await?;
    row.map(device_code).transpose()
}

/// The sign-in that waits for a person to approve that user code.
pub(crate) async fn find_pending(
    connection: &mut SqliteConnection,
    user_code_hash: &str,
    now: u64,
) -> Result<Option<DeviceCode>, StoreError> {
    let row: Option<CodeRow> = sqlx::query_as(
        "SELECT code_hash, device_id, ip, state, session_id, interval, last_poll, created, expires
         FROM device_codes WHERE user_code_hash = $1 AND state = 'pending' AND expires > $2",
    )
    .bind(user_code_hash)
    .bind(to_db(now))
    .fetch_optional(connection)
    .await?;
    row.map(device_code).transpose()
}

/// Notes what a person said.
pub(crate) async fn answer_code(
    connection: &mut SqliteConnection,
    code_hash: &str,
    state: CodeState,
    session: &SessionId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE device_codes SET state = $1, session_id = $2 WHERE code_hash = $3")
        .bind(state.as_str())
        .bind(session.to_string())
        .bind(code_hash)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes a poll and the interval from now on.
pub(crate) async fn polled(
    connection: &mut SqliteConnection,
    code_hash: &str,
    interval: u64,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE device_codes SET interval = $1, last_poll = $2 WHERE code_hash = $3")
        .bind(to_db(interval))
        .bind(to_db(now))
        .bind(code_hash)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes a sign-in that came to its end.
pub(crate) async fn remove_code(connection: &mut SqliteConnection, code_hash: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_codes WHERE code_hash = $1").bind(code_hash).execute(connection).await?;
    Ok(())
}
