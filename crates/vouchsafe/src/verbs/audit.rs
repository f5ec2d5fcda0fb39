//! `audit`: who reached what, and why.

mod counts;
mod export;
mod line;
mod stream;
mod tiles;
mod tree;
mod uses;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use vouchsafe_wire::api::{AuditPage, AuditQuery, CountedBy, Counts, Uses, UsesQuery};
use vouchsafe_wire::audit::{Kind, MAX_RECORD_BYTES, Record};

use super::now;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::text::{self, Moment};

/// Most records of one page.
const PAGE: u32 = 1_000;

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows records as they are made.
    #[command(after_help = "Example:\n  vouchsafe audit tail --outcome deny")]
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// How many of the latest records to begin with.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
        lines: u32,
    },
    /// Shows records that were made, oldest first.
    #[command(
        after_help = "Examples:\n  vouchsafe audit query --user alice --since 1h\n  vouchsafe audit query --resource finance --outcome deny --json"
    )]
    Query {
        #[command(flatten)]
        filter: Filter,
        /// From then on: how long ago, or an RFC 3339 time.
        #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
        since: Option<Moment>,
        /// Until then.
        #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
        until: Option<Moment>,
        /// At most so many, the latest ones.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
    },
    /// Counts records: in all, over time, or by a member.
    #[command(
        after_help = "Examples:\n  vouchsafe audit counts --since 24h --step 1h\n  vouchsafe audit counts --outcome deny --by reason --since 7d"
    )]
    Counts {
        #[command(flatten)]
        filter: Filter,
        /// From then on: how long ago, or an RFC 3339 time.
        #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
        since: Option<Moment>,
        /// Until then.
        #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
        until: Option<Moment>,
        /// Apart for pieces of time of this length; at most a thousand.
        #[arg(long, value_name = "DURATION", value_parser = text::duration, requires = "since", conflicts_with = "by")]
        step: Option<Duration>,
        /// Apart for the values of this member.
        #[arg(long, value_name = "MEMBER", value_parser = counted_by())]
        by: Option<CountedBy>,
        /// How many values, the most frequent ones.
        #[arg(long, value_name = "COUNT", requires = "by", value_parser = clap::value_parser!(u32).range(1..=50))]
        top: Option<u32>,
    },
    /// Says who used what, and how often: access that went on, whatever it was allowed by.
    #[command(
        after_help = "Examples:\n  vouchsafe audit uses --since 90d\n  vouchsafe audit uses --resource finance --limit 20"
    )]
    Uses {
        /// Of this user.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// From this device, by id or name.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Of this resource.
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// From then on: how long ago, or an RFC 3339 time.
        #[arg(long, value_name = "TIME", value_parser = Moment::parse, default_value = "30d")]
        since: Moment,
        /// At most so many pairs of users and resources, those with most uses.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Writes records to files for other programs: OCSF, OpenTelemetry, or as they are; goes on where it stopped.
    #[command(
        after_help = "Examples:\n  vouchsafe audit export --since 30d --out november.ocsf\n  vouchsafe audit export --follow --out /var/spool/siem/\n  vouchsafe audit export --format json --kind decision"
    )]
    Export(export::Args),
    /// Sends each record on as it is made: syslog over TLS, or OpenTelemetry.
    #[command(subcommand)]
    Stream(stream::Verb),
    /// Says whether the stored log is what was signed, and which record is not; needs no running controller.
    #[command(
        after_help = "Examples:\n  vouchsafe audit verify --dir /var/lib/vouchsafe --key KEY\n  vouchsafe audit verify --key KEY --checkpoint last-month.checkpoint\n  vouchsafe audit verify --proof dec.tlog-proof --key KEY\n  vouchsafe audit verify --tiles DIR --key KEY"
    )]
    Verify(verify::Args),
    /// Makes a file that proves one record to anybody who has the log's key.
    #[command(after_help = "Example:\n  vouchsafe audit prove dec_0abc… --out dec.tlog-proof")]
    Prove {
        /// Id of a decision, flow or session, or the position of the record.
        #[arg(value_name = "ID")]
        record: String,
        /// Where to write it, instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Writes the log out as files of C2SP `tlog-tiles`, which others can verify and serve.
    #[command(
        after_help = "Example:\n  vouchsafe audit tiles --out tiles && vouchsafe audit verify --tiles tiles --key KEY"
    )]
    Tiles {
        /// Directory; what is there of this log already stays, and what is missing is added.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Shows by which key the log is verified, and how far it is signed.
    #[command(after_help = "Example:\n  vouchsafe audit key")]
    Key,
    /// Begins a new log where the old one lost records and can't go on; what is there stays.
    #[command(
        after_help = "Example:\n  vouchsafe audit fork --reason 'the disk was lost, and the backup is of Monday'"
    )]
    Fork {
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Doesn't ask.
        #[arg(long)]
        yes: bool,
    },
}

