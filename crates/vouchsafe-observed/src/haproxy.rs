//! HAProxy's HTTP log (`option httplog`, section 8.2.3 of its manual). It has no user; who it was stands in a
//! header that HAProxy captured, where it was told to.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use memchr::{memchr, memmem};

use crate::format::{Access, Exchange, NO_TEXT, NO_TIME, Read, exchange, host, request_line, text};
use crate::time::{self, Clock};

/// What HAProxy was told to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Captures {
    /// Which captured header of the request says who it was, from 1.
    pub user: Option<usize>,
    /// Which says for what host; else it is the backend that tells.
    pub host: Option<usize>,
}

const NO_FORM: &str = "it doesn't have the form of `option httplog`";

pub(crate) fn read<'l>(line: &'l [u8], captures: Captures, clock: &Clock) -> Read<'l> {
    let Some(parts) = parts(line) else { return Read::Malformed(NO_FORM) };
    let action = match exchange(parts.status, || request_line(parts.request)) {
        Exchange::Let(action) => action,
        Exchange::Refused => return Read::Refused,
        Exchange::Malformed(why) => return Read::Malformed(why),
    };
    let Some(at) = time::common(parts.time, clock) else { return Read::Malformed(NO_TIME) };
    let captured = |number: Option<usize>| {
        let value = parts.captured?.split(|byte| *byte == b'|').nth(number?.checked_sub(1)?)?;
        (!value.is_empty() && value != b"-").then_some(value)
    };
    let said = |value: Option<&'l [u8]>| value.map_or(Some(None), |value| text(unescaped(value)?).map(Some));
    let place = if captures.host.is_some() { captured(captures.host) } else { Some(parts.backend) };
    let (Some(user), Some(place)) = (said(captured(captures.user)), said(place)) else {
        return Read::Malformed(NO_TEXT);
    };
    let place = if captures.host.is_some() { place.map(host) } else { place };
    Read::Access(Access { user, place, action, at })
}

struct Parts<'l> {
    time: &'l [u8],
    backend: &'l [u8],
    status: &'l [u8],
    captured: Option<&'l [u8]>,
    request: &'l [u8],
}

/// `[header ]client [time] frontend backend/server timers status bytes cookie cookie state conns queues[ {…}[ {…}]] "request"`
fn parts(line: &[u8]) -> Option<Parts<'_>> {
    let opened = memmem::find(line, b" [")?;
    // What syslog puts in front ends with the number of the process, which no blank stands before.
    let client = line.get(..opened)?;
    let client = memmem::rfind(client, b"]: ").map_or(Some(client), |at| client.get(at + 3..))?;
    let client = std::str::from_utf8(client).ok()?;
    let known = client.parse::<SocketAddr>().is_ok()
        || client.starts_with("unix:")
        // An IPv6 address has no brackets here.
        || client.rsplit_once(':').is_some_and(|(ip, port)| ip.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_ok());
    known.then_some(())?;
    let rest = line.get(opened + 2..)?;
    let (time, rest) = rest.split_at_checked(memmem::find(rest, b"] ")?)?;
    let mut rest = rest.get(2..)?;
    let mut word = || {
        let (word, after) = rest.split_at_checked(memchr(b' ', rest)?)?;
        rest = after.get(1..)?;
        Some(word)
    };
    let (_frontend, server, _timers, status) = (word()?, word()?, word()?, word()?);
    for _ in 0..6 {
        word()?;
    }
    let backend = server.split_at_checked(memchr(b'/', server)?)?.0;
    let mut captured = None;
    for block in 0..2 {
        let Some(inner) = rest.strip_prefix(b"{") else { break };
        let (inner, after) = inner.split_at_checked(memmem::find(inner, b"} ")?)?;
        rest = after.get(2..)?;
        captured = if block == 0 { Some(inner) } else { captured };
    }
    let request = rest.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!request.contains(&b'"')).then_some(Parts { time, backend, status, captured, request })
}

