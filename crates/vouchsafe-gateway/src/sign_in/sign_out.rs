//! Signing out of one app: a page with a button, so that no link or image of another site does it.

use http::header::{HeaderName, ORIGIN, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, Response};
use maud::html;
use vouchsafe_runtime::body::Body;

use super::SIGN_OUT;
use crate::answer;
use crate::names::Names;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Asks whether to sign out. Asking changes nothing.
pub(super) fn ask(names: &Names, label: &str) -> Response<Body> {
    let main = html! {
        h1 { "Sign out of " (label) "?" }
        p { "This browser forgets that you are signed in to " code { (label) } ". You stay signed in elsewhere; the page that follows can end that too." }
        form method="post" action=(SIGN_OUT) { button { "Sign out" } }
    };
    // The answer to the form leads to the sign-in host, and browsers hold redirects to this as well.
    let mut response = answer::page_with_form("Sign out", main, &names.origin("auth"));
    // With `no-referrer` the form would come with `Origin: null`.
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Whether a form was sent by a page of this very host. Every browser of today says so itself in
/// `Sec-Fetch-Site`; older ones say where the form stands.
pub(super) fn is_from_here(headers: &HeaderMap, origin: &str) -> bool {
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    match headers.contains_key(SEC_FETCH_SITE) {
        true => only(&SEC_FETCH_SITE) == Some(b"same-origin"),
        false => only(&ORIGIN) == Some(origin.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a149_only_this_hosts_own_page_signs_out() {
        let from = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_from_here(&headers, "https://wiki.corp.example:8443")
        };
        assert!(from(&[("sec-fetch-site", "same-origin")]));
        assert!(from(&[("origin", "https://wiki.corp.example:8443")]));
        for bad in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://wiki.corp.example")],
            &[("origin", "http://wiki.corp.example:8443")],
            &[("origin", "https://wiki.corp.example:8443"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://wiki.corp.example:8443")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!from(bad), "{bad:?}");
        }
    }
}
