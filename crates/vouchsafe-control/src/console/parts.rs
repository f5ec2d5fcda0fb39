//! Parts that several pages of the console have.

use maud::{Markup, html};
use vouchsafe_wire::api::ResourceDoc;
use vouchsafe_wire::audit::Record;

use crate::pages::layout::{ago, at};

/// A table whose rows are made elsewhere.
pub(super) fn table(head: &[&str], body: Markup) -> Markup {
    html! {
        section {
            div .scroll tabindex="0" role="region" aria-label="Table" {
                table {
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody { (body) }
                }
            }
        }
    }
}

/// A table of which each row becomes a card where the screen is narrow.
pub(super) fn cards(head: &[&str], rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    html! {
        table .cards role="table" {
            thead role="rowgroup" { tr role="row" { @for name in head { th scope="col" role="columnheader" { @if name.is_empty() { span .hidden { "What can be done" } } @else { (name) } } } } }
            tbody role="rowgroup" { @for cells in rows { (row(head, &cells)) } }
        }
    }
}

/// One row of such a table.
pub(super) fn row(head: &[&str], cells: &[Markup]) -> Markup {
    html! {
        tr role="row" {
            @for (name, cell) in head.iter().zip(cells) {
                td role="cell" data-label=[(!name.is_empty()).then_some(*name)] { div { (cell) } }
            }
        }
    }
}

/// What stands where nothing is: what would, and how one gets there.
pub(super) fn empty(what: &str, next: Markup) -> Markup {
    html! { div .empty { strong { (what) } p { (next) } } }
}

/// A sentence of ours, with what stands between backquotes as code.
pub(super) fn sentence(text: &str) -> Markup {
    html! {
        bdi {
            @for (at, part) in text.split('`').enumerate() {
                @if at % 2 == 1 { code { (part) } } @else { (part) }
            }
        }
    }
}

/// A word in a frame, by what it means: `good`, `weak`, `deny`, or nothing.
pub(super) fn chip(class: &str, word: &str) -> Markup {
    html! { span class={ "chip " (class) } { bdi { (word) } } }
}

/// A name that leads to its page.
pub(super) fn link(place: &str, name: &str) -> Markup {
    html! { a href={ "/" (place) "/" (segment(name)) } { bdi { (name) } } }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A text as a value of a query.
pub(super) fn value(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What a decision came to, as people tell it apart: a class and a word.
pub(super) fn outcome(record: &Record) -> (&'static str, &'static str) {
    match (record.outcome.as_deref(), record.passed.as_deref()) {
        (Some("allow"), _) => ("allow", "allow"),
        (Some("ok"), _) => ("allow", "ok"),
        (Some("deny"), Some(_)) => ("weak", "passed"),
        (Some("deny"), None) => ("deny", "deny"),
        (Some(_), _) => ("deny", "failed"),
        (None, _) => ("", ""),
    }
}

/// Columns of a table of records.
pub(super) const RECORD_HEAD: [&str; 5] = ["When", "Who", "What", "Outcome", "Why"];

/// One record in such a table.
pub(super) fn record(record: &Record, now: u64) -> Vec<Markup> {
    let seconds = record.time_us / 1_000_000;
    let (class, word) = outcome(record);
    vec![
        html! {
            @match &record.id {
                Some(id) if record.kind == vouchsafe_wire::audit::Kind::Decision => {
                    a href={ "/decisions/" (segment(id)) } { (ago(seconds, now)) }
                },
                Some(_) | None => (ago(seconds, now)),
            }
        },
        html! { (who(record)) },
        html! { (what(record)) },
        html! {
            @if !word.is_empty() { (chip(class, word)) }
            @if let Some(mode) = &record.passed { p .faint { "passed: mode " (mode) } }
        },
        html! {
            @if let Some(reason) = &record.reason { code { (reason) } }
            @if let Some(words) = record.words.as_ref().or(record.detail.as_ref()) { p .faint .clamp { bdi { (words) } } }
            @if !record.policies.is_empty() {
                p .faint { "by " @for policy in record.policies.iter().take(4) { code { (policy) } " " } }
            }
        },
    ]
}

fn who(record: &Record) -> Markup {
    html! {
        @match &record.user {
            Some(user) if user.contains(':') => span .name { bdi { (user) } },
            Some(user) => span .name { (link("users", user)) },
            None => span .faint { "nobody" },
        }
        @if record.device_name.is_some() || record.grade.is_some() || record.ip.is_some() {
            p .faint {
                @match (&record.device_name, &record.device) {
                    (Some(name), Some(id)) => { a href={ "/devices/" (segment(id)) } { bdi { (name) } } ", " },
                    (Some(name), None) => { bdi { (name) } ", " },
                    (None, _) => {},
                }
                @match record.grade.as_deref() {
                    Some("none") => "no device",
                    Some(grade) => (grade),
                    None => {},
                }
                @if record.grade.is_some() && record.ip.is_some() { ", " }
                @if let Some(ip) = &record.ip { (ip) }
            }
        }
    }
}

fn what(record: &Record) -> Markup {
    let words = [&record.action, &record.method, &record.path].into_iter().flatten().map(String::as_str);
    let words = words.collect::<Vec<_>>().join(" ");
    html! {
        @match (&record.resource, &record.target) {
            (Some(resource), _) if resource != "console" => span .name { (link("resources", resource)) },
            (Some(text), _) | (None, Some(text)) => span .name { bdi { (text) } },
            (None, None) => {},
        }
        p .faint .clamp { (record.kind.as_str().replace('_', " ")) " " bdi { (words) } }
    }
}

/// Records as a table, newest first.
pub(super) fn records(records: &[Record], now: u64) -> Markup {
    html! { div .feed { (cards(&RECORD_HEAD, records.iter().map(|one| record(one, now)))) } }
}

/// What becomes of a denial at a resource, and until when one passes.
pub(super) fn mode(resource: &ResourceDoc, now: u64) -> Markup {
    let mode = resource.mode.as_deref().unwrap_or("enforce");
    match (ends(resource), &resource.observe) {
        (Some(until), Some(_)) if until <= now => html! {
            (chip("deny", &format!("{mode} is over")))
            p .faint { "It enforces since " (at(until)) }
        },
        (Some(until), Some(trial)) => html! {
            (chip("weak", mode))
            p .faint { "denials pass until " (at(until)) ", from " (trial.from.join(", ")) "; " (trial.owner) " answers for it" }
        },
        (_, _) => chip("good", "enforce"),
    }
}

/// When the mode of a resource ends.
pub(super) fn ends(resource: &ResourceDoc) -> Option<u64> {
    let trial = resource.observe.as_ref()?;
    vouchsafe_model::moment::parse_rfc3339(&trial.until).map(vouchsafe_runtime::clock::unix_seconds)
}

/// A number with its thing.
pub(super) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{} {thing}s", grouped(number)) }
}

/// A number as people read it: `12,304`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
