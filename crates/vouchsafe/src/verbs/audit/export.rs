//! `audit export`: records into files, or to standard output, that other programs read.

mod form;
mod place;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use vouchsafe_wire::api::{AuditQuery, Exported};
use vouchsafe_wire::audit::{MAX_RECORD_BYTES, Record};

use self::form::Form;
use self::place::Place;
use super::{Filter, encode, next, now};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::text::Moment;

/// Records that are written together, at most.
const TOGETHER: usize = 500;
/// How often what was written is made durable, in time and in bytes.
const SAVES: (Duration, u64) = (Duration::from_secs(2), 8 << 20);

/// What to export, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// From then on: how long ago, or an RFC 3339 time.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Until then.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// `ocsf`: events of OCSF 1.7.0. `json`: the records as they are. `otlp`: log records of OpenTelemetry, as JSON. One a line.
    #[arg(long, value_name = "FORMAT", default_value = "ocsf", value_parser = forms())]
    format: Form,
    /// File, or directory of files, instead of standard output. Called again, it goes on where it stopped.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Goes on with each new record, until it is interrupted.
    #[arg(long)]
    follow: bool,
    /// Position to begin at; a file that was begun goes on where it stopped.
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
}

fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(Form::ALL.map(Form::as_str))
        .try_map(|name| Form::ALL.into_iter().find(|form| form.as_str() == name).ok_or("no such format"))
}

/// Exports until the end, or for ever.
///
/// # Errors
/// [`VerbError`]; what was made durable by then stays, and the next call goes on there.
pub(super) async fn run(args: Args, call: &Call, client: &AdminClient) -> Result<Exit, VerbError> {
    let Args { filter, since, until, format, out, follow, from } = args;
    let at = |moment: Option<Moment>| moment.map(|moment| moment.unix_seconds(now()));
    let filters = filter.query();
    let mut place = match &out {
        None => Place::standard_output(call),
        Some(path) => Place::open(path, format, &encode(&filters).finish(), at(since), from)?,
    };
    let begun = place.next().or(from).unwrap_or_default();
    let query = AuditQuery { since: place.since().or(at(since)), until: at(until), ..filters };
    let mut form = encode(&query);
    form.append_pair("from", &begun.to_string());
    form.append_pair("follow", if follow { "true" } else { "false" });
    let bar = progress(call, follow || out.is_none());
    let mut stream = client.stream(&format!("/v1/audit/export?{}", form.finish())).await?;
    let mut export = Export { place: &mut place, format, held: Vec::new(), next: begun, size: begun, written: 0 };
    let mut pending = Vec::new();
    let mut saved = Instant::now();
    let ended = loop {
        let frame = tokio::select! {
            frame = next(&mut stream) => frame,
            () = tokio::time::sleep(SAVES.0) => {
                export.save()?;
                saved = Instant::now();
                continue;
            }
            interrupted = call.interrupted() => break interrupted.map(|()| Ended::Interrupted),
        };
        match frame {
            Err(error) => break Err(error),
            Ok(None) => break Ok(Ended::ByTheServer),
            Ok(Some(bytes)) => pending.extend_from_slice(&bytes),
        }
        export.take(&mut pending)?;
        bar.set_length(export.size.saturating_sub(begun));
        bar.set_position(export.next.saturating_sub(begun));
        if saved.elapsed() > SAVES.0 || export.place.unsaved() > SAVES.1 {
            export.save()?;
            saved = Instant::now();
        }
    };
    export.save()?;
    bar.finish_and_clear();
    let Export { next, size, written, .. } = export;
    let again = "run it again: it goes on there";
    match ended? {
        Ended::Interrupted if !follow => {
            return Err(VerbError::failed(format!("stopped before record {next} of {size}")).hint(again));
        }
        Ended::ByTheServer if follow || next < size => {
            let what = format!("the server ended the export before record {next}");
            return Err(VerbError::new(Exit::Unreachable, what).hint(again));
        }
        Ended::Interrupted | Ended::ByTheServer => {}
    }
    match &out {
        Some(_) if call.out.is_json() => call.out.json(&json!({ "records": written, "next": next }))?,
        Some(path) => call.out.note(&format!("{written} records into `{}`; the next will be {next}", path.display())),
        None => call.out.note(&format!("{written} records; the next will be {next}")),
    }
    Ok(Exit::Ok)
}

/// Why it came to its end.
enum Ended {
    ByTheServer,
    Interrupted,
}

/// An export under way.
struct Export<'p> {
    place: &'p mut Place,
    format: Form,
    /// Records that were read and not yet written.
    held: Vec<(u64, Record)>,
    next: u64,
    size: u64,
    written: u64,
}

impl Export<'_> {
    /// Takes the lines that are whole.
    fn take(&mut self, pending: &mut Vec<u8>) -> Result<(), VerbError> {
        let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = pending.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let read: Result<Exported, _> = serde_json::from_slice(line);
            let Exported { next, record, size } = read.map_err(|error| VerbError::of(Exit::Failed, &error))?;
            if let Some(record) = record {
                self.held.push((next.saturating_sub(1), record));
                self.written += 1;
            }
            (self.next, self.size) = (next, size);
            if self.held.len() >= TOGETHER {
                self.write()?;
            }
        }
        if pending.len() > 2 * MAX_RECORD_BYTES {
            return Err(VerbError::failed("the server sent a line that is longer than any record"));
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), VerbError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.format.encode(&self.held, &mut bytes)?;
        let first = self.held.first().map_or(self.next, |(position, _)| *position);
        self.held.clear();
        self.place.write(first, &bytes)
    }

    /// Makes durable what was written, and then how far it is.
    fn save(&mut self) -> Result<(), VerbError> {
        self.write()?;
        self.place.save(self.next)
    }
}

pub(super) fn progress(call: &Call, hidden: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if hidden || !call.out.reaches_a_person() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {pos} of {len} records  {elapsed}") {
        bar.set_style(style);
    }
    bar
}
