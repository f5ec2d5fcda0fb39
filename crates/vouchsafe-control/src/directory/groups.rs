//! Groups of users.

use sqlx::SqliteConnection;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::api;

use super::{ADMINISTRATORS, Actor, DirectoryError, able_administrators, keep_an_administrator};
use crate::context::Context;
use crate::precondition::Precondition;
use crate::store::groups::Added;
use crate::store::{Write, groups};

/// One group.
pub(crate) async fn show(connection: &mut SqliteConnection, name: &GroupName) -> Result<api::Group, DirectoryError> {
    groups::show(connection, name)
        .await?
        .ok_or_else(|| DirectoryError::Missing { what: "group", name: name.to_string() })
}

/// Makes a group; one that is there already stays as it is.
pub(crate) async fn put(context: &Context, name: &str, by: &Actor) -> Result<api::Group, DirectoryError> {
    let name = GroupName::parse(name)?;
    let mut write = context.store.write().await?;
    add_in(&mut write, &name, by).await?;
    let group = show(write.connection(), &name).await?;
    write.commit().await?;
    Ok(group)
}

/// Makes a group within a change.
pub(crate) async fn add_in(write: &mut Write, name: &GroupName, by: &Actor) -> Result<(), DirectoryError> {
    match groups::add(write.connection(), name, clock::unix_seconds(clock::now())).await? {
        Added::New => write.audit(by.changed("group.add", format!("group/{name}"), String::new())),
        Added::Known => {}
    }
    Ok(())
}

/// Removes a group, if it is what is expected.
pub(crate) async fn remove(
    context: &Context,
    name: &str,
    expected: &Precondition,
    by: &Actor,
) -> Result<(), DirectoryError> {
    let name = GroupName::parse(name)?;
    let mut write = context.store.write().await?;
    expected.check(Some(&show(write.connection(), &name).await?))?;
    remove_in(&mut write, &name, by).await?;
    Ok(write.commit().await?)
}

/// Removes a group within a change: all its members lose what it gave them.
pub(crate) async fn remove_in(write: &mut Write, name: &GroupName, by: &Actor) -> Result<(), DirectoryError> {
    if name.as_str() == ADMINISTRATORS {
        return Err(DirectoryError::AdministratorsStay);
    }
    let group = show(write.connection(), name).await?;
    for member in &group.members {
        write.change(Change::User(UserName::parse(member)?));
    }
    groups::remove(write.connection(), name).await?;
    let detail =
        if group.members.is_empty() { String::new() } else { format!("members were: {}", group.members.join(", ")) };
    write.audit(by.changed("group.remove", format!("group/{name}"), detail));
    Ok(())
}

/// Whether a user belongs to a group from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    Member,
    NotMember,
}

/// Puts a user into a group or takes the user out, if the group is what is expected; nothing happens when it is so already.
pub(crate) async fn set_member(
    context: &Context,
    (group, user): (&str, &str),
    membership: Membership,
    expected: &Precondition,
    by: &Actor,
) -> Result<api::Group, DirectoryError> {
    let (group, user) = (GroupName::parse(group)?, UserName::parse(user)?);
    let mut write = context.store.write().await?;
    expected.check(Some(&show(write.connection(), &group).await?))?;
    set_member_in(&mut write, &group, &user, membership, by).await?;
    let group = show(write.connection(), &group).await?;
    write.commit().await?;
    Ok(group)
}

/// The same within a change.
pub(crate) async fn set_member_in(
    write: &mut Write,
    group: &GroupName,
    user: &UserName,
    membership: Membership,
    by: &Actor,
) -> Result<(), DirectoryError> {
    show(write.connection(), group).await?;
    super::users::exists(write.connection(), user).await?;
    let administrators = able_administrators(write.connection()).await?;
    let (changed, verb) = match membership {
        Membership::Member => {
            (groups::add_member(write.connection(), group, user).await? == Added::New, "group.add-member")
        }
        Membership::NotMember => (groups::remove_member(write.connection(), group, user).await?, "group.remove-member"),
    };
    if changed {
        keep_an_administrator(write.connection(), &administrators).await?;
        write.change(Change::User(user.clone()));
        write.audit(by.changed(verb, format!("group/{group}"), format!("user {user}")));
    }
    Ok(())
}
