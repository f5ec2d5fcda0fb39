//! One reading of each request, and where it goes.
//!
//! ```text
//! auth.D      → controller, open to everybody
//! gw.D        → CONNECT · CONNECT-UDP · proxied requests · device endpoints (client certificate)
//!               existing proxies that ask for others (their secret)
//! api.D       → decide console:* → controller          (client certificate and bound token)
//! console.D   → decide console:* → controller          (session cookie)
//! <name>.D    → decide http:*    → upstream            (session cookie; device of the tunnel)
//! ```

mod app;
mod case;
mod connect;
mod connect_udp;
mod console;
mod named;
mod proxied;
mod read;
mod warned;

use std::sync::Arc;

use http::header::{ALT_SVC, CONNECTION, PROXY_AUTHORIZATION, STRICT_TRANSPORT_SECURITY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::Limited;
use vouchsafe_model::decision::Reason;
use vouchsafe_policy::Permit;
use vouchsafe_runtime::body::{Body, boxed};
use vouchsafe_runtime::internal::{Caller, OwnHost};
use vouchsafe_runtime::limits::{MAX_OWN_BODY_BYTES, OWN_ANSWER_TIMEOUT};
use vouchsafe_runtime::spans;
use vouchsafe_wire::canonical::CanonicalTarget;
use vouchsafe_wire::framing::Fault;

use crate::answer::{self, Form};
use crate::forward::body::{Inward, Outward};
use crate::gateway::Shared;
use crate::names::{Names, Site};
use crate::route::case::Case;
use crate::route::read::{Asked, Purpose, Unreadable};
use crate::sign_in::{self, step_up};

pub(crate) use crate::route::case::Admitted;
pub(crate) use crate::route::named::Named;
pub(crate) use crate::route::read::{Connection, Familiar, Via};

/// Answers one request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    request: Request<Body>,
) -> Response<Body> {
    let (version, purpose) = (request.version(), read::purpose(&request));
    let upgrades = request.headers().contains_key(UPGRADE);
    let alt_svc = shared.alt_svc.clone().filter(|_| purpose == Purpose::Exchange && connection.via == Via::Network);
    let mut response = match &shared.spans {
        None => respond(shared, connection, request, purpose).await,
        Some(spans) => {
            let (method, protocol) = (request.method().clone(), read::protocol(version, purpose));
            let work = respond(shared, connection, request, purpose);
            Box::pin(spans.of(&method, protocol, work, |response| response.status().as_u16())).await
        }
    };
    // A proxy passes it on as the answer of a host of its own, and what that host promises is the proxy's to say.
    let is_ours = response.extensions_mut().remove::<proxied::OfAnotherHost>().is_none();
    // Where else a name of ours is served is ours to say. Inside a tunnel nothing is said: there a
    // client would leave the tunnel, and with it what proves its device.
    match alt_svc.filter(|_| is_ours) {
        Some(alt_svc) => drop(response.headers_mut().insert(ALT_SVC, alt_svc)),
        None => drop(response.headers_mut().remove(ALT_SVC)),
    }
    let status = response.status();
    let refused = status == StatusCode::BAD_REQUEST
        || (purpose == Purpose::Tunnel && status != StatusCode::OK)
        || (upgrades && status != StatusCode::SWITCHING_PROTOCOLS);
    if version == Version::HTTP_11 && refused {
        // What follows may be meant as part of what was refused: as the body of a message that
        // could be read in two ways, or as bytes for the tunnel or WebSocket. It must not be read as
        // requests.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let opens_bytes = matches!(purpose, Purpose::Tunnel | Purpose::Udp) || status == StatusCode::SWITCHING_PROTOCOLS;
    if !opens_bytes && is_ours {
        // Also on what we answer ourselves: the first page that a browser sees of a host is a
        // redirect to the sign-in (A147).
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    response
}

async fn respond(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    request: Request<Body>,
    purpose: Purpose,
) -> Response<Body> {
    let listening = spans::stage("listen");
    let asked = read::read(shared, connection, &request, purpose);
    drop(listening);
    match asked {
        Err(unreadable) => {
            let protocol = read::protocol(request.version(), purpose);
            let observed = read::unread(connection, protocol);
            let form = Form::wanted(request.method(), request.headers());
            let case = Case { shared, connection, observed, form };
            match unreadable {
                Unreadable::Ambiguous(why) => {
                    Box::pin(case.refuse_as(StatusCode::BAD_REQUEST, Reason::Ambiguous, &why)).await
                }
                Unreadable::Misdirected => Box::pin(case.refuse(Reason::Misdirected, None)).await,
            }
        }
        Ok(asked) => dispatch(shared, connection, asked, request).await,
    }
}

/// Refuses a request of HTTP/1.1 whose framing is in doubt, so that nothing of it is known. It is the
/// last on its connection.
pub(crate) async fn refuse_unframed(shared: &Arc<Shared>, connection: &Connection, fault: Fault) -> Response<Body> {
    let observed = read::unread(connection, "http/1.1");
    let case = Case { shared, connection, observed, form: Form::Problem };
    let status = match fault {
        Fault::TooLong | Fault::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = case.refuse_as(status, Reason::Ambiguous, &format!("{fault}.")).await;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Only what apps are asked for is awaited in place: the rest is seldom, and every request would have to
/// carry room for it.
async fn dispatch(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    mut request: Request<Body>,
) -> Response<Body> {
    let purpose = asked.purpose;
    match purpose {
        Purpose::Exchange | Purpose::WebSocket | Purpose::Other => {}
        Purpose::Tunnel => return Box::pin(connect::serve(shared, connection, asked, request)).await,
        Purpose::Udp => return Box::pin(connect_udp::serve(shared, connection, asked, request)).await,
    }
    let target = match read::target(&request, &asked.site, purpose) {
        Ok(target) => target,
        Err(why) => {
            let case = Case { shared, connection, observed: asked.observed, form: asked.form };
            return Box::pin(case.refuse(Reason::Ambiguous, Some(&why.to_string()))).await;
        }
    };
    if purpose == Purpose::WebSocket && matches!(asked.site, Site::Own(_)) {
        let case = Case { shared, connection, observed: asked.observed, form: asked.form };
        return Box::pin(case.refuse(Reason::Ambiguous, Some("There are no WebSockets on this host."))).await;
    }
    // From here on there is the canonical request and no other.
    *request.uri_mut() = Uri::default();
    match asked.site {
        Site::Own(OwnHost::Gateway) if proxied::is_for(shared, connection, &target) => {
            Box::pin(proxied::serve(shared, connection, asked, target, request)).await
        }
        Site::Own(host @ (OwnHost::Auth | OwnHost::Gateway)) => {
            Box::pin(internal(shared, connection, host, Way::Open(target), request)).await
        }
        Site::Own(host @ (OwnHost::Console | OwnHost::Api)) => {
            Box::pin(console::serve(shared, connection, asked, target, request, host)).await
        }
        Site::App(_) | Site::Nothing(_) => app::serve(shared, connection, asked, target, request).await,
    }
}

/// Nobody is proven: browsers that navigate are sent to sign in, everybody else is told.
async fn demand_sign_in(case: &Case<'_>, reason: Reason, label: &str, target: &CanonicalTarget) -> Response<Body> {
    let denial = case.refuse(reason, None).await;
    // Were the denial not recorded, its status would be another one, and the browser told so.
    if case.form == Form::Page && denial.status() == StatusCode::UNAUTHORIZED {
        return sign_in::redirect(&case.shared.names, label, target);
    }
    denial
}

/// A path that every app host answers for us.
async fn own_path(
    shared: &Shared,
    names: &Names,
    connection: &Connection,
    label: &str,
    target: &CanonicalTarget,
    headers: &HeaderMap,
) -> Response<Body> {
    match (target.method(), target.path()) {
        ("GET", step_up::RESUME) => return step_up::resume(shared, names, connection, label, headers).await,
        ("GET", step_up::AGAIN) => return step_up::again(names, label, target, headers),
        ("GET", sign_in::BEGIN) => return sign_in::begin(names, label, target),
        _ => {}
    }
    let device = connection.device().map(|device| device.id);
    sign_in::handle(names, &shared.facts, label, target, headers, device, connection.ip).await
}

/// By what right a request goes to the controller.
enum Way<'p> {
    /// It is open to everybody (sign-in) or proves itself to the controller (devices).
    Open(CanonicalTarget),
    /// A policy permits it.
    Permitted(&'p Permit, &'p Admitted),
}

impl Way<'_> {
    fn target(&self) -> Option<&CanonicalTarget> {
        match self {
            Way::Open(target) => Some(target),
            Way::Permitted(_, admitted) => admitted.target(),
        }
    }

    fn permitted(&self) -> Option<(&Permit, &Admitted)> {
        match self {
            Way::Open(_) => None,
            Way::Permitted(permit, admitted) => Some((permit, admitted)),
        }
    }
}

/// Hands a request to the controller, with the facts of its connection as typed extensions.
async fn internal(
    shared: &Arc<Shared>,
    connection: &Connection,
    host: OwnHost,
    way: Way<'_>,
    request: Request<Body>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let target = way.target().map(CanonicalTarget::to_target);
    parts.uri = match target.and_then(|target| target.parse().ok()) {
        Some(uri) => uri,
        None => return answer::plain(StatusCode::BAD_REQUEST, "The request can't be read."),
    };
    parts.headers.remove(PROXY_AUTHORIZATION);
    parts.extensions.clear();
    parts.extensions.insert(Caller {
        host,
        ip: connection.ip,
        post_quantum: connection.origin().agreement.is_post_quantum(),
        device: connection.device().cloned(),
        subject: way.permitted().map(|(permit, _)| Arc::clone(permit.subject())),
        decision: way.permitted().map(|(_, admitted)| admitted.decision()),
    });
    let body = match way.permitted() {
        // A change is begun with a head, and may be completed much later with a body: whoever has lost
        // the right meanwhile can't complete it (I6).
        Some((_, admitted)) if !body.is_end_stream() => {
            boxed(Inward::new(body, Arc::clone(admitted.flow()), None, shared.tasks.clone()))
        }
        Some(_) | None => body,
    };
    let body = boxed(Limited::new(body, MAX_OWN_BODY_BYTES));
    let call = shared.service.call(Request::from_parts(parts, body));
    let Ok(response) = tokio::time::timeout(OWN_ANSWER_TIMEOUT, call).await else {
        return answer::plain(StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive or to answer.");
    };
    match way {
        Way::Open(_) => response,
        Way::Permitted(_, admitted) => {
            let flow = Arc::clone(admitted.flow());
            flow.set_status(response.status().as_u16());
            response.map(|body| boxed(Outward::new(body, flow, None)))
        }
    }
}
