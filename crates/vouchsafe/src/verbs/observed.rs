//! `observed`: what people did before there was a gateway, from the logs of other programs.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use vouchsafe_model::name::ResourceName;
use vouchsafe_observed::haproxy::Captures;
use vouchsafe_observed::import::{Format, Importer, Plan, Summary, Unmapped};
use vouchsafe_observed::names::{Names, Others};
use vouchsafe_observed::time::Clock;
use vouchsafe_observed::web::Fields;
use vouchsafe_observed::{file, time};

use super::{now, show};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table, clean};
use crate::text;

/// Largest mapping of names, bytes.
const MAX_NAMES_BYTES: u64 = 16 << 20;
/// Unknown names that are listed.
const SHOWN: usize = 10;
/// What is read at once, bytes.
const CHUNK: usize = 256 << 10;

/// What to do with observed accesses.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Reads logs of other programs as observed accesses, for `policy suggest`.
    ///
    /// Names in logs become users only where a mapping says so; the others are listed. Accesses that the program refused
    /// don't count. Nothing is sent anywhere.
    #[command(
        after_help = "Examples:\n  vouchsafe observed import --format nginx --resource wiki --map names.toml -o wiki.jsonl access.log\n  \
                      zcat access.log.*.gz | vouchsafe observed import --format apache --log-format vhost_combined --map names.toml -o web.jsonl -\n  \
                      journalctl -u ssh -o short-iso | vouchsafe observed import --format sshd --resource build --same-names -o ssh.jsonl -"
    )]
    Import(Args),
}

/// Which program wrote the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    /// nginx's access log.
    Nginx,
    /// Apache's access log.
    Apache,
    /// HAProxy's `option httplog`.
    Haproxy,
    /// PostgreSQL's csvlog with `log_connections`.
    Postgres,
    /// OpenSSH's server, by syslog or `journalctl -o short-iso`.
    Sshd,
}

/// What is to be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which program wrote the log.
    #[arg(long, value_enum)]
    format: Program,
    /// How nginx's log_format or Apache's LogFormat is written out, or its name [default: combined].
    #[arg(long, value_name = "TEXT")]
    log_format: Option<String>,
    /// Where the log says who it was: a variable of nginx, an item of Apache, the number of a header that HAProxy
    /// captured.
    #[arg(long, value_name = "FIELD")]
    user_field: Option<String>,
    /// Where the log says for what host.
    #[arg(long, value_name = "FIELD")]
    host_field: Option<String>,
    /// All of it is about this resource [default: as the mapping says of the host, backend or database].
    #[arg(long, value_name = "NAME")]
    resource: Option<ResourceName>,
    /// TOML file that says which users and resources the names in the log are.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Takes names that aren't in the mapping for users of that very name.
    #[arg(long)]
    same_names: bool,
    /// Zone of times that have none or only its letters, such as `+02:00` [default: UTC].
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = offset)]
    utc_offset: Option<i64>,
    /// Writes what was observed to this file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Logs; `-` is standard input.
    #[arg(id = "logs", value_name = "FILE", required = true)]
    logs: Vec<PathBuf>,
}

fn offset(text: &str) -> Result<i64, &'static str> {
    time::offset(text).ok_or("write it like `+02:00`, `-0530` or `Z`")
}

pub(crate) fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    match verb {
        Verb::Import(args) => import(args, call),
    }
}

/// What was read, and where it stands.
#[derive(Serialize)]
struct Imported<'i> {
    file: &'i Path,
    #[serde(flatten)]
    summary: &'i Summary,
}

fn import(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { resource, map, same_names, utc_offset, output, logs, .. } = &args;
    let others = if *same_names { Others::TheSame } else { Others::Unknown };
    let names = match map {
        Some(path) => names(path, others)?,
        None => Names::only(others),
    };
    let clock = Clock { offset: *utc_offset, now: now() };
    let mut importer = Importer::new(Plan { format: format(&args)?, names, resource: resource.clone(), clock });
    let bar = progress(call, logs);
    for path in logs {
        let failed =
            |error: io::Error| VerbError::failed(format!("can't read `{}`", path.display())).cause(error.to_string());
        let from: Box<dyn Read> =
            if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
        let from = BufReader::with_capacity(CHUNK, bar.wrap_read(from));
        importer.read(&path.display().to_string(), from).map_err(failed)?;
    }
    bar.finish_and_clear();
    let (observed, summary) = importer.finish();
    write(output, |to| file::write(to, &observed))?;
    let exit = show(call, &Imported { file: output, summary: &summary }, |_| tell(&call.out, output, &summary))?;
    if summary.taken == 0 {
        return Err(VerbError::failed("nothing in it could be used").hint(remedy(&summary, args.format)));
    }
    Ok(exit)
}

/// Why nothing was of use, most likely.
fn remedy(summary: &Summary, program: Program) -> &'static str {
    match program {
        _ if summary.unmapped > 0 => "say in a file for `--map` who and what the names are",
        _ if summary.malformed > 0 => {
            "give the right `--format`, and `--log-format` as the server's configuration has it"
        }
        Program::Haproxy => "say with `--user-field` which captured header holds the name",
        Program::Postgres => "set `log_connections = on` and `log_destination = csvlog`",
        _ => "the log has to say who it was: `$remote_user`, `%u`, or what `--user-field` names",
    }
}

