//! One reading of an HTTP request, or none. Specification: `docs/spec/canonical-request.md`.
//!
//! The string that is decided on is the string that is recorded and sent upstream. What cannot
//! be brought to one form without loss, or what two parsers could read differently, is refused,
//! never repaired (RFC 3986 §6, RFC 9110 §4.2.3 leave room for both).

use vouchsafe_model::action::Action;

/// Longest path accepted, bytes: what a record keeps whole, so that what was decided on is on record.
pub const MAX_PATH_BYTES: usize = crate::audit::MAX_TEXT_BYTES;
/// Longest query accepted, bytes.
pub const MAX_QUERY_BYTES: usize = 16_384;

/// The canonical form of a request's method, path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalTarget {
    method: String,
    path: String,
    query: Option<String>,
}

/// Why a request has no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// The method is not 1 to 20 upper-case letters or hyphens, or one that no app may get
    /// (CONNECT, TRACE).
    #[error("method is not acceptable")]
    Method,
    /// The path does not start with exactly one `/`, or is too long.
    #[error("path does not have the form `/segment/…`")]
    PathForm,
    /// An empty segment (`//`), which some servers merge and some don't.
    #[error("path has an empty segment")]
    EmptySegment,
    /// A `.` or `..` segment, plain or encoded.
    #[error("path has a dot segment")]
    DotSegment,
    /// `%2F`, `%5C` or `\`: a separator to some servers.
    #[error("path has an encoded slash or a backslash")]
    HiddenSeparator,
    /// `;` or `%3B`: starts a parameter to some servers.
    #[error("path has a path parameter")]
    PathParameter,
    /// A control byte, plain or encoded, such as NUL, CR, LF or TAB.
    #[error("path has a control character")]
    Control,
    /// A `%` without two hexadecimal digits behind it, or a percent-encoding inside another.
    #[error("path has a malformed or double percent-encoding")]
    PercentEncoding,
    /// The decoded path is not UTF-8.
    #[error("path is not UTF-8")]
    Utf8,
    /// A character that must be encoded in a path, or a fragment.
    #[error("path has a character that must be percent-encoded")]
    Character,
    /// The query has a control character, white space, non-ASCII or a fragment, or is too long.
    #[error("query is not acceptable")]
    Query,
}

impl CanonicalTarget {
    /// Reads method and origin-form target (`/path?query`) as they came off the wire.
    ///
    /// # Errors
    /// [`Ambiguity`] names the rule that the request breaks.
    pub fn parse(method: &str, target: &str) -> Result<Self, Ambiguity> {
        let method = canonical_method(method)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = canonical_path(path)?;
        let query = query.map(check_query).transpose()?;
        Ok(Self { method, path, query })
    }

    /// Upper-case method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Canonical path: unreserved characters plain, everything else encoded with upper-case digits.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Query without `?`, unchanged.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query as they go upstream.
    #[must_use]
    pub fn to_target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The action that the method alone stands for (DESIGN §2); an upgrade is the caller's to see.
    #[must_use]
    pub fn action(&self) -> Action {
        match self.method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => Action::HttpRead,
            _ => Action::HttpWrite,
        }
    }
}

fn canonical_method(method: &str) -> Result<String, Ambiguity> {
    let shape =
        (1..=20).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !shape || matches!(method, "CONNECT" | "TRACE" | "TRACK" | "PRI") {
        return Err(Ambiguity::Method);
    }
    Ok(method.to_owned())
}

fn canonical_path(path: &str) -> Result<String, Ambiguity> {
    if !path.starts_with('/') || path.len() > MAX_PATH_BYTES {
        return Err(Ambiguity::PathForm);
    }
    let mut canonical = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_encoded) = match byte {
            b'%' => (percent_value(&mut bytes)?, true),
            other => (other, false),
        };
        push_byte(&mut canonical, value, was_encoded)?;
        decoded.push(value);
    }
    let decoded = std::str::from_utf8(&decoded).map_err(|_| Ambiguity::Utf8)?;
    if has_nested_encoding(decoded.as_bytes()) {
        return Err(Ambiguity::PercentEncoding);
    }
    check_segments(decoded)?;
    Ok(canonical)
}

fn percent_value(bytes: &mut std::str::Bytes<'_>) -> Result<u8, Ambiguity> {
    let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
    let (high, low) = (digit().ok_or(Ambiguity::PercentEncoding)?, digit().ok_or(Ambiguity::PercentEncoding)?);
    u8::try_from(high * 16 + low).map_err(|_| Ambiguity::PercentEncoding)
}

/// Appends one byte of the path in its only canonical spelling.
fn push_byte(canonical: &mut String, value: u8, was_encoded: bool) -> Result<(), Ambiguity> {
    match value {
        0..=0x1f | 0x7f => Err(Ambiguity::Control),
        b'\\' => Err(Ambiguity::HiddenSeparator),
        b'/' if was_encoded => Err(Ambiguity::HiddenSeparator),
        b';' => Err(Ambiguity::PathParameter),
        b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            canonical.push(char::from(value));
            Ok(())
        }
        // Sub-delimiters, `:` and `@` may stand plain or encoded, and the two need not mean the
        // same to an app (RFC 3986 §2.2): each keeps its spelling.
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' if !was_encoded => {
            canonical.push(char::from(value));
            Ok(())
        }
        // Browsers leave these plain though RFC 3986 does not allow it; all servers decode them alike.
        b'|' | b'^' | b'[' | b']' => push_encoded(canonical, value),
        0x80..=0xff if !was_encoded => Err(Ambiguity::Character),
        _ if was_encoded => push_encoded(canonical, value),
        _ => Err(Ambiguity::Character),
    }
}

