//! `udp` resources from a user's side: a real name server, asked with `dig` through `connect --udp`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::client::TlsStream;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::capsule::{CapsuleReader, udp_payload, write_capsule};

use crate::attacks::probe::{self, config};
use crate::http3::Echo;
use crate::peers::{Ran, free_port, run};
use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World, patiently};

const POLICY: &str = r#"
@id("dns")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Udp::"office-dns");

@id("twin")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Tcp::"twin");
"#;

/// `vouchsafe connect --udp`, running.
pub struct Connect {
    address: SocketAddr,
    _child: Child,
}

impl Connect {
    pub async fn start(device: &TestDevice, resource: &str) -> Self {
        let mut child = Command::new(VOUCHSAFE)
            .args(["connect", resource, "--udp", "--json", "--dir"])
            .arg(&device.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let stdout = child.stdout.take().expect("piped");
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        let line = line.expect("in time").expect("readable").expect("a ready line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Self { address: ready["listening"].as_str().expect("address").parse().expect("an address"), _child: child }
    }

    pub async fn dig(&self, patience: &str, tries: &str) -> Ran {
        let port = self.address.port().to_string();
        let (time, tries) = (format!("+time={patience}"), format!("+tries={tries}"));
        run("dig", &["@127.0.0.1", "-p", &port, "intranet.corp.example", "A", "+short", &time, &tries]).await
    }
}

/// A name server that knows one name, and answers. It takes its port of TCP as well as of UDP, and ends where another has
/// either by then: then there is another.
async fn dnsmasq() -> (SocketAddr, Child) {
    for () in patiently() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)));
        let mut server = dnsmasq_by(Command::new("dnsmasq"), address);
        while server.try_wait().expect("status").is_none() {
            let port = address.port().to_string();
            let question = ["@127.0.0.1", "-p", &port, "intranet.corp.example", "A", "+short", "+time=1", "+tries=1"];
            if run("dig", &question).await.out.trim() == "192.0.2.7" {
                return (address, server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("no name server answers");
}

/// The same by another command, such as one in another network.
pub fn dnsmasq_by(mut program: Command, address: SocketAddr) -> Child {
    program
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null"])
        .args([
            &format!("--listen-address={}", address.ip()),
            "--pid-file=",
            "--user=",
            "--group=",
            &format!("--port={}", address.port()),
        ])
        .arg("--address=/intranet.corp.example/192.0.2.7")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("dnsmasq is installed by ./test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_is_asked_through_the_gateway_and_a_closed_one_hears_nothing() {
    let world = World::start().await;
    let (dns, _server) = dnsmasq().await;
    let closed = Echo::start(&world.tasks).await;
    let resources = json!([
        {"name": "office-dns", "kind": "udp", "upstream": dns.to_string(), "port": 53, "idle_timeout": 30},
        {"name": "closed-dns", "kind": "udp", "upstream": closed.address.to_string(), "port": 53},
        {"name": "twin", "kind": "tcp", "upstream": closed.address.to_string(), "port": 53},
    ]);
    world.apply(&["staff"], resources, POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    let laptop = world.device(&alice, "laptop").await;

    let connect = Connect::start(&laptop, "office-dns").await;
    let answer = connect.dig("5", "4").await;
    assert_eq!(answer.out.trim(), "192.0.2.7", "{}", answer.err);

    // A right to the TCP port of the same number is none to the UDP port (A365).
    for resource in ["closed-dns", "twin"] {
        let refused = Connect::start(&laptop, resource).await;
        assert_ne!(refused.dig("1", "1").await.code, 0);
        let query =
            AuditQuery { resource: Some(resource.into()), kind: Some("decision".into()), ..AuditQuery::default() };
        let mut records = Vec::new();
        for () in patiently() {
            records = world.audit(query.clone()).await;
            if !records.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!records.is_empty() && records.iter().all(|record| record.outcome.as_deref() == Some("deny")));
        assert_eq!(records[0].protocol.as_deref(), Some("connect-udp-h2"));
    }
    assert!(closed.seen().is_empty(), "not a packet leaves for a target that is denied");

    // The right ends: the open flow is cut, and a new one is not opened.
    world.admin.delete("/v1/groups/staff/members/alice").await.expect("removed from the group");
    let query =
        AuditQuery { resource: Some("office-dns".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let mut ends = Vec::new();
    for () in patiently() {
        ends = world.audit(query.clone()).await;
        if !ends.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ends.iter().any(|end| end.detail.as_deref().is_some_and(|detail| detail.starts_with("cut: "))), "{ends:?}");
    assert!(ends.iter().all(|end| end.bytes_in > Some(0) && end.bytes_out > Some(0)), "{ends:?}");
    assert_ne!(connect.dig("1", "1").await.code, 0);
}

/// CONNECT-UDP as an upgrade of an HTTP/1.1 connection (RFC 9298 §3.2).
pub struct Upgraded {
    stream: TlsStream<TcpStream>,
    capsules: CapsuleReader,
    read: Vec<u8>,
}

impl Upgraded {
    /// The head of the answer, and the connection.
    pub async fn ask(world: &World, device: &TestDevice, target: &str, port: u16, rest: &str) -> (String, Self) {
        let mut stream =
            probe::connect(world, "gw", config(world, Some(device), &[b"http/1.1"])).await.expect("handshake");
        let path = format!("/.well-known/masque/udp/{}/{port}/", world.host(target));
        let host = format!("{}:{}", world.host("gw"), world.port);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n{rest}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("in time");
            answer.push(byte.expect("an answer"));
        }
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        (answer, Self { stream, capsules: CapsuleReader::default(), read: Vec::new() })
    }

    pub async fn send(&mut self, payload: &[u8]) {
        let mut capsule = Vec::new();
        write_capsule(&mut capsule, payload);
        self.stream.write_all(&capsule).await.expect("sent");
    }

    /// The next UDP payload; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut input = self.read.as_slice();
            let datagram = self.capsules.next(&mut input).expect("capsules of ours");
            self.read = input.to_vec();
            if let Some(datagram) = datagram {
                return Some(udp_payload(&datagram).expect("UDP").to_vec());
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("in time");
            match read {
                Ok(length @ 1..) => self.read.extend_from_slice(&buffer[..length]),
                Ok(_) | Err(_) => return None,
            }
        }
    }
}

/// A question for the address of `intranet.corp.example` (RFC 1035 §4.1).
fn question() -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["intranet", "corp", "example"] {
        question.push(u8::try_from(label.len()).expect("short"));
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    question
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_udp_is_an_upgrade_in_http_1_1_and_decided_on_all_the_same() {
    let world = World::start().await;
    let (dns, _server) = dnsmasq().await;
    let closed = Echo::start(&world.tasks).await;
    let resources = json!([
        {"name": "office-dns", "kind": "udp", "upstream": dns.to_string(), "port": 53},
        {"name": "closed-dns", "kind": "udp", "upstream": closed.address.to_string(), "port": 53},
        {"name": "twin", "kind": "tcp", "upstream": closed.address.to_string(), "port": 53},
    ]);
    world.apply(&["staff"], resources, POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    let laptop = world.device(&alice, "laptop").await;
    let token = format!("Proxy-Authorization: Bearer {}\r\n", laptop.token);
    let upgrade = "Connection: Upgrade\r\n";

    let (answer, mut flow) = Upgraded::ask(&world, &laptop, "office-dns", 53, &format!("{upgrade}{token}")).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    for field in ["connection: upgrade", "upgrade: connect-udp", "capsule-protocol: ?1"] {
        assert!(answer.contains(&format!("\r\n{field}\r\n")), "{answer}");
    }
    // A datagram may be lost on the way to a server that has only just begun to listen.
    let mut heard = None;
    for _ in 0..20 {
        flow.send(&question()).await;
        match tokio::time::timeout(Duration::from_millis(500), flow.next()).await {
            Ok(answer) => {
                heard = answer;
                break;
            }
            Err(_) => continue,
        }
    }
    let heard = heard.expect("an answer of the name server");
    assert!(heard.starts_with(&[0x12, 0x34]) && heard.ends_with(&[192, 0, 2, 7]), "{heard:?}");

    for (what, target, port, fields, status) in [
        ("a closed resource", "closed-dns", 53, format!("{upgrade}{token}"), "403"),
        ("A365: the UDP port of a TCP resource", "twin", 53, format!("{upgrade}{token}"), "403"),
        ("another port", "office-dns", 54, format!("{upgrade}{token}"), "403"),
        ("nobody", "office-dns", 53, upgrade.to_owned(), "407"),
        // What `Connection` does not name is no upgrade (RFC 9110 §7.8), but a page that there isn't.
        ("no upgrade", "office-dns", 53, token.clone(), "404"),
    ] {
        let (answer, mut refused) = Upgraded::ask(&world, &laptop, target, port, &fields).await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{what}: {answer}");
        if status != "404" {
            let id = answer.split("x-vouchsafe-decision: ").nth(1).and_then(|rest| rest.split('\r').next());
            let record = world.decision(id.unwrap_or_else(|| panic!("{what}: {answer}"))).await;
            assert_eq!(record.outcome.as_deref(), Some("deny"), "{what}: {record:?}");
            assert_eq!(record.protocol.as_deref(), Some("connect-udp"), "{what}: {record:?}");
        }
        // What was meant for the tunnel is not read as a request.
        let _ = refused.stream.write_all(&question()).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, refused.stream.read_to_end(&mut rest)).await.expect("closed in time");
        assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{what}: {}", String::from_utf8_lossy(&rest));
    }
    assert!(closed.seen().is_empty(), "not a packet leaves for a target that is denied");

    world.admin.delete("/v1/groups/staff/members/alice").await.expect("removed from the group");
    let begun = std::time::Instant::now();
    assert_eq!(flow.next().await, None, "the open flow is cut");
    assert!(begun.elapsed() < Duration::from_secs(1), "after {:?}", begun.elapsed());
    let query =
        AuditQuery { resource: Some("office-dns".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    for () in patiently() {
        let ends = world.audit(query.clone()).await;
        if let Some(end) = ends.first() {
            assert_eq!(end.protocol.as_deref(), Some("connect-udp"), "{end:?}");
            assert!(end.detail.as_deref().is_some_and(|detail| detail.starts_with("cut: ")), "{end:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the end of the flow is not recorded");
}
