//! `audit stream`: places that get every record as it is made.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use http::Method;
use vouchsafe_model::name::StreamName;
use vouchsafe_wire::api::{NewStream, StreamDoc, StreamFormat, StreamKind, StreamTried};

use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::verbs::{ago, done, show};

const STREAMS: &str = "/v1/audit/streams";
/// Longest file of roots, certificates, keys or header fields.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What to do with streams.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Adds a place that gets every record of the audit log, from now on.
    #[command(
        after_help = "Examples:\n  vouchsafe audit stream add siem --syslog logs.example.org:6514 --ca-file roots.pem\n  vouchsafe audit stream add otel --otlp https://otel.example.org --header-file token.txt --from 0"
    )]
    Add {
        /// Name.
        name: StreamName,
        /// Syslog (RFC 5424) over TLS to this receiver; port 6514 unless given.
        #[arg(long, value_name = "HOST:PORT", required_unless_present = "otlp", conflicts_with = "otlp")]
        syslog: Option<String>,
        /// OpenTelemetry logs (OTLP over HTTP, protobuf) to this collector: https, or http to a loopback address.
        #[arg(long, value_name = "URL")]
        otlp: Option<String>,
        /// What a record is sent as: an event of OCSF, or the record itself.
        #[arg(long, value_name = "FORMAT", default_value = "ocsf", value_parser = PossibleValuesParser::new(["ocsf", "json"]))]
        format: String,
        /// Position of the first record; 0 for all there are [default: what comes from now on].
        #[arg(long, value_name = "POSITION")]
        from: Option<u64>,
        /// File of header fields for OTLP, `name: value` on a line each; with `-` standard input.
        #[arg(long, value_name = "FILE", requires = "otlp")]
        header_file: Option<PathBuf>,
        /// PEM file of the roots that vouch for it [default: the public ones].
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// PEM file of the certificate by which the controller proves itself, leaf first.
        #[arg(long, value_name = "FILE", requires = "key_file")]
        certificate_file: Option<PathBuf>,
        /// PEM file of its key.
        #[arg(long, value_name = "FILE", requires = "certificate_file")]
        key_file: Option<PathBuf>,
    },
    /// Lists streams, how far each is, and how the last attempt went.
    #[command(after_help = "Example:\n  vouchsafe audit stream list")]
    List,
    /// Shows one stream.
    #[command(after_help = "Example:\n  vouchsafe audit stream show siem")]
    Show {
        /// Name.
        name: StreamName,
    },
    /// Reaches it now with what is no record, and says what came of it.
    #[command(after_help = "Example:\n  vouchsafe audit stream test siem")]
    Test {
        /// Name.
        name: StreamName,
    },
    /// Removes a stream: nothing more is sent there.
    #[command(after_help = "Example:\n  vouchsafe audit stream remove siem")]
    Remove {
        /// Name.
        name: StreamName,
    },
}

