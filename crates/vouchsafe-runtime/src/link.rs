//! What a gateway and its controller say to each other.
//!
//! In `vouchsafe up` both live in one process and the controller implements [`ControlLink`]
//! directly; the control channel of the split roles is another implementation of the same trait.
//!
//! The gateway decides on the [`Snapshot`] and on facts it fetched at first sight. A [`Change`]
//! tells it which facts are no longer true; a change is sent only after it is durable.

pub mod codec;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::{ConnectorId, DeviceId, GatewayId, SessionId};
use vouchsafe_model::name::{BaseDomain, SiteName, UserName};
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::{DeviceFacts, SubjectFacts, UserFacts};

pub use crate::internal::BoxFuture;

/// Everything all gateways need that does not belong to one subject. Replaced as a whole.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Rises with every change.
    pub sequence: u64,
    /// Version of the policy, as administrators number it.
    pub policy_version: u64,
    /// Policy files: name and Cedar text. They were checked before they were published.
    pub policy_files: Vec<(String, String)>,
    /// Grants in force.
    pub grants: Vec<Grant>,
    /// All resources.
    pub resources: Vec<Resource>,
    /// Connectors that are admitted, each with its site. One that isn't here is none, whatever it shows.
    pub connectors: Vec<(ConnectorId, SiteName)>,
}

/// What never changes while a gateway runs.
#[derive(Clone)]
pub struct GatewayIdentity {
    /// Who the gateway is.
    pub id: GatewayId,
    /// Base domain.
    pub domain: BaseDomain,
    /// Issuer of tokens and assertions: `https://auth.<domain>[:port]`.
    pub issuer: String,
    /// PEM of the roots that vouch for devices.
    pub device_roots_pem: String,
    /// PEM of the roots that vouch for connectors.
    pub connector_roots_pem: String,
    /// PKCS#8 PEM of the P-256 key that signs assertions.
    pub assertion_key_pem: zeroize::Zeroizing<String>,
    /// Its `kid` in the published JWKS.
    pub assertion_kid: String,
    /// Keys that verify access tokens: `kid` and the uncompressed P-256 point (65 bytes).
    pub token_keys: Vec<(String, Vec<u8>)>,
}

/// What a gateway shows of itself. It changes while the gateway runs: every certificate is renewed
/// long before its end. Replaced as a whole.
#[derive(Clone)]
pub struct GatewayCertificates {
    /// Our own server certificate, for `*.<domain>`.
    pub server: KeyAndChain,
    /// For `https` upstreams which ask who connects.
    pub client: KeyAndChain,
    /// Certificates of a public authority, each for one lower-case host name; browsers that ask for
    /// another name see our own.
    pub public: Vec<(String, KeyAndChain)>,
    /// Questions of a public authority that wait for an answer.
    pub challenges: Vec<Challenge>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAndChain {
    /// PEM chain, leaf first.
    pub chain_pem: String,
    /// PEM of the PKCS#8 key.
    pub key_pem: zeroize::Zeroizing<String>,
}

/// How a public authority makes sure that a host name is ours.
#[derive(Clone)]
pub enum Challenge {
    /// `tls-alpn-01` (RFC 8737): a handshake for that name which offers `acme-tls/1` and nothing else is
    /// shown this certificate, and ends there.
    TlsAlpn {
        /// Lower-case host name.
        host: String,
        /// The certificate with the answer in it.
        answer: KeyAndChain,
    },
    /// `http-01` (RFC 8555 §8.3): `GET /.well-known/acme-challenge/<token>` of that name on port 80.
    Http {
        /// Lower-case host name.
        host: String,
        /// Last segment of the path.
        token: String,
        /// The whole body.
        answer: String,
    },
}

/// Checkpoints of audit logs that a gateway keeps: one of each log, and an installation has one unless it lost records.
pub const MAX_KEPT_CHECKPOINTS: usize = 8;
/// How long facts are as good as fresh without a sign of life of the controller, where nothing else is said.
pub const LEASE: Duration = Duration::from_secs(15);

/// How old what a gateway knows may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How long ago it was that everything here was certainly as the controller had it: the age of the last
    /// sign of life that was asked for and came. [`Duration::MAX`] when the controller said that this
    /// gateway is none any more.
    pub silence: Duration,
    /// How long that is as good as now.
    pub lease: Duration,
}

