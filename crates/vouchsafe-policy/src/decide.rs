//! From a slice of policies to a decision.
//!
//! Cedar alone skips a policy that fails, lets a permit count on any device, and says nothing about
//! why nothing applied. The rules here are on top of its answer.

use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use vouchsafe_model::decision::{Advice, Decision, Outcome, Reason};
use vouchsafe_model::subject::SubjectFacts;

use crate::annotation::Effect;
use crate::engine::{Engine, Entry};
use crate::evaluator::{Circumstances, Inputs, Judge, Key, Verdict};
use crate::facts::Who;
use crate::request::Request;
use crate::slice::Slice;
use crate::subject::Reach;

/// A decision, and whether a permit may be made of it.
#[derive(Debug, Clone)]
pub(crate) struct Ruling {
    pub(crate) decision: Decision,
    pub(crate) allowed: Allowed,
}

/// Whether a permit may be made of a ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    No,
}

impl Ruling {
    /// Whether the same question may be answered with it again. Errors may pass, such as one of a
    /// stack that was short.
    pub(crate) fn may_be_remembered(&self) -> bool {
        self.decision.reason != Reason::PolicyError
    }
}

/// A request, with the policies that can matter to it.
pub(crate) struct Asked<'a> {
    slice: &'a Slice,
    circumstances: Circumstances<'a>,
}

impl<'a> Asked<'a> {
    /// # Errors
    /// A reason, when no policy may be asked.
    pub(crate) fn new(
        facts: &SubjectFacts,
        reach: &'a Reach,
        request: &Request<'a>,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        // The enforcement point ends sessions too; a permit must not depend on that alone.
        if facts.expires <= now {
            return Err(Reason::SessionEnded);
        }
        let slice = reach.slice(request.action).ok_or(Reason::NoPermit)?;
        let circumstances = Circumstances::new(facts, request, now).ok_or(Reason::FactsUnavailable)?;
        Ok(Self { slice, circumstances })
    }

    /// What the answer depends on, within one prepared subject.
    pub(crate) fn key(&self) -> Option<Key> {
        self.slice.key(&self.circumstances)
    }
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
    asked: &Asked<'_>,
) -> Result<Arc<Ruling>, Reason> {
    let Asked { slice, circumstances } = asked;
    let verb = engine.words.verb(slice.action).ok_or(Reason::FactsUnavailable)?;
    let judge = |reads: &Inputs| Judge::new(&who.principal, verb, &reach.world, reads, circumstances);
    let verdicts = slice.verdicts(circumstances, judge).ok_or(Reason::FactsUnavailable)?;
    Ok(slice.ruling(verdicts, |verdicts| judged(engine, facts, slice, &Found::of(slice, verdicts))))
}

/// A denial that no policy was asked for.
pub(crate) fn denial(engine: &Engine, facts: &SubjectFacts, reason: Reason) -> Decision {
    Decision { epoch: facts.epoch, ..Decision::denied(reason, engine.version()) }
}

/// Policies that apply, or that can't be evaluated; each sorted by id.
#[derive(Default)]
struct Found<'e> {
    permits: Vec<&'e Entry>,
    forbids: Vec<&'e Entry>,
    failed: Vec<&'e Entry>,
}

impl<'e> Found<'e> {
    fn of(slice: &'e Slice, verdicts: &[Verdict]) -> Self {
        let mut found = Self::default();
        // There is a verdict on each, and a denial should there not be.
        for (entry, verdict) in slice.policies.iter().zip(verdicts.iter().chain(iter::repeat(&Verdict::Error))) {
            match (verdict, entry.effect) {
                (Verdict::Holds, Effect::Permit) => found.permits.push(entry),
                (Verdict::Holds, Effect::Forbid) => found.forbids.push(entry),
                (Verdict::Fails, Effect::Permit | Effect::Forbid) => {}
                (Verdict::Error, Effect::Permit | Effect::Forbid) => found.failed.push(entry),
            }
        }
        found
    }
}

fn judged(engine: &Engine, facts: &SubjectFacts, slice: &Slice, found: &Found<'_>) -> Ruling {
    let ruling = Rules { engine, facts };
    if !found.failed.is_empty() {
        return ruling.plain(Reason::PolicyError, &found.failed);
    }
    let speaks = slice.policies.iter().any(|entry| entry.effect == Effect::Permit);
    match (found.forbids.is_empty(), found.permits.is_empty()) {
        // To a person whom no permit speaks of, a forbid would tell that the resource exists.
        (false, _) if !speaks => ruling.plain(Reason::NoPermit, &found.forbids),
        (false, _) => ruling.told(Reason::Forbidden, &found.forbids),
        (true, false) => {
            let counting = ruling.counting(&found.permits);
            if counting.is_empty() {
                ruling.plain(Reason::DeviceRequired, &found.permits)
            } else {
                ruling.permitted(&counting)
            }
        }
        (true, true) if !speaks => ruling.plain(Reason::NoPermit, &[]),
        (true, true) => {
            let permits: Vec<&Entry> =
                slice.policies.iter().map(Arc::as_ref).filter(|entry| entry.effect == Effect::Permit).collect();
            let near = ruling.counting(&permits);
            if near.is_empty() {
                return ruling.plain(Reason::DeviceRequired, &permits);
            }
            let mut ruling = ruling.told(Reason::ConditionFailed, &near);
            let advice = &ruling.decision.advice;
            if near.len() < permits.len() && !advice.contains(&Advice::EnrolDevice) {
                ruling.decision.advice = advice.iter().copied().chain([Advice::EnrolDevice]).collect();
            }
            ruling
        }
    }
}

struct Rules<'e> {
    engine: &'e Engine,
    facts: &'e SubjectFacts,
}

impl Rules<'_> {
    /// Those permits that count on the device that the subject has, or hasn't (I4).
    fn counting<'p>(&self, permits: &[&'p Entry]) -> Vec<&'p Entry> {
        let proven = self.facts.device.is_some();
        permits.iter().filter(|entry| proven || !entry.needs_device()).copied().collect()
    }

    fn permitted(&self, applied: &[&Entry]) -> Ruling {
        let mut ruling = self.told(Reason::Permitted, applied);
        ruling.decision.outcome = Outcome::Allow;
        ruling.decision.advice = Arc::default();
        ruling.allowed = Allowed::Yes;
        ruling
    }

    /// In the words of the first policy that has any, with the advice of all.
    fn told(&self, reason: Reason, entries: &[&Entry]) -> Ruling {
        let mut ruling = self.plain(reason, entries);
        if let Some(words) = entries.iter().find_map(|entry| entry.notes.reason.clone()) {
            ruling.decision.words = words;
        }
        let mut advice: Vec<Advice> = Vec::new();
        for given in entries.iter().filter_map(|entry| entry.notes.advice) {
            if !advice.contains(&given) {
                advice.push(given);
            }
        }
        advice.extend(reason.advice().filter(|usual| !advice.contains(usual)));
        ruling.decision.advice = advice.into();
        ruling
    }

    /// In the words that everybody gets for this reason.
    fn plain(&self, reason: Reason, entries: &[&Entry]) -> Ruling {
        let policies = entries.iter().map(|entry| entry.name.clone()).collect();
        let decision = Decision { policies, ..denial(self.engine, self.facts, reason) };
        Ruling { decision, allowed: Allowed::No }
    }
}
