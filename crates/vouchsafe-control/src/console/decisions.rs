//! The decision explorer: one decision from its record, and why it was made.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_model::decision::Reason;
use vouchsafe_policy::{Condition, Considered, Explanation, Holds, PolicyListing};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, ExplainRequest, Lock, LockKind};
use vouchsafe_wire::audit::{Kind, Record};

use super::parts::{chip, empty, link, outcome, segment, sentence};
use super::{Admin, ConsoleError, frame};
use crate::administrator::explain;
use crate::audit;
use crate::context::Context;
use crate::pages::layout::{ago, at};
use crate::store;

/// Policies that are shown with what became of each.
const MOST_CONSIDERED: usize = 12;

/// `GET /decisions/ID`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    Path(id): Path<String>,
) -> Result<Response, ConsoleError> {
    let kind = Some(Kind::Decision.as_str().to_owned());
    let id: String = id.chars().take(80).collect();
    let query = AuditQuery { id: Some(id), kind, limit: Some(1), ..AuditQuery::default() };
    let Some(record) = audit::query(&context, &query, &actor).await?.records.pop() else {
        return Err(ConsoleError::NotFound);
    };
    let end = match &record.flow {
        None => None,
        Some(flow) => {
            let kind = Some(Kind::FlowEnd.as_str().to_owned());
            let query = AuditQuery { id: Some(flow.clone()), kind, limit: Some(1), ..AuditQuery::default() };
            audit::query(&context, &query, &actor).await?.records.pop()
        }
    };
    let texts = match record.policy_version {
        Some(version) if !record.policies.is_empty() => explain::texts(&context, version, &record.policies).await.ok(),
        Some(_) | None => None,
    };
    let now = explained(&context, &record).await;
    let lock = match (&record.reason, &record.resource) {
        (Some(reason), Some(name)) if reason == Reason::UnknownResource.code() => {
            let read = &mut *context.store.read().await?;
            let found = store::locks::find(read, LockKind::Resource, name).await?;
            found.filter(|lock| lock.created <= record.time_us / 1_000_000)
        }
        (_, _) => None,
    };
    Ok(page(&actor.label(), &record, end.as_ref(), &texts.unwrap_or_default(), (now.as_ref(), lock.as_ref())))
}

/// What would be decided now; `None` where nobody can say, such as of a person who is gone.
async fn explained(context: &Context, record: &Record) -> Option<Explanation> {
    let asked = ExplainRequest {
        user: record.user.clone()?,
        device: record.device.clone(),
        grade: None,
        resource: record.resource.clone()?,
        action: record.action.clone(),
        method: record.method.clone(),
        path: record.path.clone(),
        ip: record.ip.clone(),
        post_quantum: record.is_post_quantum(),
        auth_age: record.auth_time_us.map(|time| record.time_us.saturating_sub(time) / 1_000_000),
        at: None,
    };
    explain::explain(context, &asked).await.ok()
}

