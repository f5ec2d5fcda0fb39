//! One HTTPS request to the gateway, from connection to the end of the answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use vouchsafe_model::decision::Reason;
use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_wire::api::Problem;

/// Longest answer, bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Longest exchange on an open connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Failure of one exchange with the gateway.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The request could not be put together.
    #[error("the request can't be sent")]
    Request(#[from] http::Error),
    /// The connection broke, or the peer does not speak HTTP.
    #[error("the connection to the gateway broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer came in time.
    #[error("the gateway did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The answer is not what the endpoint gives.
    #[error("the gateway's answer is not understood")]
    Answer(#[source] serde_json::Error),
    /// The gateway refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the gateway said when it refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.title())]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The reason in the gateway's words (RFC 9457), when it gave one.
    pub problem: Option<Box<Problem>>,
}

impl Refusal {
    /// Reads the refusal of a status and a body.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Self {
        Self { status: status.as_u16(), problem: serde_json::from_slice(body).ok() }
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.problem {
            Some(problem) => problem.title.clone(),
            None => format!("the gateway refused with status {}", self.status),
        }
    }

    /// How old a sign-in may be at most, seconds, when a fresh one is all that is missing; 0 when its age isn't
    /// what is.
    #[must_use]
    pub fn step_up(&self) -> Option<u64> {
        let problem = self.problem.as_ref()?;
        let missing = problem.reason.as_deref() == Some(Reason::StepUpRequired.code());
        missing.then(|| problem.max_age.unwrap_or_default())
    }

    /// Whether access was denied, as opposed to something being broken.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self.status, 401 | 403 | 404 | 407 | 421)
    }
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body of a 2xx answer.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ExchangeError> {
        if self.status.is_success() {
            serde_json::from_slice(&self.body).map_err(ExchangeError::Answer)
        } else {
            Err(Refusal::read(self.status, &self.body).into())
        }
    }
}

/// What a request carries.
pub(crate) enum Content<'c> {
    Nothing,
    Json(Bytes),
    Form(&'c [(&'c str, &'c str)]),
}

impl Content<'_> {
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ExchangeError> {
        serde_json::to_vec(value).map(|bytes| Content::Json(bytes.into())).map_err(ExchangeError::Answer)
    }
}

/// Sends one request over a connected stream and reads the whole answer.
pub(crate) async fn exchange<S>(
    stream: S,
    method: Method,
    authority: &str,
    path: &str,
    content: Content<'_>,
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json, application/problem+json")
        .header(header::USER_AGENT, concat!("vouchsafe/", env!("CARGO_PKG_VERSION")));
    let bytes = match content {
        Content::Nothing => Bytes::new(),
        Content::Json(bytes) => {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            bytes
        }
        Content::Form(pairs) => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request = request.header(header::CONTENT_TYPE, form);
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into()
        }
    };
    let request = request.body(Full::new(bytes))?;
    // Boxed: the compiler can't prove otherwise that the whole is `Send` for callers of any lifetime.
    let work: BoxFuture<'_, Result<Answer, ExchangeError>> = Box::pin(async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let asked = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(ExchangeError::Broken)?.to_bytes();
            // The sender ends here, and with it the connection.
            Ok(Answer { status, body })
        };
        let (answer, _ended) = tokio::join!(asked, connection);
        answer
    });
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| ExchangeError::TimedOut)?
}

fn broken(error: hyper::Error) -> ExchangeError {
    ExchangeError::Broken(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(answer: &'static [u8]) -> Result<Answer, ExchangeError> {
        let (near, mut far) = tokio::io::duplex(4096);
        let server = async move {
            let mut seen = vec![0; 1024];
            let _ = far.read(&mut seen).await.unwrap();
            far.write_all(answer).await.unwrap();
        };
        let asked = exchange(near, Method::GET, "gw.corp.example:8443", "/device/status", Content::Nothing);
        tokio::join!(asked, server).0
    }

    #[tokio::test]
    async fn an_answer_is_read_whole() {
        let answer = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue").await.unwrap();
        assert!(answer.json::<bool>().unwrap());
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_gateways_words() {
        let answer = ask(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"type\":\"denied\",\"status\":403,\"title\":\"No.\",\"advice\":[\"sign-in\"]}").await.unwrap();
        let Err(ExchangeError::Refused(refusal)) = answer.json::<bool>() else { panic!("not refused") };
        assert!(refusal.is_denial());
        assert_eq!(refusal.to_string(), "No.");
        assert_eq!(refusal.problem.unwrap().advice, ["sign-in"]);
    }

    #[tokio::test]
    async fn a_cut_answer_is_an_error() {
        assert!(ask(b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\ntrue").await.is_err());
        assert!(ask(b"SSH-2.0-OpenSSH\r\n").await.is_err());
    }
}
