//! The app hosts' half of the browser sign-in (`docs/spec/sign-in.md`).
//!
//! A browser without a session is sent to the sign-in host with the app's label and a random state;
//! what it wanted stays in a cookie of the app host. It comes back with a one-time code, which is
//! worth something only together with that cookie, so nobody can sign another's browser in.

mod sign_out;
pub(crate) mod step_up;

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use maud::html;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::resource::PathRules;
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_runtime::{clock, fetch_site};
use vouchsafe_wire::canonical::CanonicalTarget;

use crate::answer;
use crate::authenticate::{SESSION_COOKIE, cookies};
use crate::facts::Facts;
use crate::names::Names;

/// Paths under which every app host answers for us; no upstream ever sees them.
pub(crate) const OWN_PREFIX: &str = "/.vouchsafe/";
/// Where a sign-in begins that a proxy asks for.
pub(crate) const BEGIN: &str = "/.vouchsafe/sign-in";
const CALLBACK: &str = "/.vouchsafe/callback";
const SIGN_OUT: &str = "/.vouchsafe/sign-out";
const PENDING_COOKIE: &str = "__Host-vouchsafe-pending";
/// Longest target that is remembered; a longer one comes back to `/`.
const MAX_TARGET_BYTES: usize = 2_048;
/// Seconds that a sign-in may take.
const PENDING_SECONDS: u64 = 600;

/// Answers [`BEGIN`], where a proxy sends browsers that have to sign in: sends them on, and remembers which page of
/// this host they come back to.
pub(crate) fn begin(names: &Names, label: &str, target: &CanonicalTarget) -> Response<Body> {
    let fields = url::form_urlencoded::parse(target.query().unwrap_or_default().as_bytes());
    let to = fields.filter(|(name, _)| name == "to").map(|(_, value)| value.into_owned()).next();
    // Only what is a target of this host by the canonical rules is remembered, and it is read once more when she is back.
    let wanted = to.and_then(|to| CanonicalTarget::parse("GET", &to, PathRules::WIDEST).ok());
    let root = || CanonicalTarget::parse("GET", "/", PathRules::STRICT).ok();
    match wanted.or_else(root) {
        Some(wanted) => redirect(names, label, &wanted),
        None => answer::plain(StatusCode::NOT_FOUND, "There is nothing here."),
    }
}

/// Sends the browser to sign in; `target` is what it wanted, in canonical form.
pub(crate) fn redirect(names: &Names, label: &str, target: &CanonicalTarget) -> Response<Body> {
    let state = URL_SAFE_NO_PAD.encode(clock::random::<32>());
    let wanted = target.to_target();
    let wanted = if wanted.len() <= MAX_TARGET_BYTES { wanted } else { "/".to_owned() };
    let cookie = format!(
        "{PENDING_COOKIE}={state}.{}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={PENDING_SECONDS}",
        URL_SAFE_NO_PAD.encode(wanted)
    );
    see_other(&sign_in_url(names, label, &state), &[cookie])
}

fn sign_in_url(names: &Names, label: &str, state: &str) -> String {
    format!("{}/sign-in?app={label}&state={state}", names.origin("auth"))
}

/// Answers a path under [`OWN_PREFIX`].
pub(crate) async fn handle(
    names: &Names,
    facts: &Facts,
    label: &str,
    target: &CanonicalTarget,
    headers: &HeaderMap,
    device: Option<DeviceId>,
    ip: IpAddr,
) -> Response<Body> {
    match (target.method(), target.path()) {
        ("GET", CALLBACK) => callback(names, facts, label, target, headers, device, ip).await,
        ("GET" | "HEAD", SIGN_OUT) => sign_out::ask(names, label),
        ("POST", SIGN_OUT) if fetch_site::is_same_origin(headers, &names.origin(label)) => {
            see_other(&format!("{}/", names.origin("auth")), &[expire(SESSION_COOKIE), expire(PENDING_COOKIE)])
        }
        ("POST", SIGN_OUT) => answer::plain(StatusCode::FORBIDDEN, "Only this host's own page signs you out here."),
        _ => answer::plain(StatusCode::NOT_FOUND, "There is nothing here."),
    }
}

async fn callback(
    names: &Names,
    facts: &Facts,
    label: &str,
    target: &CanonicalTarget,
    headers: &HeaderMap,
    device: Option<DeviceId>,
    ip: IpAddr,
) -> Response<Body> {
    let again = || see_other(&format!("{}/", names.origin(label)), &[expire(PENDING_COOKIE)]);
    let query = target.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if value.len() <= 128 => Some(value.to_owned()),
            _ => None,
        }
    };
    let pending =
        cookies(headers).find(|(name, _)| *name == PENDING_COOKIE).and_then(|(_, value)| value.split_once('.'));
    let (Some(code), Some(state), Some((expected, wanted))) = (parameter("code"), parameter("state"), pending) else {
        return again();
    };
    let same = state.len() == expected.len()
        && aws_lc_rs::constant_time::verify_slices_are_equal(state.as_bytes(), expected.as_bytes()).is_ok();
    if !same {
        return again();
    }
    match facts.redeem(code, label.to_owned(), device, ip).await {
        Ok(Some(redeemed)) => {
            let session = format!(
                "{SESSION_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
                redeemed.cookie, redeemed.max_age_seconds
            );
            let (to, draft) = step_up::onward(names, label, wanted);
            let cookies: Vec<String> = [session, expire(PENDING_COOKIE)].into_iter().chain(draft).collect();
            see_other(&to, &cookies)
        }
        // A good code may still be nothing here, and then the next one is too.
        Ok(None) => match step_up::once_more(headers) {
            Some(count) => see_other(&format!("{}/", names.origin(label)), &[expire(PENDING_COOKIE), count]),
            None => not_taken(&names.host_and_port(label)),
        },
        Err(error) => {
            tracing::error!(%error, "a sign-in can't be completed");
            answer::plain(StatusCode::SERVICE_UNAVAILABLE, "Sign-in isn't possible right now. Try again in a moment.")
        }
    }
}