impl Freshness {
    /// Whether a resource with this grace may be served still.
    #[must_use]
    pub fn is_within(self, grace: Duration) -> bool {
        self.silence <= self.lease.saturating_add(grace)
    }
}

/// Facts that ceased to be true. The gateway drops what it remembers and decides open flows again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The user's groups, state or existence.
    User(UserName),
    /// The device's facts or existence.
    Device(DeviceId),
    /// The session ended or changed.
    Session(SessionId),
    /// Anything: forget all facts.
    Everything,
}

/// When changes of some number were committed, or heard of: of the latest ones.
#[derive(Debug, Default)]
pub struct Commits(Mutex<VecDeque<(u64, Instant)>>);

impl Commits {
    /// How many are remembered.
    const MOST: usize = 4_096;

    /// Notes that everything up to this number was.
    pub fn note(&self, sequence: u64, at: Instant) {
        let mut commits = self.0.lock();
        if commits.back().is_some_and(|(last, _)| *last >= sequence) {
            return;
        }
        if commits.len() >= Self::MOST {
            commits.pop_front();
        }
        commits.push_back((sequence, at));
    }

    /// When that number was; `None` when it is none of the latest.
    #[must_use]
    pub fn at(&self, sequence: u64) -> Option<Instant> {
        let commits = self.0.lock();
        let place = commits.partition_point(|(other, _)| *other < sequence);
        // Of what came before the first that is remembered, nothing is known.
        let known = place > 0 || commits.front().is_some_and(|(first, _)| *first == sequence);
        commits.get(place).filter(|_| known).map(|(_, at)| *at)
    }
}

/// A change with its number in the controller's change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Rises by one with each row of the feed; rows of other kinds, such as new snapshots, have numbers of
    /// their own in between.
    pub sequence: u64,
    /// What ceased to be true.
    pub change: Change,
    /// What became of it, where that was said at once.
    pub outcome: Option<Outcome>,
}

/// What became of what changed, as of the row of the change or later. It comes in one piece with the change, so that
/// nobody has to be asked who may be gone by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The user is so; her sessions stand as they did.
    User(UserFacts),
    /// The device is so; the sessions on it stand as they did.
    Device(DeviceFacts),
    /// It stands for nobody any more, and for that reason.
    Gone(NoSubject),
}

/// What a gateway hears while it is attached, in the order in which it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Facts ceased to be true.
    Changed(Delta),
    /// The controller gave a sign of life. It counts ([`ControlLink::in_force`]) once all that was heard before
    /// is in force.
    Alive {
        /// When it was asked for, counted from the machine's start.
        asked: Duration,
        /// Number of the snapshot that must be in force for it.
        snapshot: u64,
    },
}

impl News {
    /// The change, where it is one.
    #[must_use]
    pub fn changed(self) -> Option<Delta> {
        match self {
            News::Changed(delta) => Some(delta),
            News::Alive { .. } => None,
        }
    }
}

/// What was presented in place of a subject.
#[derive(Clone)]
pub enum Credential {
    /// SHA-256 of an app cookie's value.
    AppCookie([u8; 32]),
    /// Session of an access token whose signature, type, audience and binding were verified.
    Session(SessionId),
}

/// A live session that the credential stands for.
#[derive(Debug, Clone)]
pub struct KnownSubject {
    /// Who, on what, how proven.
    pub facts: Arc<SubjectFacts>,
    /// Host label that an app cookie is for; `None` for tokens.
    pub audience: Option<String>,
}

/// Why a credential stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSubject {
    /// It is none of ours.
    Unknown,
    /// Its session ended.
    Ended,
    /// Its device was removed.
    DeviceRemoved,
}

/// Failure to reach the controller; access is denied until it answers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the controller does not answer: {why}")]
pub struct LinkError {
    /// Cause in words.
    pub why: String,
}

/// The cookie that an app host gets for a one-time code.
#[derive(Clone)]
pub struct RedeemedCode {
    /// Value of the cookie: a secret.
    pub cookie: String,
    /// Seconds until the session ends.
    pub max_age_seconds: u64,
}

