//! The controller's end of the control channel (`docs/spec/control-channel.md`): a port of its own, on which
//! only gateways get anywhere.
//!
//! - `strangers`: who isn't known yet has little room, and not for long
//! - `stream`: one attached gateway, and what it asks; `tell`: what it is told; `outcome`: and
//!   with the news of a change what became of it
//! - `attached`: which are, and that each is once; `connections`: what each has open
//! - `join`: how a gateway becomes one, and gets its next certificates
//! - `forwarded`: requests for our own hosts that a gateway sends on; `guard` decides on those again
//!
//! All of it is HTTP/2 on one TLS connection. Without a certificate only joining is possible; with one, the
//! certificate says which gateway it is, and each use looks whether that is still one of ours.

mod attached;
mod connections;
mod forwarded;
mod guard;
mod join;
mod outcome;
mod strangers;
mod stream;
mod tell;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::body::{self, Body};
use vouchsafe_runtime::credential::TokenVerifier;
use vouchsafe_runtime::grpc::{self, Spawn};
use vouchsafe_runtime::limits::{HANDSHAKE_TIMEOUT, MAX_HEAD_BYTES};
use vouchsafe_runtime::link::{ControlLink as _, codec};
use vouchsafe_runtime::spans::{Collector, Spans};
use vouchsafe_runtime::tls::{self, CertifiedPeer, ClientCertificates, Credentials, Shown, TlsError, proven_gateway};
use vouchsafe_runtime::{clock, link};
use vouchsafe_wire::control::message::{Down, DownKind, Era};
use vouchsafe_wire::control::{ATTACH, LEASES, frame};
use vouchsafe_wire::gateway::{CALLER_HEADER, JOIN, RENEW};
use vouchsafe_wire::spiffe::CertifiedIdentity;

pub(crate) use self::attached::Attached;
use self::connections::Connections;
use self::guard::Guard;
use self::join::MadeUp;
use self::strangers::{Stranger, Strangers};
use crate::ca::{CaError, ChannelKeys, SnapshotSigner};
use crate::context::Context;
use crate::controller::Service;
use crate::identity::rate::RateLimit;
use crate::identity::succession;
use crate::link::Link;
use crate::store::certified::Holder;
use crate::store::feed::{self, Entry, FeedReader, Since};
use crate::store::{StoreError, gateways};

/// Connections that are held at once at most, by gateways and by who isn't known yet.
pub const MAX_CONNECTIONS: usize = 4_736;
/// How long a connection may last on which no gateway was proven: it can do nothing but join.
const STRANGER: Duration = Duration::from_secs(10);
/// What the process calls itself in spans.
const SERVICE: (&str, &str) = ("vouchsafe-controller", env!("CARGO_PKG_VERSION"));
/// Requests that one gateway may have under way for its clients, besides its stream.
const MAX_STREAMS: u32 = 1_024;
/// How often to look whether the controller's certificate wants to be renewed.
const RENEW_LOOK: Duration = Duration::from_secs(3600);
/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Failure to serve gateways.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// An address can't be listened on.
    #[error("can't listen on {address} for gateways; is another program using it?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The lease is too short to be kept, or as good as none.
    #[error("a lease of {lease:?} can't be: 3 s to 1 h")]
    Lease {
        /// As asked for.
        lease: Duration,
    },
    /// No address was given.
    #[error("no address to listen on for gateways was given")]
    NoAddress,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or certificate is not usable.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS can't be set up.
    #[error("TLS for gateways can't be set up")]
    Tls(#[from] TlsError),
}

/// How gateways are served.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// Addresses to listen on for them.
    pub listen: Vec<SocketAddr>,
    /// Name or address that they are told to dial.
    pub host: String,
    /// How long they may act on what they were told without a sign of life.
    pub lease: Duration,
    /// Connections that this process can hold at once; [`MAX_CONNECTIONS`] is what it may want.
    pub connections: usize,
    /// Where spans of requests and questions go, when they are wanted.
    pub spans: Option<Collector>,
}

/// A snapshot as it goes out.
#[derive(Clone)]
struct Outgoing {
    sequence: u64,
    message: Bytes,
}

