//! Errors of the API as problems (RFC 9457).

use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Json};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use vouchsafe_policy::SuggestError;
use vouchsafe_wire::api::{Problem, Published};

use crate::administrator::AdministratorError;
use crate::audit::AuditError;
use crate::checkpoints::AskError;
use crate::directory::DirectoryError;
use crate::store::StoreError;
use crate::streams::StreamError;
use crate::webhooks::WebhookError;

/// Most failing tests that one answer tells.
const MAX_FAILED_TESTS: usize = 50;
/// Most of what is not proven that one answer tells.
const MAX_UNPROVEN: usize = 20;

/// A request that was not answered as asked.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Problem>);

/// Answer of a handler.
pub(super) type Answer<T> = Result<T, ApiError>;

/// 201: it was made.
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

/// 204: it is done, and there is nothing to say.
pub(super) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// What became of a publish or a rollback. What waits is accepted, and not yet done.
pub(super) struct Publication(pub(super) Published);

impl IntoResponse for Publication {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Published::InForce(_) => StatusCode::OK,
            Published::Waits(_) => StatusCode::ACCEPTED,
        };
        (status, Json(self.0)).into_response()
    }
}

/// Lines of JSON, each a `T`, that come as they are found.
pub(super) struct Lines<T> {
    body: Body,
    line: PhantomData<fn() -> T>,
}

impl<T> Lines<T> {
    pub(super) fn new<S, E>(lines: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { body: Body::from_stream(lines), line: PhantomData }
    }
}

impl<T> IntoResponse for Lines<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/x-ndjson")], self.body).into_response()
    }
}

impl ApiError {
    pub(super) fn new(status: StatusCode, kind: &str, title: String, detail: Option<String>) -> Self {
        Self(Box::new(Problem {
            kind: kind.to_owned(),
            status: status.as_u16(),
            title,
            detail,
            decision: None,
            reason: None,
            advice: Vec::new(),
            max_age: None,
            diagnostics: Vec::new(),
            failed_tests: Vec::new(),
            unproven: Vec::new(),
        }))
    }

    /// Nobody vouched for the caller.
    pub(super) fn signed_out() -> Self {
        let detail = "sign in with `vouchsafe login`, or ask on the machine itself as its owner".to_owned();
        let title = "nobody has signed in".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "sign_in_required", title, Some(detail))
    }

    /// An answer that was made could not be read back to be sent, which nothing of ours gives cause for.
    pub(super) fn unread() -> Self {
        Self::internal(&std::io::Error::other("an answer could not be read back"))
    }

    /// What it tells, where it is no answer of its own.
    pub(super) fn into_problem(self) -> Box<Problem> {
        self.0
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request of the API failed");
        let detail = "the log of the controller has the cause; nothing was changed".to_owned();
        let title = "the controller failed".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, Some(detail))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        let (status, kind) = match &error {
            DirectoryError::Name(_) | DirectoryError::Id(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            DirectoryError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            DirectoryError::MissingGroups { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "missing_groups"),
            DirectoryError::NameTaken { .. } => (StatusCode::CONFLICT, "name_taken"),
            DirectoryError::NameReserved { .. } => (StatusCode::CONFLICT, "name_reserved"),
            DirectoryError::LastAdministrator => (StatusCode::CONFLICT, "last_administrator"),
            DirectoryError::AdministratorsStay => (StatusCode::CONFLICT, "administrators_stay"),
            DirectoryError::Locked { .. } => (StatusCode::CONFLICT, "user_locked"),
            DirectoryError::DeviceLocked { .. } => (StatusCode::CONFLICT, "device_locked"),
            DirectoryError::ConsoleStays => (StatusCode::CONFLICT, "console_stays"),
            DirectoryError::Moved(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            DirectoryError::Reason => (StatusCode::BAD_REQUEST, "invalid_value"),
            DirectoryError::NoChannel => (StatusCode::CONFLICT, "no_channel"),
            DirectoryError::GatewayTaken { .. } => (StatusCode::CONFLICT, "name_taken"),
            DirectoryError::Disabled { .. } => (StatusCode::CONFLICT, "user_disabled"),
            DirectoryError::Store(error) => return Self::internal(error),
        };
        let hint = error.hint();
        Self::new(status, kind, error.to_string(), hint)
    }
}

