use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { head_bytes: 4096, fields: 20, trailer_bytes: 512 };

/// Shows the input in pieces that end at these offsets, and gives what passed and what came last.
fn pieces(input: &[u8], cuts: &[usize]) -> (Vec<u8>, Next, u64) {
    let mut guard = Guard::new(LIMITS);
    let (mut passed, mut shown) = (0, 0);
    let mut next = Next::More;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(input.len());
    for end in ends {
        shown = shown.max(end);
        let seen = guard.inspect(&input[passed..shown]);
        passed += seen.pass;
        next = seen.next;
    }
    (input[..passed].to_vec(), next, guard.heads())
}

fn whole(input: &str) -> (usize, Next, u64) {
    let (passed, next, heads) = pieces(input.as_bytes(), &[]);
    (passed.len(), next, heads)
}

#[track_caller]
fn refused(input: &str, fault: Fault, place: Place) {
    let (passed, next, _) = whole(input);
    assert_eq!(next, Next::Refused(fault, place), "{input:?}");
    let found = &input[..passed];
    assert!(place == Place::Body || !found.contains("smuggled"), "{input:?}: passed {found:?}");
}

#[test]
fn whole_requests_pass_and_are_counted() {
    for (input, heads) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET / HTTP/1.1\r\n\r\n", 1),
        ("GET /a?b=[c]{d}|^\"\\ HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ("GET /a?b=[c]|^ HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET https://a:1/b HTTP/1.1\r\nHost: a:1\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\ncontent-LENGTH:\t 0 \t\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\n\r\n0Fa\r\n", 1),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
        ("X-Y! / HTTP/1.1\r\nName: \u{e9}\ttab \r\nEmpty:\r\n\r\n", 1),
    ] {
        let (passed, next, seen) = whole(input);
        if heads > 0 {
            assert_eq!((passed, next, seen), (input.len(), Next::More, heads), "{input:?}");
        } else {
            assert!(matches!(next, Next::Refused(Fault::RequestLine, Place::Head)), "{input:?}");
        }
    }
}

#[test]
fn a053_two_framings_are_refused_in_any_order() {
    for (head, fault) in [
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", Fault::TwoFramings),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6", Fault::TwoFramings),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", Fault::TwoFramings),
        ("Content-Length: 5\r\nContent-Length: 5", Fault::ContentLength),
        ("Content-Length: 5\r\nContent-Length: 6", Fault::ContentLength),
        ("Content-Length: 5, 5", Fault::ContentLength),
        ("Content-Length: +5", Fault::ContentLength),
        ("Content-Length: -5", Fault::ContentLength),
        ("Content-Length: 05", Fault::ContentLength),
        ("Content-Length: 0x5", Fault::ContentLength),
        ("Content-Length: 5 5", Fault::ContentLength),
        ("Content-Length: 5;", Fault::ContentLength),
        ("Content-Length: 99999999999999999999999", Fault::ContentLength),
        ("Content-Length: 9999999999999999999", Fault::ContentLength),
        ("Content-Length:", Fault::ContentLength),
        ("Content-Length : 5", Fault::FieldName),
        ("Content-Length: \u{b}5", Fault::FieldValue),
        ("Content-Length: \u{660}", Fault::ContentLength),
    ] {
        refused(&format!("POST / HTTP/1.1\r\n{head}\r\n\r\nsmuggled"), fault, Place::Head);
    }
}

