//! Templates that an organisation writes into its policy: what grants are made from besides the built-in one.

use aws_lc_rs::digest;
use sqlx::SqliteConnection;
use vouchsafe_model::name::{PolicyName, ResourceName};
use vouchsafe_policy::TemplateListing;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AskedTemplate, RequestDoc, RequestState, TemplateDoc};
use vouchsafe_wire::ticket::hex;

use super::{AdministratorError, resources};
use crate::context::Context;
use crate::store::{StoreError, Write, grants};

/// A template of the policy in force.
pub(super) struct Found(TemplateListing);

/// The template of that name, of the policy that is in force at this change: no publish comes between.
pub(super) async fn find(context: &Context, write: &mut Write, name: &PolicyName) -> Result<Found, AdministratorError> {
    let engine = context.live.engine(write.connection()).await?;
    let missing = || AdministratorError::Missing { what: "template", name: name.to_string() };
    engine.template(name).map(Found).ok_or_else(missing)
}

impl Found {
    /// What it is bound by.
    pub(super) fn digest(&self) -> String {
        digest_of(&self.0.text)
    }

    /// Whether something can be made from it for that resource.
    pub(super) async fn fits(&self, write: &mut Write, resource: &ResourceName) -> Result<(), AdministratorError> {
        let found = resources::find(write.connection(), resource).await?;
        let kind = found.to_resource()?.spec.kind();
        if self.0.actions.iter().any(|action| kind.actions().contains(action)) {
            return Ok(());
        }
        Err(AdministratorError::TemplateKind {
            template: self.0.id.to_string(),
            resource: resource.to_string(),
            kind: kind.to_string(),
        })
    }
}

fn digest_of(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn words(template: &TemplateListing) -> Vec<String> {
    template.actions.iter().map(ToString::to_string).collect()
}

/// All templates of the policy in force.
pub(crate) async fn list(context: &Context) -> Result<Vec<TemplateDoc>, AdministratorError> {
    let mut read = context.store.read().await?;
    let engine = context.live.engine(&mut read).await?;
    let grants = grants::list(&mut read, clock::unix_seconds(clock::now())).await?;
    let doc = |template: TemplateListing| {
        let (actions, digest) = (words(&template), digest_of(&template.text));
        let TemplateListing { id, file, reason, owner, expires, actions: _, text } = template;
        let of = grants.iter().filter(|grant| grant.template.as_deref() == Some(id.as_str())).count();
        let (name, grants) = (id.to_string(), u64::try_from(of).unwrap_or(u64::MAX));
        TemplateDoc { name, file, reason, owner, expires, actions, text, digest, grants }
    };
    Ok(engine.templates().into_iter().map(doc).collect())
}

/// Tells of the open ones among these requests what their templates permit, where they are what was asked for.
pub(super) async fn tell(
    context: &Context,
    read: &mut SqliteConnection,
    requests: &mut [RequestDoc],
) -> Result<(), AdministratorError> {
    let open = requests.iter_mut().filter(|request| request.state == RequestState::Open);
    let asked: Vec<&mut AskedTemplate> = open.filter_map(|request| request.template.as_mut()).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let engine = context.live.engine(read).await?;
    for one in asked {
        let name: PolicyName = one.name.parse().map_err(|_| StoreError::Corrupt { what: "name of a template" })?;
        let now = engine.template(&name).filter(|template| digest_of(&template.text) == one.digest);
        one.stands = now.is_some();
        if let Some(template) = now {
            (one.actions, one.text) = (words(&template), template.text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
