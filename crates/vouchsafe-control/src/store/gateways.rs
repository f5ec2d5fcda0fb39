//! Gateways that are processes of their own, and the codes by which they join.

use sqlx::SqliteConnection;
use vouchsafe_model::id::GatewayId;
use vouchsafe_wire::api;
use vouchsafe_wire::ticket::hex;

use super::{StoreError, from_db, to_db};

/// Keeps an invitation.
pub(crate) async fn insert_invite(
    connection: &mut SqliteConnection,
    code_hash: &str,
    name: &str,
    by: &str,
    now: u64,
    expires: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM gateway_invites WHERE expires <= $1").bind(to_db(now)).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO gateway_invites (code_hash, name, created_by, created, expires) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(code_hash)
    .bind(name)
    .bind(by)
    .bind(to_db(now))
    .bind(to_db(expires))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes an invitation out: the name that the gateway gets; `None` when it is not, or no longer, good.
pub(crate) async fn take_invite(
    connection: &mut SqliteConnection,
    code_hash: &str,
    now: u64,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar("DELETE FROM gateway_invites WHERE code_hash = $1 AND expires > $2 RETURNING name")
        .bind(code_hash)
        .bind(to_db(now))
        .fetch_optional(connection)
        .await?)
}

/// Whether a gateway of that name exists.
pub(crate) async fn name_is_taken(connection: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    let found: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM gateways WHERE name = $1").bind(name).fetch_one(connection).await?;
    Ok(found > 0)
}

/// A gateway that joins.
pub(crate) struct NewGateway<'n> {
    pub(crate) id: GatewayId,
    pub(crate) name: &'n str,
    pub(crate) key_sha256: &'n str,
    pub(crate) assertion_point: &'n [u8],
    pub(crate) certificate_expires: u64,
}

/// Adds a gateway.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    gateway: &NewGateway<'_>,
    now: u64,
) -> Result<(), StoreError> {
    let NewGateway { id, name, key_sha256, assertion_point, certificate_expires } = gateway;
    sqlx::query(
        "INSERT INTO gateways (id, name, key_sha256, assertion_point, certificate_expires, created, last_seen)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    )
    .bind(id.to_string())
    .bind(name)
    .bind(key_sha256)
    .bind(hex(assertion_point))
    .bind(to_db(*certificate_expires))
    .bind(to_db(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the next certificates of a gateway; says whether it is one of ours.
pub(crate) async fn renewed(
    connection: &mut SqliteConnection,
    id: &GatewayId,
    key_sha256: &str,
    certificate_expires: u64,
    now: u64,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE gateways SET key_sha256 = $1, certificate_expires = $2, last_seen = $3 WHERE id = $4")
            .bind(key_sha256)
            .bind(to_db(certificate_expires))
            .bind(to_db(now))
            .bind(id.to_string())
            .execute(connection)
            .await?;
    Ok(done.rows_affected() == 1)
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
    Ok(sqlx::query_scalar("DELETE FROM gateways WHERE id = $1 OR name = $1 RETURNING id")
        .bind(text)
        .fetch_optional(connection)
        .await?)
}

/// Notes that a gateway is attached.
pub(crate) async fn seen(connection: &mut SqliteConnection, id: &GatewayId, now: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateways SET last_seen = $1 WHERE id = $2")
        .bind(to_db(now))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
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
