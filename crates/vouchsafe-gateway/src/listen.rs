//! Accepts connections: limits, TLS by the name that is asked for, then HTTP.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use vouchsafe_runtime::internal::{BoxFuture, OwnHost, ProvenDevice};
use vouchsafe_runtime::limits::{
    HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE, MAX_H2_STREAMS, MAX_HEAD_BYTES,
    MAX_HEADERS,
};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use crate::gateway::Shared;
use crate::names::{Names, Site};
use crate::route::{self, Connection, Via};

/// TLS configurations by what a host name demands.
pub(crate) struct Certificates {
    /// For names that browsers use: no client certificate is asked for, so none prompts.
    pub(crate) browser: Arc<ServerConfig>,
    /// For `gw` and `api`: a device certificate is asked for.
    pub(crate) device: Arc<ServerConfig>,
}

/// Connections that are open, in all and by source.
#[derive(Debug, Default)]
pub(crate) struct Census {
    all: AtomicUsize,
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// A place in the census, given back when dropped. Everything that lives on a connection keeps it:
/// what was upgraded outlives the HTTP connection it came from.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    ip: IpAddr,
}

impl Census {
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Arc<Place>> {
        let ip = source(ip);
        let mut by_source = self.by_source.lock();
        if self.all.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            return None;
        }
        let from_here = by_source.entry(ip).or_default();
        if *from_here >= MAX_CONNECTIONS_PER_SOURCE {
            return None;
        }
        *from_here += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Place { census: Arc::clone(self), ip }))
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 subscriber has.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.census.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_source = self.census.by_source.lock();
        if let Some(count) = by_source.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.ip);
            }
        }
    }
}

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
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let ip = peer.ip().to_canonical();
        let Some(place) = shared.census.enter(ip) else {
            tracing::debug!(%ip, "too many connections; one is closed");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let serving = Arc::clone(&shared);
        shared.tasks.spawn("connection", async move {
            serve(serving, stream, ip, None, Via::Network, place).await;
        });
    }
}

/// Serves one of our own names inside a device's tunnel.
///
/// Boxed, since serving a request can lead here again.
pub(crate) fn serve_inside(
    shared: Arc<Shared>,
    stream: Upgraded,
    ip: IpAddr,
    device: ProvenDevice,
    place: Arc<Place>,
) -> BoxFuture<'static, ()> {
    Box::pin(serve(shared, TokioIo::new(stream), ip, Some(device), Via::Tunnel, place))
}

async fn serve<S>(shared: Arc<Shared>, stream: S, ip: IpAddr, tunnel: Option<ProvenDevice>, via: Via, place: Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = handshake(&shared, stream, via);
    let (stream, host, site) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return tracing::debug!(%ip, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%ip, "handshake took too long"),
    };
    let device = match (via, device_of(&stream, &shared.names)) {
        (Via::Network, Ok(device)) => device,
        (Via::Network, Err(why)) => return tracing::info!(%ip, why, "a client certificate is not a device's"),
        // Inside a tunnel the tunnel proves the device; no certificate is asked for.
        (Via::Tunnel, _) => tunnel,
    };
    let connection = Arc::new(Connection { ip, host, site, device, via, place });
    serve_http(shared, stream, connection).await;
}

#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("TLS")]
    Tls(#[from] std::io::Error),
    #[error("no name of ours was asked for")]
    Name,
}

async fn handshake<S>(shared: &Shared, stream: S, via: Via) -> Result<(TlsStream<S>, String, Site), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let host = start.client_hello().server_name().map(str::to_ascii_lowercase).ok_or(HandshakeError::Name)?;
    let site = shared.names.site(&host).ok_or(HandshakeError::Name)?;
    let config = match (&site, via) {
        (Site::Own(OwnHost::Gateway | OwnHost::Api), Via::Network) => &shared.certificates.device,
        // A tunnel inside a tunnel has no use, and would hide where a request comes from.
        (Site::Own(OwnHost::Gateway), Via::Tunnel) => return Err(HandshakeError::Name),
        (Site::Own(_) | Site::App(_) | Site::Nothing(_), _) => &shared.certificates.browser,
    };
    let stream = start.into_stream(Arc::clone(config)).await?;
    Ok((stream, host, site))
}

/// The device whose certificate was verified in this handshake.
fn device_of<S>(stream: &TlsStream<S>, names: &Names) -> Result<Option<ProvenDevice>, &'static str> {
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
    let uri = vouchsafe_runtime::tls::only_uri_name(leaf).ok_or("it has not exactly one URI name")?;
    match CertifiedIdentity::parse(&uri, names.domain()) {
        Ok(CertifiedIdentity::Device(id)) => {
            let not_after = vouchsafe_runtime::tls::not_after(leaf).ok_or("its end can't be read")?;
            Ok(Some(ProvenDevice { id, certificate_sha256: sha256(leaf), not_after }))
        }
        Ok(CertifiedIdentity::Gateway(_)) => Err("it is a gateway's"),
        Err(_) => Err("its SPIFFE id is not one of ours"),
    }
}

async fn serve_http<S>(shared: Arc<Shared>, stream: TlsStream<S>, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let tasks = shared.tasks.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        async move { Ok::<_, std::convert::Infallible>(route::handle(shared, connection, request).await) }
    });
    let io = TokioIo::new(stream);
    let result = if is_h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(InGroup(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_H2_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_frame_size(64 * 1024)
            .keep_alive_interval(std::time::Duration::from_secs(30))
            .keep_alive_timeout(std::time::Duration::from_secs(20));
        let mut serving = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = serving.as_mut() => result,
            () = tasks.draining() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .half_close(false);
        let mut serving = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            result = serving.as_mut() => result,
            () = tasks.draining() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// Runs the library's tasks (HTTP/2 streams) in our group.
#[derive(Clone)]
struct InGroup(TaskGroup);

impl<F> Executor<F> for InGroup
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn("http/2 stream", async move {
            future.await;
        });
    }
}
