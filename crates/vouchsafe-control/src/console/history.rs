//! What a version of the policy changed: for whom, and in its text.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use vouchsafe_wire::api::DiffRequest;

use super::{Admin, ConsoleError, views};
use crate::administrator::{difference, policy};
use crate::context::Context;

/// `GET /policy/diff?before=&after=`: two versions; without them what the last publish changed.
pub(super) async fn compare(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let mut asked = DiffRequest { before: None, after: None, files: None };
    for (name, value) in url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()).take(4) {
        let number = value.trim().parse().map_err(|_| ConsoleError::NotFound)?;
        match name.as_ref() {
            "before" => asked.before = Some(number),
            "after" => asked.after = Some(number),
            _ => return Err(ConsoleError::NotFound),
        }
    }
    let found = difference::compare(&context, &asked).await?;
    let mut read = context.store.read().await?;
    let before = policy::show(&mut read, found.before).await?;
    let after = policy::show(&mut read, found.after).await?;
    Ok(views::policy::difference(&actor.label(), &found, &before, &after))
}
