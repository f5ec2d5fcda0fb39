//! How the console's pages look. maud escapes every name and text.

pub(super) mod policy;
pub(super) mod requests;

use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};
use vouchsafe_model::moment::parse_rfc3339;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AttachedTo, AuditQuery, Connector, Device, ResourceDoc, User};
use vouchsafe_wire::audit::Record;

use super::Counts;
use crate::context::Settings;
use crate::pages::layout::{at, at_or, chips, wide};

const PAGES: [(&str, &str); 8] = [
    ("/", "Overview"),
    ("/users", "Users"),
    ("/devices", "Devices"),
    ("/resources", "Resources"),
    ("/connectors", "Connectors"),
    ("/requests", "Requests"),
    ("/policy", "Policy"),
    ("/audit", "Audit"),
];

fn page(title: &str, who: &str, body: Markup) -> Response {
    below(title, title, who, body)
}

/// A page that stands below another.
fn below(parent: &str, title: &str, who: &str, body: Markup) -> Response {
    let header = html! {
        nav aria-label="Console" {
            @for (path, name) in PAGES {
                a href=(path) aria-current=[(name == parent).then_some("page")] { (name) }
            }
            span .faint { (who) }
        }
    };
    Html(wide(title, header, html! { h1 { (title) } (body) }).into_string()).into_response()
}

fn table(head: &[&str], body: Markup) -> Markup {
    html! {
        section {
            div .scroll {
                table {
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody { (body) }
                }
            }
        }
    }
}

pub(super) fn overview(who: &str, counts: &Counts, records: &[Record]) -> Response {
    let Counts { users, devices, sessions, resources, grants, policy_version } = counts;
    let tiles = [
        (users, "users", "/users"),
        (devices, "devices", "/devices"),
        (sessions, "open sessions", "/audit"),
        (resources, "resources", "/resources"),
        (grants, "grants", "/audit"),
        (policy_version, "policy version", "/policy"),
    ];
    page(
        "Overview",
        who,
        html! {
            ul .tiles {
                @for (count, name, path) in tiles {
                    li { a href=(path) { strong { (count) } span { (name) } } }
                }
            }
            h2 { "Latest decisions" }
            (records_table(records))
        },
    )
}

pub(super) fn users(who: &str, users: &[User]) -> Response {
    let rows = html! {
        @for user in users {
            tr {
                td { a href={ "/audit?user=" (user.name) } { (user.name) } }
                td { (state_chip(&user.state)) }
                td { (chips(&user.groups, "none")) }
                td { (user.passkeys.len()) }
                td { (user.sessions) }
                td .nowrap { (at_or(user.last_sign_in, "never")) }
            }
        }
    };
    page("Users", who, table(&["Name", "State", "Groups", "Passkeys", "Sessions", "Last sign-in"], rows))
}

fn state_chip(state: &str) -> Markup {
    match state {
        "active" => html! { span .chip .good { "active" } },
        "disabled" | "locked" => html! { span .chip .deny { (state) } },
        other => html! { span .chip .weak { (other) } },
    }
}

pub(super) fn devices(who: &str, devices: &[Device]) -> Response {
    let rows = html! {
        @for device in devices {
            tr {
                td { (device.name) p .faint { code { (device.id) } } }
                td { @match &device.owner { Some(owner) => (owner), None => span .faint { "nobody" } } }
                td { (device.grade) }
                td { (chips(&device.tags, "none")) }
                td .nowrap { (at(device.certificate_expires)) }
                td .nowrap { (at_or(device.last_seen, "never")) }
            }
        }
    };
    page("Devices", who, table(&["Name", "Owner", "Grade", "Tags", "Certificate until", "Last seen"], rows))
}

pub(super) fn resources(who: &str, settings: &Settings, resources: &[ResourceDoc], now: u64) -> Response {
    let rows = html! {
        @for resource in resources {
            tr {
                td {
                    a href={ "/audit?resource=" (resource.name) } { (resource.name) }
                    @if !resource.description.is_empty() { p .faint { (resource.description) } }
                }
                td { (resource.kind) }
                td { code { (settings.domain.host(&resource.name)) } }
                td { code { (resource.upstream) } }
                td { (chips(&resource.groups, "none")) }
                td { (resource.sensitivity.as_deref().unwrap_or("internal")) }
                td { (mode_badge(resource, now)) }
            }
        }
    };
    page("Resources", who, table(&["Name", "Kind", "Host", "Upstream", "Groups", "Sensitivity", "Mode"], rows))
}