pub(super) async fn run(verb: Verb, call: &Call, client: &AdminClient) -> Result<Exit, VerbError> {
    match verb {
        Verb::Add { name, syslog, otlp, format, from, header_file, ca_file, certificate_file, key_file } => {
            let (kind, address) = match (syslog, otlp) {
                (Some(address), _) => (StreamKind::Syslog, address),
                (None, Some(address)) => (StreamKind::Otlp, address),
                (None, None) => return Err(VerbError::usage("give --syslog or --otlp")),
            };
            let text = |path: Option<PathBuf>| path.map(|path| read(&path)).transpose();
            let new = NewStream {
                name: name.to_string(),
                kind,
                address,
                format: StreamFormat::from_word(&format).unwrap_or_default(),
                from,
                headers: text(header_file)?.map(|text| headers(&text)).transpose()?.unwrap_or_default(),
                roots_pem: text(ca_file)?,
                certificate_pem: text(certificate_file)?,
                key_pem: text(key_file)?,
            };
            let added: StreamDoc = client.send(Method::POST, STREAMS, &new).await?;
            show(call, &added, |added| {
                let StreamDoc { name, address, next, .. } = added;
                let mark = call.out.paint(Style::Good, "✓");
                call.out.line(&format!(
                    "{mark} {} gets each record from {next} on, at {}",
                    clean(name),
                    clean(address)
                ))?;
                call.out.note(&format!("  see whether it takes them: `vouchsafe audit stream test {}`", clean(name)));
                Ok(())
            })
        }
        Verb::List => {
            let all: Vec<StreamDoc> = client.get(STREAMS).await?;
            show(call, &all, |all| call.out.table(&table(all)))
        }
        Verb::Show { name } => {
            let stream: StreamDoc = client.get(&path(&format!("{STREAMS}/"), name.as_str(), "")).await?;
            show(call, &stream, |stream| call.out.facts(&facts(stream)))
        }
        Verb::Test { name } => {
            let place = path(&format!("{STREAMS}/"), name.as_str(), "/test");
            let tried: StreamTried = client.ask(Method::POST, &place).await?;
            show(call, &tried, |tried| {
                let (style, mark) = if tried.reached { (Style::Good, "✓") } else { (Style::Bad, "✗") };
                call.out.line(&format!("{} {}", call.out.paint(style, mark), clean(&tried.outcome)))
            })?;
            Ok(if tried.reached { Exit::Ok } else { Exit::Failed })
        }
        Verb::Remove { name } => {
            client.delete(&path(&format!("{STREAMS}/"), name.as_str(), "")).await?;
            done(call, &format!("removed the stream {name}"))
        }
    }
}

fn read(path: &Path) -> Result<String, VerbError> {
    let unread = |error: std::io::Error| {
        VerbError::usage(format!("`{}` can't be read", path.display())).cause(error.to_string())
    };
    let mut text = String::new();
    let from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        Some(_) | None => Box::new(std::fs::File::open(path).map_err(unread)?),
    };
    from.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unread)?;
    Ok(text)
}

/// Lines such as `authorization: Bearer …`.
fn headers(text: &str) -> Result<Vec<(String, String)>, VerbError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    // What is wrong with a line isn't shown: it may be a secret.
    let wrong = || VerbError::usage("a header field is written as `name: value`");
    lines.map(|line| field(line).ok_or_else(wrong)).collect()
}

fn outcome(stream: &StreamDoc) -> Cell {
    match (stream.last.as_deref(), stream.failures) {
        (None, _) => "–".into(),
        (Some(last), 0) => Cell::new(Style::Good, last),
        (Some(last), _) => Cell::new(Style::Bad, last),
    }
}

fn table(all: &[StreamDoc]) -> Table {
    let mut table = Table::new(&["name", "by", "where", "format", "next", "behind", "last…", "when"]);
    for stream in all {
        table.row([
            Cell::new(Style::Bold, &stream.name),
            stream.kind.as_str().into(),
            (&stream.address).into(),
            stream.format.as_str().into(),
            stream.next.to_string().into(),
            stream.behind.to_string().into(),
            outcome(stream),
            ago(stream.last_at).into(),
        ]);
    }
    table
}

fn facts(stream: &StreamDoc) -> Vec<(&'static str, String)> {
    let StreamDoc { name, kind, address, format, by, created, next, behind, last, last_at, failures, rejected } =
        stream;
    let mut facts = vec![
        ("name", clean(name).into_owned()),
        ("where", format!("{} to {}", kind.as_str(), clean(address))),
        ("format", format.as_str().to_owned()),
        ("added", format!("by {}, {}", clean(by), ago(Some(*created)))),
        ("next", format!("record {next}; {behind} behind")),
    ];
    if let Some(last) = last {
        let since = if *failures > 0 { format!(", {failures} times in a row") } else { String::new() };
        facts.push(("last", format!("{}{since}, {}", clean(last), ago(*last_at))));
    }
    if *rejected > 0 {
        facts.push(("refused for good", format!("{rejected} records")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_read_line_by_line_and_never_shown() {
        let read = headers("authorization: Bearer a:b\n\n x-tenant:7 \n").unwrap();
        assert_eq!(read, [("authorization".into(), "Bearer a:b".into()), ("x-tenant".into(), "7".into())]);
        let error = headers("s3cret").unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"));
    }
}
