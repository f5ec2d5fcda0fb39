//! `assess`: a read-only look at this host, and how far it is from zero trust.

mod summary;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use vouchsafe_assess::report::{Baseline, MAX_BASELINE, Report};
use vouchsafe_assess::source::Source;
use vouchsafe_assess::{Options, Watch, page};
use vouchsafe_model::mode::LONGEST_TRIAL;
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::AssessmentDoc;

use super::{now, show};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::look;
use crate::text;

/// Largest file of `--ss` and `--roles`, bytes.
const MAX_GIVEN: u64 = 16 << 20;

/// Looks at this host, or at files collected from one, and says what stands in the way of zero trust.
///
/// It reads only: it changes nothing, starts no program, and connects to nothing but, with `--send`, the controller. It
/// works as any user, and says what that user may not see.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo vouchsafe assess --html report.html --drafts drafts/ --owner ann\n  \
                  vouchsafe assess --root collected/ --json > today.json\n  \
                  vouchsafe assess --baseline last-month.json\n  sudo vouchsafe assess --send")]
pub(crate) struct Args {
    /// Directory of files collected from another host, in the places that they have there.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Writes the report as a page to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes a resource for each service found into this new directory, for `apply`.
    #[arg(long, value_name = "DIR")]
    drafts: Option<PathBuf>,
    /// Drafts observe, where it is known from which networks people come; this user answers for that.
    #[arg(long, value_name = "USER", requires = "drafts")]
    owner: Option<UserName>,
    /// How long drafts observe before they enforce, at most 90 days.
    #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = text::duration, requires = "owner")]
    observe_for: Duration,
    /// An earlier report (`--json`): says what is new and what is solved.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Output of `ss -tulpn`, where `/proc` was not collected.
    #[arg(long, value_name = "FILE")]
    ss: Option<PathBuf>,
    /// Output of `pg_dumpall --roles-only`: roles are looked at as well.
    #[arg(long, value_name = "FILE")]
    roles: Option<PathBuf>,
    /// Gives the controller the report, without the evidence: the console shows it.
    #[arg(long)]
    send: bool,
    /// Shows every finding, not only the worst.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let source = match &args.root {
        Some(root) => Source::collected(root),
        None => Source::host(),
    };
    let source = source.map_err(|error| {
        let root = args.root.as_deref().unwrap_or(Path::new("/"));
        VerbError::failed(format!("can't look at `{}`", root.display())).cause(error.to_string())
    })?;
    let given = |file: &Option<PathBuf>| file.as_deref().map(|file| read(file, MAX_GIVEN)).transpose();
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let baseline = match (&args.baseline, args.baseline.as_deref().map(|file| read(file, MAX_BASELINE)).transpose()?) {
        (Some(file), Some(bytes)) => Some(Baseline::parse(&bytes).map_err(|error| {
            let mut made = VerbError::of(Exit::Failed, &error);
            made.causes.insert(0, made.title.clone());
            made.title = format!("can't compare with `{}`", file.display());
            made.hint("give what an earlier `vouchsafe assess --json` printed")
        })?),
        _ => None,
    };
    let options = Options { now: now(), ss: text(given(&args.ss)?), roles: text(given(&args.roles)?) };
    let watch = watch(&args)?;
    if let Some(dir) = &args.drafts {
        must_be_new(dir)?;
    }
    let mut report = vouchsafe_assess::look(&source, &options);
    if let Some(baseline) = &baseline {
        if baseline.host().is_some() && baseline.host() != report.host.as_deref() {
            call.out.note("note: the earlier report is of a host with another name");
        }
        report.compare(baseline);
    }
    if let Some(file) = &args.html {
        write(file, page(&report).as_bytes())?;
    }
    if let Some(dir) = &args.drafts {
        write_drafts(dir, &report, watch.as_ref())?;
    }
    if args.send {
        let found = look::doc(&report);
        let _: AssessmentDoc = AdminClient::open(call).await?.send(Method::PUT, "/v1/assessment", &found).await?;
        call.out.note("sent: the console shows it under Assessment");
    }
    show(call, &report, |report| {
        summary::print(&call.out, report, args.all)?;
        for (what, path) in [("page", &args.html), ("drafts", &args.drafts)] {
            if let Some(path) = path {
                call.out.line(&format!("{what}: {}", crate::output::clean(&path.display().to_string())))?;
            }
        }
        Ok(())
    })
}

fn read(file: &Path, limit: u64) -> Result<Vec<u8>, VerbError> {
    let failed =
        |error: io::Error| VerbError::failed(format!("can't read `{}`", file.display())).cause(error.to_string());
    let mut bytes = Vec::new();
    fs::File::open(file).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(VerbError::failed(format!("`{}` is larger than {} MiB", file.display(), limit >> 20)));
    }
    Ok(bytes)
}

/// Writes a file as a whole or not at all. It says where a host is weak, so only its owner may read it.
fn write(file: &Path, bytes: &[u8]) -> Result<(), VerbError> {
    let failed =
        |error: io::Error| VerbError::failed(format!("can't write `{}`", file.display())).cause(error.to_string());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    whole.write_all(bytes).map_err(failed)?;
    whole.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

/// What a manifest lists is complete, so drafts are never mixed with files that are there already.
fn must_be_new(dir: &Path) -> Result<(), VerbError> {
    let failed = |error: io::Error| {
        VerbError::failed(format!("can't write drafts to `{}`", dir.display())).cause(error.to_string())
    };
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(VerbError::failed(format!("`{}` is not empty, and nothing is written over", dir.display()))
            .hint("give a new directory, then copy the drafts that you want")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(dir).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Who answers for drafts that observe.
fn watch(args: &Args) -> Result<Option<Watch>, VerbError> {
    let Some(owner) = &args.owner else { return Ok(None) };
    if args.observe_for > LONGEST_TRIAL {
        return Err(VerbError::usage("drafts can't observe for more than 90 days").hint("give `--for 90d` or less"));
    }
    Ok(Some(Watch { owner: owner.clone(), until: clock::now() + args.observe_for }))
}

fn write_drafts(dir: &Path, report: &Report, watch: Option<&Watch>) -> Result<(), VerbError> {
    for draft in &report.drafts {
        write(&dir.join(format!("{}.toml", draft.name)), draft.toml(watch).as_bytes())?;
    }
    let words = "# Drafts of resources\n\nMade by `vouchsafe assess` from what the host's files say. Read each file: lines with CHECK ask you\n\
        something, and a resource that is all comment lacks a fact that only you know.\n\n\
        A manifest is complete: `vouchsafe apply -f` on this directory alone would remove resources that you have and\n\
        that are not in it. Look at `vouchsafe plan -f` first, or copy the drafts into the directory that you apply.\n\n\
        A resource that is added is closed until a policy or a grant opens it to somebody. The way that people take\n\
        today stays as it is until you close it.\n";
    write(&dir.join("README.md"), words.as_bytes())
}
