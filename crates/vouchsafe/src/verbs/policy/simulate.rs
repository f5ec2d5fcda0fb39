//! `policy simulate`: what recorded decisions would come to under another policy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vouchsafe_model::name::ResourceName;
use vouchsafe_policy::OwnedDetail;
use vouchsafe_replay::{Changed, DeviceClass, Example, Owner, Simulated, Turn, Why, grouped};
use vouchsafe_wire::api::{PolicyFileDoc, SimulateLine, SimulateProgress, SimulateRequest};

use super::foresee;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest;
use crate::output::{Output, Style, clean};
use crate::text::{self, Moment};
use crate::verbs::plan::unusable;
use crate::verbs::{ago, now};

/// Longest line of an answer, bytes.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Longest time without a line.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most names that are listed of a change, and most changes.
const MAX_NAMES: usize = 12;
const MAX_CHANGES: usize = 50;

/// What is to be tried on which records.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of .cedar files to try: a draft [default: the policy in force].
    #[arg(id = "draft", value_name = "DIR", conflicts_with_all = ["from", "published"])]
    dir: Option<PathBuf>,
    /// The same, as `policy diff` takes it.
    #[arg(short = 'f', long = "from", value_name = "DIR", conflicts_with = "published")]
    from: Option<PathBuf>,
    /// Version to try instead.
    #[arg(long, value_name = "VERSION")]
    published: Option<u64>,
    /// Records from then on: how long ago, or an RFC 3339 time [default: 30d].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Records until then [default: now].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Accesses that other programs logged, in place of our own records: a file of `observed import`; may be given
    /// several times.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "until", "limit"])]
    observed: Vec<PathBuf>,
    /// Only those of this resource; may be given several times.
    #[arg(long, value_name = "NAME", requires = "observed")]
    resource: Vec<ResourceName>,
    /// At most so many records, the newest [default: 2000000].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    limit: Option<u64>,
}

pub(crate) async fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { dir, from, published, since, until, observed, resource, limit } = args;
    let draft = dir.as_deref().or(from.as_deref());
    let files = draft.map(|dir| files(call, dir)).transpose()?;
    if !observed.is_empty() {
        let asked = foresee::Asked { observed, resources: resource, files, published: *published };
        return foresee::run(asked, call).await;
    }
    let at = |moment: Option<Moment>| moment.map(|moment| moment.unix_seconds(now()));
    let asked =
        SimulateRequest { before: None, after: *published, files, since: at(*since), until: at(*until), limit: *limit };
    let client = AdminClient::open(call).await?;
    let found = ask(call, &client, &asked).await?;
    let what = match (draft, published) {
        (Some(_), _) => "the draft".to_owned(),
        (None, Some(version)) => format!("version {version}"),
        (None, None) => format!("version {}, which is in force", found.after),
    };
    if call.out.is_json() {
        call.out.json(&found)?;
    } else {
        tell(&call.out, &found, &what)?;
    }
    Ok(if taken_away(&found) > 0 { Exit::Failed } else { Exit::Ok })
}

/// Accesses that the draft takes away. Those that the policy in force denies already are lost without it, such as those
/// of a grant that has ended.
fn taken_away(found: &Simulated) -> u64 {
    found.lost.requests.saturating_sub(found.lost_already)
}

fn files(call: &Call, dir: &Path) -> Result<Vec<PolicyFileDoc>, VerbError> {
    manifest::policy_files(dir).map_err(|error| unusable(call, error))
}

/// Asks, and shows how far it is until the answer is there.
pub(super) async fn ask(call: &Call, client: &AdminClient, asked: &SimulateRequest) -> Result<Simulated, VerbError> {
    let drawn = asked.files.clone().unwrap_or_default();
    let mut answer = client.send_files_for_lines(call, "/v1/policy/simulate", asked, &drawn).await?;
    let bar = progress(call);
    let mut pending = Vec::new();
    loop {
        let line = tokio::select! {
            line = next_line(&mut answer, &mut pending) => line?,
            interrupted = call.interrupted() => {
                interrupted?;
                return Err(VerbError::failed("interrupted"));
            }
        };
        match serde_json::from_slice(&line).map_err(|error| VerbError::of(Exit::Failed, &error))? {
            SimulateLine::Progress(SimulateProgress { records, done, of }) => {
                bar.set_length(of);
                bar.set_position(done);
                bar.set_message(format!("{} decisions", grouped(records)));
            }
            SimulateLine::Result(found) => {
                bar.finish_and_clear();
                return Ok(found);
            }
            SimulateLine::Problem(problem) => return Err(VerbError::from(*problem)),
        }
    }
}

