//! Failure of a verb, as a person reads it: the thing, the cause, the next step.

use std::error::Error;
use std::fmt;
use std::io;

use vouchsafe_agent::device::DeviceError;
use vouchsafe_agent::login::LoginError;
use vouchsafe_agent::session::SessionError;
use vouchsafe_agent::tunnel::OpenError;
use vouchsafe_agent::{ExchangeError, Refusal};
use vouchsafe_model::decision::{Advice, Reason};
use vouchsafe_wire::api::Problem;

use crate::exit::Exit;

/// Why a verb failed, ready to be printed.
#[derive(Debug, Clone)]
pub(crate) struct VerbError {
    /// Exit code.
    pub exit: Exit,
    /// What is wrong, in one line.
    pub title: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
    /// What only some failures have.
    pub details: Box<Details>,
}

/// What only some failures have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    /// Id of the decision, when access was denied.
    pub decision: Option<String>,
    /// Code of the reason or of the problem.
    pub code: Option<String>,
    /// Mistakes in files, rendered already.
    pub diagnostics: Vec<String>,
}

impl VerbError {
    /// A failure with that exit code.
    pub(crate) fn new(exit: Exit, title: impl Into<String>) -> Self {
        Self { exit, title: title.into(), causes: Vec::new(), hints: Vec::new(), details: Box::default() }
    }

    /// A plain failure.
    pub(crate) fn failed(title: impl Into<String>) -> Self {
        Self::new(Exit::Failed, title)
    }

    /// The verb was called wrongly.
    pub(crate) fn usage(title: impl Into<String>) -> Self {
        Self::new(Exit::Usage, title)
    }

    /// A failure with its chain of causes.
    pub(crate) fn of(exit: Exit, error: &dyn Error) -> Self {
        let mut made = Self::new(exit, error.to_string());
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Transparent errors say the same twice.
            if made.causes.last().unwrap_or(&made.title) != &text {
                made.causes.push(text);
            }
            next = cause.source();
        }
        made
    }

    /// Adds a cause.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for VerbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl Error for VerbError {}

/// Output that can't be written. A reader that went away (`| head`) is a quiet end.
impl From<io::Error> for VerbError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Ok, "")
        } else {
            Self::failed("can't write to standard output").cause(error.to_string())
        }
    }
}

impl From<Problem> for VerbError {
    fn from(problem: Problem) -> Self {
        let denied = matches!(problem.status, 401 | 403 | 407);
        let mut error = Self::new(if denied { Exit::Denied } else { Exit::Failed }, problem.title);
        error.causes.extend(problem.detail.filter(|detail| *detail != error.title));
        error.hints = problem.advice.iter().map(|word| advice(word)).collect();
        error.details.decision = problem.decision;
        error.details.code = Some(problem.reason.unwrap_or(problem.kind));
        error
    }
}

fn advice(word: &str) -> String {
    match Advice::from_word(word) {
        Some(Advice::SignIn) => "sign in: `vouchsafe login`".to_owned(),
        Some(Advice::StepUp) => "sign in again, to prove it is still you: `vouchsafe login --fresh`".to_owned(),
        Some(Advice::EnrolDevice) => "enrol this device: `vouchsafe enroll`".to_owned(),
        Some(other @ (Advice::RequestAccess | Advice::PostQuantum)) => other.words().to_owned(),
        None => word.to_owned(),
    }
}

impl From<Refusal> for VerbError {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status;
        let mut error = match refusal.problem {
            Some(problem) => (*problem).into(),
            None => Self::new(Exit::Failed, refusal.title()),
        };
        if matches!(status, 401 | 403 | 407) {
            error.exit = Exit::Denied;
        }
        // The gateway gives the same answer for what is unknown and what is closed.
        if error
            .details
            .code
            .as_deref()
            .and_then(Reason::from_code)
            .is_some_and(|reason| reason != Reason::UpstreamUnavailable)
        {
            error.exit = Exit::Denied;
        }
        error
    }
}

impl From<DeviceError> for VerbError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Exchange(ExchangeError::Refused(refusal)) => refusal.into(),
            error => {
                let exit = if error.is_unreachable() { Exit::Unreachable } else { Exit::Failed };
                let made = Self::of(exit, &error);
                match error {
                    DeviceError::NotEnrolled { .. } => {
                        made.hint("enrol it with a ticket from an administrator: `vouchsafe enroll`")
                    }
                    DeviceError::AlreadyEnrolled { .. } => {
                        made.hint("to give that up for a new ticket: `vouchsafe enroll --replace`")
                    }
                    DeviceError::Expired => made.hint(
                        "the device was off for too long: ask an administrator for a new ticket, then `vouchsafe enroll`",
                    ),
                    DeviceError::Dial(_) => {
                        made.hint("is the installation running, and can this machine reach it? try `vouchsafe status`")
                    }
                    DeviceError::Damaged { .. } | DeviceError::Certificate(_) => {
                        made.hint("enrol this device anew: `vouchsafe enroll --replace`")
                    }
                    _ => made,
                }
            }
        }
    }
}

impl From<SessionError> for VerbError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refresh(error) => error.into(),
            SessionError::Damaged(_) => Self::of(Exit::Failed, &error).hint("sign in again: `vouchsafe login`"),
            SessionError::State(_) => Self::of(Exit::Failed, &error),
        }
    }
}

impl From<OpenError> for VerbError {
    fn from(error: OpenError) -> Self {
        let exit = if error.is_unreachable() { Exit::Unreachable } else { Exit::Failed };
        match error {
            OpenError::Refused(refusal) => refusal.into(),
            OpenError::Gateway(error) => error.into(),
            OpenError::Session(error) => error.into(),
            other => Self::of(exit, &other),
        }
    }
}

impl From<LoginError> for VerbError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Device(error) => error.into(),
            LoginError::Session(error) => error.into(),
            LoginError::Denied { .. } => Self::of(Exit::Denied, &error),
            LoginError::Expired => Self::of(Exit::Failed, &error).hint("start again: `vouchsafe login`"),
            LoginError::Protocol { .. } | LoginError::ForeignLink { .. } => Self::of(Exit::Failed, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, reason: Option<&str>) -> Problem {
        Problem {
            kind: "denied".into(),
            status,
            title: "There is nothing here that you have access to.".into(),
            detail: None,
            decision: Some("dec_1".into()),
            reason: reason.map(str::to_owned),
            advice: vec!["request-access".into(), "sign-in".into()],
            max_age: None,
            diagnostics: Vec::new(),
            failed_tests: Vec::new(),
            unproven: Vec::new(),
        }
    }

    #[test]
    fn denials_exit_with_three_whatever_the_status() {
        for (status, reason, exit) in [
            (403, None, Exit::Denied),
            (407, Some("sign_in_required"), Exit::Denied),
            (404, Some("no_permit"), Exit::Denied),
            (502, Some("upstream_unavailable"), Exit::Failed),
            (409, None, Exit::Failed),
        ] {
            let refusal = Refusal { status, problem: Some(Box::new(problem(status, reason))) };
            assert_eq!(VerbError::from(refusal).exit, exit, "{status} {reason:?}");
        }
    }

    #[test]
    fn advice_becomes_a_next_step() {
        let error = VerbError::from(problem(403, Some("no_permit")));
        assert_eq!(error.hints.len(), 2);
        assert!(error.hints[1].contains("vouchsafe login"));
        assert_eq!(error.details.decision.as_deref(), Some("dec_1"));
    }

    #[test]
    fn a_reader_that_went_away_is_a_quiet_end() {
        assert_eq!(VerbError::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit, Exit::Ok);
    }
}
