//! WebSockets to Node's `ws`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vouchsafe_wire::api::{AuditQuery, Session};
use vouchsafe_wire::audit::Record;

use super::{Apps, next_line, node_dir};
use crate::chrome::Chrome;
use crate::http3::Client;
use crate::peers::{Server, free_address};
use crate::world::{PATIENCE, World, patiently};

pub(super) struct Sockets {
    pub(super) apps: Apps,
    server_log: PathBuf,
    cookie: String,
    origin: String,
    _server: Server,
}

impl Sockets {
    async fn start() -> Self {
        Self::start_with("http1").await
    }

    async fn start_with(upstream_protocol: &str) -> Self {
        Self::start_on(World::start().await, upstream_protocol, json!({})).await
    }

    /// The same with further members of the resource.
    pub(super) async fn start_on(world: World, upstream_protocol: &str, more: Value) -> Self {
        let address = free_address();
        let server_log = world.dir.path().join("echo-server.log");
        let script = node_dir().join("echo-server.mjs").display().to_string();
        let arguments = [script.as_str(), &address.port().to_string(), upstream_protocol];
        let server = Server::start("node", &arguments, &server_log, address).await;
        let upstream = format!("http://{address}");
        let mut resource =
            json!({"name": "chat", "kind": "http", "upstream": upstream, "upstream_protocol": upstream_protocol});
        for (member, value) in more.as_object().expect("members") {
            resource[member] = value.clone();
        }
        let apps = Apps::start_with(world, vec![resource]).await;
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
    pub(super) async fn said(&self, mode: &str, headers: &Value) -> Vec<Value> {
        let (_child, mut lines) = self.client(mode, headers);
        let mut said = Vec::new();
        while let Some(line) =
            tokio::time::timeout(PATIENCE * 2, lines.next_line()).await.expect("in time").expect("read")
        {
            said.push(serde_json::from_str(&line).expect("JSON"));
        }
        said
    }

    /// The field section of HTTP/3 that asks for a WebSocket (RFC 9220 §3).
    fn stream(&self, protocol: &str, path: &str, headers: &Value) -> Value {
        let mut fields = vec![
            json!([":method", "CONNECT"]),
            json!([":protocol", protocol]),
            json!([":scheme", "https"]),
            json!([":authority", self.apps.authority("chat")]),
            json!([":path", path]),
            json!(["sec-websocket-version", "13"]),
            json!(["sec-websocket-protocol", "echo"]),
        ];
        for (name, value) in headers.as_object().expect("fields") {
            fields.push(json!([name.to_ascii_lowercase(), value]));
        }
        json!(fields)
    }

    pub(super) fn honest(&self) -> Value {
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
    for () in patiently() {
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
    let echoed = |end: &Record| end.action.as_deref() == Some("http:upgrade") && end.bytes_out > Some(10 << 20);
    let ends = sockets.apps.flows(query, echoed).await;
    assert_eq!(ends.iter().filter(|end| echoed(end)).count(), 1, "{ends:?}");
}

/// Browsers open WebSockets on the HTTP/2 connection that they have (RFC 8441), where it is offered.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_opens_its_websocket_on_a_stream_of_http2() {
    let sockets = Sockets::start().await;
    let world = &sockets.apps.world;
    let link = world.invite("bob", &["staff"]).await;
    let chrome = Chrome::start(world).await;
    chrome.open(&link).await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&world.host("auth"), "/").await;
    chrome.open(world.url("chat", "/").as_str()).await;
    chrome.arrive(&world.host("chat"), "/").await;
    assert_eq!(chrome.script("performance.getEntriesByType('navigation')[0].nextHopProtocol").await, "h2");
    let opening = "(() => {
        window.said = [];
        const socket = new WebSocket(`wss://${location.host}/`, 'echo');
        const messages = [...Array(100).keys()].map((number) => `${number} ${'x'.repeat(number * 100)}`);
        socket.onopen = () => messages.forEach((message) => socket.send(message));
        socket.onmessage = ({ data }) => {
            said.push(data === messages[said.length]);
            if (said.length === messages.length) socket.send('close 4001 asked for');
        };
        socket.onclose = ({ code, reason, wasClean }) => said.push(`${code} ${reason} ${wasClean}`);
        return true;
    })()";
    chrome.script(opening).await;
    chrome.until("typeof said[said.length - 1] === 'string'").await;
    let said = chrome.script("said").await;
    let expected: Vec<Value> = (0..100).map(|_| json!(true)).chain([json!("4001 asked for true")]).collect();
    assert_eq!(said, json!(expected));
    let query = AuditQuery { resource: Some("chat".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let is_socket = |end: &Record| end.action.as_deref() == Some("http:upgrade");
    let ends = sockets.apps.flows(query, is_socket).await;
    let of_socket: Vec<_> = ends.iter().filter(|end| is_socket(end)).collect();
    assert!(matches!(of_socket[..], [end] if end.protocol.as_deref() == Some("h2")), "{of_socket:?}");
    chrome.finish(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_from_every_version_of_http_to_every_other() {
    for upstream in ["http1", "h2"] {
        let sockets = Sockets::start_with(upstream).await;
        for client in ["", "h2:"] {
            let way = format!("{client} to {upstream}");
            let said = sockets.said(&format!("{client}echo"), &sockets.honest()).await;
            assert_eq!(said.len(), 2, "{way}: {said:?}");
            assert_eq!((&said[0]["event"], &said[0]["protocol"]), (&json!("open"), &json!("echo")), "{way}: {said:?}");
            assert_eq!((&said[1]["code"], &said[1]["received"]), (&json!(1000), &json!(1000)), "{way}: {said:?}");
            let said = sockets.said(&format!("{client}closed"), &sockets.honest()).await;
            assert_eq!((&said[1]["code"], &said[1]["reason"]), (&json!(4001), &json!("asked for")), "{way}: {said:?}");
        }
        let way = format!("HTTP/3 to {upstream}");
        let messages: Vec<String> = (0..100).map(|number| format!("{number} {}", "x".repeat(number * 100))).collect();
        let steps = json!([
            {"headers": sockets.stream("websocket", "/", &sockets.honest()), "say": messages, "close": 1000},
            {"headers": sockets.stream("websocket", "/", &sockets.honest()), "say": ["close 4001 asked for"]},
        ]);
        let mut client = Client::start(&sockets.apps.world, "chat", None, steps).await;
        let said = client.next().await;
        assert_eq!(
            (&said["status"], &said["headers"]["sec-websocket-protocol"]),
            (&json!(200), &json!("echo")),
            "{way}: {said}"
        );
        assert!(said["headers"].get("sec-websocket-accept").is_none(), "{way}: {said}");
        assert_eq!(said["messages"], json!(messages), "{way}");
        assert_eq!((&said["close"], &said["ended"]), (&json!(1000), &json!(true)), "{way}: {said}");
        let said = client.next().await;
        assert_eq!((&said["close"], &said["reason"]), (&json!(4001), &json!("asked for")), "{way}: {said}");
        for open in sockets.server_said().iter().filter(|line| line["event"] == "open") {
            let headers = &open["headers"];
            assert!(headers["x-vouchsafe-assertion"].as_str().is_some_and(|value| value.starts_with("ey")));
            assert!(headers.get("cookie").is_none(), "our cookie stays with us: {headers}");
        }
        // Records of HTTP are on their way for a moment.
        let mut counted = (0, 0, 0);
        for () in patiently() {
            let query = AuditQuery { resource: Some("chat".into()), ..AuditQuery::default() };
            let decisions = sockets.apps.world.audit(query).await;
            let upgrades = |protocol: &str| {
                let of = |record: &&vouchsafe_wire::audit::Record| {
                    record.action.as_deref() == Some("http:upgrade") && record.protocol.as_deref() == Some(protocol)
                };
                decisions
                    .iter()
                    .filter(of)
                    .filter(|record| record.kind == vouchsafe_wire::audit::Kind::Decision)
                    .count()
            };
            counted = (upgrades("http/1.1"), upgrades("h2"), upgrades("h3"));
            if counted == (2, 2, 2) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(counted, (2, 2, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_becomes_a_websocket_and_nothing_else() {
    let sockets = Sockets::start().await;
    for (what, mode, headers, status) in [
        ("another's page", "h2:hold", json!({"Cookie": sockets.cookie, "Origin": "https://evil.example"}), 401),
        ("no cookie", "h2:hold", json!({"Origin": sockets.origin}), 401),
        ("another protocol", "h2:connect-ip", sockets.honest(), 400),
        ("an own path", "h2:own-path", sockets.honest(), 404),
        // The app answers 200 where it should agree: that is no WebSocket.
        ("no websocket", "h2:page", sockets.honest(), 502),
    ] {
        let said = sockets.said(mode, &headers).await;
        assert_eq!((&said[0]["event"], &said[0]["status"]), (&json!("refused"), &json!(status)), "{what}: {said:?}");
    }
    let other = json!({"Cookie": sockets.cookie, "Origin": "https://evil.example"});
    let samples = [
        ("another's page", sockets.stream("websocket", "/", &other), 401),
        ("no cookie", sockets.stream("websocket", "/", &json!({"Origin": sockets.origin})), 401),
        ("another protocol", sockets.stream("connect-ip", "/", &sockets.honest()), 501),
        ("an own path", sockets.stream("websocket", "/.vouchsafe/", &sockets.honest()), 404),
        ("no websocket", sockets.stream("websocket", "/page", &sockets.honest()), 502),
    ];
    let steps: Vec<Value> = samples.iter().map(|(_, headers, _)| json!({"headers": headers, "say": ["x"]})).collect();
    let mut client = Client::start(&sockets.apps.world, "chat", None, json!(steps)).await;
    for (what, _, status) in &samples {
        let refused = client.next().await;
        assert_eq!(refused["status"], *status, "{what}: {refused}");
        assert_eq!(refused["messages"], json!([]), "{what}: {refused}");
        if let Some(id) = refused["headers"]["x-vouchsafe-decision"].as_str().filter(|_| *status == 401) {
            let record = sockets.apps.world.decision(id).await;
            assert_eq!((record.protocol.as_deref(), record.action.as_deref()), (Some("h3"), Some("http:upgrade")));
        }
    }
    let opened = sockets.server_said().iter().filter(|line| line["event"] == "open").count();
    assert_eq!(opened, 0, "{:?}", sockets.server_said());
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
    let (_other, mut stream) = sockets.client("h2:hold", &sockets.honest());
    for lines in [&mut lines, &mut stream] {
        assert_eq!(next_line(lines).await, r#"{"event":"open","protocol":"echo"}"#);
    }
    let asked = sockets.stream("websocket", "/", &sockets.honest());
    let steps = json!([{"headers": asked, "say": ["hello"], "until": 1}, {"hold": 0}]);
    let mut quic = Client::start(&sockets.apps.world, "chat", None, steps).await;
    assert_eq!(quic.next().await["messages"], json!(["hello"]));
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
    // In words of its own (RFC 6455 §7.4.1), since no frame was under way.
    assert_eq!((&closed["event"], &closed["code"]), (&json!("close"), &json!(1008)), "{closed}");
    assert!(closed["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{closed}");
    let closed: Value = serde_json::from_str(&next_line(&mut stream).await).expect("JSON");
    assert_eq!((&closed["event"], &closed["code"]), (&json!("close"), &json!(1008)), "{closed}");
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
    let closed = quic.next().await;
    assert_eq!(closed["close"], 1008, "{closed}");
    assert!(closed["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{closed}");
    for () in patiently() {
        if sockets.server_said().iter().any(|line| line["event"] == "close") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sockets.server_said().iter().any(|line| line["event"] == "close"), "the app's side is closed too");
    let query = AuditQuery { resource: Some("chat".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    for () in patiently() {
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
