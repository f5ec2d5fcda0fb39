//! Access logs of nginx and Apache: a template made of the server's own description of a line, and lines read
//! by it.
//!
//! A line is taken apart from left to right, each field up to the first text that stands behind it, and from right to
//! left, up to the last. Where both come to the same, there is no other way to read it; where they don't, somebody has
//! put into a field what looks like the rest of a line, and it is malformed. Both servers escape quotes and backslashes
//! in fields, so what stands in quotes can't do that.

use std::borrow::Cow;

use memchr::memmem;

use crate::format::{Access, Exchange, NO_TEXT, NO_TIME, Read, exchange, host, method, request_line, text};
use crate::time::{self, Clock};

/// Longest description of a line, and most fields in it.
const MAX_FORMAT: usize = 4_096;
const MAX_FIELDS: usize = 128;

/// nginx's `combined`, and the same without what only that has.
pub(crate) const NGINX_COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                                         \"$http_referer\" \"$http_user_agent\"";
pub(crate) const NGINX_COMMON: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent";
/// Apache's formats of these names.
pub(crate) const APACHE_COMBINED: &str = "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"";
pub(crate) const APACHE_COMMON: &str = "%h %l %u %t \"%r\" %>s %b";
pub(crate) const APACHE_VHOST: &str = "%v:%p %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"";

/// Length of `27/Nov/2026:14:03:02 +0000`.
const TIME_BYTES: usize = 26;
/// Why a line is malformed that can be taken apart in several ways.
const TWO_WAYS: &str = "it can be read in two ways: a field holds what looks like the rest of the line";

/// A description of lines that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is too long.
    #[error("the log format is longer than 4,096 characters, or has more than 128 fields")]
    TooLong,
    /// Two fields without a text between them: where one ends can't be told.
    #[error("in the log format nothing stands between `{before}` and `{after}`, so lines can't be taken apart")]
    Adjacent {
        /// The one.
        before: String,
        /// The other.
        after: String,
    },
    /// A field that has no end or no name.
    #[error("the log format can't be read at `{at}`")]
    Broken {
        /// What stands there.
        at: String,
    },
    /// A time in a form of its own.
    #[error("the log format writes times as `{field}`, which can't be read back")]
    Time {
        /// The field.
        field: String,
    },
    /// Something that is needed is not in it.
    #[error("the log format has no field for {what}")]
    Lacks {
        /// What.
        what: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    User,
    Host,
    /// `27/Nov/2026:14:03:02 +0000`
    Time,
    Iso,
    /// Since 1970, with so many figures behind the seconds.
    Epoch(usize),
    Request,
    Method,
    Status,
    Skipped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field, String),
}

/// A description of lines, made ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Which fields say who and where, when not the usual ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'f> {
    /// Who.
    pub user: Option<&'f str>,
    /// Where.
    pub host: Option<&'f str>,
}

