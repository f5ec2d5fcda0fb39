//! `policy suggest`: a least-privilege policy from what was used, and rights that nobody used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::observed::{Observed, Tally};
use vouchsafe_observed::file::{self, MAX_ENTRIES};
use vouchsafe_policy::{Suggested, SuggestedFile, Suggestion, Unused};
use vouchsafe_wire::api::{Looked, Seen, SuggestRequest, UnusedRequest};

use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table, clean};
use crate::text::{self, counted};
use crate::verbs::show;

/// How files of ours begin; others are never written over.
const OURS: &str = "// Suggested by `vouchsafe policy suggest";
/// Most of one thing that is listed.
const SHOWN: usize = 20;
/// Most observed accesses that one question carries, bytes: what the API takes, less the rest.
const MAX_SENT: usize = 3 << 20;
const DAY: u64 = 86_400;

/// What is to be suggested.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How far back the audit log is looked at, such as `30d` [default: 30d, or not at all with --observed].
    #[arg(long, value_name = "TIME", value_parser = days)]
    since: Option<u32>,
    /// File of `observed import`; may be given several times.
    #[arg(long, value_name = "FILE")]
    observed: Vec<PathBuf>,
    /// Only for this resource; may be given several times [default: all].
    #[arg(long, value_name = "NAME")]
    resource: Vec<ResourceName>,
    /// Fewer accesses than these are left for you to choose [default: 2].
    #[arg(long, value_name = "COUNT")]
    rare: Option<u64>,
    /// Lets a group stand for its members where so many of them used something, such as `80%` [default: 100%].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    group_share: Option<u8>,
    /// Demands the grade of device that all accesses came from, where that is hardware.
    #[arg(long)]
    demand_grade: bool,
    /// Needs no device where accesses came without one.
    #[arg(long)]
    without_device: bool,
    /// Shows instead which rights of now were not used for so long, such as `90d`, with a draft that takes them away.
    #[arg(long, value_name = "TIME", value_parser = days,
          conflicts_with_all = ["since", "rare", "group_share", "demand_grade", "without_device"])]
    unused: Option<u32>,
    /// Writes the files into this directory [default: prints them].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

fn days(text: &str) -> Result<u32, String> {
    let whole = text::duration(text).map_err(|error| error.to_string())?;
    let days = u32::try_from(whole.as_secs().div_ceil(DAY)).unwrap_or(u32::MAX);
    let most = Duration::from_secs(366 * DAY);
    if whole <= most { Ok(days) } else { Err("at most 366 days".to_owned()) }
}

/// `80%`, `80` or `0.8`.
fn share(text: &str) -> Result<u8, &'static str> {
    let wrong = "write it like `80%` or `0.8`; at most all, at least 1 %";
    let percent = match text.strip_prefix("0.") {
        Some(figures) if (1..=2).contains(&figures.len()) => {
            let number: u8 = figures.parse().map_err(|_| wrong)?;
            if figures.len() == 1 { number * 10 } else { number }
        }
        Some(_) => return Err(wrong),
        None => text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| wrong)?,
    };
    if (1..=100).contains(&percent) { Ok(percent) } else { Err(wrong) }
}

pub(crate) async fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let observed = observed(&args.observed, &args.resource)?;
    let resources: Vec<String> = args.resource.iter().map(ToString::to_string).collect();
    let client = AdminClient::open(call).await?;
    if let Some(days) = args.unused {
        let asked = UnusedRequest { days, observed, resources };
        let seen: Seen<Unused> = client.send(Method::POST, "/v1/policy/unused", &asked).await?;
        put(args.output.as_deref(), &seen.answer.files, Over::Nothing)?;
        return show(call, &seen, |seen| {
            let lines = unused_lines(&call.out, seen, days);
            tell(call, &lines, &seen.answer.files, args.output.as_deref())
        });
    }
    let asked = SuggestRequest {
        days: args.since,
        observed,
        resources,
        rare: args.rare,
        group_share: args.group_share,
        demand_grade: args.demand_grade,
        without_device: args.without_device,
    };
    let seen: Seen<Suggestion> = client.send(Method::POST, "/v1/policy/suggest", &asked).await?;
    put(args.output.as_deref(), &seen.answer.files, Over::EarlierSuggestions)?;
    show(call, &seen, |seen| {
        let lines = suggestion_lines(&call.out, seen);
        tell(call, &lines, &seen.answer.files, args.output.as_deref())
    })
}

