//! Allow or deny, with reasons a person can act on. A denial is a value, never an error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::PolicyName;
use crate::subject::Epoch;

/// What the policy engine or the enforcement point decided about one request. Cheap to clone: a
/// decision that is remembered is handed out without copying its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub outcome: Outcome,
    /// Why, as a code that records, queries and tests use.
    pub reason: Reason,
    /// Why, in words for the person who asked (from `@reason` where a policy decided).
    pub words: Arc<str>,
    /// The policies or grants that decided, sorted. Empty when none applied.
    pub policies: Arc<[PolicyName]>,
    /// What the person can do about a denial, best first.
    pub advice: Arc<[Advice]>,
    /// Version of the policy this was decided under.
    pub policy_version: u64,
    /// Version of the facts about the subject; 0 when there was no subject.
    pub epoch: Epoch,
    /// The sign-in that is all that is missing, with [`Reason::StepUpRequired`].
    pub step_up: Option<StepUp>,
}

/// What a sign-in has to be like so that a denial becomes a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUp {
    /// How old it may be at most, in whole seconds; `None` when its age plays no part.
    pub max_age: Option<Duration>,
    /// It has to resist phishing, which the present one doesn't.
    pub phishing_resistant: bool,
}

impl Decision {
    /// A denial by the enforcement point itself, before any policy was asked.
    #[must_use]
    pub fn denied(reason: Reason, policy_version: u64) -> Self {
        Self {
            outcome: Outcome::Deny,
            reason,
            words: reason.words().into(),
            policies: Arc::default(),
            advice: reason.advice().into_iter().collect(),
            policy_version,
            epoch: Epoch::default(),
            step_up: None,
        }
    }
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// At least one permit applied, no forbid did, and nothing failed on the way.
    Allow,
    /// Everything else.
    Deny,
}

impl Outcome {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $words:literal, $advice:expr;)*) => {
        /// Why a request was allowed or denied.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason that exists.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code in records and machine-readable answers.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// What a person is told when no policy has words of its own.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Reason::$name => $words,)* }
            }

            /// What usually helps.
            #[must_use]
            pub fn advice(self) -> Option<Advice> {
                match self { $(Reason::$name => $advice,)* }
            }

            /// The reason of that code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Reason::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// A permit applied and no forbid did.
    Permitted = "permitted", "A policy allows this.", None;
    /// No user was proven.
    SignInRequired = "sign_in_required", "Nobody has signed in.", Some(Advice::SignIn);
    /// The session ended: signed out, expired, or ended by an administrator.
    SessionEnded = "session_ended", "The session has ended.", Some(Advice::SignIn);
    /// The token or cookie is not one of ours, not for this use, or altered.
    CredentialInvalid = "credential_invalid", "The presented credential isn't valid here.", Some(Advice::SignIn);
    /// The credential belongs to a session on another device.
    DeviceMismatch = "device_mismatch", "This sign-in belongs to another device.", Some(Advice::SignIn);
    /// No device was proven, and every policy that could permit demands one.
    DeviceRequired = "device_required", "This can be reached only from an enrolled device.", Some(Advice::EnrolDevice);
    /// The device was removed, or its certificate is of no device we know.
    DeviceUnknown = "device_unknown", "This device is not, or no longer, enrolled.", Some(Advice::EnrolDevice);
    /// A policy could permit, but its conditions do not hold now.
    ConditionFailed = "condition_failed", "A condition for access isn't met.", None;
    /// A policy permits this to a sign-in that is fresher, or stronger.
    StepUpRequired = "step_up_required", "This needs a fresh sign-in.", Some(Advice::StepUp);
    /// No policy permits this.
    NoPermit = "no_permit", "There is nothing here that you have access to.", Some(Advice::RequestAccess);
    /// A policy forbids it, whatever else permits it.
    Forbidden = "forbidden", "A policy forbids this.", None;
    /// A policy could not be evaluated, so nothing it guards is open.
    PolicyError = "policy_error", "Access can't be decided because a policy fails; an administrator has to mend it.", None;
    /// Nothing of this name exists. People are told the same as for [`Reason::NoPermit`].
    UnknownResource = "unknown_resource", "There is nothing here that you have access to.", Some(Advice::RequestAccess);
    /// The request could be read in more than one way.
    Ambiguous = "ambiguous_request", "The request is malformed or could be read in more than one way.", None;
    /// The request came over the connection of another name. Browsers share one between names whose address and certificate
    /// are the same, are told so, and ask again over a connection of its own (RFC 9110 §15.5.20).
    Misdirected = "misdirected_request", "This connection is for another host name; open a new one.", None;
    /// The facts needed to decide could not be had.
    FactsUnavailable = "facts_unavailable", "Access can't be decided right now.", None;
    /// The gateway hasn't heard from its controller for longer than the lease and the resource's grace.
    ControllerSilent = "controller_silent", "Access can't be decided right now, because the gateway can't reach its controller.", None;
    /// The decision could not be recorded, so it must not take effect.
    AuditUnavailable = "audit_unavailable", "Access can't be recorded right now.", None;
    /// The session has as many flows open as one session may have.
    TooManyFlows = "too_many_flows", "This session has too many requests and connections open at once.", None;
    /// The resource answered no connection.
    UpstreamUnavailable = "upstream_unavailable", "You have access, but the resource doesn't answer.", None;
}

