//! Whether whoever began something long may still complete it (I6): a proof takes up to a minute, and she may have
//! lost the right meanwhile.

use std::sync::Arc;

use vouchsafe_model::action::Action;
use vouchsafe_policy::PreparedSubject;
use vouchsafe_runtime::clock;

use super::AdministratorError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{Write, facts};

/// Decides again, within the change and before anything of it: her session, her locks, and the policy in force.
/// `operation` is the method and path that she was let in for.
pub(super) async fn still_may(
    context: &Context,
    write: &mut Write,
    by: &Actor,
    operation: &str,
) -> Result<(), AdministratorError> {
    let (session, ip) = match by {
        Actor::Local { .. } | Actor::Controller => return Ok(()),
        Actor::User { session: Some(session), ip, .. } => (session, *ip),
        Actor::User { .. } | Actor::Device { .. } | Actor::Anonymous { .. } => {
            return Err(AdministratorError::NoLonger);
        }
    };
    let now = clock::now();
    let subject = facts::subject_by_session(write.connection(), session, clock::unix_seconds(now)).await?;
    let engine = context.live.engine(write.connection()).await?;
    let subject = PreparedSubject::new(engine, Arc::new(subject.map_err(|_| AdministratorError::NoLonger)?));
    match subject.decide_console(Action::ConsoleWrite, operation, ip, now) {
        Ok(_) => Ok(()),
        Err(_) => Err(AdministratorError::NoLonger),
    }
}
