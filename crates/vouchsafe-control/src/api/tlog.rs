//! The audit log as a transparency log (`docs/spec/audit-log.md`): its state, and files in the forms of C2SP.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use vouchsafe_tlog::tile::{Of, Tile};
use vouchsafe_wire::api::{AuditFork, AuditLogState, AuditProof, AuditProofQuery};

use super::answer::{Answer, ApiError};
use super::extract::{Body, By, Path, Query};
use crate::checkpoints::{self, AskError};
use crate::context::Context;

/// Routes whose paths have more parts than one, or whose answers are no JSON: they stand in C2SP's specifications.
#[cfg(test)]
pub(super) const ROUTES: &[(&str, &str)] = &[("get", "/v1/audit/log/tile/0/000")];

/// Those routes.
pub(super) fn tiles() -> Router<Context> {
    Router::new().route("/v1/audit/log/tile/{*tile}", get(tile))
}

pub(super) async fn state(State(context): State<Context>) -> Answer<Json<AuditLogState>> {
    Ok(Json(context.checkpoints.describe(context.store.log())))
}

pub(super) async fn checkpoint(State(context): State<Context>) -> Answer<String> {
    let published = context.checkpoints.published().ok_or(AskError::NotYet)?;
    Ok(published.note.to_string())
}

pub(super) async fn cosigned(State(context): State<Context>) -> Answer<String> {
    let cosigned = context.checkpoints.cosigned().ok_or(AskError::NotCosigned)?;
    Ok(cosigned.note.to_string())
}

pub(super) async fn prove(
    State(context): State<Context>,
    By(actor): By,
    Query(query): Query<AuditProofQuery>,
) -> Answer<Json<AuditProof>> {
    Ok(Json(checkpoints::evidence(&context, &query.record, &actor).await?))
}

pub(super) async fn fork(
    State(context): State<Context>,
    By(actor): By,
    Body(fork): Body<AuditFork>,
) -> Answer<Json<AuditLogState>> {
    checkpoints::fork(&context, &fork.reason, &actor).await?;
    Ok(Json(context.checkpoints.describe(context.store.log())))
}

async fn tile(State(context): State<Context>, By(actor): By, Path(path): Path<String>) -> Result<Response, ApiError> {
    let tile = Tile::parse(&path).ok_or(AskError::NoTile)?;
    let bytes = match tile.of {
        Of::Hashes(_) => checkpoints::tile(&context, tile).await?,
        Of::Entries => checkpoints::bundle(&context, tile, &actor).await?,
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], bytes).into_response())
}
