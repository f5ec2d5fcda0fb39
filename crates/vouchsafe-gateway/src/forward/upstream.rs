//! Connections to upstreams, each kept for one version of one resource.
//!
//! ```text
//! HTTP/1.1   one exchange at a time; waits for its next one when both messages were whole
//! HTTP/2     many exchanges side by side, at most as many as the upstream allows, and 100
//! ```
//!
//! A connection says nothing about who asks: every request carries its own assertion, and schemes
//! that sign in a connection get one that is used once. Nothing else than the resource decides which
//! connection serves a request; a resource that changes in any way has new ones.

mod counted;
mod driver;
mod shared;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::{HttpSpec, Resource, UpstreamProtocol, UpstreamScheme, UpstreamTls};
use vouchsafe_policy::Admission;
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_runtime::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Oldest, ServerTrust, TlsError};

use crate::forward::dial::{self, DialError};
use crate::forward::http::ForwardError;
use crate::forward::reach;
use crate::forward::upstream::counted::{Counted, Received};
use crate::forward::upstream::driver::Driver;
use crate::forward::upstream::shared::{Multiplexed, Stream};
use crate::gateway::Shared;

/// How long a connection may wait. Shorter than the 60–75 s after which servers close theirs.
const IDLE: Duration = Duration::from_secs(45);
/// Most connections that wait for one resource.
const MAX_IDLE: usize = 64;
/// Most HTTP/2 connections to one resource.
const MAX_SHARED: usize = 16;
/// Most attempts to get a request to an upstream that keeps saying goodbye before it looks at it.
const MAX_ATTEMPTS: u32 = 4;

/// All upstreams that were asked for something.
#[derive(Default)]
pub(crate) struct Upstreams(RwLock<HashMap<ResourceName, Known>>);

/// A version of a resource, and its upstream.
type Known = (Arc<Resource>, Arc<Upstream>);

impl Upstreams {
    /// The upstream of exactly this version of the resource.
    pub(crate) fn of(&self, resource: &Arc<Resource>) -> Arc<Upstream> {
        if let Some((known, upstream)) = self.0.read().get(&resource.name)
            && Arc::ptr_eq(known, resource)
        {
            return Arc::clone(upstream);
        }
        let mut all = self.0.write();
        let (known, upstream) =
            all.entry(resource.name.clone()).or_insert_with(|| (Arc::clone(resource), Arc::default()));
        if **known != **resource {
            // Connections that are busy end with their exchange; nobody can find them any more.
            *upstream = Arc::default();
        }
        *known = Arc::clone(resource);
        Arc::clone(upstream)
    }

    /// Closes connections that have waited too long or are closed already, and forgets upstreams
    /// that no resource has any more.
    pub(crate) fn tidy(&self, exists: impl Fn(&ResourceName) -> bool) {
        self.0.write().retain(|name, (_, upstream)| {
            upstream.tidy();
            exists(name)
        });
    }

    /// Closes all connections that wait; busy ones end with their exchanges.
    pub(crate) fn close(&self) {
        for (_, upstream) in self.0.write().drain().map(|(_, known)| known) {
            upstream.closed.store(true, Ordering::Relaxed);
            upstream.idle.lock().clear();
            upstream.shared.lock().clear();
        }
    }
}

/// What a request demands of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Any connection will do.
    Any,
    /// One of its own: the protocol changes, or a scheme signs the connection in.
    Alone,
}

/// Whether a connection that was used before will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Yes, where there is one.
    Welcome,
    /// No: one has just failed.
    Never,
    /// No, and nobody else shares it: several have failed.
    Nobodys,
}

/// Connections to one upstream.
#[derive(Default)]
pub(crate) struct Upstream {
    tls: OnceLock<Tls>,
    idle: Mutex<Vec<Waiting>>,
    shared: Mutex<Vec<Multiplexed>>,
    /// One connection is opened at a time as long as it may turn out to be HTTP/2.
    opening: tokio::sync::Mutex<()>,
    /// The upstream chose HTTP/1.1 when it had the choice.
    chose_h1: AtomicBool,
    closed: AtomicBool,
}