impl Template {
    /// Reads nginx's `log_format`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn nginx(format: &str, fields: Fields<'_>) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = format;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            push_text(&mut pieces, before.as_bytes());
            let broken = || TemplateError::Broken { at: shortened(from) };
            let name = from.get(1..).unwrap_or_default();
            let (name, after) = match name.strip_prefix('{') {
                Some(name) => name.split_once('}').ok_or_else(broken)?,
                None => {
                    let end = name.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                    name.split_at(end.unwrap_or(name.len()))
                }
            };
            if name.is_empty() {
                return Err(broken());
            }
            let usual = match name {
                "remote_user" if fields.user.is_none() => Field::User,
                "host" | "http_host" | "server_name" if fields.host.is_none() => Field::Host,
                "time_local" => Field::Time,
                "time_iso8601" => Field::Iso,
                "msec" => Field::Epoch(0),
                "request" => Field::Request,
                "request_method" => Field::Method,
                "status" => Field::Status,
                _ => Field::Skipped,
            };
            pieces.push(Piece::Field(chosen(name, usual, fields), format!("${name}")));
            rest = after;
        }
        push_text(&mut pieces, rest.as_bytes());
        Self::checked(format, pieces)
    }

    /// Reads Apache's `LogFormat`, also with the backslashes that its configuration has before quotes.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn apache(format: &str, fields: Fields<'_>) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut letters = format.chars();
        loop {
            let from = letters.as_str();
            let Some(letter) = letters.next() else { break };
            let plain = match letter {
                '\\' => match letters.next() {
                    Some('t') => '\t',
                    Some('n') => '\n',
                    Some(other) => other,
                    None => '\\',
                },
                '%' if letters.as_str().starts_with('%') => letters.next().unwrap_or(letter),
                '%' => {
                    let (item, after) =
                        item(letters.as_str()).ok_or_else(|| TemplateError::Broken { at: shortened(from) })?;
                    let usual = match item.as_str() {
                        "u" if fields.user.is_none() => Field::User,
                        "v" | "V" | "{Host}i" if fields.host.is_none() => Field::Host,
                        "t" => Field::Time,
                        "{sec}t" | "{begin:sec}t" | "{end:sec}t" => Field::Epoch(0),
                        "{msec}t" | "{begin:msec}t" | "{end:msec}t" => Field::Epoch(3),
                        "{usec}t" | "{begin:usec}t" | "{end:usec}t" => Field::Epoch(6),
                        "r" => Field::Request,
                        "m" => Field::Method,
                        "s" => Field::Status,
                        other if other.ends_with("}t") => {
                            return Err(TemplateError::Time { field: shortened(&format!("%{other}")) });
                        }
                        _ => Field::Skipped,
                    };
                    // The brackets aren't part of the time, but always there.
                    let (before, behind) = if item == "t" { ("[", "]") } else { ("", "") };
                    push_text(&mut pieces, before.as_bytes());
                    pieces.push(Piece::Field(chosen(&item, usual, fields), format!("%{item}")));
                    push_text(&mut pieces, behind.as_bytes());
                    letters = after.chars();
                    continue;
                }
                other => other,
            };
            push_text(&mut pieces, plain.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Self::checked(format, pieces)
    }

    fn checked(format: &str, mut pieces: Vec<Piece>) -> Result<Self, TemplateError> {
        if format.len() > MAX_FORMAT || pieces.len() > 2 * MAX_FIELDS {
            return Err(TemplateError::TooLong);
        }
        for pair in pieces.windows(2) {
            if let [Piece::Field(_, before), Piece::Field(_, after)] = pair {
                return Err(TemplateError::Adjacent { before: shortened(before), after: shortened(after) });
            }
        }
        // The first of each kind counts.
        let kind = |field: Field| match field {
            Field::User => Some(0),
            Field::Host => Some(1),
            Field::Time | Field::Iso | Field::Epoch(_) => Some(2),
            Field::Request | Field::Method => Some(3),
            Field::Status => Some(4),
            Field::Skipped => None,
        };
        let mut there = [false; 5];
        for piece in &mut pieces {
            let Piece::Field(field, _) = piece else { continue };
            match kind(*field).and_then(|kind| there.get_mut(kind)) {
                Some(there) if !*there => *there = true,
                _ => *field = Field::Skipped,
            }
        }
        let [user, _, time, request, status] = there;
        for (there, what) in
            [(user, "who it was"), (time, "the time"), (request, "the request or its method"), (status, "the status")]
        {
            if !there {
                return Err(TemplateError::Lacks { what });
            }
        }
        Ok(Self { pieces })
    }

    /// Reads a line; `None` when it doesn't have this form.
    pub(crate) fn read<'l>(&self, line: &'l [u8], clock: &Clock) -> Option<Read<'l>> {
        let (parts, last) = (self.read_from_left(line)?, self.read_from_right(line)?);
        let method = || match parts.asked? {
            (Field::Method, name) => method(name),
            (_, line) => request_line(line),
        };
        let action = match exchange(parts.status, method) {
            // That it was refused is as sure as its status.
            Exchange::Refused if place(Some(parts.status)) == place(Some(last.status)) => return Some(Read::Refused),
            _ if !parts.are(&last) => return Some(Read::Malformed(TWO_WAYS)),
            Exchange::Refused => return Some(Read::Refused),
            Exchange::Let(action) => action,
            Exchange::Malformed(why) => return Some(Read::Malformed(why)),
        };
        let at = match parts.time? {
            (Field::Iso, value) => time::iso(value, clock),
            (Field::Epoch(figures), value) => time::epoch(value, figures),
            (_, value) => time::common(value, clock),
        };
        let Some(at) = at else { return Some(Read::Malformed(NO_TIME)) };
        let said = |value: Option<&'l [u8]>| match value {
            None | Some(b"" | b"-" | b"\"\"") => Some(None),
            Some(value) => text(unescaped(value)?).map(Some),
        };
        let (Some(user), Some(place)) = (said(parts.user), said(parts.place)) else {
            return Some(Read::Malformed(NO_TEXT));
        };
        Some(Read::Access(Access { user, place: place.map(host), action, at }))
    }

    /// Each field up to the first text that stands behind it.
    fn read_from_left<'l>(&self, line: &'l [u8]) -> Option<Parts<'l>> {
        let mut parts = Parts::default();
        let mut rest = line;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(text.as_slice())?,
                Piece::Field(field, _) => {
                    let length = match pieces.peek() {
                        Some(Piece::Text(behind)) => end(rest, behind)?,
                        Some(Piece::Field(..)) | None => rest.len(),
                    };
                    let (value, after) = rest.split_at_checked(length)?;
                    rest = after;
                    parts.put(*field, value);
                }
            }
        }
        rest.is_empty().then_some(parts)
    }

    /// Each field from the last text that stands before it.
    fn read_from_right<'l>(&self, line: &'l [u8]) -> Option<Parts<'l>> {
        let mut parts = Parts::default();
        let mut rest = line;
        let mut pieces = self.pieces.iter().rev().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => rest = rest.strip_suffix(text.as_slice())?,
                Piece::Field(field, _) => {
                    let from = match pieces.peek() {
                        // It holds a blank itself, but always has the same length.
                        Some(Piece::Text(_)) if *field == Field::Time => rest.len().checked_sub(TIME_BYTES)?,
                        Some(Piece::Text(before)) => begin(rest, before)?,
                        Some(Piece::Field(..)) | None => 0,
                    };
                    let (before, value) = rest.split_at_checked(from)?;
                    rest = before;
                    parts.put(*field, value);
                }
            }
        }
        rest.is_empty().then_some(parts)
    }
}

