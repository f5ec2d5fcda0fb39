//! Pages of `console.<domain>`: what there is and what happened, and what waits to be decided. Policy decided already
//! that the caller may. A form goes to the path that the API has for what it does, so that policies say it once.

mod history;
mod requests;
mod views;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, RawQuery, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::request::Parts;
use vouchsafe_runtime::internal::{Caller, OwnHost};
use vouchsafe_runtime::{clock, fetch_site};
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Kind;

use crate::administrator::AdministratorError;
use crate::api;
use crate::audit::{self, AuditError};
use crate::context::Context;
use crate::directory::{Actor, DirectoryError, connectors};
use crate::pages;
use crate::store::{StoreError, devices, grants, policy, resources, sessions, users};

/// Records on the first page.
const LATEST: u32 = 20;
/// Records on the page of the log.
const LOG_PAGE: u32 = 100;
/// Most bytes of a form.
const MAX_FORM_BYTES: usize = 4_096;

/// The pages of the console.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/users", get(list_users))
        .route("/devices", get(list_devices))
        .route("/resources", get(list_resources))
        .route("/connectors", get(list_connectors))
        .route("/requests", get(requests::list))
        .route("/v1/resources/{name}/requests/{id}/approve", post(requests::approve))
        .route("/v1/resources/{name}/requests/{id}/deny", post(requests::deny))
        .route("/policy", get(show_policy))
        .route("/policy/diff", get(history::compare))
        .route("/audit", get(log))
        .fallback(|| async { ConsoleError::NotFound })
        .method_not_allowed_fallback(|| async { ConsoleError::NotFound })
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
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
    /// Another page made the browser send it (A149).
    #[error("This came from another page than the console's own. Open the console and do it there.")]
    Elsewhere,
    #[error("This form is not one of the console's.")]
    Form,
    /// What was asked can't be done, or failed.
    #[error(transparent)]
    Administrator(#[from] AdministratorError),
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
            ConsoleError::Elsewhere => StatusCode::FORBIDDEN,
            ConsoleError::Form => StatusCode::BAD_REQUEST,
            ConsoleError::Administrator(_) => return self.administrators(),
        };
        pages::message::page(status, &self.to_string(), Some(("/", "To the overview")))
    }
}

impl ConsoleError {
    /// Says the same as the API would.
    fn administrators(self) -> Response {
        let ConsoleError::Administrator(error) = self else { return ConsoleError::NotFound.into_response() };
        let problem = api::problem(error);
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let words = match &problem.detail {
            Some(detail) => format!("{}. {detail}", problem.title),
            None => format!("{}.", problem.title),
        };
        pages::message::page(status, &words, Some(("/", "To the overview")))
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

/// An administrator whom policy let do what a form of our own page says.
struct Sent(Actor);

impl FromRequestParts<Context> for Sent {
    type Rejection = ConsoleError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ConsoleError> {
        let Admin(actor) = Admin::from_request_parts(parts, context).await?;
        let origin = context.settings.origin(OwnHost::Console.label());
        if fetch_site::is_same_origin(&parts.headers, &origin) { Ok(Sent(actor)) } else { Err(ConsoleError::Elsewhere) }
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
    let current = policy::current(&mut read).await?;
    Ok(views::policy::current(&actor.label(), &current, &policy::history(&mut read).await?))
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
