//! The messages, as protobuf has them (proto3 syntax stands in `docs/spec/control-channel.md`).
//!
//! Numbers of fields are never given again. Ids and names are their text forms, times unix microseconds.

use std::fmt;

use prost::{Message, Oneof};

/// From a gateway to its controller.
#[derive(Clone, PartialEq, Message)]
pub struct Up {
    /// What it says; none when it is of a kind that this version doesn't know.
    #[prost(oneof = "UpKind", tags = "1, 2, 3, 4")]
    pub kind: Option<UpKind>,
}

/// Kinds of [`Up`].
#[derive(Clone, PartialEq, Oneof)]
pub enum UpKind {
    /// The first message.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Asks for a sign of life, and acknowledges.
    #[prost(message, tag = "2")]
    Ping(Ping),
    /// A question.
    #[prost(message, tag = "3")]
    Ask(Ask),
    /// Audit records.
    #[prost(message, tag = "4")]
    Records(Records),
}

/// What a gateway begins with. Who it is, its certificate says.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// Versions of the protocol that it speaks.
    #[prost(uint32, repeated, tag = "1")]
    pub versions: Vec<u32>,
    /// Number of the last row of the change feed that is in force there; 0 when it begins.
    #[prost(uint64, tag = "2")]
    pub last_sequence: u64,
    /// Number of the snapshot that is in force there; 0 when there is none.
    #[prost(uint64, tag = "3")]
    pub snapshot_sequence: u64,
    /// Version of its program, for people.
    #[prost(string, tag = "4")]
    pub software: String,
    /// Id of the era of that snapshot; empty when there is none.
    #[prost(bytes = "bytes", tag = "5")]
    pub era: bytes::Bytes,
    /// `host:port` at which connectors reach it.
    #[prost(string, repeated, tag = "6")]
    pub addresses: Vec<String>,
    /// Checkpoints of the audit log that it has kept, as they were told: the newest of each log.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub checkpoints: Vec<bytes::Bytes>,
}

/// Asks for a [`Pong`].
#[derive(Clone, PartialEq, Message)]
pub struct Ping {
    /// Comes back in the pong.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    /// Everything up to this row of the change feed is in force at the gateway.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Connectors that are attached to the gateway now, for people to see.
    #[prost(message, repeated, tag = "3")]
    pub connectors: Vec<AttachedConnector>,
}

/// How a connector is attached to a gateway.
#[derive(Clone, PartialEq, Message)]
pub struct AttachedConnector {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Since when its oldest connection is there.
    #[prost(uint64, tag = "2")]
    pub since_us: u64,
    /// Its connections.
    #[prost(uint32, tag = "3")]
    pub connections: u32,
    /// Streams that are open through them.
    #[prost(uint32, tag = "4")]
    pub streams: u32,
}

/// A question, which gets one [`Answer`].
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// Tells answers apart; never used twice on one stream.
    #[prost(uint64, tag = "1")]
    pub call: u64,
    /// What is asked; none when it is of a kind that this version doesn't know.
    #[prost(oneof = "Question", tags = "2, 3, 4, 5")]
    pub question: Option<Question>,
}

/// Kinds of questions. Cookies come as their hashes; a one-time code comes as it is, so neither prints.
#[derive(Clone, PartialEq, Oneof)]
#[prost(skip_debug)]
pub enum Question {
    /// Whose an app cookie is: SHA-256 of its value.
    #[prost(bytes = "bytes", tag = "2")]
    AppCookie(bytes::Bytes),
    /// Whose a session is.
    #[prost(string, tag = "3")]
    Session(String),
    /// What is known of a device.
    #[prost(string, tag = "4")]
    Device(String),
    /// A one-time code for an app cookie.
    #[prost(message, tag = "5")]
    Redeem(Redeem),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Question::AppCookie(_) => "AppCookie(withheld)",
            Question::Session(_) => "Session",
            Question::Device(_) => "Device",
            Question::Redeem(_) => "Redeem(withheld)",
        })
    }
}

/// Exchanges a one-time code.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Redeem {
    /// The code.
    #[prost(string, tag = "1")]
    pub code: String,
    /// Host label it was presented at.
    #[prost(string, tag = "2")]
    pub label: String,
    /// Device proven on the connection; empty when there was none.
    #[prost(string, tag = "3")]
    pub device: String,
    /// Address of the client.
    #[prost(string, tag = "4")]
    pub ip: String,
}

impl fmt::Debug for Redeem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redeem(withheld)")
    }
}

/// Audit records with neighbouring numbers, which get one [`Answer`].
#[derive(Clone, PartialEq, Message)]
pub struct Records {
    /// As in [`Ask`], and out of the same numbers.
    #[prost(uint64, tag = "1")]
    pub call: u64,
    /// Number of the first.
    #[prost(uint64, tag = "2")]
    pub first_seq: u64,
    /// How many they are; 0 asks what is known.
    #[prost(uint64, tag = "3")]
    pub count: u64,
    /// Their frames, as in the spool.
    #[prost(bytes = "bytes", tag = "4")]
    pub frames: bytes::Bytes,
}

