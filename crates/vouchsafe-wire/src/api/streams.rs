//! Streams: places that get every record of the audit log. What they get: `docs/guide/export.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Syslog (RFC 5424) over TLS (RFC 5425).
    Syslog,
    /// OpenTelemetry logs by OTLP over HTTP, in protobuf.
    Otlp,
}

impl StreamKind {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamKind::Syslog => "syslog",
            StreamKind::Otlp => "otlp",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [StreamKind::Syslog, StreamKind::Otlp].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a record is sent as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamFormat {
    /// An event of OCSF, as JSON.
    #[default]
    Ocsf,
    /// The record itself, in its canonical bytes.
    Json,
}

impl StreamFormat {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamFormat::Ocsf => "ocsf",
            StreamFormat::Json => "json",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [StreamFormat::Ocsf, StreamFormat::Json].into_iter().find(|format| format.as_str() == word)
    }
}

/// Adds a stream.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStream {
    /// Its name.
    pub name: String,
    /// How records are sent.
    pub kind: StreamKind,
    /// Where to: `host:port` for syslog; `https://…`, or `http://` to a loopback address, for OTLP, to which `/v1/logs` is added
    /// where it has no path.
    pub address: String,
    /// What a record is sent as.
    #[serde(default)]
    pub format: StreamFormat,
    /// Position of the first record; absent for what comes from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Header fields for OTLP, by their names. They may be secrets, and are never told again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// PEM of the roots that vouch for it; absent is the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots_pem: Option<String>,
    /// PEM of the certificate by which the controller proves itself, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_pem: Option<String>,
    /// PEM of its key; never told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pem: Option<String>,
}

impl std::fmt::Debug for NewStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, kind, .. } = self;
        f.debug_struct("NewStream").field("name", name).field("kind", kind).finish_non_exhaustive()
    }
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamDoc {
    /// Its name.
    pub name: String,
    /// How records are sent.
    pub kind: StreamKind,
    /// Where to, without a path.
    pub address: String,
    /// What a record is sent as.
    pub format: StreamFormat,
    /// Who added it.
    pub by: String,
    /// When.
    pub created: u64,
    /// Position up to which all was taken; from there it goes on after a break.
    pub next: u64,
    /// Records that it hasn't taken yet, or not for certain.
    pub behind: u64,
    /// How the last attempt went: `taken`, or why not; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// When that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<u64>,
    /// Attempts that failed since one went well.
    pub failures: u64,
    /// Records that were refused for good, by a receiver that took the rest.
    pub rejected: u64,
}

/// What came of a try to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamTried {
    /// Whether it takes records.
    pub reached: bool,
    /// `taken`, or why not.
    pub outcome: String,
}
