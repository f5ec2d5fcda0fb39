//! Approving a sign-in on a device.

use axum::response::Response;
use http::StatusCode;
use maud::html;
use zeroize::Zeroizing;

use super::layout::{at, narrow};

/// Who asks, as the person has to compare it.
pub(crate) struct Asked {
    pub(crate) code: String,
    pub(crate) device: String,
    pub(crate) owner: Option<String>,
    pub(crate) ip: String,
    pub(crate) asked: u64,
    pub(crate) user: String,
    pub(crate) csrf: Zeroizing<String>,
}

/// Asks for the code.
pub(crate) fn ask() -> Response {
    super::html(
        StatusCode::OK,
        narrow(
            "Sign in on a device",
            html! {
                h1 { "Sign in on a device" }
                p { "Type the code that the device shows." }
                form method="get" action="/device" {
                    label for="user_code" { "Code" }
                    input #user_code .code name="user_code" required maxlength="16" autocomplete="off"
                        autocapitalize="characters" spellcheck="false" placeholder="ABCD-EFGH";
                    button .primary { "Go on" }
                }
            },
        ),
    )
}

/// Shows who asks, and asks back.
pub(crate) fn confirm(asked: &Asked) -> Response {
    let Asked { code, device, owner, ip, asked: since, user, csrf } = asked;
    super::html(
        StatusCode::OK,
        narrow(
            "Approve a sign-in",
            html! {
                h1 { "Is this you?" }
                p { "A device asks to be signed in as " strong { (user) } "." }
                p .code-shown aria-label="Code" { (code) }
                dl {
                    dt { "Device" } dd { (device) }
                    dt { "Belongs to" } dd {
                        @match owner { Some(owner) => (owner), None => "nobody in particular" }
                    }
                    dt { "Asked from" } dd { (ip) }
                    dt { "At" } dd { (at(*since)) }
                }
                p .warning {
                    "Approve only if you started this yourself just now and the device shows the same code. \
                     Nobody of us will ever ask you for it."
                }
                form method="post" action="/device" {
                    input type="hidden" name="csrf" value=(csrf.as_str());
                    input type="hidden" name="user_code" value=(code);
                    div .pair {
                        button .primary name="answer" value="approve" { "Approve" }
                        button name="answer" value="refuse" { "Refuse" }
                    }
                }
            },
        ),
    )
}

/// After the answer.
pub(crate) fn done(approved: bool, device: &str) -> Response {
    let title = if approved { "Approved" } else { "Refused" };
    super::html(
        StatusCode::OK,
        narrow(
            title,
            html! {
                h1 { (title) }
                @if approved {
                    p { strong { (device) } " is being signed in. You can close this page." }
                } @else {
                    p { strong { (device) } " was not signed in." }
                    p { "If you did not start this, tell an administrator: somebody tried." }
                }
                a .button href="/" { "To your page" }
            },
        ),
    )
}
