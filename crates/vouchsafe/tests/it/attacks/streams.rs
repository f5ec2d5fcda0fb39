//! G4 and G18 on streams of HTTP/3, where our own code reads the frames: generated samples of each
//! class, sent by a client that checks nothing.

use std::sync::Arc;

use rustls::client::Resumption;
use vouchsafe_wire::http3::{code, frame, setting, stream, write_settings};
use vouchsafe_wire::{qpack, varint};

use super::Lab;
use super::authority::OneDrawer;
use super::probe::config;
use super::probe::h3::{Connection, framed, handshake, headers, headers_of_bytes, read};
use crate::peers::{forget_peak, resident_kib};
use crate::world::World;

impl Lab {
    /// A good head for `app-a`, and what is added to it.
    fn head_fields<'l>(&'l self, host: &'l str, method: &'l str, path: &'l str) -> Vec<(&'l str, &'l str)> {
        let pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)];
        pseudo.into_iter().chain([("cookie", self.cookie.as_str())]).collect()
    }
}

/// A response to a malformed request may be the error of the stream or of the connection, or 400.
const REFUSALS: [u16; 2] = [0, 400];

#[tokio::test(flavor = "multi_thread")]
async fn a003_a053_a055_a066_every_byte_in_a_field_has_one_reading_or_none() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let mut connection = Connection::open(&lab.world, "app-a", None).await;
    let path = "/public/x";
    for byte in 0..=u8::MAX {
        if byte % 64 == 63 {
            // What is malformed is forgiven a few thousand times on one connection.
            connection.leave();
            connection = Connection::open(&lab.world, "app-a", None).await;
        }
        let placed = |front: &[u8], back: &[u8]| [front, &[byte], back].concat();
        // Where it may stand: in a name, or at each place of a value.
        let name = byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let inside = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let at_end = inside && byte != b' ' && byte != b'\t';
        for (field, value, allowed) in [
            (placed(b"xa", b"z"), b"1".to_vec(), name),
            (placed(b"", b"xa"), b"1".to_vec(), name),
            (placed(b"xa", b""), b"1".to_vec(), name),
            (b"x-own".to_vec(), placed(b"a", b"b"), inside),
            (b"x-own".to_vec(), placed(b"", b"b"), at_end),
            (b"x-own".to_vec(), placed(b"a", b""), at_end),
            // In a field that frames a body where it is believed.
            (placed(b"transfer-encoding", b""), b"chunked".to_vec(), name),
            (placed(b"content-length", b""), b"7".to_vec(), name),
            (b"content-length".to_vec(), placed(b"0", b""), byte == b'0'),
            (b"content-length".to_vec(), placed(b"", b"0"), byte == b'0'),
        ] {
            let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
            let good = lab.head_fields(&host, "GET", path);
            fields.extend(good.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            fields.push((&field, &value));
            let sample = format!("{:?}: {:?}", String::from_utf8_lossy(&field), String::from_utf8_lossy(&value));
            let answer = connection.ask(&headers_of_bytes(&fields)).await;
            if !allowed {
                lab.refused(&sample, &answer, &REFUSALS).await;
                assert!(answer.status == 400 || answer.error == Some(code::MESSAGE_ERROR), "{sample}: {answer:?}");
                continue;
            }
            let seen = lab.one(&sample, &answer, &format!("GET {path} HTTP/1.1"));
            assert!(seen.body.is_empty() && seen.values("transfer-encoding").is_empty(), "{sample}: {seen:?}");
            if field == b"x-own" {
                assert_eq!(seen.values("x-own"), [String::from_utf8_lossy(&value)], "{sample}");
            }
        }
        // In the parts of the request line that it becomes upstream.
        for (pseudo, value) in [
            (":method", placed(b"GE", b"T")),
            (":path", placed(b"/public/", b"")),
            (":authority", placed(b"", host.as_bytes())),
            (":scheme", placed(b"http", b"s")),
        ] {
            let good = lab.head_fields(&host, "GET", path);
            let fields: Vec<(&[u8], &[u8])> = good
                .iter()
                .map(|(name, good)| (name.as_bytes(), if *name == pseudo { &value[..] } else { good.as_bytes() }))
                .collect();
            let sample = format!("{pseudo} {:?}", String::from_utf8_lossy(&value));
            let answer = connection.ask(&headers_of_bytes(&fields)).await;
            let seen = lab.app.take();
            assert!(seen.len() <= 1 && (seen.is_empty() || answer.status == 200), "{sample}: {answer:?} {seen:?}");
            for one in seen {
                let parts: Vec<&str> = one.line.split(' ').collect();
                let [method, target, "HTTP/1.1"] = parts.as_slice() else { panic!("{sample}: {one:?}") };
                // Only what HTTP/1.1 can say, and only below the prefix that is open.
                assert!(method.bytes().all(|byte| byte.is_ascii_graphic()), "{sample}: {one:?}");
                assert!(
                    target.starts_with("/public/") && target.bytes().all(|b| b.is_ascii_graphic()),
                    "{sample}: {one:?}"
                );
                assert_eq!(one.values("host"), [host.as_str()], "{sample}");
            }
        }
    }
    connection.leave();
}

