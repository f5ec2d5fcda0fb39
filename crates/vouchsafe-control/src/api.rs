//! The administrator's API (`docs/spec/api.md`): the same routes on `api.<domain>` and on the
//! admin socket.
//!
//! Whether the caller may is decided before a request comes here: by policy at the gateway, which
//! puts the subject into [`Caller`], or by the peer credentials of the socket, which puts in
//! [`LocalOwner`]. Without one of them every route answers 401.

mod answer;
mod audit;
mod conditional;
mod describe;
mod directory;
mod extract;
mod idempotency;
mod openapi;
mod paged;
mod policy;
mod requests;
mod state;
mod streams;
mod tlog;
mod webhooks;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use vouchsafe_runtime::internal::{Caller, OwnHost};
use vouchsafe_runtime::limits;
use vouchsafe_wire::api::Problem;

use crate::administrator::AdministratorError;
use crate::context::Context;
use crate::directory::Actor;

pub(crate) use answer::ApiError;

/// The owner of the machine asks, over the admin socket: a request extension that only
/// [`crate::admin_socket`] makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalOwner {
    /// User id by the socket's peer credentials.
    pub(crate) uid: u32,
}

/// Declares every route once: for the router, for its description, and for the test that tries them all signed out.
macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        /// Every route that exists: method and path.
        #[cfg(test)]
        pub(crate) const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path),)*];

        fn table() -> Router<Context> {
            Router::new()$(.route($path, axum::routing::$method($handler)))*
        }

        /// Describes every route.
        fn describe(operations: &mut openapi::Operations) {
            $(operations.add(stringify!($method), $path, stringify!($handler), &$handler);)*
        }
    };
}

