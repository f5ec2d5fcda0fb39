//! One-time links for people, one-time tickets for devices.

use vouchsafe_model::name::{Tag, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::ticket::Ticket;

use super::guard::AUTH_LABEL;
use super::secret::{Secret, hash};
use crate::context::Context;
use crate::store::invites::{self, DeviceInvite, PersonInvite};
use crate::store::{StoreError, Write};

/// Life of a link, seconds.
const LINK_LIFE_SECONDS: u64 = 24 * 3600;
/// Life of a ticket, seconds: long enough to walk over to the device.
const TICKET_LIFE_SECONDS: u64 = 30 * 60;

/// Makes a link with which that user registers a passkey, once; any earlier one is void. Returns
/// the link, which is a secret, and its end in unix seconds. The caller records who did it.
pub(crate) async fn invite_user(
    write: &mut Write,
    context: &Context,
    user: &UserName,
    by: &str,
) -> Result<(String, u64), StoreError> {
    let now = clock::unix_seconds(clock::now());
    let expires = now.saturating_add(LINK_LIFE_SECONDS);
    let token = Secret::fresh();
    invites::remove_links(write.connection(), user).await?;
    invites::insert(write.connection(), &token.hash(), &PersonInvite(user.clone()), by, now, expires).await?;
    Ok((format!("{}/invite#{}", context.settings.origin(AUTH_LABEL), token.expose()), expires))
}

/// Makes a ticket with which one device enrols, once. Returns the ticket, which is a secret, and its
/// end in unix seconds. The caller records who did it.
pub(crate) async fn invite_device(
    write: &mut Write,
    context: &Context,
    owner: Option<&UserName>,
    tags: &[Tag],
    by: &str,
) -> Result<(String, u64), StoreError> {
    let now = clock::unix_seconds(clock::now());
    let expires = now.saturating_add(TICKET_LIFE_SECONDS);
    let code = clock::random_code();
    let invite = DeviceInvite { owner: owner.cloned(), tags: tags.iter().map(|tag| tag.as_str().to_owned()).collect() };
    invites::insert(write.connection(), &hash(&code), &invite, by, now, expires).await?;
    let ticket = Ticket {
        host: context.settings.domain.host("gw"),
        port: context.settings.port,
        code,
        root_sha256: context.ca.root_sha256(),
    };
    Ok((ticket.to_text(), expires))
}
