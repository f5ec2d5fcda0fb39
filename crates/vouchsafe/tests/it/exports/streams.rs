//! Streams to rsyslog over TLS, to OpenTelemetry's own collector over HTTPS, and to a receiver that is made of its definitions.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{fill, load};
use crate::http3::python;
use crate::papers::Papers;
use crate::peers::{Server, free_address, free_port};
use crate::world::{PATIENCE, World, patiently};

/// rsyslog, which wants a certificate of its clients.
struct Rsyslog {
    child: Child,
    out: PathBuf,
}

impl Rsyslog {
    async fn start(papers: &Papers, port: u16) -> Self {
        let [dir, root, certificate, key, out] =
            ["", "root.pem", "server.pem", "server.key", "out.log"].map(|name| papers.path(name));
        let config = format!(
            r#"global(workDirectory="{dir}" maxMessageSize="128k" defaultNetstreamDriver="ossl"
                defaultNetstreamDriverCAFile="{root}" defaultNetstreamDriverCertFile="{certificate}"
                defaultNetstreamDriverKeyFile="{key}")
            module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
            template(name="line" type="string" string="%pri% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\n")
            ruleset(name="audit") {{ action(type="omfile" file="{out}" template="line") }}
            input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="audit")
            "#,
            dir = dir.display(),
            root = root.display(),
            certificate = certificate.display(),
            key = key.display(),
            out = out.display(),
        );
        let path = papers.path("rsyslog.conf");
        std::fs::write(&path, config).expect("written");
        let log = File::create(papers.path("rsyslog.err")).expect("log");
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("rsyslog is installed by ./test");
        for () in patiently() {
            if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return Self { child, out };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("rsyslog does not listen: {}", papers.text("rsyslog.err"));
    }

    /// Positions of the records that it has written so far.
    fn positions(&self) -> BTreeSet<u64> {
        let text = String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned();
        // What a kill cut off is no line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        let position = |line: &str| -> Option<u64> {
            let (_, rest) = line.split_once("sequenceId=\"")?;
            let sequence: u64 = rest.split('"').next()?.parse().ok()?;
            let event: Value = serde_json::from_str(line.get(line.find(" {")? + 1..)?).ok()?;
            assert_eq!(event["metadata"]["sequence"], sequence - 1, "{line}");
            Some(sequence - 1)
        };
        whole.lines().filter_map(position).collect()
    }
}

async fn size(world: &World) -> u64 {
    let state: Value = world.admin.get("/v1/audit/log").await.expect("state");
    state["records"].as_u64().expect("records")
}

async fn stream(world: &World, name: &str) -> Value {
    world.admin.get(&format!("/v1/audit/streams/{name}")).await.expect("a stream")
}

