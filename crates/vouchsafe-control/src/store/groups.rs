//! Rows of groups of users, and who is in them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::SqliteConnection;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_wire::api;

use super::{StoreError, parsed, to_db};

/// Whether a row was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Known,
}

/// Makes a group.
pub(crate) async fn add(connection: &mut SqliteConnection, name: &GroupName, now: u64) -> Result<Added, StoreError> {
    let done = sqlx::query("INSERT INTO user_groups (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name.as_str())
        .bind(to_db(now))
        .execute(connection)
        .await?;
    Ok(if done.rows_affected() == 1 { Added::New } else { Added::Known })
}

/// Removes a group with its memberships.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &GroupName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM user_groups WHERE name = $1").bind(name.as_str()).execute(connection).await?;
    Ok(())
}

/// Puts a user into a group; both exist.
pub(crate) async fn add_member(
    connection: &mut SqliteConnection,
    group: &GroupName,
    user: &UserName,
) -> Result<Added, StoreError> {
    let done = sqlx::query("INSERT INTO memberships (user_name, group_name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(connection)
        .await?;
    Ok(if done.rows_affected() == 1 { Added::New } else { Added::Known })
}

/// The groups of a user, disabled and locked ones too; `None` when there is none of that name.
pub(crate) async fn of_user(
    connection: &mut SqliteConnection,
    user: &UserName,
) -> Result<Option<BTreeSet<GroupName>>, StoreError> {
    let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM users WHERE name = $1 AND deleted = 0")
        .bind(user.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_none() {
        return Ok(None);
    }
    let groups: Vec<String> = sqlx::query_scalar("SELECT group_name FROM memberships WHERE user_name = $1")
        .bind(user.as_str())
        .fetch_all(connection)
        .await?;
    groups.iter().map(|group| parsed(group, "group name")).collect::<Result<_, _>>().map(Some)
}

/// Takes a user out of a group. Returns whether the user was in it.
pub(crate) async fn remove_member(
    connection: &mut SqliteConnection,
    group: &GroupName,
    user: &UserName,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM memberships WHERE user_name = $1 AND group_name = $2")
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// One group.
pub(crate) async fn show(
    connection: &mut SqliteConnection,
    name: &GroupName,
) -> Result<Option<api::Group>, StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM user_groups WHERE name = $1)")
        .bind(name.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    let members = sqlx::query_scalar("SELECT user_name FROM memberships WHERE group_name = $1 ORDER BY user_name")
        .bind(name.as_str())
        .fetch_all(connection)
        .await?;
    Ok(Some(api::Group { name: name.to_string(), members }))
}

/// All groups by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<api::Group>, StoreError> {
    page(connection, "", u32::MAX).await
}

/// Groups behind a name, at most `limit`.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<api::Group>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM user_groups WHERE name > $1 ORDER BY name LIMIT $2")
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let memberships: Vec<(String, String)> = sqlx::query_as(
        "SELECT group_name, user_name FROM memberships WHERE group_name > $1 AND group_name <= $2
         ORDER BY group_name, user_name",
    )
    .bind(after)
    .bind(names.last())
    .fetch_all(connection)
    .await?;
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (group, user) in memberships {
        members.entry(group).or_default().push(user);
    }
    let group = |name: String| api::Group { members: members.remove(&name).unwrap_or_default(), name };
    Ok(names.into_iter().map(group).collect())
}
