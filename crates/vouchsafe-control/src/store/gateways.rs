//! Gateways that are processes of their own.

use std::net::IpAddr;

use sqlx::SqliteConnection;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::GatewayName;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::roster::announceable;
use vouchsafe_wire::api;
use vouchsafe_wire::ticket::hex;

use super::certified::Issued;
use super::{StoreError, from_db, parsed, to_db};

/// A gateway that joins.
pub(crate) struct NewGateway<'n> {
    pub(crate) id: GatewayId,
    pub(crate) name: &'n GatewayName,
    pub(crate) assertion_point: &'n [u8],
    pub(crate) issued: Issued<'n>,
}

/// Adds a gateway.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    gateway: &NewGateway<'_>,
    now: u64,
) -> Result<(), StoreError> {
    let NewGateway { id, name, assertion_point, issued: Issued { key_sha256, sha256, not_after } } = gateway;
    sqlx::query(
        "INSERT INTO gateways
         (id, name, key_sha256, assertion_point, certificate_expires, created, last_seen, certificate_sha256)
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
    )
    .bind(id.to_string())
    .bind(name.as_str())
    .bind(key_sha256)
    .bind(hex(assertion_point))
    .bind(to_db(*not_after))
    .bind(to_db(now))
    .bind(sha256)
    .execute(connection)
    .await?;
    Ok(())
}

/// Name and assertion key of a gateway that may attach; `None` when it was removed.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    id: &GatewayId,
) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let row: Option<(String, String)> = sqlx::query_as("SELECT name, assertion_point FROM gateways WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(|(name, point)| Ok((name, unhex(&point)?))).transpose()
}

/// All gateways, by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<api::Gateway>, StoreError> {
    let rows: Vec<(String, String, i64, i64, Option<i64>)> =
        sqlx::query_as("SELECT id, name, certificate_expires, created, last_seen FROM gateways ORDER BY name")
            .fetch_all(connection)
            .await?;
    let gateway =
        |(id, name, certificate_expires, created, last_seen): (String, String, i64, i64, Option<i64>)| api::Gateway {
            id,
            name,
            certificate_expires: from_db(certificate_expires),
            created: from_db(created),
            last_seen: last_seen.map(from_db),
            attached: None,
        };
    Ok(rows.into_iter().map(gateway).collect())
}

/// Removes a gateway by its id or name; gives its id.
pub(crate) async fn remove(connection: &mut SqliteConnection, text: &str) -> Result<Option<String>, StoreError> {
    // By its id where it looks like one, also if another has it for a name.
    let statement = match text.parse::<GatewayId>() {
        Ok(_) => "DELETE FROM gateways WHERE id = $1 RETURNING id",
        Err(_) => "DELETE FROM gateways WHERE name = $1 RETURNING id",
    };
    Ok(sqlx::query_scalar(statement).bind(text).fetch_optional(connection).await?)
}

/// All gateways by their ids, with the addresses at which connectors reach them.
pub(crate) async fn announced(
    connection: &mut SqliteConnection,
) -> Result<Vec<(GatewayId, Vec<Endpoint>)>, StoreError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, addresses FROM gateways ORDER BY created, id").fetch_all(connection).await?;
    let gateway = |(id, addresses): (String, String)| {
        Ok((parsed(&id, "gateway id")?, addresses.split_whitespace().filter_map(announceable).collect()))
    };
    rows.into_iter().map(gateway).collect()
}

/// Notes at which addresses connectors reach a gateway; says whether that is new.
pub(crate) async fn announces(
    connection: &mut SqliteConnection,
    id: &GatewayId,
    addresses: &[Endpoint],
) -> Result<bool, StoreError> {
    let text = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let changed = sqlx::query("UPDATE gateways SET addresses = $1 WHERE id = $2 AND addresses <> $1")
        .bind(text)
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(changed.rows_affected() > 0)
}

/// Notes from where a gateway attached.
pub(crate) async fn came_from(connection: &mut SqliteConnection, id: &GatewayId, ip: IpAddr) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateways SET last_ip = $1 WHERE id = $2")
        .bind(ip.to_string())
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// From where gateways attached last.
pub(crate) async fn addresses(connection: &mut SqliteConnection) -> Result<Vec<IpAddr>, StoreError> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT last_ip FROM gateways WHERE last_ip IS NOT NULL").fetch_all(connection).await?;
    rows.iter().map(|ip| parsed(ip, "address of a gateway")).collect()
}

/// The keys that verify the assertions of all gateways.
pub(crate) async fn assertion_points(connection: &mut SqliteConnection) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT assertion_point FROM gateways ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(|point| unhex(point)).collect()
}

/// A point of 65 bytes.
fn unhex(text: &str) -> Result<Vec<u8>, StoreError> {
    let corrupt = StoreError::Corrupt { what: "assertion key of a gateway" };
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    match bytes.collect::<Option<Vec<u8>>>() {
        Some(point) if point.len() == 65 && text.len() == 130 => Ok(point),
        Some(_) | None => Err(corrupt),
    }
}
