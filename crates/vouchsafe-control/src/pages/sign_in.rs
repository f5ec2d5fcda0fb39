//! Asking for the passkey.

use axum::response::Response;
use http::StatusCode;
use maud::html;

use super::layout::{narrow, needs_scripts, notice};

/// What kind of sign-in is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Of somebody who isn't signed in.
    Once,
    /// Of somebody who is, to prove that it is still her.
    Afresh,
}

/// The sign-in page. `next` is a path of ours; `host` the app host that it leads to.
pub(crate) fn page(next: &str, host: Option<&str>, wanted: Wanted) -> Response {
    if wanted == Wanted::Afresh {
        return afresh(next, host);
    }
    super::html(
        StatusCode::OK,
        narrow(
            "Sign in",
            html! {
                h1 { "Sign in" }
                @match host {
                    Some(host) => p { "Then you go on to " strong { (host) } "." },
                    None => p { "Use the passkey of this device or of your phone." },
                }
                (notice())
                button .primary type="button" data-sign-in data-next=(next) { "Sign in with a passkey" }
                (needs_scripts())
                p .faint {
                    "No passkey yet, or lost it? An administrator can send you a link that lets you make one."
                }
            },
        ),
    )
}

fn afresh(next: &str, host: Option<&str>) -> Response {
    super::html(
        StatusCode::OK,
        narrow(
            "Is it still you?",
            html! {
                h1 { "Is it still you?" }
                @match host {
                    Some(host) => p { "What you asked for on " strong { (host) } " needs a fresh sign-in. You stay signed in, and go on there." },
                    None => p { "This needs a fresh sign-in. You stay signed in." },
                }
                (notice())
                button .primary type="button" data-sign-in data-fresh data-next=(next) { "Use your passkey" }
                (needs_scripts())
                p .faint { "If you didn’t ask for anything, close this page: nothing happens then." }
            },
        ),
    )
}
