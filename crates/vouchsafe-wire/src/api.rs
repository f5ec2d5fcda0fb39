//! Bodies of the administrator's API. Specification: `docs/spec/api.md`.
//!
//! Served on `https://api.<domain>/` (device certificate and access token of audience
//! [`crate::token::AUDIENCE_API`]), and on the Unix socket `<state>/admin.sock` for the owner of the
//! machine. Times are unix seconds. Errors are [`Problem`] (RFC 9457).
//!
//! | request | action | body → answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | read | → [`Status`] |
//! | `GET /v1/users` | read | → `Vec<`[`User`]`>` |
//! | `POST /v1/users` | write | [`NewUser`] → [`Invited`] |
//! | `GET /v1/users/{name}` | read | → [`User`] |
//! | `PATCH /v1/users/{name}` | write | [`UserChange`] → [`User`] |
//! | `DELETE /v1/users/{name}` | write | → 204 |
//! | `POST /v1/users/{name}/invite` | write | → [`Invited`] |
//! | `POST /v1/users/{name}/sign-out` | write | → [`Ended`] |
//! | `GET /v1/groups` | read | → `Vec<`[`Group`]`>` |
//! | `PUT /v1/groups/{name}` | write | → [`Group`] (creates, idempotent) |
//! | `DELETE /v1/groups/{name}` | write | → 204 |
//! | `PUT`/`DELETE /v1/groups/{name}/members/{user}` | write | → [`Group`] |
//! | `GET /v1/devices` | read | → `Vec<`[`Device`]`>` |
//! | `GET`/`DELETE /v1/devices/{id or name}` | read/write | → [`Device`] / 204 |
//! | `POST /v1/devices/invites` | write | [`NewDevice`] → [`DeviceInvited`] |
//! | `GET /v1/sessions` | read | → `Vec<`[`Session`]`>` |
//! | `DELETE /v1/sessions/{id}` | write | → 204 |
//! | `GET /v1/resources` | read | → `Vec<`[`ResourceDoc`]`>` |
//! | `GET`/`PUT`/`DELETE /v1/resources/{name}` | read/write | [`ResourceDoc`] ↔ [`ResourceDoc`] / 204 |
//! | `PUT /v1/resources/{name}/mode` | write | [`ModeDoc`] → [`ResourceDoc`] |
//! | `GET /v1/resources/{name}/progress?…` | read | [`ProgressQuery`] → [`Progress`] |
//! | `GET /v1/grants` | read | → `Vec<`[`GrantDoc`]`>` |
//! | `POST /v1/grants` | write | [`NewGrant`] → [`GrantDoc`] |
//! | `DELETE /v1/grants/{id}` | write | → 204 |
//! | `GET /v1/locks` | read | → `Vec<`[`Lock`]`>` |
//! | `POST /v1/locks` | write | [`NewLock`] → [`Lock`] |
//! | `DELETE /v1/locks/{kind}/{name}` | write | → 204 |
//! | `GET /v1/gateways` | read | → `Vec<`[`Gateway`]`>` |
//! | `POST /v1/gateways/invites` | write | [`NewGateway`] → [`GatewayInvited`] |
//! | `DELETE /v1/gateways/{gateway}` | write | → 204 |
//! | `GET /v1/connectors` | read | → `Vec<`[`Connector`]`>` |
//! | `POST /v1/connectors/invites` | write | [`NewConnector`] → [`ConnectorInvited`] |
//! | `DELETE /v1/connectors/{connector}` | write | → 204 |
//! | `GET /v1/policy` | read | → [`PolicyVersion`] with files |
//! | `GET /v1/policy/schema` | read | → text/plain |
//! | `POST /v1/policy/check` | write | [`PolicyFiles`] → [`Checked`] |
//! | `POST /v1/policy/publish` | write | [`Publish`] → [`PolicyVersion`] |
//! | `GET /v1/policy/history` | read | → `Vec<`[`PolicyVersion`]`>` without files |
//! | `GET /v1/policy/history/{version}` | read | → [`PolicyVersion`] with files |
//! | `POST /v1/policy/confirm` | write | [`Confirm`] → [`PolicyVersion`] |
//! | `POST /v1/policy/rollback` | write | [`Rollback`] → [`PolicyVersion`] |
//! | `POST /v1/policy/explain` | write | [`ExplainRequest`] → explanation (`docs/reference/policy.md`) |
//! | `POST /v1/policy/diff` | write | [`DiffRequest`] → who gains and loses what (`docs/spec/api.md`) |
//! | `POST /v1/policy/simulate` | write | [`SimulateRequest`] → lines of JSON, [`SimulateLine`] |
//! | `POST /v1/policy/suggest` | write | [`SuggestRequest`] → [`Seen`] of a suggestion (`docs/spec/api.md`) |
//! | `POST /v1/policy/unused` | write | [`UnusedRequest`] → [`Seen`] of unused rights (`docs/spec/api.md`) |
//! | `GET /v1/policy/who-can?…` | read | [`WhoCanQuery`] → who can (`docs/spec/api.md`) |
//! | `GET /v1/policy/what-can?…` | read | [`WhatCanQuery`] → what somebody can (`docs/spec/api.md`) |
//! | `POST /v1/plan` | write | [`Manifest`] → [`Plan`] |
//! | `POST /v1/apply` | write | [`Apply`] → [`Plan`] |
//! | `GET /v1/audit?…` | read | [`AuditQuery`] → [`AuditPage`] |
//! | `GET /v1/audit/tail?…` | read | [`AuditQuery`] → records as lines of JSON, until the client closes |

