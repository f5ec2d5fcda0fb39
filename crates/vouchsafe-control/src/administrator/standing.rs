//! Whether whoever began something long may still complete it (I6): a proof takes up to a minute, and she may have
//! lost the right meanwhile.

use std::sync::Arc;

use sqlx::SqliteConnection;
use vouchsafe_model::action::Action;
use vouchsafe_policy::{KeyAgreement, PreparedSubject};
use vouchsafe_runtime::clock;

use super::AdministratorError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{Write, facts};

/// Whether a user may also do what a form of the console comes to under another name: the API's method and path.
/// What a policy says about the one holds for the other. No gateway has decided on that name, and what her connection
/// was agreed on isn't told here: it counts as none that a policy can demand.
pub(crate) async fn may(context: &Context, by: &Actor, operation: &str) -> Result<(), AdministratorError> {
    decided(context, &mut *context.store.read().await?, by, operation, KeyAgreement::Other).await
}

/// Decides again, within the change and before anything of it: her session, her locks, and the policy in force.
/// `operation` is the method and path that she was let in for.
pub(super) async fn still_may(
    context: &Context,
    write: &mut Write,
    by: &Actor,
    operation: &str,
) -> Result<(), AdministratorError> {
    // Facts and policies may have changed since the gateway let her in; her connection can't have.
    decided(context, write.connection(), by, operation, KeyAgreement::PostQuantum).await
}

async fn decided(
    context: &Context,
    connection: &mut SqliteConnection,
    by: &Actor,
    operation: &str,
    agreement: KeyAgreement,
) -> Result<(), AdministratorError> {
    let (session, ip) = match by {
        Actor::Local { .. } | Actor::Controller => return Ok(()),
        Actor::User { session: Some(session), ip, .. } => (session, *ip),
        Actor::User { .. } | Actor::Device { .. } | Actor::Anonymous { .. } => {
            return Err(AdministratorError::NoLonger);
        }
    };
    let now = clock::now();
    let subject = facts::subject_by_session(&mut *connection, session, clock::unix_seconds(now)).await?;
    let engine = context.live.engine(&mut *connection).await?;
    let subject = PreparedSubject::new(engine, Arc::new(subject.map_err(|_| AdministratorError::NoLonger)?));
    match subject.decide_console(Action::ConsoleWrite, operation, ip, agreement, now) {
        Ok(_) => Ok(()),
        Err(_) => Err(AdministratorError::NoLonger),
    }
}
