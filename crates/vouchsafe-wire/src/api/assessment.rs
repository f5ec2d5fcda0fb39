//! What a look at a host found (`vouchsafe assess`), as a controller keeps and shows it: without the evidence, which stays on
//! the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A look at a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessmentDoc {
    /// When, unix seconds.
    pub taken_at: u64,
    /// Name of the host, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// How mature it is, by the pillars of the CISA Zero Trust Maturity Model.
    pub pillars: Vec<AssessedPillar>,
    /// What stands in the way, worst first.
    pub findings: Vec<AssessedFinding>,
    /// Findings beside those.
    #[serde(default)]
    pub more_findings: u64,
    /// What could not be read or understood: behind each there may be findings.
    #[serde(default)]
    pub gaps: u64,
    /// Resources that could be.
    pub drafts: Vec<AssessedDraft>,
}

/// One pillar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedPillar {
    /// Its name.
    pub name: String,
    /// Its stage; absent where it wasn't assessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// 0 to 100; absent where it wasn't assessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u32>,
    /// Why, a line for each function of it.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedFinding {
    /// Id of its kind.
    pub id: String,
    /// `critical`, `high`, `medium`, `low` or `info`.
    pub severity: String,
    /// One sentence.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// A resource that could be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedDraft {
    /// Its name as a resource.
    pub name: String,
    /// `http` or `tcp`.
    pub kind: String,
    /// What to dial, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// One line for people.
    pub description: String,
    /// Networks from which people come today, where they are known.
    #[serde(default)]
    pub from: Vec<String>,
    /// What a person has to say or check.
    #[serde(default)]
    pub questions: Vec<String>,
}
