//! Locks: they end everything of a user, device or session, or everything that is open to a resource, at once
//! and everywhere, and hold until they are taken away or their time is over.

use sqlx::SqliteConnection;
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::api::{Lock, LockKind, NewLock};

use super::sessions::end_all;
use super::{Actor, DirectoryError, able_administrators, devices, keep_an_administrator, users};
use crate::context::Context;
use crate::store::{StoreError, Write, locks, resources, sessions};

/// Locks something. What is locked already gets the new reason and end.
pub(crate) async fn lock(context: &Context, new: &NewLock, by: &Actor) -> Result<Lock, DirectoryError> {
    let NewLock { kind, name, reason, seconds } = new;
    if reason.chars().count() > 200 || reason.chars().any(char::is_control) {
        return Err(DirectoryError::Reason);
    }
    let created = clock::unix_seconds(clock::now());
    let mut write = context.store.write().await?;
    let administrators = able_administrators(write.connection()).await?;
    let name = existing(write.connection(), *kind, name).await?;
    let expires = seconds.map(|seconds| created.saturating_add(seconds));
    let lock = Lock { kind: *kind, name, reason: reason.clone(), by: by.label(), created, expires };
    locks::forget(write.connection(), *kind, &lock.name).await?;
    locks::put(write.connection(), &lock).await?;
    let open = match kind {
        LockKind::User => sessions::of_user(write.connection(), &UserName::parse(&lock.name)?).await?,
        LockKind::Device => sessions::of_device(write.connection(), &lock.name.parse()?).await?,
        LockKind::Session => sessions::find(write.connection(), &lock.name.parse()?).await?.into_iter().collect(),
        LockKind::Resource => Vec::new(),
    };
    end_all(&mut write, &open, "locked", by).await?;
    keep_an_administrator(write.connection(), &administrators).await?;
    changed(&mut write, &lock)?;
    let until = expires.map_or("until unlocked".to_owned(), |at| format!("until {at}"));
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let detail = format!("{until}; {} sessions ended{why}", open.len());
    write.audit(by.changed("lock.add", target(&lock), detail));
    write.commit().await?;
    Ok(lock)
}

/// Takes a lock away. Sessions that it ended stay ended.
pub(crate) async fn unlock(context: &Context, kind: &str, name: &str, by: &Actor) -> Result<(), DirectoryError> {
    let missing =
        || DirectoryError::Missing { what: "lock", name: format!("{kind} {name}").chars().take(90).collect() };
    let kind = LockKind::from_word(kind).ok_or_else(missing)?;
    let mut write = context.store.write().await?;
    // What was removed meanwhile is still known by its name or id.
    let name = match kind {
        LockKind::Device => devices::resolve(write.connection(), name).await?.to_string(),
        LockKind::User | LockKind::Session | LockKind::Resource => name.to_owned(),
    };
    let lock = locks::find(write.connection(), kind, &name).await?.ok_or_else(missing)?;
    locks::forget(write.connection(), kind, &name).await?;
    release(&mut write, &lock, "lock.remove", by).await?;
    Ok(write.commit().await?)
}

/// Puts locks back that ended by a clock that was ahead; says how many.
pub(crate) async fn return_unended(write: &mut Write, now: u64) -> Result<u64, StoreError> {
    let mut count = 0;
    for lock in locks::take_unended(write.connection(), now).await? {
        locks::put(write.connection(), &lock).await?;
        changed(write, &lock)?;
        write.audit(Actor::Controller.changed("lock.return", target(&lock), lock.reason.clone()));
        count += 1;
    }
    Ok(count)
}

/// Takes locks away whose time is over, at most `limit`; says how many.
pub(crate) async fn expire(write: &mut Write, now: u64, limit: u32) -> Result<u64, StoreError> {
    let mut count = 0;
    for lock in locks::expired(write.connection(), now, limit).await? {
        locks::remember(write.connection(), &lock).await?;
        release(write, &lock, "lock.expire", &Actor::Controller).await?;
        count += 1;
    }
    Ok(count)
}

async fn release(write: &mut Write, lock: &Lock, verb: &str, by: &Actor) -> Result<(), StoreError> {
    locks::remove(write.connection(), lock.kind, &lock.name).await?;
    changed(write, lock)?;
    write.audit(by.changed(verb, target(lock), lock.reason.clone()));
    Ok(())
}

fn target(lock: &Lock) -> String {
    format!("{}/{}", lock.kind.as_str(), lock.name)
}

/// Notes what a lock, or its end, makes untrue.
fn changed(write: &mut Write, lock: &Lock) -> Result<(), StoreError> {
    let corrupt = || StoreError::Corrupt { what: "name of a lock" };
    match lock.kind {
        LockKind::User => write.change(Change::User(UserName::parse(&lock.name).map_err(|_| corrupt())?)),
        LockKind::Device => write.change(Change::Device(lock.name.parse().map_err(|_| corrupt())?)),
        LockKind::Session => write.change(Change::Session(lock.name.parse().map_err(|_| corrupt())?)),
        LockKind::Resource => write.snapshot_changed(),
    }
    Ok(())
}

/// The name or id that a lock of it has.
async fn existing(connection: &mut SqliteConnection, kind: LockKind, name: &str) -> Result<String, DirectoryError> {
    let missing = |what| DirectoryError::Missing { what, name: name.chars().take(80).collect() };
    match kind {
        LockKind::User => {
            let name = UserName::parse(name)?;
            users::exists(connection, &name).await?;
            Ok(name.to_string())
        }
        LockKind::Device => Ok(devices::show(connection, name).await?.id),
        LockKind::Session => {
            let id: SessionId = name.parse()?;
            sessions::find(connection, &id).await?.ok_or_else(|| missing("session"))?;
            Ok(id.to_string())
        }
        LockKind::Resource => {
            if name == ResourceName::console().as_str() {
                return Err(DirectoryError::ConsoleStays);
            }
            let docs = resources::list(connection).await?;
            docs.into_iter().find(|doc| doc.name == name).map(|doc| doc.name).ok_or_else(|| missing("resource"))
        }
    }
}

#[cfg(test)]
mod tests;
