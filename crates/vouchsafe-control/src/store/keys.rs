//! Sealed keys of the own CA and their certificates.

use sqlx::{Row, SqliteConnection};

use super::{StoreError, to_db};

/// One key as it lies in the database; nobody can use it without the master key.
pub(crate) struct SealedKey {
    /// Name, which is also the associated data of the seal.
    pub(crate) name: String,
    /// Nonce and sealed PKCS#8.
    pub(crate) sealed: Vec<u8>,
    /// PEM of its certificate; empty for keys that have none.
    pub(crate) certificate: String,
}

/// All keys.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<SealedKey>, StoreError> {
    let rows = sqlx::query("SELECT name, sealed, certificate FROM keys ORDER BY name").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(SealedKey {
                name: row.try_get("name")?,
                sealed: row.try_get("sealed")?,
                certificate: row.try_get("certificate")?,
            })
        })
        .collect()
}

/// Adds a key, or replaces the one of that name.
pub(crate) async fn put(connection: &mut SqliteConnection, key: &SealedKey, now: u64) -> Result<(), StoreError> {
    let SealedKey { name, sealed, certificate } = key;
    sqlx::query(
        "INSERT INTO keys (name, sealed, certificate, created) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, certificate = excluded.certificate,
         created = excluded.created",
    )
    .bind(name)
    .bind(sealed)
    .bind(certificate)
    .bind(to_db(now))
    .execute(connection)
    .await?;
    Ok(())
}
