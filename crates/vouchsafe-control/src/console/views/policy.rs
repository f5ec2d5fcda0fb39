//! Pages of the policy: what is in force, its history, and what a version changed.

use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_policy::{Change, Difference, Line, Rights, Shift, Way, changed_lines};
use vouchsafe_wire::api::{PolicyVersion, changed_files};

use super::super::history::Recorded;
use super::{below, headed, table, value};
use crate::pages::layout::at;

/// Most names that a change lists.
const MOST_NAMES: usize = 12;
/// Lines that stay, around those that change.
const AROUND: usize = 3;

/// The version in force, and those before.
pub(in crate::console) fn current(who: &str, policy: &PolicyVersion, history: &[PolicyVersion]) -> Response {
    let head = html! {
        div .head {
            h1 { "Policy" }
            div .actions {
                a .button href="/policy/diff" { "What the last publish changed" }
                a .button .go href=(edit(policy.files.last().map_or("", |file| file.name.as_str()))) { "Edit" }
            }
        }
        p {
            "Version " strong { (policy.version) } ", published by " bdi { (policy.by) } ", " (at(policy.created))
            @if !policy.note.is_empty() { ": " bdi { (policy.note) } }
        }
    };
    headed(
        "Policy",
        "Policy",
        who,
        head,
        html! {
            @for file in &policy.files {
                section {
                    div .head { h2 { code { (file.name) } } a .button .small href=(edit(&file.name)) { "Edit" span .hidden { " " (file.name) } } }
                    pre tabindex="0" { (file.text) }
                }
            }
            @if policy.tests.is_empty() {
                section {
                    h2 { "No tests yet" }
                    p .faint { "A test says who must and who must not be allowed something, and no policy is published that fails one. " a href="/policy/edit" { "Add a file" } " such as " code { "tests/wiki.toml" } "." }
                }
            }
            @for file in &policy.tests {
                section {
                    div .head { h2 { code { (file.name) } } a .button .small href=(edit(&file.name)) { "Edit" span .hidden { " " (file.name) } } }
                    pre tabindex="0" { (file.text) }
                }
            }
            h2 { "History" }
            (table(&["Version", "When", "By", "Policies", "Note", "What changed"], versions(history)))
        },
    )
}

/// Where a file is edited.
fn edit(file: &str) -> String {
    format!("/policy/edit?file={}", value(file))
}

fn versions(history: &[PolicyVersion]) -> Markup {
    html! {
        @for version in history {
            tr {
                td {
                    strong { (version.version) } " "
                    @match (version.current, version.confirm_by) {
                        (true, None) => span .chip .good { "in force" },
                        (true, Some(until)) => { span .chip .weak { "unconfirmed" } p .faint { "until " (at(until)) } },
                        (false, _) => {},
                    }
                }
                td .nowrap { (at(version.created)) }
                td { (version.by) }
                td { (version.policies) }
                td { @if version.note.is_empty() { span .faint { "none" } } @else { (version.note) } }
                td {
                    @if version.version > 1 {
                        a href={ "/policy/diff?before=" (version.version - 1) "&after=" (version.version) } {
                            "from " (version.version - 1) " to " (version.version)
                        }
                    } @else { span .faint { "the first" } }
                }
            }
        }
    }
}

/// What recorded requests say, or where they are asked.
fn counting(recorded: &Recorded) -> Markup {
    match recorded {
        Recorded::Counted(words) => html! { p role="status" { (sentence(words)) } },
        Recorded::Link(path) => html! {
            p { a .button href=(path) { "Count recorded requests of the last 30 days" } }
        },
    }
}

/// What changes between two versions: for whom, and in the text.
pub(in crate::console) fn difference(
    who: &str,
    found: &Difference,
    before: &PolicyVersion,
    after: &PolicyVersion,
    recorded: &Recorded,
) -> Response {
    below(
        "Policy",
        &format!("Policy {} → {}", found.before, found.after),
        who,
        html! {
            (changes(found))
            (counting(recorded))
            h2 { "In the text" }
            (text_of(&changed_files(&before.all_files(), &after.all_files())))
        },
    )
}

/// What changes, and for whom.
pub(in crate::console) fn changes(found: &Difference) -> Markup {
    let (gains, loses) = found.people();
    html! {
        p .lead {
            (sentence(&found.in_words()))
            " Tried over the people, devices and resources of this moment."
        }
        ul .tiles {
            li { div { strong { (gains) } span { "gain access" } } }
            li { div { strong { (loses) } span { "lose access" } } }
            li { div { strong { (found.changes.len()) } span { "kinds of change" } } }
        }
        @for each in &found.changes { (change(each)) }
    }
}

pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn change(change: &Change) -> Markup {
    let Change { count, users, resources, actions, gains, loses, before, after } = change;
    html! {
        section .change {
            h2 { (names(users.iter().map(|user| user.as_str()), *count)) }
            p {
                @for action in actions { code { (action) } " " }
                "on " strong { (names(resources.iter().map(String::as_str), resources.len())) }
            }
            @if let Some(shift) = gains { (shifts("weak", "gain it", shift)) }
            @if let Some(shift) = loses { (shifts("deny", "lose it", shift)) }
            div .pair {
                (open("Before", before.as_ref()))
                (open("After", after.as_ref()))
            }
        }
    }
}

fn names<'n>(names: impl Iterator<Item = &'n str>, count: usize) -> String {
    let shown: Vec<&str> = names.take(MOST_NAMES).collect();
    match count.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn shifts(class: &str, verb: &str, shift: &Shift) -> Markup {
    html! {
        p {
            span class={ "chip " (class) } { (verb) " " (shift.devices()) }
            br;
            span .faint { "such as " (shift.example) }
        }
    }
}

fn open(when: &str, rights: Option<&Rights>) -> Markup {
    html! {
        div {
            h3 { (when) }
            @match rights {
                None => p .faint { "never" },
                Some(Rights { ways, unless, may_fail }) => ul .plain {
                    @for way in ways { li { "by " code { (way.policy) } ": " (asked(way, "always", "only ")) } }
                    @for way in unless { li { "denied by " code { (way.policy) } ": " (asked(way, "always", "when ")) } }
                    @for way in may_fail { li { "denied by " code { (way.policy) } " should it fail" } }
                },
            }
        }
    }
}

fn asked(way: &Way, nothing: &str, lead: &str) -> String {
    let demands = way.demands();
    if demands.is_empty() { nothing.to_owned() } else { format!("{lead}{}", demands.join("; ")) }
}

/// The files that changed, line by line.
pub(super) fn text_of(changed: &[(&str, &str, &str)]) -> Markup {
    html! {
        @if changed.is_empty() { p .faint { "Both are the same, word for word." } }
        @for (name, was, is) in changed {
            section {
                h3 { code { (name) } }
                pre .lines tabindex="0" { @for line in changed_lines(was, is, AROUND) { (one_line(line)) } }
            }
        }
    }
}

fn one_line(line: Line<'_>) -> Markup {
    match line {
        Line::Both(text) => html! { span { "  " (text) "\n" } },
        Line::Old(text) => html! { del { "- " (text) "\n" } },
        Line::New(text) => html! { ins { "+ " (text) "\n" } },
        Line::Gap => html! { span .faint { "  …\n" } },
    }
}