#[tokio::test(flavor = "multi_thread")]
async fn a063_a065_every_type_of_frame_at_every_place_has_one_reading_or_none() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let good = headers(&lab.head_fields(&host, "POST", "/public/sample"));
    let trailers = headers(&[("x-fine", "yes")]);
    let hello = framed(frame::DATA, b"hello");
    for kind in (0..0xf).chain([0x21, 0x40, 0x1000]) {
        for content in [&b""[..], b"hello"] {
            let odd = framed(kind, content);
            let known = matches!(kind, 0x0..=0x9 | 0xd);
            for (place, bytes) in [
                ("first", [&odd[..], &good, &hello].concat()),
                ("before the body", [&good[..], &odd, &hello].concat()),
                ("within the body", [&good[..], &hello, &odd, &hello].concat()),
                ("behind the trailers", [&good[..], &hello, &trailers, &odd].concat()),
            ] {
                if kind == frame::DATA && place.contains("body") {
                    continue;
                }
                let sample = format!("type {kind:#x} of {} bytes {place}", content.len());
                let connection = Connection::open(&lab.world, "app-a", None).await;
                let answer = connection.ask(&bytes).await;
                connection.leave();
                let bodies: &[&[u8]] = if known { &[] } else { &[b"hello", b"hellohello"] };
                if known {
                    assert_eq!((answer.status, answer.error.is_some()), (0, true), "{sample}: {answer:?}");
                } else {
                    assert_eq!(answer.status, 200, "what nobody knows is passed over: {sample}: {answer:?}");
                }
                lab.harmless(&sample, &answer, bodies).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a065_a067_a_body_is_as_long_as_it_says_however_its_stream_ends() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let truncated = &framed(frame::DATA, b"hello")[..4];
    for method in ["POST", "GET", "PUT", "DELETE"] {
        for (length, body, whole) in [
            (Some("5"), vec![], false),
            (Some("5"), framed(frame::DATA, b""), false),
            (Some("5"), framed(frame::DATA, b"hell"), false),
            (Some("5"), framed(frame::DATA, b"hello!"), false),
            (Some("5"), [framed(frame::DATA, b"hel"), framed(frame::DATA, b"lo!")].concat(), false),
            (Some("5"), truncated.to_vec(), false),
            (None, truncated.to_vec(), false),
            (None, vec![0], false),
            (None, vec![0x40], false),
            (Some("0"), framed(frame::DATA, b"hello"), false),
            (Some("5"), [framed(frame::DATA, b"hell"), headers(&[("content-length", "4")])].concat(), false),
            (Some("5"), framed(frame::DATA, b"hello"), true),
            (
                Some("5"),
                [framed(frame::DATA, b"he"), framed(frame::DATA, b""), framed(frame::DATA, b"llo")].concat(),
                true,
            ),
            (None, [framed(frame::DATA, b"hello"), headers(&[("content-length", "4")])].concat(), true),
        ] {
            for late in [false, true] {
                let sample = format!("{method} {length:?} {body:?} late: {late}");
                let mut fields = lab.head_fields(&host, method, "/public/sample");
                fields.extend(length.map(|length| ("content-length", length)));
                let connection = Connection::open(&lab.world, "app-a", None).await;
                let bytes = [&headers(&fields)[..], &body].concat();
                let sent = || connection.quic.stats().udp_tx.bytes;
                let before = sent();
                let (mut send, mut recv) = connection.stream(&bytes, !late).await;
                if late {
                    // The end comes in a frame of its own that carries nothing (A067).
                    while sent() < before + bytes.len() as u64 {
                        tokio::task::yield_now().await;
                    }
                    let _ = send.finish();
                }
                let answer = read(&mut recv).await;
                connection.leave();
                let rest = lab.after_victims(&sample).await;
                if whole {
                    assert_eq!(answer.status, 200, "{sample}: {answer:?}");
                    assert!(
                        matches!(rest.as_slice(), [one] if one.complete && one.body == b"hello"),
                        "{sample}: {rest:?}"
                    );
                } else {
                    assert_eq!(answer.status, 0, "{sample}: {answer:?}");
                    let codes = [code::MESSAGE_ERROR, code::REQUEST_INCOMPLETE];
                    assert!(answer.error.is_some_and(|code| codes.contains(&code)), "{sample}: {answer:?}");
                    assert!(rest.iter().all(|seen| !seen.complete), "{sample}: {rest:?}");
                }
            }
        }
        // The client breaks off in the middle, or wants no answer.
        for announced in [None, Some("5")] {
            let mut fields = lab.head_fields(&host, method, "/public/sample");
            fields.extend(announced.map(|length| ("content-length", length)));
            let connection = Connection::open(&lab.world, "app-a", None).await;
            let bytes = [&headers(&fields)[..], &framed(frame::DATA, b"hell")].concat();
            let (mut send, mut recv) = connection.stream(&bytes, false).await;
            send.reset(0x10c_u32.into()).expect("open");
            let answer = read(&mut recv).await;
            assert!(answer.status == 0 || answer.status == 400, "{method}: {answer:?}");
            connection.leave();
            let rest = lab.after_victims("reset").await;
            assert!(rest.iter().all(|seen| !seen.complete), "{method} {announced:?}: {rest:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a265_no_field_section_costs_more_than_it_says() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let good = headers(&lab.head_fields(&host, "POST", "/public/sample"));
    let honest = async |connection: &Connection| {
        let answer = connection.ask(&headers(&lab.head_fields(&host, "GET", "/public/x"))).await;
        lab.one("an honest request on the same connection", &answer, "GET /public/x HTTP/1.1");
    };
    // Two bytes each that stand for a hundred: the longest entry of the static table.
    let bomb = |count: usize| {
        let mut section = vec![0, 0];
        section.extend([0xff, 85 - 63].repeat(count));
        section
    };
    assert_eq!(qpack::decode(&bomb(1), 1000).expect("one field")[0].name, b"content-security-policy");
    let many: Vec<(String, String)> = (0..101).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let connection = Connection::open(&lab.world, "app-a", None).await;
    for (sample, bytes, status) in [
        ("a bomb", framed(frame::HEADERS, &bomb(30_000)), 431),
        ("more than is taken in", framed(frame::HEADERS, &vec![0; 70_000]), 0),
        ("fields without number", headers(&[&lab.head_fields(&host, "GET", "/public/x")[..], &many].concat()), 431),
        (
            "trailers, a bomb",
            [&good[..], &framed(frame::DATA, b"x"), &framed(frame::HEADERS, &bomb(30_000))].concat(),
            0,
        ),
        ("trailers without number", [&good[..], &framed(frame::DATA, b"x"), &headers(&many)].concat(), 0),
        ("an endless length", [&[1][..], &((1u64 << 40) | (0b11 << 62)).to_be_bytes()].concat(), 0),
    ] {
        let answer = connection.ask(&bytes).await;
        assert_eq!((answer.status, answer.closed), (status, false), "{sample}: {answer:?}");
        let rest = lab.after_victims(sample).await;
        assert!(rest.iter().all(|seen| !seen.complete), "{sample}: {rest:?}");
        honest(&connection).await;
    }
    connection.leave();
    // What can't be decoded, or speaks of a table that there is none of, ends the connection.
    for (sample, section) in [
        ("a reference to the dynamic table", &[0, 0, 0x80][..]),
        ("one behind its base", &[0, 0, 0x10]),
        ("a name in the dynamic table", &[0, 0, 0x40, 0]),
        ("it waits for an entry", &[1, 0, 0xd1]),
        ("past the static table", &[0, 0, 0xff, 0x7f]),
        ("a number without end", &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("a string that is longer than its section", &[0, 0, 0x27, 0xff, 0x7f]),
        ("a Huffman code that is none", &[0, 0, 0x51, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("nothing at all", &[]),
    ] {
        let connection = Connection::open(&lab.world, "app-a", None).await;
        let answer = connection.ask(&framed(frame::HEADERS, section)).await;
        assert_eq!((answer.error, answer.status), (Some(code::QPACK_DECOMPRESSION_FAILED), 0), "{sample}: {answer:?}");
        assert_eq!(connection.closed().await, u64::from(code::QPACK_DECOMPRESSION_FAILED), "{sample}");
        assert_eq!(lab.app.bytes(), 0, "{sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a265_streams_that_steer_the_connection_keep_to_their_rules() {
    let world = World::start().await;
    let of = |kind: u64, content: &[u8]| {
        let mut bytes = Vec::new();
        varint::write(&mut bytes, kind);
        bytes.extend_from_slice(content);
        bytes
    };
    let settings = |pairs: &[(u64, u64)]| {
        let mut bytes = Vec::new();
        write_settings(&mut bytes, pairs);
        bytes
    };
    for (sample, bytes, expected) in [
        ("two control streams", of(stream::CONTROL, &settings(&[])), code::STREAM_CREATION_ERROR),
        ("a push", of(stream::PUSH, &[0]), code::STREAM_CREATION_ERROR),
        ("an entry for a table", of(stream::QPACK_ENCODER, &[0x41, b'a', 1, b'b']), code::QPACK_ENCODER_STREAM_ERROR),
        ("room for a table", of(stream::QPACK_ENCODER, &[0x3f, 0xe1, 0x1f]), code::QPACK_ENCODER_STREAM_ERROR),
    ] {
        let connection = Connection::open(&world, "auth", None).await;
        let _stream = connection.unidirectional(&bytes).await;
        assert_eq!(connection.closed().await, u64::from(expected), "{sample}");
    }
    for (sample, bytes, expected) in [
        ("no settings", framed(frame::GOAWAY, &[0]), code::MISSING_SETTINGS),
        ("settings twice", settings(&[]), code::FRAME_UNEXPECTED),
        ("content", framed(frame::DATA, b"x"), code::FRAME_UNEXPECTED),
        ("a field section", framed(frame::HEADERS, &[0, 0]), code::FRAME_UNEXPECTED),
        ("a frame of HTTP/2", framed(0x6, &[0; 8]), code::FRAME_UNEXPECTED),
        ("a setting of HTTP/2", framed(frame::SETTINGS, &[0x2, 0]), code::SETTINGS_ERROR),
        ("a setting twice", settings(&[(setting::H3_DATAGRAM, 1), (setting::H3_DATAGRAM, 1)]), code::SETTINGS_ERROR),
        ("settings cut off", framed(frame::SETTINGS, &[0x6]), code::SETTINGS_ERROR),
    ] {
        // On a control stream of its own, as the first of the connection.
        let first = matches!(expected, code::MISSING_SETTINGS | code::SETTINGS_ERROR);
        let (quic, _endpoint) =
            handshake(&world, &world.host("auth"), config(&world, None, &[b"h3"])).await.expect("QUIC");
        let mut control = quic.open_uni().await.expect("a stream");
        let opening = if first { vec![] } else { settings(&[]) };
        control.write_all(&of(stream::CONTROL, &[opening, bytes].concat())).await.expect("sent");
        let closed = quic.closed().await;
        let is_expected = matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == u64::from(expected));
        assert!(is_expected, "{sample}: {closed}");
    }
    // The control stream ends.
    let mut connection = Connection::open(&world, "auth", None).await;
    connection.control.finish().expect("open");
    assert_eq!(connection.closed().await, u64::from(code::CLOSED_CRITICAL_STREAM));
    // Streams that nobody knows are not read.
    let connection = Connection::open(&world, "auth", None).await;
    for _ in 0..50 {
        let mut unknown = connection.unidirectional(&of(0x21, b"something")).await;
        let stopped = unknown.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(code::STREAM_CREATION_ERROR.into()));
        let _ = unknown.finish();
    }
    connection.leave();
}

/// As in HTTP/2: what carries nothing must be earned, and a client that only sends that is not served.
#[tokio::test(flavor = "multi_thread")]
async fn a261_a265_floods_of_what_carries_nothing_end_their_connection() {
    const MANY: usize = 6_000;
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let post = headers(&lab.head_fields(&host, "POST", "/public/x"));
    let push = framed(frame::MAX_PUSH_ID, &[0]);
    let (empty, unknown) = (framed(frame::DATA, b""), framed(0x21, b"x"));
    let no_stream = {
        let mut datagram = Vec::new();
        varint::write(&mut datagram, 1_000);
        bytes::Bytes::from(datagram)
    };
    let pid = lab.world.pid();
    let (before, _) = resident_kib(pid);
    forget_peak(pid);
    for what in ["control", "unknown", "empty", "encoder", "decoder", "datagrams", "some of each"] {
        let mut connection = Connection::open(&lab.world, "app-a", None).await;
        let (mut open, mut open_uni) = (Vec::new(), Vec::new());
        match what {
            "control" => {
                let _ = connection.control.write_all(&push.repeat(MANY)).await;
            }
            "unknown" => open.push(connection.stream(&unknown.repeat(MANY), false).await),
            "empty" => open.push(connection.stream(&[post.clone(), empty.repeat(MANY)].concat(), false).await),
            "encoder" => open_uni.push(connection.unidirectional(&[&[0x02][..], &[0x20].repeat(MANY)].concat()).await),
            // Acknowledgements of nothing.
            "decoder" => open_uni.push(connection.unidirectional(&[&[0x03][..], &[0x40].repeat(MANY)].concat()).await),
            "datagrams" => while connection.quic.send_datagram_wait(no_stream.clone()).await.is_ok() {},
            _ => {
                // As many as an odd client sends cost nothing.
                connection.control.write_all(&push.repeat(100)).await.expect("sent");
                for _ in 0..100 {
                    connection.quic.send_datagram(no_stream.clone()).expect("sent");
                }
                let odd = [unknown.repeat(100), post.clone(), empty.repeat(100), framed(frame::DATA, b"x")].concat();
                let answer = connection.ask(&odd).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                connection.leave();
                continue;
            }
        }
        let ended = connection.ended().await;
        // Datagrams that a busy server drops unread count for nothing: then it is the missing request that ends it.
        let unread = what == "datagrams" && ended == Some(u64::from(code::NO_ERROR));
        assert!(unread || ended.is_none_or(|with| with == u64::from(code::EXCESSIVE_LOAD)), "{what}: {ended:?}");
    }
    let (_, peak) = resident_kib(pid);
    assert!(peak.saturating_sub(before) < 32 * 1024, "from {before} to {peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a045_a047_a051_quic_resumes_nothing_and_speaks_one_protocol() {
    let lab = Lab::start().await;
    let drawer = Arc::new(OneDrawer::default());
    let mut tickets = config(&lab.world, Some(&lab.laptop), &[b"h3"]);
    tickets.resumption = Resumption::store(drawer.clone());
    tickets.enable_early_data = true;
    for sni in ["app-a", "gw"] {
        for _ in 0..2 {
            let name = lab.world.host(sni);
            let (quic, _endpoint) = handshake(&lab.world, &name, tickets.clone()).await.expect("QUIC");
            let (mut send, mut recv) = quic.open_bi().await.expect("a stream");
            let host = lab.host("app-a");
            let fields = lab.head_fields(&host, "GET", "/public/x");
            send.write_all(&headers(&fields)).await.expect("sent");
            send.finish().expect("open");
            read(&mut recv).await;
            assert!(drawer.is_empty(), "{sni} gives tickets in QUIC");
        }
    }
    for offer in ["h3-29", "hq-interop", "h2", "http/1.1", "acme-tls/1", "doq"] {
        for sni in ["app-a", "gw"] {
            let config = config(&lab.world, None, &[offer.as_bytes()]);
            let result = handshake(&lab.world, &lab.world.host(sni), config).await;
            assert!(result.is_err(), "ALPN {offer} for {sni} was accepted in QUIC");
        }
    }
    // No name, and one that is not ours.
    let mut nameless = config(&lab.world, None, &[b"h3"]);
    nameless.enable_sni = false;
    assert!(handshake(&lab.world, &lab.world.host("app-a"), nameless).await.is_err(), "a handshake without a name");
    let stranger = handshake(&lab.world, "app-a.elsewhere.example", config(&lab.world, None, &[b"h3"])).await;
    assert!(stranger.is_err(), "a handshake for a name that is not ours");
}