impl Reason {
    /// Whether policies were asked and this is what they said; otherwise it was settled before, or without them.
    #[must_use]
    pub const fn is_of_policies(self) -> bool {
        match self {
            Reason::Permitted
            | Reason::DeviceRequired
            | Reason::ConditionFailed
            | Reason::StepUpRequired
            | Reason::NoPermit
            | Reason::Forbidden
            | Reason::PolicyError => true,
            Reason::SignInRequired
            | Reason::SessionEnded
            | Reason::CredentialInvalid
            | Reason::DeviceMismatch
            | Reason::DeviceUnknown
            | Reason::UnknownResource
            | Reason::Ambiguous
            | Reason::Misdirected
            | Reason::FactsUnavailable
            | Reason::ControllerSilent
            | Reason::AuditUnavailable
            | Reason::TooManyFlows
            | Reason::UpstreamUnavailable => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// What a person can do about a denial (`@advice` of a policy, or of the reason itself).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Advice {
    /// Sign in.
    SignIn,
    /// Sign in again, freshly.
    StepUp,
    /// Ask for access.
    RequestAccess,
    /// Come from an enrolled device.
    EnrolDevice,
    /// Come on a connection with a post-quantum key agreement.
    PostQuantum,
}

impl Advice {
    /// Every advice that exists.
    pub const ALL: [Advice; 5] =
        [Advice::SignIn, Advice::StepUp, Advice::RequestAccess, Advice::EnrolDevice, Advice::PostQuantum];

    /// The word in policies, records and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Advice::SignIn => "sign-in",
            Advice::StepUp => "step-up",
            Advice::RequestAccess => "request-access",
            Advice::EnrolDevice => "enrol-device",
            Advice::PostQuantum => "post-quantum",
        }
    }

    /// What to do, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Advice::SignIn => "Sign in with your passkey.",
            Advice::StepUp => "Sign in again, to prove it is still you.",
            Advice::RequestAccess => "Ask an administrator for access if your work needs it.",
            Advice::EnrolDevice => {
                "Use a device that is enrolled: `vouchsafe enroll`, then `vouchsafe proxy` for the browser."
            }
            Advice::PostQuantum => {
                "Use a browser or client of today: this connection's key was not agreed on in a post-quantum way (`X25519MLKEM768`)."
            }
        }
    }

    /// The advice of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Advice::ALL.into_iter().find(|advice| advice.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_cannot_tell_an_unknown_resource_from_a_closed_one() {
        assert_eq!(Reason::UnknownResource.words(), Reason::NoPermit.words());
        assert_eq!(Reason::UnknownResource.advice(), Reason::NoPermit.advice());
    }

    #[test]
    fn codes_are_unique_and_round_trip() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
    }
}
