//! Why a request to the sign-in host or the device endpoints is not fulfilled, as the caller reads it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use vouchsafe_wire::api::Problem;

use crate::administrator::AdministratorError;
use crate::api;
use crate::audit::AuditError;
use crate::ca::CaError;
use crate::directory::DirectoryError;
use crate::store::StoreError;

/// Why a request is not fulfilled. The words are for people and say the next step.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Not a request of this endpoint.
    #[error("{0}")]
    Malformed(&'static str),
    /// A page of another site sent it.
    #[error("This request came from another site, so nothing was done.")]
    CrossSite,
    /// Nobody is signed in on this connection.
    #[error("You are not signed in. Sign in and try again.")]
    SignInRequired,
    /// The sign-in is too old for this.
    #[error("For this, sign in once more, so that we know it is still you.")]
    StepUp,
    /// The connection proved no device.
    #[error("This needs the certificate of an enrolled device. Run `vouchsafe enroll` first.")]
    DeviceRequired,
    /// The device was removed.
    #[error("This device is not, or no longer, enrolled. Ask an administrator for a new ticket.")]
    DeviceUnknown,
    /// The connection's certificate is not the device's newest.
    #[error(
        "This certificate was replaced by a newer one, which has been used. If you know of no copy of this device, tell \
         an administrator; then ask for a new ticket."
    )]
    CertificateReplaced,
    /// A device asks to have another key certified than the one that it enrolled with.
    #[error("A device keeps its key. For a new key, ask an administrator for a new ticket and enrol anew.")]
    OtherKey,
    /// A one-time thing is used up, expired or was never ours.
    #[error("{0}")]
    NotGood(&'static str),
    /// The passkey ceremony failed.
    #[error("The passkey was not accepted. Try again; if it goes on, ask an administrator for a new link.")]
    Passkey,
    /// The source asks too often.
    #[error("Too many attempts from your address. Wait a minute and try again.")]
    TooFast,
    /// What is asked for does not exist.
    #[error("There is nothing here.")]
    NotFound,
    /// Something may not be done in this state.
    #[error("{0}")]
    Conflict(&'static str),
    /// No policy permits it.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// What was asked for can't be done.
    #[error("{words}")]
    Asked {
        /// Status of the answer.
        status: StatusCode,
        /// Why not.
        words: String,
    },
    /// The store failed.
    #[error("Something went wrong on our side. Try again in a moment.")]
    Store(#[from] StoreError),
    /// The certificate authority failed.
    #[error("Something went wrong on our side. Try again in a moment.")]
    Ca(#[from] CaError),
    /// State of our own could not be written or read.
    #[error("Something went wrong on our side. Try again in a moment.")]
    Internal(&'static str),
}

impl Refusal {
    /// Status and short stable code.
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Refusal::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
            Refusal::SignInRequired => (StatusCode::UNAUTHORIZED, "sign_in_required"),
            Refusal::StepUp => (StatusCode::FORBIDDEN, "step_up"),
            Refusal::DeviceRequired => (StatusCode::UNAUTHORIZED, "device_required"),
            Refusal::DeviceUnknown => (StatusCode::FORBIDDEN, "device_unknown"),
            Refusal::CertificateReplaced => (StatusCode::FORBIDDEN, "certificate_replaced"),
            Refusal::OtherKey => (StatusCode::FORBIDDEN, "other_key"),
            Refusal::NotGood(_) => (StatusCode::FORBIDDEN, "not_good"),
            Refusal::Passkey => (StatusCode::FORBIDDEN, "passkey_refused"),
            Refusal::TooFast => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Refusal::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Refusal::NotPermitted(_) => (StatusCode::FORBIDDEN, "not_permitted"),
            Refusal::Asked { status, .. } => (*status, "refused"),
            Refusal::Store(_) | Refusal::Ca(_) | Refusal::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }

    /// Notes in the log what the caller is not told.
    pub(super) fn log(&self) {
        match self {
            Refusal::Store(error) => tracing::error!(error = error as &dyn std::error::Error, "the store failed"),
            Refusal::Ca(error) => tracing::error!(error = error as &dyn std::error::Error, "the CA failed"),
            Refusal::Internal(what) => tracing::error!(what, "state of our own is unusable"),
            Refusal::Malformed(_)
            | Refusal::CrossSite
            | Refusal::SignInRequired
            | Refusal::StepUp
            | Refusal::DeviceRequired
            | Refusal::DeviceUnknown
            | Refusal::CertificateReplaced
            | Refusal::OtherKey
            | Refusal::NotGood(_)
            | Refusal::Passkey
            | Refusal::TooFast
            | Refusal::NotFound
            | Refusal::Conflict(_)
            | Refusal::NotPermitted(_)
            | Refusal::Asked { .. } => {}
        }
    }
}

impl From<AdministratorError> for Refusal {
    fn from(error: AdministratorError) -> Self {
        match error {
            AdministratorError::Store(error) | AdministratorError::Directory(DirectoryError::Store(error)) => {
                error.into()
            }
            // Devices and sessions of others aren't there.
            AdministratorError::Directory(DirectoryError::Missing { .. }) => Refusal::NotFound,
            error => {
                let problem = api::problem(error);
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Refusal::Asked { status, words: format!("{}.", problem.title) }
            }
        }
    }
}

impl From<DirectoryError> for Refusal {
    fn from(error: DirectoryError) -> Self {
        AdministratorError::from(error).into()
    }
}

impl From<AuditError> for Refusal {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Store(error) => error.into(),
            AuditError::Value { .. } | AuditError::Directory(_) => {
                Refusal::Malformed("There is no such part of the log.")
            }
        }
    }
}

/// As problem+json (RFC 9457), for programs and scripts.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.log();
        let (status, kind) = self.status();
        let problem = Problem {
            kind: kind.to_owned(),
            status: status.as_u16(),
            title: self.to_string(),
            detail: None,
            decision: None,
            reason: None,
            advice: Vec::new(),
            max_age: None,
            diagnostics: Vec::new(),
            failed_tests: Vec::new(),
            unproven: Vec::new(),
        };
        let mut response = (status, axum::Json(problem)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response
    }
}
