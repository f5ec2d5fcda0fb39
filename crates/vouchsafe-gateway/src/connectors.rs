//! Connectors that are attached to this gateway, and streams through them (`docs/spec/connector.md`).
//!
//! A connector dials us and is then served from the other side: on its connection we are HTTP/2's client, and
//! ask by CONNECT for an upstream of its site. We ask only with an admission; what it may reach at all, it has a
//! list of its own for, which nothing here can widen.
//!
//! - `attach`: one connection of a connector, from its handshake to its end
//! - `introduce`: what it is told of gateways
//! - `relayed`: a stream through one

mod attach;
mod introduce;
mod relayed;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::header::HeaderName;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use parking_lot::Mutex;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::SiteName;
use vouchsafe_model::resource::{Endpoint, ResourceSpec};
use vouchsafe_policy::Admission;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::connect_stream::ConnectStream;
use vouchsafe_runtime::limits::CONNECT_TIMEOUT;
use vouchsafe_runtime::link::AttachedConnector;
use vouchsafe_wire::connector::{CONNECT_UDP, SITE_HEADER, udp_path};

pub(crate) use self::attach::attach;
pub(crate) use self::relayed::Relayed;
use crate::forward::dial::DialError;

/// Connections of all connectors together.
const MAX_CONNECTIONS: usize = 1_024;
/// Connections of one connector; a further one ends the oldest, which may be dead without anybody knowing.
const MAX_CONNECTIONS_OF_ONE: usize = 4;
/// Streams through one connection.
const MAX_STREAMS: usize = 512;
/// Connectors that are tried for one stream.
const MAX_ATTEMPTS: usize = 4;

/// All that are attached.
#[derive(Default)]
pub(crate) struct Connectors {
    open: Mutex<HashMap<SiteName, Vec<Arc<Connection>>>>,
    next: AtomicU64,
}

/// One connection of a connector.
struct Connection {
    number: u64,
    connector: ConnectorId,
    since: SystemTime,
    sender: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
    /// It has said goodbye, or was told to go: nothing new through it.
    leaving: AtomicBool,
    /// Fires when it must end.
    end: tokio::sync::Notify,
}

/// Why a connector opened no stream. Nothing was sent through it, so another may be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// None of that site is attached.
    #[error("no connector of the site is attached")]
    NoneAttached,
    /// All have as many streams as they may have.
    #[error("every connector of the site has too many streams open")]
    Busy,
    /// The connection broke.
    #[error("the connection of the connector {connector} broke")]
    Broken {
        connector: ConnectorId,
        #[source]
        source: h2::Error,
    },
    /// Its own list, or its resolver, says no.
    #[error("the connector {connector} refuses: {why}")]
    Refused { connector: ConnectorId, why: String },
    /// The upstream does not answer it.
    #[error("the connector {connector} does not reach the upstream: {why}")]
    Unreachable { connector: ConnectorId, why: String },
    /// It did not answer in time.
    #[error("the connector {connector} did not answer in time")]
    TimedOut { connector: ConnectorId },
}

impl Connectors {
    /// Opens a stream to the upstream of the admitted resource, through the connector of that site with the
    /// fewest. While nothing was sent, another is tried where one fails.
    pub(crate) async fn open(&self, admission: &Admission, site: &SiteName) -> Result<Relayed, DialError> {
        let (target, patience) = match &admission.resource().spec {
            ResourceSpec::Http(http) => (Target::Tcp(&http.upstream), http.connect_timeout),
            ResourceSpec::Tcp(tcp) => (Target::Tcp(&tcp.upstream), CONNECT_TIMEOUT),
            ResourceSpec::Udp(udp) => (Target::Udp(&udp.upstream), CONNECT_TIMEOUT),
            ResourceSpec::Console => return Err(DialError::NoUpstream),
        };
        let endpoint = target.endpoint();
        let until = Instant::now() + patience;
        let mut tried = Vec::new();
        let mut last = RelayError::NoneAttached;
        while tried.len() < MAX_ATTEMPTS {
            let (next, others) = match self.least(site, &tried) {
                Least::One(next, others) => (next, others),
                Least::None => break,
                Least::Busy => {
                    last = RelayError::Busy;
                    break;
                }
            };
            tried.push(next.number);
            // One that is gone without a word must leave time for the next.
            let share = until.saturating_duration_since(Instant::now()) / if others { 2 } else { 1 };
            let connector = next.connector;
            match tokio::time::timeout(share, next.stream(site, target)).await {
                Ok(Ok(relayed)) => return Ok(relayed),
                Ok(Err(error)) => last = error,
                Err(_) => last = RelayError::TimedOut { connector },
            }
            tracing::info!(%site, %endpoint, error = %last, "a connector opened no stream");
        }
        Err(DialError::Via { site: site.clone(), endpoint: endpoint.to_string(), source: last })
    }

    /// The connection with the fewest streams of those that weren't tried yet, and whether there are others.
    fn least(&self, site: &SiteName, tried: &[u64]) -> Least {
        let mut open = self.open.lock();
        let Some(of_site) = open.get_mut(site) else { return Least::None };
        let left = || {
            of_site
                .iter()
                .filter(|connection| !connection.leaving.load(Ordering::Relaxed) && !tried.contains(&connection.number))
        };
        let load = |connection: &Arc<Connection>| connection.streams.load(Ordering::Relaxed);
        let Some(least) = left().min_by_key(|connection| load(connection)).map(Arc::clone) else { return Least::None };
        if load(&least) >= MAX_STREAMS {
            return Least::Busy;
        }
        let others = left().count() > 1;
        // Counted here, under the lock, so that a crowd that comes at once is spread. And those that are even
        // take turns.
        least.streams.fetch_add(1, Ordering::Relaxed);
        of_site.rotate_left(1);
        Least::One(Counted(least), others)
    }

