//! One reading of an HTTP request, or none. Specification: `docs/spec/canonical-request.md`.
//!
//! The string that is decided on is the string that is recorded and sent upstream. What cannot
//! be brought to one form without loss, or what two parsers could read differently, is refused,
//! never repaired (RFC 3986 §6, RFC 9110 §4.2.3 leave room for both).

use vouchsafe_model::action::Action;
use vouchsafe_model::resource::{Leeway, PathCase, PathRules};

/// Longest path accepted, bytes: what a record keeps whole, so that what was decided on is on record.
pub const MAX_PATH_BYTES: usize = crate::audit::MAX_TEXT_BYTES;
/// Longest query accepted, bytes.
pub const MAX_QUERY_BYTES: usize = 16_384;

/// The canonical form of a request's method, path and query, under the rules of one resource.
///
/// There is no way to make one but [`CanonicalTarget::parse`]:
///
/// ```compile_fail,E0451
/// use vouchsafe_wire::canonical::CanonicalTarget;
/// let forged = CanonicalTarget { method: "GET".into(), path: "/../".into(), query: None, readings: vec![] };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalTarget {
    method: String,
    path: String,
    query: Option<String>,
    readings: Vec<String>,
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
    /// A character whose lower case is not the same to everybody, where case is folded.
    #[error("path has a character whose case is not plain")]
    Case,
    /// The query has a control character, white space, non-ASCII, `"`, `<`, `>` or a fragment, or is
    /// too long.
    #[error("query is not acceptable")]
    Query,
}

impl CanonicalTarget {
    /// Reads method and origin-form target (`/path?query`) as they came off the wire.
    ///
    /// # Errors
    /// [`Ambiguity`] names the rule that the request breaks.
    pub fn parse(method: &str, target: &str, rules: PathRules) -> Result<Self, Ambiguity> {
        let method = canonical_method(method)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = canonical_path(path, rules)?;
        let query = query.map(check_query).transpose()?;
        let readings = other_readings(&path);
        Ok(Self { method, path, query, readings })
    }

    /// The same request under the rules of another resource.
    ///
    /// # Errors
    /// [`Ambiguity`] names the rule that it breaks there.
    pub fn under(self, rules: PathRules) -> Result<Self, Ambiguity> {
        if self.stands_under(rules) {
            return Ok(self);
        }
        let path = canonical_path(&self.path, rules)?;
        Ok(Self { readings: other_readings(&path), path, ..self })
    }