routes! {
    get "/v1/status" => state::status,
    get "/v1/users" => directory::list_users,
    post "/v1/users" => directory::add_user,
    get "/v1/users/{name}" => directory::show_user,
    patch "/v1/users/{name}" => directory::change_user,
    delete "/v1/users/{name}" => directory::delete_user,
    post "/v1/users/{name}/invite" => directory::invite_user,
    post "/v1/users/{name}/sign-out" => directory::sign_out_user,
    get "/v1/groups" => directory::list_groups,
    get "/v1/groups/{name}" => directory::show_group,
    put "/v1/groups/{name}" => directory::put_group,
    delete "/v1/groups/{name}" => directory::remove_group,
    put "/v1/groups/{name}/members/{user}" => directory::add_member,
    delete "/v1/groups/{name}/members/{user}" => directory::remove_member,
    get "/v1/devices" => directory::list_devices,
    get "/v1/devices/{device}" => directory::show_device,
    delete "/v1/devices/{device}" => directory::remove_device,
    post "/v1/devices/invites" => directory::invite_device,
    get "/v1/locks" => directory::list_locks,
    post "/v1/locks" => directory::lock,
    delete "/v1/locks/{kind}/{name}" => directory::unlock,
    get "/v1/webhooks" => webhooks::list,
    post "/v1/webhooks" => webhooks::add,
    delete "/v1/webhooks/{name}" => webhooks::remove,
    post "/v1/webhooks/{name}/test" => webhooks::try_out,
    get "/v1/gateways" => directory::list_gateways,
    post "/v1/gateways/invites" => directory::invite_gateway,
    delete "/v1/gateways/{gateway}" => directory::remove_gateway,
    get "/v1/connectors" => directory::list_connectors,
    post "/v1/connectors/invites" => directory::invite_connector,
    delete "/v1/connectors/{connector}" => directory::remove_connector,
    get "/v1/sessions" => directory::list_sessions,
    delete "/v1/sessions/{id}" => directory::end_session,
    get "/v1/resources" => state::list_resources,
    get "/v1/resources/{name}" => state::show_resource,
    put "/v1/resources/{name}" => state::put_resource,
    delete "/v1/resources/{name}" => state::remove_resource,
    put "/v1/resources/{name}/mode" => state::set_mode,
    get "/v1/resources/{name}/progress" => state::progress,
    get "/v1/requests" => requests::list,
    get "/v1/requests/mine" => requests::own,
    post "/v1/resources/{name}/requests" => requests::add,
    post "/v1/resources/{name}/requests/{id}/approve" => requests::approve,
    post "/v1/resources/{name}/requests/{id}/deny" => requests::deny,
    post "/v1/resources/{name}/requests/{id}/withdraw" => requests::withdraw,
    get "/v1/grants" => state::list_grants,
    post "/v1/grants" => state::add_grant,
    delete "/v1/grants/{id}" => state::remove_grant,
    get "/v1/policy" => policy::current,
    get "/v1/policy/schema" => policy::schema,
    get "/v1/policy/templates" => policy::templates,
    post "/v1/policy/check" => policy::check,
    post "/v1/policy/publish" => policy::publish,
    get "/v1/policy/history" => policy::history,
    get "/v1/policy/history/{version}" => policy::version,
    post "/v1/policy/confirm" => policy::confirm,
    post "/v1/policy/rollback" => policy::roll_back,
    get "/v1/policy/pending" => policy::pending,
    get "/v1/policy/pending/{id}" => policy::proposal,
    post "/v1/policy/pending/{id}/approve" => policy::approve,
    post "/v1/policy/pending/{id}/reject" => policy::reject,
    post "/v1/policy/explain" => policy::explain,
    post "/v1/policy/diff" => policy::diff,
    post "/v1/policy/simulate" => policy::simulate,
    post "/v1/policy/suggest" => policy::suggest,
    post "/v1/policy/unused" => policy::unused,
    post "/v1/policy/foresee" => policy::foresee,
    get "/v1/policy/who-can" => policy::who_can,
    get "/v1/policy/what-can" => policy::what_can,
    get "/v1/assessment" => state::assessment,
    put "/v1/assessment" => state::put_assessment,
    post "/v1/plan" => state::plan,
    post "/v1/apply" => state::apply,
    get "/v1/audit" => audit::query,
    get "/v1/audit/counts" => audit::counts,
    get "/v1/audit/uses" => audit::uses,
    get "/v1/audit/tail" => audit::tail,
    get "/v1/audit/export" => audit::export,
    get "/v1/audit/streams" => streams::list,
    post "/v1/audit/streams" => streams::add,
    get "/v1/audit/streams/{name}" => streams::show,
    delete "/v1/audit/streams/{name}" => streams::remove,
    post "/v1/audit/streams/{name}/test" => streams::try_out,
    get "/v1/audit/log" => tlog::state,
    get "/v1/audit/log/checkpoint" => tlog::checkpoint,
    get "/v1/audit/log/cosigned" => tlog::cosigned,
    get "/v1/audit/log/proof" => tlog::prove,
    post "/v1/audit/log/fork" => tlog::fork,
}

/// A failure on the way, when the answer has begun already.
pub(crate) fn problem(error: AdministratorError) -> Box<Problem> {
    ApiError::from(error).into_problem()
}

/// All routes of the API.
pub(crate) fn routes(context: Context) -> Router {
    table()
        .merge(tlog::tiles())
        .route(openapi::PATH, axum::routing::get(openapi::serve))
        .fallback(answer::no_such_route)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(limits::MAX_OWN_BODY_BYTES))
        .layer(from_fn(conditional::get))
        .layer(from_fn_with_state(context.clone(), idempotency::once))
        // Outermost, so that nothing is looked at, not even whether a route exists, for a caller
        // whom nobody vouched for.
        .layer(from_fn(vouched_for))
        .with_state(context)
}

async fn vouched_for(mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let actor = match (extensions.get::<LocalOwner>(), extensions.get::<Caller>()) {
        (Some(owner), None) => Some(Actor::Local { uid: owner.uid }),
        (None, Some(caller)) if caller.host == OwnHost::Api => Actor::of_caller(caller),
        (Some(_), Some(_)) | (None, Some(_) | None) => None,
    };
    let mut response = match actor {
        None => ApiError::signed_out().into_response(),
        Some(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
