//! The frame of every page of the console: where one can go, who looks, and the page itself.

use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};

use crate::pages::layout::framed;

/// A place to go: path, name, and lines of its icon on a field of 20 by 20.
type Place = (&'static str, &'static str, &'static str);

/// Everywhere one can go, by what one comes for.
const PLACES: &[(&str, &[Place])] = &[
    (
        "",
        &[
            ("/", "Overview", "M3 3h6v8H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 13h6v4H3z"),
            (
                "/map",
                "Access map",
                "M4 4.5a1.5 1.5 0 1 0 .01 0M4 14a1.5 1.5 0 1 0 .01 0M16 9a1.5 1.5 0 1 0 .01 0M5.6 6.5l8.8 3.4M5.6 15l8.8-3.6",
            ),
        ],
    ),
    (
        "Who",
        &[
            ("/users", "Users", "M10 10a3.2 3.2 0 1 0-.01 0M3.5 17c.6-3.4 3.2-5 6.5-5s5.9 1.600 6.500 5"),
            ("/devices", "Devices", "M4 4h12v8.500H4zM2 15.500h16M8 15.500h4"),
            ("/sessions", "Sessions", "M8 3H4v14h4M12 6.500 15.500 10 12 13.500M15 10H7"),
        ],
    ),
    (
        "What",
        &[
            ("/resources", "Resources", "M3 5.500 10 2.500l7 3-7 3zM3 10l7 3 7-3M3 14.500l7 3 7-3"),
            ("/requests", "Requests", "M4 3h12v10H9l-4 4v-4H4zM7 7h6M7 9.800h4"),
            (
                "/policy",
                "Policy",
                "M10 2.500l6.500 2.500v4.500c0 4-2.700 6.800-6.500 8-3.800-1.200-6.500-4-6.500-8V5zM7 9.800l2.200 2.200L13.200 8",
            ),
            (
                "/proposals",
                "Proposals",
                "M6 4.500a2 2 0 1 0 .01 0M14 4.500a2 2 0 1 0 .01 0M3 16c.3-3 1.500-5 3-5s2.700 2 3 5M11 16c.3-3 1.500-5 3-5s2.700 2 3 5",
            ),
        ],
    ),
    (
        "How it goes",
        &[
            ("/connectors", "Connectors", "M6 3v4M14 3v4M4 7h12v3a6 6 0 0 1-12 0zM10 16v2"),
            ("/webhooks", "Webhooks", "M3 10h8M8 6.500l3.500 3.500L8 13.500M13 4h4v12h-4"),
            ("/assessment", "Assessment", "M10 3a7 7 0 1 0 7 7M10 6.500V10l3-4.500M10 10h7"),
            ("/audit", "Audit", "M4 2.500h9l3 3v12H4zM7 8h6M7 11h6M7 14h4"),
        ],
    ),
];

/// A page.
pub(super) fn page(title: &str, who: &str, body: Markup) -> Response {
    below(title, title, who, body)
}

/// A page that stands below another.
pub(super) fn below(parent: &str, title: &str, who: &str, body: Markup) -> Response {
    headed(parent, title, who, html! { h1 { bdi { (title) } } }, body)
}

/// A page with something beside, or below, its heading.
pub(super) fn headed(parent: &str, title: &str, who: &str, head: Markup, body: Markup) -> Response {
    let places = || places(parent);
    let navigation = html! {
        nav aria-label="Console" { (places()) }
        (whose(who))
    };
    let menu = html! {
        nav aria-label="Console" { (places()) (whose(who)) }
    };
    Html(framed(title, navigation, menu, html! { (head) (body) }).into_string()).into_response()
}

/// The heading of a list at `path`, with a form that finds something in it.
pub(super) fn found(title: &str, path: &str, by: &str, find: Option<&str>) -> Markup {
    html! {
        div .head {
            h1 { (title) }
            form .inline method="get" action=(path) role="search" {
                label .hidden for="find" { (by) }
                input #find name="find" placeholder=(by) value=[find];
                button { "Find" }
            }
        }
    }
}

fn places(current: &str) -> Markup {
    html! {
        @for (group, places) in PLACES {
            @if !group.is_empty() { h2 { (group) } }
            ul {
                @for (path, name, lines) in *places {
                    li {
                        a href=(path) aria-current=[(*name == current).then_some("page")] { (icon(lines)) (name) }
                    }
                }
            }
        }
    }
}

fn whose(who: &str) -> Markup {
    html! { p .who { "Signed in as " a href="/you" title="Your page, where you sign out" { strong { bdi { (who) } } } } }
}

fn icon(lines: &str) -> Markup {
    html! { svg .icon viewBox="0 0 20 20" aria-hidden="true" focusable="false" { path d=(lines) {} } }
}
