//! Tunnels: CONNECT streams on a few shared HTTP/2 connections that prove this device.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use vouchsafe_runtime::internal::{BoxFuture, OwnHost};
use vouchsafe_runtime::limits::MAX_H2_STREAMS;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::authority::{ANY_PORT, ANY_PORT_HEADER, UDP_PATH};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;
use vouchsafe_wire::would_deny::{WOULD_DENY_HEADER, WouldDeny};

use crate::device::{Certified, Device, DeviceError};
use crate::exchange::Refusal;
use crate::session::{Session, SessionError};

/// Window of one stream, bytes: what may be under way before the far end has read it.
const STREAM_WINDOW: u32 = 2 << 20;
/// Window of one connection, bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_FRAME: u32 = 64 << 10;
/// Tunnels on one connection; a few less than the gateway allows, so that none ever queues.
const TUNNELS_PER_CONNECTION: usize = MAX_H2_STREAMS as usize - 28;
/// Connections to the gateway; more tunnels than fit are refused here.
const MAX_CONNECTIONS: usize = 16;
/// A silent connection is asked for a sign of life after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Longest wait for the gateway's answer to a CONNECT: it dials the resource in that time.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// How long a person isn't asked again to prove who she is.
const STEP_UP_PAUSE: Duration = Duration::from_secs(60);
/// Longest refusal that is read, bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// What a tunnel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Bytes,
    Datagrams,
}

/// Which port of a resource is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Number(u16),
    /// Whatever port the resource has.
    Any,
}

impl Port {
    /// What stands in the target; a CONNECT can't be without (RFC 9110 §9.3.6).
    const fn in_target(self) -> u16 {
        match self {
            Port::Number(port) => port,
            Port::Any => 443,
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Port::Number(port) => write!(f, "{port}"),
            Port::Any => f.write_str("its own port"),
        }
    }
}

/// Failure to open a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The gateway refused, and says why.
    #[error(transparent)]
    Refused(Refusal),
    /// The gateway can't be reached, or does not take this device.
    #[error(transparent)]
    Gateway(#[from] DeviceError),
    /// The last attempt to reach the gateway failed a moment ago; the next is due soon.
    #[error("the gateway could not be reached a moment ago")]
    BackingOff,
    /// The connection to the gateway broke while the tunnel was being opened.
    #[error("the connection to the gateway broke")]
    Broken(#[source] hyper::Error),
    /// The gateway did not answer in time.
    #[error("the gateway did not answer within {} s", OPEN_PATIENCE.as_secs())]
    TimedOut,
    /// No access token could be had.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The name or port can't stand in a CONNECT.
    #[error("`{authority}` can't be asked for")]
    Authority {
        /// As asked for.
        authority: String,
    },
    /// All connections are full.
    #[error("{} tunnels are open already", MAX_CONNECTIONS * TUNNELS_PER_CONNECTION)]
    Full,
}

impl OpenError {
    /// Whether it is the gateway that could not be reached.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            OpenError::Gateway(error) | OpenError::Session(SessionError::Refresh(error)) => error.is_unreachable(),
            OpenError::BackingOff | OpenError::Broken(_) | OpenError::TimedOut => true,
            OpenError::Refused(_) | OpenError::Session(_) | OpenError::Authority { .. } | OpenError::Full => false,
        }
    }
}

/// Has the person prove anew who she is, so many seconds ago at most (0: however long); says whether she did.
pub type StepUp = Arc<dyn Fn(u64) -> BoxFuture<'static, bool> + Send + Sync>;

/// Told, once for each host, that a tunnel was opened which would be denied.
pub type Warned = Arc<dyn Fn(&str, &WouldDeny) + Send + Sync>;

/// Hosts that are told of; then no more are.
const MAX_WARNED: usize = 256;

/// Opens tunnels through the gateway. Share it in an [`Arc`].
pub struct Tunnels {
    device: Arc<Device>,
    session: Session,
    tasks: TaskGroup,
    // Held while a connection is made, on purpose: of many callers that find none, one dials and
    // the others use what it got. The dial has a time limit of its own.
    pool: tokio::sync::Mutex<Pool>,
    step_up: Option<StepUp>,
    warned: Option<Warned>,
    warned_of: Mutex<BTreeSet<String>>,
    // Held while the person is asked: she is asked once, for all tunnels that wait. When, and whether she did.
    proven: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

#[derive(Default)]
struct Pool {
    connections: Vec<Connection>,
    back_off: Option<BackOff>,
}

#[derive(Clone, Copy)]
struct BackOff {
    until: Instant,
    pause: Duration,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    certified: Arc<Certified>,
    open: Arc<AtomicUsize>,
}

impl Connection {
    /// Counts one more tunnel, unless the connection is full.
    fn reserve(&self) -> Option<Reservation> {
        let added = |open: usize| (open < TUNNELS_PER_CONNECTION).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, added).ok()?;
        Some(Reservation { open: self.open.clone() })
    }
}

