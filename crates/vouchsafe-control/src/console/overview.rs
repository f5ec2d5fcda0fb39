//! The first page: what happens, what waits to be decided, and how everything is.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Going;
use vouchsafe_wire::api::{AuditQuery, Connector, Gateway, ProposalState, RequestState, ResourceDoc};

use super::figures::{self, Figures, WINDOWS, Window};
use super::parts::{RECORD_HEAD, chip, count, empty, ends, grouped, link, record, row};
use super::start::Steps;
use super::{Admin, ConsoleError, Fields, chart, frame};
use crate::context::Context;
use crate::directory::{connectors, gateways};
use crate::pages::layout::{ago, at};
use crate::store::{devices, policy, proposals, requests, resources, sessions, users};

/// Rows of a list that stands beside others.
const FEW: usize = 6;
/// Seconds for which a gateway is taken for there after it was heard last.
const HEARD: u64 = 30;

/// What the page shows.
struct Overview {
    now: u64,
    window: Window,
    figures: Figures,
    going: Option<Going>,
    users: u64,
    devices: u64,
    sessions: u64,
    modes: Vec<ResourceDoc>,
    resources: usize,
    waiting: Vec<Waiting>,
    gateways: Vec<Gateway>,
    connectors: Vec<Connector>,
    steps: Steps,
}

/// Something that somebody has to decide.
struct Waiting {
    path: String,
    words: String,
    since: u64,
}

/// What goes on at the gateway of this process.
pub(super) fn going(context: &Context) -> Option<Going> {
    context.own_gateway.get().and_then(|(_, attendance)| attendance.going())
}

/// `GET /?window=`.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let window = Window::of(fields.text("window"));
    let now = clock::unix_seconds(clock::now());
    let figures = figures::count(&context, window, AuditQuery::default(), &actor).await?;
    let (gateways, connectors) = (gateways::list(&context).await?, connectors::list(&context).await?);
    let mut read = context.store.read().await?;
    let all = resources::list(&mut read).await?;
    let mut waiting = Vec::new();
    for request in requests::list(&mut read, None).await?.into_iter().filter(|one| one.state == RequestState::Open) {
        let words = format!("{} asks for {}", request.user, request.resource);
        waiting.push(Waiting { path: "/requests".to_owned(), words, since: request.created });
    }
    for proposal in proposals::list(&mut read).await?.into_iter().filter(|one| one.state == ProposalState::Open) {
        let words = format!("{} proposes a policy", proposal.by);
        waiting.push(Waiting { path: format!("/proposals/{}", proposal.proposal), words, since: proposal.created });
    }
    if let (Some(words), Some(since)) = (context.room.words(), context.room.since()) {
        waiting.insert(0, Waiting { path: "/audit".to_owned(), words, since });
    }
    let current = policy::current(&mut read).await?;
    if let Some(until) = current.confirm_by.filter(|until| *until > now) {
        let words =
            format!("version {} of the policy is to be confirmed within {} min", current.version, (until - now) / 60);
        waiting.push(Waiting { path: "/policy".to_owned(), words, since: current.created });
    }
    let page = Overview {
        steps: Steps::of(&mut read, &all, now).await?,
        now,
        window,
        figures,
        going: going(&context),
        users: users::count(&mut read).await?,
        devices: devices::count(&mut read).await?,
        sessions: sessions::count(&mut read, now).await?,
        resources: all.len(),
        modes: all.into_iter().filter(|one| ends(one).is_some_and(|until| until > now)).collect(),
        waiting,
        gateways,
        connectors,
    };
    drop(read);
    Ok(page.page(&actor.label()))
}

