//! Web apps of other makes behind the gateway: nginx over http and https, Node's `ws`, streams of
//! events, and upstreams that misbehave.

mod raw;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vouchsafe_wire::api::{AuditQuery, Session};
use vouchsafe_wire::audit::{Kind, Record};

use crate::peers::{Curled, Server, as_device, curl, curl_as, forget_peak, free_address, resident_kib};
use crate::world::{PATIENCE, Person, World};
use raw::{Events, Script, scripted};

/// Apps that staff may use without a device, and alice of the staff.
struct Apps {
    world: World,
    alice: Person,
}

impl Apps {
    /// `apps`: name, upstream, and authorities of an `https` upstream.
    async fn start(world: World, apps: &[(&str, String, Option<&str>)]) -> Self {
        let mut resources = Vec::new();
        let mut policy = String::new();
        for (name, upstream, authority) in apps {
            let mut resource = json!({"name": name, "kind": "http", "upstream": upstream});
            if let Some(authority) = authority {
                resource["upstream_ca"] = json!(authority);
            }
            resources.push(resource);
            policy.push_str(&format!(
                "@id(\"staff-{name}\") @device(\"none\") permit (principal in Group::\"staff\", action, resource == Http::\"{name}\");\n"
            ));
        }
        world.apply(&["staff"], Value::Array(resources), &policy).await;
        let alice = world.person("alice", &["staff"]).await;
        Self { world, alice }
    }

    /// curl with alice's session cookie.
    async fn curl(&self, app: &str, path: &str, arguments: &[&str]) -> Curled {
        let cookie = format!("Cookie: {}", self.world.cookie(&self.alice, app, "/").await);
        let url = self.world.url(app, path);
        let mut all = vec!["--max-time", "55", "-H", &cookie];
        all.extend(arguments);
        all.push(url.as_str());
        curl(&self.world, &all).await
    }

    /// The records of one flow, once it has ended.
    async fn flow(&self, query: AuditQuery) -> Vec<Record> {
        for _ in 0..200 {
            let records = self.world.audit(query.clone()).await;
            if records.iter().any(|record| record.kind == Kind::FlowEnd) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no end of the flow is recorded");
    }
}

/// A certificate authority and a server certificate of it.
struct Pki {
    authority: String,
    chain: String,
    key: String,
}

impl Pki {
    fn new(name: &str) -> Self {
        let authority_key = KeyPair::generate().expect("key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "an authority of the test's own");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).expect("authority").pem();
        let issuer = Issuer::new(parameters, authority_key);
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        leaf.distinguished_name.push(DnType::CommonName, name);
        let chain = leaf.signed_by(&key, &issuer).expect("signed").pem();
        Self { authority, chain, key: key.serialize_pem() }
    }
}

struct Nginx {
    dir: PathBuf,
    plain: SocketAddr,
    secure: SocketAddr,
    _server: Server,
}

impl Nginx {
    /// Starts Debian's nginx on ports and directories of its own, with a page and a large file.
    async fn start(world: &World, pki: &Pki) -> Self {
        let dir = world.dir.path().join("nginx");
        let (plain, secure) = (free_address(), free_address());
        std::fs::create_dir_all(dir.join("www")).expect("directory");
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        write("server.pem", &pki.chain);
        write("server.key", &pki.key);
        write("www/index.html", "hello from nginx\n");
        write("access.log", "");
        let large = std::fs::File::create(dir.join("www/large")).expect("file");
        large.set_len(LARGE).expect("sparse file");
        let config = include_str!("upstreams/nginx.conf")
            .replace("DIR", &dir.display().to_string())
            .replace("PLAIN", &plain.to_string())
            .replace("SECURE", &secure.to_string());
        write("nginx.conf", &config);
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let path = dir.join("nginx.conf").display().to_string();
        let prefix = dir.display().to_string();
        let server = Server::start(program, &["-p", &prefix, "-c", &path], &dir.join("nginx.log"), plain).await;
        Self { dir, plain, secure, _server: server }
    }

