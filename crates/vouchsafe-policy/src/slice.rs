//! The policies that can matter to one subject, resource and action, and what their conditions came
//! to last.
//!
//! Most of what conditions read stays the same from one request to the next: the device, the address,
//! the method, on which side of a limit the age of the sign-in lies. The path doesn't. So the
//! conditions of a slice are evaluated in two parts, and those that read no path are remembered until
//! one of the inputs that they do read changes.

use std::sync::{Arc, Mutex, PoisonError};

use vouchsafe_model::action::Action;

use crate::decide::Ruling;
use crate::engine::Entry;
use crate::evaluator::{Circumstances, Condition, Inputs, Judge, Key, Verdict};

/// Most rulings that a slice hands out again. A slice seldom comes to more than a few different ones.
const MAX_RULINGS: usize = 8;

/// The policies whose scope matches subject, action and resource, without expired permits.
pub(crate) struct Slice {
    pub(crate) action: Action,
    /// No other slice of the subject has it, or ever had.
    number: u64,
    /// Sorted by id.
    pub(crate) policies: Vec<Arc<Entry>>,
    /// What they read together.
    inputs: Inputs,
    /// What those of them read together that read nothing which differs with every request.
    steady: Inputs,
    /// What the others read together; `None` when there are none.
    passing: Option<Inputs>,
    /// What the steady ones came to last, in their order.
    last: Mutex<Option<(Box<[u8]>, Arc<[Verdict]>)>>,
    /// What verdicts of all policies came to.
    rulings: Mutex<Vec<(Box<[Verdict]>, Arc<Ruling>)>>,
}

impl Slice {
    pub(crate) fn new(action: Action, number: u64, policies: Vec<Arc<Entry>>) -> Self {
        let (mut inputs, mut steady, mut passing) = (Inputs::default(), Inputs::default(), None);
        for read in policies.iter().filter_map(|entry| entry.condition.as_deref()).map(Condition::inputs) {
            inputs.add(read);
            let part = if read.passing() { passing.get_or_insert_with(Inputs::default) } else { &mut steady };
            part.add(read);
        }
        let (last, rulings) = (Mutex::default(), Mutex::default());
        Self { action, number, policies, inputs, steady, passing, last, rulings }
    }

    /// What its policies read.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// What the ruling on a request depends on, within one prepared subject.
    pub(crate) fn key(&self, circumstances: &Circumstances<'_>) -> Option<Key> {
        self.inputs.key(self.number, circumstances)
    }

    /// What each policy comes to, in their order. `judge` makes a judge for conditions that read no
    /// more than it is told; `None` when it can't.
    pub(crate) fn verdicts<'w>(
        &self,
        circumstances: &Circumstances<'_>,
        judge: impl Fn(&Inputs) -> Option<Judge<'w>>,
    ) -> Option<Box<[Verdict]>> {
        let steady = self.steady_verdicts(circumstances, &judge)?;
        let Some(passing) = &self.passing else { return Some(steady.as_ref().into()) };
        let judge = judge(passing)?;
        let mut steady = steady.iter().copied();
        let verdict = |entry: &Arc<Entry>| match passing_condition(entry) {
            Some(condition) => judge.judge(condition),
            // There is one for each, and a denial should there not be.
            None => steady.next().unwrap_or(Verdict::Error),
        };
        Some(self.policies.iter().map(verdict).collect())
    }

    /// What the steady policies come to, remembered from the last request if it can't tell them apart.
    fn steady_verdicts<'w>(
        &self,
        circumstances: &Circumstances<'_>,
        judge: impl Fn(&Inputs) -> Option<Judge<'w>>,
    ) -> Option<Arc<[Verdict]>> {
        let key = self.steady.key(self.number, circumstances);
        if let Some(key) = &key
            && let Some((known, verdicts)) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
            && known.as_ref() == key.as_bytes()
        {
            return Some(Arc::clone(verdicts));
        }
        let judge = judge(&self.steady)?;
        let verdict = |entry: &Arc<Entry>| match entry.condition.as_deref() {
            None => Verdict::Holds,
            Some(condition) => judge.judge(condition),
        };
        let steady = self.policies.iter().filter(|entry| passing_condition(entry).is_none());
        let verdicts: Arc<[Verdict]> = steady.map(verdict).collect();
        // Errors may pass, such as one of a stack that was short.
        if let Some(key) = key.filter(|_| !verdicts.contains(&Verdict::Error)) {
            let last = (key.as_bytes().into(), Arc::clone(&verdicts));
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        }
        Some(verdicts)
    }

    /// The ruling on these verdicts: nothing else goes into it, as long as the slice stands.
    pub(crate) fn ruling(&self, verdicts: Box<[Verdict]>, rule: impl FnOnce(&[Verdict]) -> Ruling) -> Arc<Ruling> {
        let mut rulings = self.rulings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ruling)) = rulings.iter().find(|(known, _)| *known == verdicts) {
            return Arc::clone(ruling);
        }
        let ruling = Arc::new(rule(&verdicts));
        if rulings.len() >= MAX_RULINGS {
            rulings.clear();
        }
        rulings.push((verdicts, Arc::clone(&ruling)));
        ruling
    }
}

/// The condition of a policy, when it reads what differs with every request.
fn passing_condition(entry: &Entry) -> Option<&Condition> {
    entry.condition.as_deref().filter(|condition| condition.inputs().passing())
}
