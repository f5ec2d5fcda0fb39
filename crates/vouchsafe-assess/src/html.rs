//! The report as one page: no scripts, nothing from elsewhere, and a policy that lets nothing in.

mod charts;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::finding::{Evidence, Finding};
use crate::report::{Change, Progress, Report, day};
use crate::text::short;

const STYLE: &str = include_str!("html/style.css");
/// Most files that are listed for one area.
const MAX_FILES: usize = 12;

/// The report as a page.
#[must_use]
pub fn page(report: &Report) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(hash.as_ref())
    );
    let host = report.host.as_deref().map_or_else(|| "this host".to_owned(), visible);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Assessment of " (host) }
                // The only text of ours that is not escaped: the style sheet, as it was hashed.
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body(report, &host)) } }
        }
    };
    page.into_string()
}

fn body(report: &Report, host: &str) -> Markup {
    html! {
        header {
            h1 { "How far is " (host) " from zero trust?" }
            p {
                "Looked at on " (day(report.taken_at))
                @if let Some(system) = &report.system { " · " (visible(system)) }
                @if let Some(root) = &report.root { " · files collected in " code { (visible(root)) } }
            }
        }
        nav {
            a href="#pillars" { "Pillars" } a href="#map" { "Who can reach what" } a href="#findings" { "Findings" }
            a href="#gaps" { "Not known" } a href="#reasons" { "Reasons" } a href="#drafts" { "Drafts" }
        }
        (counts(report))
        @if let Some(progress) = &report.progress { (changes(progress)) }
        (pillars(report))
        (map(report))
        (findings(report))
        (gaps(report))
        (reasons(report))
        (drafts(report))
        footer { "Made by vouchsafe assess, which reads files and changes nothing. Whoever holds this page knows where to begin: keep it to yourselves." }
    }
}

fn counts(report: &Report) -> Markup {
    let counts = report.counts();
    html! {
        section {
            h2 { "What was found" }
            (charts::severities(&counts))
            ul .counts {
                @for (severity, count) in counts { li class=(severity.word()) { strong { (count) } (severity.word()) } }
                li { strong { (report.gaps.len()) } "not known" }
            }
        }
    }
}

fn changes(progress: &Progress) -> Markup {
    let list = |class: &str, sign: &str, changes: &[Change]| {
        html! {
            @for change in changes.iter().take(100) {
                li { span class=(class) { (sign) } " " span .chip .(change.severity.word()) { (change.severity.word()) } " " (words(&change.what)) " " span .where { (visible(&change.subject)) } }
            }
            @if changes.len() > 100 { li .where { "and " (changes.len() - 100) " more" } }
        }
    };
    html! {
        section {
            h2 { "Since " (day(progress.since)) }
            p { (progress.solved.len()) " solved, " (progress.new.len()) " new, " (progress.same) " as before"
                @if !progress.not_seen.is_empty() { ", " (progress.not_seen.len()) " not seen this time, where something could not be read" } "." }
            article {
                ul {
                    (list("minus", "✓ solved", &progress.solved))
                    (list("plus", "+ new", &progress.new))
                    (list("where", "? not seen", &progress.not_seen))
                }
            }
            ul .legend {
                @for step in progress.pillars.iter().filter(|step| step.then != step.now) {
                    li { (step.pillar.name()) ": " (points(step.then)) " → " (points(step.now)) }
                }
            }
        }
    }
}

fn points(points: Option<u32>) -> String {
    points.map_or_else(|| "not assessed".to_owned(), |points| format!("{points} of 100"))
}

fn pillars(report: &Report) -> Markup {
    html! {
        section id="pillars" {
            h2 { "Pillars of the Zero Trust Maturity Model" }
            p .faint { "CISA's model, version 2.0, as far as the files of one host show it. A pillar is at the stage of its function that is furthest behind; the mark shows the mean of those that could be assessed." }
            ul .pillars {
                @for pillar in &report.score.pillars {
                    li {
                        span { (pillar.pillar.name()) }
                        (charts::pillar(pillar))
                        span .stage { @match pillar.stage { Some(stage) => (stage.name()), None => span .faint { "not assessed" } } }
                    }
                }
            }
            ul .legend { li { "Traditional" } li { "→ Initial" } li { "→ Advanced" } li { "→ Optimal" } }
        }
    }
}