/// The next line, without its end.
async fn next_line(answer: &mut Incoming, pending: &mut Vec<u8>) -> Result<Vec<u8>, VerbError> {
    let mut looked_at = 0;
    loop {
        if let Some(end) = pending.iter().skip(looked_at).position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = pending.drain(..=looked_at + end).collect();
            line.pop();
            return Ok(line);
        }
        looked_at = pending.len();
        if looked_at > MAX_LINE_BYTES {
            return Err(VerbError::failed("the server sent a line that is longer than any answer"));
        }
        let late = |_| VerbError::new(Exit::Unreachable, format!("no word within {} s", PATIENCE.as_secs()));
        match tokio::time::timeout(PATIENCE, answer.frame()).await.map_err(late)? {
            None => return Err(VerbError::new(Exit::Unreachable, "the server broke the answer off")),
            Some(Err(error)) => return Err(VerbError::of(Exit::Unreachable, &error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    pending.extend_from_slice(&bytes);
                }
            }
        }
    }
}

fn progress(call: &Call) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !call.out.reaches_a_person() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn tell(out: &Output, found: &Simulated, what: &str) -> io::Result<()> {
    let Simulated { since, until, records, changes, skipped, whole, oldest, untold, .. } = found;
    let span = text::about(until.saturating_sub(*since));
    let head = format!("{what} on {} recorded decisions of {span}", grouped(*records));
    out.line(&out.paint(Style::Bold, &head))?;
    if !whole {
        let oldest = oldest.map(|oldest| format!(", back to {}", text::moment(oldest))).unwrap_or_default();
        out.line(&out.paint(Style::Warn, &format!("not all of them: the newest only{oldest}")))?;
    }
    for change in changes.iter().take(MAX_CHANGES) {
        one(out, change)?;
    }
    let left: u64 = changes.iter().skip(MAX_CHANGES).map(|change| change.count).sum::<u64>() + untold;
    if left > 0 {
        out.line(&format!("\n{}", out.paint(Style::Dim, &format!("and {} more requests", grouped(left)))))?;
    }
    if !skipped.is_empty() {
        out.line("")?;
    }
    for skipped in skipped {
        let line = format!("{} not decided again: {}", requests(skipped.count), skipped.words);
        out.line(&out.paint(Style::Dim, &clean(&line)))?;
    }
    out.line("")?;
    verdict(out, found)
}

/// What it comes to, in a sentence or two.
fn verdict(out: &Output, found: &Simulated) -> io::Result<()> {
    let Simulated { allowed, lost, gained, tolerated, nobody, covered, .. } = found;
    let accesses = format!("{} recorded access{}", grouped(*allowed), if *allowed == 1 { "" } else { "es" });
    let line = match (allowed, lost.requests, taken_away(found)) {
        (0, ..) => out.paint(Style::Warn, "no access was recorded that could be decided again, so this says little"),
        (_, 0, _) => format!("{} nobody of {accesses} would be denied", out.paint(Style::Good, "✓")),
        (_, lost, 0) => {
            let mark = out.paint(Style::Good, "✓");
            format!("{mark} {} of {accesses} would be denied, and all of them are already", grouped(lost))
        }
        (_, all, taken) => {
            let mark = out.paint(Style::Bad, "✗");
            let already = all.saturating_sub(taken);
            let besides =
                if already > 0 { format!("; {} of them are already", grouped(already)) } else { String::new() };
            format!("{mark} {} of {accesses} would be denied, of {}{besides}", grouped(all), lost.people_in_words())
        }
    };
    out.line(&line)?;
    if gained.requests > 0 {
        let what =
            format!("{} that were denied would be allowed, of {}", requests(gained.requests), gained.people_in_words());
        out.line(&format!("{} {what}", out.paint(Style::Warn, "+")))?;
    }
    if tolerated.requests + nobody > 0 {
        let of_nobody = if *nobody > 0 { format!(", and {} of nobody", grouped(*nobody)) } else { String::new() };
        let what = format!(
            "{} went on by observe or warn alone and would still, of {}{of_nobody}: enforced, they would be denied",
            requests(tolerated.requests),
            tolerated.people_in_words()
        );
        out.line(&format!("{} {what}", out.paint(Style::Warn, "!")))?;
    }
    if *covered > 0 {
        let what = format!("{} went on by observe or warn alone and would be allowed", requests(*covered));
        out.line(&format!("{} {what}", out.paint(Style::Good, "✓")))?;
    }
    Ok(())
}

