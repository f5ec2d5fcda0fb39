//! HTTP/2 and TLS towards upstreams, as nginx has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exchange::upstream;
use super::nginx::Nginx;
use super::{Apps, Pki};
use crate::attacks::probe;
use crate::peers::{curl, run};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_spoken_to_in_the_version_that_it_and_the_resource_choose() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let secure = format!("https://localhost:{}", nginx.secure.port());
    let old = format!("https://localhost:{}", nginx.old.port());
    let resource = |name: &str, upstream: &str| json!({"name": name, "kind": "http", "upstream": upstream});
    let with = |mut resource: serde_json::Value, more: serde_json::Value| {
        for (member, value) in more.as_object().expect("members") {
            resource[member] = value.clone();
        }
        resource
    };
    let ca = json!({"upstream_ca": pki.authority});
    let resources = vec![
        resource("plain", &format!("http://{}", nginx.plain)),
        with(resource("safe", &secure), ca.clone()),
        with(with(resource("safe-one", &secure), ca.clone()), json!({"upstream_protocol": "http1"})),
        with(with(resource("safe-two", &secure), ca.clone()), json!({"upstream_protocol": "h2"})),
        with(resource("prior", &format!("http://{}", nginx.prior)), json!({"upstream_protocol": "h2"})),
        with(resource("old", &old), ca.clone()),
        with(with(resource("old-strict", &old), ca.clone()), json!({"upstream_tls": "1.3"})),
        with(with(resource("old-two", &old), ca), json!({"upstream_protocol": "h2"})),
    ];
    let apps = Apps::start_with(world, resources).await;
    for (app, protocol) in [
        ("plain", "by HTTP/1.1"),
        ("safe", "by HTTP/2.0"),
        ("safe-one", "by HTTP/1.1"),
        ("safe-two", "by HTTP/2.0"),
        ("prior", "by HTTP/2.0"),
        ("old", "by HTTP/1.1"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let answer = apps.curl(app, "/protocol", &[version]).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, protocol), "{app} {version}: {answer:?}");
        }
        let host = format!("{} ", apps.authority(app));
        let answer = apps.curl(app, "/host", &[]).await;
        assert!(answer.body.starts_with(&host), "{app}: {answer:?}");
    }
    for (app, cause) in [("old-strict", "TLS"), ("old-two", "does not choose HTTP/2|TLS")] {
        let answer = apps.curl(app, "/protocol", &[]).await;
        assert_eq!(answer.status, 502, "{app}: {answer:?}");
        let query = vouchsafe_wire::api::AuditQuery { id: Some(answer.decision().to_owned()), ..Default::default() };
        let records = apps.flow(query).await;
        let detail = records.iter().find_map(|record| record.detail.clone()).unwrap_or_default();
        assert!(cause.split('|').any(|cause| detail.contains(cause)), "{app}: {detail}");
    }
    // An upload over HTTP/2 on both sides, through every window.
    let file = apps.world.dir.path().join("upload");
    std::fs::write(&file, vec![7; 20 << 20]).expect("written");
    let answer = apps.curl("prior", "/upload/two", &["--http2", "-T", &file.display().to_string()]).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(std::fs::read(nginx.dir.join("www/upload/two")).expect("stored"), vec![7; 20 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_goodbye_loses_no_request() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    // This server says GOAWAY after every fiftieth request.
    let upstream = format!("http://{}", nginx.brief);
    let resources = vec![json!({"name": "brief", "kind": "http", "upstream": upstream, "upstream_protocol": "h2"})];
    let apps = Apps::start_with(world, resources).await;
    let cookie = format!("Cookie: {}", apps.cookie("brief").await);
    let root = apps.world.root_file.display().to_string();
    let url = format!("{}?[1-200]", apps.world.url("brief", "/protocol"));
    let arguments = ["-sS", "-Z", "--parallel-max", "20", "--max-time", "55", "--cacert", &root, "-H", &cookie];
    let mut arguments = arguments.to_vec();
    arguments.extend(["-o", "/dev/null", "-w", "%{http_code}\n", &url]);
    let ran = run("curl", &arguments).await;
    let good = ran.out.lines().filter(|line| *line == "200").count();
    assert_eq!((good, ran.out.lines().count()), (200, 200), "{} {}", ran.out, ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_pass_without_an_error() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let secure = format!("https://localhost:{}", nginx.secure.port());
    let apps = [("web", format!("http://{}", nginx.plain), None), ("safe", secure, Some(pki.authority.as_str()))];
    let apps = Apps::start(world, &apps).await;
    for app in ["web", "safe"] {
        let cookie = format!("cookie: {}", apps.cookie(app).await);
        let (url, to) = (apps.world.url(app, "/").to_string(), format!("127.0.0.1:{}", apps.world.port));
        for version in [&["--h1"][..], &["-m", "4"][..]] {
            let mut arguments = vec!["-n", "800", "-c", "16", "-t", "1", "-H", &cookie, "--connect-to", &to];
            arguments.extend(version);
            arguments.push(&url);
            let ran = run("h2load", &arguments).await;
            let all = "800 total, 800 started, 800 done, 800 succeeded, 0 failed, 0 errored, 0 timeout";
            assert!(ran.out.contains(all) && ran.out.contains("800 2xx"), "{app} {version:?}: {} {}", ran.out, ran.err);
        }
    }
}

/// Upstreams end connections whenever they like: after so many requests, or while they wait. None of
/// that is the client's business (RFC 9112 §9.3.1, RFC 9113 §6.8).
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end_between_requests_cost_no_request() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let resource = |name: &str, address: std::net::SocketAddr, protocol: &str| json!({"name": name, "kind": "http", "upstream": format!("http://{address}"), "upstream_protocol": protocol});
    let resources = vec![
        resource("terse", nginx.terse, "http1"),
        resource("curt", nginx.curt, "h2"),
        resource("hasty", nginx.hasty, "http1"),
    ];
    let apps = Apps::start_with(world, resources).await;
    for app in ["terse", "hasty", "curt"] {
        let cookie = format!("cookie: {}", apps.cookie(app).await);
        let (url, to) = (apps.world.url(app, "/").to_string(), format!("127.0.0.1:{}", apps.world.port));
        for version in [&["--h1"][..], &["-m", "4"][..]] {
            let mut arguments = vec!["-n", "1000", "-c", "32", "-t", "1", "-H", &cookie, "--connect-to", &to];
            arguments.extend(version);
            arguments.push(&url);
            let ran = run("h2load", &arguments).await;
            let all = "1000 succeeded, 0 failed, 0 errored, 0 timeout";
            if !ran.out.contains(all) {
                let ends = vouchsafe_wire::api::AuditQuery {
                    kind: Some("flow_end".to_owned()),
                    limit: Some(10_000),
                    ..Default::default()
                };
                let mut why: Vec<_> = apps.world.audit(ends).await.into_iter().filter_map(|end| end.detail).collect();
                why.sort();
                why.dedup();
                panic!("{app} {version:?}: {} {} {why:#?}", ran.out, ran.err);
            }
        }
    }
}

/// The connection may have ended on our request's way to it, with a goodbye that we can't read any more.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_is_asked_a_second_time() {
    let world = World::start().await;
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    // Every connection answers one request, and dies at its second without a word.
    let address = upstream(&world.tasks, move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).await.is_err() {
                return;
            }
            let _ = stream.write_all(&probe::frame(probe::SETTINGS, 0, 0, &[])).await;
            let mut requests = 0;
            while let Some((kind, id)) = frame(&mut stream).await {
                if kind != probe::HEADERS {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                requests += 1;
                if requests == 2 {
                    return;
                }
                let end = probe::END_HEADERS | probe::END_STREAM;
                let answer = probe::frame(probe::HEADERS, end, id, &probe::hpack(&[(":status", "204")]));
                let _ = stream.write_all(&answer).await;
            }
        }
    })
    .await;
    let upstream = format!("http://{address}");
    let resources = vec![json!({"name": "app", "kind": "http", "upstream": upstream, "upstream_protocol": "h2"})];
    let apps = Apps::start_with(world, resources).await;
    let cookie = format!("Cookie: {}", apps.cookie("app").await);
    let url = apps.world.url("app", "/");
    let ask = async |arguments: &[&str]| {
        let before = asked.load(Ordering::SeqCst);
        let all = [&["--max-time", "55", "-H", &cookie], arguments, &[url.as_str()]].concat();
        let status = curl(&apps.world, &all).await.status;
        (status, asked.load(Ordering::SeqCst) - before)
    };
    // Brings it about that one request has come on the connection that there is.
    let once = async || {
        let asked = [ask(&[]).await.1, ask(&[]).await.1];
        assert!(asked.contains(&2), "{asked:?}");
        if asked[1] == 1 {
            ask(&[]).await;
        }
    };
    once().await;
    assert_eq!(ask(&[]).await, (204, 2), "asked again on a new connection");
    for arguments in [&["-X", "POST"][..], &["-d", "x"][..], &["-X", "PUT", "-d", "x"][..]] {
        once().await;
        assert_eq!(ask(arguments).await, (502, 1), "{arguments:?}");
    }
}

/// Kind and stream of the next frame.
async fn frame(stream: &mut TcpStream) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}
