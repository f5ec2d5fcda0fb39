//! The head of a request to the local proxy, without I/O (RFC 9112 §2 to §3): only what is
//! needed to tell the four kinds apart, and strict, since nothing but tools of this user send it.

use vouchsafe_wire::authority::Authority;

/// Longest head, bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `CONNECT host:port`
    Connect { target: Authority, port: u16 },
    /// `GET http://host/path`: to be proxied in the clear.
    Absolute { method: String, target: Authority, path: String },
    /// `GET /path`: of this proxy itself.
    Own { method: String, path: String, host: String },
}

/// A head that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) asked: Asked,
    /// Where the head ends and what follows begins.
    pub(crate) length: usize,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the request head is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    #[error("the request is not well-formed HTTP/1.1")]
    Malformed,
    #[error("the target has to be `host:port` with a name, since resources have names and no addresses")]
    Target,
}

/// Reads a head from the start of what has come so far; `None` when more is needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let within = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
    let Some(end) = within.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= MAX_HEAD_BYTES { Err(HeadError::TooLong) } else { Ok(None) };
    };
    let text = within.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or(HeadError::Malformed)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadError::Malformed);
    };
    if !is_token(method) || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HeadError::Malformed);
    }
    let mut host = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(HeadError::Malformed)?;
        if !is_token(name) || value.contains(['\r', '\n', '\0']) {
            return Err(HeadError::Malformed);
        }
        if name.eq_ignore_ascii_case("host") && host.replace(value.trim_matches([' ', '\t'])).is_some() {
            return Err(HeadError::Malformed);
        }
    }
    let asked = asked(method, target, host.unwrap_or_default())?;
    Ok(Some(Head { asked, length: end + 4 }))
}

fn asked(method: &str, target: &str, host: &str) -> Result<Asked, HeadError> {
    if method == "CONNECT" {
        let target = Authority::parse(target).map_err(|_| HeadError::Target)?;
        let port = target.port.ok_or(HeadError::Target)?;
        return Ok(Asked::Connect { target, port });
    }
    let method = method.to_owned();
    if target.starts_with('/') {
        return Ok(Asked::Own { method, path: target.to_owned(), host: host.to_owned() });
    }
    let rest = target.strip_prefix("http://").ok_or(HeadError::Target)?;
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let target = Authority::parse(authority).map_err(|_| HeadError::Target)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Asked::Absolute { method, target, path })
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Asked, HeadError> {
        parse(text.as_bytes()).map(|head| head.expect("whole").asked)
    }

    #[test]
    fn the_kinds_are_told_apart() {
        let name = |host: &str, port| Authority { host: host.into(), port };
        assert_eq!(
            read("CONNECT Wiki.corp.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Ok(Asked::Connect { target: name("wiki.corp.example", Some(443)), port: 443 })
        );
        assert_eq!(
            read("GET http://wiki.corp.example?q=1 HTTP/1.1\r\n\r\n"),
            Ok(Asked::Absolute { method: "GET".into(), target: name("wiki.corp.example", None), path: "/?q=1".into() })
        );
        assert_eq!(
            read("GET /proxy.pac HTTP/1.0\r\nA: b\r\nhost:  127.0.0.1:1080 \r\n\r\n"),
            Ok(Asked::Own { method: "GET".into(), path: "/proxy.pac".into(), host: "127.0.0.1:1080".into() })
        );
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "CONNECT wiki.corp.example HTTP/1.1\r\n\r\n",
            "CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
            "CONNECT a@b:443 HTTP/1.1\r\n\r\n",
            "GET https://wiki.corp.example/ HTTP/1.1\r\n\r\n",
            "GET http://user@wiki.corp.example/ HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_endless_head_is_not_waited_for() {
        let long = vec![b'a'; MAX_HEAD_BYTES];
        assert_eq!(parse(&long), Err(HeadError::TooLong));
        assert_eq!(parse(&long[..MAX_HEAD_BYTES - 1]), Ok(None));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_never_takes_more_than_there_is(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(Some(head)) = parse(&bytes) { prop_assert!(head.length <= bytes.len()); }
        }

        #[test]
        fn a_head_is_whole_exactly_at_its_end(cut in 0usize..60, rest in "[a-z]{0,20}") {
            let head = "CONNECT wiki.corp.example:443 HTTP/1.1\r\nHost: wiki\r\n\r\n";
            let whole = parse(format!("{head}{rest}").as_bytes()).unwrap().unwrap();
            prop_assert_eq!(whole.length, head.len());
            let cut = cut.min(head.len() - 1);
            prop_assert_eq!(parse(&head.as_bytes()[..cut]), Ok(None));
        }
    }
}
