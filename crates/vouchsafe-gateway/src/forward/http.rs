//! Forwards an admitted HTTP request: exactly the canonical request, bodies streaming both ways.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{AUTHORIZATION, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use vouchsafe_model::resource::{HttpSpec, ResourceSpec, UpstreamScheme};
use vouchsafe_policy::Admission;
use vouchsafe_runtime::body::{Body, boxed, empty};
use vouchsafe_runtime::tls::TlsError;
use vouchsafe_wire::canonical::CanonicalTarget;

use crate::assertion::AssertionError;
use crate::connectors::RelayError;
use crate::forward::body::{self, Gate, Inward, Outward, Signal, Upload};
use crate::forward::dial::DialError;
use crate::forward::headers::{self, Facing, Known};
use crate::forward::upstream::{Demand, Lease, Reuse};
use crate::forward::websocket;
use crate::gateway::Shared;
use crate::listen::Place;
use crate::route::{Admitted, Named};
use crate::watch::{Ended, Flow, Way};

/// Failure to get an answer from the upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// It could not be connected to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The configuration for its TLS is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The assertion could not be signed.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// It broke the protocol or closed.
    #[error("the upstream broke off the exchange")]
    Exchange(#[from] hyper::Error),
    /// Its connection ended before it was asked.
    #[error("the upstream closed the connection")]
    Ended,
    /// It did not answer in time.
    #[error("the upstream did not answer within {0:?}")]
    TimedOut(Duration),
    /// It has as many exchanges under way as it may have.
    #[error("the upstream has too many exchanges under way")]
    Busy,
    /// The canonical request can't be written as HTTP.
    #[error("the request can't be written")]
    Request(#[from] http::Error),
    /// The client framed its body wrongly, or broke off.
    #[error("the body of the request broke off or is framed wrongly")]
    ClientBody(#[source] hyper::Error),
    /// Access ended before the upstream answered.
    #[error("access ended")]
    Cut,
    /// It asks for the credentials of a proxy, which only we may do.
    #[error("the upstream asks for proxy credentials (407), which are not its business")]
    AsksAsProxy,
    /// It changes the protocol though nobody asked, or not as it was asked.
    #[error("the upstream changes the protocol out of turn")]
    Switch,
    /// It can't be asked for a WebSocket.
    #[error("the upstream takes no WebSockets over HTTP/2")]
    NoWebSockets,
    /// The admission is for something that has no HTTP upstream.
    #[error("this resource is no web app")]
    NotHttp,
}

/// Why there was no answer, as far as it is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its name can't be looked up, or leads where no upstream may be.
    Address,
    /// It refuses connections.
    Refused,
    /// It took too long.
    TimedOut,
    /// Its TLS is not acceptable.
    Tls,
    /// It has too much to do.
    Busy,
    /// It broke off, or did what it must not.
    Protocol,
    /// It is ours.
    Own,
}

impl Fault {
    pub(crate) const ALL: [Fault; 7] =
        [Fault::Address, Fault::Refused, Fault::TimedOut, Fault::Tls, Fault::Busy, Fault::Protocol, Fault::Own];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Fault::Address => "address",
            Fault::Refused => "refused",
            Fault::TimedOut => "timed_out",
            Fault::Tls => "tls",
            Fault::Busy => "busy",
            Fault::Protocol => "protocol",
            Fault::Own => "own",
        }
    }
}

impl ForwardError {
    /// What it counts as.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            ForwardError::Dial(dial) => match dial {
                DialError::Lookup { .. } | DialError::Forbidden { .. } | DialError::Loop { .. } => Fault::Address,
                DialError::Connect { .. } => Fault::Refused,
                DialError::TimedOut { .. } => Fault::TimedOut,
                DialError::Tls { .. } | DialError::NoHttp2 { .. } => Fault::Tls,
                DialError::Via { source, .. } => match source {
                    RelayError::Refused { .. } => Fault::Address,
                    RelayError::NoneAttached | RelayError::Broken { .. } | RelayError::Unreachable { .. } => {
                        Fault::Refused
                    }
                    RelayError::TimedOut { .. } => Fault::TimedOut,
                    RelayError::Busy => Fault::Busy,
                },
                DialError::NoUpstream => Fault::Own,
            },
            ForwardError::TimedOut(_) => Fault::TimedOut,
            ForwardError::Busy => Fault::Busy,
            ForwardError::Exchange(_)
            | ForwardError::Ended
            | ForwardError::AsksAsProxy
            | ForwardError::Switch
            | ForwardError::NoWebSockets => Fault::Protocol,
            ForwardError::Tls(_)
            | ForwardError::Assertion(_)
            | ForwardError::Request(_)
            | ForwardError::ClientBody(_)
            | ForwardError::Cut
            | ForwardError::NotHttp => Fault::Own,
        }
    }
}

/// Whether the request asks to change the protocol on its connection or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An answer.
    Answer,
    /// A WebSocket in the place of an HTTP/1.1 connection (RFC 6455 §4.1).
    WebSocket,
    /// A WebSocket on a stream of HTTP/2 or HTTP/3 (RFC 8441 §5, RFC 9220 §3).
    WebSocketStream,
}

