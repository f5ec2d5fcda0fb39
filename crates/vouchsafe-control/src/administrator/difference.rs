//! What changes for whom between two versions of the policy, or a draft and a version.

use std::ops::DerefMut;
use std::sync::Arc;

use sqlx::SqliteConnection;
use vouchsafe_policy::{Difference, Engine};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{DiffRequest, PolicyFileDoc};

use super::{AdministratorError, gate, policy};
use crate::context::Context;
use crate::store::{self, facts};

/// Most names that a change lists of users, and most of resources.
const MAX_NAMES: usize = 1_000;
/// Most changes that an answer tells; those by which somebody gains come first.
const MAX_CHANGES: usize = 1_000;

/// Compares, over the users, groups, grants and resources of this moment.
pub(crate) async fn compare(context: &Context, asked: &DiffRequest) -> Result<Difference, AdministratorError> {
    let mut read = context.store.read().await?;
    let (before, after) = engines(context, &mut read, asked, Usual::LastPublish).await?;
    let mut difference = between(context, read, before, after).await?;
    difference.changes.truncate(MAX_CHANGES);
    for change in &mut difference.changes {
        change.users.truncate(MAX_NAMES);
        change.resources.truncate(MAX_NAMES);
    }
    Ok(difference)
}

/// What is asked about when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usual {
    /// The version before the one in force, and that.
    LastPublish,
    /// The version in force.
    InForce,
}

/// The two policies that are asked about, made ready with the grants and resources of this moment.
pub(crate) async fn engines(
    context: &Context,
    read: &mut SqliteConnection,
    asked: &DiffRequest,
    usual: Usual,
) -> Result<(Arc<Engine>, Arc<Engine>), AdministratorError> {
    let DiffRequest { before, after, files } = asked;
    if after.is_some() && files.is_some() {
        let (given, expected) = ("both".to_owned(), "a version or files, not both");
        return Err(AdministratorError::Value { member: "after", given, expected });
    }
    let current = store::policy::highest(read).await?;
    let usual = match usual {
        Usual::LastPublish if after.is_none() && files.is_none() => current.saturating_sub(1).max(1),
        Usual::LastPublish | Usual::InForce => current,
    };
    let before = version(context, read, before.unwrap_or(usual), current).await?;
    let after = match files {
        Some(files) => draft(read, files, current).await?,
        None => version(context, read, after.unwrap_or(current), current).await?,
    };
    Ok((before, after))
}

/// Compares two policies over everybody.
async fn between(
    context: &Context,
    mut read: impl DerefMut<Target = SqliteConnection>,
    before: Arc<Engine>,
    after: Arc<Engine>,
) -> Result<Difference, AdministratorError> {
    let people = facts::people(&mut read, &vouchsafe_policy::groups_between(&before, &after)).await?;
    drop(read);
    let settings = Arc::clone(&context.settings);
    let compare = move || {
        let host = |name: &vouchsafe_model::name::ResourceName| settings.domain.host(name.as_str());
        vouchsafe_policy::difference(&before, &after, &people, &host, clock::now())
    };
    context.rights.work(compare).await
}

async fn version(
    context: &Context,
    connection: &mut SqliteConnection,
    number: u64,
    current: u64,
) -> Result<Arc<Engine>, AdministratorError> {
    if number == current {
        return context.live.engine(connection).await;
    }
    let version = policy::show(connection, number).await?;
    gate::compile(connection, store::policy::to_engine(&version.files), number).await
}

async fn draft(
    connection: &mut SqliteConnection,
    files: &[PolicyFileDoc],
    current: u64,
) -> Result<Arc<Engine>, AdministratorError> {
    policy::acceptable(files, &[], &[])?;
    gate::compile(connection, store::policy::to_engine(files), current.saturating_add(1)).await
}
