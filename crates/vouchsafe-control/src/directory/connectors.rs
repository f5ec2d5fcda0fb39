//! Connectors, as administrators invite and remove them.

use vouchsafe_model::name::SiteName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api;
use vouchsafe_wire::ticket::{Invited, Ticket};

use super::{Actor, DirectoryError};
use crate::context::Context;
use crate::identity::hash;
use crate::store::connectors;
use crate::store::invites::{self, ConnectorInvite};

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

/// All connectors.
pub(crate) async fn list(context: &Context) -> Result<Vec<api::Connector>, DirectoryError> {
    let mut read = context.store.read().await?;
    Ok(connectors::list(&mut read).await?)
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
