//! Whether whoever began something long may still complete it (I6): a proof takes up to a minute, and she may have
//! lost the right meanwhile.

use std::sync::Arc;

use sqlx::SqliteConnection;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_policy::{KeyAgreement, PreparedSubject};
use vouchsafe_runtime::clock;

use super::AdministratorError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{Write, facts};

/// Whether a user may also do what a form of the console comes to under another name: the API's method and path.
/// What a policy says about the one holds for the other, and no gateway has decided on that name.
pub(crate) async fn may(context: &Context, by: &Actor, operation: &str) -> Result<(), AdministratorError> {
    decided(context, &mut *context.store.read().await?, by, operation).await
}

/// Decides again, within the change and before anything of it: her session, her locks, and the policy in force.
/// `operation` is the method and path that she was let in for.
pub(super) async fn still_may(
    context: &Context,
    write: &mut Write,
    by: &Actor,
    operation: &str,
) -> Result<(), AdministratorError> {
    decided(context, write.connection(), by, operation).await
}

/// Whether a policy speaks of opening the console to her, here or under other circumstances, such as on a device. Takes a
/// reader of the store, so nobody may ask while holding one.
pub(crate) async fn may_see_console(context: &Context, by: &Actor) -> bool {
    let asked = async {
        let mut read = context.store.read().await?;
        judged(context, &mut read, by, Action::ConsoleRead, "GET /").await
    };
    match asked.await {
        Ok(None | Some(Reason::ConditionFailed | Reason::DeviceRequired | Reason::Forbidden)) => true,
        Ok(Some(_)) => false,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "whom the console opens to can't be said now");
            false
        }
    }
}

async fn decided(
    context: &Context,
    connection: &mut SqliteConnection,
    by: &Actor,
    operation: &str,
) -> Result<(), AdministratorError> {
    match judged(context, connection, by, Action::ConsoleWrite, operation).await? {
        None => Ok(()),
        Some(_) => Err(AdministratorError::NoLonger),
    }
}

/// Why the policy in force denies it, if it does. The owner of the machine is asked for nothing.
async fn judged(
    context: &Context,
    connection: &mut SqliteConnection,
    by: &Actor,
    action: Action,
    operation: &str,
) -> Result<Option<Reason>, AdministratorError> {
    let (session, ip, agreement) = match by {
        Actor::Local { .. } | Actor::Controller => return Ok(None),
        Actor::User { session: Some(session), ip, post_quantum, .. } => (session, *ip, KeyAgreement::of(*post_quantum)),
        Actor::User { .. } | Actor::Device { .. } | Actor::Anonymous { .. } => {
            return Err(AdministratorError::NoLonger);
        }
    };
    let now = clock::now();
    let subject = facts::subject_by_session(&mut *connection, session, clock::unix_seconds(now)).await?;
    let engine = context.live.engine(&mut *connection).await?;
    let subject = PreparedSubject::new(engine, Arc::new(subject.map_err(|_| AdministratorError::NoLonger)?));
    Ok(subject.decide_console(action, operation, ip, agreement, now).err().map(|denial| denial.reason))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;
    use vouchsafe_model::name::UserName;

    use super::*;
    use crate::store::testing;
    use crate::testing::Bench;

    const DEMANDS: &str = r#"@id("quantum") forbid (principal, action == Action::"console:write", resource)
        when { context.request.operation like "* /v1/locks/*" } unless { context.tls.post_quantum };"#;

    #[tokio::test]
    async fn a181_what_her_connection_was_agreed_on_counts_for_operations_under_another_name() {
        let bench = Bench::open().await;
        bench.done("POST", "/v1/users", json!({"name": "ann", "groups": ["administrators"]})).await;
        let current = bench.done("GET", "/v1/policy", json!(null)).await;
        let mut files = current["files"].as_array().unwrap().clone();
        files.push(json!({"name": "quantum.cedar", "text": DEMANDS}));
        bench.done("POST", "/v1/policy/publish", json!({"files": files})).await;
        let session = testing::session(&bench.context().store, "ann", None, "cookie").await;
        let on = |post_quantum| Actor::User {
            name: UserName::parse("ann").unwrap(),
            session: Some(session),
            device: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            post_quantum,
            decision: None,
        };
        for (operation, post_quantum, passes) in [
            ("DELETE /v1/locks/user/eve", true, true),
            ("DELETE /v1/locks/user/eve", false, false),
            ("DELETE /v1/groups/none", false, true),
        ] {
            let seen = may(bench.context(), &on(post_quantum), operation).await;
            assert_eq!(seen.is_ok(), passes, "{operation} {post_quantum}: {seen:?}");
            let mut write = bench.context().store.write().await.unwrap();
            let seen = still_may(bench.context(), &mut write, &on(post_quantum), operation).await;
            assert_eq!(seen.is_ok(), passes, "{operation} {post_quantum}: {seen:?}");
        }
    }
}