/// The fields of a line that count, as they stand in it.
#[derive(Default)]
struct Parts<'l> {
    user: Option<&'l [u8]>,
    place: Option<&'l [u8]>,
    time: Option<(Field, &'l [u8])>,
    asked: Option<(Field, &'l [u8])>,
    status: &'l [u8],
}

impl<'l> Parts<'l> {
    fn put(&mut self, field: Field, value: &'l [u8]) {
        match field {
            Field::User => self.user = Some(value),
            Field::Host => self.place = Some(value),
            Field::Time | Field::Iso | Field::Epoch(_) => self.time = Some((field, value)),
            Field::Request | Field::Method => self.asked = Some((field, value)),
            Field::Status => self.status = value,
            Field::Skipped => {}
        }
    }

    /// Whether these are the same places of a line.
    fn are(&self, other: &Self) -> bool {
        let of = |field: Option<(Field, &'l [u8])>| place(field.map(|(_, value)| value));
        place(self.user) == place(other.user)
            && place(self.place) == place(other.place)
            && place(Some(self.status)) == place(Some(other.status))
            && of(self.time) == of(other.time)
            && of(self.asked) == of(other.asked)
    }
}

/// Where bytes stand, rather than which they are.
fn place(value: Option<&[u8]>) -> Option<(*const u8, usize)> {
    value.map(|value| (value.as_ptr(), value.len()))
}

fn chosen(name: &str, usual: Field, fields: Fields<'_>) -> Field {
    match name {
        _ if fields.user == Some(name) => Field::User,
        _ if fields.host == Some(name) => Field::Host,
        _ => usual,
    }
}

fn push_text(pieces: &mut Vec<Piece>, bytes: &[u8]) {
    match pieces.last_mut() {
        _ if bytes.is_empty() => {}
        Some(Piece::Text(text)) => text.extend_from_slice(bytes),
        _ => pieces.push(Piece::Text(bytes.to_vec())),
    }
}

/// An item of Apache behind its `%`, without conditions and modifiers, and what follows it.
fn item(text: &str) -> Option<(String, &str)> {
    let text =
        text.trim_start_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '!' | ',' | '<' | '>'));
    let (argument, rest) = match text.strip_prefix('{') {
        Some(inner) => {
            let (argument, rest) = inner.split_once('}')?;
            (format!("{{{argument}}}"), rest)
        }
        None => (String::new(), text),
    };
    let rest = rest.trim_start_matches(['<', '>']);
    // `^FU`, `^ti`, …
    let length = if rest.starts_with('^') { 3 } else { 1 };
    let letter =
        rest.get(..length).filter(|letter| letter.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'^'))?;
    Some((format!("{argument}{letter}"), rest.get(length..)?))
}