fn format(args: &Args) -> Result<Format, VerbError> {
    let (log_format, user, host) = (args.log_format.as_deref(), args.user_field.as_deref(), args.host_field.as_deref());
    let only = |program: &str, option: &str| VerbError::usage(format!("`{option}` says nothing about {program}"));
    let fields = Fields { user, host };
    let web = |made: Result<Format, vouchsafe_observed::web::TemplateError>| {
        made.map_err(|error| {
            VerbError::of(Exit::Usage, &error).hint("give `--log-format` as it stands in the server's configuration")
        })
    };
    match args.format {
        Program::Nginx => web(Format::nginx(log_format, fields)),
        Program::Apache => web(Format::apache(log_format, fields)),
        Program::Haproxy => {
            if log_format.is_some() {
                return Err(only("HAProxy", "--log-format"));
            }
            let number = |field: Option<&str>| match field.map(str::parse::<usize>) {
                None => Ok(None),
                Some(Ok(number @ 1..=64)) => Ok(Some(number)),
                Some(_) => Err(VerbError::usage("a header that HAProxy captured is named by its number, from 1")),
            };
            Ok(Format::Haproxy(Captures { user: number(user)?, host: number(host)? }))
        }
        Program::Postgres | Program::Sshd => {
            let (name, made) = match args.format {
                Program::Postgres => ("PostgreSQL", Format::Postgres),
                _ => ("OpenSSH", Format::Sshd),
            };
            match (log_format, user, host) {
                (None, None, None) => Ok(made),
                (Some(_), _, _) => Err(only(name, "--log-format")),
                (None, Some(_), _) => Err(only(name, "--user-field")),
                (None, None, Some(_)) => Err(only(name, "--host-field")),
            }
        }
    }
}

fn names(path: &Path, others: Others) -> Result<Names, VerbError> {
    let failed = |cause: String| VerbError::failed(format!("can't use `{}`", path.display())).cause(cause);
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(MAX_NAMES_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_NAMES_BYTES {
        return Err(failed("it is larger than 16 MiB".to_owned()));
    }
    Names::parse(&text, others).map_err(|error| {
        let mut made = VerbError::of(Exit::Failed, &error);
        made.causes.insert(0, made.title.clone());
        made.title = format!("can't use `{}`", path.display());
        made.hint("docs/spec/observed.md shows what such a file looks like")
    })
}

/// Writes a file as a whole or not at all. It says what people did, so only its owner may read it.
fn write(path: &Path, content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<(), VerbError> {
    let failed =
        |error: io::Error| VerbError::failed(format!("can't write `{}`", path.display())).cause(error.to_string());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut to = BufWriter::new(whole.as_file());
    content(&mut to).and_then(|()| to.flush()).map_err(failed)?;
    drop(to);
    whole.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn progress(call: &Call, logs: &[PathBuf]) -> ProgressBar {
    // A pipe has no length; then the bar only says how much it was.
    let lengths = logs.iter().map(|path| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|is| is.len()));
    let bar = match lengths.sum::<Option<u64>>() {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::no_length(),
    };
    if !call.out.reaches_a_person() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = match bar.length() {
        Some(_) => "{bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta}",
        None => "{spinner} {bytes}  {bytes_per_sec}  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn tell(out: &Output, output: &Path, summary: &Summary) -> io::Result<()> {
    let Summary { records, taken, refused, other, nobody, ignored, unmapped, malformed, .. } = summary;
    let mark = if *taken == 0 { out.paint(Style::Bad, "✗") } else { out.paint(Style::Good, "✓") };
    let users = text::counted(summary.users, "user", "users");
    let what = format!("{taken} accesses of {users} to {}", text::counted(summary.resources, "resource", "resources"));
    let period = summary.first.zip(summary.last).map_or(String::new(), |(first, last)| {
        out.paint(Style::Dim, &format!("  {} to {}", text::moment(first), text::moment(last)))
    });
    out.line(&format!("{mark} {}, of {records} records{period}", out.paint(Style::Bold, &what)))?;
    let counts = [
        (*unmapped, "of names that nobody said a user or resource for"),
        (*nobody, "of nobody: the log has no name"),
        (*ignored, "of names that are to be ignored"),
        (*refused, "refused, or not surely let in"),
        (*other, "about something else"),
        (*malformed, "malformed"),
        (summary.beyond, "beyond the most kinds of accesses that one file holds"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        out.line(&format!("  {count:>9}  {what}"))?;
    }
    unknown(out, "user in the log", &summary.unmapped_users)?;
    unknown(out, "host, backend or database in the log", &summary.unmapped_resources)?;
    for one in &summary.examples {
        let place = out.paint(Style::Warn, &clean(&format!("{}:{}", one.file, one.line)));
        out.line(&format!("\n{place}: {}", clean(&one.why)))?;
        out.line(&out.paint(Style::Dim, &format!("    {}", clean(&one.text))))?;
    }
    let path = out.paint(Style::Bold, &clean(&output.display().to_string()));
    let next = out.paint(Style::Accent, "vouchsafe policy suggest --observed FILE");
    out.line(&format!("\nwritten to {path}; next: {next}"))
}

fn unknown(out: &Output, heading: &'static str, names: &[Unmapped]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(&["accesses", heading]);
    for Unmapped { name, count } in names.iter().take(SHOWN) {
        let name = if name.is_empty() { "(none)" } else { name.as_str() };
        table.row([Cell::from(count.to_string()), Cell::from(name)]);
    }
    out.table(&table)?;
    match names.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => out.line(&out.paint(Style::Dim, &format!("… and {more} more; `--json` lists all of them"))),
    }
}