/// What all connections share.
struct Channel {
    context: Context,
    link: Arc<Link>,
    service: Arc<Service>,
    tls: RwLock<Arc<ServerConfig>>,
    /// The newest; none as long as none could be made.
    snapshots: watch::Receiver<Option<Outgoing>>,
    snapshot_point: Vec<u8>,
    /// Eras of the change feed; the last began when this process did.
    eras: Vec<Era>,
    lease: Duration,
    joins: RateLimit,
    made_up: MadeUp,
    strangers: Strangers,
    places: Arc<Semaphore>,
    connections: Connections,
    attached: Attached,
    guard: Guard,
    tokens: TokenVerifier,
    spans: Option<Arc<Spans>>,
}

/// Where gateways reach this controller, and which are attached.
pub(crate) struct Reached {
    /// Name or address that they are told to dial.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// How long they may act without a sign of life.
    pub(crate) lease: Duration,
    /// Which are attached.
    pub(crate) attached: Attached,
}

/// A gateway, as its certificate says.
#[derive(Debug, Clone, Copy)]
struct Peer {
    gateway: GatewayId,
    ip: IpAddr,
    /// Digest of its certificate.
    certificate_sha256: [u8; 32],
    not_after: SystemTime,
}

/// Listens for gateways; it serves when this returns, until the drain. Gives the addresses.
pub(crate) async fn serve(
    context: &Context,
    link: Arc<Link>,
    service: Arc<Service>,
    options: ChannelOptions,
) -> Result<Vec<SocketAddr>, ChannelError> {
    if !LEASES.contains(&options.lease) {
        return Err(ChannelError::Lease { lease: options.lease });
    }
    let connections = options.connections.min(MAX_CONNECTIONS);
    let strangers = Strangers::new(connections);
    let places = connections.saturating_sub(strangers.most());
    let mut listeners = Vec::with_capacity(options.listen.len());
    for address in &options.listen {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.map_err(|source| ChannelError::Listen { address: *address, source })?);
    }
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let port = addresses.first().ok_or(ChannelError::NoAddress)?.port();
    let keys = keys(context).await?;
    let tls = RwLock::new(configuration(context, &keys)?);
    let ChannelKeys { snapshots: signer, snapshot_point, renew_at, .. } = keys;
    let eras = feed::eras(&mut *context.store.read().await?).await?;
    let channel = Arc::new(Channel {
        context: context.clone(),
        snapshots: sign(context, &link, signer, eras.clone()),
        eras,
        guard: Guard::follow(context, &link),
        tokens: TokenVerifier::new(context.settings.issuer(), context.ca.token_keys()),
        link,
        service,
        tls,
        snapshot_point,
        lease: options.lease,
        joins: RateLimit::new(20, Duration::from_secs(3)),
        made_up: MadeUp::default(),
        strangers,
        places: Arc::new(Semaphore::new(places)),
        connections: Connections::default(),
        attached: Attached::default(),
        spans: options.spans.map(|collector| Spans::start(collector, SERVICE, &context.tasks)),
    });
    let ChannelOptions { host, lease, .. } = options;
    let attached = channel.attached.clone();
    // Served once in the life of a process.
    let _ = context.channel.set(Reached { host, port, lease, attached });
    let mut read = context.store.read().await?;
    let newest = feed::newest(&mut read).await?;
    gateways::addresses(&mut read).await?.into_iter().for_each(|ip| channel.strangers.gateway_came_from(ip));
    drop(read);
    context.tasks.spawn_vital("removed gateways", cut_removed(Arc::clone(&channel), context.store.follow(newest)));
    context.tasks.spawn_vital("controller certificate", renew(Arc::clone(&channel), renew_at));
    for listener in listeners {
        context.tasks.spawn_vital("gateways", accept(Arc::clone(&channel), listener));
    }
    Ok(addresses)
}

async fn keys(context: &Context) -> Result<ChannelKeys, CaError> {
    let now = clock::unix_seconds(clock::now());
    context.ca.channel(&context.store, &context.settings, now).await
}

