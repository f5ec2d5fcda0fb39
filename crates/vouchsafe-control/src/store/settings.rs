//! Settings that the installation remembers.

use sqlx::SqliteConnection;

use super::StoreError;

/// Name of the base domain.
pub(crate) const DOMAIN: &str = "domain";

/// Name of the latest time of day that was seen, unix seconds.
pub(crate) const CLOCK: &str = "clock";

/// Name of the newest published checkpoint of the audit log.
pub(crate) const AUDIT_CHECKPOINT: &str = "audit_checkpoint";

/// Name of the number of the audit log: how often it was begun anew, and one more.
pub(crate) const AUDIT_EPOCH: &str = "audit_epoch";

/// Name of the newest look at a host, as JSON.
pub(crate) const ASSESSMENT: &str = "assessment";

/// Name of the mark that the first steps aren't shown on the overview any more.
pub(crate) const FIRST_STEPS: &str = "first_steps";

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

/// Forgets a setting.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM settings WHERE name = $1").bind(name).execute(connection).await?;
    Ok(())
}
