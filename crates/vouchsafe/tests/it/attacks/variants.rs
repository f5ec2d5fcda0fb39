//! Relatives of the catalogue's samples that it does not list.

use tokio::io::AsyncWriteExt;

use super::probe::{self, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, h1, h2, hpack};
use super::{H1_WAYS, Lab, WAYS, Way};

/// G3: hosts as no browser writes them, in each place where a host can stand.
#[tokio::test(flavor = "multi_thread")]
async fn a041_a043_hosts_with_two_readings_are_refused_everywhere() {
    let lab = Lab::start().await;
    let (own, bare, port) = (lab.host("app-a"), lab.world.host("app-a"), lab.world.port);
    let bearer = format!("Bearer {}", lab.laptop.token);
    for host in [
        format!("user@{own}"),
        format!("user:pass@{own}"),
        format!("app-b@{own}"),
        format!("{own}@app-b"),
        format!("{bare}.:{port}"),
        format!("{bare}..:{port}"),
        format!(".{own}"),
        format!("{bare}:0{port}"),
        format!("{bare}:+{port}"),
        format!("{bare}:{port}:{port}"),
        format!("{bare}:99999"),
        format!("{bare}:-1"),
        format!("{bare}:"),
        format!("{bare}:{port}/"),
        format!("{bare}:{port}?x"),
        format!("{bare}:{port}#x"),
        format!("{bare}%3A{port}"),
        format!("%61pp-a.{}:{port}", lab.world.domain),
        format!("app%2Da.{}:{port}", lab.world.domain),
        format!("\u{ff41}pp-a.{}:{port}", lab.world.domain),
        format!("\u{430}pp-a.{}:{port}", lab.world.domain),
        format!("app-\u{e4}.{}:{port}", lab.world.domain),
        format!("app_a{}.{}:{port}", '\\', lab.world.domain),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[fe80::1%25lo]:{port}"),
        format!("[{bare}]:{port}"),
        format!("127.0.0.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f.1:{port}"),
        format!("*.{}:{port}", lab.world.domain),
        format!("{own},{own}"),
        format!("{own} {own}"),
        format!("{own}\t"),
        "null".to_owned(),
        String::new(),
    ] {
        let statuses = [0, 400, 421];
        for way in WAYS {
            let answer = match way {
                Way::H1 => {
                    let request = format!("GET /public/x HTTP/1.1\r\nHost:{host}\r\nCookie: {}\r\n\r\n", lab.cookie);
                    // Blanks around a value are no part of it (RFC 9112 §5).
                    if host.trim() == own {
                        continue;
                    }
                    lab.bytes(way, request.as_bytes()).await
                }
                Way::H1Proxied => {
                    let request = format!(
                        "GET http://{host}/public/x HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {bearer}\r\n\r\n"
                    );
                    lab.bytes(way, request.as_bytes()).await
                }
                // Their own file has these.
                Way::H3 | Way::H3Proxied => continue,
                Way::H2 | Way::H2Proxied => {
                    let proxied = way == Way::H2Proxied;
                    let fields = [
                        (":method", "GET"),
                        (":scheme", if proxied { "http" } else { "https" }),
                        (":authority", host.as_str()),
                        (":path", "/public/x"),
                        if proxied { ("proxy-authorization", bearer.as_str()) } else { ("cookie", &lab.cookie) },
                    ];
                    let (sni, device) = if proxied { ("gw", Some(&lab.laptop)) } else { ("app-a", None) };
                    h2(&lab.world, sni, device, &fields, None).await
                }
            };
            lab.refused(&format!("{way:?} {host:?}"), &answer, &statuses).await;
        }
    }
}

