//! Sending a browser to prove anew who sits there, and bringing it back to what it wanted.
//!
//! What was asked for with GET is asked for again. A small form that a page of the app itself sent is kept
//! here meanwhile (`draft`), for the same person on the same device, and shown to her once: she sends it by her
//! own hand, so nothing is done that she doesn't see, and the app meets a request that its own page made. What
//! isn't kept she is told of. What is no navigation of a browser gets the challenge of RFC 9470 alone.
//!
//! Nobody goes round for ever: who has just signed in, or was sent there often, is told so instead.

mod draft;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, REFERER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use vouchsafe_model::decision::StepUp;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::limits::{DRAFT_PATIENCE, MAX_DRAFT_BYTES, MAX_DRAFT_FIELDS};
use vouchsafe_runtime::{clock, fetch_site};
use vouchsafe_wire::canonical::CanonicalTarget;

pub(crate) use self::draft::Drafts;
use self::draft::{Draft, Whose};
use super::{MAX_TARGET_BYTES, PENDING_COOKIE, PENDING_SECONDS, expire, see_other, sign_in_url, wanted_url};
use crate::answer;
use crate::authenticate::{Presented, Proof, cookies};
use crate::gateway::Shared;
use crate::names::Names;
use crate::route::Connection;

/// Where a kept form is shown.
pub(crate) const RESUME: &str = "/.vouchsafe/resume";
/// Where the page leads that says that nothing was kept.
pub(crate) const AGAIN: &str = "/.vouchsafe/step-up";
const DRAFT_COOKIE: &str = "__Host-vouchsafe-draft";
const COUNT_COOKIE: &str = "__Host-vouchsafe-step-up";
/// How often a browser is sent to sign in anew, within how many seconds.
pub(super) const MOST: u8 = 3;
const COUNTED_SECONDS: u64 = 120;
/// Who has signed in less than this before has nothing to gain by doing it again.
const JUST_NOW: Duration = Duration::from_secs(10);

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Goes with the answer of a denial that a fresh sign-in would turn into a permit.
#[derive(Clone)]
pub(crate) struct Demanded {
    pub(crate) step_up: StepUp,
    pub(crate) user: UserName,
    pub(crate) device: Option<DeviceId>,
    /// Age of the present sign-in.
    pub(crate) age: Duration,
    /// What was asked for.
    pub(crate) target: Option<std::sync::Arc<CanonicalTarget>>,
}

/// Makes of a denial what helps a person with a browser, where a fresh sign-in would; else leaves it.
pub(crate) async fn offer(
    shared: &Shared,
    label: &str,
    request: Request<Body>,
    mut denial: Response<Body>,
) -> Response<Body> {
    let Some(demanded) = denial.extensions_mut().remove::<Demanded>() else { return denial };
    let (parts, body) = request.into_parts();
    // Were the denial not recorded, its status would be another one, and the browser told so.
    let Some(target) = &demanded.target else { return denial };
    if !navigates(&parts.method, &parts.headers) || denial.status() != StatusCode::UNAUTHORIZED {
        return denial;
    }
    let sent = sent_before(&parts.headers);
    if sent >= MOST || demanded.age < JUST_NOW {
        return answer::as_page(denial, "A fresh sign-in doesn’t help", no_use(&demanded), "'none'");
    }
    let names = &shared.names;
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return begin(names, label, &target.to_target(), None, sent);
    }
    let back = page_before(&parts.headers, &names.origin(label));
    if parts.method == Method::POST
        && fetch_site::is_same_origin(&parts.headers, &names.origin(label))
        && let Some((fields, bytes)) = small_form(&parts.headers, body).await
    {
        let whose = Whose { user: demanded.user, device: demanded.device, label: label.to_owned() };
        let id = shared.drafts.keep(Draft { whose, target: target.to_target(), fields, bytes }, clock::now());
        return begin(names, label, &back, Some(&id), sent);
    }
    answer::as_page(denial, "Sign in again first", not_kept(label, &back), "'self'")
}

/// Whether a person with a browser behind a proxy gets on from that denial by [`AGAIN`]. A form can't be kept for her: the
/// proxy has it.
pub(crate) fn would_help(denial: &Response<Body>, method: &Method, headers: &HeaderMap) -> bool {
    let demanded = denial.extensions().get::<Demanded>();
    demanded.is_some_and(|demanded| demanded.age >= JUST_NOW)
        && denial.status() == StatusCode::UNAUTHORIZED
        && matches!(*method, Method::GET | Method::HEAD)
        && navigates(method, headers)
        && sent_before(headers) < MOST
}

