//! The newest look at a host, which `vouchsafe assess` made: kept whole, in the place of the one before.

use sqlx::SqliteConnection;
use vouchsafe_wire::api::AssessmentDoc;

use super::AdministratorError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{StoreError, settings};

/// Largest one, bytes of JSON.
const MAX_BYTES: usize = 512 * 1024;
/// Most findings, drafts and pillars.
const MOST: usize = 500;

/// Keeps a look at a host.
pub(crate) async fn put(
    context: &Context,
    doc: &AssessmentDoc,
    by: &Actor,
) -> Result<AssessmentDoc, AdministratorError> {
    let AssessmentDoc { findings, drafts, pillars, host, .. } = doc;
    for (member, count) in [("findings", findings.len()), ("drafts", drafts.len()), ("pillars", pillars.len())] {
        if count > MOST {
            return Err(AdministratorError::Value { member, given: count.to_string(), expected: "500 at most" });
        }
    }
    let known = ["critical", "high", "medium", "low", "info"];
    if let Some(other) = findings.iter().find(|finding| !known.contains(&finding.severity.as_str())) {
        let given = super::shortened(&other.severity);
        return Err(AdministratorError::Value {
            member: "severity",
            given,
            expected: "critical, high, medium, low or info",
        });
    }
    let text = serde_json::to_string(doc).map_err(|_| StoreError::Corrupt { what: "assessment" })?;
    if text.len() > MAX_BYTES {
        let given = format!("{} bytes", text.len());
        return Err(AdministratorError::Value { member: "assessment", given, expected: "512 KiB at most" });
    }
    let mut write = context.store.write().await?;
    settings::put(write.connection(), settings::ASSESSMENT, &text).await?;
    let host = host.as_deref().map_or_else(|| "a host".to_owned(), super::shortened);
    let detail = format!("a look at {host}: {} findings, {} drafts", findings.len(), drafts.len());
    write.audit(by.changed("assessment.put", "assessment".to_owned(), detail));
    write.commit().await?;
    Ok(doc.clone())
}

/// The newest look, where there was one.
pub(crate) async fn newest(connection: &mut SqliteConnection) -> Result<Option<AssessmentDoc>, AdministratorError> {
    let Some(text) = settings::read(connection, settings::ASSESSMENT).await? else { return Ok(None) };
    let doc = serde_json::from_str(&text).map_err(|_| StoreError::Corrupt { what: "assessment" })?;
    Ok(Some(doc))
}

/// The newest look.
pub(crate) async fn show(connection: &mut SqliteConnection) -> Result<AssessmentDoc, AdministratorError> {
    let missing = || AdministratorError::Missing { what: "assessment", name: "newest".to_owned() };
    newest(connection).await?.ok_or_else(missing)
}
