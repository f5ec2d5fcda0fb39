//! The audit log: asking and following.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use vouchsafe_wire::api::{AuditPage, AuditQuery};

use super::answer::Answer;
use super::extract::{By, Query};
use crate::audit;
use crate::context::Context;

pub(super) async fn query(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<AuditQuery>,
) -> Answer<Json<AuditPage>> {
    Ok(Json(audit::query(&context, &query, &actor).await?))
}

pub(super) async fn tail(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<AuditQuery>,
) -> Answer<Response> {
    let lines = audit::tail(&context, &query, &actor).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
