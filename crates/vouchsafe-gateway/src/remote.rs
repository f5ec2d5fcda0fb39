//! The control channel, as a gateway that is a process of its own has it (`docs/spec/control-channel.md`).
//!
//! - `state`: what the gateway keeps of itself on disk; `keeper`: what of it changes often, written beside the channel
//! - `join`: how it becomes one, and gets its next certificates
//! - `follow`: what the controller tells, checked; no I/O
//! - `connection`: one connection to the controller, from its begin to its end
//! - `service`: requests for our own hosts, sent on; `callers`: how many of whom
//! - `vitals`: how it stands with all of that, for those who run the gateway
//!
//! The gateway works on what it was told last while the connection is gone; for how long, the lease says.

mod callers;
mod connection;
mod follow;
mod join;
mod keeper;
mod service;
mod state;
mod vitals;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use vouchsafe_model::id::{DeviceId, GatewayId};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::InternalService;
use vouchsafe_runtime::link::{
    Attendance, BoxFuture, Change, Commits, ControlLink, Credential, Delta, Freshness, GatewayCertificates,
    GatewayIdentity, KeyAndChain, KnownSubject, LEASE, LinkError, News, NoSubject, RecordBatch, RedeemedCode, Snapshot,
    codec,
};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::vitals::Board;
use vouchsafe_wire::control::frame;
use vouchsafe_wire::control::message::{self, AnswerKind, Ask, Question, Records, Redeem, Up, UpKind};

use self::follow::Follower;
pub use self::join::{JoinError, join};
use self::state::State;
pub use self::state::StateError;
use self::vitals::{ChannelVitals, Trouble};

/// Longest wait for an answer of the controller.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait until audit records are acknowledged: they go to the controller's disk.
const DELIVERY: Duration = Duration::from_secs(20);
/// Questions that may wait for their answers.
const MAX_CALLS: usize = 4_096;
/// Changes that the watch may be behind before it must take everything as changed.
const CHANGES: usize = 4_096;

/// Failure to start.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The gateway's own files can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The process is told to end before the controller answered.
    #[error("stopped before the controller answered")]
    Stopped,
}

/// A gateway's end of the control channel, running.
pub struct Remote {
    /// What the gateway is started with.
    pub identity: GatewayIdentity,
    /// What it asks.
    pub link: Arc<dyn ControlLink>,
    /// The services behind our own host names.
    pub service: Arc<dyn InternalService>,
    /// Port under which clients reach gateways.
    pub port: u16,
    /// Name of this gateway.
    pub name: String,
}

/// Of which installation a gateway is.
pub struct Member {
    /// Base domain.
    pub domain: BaseDomain,
    /// Port under which clients reach its gateways.
    pub port: u16,
}

/// Of which installation the gateway is that has joined under that directory.
///
/// # Errors
/// [`StateError`].
pub fn joined(dir: &Path) -> Result<Member, StateError> {
    let state = State::load(dir)?;
    Ok(Member { domain: state.identity()?.domain, port: state.kept().joined.port })
}

impl Remote {
    /// Attaches to the controller that the gateway of that directory has joined, and waits for its first
    /// snapshot: before that there is nothing to decide on. How that goes is on the board. `announced` is where
    /// connectors reach this gateway, for them to be told.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn start(
        dir: &Path,
        announced: Vec<Endpoint>,
        tasks: &TaskGroup,
        board: &Board,
    ) -> Result<Self, RemoteError> {
        let state = Arc::new(State::load(dir)?);
        let identity = state.identity()?;
        let (port, name) = (state.kept().joined.port, state.kept().joined.name.clone());
        let link = Arc::new(RemoteLink::new(shown(&state)));
        let follower = Follower::new(state.snapshot_key()?, identity.domain.clone(), state.seen()?)
            .announcing(&announced)
            .keeping(&state.checkpoints()?);
        board.add(Arc::new(ChannelVitals { link: Arc::clone(&link), state: Arc::clone(&state) }));
        let keeper = keeper::Keeper::start(Arc::clone(&state), tasks);
        let driver = connection::Driver::new(Arc::clone(&state), Arc::clone(&link), follower, keeper, tasks.clone());
        tasks.spawn_vital("control channel", driver.run());
        tasks.spawn_vital("gateway certificates", join::renewals(state, Arc::clone(&link), tasks.clone()));
        let mut ready = link.ready.subscribe();
        tokio::select! {
            ready = ready.wait_for(|ready| *ready) => drop(ready.map_err(|_| RemoteError::Stopped)?),
            () = tasks.draining() => return Err(RemoteError::Stopped),
            () = tasks.failed() => return Err(RemoteError::Stopped),
        }
        let service = Arc::new(service::Forwarder::new(Arc::clone(&link)));
        Ok(Self { identity, link, service, port, name })
    }
}

