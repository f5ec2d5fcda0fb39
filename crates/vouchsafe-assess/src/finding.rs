//! What a look finds, and what it could not see.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth doing some day.
    Low,
    /// To be planned.
    Medium,
    /// To be done this week.
    High,
    /// To be done today.
    Critical,
}

impl Severity {
    /// Worst first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A pillar of the CISA Zero Trust Maturity Model v2, or one of the capabilities that cut across all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pillar {
    /// Who somebody is.
    Identity,
    /// What they work on.
    Devices,
    /// How they get there.
    Networks,
    /// What they use.
    Applications,
    /// What it is about.
    Data,
    /// Visibility and analytics.
    Visibility,
    /// Automation and orchestration.
    Automation,
    /// Governance.
    Governance,
}

impl Pillar {
    /// The five pillars, then what cuts across them.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Devices,
        Self::Networks,
        Self::Applications,
        Self::Data,
        Self::Visibility,
        Self::Automation,
        Self::Governance,
    ];

    /// Its name in the model.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Devices => "Devices",
            Self::Networks => "Networks",
            Self::Applications => "Applications & Workloads",
            Self::Data => "Data",
            Self::Visibility => "Visibility & Analytics",
            Self::Automation => "Automation & Orchestration",
            Self::Governance => "Governance",
        }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Listening sockets and their processes.
    Listening,
    /// sshd, authorised keys, host keys.
    Ssh,
    /// PostgreSQL.
    Postgres,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Apache.
    Apache,
    /// Caddy.
    Caddy,
    /// Saved rules of nftables and iptables.
    Firewall,
    /// Users and groups.
    Accounts,
    /// sudo.
    Sudo,
    /// Certificates that the configurations name.
    Certificates,
    /// Sockets of container engines.
    Containers,
    /// Kernel and packages.
    Updates,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Listening,
        Self::Ssh,
        Self::Postgres,
        Self::Nginx,
        Self::Haproxy,
        Self::Apache,
        Self::Caddy,
        Self::Firewall,
        Self::Accounts,
        Self::Sudo,
        Self::Certificates,
        Self::Containers,
        Self::Updates,
    ];

    /// As a person reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listening => "listening sockets",
            Self::Ssh => "SSH",
            Self::Postgres => "PostgreSQL",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Apache => "Apache",
            Self::Caddy => "Caddy",
            Self::Firewall => "firewall",
            Self::Accounts => "users and groups",
            Self::Sudo => "sudo",
            Self::Certificates => "certificates",
            Self::Containers => "container engines",
            Self::Updates => "kernel and packages",
        }
    }
}

/// Where it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file, as it is named on the host.
    pub file: String,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The line's text, without secrets, or what was seen there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Evidence {
    /// A line of a file; secrets in it are left out.
    pub(crate) fn line(file: &str, line: usize, text: &str) -> Self {
        Self { file: file.to_owned(), line: Some(line), text: crate::text::shown(text) }
    }

    /// A file as a whole, and what is so about it.
    pub(crate) fn file(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, text: what.into() }
    }
}

/// One thing that stands in the way of zero trust.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Stable id of its kind.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it was looked.
    pub area: Area,
    /// What it is about; with the id, the same in every run.
    pub subject: String,
    /// One sentence.
    pub what: String,
    /// Where it can be seen.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub remedy: &'static str,
    /// The pillars that it holds back.
    pub pillars: &'static [Pillar],
}

/// Something that could not be read or understood. It is never taken as fine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What was looked at.
    pub area: Area,
    /// The file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is not known, and why.
    pub why: String,
    /// How to come to know it.
    pub how: String,
    /// Findings of its area can be behind it.
    #[serde(skip)]
    pub hides: bool,
}
