//! Rows of devices, as administrators see and remove them.

use sqlx::SqliteConnection;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::{DeviceName, UserName};
use vouchsafe_wire::api;

use super::{StoreError, from_db, list_from_db, parsed};

type DeviceRow = (String, String, Option<String>, String, String, i64, i64, Option<i64>);

fn device(row: DeviceRow) -> Result<api::Device, StoreError> {
    let (id, name, owner, grade, tags, created, certificate_expires, last_seen) = row;
    Ok(api::Device {
        id,
        name,
        owner,
        grade,
        tags: list_from_db(&tags, "device tags")?,
        created: from_db(created),
        certificate_expires: from_db(certificate_expires),
        last_seen: last_seen.map(from_db),
    })
}

/// One device.
pub(crate) async fn show(connection: &mut SqliteConnection, id: &DeviceId) -> Result<Option<api::Device>, StoreError> {
    let row: Option<DeviceRow> = sqlx::query_as(
        "SELECT id, name, owner, grade, tags, created, certificate_expires, last_seen FROM devices WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(device).transpose()
}

/// The id of the device of that name.
pub(crate) async fn id_of_name(
    connection: &mut SqliteConnection,
    name: &DeviceName,
) -> Result<Option<DeviceId>, StoreError> {
    let id: Option<String> = sqlx::query_scalar("SELECT id FROM devices WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    id.map(|id| parsed(&id, "device id")).transpose()
}

/// All devices by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<api::Device>, StoreError> {
    page(connection, "", u32::MAX).await
}

/// Devices by name, at most `limit`, from behind a name on.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<api::Device>, StoreError> {
    let rows: Vec<DeviceRow> = sqlx::query_as(
        "SELECT id, name, owner, grade, tags, created, certificate_expires, last_seen FROM devices WHERE name > $1
         ORDER BY name LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(device).collect()
}

/// The devices of a user, by name.
pub(crate) async fn list_of(
    connection: &mut SqliteConnection,
    owner: &UserName,
) -> Result<Vec<api::Device>, StoreError> {
    let rows: Vec<DeviceRow> = sqlx::query_as(
        "SELECT id, name, owner, grade, tags, created, certificate_expires, last_seen FROM devices WHERE owner = $1
         ORDER BY name",
    )
    .bind(owner.as_str())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(device).collect()
}

/// Names of the devices of a user.
pub(crate) async fn of_owner(connection: &mut SqliteConnection, owner: &UserName) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar("SELECT name FROM devices WHERE owner = $1 ORDER BY name")
        .bind(owner.as_str())
        .fetch_all(connection)
        .await?;
    Ok(names)
}

/// Removes a device. Its sessions must have been ended.
pub(crate) async fn remove(connection: &mut SqliteConnection, id: &DeviceId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM devices WHERE id = $1").bind(id.to_string()).execute(connection).await?;
    Ok(())
}

/// How many devices there are.
pub(crate) async fn count(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM devices").fetch_one(connection).await?;
    Ok(from_db(count))
}
