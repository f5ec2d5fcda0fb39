//! Forwards a permitted HTTP request: exactly the canonical request, bodies streaming both ways.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HeaderName, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use vouchsafe_model::resource::{HttpSpec, ResourceSpec, UpstreamScheme};
use vouchsafe_policy::Permit;
use vouchsafe_runtime::body::{Body, boxed, empty};
use vouchsafe_runtime::relay::relay;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust, TlsError};

use crate::assertion::AssertionError;
use crate::forward::body::{Watched, Way};
use crate::forward::dial::{self, DialError};
use crate::forward::headers::{self, Facing};
use crate::gateway::Shared;
use crate::listen::Place;
use crate::route::Permitted;
use crate::watch::Flow;

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
    /// It did not answer in time.
    #[error("the upstream did not answer within {0:?}")]
    TimedOut(Duration),
    /// The canonical request can't be written as HTTP.
    #[error("the request can't be written")]
    Request(#[from] http::Error),
    /// Access ended before the upstream answered.
    #[error("access ended")]
    Cut,
    /// It asks for the credentials of a proxy, which only we may do.
    #[error("the upstream asks for proxy credentials (407), which are not its business")]
    AsksAsProxy,
    /// The permit is for something that has no HTTP upstream.
    #[error("this resource is no web app")]
    NotHttp,
}

/// Whether the request asks to change the protocol on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An answer.
    Answer,
    /// A WebSocket (RFC 6455 §4.1).
    WebSocket,
}

/// What goes upstream.
pub(crate) struct Forward<'r> {
    pub(crate) public_host: &'r str,
    pub(crate) ip: IpAddr,
    pub(crate) wanted: Wanted,
    /// The client's place among all connections; a WebSocket keeps it.
    pub(crate) place: Arc<Place>,
}

/// Sends the permitted request and returns the answer, its body still streaming.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    permitted: &Permitted,
    what: Forward<'_>,
    mut incoming: Request<Body>,
) -> Result<Response<Body>, ForwardError> {
    let (permit, flow) = (permitted.permit(), permitted.flow());
    let (ResourceSpec::Http(spec), Some(target)) = (&permit.resource().spec, permitted.target()) else {
        return Err(ForwardError::NotHttp);
    };
    let client_side = (what.wanted == Wanted::WebSocket).then(|| hyper::upgrade::on(&mut incoming));
    let (parts, body) = incoming.into_parts();
    let facing = Facing {
        spec,
        facts: permit.subject(),
        assertion: shared.assertions.value(permit)?,
        public_host: what.public_host,
        ip: what.ip,
    };
    let mut headers = headers::to_upstream(&parts.headers, &facing);
    let body = match what.wanted {
        Wanted::Answer => boxed(Watched::new(body, Way::Inward, Arc::clone(flow))),
        Wanted::WebSocket => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            empty()
        }
    };
    let mut request = Request::builder()
        .method(target.method())
        .uri(target.to_target().parse::<Uri>().map_err(http::Error::from)?)
        .body(body)?;
    *request.headers_mut() = headers;
    let shares_connection = !authenticates_connection(request.headers(), &AUTHORIZATION);
    let exchange = exchange(shared, permit, spec, request);
    let (mut response, sender) = tokio::select! {
        result = exchange => result?,
        () = silent(flow, spec.response_timeout) => return Err(ForwardError::TimedOut(spec.response_timeout)),
        () = flow.cut().cancelled() => return Err(ForwardError::Cut),
    };
    if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // To a client that uses us as its proxy this would be us asking for credentials.
        return Err(ForwardError::AsksAsProxy);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(shared, flow, client_side, response, what.place);
    }
    // An upstream that signs the *connection* in (NTLM, Negotiate) would take the next user for this one.
    let shares_connection = shares_connection && !authenticates_connection(response.headers(), &WWW_AUTHENTICATE);
    headers::from_upstream(response.headers_mut());
    let (pool, resource) = (Arc::clone(shared), Arc::clone(permit.resource()));
    let give_back = move || {
        if shares_connection {
            pool.pool.give_back(resource, sender);
        }
    };
    if response.body().is_end_stream() {
        give_back();
        return Ok(response.map(|body| boxed(Watched::new(body, Way::Outward, Arc::clone(flow)))));
    }
    Ok(response.map(|body| boxed(Watched::new(body, Way::Outward, Arc::clone(flow)).on_end(give_back))))
}

