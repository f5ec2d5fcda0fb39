//! Carries out a plan that was shown, in one transaction.

use vouchsafe_wire::api::{Apply, Manifest, Plan};

use super::plan::{Step, draft};
use super::policy::Wanted;
use super::{AdministratorError, policy, resources};
use crate::context::Context;
use crate::directory::{Actor, groups};

/// What an apply would do.
pub(crate) async fn plan(context: &Context, manifest: &Manifest) -> Result<Plan, AdministratorError> {
    let mut read = context.store.read().await?;
    Ok(draft(&mut read, &context.settings, manifest).await?.plan)
}

/// Brings the state to what the manifest wants: all of it or, when any part is refused, nothing.
pub(crate) async fn apply(context: &Context, apply: &Apply, by: &Actor) -> Result<Plan, AdministratorError> {
    let Apply { manifest, digest } = apply;
    let mut write = context.store.write().await?;
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
            Step::Publish { files, tests } => {
                let (files, tests) = (&files, tests.as_deref());
                let wanted = Wanted { files, tests, note: "applied from a manifest", verb: "policy.publish" };
                policy::publish_in(&mut write, &wanted, by).await?;
            }
        }
    }
    write.commit().await?;
    Ok(draft.plan)
}
