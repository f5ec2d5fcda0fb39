//! The first steps, in the browser alone: what should be protected first, what would be done for that, and who comes along.
//! What is written goes the way of every plan: shown as it would be, bound to its digest, through the gate, all or nothing.

mod probe;
mod wanted;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};
use vouchsafe_model::moment;
use vouchsafe_model::name::ResourceName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{Apply, AssessedDraft, AssessmentDoc, Diagnostic, Plan, Problem, ResourceDoc};

use self::wanted::{DAYS, FIELDS, Wanted};
use super::parts::{chip, count, empty, ends, link, value};
use super::{Admin, ConsoleError, Fields, Sent, frame};
use crate::administrator::{AdministratorError, apply as applying, assessment, gate, standing};
use crate::api;
use crate::context::Context;
use crate::directory::Actor;
use crate::pages::layout::{ago, at};
use crate::store::{self, policy, resources, settings, users};

/// Services on the page.
const MOST_SERVICES: usize = 200;
/// Mistakes on the page of a plan.
const MOST_MISTAKES: usize = 8;
/// What the page asks of who changes something, as the API calls it.
pub(super) const PLAN: &str = "POST /v1/plan";

/// How far somebody is.
pub(super) struct Steps {
    protected: Option<String>,
    is_invited: bool,
    is_enforcing: bool,
    is_hidden: bool,
}

impl Steps {
    /// Looks how far it is.
    pub(super) async fn of(
        connection: &mut sqlx::SqliteConnection,
        all: &[ResourceDoc],
        now: u64,
    ) -> Result<Self, ConsoleError> {
        let is_hidden = settings::read(connection, settings::FIRST_STEPS).await?.is_some();
        Ok(Self {
            protected: all.first().map(|doc| doc.name.clone()),
            is_invited: users::count(connection).await? > 1,
            is_enforcing: all.iter().any(|doc| ends(doc).is_none_or(|until| until <= now)),
            is_hidden,
        })
    }

