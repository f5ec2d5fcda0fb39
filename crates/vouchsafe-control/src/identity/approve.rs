//! A person approves or refuses a sign-in on a device (RFC 8628 §3.3).

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderMap;
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_runtime::clock;

use super::Service;
use super::authenticate::query_fields;
use super::guard::{Peer, Presence, SignedIn, field, form, presence};
use super::me::PageRefusal;
use super::refusal::Refusal;
use super::secret::UserCode;
use super::session::step_record;
use crate::pages;
use crate::pages::device::Asked;
use crate::store::enrolment::{self, CodeState, DeviceCode};
use crate::store::{StoreError, facts};

/// How old the sign-in of who approves may be where a fresh one is asked for, seconds: she has come from there.
const FRESH_SECONDS: u64 = 10;
const NO_SUCH_CODE: Refusal =
    Refusal::NotGood("This code is not, or no longer, waiting for anybody. Start again on the device.");

/// `GET /device`: asks for the code, or shows what it stands for.
pub(super) async fn page(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageRefusal> {
    let fields = query_fields(query.as_deref());
    let Some(typed) = field(&fields, "user_code").filter(|typed| !typed.trim().is_empty()) else {
        return Ok(pages::device::ask());
    };
    let code = UserCode::parse(typed).ok_or(NO_SUCH_CODE)?;
    let Presence::SignedIn(signed_in) = presence(&service.context, &peer, &headers).await? else {
        return Ok(Redirect::to(&format!("/sign-in?user_code={}", code.shown())).into_response());
    };
    if field(&fields, "fresh").is_some() && signed_in.auth_age() > FRESH_SECONDS {
        return Ok(Redirect::to(&format!("/sign-in?user_code={}&fresh=1", code.shown())).into_response());
    }
    service.limit(|limits| &limits.guesses, peer.ip())?;
    let now = clock::unix_seconds(clock::now());
    let mut read = service.context.store.read().await?;
    let waiting = enrolment::find_pending(&mut read, &code.hash(), now).await?.ok_or(NO_SUCH_CODE)?;
    let device = facts::device(&mut read, &waiting.device).await?.ok_or(NO_SUCH_CODE)?;
    owned(&device, &signed_in)?;
    Ok(pages::device::confirm(&Asked {
        code: code.shown(),
        device: device.name.to_string(),
        owner: device.owner.map(|owner| owner.to_string()),
        ip: waiting.ip,
        asked: waiting.created,
        user: signed_in.facts.user.name.to_string(),
        csrf: signed_in.csrf(),
    }))
}

/// Somebody's device signs in nobody else: a link that a stranger sends can't lend him this sign-in.
fn owned(device: &DeviceFacts, signed_in: &SignedIn) -> Result<(), Refusal> {
    match &device.owner {
        Some(owner) if *owner != signed_in.facts.user.name => Err(Refusal::NotGood(
            "This sign-in was started on another person's device, so you can't approve it. \
             If somebody sent you this code, don't use it, and tell an administrator.",
        )),
        Some(_) | None => Ok(()),
    }
}

/// `POST /device`: the answer.
pub(super) async fn answer(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    service.limit(|limits| &limits.guesses, peer.ip())?;
    let state = match field(&fields, "answer") {
        Some("approve") => CodeState::Approved,
        Some("refuse") => CodeState::Denied,
        Some(_) | None => return Err(Refusal::Malformed("Choose one of the two buttons.").into()),
    };
    let code = field(&fields, "user_code").and_then(UserCode::parse).ok_or(NO_SUCH_CODE)?;
    let device = settle(&service, &peer, &signed_in, &code, state).await?;
    Ok(pages::device::done(state == CodeState::Approved, device.name.as_str()))
}

async fn settle(
    service: &Service,
    peer: &Peer,
    signed_in: &SignedIn,
    code: &UserCode,
    state: CodeState,
) -> Result<DeviceFacts, Refusal> {
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    let waiting: DeviceCode =
        enrolment::find_pending(write.connection(), &code.hash(), now).await?.ok_or(NO_SUCH_CODE)?;
    let device = facts::device(write.connection(), &waiting.device).await?.ok_or(NO_SUCH_CODE)?;
    if state == CodeState::Approved {
        owned(&device, signed_in)?;
    }
    // The session may have ended since it was looked up; nothing of it may live on.
    let session = facts::subject_by_session(write.connection(), &signed_in.facts.session, now).await?;
    session.map_err(|_| Refusal::SignInRequired)?;
    enrolment::answer_code(write.connection(), &waiting.code_hash, state, &signed_in.facts.session).await?;
    let action = match state {
        CodeState::Approved => "device-sign-in.approve",
        CodeState::Denied => "device-sign-in.refuse",
        CodeState::Pending => return Err(StoreError::Corrupt { what: "answer to a sign-in" }.into()),
    };
    let detail = format!("on {}, asked from {}", device.name, waiting.ip);
    write.audit(step_record(&signed_in.actor(peer), action, &device.id, &detail));
    write.commit().await?;
    Ok(device)
}
