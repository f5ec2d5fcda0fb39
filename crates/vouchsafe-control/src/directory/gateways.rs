//! Gateways that are processes of their own, as administrators invite and remove them.

use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::{GatewayName, NameError};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api;
use vouchsafe_wire::gateway::JoinCode;

use super::{Actor, DirectoryError};
use crate::channel::Reached;
use crate::context::Context;
use crate::identity::hash;
use crate::store::certified::{self, Role};
use crate::store::invites::{self, GatewayInvite};
use crate::store::{feed, gateways};

/// How long a join code is good, seconds.
const CODE_LIFE_SECONDS: u64 = 15 * 60;

/// Invites a gateway by a one-time code.
pub(crate) async fn invite(
    context: &Context,
    new: &api::NewGateway,
    by: &Actor,
) -> Result<api::GatewayInvited, DirectoryError> {
    let name = GatewayName::parse(&new.name)?;
    // An id is how gateways are told apart for certain, so no name may look like one.
    if new.name.parse::<GatewayId>().is_ok() {
        let rule = "it looks like the id of a gateway";
        return Err(NameError { kind: "gateway name", given: new.name.clone(), rule }.into());
    }
    let Some(Reached { host, port, .. }) = context.channel.get() else { return Err(DirectoryError::NoChannel) };
    let now = clock::unix_seconds(clock::now());
    let expires = now.saturating_add(CODE_LIFE_SECONDS);
    let code = clock::random_code();
    let mut write = context.store.write().await?;
    if certified::name_is_taken(write.connection(), Role::Gateway, name.as_str()).await? {
        return Err(DirectoryError::GatewayTaken { name });
    }
    write.audit(by.changed("gateway.invite", format!("gateway/{name}"), String::new()));
    let invite = GatewayInvite(name);
    invites::insert(write.connection(), &hash(&code), &invite, &by.label(), now, expires).await?;
    write.commit().await?;
    let code = JoinCode { code, root_sha256: context.ca.root_sha256(), host: host.clone(), port: *port };
    Ok(api::GatewayInvited { code: code.to_text(), expires })
}

/// All gateways, and how those are attached that are.
pub(crate) async fn list(context: &Context) -> Result<Vec<api::Gateway>, DirectoryError> {
    let mut read = context.store.read().await?;
    let newest = feed::newest(&mut read).await?;
    let mut gateways = gateways::list(&mut read).await?;
    if let Some(Reached { attached, .. }) = context.channel.get() {
        for gateway in &mut gateways {
            gateway.attached = attached.find(gateway.id.parse()?, newest);
        }
    }
    Ok(gateways)
}

/// Removes a gateway by its id or name: its channel is cut, and its certificate is worth nothing here from
/// the commit on.
pub(crate) async fn remove(context: &Context, text: &str, by: &Actor) -> Result<(), DirectoryError> {
    let mut write = context.store.write().await?;
    let missing = || DirectoryError::Missing { what: "gateway", name: text.chars().take(80).collect() };
    let id = gateways::remove(write.connection(), text).await?.ok_or_else(missing)?;
    write.gateway_removed(id.parse()?);
    write.audit(by.changed("gateway.remove", format!("gateway/{id}"), text.chars().take(80).collect()));
    write.commit().await?;
    context.rosters.gateways_changed();
    Ok(())
}