use serde::{Deserialize, Serialize};
use vouchsafe_model::observed::Observed;

use crate::proof::FindingDoc;
pub use crate::resource::{ResourceDoc, TrialDoc};

/// An error (RFC 9457), as every endpoint gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Short stable code, such as `not_found` or `policy_invalid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong, in one line.
    pub title: String,
    /// Thing, cause and next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Id of the decision (`dec_…`) when access was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Code of the denial's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps, as words of the policy's `@advice`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    /// How old a sign-in may be at most that would be let through, seconds, when that is what is missing
    /// (`max_age` of RFC 9470).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Mistakes in policies or manifests, when that is what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// Tests of the policy that fail, when that is what is wrong; the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_tests: Vec<FailedTest>,
    /// What is not proven of a policy, when that is what is wrong; the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<FindingDoc>,
}

/// A test of a policy that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTest {
    /// File as given.
    pub file: String,
    /// Line that the case begins in.
    pub line: u32,
    /// Name of the case.
    pub case: String,
    /// What was asked.
    pub question: String,
    /// Why it fails.
    pub failure: String,
    /// What would have to be different for a denied request to be allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_change: Vec<String>,
}

/// One mistake in a policy or manifest file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// Short stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// File as given.
    pub file: String,
    /// Line from 1; 0 when it has no place.
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// Byte offset in the file.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// State of the installation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Base domain.
    pub domain: String,
    /// Console's address.
    pub console: String,
    /// Version of the policy in force.
    pub policy_version: u64,
    /// How many there are.
    pub users: u64,
    /// How many there are.
    pub devices: u64,
    /// How many are open.
    pub sessions: u64,
    /// How many there are.
    pub resources: u64,
    /// How many there are.
    pub grants: u64,
    /// Records in the audit log.
    pub audit_records: u64,
    /// Certificates of a public authority, by host; empty where none is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateState>,
    /// How long gateways that are processes of their own act without a sign of life, seconds; absent where
    /// none is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// Gateways that are processes of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<Gateway>,
    /// Who asks: user name or `local:<uid>`.
    pub you: String,
}

/// How the certificate of a public authority for one host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// Lower-case host name.
    pub host: String,
    /// End of the certificate that is shown, unix seconds; absent while there is none and browsers
    /// see our own authority's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When the next one is asked for, unix seconds; 0 is at once.
    pub next: u64,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Id (`usr_…`).
    pub id: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// `invited` (no passkey yet), `active` or `disabled`.
    pub state: String,
    /// Registered passkeys.
    pub passkeys: Vec<Passkey>,
    /// Open sessions.
    pub sessions: u64,
    /// When it was made.
    pub created: u64,
    /// Last sign-in.
    pub last_sign_in: Option<u64>,
}

