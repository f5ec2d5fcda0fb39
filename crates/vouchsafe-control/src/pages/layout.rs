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

/// A page of the console: `navigation` is for a screen with room at its side, `menu` for one without.
pub(crate) fn framed(title: &str, navigation: Markup, menu: Markup, body: Markup) -> Markup {
    let Assets { style, console_style, console_script, .. } = &*ASSETS;
    let head = html! {
        link rel="stylesheet" href=(style.path);
        link rel="stylesheet" href=(console_style.path);
        script src=(console_script.path) defer {}
    };
    let brand = || html! { span .brand { (mark()) span { "vouchsafe" } } };
    page_of(
        title,
        head,
        html! {
            a .skip href="#main" { "Skip to content" }
            div .frame {
                div .rail { (brand()) (navigation) }
                header .top {
                    details .menu {
                        summary { (brand()) span .open { "Menu" } }
                        (menu)
                    }
                }
                main .main id="main" { (body) }
            }
        },
        Some("console"),
    )
}

fn mark() -> Markup {
    html! { img src=(ASSETS.icon.path) alt="" width="28" height="28"; }
}

fn document(title: &str, body: Markup) -> Markup {
    let Assets { style, script, .. } = &*ASSETS;
    let head = html! {
        link rel="stylesheet" href=(style.path);
        script src=(script.path) defer {}
    };
    page_of(title, head, body, None)
}

fn page_of(title: &str, head: Markup, body: Markup, class: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · vouchsafe" }
                link rel="icon" href=(ASSETS.icon.path) type="image/svg+xml";
                (head)
            }
            body class=[class] { (body) }
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

/// How long ago a moment was, with the moment itself for whoever points at it.
pub(crate) fn ago(seconds: u64, now: u64) -> Markup {
    let words = match now.saturating_sub(seconds) {
        0..60 => "just now".to_owned(),
        past @ 60..3_600 => format!("{} min ago", past / 60),
        past @ 3_600..86_400 => format!("{} h ago", past / 3_600),
        past @ 86_400..=5_184_000 => format!("{} d ago", past / 86_400),
        _ => moment(seconds),
    };
    html! { time title=(moment(seconds)) { (words) } }
}

/// Words in small frames.
pub(crate) fn chips(words: &[String], none: &str) -> Markup {
    html! {
        @if words.is_empty() { span .faint { (none) } }
        @for word in words { span .chip { bdi { (word) } } }
    }
}