/// A place on a connection, given back when dropped.
struct Reservation {
    open: Arc<AtomicUsize>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tunnels {
    /// Tunnels of that device, with the token of whoever is signed in on it.
    #[must_use]
    pub fn new(device: Arc<Device>, tasks: TaskGroup) -> Self {
        let session = Session::on(device.clone());
        Self {
            session,
            device,
            tasks,
            pool: tokio::sync::Mutex::default(),
            step_up: None,
            warned: None,
            warned_of: Mutex::default(),
            proven: Default::default(),
        }
    }

    /// The same tunnels, with somebody to tell that one would be denied.
    #[must_use]
    pub fn with_warned(self, warned: Option<Warned>) -> Self {
        Self { warned, ..self }
    }

    fn warn(&self, host: &str, headers: &HeaderMap) {
        let said = headers.get(WOULD_DENY_HEADER).and_then(|value| value.to_str().ok()).and_then(WouldDeny::parse);
        let (Some(warning), Some(warned)) = (said, &self.warned) else { return };
        let first = {
            let mut of = self.warned_of.lock();
            of.len() < MAX_WARNED && of.insert(host.to_owned())
        };
        if first {
            warned(host, &warning);
        }
    }

    /// The same tunnels, for which the person is asked where a policy demands a fresh sign-in.
    #[must_use]
    pub fn with_step_up(self, step_up: Option<StepUp>) -> Self {
        Self { step_up, ..self }
    }

    /// The device that they prove.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Opens a tunnel to a name under the base domain.
    ///
    /// # Errors
    /// [`OpenError::Refused`] carries the gateway's reason and advice.
    pub async fn open(&self, host: &str, port: Port) -> Result<Tunnel, OpenError> {
        self.open_for(host, port, Carries::Bytes).await
    }

    /// Opens a tunnel of datagrams to a name under the base domain: capsules go over it
    /// (`vouchsafe_wire::capsule`).
    ///
    /// # Errors
    /// [`OpenError::Refused`] carries the gateway's reason and advice.
    pub async fn open_udp(&self, host: &str, port: Port) -> Result<Tunnel, OpenError> {
        self.open_for(host, port, Carries::Datagrams).await
    }

    async fn open_for(&self, host: &str, port: Port, carries: Carries) -> Result<Tunnel, OpenError> {
        let opened = self.open_as_is(host, port, carries).await;
        match &opened {
            Err(OpenError::Refused(refusal)) => match refusal.step_up() {
                Some(max_age) if self.prove(max_age).await => self.open_as_is(host, port, carries).await,
                Some(_) | None => opened,
            },
            Ok(_) | Err(_) => opened,
        }
    }

    /// Has the person prove anew who she is. `false` when nobody can be asked, when she doesn't, and when she did
    /// a moment ago: then another time helps no more than that one.
    async fn prove(&self, max_age: u64) -> bool {
        let Some(step_up) = &self.step_up else { return false };
        let began = Instant::now();
        let mut proven = self.proven.lock().await;
        match *proven {
            // For another tunnel, while this one waited for its turn.
            Some((at, done)) if at >= began => return done,
            Some((at, _)) if at.elapsed() < STEP_UP_PAUSE => return false,
            Some(_) | None => {}
        }
        let done = step_up(max_age).await;
        *proven = Some((Instant::now(), done));
        done
    }

    async fn open_as_is(&self, host: &str, port: Port, carries: Carries) -> Result<Tunnel, OpenError> {
        // A connection may die between being picked and being used; then another is tried, once.
        match self.try_open(host.to_owned(), port, carries).await {
            Err(OpenError::Broken(error)) if error.is_canceled() || error.is_closed() => {
                tracing::debug!(%error, "connection to the gateway had died; trying another");
                self.try_open(host.to_owned(), port, carries).await
            }
            other => other,
        }
    }

    /// CONNECT (RFC 9113 §8.5), or CONNECT-UDP as extended CONNECT (RFC 9298 §3.4).
    fn request(&self, host: &str, port: Port, carries: Carries) -> Result<Request<Empty<Bytes>>, OpenError> {
        let authority = format!("{host}:{}", port.in_target());
        let request = match carries {
            Carries::Bytes => Request::connect(&authority),
            Carries::Datagrams => {
                let gateway = self.device.authority(OwnHost::Gateway);
                Request::connect(format!("https://{gateway}{UDP_PATH}{host}/{}/", port.in_target()))
                    .extension(Protocol::from_static("connect-udp"))
                    .header("capsule-protocol", "?1")
            }
        };
        request.body(Empty::new()).map_err(|_| OpenError::Authority { authority })
    }

    fn try_open(&self, host: String, port: Port, carries: Carries) -> BoxFuture<'_, Result<Tunnel, OpenError>> {
        Box::pin(async move {
            let (mut connection, reservation) = self.connection().await?;
            let mut request = self.request(&host, port, carries)?;
            if let Some(token) = self.session.token_for(&connection.certified, AUDIENCE_GATEWAY).await? {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| OpenError::Authority { authority: host.clone() })?;
                value.set_sensitive(true);
                request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
            }
            if port == Port::Any {
                request.headers_mut().insert(ANY_PORT_HEADER, HeaderValue::from_static(ANY_PORT));
            }
            let asked = async {
                connection.sender.ready().await.map_err(OpenError::Broken)?;
                let response = connection.sender.send_request(request).await.map_err(OpenError::Broken)?;
                let status = response.status();
                if !status.is_success() {
                    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await;
                    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                    return Err(OpenError::Refused(Refusal::read(status, &body)));
                }
                self.warn(&host, response.headers());
                hyper::upgrade::on(response).await.map_err(OpenError::Broken)
            };
            let stream = tokio::time::timeout(OPEN_PATIENCE, asked).await.map_err(|_| OpenError::TimedOut)??;
            Ok(Tunnel { stream: TokioIo::new(stream), _place: reservation })
        })
    }

    /// A connection with room on it, new if need be.
    async fn connection(&self) -> Result<(Connection, Reservation), OpenError> {
        let certified = self.device.current().await?;
        let mut pool = self.pool.lock().await;
        // A token is bound to the certificate of its connection, so after a renewal new tunnels go
        // over new connections. The old ones end with their last tunnel.
        pool.connections.retain(|old| !old.sender.is_closed() && old.certified.sha256 == certified.sha256);
        let free = pool.connections.iter().find_map(|known| Some((known.clone(), known.reserve()?)));
        if let Some(found) = free {
            return Ok(found);
        }
        if pool.connections.len() >= MAX_CONNECTIONS {
            return Err(OpenError::Full);
        }
        if pool.back_off.is_some_and(|wait| Instant::now() < wait.until) {
            return Err(OpenError::BackingOff);
        }
        match self.connect(certified).await {
            Ok(connection) => {
                pool.back_off = None;
                pool.connections.push(connection.clone());
                let reservation = connection.reserve().ok_or(OpenError::Full)?;
                Ok((connection, reservation))
            }
            Err(error) => {
                let pause = pool.back_off.map_or(FIRST_BACK_OFF, |last| (last.pause * 2).min(LAST_BACK_OFF));
                pool.back_off = Some(BackOff { until: Instant::now() + pause, pause });
                Err(error)
            }
        }
    }

    async fn connect(&self, certified: Arc<Certified>) -> Result<Connection, OpenError> {
        let stream = self.device.handshake(OwnHost::Gateway, certified.http2.clone()).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(DeviceError::Unexpected { what: "the gateway does not speak HTTP/2" }.into());
        }
        let (sender, connection) = http2::Builder::new(Spawn(self.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(OpenError::Broken)?;
        self.tasks.spawn("gateway connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the gateway ended");
            }
        });
        Ok(Connection { sender, certified, open: Arc::default() })
    }
}

