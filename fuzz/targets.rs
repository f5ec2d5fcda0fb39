//! What the fuzzers call, one function per parser that meets foreign bytes. A finding is a panic.
//!
//! The drivers in `fuzz_targets/` hand libFuzzer's bytes over; `cargo test -p vouchsafe-wire --test it`
//! replays the seeds and every input that once was a finding.

use bytes::BytesMut;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::{Endpoint, Leeway, PathCase, PathRules};
use vouchsafe_model::subject::{DeviceFacts, SubjectFacts};
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::authority::Authority;
use vouchsafe_wire::canonical::CanonicalTarget;
use vouchsafe_wire::capsule::{CapsuleError, CapsuleReader, MAX_UDP_PAYLOAD, udp_payload, write_capsule};
use vouchsafe_wire::control::message::{AnswerKind, Device, Down, DownKind, Snapshot, Up};
use vouchsafe_wire::control::{self as channel, convert, decode};
use vouchsafe_wire::framing::{Answered, Guard, Limits, Next};
use vouchsafe_wire::hello::{Hello, HelloError, MAX_HELLO};
use vouchsafe_wire::http3::{self, FrameError, FrameReader, frame, head as http3_head};
use vouchsafe_wire::qpack;
use vouchsafe_wire::resource::ResourceDoc;
use vouchsafe_wire::roster::{Roster, SignedRoster};
use vouchsafe_wire::spiffe::CertifiedIdentity;
use vouchsafe_wire::spool::{Frame, HEADER_BYTES, push_frame, read_frame};
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::{AccessClaims, AssertionClaims};
use vouchsafe_wire::websocket::{Frames, close_frame};

/// A target: what it is called with.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit_record", audit_record),
    ("authority", authority),
    ("canonical", canonical),
    ("capsule", capsule),
    ("control", control),
    ("framing", framing),
    ("hello", hello),
    ("http3", http3),
    ("proxy_head", proxy_head),
    ("qpack", qpack),
    ("resource", resource),
    ("socks", socks),
    ("spiffe", spiffe),
    ("spool", spool),
    ("ticket", ticket),
    ("token", token),
    ("websocket", websocket),
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

