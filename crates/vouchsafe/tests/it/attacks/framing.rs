//! G4: where a request ends is never in doubt.

use super::{H1_WAYS, Lab, STREAM_WAYS, Way};

#[tokio::test(flavor = "multi_thread")]
async fn a053_two_framings_at_once_are_never_forwarded() {
    let lab = Lab::start().await;
    let inner = format!("GET /admin HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host("app-a"));
    let long = 5 + inner.len();
    for way in H1_WAYS {
        // CL.TE and TE.CL. The library drops `Content-Length` when `Transfer-Encoding: chunked` is
        // there; where it does so before we see it, one canonical request with the chunked reading
        // is safe, since it is framed anew: what stands behind it is decided on by itself.
        for rest in [
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG".to_owned(),
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG".to_owned(),
            format!("Content-Length: {long}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
            format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        ] {
            let sample = format!("{way:?} {rest:?}");
            let answer = lab.raw(way, "POST", "/public/sample", &rest).await;
            lab.harmless(&sample, &answer, &[b"", inner.as_bytes()]).await;
        }
        // Lengths that differ or are none.
        for length in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 6",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length: 5;",
            "Content-Length: 99999999999999999999999",
            "Content-Length: ",
            "Content-Length : 5",
            "Content-Length: \u{b}5",
        ] {
            let sample = format!("{way:?} {length:?}");
            let answer = lab.raw(way, "POST", "/public/sample", &format!("{length}\r\n\r\nhello")).await;
            lab.refused_and_harmless(&sample, &answer).await;
        }
        // The same length twice has one reading.
        let answer =
            lab.raw(way, "POST", "/public/sample", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello").await;
        lab.harmless("the same length twice", &answer, &[b"hello"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a055_only_chunked_is_chunked() {
    let lab = Lab::start().await;
    let smuggled = format!("0\r\n\r\nGET /admin HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host("app-a"));
    for way in H1_WAYS {
        for field in [
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked x",
            "Transfer-Encoding:\n chunked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding:",
            " Transfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ] {
            let sample = format!("{way:?} {field:?}");
            let answer = lab.raw(way, "POST", "/public/sample", &format!("{field}\r\n\r\n{smuggled}")).await;
            lab.refused_and_harmless(&sample, &answer).await;
        }
        // Where the last coding is `chunked`, the library reads the body as such and tells us nothing
        // of the rest; what goes upstream is framed anew. `TE` is no framing at all.
        for field in [
            "Transfer-Encoding: Chunked",
            "Transfer-Encoding: CHUNKED",
            "Transfer-Encoding: \tchunked",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer_Encoding: chunked",
            "X-A: b\r\nTE: chunked",
        ] {
            let sample = format!("{way:?} {field:?}");
            let answer = lab.raw(way, "POST", "/public/sample", &format!("{field}\r\n\r\n{smuggled}")).await;
            lab.harmless(&sample, &answer, &[b""]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a057_a_chunk_that_is_not_well_made_ends_the_connection() {
    let lab = Lab::start().await;
    let smuggled = format!("GET /admin HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host("app-a"));
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20));
    for way in H1_WAYS {
        for chunks in [
            "ffffffffffffffff0\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "g\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5\rhello\r\n0\r\n\r\n",
            "5;a=\"\r\"\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            &extension,
        ] {
            let sample = format!("{way:?} {:?}", chunks.get(..40).unwrap_or(chunks));
            let rest = format!("Transfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}");
            let answer = lab.raw(way, "POST", "/public/sample", &rest).await;
            lab.refused_and_harmless(&sample, &answer).await;
            assert!(answer.closed, "{sample}: the connection is closed: {answer:?}");
        }
        // These have one reading.
        for chunks in [
            "5;a=b\r\nhello\r\n0\r\n\r\n",
            "0005\r\nhello\r\n000\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n",
        ] {
            let answer =
                lab.raw(way, "POST", "/public/sample", &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")).await;
            lab.harmless(&format!("{way:?} {chunks:?}"), &answer, &[b"hello"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a059_other_versions_of_http_are_refused() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        let head = lab.head(way, "POST", "/public/sample");
        for (version, rest) in [
            ("HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("HTTP/1.0", "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
            ("HTTP/1.0", "\r\n"),
            ("HTTP/1.2", "\r\n"),
            ("HTTP/2.0", "\r\n"),
            ("HTTP/0.9", "\r\n"),
            ("HTTP/1.1 ", "\r\n"),
            ("HTTP/1.1\t", "\r\n"),
            ("http/1.1", "\r\n"),
            ("HTTP/01.1", "\r\n"),
            ("HTTP/1.10", "\r\n"),
            ("HTTP /1.1", "\r\n"),
            ("", "\r\n"),
        ] {
            let bytes = format!("{}{rest}", head.replace("HTTP/1.1", version));
            let answer = lab.bytes(way, bytes.as_bytes()).await;
            lab.refused(&format!("{way:?} {version:?} {rest:?}"), &answer, &[0, 400, 505]).await;
        }
        let answer = lab.bytes(way, b"GET /public/x\r\n\r\n").await;
        lab.refused("HTTP/0.9", &answer, &[0, 400, 505]).await;
        let bare = head.replace("\r\n", "\r");
        let answer = lab.bytes(way, format!("{bare}\r\r").as_bytes()).await;
        lab.refused("lines that end in CR alone", &answer, &[0, 400]).await;
        // Lines that end in LF alone have one reading (RFC 9112 §2.2); what goes upstream has CR too.
        let bare = head.replace("\r\n", "\n");
        let answer = lab.bytes(way, format!("{bare}Content-Length: 0\n\n").as_bytes()).await;
        lab.harmless("lines that end in LF alone", &answer, &[b""]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a061_expect_moves_no_byte_before_the_permit() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        // Refused: the client is told at once and never asked for the body.
        let answer = lab.raw(way, "POST", "/elsewhere", "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n").await;
        lab.refused(&format!("{way:?} expect, refused"), &answer, &[403]).await;
        assert!(!answer.text.contains("100 Continue"), "{way:?}: {answer:?}");
        for value in ["100-continue", "100-CONTINUE", "y 100-continue", "100-continue, y", "200-ok", ""] {
            let sample = format!("{way:?} {value:?}");
            let rest = format!("Expect: {value}\r\nContent-Length: 5\r\n\r\nhello");
            let answer = lab.raw(way, "POST", "/public/sample", &rest).await;
            lab.harmless(&sample, &answer, &[b"hello"]).await;
        }
        // Refused with the body sent all the same: it is not taken for a request.
        let inner =
            format!("GET /public/inner HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", lab.host("app-a"), lab.cookie);
        let rest = format!("Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        let answer = lab.raw(way, "POST", "/elsewhere", &rest).await;
        lab.refused(&format!("{way:?} refused with a body"), &answer, &[403]).await;
    }
}

/// The same on streams, where an interim answer is a head of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a061_expect_on_a_stream_moves_no_byte_before_the_permit() {
    let lab = Lab::start().await;
    let body = Some(&b"hello"[..]);
    for way in STREAM_WAYS {
        for value in ["y 100-continue", "100-continue, y", "200-ok", ""] {
            let fields = [("expect", value), ("content-length", "5")];
            let answer = lab.frames(way, "POST", "/public/sample", &fields, body).await;
            lab.refused(&format!("{way:?} {value:?}"), &answer, &[400]).await;
        }
        for value in ["100-continue", "100-CONTINUE"] {
            let sample = format!("{way:?} {value:?}");
            // With a body that nobody asked for, and with none: who is refused is never asked for one.
            for body in [body, None] {
                let fields = [("expect", value), ("content-length", if body.is_some() { "5" } else { "0" })];
                let answer = lab.frames(way, "POST", "/elsewhere", &fields, body).await;
                lab.refused(&format!("{sample}, refused"), &answer, &[403]).await;
            }
            for length in [Some(("content-length", "5")), None] {
                let fields: Vec<_> = std::iter::once(("expect", value)).chain(length).collect();
                let answer = lab.frames(way, "POST", "/public/sample", &fields, body).await;
                let seen = lab.one(&sample, &answer, "POST /public/sample HTTP/1.1");
                assert_eq!(seen.body, b"hello", "{sample}: {seen:?}");
                // What it says upstream is the gateway's own wish, or nothing.
                assert!(seen.values("expect").iter().all(|value| *value == "100-continue"), "{sample}: {seen:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a053_each_of_several_requests_in_a_row_is_decided_by_itself() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        let request = |target: &str| format!("{}\r\n", lab.head(way, "GET", target));
        let row = ["/public/1", "/admin", "/public/2", "/elsewhere", "/public/3"].map(request).concat();
        let answer = lab.bytes(way, row.as_bytes()).await;
        assert_eq!(answer.answers, 5, "{way:?}: {answer:?}");
        let statuses: Vec<&str> = answer.text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect();
        // The upstream's own answer is the request line, which the split takes for one of ours.
        let statuses: Vec<&str> = statuses.into_iter().filter(|status| status.parse::<u16>().is_ok()).collect();
        assert_eq!(statuses, ["200", "403", "200", "403", "200"], "{way:?}: {answer:?}");
        let lines: Vec<String> = lab.app.take().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /public/1 HTTP/1.1", "GET /public/2 HTTP/1.1", "GET /public/3 HTTP/1.1"], "{way:?}");
    }
}

/// A client that tries its luck sends on behind its CONNECT before it is answered. When the tunnel
/// is refused, those bytes were for somebody else, and must not be read as requests to us.
#[tokio::test(flavor = "multi_thread")]
async fn a063_what_follows_a_refused_connect_is_no_request() {
    let lab = Lab::start().await;
    let bearer = format!("Proxy-Authorization: Bearer {}", lab.laptop.token);
    for (way, authority) in [(Way::H1Proxied, "app-b:80"), (Way::H1Proxied, "nothing:5432"), (Way::H1, "app-a:80")] {
        let (line, inner) =
            (format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}"), lab.head(way, "GET", "/public/inner"));
        let answer = lab.bytes(way, format!("{line}\r\n{bearer}\r\n\r\n{inner}\r\n").as_bytes()).await;
        lab.refused(&format!("{way:?} CONNECT {authority}"), &answer, &[400, 403, 405]).await;
        assert!(answer.closed, "{way:?} CONNECT {authority}: the connection is closed: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a063_connect_leads_to_no_app() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    let bearer = format!("Bearer {}", lab.laptop.token);
    let inner = format!("GET /admin HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for authority in [host.as_str(), "app-a:80", "app-b:80", "127.0.0.1:80", "localhost:80"] {
        let connect = [
            (":method", "CONNECT"),
            (":authority", authority),
            ("proxy-authorization", bearer.as_str()),
            ("cookie", lab.cookie.as_str()),
        ];
        for way in [Way::H2, Way::H3] {
            let answer = lab.streamed(way, "app-a", None, &connect, Some(inner.as_bytes())).await;
            lab.refused(&format!("{way:?} CONNECT {authority} at the app"), &answer, &[0, 400, 403, 405, 421]).await;
        }
        let line = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        let rest = format!("Cookie: {}\r\nProxy-Authorization: {bearer}\r\n\r\n", lab.cookie);
        let answer = lab.bytes(Way::H1, format!("{line}{rest}").as_bytes()).await;
        lab.refused(&format!("CONNECT {authority} at the app"), &answer, &[400, 403, 405, 421]).await;
        if authority != host {
            let answer = lab.bytes(Way::H1Proxied, format!("{line}{rest}").as_bytes()).await;
            lab.refused(&format!("CONNECT {authority} at the gateway"), &answer, &[400, 403]).await;
        }
        let answer = lab.after_victims(authority).await;
        assert!(answer.is_empty(), "{authority}: {answer:?}");
    }
    for way in STREAM_WAYS {
        // Extended CONNECT (RFC 8441) was not offered.
        let answer = lab.send(way, "CONNECT", "/public/x", &[(":protocol", "websocket")]).await;
        lab.refused(&format!("{way:?} extended CONNECT"), &answer, &[0, 400, 403]).await;
        let answer = lab.send(way, "CONNECT", "/admin", &[]).await;
        lab.refused(&format!("{way:?} CONNECT with a path"), &answer, &[0, 400, 403]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a065_a066_a067_framing_on_streams_says_one_thing() {
    let lab = Lab::start().await;
    let inner = format!("GET /admin HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host("app-a"));
    let chunked = format!("0\r\n\r\n{inner}");
    for way in STREAM_WAYS {
        for (fields, body) in [
            (vec![("content-length", "0")], Some(inner.as_str())),
            (vec![("content-length", "3")], Some(inner.as_str())),
            (vec![("content-length", "100000")], Some(inner.as_str())),
            (vec![("content-length", "5"), ("content-length", "6")], Some("hello")),
            (vec![("content-length", "+5")], Some("hello")),
            (vec![("content-length", "x")], Some("hello")),
            // A067 and its sibling in HTTP/2: a length, and no body at all.
            (vec![("content-length", "10")], None),
            (vec![("transfer-encoding", "chunked")], Some(chunked.as_str())),
            (vec![("transfer-encoding", "chunked"), ("content-length", "5")], Some(chunked.as_str())),
            (vec![("connection", "keep-alive")], None),
            (vec![("upgrade", "h2c")], None),
            (vec![("keep-alive", "1")], None),
            (vec![("proxy-connection", "keep-alive")], None),
            (vec![("te", "chunked")], None),
        ] {
            let sample = format!("{way:?} {fields:?}");
            let answer = lab.frames(way, "POST", "/public/sample", &fields, body.map(str::as_bytes)).await;
            // A length that the body does not keep shows only while it passes: then the request may
            // have begun upstream, but it never ends there, or it is the announced one.
            lab.harmless(&sample, &answer, &[b""]).await;
        }
        // A066: line breaks and NUL in fields of streams, which would be lines in HTTP/1.1.
        for (name, value) in [
            ("x", "a\r\nX-Evil: 1"),
            ("x", "a\nX-Evil: 1"),
            ("x", "a\rX-Evil: 1"),
            ("x", "a\0b"),
            ("x\r\nx-evil", "1"),
            ("x-evil: 1\r\nx", "1"),
            (":evil", "1"),
            (":method", "DELETE"),
            (":path", "/admin"),
        ] {
            let answer = lab.send(way, "GET", "/public/x", &[(name, value)]).await;
            lab.refused(&format!("{way:?} {name:?}: {value:?}"), &answer, &[0, 400]).await;
        }
        for path in ["/public/x HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET /admin", "/public/x\r\n", "/public/x\0"] {
            let answer = lab.send(way, "GET", path, &[]).await;
            lab.refused(&format!("{way:?} :path {path:?}"), &answer, &[0, 400]).await;
        }
        for method in ["GET /admin HTTP/1.1\r\nX:", "GET\r\n", "G ET"] {
            let answer = lab.send(way, method, "/public/x", &[]).await;
            lab.refused(&format!("{way:?} :method {method:?}"), &answer, &[0, 400]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a071_no_upgrade_but_a_websocket_is_passed_on() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        for (connection, upgrade) in [
            ("Upgrade, HTTP2-Settings", "h2c"),
            ("Upgrade", "h2c"),
            ("Upgrade", "websocket, h2c"),
            ("Upgrade", "TLS/1.0"),
            ("Upgrade", "vouchsafe"),
            ("keep-alive", "h2c"),
        ] {
            let sample = format!("{way:?} {upgrade} {connection}");
            let fields =
                [("Connection", connection), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")];
            let answer = lab.send(way, "GET", "/public/x", &fields).await;
            if answer.status == 200 {
                let seen = lab.one(&sample, &answer, "GET /public/x HTTP/1.1");
                assert!(seen.values("upgrade").is_empty(), "{sample}: {seen:?}");
                assert!(
                    seen.values("connection").iter().all(|value| !value.to_ascii_lowercase().contains("upgrade")),
                    "{sample}: {seen:?}"
                );
            } else {
                lab.refused(&sample, &answer, &[400, 501]).await;
            }
        }
    }
}