/// What goes upstream.
pub(crate) struct Forward<'r> {
    /// The app's host, as it was asked for.
    pub(crate) named: &'r Named,
    /// Address of the client.
    pub(crate) ip: &'r HeaderValue,
    pub(crate) wanted: Wanted,
    /// The client's place among all connections; a WebSocket keeps it.
    pub(crate) place: Arc<Place>,
}

impl Forward<'_> {
    /// The app's host, without a port.
    pub(super) fn own_host(&self) -> &str {
        &self.named.host
    }
}

/// Sends the admitted request and returns the answer, its body still streaming.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    admitted: &Admitted,
    what: Forward<'_>,
    incoming: Request<Body>,
) -> Result<Response<Body>, ForwardError> {
    let (admission, flow) = (admitted.admission(), admitted.flow());
    let (ResourceSpec::Http(spec), Some(target)) = (&admission.resource().spec, admitted.target()) else {
        return Err(ForwardError::NotHttp);
    };
    let asked = Asked { admission, flow, spec, target, what };
    flow.cut().expect_within(spec.response_timeout);
    let exchange = async {
        match asked.what.wanted {
            Wanted::Answer => answer(shared, &asked, incoming).await,
            Wanted::WebSocket | Wanted::WebSocketStream => Box::pin(websocket::open(shared, &asked, incoming)).await,
        }
    };
    let mut exchange = pin!(exchange);
    let exchanged = poll_fn(|cx| {
        // There is no answer's body yet whose place this could be.
        flow.cut().watch(Way::Outward, cx);
        match flow.cut().ended() {
            Some(Ended::Revoked(_)) => Poll::Ready(Err(ForwardError::Cut)),
            Some(Ended::Silent(patience)) => Poll::Ready(Err(ForwardError::TimedOut(patience))),
            None => exchange.as_mut().poll(cx),
        }
    });
    let response = match exchanged.await {
        // Whatever the library says of the exchange: it was the client's body that broke it.
        Err(ForwardError::Exchange(error)) if flow.upload() == Upload::Broken => {
            return Err(ForwardError::ClientBody(error));
        }
        result => result?,
    };
    flow.cut().expect_within(spec.idle_timeout);
    Ok(response)
}

/// An admitted request in all its parts.
pub(super) struct Asked<'r> {
    pub(super) admission: &'r Admission,
    pub(super) flow: &'r Arc<Flow>,
    pub(super) spec: &'r HttpSpec,
    pub(super) target: &'r CanonicalTarget,
    pub(super) what: Forward<'r>,
}

async fn answer(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    incoming: Request<Body>,
) -> Result<Response<Body>, ForwardError> {
    let Asked { admission, flow, spec, target, .. } = asked;
    let (parts, body) = incoming.into_parts();
    let demand = match authenticates_connection(&parts.headers, &AUTHORIZATION) {
        true => Demand::Alone,
        false => Demand::Any,
    };
    let facing = facing(shared, asked)?;
    let upstream = shared.upstreams.of(admission.resource());
    let mut lease = upstream.lease(shared, admission, spec, demand, Reuse::Welcome).await?;
    flow.set_connector(lease.connector());
    let has_body = !body.is_end_stream();
    if has_body {
        lease.set_apart(&shared.tasks);
    }
    let (body, continued) = match has_body {
        false => (empty(), None),
        true => {
            let waits = !lease.is_h2()
                && parts
                    .headers
                    .get(EXPECT)
                    .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes()));
            let (gate, signal) = if waits { Some(Gate::new()).unzip() } else { (None, None) };
            (boxed(Inward::new(body, Arc::clone(flow), gate, shared.tasks.clone())), signal)
        }
    };
    let write = |lease: &Lease, body| {
        let headers = headers::to_upstream(&parts.headers, &facing);
        let streams = has_body && HttpBody::size_hint(&body).exact().is_none();
        let mut request = request(target, spec, lease, headers, body)?;
        if streams && !lease.is_h2() {
            // Else the library would drop the body of a method that seldom has one.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(signal) = continued.as_ref().filter(|_| !lease.is_h2()) {
            expect_continue(&mut request, signal);
        }
        Ok::<_, ForwardError>(request)
    };
    let first = write(&lease, body)?;
    let method = first.method().clone();
    let mut sent = lease.send(first).await;
    let mut attempts = 1;
    let response = loop {
        match sent {
            Ok(response) => break response,
            Err(failed) => {
                let body = failed.into_another_attempt(&method, has_body, attempts)?;
                attempts += 1;
                // An upstream that takes few requests on a connection would turn most of a crowd away
                // again and again; in the end each gets a connection of her own.
                let reuse = if attempts > 2 { Reuse::Nobodys } else { Reuse::Never };
                lease = upstream.lease(shared, admission, spec, demand, reuse).await?;
                flow.set_connector(lease.connector());
                if has_body {
                    lease.set_apart(&shared.tasks);
                }
                sent = lease.send(write(&lease, body)?).await;
            }
        }
    };
    if let Some(signal) = continued {
        // The final answer is here: a body that was not asked for until now never is.
        signal.shut();
    }
    pass(asked, demand, lease, response)
}