    /// Lines of the access log once there are so many: connection, number of the request on it,
    /// method, path, status, bytes.
    async fn log(&self, lines: usize) -> Vec<Vec<String>> {
        let mut log = Vec::new();
        for _ in 0..100 {
            let text = std::fs::read_to_string(self.dir.join("access.log")).expect("access log");
            log = text.lines().map(|line| line.split(' ').map(ToOwned::to_owned).collect()).collect();
            if log.len() >= lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        log
    }
}

/// Size of the large file and of large uploads.
const LARGE: u64 = 300 << 20;
/// How much memory may grow while a large body passes, KiB.
const GROWTH_KIB: u64 = 50 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn nginx_answers_through_every_kind_of_http() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let secure = format!("https://localhost:{}", nginx.secure.port());
    let apps = [("web", format!("http://{}", nginx.plain), None), ("safe", secure, Some(pki.authority.as_str()))];
    let apps = Apps::start(world, &apps).await;
    let laptop = apps.world.device(&apps.alice, "laptop").await;
    for app in ["web", "safe"] {
        for (version, line) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
            let answer = apps.curl(app, "/", &[version]).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, "hello from nginx\n"),
                "{app} {version}: {answer:?}"
            );
            assert!(answer.head.starts_with(line), "{app} {version}: {answer:?}");
            let head = apps.curl(app, "/", &[version, "-I"]).await;
            assert_eq!((head.status, head.header("content-length")), (200, Some("17")), "{head:?}");
            let range = apps.curl(app, "/index.html", &[version, "-r", "6-9"]).await;
            assert_eq!((range.status, range.body.as_str()), (206, "from"), "{range:?}");
        }
        // As a device, with curl's own support for proxies, which speaks HTTP/1.1 to them.
        let url = format!("http://{}:{}/", apps.world.host(app), apps.world.port);
        let answer = curl_as(&apps.world, &laptop, &[&url]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello from nginx\n"), "{answer:?}");
        // A session that began without a device is worth nothing in a device's tunnel.
        let cookie = format!("Cookie: {}", apps.world.cookie(&apps.alice, app, "/").await);
        let url = apps.world.url(app, "/host");
        let mut arguments = as_device(&apps.world, &laptop, None);
        arguments.extend(["-p", "-H", &cookie, url.as_str()].map(ToOwned::to_owned));
        let answer = curl(&apps.world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(apps.world.decision(answer.decision()).await.reason.as_deref(), Some("device_mismatch"));
        let port = if app == "web" { nginx.plain.port() } else { nginx.secure.port() };
        let expected = format!("{}:{} {port}", apps.world.host(app), apps.world.port);
        assert_eq!(apps.curl(app, "/host", &[]).await.body, expected, "the upstream sees the name that was asked for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_prove_its_name_gets_nothing() {
    let world = World::start().await;
    let (pki, other) = (Pki::new("localhost"), Pki::new("localhost"));
    let nginx = Nginx::start(&world, &pki).await;
    let port = nginx.secure.port();
    let down = free_address();
    let apps = [
        ("wrong-name", format!("https://127.0.0.1:{port}"), Some(pki.authority.as_str())),
        ("other-ca", format!("https://localhost:{port}"), Some(other.authority.as_str())),
        ("public-ca", format!("https://localhost:{port}"), None),
        ("no-tls", format!("https://localhost:{}", nginx.plain.port()), Some(pki.authority.as_str())),
        ("down", format!("http://{down}"), None),
        ("right", format!("https://localhost:{port}"), Some(pki.authority.as_str())),
    ];
    let apps = Apps::start(world, &apps).await;
    assert_eq!(apps.curl("right", "/", &[]).await.status, 200, "{}", apps.world.log());
    let cases = [
        ("wrong-name", "not valid for name"),
        ("other-ca", "BadSignature|UnknownIssuer"),
        ("public-ca", "UnknownIssuer"),
        ("no-tls", "TLS"),
        ("down", "refuses the connection"),
    ];
    for (app, cause) in cases {
        let answer = apps.curl(app, "/secret", &["-H", "Authorization: Basic c2VjcmV0"]).await;
        assert_eq!(answer.status, 502, "{app}: {answer:?}");
        assert!(answer.body.contains("upstream_unavailable"), "{app}: {answer:?}");
        let id = answer.decision().to_owned();
        let records = apps.flow(AuditQuery { id: Some(id.clone()), ..AuditQuery::default() }).await;
        let [decision, end] = records.as_slice() else { panic!("{app}: one decision and one end: {records:?}") };
        assert_eq!((decision.kind, decision.outcome.as_deref()), (Kind::Decision, Some("allow")), "{app}");
        assert_eq!((end.kind, end.status, end.bytes_in), (Kind::FlowEnd, Some(502), Some(0)), "{app}: {end:?}");
        let detail = end.detail.as_deref().unwrap_or_default();
        assert!(cause.split('|').any(|cause| detail.contains(cause)), "{app}: the record says what happened: {detail}");
    }
    let log = nginx.log(1).await;
    // What nginx logs of bytes that were no HTTP has no path.
    assert!(log.iter().all(|line| line[3] != "/secret"), "nothing was sent: {log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_an_upstream_are_used_again() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let secure = format!("https://localhost:{}", nginx.secure.port());
    let apps = [("web", format!("http://{}", nginx.plain), None), ("safe", secure, Some(pki.authority.as_str()))];
    let apps = Apps::start(world, &apps).await;
    for app in ["web", "safe"] {
        apps.curl(app, "/", &[]).await;
        let before = nginx.log(0).await.len();
        for _ in 0..5 {
            // Three requests by one client, one behind the other.
            let url = apps.world.url(app, "/host").to_string();
            let answer = apps.curl(app, "/", &[&url, &url]).await;
            assert_eq!(answer.status, 200, "{app}: {answer:?}");
        }
        let log = nginx.log(before + 15).await;
        let used: Vec<&Vec<String>> = log.iter().skip(before).collect();
        let first = used.first().expect("requests").first().expect("connection");
        assert!(
            used.len() >= 15 && used.iter().all(|line| line.first() == Some(first)),
            "{app}: one connection: {used:?}"
        );
        let last: usize = used.last().expect("requests")[1].parse().expect("a number");
        assert!(last > 15, "{app}: {used:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_passes_in_little_memory() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let apps = Apps::start(world, &[("web", format!("http://{}", nginx.plain), None)]).await;
    let file = apps.world.dir.path().join("upload");
    std::fs::File::create(&file).expect("file").set_len(LARGE).expect("sparse file");
    apps.curl("web", "/", &[]).await;
    let (before, _) = resident_kib(apps.world.pid());
    forget_peak(apps.world.pid());
    let answer = apps.curl("web", "/upload/large", &["--http1.1", "-T", &file.display().to_string()]).await;
    let (_, peak) = resident_kib(apps.world.pid());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.head.contains("100 Continue"), "curl was asked for the body: {answer:?}");
    assert_eq!(std::fs::metadata(nginx.dir.join("www/upload/large")).expect("stored").len(), LARGE);
    assert!(peak < before + GROWTH_KIB, "memory grew from {before} to {peak} KiB");
    let query = AuditQuery { resource: Some("web".into()), ..AuditQuery::default() };
    let records = apps.flow(query).await;
    assert!(records.iter().any(|record| record.bytes_in == Some(LARGE)), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_is_never_sent() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let apps = Apps::start(world, &[("web", format!("http://{}", nginx.plain), None)]).await;
    let policy = r#"@id("read") @device("none") permit (principal in Group::"staff", action == Action::"http:read", resource == Http::"web");"#;
    let resources = json!([{"name": "web", "kind": "http", "upstream": format!("http://{}", nginx.plain)}]);
    let file = apps.world.dir.path().join("upload");
    std::fs::File::create(&file).expect("file").set_len(64 << 20).expect("sparse file");
    let path = file.display().to_string();
    // The upstream itself refuses: its answer comes through, and the connection is not used again.
    for version in ["--http1.1", "--http2"] {
        let answer = apps.curl("web", "/small/x", &[version, "-T", &path]).await;
        assert_eq!(answer.status, 413, "{version}: {answer:?}");
        assert_eq!(apps.curl("web", "/", &[version]).await.body, "hello from nginx\n");
    }
    // The policy refuses: nothing of the body is even asked for.
    apps.world.apply(&["staff"], resources, policy).await;
    for _ in 0..100 {
        if apps.curl("web", "/upload/y", &["-X", "DELETE"]).await.status == 403 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = nginx.log(0).await.len();
    for version in ["--http1.1", "--http2"] {
        let answer =
            apps.curl("web", "/upload/x", &[version, "-T", &path, "-w", "\nsent %{size_upload}\n%{http_code} 0"]).await;
        assert_eq!(answer.status, 403, "{version}: {answer:?}");
        assert!(!answer.head.contains("100 Continue"), "{version}: {answer:?}");
        // In HTTP/2 curl does not wait, and has some on the way before it is told.
        assert!(version == "--http2" || answer.body.contains("sent 0"), "{answer:?}");
        assert_eq!(apps.world.decision(answer.decision()).await.reason.as_deref(), Some("no_permit"));
    }
    let log = nginx.log(0).await;
    assert!(log.iter().skip(before).all(|line| line[2] != "PUT"), "{log:?}");
    assert!(!nginx.dir.join("www/upload/x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_upstream_back() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let apps = Apps::start(world, &[("web", format!("http://{}", nginx.plain), None)]).await;
    apps.curl("web", "/", &[]).await;
    let (before, _) = resident_kib(apps.world.pid());
    forget_peak(apps.world.pid());
    for version in ["--http1.1", "--http2"] {
        // Four seconds at 1 MiB a second, of a file that nginx would send in one.
        let limits = [
            version,
            "--limit-rate",
            "1M",
            "--max-time",
            "4",
            "-o",
            "/dev/null",
            "-w",
            "\nread %{size_download}\n%{http_code} 0",
        ];
        let answer = apps.curl("web", "/large", &limits).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let (_, peak) = resident_kib(apps.world.pid());
        assert!(peak < before + GROWTH_KIB, "{version}: memory grew from {before} to {peak} KiB");
    }
    // The ends of both flows are recorded though the client broke off, and most was never fetched.
    let query = AuditQuery { resource: Some("web".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    for _ in 0..200 {
        let broken =
            apps.world.audit(query.clone()).await.into_iter().filter(|end| end.bytes_out > Some(1 << 20)).count();
        if broken == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ends = apps.world.audit(query).await;
    let ends: Vec<_> = ends.iter().filter_map(|end| end.bytes_out).filter(|bytes| *bytes > 1 << 20).collect();
    assert!(ends.len() == 2 && ends.iter().all(|bytes| *bytes < 64 << 20), "{ends:?}");
    // And a reader that keeps up gets all of it.
    let answer =
        apps.curl("web", "/large", &["-o", "/dev/null", "-w", "\nread %{size_download}\n%{http_code} 0"]).await;
    assert!(answer.body.contains(&format!("read {LARGE}")), "{answer:?}");
    let (_, peak) = resident_kib(apps.world.pid());
    assert!(peak < before + GROWTH_KIB, "memory grew from {before} to {peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one() {
    let world = World::start().await;
    let (first, second) = (Events::start(&world.tasks).await, Events::start(&world.tasks).await);
    let upstream = |events: &Events| format!("http://{}", events.address);
    let apps = Apps::start(world, &[("news", upstream(&first), None), ("more-news", upstream(&second), None)]).await;
    for (version, app, events) in [("--http1.1", "news", first), ("--http2", "more-news", second)] {
        let cookie = format!("Cookie: {}", apps.world.cookie(&apps.alice, app, "/").await);
        let mut child = Command::new("curl")
            .args(["-sSN", version, "--max-time", "60", "--cacert"])
            .arg(&apps.world.root_file)
            .args(["-H", &cookie, apps.world.url(app, "/events").as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("curl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for number in 0..5 {
            // The next event is sent only when this one has arrived.
            events.permits.add_permits(1);
            let line = next_line(&mut lines).await;
            assert_eq!(line, format!("data: {number}"), "{version}");
            assert_eq!(next_line(&mut lines).await, "");
            assert_eq!(events.sent.load(Ordering::SeqCst), number + 1, "{version}");
        }
    }
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    line.expect("readable").expect("a line")
}

/// Directory of the Node programs and their one package.
fn node_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/node");
    assert!(dir.join("node_modules/ws").exists(), "the npm package `ws` is missing; run ./test, which installs it");
    dir
}

struct Sockets {
    apps: Apps,
    server_log: PathBuf,
    cookie: String,
    origin: String,
    _server: Server,
}

impl Sockets {
    async fn start() -> Self {
        let world = World::start().await;
        let address = free_address();
        let server_log = world.dir.path().join("echo-server.log");
        let script = node_dir().join("echo-server.mjs").display().to_string();
        let server = Server::start("node", &[&script, &address.port().to_string()], &server_log, address).await;
        let apps = Apps::start(world, &[("chat", format!("http://{address}"), None)]).await;
        let cookie = apps.world.cookie(&apps.alice, "chat", "/").await;
        let origin = format!("https://{}:{}", apps.world.host("chat"), apps.world.port);
        Self { apps, server_log, cookie, origin, _server: server }
    }

    /// A client with these fields in its handshake.
    fn client(&self, mode: &str, headers: &Value) -> (Child, Lines<BufReader<ChildStdout>>) {
        let world = &self.apps.world;
        let told = json!({"port": world.port, "host": world.host("chat"), "root": world.root_file, "headers": headers});
        let mut child = Command::new("node")
            .arg(node_dir().join("echo-client.mjs"))
            .arg(mode)
            .env("VOUCHSAFE_TEST", told.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        (child, lines)
    }

    /// Everything a client says until it ends.
    async fn said(&self, mode: &str, headers: &Value) -> Vec<Value> {
        let (_child, mut lines) = self.client(mode, headers);
        let mut said = Vec::new();
        while let Some(line) =
            tokio::time::timeout(PATIENCE * 2, lines.next_line()).await.expect("in time").expect("read")
        {
            said.push(serde_json::from_str(&line).expect("JSON"));
        }
        said
    }

    fn honest(&self) -> Value {
        json!({"Cookie": self.cookie, "Origin": self.origin})
    }

    /// What the server has printed.
    fn server_said(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.server_log).expect("log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_carry_every_message_and_both_sides_closes() {
    let sockets = Sockets::start().await;
    let said = sockets.said("echo", &sockets.honest()).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        (&said[0]["event"], &said[1]["code"], &said[1]["received"]),
        (&json!("open"), &json!(1000), &json!(1000)),
        "{said:?}"
    );
    let said = sockets.said("closed", &sockets.honest()).await;
    assert_eq!((&said[1]["code"], &said[1]["reason"]), (&json!(4001), &json!("asked for")), "{said:?}");
    let said = sockets.said("close", &sockets.honest()).await;
    assert_eq!(said[1]["code"], 4002, "{said:?}");
    for _ in 0..100 {
        if sockets.server_said().iter().any(|line| line["code"] == 4002 && line["reason"] == "had enough") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = sockets.server_said();
    let closes: Vec<_> =
        server.iter().filter(|line| line["event"] == "close").map(|line| line["code"].clone()).collect();
    assert_eq!(closes, [1000, 4001, 4002]);
    for open in server.iter().filter(|line| line["event"] == "open") {
        let headers = &open["headers"];
        assert!(headers["x-vouchsafe-assertion"].as_str().is_some_and(|value| value.starts_with("ey")), "{headers}");
        assert!(headers.get("cookie").is_none(), "our cookie stays with us: {headers}");
    }
    let query = AuditQuery { resource: Some("chat".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let ends = sockets.apps.flow(query).await;
    let echoed = ends
        .iter()
        .filter(|end| end.action.as_deref() == Some("http:upgrade") && end.bytes_out > Some(10 << 20))
        .count();
    assert_eq!(echoed, 1, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_needs_the_apps_own_page_and_a_session() {
    let sockets = Sockets::start().await;
    let other = sockets.origin.replace("chat", "evil");
    let plain = sockets.origin.replace("https", "http");
    for (what, headers, reason) in [
        ("no cookie", json!({"Origin": sockets.origin}), "sign_in_required"),
        ("another's page", json!({"Cookie": sockets.cookie, "Origin": "https://evil.example"}), "credential_invalid"),
        ("a sibling's page", json!({"Cookie": sockets.cookie, "Origin": other}), "credential_invalid"),
        ("a plain page", json!({"Cookie": sockets.cookie, "Origin": plain}), "credential_invalid"),
        (
            "a forged cookie",
            json!({"Cookie": "__Host-vouchsafe=forged", "Origin": sockets.origin}),
            "credential_invalid",
        ),
    ] {
        let said = sockets.said("hold", &headers).await;
        assert_eq!((&said[0]["event"], &said[0]["status"]), (&json!("refused"), &json!(401)), "{what}: {said:?}");
        let id = said[0]["decision"].as_str().expect("a decision").to_owned();
        assert_eq!(sockets.apps.world.decision(&id).await.reason.as_deref(), Some(reason), "{what}");
    }
    assert!(sockets.server_said().is_empty(), "nothing reached the app: {:?}", sockets.server_said());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_websocket_is_cut_when_its_session_ends() {
    let sockets = Sockets::start().await;
    let (_child, mut lines) = sockets.client("hold", &sockets.honest());
    assert_eq!(next_line(&mut lines).await, r#"{"event":"open"}"#);
    let world = &sockets.apps.world;
    let sessions: Vec<Session> = world.admin.get("/v1/sessions").await.expect("sessions");
    let own: Vec<_> = sessions.iter().filter(|session| session.user == "alice").collect();
    assert!(!own.is_empty(), "{sessions:?}");
    let mut begun = Instant::now();
    for session in own {
        begun = Instant::now();
        world.admin.delete(&format!("/v1/sessions/{}", session.id)).await.expect("ended");
    }
    let line = next_line(&mut lines).await;
    let took = begun.elapsed();
    let closed: Value = serde_json::from_str(&line).expect("JSON");
    assert!(closed["event"] == "close" || closed["event"] == "error", "{closed}");
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
    for _ in 0..100 {
        if sockets.server_said().iter().any(|line| line["event"] == "close") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sockets.server_said().iter().any(|line| line["event"] == "close"), "the app's side is closed too");
    let query = AuditQuery { resource: Some("chat".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    for _ in 0..100 {
        let ends = world.audit(query.clone()).await;
        if let Some(end) = ends.iter().find(|end| end.action.as_deref() == Some("http:upgrade")) {
            assert_eq!(end.reason.as_deref(), Some("session_ended"), "{end:?}");
            // The same cookie opens nothing any more.
            let said = sockets.said("hold", &sockets.honest()).await;
            assert_eq!(said[0]["status"], 401, "{said:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the end of the WebSocket is not recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a143_an_upstream_cannot_speak_in_our_name() {
    let script = |_: &str| Script {
        answer: b"HTTP/1.1 200 OK\r\n\
            Set-Cookie: __Host-vouchsafe=evil; Path=/; Secure\r\n\
            Set-Cookie: __host-Vouchsafe-pending=evil; Path=/; Secure\r\n\
            Set-Cookie:   __Host-vouchsafe =evil; Path=/; Secure\r\n\
            Set-Cookie: theirs=1; Path=/\r\n\
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