fn one(out: &Output, change: &Changed) -> io::Result<()> {
    let Changed { turn, count, already, people, people_count, groups, device, resource, action, mode, .. } = change;
    let names: Vec<&str> = people.iter().map(|person| person.user.as_str()).take(MAX_NAMES).collect();
    let more = people_count.saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    out.line("")?;
    let head = format!("{}{more}: {action} on {resource}, {}", names.join(", "), on(device));
    for line in text::wrapped(&clean(&head), out.width()) {
        out.line(&out.paint(Style::Bold, &line))?;
    }
    let (style, sign) = match turn {
        Turn::Lost => (Style::Bad, "-"),
        Turn::Tolerated => (Style::Warn, "!"),
        Turn::Gained => (Style::Good, "+"),
    };
    let (was, is) = match (turn, mode) {
        (Turn::Lost, _) => (format!("allowed{}", by(&change.before)), "denied"),
        (Turn::Tolerated, mode) => (
            format!("denied{}, and went on by {}", why(&change.before), mode.as_deref().unwrap_or("its mode")),
            "denied",
        ),
        (Turn::Gained, _) => (format!("denied{}", why(&change.before)), "allowed"),
    };
    let now_by = if is == "allowed" { by(&change.after) } else { why(&change.after) };
    let what = format!("{sign} {} {was}, would be {is}{now_by}", requests(*count));
    out.line(&format!("  {}", out.paint(style, &clean(&what))))?;
    let mut notes = Vec::new();
    if *already > 0 {
        let some = if already == count { "all".to_owned() } else { grouped(*already) };
        notes.push(format!("{some} of them are {is} by the policy in force already"));
    }
    if *people_count > 1 && !groups.is_empty() {
        notes.push(format!("all members of {}", groups.join(", ")));
    }
    notes.push(format!("last {}", ago(Some(change.last))));
    notes.extend(change.examples.first().map(|example| format!("such as {}", told(example))));
    for line in notes.iter().flat_map(|note| text::wrapped(&clean(note), out.width().saturating_sub(4))) {
        out.line(&out.paint(Style::Dim, &format!("    {line}")))?;
    }
    Ok(())
}

fn by(why: &Why) -> String {
    if why.policies.is_empty() { String::new() } else { format!(" by {}", why.policies.join(", ")) }
}

fn why(why: &Why) -> String {
    format!(" ({}{})", why.reason, by(why))
}

fn on(device: &DeviceClass) -> String {
    let DeviceClass { grade, owner, tags } = device;
    let whose = match owner {
        None => return "without a proven device".to_owned(),
        Some(Owner::Own) => "her own",
        Some(Owner::Another) => "another's",
        Some(Owner::Nobody) => "nobody's",
    };
    let tags = if tags.is_empty() { String::new() } else { format!(", tagged {}", tags.join(" ")) };
    format!("on {whose} device of grade {grade}{tags}")
}

/// A request in words; what is usual is left out.
fn told(example: &Example) -> String {
    let Example { at: _, id, user, device, auth_age, ip, post_quantum: _, detail } = example;
    let mut parts = vec![user.clone()];
    match detail {
        OwnedDetail::Http { method, path, host: _ } => parts.push(format!("{method} {path}")),
        OwnedDetail::Net { port } => parts.push(format!("port {port}")),
        OwnedDetail::Console { operation } => parts.push(operation.clone()),
    }
    parts.extend(device.iter().map(|device| format!("on {device}")));
    if *auth_age > 0 {
        parts.push(format!("signed in {} before", text::about(*auth_age)));
    }
    parts.push(format!("from {ip}"));
    let id = id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    format!("{}{id}", parts.join(", "))
}

fn requests(count: u64) -> String {
    format!("{} request{}", grouped(count), if count == 1 { "" } else { "s" })
}
