//! The editor of the policy: one file at a time, with what is wrong, what it changes for whom, what it would have
//! changed in the past, and publishing it through the same gate as everywhere. All of it works without scripts.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::StreamExt as _;
use http::StatusCode;
use maud::{Markup, html};
use vouchsafe_policy::Difference;
use vouchsafe_replay::Simulated;
use vouchsafe_wire::api::{
    Diagnostic, DiffRequest, PolicyFileDoc, PolicyVersion, Problem, Publish, Published, SimulateLine, SimulateRequest,
};

use super::parts::{chip, count, grouped, value};
use super::{Admin, ConsoleError, Fields, Sent, frame, views};
use crate::administrator::{AdministratorError, difference, gate, policy, simulate as simulating};
use crate::api;
use crate::context::Context;
use crate::directory::Actor;
use crate::pages::layout::at;
use crate::store;

/// Fields of the form.
const FIELDS: [&str; 8] = ["file", "name", "text", "base", "note", "within", "remove", "whole"];
/// Within how many seconds a version may have to be confirmed, with words.
const WITHIN: [(u64, &str); 3] = [(600, "within 10 minutes"), (3_600, "within an hour"), (86_400, "within a day")];
/// Records that a page tries a draft on: the newest.
const TRIED: u64 = 20_000;
/// Mistakes, failing tests and changes that a page shows.
const MOST_SHOWN: usize = 20;

/// What stands in the form.
struct Draft {
    /// The version that it is a change to.
    current: PolicyVersion,
    /// Which file is changed; empty for a new one.
    file: String,
    /// What a new one is called.
    name: String,
    text: String,
    note: String,
    within: Option<u64>,
    base: u64,
    remove: bool,
}

/// What came of the button that was pressed.
enum Outcome {
    Untried,
    Fine { policies: u64, warnings: Vec<Diagnostic>, whole: bool },
    Refused(Box<Problem>),
    Compared(Box<Difference>),
    Simulated(Box<Simulated>),
}

/// `GET /policy/edit?file=`; without a file it is a new one.
pub(super) async fn show(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_query(query.as_deref());
    let current = store::policy::current(&mut *context.store.read().await?).await?;
    let file = fields.text("file").unwrap_or_default().to_owned();
    let text = match current.all_files().into_iter().find(|known| known.name == file) {
        Some(known) => known.text.clone(),
        None if file.is_empty() => String::new(),
        None => return Err(ConsoleError::NotFound),
    };
    let base = current.version;
    let (name, note) = (String::new(), String::new());
    let draft = Draft { current, file, name, text, note, within: None, base, remove: false };
    Ok(draft.page(&actor.label(), &Outcome::Untried))
}

/// `POST /v1/policy/check`: whether it may be published; with `whole` its tests too.
pub(super) async fn check(
    State(context): State<Context>,
    Sent(actor): Sent,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&form, &FIELDS)?;
    let draft = Draft::of(&context, &fields).await?;
    let outcome = match draft.checked(&context, fields.text("whole").is_some(), &actor).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Refused(api::problem(error)),
    };
    Ok(draft.page(&actor.label(), &outcome))
}

/// `POST /v1/policy/diff`: what it changes, and for whom.
pub(super) async fn diff(
    State(context): State<Context>,
    Sent(actor): Sent,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let draft = Draft::of(&context, &Fields::of_form(&form, &FIELDS)?).await?;
    let asked = DiffRequest { before: None, after: None, files: Some(draft.files().0) };
    let outcome = match difference::compare(&context, &asked).await {
        Ok(found) => Outcome::Compared(Box::new(found)),
        Err(error) => Outcome::Refused(api::problem(error)),
    };
    Ok(draft.page(&actor.label(), &outcome))
}

/// `POST /v1/policy/simulate`: what decisions of the past would have come to.
pub(super) async fn simulate(
    State(context): State<Context>,
    Sent(actor): Sent,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let draft = Draft::of(&context, &Fields::of_form(&form, &FIELDS)?).await?;
    let outcome = match draft.simulated(&context, &actor).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Refused(api::problem(error)),
    };
    Ok(draft.page(&actor.label(), &outcome))
}

/// `POST /v1/policy/publish`: through the gate, into force or to somebody else who approves it.
pub(super) async fn publish(
    State(context): State<Context>,
    Sent(actor): Sent,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    let draft = Draft::of(&context, &Fields::of_form(&form, &FIELDS)?).await?;
    let (files, tests, invariants) = draft.files();
    let publish = Publish {
        files,
        tests: Some(tests),
        invariants: Some(invariants),
        compare: false,
        note: draft.note.clone(),
        expected_version: Some(draft.base),
        confirm_within: draft.within,
    };
    match policy::publish(&context, &publish, &actor).await {
        Ok(Published::InForce(_) | Published::Waits(_)) => Ok(Redirect::to("/policy").into_response()),
        Err(error) => {
            let problem = api::problem(error);
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let page = draft.page(&actor.label(), &Outcome::Refused(problem));
            Ok((status, page).into_response())
        }
    }
}

