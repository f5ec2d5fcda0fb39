//! Pages of `console.<domain>`: what there is and what happened. They only read; policy decided
//! already that the caller may.

mod views;

use axum::Router;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::Caller;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Kind;

use crate::audit::{self, AuditError};
use crate::context::Context;
use crate::directory::{Actor, DirectoryError, connectors};
use crate::pages;
use crate::store::{StoreError, devices, grants, policy, resources, sessions, users};

/// Records on the first page.
const LATEST: u32 = 20;
/// Records on the page of the log.
const LOG_PAGE: u32 = 100;

/// The pages of the console.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/users", get(list_users))
        .route("/devices", get(list_devices))
        .route("/resources", get(list_resources))
        .route("/connectors", get(list_connectors))
        .route("/policy", get(show_policy))
        .route("/audit", get(log))
        .fallback(|| async { ConsoleError::NotFound })
        .with_state(context)
        .merge(pages::assets())
        .layer(map_response(pages::harden))
}

/// Why a page can't be shown.
#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    #[error("There is no such page.")]
    NotFound,
    /// No decision stands behind the request: the gateway must never let that happen.
    #[error("The console is open only to who was allowed in.")]
    Undecided,
    #[error("Something went wrong on our side. Try again in a moment.")]
    Store(#[from] StoreError),
    #[error("Something went wrong on our side. Try again in a moment.")]
    Directory(#[from] DirectoryError),
    #[error("The log can't be shown.")]
    Audit(#[from] AuditError),
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        let status = match &self {
            ConsoleError::NotFound => StatusCode::NOT_FOUND,
            ConsoleError::Undecided => StatusCode::FORBIDDEN,
            ConsoleError::Store(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "a page of the console failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ConsoleError::Directory(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "a page of the console failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ConsoleError::Audit(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "the log could not be shown");
                StatusCode::BAD_REQUEST
            }
        };
        pages::message::page(status, &self.to_string(), Some(("/", "To the overview")))
    }
}

/// An administrator whom policy let in.
struct Admin(Actor);

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = ConsoleError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ConsoleError> {
        let caller = parts.extensions.get::<Caller>().ok_or(ConsoleError::Undecided)?;
        Actor::of_caller(caller).map(Admin).ok_or(ConsoleError::Undecided)
    }
}

/// How many there are of each.
struct Counts {
    users: u64,
    devices: u64,
    sessions: u64,
    resources: u64,
    grants: u64,
    policy_version: u64,
}

async fn overview(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let now = clock::unix_seconds(clock::now());
    let mut read = context.store.read().await?;
    let counts = Counts {
        users: users::count(&mut read).await?,
        devices: devices::count(&mut read).await?,
        sessions: sessions::count(&mut read, now).await?,
        resources: resources::count(&mut read).await?,
        grants: u64::try_from(grants::list(&mut read, now).await?.len()).unwrap_or(u64::MAX),
        policy_version: policy::highest(&mut read).await?,
    };
    drop(read);
    let kind = Some(Kind::Decision.as_str().to_owned());
    let query = AuditQuery { kind, limit: Some(LATEST), ..AuditQuery::default() };
    let page = audit::query(&context, &query, &actor).await?;
    Ok(views::overview(&actor.label(), &counts, &page.records))
}

async fn list_users(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    let users = users::list(&mut read, clock::unix_seconds(clock::now())).await?;
    Ok(views::users(&actor.label(), &users))
}

async fn list_devices(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    Ok(views::devices(&actor.label(), &devices::list(&mut read).await?))
}

async fn list_resources(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    let resources = resources::list(&mut read).await?;
    Ok(views::resources(&actor.label(), &context.settings, &resources, clock::unix_seconds(clock::now())))
}

async fn list_connectors(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    Ok(views::connectors(&actor.label(), &connectors::list(&context).await?))
}

async fn show_policy(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    Ok(views::policy(&actor.label(), &policy::current(&mut read).await?))
}

/// `GET /audit?user=&resource=&outcome=`.
async fn log(
    State(context): State<Context>,
    Admin(actor): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ConsoleError> {
    let mut asked = AuditQuery { limit: Some(LOG_PAGE), ..AuditQuery::default() };
    let fields = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    for (name, value) in fields.take(16).filter(|(_, value)| !value.trim().is_empty()) {
        let value = Some(value.trim().chars().take(80).collect::<String>());
        match name.as_ref() {
            "user" => asked.user = value,
            "resource" => asked.resource = value,
            "outcome" => asked.outcome = value,
            _ => {}
        }
    }
    let page = audit::query(&context, &asked, &actor).await?;
    Ok(views::audit(&actor.label(), &asked, &page.records))
}

#[cfg(test)]
mod tests;
