//! The gateway as a whole: what it is given, what its parts share, how it starts.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::internal::InternalService;
use vouchsafe_runtime::link::{ControlLink, GatewayIdentity, LinkError, RecordBatch};
use vouchsafe_runtime::resolve::Resolver;
use vouchsafe_runtime::spans::{Collector, Spans};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::TlsError;
use vouchsafe_runtime::vitals::Vitals;

use crate::acme_http;
use crate::assertion::{AssertionError, AssertionSigner};
use crate::authenticate::Authenticator;
use crate::certificates::{self, BrowserCertificate, Certificates};
use crate::connectors::Connectors;
use crate::decide::{self, Current};
use crate::facts::Facts;
use crate::forward::upstream::Upstreams;
use crate::listen::{self, Census, ConnectionLimits, Turnstile};
use crate::names::Names;
use crate::proxies::{Proxies, Proxy};
use crate::record::{Finisher, Recorder};
use crate::sign_in::step_up::Drafts;
use crate::spool::SpoolError;
use crate::strangers::{self, Strangers};
use crate::vitals::{Attending, Counts, GatewayVitals};
use crate::watch::{self, Watch};

/// What a gateway is started with.
pub struct Options {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Port under which clients reach us, when it is not the one we listen on (port mapping).
    pub public_port: Option<u16>,
    /// Directory for the audit spool.
    pub spool: PathBuf,
    /// Certificate for browsers; our own when there is none.
    pub browser_certificate: Option<BrowserCertificate>,
    /// How many connections are held.
    pub connections: ConnectionLimits,
    /// Whether HTTP/3 is served, on the UDP port of the same number.
    pub http3: Http3,
    /// Addresses on which a public authority's questions over HTTP are answered.
    pub acme_http: Vec<SocketAddr>,
    /// Where spans of requests go, when they are wanted.
    pub spans: Option<Collector>,
    /// Existing proxies that may ask for others.
    pub proxies: Vec<Proxy>,
}

/// Whether HTTP/3 is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Http3 {
    /// It is, and browsers are told so (Alt-Svc, RFC 7838).
    #[default]
    Served,
    /// It is not.
    Off,
}

