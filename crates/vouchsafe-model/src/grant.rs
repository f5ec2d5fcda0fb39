//! A grant: one user's right to one resource, until a time.

use std::time::SystemTime;

use crate::id::GrantId;
use crate::name::{PolicyName, ResourceName, UserName};

/// A policy made from a template for one user and one resource.
///
/// Made from the built-in template, it permits every action of that resource to that user on an enrolled device, and
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Identity; it stands in decisions as the policy that permitted.
    pub id: GrantId,
    /// Who may.
    pub user: UserName,
    /// What may be reached.
    pub resource: ResourceName,
    /// When the right ends by itself; `None` lasts until it is removed.
    pub expires: Option<SystemTime>,
    /// Why it was given, for people; at most 200 characters.
    pub reason: String,
    /// Template of the policy that it is made from, and nothing when there is no such template; `None` is the built-in one.
    pub template: Option<PolicyName>,
}
