//! Tables, ratios beside their goals, and a plot.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::statistics::Spread;

/// What one contender's rounds gave.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) per_second: Vec<f64>,
    pub(super) p50: Vec<f64>,
    pub(super) p99: Vec<f64>,
    /// Microseconds of CPU time per request.
    pub(super) cpu: Vec<f64>,
}

impl Row {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, per_second: Vec::new(), p50: Vec::new(), p99: Vec::new(), cpu: Vec::new() }
    }
}

/// What a ratio is to be, over whom.
pub(super) struct Goal {
    most: Option<f64>,
    whom: &'static str,
}

impl Goal {
    pub(super) fn at_most(most: f64, whom: &'static str) -> Self {
        Self { most: Some(most), whom }
    }

    /// Of interest, without a goal.
    pub(super) fn no(whom: &'static str) -> Self {
        Self { most: None, whom }
    }
}

/// On what it was measured.
pub(super) fn head() {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    };
    for (program, argument) in [("nginx", "-v"), ("haproxy", "-v"), ("openssl", "version"), ("uname", "-sr")] {
        println!("{}", said(program, argument).unwrap_or_else(|| format!("{program}: unknown")));
    }
    println!();
}

pub(super) fn title(text: &str) {
    println!("{text}");
    println!();
}

pub(super) fn table(rows: &[Row]) {
    println!("| | requests/s | p50 µs | p99 µs | CPU µs per request (least to most) |");
    println!("| --- | --- | --- | --- | --- |");
    for row in rows {
        let median = |values: &[f64]| Spread::of(values).median;
        let cpu = Spread::of(&row.cpu);
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.1} ({:.1} to {:.1}) |",
            row.name,
            median(&row.per_second),
            median(&row.p50),
            median(&row.p99),
            cpu.median,
            cpu.least,
            cpu.most
        );
    }
    println!();
}

pub(super) fn ratio(what: &str, goal: &Goal, ours: &[f64], theirs: &[f64]) {
    let Spread { median, least, most } = Spread::of_ratios(ours, theirs);
    let verdict = match goal.most {
        Some(bound) if median <= bound => format!("goal ≤ {bound}: reached"),
        Some(bound) => format!("goal ≤ {bound}: NOT reached"),
        None => "no goal".to_owned(),
    };
    println!("{what} ÷ {}: median {median:.2}, least {least:.2}, most {most:.2}; {verdict}", goal.whom);
}

/// Draws CPU per request as bars, for light and dark pages.
pub(super) fn bars(name: &str, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    println!();
    let most = rows.iter().map(|row| Spread::of(&row.cpu).median).fold(1.0, f64::max);
    let (left, wide, step) = (250.0, 380.0, 34.0);
    let height = 44.0 + step * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"14\">\n<title>CPU time per request, microseconds</title>\n<style>\n\
         text {{ fill: #1f2328; }} .bar {{ fill: #8c959f; }} .ours {{ fill: #0969da; }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} .bar {{ fill: #6e7681; }} .ours {{ fill: #4493f8; }} }}\n\
         </style>\n<text x=\"10\" y=\"22\" font-weight=\"bold\">CPU time per request, µs (median; less is better)</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let cpu = Spread::of(&row.cpu).median;
        let (top, length) = (38.0 + step * index as f64, wide * cpu / most);
        let class = if row.name.starts_with("vouchsafe") { "bar ours" } else { "bar" };
        let middle = top + 17.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{left}\" y=\"{top:.0}\" width=\"{length:.0}\" height=\"24\" rx=\"3\"/>\n\
             <text x=\"{:.0}\" y=\"{middle:.0}\">{cpu:.1}</text>",
            left - 10.0,
            row.name,
            left + length + 8.0
        );
    }
    svg.push_str("</svg>\n");
    let dir = Path::new("docs/concepts/images");
    if Path::new("docs/concepts").is_dir() {
        fs::create_dir_all(dir)?;
        fs::write(dir.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}
