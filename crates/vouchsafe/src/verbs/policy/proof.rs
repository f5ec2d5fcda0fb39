//! `policy prove`: what holds of the policies of a directory for every request there can be.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vouchsafe_policy::PlainPolicy;
use vouchsafe_proof::{Asked, Finding, Limits, Proof, Report, Scope, SolverError, Verdict};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;

use super::{findings, sources};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest::{self, ManifestError};
use crate::output::{Output, Style};
use crate::prover;
use crate::text;
use crate::verbs::plan::unusable;

/// What is to be proven.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of .cedar files and invariants.
    #[arg(id = "files", value_name = "DIR")]
    dir: PathBuf,
    /// Proves too that nothing is allowed that the policies of this directory don't allow.
    #[arg(long, value_name = "DIR")]
    no_more_than: Option<PathBuf>,
    /// Proves too that no policy can fail, and that each applies to something.
    #[arg(long)]
    each: bool,
    /// The solver.
    #[arg(long, value_name = "PROGRAM", default_value = "cvc5")]
    solver: PathBuf,
    /// Time for each question, such as `30s`.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = text::duration)]
    within: Duration,
    /// Memory for each of the solver's processes, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    memory: u64,
}

pub(crate) fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { dir, no_more_than, each, solver, within, memory } = args;
    let policies = policies(call, dir)?;
    let files = manifest::invariant_files(dir).map_err(|error| unusable(call, error))?;
    let invariants = vouchsafe_proof::read(files.iter().map(|file| (file.name.as_str(), file.text.as_str())))
        .map_err(|wrong| unreadable(dir, &wrong))?;
    if invariants.is_empty() && no_more_than.is_none() && !each {
        return Err(VerbError::failed(format!("`{}` says nothing that is to be proven", dir.display())).hint(
            "invariants are .toml files below a folder `invariants` of the directory; docs/guide/proving.md shows one; \
             `--each` looks at each policy by itself",
        ));
    }
    let no_more_than = no_more_than.as_deref().map(|dir| self::policies(call, dir)).transpose()?;
    let scope = Scope { no_more_than, each: *each, computing: false };
    let proof = Proof { policies: &policies, invariants, scope, now: clock::now() };
    let limits = Limits { time: *within, all: None, memory_kib: memory.saturating_mul(1024) };
    let solver = vouchsafe_proof::find(solver).map_err(no_solver)?;
    let bar = progress(call);
    let report = vouchsafe_proof::prove(proof, &solver, limits, |done, all| {
        bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    });
    bar.finish_and_clear();
    let report = report.map_err(no_solver)?;
    let exit = if report.proven { Exit::Ok } else { Exit::Failed };
    if call.out.is_json() {
        call.out.json(&report)?;
    } else {
        tell(&call.out, &report)?;
    }
    Ok(exit)
}

fn policies(call: &Call, dir: &Path) -> Result<Vec<PlainPolicy>, VerbError> {
    let files = manifest::policy_files(dir).map_err(|error| unusable(call, error))?;
    vouchsafe_policy::plain(&sources(&files), &side_by_side).map_err(|found| {
        let diagnostics = found.into_iter().map(super::drawable).collect();
        unusable(call, ManifestError::Mistakes { path: dir.to_owned(), diagnostics, files })
    })
}

fn unreadable(dir: &Path, wrong: &[vouchsafe_proof::InvariantError]) -> VerbError {
    let error = VerbError::failed(format!("`{}` holds invariants that can't be used", dir.display()));
    wrong.iter().take(20).fold(error, |error, wrong| error.cause(wrong.to_string()).hint(&wrong.hint))
}

fn no_solver(error: SolverError) -> VerbError {
    VerbError::of(Exit::Failed, &error)
        .hint("install cvc5 (Debian: `apt install cvc5`), or name the program with `--solver`")
}

fn progress(call: &Call) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !call.out.reaches_a_person() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} questions  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn tell(out: &Output, report: &Report) -> io::Result<()> {
    let paint = |style, text: &str| out.paint(style, text);
    for finding in &report.findings {
        // What is said of each policy is told in one line below.
        let of_each = matches!(finding.asked, Asked::CannotFail { .. } | Asked::Applies { .. });
        if !(of_each && finding.verdict == Verdict::Proven) {
            for line in findings::told(&prover::finding(finding.clone()), &paint) {
                out.line(&line)?;
            }
        }
    }
    let proven = |finding: &&Finding| finding.verdict == Verdict::Proven;
    let (all, good) = (report.findings.len(), report.findings.iter().filter(proven).count());
    let mark = if report.proven { out.paint(Style::Good, "✓") } else { out.paint(Style::Bad, "✗") };
    out.line(&format!("{mark} {good} of {all} proven"))?;
    out.note(&out.paint_error(Style::Dim, "grants of single rights have no part in it"));
    Ok(())
}
