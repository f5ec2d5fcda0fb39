//! The page of webhooks.

use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_wire::api::{WebhookDoc, WebhookTried};

use super::{page as framed, table};
use crate::pages::layout::{at, at_or, chips};

/// All of them, and what came of a try.
pub(in crate::console) fn page(who: &str, webhooks: &[WebhookDoc], tried: Option<(&str, &WebhookTried)>) -> Response {
    let rows = html! { @for webhook in webhooks { (row(webhook)) } };
    framed(
        "Webhooks",
        who,
        html! {
            p { "Chat tools and other places are told what is recorded, by signed messages that are kept until they are taken." }
            @if let Some((name, tried)) = tried {
                @if tried.delivered {
                    p role="status" { span .chip .good { "taken" } " " (name) " took the message." }
                } @else {
                    p .notice role="alert" { (name) " did not take the message: " (tried.outcome) }
                }
            }
            @if webhooks.is_empty() {
                section {
                    h2 { "Nobody is told" }
                    p .faint { "Add one with " code { "vouchsafe webhook add chat https://…" } "; the address and its secret are for the command line alone." }
                }
            } @else {
                (table(&["Name", "State", "Last attempt", "Waiting", "Told", "Added", "Try"], rows))
            }
        },
    )
}

fn row(webhook: &WebhookDoc) -> Markup {
    let WebhookDoc { name, origin, events, by, created, last, last_at, failures, waiting, dropped } = webhook;
    html! {
        tr {
            td { strong { (name) } p .faint { code { (origin) } } }
            td {
                @match (failures, last) {
                    (0, None) => span .chip .weak { "nothing sent yet" },
                    (0, Some(_)) => span .chip .good { "delivers" },
                    (failures, _) => span .chip .deny { "failing: " (failures) " in a row" },
                }
                @if *dropped > 0 { p .faint { (dropped) " given up" } }
            }
            td {
                (at_or(*last_at, "never"))
                @if let Some(last) = last { p .faint { (last) } }
            }
            td { (waiting) }
            td { (chips(events, "everything")) }
            td .nowrap { (at(*created)) p .faint { "by " (by) } }
            td {
                form method="post" action={ "/v1/webhooks/" (name) "/test" } {
                    button aria-label={ "Send a message to " (name) } { "Send one" }
                }
            }
        }
    }
}