/// What the process calls itself in spans.
const SERVICE: (&str, &str) = ("vouchsafe-gateway", env!("CARGO_PKG_VERSION"));
/// First and longest pause until the controller is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Failure to start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address can't be listened on.
    #[error("can't listen on {address}; is another program using it? choose another with `--port`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A UDP port can't be listened on.
    #[error("can't listen on {address} (UDP) for HTTP/3; is another program using it? go without by `--no-http3`")]
    ListenUdp {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No address was given.
    #[error("no address to listen on was given")]
    NoAddress,
    /// A certificate or key is not usable.
    #[error("TLS can't be set up")]
    Tls(#[from] TlsError),
    /// The audit spool is not usable.
    #[error("the audit spool can't be opened")]
    Spool(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The assertion key is not usable.
    #[error("the assertion key can't be used")]
    Assertion(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The controller does not answer.
    #[error("the controller does not answer")]
    Link(#[from] LinkError),
    /// No policy engine could be made.
    #[error("no policy engine could be made of the first snapshot")]
    Policy,
}

impl From<SpoolError> for GatewayError {
    fn from(error: SpoolError) -> Self {
        GatewayError::Spool(Box::new(error))
    }
}

impl From<AssertionError> for GatewayError {
    fn from(error: AssertionError) -> Self {
        GatewayError::Assertion(Box::new(error))
    }
}

/// What the parts of the gateway share.
pub(crate) struct Shared {
    pub(crate) names: Names,
    pub(crate) link: Arc<dyn ControlLink>,
    pub(crate) service: Arc<dyn InternalService>,
    pub(crate) tasks: TaskGroup,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) authenticator: Authenticator,
    pub(crate) facts: Arc<Facts>,
    pub(crate) current: Arc<Current>,
    pub(crate) recorder: Recorder,
    pub(crate) strangers: Strangers,
    pub(crate) watch: Watch,
    pub(crate) counts: Arc<Counts>,
    pub(crate) drafts: Drafts,
    pub(crate) assertions: AssertionSigner,
    pub(crate) upstreams: Upstreams,
    pub(crate) connectors: Arc<Connectors>,
    pub(crate) census: Arc<Census>,
    /// Tells browsers where HTTP/3 is served, when it is.
    pub(crate) alt_svc: Option<HeaderValue>,
    pub(crate) turnstile: Turnstile,
    pub(crate) resolver: Resolver,
    /// Ports under which this gateway is reached; no upstream on loopback can have one.
    pub(crate) own_ports: Vec<u16>,
    pub(crate) spans: Option<Arc<Spans>>,
    pub(crate) proxies: Proxies,
}

/// A running gateway.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    certificates: Arc<Certificates>,
    finisher: Finisher,
    vitals: Arc<GatewayVitals>,
}

/// Replaces the certificate that browsers see, while the gateway serves.
#[derive(Clone)]
pub struct BrowserCertificateSlot(Arc<Certificates>);

impl BrowserCertificateSlot {
    /// Shows another certificate from the next handshake on. Open connections go on.
    ///
    /// # Errors
    /// [`TlsError`]: chain and key can't be used or don't belong together; the one before stays.
    pub fn replace(&self, given: &BrowserCertificate) -> Result<(), TlsError> {
        self.0.replace_operators(given)
    }
}

impl Gateway {
    /// Starts a gateway in `tasks`; it serves when this returns, and stops with the group.
    ///
    /// # Errors
    /// [`GatewayError`] when it can't serve; nothing is left running then but the caller's group.
    pub async fn start(
        options: Options,
        identity: GatewayIdentity,
        link: Arc<dyn ControlLink>,
        service: Arc<dyn InternalService>,
        tasks: &TaskGroup,
    ) -> Result<Self, GatewayError> {
        let listeners = bind(&options.listen).await?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let own_port = addresses.first().ok_or(GatewayError::NoAddress)?.port();
        let public_port = options.public_port.unwrap_or(own_port);
        let (datagrams, alt_svc) = match options.http3 {
            Http3::Served => (bind_udp(&addresses)?, alt_svc(public_port)),
            Http3::Off => (Vec::new(), None),
        };
        let for_questions = bind(&options.acme_http).await?;
        let received = link.certificates();
        let certificates =
            Arc::new(Certificates::new(&identity, received.clone(), options.browser_certificate.as_ref())?);
        // Subscribed before anything is read, so that no change falls in between.
        let news = link.news();
        let first = Arc::clone(&link.snapshots().borrow());
        let engine = decide::compile(&first, None).ok_or(GatewayError::Policy)?;
        // What the controller knows of this gateway's records decides where numbering goes on.
        let known = records_known(&*link, identity.id, tasks).await?;
        let recorder = Recorder::start(&options.spool, identity.id, known, Arc::clone(&link), tasks)?;
        let finisher = recorder.finisher();
        let (facts, current) = (Arc::new(Facts::new(Arc::clone(&link))), Arc::new(Current::new(engine)));
        let watch = Watch::new(Arc::clone(&facts), Arc::clone(&current), Arc::clone(&link), first.sequence);
        let connectors = Arc::<Connectors>::default();
        let counts = Arc::default();
        let attending = Attending { connectors: Arc::clone(&connectors), counts: Arc::clone(&counts) };
        link.attends(identity.id, Arc::new(attending));
        let shared = Arc::new(Shared {
            names: Names::new(identity.domain, public_port),
            authenticator: Authenticator::new(identity.issuer.clone(), &identity.token_keys),
            facts,
            assertions: AssertionSigner::new(identity.issuer, &identity.assertion_key_pem, identity.assertion_kid)?,
            current,
            watch,
            counts,
            drafts: Drafts::default(),
            upstreams: Upstreams::default(),
            connectors,
            census: Arc::new(Census::new(options.connections)),
            turnstile: Turnstile::new(std::thread::available_parallelism().map_or(1, NonZero::get)),
            resolver: Resolver::default(),
            alt_svc,
            own_ports: addresses.iter().map(SocketAddr::port).chain(options.public_port).collect(),
            tasks: tasks.clone(),
            link,
            service,
            certificates: Arc::clone(&certificates),
            recorder,
            strangers: Strangers::new(std::time::Instant::now()),
            spans: options.spans.map(|collector| Spans::start(collector, SERVICE, tasks)),
            proxies: Proxies::new(options.proxies),
        });
        let vitals = Arc::new(GatewayVitals(Arc::clone(&shared)));
        tasks.spawn_vital("changes", watch::follow_news(shared.watch.clone(), tasks.clone(), news));
        tasks.spawn_vital("silence", watch::follow_silence(shared.watch.clone(), tasks.clone()));
        tasks.spawn_vital("snapshots", watch::follow_snapshots(shared.watch.clone(), tasks.clone()));
        tasks.spawn_vital("denials", strangers::record_counts(Arc::clone(&shared)));
        tasks.spawn_vital("shown certificates", certificates::follow(Arc::clone(&shared), received));
        tasks.spawn_vital("pool", tidy(Arc::clone(&shared)));
        for listener in for_questions {
            tasks.spawn_vital("acme http", acme_http::accept(Arc::clone(&shared), listener));
        }
        for listener in listeners {
            tasks.spawn_vital("listener", listen::accept(Arc::clone(&shared), listener));
        }
        for socket in datagrams {
            tasks.spawn_vital("quic listener", listen::quic::accept(Arc::clone(&shared), socket));
        }
        Ok(Self { addresses, certificates, finisher, vitals })
    }

    /// Addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where to replace the certificate that browsers see.
    #[must_use]
    pub fn browser_certificate(&self) -> BrowserCertificateSlot {
        BrowserCertificateSlot(Arc::clone(&self.certificates))
    }

    /// How it is, for those who run it.
    #[must_use]
    pub fn vitals(&self) -> Arc<dyn Vitals> {
        Arc::clone(&self.vitals) as Arc<dyn Vitals>
    }

    /// Waits, a few seconds at most, until the last audit records are on disk. To be called after
    /// the shutdown of the group that the gateway was started in: cutting a flow makes a record.
    pub async fn finish(self) {
        self.finisher.finish().await;
    }
}

/// How far the controller has this gateway's records. The channel may be lost just now, so it is asked until it
/// answers or the process is told to end.
async fn records_known(link: &dyn ControlLink, id: GatewayId, tasks: &TaskGroup) -> Result<u64, LinkError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match link.deliver(id, RecordBatch::default()).await {
            Ok(known) => return Ok(known),
            Err(error) => error,
        };
        tracing::warn!(%error, "the controller doesn't say which records it has; it is asked again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tasks.draining() => return Err(error),
            () = tasks.failed() => return Err(error),
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, GatewayError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener =
            TcpListener::bind(address).await.map_err(|source| GatewayError::Listen { address: *address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The UDP ports beside the TCP ports that are listened on.
fn bind_udp(addresses: &[SocketAddr]) -> Result<Vec<std::net::UdpSocket>, GatewayError> {
    let bind = |address: &SocketAddr| {
        listen::quic::bind(*address).map_err(|source| GatewayError::ListenUdp { address: *address, source })
    };
    addresses.iter().map(bind).collect()
}

fn alt_svc(port: u16) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma=3600")).ok()
}

/// Closes upstream connections that have waited too long.
async fn tidy(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(15));
    loop {
        tokio::select! {
            _ = every.tick() => {
                let engine = shared.current.engine();
                shared.upstreams.tidy(|name| engine.resource(name).is_some());
            }
            () = shared.tasks.draining() => return shared.upstreams.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PoorLink;

    /// Once, a gateway ended when it lost its controller between the first snapshot and the first question.
    #[tokio::test(start_paused = true)]
    async fn a_start_goes_on_once_the_controller_answers_or_ends_when_told_to() {
        let (tasks, id) = (TaskGroup::new(), GatewayId::from_random([1; 16]));
        let link = PoorLink { failing: 20.into(), ..PoorLink::default() };
        assert_eq!(records_known(&link, id, &tasks).await.unwrap(), 7);
        let link = PoorLink { failing: u64::MAX.into(), ..PoorLink::default() };
        let (known, _) = tokio::join!(records_known(&link, id, &tasks), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            tasks.shut_down(Duration::from_secs(1)).await
        });
        assert!(known.is_err());
    }
}