/// Whether other exchanges may come onto a new connection of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    WithOthers,
    Alone,
}

struct Waiting {
    sender: SendRequest<Body>,
    driver: Driver,
    received: Arc<Received>,
    connector: Option<ConnectorId>,
    since: Instant,
}

/// TLS towards one upstream, made once.
struct Tls {
    /// Offers all that the resource allows.
    any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
}

/// The right to one exchange on a connection. When it is dropped without being given back, a
/// connection of HTTP/1.1 is closed, and a stream of HTTP/2 reset if it has not ended.
pub(crate) enum Lease {
    Alone(Alone),
    Stream(Stream),
}

pub(crate) struct Alone {
    upstream: Arc<Upstream>,
    sender: SendRequest<Body>,
    driver: Driver,
    /// Bytes that ever came on this connection.
    received: Arc<Received>,
    /// Through which it goes, when it isn't ours.
    connector: Option<ConnectorId>,
    reused: bool,
    last: bool,
}

/// An exchange failed before there was an answer.
pub(crate) struct Failed {
    pub(crate) error: ForwardError,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: Option<Request<Body>>,
    /// The upstream certainly did not act on it, or may be asked twice if the method allows that.
    pub(crate) again: Again,
}

impl Failed {
    /// The body for another attempt, where that is safe.
    pub(crate) fn into_another_attempt(
        self,
        method: &Method,
        has_body: bool,
        attempts: u32,
    ) -> Result<Body, ForwardError> {
        match (self.unsent, self.again) {
            _ if attempts >= MAX_ATTEMPTS => Err(self.error),
            (Some(unsent), _) => Ok(unsent.into_body()),
            (None, Again::Always) if !has_body => Ok(empty()),
            (None, Again::IfIdempotent) if !has_body && method.is_idempotent() && attempts == 1 => Ok(empty()),
            (None, Again::Always | Again::IfIdempotent | Again::Never) => Err(self.error),
        }
    }
}

/// Whether a request without a body may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// No.
    Never,
    /// When its method is idempotent: a connection that had waited died without a byte of an answer
    /// (RFC 9110 §9.2.2).
    IfIdempotent,
    /// Always: the upstream says that it did not look at it (RFC 9113 §6.8, §8.7).
    Always,
}

impl Lease {
    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        match self {
            Lease::Stream(stream) => stream.send(request).await,
            Lease::Alone(alone) => {
                let Alone { sender, driver, received, .. } = alone;
                let before = received.expect_answer();
                // Its turns are counted where the connection reads.
                let mut answer = pin!(unconstrained(sender.try_send_request(request)));
                let answer = poll_fn(|cx| driver.poll_with(cx, |cx| answer.as_mut().poll(cx))).await;
                received.answered();
                answer.map_err(|mut failed| {
                    let silent = alone.received.ever() == before;
                    let unsent = failed.take_message();
                    let again = if alone.reused && silent { Again::IfIdempotent } else { Again::Never };
                    Failed { error: failed.into_error().into(), unsent, again }
                })
            }
        }
    }

    /// The connector that it goes through.
    pub(crate) fn connector(&self) -> Option<ConnectorId> {
        match self {
            Lease::Alone(alone) => alone.connector,
            Lease::Stream(stream) => stream.connector(),
        }
    }

    /// From now on the connection moves by itself. Otherwise it does while this lease is used.
    pub(crate) fn set_apart(&mut self, tasks: &TaskGroup) {
        if let Lease::Alone(alone) = self {
            alone.driver.set_apart(tasks);
        }
    }

    /// Lets the connection do what it can, and then `rest`, which waits for nothing but the connection.
    pub(crate) fn poll_with<T>(&mut self, cx: &mut Context<'_>, rest: impl FnOnce(&mut Context<'_>) -> T) -> T {
        match self {
            Lease::Alone(alone) => alone.driver.poll_with(cx, rest),
            Lease::Stream(_) => rest(cx),
        }
    }

    /// Whether requests on it are those of HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(self, Lease::Stream(_))
    }

    /// The same, but no other exchange follows on a connection of HTTP/1.1.
    pub(crate) fn for_the_last_time(self) -> Self {
        match self {
            Lease::Alone(alone) => Lease::Alone(Alone { last: true, ..alone }),
            Lease::Stream(stream) => Lease::Stream(stream),
        }
    }

    /// The exchange was whole, so that another may follow.
    pub(crate) fn give_back(self) {
        let Lease::Alone(Alone { upstream, sender, mut driver, received, connector, last, .. }) = self else { return };
        driver.look();
        if last || sender.is_closed() || upstream.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut idle = upstream.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Waiting { sender, driver, received, connector, since: Instant::now() });
        }
    }
}