fn push_encoded(canonical: &mut String, value: u8) -> Result<(), Ambiguity> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    canonical.push('%');
    for nibble in [value >> 4, value & 0x0f] {
        canonical.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
    }
    Ok(())
}

fn has_nested_encoding(decoded: &[u8]) -> bool {
    decoded
        .windows(3)
        .any(|window| matches!(window, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

fn check_segments(decoded: &str) -> Result<(), Ambiguity> {
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment.is_empty() && !is_last {
            return Err(Ambiguity::EmptySegment);
        }
        // Some servers trim or ignore what stands around the dots; full-width dots and slashes
        // become plain ones under Unicode normalisation (NFKC).
        let bare: String =
            segment.chars().filter(|c| !c.is_whitespace()).map(|c| if c == '．' { '.' } else { c }).collect();
        if !bare.is_empty() && bare.chars().all(|c| c == '.') && bare.len() <= 3 {
            return Err(Ambiguity::DotSegment);
        }
        if segment.contains(['／', '＼', '∕', '⁄']) {
            return Err(Ambiguity::HiddenSeparator);
        }
    }
    Ok(())
}

fn check_query(query: &str) -> Result<String, Ambiguity> {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'#';
    if query.len() <= MAX_QUERY_BYTES && query.bytes().all(plain) {
        Ok(query.to_owned())
    } else {
        Err(Ambiguity::Query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Result<String, Ambiguity> {
        CanonicalTarget::parse("GET", text).map(|target| target.to_target())
    }

    #[test]
    fn a017_to_a027_paths_with_two_readings_are_refused() {
        for bad in [
            "/public/../admin",
            "/public/./admin",
            "/public/..%2fadmin",
            "/public/%2f..%2fadmin",
            "/public/%2e%2e/admin",
            "/public/%252e%252e/admin",
            "/%2561dmin",
            "/public/..;/admin",
            "/admin;x=/public/",
            "/public;/../admin",
            "/a%3bb",
            "/public/%00/../admin",
            "/admin%00.css",
            "/admin%09",
            "/admin%0d%0aX:1",
            "/admin\t",
            "/public/%c0%ae%c0%ae/admin",
            "/%e0%80%ae",
            "/%ff",
            "/public/．．/admin",
            "/public/%ef%bc%8e%ef%bc%8e/admin",
            "/a%ef%bc%8fb",
            "//admin",
            "/public//admin",
            "/a\\b",
            "/a%5cb",
            "admin",
            "",
            "*",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a b",
            "/a#b",
            "/a\"b",
            "/é",
            "/public/..%20/admin",
            "/public/%20../x",
            "/...",
            "/a?b#c",
            "/a?b c",
            "/a?\u{e9}",
            "https://app/admin",
        ] {
            assert!(path(bad).is_err(), "{bad:?} was accepted as {:?}", path(bad));
        }
    }

    #[test]
    fn a031_methods_with_two_readings_are_refused() {
        for bad in ["GeT", "GET ", "get", "TRACE", "CONNECT", "", "G3T", "GET\r", "ABCDEFGHIJKLMNOPQRSTU"] {
            assert_eq!(CanonicalTarget::parse(bad, "/").map(|_| ()), Err(Ambiguity::Method), "{bad:?}");
        }
    }

    #[test]
    fn usual_paths_have_one_spelling() {
        for (given, canonical) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/%61b", "/ab"),
            ("/a%2Db", "/a-b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a|b", "/a%7Cb"),
            ("/a,b:c@d", "/a,b:c@d"),
            ("/a%2cb", "/a%2Cb"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b", "/a..b"),
            ("/x?y=%2e%2e/&z=;", "/x?y=%2e%2e/&z=;"),
            ("/a?", "/a?"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(path(given).as_deref(), Ok(canonical), "{given}");
        }
    }

    proptest! {
        #[test]
        fn canonical_of_canonical_is_the_same(text in "/[!-~é%0-9a-f/.]{0,40}") {
            if let Ok(once) = path(&text) {
                prop_assert_eq!(path(&once), Ok(once));
            }
        }

        #[test]
        fn decoding_an_accepted_path_twice_changes_nothing(text in "/(%[0-9a-f]{2}|[a-z./%])+") {
            if let Ok(target) = CanonicalTarget::parse("GET", &text) {
                let once = decode(target.path().as_bytes());
                prop_assert!(!once.windows(2).any(|pair| pair == b".." ) || !String::from_utf8_lossy(&once).split('/').any(|s| s == ".."));
                prop_assert_eq!(once.iter().filter(|b| **b == b'/').count(), target.path().matches('/').count());
                prop_assert_eq!(decode(&once), once.clone());
            }
        }

        #[test]
        fn parsing_never_panics(method in ".{0,30}", target in ".{0,200}") {
            let _ = CanonicalTarget::parse(&method, &target);
        }
    }

    fn decode(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let hex = bytes
                .get(at + 1..at + 3)
                .and_then(|pair| std::str::from_utf8(pair).ok())
                .and_then(|pair| u8::from_str_radix(pair, 16).ok());
            match (bytes[at], hex) {
                (b'%', Some(value)) => {
                    out.push(value);
                    at += 3;
                }
                (byte, _) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        out
    }
}
