//! What people really did: accesses that went on, counted from the audit log.

use std::collections::BTreeMap;

use vouchsafe_model::name::ResourceName;
use vouchsafe_wire::api::{Used, UsesQuery};

use crate::audit::{self, AuditError, USES_FOR};
use crate::context::Context;
use crate::directory::Actor;

/// How far back is looked.
pub(super) const DAYS: u64 = USES_FOR / 86_400;

/// What was used.
#[derive(Debug, Clone, Default)]
pub(super) struct Accesses {
    /// By names of user and resource.
    pub(super) used: BTreeMap<(String, String), Used>,
    /// Whether every pair is told.
    pub(super) whole: bool,
}

impl Accesses {
    pub(super) fn of(&self, user: &str, resource: &str) -> Option<&Used> {
        self.used.get(&(user.to_owned(), resource.to_owned()))
    }
}

/// Counts accesses of the last [`DAYS`], but for those to the console and the API: whoever looks at a page would see
/// little else.
pub(super) async fn count(context: &Context, query: UsesQuery, by: &Actor) -> Result<Accesses, AuditError> {
    let (used, whole) = audit::all_uses(context, &query, by).await?;
    let others = used.into_iter().filter(|used| used.resource != ResourceName::console().as_str());
    let used = others.map(|used| ((used.user.clone(), used.resource.clone()), used)).collect();
    Ok(Accesses { used, whole })
}
