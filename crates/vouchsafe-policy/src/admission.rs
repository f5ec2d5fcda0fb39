//! Whether a request may go on: by a permit, or because its resource's mode lets a denial pass (I14).
//!
//! The policies decide as always, and what they say is kept as it is; a mode never makes a permit of it.
//! What passes by a mode has a proof of its own, so nothing that asks for a permit takes one for the other.

use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::mode::Lenience;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::{Resource, ResourceKind};
use vouchsafe_model::subject::SubjectFacts;

use crate::engine::Engine;
use crate::permit::{Kept, Permit};
use crate::request::{Detail, Request};
use crate::subject::PreparedSubject;

/// That exactly one request may go on, and by what.
#[derive(Debug)]
#[must_use = "an admission that nothing is done with was asked for in vain"]
pub enum Admission {
    /// A policy permits it.
    Permitted(Permit),
    /// It is denied, and its resource's mode lets the denial pass.
    Tolerated(Tolerance),
}

/// Proof that exactly this request was denied, and that its resource's mode lets the denial pass.
///
/// Only [`Engine`] and [`PreparedSubject`] make one, and it can't be copied:
///
/// ```compile_fail,E0451
/// let forged = vouchsafe_policy::Tolerance { denial: todo!(), resource: todo!(), action: todo!(), detail: todo!(), subject: todo!(), by: todo!(), until: todo!() };
/// ```
///
/// ```compile_fail,E0599
/// fn twice(given: vouchsafe_policy::Tolerance) -> (vouchsafe_policy::Tolerance, vouchsafe_policy::Tolerance) {
///     (given.clone(), given)
/// }
/// ```
///
/// It is no permit, and none can be made of it:
///
/// ```compile_fail,E0308
/// fn turned(given: vouchsafe_policy::Tolerance) -> vouchsafe_policy::Permit {
///     given
/// }
/// ```
#[derive(Debug)]
#[must_use = "a tolerance that nothing is done with was asked for in vain"]
pub struct Tolerance {
    denial: Decision,
    resource: Arc<Resource>,
    action: Action,
    detail: Kept,
    subject: Option<Arc<SubjectFacts>>,
    by: Lenience,
    until: SystemTime,
}

impl Tolerance {
    /// By which mode it passes.
    #[must_use]
    pub fn by(&self) -> Lenience {
        self.by
    }

    /// From when on it doesn't.
    #[must_use]
    pub fn until(&self) -> SystemTime {
        self.until
    }
}

impl Admission {
    /// The permit, where a policy gave one.
    #[must_use]
    pub fn permit(&self) -> Option<&Permit> {
        match self {
            Admission::Permitted(permit) => Some(permit),
            Admission::Tolerated(_) => None,
        }
    }

    /// What lets it pass though it is denied, where that is so.
    #[must_use]
    pub fn tolerance(&self) -> Option<&Tolerance> {
        match self {
            Admission::Permitted(_) => None,
            Admission::Tolerated(tolerance) => Some(tolerance),
        }
    }

    /// What the policies say: a denial where it is only tolerated.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        match self {
            Admission::Permitted(permit) => permit.decision(),
            Admission::Tolerated(tolerance) => &tolerance.denial,
        }
    }

    /// What may be reached.
    #[must_use]
    pub fn resource(&self) -> &Arc<Resource> {
        match self {
            Admission::Permitted(permit) => permit.resource(),
            Admission::Tolerated(tolerance) => &tolerance.resource,
        }
    }

    /// What may be done to it.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Admission::Permitted(permit) => permit.action(),
            Admission::Tolerated(tolerance) => tolerance.action,
        }
    }

    /// The request that was decided on, and no other.
    #[must_use]
    pub fn detail(&self) -> Detail<'_> {
        match self {
            Admission::Permitted(permit) => permit.detail(),
            Admission::Tolerated(tolerance) => tolerance.detail.get(),
        }
    }

    /// Who asks; `None` when nobody was proven, which only [`Lenience::Observe`] takes.
    #[must_use]
    pub fn subject(&self) -> Option<&Arc<SubjectFacts>> {
        match self {
            Admission::Permitted(permit) => Some(permit.subject()),
            Admission::Tolerated(tolerance) => tolerance.subject.as_ref(),
        }
    }
}

