//! Users, groups, devices and sessions.

use axum::Json;
use axum::extract::State;
use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{
    Connector, ConnectorInvited, Device, DeviceInvited, Ended, Gateway, GatewayInvited, Group, Invited, Lock,
    NewConnector, NewDevice, NewGateway, NewLock, NewUser, PageQuery, Session, User, UserChange,
};

use super::answer::{Answer, Created, NoContent};
use super::extract::{Body, By, IfMatch, Path, Query};
use super::paged::{Page, Paged, joined, no_place, parts};
use crate::context::Context;
use crate::directory::groups::Membership;
use crate::directory::{DirectoryError, connectors, devices, gateways, groups, locks, sessions, users};
use crate::store;

pub(super) async fn list_users(State(context): State<Context>, Query(query): Query<PageQuery>) -> Answer<Paged<User>> {
    let page = Page::of(query)?;
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let users = store::users::page(&mut read, page.after.as_deref().unwrap_or_default(), page.wanted(), now).await?;
    Ok(page.fill("/v1/users", users, |user| user.name.clone()))
}

pub(super) async fn add_user(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewUser>,
) -> Answer<Created<Invited>> {
    Ok(Created(users::add(&context, &new, &actor).await?))
}

pub(super) async fn show_user(State(context): State<Context>, Path(name): Path<String>) -> Answer<Json<User>> {
    let name = UserName::parse(&name).map_err(DirectoryError::from)?;
    let mut read = context.store.read().await?;
    Ok(Json(users::show(&mut read, &name).await?))
}

pub(super) async fn change_user(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Body(change): Body<UserChange>,
) -> Answer<Json<User>> {
    Ok(Json(users::change(&context, &name, &change, &expected, &actor).await?))
}

pub(super) async fn delete_user(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Answer<NoContent> {
    users::delete(&context, &name, &expected, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn invite_user(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<Json<Invited>> {
    Ok(Json(users::invite(&context, &name, &actor).await?))
}

pub(super) async fn sign_out_user(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<Json<Ended>> {
    Ok(Json(users::sign_out(&context, &name, &actor).await?))
}

pub(super) async fn list_groups(
    State(context): State<Context>,
    Query(query): Query<PageQuery>,
) -> Answer<Paged<Group>> {
    let page = Page::of(query)?;
    let mut read = context.store.read().await?;
    let groups = store::groups::page(&mut read, page.after.as_deref().unwrap_or_default(), page.wanted()).await?;
    Ok(page.fill("/v1/groups", groups, |group| group.name.clone()))
}

pub(super) async fn show_group(State(context): State<Context>, Path(name): Path<String>) -> Answer<Json<Group>> {
    let name = GroupName::parse(&name).map_err(DirectoryError::from)?;
    let mut read = context.store.read().await?;
    Ok(Json(groups::show(&mut read, &name).await?))
}

pub(super) async fn put_group(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
) -> Answer<Json<Group>> {
    Ok(Json(groups::put(&context, &name, &actor).await?))
}

pub(super) async fn remove_group(
    State(context): State<Context>,
    By(actor): By,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Answer<NoContent> {
    groups::remove(&context, &name, &expected, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn add_member(
    State(context): State<Context>,
    By(actor): By,
    Path((group, user)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> Answer<Json<Group>> {
    Ok(Json(groups::set_member(&context, (&group, &user), Membership::Member, &expected, &actor).await?))
}

pub(super) async fn remove_member(
    State(context): State<Context>,
    By(actor): By,
    Path((group, user)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> Answer<Json<Group>> {
    Ok(Json(groups::set_member(&context, (&group, &user), Membership::NotMember, &expected, &actor).await?))
}

pub(super) async fn list_devices(
    State(context): State<Context>,
    Query(query): Query<PageQuery>,
) -> Answer<Paged<Device>> {
    let page = Page::of(query)?;
    let mut read = context.store.read().await?;
    let devices = store::devices::page(&mut read, page.after.as_deref().unwrap_or_default(), page.wanted()).await?;
    Ok(page.fill("/v1/devices", devices, |device| device.name.clone()))
}

pub(super) async fn show_device(State(context): State<Context>, Path(device): Path<String>) -> Answer<Json<Device>> {
    let mut read = context.store.read().await?;
    Ok(Json(devices::show(&mut read, &device).await?))
}

pub(super) async fn remove_device(
    State(context): State<Context>,
    By(actor): By,
    Path(device): Path<String>,
) -> Answer<NoContent> {
    devices::remove(&context, &device, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn invite_device(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewDevice>,
) -> Answer<Created<DeviceInvited>> {
    Ok(Created(devices::invite(&context, &new, &actor).await?))
}

pub(super) async fn list_locks(State(context): State<Context>, Query(query): Query<PageQuery>) -> Answer<Paged<Lock>> {
    let page = Page::of(query)?;
    let after = match parts(page.after.as_deref())? {
        None => (u64::MAX, "", ""),
        Some([created, kind, name]) => (created.parse().map_err(|_| no_place())?, kind, name),
    };
    let mut read = context.store.read().await?;
    let locks = store::locks::page(&mut read, after, page.wanted()).await?;
    Ok(page.fill("/v1/locks", locks, |lock| joined(&[&lock.created.to_string(), lock.kind.as_str(), &lock.name])))
}

pub(super) async fn lock(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewLock>,
) -> Answer<Created<Lock>> {
    Ok(Created(locks::lock(&context, &new, &actor).await?))
}

pub(super) async fn unlock(
    State(context): State<Context>,
    By(actor): By,
    Path((kind, name)): Path<(String, String)>,
) -> Answer<NoContent> {
    locks::unlock(&context, &kind, &name, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn list_connectors(State(context): State<Context>) -> Answer<Json<Vec<Connector>>> {
    Ok(Json(connectors::list(&context).await?))
}

pub(super) async fn invite_connector(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewConnector>,
) -> Answer<Created<ConnectorInvited>> {
    Ok(Created(connectors::invite(&context, &new, &actor).await?))
}

pub(super) async fn remove_connector(
    State(context): State<Context>,
    By(actor): By,
    Path(connector): Path<String>,
) -> Answer<NoContent> {
    connectors::remove(&context, &connector, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn list_gateways(State(context): State<Context>) -> Answer<Json<Vec<Gateway>>> {
    Ok(Json(gateways::list(&context).await?))
}

pub(super) async fn invite_gateway(
    State(context): State<Context>,
    By(actor): By,
    Body(new): Body<NewGateway>,
) -> Answer<Created<GatewayInvited>> {
    Ok(Created(gateways::invite(&context, &new, &actor).await?))
}

pub(super) async fn remove_gateway(
    State(context): State<Context>,
    By(actor): By,
    Path(gateway): Path<String>,
) -> Answer<NoContent> {
    gateways::remove(&context, &gateway, &actor).await?;
    Ok(NoContent)
}

pub(super) async fn list_sessions(
    State(context): State<Context>,
    Query(query): Query<PageQuery>,
) -> Answer<Paged<Session>> {
    let page = Page::of(query)?;
    let [user, id] = parts(page.after.as_deref())?.unwrap_or_default();
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let sessions = store::sessions::page(&mut read, (user, id), page.wanted(), now).await?;
    Ok(page.fill("/v1/sessions", sessions, |session| joined(&[&session.user, &session.id])))
}

pub(super) async fn end_session(
    State(context): State<Context>,
    By(actor): By,
    Path(id): Path<String>,
) -> Answer<NoContent> {
    sessions::end(&context, &id, &actor).await?;
    Ok(NoContent)
}