/// What is shown of the gateway: certificates of its own keys.
fn shown(state: &State) -> GatewayCertificates {
    let kept = state.kept();
    let certificates = &kept.joined.certificates;
    GatewayCertificates {
        server: KeyAndChain { chain_pem: certificates.server.clone(), key_pem: kept.server_key.clone() },
        client: KeyAndChain { chain_pem: certificates.identity.clone(), key_pem: kept.identity_key.clone() },
        public: Vec::new(),
        challenges: Vec::new(),
    }
}

/// The link, whether it is up or not.
pub(crate) struct RemoteLink {
    snapshots: watch::Sender<Arc<Snapshot>>,
    certificates: watch::Sender<Arc<GatewayCertificates>>,
    rosters: watch::Sender<Option<Bytes>>,
    news: broadcast::Sender<News>,
    /// There is a snapshot, and the controller gave a sign of life once.
    ready: watch::Sender<bool>,
    /// When changes were heard of.
    told: Commits,
    life: Mutex<Life>,
    calls: Mutex<Calls>,
    next_call: AtomicU64,
    /// Why the last connection ended, until there is a sign of life again.
    trouble: Mutex<Option<Trouble>>,
    /// The connection, for requests that are sent on.
    connection: watch::Sender<Option<SendRequest<Body>>>,
    /// Who knows which connectors are attached to this gateway.
    attendance: OnceLock<Arc<dyn Attendance>>,
}

/// What is known of the controller's being there.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// When the last ping was sent that was answered, or else when the gateway began; counted from the
    /// machine's start.
    heard: Duration,
    lease: Duration,
    /// The controller said that this gateway is none of its own.
    removed: bool,
}

#[derive(Default)]
struct Calls {
    out: Option<mpsc::Sender<Bytes>>,
    waiting: HashMap<u64, oneshot::Sender<Option<AnswerKind>>>,
}

/// A call that is given up leaves nothing behind.
struct Waiting<'l>(&'l RemoteLink, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.calls.lock().waiting.remove(&self.1);
    }
}

fn lost(why: &str) -> LinkError {
    LinkError { why: why.to_owned() }
}

impl RemoteLink {
    fn new(certificates: GatewayCertificates) -> Self {
        let nothing = Snapshot {
            sequence: 0,
            policy_version: 0,
            policy_files: Vec::new(),
            grants: Vec::new(),
            resources: Vec::new(),
            connectors: Vec::new(),
        };
        Self {
            snapshots: watch::Sender::new(Arc::new(nothing)),
            certificates: watch::Sender::new(Arc::new(certificates)),
            rosters: watch::Sender::new(None),
            news: broadcast::channel(CHANGES).0,
            ready: watch::Sender::new(false),
            life: Mutex::new(Life { heard: clock::since_boot(), lease: LEASE, removed: false }),
            calls: Mutex::default(),
            // Never twice on one stream; that is easiest to have when never twice at all.
            next_call: AtomicU64::new(1),
            trouble: Mutex::default(),
            told: Commits::default(),
            connection: watch::Sender::new(None),
            attendance: OnceLock::new(),
        }
    }

    fn attached(&self, out: mpsc::Sender<Bytes>, connection: SendRequest<Body>) {
        self.calls.lock().out = Some(out);
        self.connection.send_replace(Some(connection));
    }

    /// Whether somebody waits for an answer.
    fn is_asking(&self) -> bool {
        !self.calls.lock().waiting.is_empty()
    }

    /// Whether requests can be sent on.
    fn sends_on(&self) -> bool {
        self.connection.borrow().as_ref().is_some_and(|connection| !connection.is_closed())
    }

    /// Nobody waits for an answer that can't come any more.
    fn detached(&self) {
        self.connection.send_replace(None);
        *self.calls.lock() = Calls::default();
    }

    /// Connectors that are attached, as the controller is told.
    fn attached_connectors(&self) -> Vec<message::AttachedConnector> {
        let all = self.attendance.get().map(|attendance| attendance.connectors()).unwrap_or_default();
        all.iter().map(codec::attached_connector).collect()
    }

    fn answered(&self, call: u64, kind: Option<AnswerKind>) {
        if let Some(waiting) = self.calls.lock().waiting.remove(&call) {
            let _ = waiting.send(kind);
        }
    }

    fn tell(&self, delta: Delta) {
        self.told.note(delta.sequence, Instant::now());
        // Nobody listening is fine: there are no facts yet.
        let _ = self.news.send(News::Changed(delta));
    }

    fn forget_everything(&self, sequence: u64) {
        self.tell(Delta { sequence, change: Change::Everything, outcome: None });
    }

    fn troubled(&self, trouble: Trouble) {
        *self.trouble.lock() = Some(trouble);
    }

    fn welcomed(&self, lease: Duration) {
        let mut life = self.life.lock();
        (life.lease, life.removed) = (lease, false);
    }

