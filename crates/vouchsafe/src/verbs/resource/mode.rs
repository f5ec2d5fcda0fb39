//! `resource mode`: what becomes of a denial at a resource.

use std::time::Duration;

use clap::ValueEnum;
use http::Method;
use vouchsafe_model::moment;
use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{ModeDoc, Progress, ResourceDoc, TrialDoc};
use vouchsafe_wire::resource::second_text;

use super::{RESOURCES, facts};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, clean};
use crate::text;
use crate::verbs::{agreed, now, show};

/// An end that is nearer than this is shown as a warning.
const SOON: u64 = 3 * 86_400;

/// Which mode, and its bounds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the resource.
    name: ResourceName,
    /// What becomes of a denial.
    mode: Word,
    /// Network of the present boundary: from elsewhere denials stand. May be given several times.
    #[arg(long, value_name = "CIDR")]
    from: Vec<String>,
    /// User who answers for it.
    #[arg(long, value_name = "USER")]
    owner: Option<UserName>,
    /// Why, in one line.
    #[arg(long)]
    reason: Option<String>,
    /// From then on denials stand: an RFC 3339 time, at most 90 days ahead.
    #[arg(long, value_name = "TIME", value_parser = end, conflicts_with = "lasting")]
    until: Option<String>,
    /// The same as a time from now on, such as `14d`.
    #[arg(long = "for", value_name = "DURATION", value_parser = text::duration)]
    lasting: Option<Duration>,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// What becomes of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    /// It passes for everybody within the boundary, and is written down.
    Observe,
    /// It passes for who is signed in, within the boundary; she is told.
    Warn,
    /// It stands.
    Enforce,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Word::Observe => "observe",
            Word::Warn => "warn",
            Word::Enforce => "enforce",
        }
    }
}

fn end(text: &str) -> Result<String, String> {
    let at = moment::parse_rfc3339(text).and_then(second_text);
    at.ok_or_else(|| format!("`{text}` is not a time such as 2026-12-31T18:00:00Z (RFC 3339)"))
}

pub(super) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { name, mode, from, owner, reason, until, lasting, yes } = args;
    let client = AdminClient::open(call).await?;
    let until = until.or_else(|| clock::now().checked_add(lasting?).and_then(second_text));
    let observe = match mode {
        Word::Enforce if !from.is_empty() || owner.is_some() || reason.is_some() || until.is_some() => {
            return Err(VerbError::usage(
                "`enforce` has no bounds: leave out `--from`, `--owner`, `--reason` and the end",
            ));
        }
        Word::Enforce => {
            warn_of(call, &client, &name).await;
            None
        }
        Word::Observe | Word::Warn => {
            let present: ResourceDoc = client.get(&path(RESOURCES, name.as_str(), "")).await?;
            Some(bounds(present.observe, from, owner, reason, until)?)
        }
    };
    if let Some(trial) = &observe {
        let who = if mode == Word::Warn { "everybody who is signed in" } else { "everybody" };
        let boundary = trial.from.join(", ");
        let question =
            format!("Let denials at `{name}` pass for {who} from {boundary}, until {}?", clean(&trial.until));
        agreed(call, yes, &question)?;
    }
    let doc = ModeDoc { mode: mode.as_str().to_owned(), observe };
    let kept: ResourceDoc = client.send(Method::PUT, &path(RESOURCES, name.as_str(), "/mode"), &doc).await?;
    show(call, &kept, |kept| facts(call, kept))
}

/// Says what speaks against enforcing, where it is only watched so far. It is the owner's to decide all the same.
async fn warn_of(call: &Call, client: &AdminClient, name: &ResourceName) {
    // Where it enforces already there is nothing to count.
    let present = client.get::<ResourceDoc>(&path(RESOURCES, name.as_str(), "")).await;
    if present.is_ok_and(|doc| doc.observe.is_none()) {
        return;
    }
    let Ok(progress) = client.get::<Progress>(&path(RESOURCES, name.as_str(), "/progress?days=7")).await else {
        return;
    };
    for check in progress.checks.iter().filter(|check| !check.holds) {
        call.out.note(&call.out.paint_error(Style::Warn, &format!("before this, {}", check.words)));
    }
}