/// From a controller to a gateway.
#[derive(Clone, PartialEq, Message)]
pub struct Down {
    /// What it says; none when it is of a kind that this version doesn't know.
    #[prost(oneof = "DownKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<DownKind>,
}

/// Kinds of [`Down`].
#[derive(Clone, PartialEq, Oneof)]
pub enum DownKind {
    /// The first message.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// A snapshot.
    #[prost(message, tag = "2")]
    Snapshot(SignedSnapshot),
    /// What came into the change feed.
    #[prost(message, tag = "3")]
    Deltas(Deltas),
    /// A sign of life.
    #[prost(message, tag = "4")]
    Pong(Pong),
    /// To a question or to records.
    #[prost(message, tag = "5")]
    Answer(Answer),
    /// The list of gateways for connectors: bytes of a [`SignedRoster`](crate::roster::SignedRoster), handed on as
    /// they are.
    #[prost(bytes = "bytes", tag = "6")]
    Roster(bytes::Bytes),
    /// The newest checkpoint of the audit log, which the gateway keeps: a signed note, as it is.
    #[prost(bytes = "bytes", tag = "7")]
    Checkpoint(bytes::Bytes),
}

/// What a controller begins with.
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// The version that both speak from here on.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// How long the gateway may act on what it was told without a sign of life, milliseconds.
    #[prost(uint64, tag = "2")]
    pub lease_ms: u64,
}

/// A snapshot with the controller's signature.
#[derive(Clone, PartialEq, Message)]
pub struct SignedSnapshot {
    /// Bytes of a [`Snapshot`].
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: bytes::Bytes,
    /// ECDSA over P-256 and SHA-256, `r` and `s` in 32 bytes each, over [`super::signed_bytes`].
    #[prost(bytes = "bytes", tag = "2")]
    pub signature: bytes::Bytes,
}

/// Everything all gateways need that does not belong to one subject.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// Base domain of the installation, so that no snapshot of another one passes.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Number of the newest row of the change feed when it was made. It never falls.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Version of the policy.
    #[prost(uint64, tag = "3")]
    pub policy_version: u64,
    /// Policy files.
    #[prost(message, repeated, tag = "4")]
    pub policy_files: Vec<PolicyFile>,
    /// Grants in force that are of the built-in template.
    #[prost(message, repeated, tag = "5")]
    pub grants: Vec<Grant>,
    /// Resources, each as the JSON of `docs/spec/manifest.md`.
    #[prost(string, repeated, tag = "6")]
    pub resources: Vec<String>,
    /// Eras of the change feed, the oldest first.
    #[prost(message, repeated, tag = "7")]
    pub eras: Vec<Era>,
    /// Connectors that are admitted.
    #[prost(message, repeated, tag = "8")]
    pub connectors: Vec<Connector>,
    /// Grants in force that are of templates of the policy: apart, since who knows nothing of templates would take them
    /// for more than they are.
    #[prost(message, repeated, tag = "9")]
    pub template_grants: Vec<Grant>,
}

/// A connector that is admitted.
#[derive(Clone, PartialEq, Message)]
pub struct Connector {
    /// Id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Site that it serves.
    #[prost(string, tag = "2")]
    pub site: String,
}

/// A part of the change feed's history: each start of a controller begins one. Two histories that part from one
/// backup have the same numbers, but not the same eras.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Era {
    /// Its first row; it goes on until the next era's.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// Random, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub id: bytes::Bytes,
}

/// Id of the era that a row is of.
#[must_use]
pub fn era_of(eras: &[Era], sequence: u64) -> Option<&bytes::Bytes> {
    eras.iter().rev().find(|era| era.first <= sequence).map(|era| &era.id)
}

/// One policy file.
#[derive(Clone, PartialEq, Message)]
pub struct PolicyFile {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Cedar text.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// One grant.
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// Id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who may.
    #[prost(string, tag = "2")]
    pub user: String,
    /// What.
    #[prost(string, tag = "3")]
    pub resource: String,
    /// Until when; absent lasts until it is removed.
    #[prost(uint64, optional, tag = "4")]
    pub expires_us: Option<u64>,
    /// Why, for people.
    #[prost(string, tag = "5")]
    pub reason: String,
    /// Template of the policy that it is made from; empty for the built-in one.
    #[prost(string, tag = "6")]
    pub template: String,
}

/// The rows of the change feed behind one number up to another.
#[derive(Clone, PartialEq, Message)]
pub struct Deltas {
    /// The last row before these. Where that is not the last row the gateway has, something is missing.
    #[prost(uint64, tag = "1")]
    pub after: u64,
    /// The last of these.
    #[prost(uint64, tag = "2")]
    pub through: u64,
    /// What ceased to be true. Fewer than there are rows: those of snapshots aren't here.
    #[prost(message, repeated, tag = "3")]
    pub changes: Vec<Change>,
    /// The rows in between are no longer kept: `after` says nothing, everything ceased to be true.
    #[prost(bool, tag = "4")]
    pub everything: bool,
}