/// G2, G4: heads of HTTP/2 that mean two things, or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a030_a043_a066_heads_of_http2_are_whole_in_order_and_lower_case() {
    let lab = Lab::start().await;
    let own = lab.host("app-a");
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "https"), (":authority", own.as_str()), (":path", "/public/x"));
    let cookie = ("cookie", lab.cookie.as_str());
    let long = "A".repeat(10_000);
    for fields in [
        vec![scheme, authority, path, cookie],
        vec![method, authority, path, cookie],
        vec![method, scheme, authority, cookie],
        vec![method, scheme, authority, cookie, path],
        vec![method, scheme, cookie, authority, path],
        vec![cookie, method, scheme, authority, path],
        vec![method, method, scheme, authority, path, cookie],
        vec![method, scheme, scheme, authority, path, cookie],
        vec![method, scheme, authority, path, path, cookie],
        vec![method, scheme, authority, path, (":path", "/admin"), cookie],
        vec![method, scheme, authority, path, (":status", "200"), cookie],
        vec![method, scheme, authority, path, (":protocol", "websocket"), cookie],
        vec![(":method", "CONNECT"), scheme, authority, path, (":protocol", "h2c"), cookie],
        vec![(":method", "CONNECT"), authority, path, cookie],
        vec![(":METHOD", "GET"), scheme, authority, path, cookie],
        vec![(":method", long.as_str()), scheme, authority, path, cookie],
        vec![(":method", ""), scheme, authority, path, cookie],
        vec![method, (":scheme", "ftp"), authority, path, cookie],
        vec![method, (":scheme", ""), authority, path, cookie],
        vec![method, (":scheme", "https://app-b/"), authority, path, cookie],
        vec![method, scheme, authority, (":path", ""), cookie],
        vec![method, scheme, authority, (":path", "*"), cookie],
        vec![(":method", "OPTIONS"), scheme, authority, (":path", "*"), cookie],
        vec![method, scheme, authority, (":path", "//app-b/public/x"), cookie],
        vec![method, scheme, authority, path, ("Cookie", &lab.cookie)],
        vec![method, scheme, authority, path, cookie, ("X-Upper", "1")],
        vec![method, scheme, authority, path, cookie, ("te", "gzip")],
        vec![method, scheme, authority, path, cookie, ("te", "trailers, chunked")],
        vec![method, scheme, authority, path, cookie, ("connection", "close")],
        vec![method, scheme, authority, path, cookie, ("proxy-connection", "close")],
        vec![method, scheme, authority, path, cookie, ("keep-alive", "timeout=5")],
        vec![method, scheme, authority, path, cookie, ("transfer-encoding", "chunked")],
        vec![method, scheme, authority, path, cookie, ("upgrade", "websocket")],
        vec![method, scheme, authority, path, cookie, ("host", "app-b")],
        vec![method, scheme, authority, path, cookie, ("x", "a\0b")],
        vec![method, scheme, authority, path, cookie, ("x", "a\r\n b")],
        vec![method, scheme, authority, path, cookie, ("x:y", "1")],
    ] {
        let answer = h2(&lab.world, "app-a", None, &fields, None).await;
        let sample = format!("{:?}", fields.iter().map(|(n, v)| (n, v.get(..30).unwrap_or(v))).collect::<Vec<_>>());
        lab.refused(&sample, &answer, &[0, 400, 403, 405, 421, 501]).await;
    }
    // `http` as scheme inside TLS is what some proxies send. It is read as what it is, or refused.
    let answer = h2(&lab.world, "app-a", None, &[method, (":scheme", "http"), authority, path, cookie], None).await;
    if answer.status == 200 {
        let seen = lab.one("scheme http", &answer, "GET /public/x HTTP/1.1");
        assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
    } else {
        lab.refused("scheme http", &answer, &[0, 400]).await;
    }
}

/// G1, G4: lines of HTTP/1.1 that some servers read otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a003_a055_lines_with_two_readings_are_refused() {
    let lab = Lab::start().await;
    for way in H1_WAYS {
        for field in [
            "X: a\r\n b: c",
            "X: a\r\n\tX-Vouchsafe-User: own",
            "X: a\0b",
            "X\0: a",
            "X: a\u{b}\u{c}b",
            "X: a\rX-Vouchsafe-User: own",
            "X: a\nX-Vouchsafe-User: own",
            "X: \u{7f}",
            "\u{feff}X: a",
            "(X): a",
            "X[]: a",
            "X/Y: a",
            "Host\u{a0}: app-b",
            "Content-Length: 0\r\n Transfer-Encoding: chunked",
        ] {
            let answer = lab.raw(way, "GET", "/public/x", &format!("{field}\r\n\r\n")).await;
            if field.contains('\n') && answer.status == 200 && !field.contains("\r\n") {
                panic!("{way:?} {field:?}: {answer:?}");
            }
            lab.refused(&format!("{way:?} {field:?}"), &answer, &[400]).await;
        }
        for method in ["A".repeat(10_000), "GET\u{b}".to_owned(), "G\0T".to_owned(), "\u{feff}GET".to_owned()] {
            let answer = lab.raw(way, &method, "/public/x", "\r\n").await;
            let sample = format!("{way:?} {:?}", method.get(..8).unwrap_or("?"));
            lab.refused(&sample, &answer, &[400, 431, 501]).await;
        }
    }
}

