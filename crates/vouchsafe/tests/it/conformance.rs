//! Foreign programs that judge or load an HTTP server: h2spec, nghttp, wrk.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::attacks::strict::Strict;
use crate::peers::Ran;
use crate::world::{PATIENCE, World};

/// An app that staff may use, and alice's cookie for it.
struct Office {
    world: World,
    _upstream: Strict,
    cookie: String,
}

impl Office {
    async fn start() -> Self {
        let world = World::start().await;
        let upstream = Strict::start(&world.tasks).await;
        let resources = json!([{"name": "web", "kind": "http", "upstream": format!("http://{}", upstream.address)}]);
        let policy =
            r#"@id("web") @device("none") permit (principal in Group::"staff", action, resource == Http::"web");"#;
        world.apply(&["staff"], resources, policy).await;
        let alice = world.person("alice", &["staff"]).await;
        let cookie = format!("cookie: {}", world.cookie(&alice, "web", "/").await);
        Self { world, _upstream: upstream, cookie }
    }

    /// Runs a program for which our names lead to this machine. Most programs know `localhost` alone.
    async fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let hosts = self.world.dir.path().join("hosts");
        let names = format!("127.0.0.1 {} {}\n", self.world.host("web"), self.world.host("auth"));
        std::fs::write(&hosts, names).expect("written");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env("LD_PRELOAD", "libnss_wrapper.so").env("NSS_WRAPPER_HOSTS", &hosts).env("GODEBUG", "netdns=cgo");
        let output = tokio::time::timeout(PATIENCE * 4, command.output());
        let output = output.await.unwrap_or_else(|_| panic!("{program} {arguments:?} did not end"));
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run ./test, which installs it"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// `h2spec` of this repository's `./test`.
fn h2spec() -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/bin/h2spec");
    assert!(program.exists(), "h2spec is missing; run ./test, which installs it");
    program.display().to_string()
}

/// Every case of RFC 9113 (then 7540) and RFC 7541, also those that only recommend.
#[tokio::test(flavor = "multi_thread")]
async fn h2spec_finds_nothing() {
    let office = Office::start().await;
    let (host, port) = (office.world.host("auth"), office.world.port.to_string());
    // We take frames of 64 KiB; with shorter fields the head that is to be too large would fit into one.
    let long = ["--max-header-length", "16000"];
    let mut arguments = vec!["-h", &host, "-p", &port, "-t", "-k", "-o", "5", "-P", "/sign-in", "--strict"];
    arguments.extend(long);
    // Some cases expect the refusal to be the next frame, and an answer of ours that was on its way already
    // comes before it. So a run may be repeated; one of three has to be without a fault.
    let mut failures = String::new();
    for _ in 0..3 {
        let ran = office.run(&h2spec(), &arguments).await;
        let summary = ran.out.lines().rev().find(|line| line.contains(" tests, "));
        let summary = summary.unwrap_or_else(|| panic!("{}", ran.err));
        assert!(summary.starts_with("146 tests, ") && summary.contains(", 0 skipped, "), "{summary}");
        if summary.ends_with(", 0 failed") {
            return;
        }
        failures.push_str(ran.out.split_once("Failures:").map_or(&ran.out, |(_, behind)| behind));
    }
    panic!("three runs: {failures}");
}

/// wrk measures; here it only has to find no error.
#[tokio::test(flavor = "multi_thread")]
async fn wrk_finds_no_error_over_64_connections() {
    let office = Office::start().await;
    let url = office.world.url("web", "/load").to_string();
    let arguments = ["-t", "2", "-c", "64", "-d", "3s", "--timeout", "10s", "-H", &office.cookie, &url];
    let ran = office.run("wrk", &arguments).await;
    assert!(!ran.out.contains("Socket errors") && !ran.out.contains("Non-2xx"), "{}{}", ran.out, ran.err);
    let requests = ran.out.lines().find_map(|line| line.trim().split_once(" requests in")).expect("a count");
    let requests: usize = requests.0.parse().expect("a number");
    assert!(requests > 500, "{}", ran.out);
}

/// Trailers of nghttp2's making, in HTTP/2, and of an upstream of HTTP/1.1.
#[tokio::test(flavor = "multi_thread")]
async fn nghttp_sends_trailers_and_gets_some() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let office = Office::start().await;
    let world = &office.world;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let resources = json!([
        {"name": "web", "kind": "http", "upstream": format!("http://{}", listener.local_addr().expect("address"))}
    ]);
    let policy = r#"@id("web") @device("none") permit (principal in Group::"staff", action, resource == Http::"web");"#;
    world.apply(&["staff"], resources, policy).await;
    let file = world.dir.path().join("upload");
    std::fs::write(&file, "content").expect("written");
    let (file, url) = (file.display().to_string(), world.url("web", "/sum").to_string());
    // With a length it would end the stream with the content.
    let mut arguments = vec!["-nv", "--no-content-length", "-d", &file, "-H", &office.cookie];
    arguments.extend(["-H", "te: trailers", "-H", "trailer: x-sum", "--trailer", "x-sum: up", &url]);
    let serving = async {
        let (mut stream, _) = listener.accept().await.expect("asked");
        let mut request = Vec::new();
        while !request.ends_with(b"x-sum: up\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&request)));
            request.push(byte[0]);
        }
        let answer = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\nx-sum: down\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("answered");
        String::from_utf8_lossy(&request).into_owned()
    };
    let serving = async { tokio::time::timeout(PATIENCE, serving).await.expect("trailers in time") };
    let (ran, request) = tokio::join!(office.run("nghttp", &arguments), serving);
    let (head, content) = request.split_once("\r\n\r\n").expect("a head");
    assert!(head.to_ascii_lowercase().contains("trailer: x-sum"), "{request}");
    assert!(content.contains("content") && content.ends_with("\r\n0\r\nx-sum: up\r\n\r\n"), "{request}");
    let at = |words: &str| ran.out.find(words).unwrap_or_else(|| panic!("no {words}: {}{}", ran.out, ran.err));
    assert!(at(":status: 200") < at("x-sum: down"), "{}", ran.out);
}

/// A request that is under way when the process is asked to stop is answered, and no other begins.
#[tokio::test(flavor = "multi_thread")]
async fn nghttp_hears_goodbye_and_still_gets_its_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let office = Office::start().await;
    let world = &office.world;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let resources = json!([
        {"name": "web", "kind": "http", "upstream": format!("http://{}", listener.local_addr().expect("address"))}
    ]);
    let policy = r#"@id("web") @device("none") permit (principal in Group::"staff", action, resource == Http::"web");"#;
    world.apply(&["staff"], resources, policy).await;
    let url = world.url("web", "/slow").to_string();
    let arguments = ["-nv", "-H", &office.cookie, &url];
    let serving = async {
        let (mut stream, _) = listener.accept().await.expect("asked");
        let mut head = [0; 4096];
        let length = stream.read(&mut head).await.expect("a request");
        assert!(head.starts_with(b"GET /slow "), "{:?}", String::from_utf8_lossy(&head[..length]));
        rustix::process::kill_process(crate::peers::pid_of(world.pid()), rustix::process::Signal::TERM).expect("asked");
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.expect("answered");
    };
    let (ran, ()) = tokio::join!(office.run("nghttp", &arguments), serving);
    let at = |words: &str| ran.out.find(words).unwrap_or_else(|| panic!("no {words}: {}{}", ran.out, ran.err));
    assert!(at("recv GOAWAY frame") < at(":status: 200"), "told before the answer: {}", ran.out);
    assert!(ran.out.contains("error_code=NO_ERROR"), "{}", ran.out);
}
