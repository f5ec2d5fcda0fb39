//! Whether a role can do its work, as `/readyz` says it and `vouchsafe doctor` reads it.

use serde::{Deserialize, Serialize};

/// The health of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// All of the checks hold: work may be sent here.
    pub ready: bool,
    /// What the process runs as: `up`, `controller` or `gateway`.
    pub role: String,
    /// Its version.
    pub version: String,
    /// Everything that must hold, in the order in which to look at it.
    pub checks: Vec<Check>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// A figure in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its name, one of a few.
    pub name: String,
    /// The words.
    pub words: String,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, one of a few.
    pub name: String,
    /// Whether it does.
    pub holds: bool,
    /// How it stands, in words.
    pub words: String,
    /// What to do when it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    /// It holds.
    #[must_use]
    pub fn holds(name: &str, words: impl Into<String>) -> Self {
        Self { name: name.to_owned(), holds: true, words: words.into(), hint: None }
    }

    /// It doesn't.
    #[must_use]
    pub fn fails(name: &str, words: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.to_owned(), holds: false, words: words.into(), hint: Some(hint.into()) }
    }
}
