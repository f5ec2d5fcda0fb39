//! The administrator's API, over whichever way is open: the socket of the owner of this machine, or
//! the enrolled device and whoever is signed in on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Bytes, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use vouchsafe_agent::device::{Device, DeviceError};
use vouchsafe_agent::session::Session;
use vouchsafe_runtime::body::{self, Body};
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{PolicyFileDoc, Problem};
use vouchsafe_wire::token::AUDIENCE_API;

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;

/// Longest answer that is read whole, bytes: a page of 10,000 audit records.
const MAX_ANSWER_BYTES: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the API.
pub(crate) struct AdminClient {
    way: Way,
    tasks: TaskGroup,
}

enum Way {
    /// `<state>/admin.sock`.
    Socket(PathBuf),
    /// `https://api.<domain>`.
    Device(Arc<Device>),
}

/// What is sent with a request.
enum Sent {
    Nothing,
    Json(Bytes),
}

impl AdminClient {
    /// Finds a way: the socket when it exists and answers, else the device.
    ///
    /// # Errors
    /// [`VerbError`] names both ways when neither is open.
    pub(crate) async fn open(call: &Call) -> Result<Self, VerbError> {
        let socket = call.dir.join("admin.sock");
        let tasks = call.tasks.clone();
        let refused = match UnixStream::connect(&socket).await {
            Ok(_) => return Ok(Self { way: Way::Socket(socket), tasks }),
            Err(error) => error,
        };
        match Device::load(&call.dir) {
            Ok(device) => Ok(Self { way: Way::Device(Arc::new(device)), tasks }),
            Err(error @ DeviceError::NotEnrolled { .. }) => {
                let why = match refused.kind() {
                    io::ErrorKind::NotFound => format!("no `vouchsafe up` runs on `{}`", call.dir.display()),
                    io::ErrorKind::ConnectionRefused => {
                        format!("`vouchsafe up` on `{}` has stopped", call.dir.display())
                    }
                    _ => format!("`{}`: {refused}", socket.display()),
                };
                let exit =
                    if refused.kind() == io::ErrorKind::PermissionDenied { Exit::Denied } else { Exit::Unreachable };
                Err(VerbError::new(exit, "no way to the administrator's API is open")
                    .cause(why)
                    .cause(error.to_string())
                    .hint("on the server: run this as the owner of its state directory, with `--dir` if that is not the default")
                    .hint("from elsewhere: `vouchsafe enroll` this device, then `vouchsafe login`"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// [`VerbError`] of the API or of the way there.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, VerbError> {
        json(&self.whole(Method::GET, path, Sent::Nothing).await?)
    }

    /// Reads a list that comes in pages, to its end.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn get_all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, VerbError> {
        let (mut all, mut next) = (Vec::new(), Some(path.to_owned()));
        while let Some(path) = next {
            let (head, bytes) = self.answer(Method::GET, &path, Sent::Nothing).await?;
            if !head.status.is_success() {
                return Err(refused(head.status, &bytes));
            }
            all.extend(json::<Vec<T>>(&bytes)?);
            next = head.headers.get(header::LINK).and_then(next_page);
        }
        Ok(all)
    }

    /// Reads text.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, VerbError> {
        let bytes = self.whole(Method::GET, path, Sent::Nothing).await?;
        String::from_utf8(bytes.into()).map_err(|error| VerbError::of(Exit::Failed, &error))
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, VerbError> {
        let body = serde_json::to_vec(body).map_err(|error| VerbError::of(Exit::Failed, &error))?;
        json(&self.whole(method, path, Sent::Json(body.into())).await?)
    }

    /// Sends a body about files; mistakes in them are drawn with the lines they are in.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn send_files<B: Serialize, T: DeserializeOwned>(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        body: &B,
        files: &[PolicyFileDoc],
    ) -> Result<T, VerbError> {
        let body = serde_json::to_vec(body).map_err(|error| VerbError::of(Exit::Failed, &error))?;
        let (status, bytes) = self.exchange(method, path, Sent::Json(body.into())).await?;
        if status.is_success() { json(&bytes) } else { Err(Self::refused_files(call, status, &bytes, files)) }
    }

    /// Sends a body about files and reads an answer that goes on.
    ///
    /// # Errors
    /// As [`AdminClient::send_files`].
    pub(crate) async fn send_files_for_lines<B: Serialize>(
        &self,
        call: &Call,
        path: &str,
        body: &B,
        files: &[PolicyFileDoc],
    ) -> Result<Incoming, VerbError> {
        let body = serde_json::to_vec(body).map_err(|error| VerbError::of(Exit::Failed, &error))?;
        let response = self.respond(Method::POST, path, Sent::Json(body.into()));
        let response = tokio::time::timeout(PATIENCE, response).await.map_err(late)??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let bytes = http_client::collect(response.into_body(), MAX_ANSWER_BYTES).await.map_err(broken)?;
        Err(Self::refused_files(call, status, &bytes, files))
    }

    /// A refusal, with the mistakes drawn where they are.
    fn refused_files(call: &Call, status: StatusCode, bytes: &[u8], files: &[PolicyFileDoc]) -> VerbError {
        let mut error = refused(status, bytes);
        if let Ok(problem) = serde_json::from_slice::<Problem>(bytes) {
            error.details.diagnostics = crate::diagnostics::render(&call.out, &problem.diagnostics, files);
            error.details.diagnostics.extend(crate::diagnostics::failed_tests(&call.out, &problem.failed_tests));
            error.details.diagnostics.extend(crate::verbs::policy::unproven(&call.out, &problem.unproven));
        }
        error
    }

    /// Sends nothing but the request and reads the answer.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, VerbError> {
        json(&self.whole(method, path, Sent::Nothing).await?)
    }

    /// Removes.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn delete(&self, path: &str) -> Result<(), VerbError> {
        self.whole(Method::DELETE, path, Sent::Nothing).await.map(drop)
    }

