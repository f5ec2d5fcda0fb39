//! Registering passkeys: the first one by an invitation, further ones by who is signed in.
//!
//! An invitation for somebody who has passkeys already is a recovery: when it is used, it replaces
//! all of them and ends all sessions. Until then nothing changes.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use vouchsafe_model::id::PasskeyId;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Kind;
use webauthn_rs::prelude::Passkey;

use super::Service;
use super::authenticate::{Refused, begin, describe, take};
use super::guard::{self, CSRF_HEADER, Peer, Presence, SignedIn, Site, json as read_json, presence, same_site};
use super::refusal::Refusal;
use super::secret::Secret;
use super::session::open_browser;
use crate::directory::{Actor, end_session};
use crate::pages;
use crate::store::ceremonies::Ceremony;
use crate::store::invites::{self, PersonInvite};
use crate::store::passkeys::{self, Registered, StoredPasskey};
use crate::store::{Write, facts, sessions};

const BY_INVITE: &str = "register";
const BY_SESSION: &str = "add";
const ACTION: &str = "passkey.add";
/// A sign-in older than this must be repeated before a passkey is added or removed, seconds.
pub(super) const FRESH_SECONDS: u64 = 15 * 60;
/// Passkeys that one person may have.
const MAX_PASSKEYS: usize = 20;

const INVITE_GONE: Refusal =
    Refusal::NotGood("This invitation was used already or has expired. Ask an administrator for a new one.");

/// `GET /invite`: the token stands behind `#` and never reaches a server log.
pub(super) async fn page() -> Response {
    pages::invite::page()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    #[serde(default)]
    invite: Option<String>,
}

/// `POST /webauthn/register/start`.
pub(super) async fn start(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    same_site(&service.context, &headers, Site::NotForeign)?;
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let start: Start = read_json(&headers, &body)?;
    let (user, invite) = match start.invite.as_deref() {
        Some(token) => {
            let hash = Secret::presented(token).ok_or(INVITE_GONE)?.hash();
            let now = clock::unix_seconds(clock::now());
            let mut read = service.context.store.read().await?;
            let PersonInvite(user) = invites::find(&mut read, &hash, now).await?.ok_or(INVITE_GONE)?;
            (user, Some(hash))
        }
        None => (of_session(&service, &peer, &headers).await?.facts.user.name, None),
    };
    let mut read = service.context.store.read().await?;
    let facts = facts::user(&mut read, &user).await?.ok_or(INVITE_GONE)?;
    let present = passkeys::of_user(&mut read, &user).await?;
    drop(read);
    let recovery = invite.is_some() && !present.is_empty();
    if invite.is_none() && present.len() >= MAX_PASSKEYS {
        return Err(Refusal::Conflict("You have as many passkeys as anybody may have. Remove one first."));
    }
    // In a recovery all old ones go, so the same authenticator may well be used again.
    let exclude: Vec<String> =
        if recovery { Vec::new() } else { present.into_iter().map(|passkey| passkey.credential_id).collect() };
    let begun = service
        .relying
        .begin_registration(&user, facts.id, &exclude)
        .map_err(|_| Refusal::Internal("a ceremony that can't begin"))?;
    let kind = if invite.is_some() { BY_INVITE } else { BY_SESSION };
    let id = begin(&service, kind, begun.state, Some(user.clone()), invite).await?;
    Ok(Json(json!({
        "ceremony": id.expose(),
        "user": user.as_str(),
        "recovery": recovery,
        "publicKey": begun.options,
    })))
}

/// The signed-in person who wants to add a passkey: from a page of ours, and freshly signed in, so
/// that a copied cookie can't make itself at home.
async fn of_session(service: &Service, peer: &Peer, headers: &HeaderMap) -> Result<SignedIn, Refusal> {
    same_site(&service.context, headers, Site::Proven)?;
    let signed_in = guard::signed_in(&service.context, peer, headers).await?;
    signed_in.verify_csrf(headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()))?;
    if signed_in.auth_age() > FRESH_SECONDS {
        return Err(Refusal::StepUp);
    }
    Ok(signed_in)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    ceremony: String,
    #[serde(default)]
    name: Option<String>,
    credential: Value,
}

/// `POST /webauthn/register/finish`.
pub(super) async fn finish(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    same_site(&service.context, &headers, Site::NotForeign)?;
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let finish: Finish = read_json(&headers, &body)?;
    let previous = presence(&service.context, &peer, &headers).await?;
    let adding = match &previous {
        Presence::SignedIn(_) => of_session(&service, &peer, &headers).await,
        Presence::OtherDevice(_) | Presence::Nobody => Err(Refusal::SignInRequired),
    };
    let mut write = service.context.store.write().await?;
    match register(&service, &mut write, &peer, &finish, adding, previous).await {
        Ok(set_cookie) => {
            write.commit().await?;
            let next = format!("{}/", service.context.settings.origin(guard::AUTH_LABEL));
            let mut response = Json(json!({ "next": next })).into_response();
            if let Some(set_cookie) = set_cookie {
                response.headers_mut().insert(header::SET_COOKIE, set_cookie);
            }
            Ok(response)
        }
        Err(Refused::Recorded(record, refusal)) => {
            write.audit(*record);
            write.commit().await?;
            Err(refusal)
        }
        Err(Refused::Failed(refusal)) => Err(refusal),
    }
}

