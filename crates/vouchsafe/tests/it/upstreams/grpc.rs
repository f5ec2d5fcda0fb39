//! gRPC: a real client and a real server with the gateway between them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vouchsafe_wire::api::Session;

use super::{Apps, Pki, next_line, node_dir};
use crate::peers::{Server, free_address};
use crate::world::{World, patiently};

struct Client {
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Client {
    fn start(world: &World, app: &str, cookie: Option<&str>) -> Self {
        let told = json!({"port": world.port, "host": world.host(app), "root": world.root_file, "cookie": cookie});
        let mut process = Command::new("node")
            .arg(node_dir().join("grpc-client.mjs"))
            .env("VOUCHSAFE_TEST", told.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        Self { lines: BufReader::new(process.stdout.take().expect("piped")).lines(), _process: process }
    }

    /// What became of the next call, which must be this one.
    async fn call(&mut self, name: &str) -> Value {
        let line: Value = serde_json::from_str(&next_line(&mut self.lines).await).expect("JSON");
        assert_eq!(line["call"], name, "{line}");
        line
    }
}

fn said(log: &Path, event: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("log");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_of_every_kind_pass_and_end_with_access() {
    let world = World::start().await;
    let pki = Pki::new("localhost");
    let dir = world.dir.path();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).expect("written");
        dir.join(name).display().to_string()
    };
    let (certificate, key) = (file("grpc.pem", &pki.chain), file("grpc.key", &pki.key));
    let (plain, secure) = (free_address(), free_address());
    let script = node_dir().join("grpc-server.mjs").display().to_string();
    let (plain_log, secure_log) = (dir.join("grpc-plain.log"), dir.join("grpc-secure.log"));
    let (plain_port, secure_port) = (plain.port().to_string(), secure.port().to_string());
    let _plain = Server::start("node", &[&script, &plain_port], &plain_log, plain).await;
    let _secure = Server::start("node", &[&script, &secure_port, &certificate, &key], &secure_log, secure).await;
    let resources = vec![
        json!({"name": "rpc", "kind": "http", "upstream": format!("http://{plain}"), "upstream_protocol": "h2"}),
        json!({"name": "safe-rpc", "kind": "http", "upstream": format!("https://localhost:{secure_port}"), "upstream_ca": pki.authority}),
    ];
    let apps = Apps::start_with(world, resources).await;
    let world = &apps.world;

    let mut stranger = Client::start(world, "rpc", None);
    assert_eq!(stranger.call("unary").await["code"], 16, "unauthenticated");

    for (app, log) in [("safe-rpc", &secure_log), ("rpc", &plain_log)] {
        let mut client = Client::start(world, app, Some(&apps.cookie(app).await));
        let whole = |line: &Value| {
            assert_eq!(line["code"], 0, "{app}: {line}");
            assert_eq!(line["trailers"]["x-checksum"], "right", "{app}: {line}");
            assert!(line["trailers"].get("x-vouchsafe-user").is_none(), "{app}: {line}");
        };
        let unary = client.call("unary").await;
        whole(&unary);
        assert_eq!(unary["value"], "hello", "{app}");
        let seen = &said(log, "unary")[0]["metadata"];
        assert!(seen["x-vouchsafe-assertion"].as_str().is_some_and(|value| value.starts_with("ey")), "{seen}");
        assert!(seen.get("cookie").is_none() && seen.get("x-own-bin").is_some(), "{seen}");
        let refused = client.call("trailers only").await;
        assert_eq!((&refused["code"], &refused["details"]), (&json!(5), &json!("no such thing")), "{app}: {refused}");
        let sum = client.call("client stream").await;
        whole(&sum);
        assert_eq!(sum["value"], "1000000", "{app}");
        let count = client.call("server stream").await;
        whole(&count);
        assert_eq!((&count["ordered"], &count["count"]), (&json!(true), &json!(1000)), "{app}: {count}");
        let talk = client.call("both ways").await;
        whole(&talk);
        assert_eq!(talk["rounds"], 100, "{app}: {talk}");
        assert_eq!(client.call("deadline").await["code"], 4, "{app}");
        assert_eq!(client.call("cancel").await["code"], 1, "{app}");
        client.call("held").await;
        if app == "rpc" {
            let sessions: Vec<Session> = world.admin.get("/v1/sessions").await.expect("sessions");
            for session in sessions.iter().filter(|session| session.user == "alice") {
                world.admin.delete(&format!("/v1/sessions/{}", session.id)).await.expect("ended");
            }
            assert_eq!(client.call("ended").await["code"], 1, "the stream was reset");
        }
        drop(client);
        // The server is told of each call that ended before its time: deadline, cancel, and the last.
        for () in patiently() {
            if said(log, "cancelled").len() == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(said(log, "cancelled").len(), 3, "{app}");
    }
}