    /// Reads an answer that goes on.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, VerbError> {
        let response = self.respond(Method::GET, path, Sent::Nothing).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let bytes = http_client::collect(response.into_body(), MAX_ANSWER_BYTES).await.map_err(broken)?;
        Err(refused(status, &bytes))
    }

    async fn whole(&self, method: Method, path: &str, sent: Sent) -> Result<Bytes, VerbError> {
        let (status, bytes) = self.exchange(method, path, sent).await?;
        if status.is_success() { Ok(bytes) } else { Err(refused(status, &bytes)) }
    }

    async fn exchange(&self, method: Method, path: &str, sent: Sent) -> Result<(StatusCode, Bytes), VerbError> {
        let (head, bytes) = self.answer(method, path, sent).await?;
        Ok((head.status, bytes))
    }

    async fn answer(&self, method: Method, path: &str, sent: Sent) -> Result<(Parts, Bytes), VerbError> {
        let work = async {
            let (head, body) = self.respond(method, path, sent).await?.into_parts();
            Ok((head, http_client::collect(body, MAX_ANSWER_BYTES).await.map_err(broken)?))
        };
        tokio::time::timeout(PATIENCE, work).await.map_err(late)?
    }

    async fn respond(&self, method: Method, path: &str, sent: Sent) -> Result<Response<Incoming>, VerbError> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        let body = match sent {
            Sent::Nothing => body::empty(),
            Sent::Json(bytes) => {
                request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                body::full(bytes)
            }
        };
        match &self.way {
            Way::Socket(path) => {
                let request = build(request.header(header::HOST, "localhost"), body)?;
                let stream = UnixStream::connect(path).await.map_err(|error| broken(error.into()))?;
                http_client::send(stream, request, &self.tasks).await.map_err(broken)
            }
            Way::Device(device) => {
                let Some(token) = Session::on(device.clone()).token(AUDIENCE_API).await? else {
                    return Err(VerbError::new(Exit::Denied, "nobody is signed in on this device")
                        .hint("sign in: `vouchsafe login`"));
                };
                let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|error| VerbError::of(Exit::Failed, &error))?;
                bearer.set_sensitive(true);
                let request =
                    request.header(header::HOST, device.authority(OwnHost::Api)).header(header::AUTHORIZATION, bearer);
                let stream = device.connect(OwnHost::Api).await?;
                http_client::send(stream, build(request, body)?, &self.tasks).await.map_err(broken)
            }
        }
    }
}

/// Where the next page of a list is (RFC 8288); only on the same host.
fn next_page(link: &HeaderValue) -> Option<String> {
    let (target, parameters) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
    (target.starts_with("/v1/") && parameters.trim() == "; rel=\"next\"").then(|| target.to_owned())
}

fn late(_: tokio::time::error::Elapsed) -> VerbError {
    VerbError::new(Exit::Unreachable, format!("no answer within {} s", PATIENCE.as_secs()))
}

fn build(request: http::request::Builder, body: Body) -> Result<Request<Body>, VerbError> {
    request.body(body).map_err(|error| VerbError::of(Exit::Usage, &error))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, VerbError> {
    // 204 has no body, and `()` reads as `null`.
    let bytes = if bytes.is_empty() { b"null" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        VerbError::of(Exit::Failed, &error)
            .hint("is the server of the same version as this program? compare with `vouchsafe version`")
    })
}

fn broken(error: ExchangeError) -> VerbError {
    VerbError::of(Exit::Unreachable, &error)
}

fn refused(status: StatusCode, body: &[u8]) -> VerbError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let diagnostics = crate::diagnostics::render_plain(&problem.diagnostics);
            let mut error = VerbError::from(problem);
            error.details.diagnostics = diagnostics;
            error
        }
        Err(_) => {
            let denied = matches!(status.as_u16(), 401 | 403 | 407);
            let exit = if denied { Exit::Denied } else { Exit::Failed };
            VerbError::new(exit, format!("the server answered with status {status}"))
        }
    }
}

/// A path with one segment put in; every name that gets here was validated, so this only keeps a
/// mistake from becoming another path.
#[must_use]
pub(crate) fn path(before: &str, name: &str, behind: &str) -> String {
    let mut text = before.to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.push_str(behind);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(path("/v1/users/", "a@b+c", "/invite"), "/v1/users/a%40b%2Bc/invite");
        assert_eq!(path("/v1/users/", "../x?y", ""), "/v1/users/..%2Fx%3Fy");
    }

    #[test]
    fn a_link_leads_to_the_next_page_and_nowhere_else() {
        let next = |link: &'static str| next_page(&HeaderValue::from_static(link));
        assert_eq!(next("</v1/users?limit=2&after=b>; rel=\"next\"").as_deref(), Some("/v1/users?limit=2&after=b"));
        for other in ["<https://elsewhere/v1/users>; rel=\"next\"", "</v1/users>; rel=\"prev\"", "/v1/users"] {
            assert_eq!(next(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_is_an_answer_too() {
        json::<()>(b"").unwrap();
        assert!(json::<String>(b"{").is_err());
    }

    #[test]
    fn an_answer_without_a_problem_still_tells_denied_from_failed() {
        assert_eq!(refused(StatusCode::FORBIDDEN, b"no").exit, Exit::Denied);
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"").exit, Exit::Failed);
    }
}