/// Answers [`AGAIN`]: begins a fresh sign-in that leads back to a page of this host.
pub(crate) fn again(names: &Names, label: &str, target: &CanonicalTarget, headers: &HeaderMap) -> Response<Body> {
    let sent = sent_before(headers);
    if sent >= MOST {
        return answer::plain(
            StatusCode::TOO_MANY_REQUESTS,
            "You were sent to sign in often; try again in two minutes.",
        );
    }
    let fields = url::form_urlencoded::parse(target.query().unwrap_or_default().as_bytes());
    let to = fields.filter(|(name, _)| name == "to").map(|(_, value)| value.into_owned()).next();
    begin(names, label, to.as_deref().unwrap_or("/"), None, sent)
}

/// Answers [`RESUME`]: shows the form that was kept, once.
pub(crate) async fn resume(
    shared: &Shared,
    names: &Names,
    connection: &Connection,
    label: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let engine = shared.current.engine();
    let (presented, device) = (Presented::cookie(headers), connection.device());
    let proof = Proof { presented, audience: label, device, last: &connection.familiar.token };
    let subject = shared.authenticator.subject(proof, &shared.facts, &engine).await;
    let id = cookies(headers).find(|(name, _)| *name == DRAFT_COOKIE).map(|(_, value)| value);
    let kept = subject.ok().zip(id).and_then(|((_, ready), id)| {
        let facts = &ready.known.facts;
        let device = facts.device.as_ref().map(|device| device.id);
        let whose = Whose { user: facts.user.name.clone(), device, label: label.to_owned() };
        shared.drafts.take(id, &whose, clock::now())
    });
    let host = names.host_and_port(label);
    let mut response = match kept {
        Some(draft) => answer::page_with_form("Send it now?", send_now(&host, &draft), ""),
        None => answer::page_with_form("It wasn’t kept", gone(&host), ""),
    };
    super::set_cookies(&mut response, &[expire(DRAFT_COOKIE)]);
    response
}

/// Where a callback leads, with the cookie for it: to a form that was kept, or to what was wanted.
pub(super) fn onward(names: &Names, label: &str, wanted: &str) -> (String, Option<String>) {
    match wanted.split_once('.') {
        Some((_, id)) => {
            let cookie =
                format!("{DRAFT_COOKIE}={id}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={PENDING_SECONDS}");
            (format!("{}{RESUME}", names.origin(label)), Some(cookie))
        }
        None => (wanted_url(names, label, wanted), None),
    }
}

/// Sends the browser to sign in anew, and remembers with it where it wanted to go.
fn begin(names: &Names, label: &str, wanted: &str, draft: Option<&str>, sent: u8) -> Response<Body> {
    let state = URL_SAFE_NO_PAD.encode(clock::random::<32>());
    let wanted = if wanted.len() <= MAX_TARGET_BYTES { wanted } else { "/" };
    let draft = draft.map(|id| format!(".{id}")).unwrap_or_default();
    let pending = format!(
        "{PENDING_COOKIE}={state}.{}{draft}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={PENDING_SECONDS}",
        URL_SAFE_NO_PAD.encode(wanted)
    );
    see_other(&format!("{}&fresh=1", sign_in_url(names, label, &state)), &[pending, counted(sent)])
}

/// The cookie by which a browser counts that it is sent once more; `None` where it was sent often enough.
pub(super) fn once_more(headers: &HeaderMap) -> Option<String> {
    let sent = sent_before(headers);
    (sent < MOST).then(|| counted(sent))
}

fn counted(sent: u8) -> String {
    let sent = sent.saturating_add(1);
    format!("{COUNT_COOKIE}={sent}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={COUNTED_SECONDS}")
}

/// How often this browser was sent lately. It says so itself: the count is for its own good.
fn sent_before(headers: &HeaderMap) -> u8 {
    let value = cookies(headers).find(|(name, _)| *name == COUNT_COOKIE).map(|(_, value)| value);
    value.map_or(0, |value| value.parse().unwrap_or(MOST))
}

