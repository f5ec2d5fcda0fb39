//! Policy: what is in force, checking, publishing, going back, explaining.

use axum::Json;
use axum::extract::State;
use vouchsafe_policy::Explanation;
use vouchsafe_wire::api::{Checked, ExplainRequest, PolicyFiles, PolicyVersion, Publish, Rollback};

use super::answer::Answer;
use super::extract::{Body, By};
use crate::administrator::{explain as explaining, policy};
use crate::context::Context;
use crate::store;

pub(super) async fn current(State(context): State<Context>) -> Answer<Json<PolicyVersion>> {
    let mut read = context.store.read().await?;
    Ok(Json(store::policy::current(&mut read).await?))
}

pub(super) async fn schema() -> &'static str {
    vouchsafe_policy::schema_text()
}

pub(super) async fn check(
    State(context): State<Context>,
    Body(PolicyFiles { files }): Body<PolicyFiles>,
) -> Answer<Json<Checked>> {
    Ok(Json(policy::check_files(&context, &files).await?))
}

pub(super) async fn publish(
    State(context): State<Context>,
    By(actor): By,
    Body(publish): Body<Publish>,
) -> Answer<Json<PolicyVersion>> {
    Ok(Json(policy::publish(&context, &publish, &actor).await?))
}

pub(super) async fn history(State(context): State<Context>) -> Answer<Json<Vec<PolicyVersion>>> {
    let mut read = context.store.read().await?;
    Ok(Json(store::policy::history(&mut read).await?))
}

pub(super) async fn roll_back(
    State(context): State<Context>,
    By(actor): By,
    Body(Rollback { version }): Body<Rollback>,
) -> Answer<Json<PolicyVersion>> {
    Ok(Json(policy::roll_back(&context, version, &actor).await?))
}

pub(super) async fn explain(
    State(context): State<Context>,
    Body(asked): Body<ExplainRequest>,
) -> Answer<Json<Explanation>> {
    Ok(Json(explaining::explain(&context, &asked).await?))
}
