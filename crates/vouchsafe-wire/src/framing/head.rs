//! Request heads and trailer sections, line by line.

use super::{Fault, Limits};

/// Longest request target, bytes: path and query at their limits, and an absolute form's host.
const MAX_TARGET_BYTES: usize = 32 * 1024;

/// How the body behind a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    /// There is none.
    Nothing,
    /// By `Content-Length`.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
    /// There is none, and what follows depends on the answer.
    Upgrade,
}

/// What a scan came to.
pub(super) enum Scan<T> {
    /// The section ends after so many bytes.
    Complete(usize, T),
    /// It goes on behind the bytes that were shown.
    Partial,
    /// It is malformed.
    Fault(Fault),
}

/// Finds the lines of a section that is shown again with more bytes behind it, each line once.
#[derive(Debug, Default)]
struct Lines {
    /// Where the next line begins.
    start: usize,
    /// How far no line end was found.
    searched: usize,
}

impl Lines {
    /// The next line without its end, or `None` when it has none yet.
    fn next<'b>(&mut self, bytes: &'b [u8], limit: usize) -> Result<Option<&'b [u8]>, Fault> {
        let rest = bytes.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', rest) else {
            self.searched = bytes.len();
            return if bytes.len() > limit { Err(Fault::TooLong) } else { Ok(None) };
        };
        let end = self.searched + found;
        if end >= limit {
            return Err(Fault::TooLong);
        }
        let line = bytes.get(self.start..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Fault::LineEnd)?;
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}

/// A request head that is being read.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    lines: Lines,
    has_request_line: bool,
    fields: usize,
    length: Option<u64>,
    is_chunked: bool,
    wants_upgrade: bool,
}

impl HeadScan {
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Scan<Framed> {
        match self.try_scan(bytes, limits) {
            Ok(Some(framed)) => Scan::Complete(self.lines.start, framed),
            Ok(None) => Scan::Partial,
            Err(fault) => Scan::Fault(fault),
        }
    }

    fn try_scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Framed>, Fault> {
        while let Some(line) = self.lines.next(bytes, limits.head_bytes)? {
            if !self.has_request_line {
                self.wants_upgrade = request_line(line)?;
                self.has_request_line = true;
            } else if line.is_empty() {
                return self.framed().map(Some);
            } else {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Fault::TooManyFields);
                }
                let (name, value) = field(line)?;
                self.note(name, value)?;
            }
        }
        Ok(None)
    }

    /// Keeps what a field says about where the request ends.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Fault::ContentLength);
                }
                self.length = Some(content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || value != b"chunked" {
                    return Err(Fault::TransferEncoding);
                }
                self.is_chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.wants_upgrade = true,
            _ => {}
        }
        Ok(())
    }

    fn framed(&self) -> Result<Framed, Fault> {
        match (self.length, self.is_chunked, self.wants_upgrade) {
            (Some(_), true, _) => Err(Fault::TwoFramings),
            (Some(1..), false, true) | (None, true, true) => Err(Fault::BodyBeforeUpgrade),
            (None | Some(0), false, true) => Ok(Framed::Upgrade),
            (None, true, false) => Ok(Framed::Chunked),
            (Some(length), false, false) => Ok(Framed::Length(length)),
            (None, false, false) => Ok(Framed::Nothing),
        }
    }
}

/// A trailer section that is being read.
#[derive(Debug, Default)]
pub(super) struct TrailerScan {
    lines: Lines,
    fields: usize,
}

/// Fields that say how a message is framed, routed or who sends it: in a trailer they come too
/// late to be obeyed, and a reader that merges trailers into the head would obey them
/// (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: [&[u8]; 12] = [
    b"authorization",
    b"connection",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"content-encoding",
];

impl TrailerScan {
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Scan<()> {
        match self.try_scan(bytes, limits) {
            Ok(true) => Scan::Complete(self.lines.start, ()),
            Ok(false) => Scan::Partial,
            Err(fault) => Scan::Fault(fault),
        }
    }

    fn try_scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<bool, Fault> {
        while let Some(line) = self.lines.next(bytes, limits.trailer_bytes)? {
            if line.is_empty() {
                return Ok(true);
            }
            self.fields += 1;
            if self.fields > limits.fields {
                return Err(Fault::TooManyFields);
            }
            let (name, _) = field(line)?;
            if NOT_IN_TRAILERS.iter().any(|refused| name.eq_ignore_ascii_case(refused)) {
                return Err(Fault::Trailer);
            }
        }
        Ok(false)
    }
}

/// Checks `method SP target SP HTTP/1.1` (RFC 9112 §3). Gives whether the method is CONNECT.
fn request_line(line: &[u8]) -> Result<bool, Fault> {
    let space = memchr::memchr(b' ', line).ok_or(Fault::RequestLine)?;
    let (method, rest) = line.split_at(space);
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Fault::RequestLine);
    }
    let Some(target) = rest.strip_prefix(b" ").and_then(|rest| rest.strip_suffix(b" HTTP/1.1")) else {
        let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let is_version = version.starts_with(b"HTTP/") && rest.len() > version.len() + 1;
        return Err(if is_version { Fault::Version } else { Fault::RequestLine });
    };
    if target.len() > MAX_TARGET_BYTES {
        return Err(Fault::TooLong);
    }
    if !is_plain_origin_form(target) {
        // Asterisk, absolute and authority form, and what some characters do to them, is read by
        // the same library that reads it behind us; what it can't read is refused here and now.
        let visible = target.iter().all(|byte| (0x21..=0x7e).contains(byte));
        if !visible || http::Uri::try_from(target).is_err() {
            return Err(Fault::RequestLine);
        }
    }
    Ok(method == b"CONNECT")
}

/// `/…` of characters that are in no reader's way: nearly every request.
fn is_plain_origin_form(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.iter().all(|byte| TARGET.get(usize::from(*byte)) == Some(&true))
}

/// Splits a field line, and checks both parts (RFC 9112 §5). A folded line begins with white space,
/// which is no token.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let length = line.iter().position(|byte| !is_token(*byte)).ok_or(Fault::FieldName)?;
    let (name, rest) = line.split_at(length);
    let value = rest.strip_prefix(b":").filter(|_| !name.is_empty()).ok_or(Fault::FieldName)?;
    // Folded without an early end, so that the compiler looks at many bytes at once.
    let acceptable = |byte: u8| (byte >= 0x20) & (byte != 0x7f) | (byte == b'\t');
    if !value.iter().fold(true, |all, byte| all & acceptable(*byte)) {
        return Err(Fault::FieldValue);
    }
    Ok((name, trim(value)))
}

/// Without optional white space around it (RFC 9110 §5.6.3): space and tab, nothing else.
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// One decimal number as everybody writes it: digits, no leading zero, less than 2^63.
fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let plain = (1..=18).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value.first() != Some(&b'0'));
    if !plain {
        return Err(Fault::ContentLength);
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)) == Some(&true)
}

/// `tchar` (RFC 9110 §5.6.2).
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// Characters of a path and query that every parser of targets takes as they are.
static TARGET: [bool; 256] = table(b"/?%-._~!$&'()*+,;=:@");

/// Letters, digits and these.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time: an index out of bounds does not build")]
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}
