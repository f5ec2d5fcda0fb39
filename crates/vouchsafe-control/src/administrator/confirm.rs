//! A version that goes back by itself unless somebody confirms it: whoever locks herself out by it, or
//! breaks what she can't see from where she is, has only to wait.

use vouchsafe_runtime::clock;
use vouchsafe_wire::api::PolicyVersion;

use super::{AdministratorError, gate, policy as versions};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::policy::{self, Unconfirmed};

/// Seconds within which a version may have to be confirmed.
pub(crate) const WITHIN: std::ops::RangeInclusive<u64> = 30..=86_400;

/// Confirms the version in force. One that needn't be confirmed stays as it is.
pub(crate) async fn confirm(context: &Context, number: u64, by: &Actor) -> Result<PolicyVersion, AdministratorError> {
    let mut write = context.store.write().await?;
    let current = policy::highest(write.connection()).await?;
    if number != current {
        return Err(AdministratorError::VersionMoved { expected: number, current });
    }
    if policy::unconfirmed(write.connection()).await?.is_some() {
        policy::settled(write.connection()).await?;
        let mut record = by.changed("policy.confirm", format!("policy/{number}"), String::new());
        record.policy_version = Some(number);
        write.audit(record);
    }
    let version = versions::show(write.connection(), number).await?;
    write.commit().await?;
    Ok(version)
}

/// Brings the version before back, if the one in force wasn't confirmed in time; `now` in unix seconds.
///
/// Its tests aren't run, nor is it asked who could still administer under it: it was in force before, and what came
/// after it is what nobody stood up for.
pub(crate) async fn overdue(context: &Context, now: u64) -> Result<Option<u64>, AdministratorError> {
    // Looked at without taking the writer: nearly always there is nothing.
    let is_due = |waits: &Unconfirmed| waits.confirm_by <= now;
    if policy::unconfirmed(&mut *context.store.read().await?).await?.filter(is_due).is_none() {
        return Ok(None);
    }
    let mut write = context.store.write().await?;
    let Some(waits) = policy::unconfirmed(write.connection()).await?.filter(is_due) else { return Ok(None) };
    let Unconfirmed { version, before, confirm_by: _ } = waits;
    let earlier = versions::show(write.connection(), before).await?;
    let number = policy::highest(write.connection()).await?.saturating_add(1);
    let engine = gate::compile(write.connection(), policy::to_engine(&earlier.files), number).await?;
    let note = format!("version {version} was not confirmed in time: back to version {before}");
    let back = PolicyVersion {
        version: number,
        created: clock::unix_seconds(clock::now()),
        by: Actor::Controller.label(),
        approved_by: None,
        note: note.clone(),
        current: true,
        confirm_by: None,
        policies: u64::try_from(engine.policies().len()).unwrap_or(u64::MAX),
        ..earlier
    };
    policy::settled(write.connection()).await?;
    policy::insert(write.connection(), &back).await?;
    write.snapshot_changed();
    let mut record = Actor::Controller.changed("policy.rollback", format!("policy/{number}"), note);
    record.policy_version = Some(number);
    write.audit(record);
    write.commit().await?;
    tracing::warn!(version, before, "a policy was not confirmed in time, so the one before it is in force again");
    Ok(Some(number))
}