/// Reads files of observed accesses, those of the wanted resources.
pub(super) fn observed(files: &[PathBuf], resources: &[ResourceName]) -> Result<Vec<Observed>, VerbError> {
    let mut tally = Tally::new(MAX_ENTRIES);
    for path in files {
        let failed = |error: &dyn std::error::Error| {
            let mut made = VerbError::of(Exit::Failed, error);
            made.causes.insert(0, made.title.clone());
            made.title = format!("can't use `{}`", path.display());
            made
        };
        let from = File::open(path).map_err(|error| failed(&error))?;
        file::read(BufReader::new(from), &mut tally).map_err(|error| failed(&error))?;
    }
    let wanted = |one: &Observed| resources.is_empty() || resources.contains(&one.resource);
    let observed: Vec<Observed> = tally.into_observed().into_iter().filter(wanted).collect();
    let size: usize = observed.iter().map(|one| serde_json::to_string(one).map_or(0, |text| text.len() + 1)).sum();
    if size > MAX_SENT {
        return Err(VerbError::failed("more was observed than one question can carry")
            .hint("ask for some of the resources with `--resource`, one after the other"));
    }
    Ok(observed)
}

/// What may be written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// A suggestion takes the place of the one before.
    EarlierSuggestions,
    /// What takes rights away goes on doing so: written over, it would give them back.
    Nothing,
}

