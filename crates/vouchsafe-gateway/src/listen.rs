//! Accepts connections: limits, TLS by the name that is asked for, then HTTP.

mod activity;
mod bucket;
mod census;
mod frames;
mod guarded;
mod handshake;
mod http;
pub(crate) mod quic;
mod tended;
mod turnstile;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use vouchsafe_model::address;
use vouchsafe_runtime::internal::{BoxFuture, ProvenDevice};
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::read_ahead::ReadAhead;
use vouchsafe_runtime::tls::Negotiated;

use self::handshake::Shaken;
use crate::connectors;
use crate::decide::Shown;
use crate::gateway::Shared;
use crate::route::{Connection, Familiar, Via};
use crate::take_up::Stream;

pub use census::ConnectionLimits;
pub(crate) use census::{Census, Owner, Place, Refused, source};
pub(crate) use frames::{Metered, Requests};
pub(crate) use guarded::Framing;
pub(crate) use turnstile::Turnstile;

/// How long nothing is accepted after the system could not give a connection (A183).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After how much silence a client is asked whether it still exists.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Accepts until the drain begins. A failure to accept never ends the loop (A183).
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.tasks.draining() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.census.not_accepted(&error, Instant::now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ip = address::of_client(peer.ip());
        let Some(place) = shared.census.enter(ip, Instant::now()) else {
            tracing::debug!(%ip, "too many connections; one is closed");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let serving = Arc::clone(&shared);
        shared.tasks.spawn("connection", async move {
            serve(serving, ReadAhead::new(stream), ip, None, Via::Network, place).await;
        });
    }
}

/// Serves one of our own names inside a device's tunnel.
///
/// Boxed, since serving a request can lead here again.
pub(crate) fn serve_inside(
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    ip: IpAddr,
    device: ProvenDevice,
    place: Arc<Place>,
) -> BoxFuture<'static, ()> {
    Box::pin(serve(shared, stream, ip, Some(device), Via::Tunnel, place))
}

async fn serve<S>(shared: Arc<Shared>, stream: S, ip: IpAddr, tunnel: Option<ProvenDevice>, via: Via, place: Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Boxed each, since a connection's task is as large as the largest thing it ever does.
    let handshake = shared.turnstile.pass(handshake::handshake(&shared, stream, via));
    let (stream, host, site) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(Shaken::Client(stream, host, site))) => (stream, host, site),
        Ok(Ok(Shaken::Connector(stream))) => {
            // It has limits of its own from here on.
            drop(place);
            return Box::pin(connectors::attach(shared, stream, ip)).await;
        }
        Ok(Err(error)) => return told(ip, &error),
        Err(_) => return tracing::debug!(%ip, "handshake took too long"),
    };
    let device = match (via, handshake::device_of(&stream, &shared.names)) {
        (Via::Network, Ok(device)) => device,
        (Via::Network, Err(why)) => return tracing::info!(%ip, %why, "a client certificate is refused"),
        // Inside a tunnel the tunnel proves the device; no certificate is asked for.
        (Via::Tunnel, _) => tunnel,
    };
    place.arrived(device.as_ref().map(|device| device.id));
    let tls = Negotiated::of(stream.get_ref().1);
    tracing::debug!(%ip, %host, %tls, "handshake done");
    let shown = Shown::new(ip, tls);
    let (framing, familiar) = (Arc::default(), Familiar::default());
    let connection = Arc::new(Connection { ip, host, site, device, via, place, shown, framing, familiar });
    http::serve(shared, stream, connection).await;
}

/// Handshakes fail all day for no reason of ours; that somebody shows a certificate that is refused
/// is worth a line.
fn told(ip: IpAddr, error: &handshake::HandshakeError) {
    match error.refusal() {
        Some(why) => tracing::info!(%ip, %why, "a client certificate is refused"),
        None => tracing::debug!(%ip, error = error as &dyn std::error::Error, "handshake failed"),
    }
}
