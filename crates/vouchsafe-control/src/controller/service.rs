//! Requests for our own host names, passed to the part that answers them.

use axum::Router;
use http::{Request, Response, StatusCode};
use tower::ServiceExt;
use vouchsafe_runtime::body::{self, Body};
use vouchsafe_runtime::internal::{BoxFuture, Caller, InternalService, OwnHost};

use crate::context::Context;
use crate::identity::{Identity, IdentityError};
use crate::{api, console, identity};

/// One router for each of our hosts.
pub(crate) struct Service {
    auth: Router,
    console: Router,
    api: Router,
    gateway: Router,
}

impl Service {
    pub(super) fn new(context: &Context) -> Result<Self, IdentityError> {
        let Identity { auth, gateway } = identity::routes(context.clone())?;
        Ok(Self { auth, gateway, console: console::routes(context.clone()), api: api::routes(context.clone()) })
    }
}

impl InternalService for Service {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let router = match request.extensions().get::<Caller>().map(|caller| caller.host) {
            Some(OwnHost::Auth) => Some(self.auth.clone()),
            Some(OwnHost::Console) => Some(self.console.clone()),
            Some(OwnHost::Api) => Some(self.api.clone()),
            Some(OwnHost::Gateway) => Some(self.gateway.clone()),
            None => None,
        };
        Box::pin(async move {
            let Some(router) = router else {
                // A caller that nobody described is a mistake of ours, and gets nothing.
                tracing::error!("an internal request came without its caller");
                let mut response = Response::new(body::empty());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return response;
            };
            match router.oneshot(request.map(axum::body::Body::new)).await {
                Ok(response) => response.map(body::boxed),
                Err(never) => match never {},
            }
        })
    }
}