impl From<AdministratorError> for ApiError {
    fn from(error: AdministratorError) -> Self {
        let invalid = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
        let (status, kind) = match &error {
            AdministratorError::Name(_)
            | AdministratorError::Id(_)
            | AdministratorError::Action(_)
            | AdministratorError::Resource(_)
            | AdministratorError::NameMismatch { .. }
            | AdministratorError::OwnPort { .. }
            | AdministratorError::Value { .. }
            | AdministratorError::TrialTime { .. }
            | AdministratorError::Twice { .. } => invalid,
            AdministratorError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            AdministratorError::PolicyInvalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "policy_invalid"),
            AdministratorError::TestsFailed { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "tests_failed"),
            AdministratorError::Unproven { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unproven"),
            AdministratorError::NoProof { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no_proof"),
            AdministratorError::TooMuchToCount => (StatusCode::UNPROCESSABLE_ENTITY, "too_much"),
            AdministratorError::NoLonger => (StatusCode::FORBIDDEN, "no_longer"),
            AdministratorError::ProofMoved => (StatusCode::CONFLICT, "proof_moved"),
            AdministratorError::LockOut => (StatusCode::CONFLICT, "lock_out"),
            AdministratorError::VersionMoved { .. } => (StatusCode::CONFLICT, "version_moved"),
            AdministratorError::Unconfirmed { .. } => (StatusCode::CONFLICT, "unconfirmed"),
            AdministratorError::TemplateKind { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "template_kind"),
            AdministratorError::TemplateChanged { .. } => (StatusCode::CONFLICT, "template_changed"),
            AdministratorError::GrantsUnlinked { .. } => (StatusCode::CONFLICT, "grants_unlinked"),
            AdministratorError::NoUser => (StatusCode::CONFLICT, "no_user"),
            AdministratorError::OwnRequest => (StatusCode::FORBIDDEN, "own_request"),
            AdministratorError::RequestedAlready { .. } => (StatusCode::CONFLICT, "requested_already"),
            AdministratorError::RequestSettled { .. } => (StatusCode::CONFLICT, "request_settled"),
            AdministratorError::TooManyRequests => (StatusCode::CONFLICT, "too_many_requests"),
            AdministratorError::TwoUsers { .. } => (StatusCode::CONFLICT, "two_users"),
            AdministratorError::TwoPeople { .. } => (StatusCode::CONFLICT, "two_people"),
            AdministratorError::OwnProposal => (StatusCode::FORBIDDEN, "own_proposal"),
            AdministratorError::OtherProposal => (StatusCode::CONFLICT, "other_proposal"),
            AdministratorError::ProposalSettled { .. } => (StatusCode::CONFLICT, "proposal_settled"),
            AdministratorError::StaleProposal { .. } => (StatusCode::CONFLICT, "stale_proposal"),
            AdministratorError::AuthorMayNot { .. } => (StatusCode::CONFLICT, "author_may_not"),
            AdministratorError::TooManyProposals => (StatusCode::CONFLICT, "too_many_proposals"),
            AdministratorError::Moved(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            AdministratorError::PlanMoved => (StatusCode::CONFLICT, "plan_moved"),
            AdministratorError::NoFork => (StatusCode::CONFLICT, "no_fork"),
            AdministratorError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            AdministratorError::Directory(_) => {
                let AdministratorError::Directory(error) = error else { return Self::internal(&error) };
                return Self::from(error);
            }
            AdministratorError::Audit(_) => {
                let AdministratorError::Audit(error) = error else { return Self::internal(&error) };
                return Self::from(error);
            }
            AdministratorError::Suggest(SuggestError::NoResource(_)) => (StatusCode::NOT_FOUND, "not_found"),
            AdministratorError::Suggest(SuggestError::TooLong) => (StatusCode::UNPROCESSABLE_ENTITY, "too_much"),
            AdministratorError::BrokenOff | AdministratorError::Suggest(SuggestError::Wrong(_)) => {
                return Self::internal(&error);
            }
            AdministratorError::Key(error) => return Self::internal(error),
            AdministratorError::Checkpoints(error) => return Self::internal(error),
            AdministratorError::Store(error) => return Self::internal(error),
        };
        let mut answer = Self::new(status, kind, error.to_string(), error.hint());
        match error {
            AdministratorError::PolicyInvalid { diagnostics } => answer.0.diagnostics = diagnostics,
            AdministratorError::TestsFailed { mut failed, .. } => {
                failed.truncate(MAX_FAILED_TESTS);
                answer.0.failed_tests = failed;
            }
            AdministratorError::Unproven { mut unproven, .. } => {
                unproven.truncate(MAX_UNPROVEN);
                answer.0.unproven = unproven;
            }
            _ => {}
        }
        answer
    }
}

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        let (status, kind) = match &error {
            WebhookError::Name(_) | WebhookError::Address { .. } | WebhookError::Event { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
            }
            WebhookError::Taken { .. } => (StatusCode::CONFLICT, "name_taken"),
            WebhookError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            WebhookError::TooMany => (StatusCode::CONFLICT, "too_many_webhooks"),
            WebhookError::Seal(_) | WebhookError::Store(_) => return Self::internal(&error),
        };
        Self::new(status, kind, error.to_string(), error.hint())
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let (status, kind) = match &error {
            StreamError::Name(_) | StreamError::Address { .. } | StreamError::From { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
            }
            StreamError::Taken { .. } => (StatusCode::CONFLICT, "name_taken"),
            StreamError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            StreamError::TooMany => (StatusCode::CONFLICT, "too_many_streams"),
            StreamError::Seal(_) | StreamError::Store(_) => return Self::internal(&error),
        };
        Self::new(status, kind, error.to_string(), error.hint())
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        let (status, kind, hint) = match &error {
            AskError::NoRecord { .. } => {
                (StatusCode::NOT_FOUND, "not_found", Some("ids and times are told by `vouchsafe audit query --json`"))
            }
            AskError::NoTile => (StatusCode::NOT_FOUND, "not_found", None),
            AskError::NotYet => {
                (StatusCode::CONFLICT, "not_yet", Some("see `vouchsafe audit key`, whether checkpoints are signed"))
            }
            AskError::NotCosigned => {
                (StatusCode::CONFLICT, "not_yet", Some("`vouchsafe audit key` says how each witness stands"))
            }
            AskError::Unproven | AskError::Log(_) | AskError::Store(_) => return Self::internal(&error),
        };
        Self::new(status, kind, error.to_string(), hint.map(ToOwned::to_owned))
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Value { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error.to_string(), None),
            AuditError::Directory(error) => Self::from(error),
            AuditError::Store(error) => Self::internal(&error),
        }
    }
}

pub(super) async fn no_such_route(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    let detail = Some("docs/spec/api.md lists what there is".to_owned());
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", format!("there is nothing at `{path}`"), detail)
}

pub(super) async fn no_such_method(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    let title = format!("`{path}` can't be asked with {}", request.method());
    let detail = Some("docs/spec/api.md lists what there is".to_owned());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", title, detail)
}