/// One change.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    /// Of what; none, also for a kind that this version doesn't know, means of everything.
    #[prost(oneof = "ChangeKind", tags = "1, 2, 3")]
    pub kind: Option<ChangeKind>,
    /// The row of the change feed that it is; 0 where that isn't said.
    #[prost(uint64, tag = "4")]
    pub row: u64,
    /// What became of it; none where that has to be asked for.
    #[prost(oneof = "Outcome", tags = "5, 6, 7")]
    pub outcome: Option<Outcome>,
}

/// Kinds of changes.
#[derive(Clone, PartialEq, Oneof)]
pub enum ChangeKind {
    /// Of a user.
    #[prost(string, tag = "1")]
    User(String),
    /// Of a device.
    #[prost(string, tag = "2")]
    Device(String),
    /// Of a session.
    #[prost(string, tag = "3")]
    Session(String),
}

/// What became of what changed, at that row or later.
#[derive(Clone, PartialEq, Oneof)]
pub enum Outcome {
    /// The user is so.
    #[prost(message, tag = "5")]
    User(User),
    /// The device is so.
    #[prost(message, tag = "6")]
    Device(Device),
    /// It stands for nobody any more: [`Nobody`].
    #[prost(enumeration = "Nobody", tag = "7")]
    Gone(i32),
}

/// Facts of a user whose name is said already.
#[derive(Clone, PartialEq, Message)]
pub struct User {
    /// Id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Groups.
    #[prost(string, repeated, tag = "2")]
    pub groups: Vec<String>,
}

/// Answers a [`Ping`], behind every row of the change feed that was committed when the ping came.
#[derive(Clone, PartialEq, Message)]
pub struct Pong {
    /// The ping's.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    /// The last row that was sent. Where the gateway has another, something is missing.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// An answer.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// The question's.
    #[prost(uint64, tag = "1")]
    pub call: u64,
    /// What the answer is; none, also for a kind that this version doesn't know, means that there is none.
    #[prost(oneof = "AnswerKind", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub kind: Option<AnswerKind>,
}

/// Kinds of answers.
#[derive(Clone, PartialEq, Oneof)]
pub enum AnswerKind {
    /// A subject.
    #[prost(message, boxed, tag = "2")]
    Subject(Box<Subject>),
    /// The credential stands for nobody: [`Nobody`].
    #[prost(enumeration = "Nobody", tag = "3")]
    NoSubject(i32),
    /// A device.
    #[prost(message, tag = "4")]
    Device(Device),
    /// There is no such device.
    #[prost(message, tag = "5")]
    NoDevice(Nothing),
    /// The cookie for a code.
    #[prost(message, tag = "6")]
    Redeemed(Redeemed),
    /// The code is not good.
    #[prost(message, tag = "7")]
    NotRedeemed(Nothing),
    /// Records up to this number are durable.
    #[prost(uint64, tag = "8")]
    Taken(u64),
    /// There is no answer, for this reason.
    #[prost(string, tag = "9")]
    Failed(String),
}

/// Nothing more to say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

/// Why a credential stands for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Nobody {
    /// It is none of ours; also what an unknown value reads as.
    Unknown = 0,
    /// Its session ended.
    Ended = 1,
    /// Its device was removed.
    DeviceRemoved = 2,
}

/// Facts of a subject.
#[derive(Clone, PartialEq, Message)]
pub struct Subject {
    /// Session.
    #[prost(string, tag = "1")]
    pub session: String,
    /// User's id.
    #[prost(string, tag = "2")]
    pub user_id: String,
    /// User's name.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Groups.
    #[prost(string, repeated, tag = "4")]
    pub groups: Vec<String>,
    /// The session's device; absent when it has none.
    #[prost(message, optional, tag = "5")]
    pub device: Option<Device>,
    /// How the user signed in.
    #[prost(string, repeated, tag = "6")]
    pub methods: Vec<String>,
    /// When.
    #[prost(uint64, tag = "7")]
    pub auth_time_us: u64,
    /// End of the session.
    #[prost(uint64, tag = "8")]
    pub expires_us: u64,
    /// Version of these facts.
    #[prost(uint64, tag = "9")]
    pub epoch: u64,
    /// Host label that the cookie is for; absent for sessions.
    #[prost(string, optional, tag = "10")]
    pub audience: Option<String>,
}

/// Facts of a device.
#[derive(Clone, PartialEq, Message)]
pub struct Device {
    /// Id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Grade.
    #[prost(string, tag = "3")]
    pub grade: String,
    /// Owner; empty when it is nobody's.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// Tags.
    #[prost(string, repeated, tag = "5")]
    pub tags: Vec<String>,
}

/// A cookie for a one-time code.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Redeemed {
    /// Its value, a secret.
    #[prost(string, tag = "1")]
    pub cookie: String,
    /// Seconds until the session ends.
    #[prost(uint64, tag = "2")]
    pub max_age_seconds: u64,
}

impl fmt::Debug for Redeemed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redeemed(withheld)")
    }
}
