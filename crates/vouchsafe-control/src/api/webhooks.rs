//! Webhooks.

use axum::Json;
use axum::extract::State;
use vouchsafe_wire::api::{NewWebhook, WebhookAdded, WebhookDoc, WebhookTried};

use super::answer::{Answer, Created, NoContent};
use super::extract::{Body, By, Path};
use crate::context::Context;
use crate::webhooks;

pub(super) async fn list(State(context): State<Context>) -> Answer<Json<Vec<WebhookDoc>>> {
    Ok(Json(webhooks::list(&context).await?))
}

pub(super) async fn add(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewWebhook>,
) -> Answer<Created<WebhookAdded>> {
    Ok(Created(webhooks::add(&context, &new, &actor).await?))
}

pub(super) async fn remove(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<NoContent> {
    webhooks::remove(&context, &name, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn try_out(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<Json<WebhookTried>> {
    Ok(Json(webhooks::try_out(&context, &name, &actor).await?))
}
