//! Pages of `console.<domain>`: what there is and what happened, and what waits to be decided. Policy decided already
//! that the caller may. A form goes to the path that the API has for what it does, so that policies say it once.

mod access;
mod assessment;
mod chart;
mod connectors;
mod decisions;
mod devices;
mod editor;
mod feed;
mod figures;
mod frame;
mod graph;
mod history;
mod invite;
mod log;
mod map;
mod overview;
mod parts;
mod people;
mod proposals;
mod requests;
mod resources;
mod sessions;
mod start;
mod streams;
mod views;
mod webhooks;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::request::Parts;
use vouchsafe_runtime::internal::{Caller, OwnHost};
use vouchsafe_runtime::{fetch_site, limits};

use crate::administrator::AdministratorError;
use crate::api;
use crate::audit::AuditError;
use crate::context::Context;
use crate::directory::{Actor, DirectoryError};
use crate::pages;
use crate::store::{StoreError, policy};
use crate::streams::StreamError;
use crate::webhooks::WebhookError;

/// Most bytes of a form.
const MAX_FORM_BYTES: usize = 4_096;
/// Most fields of a form or query.
const MAX_FIELDS: usize = 24;

/// The pages of the console.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/you", get(you))
        .route("/events", get(feed::follow))
        .route("/map", get(map::show))
        .route("/sessions", get(sessions::list))
        .route("/v1/sessions/{id}/end", post(sessions::end))
        .route("/v1/locks", post(sessions::lock))
        .route("/v1/locks/{kind}/{name}/remove", post(sessions::unlock))
        .route("/v1/users/{name}/sign-out", post(sessions::sign_out))
        .route("/users", get(people::list))
        .route("/users/{name}", get(people::show))
        .route("/devices", get(devices::list))
        .route("/devices/{device}", get(devices::show))
        .route("/resources", get(resources::list))
        .route("/resources/{name}", get(resources::show))
        .route("/connectors", get(connectors::list))
        .route("/start", get(start::show))
        .route("/start/app", get(start::app))
        .route("/start/protected", get(start::protected))
        .route("/start/hide", post(start::hide))
        .route("/v1/plan", post(start::plan))
        .route("/v1/apply", post(start::apply))
        .route("/v1/users", post(invite::add))
        .route("/assessment", get(assessment::show))
        .route("/requests", get(requests::list))
        .route("/v1/resources/{name}/requests/{id}/approve", post(requests::approve))
        .route("/v1/resources/{name}/requests/{id}/deny", post(requests::deny))
        .route("/policy", get(show_policy))
        .route("/policy/edit", get(editor::show))
        .route("/v1/policy/check", post(editor::check).layer(DefaultBodyLimit::max(limits::MAX_OWN_BODY_BYTES)))
        .route("/v1/policy/diff", post(editor::diff).layer(DefaultBodyLimit::max(limits::MAX_OWN_BODY_BYTES)))
        .route("/v1/policy/simulate", post(editor::simulate).layer(DefaultBodyLimit::max(limits::MAX_OWN_BODY_BYTES)))
        .route("/v1/policy/publish", post(editor::publish).layer(DefaultBodyLimit::max(limits::MAX_OWN_BODY_BYTES)))
        .route("/policy/diff", get(history::compare))
        .route("/proposals", get(proposals::list))
        .route("/proposals/{id}", get(proposals::show))
        .route("/v1/policy/pending/{id}/approve", post(proposals::approve))
        .route("/v1/policy/pending/{id}/reject", post(proposals::reject))
        .route("/webhooks", get(webhooks::list))
        .route("/v1/webhooks/{name}/test", post(webhooks::try_out))
        .route("/audit", get(log::show))
        .route("/streams", get(streams::list))
        .route("/v1/audit/streams/{name}/test", post(streams::try_out))
        .route("/decisions/{id}", get(decisions::show))
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
    /// A message could not be sent.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A place for records could not be tried.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl From<DirectoryError> for ConsoleError {
    fn from(error: DirectoryError) -> Self {
        ConsoleError::Administrator(error.into())
    }
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
            ConsoleError::Audit(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "the log could not be shown");
                StatusCode::BAD_REQUEST
            }
            ConsoleError::Elsewhere => StatusCode::FORBIDDEN,
            ConsoleError::Form => StatusCode::BAD_REQUEST,
            ConsoleError::Administrator(_) => return self.administrators(),
            ConsoleError::Webhook(WebhookError::Missing { .. } | WebhookError::Name(_))
            | ConsoleError::Stream(StreamError::Missing { .. } | StreamError::Name(_)) => StatusCode::NOT_FOUND,
            ConsoleError::Stream(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "a stream could not be tried");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ConsoleError::Webhook(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "a webhook could not be tried");
                StatusCode::INTERNAL_SERVER_ERROR
            }
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

/// Fields of a query or of a form, each at most once; what is empty isn't there.
struct Fields(Vec<(String, String)>);

impl Fields {
    /// Those of a query. What isn't asked for later doesn't matter.
    fn of_query(query: Option<&str>) -> Self {
        Self::read(query.unwrap_or_default().as_bytes())
    }

    /// Those of a form, of which each has to be one of `known`.
    fn of_form(form: &[u8], known: &[&str]) -> Result<Self, ConsoleError> {
        let fields = Self::read(form);
        let is_known = |(name, _): &(String, String)| known.contains(&name.as_str());
        let names = || fields.0.iter().map(|(name, _)| name);
        let once = names().collect::<std::collections::BTreeSet<_>>().len() == names().count();
        if once && fields.0.iter().all(is_known) { Ok(fields) } else { Err(ConsoleError::Form) }
    }

    fn read(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).take(MAX_FIELDS);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The text of a field, without white space around it.
    fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.trim()).filter(|text| !text.is_empty())
    }

    /// The same, no longer than names are.
    fn short(&self, name: &str) -> Option<String> {
        self.text(name).map(|text| text.chars().take(80).collect())
    }

    /// A number.
    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// The part of a list that the query's `page` shows, and ways to the others.
fn paged<'l, T>(all: &'l [T], size: usize, fields: &Fields, path: &str) -> (&'l [T], maud::Markup) {
    let last = all.len().saturating_sub(1) / size;
    let page = fields.number("page").and_then(|page| usize::try_from(page).ok()).unwrap_or(0).min(last);
    let shown = all.chunks(size).nth(page).unwrap_or_default();
    let to = |page: usize| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields.0.iter().filter(|(name, _)| name != "page"));
        query.append_pair("page", &page.to_string());
        format!("{path}?{}", query.finish())
    };
    let ways = maud::html! {
        @if last > 0 {
            nav .pages aria-label="Pages" {
                @if page > 0 { a .button .small href=(to(page - 1)) { "Newer" } }
                span .faint { "page " (page + 1) " of " (last + 1) }
                @if page < last { a .button .small href=(to(page + 1)) { "Older" } }
            }
        }
    };
    (shown, ways)
}

/// `GET /you`: to the page of whoever looks, on the host where she signed in.
async fn you(State(context): State<Context>, Admin(_): Admin) -> Redirect {
    Redirect::to(&format!("{}/", context.settings.origin(OwnHost::Auth.label())))
}

async fn show_policy(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let mut read = context.store.read().await?;
    let current = policy::current(&mut read).await?;
    Ok(views::policy::current(&actor.label(), &current, &policy::history(&mut read).await?))
}

#[cfg(test)]
mod tests;
