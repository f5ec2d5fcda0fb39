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
//! | `GET /v1/webhooks` | read | → `Vec<`[`WebhookDoc`]`>` |
//! | `POST /v1/webhooks` | write | [`NewWebhook`] → [`WebhookAdded`] |
//! | `DELETE /v1/webhooks/{name}` | write | → 204 |
//! | `POST /v1/webhooks/{name}/test` | write | → [`WebhookTried`] |
//! | `GET`/`PUT /v1/assessment` | read/write | [`AssessmentDoc`] ↔ [`AssessmentDoc`] |
//! | `GET /v1/gateways` | read | → `Vec<`[`Gateway`]`>` |
//! | `POST /v1/gateways/invites` | write | [`NewGateway`] → [`GatewayInvited`] |
//! | `DELETE /v1/gateways/{gateway}` | write | → 204 |
//! | `GET /v1/connectors` | read | → `Vec<`[`Connector`]`>` |
//! | `POST /v1/connectors/invites` | write | [`NewConnector`] → [`ConnectorInvited`] |
//! | `DELETE /v1/connectors/{connector}` | write | → 204 |
//! | `GET /v1/policy` | read | → [`PolicyVersion`] with files |
//! | `GET /v1/policy/schema` | read | → text/plain |
//! | `GET /v1/policy/templates` | read | → `Vec<`[`TemplateDoc`]`>` |
//! | `POST /v1/policy/check` | write | [`PolicyFiles`] → [`Checked`] |
//! | `POST /v1/policy/publish` | write | [`Publish`] → [`Published`] (202 where it waits) |
//! | `GET /v1/policy/history` | read | → `Vec<`[`PolicyVersion`]`>` without files |
//! | `GET /v1/policy/history/{version}` | read | → [`PolicyVersion`] with files |
//! | `POST /v1/policy/confirm` | write | [`Confirm`] → [`PolicyVersion`] |
//! | `POST /v1/policy/rollback` | write | [`Rollback`] → [`Published`] (202 where it waits) |
//! | `GET /v1/policy/pending` | read | → `Vec<`[`ProposalDoc`]`>` without files |
//! | `GET /v1/policy/pending/{id}` | read | → [`ProposalDoc`] with files |
//! | `POST /v1/policy/pending/{id}/approve` | write | [`DecideProposal`] → [`PolicyVersion`] |
//! | `POST /v1/policy/pending/{id}/reject` | write | [`DecideProposal`] → [`ProposalDoc`] |
//! | `POST /v1/policy/explain` | write | [`ExplainRequest`] → explanation (`docs/reference/policy.md`) |
//! | `POST /v1/policy/diff` | write | [`DiffRequest`] → who gains and loses what (`docs/spec/api.md`) |
//! | `POST /v1/policy/simulate` | write | [`SimulateRequest`] → lines of JSON, [`SimulateLine`] |
//! | `POST /v1/policy/suggest` | write | [`SuggestRequest`] → [`Seen`] of a suggestion (`docs/spec/api.md`) |
//! | `POST /v1/policy/unused` | write | [`UnusedRequest`] → [`Seen`] of unused rights (`docs/spec/api.md`) |
//! | `POST /v1/policy/foresee` | write | [`ForeseeRequest`] → what observed accesses would come to (`docs/spec/api.md`) |
//! | `GET /v1/policy/who-can?…` | read | [`WhoCanQuery`] → who can (`docs/spec/api.md`) |
//! | `GET /v1/policy/what-can?…` | read | [`WhatCanQuery`] → what somebody can (`docs/spec/api.md`) |
//! | `POST /v1/plan` | write | [`Manifest`] → [`Plan`] |
//! | `POST /v1/apply` | write | [`Apply`] → [`Plan`] |
//! | `GET /v1/audit?…` | read | [`AuditQuery`] → [`AuditPage`] |
//! | `GET /v1/audit/counts?…` | read | [`CountsQuery`] → [`Counts`] |
//! | `GET /v1/audit/uses?…` | read | [`UsesQuery`] → [`Uses`] |
//! | `GET /v1/audit/tail?…` | read | [`AuditQuery`] → records as lines of JSON, until the client closes |
//! | `GET /v1/audit/export?…` | read | [`ExportQuery`] → lines of JSON, [`Exported`] |
//! | `GET /v1/audit/streams` | read | → `Vec<`[`StreamDoc`]`>` |
//! | `POST /v1/audit/streams` | write | [`NewStream`] → [`StreamDoc`] |
//! | `GET`/`DELETE /v1/audit/streams/{name}` | read/write | → [`StreamDoc`] / 204 |
//! | `POST /v1/audit/streams/{name}/test` | write | → [`StreamTried`] |
//! | `GET /v1/audit/log` | read | → [`AuditLogState`] |
//! | `GET /v1/audit/log/checkpoint` | read | → C2SP `tlog-checkpoint` |
//! | `GET /v1/audit/log/tile/…` | read | → C2SP `tlog-tiles`: hashes and entry bundles |
//! | `GET /v1/audit/log/proof?record=…` | read | [`AuditProofQuery`] → [`AuditProof`] |
//! | `POST /v1/audit/log/fork` | write | [`AuditFork`] → [`AuditLogState`] |

