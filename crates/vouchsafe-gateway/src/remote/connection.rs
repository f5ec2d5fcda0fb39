//! One connection to the controller after the other, for as long as the gateway runs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::grpc::{self, Incomings, OUTGOING, Spawn, StreamError};
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::link::GatewayCertificates;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};
use vouchsafe_wire::control::message::{Down, Up};
use vouchsafe_wire::control::{ATTACH, LEASES, MAX_DOWN_BYTES, frame};

use super::RemoteLink;
use super::follow::{Fault, Follower, Told};
use super::join::JoinError;
use super::keeper::Keeper;
use super::state::State;
use super::vitals::Trouble;

/// Parts of the lease: how often the controller is asked for a sign of life, and after how long without one a
/// connection is given up, since there may be another way.
const PING_PART: u32 = 7;
const DEAD_PART: u32 = 2;
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for answers before the gateway attaches with new certificates.
const ANSWERS: Duration = Duration::from_secs(10);
/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] JoinError),
    #[error("the controller refuses this gateway ({0})")]
    Refused(String),
    #[error("this gateway was removed, so it serves nobody; it may join anew by another code")]
    Removed,
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the controller ended the stream")]
    Closed,
    #[error("the controller gives no sign of life")]
    Silent,
    #[error("the controller can't be asked: nothing goes out")]
    Stuck,
    #[error("the gateway has new certificates, and attaches with them")]
    Renewed,
}

impl Ended {
    /// What whoever runs the gateway can do about it.
    fn advice(&self) -> &'static str {
        match self {
            Ended::Dial(_) | Ended::Silent | Ended::Stuck => {
                "look whether the controller runs, whether its port is reached from here, and whether both clocks are right"
            }
            Ended::Refused(_) => "look at the controller's log: it says why it refuses this gateway",
            Ended::Removed => "make another code (`vouchsafe gateway invite`) and join anew",
            Ended::Fault(Fault::Replayed { .. } | Fault::OtherHistory { .. }) => {
                "if the controller was restored from a backup, join anew; if not, somebody plays back what was"
            }
            Ended::Fault(Fault::Signature | Fault::Snapshot(_)) => {
                "what answers there is not the controller that this gateway joined; look at who does"
            }
            Ended::Fault(_) | Ended::Http(_) | Ended::Stream(_) | Ended::Closed | Ended::Renewed => {
                "it is tried again by itself; if it stays so, look at the controller's log"
            }
        }
    }
}

/// Keeps the gateway attached.
pub(super) struct Driver {
    state: Arc<State>,
    link: Arc<RemoteLink>,
    follower: Follower,
    keeper: Keeper,
    tasks: TaskGroup,
    has_snapshot: bool,
}

