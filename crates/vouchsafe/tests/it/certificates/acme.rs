//! Orders from Debian's `pebble`, the authority that Let's Encrypt tests clients with.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use vouchsafe_wire::api::{AuditQuery, Status};

use super::{trusts, until_trusted};
use crate::attacks::probe;
use crate::peers::run;
use crate::world::{PATIENCE, World};

/// A port that nothing listens on, from below the range that the kernel gives out by itself: what
/// runs beside this test can't come upon it by chance.
fn free_port() -> u16 {
    let from_here = || {
        let [low, high] = vouchsafe_runtime::clock::random::<2>();
        20_000 + u16::from_be_bytes([low, high]) % 10_000
    };
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(from_here).take(1_000).find(free).expect("a free port")
}

/// An authority and the name server that it asks; both end with the test.
struct Pebble {
    directory: String,
    /// Root of its own server.
    own_root: PathBuf,
    /// Root of what it issues.
    root: PathBuf,
    authority: Child,
    _names: Child,
    _dir: TempDir,
}

impl Pebble {
    async fn start(tls_port: u16, http_port: u16) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("certificate");
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).expect("written");
        let (listen, management, dns) = (free_port(), free_port(), free_port());
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": file("cert.pem"),
            "privateKey": file("key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        std::fs::write(file("config.json"), config.to_string()).expect("written");
        let spawn = |command: &mut Command| {
            let log = std::fs::File::create(dir.path().join("pebble.log")).expect("log");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().expect("runs")
        };
        let server = format!("127.0.0.1:{dns}");
        let names = spawn(Command::new("pebble-challtestsrv").args([
            "-dns01",
            &server,
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-defaultIPv6",
            "",
            "-management",
            "",
        ]));
        let authority = spawn(
            Command::new("pebble")
                .args(["-strict", "-dnsserver", &server, "-config"])
                .arg(file("config.json"))
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0"),
        );
        let own_root = file("cert.pem");
        let begun = std::time::Instant::now();
        let root = loop {
            let url = format!("https://127.0.0.1:{management}/roots/0");
            let ran = run("curl", &["-sS", "--cacert", &own_root.display().to_string(), &url]).await;
            if ran.code == 0 && ran.out.contains("BEGIN CERTIFICATE") {
                break ran.out;
            }
            assert!(begun.elapsed() < PATIENCE, "pebble does not answer: {}", ran.err);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        std::fs::write(file("root.pem"), root).expect("written");
        let (directory, root) = (format!("https://127.0.0.1:{listen}/dir"), file("root.pem"));
        Self { directory, own_root, root, authority, _names: names, _dir: dir }
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let root = self.own_root.display().to_string();
        let own = ["--acme", &self.directory, "--acme-ca-file", &root, "--acme-email", "ops@corp.example"];
        own.iter().chain(more).map(ToString::to_string).collect()
    }
}

async fn until_issued(world: &World, host: &str) -> Status {
    let begun = std::time::Instant::now();
    loop {
        let status: Status = world.admin.get("/v1/status").await.expect("status");
        if status.certificates.iter().any(|state| state.host == host && state.expires.is_some()) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE * 2, "{host}: {:?}\n{}", status.certificates, world.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_see_certificates_that_tls_alpn_01_got_also_after_a_restart_without_the_authority() {
    let port = free_port();
    let mut pebble = Pebble::start(port, free_port()).await;
    let arguments = pebble.arguments(&[]);
    let world = World::start_with(tempfile::tempdir().expect("directory"), port, &arguments).await;
    until_trusted(&world, &pebble.root, "a public certificate").await;
    until_issued(&world, &world.host("console")).await;
    // Names of devices stay under our own authority.
    let ours = world.root_file.display().to_string();
    let by = async |roots: &str, label: &str| {
        run("curl", &["-sS", "--cacert", roots, world.url(label, "/").as_str()]).await.code == 0
    };
    let public = pebble.root.display().to_string();
    assert!(by(&ours, "gw").await && !by(&public, "gw").await);
    // A new app has our own certificate until it has a public one.
    let wiki = json!([{"name": "wiki", "kind": "http", "upstream": "http://127.0.0.1:9"}]);
    world.apply(&[], wiki, "").await;
    until_issued(&world, &world.host("wiki")).await;
    assert!(by(&public, "wiki").await);
    // Nothing waits for an answer any more, so there is none.
    let question = probe::config(&world, None, &[b"acme-tls/1"]);
    assert!(probe::connect(&world, "auth", question).await.is_err());
    let mut issued = world.audit(AuditQuery { kind: Some("lifecycle".into()), ..AuditQuery::default() }).await;
    issued.retain(|record| record.action.as_deref() == Some("acme:issue"));
    assert_eq!(issued.len(), 3, "{issued:?}");
    // The last good certificate is kept, sealed, when the authority is gone.
    pebble.authority.kill().await.expect("killed");
    let dir = world.stop().await;
    let database = std::fs::read(dir.path().join("state").join("vouchsafe.db")).expect("database");
    assert!(!database.windows(10).any(|window| window == b"key_pkcs8\":"), "the account's key is sealed");
    let world = World::start_with(dir, port, &arguments).await;
    assert!(trusts(&world, &pebble.root).await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_see_certificates_that_http_01_got() {
    let (port, http_port) = (free_port(), free_port());
    let pebble = Pebble::start(free_port(), http_port).await;
    let arguments = pebble.arguments(&["--acme-http-port", &http_port.to_string()]);
    let world = World::start_with(tempfile::tempdir().expect("directory"), port, &arguments).await;
    until_trusted(&world, &pebble.root, "a public certificate").await;
    until_issued(&world, &world.host("auth")).await;
    // The port answers the authority's questions and nothing else.
    for path in ["/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/sign-in"] {
        let url = format!("http://{}:{http_port}{path}", world.host("auth"));
        let ran = run("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]).await;
        assert_eq!(ran.out, "404", "{path}: {}", ran.err);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_authority_cannot_reach_is_told_and_keeps_our_own_certificate() {
    // The authority asks on a port where nobody listens.
    let pebble = Pebble::start(free_port(), free_port()).await;
    let port = free_port();
    let world = World::start_with(tempfile::tempdir().expect("directory"), port, &pebble.arguments(&[])).await;
    let begun = std::time::Instant::now();
    let problem = loop {
        let status: Status = world.admin.get("/v1/status").await.expect("status");
        if let Some(problem) = status.certificates.iter().find_map(|state| state.problem.clone()) {
            break problem;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(problem.contains("did not find the name to be ours"), "{problem}");
    assert!(trusts(&world, &world.root_file).await);
    let (code, out, _) = world.cli(&world.state_dir(), &["status"]).await;
    assert!(code == 0 && out.contains("Public certificates") && out.contains("tried again"), "{out}");
    world.stop().await;
}
