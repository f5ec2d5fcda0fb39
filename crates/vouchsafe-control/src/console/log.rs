//! The audit log: looking for records.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditLogState, AuditPage, AuditQuery};
use vouchsafe_wire::audit::Kind;

use super::parts::{chip, empty, grouped, records};
use super::{Admin, ConsoleError, Fields, chart, frame};
use crate::audit::{self, AuditError};
use crate::context::{Context, Settings};

/// Records on one page.
const PAGE: u32 = 50;
/// How far back can be chosen: a word and seconds.
const SPANS: [(&str, &str, u64); 4] = [
    ("1h", "the last hour", 3_600),
    ("24h", "the last day", 86_400),
    ("7d", "the last week", 604_800),
    ("30d", "the last month", 2_592_000),
];

/// `GET /audit?text=&user=&device=&resource=&outcome=&kind=&reason=&id=&span=&after=`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let now = clock::unix_seconds(clock::now());
    let seconds = SPANS.iter().find(|(word, _, _)| Some(*word) == fields.text("span")).map(|(_, _, seconds)| *seconds);
    let asked = AuditQuery {
        user: fields.short("user"),
        device: fields.short("device"),
        resource: fields.short("resource"),
        outcome: fields.short("outcome"),
        kind: fields.short("kind"),
        reason: fields.short("reason"),
        id: fields.short("id"),
        text: fields.short("text"),
        since: seconds.map(|seconds| now.saturating_sub(seconds)),
        after: fields.number("after"),
        limit: Some(PAGE),
        ..AuditQuery::default()
    };
    let (page, wrong) = match audit::query(&context, &asked, &actor).await {
        Ok(page) => (page, None),
        // Words that can't be looked for, or a device that isn't there: the form says so.
        Err(error @ (AuditError::Value { .. } | AuditError::Directory(_))) => {
            (AuditPage { records: Vec::new(), next: None }, Some(error.to_string()))
        }
        Err(error @ AuditError::Store(_)) => return Err(error.into()),
    };
    let state = context.checkpoints.describe(context.store.log());
    let head = html! {
        div .head {
            div { h1 { "Audit" } p .faint { (grouped(state.records)) " records; reading them is one, too" } }
            div .actions { a .button href="/streams" { "Streams" } }
        }
    };
    let body = html! {
        (verification(&context.settings, &state))
        section aria-label="Filters" { (filters(&fields, &asked)) }
        @if let Some(wrong) = &wrong { p .notice role="alert" { bdi { (wrong) } } }
        section aria-label="Records" {
            @if page.records.is_empty() {
                (empty("Nothing yet.", html! { "No record is like that. " a href="/audit" { "Show all" } }))
            } @else { (records(&page.records, now)) }
            nav .pages aria-label="Pages" {
                @if asked.after.is_some() { a .button .small href=(to(&fields, None)) { "Newest" } }
                @if let Some(next) = page.next { a .button .small href=(to(&fields, Some(next))) { "Older" } }
            }
        }
    };
    Ok(frame::headed("Audit", "Audit", &actor.label(), head, body))
}

/// The same question, from another record on.
fn to(fields: &Fields, after: Option<u64>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.0.iter().filter(|(name, value)| name != "after" && !value.is_empty()));
    if let Some(after) = after {
        query.append_pair("after", &after.to_string());
    }
    format!("/audit?{}", query.finish())
}

/// What of the log is signed, by which key, and what is wrong.
fn verification(settings: &Settings, state: &AuditLogState) -> Markup {
    let AuditLogState { origin, key, records, signed, root, trouble, .. } = state;
    html! {
        section aria-labelledby="verification" {
            div .head {
                h2 #verification { "Whether it was changed" }
                @match trouble {
                    Some(_) => (chip("deny", "no checkpoint is signed")),
                    None if root.is_none() => (chip("weak", "not signed yet")),
                    None => (chip("good", "signed")),
                }
            }
            @if let Some(trouble) = trouble {
                p .notice role="alert" { bdi { (trouble.words) } ". " bdi { (trouble.hint) } }
            }
            p {
                "The newest checkpoint covers " (grouped(*signed)) " of " (grouped(*records)) " records"
                @if signed < records { "; the others follow within a second, unless something is wrong" }
                ". Nobody changes, removes or swaps one of those without it being seen by "
                code { (settings.command("audit verify")) } ". All of it goes into files with " code { (settings.command("audit export --out audit.ocsf")) } "."
            }
            (chart::meter(if trouble.is_some() { "deny" } else { "allow" }, *signed, *records))
            details {
                summary { "By which key" }
                dl {
                    dt { "Log" } dd { code { (origin) } }
                    dt { "Verifier key" } dd { code { (key) } }
                    @if let Some(root) = root { dt { "Root of the tree" } dd { code { (root) } } }
                }
                p .faint { "Keep the key where the log isn’t, and a checkpoint now and then: " code { (settings.command("audit verify --key KEY --checkpoint FILE")) } " says then what was changed, and where." }
            }
        }
    }
}

fn filters(fields: &Fields, asked: &AuditQuery) -> Markup {
    let text = |name: &str, label: &str, value: &Option<String>| {
        html! { div .field { label for=(name) { (label) } input id=(name) name=(name) value=[value.as_deref()]; } }
    };
    let select = |name: &str, label: &str, chosen: Option<&str>, words: &[(&str, &str)]| {
        html! {
            div .field {
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    option value="" { "any" }
                    @for (word, shown) in words { option value=(word) selected[chosen == Some(*word)] { (shown) } }
                }
            }
        }
    };
    let kinds: Vec<(&str, &str)> = Kind::ALL.iter().map(|kind| (kind.as_str(), kind.as_str())).collect();
    let spans: Vec<(&str, &str)> = SPANS.iter().map(|(word, shown, _)| (*word, *shown)).collect();
    html! {
        form .inline method="get" action="/audit" role="search" {
            (text("text", "Words", &asked.text))
            (text("user", "User", &asked.user))
            (text("device", "Device", &asked.device))
            (text("resource", "Resource", &asked.resource))
            (select("outcome", "Outcome", asked.outcome.as_deref(), &[("allow", "allow"), ("deny", "deny"), ("ok", "ok"), ("failed", "failed")]))
            (select("kind", "Kind", asked.kind.as_deref(), &kinds))
            (text("reason", "Reason", &asked.reason))
            (text("id", "Decision, flow or session", &asked.id))
            (select("span", "Time", fields.text("span"), &spans))
            button .go { "Find" }
            a .button href="/audit" { "Clear" }
        }
    }
}
