//! CONNECT: a tunnel to a `tcp` resource, or to one of our own names, where TLS goes on inside.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::ResourceSpec;
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::spans;
use vouchsafe_wire::authority::{ANY_PORT, ANY_PORT_HEADER, Authority};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::answer;
use crate::authenticate::Presented;
use crate::decide::{Decided, Question};
use crate::facts::Asking;
use crate::forward::http::ForwardError;
use crate::forward::{reach, tunnel};
use crate::gateway::Shared;
use crate::listen::Refused;
use crate::names::Names;
use crate::record::Until;
use crate::route::case::{Asker, Case};
use crate::route::read::{Asked, Connection};
use crate::route::warned;
use crate::take_up::TakeUp;

pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    mut request: Request<Body>,
) -> Response<Body> {
    let Asked { named, form, device, mut observed, .. } = asked;
    observed.action = Some(Action::NetConnect);
    let target = label_and_port(&shared.names, &named.authority);
    observed.resource = target.as_ref().map(|(label, _)| label.as_str().into());
    let mut case = Case { shared, connection, observed, form };
    let Some(device) = device.cloned() else {
        let words = "A tunnel needs the certificate of an enrolled device on this connection.";
        return case.refuse(Reason::DeviceRequired, Some(words)).await;
    };
    let Some((label, port)) = target else {
        let words = "A tunnel leads to `<name>:<port>` of a resource.";
        return case.refuse(Reason::UnknownResource, Some(words)).await;
    };
    let engine = shared.current.engine();
    let resource = ResourceName::parse(&label).ok();
    let known = resource.as_ref().and_then(|name| engine.resource(name));
    let own_port = known.and_then(|resource| match &resource.spec {
        ResourceSpec::Tcp(tcp) => Some(tcp.port),
        ResourceSpec::Http(_) | ResourceSpec::Udp(_) | ResourceSpec::Console => None,
    });
    // Our own agent may leave the port to the resource. Foreign clients can't say so, and their
    // tunnel to our own port leads to our own names.
    let any_port = request.headers().get(ANY_PORT_HEADER).is_some_and(|value| value == ANY_PORT);
    let is_tcp = own_port.is_some_and(|own_port| any_port || own_port == port);
    if !is_tcp && !any_port && port == shared.names.port() {
        return to_own_name(&case, device, request).await;
    }
    let port = own_port.filter(|_| is_tcp).unwrap_or(port);
    case.observed.port = Some(port);
    let presented = Presented::proxy_token(request.headers());
    let asker = match Asker::proven(&case, presented, AUDIENCE_GATEWAY.into(), Some(&device), &engine).await {
        Ok(asker) => asker,
        Err(reason) => return case.refuse(reason, None).await,
    };
    let (Some(resource), true) = (resource, is_tcp) else {
        return case.deny(&Decided::denied(Reason::UnknownResource, &engine), Some(&asker), None).await;
    };
    let question = Question::net(resource, connection.origin(), port);
    let admitted = match case.admit(question, asker, |_| Until::Durable).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let dialling = spans::stage("forward");
    let dialled = tokio::select! {
        dialled = reach::connect(shared, admitted.admission()) => dialled.map_err(ForwardError::from),
        _ = admitted.flow().cut().cancelled() => Err(ForwardError::Cut),
    };
    drop(dialling);
    match dialled {
        Ok(upstream) => {
            admitted.flow().set_status(200);
            admitted.flow().set_connector(upstream.connector());
            let place = Arc::clone(&connection.place);
            tunnel::join(shared, Arc::clone(admitted.flow()), TakeUp::of(&mut request), upstream, place);
            let mut response = Response::new(empty());
            warned::tell(response.headers_mut(), warned::of(&admitted).as_ref());
            response
        }
        Err(error) => case.failed(&admitted, &error).await,
    }
}

/// `<label>.<domain>:<port>`, or the label alone in front of the port.
pub(super) fn label_and_port(names: &Names, authority: &Authority) -> Option<(String, u16)> {
    let host = &authority.host;
    let label = match names.domain().label_of(host) {
        Some(label) => label,
        None if host.contains('.') => return None,
        None => host,
    };
    Some((label.to_owned(), authority.port?))
}

/// The device is proven by the tunnel, the user by what is said inside. Every request inside is
/// decided like any other, so all that is asked here is whether the device is still enrolled.
/// Whether the name exists plays no part.
async fn to_own_name(case: &Case<'_>, device: ProvenDevice, mut request: Request<Body>) -> Response<Body> {
    match case.shared.facts.device(device.id, Asking::Request).await {
        Ok(Some(_)) => {}
        Ok(None) => return case.refuse(Reason::DeviceUnknown, None).await,
        Err(_) => return case.refuse(Reason::FactsUnavailable, None).await,
    }
    let take_up = TakeUp::of(&mut request);
    let (shared, ip, outer) = (Arc::clone(case.shared), case.connection.ip, Arc::clone(&case.connection.place));
    let Some(place) = shared.census.enter_inside(ip, device.id, Instant::now()) else {
        return answer::shed(Refused::Overloaded);
    };
    case.shared.tasks.spawn("tunnel to own name", async move {
        match take_up.taken().await {
            Ok(taken) => crate::listen::serve_inside(shared, taken.stream, ip, device, place).await,
            Err(error) => tracing::debug!(%error, "a tunnel was not taken up"),
        }
        drop(outer);
    });
    Response::new(empty())
}