impl Driver {
    pub(super) fn new(
        state: Arc<State>,
        link: Arc<RemoteLink>,
        follower: Follower,
        keeper: Keeper,
        tasks: TaskGroup,
    ) -> Self {
        Self { state, link, follower, keeper, tasks, has_snapshot: false }
    }

    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (tasks, link) = (self.tasks.clone(), Arc::clone(&self.link));
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.attach() => ended,
                // Open flows may still finish, and their records be delivered.
                () = drained(&tasks, &link) => return,
            };
            self.link.detached();
            self.link.troubled(Trouble::new(&ended, ended.advice()));
            match &ended {
                Ended::Fault(
                    fault @ (Fault::Replayed { .. }
                    | Fault::OtherHistory { .. }
                    | Fault::Signature
                    | Fault::Snapshot(_)),
                ) => {
                    tracing::error!(
                        error = fault as &dyn std::error::Error,
                        "the control channel is not to be trusted"
                    );
                }
                Ended::Removed => {
                    tracing::error!(error = %ended, "the controller doesn't know this gateway");
                    self.link.removed();
                    pause = LAST_PAUSE;
                }
                Ended::Renewed => {
                    tracing::info!("attaching anew with new certificates");
                    continue;
                }
                Ended::Fault(fault) => {
                    tracing::error!(%fault, "the control channel is given up; all facts are asked for anew");
                    self.link.forget_everything(0);
                }
                other => {
                    let error = other as &dyn std::error::Error;
                    tracing::warn!(error, "the controller is not reached; trying again");
                }
            }
            if began.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
            // Half of it at least, the rest by chance: a thousand gateways don't come back at once.
            let [dice] = clock::random::<1>();
            let wait = pause / 2 + pause / 2 * u32::from(dice) / 255;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = tasks.draining() => return,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Attaches, and follows until that ends.
    async fn attach(&mut self) -> Ended {
        match self.attached().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn attached(&mut self) -> Result<std::convert::Infallible, Ended> {
        let renewed = self.link.certificates.subscribe();
        let kept = self.state.kept();
        let certificates = &kept.joined.certificates;
        let own = Credentials { chain_pem: &certificates.identity, key_pem: &kept.identity_key };
        let roots = tls::roots(&certificates.root, "root").map_err(JoinError::from)?;
        let domain = self.state.identity().map_err(JoinError::from)?.domain;
        let trust = ServerTrust::Controller { roots, domain };
        let reached = Reached { host: &kept.host, port: kept.port, own: Some(&own) };
        let mut sender = dial(&reached, trust.clone(), Windows::CHANNEL, &self.tasks).await?;
        let (out, messages) = mpsc::channel::<Bytes>(OUTGOING);
        let mut request = Request::new(grpc::request_body(messages));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("https://controller{ATTACH}").parse().map_err(|_| Ended::Stuck)?;
        request.headers_mut().insert(CONTENT_TYPE, grpc::content_type());
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        say(&out, &self.follower.hello())?;
        let answered = tokio::time::timeout(CONNECT, sender.send_request(request)).await;
        let response = answered.map_err(|_| Ended::Silent)??;
        match (response.status(), grpc::refused(&response)) {
            (StatusCode::OK, None) => {}
            (StatusCode::OK, Some(status)) if status == grpc::Status::PermissionDenied.code() => {
                return Err(Ended::Removed);
            }
            (StatusCode::OK, Some(status)) => return Err(Ended::Refused(format!("gRPC status {status}"))),
            (status, _) => return Err(Ended::Refused(status.to_string())),
        }
        // What clients of ours are sent, and don't read, must not keep changes from us: it has a connection of its own.
        let requests = dial(&reached, trust, Windows::REQUESTS, &self.tasks).await?;
        self.link.attached(out.clone(), requests);
        self.follow(Incomings::new(response.into_body(), MAX_DOWN_BYTES), &out, renewed).await
    }

    async fn follow(
        &mut self,
        mut incoming: Incomings,
        out: &mpsc::Sender<Bytes>,
        renewed: watch::Receiver<Arc<GatewayCertificates>>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut lease = *LEASES.start();
        let mut pings = pinging(lease);
        let mut alive = Instant::now();
        let mut renewal_waits = None;
        loop {
            tokio::select! {
                down = incoming.next::<Down>() => {
                    let told = self.follower.handle(down?.ok_or(Ended::Closed)?)?;
                    match told {
                        Told::Heard(_) => alive = Instant::now(),
                        Told::Welcome(said) => (lease, pings) = (said, pinging(said)),
                        Told::Nothing | Told::Changed(_) | Told::Snapshot(_) | Told::Roster(_) | Told::Answer(..) => {}
                        Told::Checkpoints(_) | Told::AuditLogShrank { .. } => {}
                    }
                    self.take(told);
                }
                _ = pings.tick() => {
                    if alive.elapsed() > lease / DEAD_PART {
                        return Err(Ended::Silent);
                    }
                    if !self.link.sends_on() {
                        return Err(Ended::Closed);
                    }
                    // The controller is to see the new one in use, so that it knows copies of the old one. Questions
                    // under way are waited for, but not for ever.
                    if renewed.has_changed().unwrap_or(false) {
                        let since = *renewal_waits.get_or_insert_with(Instant::now);
                        if !self.link.is_asking() || since.elapsed() > ANSWERS {
                            return Err(Ended::Renewed);
                        }
                    }
                    // Where nothing goes out, nothing is answered either, and the silence is noticed.
                    let ping = self.follower.ping(clock::since_boot(), self.link.attached_connectors());
                    let _ = say(out, &ping);
                }
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Welcome(lease) => self.link.welcomed(lease),
            Told::Changed(deltas) => deltas.into_iter().for_each(|delta| self.link.tell(delta)),
            Told::Snapshot(snapshot) => {
                self.keeper.seen(self.follower.seen());
                self.link.told.note(snapshot.sequence, Instant::now());
                self.link.snapshots.send_replace(Arc::from(snapshot));
                self.has_snapshot = true;
            }
            Told::Heard(asked) => {
                self.link.heard(asked);
                if self.has_snapshot {
                    self.link.ready.send_replace(true);
                }
            }
            // Whose it is, connectors see for themselves.
            Told::Roster(roster) => drop(self.link.rosters.send_replace(Some(roster))),
            Told::Checkpoints(notes) => self.keeper.checkpoints(notes),
            Told::AuditLogShrank { known, given } => {
                tracing::error!(
                    known,
                    given,
                    "the controller's audit log has fewer records than this gateway knows; was it restored?"
                );
            }
            Told::Answer(call, kind) => self.link.answered(call, kind),
        }
    }
}

fn pinging(lease: Duration) -> tokio::time::Interval {
    let mut pings = tokio::time::interval(lease / PING_PART);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pings
}

fn say(out: &mpsc::Sender<Bytes>, message: &Up) -> Result<(), Ended> {
    out.try_send(frame(message)).map_err(|_| Ended::Stuck)
}

/// Resolves when the gateway drains and nobody asks anything any more.
async fn drained(tasks: &TaskGroup, link: &RemoteLink) {
    tasks.draining().await;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The watch over open flows holds its end of the changes until the last of them is gone.
        if link.news.receiver_count() == 0 {
            return;
        }
    }
}

