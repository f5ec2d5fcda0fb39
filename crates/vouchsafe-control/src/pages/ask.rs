//! Asking for access.

use axum::response::Response;
use http::StatusCode;
use maud::html;
use vouchsafe_model::moment::about;
use zeroize::Zeroizing;

use super::layout::wide;
use super::me::{Place, header};

/// For how long can be asked, hours.
pub(crate) const HOURS: [u64; 8] = [1, 2, 4, 8, 24, 72, 168, 720];

/// What the form begins with.
pub(crate) struct Asking {
    pub(crate) resource: String,
    pub(crate) hours: Option<u64>,
    pub(crate) reason: String,
    pub(crate) csrf: Zeroizing<String>,
    pub(crate) console: Option<String>,
}

/// The form.
pub(crate) fn page(asking: &Asking) -> Response {
    let Asking { resource, hours, reason, csrf, console } = asking;
    let hours = hours.filter(|hours| HOURS.contains(hours)).unwrap_or(8);
    let body = html! {
        h1 { "Ask for access" }
        section .form aria-label="What you ask for" {
            form method="post" action="/ask" {
                input type="hidden" name="csrf" value=(csrf.as_str());
                label for="resource" { "App" }
                input #resource name="resource" value=(resource) required maxlength="63" autocomplete="off" autocapitalize="none"
                    spellcheck="false" aria-describedby="resource-help";
                p #resource-help .faint { "The first part of its address: " code { "wiki" } " for " code { "wiki.example.org" } "." }
                label for="hours" { "For how long" }
                select #hours name="hours" {
                    @for choice in HOURS { option value=(choice) selected[choice == hours] { (about(choice * 3_600)) } }
                }
                label for="reason" { "What for" }
                input #reason name="reason" value=(reason) required maxlength="200" autocomplete="off" aria-describedby="reason-help";
                p #reason-help .faint { "One line. Whoever decides reads it, and it stays in the log." }
                button .primary { "Ask" }
            }
            p .faint {
                "Somebody else decides. What you get ends by itself, and holds on enrolled devices. If nobody decides within a \
                 week, ask again. Whether there is such an app isn’t said here."
            }
        }
    };
    super::html(StatusCode::OK, wide("Ask for access", header(Place::Ask, console.as_deref(), csrf.as_str()), body))
}