fn configuration(context: &Context, keys: &ChannelKeys) -> Result<Arc<ServerConfig>, TlsError> {
    let own = Credentials { chain_pem: &keys.controller.chain_pem, key_pem: &keys.controller.key_pem };
    let gateways = ClientCertificates::OfGateways { roots_pem: &keys.gateways_pem, domain: &context.settings.domain };
    Ok(Arc::new(tls::server(Shown::load(&own)?, &gateways, &[b"h2"])?))
}

/// Signs each snapshot once, for all gateways. While none can be signed no ping is answered that wants one,
/// so gateways fail closed when their lease ends.
fn sign(context: &Context, link: &Link, signer: SnapshotSigner, eras: Vec<Era>) -> watch::Receiver<Option<Outgoing>> {
    let mut snapshots = link.snapshots();
    let domain = context.settings.domain.clone();
    let signed = move |snapshot: &link::Snapshot| -> Option<Outgoing> {
        let payload = codec::snapshot(snapshot, &domain, &eras)
            .inspect_err(|error| tracing::error!(%error, "a snapshot has no form for gateways"))
            .ok()?;
        let signed =
            signer.sign(payload).inspect_err(|error| tracing::error!(%error, "a snapshot can't be signed")).ok()?;
        let message = frame(&Down { kind: Some(DownKind::Snapshot(signed)) });
        Some(Outgoing { sequence: snapshot.sequence, message })
    };
    let first = Arc::clone(&snapshots.borrow_and_update());
    let (sender, receiver) = watch::channel(signed(&first));
    let tasks = context.tasks.clone();
    context.tasks.spawn_vital("signed snapshots", async move {
        loop {
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tasks.draining() => return,
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            if let Some(outgoing) = signed(&snapshot) {
                sender.send_replace(Some(outgoing));
            }
        }
    });
    receiver
}

/// Renews the controller's certificate in time. Open connections keep theirs.
async fn renew(channel: Arc<Channel>, mut renew_at: u64) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW_LOOK) => {}
            () = channel.context.tasks.draining() => return,
        }
        if clock::unix_seconds(clock::now()) < renew_at {
            continue;
        }
        let renewed = match keys(&channel.context).await {
            Ok(keys) => configuration(&channel.context, &keys).map(|config| (config, keys.renew_at)).ok(),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the controller's certificate can't be renewed; it is tried again");
                None
            }
        };
        if let Some((config, next)) = renewed {
            *channel.tls.write() = config;
            renew_at = next;
        }
    }
}

async fn accept(channel: Arc<Channel>, listener: TcpListener) {
    let tasks = channel.context.tasks.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.draining() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(stranger) = channel.strangers.enter(peer.ip()) else { continue };
                let channel = Arc::clone(&channel);
                tasks.spawn("gateway connection", connection(channel, stream, peer.ip(), stranger));
            }
            Err(error) => {
                tracing::warn!(%error, "a gateway could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(channel: Arc<Channel>, stream: TcpStream, ip: IpAddr, stranger: Stranger) {
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&channel.tls.read()));
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => shaken,
        () = stranger.evicted() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%ip, %error, "a peer at the gateways' port was refused in the handshake");
            return;
        }
        Err(_) => return,
    };
    let domain = &channel.context.settings.domain;
    let peer = match proven_gateway(stream.get_ref().1, domain, clock::now()) {
        Ok(proven) => proven.as_ref().and_then(|proven| Peer::of(proven, ip)),
        Err(error) => {
            tracing::info!(%ip, %error, "a peer at the gateways' port was refused");
            return;
        }
    };
    if let Some(peer) = peer {
        match join::admitted(&channel, peer).await {
            Ok(true) => {
                let held = channel.connections.enter(peer.gateway);
                channel.strangers.gateway_came_from(ip);
                drop(stranger);
                // Once more: only a removal behind this point is heard of.
                if !join::still_ours(&channel, peer.gateway).await {
                    return;
                }
                let Ok(_place) = Arc::clone(&channel.places).try_acquire_owned() else {
                    return tracing::error!(%ip, gateway = %peer.gateway, "too many gateways are connected");
                };
                tokio::select! {
                    () = exchange(channel, stream, ip, Some(peer)) => {}
                    () = held.ended() => {
                        tracing::info!(%ip, gateway = %peer.gateway, "a connection of a gateway was ended");
                    }
                }
                return;
            }
            // It is told so, where it asks.
            Ok(false) => {}
            Err(error) => {
                return tracing::error!(error = &error as &dyn std::error::Error, "a gateway can't be looked up");
            }
        }
    }
    tokio::select! {
        _ = tokio::time::timeout(STRANGER, exchange(channel, stream, ip, None)) => {}
        () = stranger.evicted() => {}
    }
}