/// Writes the files.
fn put(dir: Option<&Path>, files: &[SuggestedFile], over: Over) -> Result<(), VerbError> {
    let Some(dir) = dir else { return Ok(()) };
    let failed = |path: &Path, error: io::Error| {
        VerbError::failed(format!("can't write `{}`", path.display())).cause(error.to_string())
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for file in files {
        // The names are the controller's; only one of this form becomes a path.
        let stem = file.name.strip_suffix(".cedar").filter(|stem| stem.contains('-') && stem.len() < 200);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if stem.is_none_or(|stem| !stem.bytes().all(plain)) {
            return Err(VerbError::failed("the answer holds a file of a strange name").cause(file.name.clone()));
        }
        let path = dir.join(&file.name);
        match fs::read_to_string(&path) {
            Ok(_) if over == Over::Nothing => {
                return Err(VerbError::failed(format!("`{}` is there already", path.display()))
                    .hint("publish it, or take it out first; it would give back what it takes away"));
            }
            Ok(text) if !text.starts_with(OURS) => {
                return Err(VerbError::failed(format!("`{}` is not of an earlier suggestion", path.display()))
                    .hint("give another directory; nothing of yours is written over"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, error)),
        }
        fs::write(&path, &file.text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// The summary, and the files where they aren't written elsewhere: then they alone are on standard output.
fn tell(call: &Call, lines: &[String], files: &[SuggestedFile], dir: Option<&Path>) -> io::Result<()> {
    let out = &call.out;
    if let Some(dir) = dir {
        lines.iter().try_for_each(|line| out.line(line))?;
        let dir = out.paint(Style::Bold, &clean(&dir.display().to_string()));
        return match files.len() {
            0 => out.line("\nthere is nothing to write"),
            1 => out.line(&format!("\nwritten to {dir}, one file")),
            count => out.line(&format!("\nwritten to {dir}, {count} files")),
        };
    }
    for line in lines {
        out.note(line);
    }
    for file in files {
        if out.is_terminal() {
            out.line(&out.paint(Style::Bold, &format!("\n// {}", clean(&file.name))))?;
        }
        for line in file.text.lines() {
            out.line(&clean(line))?;
        }
    }
    Ok(())
}

fn suggestion_lines(out: &Output, seen: &Seen<Suggestion>) -> Vec<String> {
    let Seen { looked, answer } = seen;
    let Suggestion { policies, rare, left_out, coverage, rights, unused, replaces, keeps, .. } = answer;
    let mut lines = Vec::new();
    let mark = if policies.is_empty() { out.paint(Style::Warn, "!") } else { out.paint(Style::Good, "✓") };
    let share =
        out.paint(Style::Bold, &format!("{} of what was observed", percent(coverage.allowed, coverage.observed)));
    lines.push(format!(
        "{mark} {} would allow {share}: {} of {} accesses",
        counted(policies.len(), "policy", "policies"),
        coverage.allowed,
        coverage.observed
    ));
    let fewer = format!("{} rights, where there are {} today", rights.suggested, rights.today);
    lines.push(format!("  {}: {} go, {} come", out.paint(Style::Bold, &fewer), rights.gone, rights.new));
    lines.extend(of_looked(out, looked, None));
    if !policies.is_empty() {
        lines.push(String::new());
        lines.extend(table(policies).lines(out));
    }
    if coverage.without_device > 0 {
        lines.push(warning(
            out,
            &format!(
                "{} accesses came without a proven device, and would be denied: enrol those devices first, or give `--without-device`",
                coverage.without_device
            ),
        ));
    }
    let beyond: BTreeSet<&str> = policies.iter().flat_map(|policy| &policy.beyond).map(|user| user.as_str()).collect();
    if !beyond.is_empty() {
        lines.push(warning(out, &format!("more than was used is given to {}", names(beyond.into_iter()))));
    }
    if !rare.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{} left for you to choose; the files hold them as comments:",
            counted(rare.len(), "rare access is", "rare accesses are")
        ));
        let mut table = Table::new(&["who", "resource…", "action", "times", "last"]);
        for one in rare.iter().take(SHOWN) {
            let last = text::moment(one.last);
            let count = one.count.to_string();
            table.row([one.user.as_str(), one.resource.as_str(), one.action.as_str(), &count, &last].map(Cell::from));
        }
        lines.extend(table.lines(out));
        lines.extend(more(out, rare.len()));
    }
    if !left_out.is_empty() {
        lines.push(String::new());
        lines.push(format!("{} of no use:", counted(left_out.len(), "kind of access is", "kinds of accesses are")));
        let mut table = Table::new(&["who", "resource…", "action", "why"]);
        for left in left_out.iter().take(SHOWN) {
            let one = &left.access;
            table.row([one.user.as_str(), one.resource.as_str(), one.action.as_str(), &left.why].map(Cell::from));
        }
        lines.extend(table.lines(out));
        lines.extend(more(out, left_out.len()));
    }
    let mut list = |what: &str, all: &mut dyn Iterator<Item = &str>| {
        let names = names(all);
        if !names.is_empty() {
            lines.push(String::new());
            lines.extend(text::wrapped(&format!("{what}: {names}"), out.width()));
        }
    };
    list("used by nobody, and without a policy", &mut unused.iter().map(|name| name.as_str()));
    list(
        "permits of now that give something there (take them out; narrow those that give other things too)",
        &mut replaces.iter().map(|name| name.as_str()),
    );
    list("forbids of now that have to stay", &mut keeps.iter().map(|name| name.as_str()));
    lines
}

fn table(policies: &[Suggested]) -> Table {
    let mut table = Table::new(&["policy…", "resource", "actions", "for", "accesses"]);
    for policy in policies {
        let actions: Vec<&str> = policy.actions.iter().map(|action| action.as_str()).collect();
        let whom = match &policy.group {
            Some(group) if policy.beyond.is_empty() => format!("{group}: all {}", policy.users),
            Some(group) => format!("{group}: {} of {}", policy.used, policy.users),
            None => counted(policy.users, "person", "people"),
        };
        let accesses = policy.accesses.to_string();
        let cells = [policy.id.as_str(), policy.resource.as_str(), &actions.join(", "), &whom, &accesses];
        table.row(cells.map(Cell::from));
    }
    table
}

fn unused_lines(out: &Output, seen: &Seen<Unused>, days: u32) -> Vec<String> {
    let Seen { looked, answer: Unused { rights, unused, can, .. } } = seen;
    let mark = if *unused == 0 { out.paint(Style::Good, "✓") } else { out.paint(Style::Warn, "!") };
    let share = out.paint(Style::Bold, &format!("{unused} of {rights} rights"));
    let mut lines = vec![format!(
        "{mark} {share} were not used for {}",
        counted(usize::try_from(days).unwrap_or(usize::MAX), "day", "days")
    )];
    lines.extend(of_looked(out, looked, Some(days)));
    if can.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let mut table = Table::new(&["resource", "actions", "people", "by", "who…"]);
    for right in can.iter().take(SHOWN) {
        let actions: Vec<&str> = right.actions.iter().map(|action| action.as_str()).collect();
        let people = if right.nobody { format!("all {}", right.count) } else { right.count.to_string() };
        let by: Vec<&str> = right.by.iter().map(|policy| policy.as_str()).collect();
        let who: Vec<&str> = right.users.iter().take(SHOWN).map(|user| user.as_str()).collect();
        let cells = [right.resource.as_str(), &actions.join(", "), &people, &by.join(", "), &who.join(", ")];
        table.row(cells.map(Cell::from));
    }
    lines.extend(table.lines(out));
    lines.extend(more(out, can.len()));
    if can.iter().any(|right| right.granted) {
        lines.push(out.paint(Style::Dim, "what grants alone give is taken away with `vouchsafe grant remove`"));
    }
    lines
}

/// What was looked at, and how far it can be trusted.
fn of_looked(out: &Output, looked: &Looked, days: Option<u32>) -> Vec<String> {
    let Looked { since, whole, oldest, decisions, nobody, granted, beyond, given } = looked;
    let mut parts = Vec::new();
    if let Some(since) = since {
        parts.push(format!("{decisions} decisions since {}", text::moment(*since)));
    }
    if *given > 0 {
        parts.push(format!("{given} kinds of accesses that were observed elsewhere"));
    }
    let mut lines = vec![out.paint(Style::Dim, &format!("  looked at {}", parts.join(", and ")))];
    let mut remark = |count: u64, words: &str| {
        if count > 0 {
            lines.push(out.paint(Style::Dim, &format!("  {count} {words}")));
        }
    };
    remark(*nobody, "of them were of nobody known, and say nothing about anybody");
    remark(*granted, "of them were allowed by grants alone, which have their own end");
    if !whole {
        lines.push(warning(out, "there are more records than are looked at: the latest were"));
    }
    if *beyond > 0 {
        lines.push(warning(out, &format!("{beyond} accesses were of more kinds than are told apart")));
    }
    // Who was on holiday before the log began didn't use her rights either.
    let short = since.zip(*oldest).is_some_and(|(since, oldest)| oldest > since + DAY);
    if days.is_some() && (short || oldest.is_none()) {
        let from = oldest.map_or("is empty".to_owned(), |oldest| format!("goes back to {} only", text::moment(oldest)));
        lines.push(warning(out, &format!("the log {from}: who comes seldom wasn’t seen yet")));
    }
    lines
}

fn warning(out: &Output, words: &str) -> String {
    format!("{} {}", out.paint(Style::Warn, "!"), clean(words))
}

fn more(out: &Output, count: usize) -> Option<String> {
    let more = count.checked_sub(SHOWN).filter(|more| *more > 0)?;
    Some(out.paint(Style::Dim, &format!("… and {more} more; `--json` lists them")))
}

fn names<'n>(all: impl Iterator<Item = &'n str>) -> String {
    let all: Vec<&str> = all.collect();
    let shown = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => clean(&shown).into_owned(),
        more => format!("{} and {more} more", clean(&shown)),
    }
}

