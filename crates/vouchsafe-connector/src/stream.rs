//! One target, asked for by a gateway: checked against the connector's own list, looked up and dialled here,
//! and bytes or datagrams both ways until either side ends it. A cut on one side is a reset on the other, at once.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::header::HeaderName;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UdpSocket};
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::resource::{Endpoint, UpstreamHost};
use vouchsafe_runtime::connect_stream::ConnectStream;
use vouchsafe_runtime::limits::CONNECT_TIMEOUT;
use vouchsafe_runtime::relay::{Traffic, relay};
use vouchsafe_wire::connector::{CONNECT_UDP, SITE_HEADER, udp_target};

use crate::allow::{Refused, Transport};
use crate::connector::Shared;
use crate::datagrams;

/// Why not, in the words of RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why a target isn't opened.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("this is no CONNECT to a host and port, by TCP or UDP")]
    Malformed,
    #[error("the list of gateways does not have it")]
    NoGateway,
    #[error("it is meant for another site")]
    OtherSite,
    #[error("too many streams are open")]
    Busy,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the name can't be looked up")]
    Lookup(#[source] io::Error),
    #[error("nothing accepts the connection")]
    Connect(#[source] io::Error),
    #[error("nothing answers in time")]
    TimedOut,
}

impl Failure {
    /// Status, and the type of error of RFC 9209 §2.3.
    fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Failure::Malformed => (StatusCode::BAD_REQUEST, "http_request_error"),
            Failure::OtherSite => (StatusCode::MISDIRECTED_REQUEST, "http_request_denied"),
            Failure::NoGateway => (StatusCode::FORBIDDEN, "http_request_denied"),
            Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            Failure::Refused(Refused::NotListed) => (StatusCode::FORBIDDEN, "http_request_denied"),
            Failure::Refused(Refused::Never(_)) => (StatusCode::FORBIDDEN, "destination_ip_prohibited"),
            Failure::Lookup(_) => (StatusCode::BAD_GATEWAY, "dns_error"),
            Failure::Connect(_) => (StatusCode::BAD_GATEWAY, "connection_refused"),
            Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        }
    }
}

/// Serves one stream to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    gateway: GatewayId,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let opened = tokio::select! {
        opened = open(&shared, gateway, &request) => opened,
        // The gateway doesn't want it any more: nothing is dialled for nobody.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let mut response = Response::new(());
    let (upstream, _place) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            let target = match request.extensions().get::<Protocol>() {
                None => request.uri().authority().map_or("", |authority| authority.as_str()),
                Some(_) => request.uri().path(),
            };
            let error = &failure as &dyn std::error::Error;
            match &failure {
                // What a gateway asks for and must not have is worth a look: at the list, or at the gateway.
                Failure::Malformed | Failure::NoGateway | Failure::OtherSite | Failure::Refused(_) => {
                    tracing::warn!(%gateway, ?target, error, "a gateway asks for what it can't have");
                }
                Failure::Busy | Failure::Lookup(_) | Failure::Connect(_) | Failure::TimedOut => {
                    tracing::info!(%gateway, ?target, error, "a target is not reached");
                }
            }
            let (status, kind) = failure.answer();
            *response.status_mut() = status;
            let words = format!("vouchsafe-connector; error={kind}; details=\"{failure}\"");
            if let Ok(value) = HeaderValue::from_str(&words) {
                response.headers_mut().insert(PROXY_STATUS, value);
            }
            // Nobody may be there to hear it.
            let _ = respond.send_response(response, true);
            return;
        }
    };
    let Ok(send) = respond.send_response(response, false) else { return };
    let stream = ConnectStream::new(send, request.into_body());
    match upstream {
        Upstream::Tcp(upstream) => bytes(stream, upstream).await,
        Upstream::Udp(upstream) => datagrams::pass(stream, &upstream).await,
    }
}

async fn bytes(mut stream: ConnectStream, mut upstream: TcpStream) {
    let (reset, traffic) = (stream.reset(), Traffic::default());
    let whole = tokio::select! {
        passed = relay(&mut stream, &mut upstream, &traffic) => passed.is_ok(),
        () = reset => false,
    };
    if !whole {
        // A reset instead of an orderly end: the upstream must not take a cut or broken stream for a whole one.
        let _ = SockRef::from(&upstream).set_linger(Some(Duration::ZERO));
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// An open way to a target.
enum Upstream {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

async fn open(
    shared: &Shared,
    gateway: GatewayId,
    request: &Request<RecvStream>,
) -> Result<(Upstream, Place), Failure> {
    if !shared.rosters.believes(gateway) {
        return Err(Failure::NoGateway);
    }
    let (transport, target) = asked(request).ok_or(Failure::Malformed)?;
    let site = request.headers().get(SITE_HEADER).map(HeaderValue::as_bytes);
    if site != Some(shared.state.member().site.as_str().as_bytes()) {
        return Err(Failure::OtherSite);
    }
    let place = Arc::clone(&shared.places).try_acquire_owned().map_err(|_| Failure::Busy)?;
    let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial(shared, transport, &target));
    Ok((dialled.await.map_err(|_| Failure::TimedOut)??, place))
}

/// What a gateway asks for.
fn asked(request: &Request<RecvStream>) -> Option<(Transport, Endpoint)> {
    if request.method() != Method::CONNECT {
        return None;
    }
    match request.extensions().get::<Protocol>().map(Protocol::as_str) {
        None => Some((Transport::Tcp, Endpoint::parse(request.uri().authority()?.as_str()).ok()?)),
        Some(CONNECT_UDP) => Some((Transport::Udp, udp_target(request.uri().path())?)),
        Some(_) => None,
    }
}

async fn dial(shared: &Shared, transport: Transport, target: &Endpoint) -> Result<Upstream, Failure> {
    let found: Vec<IpAddr> = match &target.host {
        UpstreamHost::Ip(address) => vec![*address],
        UpstreamHost::Name(name) if !shared.allow.may_look_up(transport, target.port, name) => {
            return Err(Refused::NotListed.into());
        }
        // `localhost` names this machine in words and needs no resolver (RFC 6761 §6.3).
        UpstreamHost::Name(name) if name == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        UpstreamHost::Name(name) => shared.resolver.look_up(name).await.map_err(Failure::Lookup)?,
    };
    let mut last = Failure::Connect(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in found {
        // What is dialled is what was checked.
        if let Err(refused) = shared.allow.check(transport, &target.host, address, target.port) {
            last = refused.into();
            continue;
        }
        let address = SocketAddr::new(address, target.port);
        let opened = match transport {
            Transport::Tcp => TcpStream::connect(address).await.map(Upstream::Tcp),
            Transport::Udp => vouchsafe_runtime::datagrams::connected(address).map(Upstream::Udp),
        };
        match opened {
            Ok(upstream) => {
                if let Upstream::Tcp(stream) = &upstream {
                    let _ = stream.set_nodelay(true);
                    // A peer that is gone without a word is noticed within minutes.
                    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
                    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
                }
                return Ok(upstream);
            }
            Err(error) => last = Failure::Connect(error),
        }
    }
    Err(last)
}
