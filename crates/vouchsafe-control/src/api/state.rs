//! Resources, grants, plan and apply, and the state of the whole.

use axum::Json;
use axum::extract::State;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{
    Apply, AssessmentDoc, GrantDoc, Manifest, ModeDoc, NewGrant, PageQuery, Plan, Progress, ProgressQuery, ResourceDoc,
    Status,
};

use super::answer::{Answer, Created, NoContent};
use super::extract::{Body, By, IfMatch, Path, Query};
use super::paged::{Page, Paged, joined, parts};
use crate::administrator::{apply as applying, assessment, grants, modes, progress, resources};
use crate::context::Context;
use crate::directory::gateways;
use crate::store;

pub(super) async fn status(State(context): State<Context>, By(actor): By) -> Answer<Json<Status>> {
    let now = clock::unix_seconds(clock::now());
    let gateways = gateways::list(&context).await?;
    let mut read = context.store.read().await?;
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        domain: context.settings.domain.to_string(),
        console: context.settings.origin("console"),
        policy_version: store::policy::highest(&mut read).await?,
        users: store::users::count(&mut read).await?,
        devices: store::devices::count(&mut read).await?,
        sessions: store::sessions::count(&mut read, now).await?,
        resources: store::resources::count(&mut read).await?,
        grants: store::grants::count(&mut read, now).await?,
        audit_records: context.store.log().size(),
        certificates: context.certificates.read().clone(),
        lease: context.channel.get().map(|reached| reached.lease.as_secs()),
        gateways,
        you: actor.label(),
    }))
}

pub(super) async fn list_resources(
    State(context): State<Context>,
    Query(query): Query<PageQuery>,
) -> Answer<Paged<ResourceDoc>> {
    let page = Page::of(query)?;
    let mut read = context.store.read().await?;
    let docs = store::resources::page(&mut read, page.after.as_deref().unwrap_or_default(), page.wanted()).await?;
    Ok(page.fill("/v1/resources", docs, |doc| doc.name.clone()))
}

pub(super) async fn show_resource(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Answer<Json<ResourceDoc>> {
    let mut read = context.store.read().await?;
    Ok(Json(resources::show(&mut read, &name).await?))
}

pub(super) async fn put_resource(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Body(doc): Body<ResourceDoc>,
) -> Answer<Json<ResourceDoc>> {
    Ok(Json(resources::put(&context, &name, &doc, &expected, &actor).await?))
}

pub(super) async fn set_mode(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Body(mode): Body<ModeDoc>,
) -> Answer<Json<ResourceDoc>> {
    Ok(Json(modes::set(&context, &name, &mode, &expected, &actor).await?))
}

pub(super) async fn progress(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    Query(query): Query<ProgressQuery>,
) -> Answer<Json<Progress>> {
    Ok(Json(progress::of(&context, &name, query.days, &actor).await?))
}

pub(super) async fn remove_resource(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Answer<NoContent> {
    resources::remove(&context, &name, &expected, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn list_grants(
    State(context): State<Context>,
    Query(query): Query<PageQuery>,
) -> Answer<Paged<GrantDoc>> {
    let page = Page::of(query)?;
    let [user, resource, id] = parts(page.after.as_deref())?.unwrap_or_default();
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let grants = store::grants::page(&mut read, (user, resource, id), page.wanted(), now).await?;
    Ok(page.fill("/v1/grants", grants, |grant| joined(&[&grant.user, &grant.resource, &grant.id])))
}

pub(super) async fn add_grant(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewGrant>,
) -> Answer<Created<GrantDoc>> {
    Ok(Created(grants::add(&context, &new, &actor).await?))
}

pub(super) async fn remove_grant(
    State(context): State<Context>,
    By(actor): By,
    Path(id): Path<String>,
) -> Answer<NoContent> {
    grants::remove(&context, &id, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn assessment(State(context): State<Context>) -> Answer<Json<AssessmentDoc>> {
    let mut read = context.store.read().await?;
    Ok(Json(assessment::show(&mut read).await?))
}

pub(super) async fn put_assessment(
    State(context): State<Context>,
    By(actor): By,
    Body(doc): Body<AssessmentDoc>,
) -> Answer<Json<AssessmentDoc>> {
    Ok(Json(assessment::put(&context, &doc, &actor).await?))
}

pub(super) async fn plan(State(context): State<Context>, Body(manifest): Body<Manifest>) -> Answer<Json<Plan>> {
    Ok(Json(applying::plan(&context, &manifest).await?))
}

pub(super) async fn apply(
    State(context): State<Context>,
    By(actor): By,
    Body(apply): Body<Apply>,
) -> Answer<Json<Plan>> {
    Ok(Json(applying::apply(&context, &apply, &actor).await?))
}
