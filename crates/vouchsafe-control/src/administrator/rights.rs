//! Who can do what under the policy in force, over the real directory.

use vouchsafe_model::action::Action;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_policy::{OnDevice, WhatCan, WhoCan};
use vouchsafe_runtime::clock;

use super::{AdministratorError, shortened};
use crate::context::Context;
use crate::directory::{DirectoryError, devices, users};
use crate::store::{StoreError, facts};

/// Most names that an answer lists of users who can do something in the same way.
const MAX_NAMES: usize = 10_000;

/// Who can do that to a resource.
pub(crate) async fn who_can(context: &Context, action: &str, resource: &str) -> Result<WhoCan, AdministratorError> {
    let action: Action = action.parse()?;
    let missing = || AdministratorError::Missing { what: "resource", name: shortened(resource) };
    let name = if resource == ResourceName::console().as_str() {
        ResourceName::console()
    } else {
        ResourceName::parse(resource)?
    };
    let mut read = context.store.read().await?;
    let engine = context.live.engine(&mut read).await?;
    let kind = engine.resource(&name).ok_or_else(missing)?.spec.kind();
    if !kind.actions().contains(&action) {
        let expected = match kind.actions() {
            [Action::NetConnect, ..] => "net:connect for a tcp or udp resource",
            [Action::ConsoleRead, ..] => "console:read or console:write for the console",
            _ => "http:read, http:write or http:upgrade for an http resource",
        };
        return Err(AdministratorError::Value { member: "action", given: action.to_string(), expected });
    }
    let people = facts::people(&mut read, &engine.groups_about(&name)).await?;
    drop(read);
    let ask = move || engine.who_can(action, &name, &people, clock::now());
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|_| AdministratorError::BrokenOff)?;
    let mut answer = answer.ok_or_else(missing)?;
    answer.can.iter_mut().for_each(|class| class.users.truncate(MAX_NAMES));
    Ok(answer)
}

/// What a user can do, on one of the devices or on whatever device; `none` is one that isn't proven.
pub(crate) async fn what_can(
    context: &Context,
    user: &str,
    device: Option<&str>,
) -> Result<WhatCan, AdministratorError> {
    let name = UserName::parse(user)?;
    let mut read = context.store.read().await?;
    users::enabled(&mut read, &name).await?;
    let user = facts::user(&mut read, &name).await?.ok_or(StoreError::Corrupt { what: "user" })?;
    let device = match device {
        None => OnDevice::Any,
        Some("none") => OnDevice::This(None),
        Some(text) => {
            let shown = devices::show(&mut read, text).await?;
            let facts = facts::device(&mut read, &shown.id.parse()?).await?;
            OnDevice::This(Some(facts.ok_or(DirectoryError::DeviceLocked { name: shown.name })?))
        }
    };
    let engine = context.live.engine(&mut read).await?;
    drop(read);
    let ask = move || engine.what_can(&user, &device, clock::now());
    tokio::task::spawn_blocking(ask).await.map_err(|_| AdministratorError::BrokenOff)
}