    /// The lease begins anew only once the watch has done what came before: between a long silence and what
    /// was told after it nobody may be served on what is remembered.
    fn heard(&self, asked: Duration) {
        *self.trouble.lock() = None;
        let alive = News::Alive { asked, snapshot: self.snapshots.borrow().sequence };
        if self.news.send(alive).is_err() {
            // There is no watch yet, so nothing is remembered either.
            self.in_force(asked);
        }
    }

    /// Nothing here counts any more, whatever grace a resource has.
    fn removed(&self) {
        self.life.lock().removed = true;
        self.forget_everything(0);
    }

    async fn call(&self, patience: Duration, kind: impl FnOnce(u64) -> UpKind) -> Result<AnswerKind, LinkError> {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let out = {
            let mut calls = self.calls.lock();
            let out = calls.out.clone().ok_or_else(|| lost("the control channel is down"))?;
            if calls.waiting.len() >= MAX_CALLS {
                return Err(lost("too many questions wait for the controller"));
            }
            calls.waiting.insert(call, answer);
            out
        };
        let _waiting = Waiting(self, call);
        let exchange = async {
            let message = frame(&Up { kind: Some(kind(call)) });
            out.send(message).await.map_err(|_| lost("the control channel is down"))?;
            answered.await.map_err(|_| lost("the control channel went down"))
        };
        match tokio::time::timeout(patience, exchange).await {
            Err(_) => Err(lost("the controller took too long")),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Some(AnswerKind::Failed(why)))) => Err(LinkError { why }),
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(lost("the controller doesn't know such a question")),
        }
    }

    async fn ask(&self, question: Question) -> Result<AnswerKind, LinkError> {
        self.call(ANSWER, |call| UpKind::Ask(Ask { call, question: Some(question) })).await
    }
}

fn misplaced() -> LinkError {
    lost("the controller answered another question")
}

impl ControlLink for RemoteLink {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        self.certificates.subscribe()
    }

    fn rosters(&self) -> watch::Receiver<Option<Bytes>> {
        self.rosters.subscribe()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    fn in_force(&self, asked: Duration) {
        self.life.lock().heard = asked;
    }

    fn attends(&self, _: GatewayId, attendance: Arc<dyn Attendance>) {
        // There is one gateway in this process.
        let _ = self.attendance.set(attendance);
    }

    fn committed(&self, sequence: u64) -> Option<Instant> {
        self.told.at(sequence)
    }

    fn freshness(&self) -> Freshness {
        let Life { heard, lease, removed } = *self.life.lock();
        let silence = if removed { Duration::MAX } else { clock::since_boot().saturating_sub(heard) };
        Freshness { silence, lease }
    }

    fn subject(&self, credential: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>> {
        Box::pin(async move {
            let question = match credential {
                Credential::AppCookie(hash) => Question::AppCookie(Bytes::copy_from_slice(&hash)),
                Credential::Session(id) => Question::Session(id.to_string()),
            };
            match self.ask(question).await? {
                AnswerKind::Subject(subject) => {
                    codec::read_subject(*subject).map(Ok).map_err(|error| LinkError { why: error.to_string() })
                }
                AnswerKind::NoSubject(nobody) => Ok(Err(codec::read_nobody(nobody))),
                _ => Err(misplaced()),
            }
        })
    }

    fn device(&self, id: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>> {
        Box::pin(async move {
            match self.ask(Question::Device(id.to_string())).await? {
                AnswerKind::Device(device) => DeviceFacts::try_from(&device)
                    .map_err(|error| LinkError { why: error.to_string() })
                    .and_then(|facts| if facts.id == id { Ok(Some(facts)) } else { Err(misplaced()) }),
                AnswerKind::NoDevice(_) => Ok(None),
                _ => Err(misplaced()),
            }
        })
    }

    fn redeem(
        &self,
        code: String,
        label: String,
        device: Option<DeviceId>,
        ip: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>> {
        Box::pin(async move {
            let device = device.map(|id| id.to_string()).unwrap_or_default();
            let redeem = Redeem { code, label, device, ip: ip.to_string() };
            match self.ask(Question::Redeem(redeem)).await? {
                AnswerKind::Redeemed(redeemed) => {
                    Ok(Some(RedeemedCode { cookie: redeemed.cookie, max_age_seconds: redeemed.max_age_seconds }))
                }
                AnswerKind::NotRedeemed(_) => Ok(None),
                _ => Err(misplaced()),
            }
        })
    }

    fn deliver(&self, _: GatewayId, batch: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>> {
        Box::pin(async move {
            let RecordBatch { first_seq, count, frames } = batch;
            let records = |call| UpKind::Records(Records { call, first_seq, count, frames });
            match self.call(DELIVERY, records).await? {
                AnswerKind::Taken(seq) => Ok(seq),
                _ => Err(misplaced()),
            }
        })
    }
}
