//! The frame of every page, and the parts that several pages share.

use maud::{DOCTYPE, Markup, html};

use super::{ASSETS, Assets, moment};

/// A narrow page with one card, for one thing to do.
pub(crate) fn narrow(title: &str, body: Markup) -> Markup {
    document(
        title,
        html! {
            main .narrow id="main" {
                p .brand { (mark()) span { "vouchsafe" } }
                div .card { (body) }
            }
        },
    )
}

/// A wide page with a header.
pub(crate) fn wide(title: &str, header: Markup, body: Markup) -> Markup {
    document(
        title,
        html! {
            a .skip href="#main" { "Skip to content" }
            header .bar {
                p .brand { (mark()) span { "vouchsafe" } }
                (header)
            }
            main .wide id="main" { (body) }
        },
    )
}

fn mark() -> Markup {
    html! { img src=(ASSETS.icon.path) alt="" width="28" height="28"; }
}

fn document(title: &str, body: Markup) -> Markup {
    let Assets { style, script, icon } = &*ASSETS;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · vouchsafe" }
                link rel="icon" href=(icon.path) type="image/svg+xml";
                link rel="stylesheet" href=(style.path);
                script src=(script.path) defer {}
            }
            body { (body) }
        }
    }
}

/// Where scripts say what went wrong; read out by screen readers.
pub(crate) fn notice() -> Markup {
    html! { p #notice .notice role="alert" hidden {} }
}

/// What people without scripts need to know.
pub(crate) fn needs_scripts() -> Markup {
    html! { noscript { p .notice { "Passkeys need JavaScript, which is switched off in this browser." } } }
}

/// A moment, for people and machines.
pub(crate) fn at(seconds: u64) -> Markup {
    html! { time { (moment(seconds)) } }
}

/// A moment that may never have come.
pub(crate) fn at_or(seconds: Option<u64>, never: &str) -> Markup {
    match seconds {
        Some(seconds) => at(seconds),
        None => html! { span .faint { (never) } },
    }
}

/// Words in small frames.
pub(crate) fn chips(words: &[String], none: &str) -> Markup {
    html! {
        @if words.is_empty() { span .faint { (none) } }
        @for word in words { span .chip { (word) } }
    }
}