/// Where a field ends that this text stands behind.
fn end(rest: &[u8], behind: &[u8]) -> Option<usize> {
    if behind.first() != Some(&b'"') {
        return memmem::find(rest, behind);
    }
    // The first quote that is not escaped has to be the end.
    let mut at = 0;
    loop {
        match rest.get(at)? {
            b'\\' => at += 2,
            b'"' => return rest.get(at..)?.starts_with(behind).then_some(at),
            _ => at += 1,
        }
    }
}

/// Where a field begins that this text stands before, the last that can be.
fn begin(rest: &[u8], before: &[u8]) -> Option<usize> {
    let mut upto = rest.len();
    loop {
        let at = memmem::rfind(rest.get(..upto)?, before)?;
        // A quote that is escaped is part of a field.
        let escaped = |quote: usize| {
            let slashes = rest.get(..quote).unwrap_or_default().iter().rev().take_while(|byte| **byte == b'\\').count();
            slashes % 2 == 1
        };
        let mut quotes = before.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(offset, _)| at + offset);
        if !quotes.any(escaped) {
            return Some(at + before.len());
        }
        upto = at + before.len() - 1;
    }
}

/// A field as it was before the server escaped it; `None` when that can't be told.
fn unescaped(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'\\') {
        return Some(Cow::Borrowed(value));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            plain.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'x' | b'u' => {
                let (figures, after) = rest.split_at_checked(if *kind == b'x' { 2 } else { 4 })?;
                rest = after;
                let code = u32::from_str_radix(std::str::from_utf8(figures).ok()?, 16).ok()?;
                match u8::try_from(code) {
                    Ok(byte) if *kind == b'x' || byte.is_ascii() => plain.push(byte),
                    _ => plain.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            b'n' => plain.push(b'\n'),
            b'r' => plain.push(b'\r'),
            b't' => plain.push(b'\t'),
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'v' => plain.push(11),
            b'"' | b'\\' | b'/' => plain.push(*kind),
            _ => return None,
        }
    }
    Some(Cow::Owned(plain))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouchsafe_model::action::Action;

    use super::*;

    const CLOCK: Clock = Clock { offset: None, now: 1_795_788_200 };
    const AT: u64 = 1_795_788_182;

    fn told(read: Option<Read<'_>>) -> String {
        match read {
            None => "another form".to_owned(),
            Some(Read::Access(Access { user, place, action, at })) => {
                assert_eq!(at, AT);
                format!("{} {} {action}", user.as_deref().unwrap_or("nobody"), place.as_deref().unwrap_or("here"))
            }
            Some(Read::Refused) => "refused".to_owned(),
            Some(Read::Other) => "other".to_owned(),
            Some(Read::Malformed(why)) => format!("malformed: {why}"),
        }
    }

    fn nginx(format: &str, line: &str) -> String {
        told(Template::nginx(format, Fields::default()).expect("a format").read(line.as_bytes(), &CLOCK))
    }

    #[test]
    fn lines_of_nginx_as_it_writes_them() {
        let of = |line: &str| nginx(NGINX_COMBINED, line);
        let line = |user: &str, request: &str, status: &str| {
            format!("10.0.0.7 - {user} [27/Nov/2026:14:03:02 +0000] \"{request}\" {status} 612 \"-\" \"curl/7.88.1\"")
        };
        assert_eq!(of(&line("alice", "GET / HTTP/1.1", "200")), "alice here http:read");
        assert_eq!(of(&line("-", "GET / HTTP/1.1", "200")), "nobody here http:read");
        assert_eq!(of(&line("alice", "POST /x?y=\\x22 HTTP/1.1", "201")), "alice here http:write");
        assert_eq!(of(&line("alice", "GET /ws HTTP/1.1", "101")), "alice here http:upgrade");
        assert_eq!(of(&line("alice", "GET / HTTP/1.1", "401")), "refused", "the name was only tried");
        assert_eq!(of(&line("-", "\\x16\\x03\\x01", "400")), "refused");
        assert_eq!(of(&line("d\\xC3\\xB6rte m", "GET / HTTP/1.1", "200")), "dörte m here http:read");
        assert_eq!(of(&line("\\xFF", "GET / HTTP/1.1", "200")), "malformed: a name in it is no text (UTF-8)");
        assert_eq!(of("10.0.0.7 - alice"), "another form");
    }

    #[test]
    fn a_name_cannot_pretend_to_be_the_rest_of_a_line() {
        let of = |user: &str| {
            nginx(
                NGINX_COMBINED,
                &format!("10.0.0.7 - {user} [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"-\""),
            )
        };
        // nginx escapes the quotes, and nothing else of these.
        assert_eq!(of("root [27/Nov/2026:14:03:02 +0000] \\x22GET / HTTP/1.1\\x22 200 1"), "refused");
        assert_eq!(of("root [x"), "refused");
        let two_ways = format!("malformed: {TWO_WAYS}");
        let log = |user: &str| {
            let line = format!("::1 - {user} [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"");
            nginx(NGINX_COMBINED, &line)
        };
        for name in ["root [x", "root [27/Nov/2026:14:03:02 +0000", "x - root"] {
            assert_eq!(log(name), two_ways, "{name}");
        }
        // A header that the client sends, without quotes.
        let own = Template::apache("%{msec}t %{X-User}i %m %>s %b", Fields { user: Some("{X-User}i"), host: None });
        let own = own.expect("a format");
        let of = |user: &str| told(own.read(format!("1795788182009 {user} GET 401 5").as_bytes(), &CLOCK));
        assert_eq!(of("ann"), "refused");
        assert_eq!(of("root GET 200"), two_ways);
        assert_eq!(told(own.read(b"1795788182009 ann b GET 200 5", &CLOCK)), two_ways);
        assert_eq!(told(own.read(b"1795788182009 ann GET 200 5", &CLOCK)), "ann here http:read");
        let agent = "10.0.0.7 - - [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"\\x22 200 \\x22\"";
        assert_eq!(nginx(NGINX_COMBINED, agent), "refused");
    }

    #[test]
    fn other_formats_of_nginx() {
        let json = "{\"t\":\"$time_iso8601\",\"u\":\"$remote_user\",\"m\":\"$request_method\",\"s\":$status,\"h\":\"${host}\"}";
        let line = "{\"t\":\"2026-11-27T14:03:02+00:00\",\"u\":\"a\\\"l\\u0069\",\"m\":\"PUT\",\"s\":204,\"h\":\"Wiki.example:8443\"}";
        assert_eq!(nginx(json, line), "a\"li wiki.example http:write");
        assert_eq!(
            nginx("$msec $status $remote_user $request_method", "1795788182.004 200 bob GET"),
            "bob here http:read"
        );
        let fields = Fields { user: Some("ssl_client_s_dn_cn"), host: None };
        let template = Template::nginx("$msec $status \"$ssl_client_s_dn_cn\" $remote_user $request_method", fields)
            .expect("a format");
        assert_eq!(told(template.read(b"1795788182.004 200 \"carl\" bob GET", &CLOCK)), "carl here http:read");
    }

    #[test]
    fn lines_of_apache_as_it_writes_them() {
        let of = |format: &str, line: &str| {
            told(Template::apache(format, Fields::default()).expect("a format").read(line.as_bytes(), &CLOCK))
        };
        let line = "10.0.0.7 - alice [27/Nov/2026:14:03:02 +0000] \"DELETE /\\\"a HTTP/1.1\" 204 -";
        assert_eq!(of(APACHE_COMMON, line), "alice here http:write");
        let combined = format!("{line} \"-\" \"Mozilla \\\"5\\\"\"");
        assert_eq!(of(APACHE_COMBINED, &combined), "alice here http:write");
        let vhost =
            "wiki.example:443 10.0.0.7 - \"\" [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/2.0\" 200 9 \"-\" \"-\"";
        assert_eq!(of(APACHE_VHOST, vhost), "nobody wiki.example http:read");
        let own = "%{msec}t\\t%!400,501u %{Host}i \\\"%m\\\" %<s %% %{X}^ti";
        assert_eq!(of(own, "1795788182009\tbob erp \"GET\" 200 % x"), "bob erp http:read");
    }

    #[test]
    fn a_format_that_cannot_be_read_back_is_refused() {
        let of = |format: &str| Template::nginx(format, Fields::default()).map(drop).map_err(|error| error.to_string());
        let lacks = |what: &str| Err(format!("the log format has no field for {what}"));
        assert_eq!(of("$remote_addr [$time_local] $request $status"), lacks("who it was"));
        assert_eq!(of("$remote_user $request $status"), lacks("the time"));
        assert_eq!(of("$remote_user $time_local $status"), lacks("the request or its method"));
        assert_eq!(of("$remote_user $time_local $request"), lacks("the status"));
        assert!(of("$remote_user$time_local").expect_err("refused").contains("`$remote_user` and `$time_local`"));
        assert!(of("$remote_user ${time").expect_err("refused").contains("`${time`"));
        assert_eq!(of(&"x".repeat(5_000)).expect_err("refused"), TemplateError::TooLong.to_string());
        let apache =
            |format: &str| Template::apache(format, Fields::default()).map(drop).map_err(|error| error.to_string());
        assert!(apache("%u %{%Y-%m}t \"%r\" %s").expect_err("refused").contains("`%{%Y-%m}t`"));
        assert!(apache("%u %t \"%r\" %s %{x").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[ -~]{1,20}", status in 200_u16..400) {
            // As nginx escapes.
            let escaped: String = name.chars().map(|letter| match letter {
                '"' | '\\' => format!("\\x{:02X}", u32::from(letter)),
                other => other.to_string(),
            }).collect();
            let line = format!("::1 - - [27/Nov/2026:14:03:02 +0000] \"GET / HTTP/1.1\" {status} 1 \"-\" \"-\" \"{escaped}\"");
            let format = "$remote_addr - - [$time_local] \"$request\" $status 1 \"-\" \"-\" \"$user\"";
            let template = Template::nginx(format, Fields { user: Some("user"), host: None }).expect("a format");
            let told = told(template.read(line.as_bytes(), &CLOCK));
            let meant = if name == "-" || name == "\"\"" { "nobody" } else { &name };
            if name != "\"\"" {
                prop_assert_eq!(told, format!("{meant} here http:read"));
            }
            prop_assert_eq!(Action::HttpRead.as_str(), "http:read");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), format in "[$%a-z_{}\\\\\" ]{0,60}") {
            let _ = Template::nginx(&format, Fields::default());
            let _ = Template::apache(&format, Fields::default());
            for template in [Template::nginx(NGINX_COMBINED, Fields::default()), Template::apache(APACHE_VHOST, Fields::default())] {
                let _ = template.expect("a format").read(&bytes, &CLOCK);
            }
        }

        #[test]
        fn no_broken_line_makes_it_panic(at in 0_usize..120, byte in any::<u8>(), cut in 0_usize..120) {
            let mut line = b"10.0.0.7 - al\\xC3ice [27/Nov/2026:14:03:02 +0000] \"GET /\\x22 HTTP/1.1\" 200 612 \"-\" \"curl/7.88.1\"".to_vec();
            if let Some(changed) = line.get_mut(at) {
                *changed = byte;
            }
            let template = Template::nginx(NGINX_COMBINED, Fields::default()).expect("a format");
            let _ = template.read(&line, &CLOCK);
            line.truncate(cut);
            let _ = template.read(&line, &CLOCK);
        }
    }
}
