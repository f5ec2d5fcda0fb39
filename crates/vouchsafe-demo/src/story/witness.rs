//! What the audit log says of a request: the demo believes neither its own eyes nor the answer alone.

use std::time::Duration;

use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use crate::admin::{Admin, AdminError};

/// Longest wait for a record to reach the controller: gateways deliver within 100 ms.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);
/// After the first record of a request, a second one would come within this time.
const SECOND_RECORD: Duration = Duration::from_millis(150);
/// Requests of one step that end up in the log before it is looked at; a page of the log holds more.
const PAGE: u32 = 100;

/// Reads the audit log for one resource.
pub(super) struct Witness<'w> {
    admin: &'w Admin,
    resource: &'w str,
    /// Source and number of the newest decision before the request.
    mark: Option<(String, u64)>,
}

impl<'w> Witness<'w> {
    /// Waits until the log is at rest for that resource, and remembers where it stands.
    pub(super) async fn before(admin: &'w Admin, resource: &'w str) -> Result<Self, AdminError> {
        let mut witness = Self { admin, resource, mark: None };
        let mut waited = Duration::ZERO;
        loop {
            let newest = witness.decisions(1).await?.into_iter().next().map(key);
            let at_rest = newest == witness.mark && waited > Duration::ZERO;
            witness.mark = newest;
            if at_rest || waited >= RECORD_TIMEOUT {
                return Ok(witness);
            }
            tokio::time::sleep(SECOND_RECORD).await;
            waited += SECOND_RECORD;
        }
    }

    /// Decisions on the resource since then, oldest first; waits for the first.
    pub(super) async fn after(&self) -> Result<Vec<Record>, AdminError> {
        let mut waited = Duration::ZERO;
        while self.since().await?.is_empty() && waited < RECORD_TIMEOUT {
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        tokio::time::sleep(SECOND_RECORD).await;
        let mut records = self.since().await?;
        records.reverse();
        Ok(records)
    }

    /// How many decisions the log holds under that id.
    pub(super) async fn count(&self, id: &str) -> Result<usize, AdminError> {
        let query = AuditQuery { id: Some(id.to_owned()), limit: Some(PAGE), ..AuditQuery::default() };
        let page = self.admin.audit(&query).await?;
        Ok(page.records.iter().filter(|record| record.kind == Kind::Decision).count())
    }

    async fn since(&self) -> Result<Vec<Record>, AdminError> {
        let records = self.decisions(PAGE).await?;
        Ok(records.into_iter().take_while(|record| Some(key(record.clone())) != self.mark).collect())
    }

    async fn decisions(&self, limit: u32) -> Result<Vec<Record>, AdminError> {
        let query = AuditQuery {
            resource: Some(self.resource.to_owned()),
            kind: Some(Kind::Decision.as_str().to_owned()),
            limit: Some(limit),
            ..AuditQuery::default()
        };
        Ok(self.admin.audit(&query).await?.records)
    }
}

fn key(record: Record) -> (String, u64) {
    (record.source, record.seq)
}
