//! Grants: one user's right to one resource, until a time.

use vouchsafe_model::id::GrantId;
use vouchsafe_model::name::{PolicyName, ResourceName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{GrantDoc, NewGrant};

use super::{AdministratorError, one_line, resources, templates};
use crate::context::Context;
use crate::directory::{Actor, users};
use crate::store::{Write, grants};

/// Longest grant that ends by itself: a year.
const MAX_SECONDS: u64 = 31_536_000;

/// Gives a grant.
pub(crate) async fn add(context: &Context, new: &NewGrant, by: &Actor) -> Result<GrantDoc, AdministratorError> {
    let NewGrant { user, resource, seconds, reason, template } = new;
    let (user, resource) = (UserName::parse(user)?, ResourceName::parse(resource)?);
    if let Some(seconds) = seconds.filter(|seconds| !(60..=MAX_SECONDS).contains(seconds)) {
        let given = seconds.to_string();
        let expected = "60 to 31536000 (a year), or absent for a grant that lasts until it is removed";
        return Err(AdministratorError::Value { member: "seconds", given, expected });
    }
    one_line("reason", reason)?;
    let template = template.as_deref().map(PolicyName::parse).transpose()?;
    let mut write = context.store.write().await?;
    if let Some(template) = &template {
        templates::find(context, &mut write, template).await?.fits(&mut write, &resource).await?;
    }
    let given = Given { user: &user, resource: &resource, seconds: *seconds, reason, template: template.as_ref() };
    let grant = give(&mut write, &given, by).await?;
    write.commit().await?;
    Ok(grant)
}

/// What is given.
pub(super) struct Given<'g> {
    pub(super) user: &'g UserName,
    pub(super) resource: &'g ResourceName,
    /// For how long; `None` until somebody removes it.
    pub(super) seconds: Option<u64>,
    pub(super) reason: &'g str,
    /// Template of the policy in force, which was found there in this change; `None` for the built-in one.
    pub(super) template: Option<&'g PolicyName>,
}

/// Gives it, within a change.
pub(super) async fn give(write: &mut Write, given: &Given<'_>, by: &Actor) -> Result<GrantDoc, AdministratorError> {
    let Given { user, resource, seconds, reason, template } = given;
    users::enabled(write.connection(), user).await?;
    resources::find(write.connection(), resource).await?;
    let now = clock::unix_seconds(clock::now());
    let grant = GrantDoc {
        id: GrantId::from_random(clock::random()).to_string(),
        user: user.to_string(),
        resource: resource.to_string(),
        expires: seconds.map(|seconds| now.saturating_add(seconds)),
        reason: (*reason).to_owned(),
        template: template.map(ToString::to_string),
        by: by.label(),
        created: now,
    };
    grants::insert(write.connection(), &grant).await?;
    write.snapshot_changed();
    write.audit(by.changed("grant.add", format!("grant/{}", grant.id), described(&grant)));
    Ok(grant)
}

/// Takes a grant back.
pub(crate) async fn remove(context: &Context, id: &str, by: &Actor) -> Result<(), AdministratorError> {
    let id: GrantId = id.parse()?;
    let mut write = context.store.write().await?;
    let grant = grants::show(write.connection(), &id)
        .await?
        .ok_or_else(|| AdministratorError::Missing { what: "grant", name: id.to_string() })?;
    grants::remove(write.connection(), &grant.id).await?;
    write.snapshot_changed();
    write.audit(by.changed("grant.remove", format!("grant/{}", grant.id), described(&grant)));
    Ok(write.commit().await?)
}

/// A grant in words.
pub(crate) fn described(grant: &GrantDoc) -> String {
    let until = grant.expires.map_or_else(|| "until removed".to_owned(), |expires| format!("until {expires}"));
    let reason = if grant.reason.is_empty() { String::new() } else { format!(": {}", grant.reason) };
    let template = grant.template.as_ref().map(|name| format!(" by template {name}")).unwrap_or_default();
    format!("{} to {}{template}, {until}{reason}", grant.user, grant.resource)
}
