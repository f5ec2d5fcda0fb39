//! Apps of every make behind a connector: TLS, HTTP/2 and WebSockets pass it as they are. And how a connector stands:
//! where it is attached, and with which certificate.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use vouchsafe_wire::api::{Connector, ConnectorInvited};

use super::nginx::Nginx;
use super::websocket::Sockets;
use super::{Apps, Pki};
use crate::roles::{self, Gate};
use crate::world::{World, launch, patiently};

/// Joins a connector of the site `cellar` on this machine.
async fn join(world: &World) {
    let at = format!("127.0.0.1:{}", world.port);
    let invited: ConnectorInvited =
        world.admin.post("/v1/connectors/invites", &json!({"site": "cellar"})).await.expect("invited");
    let state = world.dir.path().join("connector");
    let (exit, out, err) = world.cli(&state, &["connector", "join", &invited.code, "--gateway", &at]).await;
    assert_eq!(exit, 0, "{out}{err}");
}

/// Starts it, and waits until it is attached.
async fn start(world: &World, allow: &[&str]) -> Child {
    let at = format!("127.0.0.1:{}", world.port);
    let mut arguments = vec!["connector", "--gateway", &at];
    arguments.extend(allow.iter().flat_map(|target| ["--allow", target]));
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let (process, _) = launch(world.dir.path(), &world.dir.path().join("connector"), &arguments).await;
    attached(world, |connector| !connector.attached.is_empty()).await;
    process
}

/// Waits until the one connector stands so.
async fn attached(world: &World, so: impl Fn(&Connector) -> bool) -> Connector {
    let mut all = Vec::new();
    for () in patiently() {
        all = world.admin.get::<Vec<Connector>>("/v1/connectors").await.expect("connectors");
        if let [connector] = &all[..]
            && so(connector)
        {
            return all.remove(0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the connector stands otherwise: {all:?} {}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_every_version_of_http_pass_a_connector() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let nginx = Nginx::start(&world, &pki).await;
    let resource = |name: &str, upstream: String, more: Value| {
        let mut resource = json!({"name": name, "kind": "http", "upstream": upstream, "via": "cellar"});
        for (member, value) in more.as_object().expect("members") {
            resource[member] = value.clone();
        }
        resource
    };
    let secure = format!("localhost:{}", nginx.secure.port());
    let other = Pki::new("localhost");
    let resources = vec![
        resource("plain", format!("http://{}", nginx.plain), json!({})),
        resource("safe", format!("https://{secure}"), json!({"upstream_ca": pki.authority})),
        resource(
            "safe-one",
            format!("https://{secure}"),
            json!({"upstream_ca": pki.authority, "upstream_protocol": "http1"}),
        ),
        resource("prior", format!("http://{}", nginx.prior), json!({"upstream_protocol": "h2"})),
        resource("doubtful", format!("https://{secure}"), json!({"upstream_ca": other.authority})),
    ];
    join(&world).await;
    // A name that leads to loopback is opened only for a pattern that is about loopback alone.
    let targets = [nginx.plain, nginx.prior, nginx.secure].map(|target| target.to_string());
    let _connector = start(&world, &targets.each_ref().map(String::as_str)).await;
    let apps = Apps::start_with(world, resources).await;
    for (app, protocol) in
        [("plain", "by HTTP/1.1"), ("safe", "by HTTP/2.0"), ("safe-one", "by HTTP/1.1"), ("prior", "by HTTP/2.0")]
    {
        for version in ["--http1.1", "--http2"] {
            let answer = apps.curl(app, "/protocol", &[version]).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, protocol), "{app} {version}: {answer:?}");
        }
    }
    // The gateway proves the upstream itself: what lies between, the connector too, could not stand in for it.
    let answer = apps.curl("doubtful", "/protocol", &[]).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    // A large body, through every window on the way.
    let file = apps.world.dir.path().join("upload");
    std::fs::write(&file, vec![7; 8 << 20]).expect("written");
    let answer = apps.curl("safe", "/upload/far", &["--http2", "-T", &file.display().to_string()]).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(std::fs::read(nginx.dir.join("www/upload/far")).expect("stored"), vec![7; 8 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_a_connector() {
    let world = World::start().await;
    join(&world).await;
    let _connector = start(&world, &["127.0.0.0/8:*"]).await;
    let sockets = Sockets::start_on(world, "http1", json!({"via": "cellar"})).await;
    let said = sockets.said("echo", &sockets.honest()).await;
    assert_eq!((&said[1]["code"], &said[1]["received"]), (&json!(1000), &json!(1000)), "{said:?}");
    let said = sockets.said("closed", &sockets.honest()).await;
    assert_eq!((&said[1]["code"], &said[1]["reason"]), (&json!(4001), &json!("asked for")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_where_a_connector_is_attached_and_its_certificate_is_renewed_under_one_key() {
    let world = roles::controller().await;
    let gate = Gate::join(&world, "one", std::net::Ipv4Addr::LOCALHOST).await;
    join(&world).await;
    let mut connector = start(&world, &["127.0.0.1:9"]).await;
    let seen = attached(&world, |connector| !connector.attached.is_empty()).await;
    let [to] = &seen.attached[..] else { panic!("{seen:?}") };
    assert_eq!((to.gateway.as_str(), to.connections, to.streams), ("one", 1, 0));
    let (exit, out, err) = world.cli(&world.state_dir(), &["connector", "list"]).await;
    assert!(exit == 0 && out.contains("cellar-1") && out.contains("one"), "{out}{err}");
    connector.kill().await.expect("killed");
    let gone = attached(&world, |connector| connector.attached.is_empty()).await;
    let (_, out, _) = world.cli(&world.state_dir(), &["connector", "list"]).await;
    assert!(out.contains("no gateway"), "{out}");

    // Two thirds of its certificate's life are over.
    let file = world.dir.path().join("connector").join("connector").join("connector.json");
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&file).expect("kept")).expect("JSON") };
    let before = read();
    let mut due = before.clone();
    due["joined"]["renew_at"] = json!(1);
    // A second later the next one has another end.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    std::fs::write(&file, due.to_string()).expect("written");
    let _connector = start(&world, &["127.0.0.1:9"]).await;
    let renewed = attached(&world, |now| now.certificate_expires > gone.certificate_expires).await;
    assert_eq!(renewed.id, seen.id);
    let mut after = read();
    for () in patiently() {
        if after["joined"]["certificate"] != before["joined"]["certificate"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        after = read();
    }
    assert_ne!(after["joined"]["certificate"], before["joined"]["certificate"]);
    assert_eq!(after["key"], before["key"], "of the same key");
    assert!(after["joined"]["renew_at"].as_u64() > Some(1));
    // It attaches with the new one, and the connection with the old one ends.
    attached(&world, |now| now.attached.iter().map(|to| to.connections).sum::<u32>() == 1).await;
    drop(gate);
}
