//! Rows of grants.

use sqlx::SqliteConnection;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::GrantId;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::GrantDoc;

use super::{StoreError, from_db, parsed, to_db};

type GrantRow = (String, String, String, Option<i64>, String, Option<String>, String, i64);

fn doc((id, user, resource, expires, reason, template, by, created): GrantRow) -> GrantDoc {
    GrantDoc { id, user, resource, expires: expires.map(from_db), reason, template, by, created: from_db(created) }
}

/// A grant as the policy engine takes it.
pub(crate) fn to_model(doc: &GrantDoc) -> Result<Grant, StoreError> {
    let GrantDoc { id, user, resource, expires, reason, template, by: _, created: _ } = doc;
    Ok(Grant {
        id: parsed(id, "grant id")?,
        user: parsed(user, "user name")?,
        resource: parsed(resource, "resource name")?,
        expires: expires.map(clock::from_unix_seconds),
        reason: reason.clone(),
        template: template.as_ref().map(|name| parsed(name, "name of a template")).transpose()?,
    })
}

/// Gives a grant.
pub(crate) async fn insert(connection: &mut SqliteConnection, grant: &GrantDoc) -> Result<(), StoreError> {
    let GrantDoc { id, user, resource, expires, reason, template, by, created } = grant;
    sqlx::query(
        "INSERT INTO grants (id, user_name, resource_name, expires, reason, template, created_by, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(user)
    .bind(resource)
    .bind(expires.map(to_db))
    .bind(reason)
    .bind(template)
    .bind(by)
    .bind(to_db(*created))
    .execute(connection)
    .await?;
    Ok(())
}

/// One grant.
pub(crate) async fn show(connection: &mut SqliteConnection, id: &GrantId) -> Result<Option<GrantDoc>, StoreError> {
    let row: Option<GrantRow> = sqlx::query_as(
        "SELECT id, user_name, resource_name, expires, reason, template, created_by, created FROM grants WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(doc))
}

/// Grants in force, by user and resource.
pub(crate) async fn list(connection: &mut SqliteConnection, now: u64) -> Result<Vec<GrantDoc>, StoreError> {
    page(connection, ("", "", ""), u32::MAX, now).await
}

/// Grants in force behind one, by user, resource and id, at most `limit`.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    (user, resource, id): (&str, &str, &str),
    limit: u32,
    now: u64,
) -> Result<Vec<GrantDoc>, StoreError> {
    let rows: Vec<GrantRow> = sqlx::query_as(
        "SELECT id, user_name, resource_name, expires, reason, template, created_by, created FROM grants
         WHERE (expires IS NULL OR expires > $1) AND (user_name, resource_name, id) > ($2, $3, $4)
         ORDER BY user_name, resource_name, id LIMIT $5",
    )
    .bind(to_db(now))
    .bind(user)
    .bind(resource)
    .bind(id)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(doc).collect())
}

/// Grants whose time is over, at most `limit`.
pub(crate) async fn expired(
    connection: &mut SqliteConnection,
    now: u64,
    limit: u32,
) -> Result<Vec<GrantDoc>, StoreError> {
    let rows: Vec<GrantRow> = sqlx::query_as(
        "SELECT id, user_name, resource_name, expires, reason, template, created_by, created FROM grants
         WHERE expires <= $1 ORDER BY expires LIMIT $2",
    )
    .bind(to_db(now))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(doc).collect())
}

/// Grants of a user, expired or not.
pub(crate) async fn of_user(connection: &mut SqliteConnection, user: &UserName) -> Result<Vec<GrantDoc>, StoreError> {
    let rows: Vec<GrantRow> = sqlx::query_as(
        "SELECT id, user_name, resource_name, expires, reason, template, created_by, created FROM grants
         WHERE user_name = $1 ORDER BY id",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(doc).collect())
}

/// Grants to a resource, expired or not.
pub(crate) async fn of_resource(
    connection: &mut SqliteConnection,
    resource: &ResourceName,
) -> Result<Vec<GrantDoc>, StoreError> {
    let rows: Vec<GrantRow> = sqlx::query_as(
        "SELECT id, user_name, resource_name, expires, reason, template, created_by, created FROM grants
         WHERE resource_name = $1 ORDER BY id",
    )
    .bind(resource.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(doc).collect())
}

/// Removes a grant.
pub(crate) async fn remove(connection: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM grants WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// How many grants are in force.
pub(crate) async fn count(connection: &mut SqliteConnection, now: u64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM grants WHERE expires IS NULL OR expires > $1")
        .bind(to_db(now))
        .fetch_one(connection)
        .await?;
    Ok(from_db(count))
}
