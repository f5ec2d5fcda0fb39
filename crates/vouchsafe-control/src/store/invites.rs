//! One-time links that let a person register a passkey.

use sqlx::SqliteConnection;
use vouchsafe_model::name::UserName;

use super::{StoreError, parsed, to_db};

/// Adds an invitation, which takes the place of any earlier one of that user.
pub(crate) async fn put(
    connection: &mut SqliteConnection,
    token_hash: &str,
    user: &UserName,
    by: &str,
    now: u64,
    expires: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM invites WHERE user_name = $1").bind(user.as_str()).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO invites (token_hash, user_name, created_by, created, expires) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(token_hash)
    .bind(user.as_str())
    .bind(by)
    .bind(to_db(now))
    .bind(to_db(expires))
    .execute(connection)
    .await?;
    Ok(())
}

/// Whom an invitation is for, while it is good. It stays.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    token_hash: &str,
    now: u64,
) -> Result<Option<UserName>, StoreError> {
    let user: Option<String> =
        sqlx::query_scalar("SELECT user_name FROM invites WHERE token_hash = $1 AND expires > $2")
            .bind(token_hash)
            .bind(to_db(now))
            .fetch_optional(connection)
            .await?;
    user.map(|user| parsed(&user, "user name")).transpose()
}

/// Takes an invitation out; `None` when it is not, or no longer, good.
pub(crate) async fn take(
    connection: &mut SqliteConnection,
    token_hash: &str,
    now: u64,
) -> Result<Option<UserName>, StoreError> {
    let user: Option<String> =
        sqlx::query_scalar("DELETE FROM invites WHERE token_hash = $1 AND expires > $2 RETURNING user_name")
            .bind(token_hash)
            .bind(to_db(now))
            .fetch_optional(connection)
            .await?;
    user.map(|user| parsed(&user, "user name")).transpose()
}
