//! Rows of proposals: versions of the policy that wait for a second administrator.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use vouchsafe_model::id::ProposalId;
use vouchsafe_wire::api::{PolicyFileDoc, ProposalDoc, ProposalState};

use super::{StoreError, from_db, list_from_db, list_to_db, to_db};

/// How many of them a list has: all that can be open, and of the others the newest.
const MOST: u32 = 200;

/// A proposal, and the address it came from.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) doc: ProposalDoc,
    pub(crate) from: String,
}

fn kept(row: &SqliteRow) -> Result<Kept, StoreError> {
    let corrupt = StoreError::Corrupt { what: "proposal" };
    let docs = |column| -> Result<Vec<PolicyFileDoc>, StoreError> {
        let text: String = row.try_get(column)?;
        serde_json::from_str(&text).map_err(|_| StoreError::Corrupt { what: "proposal" })
    };
    let number = |column| -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = row.try_get(column)?;
        Ok(number.map(from_db))
    };
    let (protected, state): (String, String) = (row.try_get("protected")?, row.try_get("state")?);
    let base = number("base")?.unwrap_or_default();
    let doc = ProposalDoc {
        proposal: row.try_get("id")?,
        digest: row.try_get("digest")?,
        base,
        stale: number("highest")? != Some(base),
        kind: row.try_get("kind")?,
        protected: list_from_db(&protected, "proposal")?,
        by: row.try_get("created_by")?,
        created: number("created")?.unwrap_or_default(),
        note: row.try_get("note")?,
        open_until: number("open_until")?.unwrap_or_default(),
        confirm_within: number("confirm_within")?,
        state: ProposalState::from_word(&state).ok_or(corrupt)?,
        decided_by: row.try_get("decided_by")?,
        decided: number("decided")?,
        decision: row.try_get("decision")?,
        became: number("became")?,
        files: docs("files")?,
        tests: docs("tests")?,
        invariants: docs("invariants")?,
    };
    Ok(Kept { doc, from: row.try_get("created_from")? })
}

/// Keeps a new one.
pub(crate) async fn insert(connection: &mut SqliteConnection, proposal: &Kept) -> Result<(), StoreError> {
    let Kept { doc, from } = proposal;
    let ProposalDoc {
        proposal,
        digest,
        base,
        stale: _,
        kind,
        protected,
        by,
        created,
        note,
        open_until,
        confirm_within,
        state,
        decided_by,
        decided,
        decision,
        became,
        files,
        tests,
        invariants,
    } = doc;
    let docs =
        |docs: &[PolicyFileDoc]| serde_json::to_string(docs).map_err(|_| StoreError::Corrupt { what: "proposal" });
    sqlx::query(
        "INSERT INTO policy_proposals (id, digest, base, kind, files, tests, invariants, protected, note,
             confirm_within, created_by, created_from, created, open_until, state, decided_by, decided, decision, became)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(proposal)
    .bind(digest)
    .bind(to_db(*base))
    .bind(kind)
    .bind(docs(files)?)
    .bind(docs(tests)?)
    .bind(docs(invariants)?)
    .bind(list_to_db(protected))
    .bind(note)
    .bind(confirm_within.map(to_db))
    .bind(by)
    .bind(from)
    .bind(to_db(*created))
    .bind(to_db(*open_until))
    .bind(state.as_str())
    .bind(decided_by)
    .bind(decided.map(to_db))
    .bind(decision)
    .bind(became.map(to_db))
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes what became of one that is open. It says whether it was.
pub(crate) async fn settle(connection: &mut SqliteConnection, settled: &ProposalDoc) -> Result<bool, StoreError> {
    let ProposalDoc { proposal, state, decided_by, decided, decision, became, .. } = settled;
    let changed = sqlx::query(
        "UPDATE policy_proposals SET state = $2, decided_by = $3, decided = $4, decision = $5, became = $6
         WHERE id = $1 AND state = 'open'",
    )
    .bind(proposal)
    .bind(state.as_str())
    .bind(decided_by)
    .bind(decided.map(to_db))
    .bind(decision)
    .bind(became.map(to_db))
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// One of them, with its files.
pub(crate) async fn show(connection: &mut SqliteConnection, id: &ProposalId) -> Result<Option<Kept>, StoreError> {
    let row = sqlx::query(
        "SELECT *, (SELECT MAX(version) FROM policy_versions) AS highest FROM policy_proposals WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(kept).transpose()
}

/// The open one of that digest, without its files.
pub(crate) async fn open_of(
    connection: &mut SqliteConnection,
    digest: &str,
) -> Result<Option<ProposalDoc>, StoreError> {
    Ok(list(connection).await?.into_iter().find(|doc| doc.state == ProposalState::Open && doc.digest == digest))
}

/// Without their files: open ones first, then the newest.
pub(crate) async fn list(connection: &mut SqliteConnection) -> Result<Vec<ProposalDoc>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, digest, base, kind, '[]' AS files, '[]' AS tests, '[]' AS invariants, protected, note, confirm_within,
             created_by, created_from, created, open_until, state, decided_by, decided, decision, became,
             (SELECT MAX(version) FROM policy_versions) AS highest
         FROM policy_proposals ORDER BY state != 'open', created DESC, id LIMIT $1",
    )
    .bind(MOST)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(kept(row)?.doc)).collect()
}

/// How many are open.
pub(crate) async fn count_open(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM policy_proposals WHERE state = 'open'").fetch_one(connection).await?;
    Ok(from_db(count))
}

/// Open ones whose time is over, without their files; at most `limit`.
pub(crate) async fn over(
    connection: &mut SqliteConnection,
    now: u64,
    limit: usize,
) -> Result<Vec<ProposalDoc>, StoreError> {
    let mut found = list(connection).await?;
    found.retain(|doc| doc.state == ProposalState::Open && doc.open_until <= now);
    found.truncate(limit);
    Ok(found)
}

/// Forgets those that were settled before then, at most `limit`; the audit log and the versions tell of them.
pub(crate) async fn forget_settled(
    connection: &mut SqliteConnection,
    before: u64,
    limit: u32,
) -> Result<u64, StoreError> {
    let forgotten = sqlx::query(
        "DELETE FROM policy_proposals WHERE id IN
         (SELECT id FROM policy_proposals WHERE state != 'open' AND decided <= $1 LIMIT $2)",
    )
    .bind(to_db(before))
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected())
}