/// A controller, and what the gateway shows it.
pub(super) struct Reached<'r> {
    pub(super) host: &'r str,
    pub(super) port: u16,
    pub(super) own: Option<&'r Credentials<'r>>,
}

/// How much may come that was not read yet, bytes: on one stream, and on the connection.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    stream: u32,
    connection: u32,
}

impl Windows {
    /// For few streams that are always read.
    pub(super) const CHANNEL: Self = Self { stream: 4 << 20, connection: 16 << 20 };
    /// For many, of which any may not be read: all of them together leave room for one more.
    pub(super) const REQUESTS: Self = Self { stream: 64 << 10, connection: 80 << 20 };
}

/// Connects to a controller.
pub(super) async fn dial(
    reached: &Reached<'_>,
    trust: ServerTrust,
    windows: Windows,
    tasks: &TaskGroup,
) -> Result<SendRequest<Body>, JoinError> {
    let Reached { host, port, own } = *reached;
    let failed = |source| JoinError::Dial { address: format!("{host}:{port}"), source };
    let timed_out = || failed(io::ErrorKind::TimedOut.into());
    let config = tls::client(trust, own, &[b"h2"])?;
    let connecting = TcpStream::connect((host, port));
    let stream = tokio::time::timeout(CONNECT, connecting).await.map_err(|_| timed_out())?.map_err(failed)?;
    let _ = stream.set_nodelay(true);
    // It is no name that is verified, but the role; this one only has to be well-formed.
    let name = ServerName::try_from(host.to_owned()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await.map_err(|_| timed_out())?.map_err(failed)?;
    let built = Builder::new(Spawn(tasks.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = built.map_err(|_| JoinError::Broken)?;
    tasks.spawn("controller connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the controller ended");
        }
    });
    Ok(sender)
}