fn counted_by() -> impl TypedValueParser<Value = CountedBy> {
    PossibleValuesParser::new(CountedBy::ALL.map(CountedBy::as_str))
        .try_map(|name| CountedBy::ALL.into_iter().find(|by| by.as_str() == name).ok_or("no such member"))
}

/// Which records.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Of this user.
    #[arg(long)]
    user: Option<String>,
    /// Of this device, by name or id.
    #[arg(long)]
    device: Option<String>,
    /// About this resource.
    #[arg(long)]
    resource: Option<String>,
    /// With this outcome.
    #[arg(long, value_parser = PossibleValuesParser::new(["allow", "deny", "ok", "failed"]))]
    outcome: Option<String>,
    /// What was denied and went on by this mode of its resource.
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["observe", "warn"]))]
    passed: Option<String>,
    /// Of this kind.
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
    kind: Option<String>,
    /// With this reason, such as `no_permit`.
    #[arg(long)]
    reason: Option<String>,
    /// With this id of a decision, flow or session.
    #[arg(long)]
    id: Option<String>,
    /// With these words, or such that begin with them, in path, target, detail and the like.
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
}

impl Filter {
    fn query(self) -> AuditQuery {
        let Self { user, device, resource, outcome, passed, kind, reason, id, text } = self;
        AuditQuery { user, device, resource, outcome, passed, kind, reason, id, text, ..AuditQuery::default() }
    }
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    if let Verb::Verify(args) = verb {
        return verify::run(args, call).await;
    }
    let client = AdminClient::open(call).await?;
    match verb {
        // Asked for above: it needs nobody to answer.
        Verb::Verify(_) => Ok(Exit::Usage),
        Verb::Export(args) => export::run(args, call, &client).await,
        Verb::Stream(verb) => stream::run(verb, call, &client).await,
        Verb::Prove { record, out } => tree::prove(call, &client, &record, out).await,
        Verb::Tiles { out } => tiles::write_out(call, &client, &out).await,
        Verb::Key => tree::key(call, &client).await,
        Verb::Fork { reason, yes } => tree::fork(call, &client, reason, yes).await,
        Verb::Query { filter, since, until, limit } => {
            let at = |moment: Option<Moment>| moment.map(|moment| moment.unix_seconds(now()));
            let query = AuditQuery { since: at(since), until: at(until), ..filter.query() };
            let records = latest(&client, query, limit).await?;
            for record in &records {
                print(call, record)?;
            }
            if records.is_empty() {
                call.out.note(&call.out.paint_error(Style::Dim, "no record matches"));
            }
            Ok(Exit::Ok)
        }
        Verb::Counts { filter, since, until, step, by, top } => {
            let at = |moment: Option<Moment>| moment.map(|moment| moment.unix_seconds(now()));
            let query = AuditQuery { since: at(since), until: at(until), ..filter.query() };
            let mut form = encode(&query);
            let step = step.map(|step| step.as_secs().max(1).to_string());
            let division =
                [("step", step), ("by", by.map(|by| by.as_str().to_owned())), ("top", top.map(|top| top.to_string()))];
            for (name, value) in division {
                if let Some(value) = value {
                    form.append_pair(name, &value);
                }
            }
            let counts: Counts = client.get(&format!("/v1/audit/counts?{}", form.finish())).await?;
            if call.out.is_json() {
                call.out.json(&counts)?
            } else {
                counts::show(&call.out, &counts, by)?
            }
            Ok(Exit::Ok)
        }
        Verb::Uses { user, device, resource, since, limit } => {
            let since = Some(since.unix_seconds(now()));
            let query = encode_uses(&UsesQuery { user, device, resource, since, limit: Some(limit) });
            let uses: Uses = client.get(&format!("/v1/audit/uses?{query}")).await?;
            if call.out.is_json() {
                call.out.json(&uses)?
            } else {
                uses::show(&call.out, &uses)?
            }
            Ok(Exit::Ok)
        }
        Verb::Tail { filter, lines } => tail(call, &client, filter.query(), lines).await,
    }
}

