//! The policy administrator (NIST SP 800-207 §3): keeps resources, grants and versions of the
//! policy, changes them as transactions, and explains what they come to.

pub(crate) mod apply;
pub(crate) mod approval;
pub(crate) mod assessment;
pub(crate) mod confirm;
pub(crate) mod difference;
pub(crate) mod explain;
pub(crate) mod gate;
pub(crate) mod grants;
pub(crate) mod live;
pub(crate) mod modes;
pub(crate) mod own;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod progress;
mod proofs;
pub(crate) mod reach;
pub(crate) mod requests;
pub(crate) mod resources;
pub(crate) mod rights;
pub(crate) mod simulate;
pub(crate) mod standing;
pub(crate) mod suggest;
pub(crate) mod templates;
pub(crate) mod turn;

use vouchsafe_model::action::UnknownAction;
use vouchsafe_model::id::ParseIdError;
use vouchsafe_model::name::NameError;
use vouchsafe_policy::SuggestError;
use vouchsafe_wire::api::{Diagnostic, FailedTest};
use vouchsafe_wire::proof::FindingDoc;
use vouchsafe_wire::resource::ResourceDocError;

use crate::audit::AuditError;
use crate::ca::CaError;
use crate::checkpoints::CheckpointError;
use crate::directory::DirectoryError;
use crate::precondition::{HINT_MOVED, Moved};
use crate::store::StoreError;

