//! Whether a fresh sign-in would turn a denial into a permit, and how fresh it has to be; and whether a connection with a
//! post-quantum key agreement would.
//!
//! It is tried: the same request is decided on the same policies as if the person had signed in just now, or had come so.
//! What comes of that is never a permit; and where it would be denied all the same, nobody is sent to sign in
//! for nothing.

use std::time::{Duration, SystemTime};

use vouchsafe_model::decision::{Advice, Decision, Reason, StepUp};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, SubjectFacts};

use crate::decide::{self, Allowed, Asked};
use crate::engine::Engine;
use crate::facts::Who;
use crate::request::{KeyAgreement, Request};
use crate::subject::Reach;

/// Most ages of a sign-in that are tried; past them the shortest that was found stands.
const MAX_AGES: usize = 32;

/// A request that was denied, with what it was denied on.
pub(crate) struct Denied<'d> {
    pub(crate) engine: &'d Engine,
    pub(crate) facts: &'d SubjectFacts,
    pub(crate) who: &'d Who,
    pub(crate) reach: &'d Reach,
    pub(crate) request: &'d Request<'d>,
    pub(crate) now: SystemTime,
}

impl Denied<'_> {
    /// The denial, as one of [`Reason::StepUpRequired`] if a fresh sign-in is all that is missing; with
    /// [`Advice::PostQuantum`] if she can't do without a connection of that kind.
    pub(crate) fn refine(&self, denial: Decision) -> Decision {
        if !matches!(denial.reason, Reason::ConditionFailed | Reason::Forbidden) {
            return denial;
        }
        let Some(step_up) = self.step_up() else { return self.with_advice(denial) };
        let reason = Reason::StepUpRequired;
        let words = if *denial.words == *denial.reason.words() { reason.words().into() } else { denial.words };
        let others = denial.advice.iter().copied().filter(|advice| *advice != Advice::StepUp);
        let advice = std::iter::once(Advice::StepUp).chain(others).collect();
        Decision { reason, words, advice, step_up: Some(step_up), ..denial }
    }

    /// Of a denial that a fresh sign-in alone doesn't mend.
    fn with_advice(&self, denial: Decision) -> Decision {
        let reads = self.reach.slice(self.request.action).is_some_and(|slice| slice.inputs().agreement());
        if !reads || self.request.agreement.is_post_quantum() || denial.advice.contains(&Advice::PostQuantum) {
            return denial;
        }
        let request = Request { agreement: KeyAgreement::PostQuantum, ..*self.request };
        let there = Denied { request: &request, ..*self };
        if !there.permits(self.facts, self.who, self.reach) && there.step_up().is_none() {
            return denial;
        }
        let advice = std::iter::once(Advice::PostQuantum).chain(denial.advice.iter().copied()).collect();
        Decision { advice, ..denial }
    }

    fn permits(&self, facts: &SubjectFacts, who: &Who, reach: &Reach) -> bool {
        let asked = Asked::new(facts, reach, self.request, self.now);
        let ruling = asked.and_then(|asked| decide::rule(self.engine, facts, who, reach, &asked));
        ruling.is_ok_and(|ruling| ruling.allowed == Allowed::Yes)
    }

    fn step_up(&self) -> Option<StepUp> {
        let inputs = self.reach.slice(self.request.action)?.inputs();
        let is_strong = self.facts.auth.resists_phishing();
        if is_strong && !inputs.age() {
            // The policies read nothing of the sign-in that another one would change.
            return None;
        }
        let strong = match is_strong {
            true => None,
            false => Some(self.stronger()?),
        };
        let permits = |age: u64| {
            let auth = AuthFacts { methods: proven(self.facts).auth.methods, at: self.before(age) };
            let facts = SubjectFacts { auth, ..self.facts.clone() };
            let (who, reach) = strong.as_ref().map_or((self.who, self.reach), |(who, reach)| (who, reach));
            self.permits(&facts, who, reach)
        };
        if !permits(0) {
            return None;
        }
        let max_age = if inputs.age() { longest(inputs.ages(), permits) } else { None };
        Some(StepUp { max_age, phishing_resistant: !is_strong })
    }

    /// Subject and reach as after a sign-in that resists phishing.
    fn stronger(&self) -> Option<(Who, Reach)> {
        let who = Who::new(self.engine.words, &proven(self.facts))?;
        let target = self.engine.target(self.request.resource)?;
        let reach = Reach::new(self.engine, &who, target, self.now, || 0)?;
        Some((who, reach))
    }

    fn before(&self, age: u64) -> SystemTime {
        self.now.checked_sub(Duration::from_secs(age)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The same subject after another sign-in with a passkey.
fn proven(facts: &SubjectFacts) -> SubjectFacts {
    let mut methods = facts.auth.methods.clone();
    methods.insert(AuthMethod::Passkey);
    SubjectFacts { auth: AuthFacts { methods, at: facts.auth.at }, ..facts.clone() }
}

/// How old a sign-in may be at most, given the ages that policies compare with; `None` when none is too old.
/// Between two neighbours of those the answer doesn't change.
fn longest(compared: &[i64], permits: impl Fn(u64) -> bool) -> Option<Duration> {
    let mut ages: Vec<u64> = compared
        .iter()
        .flat_map(|age| [age.saturating_sub(1), *age, age.saturating_add(1)])
        .filter_map(|age| u64::try_from(age).ok())
        .collect();
    ages.sort_unstable();
    ages.dedup();
    let is_whole = !ages.is_empty() && ages.len() <= MAX_AGES;
    let mut most = 0;
    for age in ages.into_iter().take(MAX_AGES) {
        if !permits(age) {
            return Some(Duration::from_secs(most));
        }
        most = age;
    }
    if is_whole { None } else { Some(Duration::from_secs(most)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_age_is_found_at_the_limits_that_policies_name() {
        let seconds = |found: Option<Duration>| found.map(|age| age.as_secs());
        assert_eq!(seconds(longest(&[900], |age| age < 900)), Some(899));
        assert_eq!(seconds(longest(&[900], |age| age <= 900)), Some(900));
        assert_eq!(seconds(longest(&[60, 900], |age| age < 60)), Some(59));
        assert_eq!(seconds(longest(&[1], |age| age < 1)), Some(0));
        assert_eq!(seconds(longest(&[60], |_| true)), None, "it is not the age that was missing");
        assert_eq!(seconds(longest(&[], |_| true)), Some(0), "compared in some other way: as fresh as can be");
        let many: Vec<i64> = (1..100).map(|number| number * 10).collect();
        assert!(seconds(longest(&many, |_| true)).is_some_and(|age| age > 0));
    }
}