impl PreparedSubject {
    /// Decides one request, and whether it may go on if it is denied. `also`: what else it could be read as, which
    /// must be permitted as well.
    ///
    /// # Errors
    /// The decision, when it is a denial that stands.
    pub fn admit<'d>(
        &self,
        request: &Request<'d>,
        also: impl IntoIterator<Item = Detail<'d>>,
        now: SystemTime,
    ) -> Result<Admission, Decision> {
        let (mut permit, mut tolerance) = (None, None);
        for detail in also.into_iter().chain(iter::once(request.detail)) {
            match self.decide(&Request { detail, ..*request }, now) {
                Ok(given) => permit = Some(given),
                Err(denial) => {
                    let passes = self.engine().tolerate(denial, request, Some(self.facts()), now)?;
                    // The first denial is the one that is told.
                    tolerance = tolerance.or(Some(passes));
                }
            }
        }
        match (tolerance, permit) {
            (Some(tolerance), _) => Ok(Admission::Tolerated(tolerance)),
            (None, Some(permit)) => Ok(Admission::Permitted(permit)),
            // INVARIANT: there was one reading at least. Were there none, nothing would be allowed.
            (None, None) => Err(Decision::denied(Reason::FactsUnavailable, self.engine().version())),
        }
    }
}

impl Engine {
    /// Decides one request of which nobody says whose it is. Nothing permits that, and only an observed resource lets
    /// it pass.
    ///
    /// # Errors
    /// The decision, which doesn't tell whether the resource exists.
    pub fn admit_nobody(&self, request: &Request<'_>, now: SystemTime) -> Result<Admission, Decision> {
        let denial = Decision::denied(Reason::SignInRequired, self.version());
        self.tolerate(denial, request, None, now).map(Admission::Tolerated)
    }

    /// Whether that resource lets a request from nobody pass, from there and at that moment.
    #[must_use]
    pub fn admits_nobody(&self, resource: &ResourceName, from: std::net::IpAddr, now: SystemTime) -> bool {
        let in_force = self.resource(resource).and_then(|resource| resource.mode.in_force(from, now));
        in_force.is_some_and(|(by, _)| by == Lenience::Observe)
    }

    /// When the trials of resources end.
    pub fn trial_ends(&self) -> impl Iterator<Item = SystemTime> {
        self.resources().filter_map(|resource| resource.mode.trial()).map(|(_, trial)| trial.until)
    }

    /// Lets a denial pass where the resource's mode says so; gives it back where it stands.
    fn tolerate(
        &self,
        denial: Decision,
        request: &Request<'_>,
        subject: Option<&Arc<SubjectFacts>>,
        now: SystemTime,
    ) -> Result<Tolerance, Decision> {
        let resource = match self.resource(request.resource) {
            Some(resource) if may_be_lenient(resource.spec.kind(), request.action) => resource,
            Some(_) | None => return Err(denial),
        };
        let Some((by, trial)) = resource.mode.in_force(request.ip, now) else { return Err(denial) };
        if !may_pass(&denial, by, subject.is_some()) {
            return Err(denial);
        }
        Ok(Tolerance {
            denial,
            resource: Arc::clone(resource),
            action: request.action,
            detail: Kept::of(request.detail),
            subject: subject.map(Arc::clone),
            by,
            until: trial.until,
        })
    }
}

/// Our own console and API are never a matter of mode, and neither is what makes no sense on a resource.
fn may_be_lenient(kind: ResourceKind, action: Action) -> bool {
    match kind {
        ResourceKind::Http | ResourceKind::Tcp | ResourceKind::Udp => kind.actions().contains(&action),
        ResourceKind::Console => false,
    }
}

/// Whether a mode lets a denial for that reason pass: what the policies say no to, and in observation also that
/// nobody says who asks. Everything else stands in every mode: a session that ended or a device that was removed
/// was ended by somebody, and what can't be known or recorded isn't a matter of policy.
fn may_pass(denial: &Decision, by: Lenience, is_proven: bool) -> bool {
    if denial.outcome != Outcome::Deny {
        return false;
    }
    match denial.reason {
        Reason::SignInRequired => !is_proven && by == Lenience::Observe,
        reason => is_proven && reason.is_of_policies(),
    }
}
