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

/// Keeps a ceremony and forgets those whose time is over. When there are more than `most`, the oldest
/// go that anybody could begin: a flood of them must not keep people from signing in, who need theirs
/// for seconds only. Returns how many are kept.
pub(crate) async fn put(
    connection: &mut SqliteConnection,
    ceremony: &Ceremony,
    now: u64,
    most: u64,
) -> Result<u64, StoreError> {
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
    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ceremonies").fetch_one(&mut *connection).await?;
    let kept = from_db(kept);
    if kept <= most {
        return Ok(kept);
    }
    let gone = sqlx::query(
        "DELETE FROM ceremonies WHERE rowid IN
         (SELECT rowid FROM ceremonies WHERE user_name IS NULL AND id <> $1 ORDER BY rowid LIMIT $2)",
    )
    .bind(id_hash)
    .bind(to_db(kept - most))
    .execute(connection)
    .await?;
    Ok(kept - gone.rows_affected())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn ceremony(id: &str, user: Option<&str>) -> Ceremony {
        Ceremony {
            id_hash: id.to_owned(),
            kind: "any".to_owned(),
            state: "{}".to_owned(),
            user: user.map(|name| UserName::parse(name).unwrap()),
            invite: None,
            expires: 100,
        }
    }

    #[tokio::test]
    async fn i11_a_flood_of_ceremonies_pushes_out_old_ones_of_strangers_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&dir.path().join("vouchsafe.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        for (id, user) in [("invited", Some("alice")), ("old", None), ("newer", None)] {
            assert!(put(write.connection(), &ceremony(id, user), 1, 3).await.unwrap() <= 3);
        }
        assert_eq!(put(write.connection(), &ceremony("newest", None), 1, 3).await.unwrap(), 3);
        assert!(take(write.connection(), "old", 1).await.unwrap().is_none());
        for id in ["invited", "newer", "newest"] {
            assert!(take(write.connection(), id, 1).await.unwrap().is_some(), "{id}");
        }
        // Where nothing can go, the new one is one too many.
        for id in ["1", "2", "3"] {
            put(write.connection(), &ceremony(id, Some("alice")), 1, 3).await.unwrap();
        }
        assert_eq!(put(write.connection(), &ceremony("4", Some("alice")), 1, 3).await.unwrap(), 4);
        assert_eq!(put(write.connection(), &ceremony("5", None), 1, 3).await.unwrap(), 5);
    }
}