/// A001: what may not stand in front of a body may not come behind it, in HTTP/2 either.
#[tokio::test(flavor = "multi_thread")]
async fn a001_trailers_of_http2_are_no_way_in() {
    let lab = Lab::start().await;
    let own = lab.host("app-a");
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", own.as_str()),
        (":path", "/public/sample"),
        ("te", "trailers"),
        ("trailer", "x-fine, x-vouchsafe-user, authorization, host, content-length, cookie, x-forwarded-for"),
        ("cookie", &lab.cookie),
    ];
    let honest = ("x-fine", "yes");
    for (trailers, fits) in [
        (
            vec![
                honest,
                ("x-vouchsafe-user", "own"),
                ("x_vouchsafe_user", "own"),
                ("x-vouchsafe-assertion", "own"),
                ("authorization", "own"),
                ("host", "own"),
                ("content-length", "7"),
                ("cookie", "own=1"),
                ("x-forwarded-for", "own"),
            ],
            true,
        ),
        (vec![(":path", "/admin")], false),
        (vec![honest, (":status", "200")], false),
        (vec![("transfer-encoding", "chunked")], false),
        (vec![("X-Upper", "own")], false),
        (vec![("x", "a\r\nx-vouchsafe-user: own")], false),
    ] {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &hpack(&head)));
        bytes.extend(frame(DATA, 0, 1, b"hello"));
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(&trailers)));
        let mut stream =
            probe::connect(&lab.world, "app-a", probe::config(&lab.world, None, &[b"h2"])).await.expect("handshake");
        stream.write_all(&bytes).await.expect("written");
        let answer = tokio::time::timeout(crate::world::PATIENCE, probe::read_h2(&mut stream)).await.expect("answer");
        let sample = format!("{trailers:?}");
        if fits {
            let seen = lab.one(&sample, &answer, "POST /public/sample HTTP/1.1");
            assert_eq!(
                (seen.body.as_slice(), seen.trailers.as_slice()),
                (&b"hello"[..], &["x-fine: yes".to_owned()][..])
            );
        } else {
            lab.harmless(&sample, &answer, &[b"hello"]).await;
        }
    }
}

/// A143: what a hostile sibling may have planted in the browser for the whole domain.
#[tokio::test(flavor = "multi_thread")]
async fn a143_bytes_that_are_no_ascii_in_other_cookies_hide_nothing() {
    let lab = Lab::start().await;
    let host = lab.host("app-a");
    for (sample, planted) in [
        ("UTF-8", "planted=\u{e9}\u{4e16}".as_bytes().to_vec()),
        ("latin-1", b"planted=\xe9".to_vec()),
        ("a name", b"\xff\xfe=planted".to_vec()),
        ("nothing but it", b"\xff".to_vec()),
    ] {
        for order in [true, false] {
            let cookies = match order {
                true => [planted.as_slice(), b"; ", lab.cookie.as_bytes()].concat(),
                false => [lab.cookie.as_bytes(), b"; ", planted.as_slice()].concat(),
            };
            let request = [
                format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\nCookie: ").as_bytes(),
                cookies.as_slice(),
                b"\r\n\r\n",
            ]
            .concat();
            let answer = lab.bytes(Way::H1, &request).await;
            let seen = lab.one(sample, &answer, "GET /public/x HTTP/1.1");
            assert_eq!(seen.values("x-vouchsafe-user"), ["alice"], "{sample}");
            assert_eq!(seen.values("cookie"), [String::from_utf8_lossy(&planted)], "{sample}: its app still has it");
        }
    }
    // On the sign-in host it is the same person too.
    let [alice, _] = &lab.people;
    let cookies = alice.browser.cookies_of(&lab.world.host("auth"));
    let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("signed in");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nCookie: planted=\u{e9}; {name}={value}\r\n\r\n",
        lab.host("auth")
    );
    let answer = h1(&lab.world, "auth", None, request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text.contains("alice"), "{answer:?}");
}

/// Parts of documents pass as they are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a073_nothing_is_cached_and_conditions_pass() {
    let lab = Lab::start().await;
    for way in WAYS {
        for round in 0..2 {
            let fields = [
                ("range", "bytes=0-1"),
                ("if-range", "\"x\""),
                ("if-none-match", "\"x\""),
                ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("cache-control", "only-if-cached, max-stale"),
            ];
            let answer = lab.send(way, "GET", "/public/cached", &fields).await;
            let sample = format!("{way:?} {round}");
            let seen = lab.one(&sample, &answer, "GET /public/cached HTTP/1.1");
            for (name, value) in fields {
                assert_eq!(seen.values(name), [value], "{sample}");
            }
        }
        // Somebody else's request for the same goes upstream too, as hers.
        let request =
            format!("GET /public/cached HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", lab.host("app-a"), lab.victim);
        let answer = h1(&lab.world, "app-a", None, request.as_bytes()).await;
        let seen = lab.one("bob's", &answer, "GET /public/cached HTTP/1.1");
        assert_eq!(seen.values("x-vouchsafe-user"), ["bob"]);
    }
    for way in [Way::H2, Way::H2Proxied] {
        let answer = lab.send(way, "HEAD", "/public/cached", &[]).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{way:?}");
        assert_eq!(lab.app.take().len(), 1, "{way:?}");
    }
}