impl Overview {
    fn page(&self, who: &str) -> Response {
        let head = html! {
            div .head {
                h1 { "Overview" }
                nav .segments aria-label="For how long back" {
                    @for window in WINDOWS {
                        a href={ "/?window=" (window.word) } aria-current=[(window == self.window).then_some("true")] { (window.word) }
                    }
                }
            }
        };
        let body = html! {
            (self.steps.card())
            (self.tiles())
            div .grid {
                section .w8 aria-labelledby="over-time" {
                    div .head { h2 #over-time { "Access over time" } (chart::legend()) }
                    (chart::over_time(&self.figures))
                }
                section .w4 aria-labelledby="reasons" { h2 #reasons { "Why access was denied" } (self.reasons()) }
                section .w4 aria-labelledby="waiting" { h2 #waiting { "Waits for you" } (self.waits()) }
                section .w4 aria-labelledby="modes" { h2 #modes { "On the way to enforcing" } (self.modes()) }
                section .w4 aria-labelledby="health" { h2 #health { "Gateways and connectors" } (self.health()) }
            }
            (self.feed())
        };
        frame::headed("Overview", "Overview", who, head, body)
    }

    fn tiles(&self) -> Markup {
        let (allowed, passed, denied) = self.figures.totals();
        let window = self.window.word;
        let revocation = self.going.and_then(|going| going.revoked_most);
        html! {
            ul .tiles {
                li { a href="/audit?outcome=allow&kind=decision" { strong .allow { (grouped(allowed)) } span { "allowed" } span .sub { "in the last " (window) } } }
                li { a href="/audit?outcome=deny&kind=decision" {
                    strong .deny { (grouped(denied)) } span { "denied" }
                    span .sub { @if passed > 0 { (grouped(passed)) " more passed by a mode" } @else { "in the last " (window) } }
                } }
                li { div {
                    strong data-flows { @match self.going { Some(going) => (grouped(going.flows)), None => "–" } }
                    span { "flows open now" }
                    span .sub { @if self.going.is_some() { "at this gateway" } @else { "gateways count them themselves" } }
                } }
                li { a href="/sessions" { strong { (grouped(self.sessions)) } span { "sessions" } span .sub { (count(self.users, "user")) } } }
                li { a href="/devices" { strong { (grouped(self.devices)) } span { "devices" } span .sub { (count(self.resources as u64, "resource")) } } }
                li { div {
                    strong { @match revocation { Some(time) => (milliseconds(time)), None => "–" } }
                    span { "from revoked to cut" }
                    span .sub {
                        @match (self.going, revocation) {
                            (Some(going), Some(_)) => { "99 of 100 of " (count(going.revoked, "flow")) },
                            (_, _) => "no flow was cut yet",
                        }
                    }
                } }
            }
        }
    }

    fn reasons(&self) -> Markup {
        let most = self.figures.reasons.first().map_or(0, |(_, count)| *count);
        html! {
            @if self.figures.reasons.is_empty() {
                (empty("Nothing was denied", html! { "Every denial says why; the reasons would be counted here." }))
            }
            ul .top-list {
                @for (reason, count) in &self.figures.reasons {
                    li {
                        div .line {
                            a href={ "/audit?outcome=deny&reason=" (super::parts::value(reason)) } { (in_words(reason)) }
                            span { (grouped(*count)) }
                        }
                        (chart::meter("deny", *count, most))
                    }
                }
            }
        }
    }

    fn waits(&self) -> Markup {
        html! {
            @if self.waiting.is_empty() {
                (empty("Nothing waits", html! { "Requests for access, and policies that take two people, stand here until somebody decides." }))
            } @else {
                ul .rows {
                    @for one in self.waiting.iter().take(FEW) {
                        li { a href=(one.path) { bdi { (one.words) } } span .faint .end { (ago(one.since, self.now)) } }
                    }
                }
                @if self.waiting.len() > FEW { p .faint { "and " (self.waiting.len() - FEW) " more" } }
            }
        }
    }

    fn modes(&self) -> Markup {
        html! {
            @if self.modes.is_empty() {
                (empty("Every resource enforces", html! {
                    "A new resource can begin in observe mode, which lets denials pass for a bounded time and counts them."
                }))
            }
            ul .rows {
                @for resource in self.modes.iter().take(FEW) {
                    li {
                        div {
                            span .name { (link("resources", &resource.name)) } " "
                            (chip("weak", resource.mode.as_deref().unwrap_or("observe")))
                            @if let Some(until) = ends(resource) { p .faint { "until " (at(until)) } }
                            @if let Some(trial) = &resource.observe { p .faint { "from " (trial.from.join(", ")) "; " bdi { (trial.owner) } " answers for it" } }
                        }
                    }
                }
            }
        }
    }

    fn health(&self) -> Markup {
        html! {
            ul .rows {
                @if let Some(going) = self.going {
                    li {
                        div { span .dot .allow {} span .name { "this gateway" } p .faint { "in the controller’s own process" } }
                        span .faint .end { (count(going.flows, "flow")) }
                    }
                }
                @for gateway in self.gateways.iter().take(FEW) {
                    @let heard = gateway.attached.as_ref().map(|attached| attached.heard);
                    @let here = heard.is_some_and(|heard| heard + HEARD >= self.now);
                    li {
                        div {
                            span .dot .allow[here] .deny[!here] {}
                            span .name { bdi { (gateway.name) } }
                            p .faint {
                                @match &gateway.attached {
                                    Some(attached) if attached.behind > 0 => { (count(attached.behind, "change")) " behind" },
                                    Some(_) => "up to date",
                                    None => "not attached",
                                }
                            }
                        }
                        span .faint .end { @if let Some(seen) = heard.or(gateway.last_seen) { (ago(seen, self.now)) } @else { "never seen" } }
                    }
                }
                @for connector in self.connectors.iter().take(FEW) {
                    @let here = !connector.attached.is_empty();
                    li {
                        div {
                            span .dot .allow[here] .deny[!here] {}
                            a .name href="/connectors" { bdi { (connector.name) } }
                            p .faint { "connector of " (connector.site) }
                        }
                        span .faint .end { @if here { (count(connector.attached.len() as u64, "gateway")) } @else { "nowhere" } }
                    }
                }
            }
            @if self.connectors.is_empty() {
                p .faint { "No connector has joined. One dials out of a network that has no way in: " code { "vouchsafe connector invite SITE" } "." }
            }
        }
    }

    fn feed(&self) -> Markup {
        html! {
            section aria-labelledby="latest" {
                div .head { h2 #latest { "Latest decisions" } p .faint data-feed-state { "as of " (at(self.now)) } }
                @if self.figures.latest.is_empty() {
                    (empty("Nobody asked for anything yet", html! {
                        a href="/start" { "Protect a first app" } ", and each decision on it shows up here with its reason."
                    }))
                }
                table .cards.feed role="table" {
                    thead role="rowgroup" { tr role="row" { @for name in RECORD_HEAD { th scope="col" role="columnheader" { (name) } } } }
                    tbody role="rowgroup" data-feed="/events" {
                        @for one in &self.figures.latest { (row(&RECORD_HEAD, &record(one, self.now))) }
                    }
                }
            }
        }
    }
}

/// A code of a reason as words.
fn in_words(reason: &str) -> String {
    let mut letters = reason.chars().map(|letter| if letter == '_' { ' ' } else { letter });
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn milliseconds(time: std::time::Duration) -> String {
    match time.as_millis() {
        0 => "< 1 ms".to_owned(),
        some => format!("{some} ms"),
    }
}
