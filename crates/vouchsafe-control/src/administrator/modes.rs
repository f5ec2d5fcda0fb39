//! Modes of resources: what becomes of a denial there, and the bounds of what passes
//! (`docs/decisions/0017-modes.md`).

use std::time::SystemTime;

use sqlx::SqliteConnection;
use vouchsafe_model::mode::LONGEST_TRIAL;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_model::resource::Resource;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::ModeDoc;
use vouchsafe_wire::resource::{ResourceDoc, TrialDoc};

use super::{AdministratorError, resources};
use crate::context::Context;
use crate::directory::{Actor, users};
use crate::precondition::Precondition;
use crate::store::{self, StoreError, Write};

/// Refuses a trial that would last longer than any may. One that is over is harmless: it enforces.
pub(super) fn within_bounds(resource: &Resource, now: SystemTime) -> Result<(), AdministratorError> {
    let Some((_, trial)) = resource.mode.trial() else { return Ok(()) };
    match trial.until.duration_since(now) {
        Ok(ahead) if ahead > LONGEST_TRIAL => Err(AdministratorError::TrialTime {
            resource: resource.name.to_string(),
            until: TrialDoc::from(trial).until,
            why: "that is more than 90 days ahead",
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses an owner who is no user, where a change names her.
pub(super) async fn owner_exists(
    connection: &mut SqliteConnection,
    before: Option<&ResourceDoc>,
    after: &ResourceDoc,
) -> Result<(), AdministratorError> {
    let owner = |doc: &ResourceDoc| doc.observe.as_ref().map(|trial| trial.owner.clone());
    match owner(after) {
        Some(name) if before.and_then(owner).as_ref() != Some(&name) => {
            Ok(users::exists(connection, &UserName::parse(&name)?).await?)
        }
        Some(_) | None => Ok(()),
    }
}

/// Sets the mode of a resource, and leaves all else about it as it is.
pub(crate) async fn set(
    context: &Context,
    name: &str,
    mode: &ModeDoc,
    expected: &Precondition,
    by: &Actor,
) -> Result<ResourceDoc, AdministratorError> {
    let name = ResourceName::parse(name)?;
    let ModeDoc { mode, observe } = mode;
    let mut write = context.store.write().await?;
    let before = resources::find(write.connection(), &name).await?;
    expected.check(Some(&before))?;
    let doc = ResourceDoc { mode: Some(mode.clone()), observe: observe.clone(), ..before };
    let resource = doc.to_resource()?;
    if let Some((_, trial)) = resource.mode.trial() {
        let refused =
            |why| AdministratorError::TrialTime { resource: name.to_string(), until: TrialDoc::from(trial).until, why };
        if trial.until <= clock::now() {
            return Err(refused("that is over"));
        }
        // By the end that it was given then, it can't begin anew: not by a clock that went back either.
        if store::resources::ended_at(write.connection(), &name).await? == Some(clock::unix_seconds(trial.until)) {
            return Err(refused("a mode with that end has ended already"));
        }
    }
    let doc = resources::checked(&context.settings, &doc)?;
    resources::put_in(&mut write, &doc, by).await?;
    write.commit().await?;
    Ok(doc)
}

/// Ends the modes whose time is over, at most `limit`, for good: gateways ended them by their own clocks already. Says
/// how many.
pub(crate) async fn end_over(write: &mut Write, now: u64, limit: u32) -> Result<u64, StoreError> {
    let ended = store::resources::end_trials(write.connection(), now, limit).await?;
    for name in &ended {
        let detail = "the time of its mode is over: it enforces".to_owned();
        write.audit(Actor::Controller.changed("resource.mode.end", format!("resource/{name}"), detail));
    }
    if !ended.is_empty() {
        write.snapshot_changed();
    }
    Ok(u64::try_from(ended.len()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
