//! One-time codes: by each of them a person registers a passkey, or a device, gateway or connector joins. Only their
//! hashes are kept.

use sqlx::SqliteConnection;
use vouchsafe_model::name::{GatewayName, SiteName, UserName};

use super::{StoreError, from_db, list_from_db, list_to_db, parsed, to_db};

/// What an invitation says about who will use it.
pub(crate) trait Invite: Sized {
    /// Column `kind`.
    const KIND: &str;

    /// Columns `name` and `tags`.
    fn columns(&self) -> (Option<&str>, &[String]);

    /// Reads the columns back.
    fn of_columns(name: Option<String>, tags: Vec<String>) -> Result<Self, StoreError>;
}

/// A link with which that person registers a passkey.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PersonInvite(pub(crate) UserName);

/// A ticket with which one device enrols.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeviceInvite {
    pub(crate) owner: Option<UserName>,
    pub(crate) tags: Vec<String>,
}

/// A code with which one gateway joins under that name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GatewayInvite(pub(crate) GatewayName);

/// A code with which one connector joins for that site.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConnectorInvite(pub(crate) SiteName);

impl Invite for PersonInvite {
    const KIND: &str = "person";

    fn columns(&self) -> (Option<&str>, &[String]) {
        (Some(self.0.as_str()), &[])
    }

    fn of_columns(name: Option<String>, _: Vec<String>) -> Result<Self, StoreError> {
        parsed(&name.unwrap_or_default(), "user name").map(Self)
    }
}

impl Invite for DeviceInvite {
    const KIND: &str = "device";

    fn columns(&self) -> (Option<&str>, &[String]) {
        (self.owner.as_ref().map(UserName::as_str), &self.tags)
    }

    fn of_columns(owner: Option<String>, tags: Vec<String>) -> Result<Self, StoreError> {
        Ok(Self { owner: owner.map(|owner| parsed(&owner, "user name")).transpose()?, tags })
    }
}

impl Invite for GatewayInvite {
    const KIND: &str = "gateway";

    fn columns(&self) -> (Option<&str>, &[String]) {
        (Some(self.0.as_str()), &[])
    }

    fn of_columns(name: Option<String>, _: Vec<String>) -> Result<Self, StoreError> {
        parsed(&name.unwrap_or_default(), "gateway name").map(Self)
    }
}

impl Invite for ConnectorInvite {
    const KIND: &str = "connector";

    fn columns(&self) -> (Option<&str>, &[String]) {
        (Some(self.0.as_str()), &[])
    }

    fn of_columns(name: Option<String>, _: Vec<String>) -> Result<Self, StoreError> {
        parsed(&name.unwrap_or_default(), "site name").map(Self)
    }
}

/// Keeps an invitation; times are unix seconds.
pub(crate) async fn insert<I: Invite>(
    connection: &mut SqliteConnection,
    code_hash: &str,
    invite: &I,
    by: &str,
    now: u64,
    expires: u64,
) -> Result<(), StoreError> {
    let (name, tags) = invite.columns();
    sqlx::query("DELETE FROM invites WHERE expires <= $1").bind(to_db(now)).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO invites (code_hash, kind, name, tags, created_by, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(code_hash)
    .bind(I::KIND)
    .bind(name)
    .bind(list_to_db(tags))
    .bind(by)
    .bind(to_db(now))
    .bind(to_db(expires))
    .execute(connection)
    .await?;
    Ok(())
}

/// What an invitation says, while it is good. It stays.
pub(crate) async fn find<I: Invite>(
    connection: &mut SqliteConnection,
    code_hash: &str,
    now: u64,
) -> Result<Option<I>, StoreError> {
    let row = sqlx::query_as("SELECT name, tags FROM invites WHERE kind = $1 AND code_hash = $2 AND expires > $3")
        .bind(I::KIND)
        .bind(code_hash)
        .bind(to_db(now))
        .fetch_optional(connection)
        .await?;
    read(row)
}

/// Takes an invitation out; `None` when it is not, or no longer, good.
pub(crate) async fn take<I: Invite>(
    connection: &mut SqliteConnection,
    code_hash: &str,
    now: u64,
) -> Result<Option<I>, StoreError> {
    let row =
        sqlx::query_as("DELETE FROM invites WHERE kind = $1 AND code_hash = $2 AND expires > $3 RETURNING name, tags")
            .bind(I::KIND)
            .bind(code_hash)
            .bind(to_db(now))
            .fetch_optional(connection)
            .await?;
    read(row)
}

fn read<I: Invite>(row: Option<(Option<String>, String)>) -> Result<Option<I>, StoreError> {
    let Some((name, tags)) = row else { return Ok(None) };
    I::of_columns(name, list_from_db(&tags, "tags of an invitation")?).map(Some)
}

/// Removes the links of a person.
pub(crate) async fn remove_links(connection: &mut SqliteConnection, user: &UserName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM invites WHERE kind = $1 AND name = $2")
        .bind(PersonInvite::KIND)
        .bind(user.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// End of a person's link; `None` when there is none.
pub(crate) async fn link_expires(
    connection: &mut SqliteConnection,
    user: &UserName,
) -> Result<Option<u64>, StoreError> {
    let expires: Option<i64> = sqlx::query_scalar("SELECT MAX(expires) FROM invites WHERE kind = $1 AND name = $2")
        .bind(PersonInvite::KIND)
        .bind(user.as_str())
        .fetch_one(connection)
        .await?;
    Ok(expires.map(from_db))
}
