//! A client of the administrator's API over the Unix socket of the state directory
//! (`docs/spec/api.md`): what the demo changes and reads goes through here, and nothing else does.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use vouchsafe_runtime::body;
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{Apply, AuditPage, AuditQuery, Manifest, Plan, Problem};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Failure of a call to the API.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens on the socket.
    #[error("no vouchsafe answers on `{socket}`; is `vouchsafe up` running on that directory?")]
    Connect {
        /// Path of the socket.
        socket: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("`{call}` gave no answer")]
    Exchange {
        /// Method and path.
        call: String,
        /// Cause.
        #[source]
        source: ExchangeError,
    },
    /// The exchange took too long.
    #[error("`{call}` did not answer within {after:?}")]
    TimedOut {
        /// Method and path.
        call: String,
        /// The limit.
        after: Duration,
    },
    /// The API refused.
    #[error("`{call}` was refused with {status}: {said}")]
    Refused {
        /// Method and path.
        call: String,
        /// Status.
        status: StatusCode,
        /// Title, detail and diagnostics.
        said: String,
    },
    /// The answer is not what the API promises.
    #[error("`{call}` answered something unreadable")]
    Unreadable {
        /// Method and path.
        call: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// The request could not be made.
    #[error("the request could not be made")]
    Request(#[from] http::Error),
}

/// The owner of this machine, as the API sees her.
#[derive(Clone)]
pub struct Admin {
    socket: PathBuf,
    tasks: TaskGroup,
}

impl Admin {
    /// A client of the socket at that path.
    #[must_use]
    pub fn new(socket: PathBuf, tasks: TaskGroup) -> Self {
        Self { socket, tasks }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.call::<(), T>(Method::GET, path, None).await
    }

    /// `POST path` with a body.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, AdminError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `PUT path` without a body.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn put<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.call::<(), T>(Method::PUT, path, None).await
    }

    /// `PUT path` with a body.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn replace<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, AdminError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn delete(&self, path: &str) -> Result<(), AdminError> {
        self.call::<(), serde_json::Value>(Method::DELETE, path, None).await.map(drop)
    }

    /// Plans and applies a manifest, as `vouchsafe apply` does.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn apply(&self, manifest: Manifest) -> Result<Plan, AdminError> {
        let plan: Plan = self.post("/v1/plan", &manifest).await?;
        if plan.changes.is_empty() {
            return Ok(plan);
        }
        self.post("/v1/apply", &Apply { manifest, digest: plan.digest }).await
    }

    /// A page of the audit log.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, AdminError> {
        let AuditQuery { user, device, resource, outcome, passed, kind, reason, id, text, since, until, limit, after } =
            query;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let texts = [
            ("user", user),
            ("device", device),
            ("resource", resource),
            ("outcome", outcome),
            ("passed", passed),
            ("kind", kind),
            ("reason", reason),
            ("id", id),
            ("text", text),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        for (name, value) in [("since", since), ("until", until), ("after", after)] {
            if let Some(value) = value {
                form.append_pair(name, &value.to_string());
            }
        }
        if let Some(limit) = limit {
            form.append_pair("limit", &limit.to_string());
        }
        self.get(&format!("/v1/audit?{}", form.finish())).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, AdminError> {
        // The query may name people; the path alone says which call failed.
        let call = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let timed_out = AdminError::TimedOut { call: call.clone(), after: ANSWER_TIMEOUT };
        tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, path, body, call)).await.unwrap_or(Err(timed_out))
    }

    async fn exchange<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        call: String,
    ) -> Result<T, AdminError> {
        let unreadable = |source| AdminError::Unreadable { call: call.clone(), source };
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let body = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                body::full(serde_json::to_vec(value).map_err(unreadable)?)
            }
            None => body::empty(),
        };
        let request = request.body(body)?;
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| AdminError::Connect { socket: self.socket.clone(), source })?;
        let exchange = |source| AdminError::Exchange { call: call.clone(), source };
        let response = http_client::send(stream, request, &self.tasks).await.map_err(exchange)?;
        let status = response.status();
        let bytes = http_client::collect(response.into_body(), MAX_ANSWER_BYTES).await.map_err(exchange)?;
        if !status.is_success() {
            let said = words(&bytes);
            return Err(AdminError::Refused { call, status, said });
        }
        // 204 has no body; JSON's `null` stands for it.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(unreadable)
    }
}

/// What a problem document says, in one line.
fn words(bytes: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Problem>(bytes) else {
        return String::from_utf8_lossy(bytes).chars().take(300).collect();
    };
    let mut words = problem.title;
    if let Some(detail) = problem.detail {
        words = format!("{words}: {detail}");
    }
    for mistake in problem.diagnostics {
        words = format!("{words}; {}:{}:{} {}", mistake.file, mistake.line, mistake.column, mistake.message);
    }
    words
}