impl Draft {
    async fn of(context: &Context, fields: &Fields) -> Result<Self, ConsoleError> {
        let current = store::policy::current(&mut *context.store.read().await?).await?;
        let within = match fields.text("within") {
            None => None,
            Some(_) => {
                let seconds = fields.number("within").ok_or(ConsoleError::Form)?;
                Some(seconds)
                    .filter(|seconds| WITHIN.iter().any(|(known, _)| known == seconds))
                    .map(Some)
                    .ok_or(ConsoleError::Form)?
            }
        };
        // As it was typed: a policy's white space is its own.
        let text = fields.0.iter().find(|(name, _)| name == "text").map(|(_, text)| text.replace("\r\n", "\n"));
        let field = |name: &str| fields.text(name).unwrap_or_default().to_owned();
        Ok(Self {
            base: fields.number("base").unwrap_or(current.version),
            current,
            file: field("file"),
            name: field("name"),
            text: text.unwrap_or_default(),
            note: field("note"),
            within,
            remove: fields.text("remove").is_some(),
        })
    }

    /// The name that the file has afterwards.
    fn called(&self) -> &str {
        if self.name.is_empty() { &self.file } else { &self.name }
    }

    /// Policies, tests and invariants, with this change.
    fn files(&self) -> (Vec<PolicyFileDoc>, Vec<PolicyFileDoc>, Vec<PolicyFileDoc>) {
        let of = |files: &[PolicyFileDoc], takes_new: bool| {
            let mut files = files.to_vec();
            let known = files.iter().position(|file| file.name == self.file && !self.file.is_empty());
            let new = PolicyFileDoc { name: self.called().to_owned(), text: self.text.clone() };
            match (known, self.remove) {
                (Some(place), true) => {
                    files.remove(place);
                }
                (Some(place), false) => {
                    if let Some(file) = files.get_mut(place) {
                        *file = new;
                    }
                }
                (None, false) if self.file.is_empty() && takes_new && !self.called().is_empty() => files.push(new),
                (None, _) => {}
            }
            files
        };
        let PolicyVersion { files, tests, invariants, .. } = &self.current;
        let is_tests = self.called().ends_with(".toml");
        (of(files, !is_tests), of(tests, is_tests), of(invariants, false))
    }

    async fn checked(&self, context: &Context, whole: bool, by: &Actor) -> Result<Outcome, AdministratorError> {
        let (files, tests, _) = self.files();
        let tests = store::policy::to_engine(&tests);
        gate::read_tests(&tests)?;
        let checked = policy::check_files(context, &files).await?;
        if !checked.ok {
            return Err(AdministratorError::PolicyInvalid { diagnostics: checked.diagnostics });
        }
        if whole {
            let ip = match by {
                Actor::User { ip, .. } => Some(*ip),
                _ => None,
            };
            let mut read = context.store.read().await?;
            gate::pass(&mut read, store::policy::to_engine(&files), &tests, self.current.version + 1, ip).await?;
        }
        Ok(Outcome::Fine { policies: checked.policies, warnings: checked.diagnostics, whole })
    }

    async fn simulated(&self, context: &Context, by: &Actor) -> Result<Outcome, AdministratorError> {
        let files = Some(self.files().0);
        let asked = SimulateRequest { before: None, after: None, files, since: None, until: None, limit: Some(TRIED) };
        let mut lines = std::pin::pin!(simulating::simulate(context, &asked, by).await?);
        while let Some(line) = lines.next().await {
            let line = line?;
            match serde_json::from_slice(&line) {
                Ok(SimulateLine::Progress(_)) => {}
                Ok(SimulateLine::Result(result)) => return Ok(Outcome::Simulated(Box::new(result))),
                Ok(SimulateLine::Problem(problem)) => return Ok(Outcome::Refused(problem)),
                Err(_) => break,
            }
        }
        Err(AdministratorError::BrokenOff)
    }

