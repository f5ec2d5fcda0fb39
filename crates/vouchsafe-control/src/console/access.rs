//! What people really did: accesses that went on, counted from the audit log.

use std::collections::BTreeMap;

use vouchsafe_runtime::clock;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use super::figures::is_consoles_own;
use crate::audit::{self, AuditError};
use crate::context::Context;
use crate::directory::Actor;

/// How far back is looked.
pub(super) const DAYS: u64 = 30;
/// Most records that are looked at: of more, the latest.
const MOST_RECORDS: u64 = 40_000;
/// Most pairs of people and resources that are told apart.
const MOST_PAIRS: usize = 50_000;

/// Accesses of one person to one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) count: u64,
    /// How many of them were denied, and passed by a mode.
    pub(super) passed: u64,
    /// Unix seconds.
    pub(super) last: u64,
}

/// What was used.
#[derive(Debug, Clone, Default)]
pub(super) struct Accesses {
    /// By names of user and resource.
    pub(super) used: BTreeMap<(String, String), Used>,
    /// Whether all of the time was looked at.
    pub(super) whole: bool,
}

impl Accesses {
    pub(super) fn of(&self, user: &str, resource: &str) -> Option<&Used> {
        self.used.get(&(user.to_owned(), resource.to_owned()))
    }

    fn add(&mut self, record: &Record) {
        let passed = match (record.outcome.as_deref(), &record.passed) {
            (Some("allow"), _) => 0,
            (Some("deny"), Some(_)) => 1,
            (Some(_) | None, _) => return,
        };
        let (Some(user), Some(resource)) = (&record.user, &record.resource) else { return };
        if is_consoles_own(record) {
            return;
        }
        let pair = (user.clone(), resource.clone());
        if self.used.len() >= MOST_PAIRS && !self.used.contains_key(&pair) {
            self.whole = false;
            return;
        }
        let used = self.used.entry(pair).or_default();
        used.count += 1;
        used.passed += passed;
        used.last = used.last.max(record.time_us / 1_000_000);
    }
}

/// Counts accesses that match.
pub(super) async fn count(context: &Context, matching: AuditQuery, by: &Actor) -> Result<Accesses, AuditError> {
    let since = clock::unix_seconds(clock::now()).saturating_sub(DAYS * 86_400);
    let query = AuditQuery { kind: Some(Kind::Decision.as_str().to_owned()), since: Some(since), ..matching };
    let mut found = Accesses { whole: true, ..Accesses::default() };
    let whole = audit::fold(context, &query, MOST_RECORDS, "audit.count", by, |record| found.add(&record)).await?;
    found.whole &= whole;
    Ok(found)
}