impl Upstream {
    /// A connection for one exchange: one that waits, or a new one.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        admission: &Admission,
        spec: &HttpSpec,
        demand: Demand,
        reuse: Reuse,
    ) -> Result<Lease, ForwardError> {
        let h1_only = match (spec.upstream_protocol, spec.scheme) {
            (UpstreamProtocol::Http1, _) | (UpstreamProtocol::Auto, UpstreamScheme::Http) => true,
            (UpstreamProtocol::Auto, UpstreamScheme::Https) => demand == Demand::Alone,
            (UpstreamProtocol::H2, _) => false,
        };
        if h1_only {
            return match self.waiting(reuse).await {
                Some(alone) => Ok(Lease::Alone(alone)),
                None => self.open(shared, admission, spec, Offer::Http1, Sharing::WithOthers).await,
            };
        }
        if reuse == Reuse::Nobodys {
            return self.open(shared, admission, spec, Offer::Any, Sharing::Alone).await;
        }
        if let Some(lease) = self.any(reuse).await {
            return Ok(lease);
        }
        if self.chose_h1.load(Ordering::Relaxed) {
            return self.open(shared, admission, spec, Offer::Any, Sharing::WithOthers).await;
        }
        let _opening = self.opening.lock().await;
        match self.any(reuse).await {
            Some(lease) => Ok(lease),
            None => self.open(shared, admission, spec, Offer::Any, Sharing::WithOthers).await,
        }
    }

    async fn any(self: &Arc<Self>, reuse: Reuse) -> Option<Lease> {
        if let Some(stream) = shared::take(&self.shared) {
            return Some(Lease::Stream(stream));
        }
        self.waiting(reuse).await.map(Lease::Alone)
    }

    /// A connection that waits, newest first.
    async fn waiting(self: &Arc<Self>, reuse: Reuse) -> Option<Alone> {
        if reuse != Reuse::Welcome {
            return None;
        }
        loop {
            let Waiting { mut sender, mut driver, received, connector, since } = self.idle.lock().pop()?;
            if since.elapsed() >= IDLE {
                continue;
            }
            driver.look();
            // A connection whose exchange was whole is ready at once, or has been closed.
            let ready = match driver {
                _ if sender.is_ready() => true,
                Driver::Task if !sender.is_closed() => sender.ready().await.is_ok(),
                Driver::Task | Driver::Exchange(_) | Driver::Over => false,
            };
            if ready {
                let upstream = Arc::clone(self);
                return Some(Alone { upstream, sender, driver, received, connector, reused: true, last: false });
            }
        }
    }

    async fn open(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        admission: &Admission,
        spec: &HttpSpec,
        offer: Offer,
        sharing: Sharing,
    ) -> Result<Lease, ForwardError> {
        if sharing == Sharing::WithOthers && self.shared.lock().len() >= MAX_SHARED {
            return Err(ForwardError::Busy);
        }
        let endpoint = || spec.upstream.to_string();
        // Boxed, since most exchanges find a connection and never come here.
        let opening = Box::pin(async {
            let stream = reach::connect(shared, admission).await?;
            let connector = stream.connector();
            match spec.scheme {
                UpstreamScheme::Http if spec.upstream_protocol == UpstreamProtocol::H2 => {
                    self.multiplexed(shared, stream, sharing, connector).await
                }
                UpstreamScheme::Http => self.alone(stream, connector).await,
                UpstreamScheme::Https => {
                    let tls = self.tls(shared, spec)?;
                    let config = match offer {
                        Offer::Any => &tls.any,
                        Offer::Http1 => &tls.http1,
                    };
                    let stream = dial::secure(stream, &spec.upstream, Arc::clone(config)).await?;
                    let chosen = stream.get_ref().1.alpn_protocol();
                    match (chosen == Some(b"h2"), spec.upstream_protocol) {
                        (true, _) => self.multiplexed(shared, stream, sharing, connector).await,
                        (false, UpstreamProtocol::H2) => Err(DialError::NoHttp2 { endpoint: endpoint() }.into()),
                        (false, UpstreamProtocol::Auto | UpstreamProtocol::Http1) => {
                            self.chose_h1.store(true, Ordering::Relaxed);
                            self.alone(stream, connector).await
                        }
                    }
                }
            }
        });
        let late = |_| DialError::TimedOut { endpoint: endpoint(), after: spec.connect_timeout };
        tokio::time::timeout(spec.connect_timeout, opening).await.map_err(late)?
    }

    async fn alone<S>(self: &Arc<Self>, stream: S, connector: Option<ConnectorId>) -> Result<Lease, ForwardError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let received = Arc::<Received>::default();
        let stream = Counted::new(stream, Arc::clone(&received));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await?;
        let (upstream, driver) = (Arc::clone(self), Driver::new(connection.with_upgrades()));
        Ok(Lease::Alone(Alone { upstream, sender, driver, received, connector, reused: false, last: false }))
    }

    async fn multiplexed<S>(
        &self,
        shared: &Arc<Shared>,
        stream: S,
        sharing: Sharing,
        connector: Option<ConnectorId>,
    ) -> Result<Lease, ForwardError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Multiplexed::start(&shared.tasks, stream, connector).await?;
        let stream = connection.first();
        if sharing == Sharing::WithOthers && !self.closed.load(Ordering::Relaxed) {
            self.shared.lock().push(connection);
        }
        Ok(Lease::Stream(stream))
    }

    /// TLS towards this upstream: its own authorities or the public ones, and our certificate for
    /// upstreams that ask who connects (SP 800-207 §3.4.1: nobody reaches them past us).
    fn tls(&self, shared: &Shared, spec: &HttpSpec) -> Result<&Tls, TlsError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let trust = match &spec.upstream_ca_pem {
            Some(pem) => ServerTrust::Roots(tls::roots(pem, "upstream_ca")?),
            None => ServerTrust::Public,
        };
        let oldest = match spec.upstream_tls {
            UpstreamTls::Tls12 => Oldest::Tls12,
            UpstreamTls::Tls13 => Oldest::Tls13,
        };
        let alpn: &[&[u8]] = match spec.upstream_protocol {
            UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
            UpstreamProtocol::Http1 => &[b"http/1.1"],
            UpstreamProtocol::H2 => &[b"h2"],
        };
        let mut any = tls::client_since(oldest, trust, None, alpn)?;
        any.client_auth_cert_resolver = shared.certificates.to_upstreams();
        let mut http1 = any.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.tls.get_or_init(|| Tls { any: Arc::new(any), http1: Arc::new(http1) }))
    }

    fn tidy(&self) {
        self.idle.lock().retain_mut(|waiting| {
            waiting.driver.look();
            waiting.since.elapsed() < IDLE && !waiting.sender.is_closed()
        });
        self.shared.lock().retain(|connection| connection.is_of_use());
    }
}

/// What is offered in a new connection's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    Any,
    Http1,
}
