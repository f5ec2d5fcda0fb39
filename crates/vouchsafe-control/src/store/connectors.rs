//! Connectors. The codes by which they join are in `invites`.

use sqlx::SqliteConnection;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::SiteName;
use vouchsafe_wire::api;

use super::{StoreError, from_db, parsed, to_db};

/// A connector as it is kept.
pub(crate) struct Kept {
    pub(crate) id: ConnectorId,
    pub(crate) name: String,
    pub(crate) site: SiteName,
    pub(crate) key_sha256: String,
}

/// Adds a connector.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    connector: &Kept,
    certificate_expires: u64,
    now: u64,
) -> Result<(), StoreError> {
    let Kept { id, name, site, key_sha256 } = connector;
    sqlx::query(
        "INSERT INTO connectors (id, name, site, key_sha256, certificate_expires, created, last_seen)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    )
    .bind(id.to_string())
    .bind(name)
    .bind(site.as_str())
    .bind(key_sha256)
    .bind(to_db(certificate_expires))
    .bind(to_db(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a connector of that name exists.
pub(crate) async fn name_is_taken(connection: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    let found: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM connectors WHERE name = $1").bind(name).fetch_one(connection).await?;
    Ok(found > 0)
}

/// A connector; `None` when it was removed.
pub(crate) async fn find(connection: &mut SqliteConnection, id: &ConnectorId) -> Result<Option<Kept>, StoreError> {
    let row: Option<(String, String, String)> =
        sqlx::query_as("SELECT name, site, key_sha256 FROM connectors WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(connection)
            .await?;
    row.map(|(name, site, key_sha256)| Ok(Kept { id: *id, name, site: parsed(&site, "site name")?, key_sha256 }))
        .transpose()
}

/// Notes the next certificate of a connector.
pub(crate) async fn renewed(
    connection: &mut SqliteConnection,
    id: &ConnectorId,
    certificate_expires: u64,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE connectors SET certificate_expires = $1, last_seen = $2 WHERE id = $3")
        .bind(to_db(certificate_expires))
        .bind(to_db(now))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// All that are admitted, each with its site.
pub(crate) async fn admitted(connection: &mut SqliteConnection) -> Result<Vec<(ConnectorId, SiteName)>, StoreError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, site FROM connectors ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(|(id, site)| Ok((parsed(id, "connector id")?, parsed(site, "site name")?))).collect()
}

/// All connectors by site and name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<api::Connector>, StoreError> {
    let rows: Vec<(String, String, String, i64, i64)> =
        sqlx::query_as("SELECT id, name, site, certificate_expires, created FROM connectors ORDER BY site, name")
            .fetch_all(connection)
            .await?;
    let connector = |(id, name, site, expires, created)| api::Connector {
        id,
        name,
        site,
        certificate_expires: from_db(expires),
        created: from_db(created),
        attached: Vec::new(),
    };
    Ok(rows.into_iter().map(connector).collect())
}

/// Removes a connector by its id or name; says which it was.
pub(crate) async fn remove(connection: &mut SqliteConnection, text: &str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar("DELETE FROM connectors WHERE id = $1 OR name = $1 RETURNING id")
        .bind(text)
        .fetch_optional(connection)
        .await?)
}
