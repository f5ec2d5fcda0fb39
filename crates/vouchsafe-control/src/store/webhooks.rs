//! Rows of webhooks, and of the messages on their way to them.

use sqlx::SqliteConnection;
use vouchsafe_model::name::WebhookName;
use vouchsafe_wire::api::WebhookDoc;

use super::{StoreError, from_db, list_from_db, list_to_db, to_db};

/// Most messages that wait for one webhook; what comes on top of them is counted and dropped.
pub(crate) const MAX_WAITING: u64 = 1_000;

type WebhookRow = (String, String, String, String, i64, Option<String>, Option<i64>, i64, i64, i64);

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) position: u64,
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) created: u64,
    /// How often it was tried.
    pub(crate) attempts: u64,
}

fn doc(row: WebhookRow) -> Result<WebhookDoc, StoreError> {
    let (name, origin, events, by, created, last, last_at, failures, dropped, waiting) = row;
    Ok(WebhookDoc {
        name,
        origin,
        events: list_from_db(&events, "events of a webhook")?,
        by,
        created: from_db(created),
        last,
        last_at: last_at.map(from_db),
        failures: from_db(failures),
        waiting: from_db(waiting),
        dropped: from_db(dropped),
    })
}

/// Adds one.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    webhook: &WebhookDoc,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let WebhookDoc { name, origin, events, by, created, last: _, last_at: _, failures: _, waiting: _, dropped: _ } =
        webhook;
    sqlx::query(
        "INSERT INTO webhooks (name, origin, events, sealed, created_by, created) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(name)
    .bind(origin)
    .bind(list_to_db(events))
    .bind(sealed)
    .bind(by)
    .bind(to_db(*created))
    .execute(connection)
    .await?;
    Ok(())
}

/// All of them, by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<WebhookDoc>, StoreError> {
    let rows: Vec<WebhookRow> = sqlx::query_as(
        "SELECT name, origin, events, created_by, created, last, last_at, failures, dropped,
             (SELECT COUNT(*) FROM webhook_messages WHERE webhook = name) FROM webhooks ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(doc).collect()
}

/// What is sealed of one.
pub(crate) async fn sealed(
    connection: &mut SqliteConnection,
    name: &WebhookName,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sealed = sqlx::query_scalar("SELECT sealed FROM webhooks WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(sealed)
}

/// Removes one with its messages; says whether it was there.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &WebhookName) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM webhooks WHERE name = $1").bind(name.as_str()).execute(connection).await?;
    Ok(removed.rows_affected() == 1)
}

/// Puts a message on its way to each webhook that is told of such; says whether there is any.
pub(crate) async fn enqueue(
    connection: &mut SqliteConnection,
    id: &str,
    event: &str,
    body: &str,
    now: u64,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE webhooks SET dropped = dropped + 1
         WHERE (events = '[]' OR EXISTS (SELECT 1 FROM json_each(webhooks.events) WHERE value = $1))
             AND (SELECT COUNT(*) FROM webhook_messages WHERE webhook = webhooks.name) >= $2",
    )
    .bind(event)
    .bind(to_db(MAX_WAITING))
    .execute(&mut *connection)
    .await?;
    let added = sqlx::query(
        "INSERT INTO webhook_messages (id, webhook, event, body, created, attempts, due)
         SELECT $1, name, $2, $3, $4, 0, 0 FROM webhooks
         WHERE (events = '[]' OR EXISTS (SELECT 1 FROM json_each(webhooks.events) WHERE value = $2))
             AND (SELECT COUNT(*) FROM webhook_messages WHERE webhook = webhooks.name) < $5",
    )
    .bind(id)
    .bind(event)
    .bind(body)
    .bind(to_db(now))
    .bind(to_db(MAX_WAITING))
    .execute(connection)
    .await?;
    Ok(added.rows_affected() > 0)
}

/// Names of the webhooks with a message that is due.
pub(crate) async fn due(connection: &mut SqliteConnection, now: u64) -> Result<Vec<WebhookName>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT webhook FROM webhook_messages WHERE due <= $1")
        .bind(to_db(now))
        .fetch_all(connection)
        .await?;
    let name = |name: String| WebhookName::parse(&name).map_err(|_| StoreError::Corrupt { what: "webhook" });
    names.into_iter().map(name).collect()
}

/// The first message of a webhook that is due: those first that were tried least.
pub(crate) async fn next(
    connection: &mut SqliteConnection,
    name: &WebhookName,
    now: u64,
) -> Result<Option<Message>, StoreError> {
    let row: Option<(i64, String, String, i64, i64)> = sqlx::query_as(
        "SELECT position, id, body, created, attempts FROM webhook_messages WHERE webhook = $1 AND due <= $2
         ORDER BY attempts, position LIMIT 1",
    )
    .bind(name.as_str())
    .bind(to_db(now))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(position, id, body, created, attempts)| Message {
        position: from_db(position),
        id,
        body,
        created: from_db(created),
        attempts: from_db(attempts),
    }))
}

/// Forgets a message.
pub(crate) async fn forget(connection: &mut SqliteConnection, message: &Message) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM webhook_messages WHERE position = $1")
        .bind(to_db(message.position))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that a message was tried in vain, and when it is tried again.
pub(crate) async fn again(connection: &mut SqliteConnection, message: &Message, due: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE webhook_messages SET attempts = attempts + 1, due = $2 WHERE position = $1")
        .bind(to_db(message.position))
        .bind(to_db(due))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes how an attempt went. `given_up` says that its message is dropped.
pub(crate) async fn note(
    connection: &mut SqliteConnection,
    name: &WebhookName,
    outcome: Result<(), &str>,
    given_up: bool,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE webhooks SET last = $2, last_at = $3, failures = CASE WHEN $4 THEN 0 ELSE failures + 1 END,
             dropped = dropped + $5 WHERE name = $1",
    )
    .bind(name.as_str())
    .bind(outcome.err().unwrap_or("delivered"))
    .bind(to_db(now))
    .bind(outcome.is_ok())
    .bind(given_up)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many messages wait.
pub(crate) async fn waiting(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM webhook_messages").fetch_one(connection).await?;
    Ok(from_db(count))
}
