//! What is read gets a tag (RFC 9110 §8.8.3), and isn't sent again to who has it. Conditions of changes are checked where the
//! change is made, since only there nothing comes in between.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::ApiError;
use crate::precondition::{Precondition, tag_of};

/// Gives each whole answer of JSON a tag, and answers with 304 where the caller has it.
pub(super) async fn get(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    // What comes in lines has no end to wait for, and no length.
    let Some(length) = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok()) else {
        return response;
    };
    if !is_get || !is_json || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, length).await else { return ApiError::unread().into_response() };
    let tag = tag_of(&bytes);
    let has_it = known.is_some_and(|known| has(&known, &tag));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    if has_it {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether the tag is among those the caller knows. A weak one of the same text will do here (RFC 9110 §13.1.2).
fn has(known: &HeaderValue, tag: &str) -> bool {
    let known = known.to_str().ok().and_then(Precondition::parse);
    known.is_some_and(|known| known.names(tag) || known.names(&format!("W/{tag}")))
}
