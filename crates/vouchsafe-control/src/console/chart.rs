//! Charts, drawn on the server: SVG that our own style sheet colours, with the same figures as text beside it.

use maud::{Markup, html};

use super::figures::{Bucket, Figures};
use super::parts::grouped;
use crate::pages::moment;

/// Height of a chart in its own units; it is stretched to the room that there is.
const HEIGHT: u64 = 100;
/// Width of one column, and of the bar in it.
const COLUMN: u64 = 10;
const BAR: u64 = 7;
/// Lines across.
const LINES: u64 = 4;
/// Times below it.
const TIMES: usize = 5;

/// What was allowed, passed and denied over time.
pub(super) fn over_time(figures: &Figures) -> Markup {
    let most = figures.buckets.iter().map(Bucket::all).max().unwrap_or_default();
    let top = round_up(most);
    let width = figures.buckets.len() as u64 * COLUMN;
    let (allowed, passed, denied) = figures.totals();
    let label = format!("{allowed} allowed, {denied} denied and {passed} passed by a mode, over time");
    html! {
        figure .chart {
            div .plot {
                div .scale aria-hidden="true" { @for line in (0..=LINES).rev() { span { (scale(top, line)) } } }
                svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
                    @for line in 0..=LINES {
                        line .gridline x1="0" x2=(width) y1=(HEIGHT * line / LINES) y2=(HEIGHT * line / LINES) {}
                    }
                    @for (place, bucket) in figures.buckets.iter().enumerate() {
                        @if bucket.all() > 0 { (column(place as u64, bucket, top)) }
                    }
                }
            }
            div .times aria-hidden="true" { @for time in times(figures) { span { (time) } } }
            details {
                summary { "As a table" }
                div .scroll tabindex="0" role="region" aria-label="Figures over time" {
                    table {
                        thead { tr { th scope="col" { "From" } th scope="col" .end { "Allowed" } th scope="col" .end { "Denied" } th scope="col" .end { "Passed" } } }
                        tbody {
                            @for bucket in figures.buckets.iter().filter(|bucket| bucket.all() > 0) {
                                tr { td { (moment(bucket.from)) } td .end { (grouped(bucket.allowed)) } td .end { (grouped(bucket.denied)) } td .end { (grouped(bucket.passed)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the colours mean.
pub(super) fn legend() -> Markup {
    html! {
        ul .legend {
            li { span .dot .allow {} "allowed" }
            li { span .dot .deny {} "denied" }
            li { span .dot .pass {} "denied, but passed by a mode" }
        }
    }
}

fn column(place: u64, bucket: &Bucket, top: u64) -> Markup {
    let x = place * COLUMN + (COLUMN - BAR) / 2;
    let mut base = 0;
    let parts = [("bar-allow", bucket.allowed), ("bar-pass", bucket.passed), ("bar-deny", bucket.denied)];
    let title = format!(
        "{}: {} allowed, {} denied, {} passed",
        moment(bucket.from),
        bucket.allowed,
        bucket.denied,
        bucket.passed
    );
    html! {
        g .column {
            title { (title) }
            @for (class, number) in parts {
                @if number > 0 {
                    @let (from, to) = (height(base, top), height(base + number, top));
                    rect class=(class) x=(x) width=(BAR) y=(decimal(HEIGHT * 100 - to)) height=(decimal((to - from).max(60))) {}
                    ({ base += number; "" })
                }
            }
        }
    }
}

/// In hundredths of the chart's units.
fn height(number: u64, top: u64) -> u64 {
    number.min(top) * HEIGHT * 100 / top.max(1)
}

fn decimal(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The end of the scale: a number that four lines divide.
fn round_up(most: u64) -> u64 {
    let mut step = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let top = step.saturating_mul(factor).saturating_mul(LINES);
            if top >= most {
                return top;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn scale(top: u64, line: u64) -> String {
    match top * line / LINES {
        number @ 0..10_000 => grouped(number),
        number @ 10_000..10_000_000 => format!("{}k", grouped(number / 1_000)),
        number => format!("{}M", grouped(number / 1_000_000)),
    }
}

fn times(figures: &Figures) -> Vec<String> {
    let span = figures.until.saturating_sub(figures.since);
    let place = |index: usize| figures.since + span * index as u64 / (TIMES as u64 - 1);
    (0..TIMES)
        .map(|index| {
            let text = moment(place(index));
            // `2026-11-27 21:04 UTC`: the day matters where there are several.
            if span > 172_800 { text.get(5..10) } else { text.get(11..16) }.unwrap_or_default().to_owned()
        })
        .collect()
}

/// A short bar for a part of a whole.
pub(super) fn meter(class: &str, part: u64, whole: u64) -> Markup {
    let width = (part.min(whole) * 1_000).checked_div(whole).unwrap_or_default();
    html! {
        svg .meter viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect .track x="0" y="0" width="1000" height="10" rx="5" {}
            rect class={ "value " (class) } x="0" y="0" width=(width) height="10" rx="5" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_above_what_it_shows_at_a_round_number() {
        for (most, top) in [(0, 4), (1, 4), (4, 4), (5, 8), (9, 20), (21, 40), (41, 80), (81, 200), (1_000, 2_000)] {
            assert_eq!(round_up(most), top, "{most}");
        }
        assert!(round_up(u64::MAX) == u64::MAX);
    }
}
