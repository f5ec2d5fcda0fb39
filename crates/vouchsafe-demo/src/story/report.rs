//! What the walk showed: as a table for people, and as data for programs.

use serde::Serialize;

/// What a step should come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reasons")]
pub enum Expectation {
    /// The request reaches the resource.
    Allowed,
    /// It is denied, for one of these reasons.
    Denied(Vec<&'static str>),
    /// The person is sent to sign in, for one of these reasons.
    SignIn(Vec<&'static str>),
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The resource answered.
    Allowed,
    /// The gateway denied it.
    Denied,
    /// The gateway sent the person to sign in.
    SignIn,
    /// Neither: something is broken.
    Failed,
}

impl Verdict {
    const fn words(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::SignIn => "sign-in",
            Verdict::Failed => "failed",
        }
    }
}

/// A thing that was checked beside the decision itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What, in words.
    pub what: String,
    /// Whether it held.
    pub held: bool,
    /// Whether people want to read it at each step.
    pub weight: Weight,
}

/// How much a proof tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Said at the step.
    Notable,
    /// The same at every step, so the table says it once at the end.
    Routine,
}

impl Proof {
    /// Something worth saying at its step.
    #[must_use]
    pub fn notable(what: impl Into<String>, held: bool) -> Self {
        Self { what: what.into(), held, weight: Weight::Notable }
    }

    /// Something that every step shows.
    #[must_use]
    pub fn routine(what: impl Into<String>, held: bool) -> Self {
        Self { what: what.into(), held, weight: Weight::Routine }
    }
}

/// One request of the walk, and all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Number, from 1.
    pub number: usize,
    /// Heading it stands under.
    pub chapter: &'static str,
    /// Who asked.
    pub by: String,
    /// On what device.
    pub on: String,
    /// From which address.
    pub from: String,
    /// What was asked for.
    pub asked: String,
    /// What it should come to.
    pub expected: Expectation,
    /// What it came to.
    pub got: Verdict,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// Id of the decision in the audit log.
    pub decision: Option<String>,
    /// Code of the reason, by the audit log.
    pub reason: Option<String>,
    /// The reason in words, by the audit log.
    pub why: String,
    /// Policies and grants that decided, by the audit log.
    pub policies: Vec<String>,
    /// What else was checked.
    pub proofs: Vec<Proof>,
}

impl Step {
    /// Whether everything was as it should be.
    #[must_use]
    pub fn ok(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        let as_expected = match &self.expected {
            Expectation::Allowed => self.got == Verdict::Allowed && reason == "permitted",
            Expectation::Denied(reasons) => self.got == Verdict::Denied && reasons.contains(&reason),
            Expectation::SignIn(reasons) => self.got == Verdict::SignIn && reasons.contains(&reason),
        };
        as_expected && self.proofs.iter().all(|proof| proof.held)
    }
}

/// The whole walk.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// How a report is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns of the terminal.
    pub width: usize,
    /// Colour and symbols, or plain text.
    pub ink: Ink,
}

/// Colour or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// ANSI colours.
    Colour,
    /// Text alone; nothing is lost.
    Plain,
}

const LEAST_WIDTH: usize = 60;
const MOST_WIDTH: usize = 140;
/// Indentation of the line that says why.
const INDENT: usize = 5;

impl Report {
    /// Whether every step was as it should be, and there was one.
    #[must_use]
    pub fn ok(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(Step::ok)
    }

    /// The walk as a table. Each row says who asked on what for what and what came of it; the line
    /// under it says why, and by which policy.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let table = Table::fit(&self.steps, look);
        let mut out = String::new();
        let mut chapter = "";
        for step in &self.steps {
            if step.chapter != chapter {
                chapter = step.chapter;
                out.push_str(&table.heading(chapter));
            }
            out.push_str(&table.row(step));
        }
        out.push('\n');
        for note in &self.notes {
            out.push_str(&table.paragraph(&format!("Note: {note}"), 0));
        }
        out.push_str(&table.closing(self));
        out
    }

    /// The walk as JSON, with `ok` for the whole and for each step.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let steps: Vec<serde_json::Value> = self
            .steps
            .iter()
            .map(|step| {
                let mut value = serde_json::to_value(step).unwrap_or_default();
                if let Some(members) = value.as_object_mut() {
                    members.insert("ok".to_owned(), step.ok().into());
                }
                value
            })
            .collect();
        serde_json::json!({"ok": self.ok(), "steps": steps, "notes": self.notes})
    }
}

