//! Asking for the passkey.

use axum::response::Response;
use http::StatusCode;
use maud::html;

use super::layout::{narrow, needs_scripts, notice};

/// The sign-in page. `next` is a path of ours; `host` the app host that it leads to.
pub(crate) fn page(next: &str, host: Option<&str>) -> Response {
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