/// Failure to change or explain what may be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdministratorError {
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// An action that does not exist.
    #[error(transparent)]
    Action(#[from] UnknownAction),
    /// A resource is not acceptable.
    #[error(transparent)]
    Resource(#[from] ResourceDocError),
    /// The name in the address and the one in the body differ.
    #[error("the address names the resource `{address}`, the body `{body}`")]
    NameMismatch {
        /// In the address.
        address: String,
        /// In the body.
        body: String,
    },
    /// The upstream is this very gateway.
    #[error("resource `{resource}`: upstream `{upstream}` is vouchsafe's own port")]
    OwnPort {
        /// The resource.
        resource: String,
        /// Its upstream.
        upstream: String,
    },
    /// It does not exist.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// `resource`, `grant` or `policy version`.
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// A member of a request has a value that it can't have.
    #[error("`{member}` is `{given}`, but must be {expected}")]
    Value {
        /// The member.
        member: &'static str,
        /// The value, shortened.
        given: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The time of a mode is over, or would be.
    #[error("the mode of `{resource}` can't hold until {until}: {why}")]
    TrialTime {
        /// The resource.
        resource: String,
        /// The end as given.
        until: String,
        /// Why not.
        why: &'static str,
    },
    /// The policy has mistakes.
    #[error("the policy has {} mistakes", .diagnostics.iter().filter(|one| one.severity == "error").count())]
    PolicyInvalid {
        /// All that was found.
        diagnostics: Vec<Diagnostic>,
    },
    /// Tests that came with the policy fail (I8).
    #[error("{} of {asked} tests of the policy fail", .failed.len())]
    TestsFailed {
        /// Those that fail.
        failed: Vec<FailedTest>,
        /// How many there are.
        asked: usize,
    },
    /// What is to hold of the policy is not proven (I8).
    #[error("{} of {asked} things that must be proven of the policy are not", .unproven.len())]
    Unproven {
        /// What is not proven, with a case against it where there is one.
        unproven: Vec<FindingDoc>,
        /// How many were asked.
        asked: usize,
    },
    /// Nothing could be proven of a policy of which something must be.
    #[error("what must be proven of the policy can't be: {why}")]
    NoProof {
        /// Why not.
        why: String,
        /// The first of its policies that computes.
        computing: Option<String>,
    },
    /// Not all that would have to be looked at can be.
    #[error("there are more records since then than can be counted, so nobody can say what wasn't used")]
    TooMuchToCount,
    /// Whoever asked has lost the right while something was being proven.
    #[error("you were allowed to when you asked, and no longer are")]
    NoLonger,
    /// What is in force changed while something was being proven.
    #[error("the policy in force changed while this one was being proven")]
    ProofMoved,
    /// The policy would shut out every administrator (I8).
    #[error("under this policy nobody who can sign in could change anything in the console any more")]
    LockOut,
    /// Another version was published in between.
    #[error("version {current} of the policy is in force, not {expected}")]
    VersionMoved {
        /// What the caller took to be in force.
        expected: u64,
        /// What is.
        current: u64,
    },
    /// Another version waits to be confirmed.
    #[error("version {version} of the policy waits to be confirmed")]
    Unconfirmed {
        /// Which.
        version: u64,
    },
    /// A template permits nothing that can be done to such a resource.
    #[error("the template `{template}` says nothing about `{resource}`, which is {kind}")]
    TemplateKind {
        /// Its name.
        template: String,
        /// The resource.
        resource: String,
        /// The kind of that.
        kind: String,
    },
    /// A template isn't any more what somebody asked for.
    #[error("the template `{template}` was changed since it was asked for")]
    TemplateChanged {
        /// Its name.
        template: String,
    },
    /// Grants in force would permit nothing any more.
    #[error("{} would permit nothing any more: {}", .grants.len(), .grants.join(", "))]
    GrantsUnlinked {
        /// Each with its template, in words.
        grants: Vec<String>,
    },
    /// Only a signed-in user can ask for access.
    #[error("only somebody who signed in on a device can ask for access")]
    NoUser,
    /// Nobody decides her own request.
    #[error("this is your own request: somebody else has to decide it")]
    OwnRequest,
    /// She has asked already.
    #[error("you have asked for `{resource}` already")]
    RequestedAlready {
        /// For what.
        resource: String,
    },
    /// It isn't open any more.
    #[error("the request is {state} already")]
    RequestSettled {
        /// What became of it.
        state: &'static str,
    },
    /// More wait than may.
    #[error("too many requests wait to be decided")]
    TooManyRequests,
    /// Only signed-in users count for two.
    #[error("it takes two users to change {}, and the owner of the machine counts for neither", approval::listed(.protected))]
    TwoUsers {
        /// The policies.
        protected: Vec<String>,
    },
    /// An apply can't be held for somebody else.
    #[error("the manifest changes {}, which takes two people", approval::listed(.protected))]
    TwoPeople {
        /// The policies.
        protected: Vec<String>,
    },
    /// Nobody approves her own proposal.
    #[error("this is your own proposal: somebody else has to approve it")]
    OwnProposal,
    /// It isn't what the caller looked at.
    #[error("the proposal has another digest")]
    OtherProposal,
    /// It isn't open any more.
    #[error("the proposal is {state} already")]
    ProposalSettled {
        /// What became of it.
        state: &'static str,
    },
    /// Another version came into force since.
    #[error("the proposal is a change to version {base} of the policy, which isn't in force any more")]
    StaleProposal {
        /// That version.
        base: u64,
    },
    /// Who proposed it could not any more.
    #[error("`{author}`, who proposed it, may not publish now")]
    AuthorMayNot {
        /// Who.
        author: String,
    },
    /// More wait than may.
    #[error("too many proposals wait to be decided")]
    TooManyProposals,
    /// It isn't what was read any more.
    #[error(transparent)]
    Moved(#[from] Moved),
    /// The state changed since the plan was shown.
    #[error("the plan is no longer what would be done: the state has changed since it was shown")]
    PlanMoved,
    /// The audit log goes on, so there is no need to begin a new one.
    #[error("checkpoints of the audit log are signed, so there is no need to begin a new log")]
    NoFork,
    /// A key can't be used.
    #[error(transparent)]
    Key(#[from] CaError),
    /// Checkpoints can't be kept.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// A manifest names a thing twice.
    #[error("the manifest has the {what} `{name}` twice")]
    Twice {
        /// `group`, `member` or `resource`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Others wait for the same already.
    #[error("too many simulations wait for their turn")]
    Busy,
    /// The policies could not be compiled because the worker failed.
    #[error("compiling the policy was broken off")]
    BrokenOff,
    /// No policy could be suggested.
    #[error(transparent)]
    Suggest(#[from] SuggestError),
    /// The audit log can't be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A user, group or device is not as needed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdministratorError {
    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            AdministratorError::NameMismatch { .. } => {
                Some("a resource can't be renamed: add one of the new name and remove the old".to_owned())
            }
            AdministratorError::OwnPort { .. } => Some(
                "give the address of the app itself; the console and API are resources already, named `console`"
                    .to_owned(),
            ),
            AdministratorError::Missing { what: "policy version", .. } => {
                Some("see `vouchsafe policy history`".to_owned())
            }
            AdministratorError::Missing { what: "proposal", .. } => Some("see `vouchsafe policy pending`".to_owned()),
            AdministratorError::Missing { what: "assessment", .. } => {
                Some("make one with `vouchsafe assess --send`".to_owned())
            }
            AdministratorError::Missing { what: "template", .. } => Some("see `vouchsafe policy templates`".to_owned()),
            AdministratorError::Missing { what, .. } => Some(format!("see `vouchsafe {what} list`")),
            AdministratorError::PolicyInvalid { .. } => {
                Some("mend the files and try them with `vouchsafe policy check`; nothing was published".to_owned())
            }
            AdministratorError::TestsFailed { .. } => Some(
                "see why with `vouchsafe policy test`, and mend the policy or the tests; nothing was published"
                    .to_owned(),
            ),
            AdministratorError::Unproven { .. } => Some(
                "try it with `vouchsafe policy prove`, and mend the policy or the invariants; nothing was published"
                    .to_owned(),
            ),
            AdministratorError::NoProof { computing, .. } => Some(match computing {
                Some(policy) => format!(
                    "`{policy}` computes, and a policy that overflows denies everything it is about: install cvc5 \
                     (Debian: `apt install cvc5`) where the controller runs, or write it without; nothing was published"
                ),
                None => "install cvc5 (Debian: `apt install cvc5`) where the controller runs, mend the invariants, or \
                         publish without any; nothing was published"
                    .to_owned(),
            }),
            AdministratorError::TooMuchToCount => {
                Some("ask about one resource (`--resource`), or about fewer days".to_owned())
            }
            AdministratorError::NoLonger => Some("nothing was changed; ask another administrator".to_owned()),
            AdministratorError::ProofMoved => Some("publish again; nothing was published".to_owned()),
            AdministratorError::LockOut => Some(
                "keep a permit of `console:write` on Console::\"console\" that some enabled user with a passkey \
                 satisfies; nothing was published"
                    .to_owned(),
            ),
            AdministratorError::VersionMoved { .. } => Some(
                "look at what was published with `vouchsafe policy history`, merge it, and publish again".to_owned(),
            ),
            AdministratorError::Unconfirmed { version } => Some(format!(
                "confirm it with `vouchsafe policy confirm {version}`, or go back with `vouchsafe policy rollback`"
            )),
            AdministratorError::TrialTime { .. } => {
                Some("set another end: a later one than now, and at most 90 days ahead".to_owned())
            }
            AdministratorError::Busy => Some("try again in some minutes".to_owned()),
            AdministratorError::TemplateKind { .. } => Some("see `vouchsafe policy templates`".to_owned()),
            AdministratorError::TemplateChanged { .. } => {
                Some("deny it, and let who asked ask again; nothing was granted".to_owned())
            }
            AdministratorError::GrantsUnlinked { .. } => Some(
                "remove them with `vouchsafe grant remove`, or keep their templates, by name and for such resources; \
                 nothing was published"
                    .to_owned(),
            ),
            AdministratorError::NoUser => {
                Some("enroll a device with `vouchsafe enroll`, and sign in with `vouchsafe login`".to_owned())
            }
            AdministratorError::RequestedAlready { .. } | AdministratorError::TooManyRequests => {
                Some("wait for a decision, or take one back with `vouchsafe request withdraw`".to_owned())
            }
            AdministratorError::RequestSettled { .. } => Some("see `vouchsafe request list`".to_owned()),
            AdministratorError::TwoUsers { .. } => Some(
                "sign in as a user (`vouchsafe login`) and do it from there, and let another user approve it; nothing was \
                 changed"
                    .to_owned(),
            ),
            AdministratorError::TwoPeople { .. } => Some(
                "publish the policy with `vouchsafe policy publish`, let another administrator approve it, and apply the \
                 rest then; nothing was changed"
                    .to_owned(),
            ),
            AdministratorError::OtherProposal
            | AdministratorError::ProposalSettled { .. }
            | AdministratorError::TooManyProposals => Some("see `vouchsafe policy pending`".to_owned()),
            AdministratorError::StaleProposal { .. } => {
                Some("let its author publish it again, on top of what is in force; nothing was published".to_owned())
            }
            AdministratorError::AuthorMayNot { .. } => {
                Some("publish it yourself and let another administrator approve it; nothing was published".to_owned())
            }
            AdministratorError::Moved(_) => Some(HINT_MOVED.to_owned()),
            AdministratorError::NoFork => Some("see `vouchsafe audit key`".to_owned()),
            AdministratorError::PlanMoved => Some("look at a new plan with `vouchsafe plan`".to_owned()),
            AdministratorError::Suggest(SuggestError::TooLong) => {
                Some("ask for some of the resources, one after the other".to_owned())
            }
            AdministratorError::Suggest(SuggestError::NoResource(_)) => {
                Some("see `vouchsafe resource list`".to_owned())
            }
            AdministratorError::Directory(error) => error.hint(),
            AdministratorError::Name(_)
            | AdministratorError::Id(_)
            | AdministratorError::Action(_)
            | AdministratorError::Resource(_)
            | AdministratorError::Value { .. }
            | AdministratorError::Twice { .. }
            | AdministratorError::OwnRequest
            | AdministratorError::OwnProposal
            | AdministratorError::BrokenOff
            | AdministratorError::Suggest(SuggestError::Wrong(_))
            | AdministratorError::Audit(_)
            | AdministratorError::Key(_)
            | AdministratorError::Checkpoints(_)
            | AdministratorError::Store(_) => None,
        }
    }
}

/// Refuses what isn't one line of some length.
pub(crate) fn one_line(member: &'static str, text: &str) -> Result<(), AdministratorError> {
    if text.chars().count() > 200 || text.chars().any(char::is_control) {
        let expected = "one line of at most 200 characters";
        return Err(AdministratorError::Value { member, given: shortened(text), expected });
    }
    Ok(())
}

/// A value as messages show it.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}
