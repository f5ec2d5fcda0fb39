//! Envoy's `ext_authz` v3 over gRPC: one request, one answer.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::sync::mpsc;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::grpc::{self, Status};
use vouchsafe_runtime::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use vouchsafe_wire::control::{Frames, frame};
use vouchsafe_wire::ext_authz::{self as message, CheckRequest, CheckResponse};

use super::told::{Said, Told, Unclear};
use super::{Inquiry, Verdict, refusal};
use crate::forward::headers;

/// The method of the service, as a path.
pub(super) const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
const PROTOCOL: &str = "ext-authz";
/// Longest question: the head of the client's request, and what Envoy says about it.
const MAX_BYTES: usize = 2 * MAX_HEAD_BYTES;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest page of ours; they are much shorter.
const MAX_PAGE_BYTES: usize = 64 * 1024;

pub(super) async fn serve(asking: &Inquiry<'_>, request: Request<Body>) -> Response<Body> {
    let is_grpc =
        request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if request.method() != Method::POST || !is_grpc {
        return grpc::refusal(Status::InvalidArgument);
    }
    let read = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), MAX_BYTES).collect()).await;
    let Ok(Ok(body)) = read else { return grpc::refusal(Status::InvalidArgument) };
    let mut frames = Frames::new(MAX_BYTES);
    frames.push(&body.to_bytes());
    let Ok(Some(question)) = frames.take::<CheckRequest>() else { return grpc::refusal(Status::InvalidArgument) };
    let verdict = match told(asking, &question) {
        Ok((told, fields)) => match asking.decide(&told, &fields, PROTOCOL).await {
            Verdict::Pass(answer) => {
                return match pass(&answer, &fields, told.origin.ip) {
                    Some(answer) => reply(&answer),
                    None => grpc::refusal(Status::PermissionDenied),
                };
            }
            refused @ Verdict::Refuse { .. } => refused,
        },
        Err(unclear) => asking.refuse(unclear, PROTOCOL).await,
    };
    match verdict {
        Verdict::Refuse { response, to } => reply(&refuse(refusal(asking.proxy.kind(), response, to.as_deref())).await),
        // Not reached: what passes was answered above.
        Verdict::Pass(_) => grpc::refusal(Status::PermissionDenied),
    }
}

fn reply(answer: &CheckResponse) -> Response<Body> {
    let (messages, receiver) = mpsc::channel(1);
    match messages.try_send(frame(answer)) {
        Ok(()) => grpc::answer(receiver),
        Err(_) => grpc::refusal(Status::Unavailable),
    }
}

/// The client's request and its fields, in Envoy's words.
fn told(asking: &Inquiry<'_>, question: &CheckRequest) -> Result<(Told, HeaderMap), Unclear> {
    let missing = |what: &str| Unclear::ambiguous(format!("the proxy doesn't say {what}"));
    let attributes = question.attributes.as_ref().ok_or_else(|| missing("what is asked"))?;
    let request = attributes.request.as_ref().and_then(|request| request.http.as_ref());
    let http = request.ok_or_else(|| missing("which HTTP request it has"))?;
    let source = attributes.source.as_ref().and_then(|source| source.address.as_ref());
    let socket = source.and_then(|address| address.socket_address.as_ref());
    let ip = &socket.ok_or_else(|| missing("where the client is"))?.address;
    let fields = fields(http)?;
    let said = Said { method: &http.method, proto: &http.scheme, host: &http.host, uri: &http.path, ip };
    Ok((Told::read(asking, &said, &fields)?, fields))
}

/// Its fields: one by one where Envoy sends them so (`encode_raw_headers`), else as it joined them.
fn fields(http: &message::HttpRequest) -> Result<HeaderMap, Unclear> {
    let unfit = |_: &dyn std::fmt::Debug| Unclear::ambiguous("a field of the request can't be read");
    let raw = http.header_map.as_ref().map(|map| map.headers.as_slice()).unwrap_or_default();
    let raw = raw.iter().map(|field| {
        let value = if field.raw_value.is_empty() { field.value.as_bytes() } else { &field.raw_value };
        (field.key.as_str(), value)
    });
    let joined = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut fields = HeaderMap::new();
    for (name, value) in raw.chain(joined).filter(|(name, _)| !name.starts_with(':')) {
        if fields.len() >= MAX_HEADERS {
            return Err(Unclear::ambiguous("the request has too many fields"));
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unfit(&error))?;
        if name == COOKIE && std::str::from_utf8(value).is_err() {
            // They go back without ours, and an answer has no form for them.
            return Err(Unclear::ambiguous("a cookie of the request is no UTF-8, which can't be told to this proxy"));
        }
        fields.append(name, HeaderValue::from_bytes(value).map_err(|error| unfit(&error))?);
    }
    Ok(fields)
}

