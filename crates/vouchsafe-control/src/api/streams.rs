//! Streams of the audit log.

use axum::Json;
use axum::extract::State;
use vouchsafe_wire::api::{NewStream, StreamDoc, StreamTried};

use super::answer::{Answer, Created, NoContent};
use super::extract::{Body, By, Path};
use crate::context::Context;
use crate::streams;

pub(super) async fn list(State(context): State<Context>) -> Answer<Json<Vec<StreamDoc>>> {
    Ok(Json(streams::list(&context).await?))
}

pub(super) async fn add(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewStream>,
) -> Answer<Created<StreamDoc>> {
    Ok(Created(streams::add(&context, &new, &actor).await?))
}

pub(super) async fn show(State(context): State<Context>, Path(name): Path<String>) -> Answer<Json<StreamDoc>> {
    Ok(Json(streams::show(&context, &name).await?))
}

pub(super) async fn remove(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<NoContent> {
    streams::remove(&context, &name, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn try_out(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<Json<StreamTried>> {
    Ok(Json(streams::try_out(&context, &name, &actor).await?))
}
