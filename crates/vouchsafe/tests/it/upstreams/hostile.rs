//! Upstreams that misbehave.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::Apps;
use super::raw::{Script, scripted};
use crate::peers::{curl, curl_as};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a143_an_upstream_cannot_speak_in_our_name() {
    let script = |_: &str| Script {
        answer: b"HTTP/1.1 200 OK\r\n\
            Set-Cookie: __Host-vouchsafe=evil; Path=/; Secure\r\n\
            Set-Cookie: __host-Vouchsafe-pending=evil; Path=/; Secure\r\n\
            Set-Cookie:   __Host-vouchsafe =evil; Path=/; Secure\r\n\
            Set-Cookie: theirs=1; Path=/; Domain=vouchsafe.localhost\r\n\
            X-Vouchsafe-Decision: evil\r\n\
            x_vouchsafe_user: evil\r\n\
            X-Vouchsafe-Anything: evil\r\n\
            Alt-Svc: h3=\"evil:443\"\r\n\
            Connection: X-Theirs\r\n\
            X-Theirs: evil\r\n\
            X-Fine: yes\r\n\
            Content-Length: 2\r\n\r\nok"
            .to_vec(),
        later: None,
    };
    let world = World::start().await;
    let address = scripted(&world.tasks, script).await;
    let apps = Apps::start(world, &[("hostile", format!("http://{address}"), None)]).await;
    for version in ["--http1.1", "--http2"] {
        let answer = apps.curl("hostile", "/", &[version]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
        assert!(!answer.head.contains("evil"), "{version}: {}", answer.head);
        assert_eq!(answer.header("set-cookie"), Some("theirs=1; Path=/"), "{answer:?}");
        assert_eq!(answer.header("x-fine"), Some("yes"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a069_what_an_upstream_sends_unasked_reaches_nobody() {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON";
    // The second answer comes with the first, or while the connection waits for its next request.
    let script = |line: &str| {
        let honest = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
        let (at_once, later) = match line {
            line if line.contains("/at-once") => (POISON, None),
            line if line.contains("/later") => ("", Some((Duration::from_millis(20), POISON.as_bytes().to_vec()))),
            line if line.contains("/trailing") => ("POISON", None),
            _ => ("", None),
        };
        Script { answer: format!("{honest}{at_once}").into_bytes(), later }
    };
    let world = World::start().await;
    let address = scripted(&world.tasks, script).await;
    let apps = Apps::start(world, &[("hostile", format!("http://{address}"), None)]).await;
    let bob = apps.world.person("bob", &["staff"]).await;
    let bobs = format!("Cookie: {}", apps.world.cookie(&bob, "hostile", "/").await);
    for round in 0..5 {
        for attack in ["at-once", "later", "trailing"] {
            let path = format!("/{attack}/{round}");
            let answer = apps.curl("hostile", &path, &[]).await;
            // The gateway may refuse an answer that goes on behind its end, or pass on what is whole.
            let expected = format!("GET {path} HTTP/1.1");
            assert!(answer.status == 502 || answer.body == expected, "{path}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let url = apps.world.url("hostile", &format!("/victim/{round}"));
            let victim = curl(&apps.world, &["-H", &bobs, url.as_str()]).await;
            assert_eq!(victim.body, format!("GET /victim/{round} HTTP/1.1"), "after {path}: {victim:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_framed_twice_or_broken_are_not_passed_on() {
    let script = |line: &str| {
        let answer: &str = match line {
            line if line.contains("/both") => {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            }
            line if line.contains("/two-lengths") => {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"
            }
            line if line.contains("/bad-length") => "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            line if line.contains("/odd-coding") => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            }
            line if line.contains("/no-http") => "hello\r\n\r\n",
            line if line.contains("/switch") => {
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            }
            line if line.contains("/split") => {
                "HTTP/1.1 200 OK\r\nx: a\rSet-Cookie: b=c\r\ncontent-length: 2\r\n\r\nok"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine",
        };
        Script { answer: answer.as_bytes().to_vec(), later: None }
    };
    let world = World::start().await;
    let address = scripted(&world.tasks, script).await;
    let apps = Apps::start(world, &[("hostile", format!("http://{address}"), None)]).await;
    for path in ["/two-lengths", "/bad-length", "/no-http", "/switch", "/split"] {
        let answer = apps.curl("hostile", path, &[]).await;
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        assert_eq!(apps.curl("hostile", "/fine", &[]).await.body, "fine", "after {path}");
    }
    for path in ["/both", "/odd-coding"] {
        // Where the library reads the answer in one way, that one is framed anew.
        let answer = apps.curl("hostile", path, &["--max-time", "3"]).await;
        let framings = answer.head.to_ascii_lowercase().matches("content-length:").count();
        assert!(answer.status == 502 || answer.body == "ok" || framings == 0, "{path}: {answer:?}");
        assert_eq!(apps.curl("hostile", "/fine", &[]).await.body, "fine", "after {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_is_seen_to_break_off() {
    // A client must never take half an answer for a whole one.
    let world = World::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    world.tasks.spawn("breaking upstream", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 16 * 1024];
            let _ = stream.read(&mut buffer).await;
            let framing = match String::from_utf8_lossy(&buffer) {
                request if request.contains("/chunked") => "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                request if request.contains("/length") => "content-length: 8\r\n\r\nhalf",
                _ => "content-length: 4\r\n\r\nfine",
            };
            let answer = format!("HTTP/1.1 200 OK\r\n{framing}");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        }
    });
    let apps = Apps::start(world, &[("breaks", format!("http://{address}"), None)]).await;
    for version in ["--http1.1", "--http2"] {
        for path in ["/length", "/chunked"] {
            let answer = apps.curl("breaks", path, &[version]).await;
            assert!(!answer.err.is_empty(), "{version} {path}: curl noticed: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_cannot_ask_for_the_proxys_credentials() {
    // Clients that use the gateway as their proxy would take the question for the gateway's own.
    let script = |line: &str| {
        let status = if line.contains("/407") { "407 Proxy Authentication Required" } else { "200 OK" };
        let fields =
            "proxy-authenticate: Basic realm=evil\r\nproxy-authentication-info: evil\r\nproxy-connection: keep-alive";
        Script {
            answer: format!("HTTP/1.1 {status}\r\n{fields}\r\ncontent-length: 4\r\n\r\nfine").into_bytes(),
            later: None,
        }
    };
    let world = World::start().await;
    let address = scripted(&world.tasks, script).await;
    let apps = Apps::start(world, &[("hostile", format!("http://{address}"), None)]).await;
    let laptop = apps.world.device(&apps.alice, "laptop").await;
    for path in ["/", "/407"] {
        let url = format!("http://{}:{}{path}", apps.world.host("hostile"), apps.world.port);
        for answer in [apps.curl("hostile", path, &[]).await, curl_as(&apps.world, &laptop, &[&url]).await] {
            assert!(!answer.head.to_ascii_lowercase().contains("\nproxy-"), "{path}: {answer:?}");
            assert_eq!(answer.status, if path == "/" { 200 } else { 502 }, "{path}: {answer:?}");
        }
    }
}

/// Spellings of our cookie that browsers keep as ours, orders to them that only the host's owner may
/// give, and what would make them forget that this host is for TLS alone.
#[tokio::test(flavor = "multi_thread")]
async fn a143_an_upstream_cannot_speak_in_our_name_in_any_spelling() {
    let script = |_: &str| Script {
        answer: b"HTTP/1.1 200 OK\r\n\
            Set-Cookie: =__Host-vouchsafe=evil; Path=/; Secure\r\n\
            Set-Cookie: = __Host-vouchsafe=evil; Path=/; Secure\r\n\
            Set-Cookie: __Host-vouchsafe\r\n\
            Set-Cookie: __HOST-VOUCHSAFE-pending=evil; Path=/\r\n\
            Set-Cookie:\t__Host-vouchsafe\t=evil; Path=/; Secure\r\n\
            Set-Cookie: theirs=1; Path=/\r\n\
            Strict-Transport-Security: max-age=0\r\n\
            Clear-Site-Data: \"evil\"\r\n\
            Alt-Svc: clear, h3=\"evil:443\"\r\n\
            Secure-Session-Registration: (ES256);path=\"evil\"\r\n\
            Sec-Session-Registration: (ES256);path=\"evil\"\r\n\
            Sec-Session-Challenge: evil\r\n\
            Proxy-Authenticate: Basic realm=evil\r\n\
            X-Vouchsafe--Decision: evil\r\n\
            Keep-Alive: evil\r\n\
            Content-Length: 2\r\n\r\nok"
            .to_vec(),
        later: None,
    };
    let world = World::start().await;
    let address = scripted(&world.tasks, script).await;
    let apps = Apps::start(world, &[("hostile", format!("http://{address}"), None)]).await;
    for version in ["--http1.1", "--http2"] {
        let answer = apps.curl("hostile", "/", &[version]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
        let head = answer.head.to_ascii_lowercase();
        assert!(!head.contains("evil"), "{version}: {head}");
        assert!(!head.contains("__host-vouchsafe"), "{version}: {head}");
        assert_eq!(head.matches("set-cookie:").count(), 1, "{version}: {head}");
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"), "{head}");
        assert_eq!(head.matches("strict-transport-security:").count(), 1, "{head}");
    }
}