/// What may pass, told to Envoy; `None` where that can't be said in its words.
fn pass(answer: &HeaderMap, of_client: &HeaderMap, ip: IpAddr) -> Option<CheckResponse> {
    let is_empty = |name: &HeaderName| answer.get(name).is_none_or(HeaderValue::is_empty);
    // What of the client's fields would speak for us goes, whatever we set of it.
    let stripped = |name: &&HeaderName| headers::is_stripped(name) && !is_envoys(name) && is_empty(name);
    let spoken = of_client.keys().filter(stripped);
    let mut headers_to_remove: Vec<String> = spoken.map(ToString::to_string).collect();
    if is_empty(&COOKIE) {
        headers_to_remove.push(COOKIE.to_string());
    }
    // Envoy puts the address behind those that its client says, and apps believe the first.
    let (name, from) = (X_FORWARDED_FOR, HeaderValue::from_str(&ip.to_string()).ok()?);
    let said = answer.iter().filter(|(_, value)| !value.is_empty()).chain([(&name, &from)]);
    let headers = said.map(|(name, value)| option(name, value)).collect::<Option<_>>()?;
    Some(CheckResponse {
        status: Some(message::Status { code: 0, message: String::new() }),
        ok_response: Some(message::OkHttpResponse { headers, headers_to_remove }),
        denied_response: None,
    })
}

/// What Envoy itself says to upstreams, having taken away what its client said of it.
fn is_envoys(name: &HeaderName) -> bool {
    let own = ["x-forwarded-for", "x-forwarded-proto", "x-envoy-external-address", "x-envoy-internal"];
    own.contains(&name.as_str())
}

async fn refuse(response: Response<Body>) -> CheckResponse {
    let (parts, body) = response.into_parts();
    let page = Limited::new(body, MAX_PAGE_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut fields = parts.headers;
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Framing and the host's own promises are the proxy's to make.
    fields.remove(CONTENT_LENGTH);
    fields.remove(STRICT_TRANSPORT_SECURITY);
    let headers = fields.iter().filter_map(|(name, value)| option(name, value)).collect();
    CheckResponse {
        status: Some(message::Status { code: Status::PermissionDenied.code().into(), message: String::new() }),
        ok_response: None,
        denied_response: Some(message::DeniedHttpResponse {
            status: Some(message::HttpStatus { code: parts.status.as_u16().into() }),
            headers,
            body: String::from_utf8(page.into()).unwrap_or_default(),
        }),
    }
}

/// A field in the place of any other of that name. What is no text is never told as another text.
fn option(name: &HeaderName, value: &HeaderValue) -> Option<message::HeaderValueOption> {
    let value = std::str::from_utf8(value.as_bytes()).ok()?.to_owned();
    Some(message::HeaderValueOption {
        header: Some(message::HeaderValue { key: name.to_string(), value, raw_value: bytes::Bytes::new() }),
        // Said outright: what an absent one means has changed between versions of Envoy.
        append: Some(false),
    })
}

#[cfg(test)]
mod tests {
    use vouchsafe_model::decision::Reason;

    use super::*;

    fn with(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    #[test]
    fn what_is_no_text_is_refused_and_never_told_as_another_text() {
        let asked = |name: &str, value: &[u8]| message::HttpRequest {
            header_map: Some(message::HeaderMap {
                headers: vec![message::HeaderValue {
                    key: name.to_owned(),
                    value: String::new(),
                    raw_value: value.to_vec().into(),
                }],
            }),
            ..Default::default()
        };
        assert_eq!(fields(&asked("cookie", b"a=\xe9")).unwrap_err().reason, Reason::Ambiguous);
        assert_eq!(fields(&asked("cookie", "a=é".as_bytes())).unwrap()["cookie"].as_bytes(), "a=é".as_bytes());
        assert_eq!(fields(&asked("x-name", b"\xe9")).unwrap()["x-name"].as_bytes(), b"\xe9");
        let ip = IpAddr::from([192, 0, 2, 7]);
        assert!(pass(&with(&[("cookie", b"a=\xe9")]), &HeaderMap::new(), ip).is_none());
        assert!(pass(&with(&[("cookie", b"a=b")]), &HeaderMap::new(), ip).is_some());
    }

    #[test]
    fn envoy_is_told_what_to_take_away_and_where_the_client_is() {
        let of_client = with(&[
            ("x-forwarded-for", b"203.0.113.9, 192.0.2.7"),
            ("x-forwarded-host", b"evil"),
            ("x-envoy-external-address", b"192.0.2.7"),
            ("x-envoy-peer-metadata", b"evil"),
            ("remote-user", b"root"),
            ("x-vouchsafe-assertion", b"x.y.z"),
            ("accept", b"*/*"),
            ("cookie", b"__Host-vouchsafe=x"),
        ]);
        let answer = with(&[("x-vouchsafe-assertion", b"a.b.c"), ("cookie", b"")]);
        let answer = pass(&answer, &of_client, IpAddr::from([192, 0, 2, 7])).unwrap().ok_response.unwrap();
        let mut removed = answer.headers_to_remove;
        removed.sort();
        assert_eq!(removed, ["cookie", "remote-user", "x-envoy-peer-metadata", "x-forwarded-host"]);
        let set = answer.headers.iter().map(|option| {
            let field = option.header.as_ref().unwrap();
            assert_eq!(option.append, Some(false));
            (field.key.as_str(), field.value.as_str())
        });
        let set: Vec<_> = set.collect();
        assert_eq!(set, [("x-vouchsafe-assertion", "a.b.c"), ("x-forwarded-for", "192.0.2.7")]);
    }
}
