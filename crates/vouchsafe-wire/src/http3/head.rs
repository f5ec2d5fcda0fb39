//! Heads and trailers of HTTP/3, made of field sections: every malformed one is refused as a whole
//! (RFC 9114 §4.1.2).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};

use crate::qpack::{self, Field};

/// A section that is no request, or no trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not what RFC 9114 §4 allows.
    #[error("{0}")]
    Malformed(&'static str),
    /// More fields than are read.
    #[error("it has too many fields")]
    TooMany,
    /// Extended CONNECT to a protocol that nobody here knows.
    #[error("its protocol is not spoken here")]
    Protocol,
}

/// What an extended CONNECT makes of its stream (RFC 9220 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// UDP to a target (RFC 9298 §3.4).
    ConnectUdp,
    /// A WebSocket (RFC 9220).
    WebSocket,
}

/// Fields that speak of a connection have no place here (RFC 9114 §4.2).
const OF_CONNECTIONS: [HeaderName; 3] = [CONNECTION, TRANSFER_ENCODING, UPGRADE];
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[derive(Default)]
struct Pseudo {
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    protocol: Option<Vec<u8>>,
}

/// Makes a request of a field section of at most `max_fields` fields, its pseudo-header fields apart.
/// An extended CONNECT has a protocol.
///
/// # Errors
/// [`HeadError`]: nothing of it may be used.
pub fn request(fields: Vec<Field>, max_fields: usize) -> Result<(Request<()>, Option<Protocol>), HeadError> {
    use HeadError::Malformed;
    let mut pseudo = Pseudo::default();
    let mut rest = fields.into_iter().peekable();
    while let Some(field) = rest.next_if(|field| field.name.starts_with(b":")) {
        let place = match field.name.as_slice() {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            b":protocol" => &mut pseudo.protocol,
            _ => return Err(Malformed("it has a pseudo-header field that no request has")),
        };
        if field.value.is_empty() || place.replace(field.value).is_some() {
            return Err(Malformed("a pseudo-header field is empty or there twice"));
        }
    }
    let headers = fields_of(rest, max_fields)?;
    let Pseudo { method, scheme, authority, path, protocol } = pseudo;
    let method =
        method.and_then(|method| Method::from_bytes(&method).ok()).ok_or(Malformed("it has no good method"))?;
    let is_tunnel = method == Method::CONNECT && protocol.is_none();
    if protocol.is_some() && method != Method::CONNECT {
        return Err(Malformed("only CONNECT has a protocol"));
    }
    if is_tunnel && (scheme.is_some() || path.is_some() || authority.is_none()) {
        return Err(Malformed("CONNECT has an authority alone"));
    }
    if !is_tunnel && (scheme.is_none() || path.is_none()) {
        return Err(Malformed("it has no scheme or no path"));
    }
    if protocol.is_some() && authority.is_none() {
        return Err(Malformed("extended CONNECT has an authority"));
    }
    let is_asterisk = method == Method::OPTIONS && path.as_deref() == Some(b"*");
    if !is_asterisk && path.as_ref().is_some_and(|path| !path.starts_with(b"/")) {
        return Err(Malformed("its path does not begin with a slash"));
    }
    let mut parts = http::uri::Parts::default();
    parts.authority = authority
        .map(|text| Authority::try_from(&*text))
        .transpose()
        .map_err(|_| Malformed("its authority is none"))?;
    // A URI of the library can't have a scheme without an authority; `Host` stands for both then.
    if parts.authority.is_some() {
        parts.scheme =
            scheme.map(|text| Scheme::try_from(&*text)).transpose().map_err(|_| Malformed("its scheme is none"))?;
    }
    // A fragment is no part of it (RFC 9114 §4.3.1), and would be cut off without a word.
    if path.as_ref().is_some_and(|text| text.contains(&b'#')) {
        return Err(Malformed("its path has a fragment"));
    }
    parts.path_and_query =
        path.map(|text| PathAndQuery::try_from(&*text)).transpose().map_err(|_| Malformed("its path is none"))?;
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_3;
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Malformed("its parts make no URI"))?;
    *request.headers_mut() = headers;
    let protocol = match protocol.as_deref() {
        None => None,
        Some(b"connect-udp") => Some(Protocol::ConnectUdp),
        Some(b"websocket") => Some(Protocol::WebSocket),
        Some(_) => return Err(HeadError::Protocol),
    };
    Ok((request, protocol))
}

/// Makes trailers of a field section of at most `max_fields` fields.
///
/// # Errors
/// [`HeadError`]: the message they end is malformed.
pub fn trailers(fields: Vec<Field>, max_fields: usize) -> Result<HeaderMap, HeadError> {
    fields_of(fields.into_iter(), max_fields)
}