/// Widths of the columns: who and where, what, and the decision.
struct Table {
    look: Look,
    width: usize,
    who: usize,
    asked: usize,
}

const DECISION_WIDTH: usize = 8;

impl Table {
    fn fit(steps: &[Step], look: Look) -> Self {
        let width = look.width.clamp(LEAST_WIDTH, MOST_WIDTH);
        // Mark and gaps: "  ✓  who  asked  decision".
        let room = width - INDENT - DECISION_WIDTH - 4;
        let widest = |text: &dyn Fn(&Step) -> String| steps.iter().map(|step| length(&text(step))).max().unwrap_or(0);
        let asked = widest(&|step: &Step| step.asked.clone()).min(room / 2);
        let who = widest(&who).min(room - asked);
        Self { look, width, who, asked }
    }

    fn heading(&self, text: &str) -> String {
        format!("\n  {}\n", self.paint(text, "1"))
    }

    fn row(&self, step: &Step) -> String {
        let (mark, colour) = if step.ok() { ("✓", "32") } else { ("✗", "1;31") };
        let verdict_colour = match step.got {
            Verdict::Allowed => "32",
            Verdict::Denied => "33",
            Verdict::SignIn => "36",
            Verdict::Failed => "1;31",
        };
        let verdict = self.paint(step.got.words(), verdict_colour);
        let who = cut(&who(step), self.who);
        let asked = cut(&step.asked, self.asked);
        let mut out =
            format!("  {}  {}  {}  {verdict}", self.paint(mark, colour), pad(&who, self.who), pad(&asked, self.asked));
        out.push('\n');
        let policies = match step.policies.is_empty() {
            true => String::new(),
            false => format!(" [{}]", step.policies.join(", ")),
        };
        let told = step.proofs.iter().filter(|proof| proof.held && proof.weight == Weight::Notable);
        let told: Vec<&str> = told.map(|proof| proof.what.as_str()).collect();
        let told = if told.is_empty() { String::new() } else { format!(" → {}", told.join("; ")) };
        out.push_str(&self.faint(&format!("{}{policies}{told}", step.why)));
        if !step.ok() {
            out.push_str(&self.mistake(step));
        }
        out
    }

    fn mistake(&self, step: &Step) -> String {
        let expected = match &step.expected {
            Expectation::Allowed => "allowed".to_owned(),
            Expectation::Denied(reasons) => format!("denied ({})", reasons.join(" or ")),
            Expectation::SignIn(reasons) => format!("sign-in ({})", reasons.join(" or ")),
        };
        let reason = step.reason.as_deref().unwrap_or("no record");
        let mut text = format!("WRONG: expected {expected}, got {} ({reason})", step.got.words());
        for proof in step.proofs.iter().filter(|proof| !proof.held) {
            text.push_str(&format!("; not so: {}", proof.what));
        }
        self.paragraph(&text, INDENT).lines().map(|line| format!("{}\n", self.paint(line, "1;31"))).collect()
    }

    fn closing(&self, report: &Report) -> String {
        let wrong = report.steps.iter().filter(|step| !step.ok()).count();
        let count = report.steps.len();
        match wrong {
            _ if count == 0 => format!("  {}\n", self.paint("✗ No step was made.", "1;31")),
            0 => {
                let all =
                    format!("✓ All {count} steps came out as they should, and each left exactly one audit record.");
                self.paragraph(&all, 2).lines().map(|line| format!("{}\n", self.paint(line, "1;32"))).collect()
            }
            _ => format!("  {}\n", self.paint(&format!("✗ {wrong} of {count} steps came out wrong."), "1;31")),
        }
    }

