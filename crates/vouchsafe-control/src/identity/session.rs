//! Opening sessions.

use http::HeaderValue;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::AuthMethod;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::{Kind, Record};

use super::guard::{AUTH_LABEL, COOKIE, Peer, SignedIn};
use super::refusal::Refusal;
use super::secret::Secret;
use crate::directory::Actor;
use crate::store::certified::{self, Holder};
use crate::store::sessions::{self, NewSession, SessionKind};
use crate::store::{StoreError, Write, facts, tokens};

/// Life of a session, seconds.
pub(super) const SESSION_LIFE_SECONDS: u64 = 12 * 3600;

/// Opens a browser session for a user who has just proven who she is. It is bound to the
/// connection's device; a device that is not enrolled opens nothing. Returns the `Set-Cookie` line.
pub(super) async fn open_browser(
    write: &mut Write,
    peer: &Peer,
    user: &UserName,
    now: u64,
) -> Result<HeaderValue, Refusal> {
    let device = peer.device_id();
    if let Some(device) = &device
        && facts::device(write.connection(), device).await?.is_none()
    {
        return Err(Refusal::DeviceUnknown);
    }
    let session = NewSession {
        id: SessionId::from_random(clock::random()),
        user: user.clone(),
        device,
        kind: SessionKind::Browser,
        methods: vec![AuthMethod::Passkey],
        auth_time: now,
        created: now,
        expires: now.saturating_add(SESSION_LIFE_SECONDS),
    };
    open(write, &session).await?;
    let cookie = Secret::fresh();
    tokens::insert_cookie(write.connection(), &cookie.hash(), &session.id, AUTH_LABEL).await?;
    write.audit(signed_in_record(&session, peer, "sign-in"));
    set_cookie(&cookie)
}

/// Notes that the person of a session has just proven anew who she is: the session goes on, and its end
/// stays where it was. Returns the `Set-Cookie` line of another cookie: the one before may have been known to
/// somebody who could not have done that.
pub(super) async fn renew_browser(
    write: &mut Write,
    peer: &Peer,
    signed_in: &SignedIn,
    now: u64,
) -> Result<HeaderValue, Refusal> {
    let found = facts::subject_by_session(write.connection(), &signed_in.facts.session, now).await?;
    // It may have ended since it was looked up, and nothing of it may live on.
    let facts = found.map_err(|_| Refusal::SignInRequired)?;
    let session = NewSession {
        id: facts.session,
        user: facts.user.name,
        device: facts.device.map(|device| device.id),
        kind: SessionKind::Browser,
        methods: vec![AuthMethod::Passkey],
        auth_time: now,
        created: now,
        expires: clock::unix_seconds(facts.expires),
    };
    sessions::renew(write.connection(), &session.id, &session.methods, now).await?;
    match session.device {
        // Whoever copied a cookie of it can't use it without the device.
        Some(_) => tokens::remove_cookie(write.connection(), &signed_in.cookie_hash()).await?,
        // It could have been copied, and must not become fresh with the session: all hosts get others.
        None => tokens::remove_cookies(write.connection(), &session.id).await?,
    }
    let cookie = Secret::fresh();
    tokens::insert_cookie(write.connection(), &cookie.hash(), &session.id, AUTH_LABEL).await?;
    write.change(Change::Session(session.id));
    write.audit(signed_in_record(&session, peer, "step-up"));
    set_cookie(&cookie)
}

/// Writes a session down and notes that its device was seen.
pub(super) async fn open(write: &mut Write, session: &NewSession) -> Result<(), StoreError> {
    sessions::insert(write.connection(), session).await?;
    if let Some(device) = &session.device {
        certified::seen(write.connection(), Holder::Device(*device), session.created).await?;
    }
    Ok(())
}

/// The record of a sign-in that succeeded.
pub(super) fn signed_in_record(session: &NewSession, peer: &Peer, action: &str) -> Record {
    let actor = Actor::User {
        name: session.user.clone(),
        session: Some(session.id),
        device: session.device,
        ip: peer.ip(),
        post_quantum: peer.is_post_quantum(),
        decision: None,
    };
    let mut record = actor.record(Kind::SignIn, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("ok".to_owned());
    record.auth_methods = session.methods.iter().map(|method| method.as_str().to_owned()).collect();
    record.auth_time_us = Some(session.auth_time.saturating_mul(1_000_000));
    record.detail = Some(format!("{} session", session.kind.as_str()));
    record
}

/// The record of a sign-in, or of a step of one, that was refused. Whoever tried has proven nothing,
/// so a name can stand only in the target.
pub(super) fn refused_record(peer: &Peer, action: &str, user: Option<&UserName>, why: &str) -> Record {
    let mut record = peer.nobody().record(Kind::SignIn, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("failed".to_owned());
    record.target = user.map(|user| format!("user/{user}"));
    record.detail = Some(why.to_owned());
    record
}

/// A record of a step that is neither a success nor a failure of a sign-in by itself.
pub(super) fn step_record(actor: &Actor, action: &str, device: &DeviceId, detail: &str) -> Record {
    let mut record = actor.record(Kind::SignIn, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("ok".to_owned());
    record.target = Some(format!("device/{device}"));
    record.detail = Some(detail.to_owned());
    record
}

fn set_cookie(cookie: &Secret) -> Result<HeaderValue, Refusal> {
    let line =
        format!("{COOKIE}={}; Path=/; Max-Age={SESSION_LIFE_SECONDS}; Secure; HttpOnly; SameSite=Lax", cookie.expose());
    let mut value = HeaderValue::from_str(&line).map_err(|_| Refusal::Internal("a cookie that is no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes the cookie away from the browser.
pub(super) fn clear_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-vouchsafe=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}
