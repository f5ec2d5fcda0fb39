//! Inviting somebody: a user, and a link that is shown once.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use vouchsafe_wire::api::{Invited, NewUser};

use super::parts::link;
use super::{ConsoleError, Fields, Sent, frame};
use crate::context::Context;
use crate::directory::{DirectoryError, users};
use crate::pages::layout::at;

/// A form that invites somebody into one of these groups.
pub(super) fn form(groups: &[String], chosen: Option<&str>) -> Markup {
    html! {
        form .stack method="post" action="/v1/users" {
            label for="invite-name" { "Name" }
            input #invite-name name="name" required maxlength="63" autocomplete="off" autocapitalize="none" spellcheck="false" placeholder="alice";
            label for="invite-group" { "Into the group" }
            select #invite-group name="group" {
                option value="" { "none" }
                @for group in groups { option value=(group) selected[chosen == Some(group.as_str())] { (group) } }
            }
            button { "Invite" }
        }
        p .faint { "You get a link to hand on. It is good once, for a day." }
    }
}

/// `POST /v1/users`, a form with `name` and `group`. The link stands on the answer and nowhere else.
pub(super) async fn add(
    State(context): State<Context>,
    Sent(actor): Sent,
    body: Bytes,
) -> Result<Response, ConsoleError> {
    let fields = Fields::of_form(&body, &["name", "group"])?;
    let name = fields.text("name").unwrap_or_default().to_owned();
    let groups = fields.text("group").map(ToOwned::to_owned).into_iter().collect();
    match users::add(&context, &NewUser { name: name.clone(), groups }, &actor).await {
        Ok(invited) => Ok(page(&invited, &actor.label())),
        // Sent twice, or she is there already: a new link would make the first one void, so it isn't made by itself.
        Err(DirectoryError::NameTaken { name }) => Ok(taken(name.as_str(), &actor.label())),
        Err(error) => Err(error.into()),
    }
}

fn page(invited: &Invited, who: &str) -> Response {
    let Invited { user, link, expires } = invited;
    let text = format!(
        "Hello {},\n\nhere is your way in. Open this once, in a browser of yours, and make a passkey there:\n\n{link}\n\nIt is good once, until {}.",
        user.name,
        crate::pages::moment(*expires),
    );
    let head = html! { div .head { h1 { "Invite " bdi { (user.name) } } } };
    let body = html! {
        section aria-labelledby="link" {
            h2 #link { "Her link" }
            p { "Send it on a way that you trust: whoever opens it first is " bdi { (user.name) } ". It is shown this once." }
            p { code .secret { (link) } }
            label for="text" { "With some words, to copy" }
            textarea #text readonly rows="8" { "\n" (text) }
            p .faint { "It is good until " (at(*expires)) ". Opened or lost, a new one is made with " code { "vouchsafe user invite " (user.name) } "." }
            div .actions { a .button.go href="/" { "To the overview" } a .button href={ "/users/" (user.name) } { "Page of " (user.name) } }
        }
    };
    frame::headed("Users", "Invited", who, head, body)
}

fn taken(name: &str, who: &str) -> Response {
    let body = html! {
        section {
            p { "There is a user " (link("users", name)) " already, so nothing was done. Was this sent twice? The link that was shown is still good." }
            p .faint { "Another person needs another name; the same person gets a new link with " code { "vouchsafe user invite " (name) } "." }
            div .actions { a .button href="/start#colleague" { "Invite somebody else" } }
        }
    };
    let mut response = frame::below("Users", "Nobody was invited", who, body);
    *response.status_mut() = StatusCode::CONFLICT;
    response
}
