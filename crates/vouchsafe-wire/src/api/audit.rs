//! Questions about the audit log, and their answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::Record;

/// Filters of the audit log; all given ones must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Words, each of which a word of the record's texts must begin with ([`crate::audit::Words`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// Records.
    pub records: Vec<Record>,
    /// Where the next, older page starts; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What to count: the filters of [`AuditQuery`], and how to divide what they find.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountsQuery {
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
    /// Words, each of which a word of the record's texts must begin with ([`crate::audit::Words`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// From this unix second on; needed with `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Up to and without this unix second; now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Counts apart for every so many seconds from `since` on, at most 1,000 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Counts apart for each value of this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<CountedBy>,
    /// How many of these values, the most frequent ones: 1 to 50, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<u32>,
}

/// What to export: the filters of [`AuditQuery`], and where to begin.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
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
    /// Words, each of which a word of the record's texts must begin with ([`crate::audit::Words`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// From this unix second on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Up to and without this unix second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Position to begin at; the first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Whether to go on with each new record, until the client closes. Otherwise it ends with those that are there.
    #[serde(default)]
    pub follow: bool,
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// Everything before this position was looked at: where to begin again.
    pub next: u64,
    /// The record before `next`; absent on a line that only tells how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Where the export ends, or how many records there are when it follows.
    pub size: u64,
}

/// A member by whose values records are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountedBy {
    /// `device`
    Device,
    /// `kind`
    Kind,
    /// `outcome`
    Outcome,
    /// `reason`
    Reason,
    /// `resource`
    Resource,
    /// `user`
    User,
}

impl CountedBy {
    /// Every one.
    pub const ALL: [CountedBy; 6] = [
        CountedBy::Device,
        CountedBy::Kind,
        CountedBy::Outcome,
        CountedBy::Reason,
        CountedBy::Resource,
        CountedBy::User,
    ];

    /// The member's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CountedBy::Device => "device",
            CountedBy::Kind => "kind",
            CountedBy::Outcome => "outcome",
            CountedBy::Reason => "reason",
            CountedBy::Resource => "resource",
            CountedBy::User => "user",
        }
    }
}

/// Of whose uses to tell: all, unless something is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsesQuery {
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Device id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Resource name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// From this unix second on; 30 days ago when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// How many pairs of users and resources, those with most uses: 1 to 1,000, default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Who used what: decisions that let somebody go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uses {
    /// Those with most uses, most first, then by names.
    pub uses: Vec<Used>,
    /// Pairs of users and resources that are not told.
    #[serde(default)]
    pub others: u64,
    /// Whether that is all: of more than 50,000 pairs some are left out.
    pub whole: bool,
}

/// Uses of one resource by one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Used {
    /// User name.
    pub user: String,
    /// Resource name.
    pub resource: String,
    /// How often.
    pub count: u64,
    /// How often of that it was denied, and went on by a mode.
    #[serde(default)]
    pub passed: u64,
    /// The latest, unix seconds.
    pub last: u64,
}

/// How many records the log has of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All that match.
    pub total: OutcomeCounts,
    /// The same over time, rising, without gaps; empty unless `step` was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_time: Vec<CountsAt>,
    /// The most frequent values of the member that was asked for, most frequent first, then by value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<ValueCount>,
    /// Matching records that have another value of it.
    #[serde(default)]
    pub others: u64,
    /// Matching records that have none.
    #[serde(default)]
    pub without: u64,
}

/// Records of each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeCounts {
    /// Whatever their outcome.
    pub records: u64,
    /// With outcome `allow`.
    pub allow: u64,
    /// With outcome `deny`.
    pub deny: u64,
    /// Those of `deny` that went on by a mode (`passed`).
    pub passed: u64,
    /// With outcome `ok`.
    pub ok: u64,
    /// With outcome `failed`.
    pub failed: u64,
}

/// Records of one piece of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountsAt {
    /// Its beginning, unix seconds; it ends where the next begins, the last at `until`.
    pub at: u64,
    /// How many.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
}

/// Records that have a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueCount {
    /// The value.
    pub value: String,
    /// How many.
    pub records: u64,
}
