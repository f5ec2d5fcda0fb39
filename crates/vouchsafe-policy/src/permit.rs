//! Proof that a decision allowed exactly one request.

use std::sync::Arc;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Decision;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::SubjectFacts;

use crate::request::{Detail, Request};

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
    detail: Kept,
    subject: Arc<SubjectFacts>,
}

impl Permit {
    pub(crate) fn new(
        decision: Decision,
        resource: Arc<Resource>,
        request: &Request<'_>,
        subject: Arc<SubjectFacts>,
    ) -> Self {
        Self { decision, resource, action: request.action, detail: Kept::of(request.detail), subject }
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
        self.detail.get()
    }

    /// Who may.
    #[must_use]
    pub fn subject(&self) -> &Arc<SubjectFacts> {
        &self.subject
    }
}

/// A [`Detail`] to keep. What is of text lies in one piece, since every request that is permitted
/// keeps one.
#[derive(Debug)]
pub(crate) enum Kept {
    Http { text: Box<str>, method_end: usize, host_end: usize },
    Net { port: u16 },
    Console { operation: Box<str> },
}

impl Kept {
    pub(crate) fn of(detail: Detail<'_>) -> Self {
        match detail {
            Detail::Http { method, host, path } => {
                let text = [method, host, path].concat().into_boxed_str();
                Self::Http { text, method_end: method.len(), host_end: method.len() + host.len() }
            }
            Detail::Net { port } => Self::Net { port },
            Detail::Console { operation } => Self::Console { operation: operation.into() },
        }
    }

    pub(crate) fn get(&self) -> Detail<'_> {
        match self {
            Self::Http { text, method_end, host_end } => {
                // INVARIANT: the ends are those of the texts that it was made of.
                let part = |range| text.get::<std::ops::Range<usize>>(range).unwrap_or_default();
                Detail::Http {
                    method: part(0..*method_end),
                    host: part(*method_end..*host_end),
                    path: part(*host_end..text.len()),
                }
            }
            Self::Net { port } => Detail::Net { port: *port },
            Self::Console { operation } => Detail::Console { operation },
        }
    }
}
