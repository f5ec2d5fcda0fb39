//! The audit log as a transparency log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the log stands, and by what it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLogState {
    /// Names the log in its checkpoints.
    pub origin: String,
    /// Verifier key of its checkpoints (C2SP `signed-note`).
    pub key: String,
    /// Records that were ever taken in: the position of the next.
    pub records: u64,
    /// How many of them were removed because they were old, from the first on.
    #[serde(default)]
    pub removed: u64,
    /// Records that are in the tree.
    pub hashed: u64,
    /// Records that the newest checkpoint covers.
    pub signed: u64,
    /// Root of the tree by the newest checkpoint, in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// When that was signed, unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<u64>,
    /// Records that the newest checkpoint covers which enough witnesses have cosigned; absent without witnesses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<u64>,
    /// How many witnesses are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<usize>,
    /// The witnesses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<AuditWitness>,
    /// Why nothing is signed at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<AuditTrouble>,
}

/// Who is asked to cosign checkpoints, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditWitness {
    /// Name of its key.
    pub name: String,
    /// Verifier key of its cosignatures (C2SP `tlog-cosignature`).
    pub key: String,
    /// Where it is asked.
    pub url: String,
    /// Records that the newest checkpoint covers which it cosigned since the controller's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<u64>,
    /// When, by its clock, unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned_at: Option<u64>,
    /// Why it gave no cosignature when it was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Why no checkpoint is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditTrouble {
    /// What is wrong.
    pub words: String,
    /// What to do.
    pub hint: String,
}

/// Which record is to be proven.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditProofQuery {
    /// Id of a decision, flow or session, or a position.
    pub record: String,
}

/// A record with the proof that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditProof {
    /// Position of the record that is proven.
    pub position: u64,
    /// The proof file (C2SP `tlog-proof`), with the record's bytes in its `extra` line.
    pub proof: String,
    /// Names of the witnesses that have cosigned its checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cosigned_by: Vec<String>,
    /// Positions of other records with that id, up to 99.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<u64>,
}

/// Begins a new log, where the old one can't go on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditFork {
    /// Why, for the record.
    pub reason: String,
}
