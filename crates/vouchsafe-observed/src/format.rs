//! What a line of a log says, whichever program wrote it.

use std::borrow::Cow;

use vouchsafe_model::action::Action;

/// What one record of a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read<'l> {
    /// Somebody was let in.
    Access(Access<'l>),
    /// Somebody was refused, or it isn't sure that she was let in.
    Refused,
    /// It is about something else.
    Other,
    /// It can't be read, and why.
    Malformed(&'static str),
}

/// Somebody was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access<'l> {
    /// The name that the program knows her by; `None` for nobody.
    pub(crate) user: Option<Cow<'l, str>>,
    /// Host, backend or database that was reached, where the log tells.
    pub(crate) place: Option<Cow<'l, str>>,
    /// What was done.
    pub(crate) action: Action,
    /// When, unix seconds.
    pub(crate) at: u64,
}

/// Why a name is malformed.
pub(crate) const NO_TEXT: &str = "a name in it is no text (UTF-8)";
pub(crate) const NO_TIME: &str = "its time can't be read";

/// What a status and a request line come to: the action, or that nobody was surely let in.
pub(crate) enum Exchange {
    Let(Action),
    Refused,
    Malformed(&'static str),
}

/// Whether the server let the request in, and what it was. A server that asks for a password writes the name
/// down that was tried, also where the password was wrong.
pub(crate) fn exchange(status: &[u8], method: impl FnOnce() -> Option<Method>) -> Exchange {
    let [hundreds @ b'0'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = status else {
        // HAProxy writes -1 for a request that ended before there was an answer.
        return if status == b"-1" {
            Exchange::Refused
        } else {
            Exchange::Malformed("its status is no number of three digits")
        };
    };
    let status = [hundreds, tens, ones].iter().fold(0_u16, |sum, byte| sum * 10 + u16::from(**byte - b'0'));
    match status {
        101 => Exchange::Let(Action::HttpUpgrade),
        200..=399 | 404 | 405 | 409 | 410 | 412 | 416 | 422 => match method() {
            Some(Method::Reads) => Exchange::Let(Action::HttpRead),
            Some(Method::Writes) => Exchange::Let(Action::HttpWrite),
            Some(Method::Connects) => Exchange::Let(Action::HttpUpgrade),
            None => Exchange::Malformed("its request has no method, or no version of HTTP"),
        },
        _ => Exchange::Refused,
    }
}

/// What a method does, as the gateway takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Reads,
    Writes,
    Connects,
}

pub(crate) fn method(name: &[u8]) -> Option<Method> {
    let is_name = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
    match name {
        b"GET" | b"HEAD" | b"OPTIONS" => Some(Method::Reads),
        b"CONNECT" => Some(Method::Connects),
        _ if (1..=32).contains(&name.len()) && name.iter().all(is_name) => Some(Method::Writes),
        _ => None,
    }
}

/// The method of `GET /path HTTP/1.1`.
pub(crate) fn request_line(line: &[u8]) -> Option<Method> {
    let (name, rest) = line.split_at_checked(line.iter().position(|byte| *byte == b' ')?)?;
    let version = rest.get(rest.iter().rposition(|byte| *byte == b' ')?..)?;
    (version.starts_with(b" HTTP/") && rest.len() > version.len()).then_some(())?;
    method(name)
}

/// A field as text; `None` when it isn't.
pub(crate) fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// A host name in lower case and without a port.
pub(crate) fn host(name: Cow<'_, str>) -> Cow<'_, str> {
    let end = match name.rsplit_once(':') {
        Some((before, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => before.len(),
        _ => name.len(),
    };
    if end == name.len() && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return name;
    }
    Cow::Owned(name.get(..end).unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_let_in_counts() {
        let of = |status: &[u8], line: &[u8]| match exchange(status, || request_line(line)) {
            Exchange::Let(action) => action.as_str(),
            Exchange::Refused => "refused",
            Exchange::Malformed(_) => "malformed",
        };
        assert_eq!(of(b"200", b"GET / HTTP/1.1"), "http:read");
        assert_eq!(of(b"404", b"HEAD /x HTTP/2.0"), "http:read");
        assert_eq!(of(b"302", b"POST /a b HTTP/1.1"), "http:write");
        assert_eq!(of(b"207", b"PROPFIND / HTTP/1.1"), "http:write");
        assert_eq!(of(b"101", b"GET /ws HTTP/1.1"), "http:upgrade");
        assert_eq!(of(b"200", b"CONNECT x:1 HTTP/1.1"), "http:upgrade");
        for refused in [&b"401"[..], b"403", b"400", b"407", b"429", b"444", b"499", b"500", b"000", b"-1"] {
            assert_eq!(of(refused, b"\\x16\\x03"), "refused");
        }
        for (status, line) in [
            (&b"20"[..], &b"GET / HTTP/1.1"[..]),
            (b"2000", b"GET / HTTP/1.1"),
            (b"200", b"GET /"),
            (b"200", b"-"),
            (b"200", b"G T / HTTP"),
            (b"200", b"GET HTTP/1.1"),
        ] {
            assert_eq!(of(status, line), "malformed");
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (given, meant) in
            [("Wiki.Example:8443", "wiki.example"), ("wiki", "wiki"), ("[::1]:80", "[::1]"), ("a:b", "a:b")]
        {
            assert_eq!(host(Cow::Borrowed(given)), meant);
        }
    }
}
