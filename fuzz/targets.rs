//! What the fuzzers call, one function per parser that meets foreign bytes. A finding is a panic.
//!
//! The drivers in `fuzz_targets/` hand libFuzzer's bytes over; `cargo test -p vouchsafe-wire --test it`
//! replays the seeds and every input that once was a finding.

use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::{Leeway, PathCase, PathRules};
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::authority::Authority;
use vouchsafe_wire::canonical::CanonicalTarget;
use vouchsafe_wire::framing::{Answered, Guard, Limits, Next};
use vouchsafe_wire::resource::ResourceDoc;
use vouchsafe_wire::spiffe::CertifiedIdentity;
use vouchsafe_wire::spool::{Frame, HEADER_BYTES, push_frame, read_frame};
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::{AccessClaims, AssertionClaims};

/// A target: what it is called with.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit_record", audit_record),
    ("authority", authority),
    ("canonical", canonical),
    ("framing", framing),
    ("proxy_head", proxy_head),
    ("resource", resource),
    ("socks", socks),
    ("spiffe", spiffe),
    ("spool", spool),
    ("ticket", ticket),
    ("token", token),
];

/// Splits off one byte that steers the target.
fn steered(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// `rules · method SP target`: what is accepted is its own canonical form, and no reading of it
/// climbs, however often it is decoded.
pub fn canonical(bytes: &[u8]) {
    let (steer, rest) = steered(bytes);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let leeway = |bit: u8| if steer & bit == 0 { Leeway::Refused } else { Leeway::Kept };
    let rules = PathRules {
        encoded_slashes: leeway(1),
        double_slashes: leeway(2),
        parameters: leeway(4),
        case: if steer & 8 == 0 { PathCase::Sensitive } else { PathCase::Folded },
    };
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    let Ok(once) = CanonicalTarget::parse(method, target, rules) else { return };
    assert_eq!(CanonicalTarget::parse(method, &once.to_target(), rules).as_ref(), Ok(&once));
    assert_eq!(once.clone().under(rules).as_ref(), Ok(&once));
    assert!(once.other_readings().len() <= 7);
    assert!(rules != PathRules::STRICT || once.other_readings().is_empty());
    assert!(once.to_target().parse::<http::Uri>().is_ok(), "the library can send it");
    for reading in once.other_readings().iter().map(String::as_str).chain([once.path()]) {
        let mut path = reading.as_bytes().to_vec();
        for _ in 0..3 {
            assert!(path.starts_with(b"/") && !path.starts_with(b"//"), "{reading}");
            for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
                let name = segment.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                assert!(name != b"." && name != b"..", "{reading}");
            }
            assert!(!path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f), "{reading}");
            path = percent_decoded(&path);
        }
    }
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return out,
            [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0);
                out.push(u8::try_from(digit(high) * 16 + digit(low)).unwrap_or(0));
                behind
            }
            [byte, behind @ ..] => {
                out.push(*byte);
                behind
            }
        };
    }
}

/// What is accepted is one lower-case name, and reads back as itself.
pub fn authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Authority::parse(text) else { return };
    let again = match read.port {
        Some(port) => format!("{}:{port}", read.host),
        None => read.host.clone(),
    };
    assert_eq!(again, text.to_ascii_lowercase());
    assert_eq!(Authority::parse(&again).as_ref(), Ok(&read));
    assert!(again.parse::<http::uri::Authority>().is_ok(), "{again}");
}

const LIMITS: Limits = Limits { head_bytes: 8 * 1024, fields: 64, trailer_bytes: 1024 };

/// `cuts · bytes of a connection`: how they are cut into reads changes nothing, and httparse, which
/// the HTTP library reads with, finds the same requests in what passes.
pub fn framing(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let (whole, next, heads) = passed(input, input.len().max(1));
    assert_eq!(passed(input, usize::from(steer % 31) + 1), (whole, next, heads));
    let mut rest = input.get(..whole).expect("no more than was shown");
    for number in 1..=heads {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let read = request.parse(rest);
        let Ok(httparse::Status::Complete(length)) = read else { panic!("request {number}: {read:?}") };
        assert_eq!(request.version, Some(1));
        let named = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let (length_field, coding) = (named("content-length"), named("transfer-encoding"));
        rest = &rest[length..];
        match (length_field, coding) {
            (Some(_), Some(_)) => panic!("two framings"),
            (None, Some(_)) => rest = behind_chunks(rest),
            (Some(field), None) => {
                let length: usize =
                    std::str::from_utf8(field.value).ok().and_then(|t| t.parse().ok()).expect("a length");
                rest = rest.get(length..).unwrap_or_default();
            }
            (None, None) => {}
        }
    }
    assert!(rest.is_empty(), "{} bytes passed behind the last request", rest.len());
}