    fn faint(&self, text: &str) -> String {
        self.paragraph(text, INDENT).lines().map(|line| format!("{}\n", self.paint(line, "2"))).collect()
    }

    /// Wraps words into the width.
    fn paragraph(&self, text: &str, indent: usize) -> String {
        let indent = " ".repeat(indent.max(2));
        let mut out = String::new();
        let mut line = indent.clone();
        for word in text.split_whitespace() {
            if length(&line) + 1 + length(word) > self.width && line.len() > indent.len() {
                out.push_str(line.trim_end());
                out.push('\n');
                line.clone_from(&indent);
            }
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if line.len() > indent.len() {
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    fn paint(&self, text: &str, code: &str) -> String {
        match self.look.ink {
            Ink::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Ink::Plain => text.to_owned(),
        }
    }
}

fn who(step: &Step) -> String {
    format!("{} · {} · {}", step.by, step.on, step.from)
}

/// Characters; our texts hold no wide or combining ones.
fn length(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, got: Verdict, reason: &str) -> Step {
        Step {
            number,
            chapter: if number < 2 { "On her own laptop" } else { "Where she has no business" },
            by: "alice".to_owned(),
            on: "alice-laptop".to_owned(),
            from: "127.0.0.1".to_owned(),
            asked: if number < 2 { "GET marketing/".to_owned() } else { "CONNECT finance-db:5432".to_owned() },
            expected: if number < 2 { Expectation::Allowed } else { Expectation::Denied(vec!["no_permit"]) },
            got,
            status: Some(200),
            decision: Some("dec_1".to_owned()),
            reason: Some(reason.to_owned()),
            why: "Marketing may use the campaign app, as long as it is somebody of marketing who asks.".to_owned(),
            policies: vec!["marketing-app".to_owned()],
            proofs: vec![Proof::notable("it was reached once", true), Proof::routine("one audit record", true)],
        }
    }

    #[test]
    fn the_table_is_aligned_wrapped_and_complete_without_colour() {
        let report = Report {
            steps: vec![step(1, Verdict::Allowed, "permitted"), step(2, Verdict::Denied, "no_permit")],
            notes: vec!["No PostgreSQL server is installed.".to_owned()],
        };
        let expected = "
  On her own laptop
  ✓  alice · alice-laptop · 127.0.0.1  GET marketing/           allowed
     Marketing may use the campaign app, as long as it is somebody of
     marketing who asks. [marketing-app] → it was reached once

  Where she has no business
  ✓  alice · alice-laptop · 127.0.0.1  CONNECT finance-db:5432  denied
     Marketing may use the campaign app, as long as it is somebody of
     marketing who asks. [marketing-app] → it was reached once

  Note: No PostgreSQL server is installed.
  ✓ All 2 steps came out as they should, and each left exactly one audit
  record.
";
        let drawn = report.render(Look { width: 72, ink: Ink::Plain });
        assert_eq!(drawn, expected, "\n{drawn}");
        assert!(report.ok());
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let mut wrong = step(2, Verdict::Allowed, "permitted");
        wrong.proofs.push(Proof::routine("finance saw no request", false));
        let report = Report { steps: vec![wrong], notes: Vec::new() };
        let drawn = report.render(Look { width: 100, ink: Ink::Colour });
        assert!(drawn.contains("expected denied (no_permit), got allowed (permitted)"), "{drawn}");
        assert!(drawn.contains("not so: finance saw no request") && drawn.contains('✗'), "{drawn}");
        assert!(!report.ok());
        assert_eq!(report.to_json()["steps"][0]["ok"], false);
        assert!(!Report::default().ok());
    }

    #[test]
    fn a_right_verdict_for_another_reason_is_wrong() {
        assert!(!step(2, Verdict::Denied, "device_required").ok());
        assert!(!step(1, Verdict::Allowed, "").ok());
    }
}
