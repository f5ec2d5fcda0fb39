//! `policy test`: the tests of a directory, run by this program alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vouchsafe_model::name::{GroupName, UserName};
use vouchsafe_policy::{CaseResult, Diagnostic, Memberships, PolicySource, Suite, SuiteReport};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_wire::api::{Manifest, PolicyFileDoc};

use super::{drawable, junit, sources, story};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest::{self, ManifestError};
use crate::output::{Style, clean};
use crate::verbs::plan::{files_of, unusable};

/// Most names of policies that a remark lists.
const MAX_NAMES: usize = 10;

/// What is to be run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of .cedar files, manifest and tests.
    #[arg(id = "files", value_name = "DIR")]
    dir: PathBuf,
    /// Writes the results to this file too, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Lists tests that pass as well.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { dir, junit, all } = args;
    let manifest = manifest::load(dir).map_err(|error| unusable(call, error))?;
    let Some(tests) = &manifest.tests else {
        return Err(VerbError::failed(format!("`{}` holds no tests", dir.display())).hint(
            "tests are .toml files below a folder `tests` of the directory; docs/reference/policy-tests.md shows one",
        ));
    };
    let mistakes = |found| unusable(call, in_files(dir, &manifest, found));
    let suite = Suite::read(&sources(tests)).map_err(mistakes)?;
    let source = source(dir, &manifest)?;
    let groups = memberships(&manifest);
    let report = suite.run(source, None, &side_by_side, &groups, clock::now()).map_err(mistakes)?;
    if let Some(path) = junit {
        let written = std::fs::write(path, junit::xml(&report));
        written
            .map_err(|error| VerbError::failed(format!("can't write `{}`", path.display())).cause(error.to_string()))?;
    }
    let exit = if report.ok { Exit::Ok } else { Exit::Failed };
    if call.out.is_json() {
        call.out.json(&report)?;
        return Ok(exit);
    }
    tell(call, &report, *all)?;
    Ok(exit)
}

fn in_files(dir: &Path, manifest: &Manifest, found: Vec<Diagnostic>) -> ManifestError {
    let diagnostics = found.into_iter().map(drawable).collect();
    ManifestError::Mistakes { path: dir.to_owned(), diagnostics, files: files_of(manifest) }
}

/// The policy and the resources of a directory.
fn source(dir: &Path, manifest: &Manifest) -> Result<PolicySource, VerbError> {
    let files: &[PolicyFileDoc] = manifest.policy.as_deref().unwrap_or_default();
    if files.is_empty() {
        return Err(VerbError::failed(format!("`{}` holds no policy to test", dir.display()))
            .hint("name the directory that holds both the .cedar files and the tests"));
    }
    let mut resources = Vec::new();
    for doc in manifest.resources.iter().flatten() {
        // The manifest was checked when it was read.
        resources.push(doc.to_resource().map_err(|error| VerbError::of(Exit::Failed, &error))?);
    }
    Ok(PolicySource { version: 0, files: sources(files), grants: Vec::new(), resources })
}

/// The groups of everybody whom the manifest names as a member.
fn memberships(manifest: &Manifest) -> Memberships {
    let mut groups = Memberships::new();
    for group in manifest.groups.iter().flatten() {
        let Ok(name) = GroupName::parse(&group.name) else { continue };
        for member in group.members.iter().flatten() {
            if let Ok(member) = UserName::parse(member) {
                groups.entry(member).or_default().insert(name.clone());
            }
        }
    }
    groups
}

fn tell(call: &Call, report: &SuiteReport, all: bool) -> std::io::Result<()> {
    let out = &call.out;
    for result in &report.results {
        let CaseResult { file, line, case, question, failure, explanation } = result;
        let place = out.paint(Style::Dim, &clean(&format!("{file}:{line}")));
        match failure {
            None if all => {
                let mark = out.paint(Style::Good, "✓");
                out.line(&format!("{mark} {}  {}  {place}", out.paint(Style::Bold, &clean(case)), clean(question)))?;
            }
            None => {}
            Some(failure) => {
                let mark = out.paint(Style::Bad, "✗");
                out.line(&format!("{mark} {}  {place}", out.paint(Style::Bold, &clean(case))))?;
                out.line(&format!("  {}\n", out.paint(Style::Bad, &clean(failure))))?;
                match explanation {
                    Some(explanation) => story::tell_of(out, question, explanation)?,
                    None => out.line(&format!("  {}", clean(question)))?,
                }
                out.line("")?;
            }
        }
    }
    let failed = report.failed().count();
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let cases: BTreeSet<_> = report.results.iter().map(|result| (&result.file, result.line)).collect();
    let files: BTreeSet<_> = report.results.iter().map(|result| &result.file).collect();
    let size = format!("{} in {}", count(cases.len(), "case"), count(files.len(), "file"));
    let asked = count(report.results.len(), "question");
    if report.ok {
        out.line(&format!("{} all {asked} are answered as expected: {size}", out.paint(Style::Good, "✓")))?;
    } else {
        out.line(&format!("{} {failed} of {asked} answered otherwise: {size}", out.paint(Style::Bad, "✗")))?;
    }
    if !report.undecided.is_empty() {
        let names: Vec<&str> = report.undecided.iter().take(MAX_NAMES).map(|name| name.as_str()).collect();
        let more = report.undecided.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let remark = format!("no test that passes is decided by {}{more}", names.join(", "));
        out.line(&out.paint(Style::Dim, &clean(&remark)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_wire::api::GroupDoc;

    #[test]
    fn members_of_the_manifest_have_their_groups_and_nobody_else_has() {
        let group = |name: &str, members: Option<Vec<&str>>| GroupDoc {
            name: name.into(),
            members: members.map(|members| members.into_iter().map(str::to_owned).collect()),
        };
        let groups = vec![group("a", Some(vec!["ann", "bob"])), group("b", Some(vec!["ann"])), group("c", None)];
        let found = memberships(&Manifest { groups: Some(groups), ..Manifest::default() });
        let of = |name: &str| found.get(&UserName::parse(name).unwrap()).map(BTreeSet::len);
        assert_eq!((of("ann"), of("bob"), of("carl")), (Some(2), Some(1), None));
    }
}