/// The bounds as given; what isn't given is as it was.
fn bounds(
    present: Option<TrialDoc>,
    from: Vec<String>,
    owner: Option<UserName>,
    reason: Option<String>,
    until: Option<String>,
) -> Result<TrialDoc, VerbError> {
    let present = present.unwrap_or_default();
    let text = |given: Option<String>, before: String| given.unwrap_or(before);
    let trial = TrialDoc {
        from: if from.is_empty() { present.from } else { from },
        owner: text(owner.map(|owner| owner.to_string()), present.owner),
        reason: text(reason, present.reason),
        until: text(until, present.until),
    };
    let lacking = [
        ("--from", trial.from.is_empty()),
        ("--owner", trial.owner.is_empty()),
        ("--reason", trial.reason.is_empty()),
        ("--for or --until", trial.until.is_empty()),
    ];
    let lacking: Vec<&str> = lacking.into_iter().filter(|(_, lacks)| *lacks).map(|(name, _)| name).collect();
    if lacking.is_empty() {
        return Ok(trial);
    }
    Err(VerbError::usage(format!("a mode that lets denials pass has bounds: {} is missing", lacking.join(", "))))
}

/// Unix seconds of the end of a mode.
pub(crate) fn ends(doc: &ResourceDoc) -> Option<u64> {
    let until = moment::parse_rfc3339(&doc.observe.as_ref()?.until)?;
    Some(clock::unix_seconds(until))
}

/// How urgent a mode is: it is over, ends soon, or goes on.
pub(crate) fn style(ends: u64, now: u64) -> Style {
    match ends.checked_sub(now) {
        None | Some(0) => Style::Bad,
        Some(_) => Style::Warn,
    }
}

/// Whether it ends within days.
pub(crate) fn is_soon(ends: u64, now: u64) -> bool {
    (now..now.saturating_add(SOON)).contains(&ends)
}

/// The mode in a table: `enforce`, `observe, in 12 d`, `observe, over`.
pub(super) fn cell(doc: &ResourceDoc) -> Cell {
    match (doc.mode.as_deref().unwrap_or("enforce"), ends(doc)) {
        (mode, Some(ends)) => Cell::new(style(ends, now()), format!("{mode}, {}", left(ends))),
        (mode, None) => Cell::new(Style::Dim, mode),
    }
}

/// `in 12 d`, or that it is over.
pub(crate) fn left(ends: u64) -> String {
    if ends <= now() { "over: enforces".to_owned() } else { text::relative(ends, now()) }
}

/// The mode and its bounds, for people.
pub(super) fn words(doc: &ResourceDoc) -> Vec<(&'static str, String)> {
    let mode = doc.mode.as_deref().unwrap_or("enforce");
    let (Some(trial), Some(ends)) = (&doc.observe, ends(doc)) else { return vec![("mode", clean(mode).into_owned())] };
    vec![
        ("mode", format!("{}, {} ({})", clean(mode), left(ends), text::moment(ends))),
        ("mode from", clean(&trial.from.join(", ")).into_owned()),
        ("mode owner", clean(&trial.owner).into_owned()),
        ("mode reason", clean(&trial.reason).into_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_are_not_given_are_as_they_were_and_none_may_lack() {
        let error = bounds(None, Vec::new(), None, None, None).unwrap_err();
        assert!(error.title.ends_with("--from, --owner, --reason, --for or --until is missing"), "{}", error.title);
        let present = TrialDoc {
            from: vec!["10.0.0.0/8".into()],
            owner: "ann".into(),
            reason: "moving in".into(),
            until: "2026-12-31T18:00:00Z".into(),
        };
        let kept = bounds(Some(present.clone()), Vec::new(), None, None, None).unwrap();
        assert_eq!(kept, present);
        let until = "2027-01-01T00:00:00Z".to_owned();
        let later =
            bounds(Some(present.clone()), vec!["192.0.2.0/24".into()], None, None, Some(until.clone())).unwrap();
        assert_eq!(later, TrialDoc { from: vec!["192.0.2.0/24".into()], until, ..present });
    }

    #[test]
    fn an_end_is_a_time_to_the_second() {
        assert_eq!(end("2026-12-31T19:00:00.5+01:00").unwrap(), "2026-12-31T18:00:00Z");
        assert!(end("tomorrow").unwrap_err().contains("RFC 3339"));
    }
}
