//! How a host stands: the newest look at it, by pillars and findings, for the screen and for paper.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AssessedFinding, AssessedPillar, AssessmentDoc};

use super::parts::{chip, count, empty, grouped, sentence};
use super::{Admin, ConsoleError, chart, frame};
use crate::administrator::{assessment, standing};
use crate::context::Context;
use crate::pages::layout::{ago, at};

/// Severities, worst first, with the class of their colour.
const SEVERITIES: [(&str, &str); 5] =
    [("critical", "deny"), ("high", "deny"), ("medium", "weak"), ("low", ""), ("info", "")];
/// Drafts on the page.
const MOST_DRAFTS: usize = 100;

/// `GET /assessment`.
pub(super) async fn show(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let now = clock::unix_seconds(clock::now());
    let found = assessment::newest(&mut *context.store.read().await?).await?;
    let may_change = standing::may(&context, &actor, super::start::PLAN).await.is_ok();
    let (head, body) = match &found {
        None => (
            html! { div .head { h1 { "Assessment" } } },
            html! {
                section aria-label="Assessment" {
                    (empty("Nobody has looked yet", html! { "On the host that matters, run " code { "vouchsafe assess --send" } ". It reads only, changes nothing, and its report shows up here." }))
                }
            },
        ),
        Some(found) => (head(found, now), body(found, may_change)),
    };
    Ok(frame::headed("Assessment", "Assessment", &actor.label(), head, body))
}

fn head(found: &AssessmentDoc, now: u64) -> Markup {
    html! {
        div .head {
            div {
                h1 { "How " bdi { (found.host.as_deref().unwrap_or("this host")) } " stands" }
                p .facts {
                    @if let Some(system) = &found.system { (chip("", system)) }
                    span .faint { "looked at " (at(found.taken_at)) ", " (ago(found.taken_at, now)) }
                }
            }
            p .faint { "Look again with " code { "vouchsafe assess --send" } "; print this page for a report." }
        }
    }
}

/// Mean of what was assessed.
fn points(pillars: &[AssessedPillar]) -> Option<u32> {
    let known: Vec<u32> = pillars.iter().filter_map(|pillar| pillar.points).map(|points| points.min(100)).collect();
    let number = u32::try_from(known.len()).ok().filter(|number| *number > 0)?;
    Some(known.iter().sum::<u32>() / number)
}

fn body(found: &AssessmentDoc, may_change: bool) -> Markup {
    let of = |severity: &'static str| found.findings.iter().filter(move |one| one.severity == severity);
    html! {
        div .grid {
            section .w4.score aria-labelledby="score" {
                h2 #score { "Score" }
                (dial(points(&found.pillars)))
                p .faint { "Mean of the pillars that a host’s files can show, after the Zero Trust Maturity Model 2.0 of CISA. What isn’t assessed doesn’t count." }
            }
            section .w8 aria-labelledby="pillars" {
                h2 #pillars { "Pillars" }
                ul .top-list.pillars { @for pillar in &found.pillars { (one_pillar(pillar)) } }
            }
        }
        section aria-labelledby="findings" {
            div .head {
                h2 #findings { "What stands in the way" }
                p .facts { @for (severity, class) in SEVERITIES { @let number = of(severity).count(); @if number > 0 { (chip(class, &format!("{} {severity}", grouped(number as u64)))) } } }
            }
            @if found.findings.is_empty() { (empty("Nothing was found", html! { "Of what could be read, nothing stands in the way." })) }
            @else { (proportions(found)) }
            @for (severity, class) in SEVERITIES {
                @if of(severity).next().is_some() {
                    h3 { (severity) }
                    ul .findings { @for finding in of(severity) { (one_finding(finding, class)) } }
                }
            }
            @if found.more_findings > 0 { p .faint { "and " (grouped(found.more_findings)) " more, which " code { "vouchsafe assess --all" } " shows on the host" } }
            @if found.gaps > 0 { p .faint { (count(found.gaps, "place")) " could not be read or understood; there may be more behind." } }
        }
        @if may_change { (drafts(found)) }
    }
}

