//! Rows of resources.

use sqlx::SqliteConnection;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_wire::api::LockKind;
use vouchsafe_wire::resource::ResourceDoc;

use super::{StoreError, from_db, locks};

fn doc(text: &str) -> Result<ResourceDoc, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what: "resource" })
}

/// One resource.
pub(crate) async fn show(
    connection: &mut SqliteConnection,
    name: &ResourceName,
) -> Result<Option<ResourceDoc>, StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT doc FROM resources WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    text.as_deref().map(doc).transpose()
}

/// All resources by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<ResourceDoc>, StoreError> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT doc FROM resources ORDER BY name").fetch_all(connection).await?;
    rows.iter().map(|text| doc(text)).collect()
}

/// All resources as the policy engine takes them: a locked one is none, to everybody.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Resource>, StoreError> {
    let mut docs = list(connection).await?;
    let locks = locks::list(connection).await?;
    docs.retain(|doc| !locks.iter().any(|lock| lock.kind == LockKind::Resource && lock.name == doc.name));
    docs.iter().map(|doc| doc.to_resource().map_err(|_| StoreError::Corrupt { what: "resource" })).collect()
}

/// Writes a resource in the place of the one of the same name.
pub(crate) async fn put(connection: &mut SqliteConnection, doc: &ResourceDoc) -> Result<(), StoreError> {
    let text = serde_json::to_string(doc).map_err(|_| StoreError::Corrupt { what: "resource" })?;
    sqlx::query(
        "INSERT INTO resources (name, doc) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET doc = excluded.doc",
    )
    .bind(&doc.name)
    .bind(text)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a resource.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &ResourceName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM resources WHERE name = $1").bind(name.as_str()).execute(connection).await?;
    Ok(())
}

/// How many resources there are.
pub(crate) async fn count(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM resources").fetch_one(connection).await?;
    Ok(from_db(count))
}
