//! The page of requests for access.

use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_model::moment::about;
use vouchsafe_wire::api::{AskedTemplate, RequestDoc, RequestState};

use super::table;
use crate::pages::layout::at;

/// Most that the page shows of those that are decided.
const MOST_SETTLED: usize = 100;

/// What waits, with a form for each that `name` may decide, and what became of others.
pub(in crate::console) fn page(who: &str, name: Option<&str>, requests: &[RequestDoc]) -> Response {
    let (open, settled): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.state == RequestState::Open);
    let rows = html! { @for request in settled.iter().take(MOST_SETTLED) { (settled_row(request)) } };
    super::page(
        "Requests",
        who,
        html! {
            @if open.is_empty() {
                section {
                    h2 { "Nothing waits to be decided" }
                    p .faint {
                        "Whoever lacks a right asks for it with "
                        code { "vouchsafe request RESOURCE --for 2h --reason …" }
                        ", and it shows up here."
                    }
                }
            }
            @for request in &open { (waiting(request, name)) }
            @if !settled.is_empty() {
                h2 { "Decided" }
                (table(&["When", "Who", "Resource", "Outcome", "By", "Why"], rows))
            }
        },
    )
}

fn waiting(request: &RequestDoc, name: Option<&str>) -> Markup {
    let RequestDoc { id, user, resource, seconds, template, reason, created, open_until, .. } = request;
    let changed = template.as_ref().is_some_and(|template| !template.stands);
    let path = format!("/v1/resources/{resource}/requests/{id}");
    let note = format!("note-{id}");
    html! {
        section .waiting aria-labelledby=(id) {
            h2 id=(id) { (user) " asks for " (resource) ", for " (about(*seconds)) }
            p { "“" (reason) "”" }
            (permits(template.as_ref()))
            p .faint { "Asked " (at(*created)) "; over " (at(*open_until)) " if nobody decides. " code { (id) } }
            @if name == Some(user.as_str()) {
                p .faint { "It is your own: somebody else has to decide it." }
            } @else {
                form .inline method="post" action={ (path) "/deny" } {
                    label .hidden for=(note) { "Note" }
                    input id=(note) name="note" maxlength="200" placeholder="A note, if you like";
                    @if !changed { button formaction={ (path) "/approve" } { "Approve for " (about(*seconds)) } }
                    button { "Deny" }
                }
            }
        }
    }
}

/// What an approval comes to.
fn permits(template: Option<&AskedTemplate>) -> Markup {
    match template {
        None => html! { p { "It permits all that can be done there, on enrolled devices." } },
        Some(AskedTemplate { name, stands: false, .. }) => html! {
            p {
                span .chip .deny { "changed" } " The template " code { (name) }
                " isn't any more what was asked for, so this can't be approved: deny it, and let who asked ask again."
            }
        },
        Some(AskedTemplate { name, actions, text, .. }) => html! {
            p {
                "By the template " code { (name) } " it permits "
                @for action in actions { code { (action) } " " }
            }
            details { summary { "What the template says" } pre tabindex="0" { (text.trim()) } }
        },
    }
}

fn settled_row(request: &RequestDoc) -> Markup {
    let RequestDoc { user, resource, seconds, template, reason, state, decided, decided_by, note, .. } = request;
    let (class, word) = match state {
        RequestState::Open => ("weak", "open"),
        RequestState::Approved => ("allow", "approved"),
        RequestState::Denied => ("deny", "denied"),
        RequestState::Withdrawn => ("weak", "withdrawn"),
        RequestState::Expired => ("weak", "expired"),
    };
    html! {
        tr {
            td .nowrap { @if let Some(decided) = decided { (at(*decided)) } }
            td { (user) }
            td {
                (resource)
                p .faint { "for " (about(*seconds)) @if let Some(of) = template { ", by " code { (of.name) } } }
            }
            td { span class={ "chip " (class) } { (word) } }
            td { (decided_by.as_deref().unwrap_or("nobody")) @if !note.is_empty() { p .faint { (note) } } }
            td { (reason) }
        }
    }
}
