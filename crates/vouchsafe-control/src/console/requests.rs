//! Requests for access: what waits, and deciding it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use vouchsafe_wire::api::DecideRequest;

use super::{Admin, ConsoleError, Sent, views};
use crate::administrator::requests::{self, Verdict};
use crate::context::Context;
use crate::directory::Actor;

/// `GET /requests`.
pub(super) async fn list(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let requests = requests::all(&context).await?;
    let name = match &actor {
        Actor::User { name, .. } => Some(name.as_str()),
        _ => None,
    };
    Ok(views::requests::page(&actor.label(), name, &requests))
}

/// `POST /v1/resources/NAME/requests/ID/approve`, a form with `note`.
pub(super) async fn approve(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(path): Path<(String, String)>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    decide(&context, &path, Verdict::Approve, &form, &actor).await
}

/// `POST /v1/resources/NAME/requests/ID/deny`, a form with `note`.
pub(super) async fn deny(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(path): Path<(String, String)>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    decide(&context, &path, Verdict::Deny, &form, &actor).await
}

async fn decide(
    context: &Context,
    (resource, id): &(String, String),
    verdict: Verdict,
    form: &[u8],
    by: &Actor,
) -> Result<Response, ConsoleError> {
    let mut note = None;
    for (name, value) in url::form_urlencoded::parse(form) {
        match name.as_ref() {
            "note" if note.is_none() => note = Some(value.trim().to_owned()),
            _ => return Err(ConsoleError::Form),
        }
    }
    let with = DecideRequest { note: note.unwrap_or_default() };
    requests::decide(context, resource, id, verdict, &with, by).await?;
    Ok(Redirect::to("/requests").into_response())
}
