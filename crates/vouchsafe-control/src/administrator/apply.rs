//! Carries out a plan that was shown, in one transaction.

use vouchsafe_wire::api::{Apply, Manifest, Plan, Published};

use super::plan::{Step, draft};
use super::policy::{Kind, Wanted};
use super::{AdministratorError, policy, proofs, resources, standing};
use crate::context::Context;
use crate::directory::{Actor, groups};
use crate::store;

/// What an apply would do.
pub(crate) async fn plan(context: &Context, manifest: &Manifest) -> Result<Plan, AdministratorError> {
    let mut read = context.store.read().await?;
    Ok(draft(&mut read, &context.settings, manifest).await?.plan)
}

/// Brings the state to what the manifest wants: all of it or, when any part is refused, nothing.
pub(crate) async fn apply(context: &Context, apply: &Apply, by: &Actor) -> Result<Plan, AdministratorError> {
    let Apply { manifest, digest } = apply;
    let proven = proven(context, apply).await?;
    let mut write = context.store.write().await?;
    standing::still_may(context, &mut write, by, "POST /v1/apply").await?;
    let draft = draft(write.connection(), &context.settings, manifest).await?;
    if draft.plan.digest != *digest {
        return Err(AdministratorError::PlanMoved);
    }
    for step in draft.steps {
        match step {
            Step::AddGroup(name) => groups::add_in(&mut write, &name, by).await?,
            Step::SetMember(group, user, membership) => {
                groups::set_member_in(&mut write, &group, &user, membership, by).await?;
            }
            Step::PutResource(doc) => resources::put_in(&mut write, &doc, by).await?,
            Step::RemoveResource(name) => resources::remove_in(&mut write, &name, by).await?,
            Step::RemoveGroup(name) => groups::remove_in(&mut write, &name, by).await?,
            Step::Publish { files, tests, invariants } => {
                let (files, tests, invariants) = (&files, tests.as_deref(), invariants.as_deref());
                // Two plans of the same digest publish the same.
                let proven = proven.as_ref().ok_or(AdministratorError::PlanMoved)?;
                let (note, kind) = ("applied from a manifest", Kind::Publish);
                let (confirm_within, proposal) = (None, None);
                let wanted = Wanted { files, tests, invariants, note, kind, confirm_within, proven, proposal };
                match policy::publish_in(&mut write, &wanted, by).await? {
                    Published::InForce(_) => {}
                    // All of it or nothing: the rest must not go ahead of a policy that waits.
                    Published::Waits(held) => {
                        return Err(AdministratorError::TwoPeople { protected: held.protected });
                    }
                }
            }
        }
    }
    write.commit().await?;
    Ok(draft.plan)
}

/// Proves what must hold of the policy that the plan publishes, if it does, before the writer is taken.
async fn proven(context: &Context, apply: &Apply) -> Result<Option<proofs::Proven>, AdministratorError> {
    let mut read = context.store.read().await?;
    let draft = draft(&mut read, &context.settings, &apply.manifest).await?;
    if draft.plan.digest != apply.digest {
        return Err(AdministratorError::PlanMoved);
    }
    let publish = draft.steps.into_iter().find_map(|step| match step {
        Step::Publish { files, tests: _, invariants } => Some((files, invariants)),
        _ => None,
    });
    let Some((files, invariants)) = publish else { return Ok(None) };
    let invariants = match invariants {
        Some(invariants) => invariants,
        None => store::policy::current(&mut read).await?.invariants,
    };
    drop(read);
    proofs::prove(context, &files, &invariants, None).await.map(Some)
}
