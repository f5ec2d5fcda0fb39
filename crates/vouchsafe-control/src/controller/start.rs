//! What a start does to the store: the very first, and every one.

use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_policy::{PolicyFile, default_policy};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{Invited, NewUser, PolicyFileDoc, PolicyVersion};
use vouchsafe_wire::audit::Kind;

use super::OpenError;
use super::upkeep::expire_grant;
use crate::administrator::modes;
use crate::context::{Context, Settings};
use crate::directory::{ADMINISTRATORS, Actor, end_session, groups, locks, users};
use crate::store::{self, Store, StoreError, grants, policy, purge, sessions, settings};

/// How far the clock may be behind the latest time that was seen: that is noted each minute, and clocks
/// of machines that start are a little off before they are set.
const CLOCK_LEEWAY_SECONDS: u64 = 60;
/// Rows that one statement takes.
const BATCH: u32 = 500;
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

/// Ends everything that has an end when the clock was set back while nobody ran: by that clock it would
/// live longer than it was given. (While we run, time never goes back.) Locks are the other way round: those that
/// ended by a clock that was ahead come back.
pub(super) async fn notice_the_clock(store: &Store) -> Result<(), StoreError> {
    let now = clock::unix_seconds(clock::now());
    let mut write = store.write().await?;
    let latest = settings::read(write.connection(), settings::CLOCK).await?;
    let latest = latest.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    settings::put(write.connection(), settings::CLOCK, &now.to_string()).await?;
    // What was over by the latest time that was seen is over, however little the clock went back.
    while modes::end_over(&mut write, latest, BATCH).await? > 0 {}
    if now.saturating_add(CLOCK_LEEWAY_SECONDS) >= latest {
        return write.commit().await;
    }
    let back = latest.saturating_sub(now);
    tracing::warn!(
        seconds = back,
        "the clock was set back; all sessions, timed grants, modes, codes, tickets and invitations end"
    );
    while purge::expired(write.connection(), u64::MAX, BATCH).await? > 0 {}
    loop {
        let open = sessions::expired(write.connection(), u64::MAX, BATCH).await?;
        if open.is_empty() {
            break;
        }
        for session in open {
            end_session(&mut write, &session.id, "the clock was set back", &Actor::Controller).await?;
        }
    }
    loop {
        let timed = grants::expired(write.connection(), u64::MAX, BATCH).await?;
        if timed.is_empty() {
            break;
        }
        for grant in timed {
            expire_grant(&mut write, &grant).await?;
        }
    }
    while modes::end_over(&mut write, u64::MAX, BATCH).await? > 0 {}
    let returned = locks::return_unended(&mut write, now).await?;
    let mut record = Actor::Controller.record(Kind::Lifecycle, clock::now());
    record.action = Some("controller.clock".to_owned());
    record.outcome = Some("ok".to_owned());
    record.detail = Some(format!(
        "the clock was set back by {back} s; all sessions, timed grants, modes, codes, tickets and invitations \
                      ended, {returned} locks came back"
    ));
    write.audit(record);
    write.commit().await
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
            approved_by: None,
            note: "first policy".to_owned(),
            current: true,
            confirm_by: None,
            policies: count(&text),
            files: vec![PolicyFileDoc { name, text }],
            tests: Vec::new(),
            invariants: Vec::new(),
            proofs: Vec::new(),
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
            && store::invites::link_expires(write.connection(), &name).await?.is_none_or(|expires| expires <= now)
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

/// Records that the controller stops, and when.
pub(super) async fn record_stop(context: &Context) -> Result<(), StoreError> {
    let mut write = context.store.write().await?;
    let now = clock::unix_seconds(clock::now());
    settings::put(write.connection(), settings::CLOCK, &now.to_string()).await?;
    write.commit().await?;
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