/// Ends the connections of gateways that are removed, whatever goes on on them.
async fn cut_removed(channel: Arc<Channel>, mut feed: FeedReader) {
    let tasks = channel.context.tasks.clone();
    loop {
        let found = tokio::select! {
            found = feed.next() => found,
            () = tasks.draining() => return,
        };
        if let Err(error) = cut_these(&channel, found).await {
            tracing::error!(error = &error as &dyn std::error::Error, "removed gateways can't be read");
            tokio::time::sleep(ACCEPT_RETRY).await;
        }
    }
}

async fn cut_these(channel: &Channel, found: Result<Since, StoreError>) -> Result<(), StoreError> {
    match found? {
        Since::Rows(rows) => {
            for row in rows {
                if let Entry::Gateway(gateway) = row.entry {
                    channel.connections.end(gateway);
                }
            }
        }
        Since::Everything { .. } => {
            let mut read = channel.context.store.read().await?;
            for gateway in channel.connections.gateways() {
                if gateways::find(&mut read, &gateway).await?.is_none() {
                    channel.connections.end(gateway);
                }
            }
        }
    }
    Ok(())
}

/// Serves one connection until it ends.
async fn exchange(channel: Arc<Channel>, stream: TlsStream<TcpStream>, ip: IpAddr, peer: Option<Peer>) {
    let tasks = channel.context.tasks.clone();
    let mut builder = Builder::new(Spawn(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let service = service_fn(move |request: Request<Incoming>| {
        let channel = Arc::clone(&channel);
        async move { Ok::<_, Infallible>(answer(&channel, peer, ip, request).await) }
    });
    let mut serving = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = tasks.draining() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%ip, %error, "the connection of a gateway ended");
    }
}

async fn answer(channel: &Arc<Channel>, peer: Option<Peer>, ip: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let Some(peer) = peer else {
        return match request.uri().path() {
            JOIN => join::join(channel, ip, request).await,
            ATTACH => grpc::refusal(grpc::Status::PermissionDenied),
            _ => plain(StatusCode::UNAUTHORIZED),
        };
    };
    // A certificate proves its gateway only while it is valid, also on a connection that is older.
    if clock::now() >= peer.not_after {
        return plain(StatusCode::UNAUTHORIZED);
    }
    if request.headers().contains_key(CALLER_HEADER) {
        let method = request.method().clone();
        let answering = forwarded::answer(channel, peer.gateway, request);
        return match &channel.spans {
            None => answering.await,
            Some(spans) => Box::pin(spans.of(&method, "h2", answering, |answer| answer.status().as_u16())).await,
        };
    }
    match request.uri().path() {
        RENEW => join::renew(channel, peer, request).await,
        ATTACH => stream::attach(channel, peer, request).await,
        _ => grpc::refusal(grpc::Status::Unimplemented),
    }
}

impl Peer {
    /// The certificate that it proved.
    fn shown(&self) -> succession::Shown {
        let Self { gateway, ip: _, certificate_sha256, not_after } = *self;
        succession::Shown { holder: Holder::Gateway(gateway), sha256: certificate_sha256, not_after }
    }

    fn of(proven: &CertifiedPeer, ip: IpAddr) -> Option<Self> {
        match proven.identity {
            CertifiedIdentity::Gateway(gateway) => {
                Some(Self { gateway, ip, certificate_sha256: proven.sha256, not_after: proven.not_after })
            }
            CertifiedIdentity::Device(_) | CertifiedIdentity::Controller(_) | CertifiedIdentity::Connector(_) => None,
        }
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}
