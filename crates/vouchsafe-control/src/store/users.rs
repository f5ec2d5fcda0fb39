//! Rows of users, with what an administrator sees of each.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;
use vouchsafe_model::id::UserId;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_wire::api;

use super::{StoreError, from_db, to_db};

/// Whether a name is free, taken or was taken once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameUse {
    Free,
    Taken,
    /// A user of this name was deleted; records still speak of that person.
    Reserved,
}

/// How a name is used.
pub(crate) async fn name_use(connection: &mut SqliteConnection, name: &UserName) -> Result<NameUse, StoreError> {
    let deleted: Option<bool> = sqlx::query_scalar("SELECT deleted FROM users WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(match deleted {
        None => NameUse::Free,
        Some(false) => NameUse::Taken,
        Some(true) => NameUse::Reserved,
    })
}

/// Makes a user.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    name: &UserName,
    id: &UserId,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO users (name, id, created) VALUES ($1, $2, $3)")
        .bind(name.as_str())
        .bind(id.to_string())
        .bind(to_db(now))
        .execute(connection)
        .await?;
    Ok(())
}

/// Disables or enables a user.
pub(crate) async fn set_disabled(
    connection: &mut SqliteConnection,
    name: &UserName,
    disabled: bool,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET disabled = $2 WHERE name = $1")
        .bind(name.as_str())
        .bind(disabled)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes what could let a user back in without an administrator: pending links and tickets, and
/// ceremonies under way.
pub(crate) async fn remove_openings(connection: &mut SqliteConnection, name: &UserName) -> Result<(), StoreError> {
    let statements = [
        "DELETE FROM invites WHERE kind IN ('person', 'device') AND name = $1",
        "DELETE FROM ceremonies WHERE user_name = $1",
    ];
    for statement in statements {
        sqlx::query(statement).bind(name.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Marks a user as deleted and removes passkeys, memberships, grants and requests. The name stays taken.
pub(crate) async fn delete(connection: &mut SqliteConnection, name: &UserName) -> Result<(), StoreError> {
    let statements = [
        "DELETE FROM passkeys WHERE user_name = $1",
        "DELETE FROM memberships WHERE user_name = $1",
        "DELETE FROM grants WHERE user_name = $1",
        "DELETE FROM requests WHERE user_name = $1",
        "UPDATE users SET deleted = 1 WHERE name = $1",
    ];
    for statement in statements {
        sqlx::query(statement).bind(name.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Enabled users who have a passkey: those who can sign in by themselves.
pub(crate) async fn able_to_sign_in(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar(
        "SELECT name FROM users WHERE deleted = 0 AND disabled = 0
         AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name)
         AND EXISTS (SELECT 1 FROM passkeys WHERE passkeys.user_name = users.name) ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    Ok(names)
}

/// All enabled users.
pub(crate) async fn enabled_names(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar("SELECT name FROM users WHERE deleted = 0 AND disabled = 0 ORDER BY name")
        .fetch_all(connection)
        .await?;
    Ok(names)
}

/// Those who can sign in of a group.
pub(crate) async fn able_members(
    connection: &mut SqliteConnection,
    group: &GroupName,
) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar(
        "SELECT name FROM users JOIN memberships ON user_name = name
         WHERE group_name = $1 AND deleted = 0 AND disabled = 0
         AND NOT EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name)
         AND EXISTS (SELECT 1 FROM passkeys WHERE passkeys.user_name = users.name) ORDER BY name",
    )
    .bind(group.as_str())
    .fetch_all(connection)
    .await?;
    Ok(names)
}

/// Whether anybody ever registered a passkey that is still there.
pub(crate) async fn any_passkey(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM passkeys)").fetch_one(connection).await?)
}

/// How many users there are.
pub(crate) async fn count(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users WHERE deleted = 0").fetch_one(connection).await?;
    Ok(from_db(count))
}

type UserRow = (String, String, bool, bool, i64, Option<i64>);
type PasskeyRow = (String, String, String, i64, Option<i64>);

/// One user.
pub(crate) async fn show(
    connection: &mut SqliteConnection,
    name: &UserName,
    now: u64,
) -> Result<Option<api::User>, StoreError> {
    let row: Option<UserRow> = sqlx::query_as(
        "SELECT name, id, disabled,
             EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name), created, last_sign_in
         FROM users WHERE name = $1 AND deleted = 0",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let groups = sqlx::query_scalar("SELECT group_name FROM memberships WHERE user_name = $1 ORDER BY group_name")
        .bind(name.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let passkeys: Vec<PasskeyRow> = sqlx::query_as(
        "SELECT user_name, id, name, created, last_used FROM passkeys WHERE user_name = $1 ORDER BY created, id",
    )
    .bind(name.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let sessions: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE user_name = $1 AND expires > $2")
        .bind(name.as_str())
        .bind(to_db(now))
        .fetch_one(connection)
        .await?;
    Ok(Some(user(row, groups, passkeys, sessions)))
}

/// All users by name.
pub(crate) async fn list(connection: &mut SqliteConnection, now: u64) -> Result<Vec<api::User>, StoreError> {
    page(connection, "", u32::MAX, now).await
}

/// Users by name, at most `limit`, from behind a name on.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    after: &str,
    limit: u32,
    now: u64,
) -> Result<Vec<api::User>, StoreError> {
    let rows: Vec<UserRow> = sqlx::query_as(
        "SELECT name, id, disabled,
             EXISTS (SELECT 1 FROM locks WHERE locks.kind = 'user' AND locks.name = users.name), created, last_sign_in
         FROM users WHERE deleted = 0 AND name > $1 ORDER BY name LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let Some(last) = rows.last().map(|row| row.0.clone()) else { return Ok(Vec::new()) };
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let memberships: Vec<(String, String)> = sqlx::query_as(
        "SELECT user_name, group_name FROM memberships WHERE user_name > $1 AND user_name <= $2
         ORDER BY user_name, group_name",
    )
    .bind(after)
    .bind(&last)
    .fetch_all(&mut *connection)
    .await?;
    for (name, group) in memberships {
        groups.entry(name).or_default().push(group);
    }
    let mut passkeys: BTreeMap<String, Vec<PasskeyRow>> = BTreeMap::new();
    let all: Vec<PasskeyRow> = sqlx::query_as(
        "SELECT user_name, id, name, created, last_used FROM passkeys WHERE user_name > $1 AND user_name <= $2
         ORDER BY user_name, created, id",
    )
    .bind(after)
    .bind(&last)
    .fetch_all(&mut *connection)
    .await?;
    for row in all {
        passkeys.entry(row.0.clone()).or_default().push(row);
    }
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT user_name, COUNT(*) FROM sessions WHERE user_name > $1 AND user_name <= $2 AND expires > $3
         GROUP BY user_name",
    )
    .bind(after)
    .bind(&last)
    .bind(to_db(now))
    .fetch_all(connection)
    .await?;
    let counts: BTreeMap<String, i64> = counts.into_iter().collect();
    let users = rows.into_iter().map(|row| {
        let groups = groups.remove(&row.0).unwrap_or_default();
        let passkeys = passkeys.remove(&row.0).unwrap_or_default();
        let sessions = counts.get(&row.0).copied().unwrap_or_default();
        user(row, groups, passkeys, sessions)
    });
    Ok(users.collect())
}

fn user(row: UserRow, groups: Vec<String>, passkeys: Vec<PasskeyRow>, sessions: i64) -> api::User {
    let (name, id, disabled, locked, created, last_sign_in) = row;
    let state = match (disabled, locked, passkeys.is_empty()) {
        (true, _, _) => "disabled",
        (false, true, _) => "locked",
        (false, false, true) => "invited",
        (false, false, false) => "active",
    };
    let passkey = |(_, id, name, created, last_used): PasskeyRow| api::Passkey {
        id,
        name,
        created: from_db(created),
        last_used: last_used.map(from_db),
    };
    api::User {
        name,
        id,
        groups,
        state: state.to_owned(),
        passkeys: passkeys.into_iter().map(passkey).collect(),
        sessions: from_db(sessions),
        created: from_db(created),
        last_sign_in: last_sign_in.map(from_db),
    }
}