/// `direction · gRPC stream`: what is read is sent on as the same, and what it says is a fact or refused.
pub fn control(bytes: &[u8]) {
    let (steer, rest) = steered(bytes);
    let mut frames = channel::Frames::new(4_096);
    for piece in rest.chunks(usize::from(steer >> 1).max(1)) {
        frames.push(piece);
        if steer & 1 == 0 {
            while let Ok(Some(up)) = frames.take::<Up>() {
                let mut again = channel::Frames::new(8_192);
                again.push(&channel::frame(&up));
                assert_eq!(again.take(), Ok(Some(up)));
            }
            continue;
        }
        while let Ok(Some(down)) = frames.take::<Down>() {
            match down.kind {
                Some(DownKind::Answer(answer)) => match answer.kind {
                    Some(AnswerKind::Subject(subject)) => {
                        let Ok(facts) = SubjectFacts::try_from(&*subject) else { continue };
                        let again = convert::subject(&facts, None);
                        assert_eq!(SubjectFacts::try_from(&again), Ok(facts));
                    }
                    Some(AnswerKind::Device(device)) => {
                        let Ok(facts) = DeviceFacts::try_from(&device) else { continue };
                        assert_eq!(DeviceFacts::try_from(&Device::from(&facts)), Ok(facts));
                    }
                    _ => {}
                },
                Some(DownKind::Snapshot(signed)) => {
                    let Ok(snapshot) = decode::<Snapshot>(&signed.payload) else { continue };
                    snapshot.grants.iter().for_each(|grant| drop(Grant::try_from(grant)));
                    snapshot.resources.iter().for_each(|text| drop(convert::resource(text)));
                }
                Some(DownKind::Roster(list)) => {
                    let Ok(signed) = decode::<SignedRoster>(&list) else { continue };
                    assert_eq!(decode(&signed.to_bytes()).as_ref(), Ok(&signed));
                    let Ok(roster) = decode::<Roster>(&signed.payload) else { continue };
                    let addresses = roster.gateways.iter().flat_map(|gateway| &gateway.addresses);
                    addresses.filter_map(|text| Endpoint::parse(text).ok()).for_each(|endpoint| {
                        assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
                    });
                }
                _ => {}
            }
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

/// `cut · a stream of HTTP/3`: how it is cut changes no frame, and little is kept of what is not whole.
pub fn http3(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let whole = frames(input, input.len().max(1));
    assert_eq!(frames(input, usize::from(steer % 61) + 1), whole);
    for (kind, content) in whole.0 {
        if kind == frame::SETTINGS
            && let Some(settings) = http3::read_settings(&content)
        {
            let mut out = Vec::new();
            http3::write_settings(&mut out, &settings);
            let again = frames(&out, out.len()).0;
            assert_eq!(again.len(), 1);
            assert_eq!(http3::read_settings(&again[0].1), Some(settings));
        }
    }
}

/// Frames by type and content, DATA joined, and what ended them.
fn frames(input: &[u8], size: usize) -> (Vec<(u64, Vec<u8>)>, Result<bool, FrameError>) {
    const MAX_HEADERS: usize = 1024;
    let (mut reader, mut buffer, mut found) = (FrameReader::new(MAX_HEADERS), BytesMut::new(), Vec::new());
    for part in input.chunks(size) {
        buffer.extend_from_slice(part);
        loop {
            match reader.next(&mut buffer) {
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
                Ok(Some(http3::Frame::Whole { kind, content })) => {
                    assert_ne!(kind, frame::DATA);
                    found.push((kind, content.to_vec()));
                }
                Ok(Some(http3::Frame::Data(data))) => match found.last_mut() {
                    Some((frame::DATA, before)) => before.extend_from_slice(&data),
                    _ => found.push((frame::DATA, data.to_vec())),
                },
            }
        }
        // Settings and the like may have 4 KiB.
        assert!(buffer.len() < 4096 + 16, "{} bytes are kept", buffer.len());
    }
    (found, Ok(reader.is_between_frames() && buffer.is_empty()))
}

/// `limit · field section`: what is decoded is within the limit and survives our own encoding; a head
/// that is made of it has no second reading.
pub fn qpack(bytes: &[u8]) {
    const MAX_FIELDS: usize = 20;
    let (steer, section) = steered(bytes);
    let limit = usize::from(steer) * 64;
    let Ok(fields) = qpack::decode(section, limit) else { return };
    let size: usize = fields.iter().map(|field| field.name.len() + field.value.len() + 32).sum();
    assert!(size <= limit);
    let plain = qpack::encode(fields.iter().map(|field| (field.name.as_slice(), field.value.as_slice())));
    assert_eq!(qpack::decode(&plain, limit).as_ref(), Ok(&fields));
    if let Ok(trailers) = http3_head::trailers(fields.clone(), MAX_FIELDS) {
        plain_fields(&trailers, MAX_FIELDS);
    }
    let Ok((request, protocol)) = http3_head::request(fields.clone(), MAX_FIELDS) else { return };
    plain_fields(request.headers(), MAX_FIELDS);
    let only = |name: &str| {
        let mut values = fields.iter().filter(|field| field.name == name.as_bytes());
        let value = values.next().map(|field| String::from_utf8_lossy(&field.value).into_owned());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    };
    assert_eq!(only(":method").as_deref(), Some(request.method().as_str()));
    assert_eq!(only(":path").as_deref(), request.uri().path_and_query().map(|path| path.as_str()));
    if let Some(authority) = only(":authority") {
        assert_eq!(Some(authority.as_str()), request.uri().authority().map(|authority| authority.as_str()));
    }
    assert_eq!(only(":protocol").is_some(), protocol.is_some());
    assert!(protocol.is_none() || request.method() == http::Method::CONNECT);
    let lengths = request.headers().get_all("content-length").iter().count();
    match http3_head::content_length(request.headers()) {
        Ok(None) => assert_eq!(lengths, 0),
        Ok(Some(_)) => assert_eq!(lengths, 1),
        Err(_) => assert!(lengths > 0),
    }
}

/// Fields that mean the same as lines of HTTP/1.1.
fn plain_fields(fields: &http::HeaderMap, max: usize) {
    assert!(fields.len() <= max);
    for (name, value) in fields {
        let of_connection = ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"];
        assert!(!of_connection.contains(&name.as_str()) && !name.as_str().contains(':'), "{name}");
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}");
    }
}

/// `cut · capsules`: how they are cut changes no datagram, and no datagram is larger than UDP's.
pub fn capsule(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let (found, ended) = datagrams(input, input.len().max(1));
    assert_eq!(datagrams(input, usize::from(steer % 61) + 1), (found.clone(), ended));
    for datagram in found {
        let Some(payload) = udp_payload(&datagram) else { continue };
        assert!(payload.len() <= MAX_UDP_PAYLOAD);
        let mut out = Vec::new();
        write_capsule(&mut out, payload);
        let (again, _) = datagrams(&out, out.len());
        assert_eq!(again.len(), 1);
        assert_eq!(udp_payload(&again[0]), Some(payload));
    }
}

fn datagrams(input: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<CapsuleError>) {
    let (mut reader, mut found) = (CapsuleReader::default(), Vec::new());
    for mut part in input.chunks(size) {
        loop {
            match reader.next(&mut part) {
                Ok(Some(datagram)) => found.push(datagram),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(part.is_empty());
    }
    (found, None)
}

/// `cut · one direction of a WebSocket`: a last word finds the same places however the bytes are cut,
/// and they are those that a plain reading of RFC 6455 §5.2 finds.
pub fn websocket(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let mut places = vec![true];
    let mut one = Frames::default();
    for byte in input {
        one.advance(&[*byte]);
        places.push(one.may_close());
    }
    let (mut cut, mut at) = (Frames::default(), 0);
    for part in input.chunks(usize::from(steer % 61) + 1) {
        cut.advance(part);
        at += part.len();
        assert_eq!(cut.may_close(), places[at]);
    }
    let (mut begins, mut closed) = (0, false);
    while !closed && begins <= input.len() {
        assert!(places[begins], "a frame begins at {begins}");
        let Some((first, length)) = frame_at(&input[begins..]) else { break };
        let end = begins.saturating_add(length);
        assert!(!(begins + 1..end.min(input.len() + 1)).any(|at| places[at]), "a place within a frame");
        (begins, closed) = (end, first & 0x0f == 8);
    }
    if closed {
        assert!(!places[begins.min(input.len())..].iter().any(|place| *place), "a place behind the last frame");
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let frame = close_frame(1008, text);
        let mut reader = Frames::default();
        reader.advance(&frame);
        assert!(frame.len() <= 127 && !reader.may_close());
        assert!(text.as_bytes().starts_with(&frame[4..]));
    }
}

/// First byte and length of the frame that begins here, once its head is whole.
fn frame_at(input: &[u8]) -> Option<(u8, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (head, payload) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    input.get(..head + mask)?;
    Some((first, usize::try_from(payload).ok()?.saturating_add(head + mask)))
}

/// `cut · handshake of QUIC`: how it is cut changes nothing, and the name that the TLS library finds in
/// the records that we make is the one that stands in the ClientHello.
pub fn hello(bytes: &[u8]) {
    let (steer, input) = steered(bytes);
    let collect = |size: usize| {
        let mut hello = Hello::default();
        for part in input.chunks(size) {
            if hello.add(part)? {
                return Ok::<_, HelloError>(hello.records());
            }
        }
        Ok(None)
    };
    let records = collect(1);
    // Pieces that are larger may hold more than the limit behind a ClientHello that is whole.
    if input.len() <= MAX_HELLO {
        assert_eq!(collect(usize::from(steer) + 1), records);
    }
    let Ok(Some(records)) = records else { return };
    assert!(records.len() <= input.len() + 5 * 5);
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
    }
    if let Ok(Some(accepted)) = acceptor.accept()
        && let Some(name) = accepted.client_hello().server_name()
    {
        let raw = name_in(input).expect("a name stands in it");
        assert!(raw.eq_ignore_ascii_case(name.as_bytes()), "{name}");
    }
}

/// The host name in a ClientHello, by the letter of RFC 8446 §4.1.2 and RFC 6066 §3.
fn name_in(hello: &[u8]) -> Option<&[u8]> {
    let short = |bytes: &[u8]| bytes.get(..2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    // Message head, version, random; then session id, suites and compression methods.
    let mut rest = hello.get(4 + 2 + 32..)?;
    rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    rest = rest.get(2 + short(rest)?..)?;
    rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    rest = rest.get(2..2 + short(rest)?)?;
    while !rest.is_empty() {
        let content = rest.get(4..4 + short(rest.get(2..)?)?)?;
        if rest.starts_with(&[0, 0]) {
            // A list of names; of its kinds only 0 is in use.
            let name = content.get(2..).filter(|names| names.first() == Some(&0))?;
            return name.get(3..3 + short(name.get(1..)?)?);
        }
        rest = rest.get(4 + content.len()..)?;
    }
    None
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