/// Whether a person sees the answer as a page.
fn navigates(method: &Method, headers: &HeaderMap) -> bool {
    let html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"));
    match headers.get(SEC_FETCH_MODE) {
        Some(mode) => html && mode.as_bytes() == b"navigate",
        // Only browsers say so, but not all of them: of a program's POST a page would be no use.
        None => html && matches!(*method, Method::GET | Method::HEAD),
    }
}

/// The page of this host that a request comes from; else its first.
fn page_before(headers: &HeaderMap, origin: &str) -> String {
    let referer = headers.get(REFERER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match referer.strip_prefix(origin) {
        Some(target) if target.starts_with('/') => target.split('#').next().unwrap_or("/").to_owned(),
        Some(_) | None => "/".to_owned(),
    }
}

/// The fields of a form that is small enough to be kept, and that a page can hold as it is.
async fn small_form(headers: &HeaderMap, body: Body) -> Option<(Vec<(String, String)>, usize)> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next()?.trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let read = tokio::time::timeout(DRAFT_PATIENCE, Limited::new(body, MAX_DRAFT_BYTES).collect()).await;
    let bytes = read.ok()?.ok()?.to_bytes();
    let fields: Vec<(String, String)> =
        url::form_urlencoded::parse(&bytes).into_owned().take(MAX_DRAFT_FIELDS + 1).collect();
    // What is no UTF-8, or no text at all, would come out of a page as something else.
    let holds = |text: &String| !text.contains(['\0', '\u{fffd}']);
    let whole = fields.len() <= MAX_DRAFT_FIELDS
        && fields.iter().all(|(name, value)| holds(name) && holds(value) && name != "_charset_");
    whole.then_some((fields, bytes.len()))
}

fn send_now(host: &str, draft: &Draft) -> Markup {
    let path = draft.target.split('?').next().unwrap_or("/");
    let count = draft.fields.len();
    html! {
        h1 { "Send it now?" }
        p { "Thank you, it is you. What you sent before was kept meanwhile, and didn’t reach " strong { (host) } " yet:" }
        p { code { "POST " (path) } " with " (count) (if count == 1 { " field" } else { " fields" }) ", " (size(draft.bytes)) }
        form method="post" action=(draft.target) accept-charset="utf-8" {
            @for (name, value) in &draft.fields { input type="hidden" name=(name) value=(value); }
            button { "Send it" }
        }
        p { a href="/" { "Don’t send it" } }
    }
}

fn gone(host: &str) -> Markup {
    html! {
        h1 { "What you sent wasn’t kept" }
        p { "You are signed in, but what you wanted to send is gone: it is kept for ten minutes, for one look, and by one gateway alone. It didn’t reach " strong { (host) } "." }
        p { a href="/" { "Go on to " (host) } ", and fill in the form again." }
    }
}

fn not_kept(label: &str, back: &str) -> Markup {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", back).finish();
    html! {
        p.mark.ask role="status" { "A fresh sign-in is needed" }
        h1 { "Sign in again first" }
        p { "What you sent to " strong { (label) } " needs a fresh sign-in. It didn’t get there, and it couldn’t be kept: only small forms of the app’s own pages are." }
        ul {
            li { "Sign in again: you come back to the page before." }
            li { "Then send it once more." }
        }
        p { a.button href=(format!("{AGAIN}?{query}")) { "Sign in again" } }
    }
}

fn no_use(demanded: &Demanded) -> Markup {
    let wanted = match demanded.step_up.max_age {
        Some(age) => format!("a sign-in that is at most {} s old", age.as_secs()),
        None => "another kind of sign-in".to_owned(),
    };
    html! {
        p.mark role="status" { span aria-hidden="true" { "⛔" } "Access denied" }
        h1 { "A fresh sign-in doesn’t help" }
        p { "You signed in " (demanded.age.as_secs()) " s ago, and were asked to do it again. The policy wants " (wanted) ", and still isn’t satisfied. So you aren’t sent round once more." }
        p { "Most likely no sign-in can be fresh enough for this policy, or the clocks of two machines differ. Tell an administrator, with the time of day." }
    }
}

/// A number of bytes, for people.
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        _ => format!("{} KB", bytes.div_ceil(1_000)),
    }
}

#[cfg(test)]
mod tests;
