//! Rows of policy versions. The highest is in force; rows are only ever added.

use sqlx::SqliteConnection;
use vouchsafe_policy::PolicyFile;
use vouchsafe_wire::api::{PolicyFileDoc, PolicyVersion};

use super::{StoreError, from_db, to_db};

type VersionRow = (i64, String, String, String, i64, String, String, i64, Option<String>);

/// The version in force, while nobody has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    pub(crate) version: u64,
    /// The version that comes back.
    pub(crate) before: u64,
    /// When it does, unix seconds.
    pub(crate) confirm_by: u64,
}

/// The version that waits to be confirmed, if one does.
pub(crate) async fn unconfirmed(connection: &mut SqliteConnection) -> Result<Option<Unconfirmed>, StoreError> {
    let row: Option<(i64, i64, i64)> =
        sqlx::query_as("SELECT version, before, confirm_by FROM policy_unconfirmed").fetch_optional(connection).await?;
    Ok(row.map(|(version, before, confirm_by)| Unconfirmed {
        version: from_db(version),
        before: from_db(before),
        confirm_by: from_db(confirm_by),
    }))
}

/// Notes that a version waits to be confirmed.
pub(crate) async fn await_confirmation(
    connection: &mut SqliteConnection,
    waits: &Unconfirmed,
) -> Result<(), StoreError> {
    let Unconfirmed { version, before, confirm_by } = waits;
    sqlx::query("INSERT INTO policy_unconfirmed (version, before, confirm_by) VALUES ($1, $2, $3)")
        .bind(to_db(*version))
        .bind(to_db(*before))
        .bind(to_db(*confirm_by))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that nothing waits to be confirmed any more.
pub(crate) async fn settled(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM policy_unconfirmed").execute(connection).await?;
    Ok(())
}

fn version(row: VersionRow, highest: u64, waits: Option<Unconfirmed>) -> Result<PolicyVersion, StoreError> {
    let (version, files, tests, invariants, policies, note, by, created, approved_by) = row;
    let version = from_db(version);
    Ok(PolicyVersion {
        version,
        created: from_db(created),
        by,
        approved_by,
        note,
        current: version == highest,
        confirm_by: waits.filter(|waits| waits.version == version).map(|waits| waits.confirm_by),
        policies: from_db(policies),
        files: serde_json::from_str(&files).map_err(|_| StoreError::Corrupt { what: "policy files" })?,
        tests: serde_json::from_str(&tests).map_err(|_| StoreError::Corrupt { what: "policy tests" })?,
        invariants: serde_json::from_str(&invariants).map_err(|_| StoreError::Corrupt { what: "invariants" })?,
        proofs: Vec::new(),
    })
}

/// Number of the version in force; 0 when there is none yet.
pub(crate) async fn highest(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let highest: i64 =
        sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM policy_versions").fetch_one(connection).await?;
    Ok(from_db(highest))
}

/// One version with its files.
pub(crate) async fn show(connection: &mut SqliteConnection, number: u64) -> Result<Option<PolicyVersion>, StoreError> {
    let highest = highest(connection).await?;
    let waits = unconfirmed(connection).await?;
    let row: Option<VersionRow> = sqlx::query_as(
        "SELECT version, files, tests, invariants, policies, note, created_by, created, approved_by FROM policy_versions
         WHERE version = $1",
    )
    .bind(to_db(number))
    .fetch_optional(connection)
    .await?;
    row.map(|row| version(row, highest, waits)).transpose()
}

/// The version in force with its files.
pub(crate) async fn current(connection: &mut SqliteConnection) -> Result<PolicyVersion, StoreError> {
    let highest = highest(connection).await?;
    show(connection, highest).await?.ok_or(StoreError::Corrupt { what: "policy history" })
}

/// All versions without their files, newest first, at most 1,000.
pub(crate) async fn history(connection: &mut SqliteConnection) -> Result<Vec<PolicyVersion>, StoreError> {
    let highest = highest(connection).await?;
    let waits = unconfirmed(connection).await?;
    let rows: Vec<VersionRow> = sqlx::query_as(
        "SELECT version, '[]', '[]', '[]', policies, note, created_by, created, approved_by FROM policy_versions
         ORDER BY version DESC LIMIT 1000",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| version(row, highest, waits)).collect()
}

/// Adds a version, which is in force with the commit.
pub(crate) async fn insert(connection: &mut SqliteConnection, version: &PolicyVersion) -> Result<(), StoreError> {
    let PolicyVersion { version, created, by, approved_by, note, policies, files, tests, invariants, .. } = version;
    let files = serde_json::to_string(files).map_err(|_| StoreError::Corrupt { what: "policy files" })?;
    let tests = serde_json::to_string(tests).map_err(|_| StoreError::Corrupt { what: "policy tests" })?;
    let invariants = serde_json::to_string(invariants).map_err(|_| StoreError::Corrupt { what: "invariants" })?;
    sqlx::query(
        "INSERT INTO policy_versions (version, files, tests, invariants, policies, note, created_by, created,
             approved_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(to_db(*version))
    .bind(files)
    .bind(tests)
    .bind(invariants)
    .bind(to_db(*policies))
    .bind(note)
    .bind(by)
    .bind(to_db(*created))
    .bind(approved_by)
    .execute(connection)
    .await?;
    Ok(())
}

/// Files as the policy engine takes them.
pub(crate) fn to_engine(files: &[PolicyFileDoc]) -> Vec<PolicyFile> {
    files.iter().map(|PolicyFileDoc { name, text }| PolicyFile { name: name.clone(), text: text.clone() }).collect()
}
