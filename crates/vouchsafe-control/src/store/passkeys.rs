//! Registered passkeys.

use sqlx::SqliteConnection;
use vouchsafe_model::id::PasskeyId;
use vouchsafe_model::name::UserName;

use super::{StoreError, parsed, to_db};

/// A registered passkey with its public key.
pub(crate) struct StoredPasskey {
    pub(crate) id: PasskeyId,
    pub(crate) user: UserName,
    /// base64url of the credential id.
    pub(crate) credential_id: String,
    /// Name that its owner gave it.
    pub(crate) name: String,
    /// JSON of webauthn-rs.
    pub(crate) passkey: String,
}

/// Whether a passkey was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It was, and is kept now.
    New,
    /// Its credential id is registered already.
    Known,
}

/// Keeps a passkey.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    passkey: &StoredPasskey,
    now: u64,
) -> Result<Registered, StoreError> {
    let StoredPasskey { id, user, credential_id, name, passkey } = passkey;
    let inserted = sqlx::query(
        "INSERT INTO passkeys (id, user_name, credential_id, name, passkey, created) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (credential_id) DO NOTHING",
    )
    .bind(id.to_string())
    .bind(user.as_str())
    .bind(credential_id)
    .bind(name)
    .bind(passkey)
    .bind(to_db(now))
    .execute(connection)
    .await?;
    Ok(if inserted.rows_affected() == 1 { Registered::New } else { Registered::Known })
}

type PasskeyRow = (String, String, String, String, String);

fn stored((id, user, credential_id, name, passkey): PasskeyRow) -> Result<StoredPasskey, StoreError> {
    Ok(StoredPasskey {
        id: parsed(&id, "passkey id")?,
        user: parsed(&user, "user name")?,
        credential_id,
        name,
        passkey,
    })
}

/// The passkey of that credential id (base64url).
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    credential_id: &str,
) -> Result<Option<StoredPasskey>, StoreError> {
    let row: Option<PasskeyRow> =
        sqlx::query_as("SELECT id, user_name, credential_id, name, passkey FROM passkeys WHERE credential_id = $1")
            .bind(credential_id)
            .fetch_optional(connection)
            .await?;
    row.map(stored).transpose()
}

/// All passkeys of a user, oldest first.
pub(crate) async fn of_user(
    connection: &mut SqliteConnection,
    user: &UserName,
) -> Result<Vec<StoredPasskey>, StoreError> {
    let rows: Vec<PasskeyRow> = sqlx::query_as(
        "SELECT id, user_name, credential_id, name, passkey FROM passkeys WHERE user_name = $1 ORDER BY created, id",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(stored).collect()
}

/// Notes that a passkey signed somebody in: its counter and time of use, and the user's last sign-in.
pub(crate) async fn used(
    connection: &mut SqliteConnection,
    passkey: &StoredPasskey,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE passkeys SET passkey = $1, last_used = $2 WHERE id = $3")
        .bind(&passkey.passkey)
        .bind(to_db(now))
        .bind(passkey.id.to_string())
        .execute(&mut *connection)
        .await?;
    signed_in(connection, &passkey.user, now).await
}

/// Notes a user's last sign-in.
pub(crate) async fn signed_in(connection: &mut SqliteConnection, user: &UserName, now: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET last_sign_in = $1 WHERE name = $2")
        .bind(to_db(now))
        .bind(user.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes one passkey of that user; returns its name when it was there.
pub(crate) async fn remove(
    connection: &mut SqliteConnection,
    user: &UserName,
    id: &PasskeyId,
) -> Result<Option<String>, StoreError> {
    let name = sqlx::query_scalar("DELETE FROM passkeys WHERE id = $1 AND user_name = $2 RETURNING name")
        .bind(id.to_string())
        .bind(user.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(name)
}
