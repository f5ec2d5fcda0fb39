//! `doctor modes`: which resources let denials pass, for how long still, and which are over.

use serde::Serialize;
use vouchsafe_wire::api::ResourceDoc;

use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::verbs::now;
use crate::verbs::resource::mode::{ends, is_soon, left};

/// One resource whose mode isn't `enforce`.
#[derive(Debug, Serialize)]
struct Found {
    resource: String,
    mode: String,
    owner: String,
    ends: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    EndsSoon,
    Over,
}

/// Asks for all resources, and says what is to be done about their modes.
///
/// # Errors
/// [`VerbError`] when one is over.
pub(crate) async fn run(call: &Call) -> Result<Exit, VerbError> {
    let resources: Vec<ResourceDoc> = AdminClient::open(call).await?.get_all("/v1/resources").await?;
    let found: Vec<Found> = resources.iter().filter_map(|doc| look(doc, now())).collect();
    if call.out.is_json() {
        call.out.json(&found)?;
    } else {
        print(call, &found)?;
    }
    match found.iter().filter(|one| one.state == State::Over).count() {
        0 => Ok(Exit::Ok),
        over => Err(VerbError::failed(format!("{over} resources have a mode that is over"))
            .hint("they enforce; say so: `vouchsafe resource mode NAME enforce`, or set another end")),
    }
}

fn look(doc: &ResourceDoc, now: u64) -> Option<Found> {
    let (trial, ends) = (doc.observe.as_ref()?, ends(doc)?);
    let state = match ends {
        _ if ends <= now => State::Over,
        _ if is_soon(ends, now) => State::EndsSoon,
        _ => State::Running,
    };
    let mode = doc.mode.clone().unwrap_or_default();
    Some(Found { resource: doc.name.clone(), mode, owner: trial.owner.clone(), ends, state })
}

fn print(call: &Call, found: &[Found]) -> std::io::Result<()> {
    let out = &call.out;
    if found.is_empty() {
        return out.line(&format!("{} every resource enforces", out.paint(Style::Good, "✓")));
    }
    for Found { resource, mode, owner, ends, state } in found {
        let (mark, style, words) = match state {
            State::Running => ("·", Style::Plain, "denials pass"),
            State::EndsSoon => ("!", Style::Warn, "denials pass, and soon stand"),
            State::Over => ("✗", Style::Bad, "denials stand, though it is written otherwise"),
        };
        let line = format!(
            "{}: `{}`, {}: {words}; {} answers for it",
            clean(resource),
            clean(mode),
            left(*ends),
            clean(owner)
        );
        out.line(&format!("{} {line}", out.paint(style, mark)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_wire::api::TrialDoc;

    #[test]
    fn a_mode_runs_ends_soon_or_is_over() {
        let doc = |until: &str| ResourceDoc {
            mode: Some("observe".into()),
            observe: Some(TrialDoc { until: until.into(), owner: "ann".into(), ..TrialDoc::default() }),
            ..ResourceDoc::default()
        };
        // 2026-12-31T18:00:00Z
        let end = 1_798_740_000;
        let state = |now| look(&doc("2026-12-31T18:00:00Z"), now).unwrap().state;
        assert_eq!(state(end - 4 * 86_400), State::Running);
        assert_eq!((state(end - 86_400), state(end - 1)), (State::EndsSoon, State::EndsSoon));
        assert_eq!((state(end), state(end + 1)), (State::Over, State::Over));
        assert!(look(&ResourceDoc::default(), end).is_none());
    }
}
