//! Requests for access. The resource stands in the path of all but the lists, so that policies can say by resource who
//! may ask and who may approve.

use axum::Json;
use axum::extract::State;
use vouchsafe_wire::api::{DecideRequest, NewRequest, RequestDoc};

use super::answer::{Answer, Created};
use super::extract::{Body, By, Path};
use crate::administrator::requests::{self, Verdict};
use crate::context::Context;

pub(super) async fn list(State(context): State<Context>) -> Answer<Json<Vec<RequestDoc>>> {
    Ok(Json(requests::all(&context).await?))
}

pub(super) async fn own(State(context): State<Context>, By(actor): By) -> Answer<Json<Vec<RequestDoc>>> {
    Ok(Json(requests::own(&context, &actor).await?))
}

pub(super) async fn add(
    State(context): State<Context>,
    By(actor): By,
    Path(resource): Path<String>,
    Body(new): Body<NewRequest>,
) -> Answer<Created<RequestDoc>> {
    Ok(Created(requests::add(&context, &resource, &new, &actor).await?))
}

pub(super) async fn approve(
    State(context): State<Context>,
    By(actor): By,
    Path((resource, id)): Path<(String, String)>,
    Body(with): Body<DecideRequest>,
) -> Answer<Json<RequestDoc>> {
    Ok(Json(requests::decide(&context, &resource, &id, Verdict::Approve, &with, &actor).await?))
}

pub(super) async fn deny(
    State(context): State<Context>,
    By(actor): By,
    Path((resource, id)): Path<(String, String)>,
    Body(with): Body<DecideRequest>,
) -> Answer<Json<RequestDoc>> {
    Ok(Json(requests::decide(&context, &resource, &id, Verdict::Deny, &with, &actor).await?))
}

pub(super) async fn withdraw(
    State(context): State<Context>,
    By(actor): By,
    Path((resource, id)): Path<(String, String)>,
    Body(with): Body<DecideRequest>,
) -> Answer<Json<RequestDoc>> {
    Ok(Json(requests::decide(&context, &resource, &id, Verdict::Withdraw, &with, &actor).await?))
}