/// Rounded down, so that 100 % is all.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "nothing".to_owned();
    }
    let tenths = u128::from(part) * 1_000 / u128::from(whole);
    if tenths == 1_000 { "100 %".to_owned() } else { format!("{}.{} %", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_days_as_people_write_them() {
        for (text, meant) in [("80%", 80), ("80", 80), ("0.8", 80), ("0.75", 75), ("100%", 100), ("1", 1)] {
            assert_eq!(share(text), Ok(meant), "{text}");
        }
        for bad in ["", "0", "0%", "101", "0.", "0.805", "1.0", "0.x", "-1", "80 %"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!((days("30d"), days("1h"), days("8w")), (Ok(30), Ok(1), Ok(56)));
        assert!(days("400d").is_err() && days("0d").is_err());
    }

    #[test]
    fn all_is_a_hundred_percent_and_less_is_not() {
        assert_eq!(percent(9_999_999, 10_000_000), "99.9 %");
        assert_eq!((percent(3, 3), percent(0, 3), percent(0, 0)), ("100 %".into(), "0.0 %".into(), "nothing".into()));
    }

    #[test]
    fn nothing_that_is_not_of_a_suggestion_is_written_over() {
        let dir = tempfile::tempdir().expect("directory");
        let file = |text: &str| SuggestedFile { name: "suggested-wiki.cedar".into(), text: text.into() };
        let ours = format!("{OURS}` 1\n");
        put(Some(dir.path()), &[file(&ours)], Over::EarlierSuggestions).expect("written");
        assert!(put(Some(dir.path()), &[file(&ours)], Over::Nothing).is_err(), "not even ours");
        put(Some(dir.path()), &[file(&format!("{OURS}` 2\n"))], Over::EarlierSuggestions).expect("written over");
        let path = dir.path().join("suggested-wiki.cedar");
        assert_eq!(fs::read_to_string(&path).expect("read"), format!("{OURS}` 2\n"));
        fs::write(&path, "// mine\n").expect("written");
        assert!(put(Some(dir.path()), &[file(&ours)], Over::EarlierSuggestions).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "// mine\n");
        for strange in ["suggested-../x.cedar", "x.cedar", "suggested-wiki.toml"] {
            let file = SuggestedFile { name: strange.into(), text: ours.clone() };
            assert!(put(Some(dir.path()), &[file], Over::EarlierSuggestions).is_err(), "{strange}");
        }
    }
}
