//! Many records decided again under another policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use vouchsafe_model::decision::{Decision, Outcome};
use vouchsafe_model::id::SessionId;
use vouchsafe_model::mode::Lenience;
use vouchsafe_model::subject::{Epoch, SubjectFacts};
use vouchsafe_policy::{Engine, PreparedSubject};
use vouchsafe_wire::audit::Record;

use crate::recorded::{NotReplayed, Recorded};
use crate::tally::Tally;

/// A policy to be tried on what was recorded.
#[derive(Debug, Clone)]
pub struct Replay {
    after: Arc<Engine>,
    against: Against,
}

/// What the outcome under the policy is compared with.
#[derive(Debug, Clone)]
pub enum Against {
    /// With what was recorded. The policy in force may differ from that already, as the draft does.
    Records {
        /// The policy in force.
        in_force: Arc<Engine>,
    },
    /// With what this policy says to the same requests.
    Policy(Arc<Engine>),
}

/// What became of a request, as far as the one who asked could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// It was allowed.
    Allowed,
    /// It was denied.
    Denied,
    /// It was denied, and went on by this mode of its resource.
    Passed(Lenience),
}

/// One request, as it came out and as it comes out.
pub(crate) struct Outcomes<'r> {
    pub(crate) asked: &'r Recorded,
    pub(crate) was: Was,
    pub(crate) before: Told,
    pub(crate) after: Decision,
    /// Whether the policy in force decides it as the draft does.
    pub(crate) already: bool,
}

/// Why it came out so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    pub(crate) reason: &'static str,
    pub(crate) policies: Vec<String>,
}

impl Told {
    pub(crate) fn of(decision: &Decision) -> Self {
        let policies = decision.policies.iter().map(ToString::to_string).collect();
        Self { reason: decision.reason.code(), policies }
    }
}

impl Replay {
    /// Tries that policy.
    #[must_use]
    pub fn new(after: Arc<Engine>, against: Against) -> Self {
        Self { after, against }
    }

    /// What a part of the log comes to; parts are independent of each other. Keeps in memory what it is given, so a part
    /// has a bound.
    #[must_use]
    pub fn tally(&self, records: impl IntoIterator<Item = Record>) -> Tally {
        let mut tally = Tally::default();
        let mut by_session: BTreeMap<SessionId, Vec<Recorded>> = BTreeMap::new();
        for record in records {
            tally.looked_at(&record);
            match Recorded::of(&record).and_then(|recorded| self.possible(recorded)) {
                Ok(recorded) => by_session.entry(recorded.subject.session).or_default().push(recorded),
                Err(why) => tally.skip(why, &record),
            }
        }
        for requests in by_session.values() {
            self.session(requests, &mut tally);
        }
        tally
    }

    /// A request that there can still be.
    fn possible(&self, recorded: Recorded) -> Result<Recorded, NotReplayed> {
        match self.after.resource(&recorded.resource) {
            Some(resource) if resource.spec.kind().actions().contains(&recorded.action) => Ok(recorded),
            Some(_) | None => Err(NotReplayed::ResourceGone),
        }
    }

    /// The requests of one session: mostly of one and the same subject, which is made ready once.
    fn session(&self, requests: &[Recorded], tally: &mut Tally) {
        let mut last: Option<Subject> = None;
        for asked in requests {
            let facts = same_for_policies(&asked.subject);
            let subject = match last.take() {
                Some(subject) if *subject.after.facts().as_ref() == facts => subject,
                Some(_) | None => self.subject(facts),
            };
            tally.count(&self.outcomes(asked, &subject));
            last = Some(subject);
        }
    }

    fn subject(&self, facts: SubjectFacts) -> Subject {
        let after = PreparedSubject::new(Arc::clone(&self.after), Arc::new(facts));
        let other = match &self.against {
            Against::Records { in_force } => in_force,
            Against::Policy(before) => before,
        };
        let other = after.under(Arc::clone(other));
        Subject { after, other }
    }

    fn outcomes<'r>(&self, asked: &'r Recorded, subject: &Subject) -> Outcomes<'r> {
        let after = asked.decide_as(&subject.after);
        let verdict = &asked.verdict;
        match &self.against {
            Against::Policy(_) => {
                let before = asked.decide_as(&subject.other);
                let was = if before.outcome == Outcome::Allow { Was::Allowed } else { Was::Denied };
                Outcomes { asked, was, before: Told::of(&before), after, already: false }
            }
            Against::Records { .. } => {
                let was = match (verdict.outcome, verdict.passed) {
                    (Outcome::Allow, _) => Was::Allowed,
                    (Outcome::Deny, None) => Was::Denied,
                    (Outcome::Deny, Some(by)) => Was::Passed(by),
                };
                let already =
                    after.outcome != verdict.outcome && asked.decide_as(&subject.other).outcome == after.outcome;
                let before = Told { reason: verdict.reason.code(), policies: verdict.policies.clone() };
                Outcomes { asked, was, before, after, already }
            }
        }
    }
}

/// A subject made ready under both policies.
struct Subject {
    after: PreparedSubject,
    other: PreparedSubject,
}

/// The facts without what no policy reads, so that what is decided on the same is made ready once.
fn same_for_policies(facts: &SubjectFacts) -> SubjectFacts {
    SubjectFacts { epoch: Epoch::default(), ..facts.clone() }
}
