//! What devices and gateways have in common: a name, and certificates of ours, each issued for the one before.

use sqlx::{AssertSqlSafe, SqliteConnection};
use vouchsafe_model::id::{DeviceId, GatewayId};

use super::{StoreError, from_db, to_db};

/// Whose rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Device,
    Gateway,
}

impl Role {
    const fn table(self) -> &'static str {
        match self {
            Role::Device => "devices",
            Role::Gateway => "gateways",
        }
    }

    /// A statement about this table, whose name stands as `TABLE`.
    fn statement(self, text: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("TABLE", self.table()))
    }
}

/// Whose row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    Device(DeviceId),
    Gateway(GatewayId),
}

impl Holder {
    const fn role(self) -> Role {
        match self {
            Holder::Device(_) => Role::Device,
            Holder::Gateway(_) => Role::Gateway,
        }
    }

    fn id(self) -> String {
        match self {
            Holder::Device(id) => id.to_string(),
            Holder::Gateway(id) => id.to_string(),
        }
    }
}

/// A certificate that was just issued. Digests are SHA-256 in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued<'c> {
    /// Digest of the key (SubjectPublicKeyInfo).
    pub(crate) key_sha256: &'c str,
    /// Digest of the certificate (DER).
    pub(crate) sha256: &'c str,
    /// Its end, unix seconds.
    pub(crate) not_after: u64,
}

/// Certificates and key of one; digests as in [`Issued`].
pub(crate) struct Certificates {
    pub(crate) key_sha256: String,
    /// The newest; `None` when it was issued before anybody noted it.
    pub(crate) newest: Option<String>,
    /// The one that the newest was issued for, while the newest was not seen in use.
    pub(crate) replaced: Option<String>,
    /// End of the newest, unix seconds.
    pub(crate) newest_expires: u64,
}

/// Whether there is one of that name.
pub(crate) async fn name_is_taken(
    connection: &mut SqliteConnection,
    role: Role,
    name: &str,
) -> Result<bool, StoreError> {
    let statement = role.statement("SELECT EXISTS (SELECT 1 FROM TABLE WHERE name = $1)");
    Ok(sqlx::query_scalar(statement).bind(name).fetch_one(connection).await?)
}

/// What is known of its certificates; `None` when it is none of ours.
pub(crate) async fn certificates(
    connection: &mut SqliteConnection,
    holder: Holder,
) -> Result<Option<Certificates>, StoreError> {
    let statement = holder.role().statement(
        "SELECT key_sha256, certificate_sha256, replaced_sha256, certificate_expires FROM TABLE WHERE id = $1",
    );
    let row: Option<(String, Option<String>, Option<String>, i64)> =
        sqlx::query_as(statement).bind(holder.id()).fetch_optional(connection).await?;
    Ok(row.map(|(key_sha256, newest, replaced, expires)| Certificates {
        key_sha256,
        newest,
        replaced,
        newest_expires: from_db(expires),
    }))
}

/// Notes the next certificate, issued for the one of that digest.
pub(crate) async fn renewed(
    connection: &mut SqliteConnection,
    holder: Holder,
    issued: Issued<'_>,
    issued_for: &str,
    now: u64,
) -> Result<(), StoreError> {
    let Issued { key_sha256, sha256, not_after } = issued;
    let statement = holder.role().statement(
        "UPDATE TABLE SET key_sha256 = $1, certificate_expires = $2, certificate_sha256 = $3, replaced_sha256 = $4,
         last_seen = $5 WHERE id = $6",
    );
    sqlx::query(statement)
        .bind(key_sha256)
        .bind(to_db(not_after))
        .bind(sha256)
        .bind(issued_for)
        .bind(to_db(now))
        .bind(holder.id())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that the newest certificate was seen in use: the one before it is of no use any more.
pub(crate) async fn newest_seen(connection: &mut SqliteConnection, holder: Holder) -> Result<(), StoreError> {
    let statement = holder.role().statement("UPDATE TABLE SET replaced_sha256 = NULL WHERE id = $1");
    sqlx::query(statement).bind(holder.id()).execute(connection).await?;
    Ok(())
}

/// Notes that it was here.
pub(crate) async fn seen(connection: &mut SqliteConnection, holder: Holder, now: u64) -> Result<(), StoreError> {
    let statement = holder.role().statement("UPDATE TABLE SET last_seen = $1 WHERE id = $2");
    sqlx::query(statement).bind(to_db(now)).bind(holder.id()).execute(connection).await?;
    Ok(())
}