/// Ends the round of a browser whose sign-ins come to nothing at this host.
fn not_taken(host: &str) -> Response<Body> {
    let main = html! {
        p.mark role="status" { span aria-hidden="true" { "⛔" } "Access denied" }
        h1 { "Your sign-in isn’t taken here" }
        p { "You signed in, and " strong { (host) } " took none of it, several times. So you aren’t sent round once more." }
        ul {
            li { "Most likely it belongs to this device, and a proxy serves this host that can’t show which device you have. Then no further sign-in from this device helps: tell an administrator." }
            li { "If a sign-in took long, try again: " a href="/" { "go on to " (host) } "." }
        }
    };
    let mut response = answer::page("Your sign-in isn’t taken here", main);
    *response.status_mut() = StatusCode::FORBIDDEN;
    set_cookies(&mut response, &[expire(PENDING_COOKIE)]);
    response
}

/// Where the browser wanted to go: read again by the canonical rules, and always on this host.
fn wanted_url(names: &Names, label: &str, wanted: &str) -> String {
    let target = URL_SAFE_NO_PAD
        .decode(wanted)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| CanonicalTarget::parse("GET", &text, PathRules::WIDEST).ok())
        .filter(|target| !target.path().starts_with(OWN_PREFIX))
        .map_or_else(|| "/".to_owned(), |target| target.to_target());
    format!("{}{target}", names.origin(label))
}

fn expire(cookie: &str) -> String {
    format!("{cookie}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

fn set_cookies(response: &mut Response<Body>, cookies: &[String]) {
    for cookie in cookies {
        if let Ok(mut value) = HeaderValue::from_str(cookie) {
            value.set_sensitive(true);
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
}

fn see_other(location: &str, set_cookies: &[String]) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    self::set_cookies(&mut response, set_cookies);
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::COOKIE;
    use vouchsafe_model::name::BaseDomain;

    use super::*;
    use crate::testing::PoorLink;

    /// A code can be good and yet nothing here: of a session that belongs to a device, at a host that is reached
    /// without it.
    #[tokio::test]
    async fn nobody_is_sent_round_for_ever_by_codes_that_are_not_taken() {
        let names = Names::new(BaseDomain::parse("corp.example").unwrap(), 8443);
        let link = PoorLink::default();
        link.refuses_codes.store(true, std::sync::atomic::Ordering::SeqCst);
        let facts = Facts::new(Arc::new(link));
        let mut count: Option<String> = None;
        for round in 0..=step_up::MOST {
            let state = "s".repeat(43);
            let pending = format!("{PENDING_COOKIE}={state}.Lw");
            let shown = count.iter().fold(pending, |all, cookie| format!("{all}; {cookie}"));
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&shown).unwrap())]);
            let target = format!("{CALLBACK}?code=x&state={state}");
            let target = CanonicalTarget::parse("GET", &target, PathRules::WIDEST).unwrap();
            let ip = IpAddr::from([192, 0, 2, 1]);
            let answer = handle(&names, &facts, "wiki", &target, &headers, None, ip).await;
            let expected = if round < step_up::MOST { StatusCode::SEE_OTHER } else { StatusCode::FORBIDDEN };
            assert_eq!(answer.status(), expected, "{round}");
            let set = answer.headers().get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
            let set = set.filter_map(|line| line.split(';').next()).filter(|pair| !pair.starts_with(PENDING_COOKIE));
            count = set.map(str::to_owned).next_back().or(count);
        }
    }

    #[test]
    fn a085_the_way_back_stays_on_this_host() {
        let names = Names::new(BaseDomain::parse("corp.example").unwrap(), 8443);
        let url = |wanted: &str| wanted_url(&names, "wiki", &URL_SAFE_NO_PAD.encode(wanted));
        assert_eq!(url("/page?x=1"), "https://wiki.corp.example:8443/page?x=1");
        for evil in [
            "//evil",
            "https://evil/",
            "@evil",
            "/\\evil",
            "/.vouchsafe/callback?code=x",
            "\r\nx",
            "javascript:alert(1)",
        ] {
            assert_eq!(url(evil), "https://wiki.corp.example:8443/", "{evil}");
        }
    }
}