/// Waits until there is a record for each position before that.
async fn complete(until: u64, seen: impl Fn() -> BTreeSet<u64>, world: &World) {
    for () in patiently().chain(patiently()) {
        if seen().range(..until).count() as u64 == until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = seen();
    let missing: Vec<u64> = (0..until).filter(|position| !seen.contains(position)).take(20).collect();
    panic!("of {until} records these never came: {missing:?}\n{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_gets_every_record_whoever_is_killed_and_only_over_tls_that_is_verified() {
    let papers = Papers::new();
    let port = free_port(Ipv4Addr::LOCALHOST);
    let mut receiver = Rsyslog::start(&papers, port).await;
    let world = World::start().await;
    let address = format!("127.0.0.1:{port}");
    let root = papers.path("root.pem").display().to_string();
    let [certificate, key] = ["client.pem", "client.key"].map(|name| papers.path(name).display().to_string());
    let add = async |name: &str, more: &[&str]| {
        let mut arguments = vec!["audit", "stream", "add", name, "--syslog", &address, "--from", "0"];
        arguments.extend_from_slice(more);
        world.cli(&world.state_dir(), &arguments).await
    };
    // Who isn't proven gets nothing, and without a certificate of ours it takes nothing.
    assert_eq!(add("stranger", &[]).await.0, 0);
    assert_eq!(add("nobody", &["--ca-file", &root]).await.0, 0);
    let own = ["--ca-file", &root, "--certificate-file", &certificate, "--key-file", &key];
    let (code, _, err) = add("siem", &own).await;
    assert_eq!(code, 0, "{err}");
    for (name, works) in [("stranger", false), ("nobody", false), ("siem", true)] {
        let (code, out, err) = world.cli(&world.state_dir(), &["audit", "stream", "test", name]).await;
        assert_eq!(code == 0, works, "{name}: {out}{err}");
    }
    for name in ["stranger", "nobody"] {
        let (code, _, err) = world.cli(&world.state_dir(), &["audit", "stream", "remove", name]).await;
        assert_eq!(code, 0, "{err}");
    }
    complete(size(&world).await, || receiver.positions(), &world).await;
    let first = std::fs::read_to_string(&receiver.out).expect("records");
    assert!(
        first.lines().any(|line| line.starts_with("110 vouchsafe.localhost vouchsafe controller lifecycle ")),
        "{first}"
    );

    // The receiver is killed under load, and stays away for a while.
    let busy = load(&world);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        receiver.child.kill().await.expect("killed");
        tokio::time::sleep(Duration::from_millis(500)).await;
        receiver = Rsyslog::start(&papers, port).await;
    }
    // The controller is killed under load.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let own_port = world.port;
    let dir = world.kill().await;
    busy.shut_down(PATIENCE).await;
    let world = World::start_in(dir, own_port).await;
    fill(&world, 50).await;
    complete(size(&world).await, || receiver.positions(), &world).await;
    let shown = stream(&world, "siem").await;
    assert_eq!((&shown["last"], &shown["failures"]), (&json!("taken"), &json!(0)), "{shown}");

    // A process that ends in order waits for the receiver to say that it got all, so nothing is sent twice: for two
    // seconds, and not in the middle of sending, so on a busy machine not at each end.
    let (mut world, mut again) = (world, shown.clone());
    for _ in 0..8 {
        if again["next"].as_u64() > shown["next"].as_u64() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let dir = world.stop().await;
        world = World::start_in(dir, own_port).await;
        again = stream(&world, "siem").await;
    }
    assert!(again["next"].as_u64() > shown["next"].as_u64(), "{shown} {again}");
    let (code, out, err) = world.cli(&world.state_dir(), &["audit", "stream", "list"]).await;
    assert_eq!((code, out.contains("siem"), out.contains(&address)), (0, true, true), "{out}{err}");
}

/// A receiver of log records, and every position that it or one before it took.
struct Collector {
    child: Child,
    out: PathBuf,
}

impl Collector {
    async fn start(dir: &Path, port: u16) -> Self {
        let (interpreter, script) = python("otlp_logs.py");
        let out = dir.join("taken");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&out).expect("file");
        let child = Command::new(interpreter)
            .args([script.as_os_str(), port.to_string().as_ref()])
            .stdin(Stdio::null())
            .stdout(file)
            .kill_on_drop(true)
            .spawn()
            .expect("opentelemetry-proto is installed by ./test");
        Self { child, out }
    }

    fn taken(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        let read = |line: &str| serde_json::from_str::<Value>(line).ok();
        text.lines().filter_map(read).filter(|line| line["port"].is_null()).collect()
    }

    fn positions(&self) -> BTreeSet<u64> {
        let position = |line: &Value| line["attributes"]["vouchsafe.position"].as_u64().expect("a position");
        self.taken().iter().map(position).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_opentelemetry_gets_every_record_and_one_that_is_down_holds_up_nothing() {
    let files = tempfile::tempdir().expect("temporary directory");
    let port = free_port(Ipv4Addr::LOCALHOST);
    let world = World::start().await;
    let token = "Bearer c0ffee-s3cret";
    let new = json!({
        "name": "otel", "kind": "otlp", "address": format!("http://127.0.0.1:{port}"), "format": "json", "from": 0,
        "headers": [["authorization", token]],
    });
    let _added: Value = world.admin.post("/v1/audit/streams", &new).await.expect("added");
    // Nobody listens: changes go on, and it falls behind.
    fill(&world, 20).await;
    for () in patiently() {
        if stream(&world, "otel").await["failures"].as_u64() > Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let down = stream(&world, "otel").await;
    assert!(
        down["last"].as_str().expect("words").contains("can't connect") && down["behind"].as_u64() > Some(20),
        "{down}"
    );
    let busy = load(&world);
    let mut collector = Collector::start(files.path(), port).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        collector.child.kill().await.expect("killed");
        tokio::time::sleep(Duration::from_millis(300)).await;
        collector = Collector::start(files.path(), port).await;
    }
    let own_port = world.port;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dir = world.kill().await;
    busy.shut_down(PATIENCE).await;
    let world = World::start_in(dir, own_port).await;
    fill(&world, 20).await;
    complete(size(&world).await, || collector.positions(), &world).await;

    let taken = collector.taken();
    let one = taken.iter().find(|one| one["body"]["kind"] == "audit_read").expect("a read of the log");
    assert_eq!((&one["authorization"], &one["event"]), (&json!(token), &json!("vouchsafe.audit_read")));
    assert_eq!(one["resource"]["service.namespace"], "vouchsafe.localhost");
    let uid = format!("{}/{}", one["body"]["source"].as_str().expect("a source"), one["body"]["seq"]);
    assert_eq!(one["attributes"]["log.record.uid"], uid);
    // The secret is sealed, and told nobody.
    assert!(!world.log().contains("c0ffee"), "{}", world.log());
    for entry in std::fs::read_dir(world.state_dir()).expect("state") {
        let path = entry.expect("entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("read");
            assert!(!bytes.windows(6).any(|window| window == b"c0ffee"), "{}", path.display());
        }
    }
    // How far it is, is told in figures, too.
    for () in patiently() {
        if stream(&world, "otel").await["behind"] == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let caught_up = stream(&world, "otel").await;
    assert_eq!((&caught_up["behind"], &caught_up["rejected"]), (&json!(0), &json!(0)), "{caught_up}");
}

/// OpenTelemetry's own collector, and what it wrote as OTLP's JSON.
async fn real_collector(papers: &Papers, address: SocketAddr) -> (Server, PathBuf) {
    let [certificate, key, root, out] =
        ["server.pem", "server.key", "root.pem", "taken"].map(|name| papers.path(name).display().to_string());
    let config = format!(
        "receivers:\n  otlp:\n    protocols:\n      http:\n        endpoint: {address}\n        tls:\n          \
         cert_file: {certificate}\n          key_file: {key}\n          client_ca_file: {root}\n\
         exporters:\n  lines:\n    path: {out}\n\
         service:\n  telemetry:\n    metrics:\n      level: none\n  pipelines:\n    logs:\n      \
         receivers: [otlp]\n      exporters: [lines]\n"
    );
    let file = papers.path("collector.yaml");
    std::fs::write(&file, config).expect("written");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/bin/collector");
    let arguments = ["--config".to_owned(), file.display().to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let log = papers.path("collector.log");
    let server = Server::start(&program.display().to_string(), &arguments, &log, address).await;
    (server, papers.path("taken"))
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_s_own_collector_gets_every_record_over_https_that_is_verified_both_ways() {
    let papers = Papers::new();
    let address = free_address();
    let (collector, out) = real_collector(&papers, address).await;
    let world = World::start().await;
    let root = papers.path("root.pem").display().to_string();
    let [certificate, key] = ["client.pem", "client.key"].map(|name| papers.path(name).display().to_string());
    let url = format!("https://{address}");
    let own = ["--ca-file", &root, "--certificate-file", &certificate, "--key-file", &key];
    // Who isn't proven gets nothing, and without a certificate of ours it takes nothing.
    for (name, more, works) in [("stranger", &own[..0], false), ("nobody", &own[..2], false), ("otel", &own[..], true)]
    {
        let add = [&["audit", "stream", "add", name, "--otlp", &url, "--from", "0"], more].concat();
        let (code, _, err) = world.cli(&world.state_dir(), &add).await;
        assert_eq!(code, 0, "{err}");
        let (code, out, err) = world.cli(&world.state_dir(), &["audit", "stream", "test", name]).await;
        assert_eq!(code == 0, works, "{name}: {out}{err}\n{}", papers.text("collector.log"));
    }
    fill(&world, 20).await;
    let until = size(&world).await;
    let taken = || {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        let mut records = Vec::new();
        for export in whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
            for of_resource in export["resourceLogs"].as_array().into_iter().flatten() {
                for of_scope in of_resource["scopeLogs"].as_array().into_iter().flatten() {
                    records.extend(of_scope["logRecords"].as_array().into_iter().flatten().cloned());
                }
            }
        }
        records
    };
    let attribute = |record: &Value, name: &str| {
        let all = record["attributes"].as_array().expect("attributes");
        let found = all.iter().find(|attribute| attribute["key"] == name).map(|found| found["value"].clone());
        found.unwrap_or_else(|| panic!("no {name}: {record}"))
    };
    let position = |record: &Value| -> u64 {
        attribute(record, "vouchsafe.position")["intValue"].as_str().expect("a number").parse().expect("a number")
    };
    complete(until, || taken().iter().map(position).collect(), &world).await;
    let records = taken();
    let one = records.iter().find(|record| position(record) == 0).expect("the first");
    assert!(one["timeUnixNano"].is_string() && one["body"]["stringValue"].is_string(), "{one}");
    let shown = stream(&world, "otel").await;
    assert_eq!((&shown["rejected"], &shown["failures"]), (&json!(0), &json!(0)), "{shown}");
    drop(collector);
}
