//! What is decided, as it happens: server-sent events with rows for the table of the overview.
//!
//! It is a view for people: at most once a second, the newest few. Whoever needs every record follows the log
//! (`GET /v1/audit/tail`), or has it exported.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use http::header;
use maud::html;
use tokio::sync::watch;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::{Kind, Record};

use super::figures::{LATEST, is_left_out};
use super::parts::{RECORD_HEAD, record, row};
use super::{Admin, ConsoleError, overview};
use crate::audit;
use crate::context::Context;
use crate::log::{Filter, Span};
use crate::store::StoreError;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Most records of one look: of more, the newest.
const MOST: u32 = 200;
/// How often something is said, so that nobody takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /events`.
pub(super) async fn follow(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let kind = Some(Kind::Decision.as_str().to_owned());
    let asked = AuditQuery { kind: kind.clone(), ..AuditQuery::default() };
    audit::record_read(&context, &asked, "audit.feed", &actor).await?;
    let mut grown = context.store.log().grown();
    let next = *grown.borrow_and_update();
    let follower = Follower { context, filter: Filter { kind, ..Filter::default() }, grown, next, first: true };
    let events = unfold(follower, |mut follower| async move {
        follower.next().await.map(|event| (Ok::<_, Infallible>(event), follower))
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Sse::new(events)).into_response())
}

struct Follower {
    context: Context,
    filter: Filter,
    grown: watch::Receiver<u64>,
    /// Position of the next record to look at.
    next: u64,
    first: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.first) {
            return Some(self.flows());
        }
        loop {
            tokio::select! {
                changed = self.grown.changed() => changed.ok()?,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(self.flows()),
                () = self.context.tasks.draining() => return None,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.context.tasks.draining() => return None,
            }
            let found = self.newest().await.inspect_err(|error| {
                tracing::warn!(error = error as &dyn std::error::Error, "the feed of decisions ends");
            });
            let found = found.ok()?;
            if found.is_empty() {
                continue;
            }
            let now = clock::unix_seconds(clock::now());
            let rows = html! { @for one in &found { (row(&RECORD_HEAD, &record(one, now))) } };
            // A line break would end the event's line.
            return Some(Event::default().event("rows").data(rows.into_string().replace(['\r', '\n'], " ")));
        }
    }

    /// What came since the last look, newest first.
    async fn newest(&mut self) -> Result<Vec<Record>, StoreError> {
        let size = *self.grown.borrow_and_update();
        let from = self.next.max(size.saturating_sub(u64::from(MOST)));
        self.next = size;
        let found = audit::read_log(&self.context, self.filter.clone(), Span::Between(from, size), MOST).await?;
        let mut records = Vec::new();
        for (_, bytes) in found.iter().rev() {
            let record = Record::from_canonical(bytes).map_err(|_| StoreError::Corrupt { what: "audit record" })?;
            if records.len() < LATEST && !is_left_out(&record) {
                records.push(record);
            }
        }
        Ok(records)
    }

    fn flows(&self) -> Event {
        let going = overview::going(&self.context);
        Event::default().event("flows").data(going.map_or_else(|| "–".to_owned(), |going| going.flows.to_string()))
    }
}