/// A registered passkey, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// Id (`pky_…`).
    pub id: String,
    /// Name that its owner gave it.
    pub name: String,
    /// When it was registered.
    pub created: u64,
    /// Last use.
    pub last_used: Option<u64>,
}

/// Makes a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Name, never used before.
    pub name: String,
    /// Groups, which must exist.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A user and the link that lets the person register a passkey, once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invited {
    /// The user.
    pub user: User,
    /// One-time link; its secret stands behind `#`, so no server log ever sees it.
    pub link: String,
    /// When the link ends.
    pub expires: u64,
}

/// Changes a user; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// `true` ends all sessions and refuses new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The user's groups from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
}

/// How many sessions were ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// Number of sessions.
    pub sessions: u64,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Members, sorted.
    pub members: Vec<String>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Id (`dev_…`).
    pub id: String,
    /// Display name.
    pub name: String,
    /// Owner's user name.
    pub owner: Option<String>,
    /// Grade.
    pub grade: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// When it was enrolled.
    pub created: u64,
    /// End of its present certificate.
    pub certificate_expires: u64,
    /// Last time a certificate was issued or a session was opened on it.
    pub last_seen: Option<u64>,
}

/// Invites a device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// User it will belong to.
    #[serde(default)]
    pub owner: Option<String>,
    /// Free labels it will carry.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// The one-time ticket of a device.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceInvited {
    /// [`crate::ticket::Ticket`] as text.
    pub ticket: String,
    /// When it ends.
    pub expires: u64,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Id (`ses_…`).
    pub id: String,
    /// User name.
    pub user: String,
    /// Device id it is bound to.
    pub device: Option<String>,
    /// Device name.
    pub device_name: Option<String>,
    /// `browser` or `cli`.
    pub kind: String,
    /// When it began.
    pub created: u64,
    /// When it ends by itself.
    pub expires: u64,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantDoc {
    /// Id (`grt_…`).
    pub id: String,
    /// Who may.
    pub user: String,
    /// What.
    pub resource: String,
    /// Until when.
    pub expires: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub by: String,
    /// When.
    pub created: u64,
}

/// Asks for a right to a resource for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// For how long, 60 to 2592000 (thirty days), from the approval on.
    pub seconds: u64,
    /// Why, in one line of at most 200 characters.
    pub reason: String,
}

/// Decides a request, or takes it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// A line for the record, at most 200 characters.
    #[serde(default)]
    pub note: String,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Nobody has decided it yet.
    Open,
    /// There was a grant.
    Approved,
    /// There was none.
    Denied,
    /// Who asked took it back.
    Withdrawn,
    /// Nobody decided it in time.
    Expired,
}

impl RequestState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RequestState::Open => "open",
            RequestState::Approved => "approved",
            RequestState::Denied => "denied",
            RequestState::Withdrawn => "withdrawn",
            RequestState::Expired => "expired",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Open, Self::Approved, Self::Denied, Self::Withdrawn, Self::Expired];
        all.into_iter().find(|state| state.as_str() == word)
    }
}

/// A request for a right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDoc {
    /// Id (`req_…`).
    pub id: String,
    /// Who asks.
    pub user: String,
    /// For what; whether there is such a resource is not said.
    pub resource: String,
    /// For how long, from the approval on.
    pub seconds: u64,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub state: RequestState,
    /// When it was asked.
    pub created: u64,
    /// Until when it waits to be decided.
    pub open_until: u64,
    /// Who decided it, or took it back.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<u64>,
    /// What was noted with that.
    pub note: String,
    /// The grant that was given (`grt_…`).
    pub grant: Option<String>,
}

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// A user.
    User,
    /// A device.
    Device,
    /// A session.
    Session,
    /// A resource.
    Resource,
}

impl LockKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LockKind::User => "user",
            LockKind::Device => "device",
            LockKind::Session => "session",
            LockKind::Resource => "resource",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [LockKind::User, LockKind::Device, LockKind::Session, LockKind::Resource]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What is locked.
    pub kind: LockKind,
    /// Name of the user or resource, or id of the device or session.
    pub name: String,
    /// Why, for people.
    pub reason: String,
    /// Who locked it.
    pub by: String,
    /// When, unix seconds.
    pub created: u64,
    /// When it ends by itself, unix seconds; within a minute after it.
    pub expires: Option<u64>,
}

