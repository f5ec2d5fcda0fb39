//! Signing out of one app: a page with a button, so that no link or image of another site does it.

use http::header::REFERRER_POLICY;
use http::{HeaderValue, Response};
use maud::html;
use vouchsafe_runtime::body::Body;

use super::SIGN_OUT;
use crate::answer;
use crate::names::Names;

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
