//! `resource progress`: how far a resource is on its way to being enforced.

use vouchsafe_model::name::ResourceName;
use vouchsafe_wire::api::{Progress, ProgressPerson};

use super::RESOURCES;
use super::mode::left;
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table, clean};
use crate::text;
use crate::verbs::{ago, list, show};

/// Places of the bar.
const BAR: u64 = 30;

/// Which resource, and how far back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the resource.
    name: ResourceName,
    /// Days to look at, 1 to 90.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
}

pub(super) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let after = format!("/progress?days={}", args.days);
    let progress: Progress = AdminClient::open(call).await?.get(&path(RESOURCES, args.name.as_str(), &after)).await?;
    show(call, &progress, |progress| print(&call.out, progress))
}

fn print(out: &Output, progress: &Progress) -> std::io::Result<()> {
    let Progress { resource, mode, over, ends, owner, begun, since, accesses, would_deny, denied, .. } = progress;
    let mode = match (over, ends) {
        (true, _) => out.paint(Style::Bad, "enforce: the time of its mode is over"),
        (false, Some(ends)) => out.paint(Style::Warn, &format!("{}, {}", clean(mode), left(*ends))),
        (false, None) => clean(mode).into_owned(),
    };
    out.line(&out.paint(Style::Bold, &clean(resource)))?;
    let mut facts = vec![("mode", mode)];
    facts.extend(owner.as_ref().map(|owner| ("owner", clean(owner).into_owned())));
    facts.extend(begun.map(|begun| ("since", format!("{} ({})", ago(Some(begun)), text::moment(begun)))));
    facts.push(("looked at", format!("records from {} on", text::moment(*since))));
    facts.push(("accesses", accesses.to_string()));
    facts.push(("would be denied", format!("{would_deny} ({})", share(*would_deny, *accesses))));
    facts.push(("denied", denied.to_string()));
    out.facts(&facts)?;
    if *accesses > 0 {
        out.line(&format!("\n  {}", bar(out, *would_deny, *accesses)))?;
    }
    if !progress.reasons.is_empty() {
        let reasons: Vec<String> =
            progress.reasons.iter().map(|one| format!("{} {}", one.count, clean(&one.reason))).collect();
        out.line(&format!("  {}", out.paint(Style::Dim, &reasons.join(" · "))))?;
    }
    if !progress.people.is_empty() {
        out.line("")?;
        out.table(&table(&progress.people))?;
        if progress.more_people > 0 {
            out.line(&out.paint(Style::Dim, &format!("and {} more", progress.more_people)))?;
        }
    }
    advice(out, progress)
}

fn advice(out: &Output, progress: &Progress) -> std::io::Result<()> {
    let Some(next) = &progress.next else { return Ok(()) };
    let (style, words) = match progress.safe {
        true => (Style::Good, format!("✓ safe to go on to `{}`", clean(next))),
        false => (Style::Warn, format!("! not safe yet to go on to `{}`", clean(next))),
    };
    out.line(&format!("\n{}", out.paint(style, &words)))?;
    for check in &progress.checks {
        let (mark, style) = if check.holds { ("✓", Style::Good) } else { ("✗", Style::Bad) };
        out.line(&format!("  {} {}", out.paint(style, mark), clean(&check.words)))?;
    }
    if progress.safe {
        out.line(&format!("  vouchsafe resource mode {} {}", clean(&progress.resource), clean(next)))?;
    }
    Ok(())
}

fn table(people: &[ProgressPerson]) -> Table {
    let mut table = Table::new(&["who", "accesses", "would be denied", "last", "why…"]);
    for person in people {
        let style = if person.known { Style::Bold } else { Style::Plain };
        let denied = if person.would_deny > 0 { Style::Warn } else { Style::Dim };
        table.row([
            Cell::new(style, &person.who),
            person.accesses.to_string().as_str().into(),
            Cell::new(denied, person.would_deny.to_string()),
            ago(Some(person.last)).as_str().into(),
            list(&person.reasons).as_str().into(),
        ]);
    }
    table
}

/// `3.1 %`, never rounded to none or all while it is neither.
fn share(part: u64, whole: u64) -> String {
    match part.saturating_mul(1_000).checked_div(whole) {
        None => "–".to_owned(),
        Some(0) if part > 0 => "less than 0.1 %".to_owned(),
        Some(permille) => format!("{}.{} %", permille / 10, permille % 10),
    }
}

/// What would be denied, of all; in signs that differ, not in colours alone.
fn bar(out: &Output, part: u64, whole: u64) -> String {
    let filled = part.saturating_mul(BAR).div_ceil(whole.max(1)).min(BAR);
    let repeat = |sign: &str, times: u64| sign.repeat(usize::try_from(times).unwrap_or_default());
    let denied = out.paint(Style::Warn, &repeat("▒", filled));
    let allowed = out.paint(Style::Good, &repeat("█", BAR - filled));
    format!("{allowed}{denied}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Colours, Form};

    #[test]
    fn shares_are_told_so_that_some_is_never_none() {
        let shares =
            [(0, 0), (0, 7), (1, 100_000), (31, 1_000), (1, 3), (7, 7)].map(|(part, whole)| share(part, whole));
        assert_eq!(shares, ["–", "0.0 %", "less than 0.1 %", "3.1 %", "33.3 %", "100.0 %"]);
        let out = Output::new(Form::People, Colours::Never);
        assert_eq!(bar(&out, 1, 100_000).matches('▒').count(), 1);
        assert_eq!(bar(&out, 7, 7), "▒".repeat(30));
        assert_eq!(bar(&out, 0, 7), "█".repeat(30));
    }
}