/// The latest records, oldest first.
async fn latest(client: &AdminClient, mut query: AuditQuery, limit: u32) -> Result<Vec<Record>, VerbError> {
    let mut records = Vec::new();
    let mut left = limit;
    while left > 0 {
        query.limit = Some(left.min(PAGE));
        let page: AuditPage = client.get(&format!("/v1/audit?{}", encode(&query).finish())).await?;
        left = left.saturating_sub(u32::try_from(page.records.len()).unwrap_or(u32::MAX));
        records.extend(page.records);
        match page.next {
            Some(next) if query.after != Some(next) => query.after = Some(next),
            Some(_) | None => break,
        }
    }
    records.reverse();
    Ok(records)
}

/// Follows the log, from the latest records on.
async fn tail(call: &Call, client: &AdminClient, mut query: AuditQuery, lines: u32) -> Result<Exit, VerbError> {
    query.limit = (lines > 0).then_some(lines.min(PAGE));
    let mut stream = client.stream(&format!("/v1/audit/tail?{}", encode(&query).finish())).await?;
    let mut pending = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = next(&mut stream) => frame?,
            interrupted = call.interrupted() => return interrupted.map(|()| Exit::Ok),
        };
        let Some(bytes) = frame else {
            return Err(VerbError::new(Exit::Unreachable, "the server ended the log"));
        };
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Some(text) = line.strip_suffix(b"\n").filter(|text| !text.is_empty()) else { continue };
            let record: Record = serde_json::from_slice(text).map_err(|error| VerbError::of(Exit::Failed, &error))?;
            print(call, &record)?;
        }
        if pending.len() > 2 * MAX_RECORD_BYTES {
            return Err(VerbError::failed("the server sent a line that is longer than any record"));
        }
    }
}

async fn next(stream: &mut Incoming) -> Result<Option<hyper::body::Bytes>, VerbError> {
    loop {
        match stream.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(VerbError::of(Exit::Unreachable, &error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn print(call: &Call, record: &Record) -> Result<(), VerbError> {
    if call.out.is_json() {
        let bytes = record.to_canonical().map_err(|error| VerbError::of(Exit::Failed, &error))?;
        call.out.raw(&bytes)?;
        call.out.raw(b"\n")?;
    } else {
        call.out.line(&line::of(&call.out, record))?;
    }
    Ok(())
}

fn encode_uses(query: &UsesQuery) -> String {
    let UsesQuery { user, device, resource, since, limit } = query;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("user", user), ("device", device), ("resource", resource)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    let numbers = [("since", *since), ("limit", limit.map(u64::from))];
    for (name, value) in numbers {
        if let Some(value) = value {
            form.append_pair(name, &value.to_string());
        }
    }
    form.finish()
}

fn encode(query: &AuditQuery) -> url::form_urlencoded::Serializer<'static, String> {
    let AuditQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, limit, after } =
        query;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let texts = [
        ("user", user.clone()),
        ("device", device.clone()),
        ("resource", resource.clone()),
        ("outcome", outcome.clone()),
        ("passed", passed.clone()),
        ("kind", kind.clone()),
        ("reason", reason.clone()),
        ("id", id.clone()),
        ("text", text.clone()),
        ("since", since.map(|since| since.to_string())),
        ("until", until.map(|until| until.to_string())),
        ("limit", limit.map(|limit| limit.to_string())),
        ("after", after.map(|after| after.to_string())),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            form.append_pair(name, &value);
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_and_what_is_absent_is_left_out() {
        let query = AuditQuery { user: Some("a b&c".into()), since: Some(7), after: Some(9), ..AuditQuery::default() };
        assert_eq!(encode(&query).finish(), "user=a+b%26c&since=7&after=9");
        assert_eq!(encode(&AuditQuery::default()).finish(), "");
    }
}
