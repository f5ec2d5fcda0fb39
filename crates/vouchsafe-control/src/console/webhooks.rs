//! Webhooks: where messages go, and whether they arrive.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use super::{Admin, ConsoleError, Fields, Sent, views};
use crate::context::Context;
use crate::webhooks;

/// `GET /webhooks`.
pub(super) async fn list(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    Ok(views::webhooks::page(&actor.label(), &webhooks::list(&context).await?, None))
}

/// `POST /v1/webhooks/NAME/test`: sends one message now, and says what came of it.
pub(super) async fn try_out(
    State(context): State<Context>,
    Sent(actor): Sent,
    Path(name): Path<String>,
    form: Bytes,
) -> Result<Response, ConsoleError> {
    Fields::of_form(&form, &[])?;
    let tried = webhooks::try_out(&context, &name, &actor).await?;
    Ok(views::webhooks::page(&actor.label(), &webhooks::list(&context).await?, Some((&name, &tried))))
}
