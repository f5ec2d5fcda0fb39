//! The policy engine: request and facts in, decision out. The only maker of a [`Permit`].
//!
//! Pure: no sockets, files, threads, async runtime, clock or randomness. Cedar decides; what is on
//! top of it is written in `docs/reference/policy.md` and `docs/decisions/0002-cedar-slices.md`.
//!
//! From files to a permit:
//!
//! - `source`: policy files, grants and resources as they are stored
//! - `schema`: the words that policies can use
//! - `scan`, `check`, `annotation`, `diagnostic`: mistakes, with their place and the next step
//! - `spread`: work on many policies, over the cores that a caller lends
//! - `engine`, `index`: one version made ready, and policies found by resource and principal
//! - `facts`, `request`: subject, resource and request in Cedar's terms
//! - `subject`, `slice`: a subject made ready once per epoch, with its slices of policies
//! - `evaluator`: Cedar's evaluator, and what conditions read of a request
//! - `decide`, `permit`: the decision, and the proof of it
//! - `admission`: whether a request may go on: by a permit, or because its resource's mode lets a denial pass
//! - `step_up`: whether a fresh sign-in would make a permit of a denial
//! - `memo`: decisions remembered by what they were made on
//! - `plain`: policies as Cedar alone would have to read them
//! - `explain`: why one request is decided as it is, and what would change that
//! - `rights`: who can do what, with the conditions still attached
//! - `difference`: what changes for whom between two policies
//! - `suite`: tests of a policy, as its authors write them
//! - `protect`: what a change does to policies that it takes two people to change
//! - `suggest`: a policy from what was really used, and rights that nobody used
//! - `lines`: what is different between two texts of a policy
//! - `foresee`: what accesses that were observed elsewhere would come to
//! - `words`: what was found, as people read it

mod admission;
mod annotation;
mod check;
mod decide;
mod diagnostic;
mod difference;
mod engine;
mod evaluator;
mod explain;
mod facts;
mod foresee;
mod index;
mod lines;
mod memo;
mod moment;
mod permit;
mod plain;
mod protect;
mod request;
mod rights;
mod scan;
mod schema;
mod slice;
mod source;
mod spread;
mod step_up;
mod subject;
mod suggest;
mod suite;
mod tree;
mod words;

pub use admission::{Admission, Tolerance};
pub use annotation::Effect;
pub use check::{check, check_spread};
pub use diagnostic::{Diagnostic, Severity};
pub use difference::{Change, Difference, Example, HostOf, Shift, difference, groups_between};
pub use engine::{Engine, PolicyListing, TemplateListing, Unlinked};
pub use evaluator::{Limit, reads_of_a_named_entity};
pub use explain::{Condition, Considered, Explained, Explanation, Holds, Part, Question, ScopeMatch, explain};
pub use foresee::{Concerned, Foreseen, foresee};
pub use lines::{Line, changed_lines};
pub use permit::Permit;
pub use plain::{PlainPolicy, plain};
pub use protect::touched;
pub use request::{Detail, KeyAgreement, OwnedDetail, Request};
pub use rights::{Class, OnDevice, Open, People, Rights, Wanted, Way, WhatCan, WhoCan};
pub use schema::schema_text;
pub use source::{PolicyFile, PolicySource, default_policy};
pub use spread::{Spread, Work, in_turn};
pub use subject::PreparedSubject;
pub use suggest::{
    Coverage, GiveUp, LeftOut, RightsCounted, SuggestError, SuggestOptions, Suggested, SuggestedFile, Suggestion,
    Unused, UnusedRight, suggest, unused,
};
pub use suite::{CaseResult, Memberships, Suite, SuiteReport};