mod assessment;
mod audit;
mod audit_log;
mod policy;
mod proposals;
mod requests;
mod roles;
mod state;
mod streams;
mod webhooks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::assessment::{AssessedDraft, AssessedFinding, AssessedPillar, AssessmentDoc};
pub use self::audit::{
    AuditPage, AuditQuery, CountedBy, Counts, CountsAt, CountsQuery, ExportQuery, Exported, OutcomeCounts, Used, Uses,
    UsesQuery, ValueCount,
};
pub use self::audit_log::{AuditFork, AuditLogState, AuditProof, AuditProofQuery, AuditTrouble, AuditWitness};
pub use self::policy::{
    Checked, Confirm, DiffRequest, ExplainRequest, ForeseeRequest, Looked, PolicyFileDoc, PolicyFiles, PolicyVersion,
    Publish, Rollback, Seen, SimulateLine, SimulateProgress, SimulateRequest, SuggestRequest, UnusedRequest,
    WhatCanQuery, WhoCanQuery, changed_files,
};
pub use self::proposals::{DecideProposal, ProposalDoc, ProposalState, Published};
pub use self::requests::{
    AskedTemplate, DecideRequest, GrantDoc, NewGrant, NewRequest, RequestDoc, RequestState, TemplateDoc,
};
pub use self::roles::{
    Attached, AttachedTo, Connector, ConnectorInvited, Gateway, GatewayInvited, NewConnector, NewGateway,
};
pub use self::state::{
    Apply, GroupDoc, Manifest, ModeDoc, Plan, PlannedChange, Progress, ProgressCheck, ProgressPerson, ProgressQuery,
    ProgressReason,
};
pub use self::streams::{NewStream, StreamDoc, StreamFormat, StreamKind, StreamTried};
pub use self::webhooks::{NewWebhook, WebhookAdded, WebhookDoc, WebhookTried};
use crate::proof::FindingDoc;
pub use crate::resource::{ResourceDoc, TrialDoc};

/// An error (RFC 9457), as every endpoint gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Name, never used before.
    pub name: String,
    /// Groups, which must exist.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A user and the link that lets the person register a passkey, once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Invited {
    /// The user.
    pub user: User,
    /// One-time link; its secret stands behind `#`, so no server log ever sees it.
    pub link: String,
    /// When the link ends.
    pub expires: u64,
}

/// Changes a user; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// Number of sessions.
    pub sessions: u64,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Members, sorted.
    pub members: Vec<String>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInvited {
    /// [`crate::ticket::Ticket`] as text.
    pub ticket: String,
    /// When it ends.
    pub expires: u64,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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

/// Which page of a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// At most so many entries, 1 to 1,000, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
    /// Behind this place: from the header `Link` of the page before, which has `rel="next"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
