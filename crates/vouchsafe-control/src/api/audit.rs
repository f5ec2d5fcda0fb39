//! The audit log: asking, counting, following and exporting.

use axum::Json;
use axum::extract::State;
use vouchsafe_wire::api::{AuditPage, AuditQuery, Counts, CountsQuery, ExportQuery, Exported, Uses, UsesQuery};
use vouchsafe_wire::audit::Record;

use super::answer::{Answer, Lines};
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

pub(super) async fn counts(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<CountsQuery>,
) -> Answer<Json<Counts>> {
    Ok(Json(audit::counts(&context, &query, &actor).await?))
}

pub(super) async fn uses(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<UsesQuery>,
) -> Answer<Json<Uses>> {
    Ok(Json(audit::uses(&context, &query, &actor).await?))
}

pub(super) async fn tail(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<AuditQuery>,
) -> Answer<Lines<Record>> {
    Ok(Lines::new(audit::tail(&context, &query, &actor).await?))
}

pub(super) async fn export(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<ExportQuery>,
) -> Answer<Lines<Exported>> {
    Ok(Lines::new(audit::export(&context, &query, &actor).await?))
}
