//! A request for our own console or API: decided like any other, then answered by the controller.

use std::sync::Arc;

use http::{Request, Response};
use vouchsafe_model::action::Action;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_wire::canonical::CanonicalTarget;
use vouchsafe_wire::token::AUDIENCE_API;

use crate::authenticate::Presented;
use crate::decide::Question;
use crate::forward::body::Upload;
use crate::forward::http::ForwardError;
use crate::gateway::Shared;
use crate::record::Until;
use crate::route::case::{Asker, Case};
use crate::route::read::{Asked, Connection};
use crate::route::{Way, demand_sign_in, internal, own_path};
use crate::sign_in::{self, step_up};

pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    target: CanonicalTarget,
    request: Request<Body>,
    host: OwnHost,
) -> Response<Body> {
    let label = host.label();
    if host == OwnHost::Console && target.path().starts_with(sign_in::OWN_PREFIX) {
        return own_path(shared, &shared.names, connection, label, &target, request.headers()).await;
    }
    let action = match target.method() {
        "GET" | "HEAD" => Action::ConsoleRead,
        _ => Action::ConsoleWrite,
    };
    let Asked { form, device, mut observed, .. } = asked;
    let target = Arc::new(target);
    observed.target = Some(Arc::clone(&target));
    observed.action = Some(action);
    let case = Case { shared, connection, observed, form };
    let (presented, audience) = match host {
        OwnHost::Api => (Presented::token(request.headers()), AUDIENCE_API),
        OwnHost::Auth | OwnHost::Console | OwnHost::Gateway => (Presented::cookie(request.headers()), label),
    };
    let engine = shared.current.engine();
    let asker = match Asker::proven(&case, presented, audience.into(), device, &engine).await {
        Ok(asker) => asker,
        Err(reason) => return demand_sign_in(&case, reason, label, &target).await,
    };
    let question = Question::console(action, connection.origin(), target);
    // A change must not take effect before its decision is on disk (DESIGN §9).
    let until = match action {
        Action::ConsoleRead => Until::Written,
        _ => Until::Durable,
    };
    let admitted = match case.admit(question, asker, |_| until).await {
        Ok(admitted) => admitted,
        Err(response) => return step_up::offer(shared, label, request, response).await,
    };
    // No mode has a say here: what isn't permitted by a policy doesn't reach the controller.
    let Some(permit) = admitted.admission().permit() else {
        return case.failed(&admitted, &ForwardError::Cut).await;
    };
    let response = internal(shared, connection, host, Way::Permitted(permit, &admitted), request).await;
    let flow = admitted.flow();
    if flow.cut_reason().is_some() && flow.upload() != Upload::Whole {
        return case.failed(&admitted, &ForwardError::Cut).await;
    }
    response
}
