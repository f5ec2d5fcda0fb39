//! A request that is sent twice, since its answer got lost, is carried out once: by the header `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header). Whoever asks again under the same key gets the first answer.
//!
//! A key counts for one caller and one path, for a day. What was answered is kept sealed: it may hold a link or a secret. A
//! request that was refused is not kept, for it changed nothing.

use aws_lc_rs::digest::{Context as Digest, SHA256};
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::oneshot;
use vouchsafe_runtime::{clock, limits};
use vouchsafe_wire::ticket::hex;

use super::answer::ApiError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::StoreError;
use crate::store::idempotency::{Claim, answered, claim, forget};

/// The request's header.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
const LONGEST_KEY: usize = 255;
/// Longest answer that is kept, bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Carries a request out, unless it was before.
pub(super) async fn once(State(context): State<Context>, request: Request, next: Next) -> Response {
    let key = match key_of(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(key)) if request.method() == Method::POST => key,
        Ok(Some(_)) => {
            return refuse("only a POST takes an `Idempotency-Key`: the others may be sent twice as they are");
        }
        Err(why) => return refuse(why),
    };
    let Some(actor) = request.extensions().get::<Actor>() else { return ApiError::signed_out().into_response() };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let id = digest(&[actor.label().as_bytes(), path.as_bytes(), key.as_bytes()]);
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, limits::MAX_OWN_BODY_BYTES).await else {
        let title = format!("the body is longer than {} bytes, or ended too early", limits::MAX_OWN_BODY_BYTES);
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", title, None).into_response();
    };
    let sum = digest(&[&body]);
    match take_on(&context, &id, &sum).await {
        Ok(Claim::New) => {}
        Ok(Claim::Known { body: before, answer }) => return again(&context, &id, before == sum, answer),
        Ok(Claim::Full) => {
            let title = "too many requests with an `Idempotency-Key` in one day".to_owned();
            let hint = Some("send it without one, or tomorrow".to_owned());
            return ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_keys", title, hint).into_response();
        }
        Err(error) => return ApiError::from(error).into_response(),
    }
    // It goes on when nobody waits for the answer any more: that is what a key is for.
    let (tell, told) = oneshot::channel();
    let request = Request::from_parts(parts, Body::from(body));
    let tasks = context.tasks.clone();
    tasks.spawn("request with a key", async move {
        let response = next.run(request).await;
        let response =
            keep(&context, &id, response).await.unwrap_or_else(|error| ApiError::from(error).into_response());
        let _ = tell.send(response);
    });
    told.await.unwrap_or_else(|_| ApiError::unread().into_response())
}

/// The key, a string of RFC 9651: within quotes.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("there is more than one `Idempotency-Key`");
    }
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    let is_key = (1..=LONGEST_KEY).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let why = "`Idempotency-Key` is not 1 to 255 visible characters of ASCII within quotes";
    if is_key { Ok(Some(key.to_owned())) } else { Err(why) }
}

fn refuse(why: &str) -> Response {
    let hint = Some("send a new random value within quotes, such as `\"5f0c6a1e\"`, with each new request".to_owned());
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_header", why.to_owned(), hint).into_response()
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Digest::new(&SHA256);
    for part in parts {
        // With its length, so that no two rows of parts read the same.
        digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finish().as_ref().to_vec()
}

async fn take_on(context: &Context, id: &[u8], body: &[u8]) -> Result<Claim, StoreError> {
    let mut write = context.store.write().await?;
    let claim = claim(write.connection(), id, body, clock::unix_seconds(clock::now())).await?;
    write.commit().await?;
    Ok(claim)
}

/// Answers what was asked before.
fn again(context: &Context, id: &[u8], same_body: bool, answer: Option<(u16, Vec<u8>)>) -> Response {
    if !same_body {
        let title = "this `Idempotency-Key` was sent with another body before".to_owned();
        let hint = Some("use a new one for a new request".to_owned());
        return ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", title, hint).into_response();
    }
    let Some((status, sealed)) = answer else {
        let title = "a request with this `Idempotency-Key` has no answer yet".to_owned();
        let hint = "ask again in a moment; where it stays so, the controller was ended in the middle of it: \
                    `vouchsafe audit query` tells whether it was carried out";
        return ApiError::new(StatusCode::CONFLICT, "unfinished", title, Some(hint.to_owned())).into_response();
    };
    let opened = context.ca.open_answer(&context.settings, &hex(id), &sealed);
    let (Ok(body), Ok(status)) = (opened, StatusCode::from_u16(status)) else {
        return ApiError::unread().into_response();
    };
    let kind = HeaderValue::from_static("application/json");
    let mut response = (status, [(header::CONTENT_TYPE, kind)], body.to_vec()).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Keeps an answer that tells of something done; of others nothing is kept.
async fn keep(context: &Context, id: &[u8], response: Response) -> Result<Response, StoreError> {
    let whole = response.body().size_hint().exact().is_some_and(|length| length <= LONGEST_ANSWER as u64);
    let mut write = context.store.write().await?;
    if !response.status().is_success() || !whole {
        forget(write.connection(), id).await?;
        write.commit().await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body: Bytes = to_bytes(body, LONGEST_ANSWER).await.unwrap_or_default();
    match context.ca.seal_answer(&context.settings, &hex(id), &body) {
        Ok(sealed) => answered(write.connection(), id, parts.status.as_u16(), &sealed).await?,
        // What was done stays done. Whoever asks again is told that it has no answer.
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "an answer can't be kept"),
    }
    write.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