    /// Whether it is certain to be the same under the rules of another resource: it uses no leeway.
    #[must_use]
    pub fn stands_under(&self, rules: PathRules) -> bool {
        self.readings.is_empty() && rules.case == PathCase::Sensitive
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

    /// Paths that some server takes this one for, by the leeway that it uses: with `%2F` decoded,
    /// `//` merged, parameters dropped. Who may not have all of them may not have this one. Empty
    /// under [`PathRules::STRICT`], at most seven otherwise.
    #[must_use]
    pub fn other_readings(&self) -> &[String] {
        &self.readings
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

fn canonical_path(path: &str, rules: PathRules) -> Result<String, Ambiguity> {
    if !path.starts_with('/') || path.len() > MAX_PATH_BYTES {
        return Err(Ambiguity::PathForm);
    }
    if rules.case == PathCase::Sensitive && path.bytes().all(is_canonical_as_it_is) {
        // Nearly every path: it is its own canonical form, and decodes to itself.
        check_segments(path, rules)?;
        return Ok(path.to_owned());
    }
    let mut canonical = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_encoded) = match byte {
            b'%' => (percent_value(&mut bytes)?, true),
            other => (other, false),
        };
        let value = if rules.case == PathCase::Folded { value.to_ascii_lowercase() } else { value };
        push_byte(&mut canonical, value, was_encoded, rules)?;
        decoded.push(value);
    }
    if canonical.len() > MAX_PATH_BYTES {
        return Err(Ambiguity::PathForm);
    }
    let decoded = std::str::from_utf8(&decoded).map_err(|_| Ambiguity::Utf8)?;
    if has_nested_encoding(decoded.as_bytes()) {
        return Err(Ambiguity::PercentEncoding);
    }
    if rules.case == PathCase::Folded && !decoded.chars().all(has_plain_case) {
        return Err(Ambiguity::Case);
    }
    check_segments(decoded, rules)?;
    if rules.parameters == Leeway::Kept && canonical.split('/').any(has_slash_in_parameter) {
        return Err(Ambiguity::HiddenSeparator);
    }
    Ok(canonical)
}

/// Whether a byte stands for itself in every path, and is pushed as it is ([`push_byte`]) under any rules.
fn is_canonical_as_it_is(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~')
}

fn percent_value(bytes: &mut std::str::Bytes<'_>) -> Result<u8, Ambiguity> {
    let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
    let (high, low) = (digit().ok_or(Ambiguity::PercentEncoding)?, digit().ok_or(Ambiguity::PercentEncoding)?);
    u8::try_from(high * 16 + low).map_err(|_| Ambiguity::PercentEncoding)
}

/// Appends one byte of the path in its only canonical spelling.
fn push_byte(canonical: &mut String, value: u8, was_encoded: bool, rules: PathRules) -> Result<(), Ambiguity> {
    match value {
        0..=0x1f | 0x7f => Err(Ambiguity::Control),
        b'\\' => Err(Ambiguity::HiddenSeparator),
        b'/' if was_encoded => match rules.encoded_slashes {
            Leeway::Refused => Err(Ambiguity::HiddenSeparator),
            Leeway::Kept => {
                push_encoded(canonical, value);
                Ok(())
            }
        },
        b';' => match (rules.parameters, was_encoded) {
            (Leeway::Kept, false) => {
                canonical.push(';');
                Ok(())
            }
            (Leeway::Kept, true) | (Leeway::Refused, _) => Err(Ambiguity::PathParameter),
        },
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
        // Browsers leave `|`, `^` and brackets plain though RFC 3986 does not allow it; all servers
        // decode them alike.
        _ if was_encoded || matches!(value, b'|' | b'^' | b'[' | b']') => {
            push_encoded(canonical, value);
            Ok(())
        }
        _ => Err(Ambiguity::Character),
    }
}

fn push_encoded(canonical: &mut String, value: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    canonical.push('%');
    for nibble in [value >> 4, value & 0x0f] {
        canonical.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
    }
}

fn has_nested_encoding(decoded: &[u8]) -> bool {
    decoded
        .windows(3)
        .any(|window| matches!(window, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// Whether a character is in lower case already, and nobody takes it for an ASCII letter: not `İ`,
/// `ſ`, `ß` or the Kelvin sign.
fn has_plain_case(c: char) -> bool {
    c.is_ascii() || (c.to_lowercase().eq([c]) && c.to_uppercase().all(|upper| !upper.is_ascii()))
}

/// Checks what stands between slashes, encoded ones taken for slashes too.
fn check_segments(decoded: &str, rules: PathRules) -> Result<(), Ambiguity> {
    let mut segments = decoded.split('/').skip(1).peekable();
    let mut is_first = true;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // `//host/` is a host to whoever reads it as a reference (RFC 3986 §4.2), so never in front.
        if segment.is_empty() && !is_last && (is_first || rules.double_slashes == Leeway::Refused) {
            return Err(Ambiguity::EmptySegment);
        }
        if segment.starts_with(';') {
            return Err(Ambiguity::PathParameter);
        }
        is_first = false;
        if segment.split(';').any(is_dots) {
            return Err(Ambiguity::DotSegment);
        }
        if segment.contains(['／', '＼', '∕', '⁄']) {
            return Err(Ambiguity::HiddenSeparator);
        }
    }
    Ok(())
}

/// Whether some server takes this for `.` or `..`: some trim or ignore what stands around the dots;
/// full-width ones become plain under Unicode normalisation (NFKC).
fn is_dots(segment: &str) -> bool {
    let mut dots = 0;
    for c in segment.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '.' | '．' => dots += 1,
            '‥' => dots += 2,
            '…' => dots += 3,
            _ => return false,
        }
    }
    (1..=3).contains(&dots)
}

/// Whether a parameter holds an encoded slash: then it is not clear what the slash cuts off.
fn has_slash_in_parameter(segment: &str) -> bool {
    segment.split_once(';').is_some_and(|(_, parameter)| parameter.contains("%2F"))
}

/// What other paths some server takes a canonical one for.
fn other_readings(path: &str) -> Vec<String> {
    let mut readings: Vec<String> = Vec::new();
    if !["%2F", ";", "//"].iter().any(|leeway| path.contains(leeway)) {
        return readings;
    }
    for choice in 1..8_u8 {
        let does = |index: u8| choice & (1 << index) != 0;
        let mut reading = path.to_owned();
        if does(0) {
            reading = reading.replace("%2F", "/");
        }
        if does(1) {
            let names = reading.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
            reading = names.collect::<Vec<_>>().join("/");
        }
        if does(2) {
            while reading.contains("//") {
                reading = reading.replace("//", "/");
            }
        }
        if reading != path && !readings.contains(&reading) {
            readings.push(reading);
        }
    }
    readings
}

fn check_query(query: &str) -> Result<String, Ambiguity> {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && !matches!(byte, b'#' | b'"' | b'<' | b'>');
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
        CanonicalTarget::parse("GET", text, PathRules::STRICT).map(|target| target.to_target())
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
            "/a?b\"c",
            "/a?<b>",
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
            assert_eq!(
                CanonicalTarget::parse(bad, "/", PathRules::STRICT).map(|_| ()),
                Err(Ambiguity::Method),
                "{bad:?}"
            );
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

    fn under(text: &str, rules: PathRules) -> Result<CanonicalTarget, Ambiguity> {
        CanonicalTarget::parse("GET", text, rules)
    }

    #[test]
    fn a_target_says_what_was_asked_for() {
        let get = under("/a/b?c=d", PathRules::STRICT).unwrap();
        assert_eq!((get.method(), get.path(), get.query()), ("GET", "/a/b", Some("c=d")));
        assert_eq!(under("/a", PathRules::STRICT).unwrap().query(), None);
        for (method, action) in [
            ("GET", Action::HttpRead),
            ("HEAD", Action::HttpRead),
            ("OPTIONS", Action::HttpRead),
            ("POST", Action::HttpWrite),
            ("DELETE", Action::HttpWrite),
            ("PROPFIND", Action::HttpWrite),
        ] {
            assert_eq!(CanonicalTarget::parse(method, "/", PathRules::STRICT).unwrap().action(), action, "{method}");
        }
    }

    #[test]
    fn paths_have_limits_as_given_and_as_sent() {
        let plain = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(path(&plain(MAX_PATH_BYTES)).is_ok());
        assert_eq!(path(&plain(MAX_PATH_BYTES + 1)), Err(Ambiguity::PathForm));
        // Three bytes of what is sent for one that was given.
        let grows = |length: usize| format!("/|{}", "x".repeat(length - 4));
        assert_eq!(path(&grows(MAX_PATH_BYTES)).map(|sent| sent.len()), Ok(MAX_PATH_BYTES));
        assert_eq!(path(&grows(MAX_PATH_BYTES + 1)), Err(Ambiguity::PathForm));
    }

    #[test]
    fn the_readings_under_other_rules_are_those_of_the_path_there() {
        let rules = PathRules { case: PathCase::Folded, ..PathRules::WIDEST };
        let sensitive = PathRules { case: PathCase::Sensitive, ..PathRules::WIDEST };
        let folded = under("/A;V/B", sensitive).unwrap().under(rules).unwrap();
        assert_eq!((folded.path(), folded.other_readings()), ("/a;v/b", &["/a/b".to_owned()][..]));
    }

    #[test]
    fn each_leeway_is_kept_with_all_its_readings() {
        let wide = PathRules::WIDEST;
        for (given, canonical, readings) in [
            ("/a/b", "/a/b", vec![]),
            ("/p/g%2fx", "/p/g%2Fx", vec!["/p/g/x"]),
            ("/a//b", "/a//b", vec!["/a/b"]),
            ("/a;v=1/b;w", "/a;v=1/b;w", vec!["/a/b"]),
            ("/a%2F%2Fb", "/a%2F%2Fb", vec!["/a//b", "/a/b"]),
            ("/a//b;c", "/a//b;c", vec!["/a//b", "/a/b;c", "/a/b"]),
        ] {
            let target = under(given, wide).unwrap();
            assert_eq!(
                (target.path(), target.other_readings().to_vec()),
                (canonical, readings.iter().map(ToString::to_string).collect())
            );
            assert_eq!(target.other_readings().is_empty(), under(given, PathRules::STRICT).is_ok());
            assert_eq!(target.clone().under(wide), Ok(target));
        }
        // Each is a leeway of its own.
        let only = |member: fn(&mut PathRules) -> &mut Leeway| {
            let mut rules = PathRules::STRICT;
            *member(&mut rules) = Leeway::Kept;
            ["/a%2Fb", "/a//b", "/a;b"].map(|text| under(text, rules).is_ok())
        };
        assert_eq!(only(|rules| &mut rules.encoded_slashes), [true, false, false]);
        assert_eq!(only(|rules| &mut rules.double_slashes), [false, true, false]);
        assert_eq!(only(|rules| &mut rules.parameters), [false, false, true]);
        assert_eq!(under("/a//b", wide).unwrap().under(PathRules::STRICT), Err(Ambiguity::EmptySegment));
    }

    #[test]
    fn no_leeway_lets_a_path_climb_or_name_a_host() {
        for bad in [
            "//evil/admin",
            "/%2Fevil/admin",
            "/public/..%2Fadmin",
            "/public%2F..%2Fadmin",
            "/public/%2e%2e%2fadmin",
            "/public/..;/admin",
            "/public/..;x=y/admin",
            "/public/a;../admin",
            "/public/;/../admin",
            "/public/;x/admin",
            "/a;x%2Fb/c",
            "/a%3Bb",
            "/a%5Cb",
            "/a%252Fb",
            "/%E2%80%A5/admin",
            "/%E2%80%A6",
        ] {
            assert!(under(bad, PathRules::WIDEST).is_err(), "{bad}: {:?}", under(bad, PathRules::WIDEST));
        }
    }

    #[test]
    fn a_folded_path_is_lower_case_and_nothing_else_has_that_form() {
        let folded = PathRules { case: PathCase::Folded, ..PathRules::STRICT };
        for (given, canonical) in
            [("/Admin/X", "/admin/x"), ("/%41dmin", "/admin"), ("/a%C3%A9", "/a%C3%A9"), ("/A%2C", "/a%2C")]
        {
            assert_eq!(under(given, folded).unwrap().path(), canonical);
        }
        // Kelvin sign, long s, dotless i, I with dot, sharp s, É, fi ligature.
        for bad in ["/%E2%84%AA", "/%C5%BF", "/%C4%B1", "/%C4%B0", "/%C3%9F", "/%C3%89", "/%EF%AC%81"] {
            assert_eq!(under(bad, folded), Err(Ambiguity::Case), "{bad}");
        }
        let target = under("/Public/X?Q=Y", PathRules::STRICT).unwrap().under(folded).unwrap();
        assert_eq!(target.to_target(), "/public/x?Q=Y");
    }

    fn any_rules() -> impl Strategy<Value = PathRules> {
        (any::<[bool; 3]>(), any::<bool>()).prop_map(|(kept, folded)| {
            let [encoded_slashes, double_slashes, parameters] =
                kept.map(|kept| if kept { Leeway::Kept } else { Leeway::Refused });
            let case = if folded { PathCase::Folded } else { PathCase::Sensitive };
            PathRules { encoded_slashes, double_slashes, parameters, case }
        })
    }

    proptest! {
        #[test]
        fn canonical_of_canonical_is_the_same(text in "/[!-~é%0-9a-f/.;]{0,40}", rules in any_rules()) {
            if let Ok(once) = under(&text, rules) {
                prop_assert_eq!(under(&once.to_target(), rules), Ok(once.clone()));
                prop_assert_eq!(once.clone().under(rules), Ok(once));
            }
        }

        #[test]
        fn no_reading_of_an_accepted_path_has_a_dot_segment(
            text in "/(%2[eEfF]|%25|%3[bB]|\\.{1,3}|[a-z/;A% ]){0,12}",
            rules in any_rules(),
        ) {
            if let Ok(target) = under(&text, rules) {
                for reading in target.other_readings().iter().map(String::as_str).chain([target.path()]) {
                    let mut bytes = reading.as_bytes().to_vec();
                    // However often a server decodes, and whether it drops parameters or white space.
                    for _ in 0..3 {
                        let text = String::from_utf8_lossy(&bytes).to_lowercase();
                        for segment in text.split(['/', '\\']) {
                            let name = segment.split(';').next().unwrap_or_default().trim();
                            prop_assert!(name != "." && name != "..", "{} in {}", segment, reading);
                        }
                        prop_assert!(!text.starts_with("//"));
                        bytes = decode(&bytes);
                    }
                }
            }
        }

        #[test]
        fn narrower_rules_accept_less_and_read_the_same(text in "/(%2[fF]|[a-z/;]){0,12}", rules in any_rules()) {
            let sensitive = PathRules { case: PathCase::Sensitive, ..rules };
            if let Ok(target) = under(&text, sensitive) {
                prop_assert_eq!(under(&text, PathRules::WIDEST), Ok(target));
            }
        }

        #[test]
        fn decoding_an_accepted_path_twice_changes_nothing(text in "/(%[0-9a-f]{2}|[a-z./%])+") {
            if let Ok(target) = CanonicalTarget::parse("GET", &text, PathRules::STRICT) {
                let once = decode(target.path().as_bytes());
                prop_assert!(!once.windows(2).any(|pair| pair == b".." ) || !String::from_utf8_lossy(&once).split('/').any(|s| s == ".."));
                prop_assert_eq!(once.iter().filter(|b| **b == b'/').count(), target.path().matches('/').count());
                prop_assert_eq!(decode(&once), once.clone());
            }
        }

        #[test]
        fn parsing_never_panics(method in ".{0,30}", target in ".{0,200}") {
            let _ = CanonicalTarget::parse(&method, &target, PathRules::WIDEST);
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
