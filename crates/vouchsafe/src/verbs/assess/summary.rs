//! The report on a terminal.

use std::io;

use vouchsafe_assess::finding::{Evidence, Finding, Severity};
use vouchsafe_assess::report::{PillarScore, Progress, Report, Who};

use crate::output::{Cell, Output, Style, Table, clean};
use crate::text;

/// Widest line where there is room for more.
const WIDTH: usize = 100;
/// Findings that are shown in full unless all are asked for.
const SHOWN: usize = 15;
/// Gaps and services that are shown unless all are asked for.
const LISTED: usize = 12;

/// Prints it.
pub(super) fn print(out: &Output, report: &Report, all: bool) -> io::Result<()> {
    let width = out.width().min(WIDTH);
    let host = report.host.as_deref().unwrap_or("this host");
    let system = report.system.as_deref().map(|system| format!(", {system}")).unwrap_or_default();
    out.line(&out.paint(Style::Bold, &clean(&format!("{host}{system}"))))?;
    out.line(&out.paint(Style::Dim, &text::moment(report.taken_at)))?;
    out.line("")?;
    counts(out, report)?;
    heading(out, "Pillars (CISA Zero Trust Maturity Model 2.0)")?;
    for pillar in &report.score.pillars {
        self::pillar(out, pillar, width)?;
    }
    if let Some(progress) = &report.progress {
        changes(out, progress)?;
    }
    services(out, report, all)?;
    findings(out, report, all, width)?;
    gaps(out, report, all, width)?;
    out.line("")
}

fn heading(out: &Output, words: &str) -> io::Result<()> {
    out.line("")?;
    out.line(&out.paint(Style::Bold, words))
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::High => Style::Bad,
        Severity::Medium => Style::Warn,
        Severity::Low => Style::Accent,
        Severity::Info => Style::Dim,
    }
}

fn counts(out: &Output, report: &Report) -> io::Result<()> {
    let counts = report.counts();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    for (severity, count) in counts {
        let bar = "█".repeat((count * 30).div_ceil(most).min(30));
        out.line(&format!("  {:>8} {count:>4} {}", severity.word(), out.paint(style(severity), &bar)))?;
    }
    out.line(&format!("  {:>8} {:>4}", "gaps", report.gaps.len()))
}

fn pillar(out: &Output, score: &PillarScore, width: usize) -> io::Result<()> {
    let (bar, stage) = match (score.points, score.stage) {
        (Some(points), Some(stage)) => {
            let full = usize::try_from(points.min(100)).unwrap_or_default() * 12 / 100;
            (format!("{}{}", "█".repeat(full), "░".repeat(12 - full)), stage.name())
        }
        _ => ("·".repeat(12), "not assessed"),
    };
    let style = match score.points {
        Some(0..=20) => Style::Bad,
        Some(21..=50) => Style::Warn,
        Some(_) => Style::Good,
        None => Style::Dim,
    };
    out.line(&format!("  {:<26} {} {stage}", score.pillar.name(), out.paint(style, &bar)))?;
    let behind = score.functions.iter().find(|function| function.stage.is_some() && function.stage == score.stage);
    if let Some(function) = behind {
        for line in wrapped(&format!("{}: {}", function.name, function.reason), width.saturating_sub(6)) {
            out.line(&format!("      {}", out.paint(Style::Dim, &line)))?;
        }
    }
    Ok(())
}

fn changes(out: &Output, progress: &Progress) -> io::Result<()> {
    heading(out, &format!("Since {}", text::moment(progress.since)))?;
    let not_seen = progress.not_seen.len();
    let more =
        if not_seen > 0 { format!(", {not_seen} not seen where something could not be read") } else { String::new() };
    out.line(&format!(
        "  {} solved, {} new, {} as before{more}",
        progress.solved.len(),
        progress.new.len(),
        progress.same
    ))?;
    for (sign, style, list) in
        [("✓", Style::Good, &progress.solved), ("+", Style::Bad, &progress.new), ("?", Style::Dim, &progress.not_seen)]
    {
        for change in list.iter().take(LISTED) {
            let words =
                format!("{sign} {} {} ({})", change.severity.word(), clean(&change.what), clean(&change.subject));
            out.line(&format!("  {}", out.paint(style, &words)))?;
        }
    }
    let points = |points: Option<u32>| points.map_or_else(|| "not assessed".to_owned(), |points| points.to_string());
    for step in progress.pillars.iter().filter(|step| step.then != step.now) {
        out.line(&format!("  {:<26} {} → {} of 100", step.pillar.name(), points(step.then), points(step.now)))?;
    }
    Ok(())
}

