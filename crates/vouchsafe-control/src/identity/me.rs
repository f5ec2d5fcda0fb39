//! A person's own page: who we think you are, what you can reach, your passkeys, devices, sessions and requests, and what
//! the log has of you.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, header};
use vouchsafe_model::id::{DeviceId, PasskeyId, SessionId};
use vouchsafe_model::name::ResourceName;
use vouchsafe_policy::{Open, Way, WhatCan};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::AuditPage;

use super::Service;
use super::authenticate::query_fields;
use super::guard::{Peer, Presence, SignedIn, field, form, presence};
use super::refusal::Refusal;
use super::register::{FRESH_SECONDS, note};
use super::session::clear_cookie;
use crate::administrator::own::{self, Reached};
use crate::administrator::{AdministratorError, standing};
use crate::audit::{self, Own};
use crate::context::Context;
use crate::directory::{self, Actor};
use crate::pages;
use crate::pages::me::{Activity, App, Apps, MyPage, Told};
use crate::store::{StoreError, devices, passkeys, requests, resources, sessions, tokens, users};

/// Records of each kind on the page.
const FEW: u32 = 5;
/// Records on a page of nothing else.
const PAGE: u32 = 25;
/// Apps on the page.
const MOST_APPS: usize = 60;
/// Requests on the page: all that can be open, and the newest of the others.
const MOST_REQUESTS: u32 = 10;

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
    service.limit(|limits| &limits.pages, peer.ip())?;
    let now = clock::unix_seconds(clock::now());
    let user = &signed_in.facts.user.name;
    let reached = own::reached(context, &signed_in.facts).await;
    let asked = [(Own::Denials, FEW), (Own::Accesses, FEW), (Own::Readers, FEW)];
    let actor = signed_in.actor(&peer);
    let told = audit::own(context, user, &asked, None, &actor).await;
    // Before a reader is held here: who holds one and waits for another may wait for others that do the same.
    let console = console_for(context, &actor).await;
    let mut read = context.store.read().await?;
    let Some(account) = users::show(&mut read, user, now).await? else { return Err(Refusal::SignInRequired.into()) };
    let (apps, more_apps) = match &reached {
        Ok(reached) => apps(context, &mut read, reached).await?,
        Err(_) => (Vec::new(), 0),
    };
    let page = MyPage {
        now,
        devices: devices::list_of(&mut read, user).await?,
        sessions: tokens::sessions_of(&mut read, user, now).await?,
        requests: requests::newest_of(&mut read, user, MOST_REQUESTS).await?,
        account,
        apps: reached.map(|reached| Apps { apps, more: more_apps, whole: reached.whole }).map_err(note_failed).ok(),
        told: told.map(Told::of).map_err(|error| note_failed(error.into())).ok(),
        session: signed_in.facts.session.to_string(),
        device: signed_in.facts.device.as_ref().map(|device| device.name.to_string()),
        csrf: signed_in.csrf(),
        console,
        fresh: signed_in.auth_age() <= FRESH_SECONDS,
    };
    Ok(pages::me::page(&page))
}

/// Where the console is, if some policy lets her see it.
pub(super) async fn console_for(context: &Context, actor: &Actor) -> Option<String> {
    standing::may_see_console(context, actor).await.then(|| context.settings.origin("console"))
}

/// What she can't be shown now; the rest of her page, and ending sessions on it, goes on.
fn note_failed(error: AdministratorError) {
    tracing::warn!(error = &error as &dyn std::error::Error, "a part of a person's own page can't be shown");
}

/// Each app that she can reach, in the order of their names, and how many more there are.
async fn apps(
    context: &Context,
    connection: &mut sqlx::SqliteConnection,
    reached: &Reached,
) -> Result<(Vec<App>, usize), StoreError> {
    let console = ResourceName::console();
    let opens = reached.here.can.iter().chain(&reached.somehow.can);
    let names: BTreeSet<&str> =
        opens.map(|open| open.resource.as_str()).filter(|name| *name != console.as_str()).collect();
    let mut apps = Vec::new();
    for name in names.iter().take(MOST_APPS) {
        let Ok(name) = ResourceName::parse(name) else { continue };
        let Some(doc) = resources::show(connection, &name).await? else { continue };
        let of = |can: &WhatCan| -> Vec<Open> {
            can.can.iter().filter(|open| open.resource == name.as_str()).cloned().collect()
        };
        let (here, somehow) = (of(&reached.here), of(&reached.somehow));
        let is_here = !here.is_empty();
        let opens = if is_here { here } else { somehow };
        let actions = opens.iter().flat_map(|open| open.actions.clone()).collect();
        let first = opens.first().map(|open| &open.rights);
        let way = first.and_then(|rights| rights.ways.first());
        let port = doc.proxy_port.map_or(context.settings.port, std::num::NonZeroU16::get);
        apps.push(App {
            link: (doc.kind == "http").then(|| context.settings.origin_at(name.as_str(), port)),
            name: name.to_string(),
            description: doc.description,
            actions,
            demands: way.map(Way::demands).unwrap_or_default(),
            is_bounded: first.is_some_and(|rights| !rights.unless.is_empty() || !rights.may_fail.is_empty()),
            is_here,
        });
    }
    // What can be opened at once comes first.
    apps.sort_by_key(|app| !app.is_here);
    Ok((apps, names.len().saturating_sub(MOST_APPS)))
}

/// `GET /activity?show=&after=`: what the log has of her.
pub(super) async fn activity(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageRefusal> {
    let context = &service.context;
    let Presence::SignedIn(signed_in) = presence(context, &peer, &headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    service.limit(|limits| &limits.pages, peer.ip())?;
    let fields = query_fields(query.as_deref());
    let shown = match field(&fields, "show") {
        None | Some("accesses") => Own::Accesses,
        Some("denied") => Own::Denials,
        Some("sign-ins") => Own::SignIns,
        Some("readers") => Own::Readers,
        Some(_) => return Err(Refusal::NotFound.into()),
    };
    let after = match field(&fields, "after") {
        None => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| Refusal::NotFound)?),
    };
    let (user, actor) = (&signed_in.facts.user.name, signed_in.actor(&peer));
    let mut pages = audit::own(context, user, &[(shown, PAGE)], after, &actor).await?;
    let AuditPage { records, next } = pages.pop().ok_or(Refusal::Internal("a question without an answer"))?;
    Ok(pages::me::activity(&Activity {
        now: clock::unix_seconds(clock::now()),
        shown,
        records,
        next,
        is_first: after.is_none(),
        csrf: signed_in.csrf(),
        console: console_for(context, &actor).await,
        origin: context.settings.domain.to_string(),
    }))
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
    Ok(Redirect::to("/#sessions").into_response())
}

/// `POST /devices/remove`: one of the person's own devices.
pub(super) async fn remove_device(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageRefusal> {
    let (signed_in, fields) = form(&service.context, &peer, &headers, &body).await?;
    let id: DeviceId = field(&fields, "device").and_then(|id| id.parse().ok()).ok_or(Refusal::NotFound)?;
    let actor = signed_in.actor(&peer);
    directory::devices::remove_own(&service.context, &id, &signed_in.facts.user.name, &actor).await?;
    if peer.device_id() == Some(id) {
        // With it went this very session.
        return Ok(([(header::SET_COOKIE, clear_cookie())], Redirect::to("/signed-out")).into_response());
    }
    Ok(Redirect::to("/#devices").into_response())
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