fn reasons(report: &Report) -> Markup {
    html! {
        section id="reasons" {
            h2 { "Reasons for the stages" }
            @for pillar in &report.score.pillars {
                details open {
                    summary { (pillar.pillar.name()) }
                    table .stack {
                        thead { tr { th { "Function" } th { "Stage" } th { "Reason" } } }
                        tbody {
                            @for function in &pillar.functions {
                                tr {
                                    td { (function.name) }
                                    td { @match function.stage { Some(stage) => strong { (stage.name()) }, None => span .faint .nowrap { "not assessed" } } }
                                    td .faint { (visible(&function.reason)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn map(report: &Report) -> Markup {
    html! {
        section id="map" {
            h2 { "Who can reach what" }
            p .faint { "As this host decides it, by how each service is bound and by the firewall's saved rules. What stands in front of the host is not seen." }
            @if report.services.is_empty() {
                p { "No service was found." }
            } @else {
                div .wide { (charts::map(&report.services, false)) }
                div .narrow { (charts::map(&report.services, true)) }
                ul .legend { li { "green: encrypted" } li { "dashed: in the clear" } li { "grey: not known" } }
            }
        }
    }
}

fn findings(report: &Report) -> Markup {
    html! {
        section id="findings" {
            h2 { "Findings" }
            @if report.findings.is_empty() {
                p { "Nothing was found. See below what is not known." }
            }
            @for finding in &report.findings { (one(finding)) }
            @for (id, count) in &report.not_listed { p .faint { (count) " more of " code { (id) } " are not listed." } }
        }
    }
}

fn one(finding: &Finding) -> Markup {
    let pillars: Vec<&str> = finding.pillars.iter().map(|pillar| pillar.name()).collect();
    html! {
        article .(finding.severity.word()) {
            div .title { span .chip { (finding.severity.word()) } h3 { (words(&finding.what)) } }
            ul { @for evidence in &finding.evidence { li { (seen(evidence)) } } }
            p .remedy { (words(finding.remedy)) }
            p .meta { code { (finding.id) } span { (visible(&finding.subject)) } span { (pillars.join(", ")) } }
        }
    }
}

fn seen(evidence: &Evidence) -> Markup {
    html! {
        code .where { (visible(&evidence.file)) @if let Some(line) = evidence.line { ":" (line) } }
        " " @if !evidence.text.is_empty() { code { (visible(&evidence.text)) } }
    }
}

fn gaps(report: &Report) -> Markup {
    html! {
        section id="gaps" {
            h2 { "What is not known" }
            @if report.gaps.is_empty() { p { "Everything that was looked for could be read." } }
            @else {
                table .stack {
                    thead { tr { th { "Where" } th { "What" } th { "How to know" } } }
                    tbody {
                        @for gap in &report.gaps {
                            tr {
                                td { (gap.area.name()) @if !gap.file.is_empty() { br; code .where { (visible(&gap.file)) @if let Some(line) = gap.line { ":" (line) } } } }
                                td { (visible(&gap.why)) }
                                td .faint { (visible(&gap.how)) }
                            }
                        }
                    }
                }
            }
        }
        section {
            h2 { "What was read" }
            table .stack {
                tbody {
                    @for looked in &report.areas {
                        tr {
                            td { (looked.area.name()) }
                            td .faint {
                                @if looked.files.is_empty() { "nothing there" }
                                @for (at, file) in looked.files.iter().take(MAX_FILES).enumerate() { @if at > 0 { ", " } code { (visible(file)) } }
                                @if looked.files.len() > MAX_FILES { " and " (looked.files.len() - MAX_FILES) " more" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn drafts(report: &Report) -> Markup {
    html! {
        section id="drafts" {
            h2 { "Drafts of resources" }
            @if report.drafts.is_empty() { p { "No service was found that could become a resource." } }
            @else {
                p .faint { "Written as files by " code { "vouchsafe assess --drafts DIR" } ". What the host's files don't say is asked, not guessed." }
                @for draft in &report.drafts {
                    details open {
                        summary { code { (draft.name) } " · " (draft.kind) @if draft.resource(None).is_none() { " · needs an answer" } }
                        pre { (visible_lines(&draft.toml(None))) }
                    }
                }
            }
        }
    }
}

/// A sentence, with what stands between backquotes as code.
fn words(text: &str) -> Markup {
    let text = visible(text);
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Text from elsewhere, without what would turn or hide other text.
fn visible(text: &str) -> String {
    let shown: String = text.chars().map(|letter| if hides(letter) { '\u{fffd}' } else { letter }).collect();
    short(&shown, 400)
}

fn visible_lines(text: &str) -> String {
    text.chars().map(|letter| if letter != '\n' && hides(letter) { '\u{fffd}' } else { letter }).collect()
}

fn hides(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
