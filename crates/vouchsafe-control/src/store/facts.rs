//! Facts about subjects, as decisions are made on them. Read them within one [`super::Store::read`],
//! so that they are all of one moment.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{People, Wanted};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::NoSubject;
use vouchsafe_wire::api::LockKind;

use super::{StoreError, feed, from_db, list_from_db, list_to_db, locks, parsed, sessions};

/// Why a session ended, where its device was removed (column `why` of `ended_sessions`).
pub(crate) const DEVICE_REMOVED: &str = "device removed";

/// The number that rises with every change of facts: the highest of the change feed. Facts read in
/// the same transaction carry it as their epoch, so newer facts never have a lower one.
pub(crate) async fn epoch(connection: &mut SqliteConnection) -> Result<Epoch, StoreError> {
    Ok(Epoch(feed::newest(connection).await?))
}

/// The facts of a live session; `now` in unix seconds.
pub(crate) async fn subject_by_session(
    connection: &mut SqliteConnection,
    id: &SessionId,
    now: u64,
) -> Result<Result<SubjectFacts, NoSubject>, StoreError> {
    let row: Option<(String, Option<String>, String, i64, i64)> =
        sqlx::query_as("SELECT user_name, device_id, methods, auth_time, expires FROM sessions WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *connection)
            .await?;
    let Some((user_name, device_id, methods, auth_time, expires)) = row else {
        return Ok(Err(match sessions::ended_why(connection, id).await? {
            Some(why) if why == DEVICE_REMOVED => NoSubject::DeviceRemoved,
            Some(_) => NoSubject::Ended,
            None => NoSubject::Unknown,
        }));
    };
    if from_db(expires) <= now || locks::find(connection, LockKind::Session, &id.to_string()).await?.is_some() {
        return Ok(Err(NoSubject::Ended));
    }
    let Some(user) = user(connection, &parsed(&user_name, "user name")?).await? else {
        return Ok(Err(NoSubject::Ended));
    };
    let device = match device_id {
        None => None,
        Some(id) => match device(connection, &parsed(&id, "device id")?).await? {
            Some(device) => Some(device),
            None => return Ok(Err(NoSubject::DeviceRemoved)),
        },
    };
    let methods = list_from_db(&methods, "sign-in methods")?
        .iter()
        .map(|word| AuthMethod::from_word(word).ok_or(StoreError::Corrupt { what: "sign-in method" }))
        .collect::<Result<BTreeSet<_>, _>>()?;
    Ok(Ok(SubjectFacts {
        session: *id,
        user,
        device,
        auth: AuthFacts { methods, at: clock::from_unix_seconds(from_db(auth_time)) },
        expires: clock::from_unix_seconds(from_db(expires)),
        epoch: epoch(connection).await?,
    }))
}

/// The session and host label that a cookie (SHA-256 in hex) is of, also of ended sessions.
pub(crate) async fn session_of_cookie(
    connection: &mut SqliteConnection,
    token_hash: &str,
) -> Result<Option<(SessionId, String)>, StoreError> {
    let row: Option<(String, String)> = sqlx::query_as(
        "SELECT session_id, label FROM cookies WHERE token_hash = $1
         UNION ALL SELECT session_id, label FROM ended_cookies WHERE token_hash = $1 LIMIT 1",
    )
    .bind(token_hash)
    .fetch_optional(connection)
    .await?;
    row.map(|(session, label)| Ok((parsed(&session, "session id")?, label))).transpose()
}

/// A user who exists and is neither disabled nor locked, with groups.
pub(crate) async fn user(connection: &mut SqliteConnection, name: &UserName) -> Result<Option<UserFacts>, StoreError> {
    let id: Option<String> = sqlx::query_scalar(
        "SELECT id FROM users WHERE name = $1 AND disabled = 0 AND deleted = 0
             AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name)",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = id else { return Ok(None) };
    let groups: Vec<String> =
        sqlx::query_scalar("SELECT group_name FROM memberships WHERE user_name = $1 ORDER BY group_name")
            .bind(name.as_str())
            .fetch_all(connection)
            .await?;
    let groups = groups.iter().map(|group| parsed(group, "group name")).collect::<Result<BTreeSet<GroupName>, _>>()?;
    Ok(Some(UserFacts { id: parsed(&id, "user id")?, name: name.clone(), groups }))
}

/// Everybody who is neither disabled nor locked, with the members of those groups.
///
/// Lists come in one row each: of ten thousand users as rows, the rows alone would take longer than all else.
pub(crate) async fn people(connection: &mut SqliteConnection, groups: &Wanted) -> Result<People, StoreError> {
    let corrupt = |_| StoreError::Corrupt { what: "list of users" };
    let names = |text: &str| -> Result<Vec<UserName>, StoreError> {
        let names: Vec<&str> = serde_json::from_str(text).map_err(corrupt)?;
        names
            .into_iter()
            .map(|name| UserName::parse(name).map_err(|_| StoreError::Corrupt { what: "user name" }))
            .collect()
    };
    let users: String = sqlx::query_scalar(
        "SELECT json_group_array(name) FROM (
             SELECT name FROM users WHERE disabled = 0 AND deleted = 0
                 AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name)
             ORDER BY name)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows: Vec<(String, String)> = match groups {
        Wanted::All => {
            sqlx::query_as("SELECT group_name, json_group_array(user_name) FROM memberships GROUP BY group_name")
                .fetch_all(connection)
                .await?
        }
        Wanted::Groups(groups) => {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            sqlx::query_as(
                "SELECT group_name, json_group_array(user_name) FROM memberships
                 WHERE group_name IN (SELECT value FROM json_each($1)) GROUP BY group_name",
            )
            .bind(list_to_db(&groups))
            .fetch_all(connection)
            .await?
        }
    };
    let members = rows.iter().map(|(group, users)| Ok((parsed(group, "group name")?, names(users)?)));
    Ok(People { users: names(&users)?, members: members.collect::<Result<_, StoreError>>()? })
}

/// An enrolled device that is not locked.
pub(crate) async fn device(
    connection: &mut SqliteConnection,
    id: &DeviceId,
) -> Result<Option<DeviceFacts>, StoreError> {
    let row: Option<(String, Option<String>, String, String)> = sqlx::query_as(
        "SELECT name, owner, grade, tags FROM devices WHERE id = $1
             AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'device' AND locks.name = devices.id)",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    let Some((name, owner, grade, tags)) = row else { return Ok(None) };
    let tags = list_from_db(&tags, "device tags")?;
    Ok(Some(DeviceFacts {
        id: *id,
        name: parsed(&name, "device name")?,
        grade: Grade::from_word(&grade).ok_or(StoreError::Corrupt { what: "device grade" })?,
        owner: owner.as_deref().map(|owner| parsed(owner, "user name")).transpose()?,
        tags: tags.iter().map(|tag| parsed(tag, "tag")).collect::<Result<_, _>>()?,
    }))
}
