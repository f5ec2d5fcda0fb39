//! HTTP bodies as they pass between roles.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

/// Failure while a body streams: the peer went away, broke the framing, or access ended.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body of any origin. The usual ones take no allocation.
#[derive(Debug, Default)]
pub struct Body(Origin);

#[derive(Debug, Default)]
enum Origin {
    #[default]
    Empty,
    Ready(Bytes),
    Peer(Incoming),
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

/// A body of bytes that are already there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    if bytes.is_empty() { empty() } else { Body(Origin::Ready(bytes)) }
}

/// A body without bytes.
#[must_use]
pub fn empty() -> Body {
    Body(Origin::Empty)
}

/// Boxes any body.
pub fn boxed<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    Body(Origin::Boxed(body.map_err(Into::into).boxed_unsync()))
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() { empty() } else { Body(Origin::Peer(body)) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Origin::Empty => Poll::Ready(None),
            Origin::Ready(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Origin::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Origin::Peer(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Origin::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Origin::Empty => true,
            Origin::Ready(_) => false,
            Origin::Peer(body) => body.is_end_stream(),
            Origin::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Origin::Empty => SizeHint::with_exact(0),
            Origin::Ready(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Origin::Peer(body) => body.size_hint(),
            Origin::Boxed(body) => body.size_hint(),
        }
    }
}
