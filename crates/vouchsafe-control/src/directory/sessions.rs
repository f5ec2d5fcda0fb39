//! Sessions: showing and ending them.

use vouchsafe_model::id::SessionId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::Kind;

use super::{Actor, DirectoryError};
use crate::context::Context;
use crate::store::sessions::OpenSession;
use crate::store::{StoreError, Write, sessions};

/// Whether a session was there to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// It was open and is ended now.
    Ended,
    /// No such session is open.
    NotOpen,
}

/// Ends one session with everything that hangs on it: cookies, codes and tokens. `why` is for
/// people, such as `signed out`.
pub(crate) async fn end_session(
    write: &mut Write,
    id: &SessionId,
    why: &str,
    by: &Actor,
) -> Result<SessionEnd, StoreError> {
    let Some(session) = sessions::find(write.connection(), id).await? else { return Ok(SessionEnd::NotOpen) };
    end_all(write, &[session], why, by).await?;
    Ok(SessionEnd::Ended)
}

/// Ends several sessions.
pub(super) async fn end_all(write: &mut Write, open: &[OpenSession], why: &str, by: &Actor) -> Result<(), StoreError> {
    for session in open {
        sessions::end(write.connection(), session, why).await?;
        write.change(Change::Session(session.id));
        let mut record = by.record(Kind::SessionEnd, clock::now());
        // The record is about the session's user and device; who ended it stands in the detail.
        record.user = Some(session.user.to_string());
        record.device = session.device.map(|device| device.to_string());
        record.session = Some(session.id.to_string());
        record.target = Some(format!("session/{}", session.id));
        record.outcome = Some("ok".to_owned());
        record.detail = Some(format!("{why}, by {}", by.label()));
        write.audit(record);
    }
    Ok(())
}

/// Ends a session for an administrator.
pub(crate) async fn end(context: &Context, id: &str, by: &Actor) -> Result<(), DirectoryError> {
    let session: SessionId = id.parse()?;
    let mut write = context.store.write().await?;
    match end_session(&mut write, &session, "ended by an administrator", by).await? {
        SessionEnd::NotOpen => Err(DirectoryError::Missing { what: "session", name: id.to_owned() }),
        SessionEnd::Ended => {
            write.audit(by.changed("session.end", format!("session/{session}"), String::new()));
            Ok(write.commit().await?)
        }
    }
}
