//! The report: everything found, and what changed since an earlier one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::drafts::Draft;
use crate::finding::{Area, Evidence, Finding, Gap, Pillar, Severity};
use crate::notes::Notes;
use crate::score::{Score, Stage};
use crate::services::{Service, Services};
use crate::source::Source;

pub use crate::score::{Function, PillarScore};
pub use crate::services::{What, Who};

/// Version of the format.
const VERSION: u32 = 1;
/// Largest earlier report, bytes.
pub const MAX_BASELINE: u64 = 64 << 20;

/// What a look found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this format.
    pub version: u32,
    /// Unix seconds.
    pub taken_at: u64,
    /// Name of the host, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its system, such as `Debian GNU/Linux 12 (bookworm)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The directory of collected files, where it was no look at this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// What was looked at.
    pub areas: Vec<Looked>,
    /// Stages of the maturity model.
    pub score: Score,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Findings that were too many to list, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_listed: BTreeMap<&'static str, usize>,
    /// What could not be read or understood.
    pub gaps: Vec<Gap>,
    /// What listens.
    pub services: Vec<Service>,
    /// Resources that could be.
    pub drafts: Vec<Draft>,
    /// What changed since an earlier report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// What was looked at in one area.
#[derive(Debug, Clone, Serialize)]
pub struct Looked {
    /// The area.
    pub area: Area,
    /// Files that were read, up to a thousand.
    pub files: Vec<String>,
    /// Gaps in it.
    pub gaps: usize,
}

/// What changed since an earlier report.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// When that one was taken, Unix seconds.
    pub since: u64,
    /// Findings that it had not.
    pub new: Vec<Change>,
    /// Findings that it had, and that are gone.
    pub solved: Vec<Change>,
    /// Findings that it had in an area that could not be read whole this time.
    pub not_seen: Vec<Change>,
    /// How many are in both.
    pub same: usize,
    /// Stages then and now.
    pub pillars: Vec<Step>,
}

/// A finding that came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is or was.
    pub severity: Severity,
    /// One sentence.
    pub what: String,
}

/// One pillar then and now.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The pillar.
    pub pillar: Pillar,
    /// Points then, where it was assessed.
    pub then: Option<u32>,
    /// Points now.
    pub now: Option<u32>,
    /// Stage then.
    pub stage_then: Option<Stage>,
    /// Stage now.
    pub stage_now: Option<Stage>,
}

/// As much of an earlier report as progress needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Baseline {
    version: u32,
    taken_at: u64,
    #[serde(default)]
    host: Option<String>,
    findings: Vec<EarlierFinding>,
    score: EarlierScore,
}

#[derive(Debug, Clone, Deserialize)]
struct EarlierFinding {
    id: String,
    severity: Severity,
    area: Area,
    subject: String,
    what: String,
}

#[derive(Debug, Clone, Deserialize)]
struct EarlierScore {
    pillars: Vec<EarlierPillar>,
}

#[derive(Debug, Clone, Deserialize)]
struct EarlierPillar {
    pillar: Pillar,
    points: Option<u32>,
    stage: Option<Stage>,
}

/// Failure to use an earlier report.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is no report.
    #[error("it is no report of `vouchsafe assess --json`")]
    Format(#[source] serde_json::Error),
    /// Another version of the program wrote it.
    #[error("it has version {0} of the format, and {VERSION} is read")]
    Version(u32),
}

impl Baseline {
    /// Reads what `assess --json` printed.
    ///
    /// # Errors
    /// [`BaselineError`].
    pub fn parse(text: &[u8]) -> Result<Self, BaselineError> {
        let read: Self = serde_json::from_slice(text).map_err(BaselineError::Format)?;
        if read.version == VERSION { Ok(read) } else { Err(BaselineError::Version(read.version)) }
    }

