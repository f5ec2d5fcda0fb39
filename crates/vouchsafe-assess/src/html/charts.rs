//! Pictures, drawn as SVG by hand. Colours are classes of the style sheet.

use maud::{Markup, html};

use super::visible;
use crate::finding::Severity;
use crate::report::{PillarScore, Who};
use crate::score::Stage;
use crate::services::Service;
use crate::text::short;

/// Most services that the map shows.
const MAX_SERVICES: usize = 60;

/// One bar, with a part for each severity.
pub(super) fn severities(counts: &[(Severity, usize)]) -> Markup {
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let mut at = 0;
    let mut parts = Vec::new();
    for (severity, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let width = (1_000 * count / total.max(1)).max(8);
        parts.push((severity.word(), at, width));
        at += width;
    }
    let words: Vec<String> = counts.iter().map(|(severity, count)| format!("{count} {}", severity.word())).collect();
    html! {
        svg viewBox=(format!("0 0 {} 22", at.max(1_000))) preserveAspectRatio="none" role="img" aria-label=(words.join(", ")) height="22" {
            rect class="empty" x="0" y="0" width=(at.max(1_000)) height="22" {}
            @for (word, x, width) in parts { g class=(word) { rect class="tone" x=(x) y="0" width=(width.saturating_sub(3)) height="22" {} } }
        }
    }
}

/// Four fields, filled up to the stage, and a mark at the points.
pub(super) fn pillar(score: &PillarScore) -> Markup {
    let reached =
        score.stage.map_or(0, |stage| Stage::ALL.iter().position(|known| *known == stage).unwrap_or_default() + 1);
    let label = score.stage.map_or("not assessed", Stage::name);
    html! {
        svg viewBox="0 0 400 18" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for field in 0..4_usize {
                rect class=(if field < reached { "full" } else { "empty" }) x=(field * 100) y="4" width="96" height="10" {}
            }
            @if let Some(points) = score.points {
                rect class="mark" x=(46 + points.min(100) * 3) y="0" width="4" height="18" {}
            }
        }
    }
}

/// Who can reach what: those who come at the left, services at the right, a line for each way.
pub(super) fn map(services: &[Service], narrow: bool) -> Markup {
    let zones: Vec<(Who, Vec<&Service>)> = [Who::Everybody, Who::Unknown, Who::Networks, Who::ThisHost, Who::Nobody]
        .into_iter()
        .map(|who| (who, services.iter().filter(|service| service.who == who).collect::<Vec<_>>()))
        .filter(|(_, services)| !services.is_empty())
        .collect();
    if narrow { stacked(&zones, services.len()) } else { wired(&zones, services.len()) }
}

fn class(service: &Service) -> &'static str {
    match service.encrypted {
        Some(true) => "safe",
        Some(false) => "clear",
        None => "",
    }
}

fn label(service: &Service, most: usize) -> String {
    let place = format!("{}/{}", service.port, service.protocol);
    let name = short(&visible(&service.name), most.saturating_sub(place.len() + 2));
    format!("{place}  {name}")
}

fn zone(who: Who) -> &'static str {
    match who {
        Who::Everybody => "Everybody who reaches the host",
        Who::Unknown => "Not known: rules not judged",
        Who::Networks => "Some networks",
        Who::ThisHost => "Processes of the host",
        Who::Nobody => "Nobody: the firewall closes it",
    }
}

fn networks(services: &[&Service]) -> String {
    let mut all: Vec<String> =
        services.iter().flat_map(|service| service.networks.iter().map(ToString::to_string)).collect();
    all.sort();
    all.dedup();
    short(&all.join(", "), 34)
}

fn wired(zones: &[(Who, Vec<&Service>)], total: usize) -> Markup {
    const ROW: usize = 30;
    const GAP: usize = 18;
    let mut y = 10;
    let mut left = 0;
    let mut groups = Vec::new();
    for (who, services) in zones {
        let shown: Vec<&Service> = services.iter().copied().take(MAX_SERVICES.saturating_sub(left)).collect();
        left += shown.len();
        if shown.is_empty() {
            break;
        }
        let height = (shown.len() * ROW).max(52);
        groups.push((*who, networks(&shown), shown, y, height));
        y += height + GAP;
    }
    let beyond = total.saturating_sub(left);
    html! {
        svg viewBox=(format!("0 0 760 {}", y + if beyond > 0 { 20 } else { 0 })) role="img" aria-label="Who can reach which service" {
            @for (who, nets, shown, top, height) in &groups {
                @let middle = top + height / 2;
                rect class="box" x="4" y=(middle - 24) width="250" height="48" rx="12" {}
                text x="18" y=(if nets.is_empty() { middle + 5 } else { middle - 3 }) { (zone(*who)) }
                @if !nets.is_empty() { text class="dim" x="18" y=(middle + 15) { (nets) } }
                @for (at, service) in shown.iter().enumerate() {
                    @let row = top + at * ROW + ROW / 2 + height.saturating_sub(shown.len() * ROW) / 2;
                    @if *who != Who::Nobody {
                        path class=(format!("wire {}", class(service))) d=(format!("M254 {middle} C 310 {middle}, 310 {row}, 362 {row}")) {}
                    }
                    circle class=(format!("dot {}", class(service))) cx="366" cy=(row) r="5" {}
                    text x="382" y=(row + 5) { (label(service, 50)) }
                }
            }
            @if beyond > 0 { text class="dim" x="382" y=(y + 8) { "and " (beyond) " more, in the JSON report" } }
        }
    }
}

fn stacked(zones: &[(Who, Vec<&Service>)], total: usize) -> Markup {
    const ROW: usize = 26;
    let mut y = 4;
    let mut left = 0;
    let mut groups = Vec::new();
    for (who, services) in zones {
        let shown: Vec<&Service> = services.iter().copied().take(MAX_SERVICES.saturating_sub(left)).collect();
        left += shown.len();
        if shown.is_empty() {
            break;
        }
        let nets = networks(&shown);
        let head = if nets.is_empty() { 30 } else { 48 };
        let height = head + shown.len() * ROW;
        groups.push((*who, nets, head, shown, y));
        y += height + 14;
    }
    let beyond = total.saturating_sub(left);
    html! {
        svg viewBox=(format!("0 0 340 {}", y + if beyond > 0 { 20 } else { 0 })) role="img" aria-label="Who can reach which service" {
            @for (who, nets, head, shown, top) in &groups {
                rect class="box" x="1" y=(top) width="338" height=(head - 6) rx="8" {}
                text x="12" y=(top + 17) { (zone(*who)) }
                @if !nets.is_empty() { text class="dim" x="12" y=(top + 35) { (nets) } }
                @for (at, service) in shown.iter().enumerate() {
                    @let row = top + head + at * ROW + 10;
                    @if *who != Who::Nobody {
                        path class=(format!("wire {}", class(service))) d=(format!("M14 {} V{row} H26", top + head - 6)) {}
                    }
                    circle class=(format!("dot {}", class(service))) cx="30" cy=(row) r="4" {}
                    text x="42" y=(row + 5) { (label(service, 38)) }
                }
            }
            @if beyond > 0 { text class="dim" x="42" y=(y + 8) { "and " (beyond) " more" } }
        }
    }
}
