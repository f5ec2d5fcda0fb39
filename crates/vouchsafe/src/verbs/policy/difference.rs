//! `policy diff`: who gains and who loses what.

use std::io;
use std::path::PathBuf;

use http::Method;
use serde::Serialize;
use vouchsafe_policy::{Change, Difference, Rights};
use vouchsafe_replay::Simulated;
use vouchsafe_wire::api::{DiffRequest, PolicyFileDoc, SimulateRequest};

use super::{rights, simulate};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest;
use crate::output::{Output, Style, clean};
use crate::text;
use crate::verbs::plan::unusable;
use crate::verbs::{now, show};

/// Most names that are listed of a change.
const MAX_NAMES: usize = 12;

/// What is to be compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Version to compare [default: the one in force, or the one before it].
    #[arg(value_name = "BEFORE")]
    before: Option<u64>,
    /// Version to compare with [default: the one in force].
    #[arg(value_name = "AFTER", conflicts_with = "from")]
    after: Option<u64>,
    /// Directory of .cedar files to compare with instead: a draft.
    #[arg(short = 'f', long = "from", value_name = "DIR")]
    from: Option<PathBuf>,
    /// Says too how many requests of the last days it would have changed; 0 doesn't look.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=3_650))]
    days: u16,
}

/// Most recorded requests that are looked at, the newest.
const MAX_RECORDED: u64 = 500_000;

/// What changes, and what it would have changed.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    difference: Difference,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Simulated>,
}

pub(crate) async fn run(args: &Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { before, after, from, days } = args;
    let files = match from {
        Some(dir) => Some(manifest::policy_files(dir).map_err(|error| unusable(call, error))?),
        None => None,
    };
    let drawn = files.clone().unwrap_or_default();
    let body = DiffRequest { before: *before, after: *after, files };
    let client = AdminClient::open(call).await?;
    let found: Difference = client.send_files(call, Method::POST, "/v1/policy/diff", &body, &drawn).await?;
    let recorded = recorded(call, &client, &found, body.files, *days).await;
    let after = if from.is_some() { "the draft".to_owned() } else { format!("version {}", found.after) };
    let title = format!("version {} → {after}", found.before);
    show(call, &Answer { difference: found, recorded }, |Answer { difference, recorded }| {
        tell(&call.out, difference, &title)?;
        match recorded {
            Some(recorded) => call.out.line(&recorded.in_words()),
            None => Ok(()),
        }
    })
}

/// What of the log the change would have changed; what changes for whom is told also without it.
async fn recorded(
    call: &Call,
    client: &AdminClient,
    found: &Difference,
    files: Option<Vec<PolicyFileDoc>>,
    days: u16,
) -> Option<Simulated> {
    if days == 0 {
        return None;
    }
    let asked = SimulateRequest {
        before: Some(found.before),
        after: files.is_none().then_some(found.after),
        files,
        since: Some(now().saturating_sub(u64::from(days) * 86_400)),
        until: None,
        limit: Some(MAX_RECORDED),
    };
    match simulate::ask(call, client, &asked).await {
        Ok(recorded) => Some(recorded),
        Err(error) => {
            let why = clean(&error.title).into_owned();
            call.out
                .note(&format!("{} recorded requests were not counted: {why}", call.out.paint_error(Style::Warn, "!")));
            None
        }
    }
}

pub(super) fn tell(out: &Output, found: &Difference, title: &str) -> io::Result<()> {
    out.line(&out.paint(Style::Bold, title))?;
    for change in &found.changes {
        one(out, change)?;
    }
    out.line(&format!("\n{}", verdict(out, found)))
}

/// What a change of policy comes to, in one line.
fn verdict(out: &Output, found: &Difference) -> String {
    let only_less = found.exact && found.people().0 == 0;
    out.paint(if only_less { Style::Good } else { Style::Warn }, &found.in_words())
}

fn one(out: &Output, change: &Change) -> io::Result<()> {
    let Change { count, users, resources, actions, gains, loses, before, after } = change;
    let names: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
    let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
    out.line("")?;
    let head = format!("{}: {} on {}", listed(&names, *count), actions.join(", "), listed(&resources, resources.len()));
    for line in text::wrapped(&clean(&head), out.width()) {
        out.line(&out.paint(Style::Bold, &line))?;
    }
    for (sign, style, verb, shift) in [("+", Style::Good, "gain", gains), ("-", Style::Bad, "lose", loses)] {
        let Some(shift) = shift else { continue };
        let on = format!("{sign} {verb} it {}", shift.devices());
        out.line(&format!("  {}", out.paint(style, &clean(&on))))?;
        for line in text::wrapped(&clean(&format!("such as {}", shift.example)), out.width().saturating_sub(4)) {
            out.line(&out.paint(Style::Dim, &format!("    {line}")))?;
        }
    }
    open(out, "before", before.as_ref())?;
    open(out, "after", after.as_ref())
}

fn open(out: &Output, when: &str, open: Option<&Rights>) -> io::Result<()> {
    let head = out.paint(Style::Dim, when);
    match open {
        None => out.line(&format!("  {head}: never")),
        Some(open) => {
            out.line(&format!("  {head}:"))?;
            rights::rights(out, open)
        }
    }
}

fn listed(names: &[&str], count: usize) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMES).copied().collect();
    let more = count.saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(listed(&names, 5_000).ends_with("u11 and 4988 more"));
        assert_eq!(listed(&["a", "b"], 2), "a, b");
    }
}
