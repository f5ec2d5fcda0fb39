//! `plan`: what `apply` would change.

use std::path::{Path, PathBuf};

use http::Method;
use vouchsafe_wire::api::{Manifest, Plan, PolicyFileDoc};

use super::show;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::diagnostics;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest::{self, ManifestError};
use crate::output::{Style, clean};

/// Shows what `apply` would change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe plan -f company/")]
pub(crate) struct Args {
    /// Directory of TOML and Cedar files.
    #[arg(short = 'f', long = "from", value_name = "DIR")]
    from: PathBuf,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let manifest = load(call, &args.from)?;
    let plan = ask(&AdminClient::open(call).await?, call, &manifest).await?;
    show(call, &plan, |plan| print(call, plan))
}

/// Reads a directory; mistakes in it are drawn.
pub(crate) fn load(call: &Call, dir: &Path) -> Result<Manifest, VerbError> {
    manifest::load(dir).map_err(|error| unusable(call, error))
}

/// A directory that can't be read, or whose files have mistakes.
pub(crate) fn unusable(call: &Call, error: ManifestError) -> VerbError {
    let mut made = VerbError::of(Exit::Failed, &error);
    if let ManifestError::Mistakes { diagnostics, files, .. } = &error {
        made.details.diagnostics = diagnostics::render(&call.out, diagnostics, files);
        made = made.cause(diagnostics::count(diagnostics));
    }
    made
}

/// Asks what would change.
pub(crate) async fn ask(client: &AdminClient, call: &Call, manifest: &Manifest) -> Result<Plan, VerbError> {
    client.send_files(call, Method::POST, "/v1/plan", manifest, &files_of(manifest)).await
}

/// The files that mistakes can be in.
pub(crate) fn files_of(manifest: &Manifest) -> Vec<PolicyFileDoc> {
    manifest.policy.iter().chain(&manifest.tests).chain(&manifest.invariants).flatten().cloned().collect()
}

/// Prints changes, each with a sign that needs no colour.
pub(crate) fn print(call: &Call, plan: &Plan) -> std::io::Result<()> {
    let out = &call.out;
    if plan.changes.is_empty() {
        return out.line(&format!("{} everything is as it should be", out.paint(Style::Good, "✓")));
    }
    let mut counts = [0, 0, 0];
    for change in &plan.changes {
        let (sign, style, at) = match change.verb.as_str() {
            "add" => ("+", Style::Good, 0),
            "remove" => ("-", Style::Bad, 2),
            _ => ("~", Style::Warn, 1),
        };
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
        out.line(&out.paint(style, &format!("{sign} {} {}", clean(&change.verb), clean(&change.target))))?;
        for detail in &change.details {
            let style = match detail.chars().next() {
                Some('+') => Style::Good,
                Some('-') => Style::Bad,
                _ => Style::Plain,
            };
            out.line(&format!("    {}", out.paint(style, &clean(detail))))?;
        }
    }
    let [added, changed, removed] = counts;
    out.line(&format!("\n{added} to add, {changed} to change, {removed} to remove"))
}