    fn page(&self, who: &str, outcome: &Outcome) -> Response {
        let Self { current, file, text, note, base, .. } = self;
        let title = if file.is_empty() { "A new file" } else { file.as_str() };
        let head = html! {
            div .head {
                h1 { "Edit the policy" }
                div .actions { a .button href="/policy" { "What is in force" } }
            }
        };
        let body = html! {
            div .grid {
                section .w4 aria-labelledby="files" {
                    h2 #files { "Files of version " (current.version) }
                    ul .plain {
                        @for known in current.all_files() {
                            li { a href={ "/policy/edit?file=" (value(&known.name)) } aria-current=[(known.name == *file).then_some("true")] { code { (known.name) } } }
                        }
                        li { a href="/policy/edit" { "Add a file" } }
                    }
                    p .faint { "Every word that a policy can use is told by " code { "vouchsafe policy schema" } "." }
                }
                section .w8 .editor aria-labelledby="file-title" {
                    h2 #file-title { bdi { (title) } }
                    @if *base != current.version {
                        p .notice { "Version " (current.version) " came into force meanwhile. Look at what changed, and begin anew from it." }
                    }
                    form method="post" action="/v1/policy/check" data-check="/v1/policy/check" {
                        input type="hidden" name="file" value=(file);
                        input type="hidden" name="base" value=(base);
                        @if file.is_empty() {
                            label for="name" { "Name of the file" }
                            p { input #name name="name" value=(self.name) maxlength="200" placeholder="apps/wiki.cedar, or tests/wiki.toml"; }
                        }
                        label for="text" { "Text" }
                        textarea #text name="text" rows=(text.lines().count().clamp(12, 34)) spellcheck="false" autocapitalize="off" autocomplete="off" { "\n" (text) }
                        p .actions {
                            button .go name="whole" value="1" { "Check and run the tests" }
                            button formaction="/v1/policy/diff" { "Who gains, who loses" }
                            button formaction="/v1/policy/simulate" { "Try it on the past" }
                        }
                        div .inline {
                            div .field { label for="note" { "Why, for the history" } input #note name="note" value=(note) maxlength="200"; }
                            div .field {
                                label for="within" { "To be confirmed" }
                                select #within name="within" {
                                    option value="" { "not at all" }
                                    @for (seconds, words) in WITHIN { option value=(seconds) selected[self.within == Some(seconds)] { (words) } }
                                }
                            }
                            button formaction="/v1/policy/publish" { "Publish" }
                        }
                        @if !file.is_empty() {
                            details { summary { "Take this file away" } label { input .check type="checkbox" name="remove" value="1" checked[self.remove]; " Publish the policy without this file" } }
                        }
                    }
                }
            }
            div #found .found role="status" aria-live="polite" { (told(outcome)) }
        };
        frame::headed("Policy", "Edit the policy", who, head, body)
    }
}

fn told(outcome: &Outcome) -> Markup {
    match outcome {
        Outcome::Untried => html! {},
        Outcome::Fine { policies, warnings, whole } => html! {
            section aria-label="Found" {
                p { (chip("good", "fine")) " " (count(*policies, "policy").replace("policys", "policies")) @if *whole { "; its tests pass, and somebody can still administer under it" } @else { ", no mistake was found" } "." }
                (mistakes(warnings))
            }
        },
        Outcome::Refused(problem) => html! {
            section aria-label="Found" {
                p { (chip("deny", "refused")) " " bdi { (problem.title) } }
                @if let Some(detail) = &problem.detail { p .faint { bdi { (detail) } } }
                (mistakes(&problem.diagnostics))
                ul .mistakes {
                    @for test in problem.failed_tests.iter().take(MOST_SHOWN) {
                        li {
                            code { (test.file) ":" (test.line) } " " strong { bdi { (test.case) } } p { bdi { (test.question) } ": " bdi { (test.failure) } }
                            @for words in test.would_change.iter().take(3) { p .faint { bdi { (words) } } }
                        }
                    }
                }
            }
        },
        Outcome::Compared(found) => views::policy::changes(found),
        Outcome::Simulated(result) => simulated(result),
    }
}

fn mistakes(found: &[Diagnostic]) -> Markup {
    html! {
        ul .mistakes {
            @for Diagnostic { severity, message, file, line, column, hint, .. } in found.iter().take(MOST_SHOWN) {
                li .warning[severity == "warning"] {
                    @if *line > 0 { code { (file) ":" (line) ":" (column) } " " }
                    bdi { (message) }
                    @if let Some(hint) = hint { p .faint { "Hint: " bdi { (hint) } } }
                }
            }
        }
        @if found.len() > MOST_SHOWN { p .faint { "and " (found.len() - MOST_SHOWN) " more" } }
    }
}

fn simulated(result: &Simulated) -> Markup {
    let Simulated { records, replayed, lost, gained, tolerated, covered, oldest, .. } = result;
    html! {
        section aria-label="Found" {
            h2 { "On the past" }
            p .faint {
                (grouped(*replayed)) " of the newest " (grouped(*records)) " decisions were made again"
                @if let Some(oldest) = oldest { ", back to " (at(*oldest)) }
            }
            ul .tiles {
                li { div { strong .deny { (grouped(lost.requests)) } span { "would be denied" } span .sub { "and were allowed" } } }
                li { div { strong .allow { (grouped(gained.requests)) } span { "would be allowed" } span .sub { "and were denied" } } }
                li { div { strong .pass { (grouped(tolerated.requests)) } span { "denied without the mode" } span .sub { (grouped(*covered)) " would be allowed now" } } }
            }
            @if lost.requests + gained.requests + tolerated.requests == 0 { p { "Nothing that happened would have come out otherwise." } }
        }
    }
}
