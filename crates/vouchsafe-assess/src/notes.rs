//! What is found and what could not be read, on the way to a report.

use std::collections::BTreeMap;

use crate::finding::{Area, Evidence, Finding, Gap, Severity};
use crate::kinds::Kind;
use crate::source::{MAX_CONFIG, ReadError, Source};

/// Most findings of one kind; what is beyond is counted.
const MAX_OF_A_KIND: usize = 500;
/// Most gaps of one area.
const MAX_GAPS: usize = 200;

/// What is known so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub findings: Vec<Finding>,
    pub gaps: Vec<Gap>,
    /// Files that were read, by area.
    pub read: BTreeMap<Area, Vec<String>>,
    /// Findings that were too many, by kind.
    pub beyond: BTreeMap<&'static str, usize>,
}

impl Notes {
    /// Notes a finding of that kind.
    pub(crate) fn find(
        &mut self,
        kind: &'static Kind,
        subject: impl Into<String>,
        what: impl Into<String>,
        evidence: impl Into<Vec<Evidence>>,
    ) {
        self.record(kind, kind.severity, kind.area, subject, what, evidence);
    }

    /// Notes a finding that is better or worse than its kind mostly is.
    pub(crate) fn find_as(
        &mut self,
        kind: &'static Kind,
        severity: Severity,
        subject: impl Into<String>,
        what: impl Into<String>,
        evidence: impl Into<Vec<Evidence>>,
    ) {
        self.record(kind, severity, kind.area, subject, what, evidence);
    }

    /// Notes a finding of a kind that several areas have.
    pub(crate) fn find_in(
        &mut self,
        area: Area,
        kind: &'static Kind,
        subject: impl Into<String>,
        what: impl Into<String>,
        evidence: impl Into<Vec<Evidence>>,
    ) {
        self.record(kind, kind.severity, area, subject, what, evidence);
    }

    /// Notes a finding of a kind that several areas have, better or worse than it mostly is.
    pub(crate) fn find_at(
        &mut self,
        area: Area,
        kind: &'static Kind,
        severity: Severity,
        subject: impl Into<String>,
        what: impl Into<String>,
        evidence: impl Into<Vec<Evidence>>,
    ) {
        self.record(kind, severity, area, subject, what, evidence);
    }

    fn record(
        &mut self,
        kind: &'static Kind,
        severity: Severity,
        area: Area,
        subject: impl Into<String>,
        what: impl Into<String>,
        evidence: impl Into<Vec<Evidence>>,
    ) {
        let subject = crate::text::short(&subject.into(), 200);
        if let Some(before) = self.findings.iter_mut().find(|found| found.id == kind.id && found.subject == subject) {
            // The same thing seen in another place.
            before.severity = before.severity.max(severity);
            let room = 20_usize.saturating_sub(before.evidence.len());
            let new: Vec<Evidence> =
                evidence.into().into_iter().filter(|seen| !before.evidence.contains(seen)).collect();
            before.evidence.extend(new.into_iter().take(room));
            return;
        }
        if self.findings.iter().filter(|found| found.id == kind.id).count() >= MAX_OF_A_KIND {
            *self.beyond.entry(kind.id).or_default() += 1;
            return;
        }
        self.findings.push(Finding {
            id: kind.id,
            severity,
            area,
            subject,
            what: what.into(),
            evidence: evidence.into(),
            remedy: kind.remedy,
            pillars: kind.pillars,
        });
    }

    /// Whether something of that kind was found.
    pub(crate) fn has(&self, kind: &'static Kind) -> bool {
        self.findings.iter().any(|found| found.id == kind.id)
    }

    /// Notes what is not known, where no finding can be behind it.
    pub(crate) fn remark(&mut self, area: Area, file: &str, why: impl Into<String>, how: &str) {
        self.gap(area, file, None, why, how);
        if let Some(gap) = self.gaps.last_mut() {
            gap.hides = gap.area != area || gap.file != file;
        }
    }

    /// Notes what is not known.
    pub(crate) fn gap(&mut self, area: Area, file: &str, line: Option<usize>, why: impl Into<String>, how: &str) {
        let of_area = self.gaps.iter().filter(|gap| gap.area == area).count();
        let gap = match of_area.cmp(&MAX_GAPS) {
            std::cmp::Ordering::Less => Gap {
                area,
                file: file.to_owned(),
                line,
                why: crate::text::short(&why.into(), 300),
                how: how.to_owned(),
                hides: true,
            },
            std::cmp::Ordering::Equal => Gap {
                area,
                file: String::new(),
                line: None,
                why: format!("more than {MAX_GAPS} things could not be read or understood; the others are not listed"),
                how: String::new(),
                hides: true,
            },
            std::cmp::Ordering::Greater => return,
        };
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    /// Notes why a file could not be read. What isn't there is no gap.
    pub(crate) fn unreadable(&mut self, area: Area, file: &str, error: ReadError) {
        let how = match error {
            ReadError::Missing => return,
            ReadError::Denied => "run this as root, or give a copy with --root",
            ReadError::TooLarge(_) | ReadError::Exhausted => "look at it by hand",
            ReadError::NotAFile => "put the file itself there",
            ReadError::System(_) => "see why the system refuses",
        };
        self.gap(area, file, None, format!("not read: {error}"), how);
    }

    /// Notes a line that makes no sense.
    pub(crate) fn broken(&mut self, area: Area, file: &str, line: usize, why: impl Into<String>) {
        self.gap(area, file, Some(line), why, "mend the line, then look again");
    }

    /// Text of a configuration file. What isn't there is `None` and no gap.
    pub(crate) fn text(&mut self, area: Area, source: &Source, file: &str) -> Option<String> {
        self.text_up_to(area, source, file, MAX_CONFIG)
    }

    /// Text of a file up to that size.
    pub(crate) fn text_up_to(&mut self, area: Area, source: &Source, file: &str, limit: u64) -> Option<String> {
        let bytes = match source.bytes(file, limit) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.unreadable(area, file, error);
                return None;
            }
        };
        self.have_read(area, file);
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            let line = bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            self.gap(
                area,
                file,
                Some(line),
                "holds a zero byte, so it is no text; what follows it was left out",
                "look at it by hand",
            );
            return Some(String::from_utf8_lossy(bytes.get(..at).unwrap_or_default()).into_owned());
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Notes that a file was read.
    pub(crate) fn have_read(&mut self, area: Area, file: &str) {
        let files = self.read.entry(area).or_default();
        if !files.iter().any(|known| known == file) && files.len() < 1_000 {
            files.push(file.to_owned());
        }
    }

    /// Files that a pattern stands for; one that can't be listed is a gap.
    pub(crate) fn glob(&mut self, area: Area, source: &Source, pattern: &str) -> Vec<String> {
        source.glob(pattern).unwrap_or_else(|error| {
            self.unreadable(area, pattern, error);
            Vec::new()
        })
    }
}
