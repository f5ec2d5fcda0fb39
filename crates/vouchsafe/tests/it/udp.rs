//! `udp` resources from a user's side: a real name server, asked with `dig` through `connect --udp`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use vouchsafe_wire::api::AuditQuery;

use crate::http3::Echo;
use crate::peers::{Ran, run};
use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World};

const POLICY: &str = r#"
@id("dns")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Udp::"office-dns");

@id("twin")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Tcp::"twin");
"#;

/// `vouchsafe connect --udp`, running.
struct Connect {
    address: SocketAddr,
    _child: Child,
}

impl Connect {
    async fn start(device: &TestDevice, resource: &str) -> Self {
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

    async fn dig(&self, patience: &str, tries: &str) -> Ran {
        let port = self.address.port().to_string();
        let (time, tries) = (format!("+time={patience}"), format!("+tries={tries}"));
        run("dig", &["@127.0.0.1", "-p", &port, "intranet.corp.example", "A", "+short", &time, &tries]).await
    }
}

/// A name server that knows one name.
async fn dnsmasq() -> (SocketAddr, Child) {
    let probe = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = probe.local_addr().expect("address");
    drop(probe);
    let child = Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null"])
        .args([
            "--listen-address=127.0.0.1",
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
        .expect("dnsmasq is installed by ./test");
    (address, child)
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
        for _ in 0..200 {
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
    for _ in 0..500 {
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