pub(super) fn connectors(who: &str, connectors: &[Connector]) -> Response {
    let rows = html! {
        @for connector in connectors {
            tr {
                td { (connector.name) p .faint { code { (connector.id) } } }
                td { (connector.site) }
                td {
                    @for AttachedTo { gateway, since, connections, streams } in &connector.attached {
                        div {
                            span .chip .good { (gateway) }
                            p .faint { (count(*connections, "connection")) " since " (at(*since)) ", " (count(*streams, "stream")) }
                        }
                    }
                    @if connector.attached.is_empty() { span .chip .deny { "nowhere" } }
                }
                td .nowrap { (at(connector.certificate_expires)) }
                td .nowrap { (at(connector.created)) }
            }
        }
        @if connectors.is_empty() { tr { td colspan="5" .faint { "No connector has joined." } } }
    };
    page("Connectors", who, table(&["Name", "Site", "Attached to", "Certificate until", "Joined"], rows))
}

fn count(number: u32, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// What becomes of a denial there, and until when one passes.
fn mode_badge(resource: &ResourceDoc, now: u64) -> Markup {
    let mode = resource.mode.as_deref().unwrap_or("enforce");
    let until = resource.observe.as_ref().and_then(|trial| parse_rfc3339(&trial.until)).map(clock::unix_seconds);
    match (until, &resource.observe) {
        (Some(until), Some(_)) if until <= now => {
            html! { span .chip .deny { (mode) " is over" } p .faint { "It enforces since " (at(until)) } }
        }
        (Some(until), Some(trial)) => html! {
            span .chip .weak { (mode) }
            p .faint { "denials pass until " (at(until)) ", from " (trial.from.join(", ")) "; " (trial.owner) " answers for it" }
        },
        (_, _) => html! { span .chip .good { "enforce" } },
    }
}

pub(super) fn audit(who: &str, asked: &AuditQuery, records: &[Record]) -> Response {
    let outcome = asked.outcome.as_deref().unwrap_or_default();
    page(
        "Audit",
        who,
        html! {
            form .inline method="get" action="/audit" {
                label .hidden for="user" { "User" }
                input #user name="user" placeholder="User" value=[asked.user.as_deref()];
                label .hidden for="resource" { "Resource" }
                input #resource name="resource" placeholder="Resource" value=[asked.resource.as_deref()];
                label .hidden for="outcome" { "Outcome" }
                select #outcome name="outcome" {
                    option value="" { "Any outcome" }
                    @for word in ["allow", "deny", "ok", "failed"] {
                        option value=(word) selected[word == outcome] { (word) }
                    }
                }
                button { "Filter" }
            }
            (records_table(records))
        },
    )
}

fn records_table(records: &[Record]) -> Markup {
    let rows = html! {
        @for record in records { (record_row(record)) }
        @if records.is_empty() { tr { td colspan="6" .faint { "Nothing yet." } } }
    };
    table(&["When", "Who", "What", "Outcome", "Why", "Policies"], rows)
}

fn record_row(record: &Record) -> Markup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let what = [text(&record.action), text(&record.method), text(&record.path)].join(" ");
    let about = record.resource.clone().or_else(|| record.target.clone()).unwrap_or_default();
    html! {
        tr {
            td .nowrap { (at(record.time_us / 1_000_000)) }
            td {
                (record.user.as_deref().unwrap_or("nobody"))
                @if let Some(grade) = &record.grade { p .faint { "device " (grade) } }
                @if let Some(ip) = &record.ip { p .faint { (ip) } }
                @if let Some(tls) = &record.tls { p .faint { "TLS " (tls) } }
            }
            td { strong { (about) } p .faint { (record.kind.as_str()) " " (what) } }
            td {
                @if let Some(outcome) = &record.outcome {
                    span class={ "chip " (outcome_class(outcome)) } { (outcome) }
                    @if let Some(mode) = &record.passed { p .faint { "passed: mode " (mode) } }
                }
            }
            td {
                @if let Some(reason) = &record.reason { code { (reason) } }
                @if let Some(words) = record.words.as_ref().or(record.detail.as_ref()) { p .faint { (words) } }
            }
            td {
                @if record.policies.is_empty() { span .faint { "none" } }
                @for policy in &record.policies { code { (policy) } " " }
            }
        }
    }
}

fn outcome_class(outcome: &str) -> &'static str {
    match outcome {
        "allow" | "ok" => "allow",
        _ => "deny",
    }
}