    fn all(&self) -> [(bool, &'static str, Markup); 4] {
        let protected = self.protected.is_some();
        [
            (true, "A passkey of your own", html! { "You are signed in with it." }),
            (
                protected,
                "Protect a first app",
                match &self.protected {
                    Some(name) => html! { (link("resources", name)) " is behind vouchsafe." },
                    None => html! { "Choose one of what runs here. Nobody is kept out of it yet: it is only watched." },
                },
            ),
            (
                self.is_invited,
                "Invite a colleague",
                html! { "With a link that is good once. She makes a passkey, and you see what she does." },
            ),
            (
                self.is_enforcing,
                "Enforce",
                html! { "When you have seen how it is used, and everybody who should has a right: from then on others are kept out." },
            ),
        ]
    }

    fn done(&self) -> usize {
        self.all().iter().filter(|(done, _, _)| *done).count()
    }

    /// A card for the overview, until all is done or somebody hides it.
    pub(super) fn card(&self) -> Markup {
        let (all, done) = (self.all(), self.done());
        if self.is_hidden || done == all.len() {
            return html! {};
        }
        html! {
            section .first aria-labelledby="first-steps" {
                div .head {
                    h2 #first-steps { "First steps" }
                    p .faint { (done) " of " (all.len()) " done" }
                }
                (super::chart::meter("allow", done as u64, all.len() as u64))
                (self.list())
                div .actions {
                    @if self.protected.is_none() { a .button.go href="/start" { "Protect a first app" } }
                    @else if !self.is_invited { a .button.go href="/start#colleague" { "Invite a colleague" } }
                    @else { a .button href="/start" { "Go on" } }
                    form method="post" action="/start/hide" { button { "Hide this" } }
                }
            }
        }
    }

    fn list(&self) -> Markup {
        html! {
            ol .way-on {
                @for (done, what, how) in self.all() {
                    li .done[done] {
                        strong { (what) } span .hidden { @if done { " (done)" } @else { " (to do)" } }
                        p .faint { (how) }
                    }
                }
            }
        }
    }
}

/// `GET /start`: what should be protected first?
pub(super) async fn show(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let now = clock::unix_seconds(clock::now());
    // What runs here, and how it could be reached, is for those who may change something. Asked before a reader is held.
    let may_change = standing::may(&context, &actor, PLAN).await.is_ok();
    let mut read = context.store.read().await?;
    let all = resources::list(&mut read).await?;
    let steps = Steps::of(&mut read, &all, now).await?;
    let found = if may_change { assessment::newest(&mut read).await? } else { None };
    let groups = store::groups::list(&mut read).await?.into_iter().map(|group| group.name).collect::<Vec<_>>();
    drop(read);
    let title = if steps.protected.is_none() { "What should be protected first?" } else { "Protect another app" };
    let head = html! { div .head { h1 { (title) } @if found.is_some() { div .actions { a .button href="/assessment" { "How this host stands" } } } } };
    let body = html! {
        @if !may_change { p .notice { "You may look, but no policy lets you change anything here." } }
        div .grid {
            section .w8 aria-labelledby="found" {
                h2 #found { "What runs on this host" }
                (services(found.as_ref(), &all, now))
                h2 { "Something else" }
                p .faint { "An app on another machine, or one that isn’t in the list." }
                form .inline method="get" action="/start/app" {
                    div .field { label for="upstream" { "Its address" } input #upstream name="upstream" placeholder="http://10.0.0.7:3000" maxlength="250" autocomplete="off" autocapitalize="none" spellcheck="false" required; }
                    button { "Protect this" }
                }
            }
            div .w4 {
                section aria-labelledby="steps" { h2 #steps { "First steps" } (steps.list()) }
                section #colleague aria-labelledby="invite" { h2 #invite { "Invite a colleague" } (super::invite::form(&groups, None)) }
            }
        }
    };
    Ok(frame::headed("Resources", title, &actor.label(), head, body))
}

fn services(found: Option<&AssessmentDoc>, all: &[ResourceDoc], now: u64) -> Markup {
    let Some(found) = found else {
        return empty(
            "Nobody has looked at this host yet",
            html! {
                "The look at the first start takes some seconds: load this page again. Later ones are made with "
                code { "vouchsafe assess --send" } ". Or write the address of an app below."
            },
        );
    };
    let taken = |draft: &AssessedDraft| {
        draft.upstream.as_ref().is_some_and(|upstream| all.iter().any(|doc| doc.upstream.ends_with(upstream.as_str())))
    };
    html! {
        @if found.drafts.is_empty() { (empty("Nothing was found that listens here", html! { "Start the app and look again with " code { "vouchsafe assess --send" } ", or write its address below." })) }
        ul .rows.services {
            @for draft in found.drafts.iter().take(MOST_SERVICES) {
                @let address = draft.upstream.as_deref();
                li {
                    div {
                        span .name { bdi { @match address { Some(address) => (address), None => (draft.name) } } } " " @if taken(draft) { (chip("good", "protected")) }
                        p .faint { bdi { (draft.description) } }
                    }
                    @match address {
                        Some(address) if !taken(draft) => form method="get" action="/start/app" {
                            input type="hidden" name="draft" value=(draft.name);
                            button { "Protect" span .hidden { " " (address) } }
                        },
                        Some(_) => {},
                        None => span .faint .end { "its address isn’t known" },
                    }
                }
            }
        }
        @if found.drafts.len() > MOST_SERVICES { p .faint { "and " (found.drafts.len() - MOST_SERVICES) " more" } }
        p .faint { "As of " (ago(found.taken_at, now)) @if let Some(host) = &found.host { ", on " bdi { (host) } } ". Look again with " code { "vouchsafe assess --send" } "." }
    }
}

/// `GET /start/app?draft=…`, or with the fields themselves: what it is to be called, and who may use it.
pub(super) async fn app(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let mut wanted = Wanted::of(&fields, &actor);
    if let Some(name) = fields.text("draft") {
        standing::may(&context, &actor, PLAN).await?;
        let found = assessment::newest(&mut *context.store.read().await?).await?;
        let draft = found.and_then(|found| found.drafts.into_iter().find(|draft| draft.name == name));
        wanted.begin_with(&draft.ok_or(ConsoleError::NotFound)?);
    }
    Ok(form(&context, &wanted, None, &actor))
}

/// The form, with what is wrong in it.
fn form(context: &Context, wanted: &Wanted, wrong: Option<&str>, actor: &Actor) -> Response {
    let Wanted { upstream, is_web, name, description, group, needs_device, from, days, .. } = wanted;
    let domain = context.settings.domain.as_str();
    let head = html! { div .head { h1 { "Protect " bdi { (upstream) } } div .actions { a .button href="/start" { "Choose another" } } } };
    let body = html! {
        @if let Some(wrong) = wrong { p .notice role="alert" { bdi { (wrong) } } }
        section .ask aria-label="How" {
            form method="post" action="/v1/plan" {
                div .grid {
                    div .w6 .field { label for="upstream" { "Where it is now" } input #upstream name="upstream" value=(upstream) required maxlength="250" autocomplete="off" autocapitalize="none" spellcheck="false"; }
                    div .w6 .field {
                        label for="kind" { "What it is" }
                        select #kind name="kind" {
                            option value="web" selected[*is_web] { "a web app" }
                            option value="tcp" selected[!is_web] { "something else, by TCP" }
                        }
                    }
                    div .w6 .field {
                        label for="name" { "What it is to be called" }
                        input #name name="name" value=(name) required maxlength="63" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="name-help";
                        p #name-help .faint { "Its address becomes " code { "NAME." (domain) } ". Small letters, digits and hyphens." }
                    }
                    div .w6 .field { label for="description" { "What people know it as" } input #description name="description" value=(description) maxlength="200" placeholder="Such as: wiki of the team"; }
                    div .w6 .field {
                        label for="group" { "Who is to use it" }
                        input #group name="group" value=(group) maxlength="63" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="group-help";
                        p #group-help .faint { "A group; one that isn’t there is made, with you in it. Empty is a group of the app’s own name." }
                    }
                    div .w6 .field {
                        label for="device" { "On what" }
                        select #device name="device" aria-describedby="device-help" {
                            option value="enrolled" selected[*needs_device] { "enrolled devices only" }
                            option value="none" selected[!needs_device] { "any device, with a passkey" }
                        }
                        p #device-help .faint { "An enrolled device has a key of its own that no other has: " code { "vouchsafe enroll" } " makes it." @if !is_on_device(actor) { " You aren’t on one now." } }
                    }
                    div .w6 .field {
                        label for="from" { "From which networks people come today" }
                        input #from name="from" value=(from) required maxlength="400" autocomplete="off" aria-describedby="from-help";
                        p #from-help .faint { "From there nobody is kept out while it is watched. From elsewhere it is closed at once." }
                    }
                    div .w6 .field {
                        label for="days" { "How long it is only watched" }
                        select #days name="days" { @for choice in DAYS { option value=(choice) selected[choice == *days] { (count(choice, "day")) } } }
                    }
                }
                p .actions { button .go { "Show what would be done" } }
            }
        }
    };
    let mut response = frame::headed("Resources", "Protect an app", &actor.label(), head, body);
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    response
}

/// `POST /v1/plan`: what would be done, if the app answers and nothing speaks against it.
pub(super) async fn plan(
    State(context): State<Context>,
    Sent(actor): Sent,
    body: Bytes,
) -> Result<Response, ConsoleError> {
    let wanted = Wanted::of(&Fields::of_form(&body, FIELDS)?, &actor).with_an_end();
    let ready = match wanted.ready(&context).await {
        Ok(ready) => ready,
        Err(error) => return wrong(&context, &wanted, error, &actor),
    };
    if let Err(words) = probe::answers(&ready.resource).await {
        return Ok(form(&context, &wanted, Some(&words), &actor));
    }
    match applying::plan(&context, &ready.manifest).await {
        Ok(planned) => show_plan(&context, &wanted, &ready, &planned, None, &actor).await,
        Err(error) => wrong(&context, &wanted, error, &actor),
    }
}

/// `POST /v1/apply`: does it, if it is still what was shown. What is done already isn't done again.
pub(super) async fn apply(
    State(context): State<Context>,
    Sent(actor): Sent,
    body: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&body, FIELDS)?;
    let wanted = Wanted::of(&fields, &actor).with_an_end();
    let digest = fields.text("digest").unwrap_or_default().to_owned();
    let ready = match wanted.ready(&context).await {
        Ok(ready) => ready,
        Err(error) => return wrong(&context, &wanted, error, &actor),
    };
    let done = format!("/start/protected?name={}&group={}", value(&wanted.name), value(wanted.group()));
    let planned = applying::plan(&context, &ready.manifest).await?;
    if planned.changes.is_empty() {
        return Ok(Redirect::to(&done).into_response());
    }
    if planned.digest != digest {
        let words = "Something changed since this was shown. Look at it again; nothing was done.";
        return show_plan(&context, &wanted, &ready, &planned, Some(words), &actor).await;
    }
    match applying::apply(&context, &Apply { manifest: ready.manifest.clone(), digest }, &actor).await {
        Ok(_) => Ok(Redirect::to(&done).into_response()),
        Err(error) => {
            let problem = api::problem(error);
            Ok(planned_page(&wanted, &ready.policy, &planned, Some(&problem), None, &actor))
        }
    }
}

/// The form again, where it is the form's fault; otherwise the page of the mistake.
fn wrong(
    context: &Context,
    wanted: &Wanted,
    error: AdministratorError,
    actor: &Actor,
) -> Result<Response, ConsoleError> {
    if matches!(error, AdministratorError::Store(_) | AdministratorError::BrokenOff) {
        return Err(error.into());
    }
    let problem = api::problem(error);
    let words = match &problem.detail {
        Some(detail) => format!("{}. {detail}", problem.title),
        None => format!("{}.", problem.title),
    };
    Ok(form(context, wanted, Some(&words), actor))
}

async fn show_plan(
    context: &Context,
    wanted: &Wanted,
    ready: &wanted::Ready,
    planned: &Plan,
    words: Option<&str>,
    actor: &Actor,
) -> Result<Response, ConsoleError> {
    let refused = passes_the_gate(context, ready, actor).await.err().map(api::problem);
    Ok(planned_page(wanted, &ready.policy, planned, refused.as_deref(), words, actor))
}

/// Whether the policy would be taken; the same is asked again when it is published.
async fn passes_the_gate(context: &Context, ready: &wanted::Ready, actor: &Actor) -> Result<(), AdministratorError> {
    let files = ready.manifest.policy.clone().unwrap_or_default();
    let checked = crate::administrator::policy::check_files(context, &files).await?;
    if !checked.ok {
        return Err(AdministratorError::PolicyInvalid { diagnostics: checked.diagnostics });
    }
    let ip = match actor {
        Actor::User { ip, .. } => Some(*ip),
        _ => None,
    };
    let mut read = context.store.read().await?;
    let current = policy::current(&mut read).await?;
    let tests = policy::to_engine(&current.tests);
    gate::pass(&mut read, policy::to_engine(&files), &tests, current.version + 1, ip).await?;
    Ok(())
}

fn planned_page(
    wanted: &Wanted,
    text: &str,
    planned: &Plan,
    refused: Option<&Problem>,
    words: Option<&str>,
    actor: &Actor,
) -> Response {
    let head = html! { div .head { h1 { "Protect " bdi { (wanted.name) } "?" } } };
    let hidden = |digest: bool| {
        html! {
            @for (field, text) in wanted.fields() { input type="hidden" name=(field) value=(text); }
            @if digest { input type="hidden" name="digest" value=(planned.digest); }
        }
    };
    let body = html! {
        @if let Some(words) = words { p .notice role="alert" { (words) } }
        @if let Some(problem) = refused { (refusal(problem)) }
        div .grid {
            section .w7 aria-labelledby="changes" {
                h2 #changes { "What would be done" }
                ul .changes {
                    @for change in &planned.changes {
                        li {
                            (chip(if change.verb == "add" { "good" } else { "weak" }, &change.verb)) " " strong { bdi { (change.target) } }
                            ul .plain { @for detail in &change.details { li .faint { bdi { (detail) } } } }
                        }
                    }
                }
            }
            section .w5 aria-labelledby="text" {
                h2 #text { "The policy for it" }
                pre .wrap tabindex="0" { (text) }
                p .faint { "It is a file of its own in the policy, and yours: change it under " a href="/policy" { "Policy" } "." }
            }
        }
        section aria-label="Go on" {
            p {
                strong { "Nobody is kept out yet. " }
                "From " bdi { (wanted.from) } " everybody goes on as before, signed in or not, and you see who would have been kept out. "
                "From elsewhere it is closed. It enforces by itself from " @match moment::parse_rfc3339(&wanted.until) { Some(end) => (at(clock::unix_seconds(end))), None => bdi { (wanted.until) } } " on."
            }
            @if wanted.needs_device && !is_on_device(actor) {
                p .notice { "You aren’t on an enrolled device. Once it enforces, you are kept out from here as well: enrol one until then (" code { "vouchsafe enroll" } "), or choose any device." }
            }
            div .actions {
                @if refused.is_none() { form method="post" action="/v1/apply" { (hidden(true)) button .go { "Protect it" } } }
                form method="get" action="/start/app" { (hidden(false)) button { "Change something" } }
            }
        }
    };
    let mut response = frame::headed("Resources", "Protect an app", &actor.label(), head, body);
    if let Some(problem) = refused {
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    } else if words.is_some() {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    response
}

/// Whether whoever looks has proven a device.
fn is_on_device(actor: &Actor) -> bool {
    matches!(actor, Actor::User { device: Some(_), .. })
}

fn refusal(problem: &Problem) -> Markup {
    html! {
        section .found role="alert" {
            p { (chip("deny", "refused")) " " bdi { (problem.title) } }
            @if let Some(detail) = &problem.detail { p .faint { bdi { (detail) } } }
            ul .mistakes {
                @for Diagnostic { message, file, line, .. } in problem.diagnostics.iter().take(MOST_MISTAKES) {
                    li { @if *line > 0 { code { (file) ":" (line) } " " } bdi { (message) } }
                }
                @for test in problem.failed_tests.iter().take(MOST_MISTAKES) {
                    li { code { (test.file) ":" (test.line) } " " strong { bdi { (test.case) } } p { bdi { (test.question) } ": " bdi { (test.failure) } } }
                }
            }
        }
    }
}

/// `GET /start/protected?name=`: where it is now, and how it goes on.
pub(super) async fn protected(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let name = fields.text("name").and_then(|name| ResourceName::parse(name).ok()).ok_or(ConsoleError::NotFound)?;
    let mut read = context.store.read().await?;
    let doc = resources::show(&mut read, &name).await?.ok_or(ConsoleError::NotFound)?;
    let groups = store::groups::list(&mut read).await?.into_iter().map(|group| group.name).collect::<Vec<_>>();
    drop(read);
    let origin = context.settings.origin(&doc.name);
    // The group of its policy, as the guide names it.
    let group = fields
        .short("group")
        .filter(|group| groups.contains(group))
        .or_else(|| groups.iter().find(|known| **known == doc.name).cloned());
    let head = html! { div .head { h1 { bdi { (doc.name) } " is protected" } div .actions { a .button href={ "/resources/" (doc.name) } { "Its page" } } } };
    let body = html! {
        section aria-labelledby="where" {
            h2 #where { "Where it is now" }
            @if doc.kind == "http" {
                p { a .button.go href=(origin) { "Open " (origin) } }
                @if context.settings.domain.as_str().ends_with(".localhost") { p .faint { "That name leads to this machine alone. For others, start " code { "vouchsafe up" } " with a domain of yours." } }
            } @else {
                p { "On an enrolled device: " code { "vouchsafe connect " (doc.name) } }
            }
        }
        div .grid {
            section .w6 aria-labelledby="next" {
                h2 #next { "How it goes on" }
                ol .way-on {
                    li .done { strong { "Watch" } p .faint { "Nobody is kept out, and nobody is asked to sign in. How much it is used, from where, and what would have been denied stands on " a href={ "/resources/" (doc.name) } { "its page" } "." } }
                    li { strong { "Warn" } p .faint {
                        code { (context.settings.command(&format!("resource mode {} warn", doc.name))) }
                        " still keeps nobody out who signs in, but asks for that: from then on people are named, and told what they will need."
                    } }
                    li { strong { "Give rights" } p .faint { "To everybody who should go on: by the group, or " a href="/policy" { "the policy" } "." } }
                    li { strong { "Enforce" } p .faint {
                        "When its page says that it is safe: " code { (context.settings.command(&format!("resource mode {} enforce", doc.name))) } ". "
                        @if let Some(until) = ends(&doc) { "By itself it does from " (at(until)) " on." }
                    } }
                    li { strong { "Close the way around" } p .faint { "Let " code { (doc.upstream) } " answer vouchsafe alone, by the firewall or by where it listens." } }
                }
            }
            section .w6 #colleague aria-labelledby="invite" { h2 #invite { "Invite a colleague" } (super::invite::form(&groups, group.as_deref())) }
        }
    };
    Ok(frame::headed("Resources", &doc.name, &actor.label(), head, body))
}

/// `POST /start/hide`: the overview doesn't show the first steps any more.
pub(super) async fn hide(State(context): State<Context>, Sent(actor): Sent) -> Result<Response, ConsoleError> {
    let mut write = context.store.write().await?;
    settings::put(write.connection(), settings::FIRST_STEPS, "hidden").await?;
    write.audit(actor.changed("console.first-steps.hide", "console".to_owned(), String::new()));
    write.commit().await?;
    Ok(Redirect::to("/").into_response())
}
