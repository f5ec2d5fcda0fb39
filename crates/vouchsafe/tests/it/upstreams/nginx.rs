//! nginx as an upstream: every version of HTTP, proofs of its name, reuse of connections, large bodies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Kind;

use super::{Apps, Pki};
use crate::peers::{Server, as_device, curl, curl_as, forget_peak, free_address, resident_kib};
use crate::world::{World, patiently};

pub(super) struct Nginx {
    pub(super) dir: PathBuf,
    pub(super) plain: SocketAddr,
    pub(super) secure: SocketAddr,
    /// HTTP/2 by prior knowledge.
    pub(super) prior: SocketAddr,
    /// TLS 1.2 and HTTP/1.1.
    pub(super) old: SocketAddr,
    /// HTTP/2 with few requests on each connection.
    pub(super) brief: SocketAddr,
    /// HTTP/1.1, and HTTP/2 by prior knowledge, with five requests on each connection.
    pub(super) terse: SocketAddr,
    pub(super) curt: SocketAddr,
    /// HTTP/1.1 on connections that end almost as soon as they wait.
    pub(super) hasty: SocketAddr,
    pub(super) _server: Server,
}

impl Nginx {
    /// Starts Debian's nginx on ports and directories of its own, with a page and a large file.
    pub(super) async fn start(world: &World, pki: &Pki) -> Self {
        let dir = world.dir.path().join("nginx");
        let [plain, secure, prior, old, brief, terse, curt, hasty] = std::array::from_fn(|_| free_address());
        std::fs::create_dir_all(dir.join("www")).expect("directory");
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        write("server.pem", &pki.chain);
        write("server.key", &pki.key);
        write("www/index.html", "hello from nginx\n");
        write("access.log", "");
        let large = std::fs::File::create(dir.join("www/large")).expect("file");
        large.set_len(LARGE).expect("sparse file");
        let config = include_str!("nginx.conf")
            .replace("DIR", &dir.display().to_string())
            .replace("PLAIN", &plain.to_string())
            .replace("SECURE", &secure.to_string())
            .replace("PRIOR", &prior.to_string())
            .replace("OLD", &old.to_string())
            .replace("BRIEF", &brief.to_string())
            .replace("TERSE", &terse.to_string())
            .replace("CURT", &curt.to_string())
            .replace("HASTY", &hasty.to_string());
        write("nginx.conf", &config);
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let path = dir.join("nginx.conf").display().to_string();
        let prefix = dir.display().to_string();
        let server = Server::start(program, &["-p", &prefix, "-c", &path], &dir.join("nginx.log"), plain).await;
        Self { dir, plain, secure, prior, old, brief, terse, curt, hasty, _server: server }
    }

    /// Lines of the access log once there are so many: connection, number of the request on it,
    /// method, path, status, bytes.
    pub(super) async fn log(&self, lines: usize) -> Vec<Vec<String>> {
        let mut log = Vec::new();
        for () in patiently() {
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
pub(super) const LARGE: u64 = 300 << 20;

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
        ("wrong-name", "not valid for name|NotValidForName"),
        ("other-ca", "invalid peer certificate"),
        ("public-ca", "invalid peer certificate"),
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
    apps.flows(query, |end| end.bytes_in == Some(LARGE)).await;
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
    for () in patiently() {
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
    for () in patiently() {
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
