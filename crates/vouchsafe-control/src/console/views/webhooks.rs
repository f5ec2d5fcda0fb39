//! The page of webhooks.

use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_wire::api::{WebhookDoc, WebhookTried};

use super::page as framed;
use crate::console::parts::{cards, chip, empty, segment};
use crate::pages::layout::{at, at_or, chips};

/// All of them, and what came of a try.
pub(in crate::console) fn page(who: &str, webhooks: &[WebhookDoc], tried: Option<(&str, &WebhookTried)>) -> Response {
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
            section aria-label="Webhooks" {
                @if webhooks.is_empty() {
                    (empty("Nobody is told", html! {
                        "Add one with " code { "vouchsafe webhook add chat https://…" } "; the address and its secret are for the command line alone."
                    }))
                } @else {
                    (cards(&["Name", "State", "Last attempt", "Waiting", "Told", "Added", ""], webhooks.iter().map(row)))
                }
            }
        },
    )
}

fn row(webhook: &WebhookDoc) -> Vec<Markup> {
    let WebhookDoc { name, origin, events, by, created, last, last_at, failures, waiting, dropped } = webhook;
    vec![
        html! { span .name { bdi { (name) } } p .faint { code { (origin) } } },
        html! {
            @match (failures, last) {
                (0, None) => (chip("weak", "nothing sent yet")),
                (0, Some(_)) => (chip("good", "delivers")),
                (failures, _) => (chip("deny", &format!("failing: {failures} in a row"))),
            }
            @if *dropped > 0 { p .faint { (dropped) " given up" } }
        },
        html! {
            (at_or(*last_at, "never"))
            @if let Some(last) = last { p .faint { bdi { (last) } } }
        },
        html! { (waiting) },
        chips(events, "everything"),
        html! { (at(*created)) p .faint { "by " bdi { (by) } } },
        html! {
            form method="post" action={ "/v1/webhooks/" (segment(name)) "/test" } {
                button .small { "Send one" span .hidden { " message to " (name) } }
            }
        },
    ]
}
