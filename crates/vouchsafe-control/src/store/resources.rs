//! Rows of resources.

use std::collections::HashMap;
use std::time::SystemTime;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteQueryResult;
use vouchsafe_model::mode::{Mode, Trial};
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::LockKind;
use vouchsafe_wire::resource::ResourceDoc;

use super::{StoreError, from_db, locks, to_db};

fn doc(text: &str) -> Result<ResourceDoc, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what: "resource" })
}

/// One resource.
pub(crate) async fn show(
    connection: &mut SqliteConnection,
    name: &ResourceName,
) -> Result<Option<ResourceDoc>, StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT doc FROM resources WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    text.as_deref().map(doc).transpose()
}

/// All resources by name.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<ResourceDoc>, StoreError> {
    page(connection, "", u32::MAX).await
}

/// Resources behind a name, at most `limit`.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<ResourceDoc>, StoreError> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT doc FROM resources WHERE name > $1 ORDER BY name LIMIT $2")
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|text| doc(text)).collect()
}

/// All resources as the policy engine takes them: a locked one is none, to everybody, and one enforces whose trial
/// isn't known to run.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Resource>, StoreError> {
    let mut docs = list(connection).await?;
    let locks = locks::list(connection).await?;
    docs.retain(|doc| !locks.iter().any(|lock| lock.kind == LockKind::Resource && lock.name == doc.name));
    let running = running(connection).await?;
    let read = |doc: &ResourceDoc| -> Result<Resource, StoreError> {
        let mut resource = doc.to_resource().map_err(|_| StoreError::Corrupt { what: "resource" })?;
        let runs = |trial: &Trial| running.get(&doc.name) == Some(&seconds(trial));
        if resource.mode.trial().is_some_and(|(_, trial)| !runs(trial)) {
            resource.mode = Mode::Enforce;
        }
        Ok(resource)
    };
    docs.iter().map(read).collect()
}

fn seconds(trial: &Trial) -> i64 {
    to_db(trial.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Resources whose trial hasn't ended, with its end.
async fn running(connection: &mut SqliteConnection) -> Result<HashMap<String, i64>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT resource, until FROM trials WHERE ended = 0").fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Ends the trials that are over by then, at most `limit`; gives the names of their resources.
pub(crate) async fn end_trials(
    connection: &mut SqliteConnection,
    now: u64,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "UPDATE trials SET ended = 1 WHERE resource IN
             (SELECT resource FROM trials WHERE ended = 0 AND until <= $1 ORDER BY resource LIMIT $2)
         RETURNING resource",
    )
    .bind(to_db(now))
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// Since when a resource's trial runs, in unix seconds; `None` when it has none, or it has ended.
pub(crate) async fn running_since(
    connection: &mut SqliteConnection,
    name: &ResourceName,
) -> Result<Option<u64>, StoreError> {
    let begun: Option<i64> = sqlx::query_scalar("SELECT begun FROM trials WHERE resource = $1 AND ended = 0")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(begun.map(from_db))
}

/// The end of a resource's trial, in unix seconds, where it has ended for good.
pub(crate) async fn ended_at(
    connection: &mut SqliteConnection,
    name: &ResourceName,
) -> Result<Option<u64>, StoreError> {
    let until: Option<i64> = sqlx::query_scalar("SELECT until FROM trials WHERE resource = $1 AND ended = 1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(until.map(from_db))
}

/// Writes a resource in the place of the one of the same name.
pub(crate) async fn put(connection: &mut SqliteConnection, doc: &ResourceDoc) -> Result<(), StoreError> {
    let text = serde_json::to_string(doc).map_err(|_| StoreError::Corrupt { what: "resource" })?;
    sqlx::query(
        "INSERT INTO resources (name, doc) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET doc = excluded.doc",
    )
    .bind(&doc.name)
    .bind(text)
    .execute(&mut *connection)
    .await?;
    let resource = doc.to_resource().map_err(|_| StoreError::Corrupt { what: "resource" })?;
    match resource.mode.trial() {
        None => forget_trial(connection, &doc.name).await?,
        // One that has ended goes on only with another end, which somebody has to set.
        Some((_, trial)) => {
            sqlx::query(
                "INSERT INTO trials (resource, until, begun) VALUES ($1, $2, $3) ON CONFLICT (resource) DO UPDATE SET
                     begun = CASE WHEN ended = 0 OR until = excluded.until THEN begun ELSE excluded.begun END,
                     ended = CASE WHEN until = excluded.until THEN ended ELSE 0 END, until = excluded.until",
            )
            .bind(&doc.name)
            .bind(seconds(trial))
            .bind(to_db(clock::unix_seconds(clock::now())))
            .execute(connection)
            .await?
        }
    };
    Ok(())
}

/// Forgets a trial that somebody took back. One that has ended stays known, so that it can't begin anew by the same
/// end and a clock that went back.
async fn forget_trial(connection: &mut SqliteConnection, name: &str) -> Result<SqliteQueryResult, StoreError> {
    let forget = sqlx::query("DELETE FROM trials WHERE resource = $1 AND ended = 0 AND until > $2");
    let now = to_db(clock::unix_seconds(clock::now()));
    let forgotten = forget.bind(name).bind(now).execute(&mut *connection).await?;
    sqlx::query("UPDATE trials SET ended = 1 WHERE resource = $1").bind(name).execute(connection).await?;
    Ok(forgotten)
}

/// Removes a resource.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &ResourceName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM trials WHERE resource = $1").bind(name.as_str()).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM resources WHERE name = $1").bind(name.as_str()).execute(connection).await?;
    Ok(())
}

/// How many resources there are.
pub(crate) async fn count(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM resources").fetch_one(connection).await?;
    Ok(from_db(count))
}