#[test]
fn a055_only_chunked_is_chunked() {
    for (field, fault) in [
        ("Transfer-Encoding : chunked", Fault::FieldName),
        ("Transfer-Encoding\t: chunked", Fault::FieldName),
        (" Transfer-Encoding: chunked", Fault::FieldName),
        ("Transfer-Encoding: xchunked", Fault::TransferEncoding),
        ("Transfer-Encoding: Chunked", Fault::TransferEncoding),
        ("Transfer-Encoding: chunked, identity", Fault::TransferEncoding),
        ("Transfer-Encoding: identity, chunked", Fault::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", Fault::TransferEncoding),
        ("Transfer-Encoding: chunked;q=1", Fault::TransferEncoding),
        ("Transfer-Encoding:", Fault::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Fault::TransferEncoding),
        ("Transfer-Encoding:\n chunked", Fault::LineEnd),
        ("Transfer-Encoding:\r\n chunked", Fault::TransferEncoding),
        ("X: a\r\n\tTransfer-Encoding: chunked", Fault::FieldName),
        ("Transfer-Encoding: \u{b}chunked", Fault::FieldValue),
        ("Transfer-Encoding: chunked\r\r", Fault::FieldValue),
        ("X: y\rTransfer-Encoding: chunked", Fault::FieldValue),
        ("X\0: y", Fault::FieldName),
        ("X: \0", Fault::FieldValue),
        (": y", Fault::FieldName),
        ("no colon", Fault::FieldName),
        ("X", Fault::FieldName),
    ] {
        refused(&format!("POST / HTTP/1.1\r\n{field}\r\n\r\n0\r\n\r\nsmuggled"), fault, Place::Head);
    }
}

#[test]
fn a057_chunks_have_one_syntax() {
    for chunks in [
        "ffffffffffffffff0\r\n",
        "0000000000000005\r\nhello",
        "0x5\r\nhello",
        "+5\r\nhello",
        "-5\r\nhello",
        " 5\r\nhello",
        "5 \r\nhello",
        "5\t\r\nhello",
        "\r\n",
        "g\r\n",
        "5\nhello",
        "5\rhello",
        "5;a=b\r\nhello",
        "5\r\nhelloX\n",
        "5\r\nhello\n",
        "5\r\nhello\r0",
        "5\r\nhello\r\n\r\n",
    ] {
        refused(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), Fault::Chunk, Place::Body);
    }
    for (trailers, fault) in [
        ("Content-Length: 7", Fault::Trailer),
        ("transfer-encoding: chunked", Fault::Trailer),
        ("Host: b", Fault::Trailer),
        ("Cookie: c=d", Fault::Trailer),
        (" X: y", Fault::FieldName),
        ("X : y", Fault::FieldName),
        ("X: y\n", Fault::LineEnd),
        ("GET / HTTP/1.1", Fault::FieldName),
    ] {
        let input = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n\r\n");
        refused(&input, fault, Place::Body);
    }
}

#[test]
fn a059_request_lines_have_one_form() {
    for (line, fault) in [
        ("GET / HTTP/1.0", Fault::Version),
        ("GET / HTTP/1.2", Fault::Version),
        ("GET / HTTP/2.0", Fault::Version),
        ("PRI * HTTP/2.0", Fault::Version),
        ("GET / HTTP/1.1 ", Fault::RequestLine),
        ("GET / HTTP/1.1\t", Fault::Version),
        ("GET / http/1.1", Fault::RequestLine),
        ("GET /", Fault::RequestLine),
        ("GET  / HTTP/1.1", Fault::RequestLine),
        ("GET /  HTTP/1.1", Fault::RequestLine),
        ("GET / a HTTP/1.1", Fault::RequestLine),
        ("GET\t/ HTTP/1.1", Fault::RequestLine),
        (" GET / HTTP/1.1", Fault::RequestLine),
        ("G\u{c9}T / HTTP/1.1", Fault::RequestLine),
        ("GET HTTP/1.1", Fault::RequestLine),
        ("GET  HTTP/1.1", Fault::RequestLine),
        ("GET /\u{e9} HTTP/1.1", Fault::RequestLine),
        ("GET /\u{1} HTTP/1.1", Fault::RequestLine),
        ("GET /a<b HTTP/1.1", Fault::RequestLine),
        ("GET http:// HTTP/1.1", Fault::RequestLine),
        ("", Fault::RequestLine),
    ] {
        refused(&format!("{line}\r\nHost: smuggled\r\n\r\n"), fault, Place::Head);
    }
    refused("GET / HTTP/1.1\nHost: a\n\n", Fault::LineEnd, Place::Head);
    refused("\nGET / HTTP/1.1\r\n\r\n", Fault::LineEnd, Place::Head);
    refused("\r\nGET / HTTP/1.1\r\n\r\n", Fault::RequestLine, Place::Head);
}

#[test]
fn a_name_as_long_as_one_that_frames_says_nothing_about_frames() {
    for field in ["X-Content-Leng: 9", "X-Transfer-Encodi: gzip", "Upgrad2: h2c"] {
        let input = format!("GET / HTTP/1.1\r\n{field}\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(whole(&input), (input.len(), Next::More, 2), "{field}");
    }
}

#[test]
fn a_target_may_be_as_long_as_path_and_query_are() {
    const ROOMY: Limits = Limits { head_bytes: 64 * 1024, ..LIMITS };
    let next = |length: usize| {
        let head = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length - 1));
        Guard::new(ROOMY).inspect(head.as_bytes()).next
    };
    assert_eq!(next(32 * 1024), Next::More);
    assert_eq!(next(32 * 1024 + 1), Next::Refused(Fault::TooLong, Place::Head));
}

