//! What every request passes first: who calls, from which site, with which session.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{Caller, ProvenDevice};
use zeroize::Zeroizing;

use super::refusal::Refusal;
use super::secret::{Secret, same};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{StoreError, facts};

/// Name of the session cookie on the sign-in host.
pub(super) const COOKIE: &str = "__Host-vouchsafe";
/// Label of the sign-in host, as `cookies` knows it.
pub(super) const AUTH_LABEL: &str = "auth";
/// Header in which scripts send the anti-forgery token.
pub(super) const CSRF_HEADER: &str = "x-vouchsafe-csrf";
const CSRF_PURPOSE: &str = "vouchsafe csrf v1";

/// Who calls, as the gateway found out on the connection. No header can say this.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Caller);

impl Peer {
    pub(super) fn ip(&self) -> IpAddr {
        self.0.ip
    }

    pub(super) fn device_id(&self) -> Option<DeviceId> {
        self.0.device.as_ref().map(|device| device.id)
    }

    pub(super) fn is_post_quantum(&self) -> bool {
        self.0.post_quantum
    }

    /// The device that the connection proved.
    pub(super) fn device(&self) -> Result<&ProvenDevice, Refusal> {
        self.0.device.as_ref().ok_or(Refusal::DeviceRequired)
    }

    /// Nobody in particular, for records.
    pub(super) fn nobody(&self) -> Actor {
        match self.device_id() {
            Some(id) => Actor::Device { id, ip: self.ip() },
            None => Actor::Anonymous { ip: self.ip() },
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Peer).ok_or(Refusal::Internal("a request without its caller"))
    }
}

/// A person who is signed in on this very connection.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) facts: SubjectFacts,
    cookie: Secret,
}

impl SignedIn {
    /// Anti-forgery token of the session: only pages of ours can know it.
    pub(super) fn csrf(&self) -> Zeroizing<String> {
        self.cookie.derive(CSRF_PURPOSE)
    }

    /// Whether a presented anti-forgery token is the session's.
    pub(super) fn verify_csrf(&self, presented: Option<&str>) -> Result<(), Refusal> {
        match presented {
            Some(token) if same(token, &self.csrf()) => Ok(()),
            Some(_) | None => Err(Refusal::CrossSite),
        }
    }

    /// Seconds since the person proved who she is.
    pub(super) fn auth_age(&self) -> u64 {
        clock::now().duration_since(self.facts.auth.at).unwrap_or_default().as_secs()
    }

    /// Hash of the cookie that was shown.
    pub(super) fn cookie_hash(&self) -> String {
        self.cookie.hash()
    }

    pub(super) fn actor(&self, from: &Peer) -> Actor {
        Actor::User {
            name: self.facts.user.name.clone(),
            session: Some(self.facts.session),
            device: from.device_id(),
            ip: from.ip(),
            post_quantum: from.is_post_quantum(),
            decision: None,
        }
    }
}

/// What the session cookie of a request stands for.
#[derive(Debug)]
pub(super) enum Presence {
    /// A live session on this device.
    SignedIn(Box<SignedIn>),
    /// A live session of another device: the cookie was copied, or the browser changed its way in.
    OtherDevice(Box<SubjectFacts>),
    /// No cookie, or none that is good.
    Nobody,
}

/// Finds out who is signed in. The connection's device must be the session's, at every use.
pub(super) async fn presence(context: &Context, from: &Peer, headers: &HeaderMap) -> Result<Presence, StoreError> {
    let Some(cookie) = session_cookie(headers) else { return Ok(Presence::Nobody) };
    let mut read = context.store.read().await?;
    let Some((session, label)) = facts::session_of_cookie(&mut read, &cookie.hash()).await? else {
        return Ok(Presence::Nobody);
    };
    if label != AUTH_LABEL {
        return Ok(Presence::Nobody);
    }
    let now = clock::unix_seconds(clock::now());
    let Ok(facts) = facts::subject_by_session(&mut read, &session, now).await? else { return Ok(Presence::Nobody) };
    if facts.device.as_ref().map(|device| device.id) != from.device_id() {
        return Ok(Presence::OtherDevice(Box::new(facts)));
    }
    Ok(Presence::SignedIn(Box::new(SignedIn { facts, cookie })))
}

/// Who is signed in, or a refusal.
pub(super) async fn signed_in(context: &Context, from: &Peer, headers: &HeaderMap) -> Result<SignedIn, Refusal> {
    match presence(context, from, headers).await? {
        Presence::SignedIn(signed_in) => Ok(*signed_in),
        Presence::OtherDevice(_) | Presence::Nobody => Err(Refusal::SignInRequired),
    }
}

/// The one session cookie of a request. Two of them are none: one may have been planted.
fn session_cookie(headers: &HeaderMap) -> Option<Secret> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        // Each by itself: another's cookie that is no ASCII must not hide ours beside it.
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .filter_map(|pair| pair.trim_matches(' ').strip_prefix(COOKIE)?.strip_prefix('='));
    let first = found.next()?;
    if found.next().is_some() {
        return None;
    }
    Secret::presented(first)
}

/// How sure we must be that a page of ours sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// The browser must say so: for everything a session cookie vouches for.
    Proven,
    /// Nothing may say otherwise: for JSON that no form can send and no cookie vouches for, so that
    /// programs which are no browser can speak it too.
    NotForeign,
}

/// Refuses what a page of another site sends (Fetch Metadata, else `Origin`).
pub(super) fn same_site(context: &Context, headers: &HeaderMap, site: Site) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let said = match (text("sec-fetch-site"), text("origin")) {
        (Some(fetch), _) => Some(fetch == "same-origin"),
        (None, Some(origin)) => Some(origin == context.settings.origin(AUTH_LABEL)),
        (None, None) => None,
    };
    match (said, site) {
        (Some(true), _) | (None, Site::NotForeign) => Ok(()),
        (Some(false), _) | (None, Site::Proven) => Err(Refusal::CrossSite),
    }
}

/// Reads a JSON body. The content type must say so: no form of another site can.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::Malformed("The body must be JSON (`content-type: application/json`)."));
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed("The body is not what this endpoint takes."))
}

/// Reads the form of a signed-in person's button: site, session and anti-forgery token are verified.
pub(super) async fn form(
    context: &Context,
    from: &Peer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(SignedIn, Vec<(String, String)>), Refusal> {
    same_site(context, headers, Site::Proven)?;
    let signed_in = signed_in(context, from, headers).await?;
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().take(16).collect();
    signed_in.verify_csrf(field(&fields, "csrf"))?;
    Ok((signed_in, fields))
}

/// The one field of that name; two of them are none.
pub(super) fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let first = found.next()?;
    if found.next().is_some() { None } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn exactly_one_cookie_of_ours_is_read() {
        let value = "a".repeat(43);
        let one = format!("{COOKIE}={value}");
        for good in [vec![one.as_str()], vec!["x=1", &one], vec![&format!("x=1; {one}; y=2")]] {
            assert!(session_cookie(&cookies(&good)).is_some(), "{good:?}");
        }
        let two = format!("{one}; {COOKIE}={}", "b".repeat(43));
        for bad in [vec![two.as_str()], vec![&one, &one], vec![&format!("x{one}")], vec![&format!("{one}a")], vec![]] {
            assert!(session_cookie(&cookies(&bad)).is_none(), "{bad:?}");
        }
    }
}