/// `#22` is a quote (section 8.6).
fn unescaped(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'#') {
        return Some(Cow::Borrowed(value));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'#' {
            let (figures, after) = rest.split_at_checked(2)?;
            plain.push(u8::from_str_radix(std::str::from_utf8(figures).ok()?, 16).ok()?);
            rest = after;
        } else {
            plain.push(*first);
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { offset: None, now: 1_795_788_200 };
    const BOTH: Captures = Captures { user: Some(1), host: None };

    fn told(line: &str, captures: Captures) -> String {
        match read(line.as_bytes(), captures, &CLOCK) {
            Read::Access(Access { user, place, action, .. }) => {
                format!("{} {} {action}", user.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("here"))
            }
            Read::Refused => "refused".to_owned(),
            Read::Other => "other".to_owned(),
            Read::Malformed(why) => why.to_owned(),
        }
    }

    /// The manual's own example, and what else it says that there can be.
    #[test]
    fn lines_as_the_manual_has_them() {
        let manual = "Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in \
                      static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} \"GET /index.html HTTP/1.1\"";
        assert_eq!(told(manual, BOTH), "1wt.eu static http:read");
        assert_eq!(told(manual, Captures::default()), "nobody static http:read");
        let bare = |captured: &str, status: &str, request: &str| {
            format!(
                "::1:33317 [06/Feb/2009:12:14:14.655] http-in~ shop/<NOSRV> 10/0/-1/69/+109 {status} 2750 - - ---- 1/1/1/1/0 0/0 {captured}\"{request}\""
            )
        };
        assert_eq!(told(&bare("{ann b|Wiki:443} ", "204", "PUT / HTTP/2.0"), BOTH), "ann b shop http:write");
        let hosts = Captures { user: Some(1), host: Some(2) };
        assert_eq!(told(&bare("{a#22#7c#c3#b6|Wiki:443} ", "204", "PUT / HTTP/2.0"), hosts), "a\"|ö wiki http:write");
        assert_eq!(told(&bare("{|x} ", "200", "GET / HTTP/1.1"), BOTH), "nobody shop http:read");
        assert_eq!(told(&bare("", "200", "GET / HTTP/1.1"), BOTH), "nobody shop http:read");
        assert_eq!(told(&bare("", "503", "<BADREQ>"), BOTH), "refused");
        assert_eq!(told(&bare("", "-1", "GET / HTTP/1.1"), BOTH), "refused");
        assert_eq!(told(&bare("{#ff} ", "200", "GET / HTTP/1.1"), BOTH), NO_TEXT);
        for bad in [
            "",
            "x [y] z",
            "Feb  6 12:14:14 localhost haproxy[14389]: Proxy http-in started.",
            &bare("{x", "200", "GET / HTTP/1.1"),
            &bare("", "200", "GET /\" HTTP/1.1"),
        ] {
            assert_eq!(told(bad, BOTH), NO_FORM, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), near in "(1.2.3.4:1 \\[06/Feb/2009:12:14:14.655\\] )?[a-z/ {}|#\"0-9-]{0,80}") {
            let _ = read(&bytes, BOTH, &CLOCK);
            let _ = read(near.as_bytes(), BOTH, &CLOCK);
        }

        #[test]
        fn a_captured_name_is_read_back(name in "[^|]{1,12}") {
            let escaped: String = name.bytes().map(|byte| match byte {
                b'{' | b'}' | b'|' | b'"' | b'#' | 0..=31 | 127..=255 => format!("#{byte:02X}"),
                other => char::from(other).to_string(),
            }).collect();
            let line = format!("1.2.3.4:1 [06/Feb/2009:12:14:14.655] f b/s 1/1/1/1/1 200 1 - - ---- 1/1/1/1/0 0/0 {{{escaped}}} \"GET / HTTP/1.1\"");
            let meant = if name == "-" { "nobody" } else { &name };
            prop_assert_eq!(told(&line, BOTH), format!("{} b http:read", meant));
        }
    }
}
