//! Connectors, as administrators invite and remove them.

use std::collections::BTreeMap;

use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::SiteName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::AttachedConnector;
use vouchsafe_wire::api;
use vouchsafe_wire::ticket::{Invited, Ticket};

use super::{Actor, DirectoryError};
use crate::channel::Reached;
use crate::context::Context;
use crate::identity::hash;
use crate::store::invites::{self, ConnectorInvite};
use crate::store::{connectors, gateways};

/// How long a code is good, seconds.
const CODE_LIFE_SECONDS: u64 = 15 * 60;

/// Invites a connector for a site by a one-time code.
pub(crate) async fn invite(
    context: &Context,
    new: &api::NewConnector,
    by: &Actor,
) -> Result<api::ConnectorInvited, DirectoryError> {
    let site = SiteName::parse(&new.site)?;
    let now = clock::unix_seconds(clock::now());
    let expires = now.saturating_add(CODE_LIFE_SECONDS);
    let code = clock::random_code();
    let mut write = context.store.write().await?;
    write.audit(by.changed("connector.invite", format!("site/{site}"), String::new()));
    let invite = ConnectorInvite(site);
    invites::insert(write.connection(), &hash(&code), &invite, &by.label(), now, expires).await?;
    write.commit().await?;
    let ticket = Ticket {
        host: context.settings.domain.host("gw"),
        port: context.settings.port,
        code,
        root_sha256: context.ca.root_sha256(),
    };
    Ok(api::ConnectorInvited { code: ticket.to_text_of(Invited::Connector), expires })
}

/// All connectors, and the gateways that those are attached to that are.
pub(crate) async fn list(context: &Context) -> Result<Vec<api::Connector>, DirectoryError> {
    let mut read = context.store.read().await?;
    let mut all = connectors::list(&mut read).await?;
    let names: BTreeMap<String, String> =
        gateways::list(&mut read).await?.into_iter().map(|gateway| (gateway.id, gateway.name)).collect();
    for (gateway, attached) in attached(context) {
        let (gateway, id) = (gateway.to_string(), attached.id.to_string());
        if let Some(connector) = all.iter_mut().find(|connector| connector.id == id) {
            connector.attached.push(api::AttachedTo {
                gateway: names.get(&gateway).cloned().unwrap_or(gateway),
                since: clock::unix_seconds(attached.since),
                connections: attached.connections,
                streams: attached.streams,
            });
        }
    }
    all.iter_mut().for_each(|connector| connector.attached.sort_by(|one, other| one.gateway.cmp(&other.gateway)));
    Ok(all)
}

/// Which connectors are attached to which gateways: to the one in this process as it is now, to others as they last told.
fn attached(context: &Context) -> Vec<(GatewayId, AttachedConnector)> {
    let mut all = Vec::new();
    if let Some((gateway, attendance)) = context.own_gateway.get() {
        all.extend(attendance.connectors().into_iter().map(|one| (*gateway, one)));
    }
    if let Some(Reached { attached, .. }) = context.channel.get() {
        all.extend(attached.connectors());
    }
    all
}

/// Removes a connector by its id or name: no gateway takes it any more, and what passes through it is cut.
pub(crate) async fn remove(context: &Context, text: &str, by: &Actor) -> Result<(), DirectoryError> {
    let mut write = context.store.write().await?;
    let missing = || DirectoryError::Missing { what: "connector", name: text.chars().take(80).collect() };
    let id = connectors::remove(write.connection(), text).await?.ok_or_else(missing)?;
    write.snapshot_changed();
    write.audit(by.changed("connector.remove", format!("connector/{id}"), text.chars().take(80).collect()));
    Ok(write.commit().await?)
}
