//! Devices, as administrators see, invite and remove them.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::{DeviceName, Tag, UserName};
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::api;

use super::{Actor, DirectoryError, sessions::end_all};
use crate::context::Context;
use crate::identity;
use crate::store::{Write, devices, facts, sessions};

/// The id of a device by its id or name.
pub(crate) async fn resolve(connection: &mut SqliteConnection, text: &str) -> Result<DeviceId, DirectoryError> {
    let missing = || DirectoryError::Missing { what: "device", name: text.chars().take(80).collect() };
    if let Ok(id) = text.parse::<DeviceId>() {
        return Ok(id);
    }
    let name = DeviceName::parse(text)?;
    devices::id_of_name(connection, &name).await?.ok_or_else(missing)
}

/// One device by its id or name.
pub(crate) async fn show(connection: &mut SqliteConnection, text: &str) -> Result<api::Device, DirectoryError> {
    let id = resolve(connection, text).await?;
    devices::show(connection, &id)
        .await?
        .ok_or_else(|| DirectoryError::Missing { what: "device", name: text.to_owned() })
}

/// Removes a device: its certificate is worth nothing from the commit on, and its sessions end.
pub(crate) async fn remove(context: &Context, text: &str, by: &Actor) -> Result<(), DirectoryError> {
    let mut write = context.store.write().await?;
    let device = show(write.connection(), text).await?;
    remove_in(&mut write, device, by).await?;
    Ok(write.commit().await?)
}

/// Removes a device of that owner; others' aren't there for her. Gives its name.
pub(crate) async fn remove_own(
    context: &Context,
    id: &DeviceId,
    owner: &UserName,
    by: &Actor,
) -> Result<String, DirectoryError> {
    let mut write = context.store.write().await?;
    let device = devices::show(write.connection(), id).await?;
    let Some(device) = device.filter(|device| device.owner.as_deref() == Some(owner.as_str())) else {
        return Err(DirectoryError::Missing { what: "device", name: id.to_string() });
    };
    let name = device.name.clone();
    remove_in(&mut write, device, by).await?;
    write.commit().await?;
    Ok(name)
}

async fn remove_in(write: &mut Write, device: api::Device, by: &Actor) -> Result<(), DirectoryError> {
    let id: DeviceId = device.id.parse()?;
    let open = sessions::of_device(write.connection(), &id).await?;
    end_all(write, &open, facts::DEVICE_REMOVED, by).await?;
    devices::remove(write.connection(), &id).await?;
    write.change(Change::Device(id));
    let owner = device.owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("of {owner}"));
    let detail = format!("{} ({owner}); {} sessions ended", device.name, open.len());
    write.audit(by.changed("device.remove", format!("device/{id}"), detail));
    Ok(())
}

/// Invites a device by a one-time ticket.
pub(crate) async fn invite(
    context: &Context,
    new: &api::NewDevice,
    by: &Actor,
) -> Result<api::DeviceInvited, DirectoryError> {
    let owner = new.owner.as_deref().map(UserName::parse).transpose()?;
    let tags = new.tags.iter().map(|tag| Tag::parse(tag)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut write = context.store.write().await?;
    if let Some(owner) = &owner {
        super::users::enabled(write.connection(), owner).await?;
    }
    let tags: Vec<Tag> = tags.into_iter().collect();
    let (ticket, expires) = identity::invite_device(&mut write, context, owner.as_ref(), &tags, &by.label()).await?;
    let target = owner.map_or_else(|| "device".to_owned(), |owner| format!("user/{owner}"));
    let detail = if tags.is_empty() {
        String::new()
    } else {
        format!("tags: {}", tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", "))
    };
    write.audit(by.changed("device.invite", target, detail));
    write.commit().await?;
    Ok(api::DeviceInvited { ticket, expires })
}
