//! What a start does to the store: the very first, and every one.

use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_policy::{PolicyFile, default_policy};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{Invited, NewUser, PolicyFileDoc, PolicyVersion};
use vouchsafe_wire::audit::Kind;

use super::OpenError;
use crate::context::{Context, Settings};
use crate::directory::{ADMINISTRATORS, Actor, groups, users};
use crate::store::{self, Store, StoreError, policy, settings};

/// Name of the first user.
const FIRST_ADMINISTRATOR: &str = "admin";

/// Remembers the base domain at the first start, and refuses another one ever after: devices,
/// passkeys and certificates are bound to it.
pub(super) async fn remember_domain(store: &Store, given: &Settings) -> Result<(), OpenError> {
    let mut write = store.write().await?;
    match settings::read(write.connection(), settings::DOMAIN).await? {
        Some(remembered) if remembered == given.domain.as_str() => Ok(()),
        Some(remembered) => {
            Err(OpenError::OtherDomain { dir: given.dir.clone(), remembered, given: given.domain.clone() })
        }
        None => {
            settings::put(write.connection(), settings::DOMAIN, given.domain.as_str()).await?;
            Ok(write.commit().await?)
        }
    }
}

/// Makes the first administrator and the first policy, all at once; later, invites that
/// administrator again while nobody can sign in and no link is good.
pub(super) async fn first_start(context: &Context) -> Result<Option<Invited>, OpenError> {
    let by = Actor::Controller;
    let mut write = context.store.write().await?;
    let invited = if policy::highest(write.connection()).await? == 0 {
        let name = GroupName::parse(ADMINISTRATORS).map_err(crate::directory::DirectoryError::from)?;
        groups::add_in(&mut write, &name, &by).await?;
        let new = NewUser { name: FIRST_ADMINISTRATOR.to_owned(), groups: vec![ADMINISTRATORS.to_owned()] };
        let invited = users::add_in(&mut write, context, &new, &by).await?;
        let PolicyFile { name, text } = default_policy();
        let version = PolicyVersion {
            version: 1,
            created: clock::unix_seconds(clock::now()),
            by: by.label(),
            note: "first policy".to_owned(),
            current: true,
            policies: count(&text),
            files: vec![PolicyFileDoc { name, text }],
        };
        policy::insert(write.connection(), &version).await?;
        write.snapshot_changed();
        let mut record = by.changed("policy.publish", "policy/1".to_owned(), version.note);
        record.policy_version = Some(1);
        write.audit(record);
        Some(invited)
    } else {
        let name = UserName::parse(FIRST_ADMINISTRATOR).map_err(crate::directory::DirectoryError::from)?;
        let now = clock::unix_seconds(clock::now());
        let waiting = !store::users::any_passkey(write.connection()).await?
            && store::users::latest_invite(write.connection(), &name).await?.is_none_or(|expires| expires <= now)
            && store::users::show(write.connection(), &name, now).await?.is_some_and(|user| user.state == "invited");
        if waiting { Some(users::invite_in(&mut write, context, &name, &by).await?) } else { None }
    };
    write.commit().await?;
    Ok(invited)
}

fn count(text: &str) -> u64 {
    let source = vouchsafe_policy::PolicySource {
        version: 1,
        files: vec![PolicyFile { name: "vouchsafe.cedar".to_owned(), text: text.to_owned() }],
        ..Default::default()
    };
    // INVARIANT: the shipped policy compiles; a test of the policy crate says so.
    vouchsafe_policy::Engine::compile(source)
        .map(|engine| u64::try_from(engine.policies().len()).unwrap_or_default())
        .unwrap_or_default()
}

/// Records that the controller started.
pub(super) async fn record_start(context: &Context) -> Result<(), StoreError> {
    record(context, "controller.start", &format!("version {}", env!("CARGO_PKG_VERSION"))).await
}

/// Records that the controller stops.
pub(super) async fn record_stop(context: &Context) -> Result<(), StoreError> {
    record(context, "controller.stop", "").await
}

async fn record(context: &Context, verb: &str, detail: &str) -> Result<(), StoreError> {
    let mut record = Actor::Controller.record(Kind::Lifecycle, clock::now());
    record.action = Some(verb.to_owned());
    record.outcome = Some("ok".to_owned());
    record.detail = (!detail.is_empty()).then(|| detail.to_owned());
    let mut write = context.store.write().await?;
    write.audit(record);
    write.commit().await
}