/// Locks something.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLock {
    /// What is locked.
    pub kind: LockKind,
    /// Name of the user or resource, name or id of the device, id of the session.
    pub name: String,
    /// Why: one line of at most 200 characters.
    #[serde(default)]
    pub reason: String,
    /// For how long, seconds; until it is unlocked when absent.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// A gateway that is a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Id (`gtw_…`).
    pub id: String,
    /// Name.
    pub name: String,
    /// End of its certificates, unix seconds.
    pub certificate_expires: u64,
    /// When it joined, unix seconds.
    pub created: u64,
    /// When it last attached, unix seconds.
    pub last_seen: Option<u64>,
    /// How it is attached now; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
}

/// How a gateway is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Address it comes from.
    pub ip: String,
    /// Since when, unix seconds.
    pub since: u64,
    /// When it last gave a sign of life, unix seconds.
    pub heard: u64,
    /// Changes that it has not acknowledged yet.
    pub behind: u64,
}

/// Invites a gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGateway {
    /// Name it gets.
    pub name: String,
}

/// A one-time code for a gateway.
#[derive(Clone, Serialize, Deserialize)]
pub struct GatewayInvited {
    /// What `vouchsafe gateway join` takes: a secret until it is used.
    pub code: String,
    /// Until when it is good, unix seconds.
    pub expires: u64,
}

/// A connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Id (`con_…`).
    pub id: String,
    /// Name.
    pub name: String,
    /// Site that it serves.
    pub site: String,
    /// End of its certificate, unix seconds.
    pub certificate_expires: u64,
    /// When it joined, unix seconds.
    pub created: u64,
    /// Gateways that it is attached to.
    #[serde(default)]
    pub attached: Vec<AttachedTo>,
}

/// How a connector is attached to one gateway, as that gateway last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedTo {
    /// Name of the gateway, or its id where it has none.
    pub gateway: String,
    /// Since when, unix seconds.
    pub since: u64,
    /// Connections.
    pub connections: u32,
    /// Streams that are open through it.
    pub streams: u32,
}

/// Invites a connector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewConnector {
    /// Site that it is to serve.
    pub site: String,
}

/// A one-time code for a connector.
#[derive(Clone, Serialize, Deserialize)]
pub struct ConnectorInvited {
    /// What `vouchsafe connector join` takes: a secret until it is used.
    pub code: String,
    /// Until when it is good, unix seconds.
    pub expires: u64,
}

/// Gives a grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// Who may.
    pub user: String,
    /// What.
    pub resource: String,
    /// For how many seconds; absent lasts until removed.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFileDoc {
    /// Path within the policy directory, such as `apps/wiki.cedar`.
    pub name: String,
    /// Cedar text.
    pub text: String,
}

/// Policy files to check.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// The files.
    pub files: Vec<PolicyFileDoc>,
}

/// Result of a check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checked {
    /// Whether it could be published.
    pub ok: bool,
    /// Number of policies read.
    pub policies: u64,
    /// What was found.
    pub diagnostics: Vec<Diagnostic>,
}

/// Publishes a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// All files of the new version.
    pub files: Vec<PolicyFileDoc>,
    /// All tests of the new version; absent keeps those of the version in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Vec<PolicyFileDoc>>,
    /// All invariants of the new version, which are proven before it is in force; absent keeps those of the version
    /// in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariants: Option<Vec<PolicyFileDoc>>,
    /// Also says whether anything is allowed that was not before.
    #[serde(default)]
    pub compare: bool,
    /// Why, for the history.
    #[serde(default)]
    pub note: String,
    /// Refuses with 409 unless this is the version in force.
    #[serde(default)]
    pub expected_version: Option<u64>,
    /// Seconds, 30 to 86,400, within which it has to be confirmed; else the version before comes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<u64>,
}

