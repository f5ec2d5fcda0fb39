//! How some of the console's pages look. maud escapes every name and text.

pub(super) mod policy;
pub(super) mod proposals;
pub(super) mod requests;
pub(super) mod webhooks;

pub(super) use super::frame::{below, headed, page};
pub(super) use super::parts::{table, value};
