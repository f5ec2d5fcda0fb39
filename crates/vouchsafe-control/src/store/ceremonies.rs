//! WebAuthn ceremonies under way.

use sqlx::SqliteConnection;
use vouchsafe_model::name::UserName;

use super::{StoreError, from_db, parsed, to_db};

/// A ceremony under way.
pub(crate) struct Ceremony {
    /// SHA-256 of the id that the client holds.
    pub(crate) id_hash: String,
    /// What it is for, a word of `identity`.
    pub(crate) kind: String,
    /// State of webauthn-rs, as JSON.
    pub(crate) state: String,
    /// The user, where known from the start.
    pub(crate) user: Option<UserName>,
    /// Hash of the invitation that it uses.
    pub(crate) invite: Option<String>,
    /// End, unix seconds.
    pub(crate) expires: u64,
}

/// Keeps a ceremony and forgets those whose time is over. Returns how many are kept.
pub(crate) async fn put(connection: &mut SqliteConnection, ceremony: &Ceremony, now: u64) -> Result<u64, StoreError> {
    let Ceremony { id_hash, kind, state, user, invite, expires } = ceremony;
    sqlx::query("DELETE FROM ceremonies WHERE expires <= $1").bind(to_db(now)).execute(&mut *connection).await?;
    sqlx::query("INSERT INTO ceremonies (id, kind, state, user_name, invite, expires) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(id_hash)
        .bind(kind)
        .bind(state)
        .bind(user.as_ref().map(UserName::as_str))
        .bind(invite)
        .bind(to_db(*expires))
        .execute(&mut *connection)
        .await?;
    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ceremonies").fetch_one(connection).await?;
    Ok(from_db(kept))
}

type CeremonyRow = (String, String, Option<String>, Option<String>, i64);

/// Takes a ceremony out, so that it can be finished once; `None` when there is none, or its time is over.
pub(crate) async fn take(
    connection: &mut SqliteConnection,
    id_hash: &str,
    now: u64,
) -> Result<Option<Ceremony>, StoreError> {
    let row: Option<CeremonyRow> =
        sqlx::query_as("DELETE FROM ceremonies WHERE id = $1 RETURNING kind, state, user_name, invite, expires")
            .bind(id_hash)
            .fetch_optional(connection)
            .await?;
    let Some((kind, state, user, invite, expires)) = row else { return Ok(None) };
    let expires = from_db(expires);
    if expires <= now {
        return Ok(None);
    }
    let user = user.map(|user| parsed(&user, "user name")).transpose()?;
    Ok(Some(Ceremony { id_hash: id_hash.to_owned(), kind, state, user, invite, expires }))
}