/// How far, as an arc of a circle.
fn dial(points: Option<u32>) -> Markup {
    let class = match points {
        Some(67..) => "allow",
        Some(34..) => "pass",
        Some(_) | None => "deny",
    };
    let words = points.map_or_else(|| "not assessed".to_owned(), |points| format!("{points} of 100"));
    html! {
        svg .dial viewBox="0 0 120 120" role="img" aria-label={ "Score: " (words) } {
            circle .track cx="60" cy="60" r="50" fill="none" stroke-width="12" {}
            @if let Some(points) = points {
                circle class={ "arc " (class) } cx="60" cy="60" r="50" fill="none" stroke-width="12" stroke-linecap="round"
                    pathLength="100" stroke-dasharray={ (points.max(1)) " 100" } transform="rotate(-90 60 60)" {}
                text .number x="60" y="66" text-anchor="middle" { (points) }
                text .of x="60" y="82" text-anchor="middle" { "of 100" }
            } @else { text .of x="60" y="64" text-anchor="middle" { "not assessed" } }
        }
    }
}

/// How many of each severity, as one bar.
fn proportions(found: &AssessmentDoc) -> Markup {
    let all = found.findings.len().max(1);
    let mut left = 0_usize;
    let pieces: Vec<(&str, usize, usize)> = SEVERITIES
        .iter()
        .map(|(severity, _)| {
            let number = found.findings.iter().filter(|one| one.severity == *severity).count();
            let piece = (*severity, left * 1_000 / all, number * 1_000 / all);
            left += number;
            piece
        })
        .collect();
    html! {
        svg .severities viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            @for (severity, from, wide) in pieces { @if wide > 0 { rect class=(severity) x=(from) y="0" width=(wide) height="14" {} } }
        }
    }
}

fn one_pillar(pillar: &AssessedPillar) -> Markup {
    let AssessedPillar { name, stage, points, reasons } = pillar;
    html! {
        li {
            div .line {
                span { bdi { (name) } }
                span { @match (stage, points) { (Some(stage), Some(points)) => { bdi { (stage) } ", " (points) }, (_, _) => span .faint { "not assessed" } } }
            }
            (chart::meter("allow", u64::from(points.unwrap_or(0).min(100)), 100))
            @if !reasons.is_empty() {
                details { summary { "Why" span .hidden { ": " (name) } } ul .plain { @for reason in reasons { li .faint { (sentence(reason)) } } } }
            }
        }
    }
}

fn one_finding(finding: &AssessedFinding, class: &str) -> Markup {
    let AssessedFinding { id, severity, what, remedy } = finding;
    html! {
        li {
            p { (chip(class, severity)) " " strong { (sentence(what)) } }
            p { (sentence(remedy)) }
            p .faint { code { (id) } }
        }
    }
}

fn drafts(found: &AssessmentDoc) -> Markup {
    html! {
        section .drafts aria-labelledby="drafts" {
            h2 #drafts { "What could be protected" }
            @if found.drafts.is_empty() { (empty("Nothing was found that listens", html! { "Or " a href="/start" { "write an address" } "." })) }
            ul .rows {
                @for draft in found.drafts.iter().take(MOST_DRAFTS) {
                    li {
                        div {
                            span .name { bdi { (draft.name) } } " " (chip("", &draft.kind))
                            p .faint { (sentence(&draft.description)) @if let Some(upstream) = &draft.upstream { ", at " code { (upstream) } } }
                            @for question in draft.questions.iter().take(2) { p .faint { "To check: " (sentence(question)) } }
                        }
                        @if draft.upstream.is_some() {
                            form method="get" action="/start/app" {
                                input type="hidden" name="draft" value=(draft.name);
                                button { "Protect" span .hidden { " " (draft.name) } }
                            }
                        }
                    }
                }
            }
            @if found.drafts.len() > MOST_DRAFTS { p .faint { "and " (found.drafts.len() - MOST_DRAFTS) " more" } }
        }
    }
}
