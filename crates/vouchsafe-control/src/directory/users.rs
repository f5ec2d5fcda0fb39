//! Users: made with a link that lets the person register a passkey, changed, and deleted for good.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;
use vouchsafe_model::id::{DeviceId, UserId};
use vouchsafe_model::name::{GroupName, NameError, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::api;

use super::sessions::end_all;
use super::{Actor, DirectoryError, able_administrators, keep_an_administrator};
use crate::context::Context;
use crate::identity;
use crate::precondition::Precondition;
use crate::store::users::NameUse;
use crate::store::{Write, devices, grants, groups, sessions, users};

fn missing(name: &UserName) -> DirectoryError {
    DirectoryError::Missing { what: "user", name: name.to_string() }
}

fn now() -> u64 {
    clock::unix_seconds(clock::now())
}

/// One user.
pub(crate) async fn show(connection: &mut SqliteConnection, name: &UserName) -> Result<api::User, DirectoryError> {
    users::show(connection, name, now()).await?.ok_or_else(|| missing(name))
}

/// Refuses a name that is no user's.
pub(crate) async fn exists(connection: &mut SqliteConnection, name: &UserName) -> Result<(), DirectoryError> {
    match users::name_use(connection, name).await? {
        NameUse::Taken => Ok(()),
        NameUse::Free | NameUse::Reserved => Err(missing(name)),
    }
}

/// Refuses a name that is no user's, or that of one who is disabled or locked.
pub(crate) async fn enabled(connection: &mut SqliteConnection, name: &UserName) -> Result<(), DirectoryError> {
    match show(connection, name).await?.state.as_str() {
        "disabled" => Err(DirectoryError::Disabled { name: name.clone() }),
        "locked" => Err(DirectoryError::Locked { name: name.clone() }),
        _ => Ok(()),
    }
}

async fn existing_groups(
    connection: &mut SqliteConnection,
    names: &[String],
) -> Result<BTreeSet<GroupName>, DirectoryError> {
    let wanted = names.iter().map(|name| GroupName::parse(name)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut absent = Vec::new();
    for name in &wanted {
        if groups::show(connection, name).await?.is_none() {
            absent.push(name.to_string());
        }
    }
    if absent.is_empty() { Ok(wanted) } else { Err(DirectoryError::MissingGroups { names: absent }) }
}

/// Makes a user, and a link with which the person registers a passkey, once.
pub(crate) async fn add(context: &Context, new: &api::NewUser, by: &Actor) -> Result<api::Invited, DirectoryError> {
    let mut write = context.store.write().await?;
    let invited = add_in(&mut write, context, new, by).await?;
    write.commit().await?;
    Ok(invited)
}

/// The same within a change.
pub(crate) async fn add_in(
    write: &mut Write,
    context: &Context,
    new: &api::NewUser,
    by: &Actor,
) -> Result<api::Invited, DirectoryError> {
    let api::NewUser { name, groups: wanted } = new;
    let name = UserName::parse(name)?;
    unmistakable(&name)?;
    match users::name_use(write.connection(), &name).await? {
        NameUse::Free => {}
        NameUse::Taken => return Err(DirectoryError::NameTaken { name }),
        NameUse::Reserved => return Err(DirectoryError::NameReserved { name }),
    }
    let wanted = existing_groups(write.connection(), wanted).await?;
    users::insert(write.connection(), &name, &UserId::from_random(clock::random()), now()).await?;
    for group in &wanted {
        groups::add_member(write.connection(), group, &name).await?;
    }
    let detail = match wanted.is_empty() {
        true => "in no group".to_owned(),
        false => format!("groups: {}", wanted.iter().map(GroupName::as_str).collect::<Vec<_>>().join(", ")),
    };
    write.audit(by.changed("user.add", format!("user/{name}"), detail));
    link(write, context, &name, by).await
}

/// Refuses names that a record could take for somebody else: for ourselves, for nobody, or for a device.
fn unmistakable(name: &UserName) -> Result<(), DirectoryError> {
    let text = name.as_str();
    let ours = [Actor::Controller.label().as_str(), "anonymous", "nobody"].contains(&text);
    if ours || text.parse::<DeviceId>().is_ok() {
        let rule = "in records it would stand for somebody else";
        return Err(NameError { kind: "user name", given: text.to_owned(), rule }.into());
    }
    Ok(())
}

async fn link(
    write: &mut Write,
    context: &Context,
    name: &UserName,
    by: &Actor,
) -> Result<api::Invited, DirectoryError> {
    let (link, expires) = identity::invite_user(write, context, name, &by.label()).await?;
    Ok(api::Invited { user: show(write.connection(), name).await?, link, expires })
}

/// Makes a new link for a user who has none, lost it, or lost every passkey. Passkeys stay.
pub(crate) async fn invite(context: &Context, name: &str, by: &Actor) -> Result<api::Invited, DirectoryError> {
    let name = UserName::parse(name)?;
    let mut write = context.store.write().await?;
    let invited = invite_in(&mut write, context, &name, by).await?;
    write.commit().await?;
    Ok(invited)
}

/// The same within a change.
pub(crate) async fn invite_in(
    write: &mut Write,
    context: &Context,
    name: &UserName,
    by: &Actor,
) -> Result<api::Invited, DirectoryError> {
    enabled(write.connection(), name).await?;
    let invited = link(write, context, name, by).await?;
    write.audit(by.changed("user.invite", format!("user/{name}"), String::new()));
    Ok(invited)
}

/// Changes a user. What is absent stays; a change to what is so already leaves no record.
pub(crate) async fn change(
    context: &Context,
    name: &str,
    wanted: &api::UserChange,
    expected: &Precondition,
    by: &Actor,
) -> Result<api::User, DirectoryError> {
    let api::UserChange { disabled, groups: wanted_groups } = wanted;
    let name = UserName::parse(name)?;
    let mut write = context.store.write().await?;
    let user = show(write.connection(), &name).await?;
    expected.check(Some(&user))?;
    let administrators = able_administrators(write.connection()).await?;
    let mut details = Vec::new();
    if let Some(wanted_groups) = wanted_groups {
        let wanted = existing_groups(write.connection(), wanted_groups).await?;
        let present = user.groups.iter().map(|group| GroupName::parse(group)).collect::<Result<BTreeSet<_>, _>>()?;
        for group in wanted.difference(&present) {
            groups::add_member(write.connection(), group, &name).await?;
            details.push(format!("into group {group}"));
        }
        for group in present.difference(&wanted) {
            groups::remove_member(write.connection(), group, &name).await?;
            details.push(format!("out of group {group}"));
        }
    }
    match (disabled, user.state == "disabled") {
        (Some(true), false) => {
            users::set_disabled(write.connection(), &name, true).await?;
            users::remove_openings(write.connection(), &name).await?;
            let open = sessions::of_user(write.connection(), &name).await?;
            end_all(&mut write, &open, "user disabled", by).await?;
            details.push(format!("disabled; {} sessions ended", open.len()));
        }
        (Some(false), true) => {
            users::set_disabled(write.connection(), &name, false).await?;
            details.push("enabled".to_owned());
        }
        (Some(true), true) | (Some(false), false) | (None, _) => {}
    }
    if !details.is_empty() {
        keep_an_administrator(write.connection(), &administrators).await?;
        write.change(Change::User(name.clone()));
        write.audit(by.changed("user.change", format!("user/{name}"), details.join("; ")));
    }
    let user = show(write.connection(), &name).await?;
    write.commit().await?;
    Ok(user)
}

/// Deletes a user: sessions end, passkeys, memberships, grants and pending links go. The name is
/// never given again, and devices stay until somebody removes them.
pub(crate) async fn delete(
    context: &Context,
    name: &str,
    expected: &Precondition,
    by: &Actor,
) -> Result<(), DirectoryError> {
    let name = UserName::parse(name)?;
    let mut write = context.store.write().await?;
    expected.check(Some(&show(write.connection(), &name).await?))?;
    let administrators = able_administrators(write.connection()).await?;
    let open = sessions::of_user(write.connection(), &name).await?;
    end_all(&mut write, &open, "user deleted", by).await?;
    let granted = grants::of_user(write.connection(), &name).await?;
    if !granted.is_empty() {
        write.snapshot_changed();
    }
    users::remove_openings(write.connection(), &name).await?;
    users::delete(write.connection(), &name).await?;
    keep_an_administrator(write.connection(), &administrators).await?;
    write.change(Change::User(name.clone()));
    let mut detail = vec![format!("{} sessions ended", open.len())];
    if !granted.is_empty() {
        let list: Vec<_> = granted.iter().map(|grant| format!("{} to {}", grant.id, grant.resource)).collect();
        detail.push(format!("grants removed: {}", list.join(", ")));
    }
    let owned = devices::of_owner(write.connection(), &name).await?;
    if !owned.is_empty() {
        detail.push(format!("devices left: {}", owned.join(", ")));
    }
    write.audit(by.changed("user.delete", format!("user/{name}"), detail.join("; ")));
    Ok(write.commit().await?)
}

/// Ends all sessions of a user.
pub(crate) async fn sign_out(context: &Context, name: &str, by: &Actor) -> Result<api::Ended, DirectoryError> {
    let name = UserName::parse(name)?;
    let mut write = context.store.write().await?;
    exists(write.connection(), &name).await?;
    let open = sessions::of_user(write.connection(), &name).await?;
    let ended = u64::try_from(open.len()).unwrap_or(u64::MAX);
    if !open.is_empty() {
        end_all(&mut write, &open, "signed out everywhere by an administrator", by).await?;
        write.audit(by.changed("user.sign-out", format!("user/{name}"), format!("{ended} sessions ended")));
    }
    write.commit().await?;
    Ok(api::Ended { sessions: ended })
}
