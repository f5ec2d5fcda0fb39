//! HTTP bodies as they pass between roles.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// Failure while a body streams: the peer went away, broke the framing, or access ended.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body of any origin.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body of bytes that are already there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without bytes.
#[must_use]
pub fn empty() -> Body {
    full(Bytes::new())
}

/// Boxes any body.
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}