/// Confirms a version that would go back by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The version, which has to be in force.
    pub version: u64,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Number, from 1.
    pub version: u64,
    /// When.
    pub created: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub note: String,
    /// Whether it is in force.
    pub current: bool,
    /// Until when somebody has to confirm it, unix seconds; else the version before comes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by: Option<u64>,
    /// Number of policies.
    pub policies: u64,
    /// The files, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PolicyFileDoc>,
    /// Its tests, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<PolicyFileDoc>,
    /// Its invariants, where asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<PolicyFileDoc>,
    /// What was proven of it, in the answer to its publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<FindingDoc>,
}

/// Publishes an earlier version again, as a new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Version to go back to.
    pub version: u64,
}

/// Asks why something is or would be allowed or denied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// User name.
    pub user: String,
    /// Device id or name; absent means no proven device.
    #[serde(default)]
    pub device: Option<String>,
    /// Grade to assume instead of the device's.
    #[serde(default)]
    pub grade: Option<String>,
    /// Resource name, or `console`.
    pub resource: String,
    /// Action; absent takes the kind's first.
    #[serde(default)]
    pub action: Option<String>,
    /// HTTP method.
    #[serde(default)]
    pub method: Option<String>,
    /// HTTP path.
    #[serde(default)]
    pub path: Option<String>,
    /// Source address.
    #[serde(default)]
    pub ip: Option<String>,
    /// Seconds since the sign-in.
    #[serde(default)]
    pub auth_age: Option<u64>,
    /// Unix seconds to assume as now.
    #[serde(default)]
    pub at: Option<u64>,
}

/// Asks what changes for whom between two policies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// Version to compare; absent is the one in force, or the one before it when nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Version to compare with; absent is the one in force, unless there are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Files of a draft to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PolicyFileDoc>>,
}

/// Asks what recorded decisions would come to under another policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulateRequest {
    /// Version whose outcome is compared with; absent, it is the outcome that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Version to try; absent is the one in force, unless there are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Files of a draft to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PolicyFileDoc>>,
    /// Records from then on, unix seconds; absent is thirty days ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Records before then; absent is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// At most so many, the newest; absent is two million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A line of the answer: how far it is, again and again, and last what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulateLine<R> {
    /// How far it is.
    Progress(SimulateProgress),
    /// What came of it; the last line.
    Result(R),
    /// Why nothing came of it; the last line.
    Problem(Box<Problem>),
}

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulateProgress {
    /// Decisions that were looked at.
    pub records: u64,
    /// How much of the log was walked.
    pub done: u64,
    /// How much of it there is to walk.
    pub of: u64,
}

/// Asks for a least-privilege policy from what was used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuggestRequest {
    /// Days of the audit log to look at, 1 to 366; absent is 30, or none where something else was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Accesses that were observed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// Names of resources; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Fewer accesses than these are rare, 1 to 1,000,000; default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rare: Option<u64>,
    /// Percent of a group's members that must have used something so that the group stands for them, 1 to 100, which
    /// is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_share: Option<u8>,
    /// Whether policies demand the grade of device that all accesses came from.
    #[serde(default)]
    pub demand_grade: bool,
    /// Whether policies need no device where accesses came without one.
    #[serde(default)]
    pub without_device: bool,
}

/// Asks for rights that nobody used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnusedRequest {
    /// Days in which they weren't used, 1 to 366.
    pub days: u32,
    /// Accesses that were observed elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// Names of resources; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

/// An answer that is made of what was observed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen<A> {
    /// What was looked at.
    pub looked: Looked,
    /// The answer.
    pub answer: A,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Since when the audit log was looked at, unix seconds; absent when it wasn't.
    pub since: Option<u64>,
    /// Whether all of its records since were looked at. Of too many, the latest were.
    pub whole: bool,
    /// The oldest decision among them, unix seconds.
    pub oldest: Option<u64>,
    /// Decisions in it that let somebody go on.
    pub decisions: u64,
    /// Those of nobody known, which can't be suggested for anybody.
    pub nobody: u64,
    /// Those that grants alone allowed, which have their own end.
    pub granted: u64,
    /// Those beyond the most kinds of accesses that are told apart.
    pub beyond: u64,
    /// Kinds of accesses that were given with the question.
    pub given: usize,
}

/// Asks who can do something.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoCanQuery {
    /// Action, such as `http:read`.
    pub action: String,
    /// Resource name, or `console`.
    pub resource: String,
}