/// A refusal is committed too, for its record and for the ceremony that is used up by it. So
/// everything that can refuse comes before the first change.
async fn register(
    service: &Service,
    write: &mut Write,
    peer: &Peer,
    finish: &Finish,
    adding: Result<SignedIn, Refusal>,
    previous: Presence,
) -> Result<Option<HeaderValue>, Refused> {
    let now = clock::unix_seconds(clock::now());
    let step = |user: Option<&UserName>, refusal| Refused::step(peer, ACTION, user, refusal);
    let ceremony =
        take(write, &finish.ceremony, &[BY_INVITE, BY_SESSION], now).await.map_err(|refusal| step(None, refusal))?;
    let passkey = service.relying.finish_registration(&ceremony.state, &finish.credential).map_err(|error| {
        Refused::recorded(peer, ACTION, ceremony.user.as_ref(), &describe(&error), Refusal::Passkey)
    })?;
    let Ceremony { user: Some(user), invite, .. } = ceremony else {
        return Err(Refused::Failed(Refusal::Internal("a registration of nobody")));
    };
    if facts::user(write.connection(), &user).await?.is_none() {
        return Err(step(Some(&user), INVITE_GONE));
    }
    match invite {
        Some(invite) => {
            let invited = invites::find(write.connection(), &invite, now).await?;
            if invited.is_none_or(|PersonInvite(invited)| invited != user) {
                return Err(step(Some(&user), INVITE_GONE));
            }
            if let Some(device) = peer.device_id()
                && facts::device(write.connection(), &device).await?.is_none()
            {
                return Err(step(Some(&user), Refusal::DeviceUnknown));
            }
            let old = passkeys::of_user(write.connection(), &user).await?;
            let id = keep(write, peer, &user, &passkey, finish.name.as_deref(), now).await?;
            invites::take::<PersonInvite>(write.connection(), &invite, now).await?;
            let how = if old.is_empty() { "by invitation" } else { "by invitation, in place of all earlier passkeys" };
            let actor = Actor::User {
                name: user.clone(),
                session: None,
                device: peer.device_id(),
                ip: peer.ip(),
                post_quantum: peer.is_post_quantum(),
                decision: None,
            };
            note(write, &actor, ACTION, &id, how);
            replace(write, &actor, &user, old).await?;
            let set_cookie =
                open_browser(write, peer, &user, now).await.map_err(|refusal| step(Some(&user), refusal))?;
            passkeys::signed_in(write.connection(), &user, now).await?;
            if let Presence::SignedIn(previous) = previous
                && previous.facts.user.name != user
            {
                let actor = previous.actor(peer);
                end_session(write, &previous.facts.session, "somebody else registered in this browser", &actor).await?;
            }
            Ok(Some(set_cookie))
        }
        None => {
            let signed_in = adding.map_err(|refusal| step(Some(&user), refusal))?;
            if signed_in.facts.user.name != user {
                return Err(step(Some(&user), Refusal::SignInRequired));
            }
            let id = keep(write, peer, &user, &passkey, finish.name.as_deref(), now).await?;
            note(write, &signed_in.actor(peer), ACTION, &id, "on the person's own page");
            Ok(None)
        }
    }
}

async fn keep(
    write: &mut Write,
    peer: &Peer,
    user: &UserName,
    passkey: &Passkey,
    name: Option<&str>,
    now: u64,
) -> Result<PasskeyId, Refused> {
    let json = serde_json::to_string(passkey)
        .map_err(|_| Refused::Failed(Refusal::Internal("a passkey that can't be written")))?;
    let stored = StoredPasskey {
        id: PasskeyId::from_random(clock::random()),
        user: user.clone(),
        credential_id: URL_SAFE_NO_PAD.encode(passkey.cred_id()),
        name: display_name(name),
        passkey: json,
    };
    match passkeys::insert(write.connection(), &stored, now).await? {
        Registered::New => Ok(stored.id),
        Registered::Known => Err(Refused::recorded(
            peer,
            ACTION,
            Some(user),
            "the credential id is registered already",
            Refusal::Passkey,
        )),
    }
}

/// Removes what a recovery replaces: all earlier passkeys and all sessions.
async fn replace(write: &mut Write, actor: &Actor, user: &UserName, old: Vec<StoredPasskey>) -> Result<(), Refused> {
    if old.is_empty() {
        return Ok(());
    }
    for passkey in old {
        passkeys::remove(write.connection(), user, &passkey.id).await?;
        note(write, actor, "passkey.remove", &passkey.id, "replaced in a recovery");
    }
    for session in sessions::of_user(write.connection(), user).await? {
        end_session(write, &session.id, "recovery by a new invitation", actor).await?;
    }
    Ok(())
}

/// Records a change of a passkey.
pub(super) fn note(write: &mut Write, actor: &Actor, action: &str, id: &PasskeyId, detail: &str) {
    let mut record = actor.record(Kind::Passkey, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("ok".to_owned());
    record.target = Some(format!("passkey/{id}"));
    record.detail = Some(detail.to_owned());
    write.audit(record);
}

/// The name a person gives a passkey: one short line.
fn display_name(given: Option<&str>) -> String {
    let line: String = given.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(60).collect();
    let line = line.trim();
    if line.is_empty() { "Passkey".to_owned() } else { line.to_owned() }
}
