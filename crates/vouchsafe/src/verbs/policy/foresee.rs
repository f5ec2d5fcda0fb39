//! `policy simulate --observed`: what accesses that other programs logged would come to under another policy.

use std::io;
use std::path::PathBuf;

use http::Method;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_policy::{Concerned, Foreseen};
use vouchsafe_wire::api::{ForeseeRequest, PolicyFileDoc};

use super::{rights, suggest};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Output, Style, clean};
use crate::text;
use crate::verbs::ago;

/// Most names that are listed of people, and most kinds of accesses.
const MAX_NAMES: usize = 12;
const MAX_LISTED: usize = 50;

/// Which accesses, under which policy.
pub(super) struct Asked<'a> {
    pub(super) observed: &'a [PathBuf],
    pub(super) resources: &'a [ResourceName],
    pub(super) files: Option<Vec<PolicyFileDoc>>,
    pub(super) published: Option<u64>,
}

pub(super) async fn run(asked: Asked<'_>, call: &Call) -> Result<Exit, VerbError> {
    let Asked { observed, resources, files, published } = asked;
    let observed = suggest::observed(observed, resources)?;
    let drawn = files.clone().unwrap_or_default();
    let is_draft = files.is_some();
    let body = ForeseeRequest { observed, after: published, files };
    let client = AdminClient::open(call).await?;
    let found: Foreseen = client.send_files(call, Method::POST, "/v1/policy/foresee", &body, &drawn).await?;
    let what = if is_draft { "the draft".to_owned() } else { format!("version {}", found.after) };
    if call.out.is_json() {
        call.out.json(&found)?;
    } else {
        tell(&call.out, &found, &what)?;
    }
    Ok(if found.denied > found.denied_already { Exit::Failed } else { Exit::Ok })
}

fn tell(out: &Output, found: &Foreseen, what: &str) -> io::Result<()> {
    let Foreseen { accesses, concerned, left_out, .. } = found;
    let head = format!("{what} on {}, of which logs say who, what and how often", of_accesses(*accesses));
    out.line(&out.paint(Style::Bold, &head))?;
    for each in concerned.iter().take(MAX_LISTED) {
        one(out, each)?;
    }
    let more: u64 = concerned.iter().skip(MAX_LISTED).map(|one| one.accesses).sum();
    if more > 0 {
        out.line(&format!("\n{}", out.paint(Style::Dim, &format!("and {} more", of_accesses(more)))))?;
    }
    if !left_out.is_empty() {
        let count: u64 = left_out.iter().map(|left| left.access.count).sum();
        let words = format!("{} of people or resources that aren't there", of_accesses(count));
        out.line(&format!("\n{}", out.paint(Style::Dim, &words)))?;
    }
    out.line("")?;
    verdict(out, found)
}

fn verdict(out: &Output, found: &Foreseen) -> io::Result<()> {
    let Foreseen { accesses, open, depends, denied, denied_already, .. } = found;
    let line = match (*accesses, *denied, denied.saturating_sub(*denied_already)) {
        (0, ..) => out.paint(Style::Warn, "nothing was observed that could be looked at, so this says little"),
        (_, 0, _) => format!("{} none of {} would be denied", out.paint(Style::Good, "✓"), of_accesses(*accesses)),
        (_, denied, 0) => {
            let words = format!("{denied} of {} would be denied, and all of them are already", of_accesses(*accesses));
            format!("{} {words}", out.paint(Style::Good, "✓"))
        }
        (_, denied, taken) => {
            let besides =
                if taken < denied { format!("; {} of them are already", denied - taken) } else { String::new() };
            let words = format!("{denied} of {} would be denied{besides}", of_accesses(*accesses));
            format!("{} {words}", out.paint(Style::Bad, "✗"))
        }
    };
    out.line(&line)?;
    if *depends > 0 {
        let words = format!("{} would go on under conditions of which the logs say nothing", of_accesses(*depends));
        out.line(&format!("{} {words}", out.paint(Style::Warn, "!")))?;
    }
    if *open > 0 {
        let words = format!("{} would go on, from an enrolled device", of_accesses(*open));
        out.line(&format!("{} {words}", out.paint(Style::Good, "✓")))?;
    }
    Ok(())
}

fn one(out: &Output, concerned: &Concerned) -> io::Result<()> {
    let Concerned { resource, action, count, users, accesses, last, without_device, denied, before, after } = concerned;
    let names: Vec<&str> = users.iter().take(MAX_NAMES).map(UserName::as_str).collect();
    let more = match count.saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let device = if *without_device { ", without a device" } else { "" };
    out.line("")?;
    let head = format!("{}{more}: {action} on {resource}{device}", names.join(", "));
    for line in text::wrapped(&clean(&head), out.width()) {
        out.line(&out.paint(Style::Bold, &line))?;
    }
    let (style, sign, verb) = match (denied, before) {
        (true, Some(_)) => (Style::Bad, "-", "would be denied"),
        (true, None) => (Style::Warn, "-", "would be denied, as now"),
        (false, _) => (Style::Warn, "?", "would depend"),
    };
    let what = format!("{sign} {} {verb}; the last {}", of_accesses(*accesses), ago(Some(*last)));
    out.line(&format!("  {}", out.paint(style, &clean(&what))))?;
    match after {
        Some(after) => rights::rights(out, after),
        None => Ok(()),
    }
}

fn of_accesses(count: u64) -> String {
    format!("{count} access{}", if count == 1 { "" } else { "es" })
}