fn fields_of(fields: impl Iterator<Item = Field>, max_fields: usize) -> Result<HeaderMap, HeadError> {
    use HeadError::Malformed;
    let mut headers = HeaderMap::new();
    let mut cookies: Vec<u8> = Vec::new();
    for (count, Field { name, value }) in fields.enumerate() {
        if count >= max_fields {
            return Err(HeadError::TooMany);
        }
        // Upper case and colons are refused here too, but a quotation mark, which no token has
        // (RFC 9110 §5.6.2), is not.
        let name = HeaderName::from_lowercase(&name).ok().filter(|name| !name.as_str().contains('"'));
        let name = name.ok_or(Malformed("a field name is none"))?;
        let of_connection = OF_CONNECTIONS.contains(&name) || name == KEEP_ALIVE || name == PROXY_CONNECTION;
        if of_connection || (name == TE && value != b"trailers") {
            return Err(Malformed("a field speaks of a connection"));
        }
        if value.first().is_some_and(u8::is_ascii_whitespace) || value.last().is_some_and(u8::is_ascii_whitespace) {
            return Err(Malformed("a field value begins or ends with white space"));
        }
        if name == COOKIE {
            // They may come in crumbs, which are one field to everybody else (RFC 9114 §4.2.1).
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(&value);
            continue;
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| Malformed("a value is none"))?;
        headers.append(name, value);
    }
    if !cookies.is_empty() {
        let value = HeaderValue::from_maybe_shared(Bytes::from(cookies));
        headers.insert(COOKIE, value.map_err(|_| Malformed("a cookie is none"))?);
    }
    Ok(headers)
}

/// The length that a message announces, if it does.
///
/// # Errors
/// [`HeadError::Malformed`] when it can't be read in exactly one way.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let wrong = HeadError::Malformed("its length is none, or there are several");
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return if headers.contains_key(CONTENT_LENGTH) { Err(wrong) } else { Ok(None) };
    };
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    length.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(wrong)
}

/// The field section of an answer.
#[must_use]
pub fn answer(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let status: (&[u8], &[u8]) = (b":status", status.as_str().as_bytes());
    qpack::encode(std::iter::once(status).chain(sendable(headers)))
}

/// The field section of trailers.
#[must_use]
pub fn answer_trailers(headers: &HeaderMap) -> Vec<u8> {
    qpack::encode(sendable(headers))
}

fn sendable(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().filter_map(|(name, value)| {
        let of_connection = OF_CONNECTIONS.contains(name) || *name == KEEP_ALIVE || *name == PROXY_CONNECTION;
        (!of_connection).then(|| (name.as_str().as_bytes(), value.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "app.corp.example"), (":path", "/")];

    fn read(fields: &[(&str, &str)]) -> Result<Request<()>, HeadError> {
        let fields = fields.iter().map(|(name, value)| Field { name: (*name).into(), value: (*value).into() });
        request(fields.collect(), 100).map(|(request, _)| request)
    }

    fn with(more: &[(&str, &str)]) -> Result<Request<()>, HeadError> {
        read(&[&GET, more].concat())
    }

    #[test]
    fn a_request_is_read() {
        let request = with(&[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")]).unwrap();
        assert_eq!(request.uri(), "https://app.corp.example/");
        assert_eq!(
            (request.headers()["x-a"].as_bytes(), request.headers()["cookie"].as_bytes()),
            (&b"1"[..], &b"a=1; b=2"[..])
        );
        let connect = read(&[(":method", "CONNECT"), (":authority", "db.corp.example:5432")]).unwrap();
        assert!(connect.uri().authority().is_some() && connect.uri().path_and_query().is_none());
    }

    #[test]
    fn a030_a065_a066_malformed_requests_are_refused() {
        for sample in [
            &[("transfer-encoding", "chunked")][..],
            &[("connection", "close")],
            &[("upgrade", "h2c")],
            &[("keep-alive", "1")],
            &[("proxy-connection", "close")],
            &[("te", "gzip")],
            &[("X-Upper", "1")],
            &[("x-a", "a\r\nx-evil: 1")],
            &[("x-a", " leading")],
            &[("x:a", "1")],
            &[("x\"a", "1")],
            &[("x-a", "1"), (":path", "/admin")],
            &[(":path", "/admin")],
            &[(":status", "200")],
            &[(":protocol", "connect-udp")],
            &[("", "1")],
        ] {
            assert!(matches!(with(sample), Err(HeadError::Malformed(_))), "{sample:?}");
        }
        for sample in [
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a")][..],
            &[(":method", "GET"), (":authority", "a"), (":path", "/")],
            &[(":scheme", "https"), (":authority", "a"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "")],
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "admin")],
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "*")],
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/a#b")],
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a b"), (":path", "/")],
            &[(":method", "GE T"), (":scheme", "https"), (":authority", "a"), (":path", "/")],
            &[(":method", "CONNECT"), (":scheme", "https"), (":authority", "a:1"), (":path", "/")],
            &[(":method", "CONNECT"), (":protocol", "connect-udp"), (":authority", "a:1")],
        ] {
            assert!(matches!(read(sample), Err(HeadError::Malformed(_))), "{sample:?}");
        }
    }

    #[test]
    fn a065_lengths_are_plain_and_one() {
        let length = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            content_length(with(&fields).unwrap().headers())
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["12"]), Ok(Some(12)));
        for wrong in [&["1", "1"][..], &["1, 1"], &["+1"], &["-1"], &["0x1"], &[""], &["99999999999999999999"]] {
            assert!(length(wrong).is_err(), "{wrong:?}");
        }
    }
}