/// Resolves when nothing has been sent upstream for that long: an upload may take its time, an
/// upstream that has it all may not.
async fn silent(flow: &Flow, patience: Duration) {
    let mut sent = flow.traffic().inward.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(patience).await;
        let now = flow.traffic().inward.load(Ordering::Relaxed);
        if now == sent {
            return;
        }
        sent = now;
    }
}

/// Whether a field speaks of a scheme that signs in the connection instead of the request.
fn authenticates_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    let of_connection = |value: &HeaderValue| {
        let scheme = value.to_str().unwrap_or_default().split([' ', ',']).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("ntlm") || scheme.eq_ignore_ascii_case("negotiate")
    };
    headers.get_all(field).iter().any(of_connection) || headers.contains_key("persistent-auth")
}

/// One exchange, on a waiting connection where there is one. A request is sent a second time only
/// when the library gives it back untouched.
async fn exchange(
    shared: &Arc<Shared>,
    permit: &Permit,
    spec: &HttpSpec,
    mut request: Request<Body>,
) -> Result<(Response<Incoming>, SendRequest<Body>), ForwardError> {
    if let Some(mut sender) = shared.pool.take(permit.resource()) {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, sender)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(error.into_error().into()),
            },
        }
    }
    let mut sender = open(shared, permit, spec).await?;
    let response = sender.send_request(request).await?;
    Ok((response, sender))
}

async fn open(shared: &Arc<Shared>, permit: &Permit, spec: &HttpSpec) -> Result<SendRequest<Body>, ForwardError> {
    let stream = dial::connect(permit, &shared.own_ports).await?;
    match spec.scheme {
        UpstreamScheme::Http => handshake(shared, stream).await,
        UpstreamScheme::Https => {
            let config = Arc::new(upstream_tls(shared, spec)?);
            handshake(shared, dial::secure(stream, &spec.upstream, config).await?).await
        }
    }
}

async fn handshake<S>(shared: &Arc<Shared>, stream: S) -> Result<SendRequest<Body>, ForwardError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(vouchsafe_runtime::limits::MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    shared.tasks.spawn("upstream connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// TLS towards one upstream: its own authorities or the public ones, and our certificate for
/// upstreams that ask who connects (SP 800-207 §3.4.1: nobody reaches them past us).
fn upstream_tls(shared: &Shared, spec: &HttpSpec) -> Result<rustls::ClientConfig, TlsError> {
    let trust = match &spec.upstream_ca_pem {
        Some(pem) => ServerTrust::Roots(tls::roots(pem, "upstream_ca")?),
        None => ServerTrust::Public,
    };
    let identity = Credentials { chain_pem: &shared.client_chain_pem, key_pem: &shared.client_key_pem };
    tls::client(trust, Some(&identity), &[b"http/1.1"])
}

/// Passes a change of protocol on, and joins the two connections.
fn switch(
    shared: &Arc<Shared>,
    flow: &Arc<Flow>,
    client_side: Option<hyper::upgrade::OnUpgrade>,
    mut response: Response<Incoming>,
    place: Arc<Place>,
) -> Result<Response<Body>, ForwardError> {
    let is_websocket = header_is(response.headers(), "websocket");
    let (Some(client_side), true) = (client_side, is_websocket) else {
        // Nobody asked for this: an answer out of turn must not be joined to anything.
        return Err(ForwardError::NotHttp);
    };
    let upstream_side = hyper::upgrade::on(&mut response);
    let (tasks, flow) = (shared.tasks.clone(), Arc::clone(flow));
    tasks.spawn("websocket", async move {
        let joined = async {
            let (client, upstream) = tokio::try_join!(client_side, upstream_side)?;
            relay(TokioIo::new(client), TokioIo::new(upstream), flow.traffic()).await?;
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        };
        tokio::select! {
            result = joined => flow.set_detail(match result {
                Ok(()) => "closed".to_owned(),
                Err(error) => format!("broke off: {error}"),
            }),
            () = flow.cut().cancelled() => {}
        }
        drop(place);
    });
    headers::from_upstream(response.headers_mut());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response.map(|_| empty()))
}

fn header_is(headers: &HeaderMap, protocol: &str) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
}
