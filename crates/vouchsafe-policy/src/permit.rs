//! Proof that a decision allowed exactly one request.

use std::sync::Arc;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Decision;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::SubjectFacts;

use crate::request::{Detail, OwnedDetail, Request};

/// Proof that a decision allowed exactly this request (I2).
///
/// Only [`crate::PreparedSubject`] makes one, and it can't be copied:
///
/// ```compile_fail,E0451
/// let forged = vouchsafe_policy::Permit { decision: todo!(), resource: todo!(), action: todo!(), detail: todo!(), subject: todo!() };
/// ```
///
/// ```compile_fail,E0599
/// fn twice(permit: vouchsafe_policy::Permit) -> (vouchsafe_policy::Permit, vouchsafe_policy::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
#[must_use = "a permit that nothing is done with was asked for in vain"]
pub struct Permit {
    decision: Decision,
    resource: Arc<Resource>,
    action: Action,
    detail: OwnedDetail,
    subject: Arc<SubjectFacts>,
}

impl Permit {
    pub(crate) fn new(
        decision: Decision,
        resource: Arc<Resource>,
        request: &Request<'_>,
        subject: Arc<SubjectFacts>,
    ) -> Self {
        Self { decision, resource, action: request.action, detail: request.detail.into(), subject }
    }

    /// The decision, which is to allow.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What may be reached.
    #[must_use]
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// What may be done to it.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The request that was decided on, and no other.
    #[must_use]
    pub fn detail(&self) -> Detail<'_> {
        self.detail.as_detail()
    }

    /// Who may.
    #[must_use]
    pub fn subject(&self) -> &Arc<SubjectFacts> {
        &self.subject
    }
}
