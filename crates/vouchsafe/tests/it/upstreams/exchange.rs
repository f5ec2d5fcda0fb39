//! One exchange in every corner: trailers, interim answers, early answers, second attempts, time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::AuditQuery;

use super::Apps;
use super::raw::head;
use crate::attacks::probe;
use crate::peers::{forget_peak, resident_kib};
use crate::world::{World, patiently};

/// Starts an upstream whose connections are handled by the test, each with its number from 1.
pub(super) async fn upstream<F>(
    tasks: &TaskGroup,
    handle: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let group = tasks.clone();
    tasks.spawn("upstream", async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            group.spawn("upstream connection", handle(stream, number));
        }
    });
    address
}

pub(super) async fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Apps {
    async fn one(world: World, address: SocketAddr) -> Self {
        Self::start(world, &[("app", format!("http://{address}"), None)]).await
    }

    /// Exact bytes behind request line, `Host` and cookie.
    async fn raw(&self, line: &str, rest: &str) -> probe::Answer {
        let head = format!("{line}\r\nHost: {}\r\nCookie: {}\r\n", self.authority("app"), self.cookie("app").await);
        probe::h1(&self.world, "app", None, format!("{head}{rest}").as_bytes()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways_but_bring_nothing_that_headers_may_not() {
    let world = World::start().await;
    let seen = Arc::<Mutex<String>>::default();
    let keep = Arc::clone(&seen);
    let address = upstream(&world.tasks, move |mut stream, _| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = head(&mut stream).await {
                if head.starts_with("POST") {
                    let mut body = Vec::new();
                    while !(body.starts_with(b"0\r\n") || body.windows(5).any(|at| at == b"\r\n0\r\n"))
                        || !body.ends_with(b"\r\n\r\n")
                    {
                        let Ok(byte) = stream.read_u8().await else { return };
                        body.push(byte);
                    }
                    *keep.lock() = format!("{head}{}", String::from_utf8_lossy(&body));
                }
                let fields = "transfer-encoding: chunked\r\ntrailer: X-Fine, X-Vouchsafe-Decision, Set-Cookie";
                let trailers = "X-Fine: yes\r\nX-Vouchsafe-Decision: evil\r\nx_vouchsafe_user: evil\r\nSet-Cookie: __Host-vouchsafe=evil\r\nContent-Length: 0";
                say(&mut stream, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n\r\n")).await;
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let fields = "TE: trailers\r\nConnection: TE\r\nTrailer: X-Sum, X-Vouchsafe-User, X-Forwarded-For\r\nTransfer-Encoding: chunked";
    let trailers = "X-Sum: 1\r\nX-Vouchsafe-User: own\r\nX-Forwarded-For: own";
    let answer = apps.raw("POST / HTTP/1.1", &format!("{fields}\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.answers), (200, 1), "{answer:?}");
    let lower = answer.text.to_ascii_lowercase();
    assert!(lower.contains("x-fine: yes") && !lower.contains("evil"), "{answer:?}");
    let upstream_saw = seen.lock().to_ascii_lowercase();
    assert!(upstream_saw.contains("\r\n0\r\nx-sum: 1\r\n\r\n") && !upstream_saw.contains("own"), "{upstream_saw}");
    let answer = apps.curl("app", "/", &["--http2", "-H", "TE: trailers"]).await;
    let head = answer.head.to_ascii_lowercase() + &answer.body;
    assert!(head.contains("x-fine: yes") && !head.contains("evil"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_frames_its_body_wrongly_is_told_that_it_did() {
    let world = World::start().await;
    let address = upstream(&world.tasks, |mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            match head.starts_with("POST") {
                // The answer to a body that never comes whole.
                true => drop(stream.read_to_end(&mut Vec::new()).await),
                false => say(&mut stream, OK).await,
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    for body in ["zz\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffff0\r\n", "-1\r\n"] {
        let answer = apps.raw("POST / HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n{body}")).await;
        assert_eq!((answer.status, answer.closed), (400, true), "{body:?}: {answer:?}");
    }
    assert_eq!(apps.curl("app", "/", &[]).await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_only_when_the_upstream_asks_for_it() {
    let world = World::start().await;
    let bodies = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&bodies);
    let address = upstream(&world.tasks, move |mut stream, _| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = head(&mut stream).await {
                let waits = head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n");
                if head.starts_with("PUT /no") {
                    say(&mut stream, "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    keep.lock().push(format!("{waits} {}", String::from_utf8_lossy(&rest)));
                    return;
                }
                if head.starts_with("PUT /yes") {
                    say(&mut stream, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
                    say(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
                    let mut body = [0; 5];
                    let _ = stream.read_exact(&mut body).await;
                    keep.lock().push(format!("{waits} {}", String::from_utf8_lossy(&body)));
                }
                say(&mut stream, OK).await;
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let arguments =
        ["--http1.1", "-X", "PUT", "-H", "Expect: 100-continue", "--expect100-timeout", "50", "-d", "hello"];
    let answer = apps.curl("app", "/no", &arguments).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "no"), "{answer:?}");
    assert!(!answer.head.contains("100 Continue"), "{answer:?}");
    let answer = apps.curl("app", "/yes", &arguments).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
    assert!(answer.head.contains("100 Continue") && !answer.head.contains("103"), "{answer:?}");
    for () in patiently() {
        if bodies.lock().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*bodies.lock(), ["true ", "true hello"], "the refused body was never sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_its_request_is_the_last_on_its_connection() {
    let world = World::start().await;
    let ended = Arc::<Mutex<Vec<usize>>>::default();
    let keep = Arc::clone(&ended);
    let address = upstream(&world.tasks, move |mut stream, number| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = head(&mut stream).await {
                let answer = format!("{number}");
                let framed = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                say(&mut stream, &framed).await;
                if head.starts_with("POST") {
                    // Reads on, as one would that takes the body for the next request.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    keep.lock().push(number);
                    return;
                }
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let rest = "Content-Length: 1000000\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let answer = apps.raw("POST / HTTP/1.1", rest).await;
    assert_eq!((answer.status, answer.answers), (200, 1), "{answer:?}");
    let number: usize = answer.text.rsplit("\r\n\r\n").next().and_then(|text| text.parse().ok()).expect("a number");
    for _ in 0..5 {
        assert_ne!(apps.curl("app", "/", &[]).await.body, number.to_string());
    }
    for () in patiently() {
        if ended.lock().contains(&number) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the connection was not closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_is_sent_a_second_time() {
    let world = World::start().await;
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&heads);
    // Every connection dies at its second request, without a word.
    let address = upstream(&world.tasks, move |mut stream, _| {
        let keep = Arc::clone(&keep);
        async move {
            let Some(first) = head(&mut stream).await else { return };
            keep.lock().push(first);
            say(&mut stream, OK).await;
            if let Some(second) = head(&mut stream).await {
                keep.lock().push(second);
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let times = |path: &str| heads.lock().iter().filter(|head| head.contains(path)).count();
    for number in 0..4 {
        let path = format!("/get/{number}");
        assert_eq!(apps.curl("app", &path, &[]).await.status, 200, "{path}");
    }
    assert!((0..4).any(|number| times(&format!("/get/{number}")) == 2), "{heads:?}");
    for (number, arguments) in [&["-d", "x"][..], &["-X", "POST"][..], &["-X", "PUT", "-d", "x"][..]].iter().enumerate()
    {
        // Leaves a connection waiting whose next request fails.
        assert_eq!(apps.curl("app", "/before", &["-H", "Connection: close"]).await.status, 200);
        let path = format!("/once/{number}");
        let answer = apps.curl("app", &path, arguments).await;
        assert!(answer.status == 502 || answer.status == 200, "{path}: {answer:?}");
        assert_eq!(times(&path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_is_given_up_in_the_resources_own_time() {
    let world = World::start().await;
    let address = upstream(&world.tasks, |mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            match head.starts_with("GET /silent") {
                true => std::future::pending().await,
                false => say(&mut stream, OK).await,
            }
        }
    })
    .await;
    let resource =
        json!({"name": "app", "kind": "http", "upstream": format!("http://{address}"), "response_timeout": 1});
    let apps = Apps::start_with(world, vec![resource]).await;
    let answer = apps.curl("app", "/silent", &[]).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let query = AuditQuery { id: Some(answer.decision().to_owned()), ..AuditQuery::default() };
    let records = apps.flow(query).await;
    assert!(
        records.iter().any(|record| record.detail.as_deref().is_some_and(|words| words.contains("1s"))),
        "{records:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused_in_every_version() {
    let world = World::start().await;
    let address = upstream(&world.tasks, |mut stream, _| async move {
        while head(&mut stream).await.is_some() {
            say(&mut stream, OK).await;
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let large = "x".repeat(66 * 1024);
    let answer = apps.curl("app", "/", &["--http1.1", "-H", &format!("X-Large: {large}")]).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let (authority, cookie) = (apps.authority("app"), apps.cookie("app").await);
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", &*authority), (":path", "/")];
    let fields: Vec<_> = head.into_iter().chain([("cookie", &*cookie), ("x-large", &*large)]).collect();
    let answer = probe::h2(&apps.world, "app", None, &fields, None).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(apps.curl("app", "/", &[]).await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_holds_the_client_back() {
    let world = World::start().await;
    let address = upstream(&world.tasks, |mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            match head.starts_with("PUT") {
                true => std::future::pending().await,
                false => say(&mut stream, OK).await,
            }
        }
    })
    .await;
    let apps = Apps::one(world, address).await;
    let file = apps.world.dir.path().join("upload");
    std::fs::File::create(&file).expect("file").set_len(200 << 20).expect("sparse file");
    apps.curl("app", "/", &[]).await;
    let (before, _) = resident_kib(apps.world.pid());
    forget_peak(apps.world.pid());
    for version in ["--http1.1", "--http2"] {
        let arguments = [version, "-T", &file.display().to_string(), "--max-time", "3", "-H", "Expect:"];
        let answer = apps.curl("app", "/slow", &arguments).await;
        assert_eq!(answer.status, 0, "{version}: {answer:?}");
        let (_, peak) = resident_kib(apps.world.pid());
        assert!(peak < before + 50 * 1024, "{version}: memory grew from {before} to {peak} KiB");
    }
}