const CONTINUE: &str = "100-continue";

/// Asks the upstream whether it wants the body, and opens the gate when it does (RFC 9110 §10.1.1).
/// Other interim answers say nothing that a client needs, and are dropped.
fn expect_continue(request: &mut Request<Body>, signal: &Arc<Signal>) {
    request.headers_mut().insert(EXPECT, HeaderValue::from_static(CONTINUE));
    let signal = Arc::clone(signal);
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            signal.open();
        }
    });
}

/// What the upstream is told besides the request's own fields.
pub(super) fn facing<'r>(shared: &Shared, asked: &Asked<'r>) -> Result<Facing<'r>, ForwardError> {
    let Asked { admission, spec, what, .. } = asked;
    // Nobody is asserted of whom nothing is proven.
    let known = match admission.subject() {
        Some(facts) => Some(Known { facts, assertion: shared.assertions.value(facts, &admission.resource().name)? }),
        None => None,
    };
    Ok(Facing { spec, known, public_host: &what.named.public_host, ip: what.ip })
}

/// The canonical request as the connection's version of HTTP has it.
pub(super) fn request(
    target: &CanonicalTarget,
    spec: &HttpSpec,
    lease: &Lease,
    mut headers: HeaderMap,
    body: Body,
) -> Result<Request<Body>, ForwardError> {
    let method = Method::from_bytes(target.method().as_bytes()).map_err(http::Error::from)?;
    let uri = match lease.is_h2() {
        false => Uri::try_from(target.to_target()).map_err(http::Error::from)?,
        true => {
            let host = headers.remove(HOST).unwrap_or(HeaderValue::from_static(""));
            headers::only_for_connections(&mut headers);
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(match spec.scheme {
                UpstreamScheme::Http => Scheme::HTTP,
                UpstreamScheme::Https => Scheme::HTTPS,
            });
            parts.authority = Some(Authority::from_maybe_shared(host).map_err(http::Error::from)?);
            parts.path_and_query = Some(PathAndQuery::try_from(target.to_target()).map_err(http::Error::from)?);
            Uri::from_parts(parts).map_err(http::Error::from)?
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Passes an answer on.
pub(super) fn pass(
    asked: &Asked<'_>,
    demand: Demand,
    lease: Lease,
    mut response: Response<Incoming>,
) -> Result<Response<Body>, ForwardError> {
    let flow = asked.flow;
    match response.status() {
        // To a client that uses us as its proxy this would be us asking for credentials.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(ForwardError::AsksAsProxy),
        // Nobody asked for this: an answer out of turn must not be joined to anything.
        StatusCode::SWITCHING_PROTOCOLS => return Err(ForwardError::Switch),
        _ => {}
    }
    // An upstream that signs the *connection* in (NTLM, Negotiate) would take the next user for this one.
    let keep = demand == Demand::Any && !authenticates_connection(response.headers(), &WWW_AUTHENTICATE);
    headers::from_upstream(response.headers_mut(), asked.what.own_host());
    let (parts, body) = response.into_parts();
    let body = match (body.is_end_stream(), keep) {
        (true, true) => {
            body::finish(flow, lease);
            boxed(Outward::new(body, Arc::clone(flow), None))
        }
        (true, false) => {
            flow.cut().end_upload();
            boxed(Outward::new(body, Arc::clone(flow), None))
        }
        (false, true) => boxed(Outward::new(body, Arc::clone(flow), Some(lease))),
        (false, false) => boxed(Outward::new(body, Arc::clone(flow), Some(lease.for_the_last_time()))),
    };
    Ok(Response::from_parts(parts, body))
}

/// Whether a field speaks of a scheme that signs in the connection instead of the request.
fn authenticates_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    // Challenges may stand in one field, one behind the other, with any bytes in their parameters.
    let names_one = |member: &[u8]| {
        let scheme = member.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    };
    let of_connection = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(names_one);
    headers.get_all(field).iter().any(of_connection) || headers.contains_key("persistent-auth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_schemes_that_sign_in_a_connection_are_known_wherever_they_stand() {
        let of = |fields: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(field).unwrap());
            }
            authenticates_connection(&headers, &WWW_AUTHENTICATE)
        };
        for fields in [
            &[b"NTLM".as_slice()][..],
            &[b"negotiate YII="],
            &[b"Basic realm=\"x\"", b"Negotiate"],
            &[b"Basic realm=\"x\", NTLM"],
            &[b"Basic realm=\"\xe9\",\tNegotiate, Bearer"],
            &[b"NTLM \xff"],
        ] {
            assert!(of(fields), "{fields:?}");
        }
        for fields in [&[][..], &[b"Basic realm=\"NTLM\"".as_slice()], &[b"Bearer", b"Digest a=b"], &[b"NTLMv3"]] {
            assert!(!of(fields), "{fields:?}");
        }
    }
}
