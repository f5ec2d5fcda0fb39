//! One bidirectional gRPC stream over HTTP/2, as far as the control channel needs it.
//!
//! hyper carries it, as it carries everything else here: the same connection also takes requests for our own
//! hosts, which a gRPC library would keep for itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::mpsc;
use vouchsafe_wire::control::{FrameError, Frames};

use crate::body::{self, Body, BodyError};
use crate::task::TaskGroup;

/// Media type of both directions.
#[must_use]
pub fn content_type() -> HeaderValue {
    HeaderValue::from_static("application/grpc+proto")
}

/// Messages that may wait to be sent; who has more to say waits.
pub const OUTGOING: usize = 64;

/// gRPC status codes that we give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The stream ended as it should.
    Ok = 0,
    /// What is asked can't be read.
    InvalidArgument = 3,
    /// There is no common version.
    FailedPrecondition = 9,
    /// There is no such method.
    Unimplemented = 12,
    /// The peer may not do this.
    PermissionDenied = 7,
    /// It can't be done now.
    Unavailable = 14,
}

impl Status {
    /// Its number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// The status of an answer that is over at once; `None` of one that goes on.
#[must_use]
pub fn refused<B>(response: &Response<B>) -> Option<u16> {
    let status = response.headers().get("grpc-status")?;
    // What can't be read is a refusal all the same (2 is "unknown").
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(2))
}

/// A body of messages that come through a channel, in the direction of a client.
#[must_use]
pub fn request_body(messages: mpsc::Receiver<Bytes>) -> Body {
    body::boxed(Outgoing { messages, trailers: None })
}

/// An answer of messages that come through a channel; the end of the channel is that of the stream.
#[must_use]
pub fn answer(messages: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(Status::Ok.code()));
    let mut response = Response::new(body::boxed(Outgoing { messages, trailers: Some(trailers) }));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type());
    response
}

/// An answer that is over at once.
#[must_use]
pub fn refusal(status: Status) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type());
    response.headers_mut().insert("grpc-status", HeaderValue::from(status.code()));
    response
}

struct Outgoing {
    messages: mpsc::Receiver<Bytes>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.messages.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(None) => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }
}

/// Failure to read a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    /// What came is not of the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Messages of the other end, in order.
pub struct Incomings {
    body: Incoming,
    frames: Frames,
}

impl Incomings {
    /// Reads messages of at most `limit` bytes.
    #[must_use]
    pub fn new(body: Incoming, limit: usize) -> Self {
        Self { body, frames: Frames::new(limit) }
    }

    /// The next message; `None` at the end. May be given up and asked again.
    ///
    /// # Errors
    /// [`StreamError`]; nothing more can be read then.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, StreamError> {
        loop {
            if let Some(message) = self.frames.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(piece) = frame?.into_data() {
                        self.frames.push(&piece);
                    }
                }
            }
        }
    }
}

/// hyper's tasks belong to the group like all others.
#[derive(Clone)]
pub struct Spawn(pub TaskGroup);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn("control channel stream", async move {
            future.await;
        });
    }
}
