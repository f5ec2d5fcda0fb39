//! Policy: what is in force, checking, publishing, going back, explaining.

use axum::Json;
use axum::extract::State;
use vouchsafe_policy::{Difference, Explanation, Foreseen, Suggestion, Unused, WhatCan, WhoCan};
use vouchsafe_replay::Simulated;
use vouchsafe_wire::api::{
    Checked, Confirm, DecideProposal, DiffRequest, ExplainRequest, ForeseeRequest, PolicyFiles, PolicyVersion,
    ProposalDoc, Publish, Rollback, Seen, SimulateLine, SimulateRequest, SuggestRequest, TemplateDoc, UnusedRequest,
    WhatCanQuery, WhoCanQuery,
};

use super::answer::{Answer, Lines, Publication};
use super::extract::{Body, By, Path, Query};
use crate::administrator::{
    approval, confirm as confirming, difference, explain as explaining, policy, rights, simulate as simulating,
    suggest as suggesting, templates as templating,
};
use crate::context::Context;
use crate::store;

pub(super) async fn current(State(context): State<Context>) -> Answer<Json<PolicyVersion>> {
    let mut read = context.store.read().await?;
    Ok(Json(store::policy::current(&mut read).await?))
}

pub(super) async fn schema() -> Answer<&'static str> {
    Ok(vouchsafe_policy::schema_text())
}

pub(super) async fn templates(State(context): State<Context>) -> Answer<Json<Vec<TemplateDoc>>> {
    Ok(Json(templating::list(&context).await?))
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
) -> Answer<Publication> {
    Ok(Publication(policy::publish(&context, &publish, &actor).await?))
}

pub(super) async fn pending(State(context): State<Context>) -> Answer<Json<Vec<ProposalDoc>>> {
    let mut read = context.store.read().await?;
    Ok(Json(store::proposals::list(&mut read).await?))
}

pub(super) async fn proposal(State(context): State<Context>, Path(id): Path<String>) -> Answer<Json<ProposalDoc>> {
    Ok(Json(approval::show(&context, &id).await?))
}

pub(super) async fn approve(
    State(context): State<Context>,
    By(actor): By,
    Path(id): Path<String>,
    Body(with): Body<DecideProposal>,
) -> Answer<Json<PolicyVersion>> {
    Ok(Json(approval::approve(&context, &id, &with, &actor).await?))
}

pub(super) async fn reject(
    State(context): State<Context>,
    By(actor): By,
    Path(id): Path<String>,
    Body(with): Body<DecideProposal>,
) -> Answer<Json<ProposalDoc>> {
    Ok(Json(approval::reject(&context, &id, &with, &actor).await?))
}

pub(super) async fn history(State(context): State<Context>) -> Answer<Json<Vec<PolicyVersion>>> {
    let mut read = context.store.read().await?;
    Ok(Json(store::policy::history(&mut read).await?))
}

pub(super) async fn version(State(context): State<Context>, Path(version): Path<u64>) -> Answer<Json<PolicyVersion>> {
    let mut read = context.store.read().await?;
    Ok(Json(policy::show(&mut read, version).await?))
}

pub(super) async fn confirm(
    State(context): State<Context>,
    By(actor): By,
    Body(Confirm { version }): Body<Confirm>,
) -> Answer<Json<PolicyVersion>> {
    Ok(Json(confirming::confirm(&context, version, &actor).await?))
}

pub(super) async fn roll_back(
    State(context): State<Context>,
    By(actor): By,
    Body(Rollback { version }): Body<Rollback>,
) -> Answer<Publication> {
    Ok(Publication(policy::roll_back(&context, version, &actor).await?))
}

pub(super) async fn explain(
    State(context): State<Context>,
    Body(asked): Body<ExplainRequest>,
) -> Answer<Json<Explanation>> {
    Ok(Json(explaining::explain(&context, &asked).await?))
}

pub(super) async fn who_can(
    State(context): State<Context>,
    Query(WhoCanQuery { action, resource }): Query<WhoCanQuery>,
) -> Answer<Json<WhoCan>> {
    Ok(Json(rights::who_can(&context, &action, &resource).await?))
}

pub(super) async fn what_can(
    State(context): State<Context>,
    Query(WhatCanQuery { user, device }): Query<WhatCanQuery>,
) -> Answer<Json<WhatCan>> {
    Ok(Json(rights::what_can(&context, &user, device.as_deref()).await?))
}

pub(super) async fn simulate(
    State(context): State<Context>,
    By(actor): By,
    Body(asked): Body<SimulateRequest>,
) -> Answer<Lines<SimulateLine<Simulated>>> {
    Ok(Lines::new(simulating::simulate(&context, &asked, &actor).await?))
}

pub(super) async fn diff(State(context): State<Context>, Body(asked): Body<DiffRequest>) -> Answer<Json<Difference>> {
    Ok(Json(difference::compare(&context, &asked).await?))
}

pub(super) async fn suggest(
    State(context): State<Context>,
    By(actor): By,
    Body(asked): Body<SuggestRequest>,
) -> Answer<Json<Seen<Suggestion>>> {
    Ok(Json(suggesting::suggest(&context, asked, &actor).await?))
}

pub(super) async fn foresee(
    State(context): State<Context>,
    Body(asked): Body<ForeseeRequest>,
) -> Answer<Json<Foreseen>> {
    Ok(Json(suggesting::foresee(&context, asked).await?))
}

pub(super) async fn unused(
    State(context): State<Context>,
    By(actor): By,
    Body(asked): Body<UnusedRequest>,
) -> Answer<Json<Seen<Unused>>> {
    Ok(Json(suggesting::unused(&context, asked, &actor).await?))
}