/// What is behind a chunked body that passed, whole or as far as it came.
fn behind_chunks(mut rest: &[u8]) -> &[u8] {
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest).expect("a chunk size") {
            httparse::Status::Partial => return &[],
            httparse::Status::Complete(complete) => complete,
        };
        rest = &rest[start..];
        let Some(behind) = usize::try_from(size).ok().and_then(|size| rest.get(size..)) else { return &[] };
        if size == 0 {
            let mut trailers = [httparse::EMPTY_HEADER; 64];
            return match httparse::parse_headers(behind, &mut trailers).expect("trailers") {
                httparse::Status::Partial => &[],
                httparse::Status::Complete((length, _)) => &behind[length..],
            };
        }
        rest = match behind {
            [b'\r', b'\n', next @ ..] => next,
            [] | [b'\r'] => return &[],
            _ => panic!("no CR LF behind a chunk"),
        };
    }
}

/// Shows the input in reads of that size. A change of protocol is always denied.
fn passed(input: &[u8], size: usize) -> (usize, Next, u64) {
    let mut guard = Guard::new(LIMITS);
    let (mut passed, mut shown) = (0, 0);
    loop {
        let seen = guard.inspect(&input[passed..shown]);
        passed += seen.pass;
        match seen.next {
            Next::Answer => guard.answered(Answered::Stayed),
            Next::More if shown < input.len() => shown = (shown + size).min(input.len()),
            next => return (passed, next, guard.heads()),
        }
    }
}

/// What is accepted is canonical: it has no other bytes.
pub fn audit_record(bytes: &[u8]) {
    if let Ok(record) = Record::from_canonical(bytes) {
        assert_eq!(record.to_canonical().expect("canonical"), bytes);
    }
    // A record of another version of the format is written, but only this one is read back.
    if let Ok(record) = serde_json::from_slice::<Record>(bytes)
        && record.v == Record::new(record.kind, 0).v
    {
        let canonical = record.to_canonical().expect("fits");
        let again = Record::from_canonical(&canonical).expect("reads back");
        assert_eq!(again.to_canonical().expect("canonical"), canonical);
    }
}

/// A resource as JSON and TOML would give it.
pub fn resource(bytes: &[u8]) {
    let Ok(doc) = serde_json::from_slice::<ResourceDoc>(bytes) else { return };
    let Ok(resource) = doc.to_resource() else { return };
    let again = ResourceDoc::from_resource(&resource).expect("not the console");
    assert_eq!(again.to_resource().expect("reads back"), resource);
}

/// A SPIFFE id has one spelling.
pub fn spiffe(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let domain = BaseDomain::parse("corp.example").expect("valid");
    if let Ok(identity) = CertifiedIdentity::parse(text, &domain) {
        assert_eq!(identity.to_uri(&domain), text);
    }
}

/// A frame takes what it says, and is what would be written.
pub fn spool(bytes: &[u8]) {
    if let Frame::Whole { payload, length } = read_frame(bytes) {
        assert_eq!(length, HEADER_BYTES + payload.len());
        let mut out = Vec::new();
        push_frame(&mut out, payload);
        assert_eq!(out, &bytes[..length]);
    }
    if let Some(payload) = bytes.get(..bytes.len().min(1000)).filter(|payload| !payload.is_empty()) {
        let mut out = Vec::new();
        push_frame(&mut out, payload);
        assert_eq!(read_frame(&out), Frame::Whole { payload, length: out.len() });
    }
}

/// An enrolment ticket.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ticket) = Ticket::parse(text) {
        let again = Ticket::parse(&ticket.to_text()).expect("reads back");
        assert_eq!(again.to_text(), ticket.to_text());
    }
}

/// Claims of our tokens, whose signature would be right.
pub fn token(bytes: &[u8]) {
    let _ = serde_json::from_slice::<AccessClaims>(bytes);
    let _ = serde_json::from_slice::<AssertionClaims>(bytes);
}

#[path = "../crates/vouchsafe-agent/src/proxy/head.rs"]
#[allow(dead_code, reason = "the agent uses the rest")]
mod head;
#[path = "../crates/vouchsafe-agent/src/proxy/socks.rs"]
#[allow(dead_code, reason = "the agent uses the rest")]
mod socks5;

/// The head of a request to the agent's local proxy: more bytes behind it change nothing.
pub fn proxy_head(bytes: &[u8]) {
    if let Ok(Some(read)) = head::parse(bytes) {
        assert!(read.length <= bytes.len());
        assert_eq!(head::parse(&bytes[..read.length]), Ok(Some(read)));
    }
}

/// `cut · SOCKS5`: how the bytes are cut changes nothing in what is asked for.
pub fn socks(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let run = |size: usize| {
        let mut state = socks5::Socks5::default();
        let mut steps = Vec::new();
        let mut shown = 0;
        while shown < input.len() && shown < 4 * socks5::MAX_MESSAGE_BYTES {
            let end = (shown + size).min(input.len());
            let step = state.handle(&input[shown..end]);
            shown = end;
            match step {
                socks5::Step::More => {}
                socks5::Step::Answer(_) => steps.push(state.handle(&[])),
                socks5::Step::Connect { target, port, .. } => return Some((target, port)),
                socks5::Step::Refuse(_) => return None,
            }
            if let Some(socks5::Step::Connect { target, port, .. }) = steps.pop() {
                return Some((target, port));
            }
        }
        None
    };
    let (one, other) = (run(1), run(usize::from(steer) + 1));
    if let (Some(one), Some(other)) = (one, other) {
        assert_eq!(one, other);
    }
}