/// Asks what a user can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhatCanQuery {
    /// User name.
    pub user: String,
    /// Device id or name, or `none` for one that isn't proven; absent leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Wanted state, from a directory of TOML and Cedar files (`docs/spec/manifest.md`). What is
/// absent (`None`) is left as it is; a present list is complete: what it lacks is removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Groups of users; members are users that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupDoc>>,
    /// Resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceDoc>>,
    /// Policy files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Vec<PolicyFileDoc>>,
    /// Tests of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Vec<PolicyFileDoc>>,
    /// What is to be proven of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariants: Option<Vec<PolicyFileDoc>>,
}

/// A group in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDoc {
    /// Name.
    pub name: String,
    /// Members; absent leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

/// What an apply would do or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changes in the order in which they are made; empty when the state is as wanted.
    pub changes: Vec<PlannedChange>,
    /// Binds an apply to this plan: SHA-256 over the changes and the state they start from.
    pub digest: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// `add`, `change` or `remove`.
    pub verb: String,
    /// Such as `resource/wiki`, `group/marketing`, `policy`.
    pub target: String,
    /// What exactly, a line each.
    pub details: Vec<String>,
}

/// The mode of one resource, set anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeDoc {
    /// `enforce`, `warn` or `observe`.
    pub mode: String,
    /// With `warn` and `observe`: the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<TrialDoc>,
}

/// What [`Progress`] is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressQuery {
    /// Days to look at, 1 to 90, default 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// How far a resource is on its way to being enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the resource.
    pub resource: String,
    /// The mode in force: `enforce` where another one is over.
    pub mode: String,
    /// Whether there is another mode, and it is over.
    pub over: bool,
    /// When it ends or ended, unix seconds.
    pub ends: Option<u64>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it began, while it runs.
    pub begun: Option<u64>,
    /// From when on records were looked at, unix seconds.
    pub since: u64,
    /// Days that were asked for.
    pub days: u32,
    /// Whether all records since were looked at.
    pub whole: bool,
    /// Requests that went on: permitted ones, and denied ones that passed.
    pub accesses: u64,
    /// Denied ones that passed.
    pub would_deny: u64,
    /// Denials that stood.
    pub denied: u64,
    /// Why, with how often, the most frequent first.
    pub reasons: Vec<ProgressReason>,
    /// Who, those first who would be denied most often.
    pub people: Vec<ProgressPerson>,
    /// How many more there are.
    pub more_people: u64,
    /// Accesses of people beyond those who are told apart.
    pub uncounted: u64,
    /// The mode that comes next.
    pub next: Option<String>,
    /// Whether nothing speaks against it.
    pub safe: bool,
    /// What speaks for it, and against it.
    pub checks: Vec<ProgressCheck>,
}

/// Why requests would be denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressReason {
    /// Code of the reason.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Somebody who reached a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressPerson {
    /// User name; the address where nobody was proven.
    pub who: String,
    /// Whether it is a user.
    pub known: bool,
    /// Requests that went on.
    pub accesses: u64,
    /// Those that would be denied.
    pub would_deny: u64,
    /// When the last one was, unix seconds.
    pub last: u64,
    /// Why some would be denied.
    pub reasons: Vec<String>,
}

/// Something that speaks for going on, or against it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressCheck {
    /// Whether it speaks for it.
    pub holds: bool,
    /// In words.
    pub words: String,
}

/// Applies a plan that was shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The wanted state.
    pub manifest: Manifest,
    /// Digest of the plan; refused with 409 when the state has changed since.
    pub digest: String,
}

/// Filters of the audit log; all given ones must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Device id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Resource name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// `allow` or `deny` (`ok`, `failed` for other events). What a mode let pass is a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `observe` or `warn`: what was denied and went on by that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<String>,
    /// Kind of record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Code of a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id of a decision, flow or session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// From this unix second on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Up to and without this unix second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// At most so many, 1 to 10,000, default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Continues a page: value of [`AuditPage::next`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditPage {
    /// Records.
    pub records: Vec<crate::audit::Record>,
    /// Where the next, older page starts; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}
