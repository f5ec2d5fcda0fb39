//! Settings that the installation remembers.

use sqlx::SqliteConnection;

use super::StoreError;

/// Name of the base domain.
pub(crate) const DOMAIN: &str = "domain";

/// Name of the latest time of day that was seen, unix seconds.
pub(crate) const CLOCK: &str = "clock";

/// The value of a setting.
pub(crate) async fn read(connection: &mut SqliteConnection, name: &str) -> Result<Option<String>, StoreError> {
    let value =
        sqlx::query_scalar("SELECT value FROM settings WHERE name = $1").bind(name).fetch_optional(connection).await?;
    Ok(value)
}

/// Remembers a setting.
pub(crate) async fn put(connection: &mut SqliteConnection, name: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(connection)
    .await?;
    Ok(())
}
