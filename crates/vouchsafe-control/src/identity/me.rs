//! A person's own page: who we think you are, your passkeys, devices and sessions.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, header};
use vouchsafe_model::id::{PasskeyId, SessionId};
use vouchsafe_runtime::clock;

use super::Service;
use super::guard::{Peer, Presence, SignedIn, field, form, presence};
use super::refusal::Refusal;
use super::register::{FRESH_SECONDS, note};
use super::session::clear_cookie;
use crate::directory;
use crate::pages;
use crate::pages::me::MyPage;
use crate::store::{devices, passkeys, sessions, tokens, users};

/// A refusal as a page.
pub(super) struct PageRefusal(Refusal);

impl<E: Into<Refusal>> From<E> for PageRefusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        self.0.log();
        let (status, _) = self.0.status();
        let action = match self.0 {
            Refusal::SignInRequired => Some(("/sign-in", "Sign in")),
            Refusal::StepUp => Some(("/sign-in?fresh=1", "Sign in again")),
            _ => Some(("/", "To your page")),
        };
        pages::message::page(status, &self.0.to_string(), action)
    }
}

/// `GET /`.
pub(super) async fn page(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Response, PageRefusal> {
    let context = &service.context;
    let Presence::SignedIn(signed_in) = presence(context, &peer, &headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let now = clock::unix_seconds(clock::now());
    let user = &signed_in.facts.user.name;
    let mut read = context.store.read().await?;
    let Some(account) = users::show(&mut read, user, now).await? else { return Err(Refusal::SignInRequired.into()) };
    let page = MyPage {
        devices: devices::list_of(&mut read, user).await?,
        sessions: tokens::sessions_of(&mut read, user, now).await?,
        account,
        session: signed_in.facts.session.to_string(),
        device: signed_in.facts.device.as_ref().map(|device| device.name.to_string()),
        csrf: signed_in.csrf(),
        console: context.settings.origin("console"),
        fresh: signed_in.auth_age() <= FRESH_SECONDS,
    };
    Ok(pages::me::page(&page))
}

/// `GET /signed-out`.
pub(super) async fn signed_out() -> Response {
    pages::message::signed_out()
}

/// `POST /sign-out`, of this session or of all.
pub(super) async fn sign_out(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    let actor = signed_in.actor(&peer);
    let mut write = service.context.store.write().await?;
    if field(&fields, "everywhere").is_some() {
        for session in sessions::of_user(write.connection(), &signed_in.facts.user.name).await? {
            directory::end_session(&mut write, &session.id, "signed out everywhere", &actor).await?;
        }
    } else {
        directory::end_session(&mut write, &signed_in.facts.session, "signed out", &actor).await?;
    }
    write.commit().await?;
    Ok(([(header::SET_COOKIE, clear_cookie())], Redirect::to("/signed-out")).into_response())
}

/// `POST /sessions/end`: one of the person's own sessions.
pub(super) async fn end_session(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    let id: SessionId = field(&fields, "session").and_then(|id| id.parse().ok()).ok_or(Refusal::NotFound)?;
    let mut write = service.context.store.write().await?;
    let own =
        sessions::find(write.connection(), &id).await?.is_some_and(|session| session.user == signed_in.facts.user.name);
    if !own {
        return Err(Refusal::NotFound.into());
    }
    directory::end_session(&mut write, &id, "ended on the person's own page", &signed_in.actor(&peer)).await?;
    write.commit().await?;
    Ok(Redirect::to("/").into_response())
}

/// `POST /passkeys/remove`: never the last one, and only freshly signed in. All other sessions of hers end.
pub(super) async fn remove_passkey(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    if signed_in.auth_age() > FRESH_SECONDS {
        return Err(Refusal::StepUp.into());
    }
    let id: PasskeyId = field(&fields, "passkey").and_then(|id| id.parse().ok()).ok_or(Refusal::NotFound)?;
    remove(&service, &peer, &signed_in, &id).await?;
    Ok(Redirect::to("/").into_response())
}

async fn remove(service: &Service, peer: &Peer, signed_in: &SignedIn, id: &PasskeyId) -> Result<(), Refusal> {
    let user = &signed_in.facts.user.name;
    let mut write = service.context.store.write().await?;
    let present = passkeys::of_user(write.connection(), user).await?;
    if !present.iter().any(|passkey| passkey.id == *id) {
        return Err(Refusal::NotFound);
    }
    if present.len() < 2 {
        return Err(Refusal::Conflict("This is your only passkey, so it can't be removed. Add another one first."));
    }
    let name = passkeys::remove(write.connection(), user, id).await?.unwrap_or_default();
    let actor = signed_in.actor(peer);
    note(&mut write, &actor, "passkey.remove", id, &name);
    // Whoever removes a passkey doesn't trust it any more, nor what was opened with it. Which sessions those are isn't
    // kept, so all end but the one that she has just proven herself in.
    for session in sessions::of_user(write.connection(), user).await? {
        if session.id != signed_in.facts.session {
            directory::end_session(&mut write, &session.id, "a passkey was removed", &actor).await?;
        }
    }
    Ok(write.commit().await?)
}