/// hyper's tasks belong to the group like all others.
#[derive(Clone)]
struct Spawn(TaskGroup);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("gateway stream", future);
    }
}

/// An open tunnel: bytes to and from the resource. Its two directions end apart (half-close).
pub struct Tunnel {
    stream: TokioIo<Upgraded>,
    _place: Reservation,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnels(temp: &tempfile::TempDir) -> Tunnels {
        crate::device::tests_enrolled(temp.path());
        Tunnels::new(Arc::new(Device::load(temp.path()).unwrap()), TaskGroup::new())
    }

    #[tokio::test]
    async fn an_unreachable_gateway_is_not_hammered() {
        let temp = tempfile::tempdir().unwrap();
        let tunnels = tunnels(&temp);
        let first = tunnels.open("wiki.corp.example", Port::Number(443)).await.err().unwrap();
        assert!(matches!(first, OpenError::Gateway(_)) && first.is_unreachable(), "{first}");
        let second = tunnels.open("wiki.corp.example", Port::Number(443)).await.err().unwrap();
        assert!(matches!(second, OpenError::BackingOff), "{second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_is_asked_once_for_all_tunnels_that_wait_and_not_over_and_over() {
        let temp = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let step_up: StepUp = Arc::new(move |_| {
            let count = Arc::clone(&count);
            Box::pin(async move {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(20)).await;
                true
            })
        });
        assert!(!tunnels(&temp).prove(60).await, "nobody can be asked");
        let tunnels = tunnels(&temp).with_step_up(Some(step_up));
        assert_eq!(tokio::join!(tunnels.prove(60), tunnels.prove(60), tunnels.prove(30)), (true, true, true));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!tunnels.prove(60).await, "it was done a moment ago, and is not enough");
        tokio::time::sleep(STEP_UP_PAUSE).await;
        assert!(tunnels.prove(60).await);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_place_is_given_back() {
        let open = Arc::new(AtomicUsize::new(1));
        drop(Reservation { open: open.clone() });
        assert_eq!(open.load(Ordering::Acquire), 0);
    }
}