#[test]
fn sizes_have_limits() {
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.head_bytes));
    refused(&long, Fault::TooLong, Place::Head);
    refused(&"x".repeat(LIMITS.head_bytes + 1), Fault::TooLong, Place::Head);
    assert_eq!(whole(&"x".repeat(LIMITS.head_bytes)).1, Next::More);
    let fits = |length: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(length - 23));
    assert_eq!(fits(LIMITS.head_bytes).len(), LIMITS.head_bytes);
    assert_eq!(whole(&fits(LIMITS.head_bytes)), (LIMITS.head_bytes, Next::More, 1));
    refused(&fits(LIMITS.head_bytes + 1), Fault::TooLong, Place::Head);
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(whole(&fields(LIMITS.fields)).2, 1);
    refused(&fields(LIMITS.fields + 1), Fault::TooManyFields, Place::Head);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    refused(&format!("{chunked}{}", "X: y\r\n".repeat(LIMITS.fields + 1)), Fault::TooManyFields, Place::Body);
    let most = format!("{chunked}{}\r\n", "X: y\r\n".repeat(LIMITS.fields));
    assert_eq!(whole(&most), (most.len(), Next::More, 1));
    refused(&format!("{chunked}X: {}\r\n", "y".repeat(LIMITS.trailer_bytes)), Fault::TooLong, Place::Body);
}

#[test]
fn a063_a071_nothing_passes_behind_a_request_for_another_protocol_until_it_is_answered() {
    for head in [
        "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n",
        "CONNECT db:5432 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n",
    ] {
        let early = b"\x16\x03\x01 bytes of the tunnel";
        let input = [head.as_bytes(), early].concat();
        let mut guard = Guard::new(LIMITS);
        assert_eq!(guard.inspect(&input), Seen { pass: head.len(), next: Next::Answer });
        assert_eq!(guard.inspect(early), Seen { pass: 0, next: Next::Answer });
        guard.answered(Answered::Switched);
        assert_eq!(guard.inspect(early), Seen { pass: early.len(), next: Next::More });
        assert!(guard.is_opaque() && guard.heads() == 1);

        let mut guard = Guard::new(LIMITS);
        guard.inspect(&input);
        guard.answered(Answered::Stayed);
        guard.answered(Answered::Switched);
        assert_eq!(guard.inspect(early).next, Next::More, "read as the beginning of a head");
        assert!(!guard.is_opaque());
    }
    for head in [
        "CONNECT db:5432 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        "CONNECT db:5432 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
    ] {
        refused(head, Fault::BodyBeforeUpgrade, Place::Head);
    }
}

/// Texts that are made of what matters to framing, so that random ones often get far.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        6 => Just("GET / HTTP/1.1\r\n"),
        6 => Just("POST /a?b HTTP/1.1\r\n"),
        2 => Just("CONNECT a:1 HTTP/1.1\r\n"),
        6 => Just("Host: a\r\n"),
        4 => Just("Content-Length: 3\r\n"),
        4 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("Upgrade: websocket\r\n"),
        9 => Just("\r\n"),
        4 => Just("abc"),
        4 => Just("3\r\nabc\r\n"),
        4 => Just("0\r\n"),
        1 => Just("\n"),
        1 => Just("\r"),
        1 => Just(" "),
        1 => Just(":"),
        1 => Just("\0"),
        1 => Just("5;x\r\n"),
    ];
    proptest::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn how_the_input_is_cut_changes_nothing(
        input in fragments(),
        cuts in proptest::collection::vec(0_usize..400, 0..12),
    ) {
        prop_assert_eq!(pieces(&input, &cuts), pieces(&input, &[]));
        let every: Vec<usize> = (0..=input.len()).collect();
        prop_assert_eq!(pieces(&input, &every), pieces(&input, &[]));
    }

    #[test]
    fn nothing_passes_that_was_not_shown_and_nothing_panics(
        input in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(0_usize..300, 0..5),
    ) {
        let (passed, _, _) = pieces(&input, &cuts);
        prop_assert!(input.starts_with(&passed));
    }
}