    /// Takes a connection in. The oldest of a connector with too many goes.
    fn enter(&self, site: &SiteName, connector: ConnectorId, sender: SendRequest<Bytes>) -> Option<Arc<Connection>> {
        let mut open = self.open.lock();
        if open.values().map(Vec::len).sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        let connection = Arc::new(Connection {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            connector,
            since: clock::now(),
            sender,
            streams: Arc::default(),
            leaving: AtomicBool::new(false),
            end: tokio::sync::Notify::new(),
        });
        let of_site = open.entry(site.clone()).or_default();
        let of_one = || of_site.iter().filter(|other| other.connector == connector);
        if of_one().count() >= MAX_CONNECTIONS_OF_ONE
            && let Some(oldest) = of_one().min_by_key(|other| other.number)
        {
            oldest.leaving.store(true, Ordering::Relaxed);
            oldest.end.notify_one();
        }
        of_site.push(Arc::clone(&connection));
        Some(connection)
    }

    fn leave(&self, site: &SiteName, connection: &Connection) {
        let mut open = self.open.lock();
        if let Some(of_site) = open.get_mut(site) {
            of_site.retain(|other| other.number != connection.number);
            if of_site.is_empty() {
                open.remove(site);
            }
        }
    }

    /// Those that are attached, each once.
    pub(crate) fn attached(&self) -> Vec<AttachedConnector> {
        let mut all: BTreeMap<ConnectorId, AttachedConnector> = BTreeMap::new();
        for connection in self.open.lock().values().flatten() {
            let (id, since) = (connection.connector, connection.since);
            let streams = u32::try_from(connection.streams.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            let one = all.entry(id).or_insert(AttachedConnector { id, since, connections: 0, streams: 0 });
            one.since = one.since.min(since);
            one.connections += 1;
            one.streams = one.streams.saturating_add(streams);
        }
        all.into_values().collect()
    }
}

/// What a connector is asked for.
#[derive(Debug, Clone, Copy)]
enum Target<'t> {
    /// The bytes of a TCP connection.
    Tcp(&'t Endpoint),
    /// UDP payloads, in capsules.
    Udp(&'t Endpoint),
}

impl<'t> Target<'t> {
    const fn endpoint(self) -> &'t Endpoint {
        match self {
            Target::Tcp(endpoint) | Target::Udp(endpoint) => endpoint,
        }
    }
}

enum Least {
    One(Counted, bool),
    Busy,
    None,
}

/// A connection with one more stream, or with the place for one.
struct Counted(Arc<Connection>);

impl std::ops::Deref for Counted {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that the stream is one of capsules (RFC 9297 §3.4).
const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");
/// Why not, in the words of RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

impl Counted {
    /// Asks for a stream to the target.
    async fn stream(self, site: &SiteName, target: Target<'_>) -> Result<Relayed, RelayError> {
        let connector = self.connector;
        let broken = |source| RelayError::Broken { connector, source };
        let opened = async {
            let mut sender = self.sender.clone().ready().await.map_err(broken)?;
            if matches!(target, Target::Udp(_)) && !sender.is_extended_connect_protocol_enabled() {
                let why = "it is of an older version, which carries no UDP".to_owned();
                return Err(RelayError::Refused { connector, why });
            }
            let (response, send) = sender.send_request(connect(site, target), false).map_err(broken)?;
            let response = response.await.map_err(broken)?;
            if response.status() == StatusCode::OK {
                return Ok(ConnectStream::new(send, response.into_body()));
            }
            let why = response.headers().get(PROXY_STATUS).and_then(|why| why.to_str().ok()).unwrap_or_default();
            let why: String = why.chars().take(200).collect();
            let why = if why.is_empty() { response.status().to_string() } else { why };
            Err(match response.status() {
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => RelayError::Unreachable { connector, why },
                _ => RelayError::Refused { connector, why },
            })
        };
        match opened.await {
            Ok(stream) => Ok(Relayed::new(stream, connector, self)),
            Err(error) => {
                // Also when it said goodbye: what it serves goes on, and nobody is sent to it any more.
                if let RelayError::Broken { source, .. } = &error
                    && !source.is_reset()
                {
                    self.leaving.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

fn connect(site: &SiteName, target: Target<'_>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    let uri = match target {
        Target::Tcp(endpoint) => Uri::builder().authority(endpoint.to_string()).build(),
        Target::Udp(endpoint) => {
            request.extensions_mut().insert(Protocol::from_static(CONNECT_UDP));
            request.headers_mut().insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
            // Here the path says where to, and the authority nothing.
            Uri::builder().scheme("https").authority("connector").path_and_query(udp_path(endpoint)).build()
        }
    };
    // All of it is of characters that may stand there.
    if let (Ok(uri), Ok(value)) = (uri, HeaderValue::from_str(site.as_str())) {
        *request.uri_mut() = uri;
        request.headers_mut().insert(HeaderName::from_static(SITE_HEADER), value);
    }
    request
}
