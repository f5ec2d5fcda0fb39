//! Streams of the audit log: where records go, and how far each place is.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{StreamDoc, StreamTried};

use super::parts::{cards, chip, count, empty, grouped, segment};
use super::{Admin, ConsoleError, Fields, Sent, chart, frame};
use crate::context::Context;
use crate::pages::layout::{ago, at};
use crate::streams;

/// Records from which on a place is said to be behind: more than one second brings where little happens.
const BEHIND: u64 = 1_000;

/// `GET /streams`.
pub(super) async fn list(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    page(&context, &actor.label(), None).await
}

/// `POST /v1/audit/streams/NAME/test`: tries now whether the place takes records, and says what came of it.
pub(super) async fn try_out(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(name): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    Fields::of_form(&form, &[])?;
    let tried = streams::try_out(&context, &name, &actor).await?;
    page(&context, &actor.label(), Some((&name, &tried))).await
}

async fn page(context: &Context, who: &str, tried: Option<(&str, &StreamTried)>) -> Result<Response, ConsoleError> {
    let now = clock::unix_seconds(clock::now());
    let all = streams::list(context).await?;
    let size = context.store.log().size();
    let body = html! {
        p { "A SIEM or a collector gets every record as it is made, by syslog over TLS or OpenTelemetry. One that is slow or down holds up nothing and misses nothing: it falls behind, and catches up." }
        @if let Some((name, tried)) = tried {
            @if tried.reached {
                p role="status" { (chip("good", "taken")) " " bdi { (name) } " takes records." }
            } @else {
                p .notice role="alert" { bdi { (name) } " does not take records: " bdi { (tried.outcome) } }
            }
        }
        section aria-label="Streams" {
            @if all.is_empty() {
                (empty("Records go nowhere else yet", html! {
                    "Add a place with " code { "vouchsafe audit stream add siem --syslog host:6514" } " or "
                    code { "--otlp https://collector.example.org" } "; keys and header fields are for the command line alone."
                }))
            } @else {
                (cards(&["Where", "State", "How far", "Last attempt", "Added", ""], all.iter().map(|stream| row(stream, size, now))))
            }
        }
    };
    let head = html! { div .head { h1 { "Streams" } div .actions { a .button href="/audit" { "To the log" } } } };
    Ok(frame::headed("Audit", "Streams", who, head, body))
}

fn row(stream: &StreamDoc, size: u64, now: u64) -> Vec<Markup> {
    let StreamDoc { name, kind, address, format, by, created, next, behind, last, last_at, failures, rejected } =
        stream;
    vec![
        html! {
            span .name { bdi { (name) } }
            p .faint { (kind.as_str()) ", " (format.as_str()) }
            p { code { (address) } }
        },
        html! {
            @match (failures, last) {
                (0, None) => (chip("weak", "nothing sent yet")),
                (0, Some(_)) if *behind > BEHIND => (chip("weak", "catches up")),
                (0, Some(_)) => (chip("good", "takes all")),
                (failures, _) => (chip("deny", &format!("failing: {failures} in a row"))),
            }
            @if *rejected > 0 { p .bad-text { (count(*rejected, "record")) " refused for good" } }
        },
        html! {
            (chart::meter(if *failures > 0 { "deny" } else { "allow" }, *next, size.max(1)))
            p .faint { @if *behind == 0 { "everything" } @else { (grouped(*behind)) " behind" } }
        },
        html! {
            @match last_at { Some(last) => (ago(*last, now)), None => span .faint { "never" } }
            @if let Some(last) = last { p .faint { bdi { (last) } } }
        },
        html! { (at(*created)) p .faint { "by " bdi { (by) } } },
        html! {
            form method="post" action={ "/v1/audit/streams/" (segment(name)) "/test" } {
                button .small { "Try" span .hidden { " " (name) } }
            }
        },
    ]
}
