//! What becomes of what is remembered when a change comes with its outcome.
//!
//! The rows of the change feed are heard in their order, so facts that all of them were applied to are as true as an
//! answer of the controller would be; and they are there also when nobody answers any more.

use std::sync::Arc;

use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::{DeviceFacts, Epoch, SubjectFacts};
use vouchsafe_runtime::link::{Change, Delta, KnownSubject, NoSubject, Outcome};

use super::Ready;
use super::memory::{Becomes, Concerns};

/// What is known of a credential.
#[derive(Clone)]
pub(super) struct Known {
    /// As of when the controller answered for all of it.
    pub(super) answered: Epoch,
    /// Who it stood for, whether it does still or not.
    pub(super) whose: Arc<SubjectFacts>,
    /// Who it stands for, or why for nobody any more.
    pub(super) state: Result<Ready, NoSubject>,
}

impl Known {
    pub(super) fn answered(ready: Ready) -> Self {
        let whose = Arc::clone(&ready.known.facts);
        Self { answered: whose.epoch, whose, state: Ok(ready) }
    }

    /// What a change that concerns it makes of it.
    pub(super) fn after(&self, delta: &Delta) -> Becomes<Self> {
        let Delta { sequence, change, outcome } = delta;
        let Some(outcome) = outcome else { return Becomes::Unknown };
        if self.answered.0 >= *sequence {
            // The answer overtook the change.
            return Becomes::Same;
        }
        let facts = &*self.whose;
        let ready = match (&self.state, outcome) {
            (Err(_), Outcome::Gone(_)) => return Becomes::Same,
            (Ok(_), Outcome::Gone(why)) => return Becomes::Other(Self { state: Err(*why), ..self.clone() }),
            // It may stand for somebody again.
            (Err(_), Outcome::User(_) | Outcome::Device(_)) => return Becomes::Unknown,
            (Ok(ready), Outcome::User(_) | Outcome::Device(_)) => ready,
        };
        let changed = match (change, outcome) {
            // A name may have been given to somebody else.
            (Change::User(_), Outcome::User(user)) if user.id == facts.user.id && user.name == facts.user.name => {
                SubjectFacts { user: user.clone(), ..facts.clone() }
            }
            (Change::Device(_), Outcome::Device(device)) if Concerns::device(self) == Some(device.id) => {
                SubjectFacts { device: Some(device.clone()), ..facts.clone() }
            }
            (Change::User(_) | Change::Device(_) | Change::Session(_) | Change::Everything, _) => {
                return Becomes::Unknown;
            }
        };
        // Of each row there is one version of these facts, and a higher row means a later one.
        let facts = Arc::new(SubjectFacts { epoch: Epoch(*sequence), ..changed });
        let known = KnownSubject { facts: Arc::clone(&facts), audience: ready.known.audience.clone() };
        let ready = Ready::new(known, ready.prepared.engine());
        Becomes::Other(Self { answered: self.answered, whose: facts, state: Ok(ready) })
    }
}

/// What a change that concerns a device, or its owner, makes of what is remembered of the device.
pub(super) fn device_after(device: &DeviceFacts, delta: &Delta) -> Becomes<DeviceFacts> {
    match (&delta.change, &delta.outcome) {
        (Change::Device(_), Some(Outcome::Device(now))) if now.id == device.id && now.owner == device.owner => {
            Becomes::Other(now.clone())
        }
        // Its owner's facts are none of its own.
        (Change::User(_), Some(Outcome::User(_))) => Becomes::Same,
        (Change::User(_) | Change::Device(_) | Change::Session(_) | Change::Everything, _) => Becomes::Unknown,
    }
}

impl Concerns for Known {
    fn user(&self) -> Option<&UserName> {
        Some(&self.whose.user.name)
    }

    fn device(&self) -> Option<DeviceId> {
        self.whose.device.as_ref().map(|device| device.id)
    }

    fn session(&self) -> Option<SessionId> {
        Some(self.whose.session)
    }
}

#[cfg(test)]
mod tests;
