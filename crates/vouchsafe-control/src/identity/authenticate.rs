//! Signing in with a passkey, and where to go then.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, http::HeaderMap};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Record;
use webauthn_rs::prelude::Passkey;

use super::app::AppTarget;
use super::guard::{self, Peer, Presence, Site, field, json as read_json, presence, same_site};
use super::me::PageRefusal;
use super::refusal::Refusal;
use super::secret::{Secret, UserCode};
use super::session::{open_browser, refused_record, renew_browser};
use super::{Service, app};
use crate::pages;
use crate::pages::sign_in::Wanted;
use crate::store::ceremonies::{self, Ceremony};
use crate::store::{StoreError, Write, facts, passkeys};

const KIND: &str = "authenticate";
/// Life of a ceremony, seconds.
pub(super) const CEREMONY_LIFE_SECONDS: u64 = 300;
/// Ceremonies of all people that may be under way; it bounds what strangers can make us keep.
const MAX_CEREMONIES: u64 = 20_000;

/// Where a sign-in leads. Built here out of checked parts, never taken as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The person's own page.
    Home,
    /// An app host that sent the browser here.
    App(AppTarget),
    /// The approval of a sign-in on a device; the code as typed.
    Device(String),
}

impl Next {
    /// Reads the query of `/sign-in`; what is not understood leads home.
    fn of_query(fields: &[(String, String)]) -> Self {
        if let Some(code) = field(fields, "user_code").and_then(UserCode::parse) {
            return Next::Device(code.shown());
        }
        match (field(fields, "app"), field(fields, "state")) {
            (Some(label), Some(state)) => AppTarget::parse(label, state).map_or(Next::Home, Next::App),
            _ => Next::Home,
        }
    }

    /// Reads the `next` of a script: a path of ours with its query.
    fn of_path(path: &str) -> Self {
        match path.strip_prefix("/sign-in?") {
            Some(query) => Next::of_query(&query_fields(Some(query))),
            None => Next::Home,
        }
    }

    /// The page that goes on once somebody is signed in.
    fn path(&self) -> String {
        match self {
            Next::Home => "/".to_owned(),
            Next::App(target) => format!("/sign-in?app={}&state={}", target.label(), target.state()),
            Next::Device(code) => format!("/device?user_code={code}"),
        }
    }

    /// The query that brings a signed-out browser back to this.
    fn sign_in_path(&self) -> String {
        match self {
            Next::Home => "/sign-in".to_owned(),
            Next::App(_) => self.path(),
            Next::Device(code) => format!("/sign-in?user_code={code}"),
        }
    }
}

/// Fields of a query, a bounded number of them.
pub(super) fn query_fields(query: Option<&str>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().take(16).collect()
}

