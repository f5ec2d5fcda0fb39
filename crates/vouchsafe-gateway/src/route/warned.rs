//! Telling who passes by the `warn` mode that she will not for ever: a page once for each session and web app, and
//! a field of every answer for programs. What the app itself answers is never altered.

use http::header::{HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use maud::{Markup, html};
use vouchsafe_model::mode::Lenience;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::ticket::hex;
use vouchsafe_wire::would_deny::{WOULD_DENY_HEADER, WouldDeny};

use crate::answer::{self, Form};
use crate::authenticate::cookies;
use crate::forward::http::Wanted;
use crate::route::Admitted;

/// Says which warning this browser has seen on this host. It is no secret, and opens nothing.
const SEEN_COOKIE: &str = "__Host-vouchsafe-warned";
const FIELD: HeaderName = HeaderName::from_static(WOULD_DENY_HEADER);
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// What is to be said of an admitted request; `None` when a policy permits it, and where nobody is to be told.
pub(super) fn of(admitted: &Admitted) -> Option<WouldDeny> {
    let admission = admitted.admission();
    let tolerance = admission.tolerance().filter(|tolerance| tolerance.by() == Lenience::Warn)?;
    let (_, trial) = admission.resource().mode.trial()?;
    Some(WouldDeny {
        reason: admission.decision().reason,
        until: tolerance.until(),
        owner: trial.owner.clone(),
        decision: admitted.decision(),
    })
}

/// Says so to programs.
pub(super) fn tell(headers: &mut HeaderMap, warning: Option<&WouldDeny>) {
    if let Some(value) = warning.and_then(|warning| HeaderValue::from_str(&warning.to_string()).ok()) {
        headers.insert(FIELD, value);
    }
}

/// The page that a person is shown before her first look at the app in this session; `None` when she has seen it, and
/// for everything that is no look at a page.
pub(super) fn page(
    admitted: &Admitted,
    warning: &WouldDeny,
    form: Form,
    wanted: Wanted,
    request: &Request<Body>,
) -> Option<Response<Body>> {
    let (headers, target) = (request.headers(), admitted.target()?);
    if form != Form::Page || wanted != Wanted::Answer || request.method() != Method::GET || !is_looked_at(headers) {
        return None;
    }
    let session = admitted.admission().subject()?.session;
    let mark = sha256(format!("{session} {}", warning.until_words()).as_bytes());
    let mark: String = hex(&mark).chars().take(32).collect();
    if cookies(headers).any(|(name, value)| name == SEEN_COOKIE && value == mark) {
        return None;
    }
    let words = admitted.admission().decision().words.clone();
    let trial = admitted.admission().resource().mode.trial();
    let why = trial.map(|(_, trial)| trial.reason.as_str()).unwrap_or_default();
    let main = main(warning, &words, why, &target.to_target(), admitted);
    let mut response = answer::page("You will lose access to this", main);
    let cookie = format!("{SEEN_COOKIE}={mark}; Path=/; Secure; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Some(response)
}

/// Whether a person looks at the answer as a page of its own, and now.
fn is_looked_at(headers: &HeaderMap) -> bool {
    let is_document = headers.get(SEC_FETCH_DEST).is_none_or(|dest| dest.as_bytes() == b"document");
    is_document && !headers.contains_key(SEC_PURPOSE)
}

fn main(warning: &WouldDeny, words: &str, why: &str, target: &str, admitted: &Admitted) -> Markup {
    let advice = &admitted.admission().decision().advice;
    html! {
        p.mark.ask role="status" { span aria-hidden="true" { "⚠️" } "This will end" }
        h1 { "You will lose access to this" }
        p { "On " strong { (warning.until_words()) } ", or earlier, access to this is decided by policy. By today’s policy you are denied:" }
        p { (words) }
        @if !advice.is_empty() {
            h2 { "What you can do" }
            ul { @for advice in advice.iter() { li { (answer::advice_markup(*advice)) } } }
        }
        p { "If your work needs it, ask " strong { (warning.owner) } ", who answers for this change: " (why) }
        p { a.button href=(target) { "Go on" } }
        footer {
            "Decision " code { (warning.decision) } " · reason " code { (warning.reason.code()) }
            p { "You are told once each time you sign in." }
        }
    }
}
