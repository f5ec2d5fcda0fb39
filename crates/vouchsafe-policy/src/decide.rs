//! From a slice of policies to a decision.
//!
//! Cedar alone skips a policy that fails, lets a permit count on any device, and says nothing about
//! why nothing applied. The rules here are on top of its answer.

use std::sync::Arc;
use std::time::SystemTime;

use cedar_policy::{AuthorizationError, Decision as Answer, Response};
use vouchsafe_model::decision::{Advice, Decision, Outcome, Reason};
use vouchsafe_model::subject::SubjectFacts;

use crate::engine::{Engine, Entry};
use crate::facts::Who;
use crate::index::Number;
use crate::request::Request;
use crate::subject::{Reach, Slice};

/// A decision with the policies that it hangs on.
pub(crate) struct Ruling {
    pub(crate) decision: Decision,
    pub(crate) allowed: Allowed,
    /// The policies that applied, or that failed.
    pub(crate) applied: Vec<Number>,
}

/// Whether a permit may be made of a ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    No,
}

/// Decides one request on what the subject can meet at the resource.
///
/// # Errors
/// A reason, when no policy could be asked.
pub(crate) fn rule(
    engine: &Engine,
    facts: &SubjectFacts,
    who: &Who,
    reach: &Reach,
    request: &Request<'_>,
    now: SystemTime,
) -> Result<Ruling, Reason> {
    // The enforcement point ends sessions too; a permit must not depend on that alone.
    if facts.expires <= now {
        return Err(Reason::SessionEnded);
    }
    let slice = reach.slice(request.action).ok_or(Reason::NoPermit)?;
    let asked = who.ask(engine, facts, &reach.lineage, request, now).ok_or(Reason::FactsUnavailable)?;
    let response = engine.authorizer.is_authorized(&asked, &slice.set, &reach.entities);
    Ok(judge(engine, facts, slice, &response))
}

/// A denial that no policy was asked for.
pub(crate) fn denial(engine: &Engine, facts: &SubjectFacts, reason: Reason) -> Decision {
    Decision { epoch: facts.epoch, ..Decision::denied(reason, engine.version()) }
}

fn judge(engine: &Engine, facts: &SubjectFacts, slice: &Slice, response: &Response) -> Ruling {
    let ruling = Rules { engine, facts };
    let failed =
        response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id());
    let failed = ruling.known(failed);
    if response.diagnostics().errors().next().is_some() {
        return ruling.plain(Reason::PolicyError, &failed);
    }
    let applied = ruling.known(response.diagnostics().reason());
    let permits: Vec<(Number, &Entry)> =
        slice.permits.iter().filter_map(|number| Some((*number, engine.entry(*number)?))).collect();
    match response.decision() {
        Answer::Allow => {
            let counting = ruling.counting(&applied);
            if counting.is_empty() {
                ruling.plain(Reason::DeviceRequired, &applied)
            } else {
                ruling.permitted(&counting)
            }
        }
        // To a person whom no permit speaks of, a forbid would tell that the resource exists.
        Answer::Deny if !applied.is_empty() && permits.is_empty() => ruling.plain(Reason::NoPermit, &applied),
        Answer::Deny if !applied.is_empty() => ruling.told(Reason::Forbidden, &applied),
        Answer::Deny => {
            let near = ruling.counting(&permits);
            match (near.is_empty(), permits.is_empty()) {
                (_, true) => ruling.plain(Reason::NoPermit, &[]),
                (true, false) => ruling.plain(Reason::DeviceRequired, &permits),
                (false, false) => {
                    let mut ruling = ruling.told(Reason::ConditionFailed, &near);
                    let advice = &ruling.decision.advice;
                    if near.len() < permits.len() && !advice.contains(&Advice::EnrolDevice) {
                        ruling.decision.advice = advice.iter().copied().chain([Advice::EnrolDevice]).collect();
                    }
                    ruling
                }
            }
        }
    }
}

struct Rules<'e> {
    engine: &'e Engine,
    facts: &'e SubjectFacts,
}

impl<'e> Rules<'e> {
    /// The entries of these ids, sorted by id.
    fn known<'i>(&self, ids: impl Iterator<Item = &'i cedar_policy::PolicyId>) -> Vec<(Number, &'e Entry)> {
        let mut known: Vec<_> = ids.filter_map(|id| self.engine.find(id)).collect();
        known.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        known
    }

    /// Those permits that count on the device that the subject has, or hasn't (I4).
    fn counting(&self, permits: &[(Number, &'e Entry)]) -> Vec<(Number, &'e Entry)> {
        let proven = self.facts.device.is_some();
        permits.iter().filter(|(_, entry)| proven || !entry.needs_device()).copied().collect()
    }

    fn permitted(&self, applied: &[(Number, &Entry)]) -> Ruling {
        let mut ruling = self.told(Reason::Permitted, applied);
        ruling.decision.outcome = Outcome::Allow;
        ruling.decision.advice = Arc::default();
        ruling.allowed = Allowed::Yes;
        ruling
    }

    /// In the words of the first policy that has any, with the advice of all.
    fn told(&self, reason: Reason, entries: &[(Number, &Entry)]) -> Ruling {
        let mut ruling = self.plain(reason, entries);
        if let Some(words) = entries.iter().find_map(|(_, entry)| entry.notes.reason.clone()) {
            ruling.decision.words = words.into();
        }
        let mut advice: Vec<Advice> = Vec::new();
        for given in entries.iter().filter_map(|(_, entry)| entry.notes.advice) {
            if !advice.contains(&given) {
                advice.push(given);
            }
        }
        advice.extend(reason.advice().filter(|usual| !advice.contains(usual)));
        ruling.decision.advice = advice.into();
        ruling
    }

    /// In the words that everybody gets for this reason.
    fn plain(&self, reason: Reason, entries: &[(Number, &Entry)]) -> Ruling {
        let decision = Decision {
            policies: entries.iter().map(|(_, entry)| entry.name.clone()).collect(),
            ..denial(self.engine, self.facts, reason)
        };
        Ruling { decision, allowed: Allowed::No, applied: entries.iter().map(|(number, _)| *number).collect() }
    }
}