/// `GET /sign-in`: goes on at once when somebody is signed in, else asks for the passkey.
pub(super) async fn page(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageRefusal> {
    let fields = query_fields(query.as_deref());
    let next = Next::of_query(&fields);
    let fresh = if field(&fields, "fresh").is_some() { Wanted::Afresh } else { Wanted::Once };
    let mut signed_in_already = false;
    match presence(&service.context, &peer, &headers).await? {
        Presence::SignedIn(signed_in) if fresh == Wanted::Once => {
            let to = match &next {
                Next::App(target) => app::send(&service.context, &signed_in, target).await?,
                Next::Home | Next::Device(_) => next.path(),
            };
            return Ok(Redirect::to(&to).into_response());
        }
        Presence::OtherDevice(facts) => note_other_device(&service, &peer, &facts.user.name).await?,
        Presence::SignedIn(_) => signed_in_already = true,
        Presence::Nobody => {}
    }
    // Whoever isn't signed in at all does that, which is as fresh as can be.
    let wanted = if signed_in_already { fresh } else { Wanted::Once };
    let going_to = match &next {
        Next::App(target) => Some(service.context.settings.domain.host(target.label())),
        Next::Home | Next::Device(_) => None,
    };
    Ok(pages::sign_in::page(&next.sign_in_path(), going_to.as_deref(), wanted))
}

/// Somebody showed a cookie that belongs to another device: perhaps a stolen one.
async fn note_other_device(service: &Service, peer: &Peer, user: &UserName) -> Result<(), Refusal> {
    if service.limit(|limits| &limits.notes, peer.ip()).is_err() {
        return Ok(());
    }
    let mut write = service.context.store.write().await?;
    let mut record =
        refused_record(peer, "sign-in", Some(user), "the session cookie belongs to a session on another device");
    record.reason = Some("device_mismatch".to_owned());
    write.audit(record);
    Ok(write.commit().await?)
}

/// `POST /webauthn/authenticate/start`.
pub(super) async fn start(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    same_site(&service.context, &headers, Site::NotForeign)?;
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let Empty {} = read_json(&headers, &body)?;
    let begun = service.relying.begin_authentication().map_err(|_| Refusal::Internal("a ceremony that can't begin"))?;
    let id = begin(&service, KIND, begun.state, None, None).await?;
    Ok(Json(json!({ "ceremony": id.expose(), "publicKey": begun.options })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// Keeps the state of a ceremony under a fresh id.
pub(super) async fn begin(
    service: &Service,
    kind: &str,
    state: String,
    user: Option<UserName>,
    invite: Option<String>,
) -> Result<Secret, Refusal> {
    let id = Secret::fresh();
    let now = clock::unix_seconds(clock::now());
    let ceremony = Ceremony {
        id_hash: id.hash(),
        kind: kind.to_owned(),
        state,
        user,
        invite,
        expires: now.saturating_add(CEREMONY_LIFE_SECONDS),
    };
    let mut write = service.context.store.write().await?;
    if ceremonies::put(write.connection(), &ceremony, now, MAX_CEREMONIES).await? > MAX_CEREMONIES {
        return Err(Refusal::TooFast);
    }
    write.commit().await?;
    Ok(id)
}

/// Takes a ceremony of that kind out. Whatever happens next, it can't be finished again.
pub(super) async fn take(write: &mut Write, id: &str, kinds: &[&str], now: u64) -> Result<Ceremony, Refusal> {
    const GONE: Refusal = Refusal::NotGood("This attempt has expired or was used already. Start again.");
    let id = Secret::presented(id).ok_or(GONE)?;
    let ceremony = ceremonies::take(write.connection(), &id.hash(), now).await?.ok_or(GONE)?;
    if kinds.contains(&ceremony.kind.as_str()) { Ok(ceremony) } else { Err(GONE) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    ceremony: String,
    credential: Value,
    #[serde(default)]
    next: Option<String>,
    /// Whoever is signed in proves it anew, and stays so.
    #[serde(default)]
    fresh: bool,
}

/// `POST /webauthn/authenticate/finish`.
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
    let mut write = service.context.store.write().await?;
    let opened = match verify(&service, &mut write, &peer, &finish).await {
        Ok(user) => match previous {
            Presence::SignedIn(signed_in) if finish.fresh && signed_in.facts.user.name == user => {
                let renewed = renew_browser(&mut write, &peer, &signed_in, clock::unix_seconds(clock::now())).await;
                renewed.map_err(|refusal| Refused::step(&peer, "step-up", Some(&user), refusal))
            }
            previous => open_after(&mut write, &peer, &user, previous).await,
        },
        Err(refused) => Err(refused),
    };
    match opened {
        Ok(set_cookie) => {
            write.commit().await?;
            let next = finish.next.as_deref().map_or(Next::Home, Next::of_path);
            let next = format!("{}{}", service.context.settings.origin(guard::AUTH_LABEL), next.path());
            Ok(([(header::SET_COOKIE, set_cookie)], Json(json!({ "next": next }))).into_response())
        }
        Err(Refused::Recorded(record, refusal)) => {
            write.audit(*record);
            write.commit().await?;
            Err(refusal)
        }
        // Nothing was decided, so nothing is written: also the ceremony is still there.
        Err(Refused::Failed(refusal)) => Err(refusal),
    }
}

/// Why a sign-in was refused.
pub(super) enum Refused {
    /// By a decision, which has its record.
    Recorded(Box<Record>, Refusal),
    /// By a failure of our own.
    Failed(Refusal),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Failed(error.into())
    }
}

impl Refused {
    /// A refusal with its record.
    pub(super) fn recorded(peer: &Peer, action: &str, user: Option<&UserName>, why: &str, refusal: Refusal) -> Self {
        Refused::Recorded(Box::new(refused_record(peer, action, user, why)), refusal)
    }

    /// A refusal of a step, recorded unless it is our own failure.
    pub(super) fn step(peer: &Peer, action: &str, user: Option<&UserName>, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Store(_) | Refusal::Ca(_) | Refusal::Internal(_) => Refused::Failed(refusal),
            decided => Refused::recorded(peer, action, user, &decided.to_string(), decided),
        }
    }
}

async fn verify(service: &Service, write: &mut Write, peer: &Peer, finish: &Finish) -> Result<UserName, Refused> {
    const ACTION: &str = "sign-in";
    let now = clock::unix_seconds(clock::now());
    let ceremony = take(write, &finish.ceremony, &[KIND], now)
        .await
        .map_err(|refusal| Refused::step(peer, ACTION, None, refusal))?;
    let refuse = |user: Option<&UserName>, why: &str| Refused::recorded(peer, ACTION, user, why, Refusal::Passkey);
    let (credential, id) =
        service.relying.identify(&finish.credential).map_err(|error| refuse(None, &error.to_string()))?;
    let Some(mut stored) = passkeys::find(write.connection(), &id).await? else {
        return Err(refuse(None, "the passkey is not registered"));
    };
    let Some(user) = facts::user(write.connection(), &stored.user).await? else {
        return Err(refuse(Some(&stored.user), "the user is disabled or locked"));
    };
    let mut passkey: Passkey = serde_json::from_str(&stored.passkey)
        .map_err(|_| Refused::Failed(StoreError::Corrupt { what: "passkey" }.into()))?;
    service
        .relying
        .finish_authentication(&ceremony.state, &credential, &mut passkey, user.id)
        .map_err(|error| refuse(Some(&user.name), &describe(&error)))?;
    stored.passkey = serde_json::to_string(&passkey)
        .map_err(|_| Refused::Failed(Refusal::Internal("a passkey that can't be written")))?;
    passkeys::used(write.connection(), &stored, now).await?;
    Ok(user.name)
}

/// An error with its causes in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

/// Opens the session; the one this browser had before ends, so that its id can't be carried over.
async fn open_after(
    write: &mut Write,
    peer: &Peer,
    user: &UserName,
    previous: Presence,
) -> Result<http::HeaderValue, Refused> {
    let now = clock::unix_seconds(clock::now());
    let set_cookie = open_browser(write, peer, user, now)
        .await
        .map_err(|refusal| Refused::step(peer, "sign-in", Some(user), refusal))?;
    if let Presence::SignedIn(previous) = previous {
        let actor = previous.actor(peer);
        crate::directory::end_session(write, &previous.facts.session, "signed in anew", &actor).await?;
    }
    Ok(set_cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_never_leads_elsewhere() {
        let state = "s".repeat(43);
        for bad in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "",
            "/sign-in",
            "/sign-in?app=evil.example&state=x",
            &format!("/sign-in?app=evil.example&state={state}"),
            &format!("/sign-in?app=auth&state={state}"),
            &format!("/sign-in?app=wiki&app=other&state={state}"),
            &format!("/sign-in?app=wiki%2e&state={state}"),
            "/sign-in?user_code=AAAA",
        ] {
            assert_eq!(Next::of_path(bad), Next::Home, "{bad}");
        }
        let good = format!("/sign-in?app=wiki&state={state}");
        assert_eq!(Next::of_path(&good).path(), good);
        assert_eq!(Next::of_path("/sign-in?user_code=bcdfghjk").path(), "/device?user_code=BCDF-GHJK");
    }
}