fn page(
    who: &str,
    record: &Record,
    end: Option<&Record>,
    texts: &[PolicyListing],
    (now, lock): (Option<&Explanation>, Option<&Lock>),
) -> Response {
    let seconds = record.time_us / 1_000_000;
    let (class, word) = outcome(record);
    let class = if class == "weak" { "pass" } else { class };
    let id = record.id.as_deref().unwrap_or_default();
    let head = html! {
        div .head {
            h1 { "Decision" }
            div .actions { a .button href="/audit" { "To the log" } }
        }
    };
    let body = html! {
        section aria-label="Verdict" {
            div .verdict {
                span class={ "big " (class) } { (word) }
                div {
                    @match (&record.user, &record.resource) {
                        (user, resource) => {
                            @match user { Some(user) if !user.contains(':') => (link("users", user)), Some(user) => bdi { (user) }, None => "nobody" }
                            " to "
                            @match resource { Some(name) if name != "console" => (link("resources", name)), Some(name) => bdi { (name) }, None => "nothing" }
                        },
                    }
                    p .faint { (ago(seconds, clock::unix_seconds(clock::now()))) ", " (at(seconds)) " · " code { (id) } }
                }
            }
            @if let Some(words) = &record.words { p { (sentence(words)) } }
            @if let Some(lock) = lock {
                p .notice {
                    "It was locked, and still is: by " bdi { (lock.by) } " since " (at(lock.created))
                    @if !lock.reason.is_empty() { ", since “" bdi { (lock.reason) } "”" }
                    ". A lock closes a resource to everybody, as if it weren’t there. "
                    @if let Some(name) = &record.resource { "It is taken away on " (link("resources", name)) "." }
                }
            }
            p .faint {
                "Reason " code { (record.reason.as_deref().unwrap_or("unknown")) }
                @if !record.advice.is_empty() { "; what helps: " (record.advice.join(", ")) }
                @if let Some(mode) = &record.passed { "; it went on all the same, by the mode " code { (mode) } }
                @if let Some(more) = record.repeated { "; it stands for " (more) " more like it" }
            }
        }
        div .grid {
            section .w6 aria-labelledby="request" { h2 #request { "What was asked" } (facts(&request(record))) }
            section .w6 aria-labelledby="subject" { h2 #subject { "Who asked" } (subject(record)) }
        }
        section aria-labelledby="then" {
            h2 #then { "The policies that decided" @if let Some(version) = record.policy_version { ", as of version " (version) } }
            @if record.policies.is_empty() {
                (empty("None", html! { "No policy permits this, or it was refused before any was asked. Whatever nothing permits is denied." }))
            }
            @for name in &record.policies { (policy(name, texts)) }
        }
        @if lock.is_none() { (now_section(record, now)) }
        @if let Some(end) = end {
            section aria-labelledby="end" { h2 #end { "How the flow ended" } (facts(&ended(end))) }
        }
        details {
            summary { "The record, as it is kept" }
            pre tabindex="0" { (serde_json::to_string_pretty(record).unwrap_or_default()) }
        }
    };
    frame::headed("Audit", &format!("Decision {id}"), who, head, body)
}

fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        dl { @for (name, value) in facts { @if !value.is_empty() { dt { (name) } dd { bdi { (value) } } } } }
    }
}

fn request(record: &Record) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        ("Action", text(&record.action)),
        ("Method", text(&record.method)),
        ("Host", text(&record.host)),
        ("Path", text(&record.path)),
        ("Port", record.port.map(|port| port.to_string()).unwrap_or_default()),
        ("Protocol", text(&record.protocol)),
        ("TLS", text(&record.tls)),
        ("From", text(&record.ip)),
        ("Through", text(&record.via)),
        ("Connector", text(&record.connector)),
        ("Proxy", text(&record.proxy)),
        ("Status", record.status.map(|status| status.to_string()).unwrap_or_default()),
        ("Decided by", record.source.clone()),
        ("Flow", text(&record.flow)),
    ]
}

fn subject(record: &Record) -> Markup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let age = record.auth_time_us.map(|time| record.time_us.saturating_sub(time) / 60_000_000);
    html! {
        dl {
            dt { "User" } dd { @match &record.user { Some(user) => bdi { (user) }, None => "not signed in" } }
            dt { "Groups" } dd { @for group in &record.groups { (chip("", group)) } @if record.groups.is_empty() { span .faint { "none" } } }
            dt { "Device" }
            dd {
                @match (&record.device, &record.device_name) {
                    (Some(id), name) => a href={ "/devices/" (segment(id)) } { bdi { (name.as_deref().unwrap_or(id)) } },
                    (None, _) => span .faint { "none was proven" },
                }
                @if let Some(grade) = &record.grade { " " (chip(if grade.starts_with("hardware") { "good" } else { "weak" }, grade)) }
            }
        }
        (facts(&[
            ("Owner", text(&record.device_owner)),
            ("Tags", record.device_tags.join(", ")),
            ("Signed in", age.map(|age| format!("{age} min before, by {}", record.auth_methods.join(", "))).unwrap_or_default()),
            ("Session", text(&record.session)),
            ("Epoch", record.epoch.map(|epoch| epoch.to_string()).unwrap_or_default()),
        ]))
    }
}