/// How a connector is attached to one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedConnector {
    /// Which.
    pub id: ConnectorId,
    /// Since when its oldest connection is there.
    pub since: SystemTime,
    /// Its connections.
    pub connections: u32,
    /// Streams that are open through them.
    pub streams: u32,
}

/// What goes on at a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Going {
    /// Flows that are open.
    pub flows: u64,
    /// Flows that were ended because a right was revoked, since the gateway began.
    pub revoked: u64,
    /// How long half of these took at most from the change to their end; `None` when there were none.
    pub revoked_half: Option<Duration>,
    /// The same for 99 of 100.
    pub revoked_most: Option<Duration>,
}

/// Tells which connectors are attached to a gateway and what goes on there, whenever it is asked.
pub trait Attendance: Send + Sync + 'static {
    /// All of them, each once.
    fn connectors(&self) -> Vec<AttachedConnector>;

    /// What goes on; `None` where it isn't counted.
    fn going(&self) -> Option<Going> {
        None
    }
}

/// What a gateway asks of its controller.
pub trait ControlLink: Send + Sync + 'static {
    /// The latest snapshot, and a signal at each new one.
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// The certificates to show, and a signal at each change of them.
    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>>;

    /// The signed list of gateways, to be handed on to connectors as it is, and a signal at each new one; none before
    /// the controller told one.
    fn rosters(&self) -> watch::Receiver<Option<Bytes>> {
        watch::Sender::new(None).subscribe()
    }

    /// Changes of facts from now on, and signs of life. A receiver that lags must treat it as
    /// [`Change::Everything`].
    fn news(&self) -> broadcast::Receiver<News>;

    /// All that was heard before the sign of life that was asked for then is in force: the lease counts from
    /// there. In one process there is no lease.
    fn in_force(&self, _asked: Duration) {}

    /// How old what is known here may be. In one process it is always of this moment.
    fn freshness(&self) -> Freshness {
        Freshness { silence: Duration::ZERO, lease: LEASE }
    }

    /// Lets the controller see which connectors are attached to the gateway; for people, nothing is decided by it.
    fn attends(&self, gateway: GatewayId, attendance: Arc<dyn Attendance>) {
        let _ = (gateway, attendance);
    }

    /// When what has that number in the change feed was committed; of a controller in another process, when it was
    /// heard of here. For those who measure.
    fn committed(&self, sequence: u64) -> Option<Instant> {
        let _ = sequence;
        None
    }

    /// Facts of the subject that a credential stands for.
    fn subject(&self, credential: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>>;

    /// Facts of an enrolled device; `None` when it is not, or no longer, enrolled.
    fn device(&self, id: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>>;

    /// Exchanges a one-time code for the cookie of an app host: `code` as it came, the host's
    /// label, and the device proven on the connection, which must be the session's. The code is
    /// consumed in the same transaction, whatever the outcome. `None` when it is not good.
    fn redeem(
        &self,
        code: String,
        label: String,
        device: Option<DeviceId>,
        ip: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>>;

    /// Delivers audit records of one gateway. At least once: records already known are skipped. An
    /// empty batch asks for what is known. Returns the highest sequence number up to which all that
    /// came are durable at the controller.
    fn deliver(&self, gateway: GatewayId, batch: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>>;
}

/// Audit records of one gateway with neighbouring numbers.
#[derive(Debug, Clone, Default)]
pub struct RecordBatch {
    /// Number of the first.
    pub first_seq: u64,
    /// How many they are.
    pub count: u64,
    /// Their frames, as they stand in the spool (`docs/spec/audit-record.md`).
    pub frames: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_found_by_any_number_that_they_cover() {
        let (commits, begin) = (Commits::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (sequence, seconds) in [(5, 1), (8, 2), (8, 9), (3, 9), (9, 3)] {
            commits.note(sequence, at(seconds));
        }
        assert_eq!(
            [5, 6, 8, 9].map(|sequence| commits.at(sequence)),
            [Some(at(1)), Some(at(2)), Some(at(2)), Some(at(3))]
        );
        assert_eq!([3, 10].map(|sequence| commits.at(sequence)), [None, None]);
        (10..10_000).for_each(|sequence| commits.note(sequence, at(4)));
        assert_eq!(commits.0.lock().len(), Commits::MOST);
        assert_eq!(commits.at(9), None);
    }
}