    /// The host that it is about.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

impl Report {
    /// Says what changed since an earlier report.
    pub fn compare(&mut self, earlier: &Baseline) {
        let key = |id: &str, subject: &str| format!("{id}\0{subject}");
        let before: BTreeMap<String, &EarlierFinding> =
            earlier.findings.iter().map(|found| (key(&found.id, &found.subject), found)).collect();
        let now: BTreeMap<String, &Finding> =
            self.findings.iter().map(|found| (key(found.id, &found.subject), found)).collect();
        let change_now = |found: &&Finding| Change {
            id: found.id.to_owned(),
            subject: found.subject.clone(),
            severity: found.severity,
            what: found.what.clone(),
        };
        let change_then = |found: &&EarlierFinding| Change {
            id: crate::text::short(&found.id, 60),
            subject: crate::text::short(&found.subject, 200),
            severity: found.severity,
            what: crate::text::short(&found.what, 300),
        };
        let gone: Vec<&EarlierFinding> =
            before.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(_, found)| *found).collect();
        let has_gap = |area: Area| self.gaps.iter().any(|gap| gap.area == area && gap.hides);
        let (not_seen, solved): (Vec<_>, Vec<_>) = gone.into_iter().partition(|found| has_gap(found.area));
        let pillars = self.score.pillars.iter().map(|pillar| {
            let then = earlier.score.pillars.iter().find(|earlier| earlier.pillar == pillar.pillar);
            Step {
                pillar: pillar.pillar,
                then: then.and_then(|then| then.points).map(|points| points.min(100)),
                now: pillar.points,
                stage_then: then.and_then(|then| then.stage),
                stage_now: pillar.stage,
            }
        });
        let mut progress = Progress {
            since: earlier.taken_at,
            new: now.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, found)| change_now(found)).collect(),
            solved: solved.iter().map(change_then).collect(),
            not_seen: not_seen.iter().map(change_then).collect(),
            same: now.keys().filter(|key| before.contains_key(*key)).count(),
            pillars: pillars.collect(),
        };
        for list in [&mut progress.new, &mut progress.solved, &mut progress.not_seen] {
            list.sort_by(|one, two| two.severity.cmp(&one.severity).then_with(|| one.subject.cmp(&two.subject)));
        }
        self.progress = Some(progress);
    }

    /// How many findings there are of each severity, worst first.
    #[must_use]
    pub fn counts(&self) -> [(Severity, usize); 5] {
        Severity::ALL
            .map(|severity| (severity, self.findings.iter().filter(|found| found.severity == severity).count()))
    }
}

/// Puts the report together.
pub(crate) fn finish(
    source: &Source,
    now: u64,
    (host, system): (Option<String>, Option<String>),
    notes: Notes,
    services: Services,
    score: Score,
) -> Report {
    let Notes { mut findings, gaps, read, beyond } = notes;
    findings.sort_by(|one, two| {
        two.severity.cmp(&one.severity).then_with(|| one.id.cmp(two.id)).then_with(|| one.subject.cmp(&two.subject))
    });
    for evidence in findings.iter_mut().flat_map(|found| &mut found.evidence) {
        let Evidence { file, text, .. } = evidence;
        *file = crate::text::short(file, 300);
        *text = crate::text::short(text, 300);
    }
    let areas = Area::ALL.map(|area| Looked {
        area,
        files: read.get(&area).cloned().unwrap_or_default(),
        gaps: gaps.iter().filter(|gap| gap.area == area).count(),
    });
    Report {
        version: VERSION,
        taken_at: now,
        host,
        system,
        root: source.label().map(str::to_owned),
        areas: areas.to_vec(),
        score,
        findings,
        not_listed: beyond,
        gaps,
        services: services.all,
        drafts: services.drafts,
        progress: None,
    }
}

/// `2026-11-27`
pub(crate) fn day(unix_seconds: u64) -> String {
    let at = i64::try_from(unix_seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map_or_else(
        || unix_seconds.to_string(),
        |at| format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day()),
    )
}