fn services(out: &Output, report: &Report, all: bool) -> io::Result<()> {
    if report.services.is_empty() {
        return Ok(());
    }
    heading(out, "Who can reach what")?;
    let mut table = Table::new(&["port", "service…", "reached by", "encrypted"]);
    let listed = if all { usize::MAX } else { LISTED };
    for service in report.services.iter().take(listed) {
        let style = match service.who {
            Who::Everybody => Style::Warn,
            Who::Unknown | Who::Networks => Style::Plain,
            Who::ThisHost | Who::Nobody => Style::Dim,
        };
        let encrypted = match service.encrypted {
            Some(true) => Cell::new(Style::Good, "yes"),
            Some(false) => Cell::new(Style::Bad, "no"),
            None => Cell::new(Style::Dim, "not known"),
        };
        let port = Cell::from(format!("{}/{}", service.port, service.protocol));
        table.row([port, Cell::from(&service.name), Cell::new(style, service.who.words()), encrypted]);
    }
    out.table(&table)?;
    more(out, report.services.len(), listed, "services")
}

fn more(out: &Output, count: usize, listed: usize, what: &str) -> io::Result<()> {
    match count.checked_sub(listed) {
        Some(left) if left > 0 => out.line(
            &out.paint(Style::Dim, &format!("  {left} more {what}: `--all`, `--json` or `--html FILE` show them")),
        ),
        _ => Ok(()),
    }
}

fn findings(out: &Output, report: &Report, all: bool, width: usize) -> io::Result<()> {
    heading(out, "Findings")?;
    if report.findings.is_empty() {
        return out.line("  nothing was found; see below what is not known");
    }
    let listed = if all { usize::MAX } else { SHOWN };
    for finding in report.findings.iter().take(listed) {
        one(out, finding, width)?;
    }
    more(out, report.findings.len(), listed, "findings")
}

fn one(out: &Output, finding: &Finding, width: usize) -> io::Result<()> {
    let word = out.paint(style(finding.severity), finding.severity.word());
    out.line(&format!("  {word} {}", out.paint(Style::Dim, finding.id)))?;
    let inner = width.saturating_sub(4);
    for line in wrapped(&finding.what, inner) {
        out.line(&format!("    {}", out.paint(Style::Bold, &line)))?;
    }
    for evidence in finding.evidence.iter().take(3) {
        for line in wrapped(&place(evidence), inner) {
            out.line(&format!("    {}", out.paint(Style::Dim, &line)))?;
        }
    }
    for line in wrapped(&format!("→ {}", finding.remedy), inner) {
        out.line(&format!("    {line}"))?;
    }
    Ok(())
}

fn place(evidence: &Evidence) -> String {
    let line = evidence.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}  {}", evidence.file, evidence.text)
}

fn gaps(out: &Output, report: &Report, all: bool, width: usize) -> io::Result<()> {
    if report.gaps.is_empty() {
        return Ok(());
    }
    heading(out, "Not known")?;
    let listed = if all { usize::MAX } else { LISTED };
    for gap in report.gaps.iter().take(listed) {
        let line = gap.line.map(|line| format!(":{line}")).unwrap_or_default();
        let file = if gap.file.is_empty() { gap.area.name().to_owned() } else { format!("{}{line}", gap.file) };
        for line in wrapped(&format!("? {file}: {}", gap.why), width.saturating_sub(2)) {
            out.line(&format!("  {line}"))?;
        }
        if !gap.how.is_empty() {
            for line in wrapped(&format!("  {}", gap.how), width.saturating_sub(2)) {
                out.line(&format!("    {}", out.paint(Style::Dim, line.trim_start())))?;
            }
        }
    }
    more(out, report.gaps.len(), listed, "gaps")
}

/// Text from elsewhere, made harmless and broken into lines; a word that is too long is broken as well.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let text = clean(text);
    let (mut lines, mut line) = (Vec::new(), String::new());
    let mut length = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut letters: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + letters.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while letters.len() > width {
            let rest = letters.split_off(width);
            lines.push(letters.into_iter().collect());
            letters = rest;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += letters.len();
        line.extend(letters);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_the_terminal() {
        let text = "a sentence of several words /a/path/that/is/longer/than/the/terminal/is/wide end";
        let lines = wrapped(text, 24);
        assert!(lines.iter().all(|line| line.chars().count() <= 24), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        assert_eq!(wrapped("a\u{1b}[2Jb", 40), ["a\\u{1b}[2Jb"]);
    }
}
