//! CONNECT-UDP (RFC 9298): datagrams to a `udp` resource, decided on like a tunnel.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::ResourceSpec;
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_wire::authority::{ANY_PORT, ANY_PORT_HEADER, Authority, UDP_PATH};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::authenticate::Presented;
use crate::decide::{Decided, Question};
use crate::forward::http::ForwardError;
use crate::forward::{reach, udp};
use crate::gateway::Shared;
use crate::record::Until;
use crate::route::case::{Asker, Case};
use crate::route::connect::label_and_port;
use crate::route::read::{Asked, Connection};
use crate::route::warned;
use crate::take_up::TakeUp;

/// Says that the stream is one of capsules (RFC 9297 §3.4).
const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");

pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    mut request: Request<Body>,
) -> Response<Body> {
    let Asked { form, device, mut observed, .. } = asked;
    observed.action = Some(Action::NetConnect);
    let authority = target(request.uri().path());
    observed.host = authority.as_ref().map(|authority| authority.host.as_str().into());
    observed.port = authority.as_ref().and_then(|authority| authority.port);
    let target = authority.as_ref().and_then(|authority| label_and_port(&shared.names, authority));
    observed.resource = target.as_ref().map(|(label, _)| label.as_str().into());
    let mut case = Case { shared, connection, observed, form };
    let Some(device) = device.cloned() else {
        let words = "A tunnel needs the certificate of an enrolled device on this connection.";
        return case.refuse(Reason::DeviceRequired, Some(words)).await;
    };
    let Some((label, port)) = target else {
        let words = "A UDP tunnel leads to `/.well-known/masque/udp/<name>/<port>/` of a resource.";
        return case.refuse(Reason::UnknownResource, Some(words)).await;
    };
    let engine = shared.current.engine();
    let presented = Presented::proxy_token(request.headers());
    let asker = match Asker::proven(&case, presented, AUDIENCE_GATEWAY.into(), Some(&device), &engine).await {
        Ok(asker) => asker,
        Err(reason) => return case.refuse(reason, None).await,
    };
    let any_port = request.headers().get(ANY_PORT_HEADER).is_some_and(|value| value == ANY_PORT);
    let resource = ResourceName::parse(&label).ok();
    let spec = resource.as_ref().and_then(|name| engine.resource(name)).and_then(|resource| match &resource.spec {
        ResourceSpec::Udp(udp) if any_port || udp.port == port => Some(udp.clone()),
        ResourceSpec::Udp(_) | ResourceSpec::Http(_) | ResourceSpec::Tcp(_) | ResourceSpec::Console => None,
    });
    let (Some(resource), Some(spec)) = (resource, spec) else {
        return case.deny(&Decided::denied(Reason::UnknownResource, &engine), Some(&asker), None).await;
    };
    case.observed.port = Some(spec.port);
    let question = Question::net(resource, connection.origin(), spec.port);
    let admitted = match case.admit(question, asker, |_| Until::Durable).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let opened = tokio::select! {
        opened = reach::connect_udp(shared, admitted.admission()) => opened.map_err(ForwardError::from),
        _ = admitted.flow().cut().cancelled() => Err(ForwardError::Cut),
    };
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(error) => return case.failed(&admitted, &error).await,
    };
    let mut response = Response::new(empty());
    response.headers_mut().insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
    if request.version() == Version::HTTP_11 {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("connect-udp"));
    }
    admitted.flow().set_status(response.status().as_u16());
    warned::tell(response.headers_mut(), warned::of(&admitted).as_ref());
    let place = Arc::clone(&connection.place);
    admitted.flow().set_connector(upstream.connector());
    udp::join(shared, Arc::clone(admitted.flow()), TakeUp::of(&mut request), upstream, spec.idle_timeout, place);
    response
}

/// Host and port in the path (RFC 9298 §3). Names need no percent-encoding, so there is none.
fn target(path: &str) -> Option<Authority> {
    let (host, port) = path.strip_prefix(UDP_PATH)?.split_once('/')?;
    let port = port.strip_suffix('/').unwrap_or(port);
    if host.contains(':') || port.contains(['/', ':']) {
        return None;
    }
    Authority::parse(&format!("{host}:{port}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_ports_are_targets() {
        let read = |path: &str| target(path).map(|authority| (authority.host, authority.port));
        assert_eq!(read("/.well-known/masque/udp/dns.corp.example/53/"), Some(("dns.corp.example".into(), Some(53))));
        assert_eq!(read("/.well-known/masque/udp/DNS/53"), Some(("dns".into(), Some(53))));
        for other in [
            "/.well-known/masque/udp/dns/",
            "/.well-known/masque/udp/dns//",
            "/.well-known/masque/udp/dns/0/",
            "/.well-known/masque/udp/dns/53/x",
            "/.well-known/masque/udp/dns/53//",
            "/.well-known/masque/udp/dns:1/53/",
            "/.well-known/masque/udp/dns%2ecorp/53/",
            "/.well-known/masque/udp/127.0.0.1/53/",
            "/.well-known/masque/udp/2001%3Adb8%3A%3A1/53/",
            "/.well-known/masque/ip/dns/53/",
            "/",
        ] {
            assert_eq!(target(other), None, "{other}");
        }
    }
}
