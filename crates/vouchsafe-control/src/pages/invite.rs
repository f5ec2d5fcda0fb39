//! Making the first passkey.

use axum::response::Response;
use http::StatusCode;
use maud::html;

use super::layout::{narrow, needs_scripts, notice};

/// The page of an invitation; its script reads the token behind `#`.
pub(crate) fn page() -> Response {
    super::html(
        StatusCode::OK,
        narrow(
            "Invitation",
            html! {
                h1 { "Welcome" }
                (notice())
                (needs_scripts())
                div data-invite {
                    p data-invite-wait { "Reading your invitation …" }
                    div data-invite-ready hidden {
                        p { "This link is for " strong data-invite-user {} "." }
                        p {
                            "A passkey is how you sign in here: your fingerprint, face or PIN on this device. \
                             There is no password that anybody could steal or guess."
                        }
                        div .warning data-invite-recovery hidden {
                            p { strong { "This replaces what you had." } }
                            p {
                                "When you go on, all your earlier passkeys stop working, \
                                 and you are signed out everywhere."
                            }
                        }
                        button .primary type="button" data-invite-accept { "Make a passkey" }
                    }
                }
            },
        ),
    )
}