fn ended(end: &Record) -> Vec<(&'static str, String)> {
    let number = |number: Option<u64>, unit: &str| {
        number.map(|number| format!("{} {unit}", super::parts::grouped(number))).unwrap_or_default()
    };
    vec![
        ("Open for", number(end.duration_us.map(|time| time / 1_000), "ms")),
        ("In", number(end.bytes_in, "bytes")),
        ("Out", number(end.bytes_out, "bytes")),
        ("Status", end.status.map(|status| status.to_string()).unwrap_or_default()),
        ("Reason", end.reason.clone().unwrap_or_default()),
        ("In words", end.detail.clone().unwrap_or_default()),
    ]
}

fn policy(name: &str, texts: &[PolicyListing]) -> Markup {
    html! {
        @match texts.iter().find(|text| text.id.as_str() == name) {
            Some(PolicyListing { file, owner, text, .. }) => {
                h3 { code { (name) } " in " code { (file) } @if let Some(owner) = owner { ", " (owner) " answers for it" } }
                pre tabindex="0" { (text) }
            },
            None => p { code { (name) } " " span .faint { @if name.starts_with("grt_") { "is a grant" } @else { "is not in that version any more" } } },
        }
    }
}

fn now_section(record: &Record, now: Option<&Explanation>) -> Markup {
    html! {
        section aria-labelledby="now" {
            h2 #now { "The same request now" }
            @match now {
                None => (empty("Nobody can say", html! { "Who asked isn’t known any more, is locked, or had not signed in." })),
                Some(Explanation { decision, considered, more, would_change }) => {
                    p {
                        (chip(if decision.outcome == "allow" { "allow" } else { "deny" }, &decision.outcome))
                        " under version " (decision.policy_version) ": " (decision.words)
                        @if Some(&decision.outcome) != record.outcome.as_ref() { " " strong { "That is another answer than then." } }
                    }
                    @if !would_change.is_empty() {
                        h3 { "What would change it" }
                        ul { @for words in would_change.iter().take(MOST_CONSIDERED) { li { (sentence(words)) } } }
                    }
                    @if !considered.is_empty() {
                        details open[decision.outcome != "allow"] {
                            summary { "Every policy about it, nearest first" }
                            @for one in considered.iter().take(MOST_CONSIDERED) { (considered_one(one)) }
                            @let rest = considered.len().saturating_sub(MOST_CONSIDERED) + more;
                            @if rest > 0 { p .faint { "and " (rest) " more" } }
                        }
                    }
                },
            }
        }
    }
}

fn considered_one(one: &Considered) -> Markup {
    let Considered { id, file, scope, conditions, decides, verdict, .. } = one;
    html! {
        h3 { code { (id) } " " span .faint { "in " (file) } @if *decides { " " (chip("good", "decides")) } }
        p .faint { (verdict) }
        ul .conditions {
            @for part in [&scope.principal, &scope.action, &scope.resource] { (condition(part.matched, &part.text)) }
            @for Condition { text, holds } in conditions {
                @match holds {
                    Holds::True => (condition(true, text)),
                    Holds::False => (condition(false, text)),
                    Holds::Error(why) => { (condition(false, text)) p .faint { (why) } },
                    Holds::NotReached => li { span .dot {} code { (text) } span .faint { " wasn’t asked" } },
                }
            }
        }
    }
}

fn condition(holds: bool, text: &str) -> Markup {
    html! {
        li { span .dot .allow[holds] .deny[!holds] {} code { (text) } span .hidden { @if holds { " holds" } @else { " does not hold" } } }
    }
}
