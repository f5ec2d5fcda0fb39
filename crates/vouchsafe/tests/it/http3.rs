//! HTTP/3 with a client that shares no code with ours (aioquic): pages, tunnels, CONNECT-UDP, attacks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UdpSocket;
use tokio::process::{Child, ChildStdout, Command};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::AuditQuery;

use crate::peers::{curl, run};
use crate::world::{PATIENCE, Person, Recorder, TestDevice, World, patiently};

const POLICY: &str = r#"
@id("wiki") @device("none")
permit (principal in Group::"staff", action in [Action::"http:read", Action::"http:write"], resource == Http::"wiki");

@id("web")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Tcp::"web");

@id("echo")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Udp::"echo");
"#;

/// A UDP service that remembers what reached it, and sends it back.
pub struct Echo {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Echo {
    pub async fn start(tasks: &TaskGroup) -> Self {
        Self::on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound"), tasks)
    }

    /// On a socket that is there already.
    pub fn on(socket: UdpSocket, tasks: &TaskGroup) -> Self {
        let (address, seen) = (socket.local_addr().expect("address"), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let to = Arc::clone(&seen);
        tasks.spawn("echo", async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                to.lock().push(buffer[..length].to_vec());
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().clone()
    }
}

struct Site {
    world: World,
    wiki: Recorder,
    web: Recorder,
    echo: Echo,
    closed: Echo,
    /// Alice's session at the wiki.
    cookie: String,
    laptop: TestDevice,
    _alice: Person,
}

impl Site {
    async fn start() -> Self {
        let world = World::start().await;
        let (wiki, web) = (Recorder::start(&world.tasks).await, Recorder::start(&world.tasks).await);
        let (echo, closed) = (Echo::start(&world.tasks).await, Echo::start(&world.tasks).await);
        let resources = json!([
            {"name": "wiki", "kind": "http", "upstream": format!("http://{}", wiki.address)},
            {"name": "web", "kind": "tcp", "upstream": web.address.to_string(), "port": 7777},
            {"name": "echo", "kind": "udp", "upstream": echo.address.to_string(), "port": 7},
            {"name": "closed", "kind": "udp", "upstream": closed.address.to_string(), "port": 7},
        ]);
        world.apply(&["staff"], resources, POLICY).await;
        let alice = world.person("alice", &["staff"]).await;
        let laptop = world.device(&alice, "laptop").await;
        let cookie = world.cookie(&alice, "wiki", "/").await;
        Self { world, wiki, web, echo, closed, cookie, laptop, _alice: alice }
    }

    /// A field section for `wiki`.
    fn page(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Value {
        let authority = format!("{}:{}", self.world.host("wiki"), self.world.port);
        let mut fields = vec![(":method", method), (":scheme", "https"), (":authority", &authority), (":path", path)];
        fields.push(("cookie", &self.cookie));
        fields.extend(more);
        fields.into_iter().map(|(name, value)| json!([name, value])).collect()
    }

    /// A field section of CONNECT-UDP.
    fn udp(&self, target: &str, port: u16, token: Option<&str>) -> Value {
        let authority = format!("{}:{}", self.world.host("gw"), self.world.port);
        let path = format!("/.well-known/masque/udp/{}/{port}/", self.world.host(target));
        let mut fields = vec![
            json!([":method", "CONNECT"]),
            json!([":protocol", "connect-udp"]),
            json!([":scheme", "https"]),
            json!([":authority", authority]),
            json!([":path", path]),
            json!(["capsule-protocol", "?1"]),
        ];
        fields.extend(token.map(|token| json!(["proxy-authorization", format!("Bearer {token}")])));
        json!(fields)
    }

    fn connect(&self, target: &str, port: u16) -> Value {
        json!([
            [":method", "CONNECT"],
            [":authority", format!("{}:{port}", self.world.host(target))],
            ["proxy-authorization", format!("Bearer {}", self.laptop.token)],
        ])
    }
}

pub fn python(script: &str) -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python");
    (root.join(".venv/bin/python"), root.join(script))
}

/// A connection of aioquic's, carrying out its plan.
pub struct Client {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Client {
    pub async fn start(world: &World, label: &str, device: Option<&TestDevice>, steps: Value) -> Self {
        let mut plan = json!({"port": world.port, "name": world.host(label), "ca": world.root_file, "steps": steps});
        if let Some(device) = device {
            plan["cert"] = json!(device.certificate());
            plan["key"] = json!(device.key());
        }
        let (interpreter, script) = python("h3.py");
        let mut child = Command::new(interpreter)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("aioquic is installed by ./test");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(format!("{plan}\n").as_bytes()).await.expect("written");
        Self { lines: BufReader::new(child.stdout.take().expect("piped")).lines(), _child: child }
    }

    /// What came of the next step.
    pub async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("in time").expect("readable");
        serde_json::from_str(&line.expect("a line")).expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_decided_on_as_in_every_version() {
    let site = Site::start().await;
    let world = &site.world;
    let authority = format!("{}:{}", world.host("wiki"), world.port);
    let anonymous = json!([[":method", "GET"], [":scheme", "https"], [":authority", authority], [":path", "/secret"]]);
    let elsewhere =
        json!([[":method", "GET"], [":scheme", "https"], [":authority", world.host("other")], [":path", "/"]]);
    let upload = "x".repeat(300_000);
    let length = upload.len().to_string();
    let steps = json!([
        {"headers": site.page("GET", "/%61pi?q=1", &[])},
        {"headers": anonymous},
        {"headers": elsewhere},
        {"headers": site.page("POST", "/upload", &[("content-length", &length)]), "data": upload},
        {"headers": site.page("POST", "/stream", &[]), "data": "in pieces"},
    ]);
    let mut client = Client::start(world, "wiki", None, steps).await;
    let page = client.next().await;
    assert_eq!((page["status"].as_u64(), page["body"].as_str()), (Some(200), Some("ok")), "{page}");
    assert_eq!(page["headers"]["alt-svc"], format!("h3=\":{}\"; ma=3600", world.port));
    let refused = client.next().await;
    assert_eq!(refused["status"], 401, "{refused}");
    let record = world.decision(refused["headers"]["x-vouchsafe-decision"].as_str().expect("decision")).await;
    assert_eq!((record.protocol.as_deref(), record.path.as_deref()), (Some("h3"), Some("/secret")));
    assert_eq!(client.next().await["status"], 421);
    for _ in 0..2 {
        let uploaded = client.next().await;
        assert_eq!(uploaded["status"], 200, "{uploaded}");
    }
    // No resumption, so no early data (A047).
    assert_eq!(client.next().await["tickets"], 0);
    let upstream = site.wiki.text();
    assert!(upstream.contains("GET /api?q=1 HTTP/1.1") && !upstream.contains("/secret"), "{upstream}");
    // A GET without content has none upstream either.
    let get = upstream.split("\r\n\r\n").find(|head| head.starts_with("GET /api?")).expect("it").to_ascii_lowercase();
    assert!(!get.contains("transfer-encoding") && !get.contains("content-length"), "{get}");
    // A length that was announced is announced upstream; content without one is streamed.
    let head =
        |path: &str| upstream.split("\r\n\r\n").find(|head| head.contains(path)).expect("it").to_ascii_lowercase();
    assert!(head("POST /upload").contains("content-length: 300000"), "{}", head("POST /upload"));
    assert!(head("POST /stream").contains("transfer-encoding: chunked"), "{}", head("POST /stream"));
    // Browsers hear of it on TCP.
    let told = curl(world, &[world.url("wiki", "/").as_str()]).await;
    assert_eq!(told.header("alt-svc").map(str::to_owned), Some(format!("h3=\":{}\"; ma=3600", world.port)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_datagrams_need_device_user_and_permit_and_end_with_them() {
    let site = Site::start().await;
    let world = &site.world;
    let token = Some(site.laptop.token.as_str());
    let request = "GET /through HTTP/1.1\r\nhost: web\r\n\r\n";
    // Context 2 is nobody's: that datagram is dropped.
    let datagrams = json!(["0268656c6c6f", "0070696e67"]);
    let steps = json!([
        {"headers": site.connect("web", 7777), "data": request},
        {"headers": site.udp("closed", 7, token), "datagrams": ["0070696e67"]},
        {"headers": site.udp("echo", 7, None)},
        {"headers": site.udp("echo", 8, token)},
        {"headers": site.connect("echo", 7)},
        {"headers": site.udp("web", 7777, token)},
        {"headers": site.udp("echo", 7, token), "more": true, "datagrams": datagrams, "until": 1},
        {"hold": 6},
    ]);
    let mut client = Client::start(world, "gw", Some(&site.laptop), steps).await;
    let tunnel = client.next().await;
    assert_eq!(tunnel["status"], 200, "{tunnel}");
    assert!(tunnel["body"].as_str().is_some_and(|body| body.ends_with("\r\n\r\nok")), "half-close: {tunnel}");
    for (what, status, reason) in [
        ("a closed resource", 403, "no_permit"),
        ("no user", 407, "sign_in_required"),
        ("another port", 403, "unknown_resource"),
        ("A365: the TCP port of a UDP resource", 403, "unknown_resource"),
        ("A365: the UDP port of a TCP resource", 403, "unknown_resource"),
    ] {
        let refused = client.next().await;
        assert_eq!(refused["status"], status, "{what}: {refused}");
        let record = world.decision(refused["headers"]["x-vouchsafe-decision"].as_str().expect("decision")).await;
        assert_eq!(record.reason.as_deref(), Some(reason), "{what}: {record:?}");
    }
    let echoed = client.next().await;
    assert_eq!((echoed["status"].as_u64(), &echoed["datagrams"]), (Some(200), &json!(["0070696e67"])), "{echoed}");
    assert_eq!(echoed["headers"]["capsule-protocol"], "?1");
    assert_eq!(site.echo.seen(), [b"ping".to_vec()]);
    assert!(site.closed.seen().is_empty(), "not a packet leaves for a target that is denied");
    assert!(site.web.text().contains("/through"));

    // The right ends, and the open flow with it.
    world.admin.delete("/v1/groups/staff/members/alice").await.expect("removed from the group");
    let cut = client.next().await;
    assert!(cut["reset"].is_u64(), "a cut is no orderly end: {cut}");
    let query = AuditQuery { resource: Some("echo".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let mut ends = Vec::new();
    for () in patiently() {
        ends = world.audit(query.clone()).await;
        if !ends.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let [end] = ends.as_slice() else { panic!("one end: {ends:?}") };
    assert_eq!((end.protocol.as_deref(), end.bytes_in, end.bytes_out), (Some("connect-udp-h3"), Some(4), Some(4)));
    assert!(end.detail.as_deref().is_some_and(|detail| detail.starts_with("cut: ")), "{end:?}");

    // Without a device there is no tunnel at all.
    let steps = json!([{"headers": site.udp("echo", 7, token)}, {"headers": site.connect("web", 7777)}]);
    let mut stranger = Client::start(world, "gw", None, steps).await;
    for _ in 0..2 {
        let refused = stranger.next().await;
        assert_eq!(refused["status"], 403, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a030_a063_a065_a066_a067_malformed_requests_reach_nobody() {
    let site = Site::start().await;
    let world = &site.world;
    let authority = format!("{}:{}", world.host("wiki"), world.port);
    let samples = [
        ("a067: no content where five bytes are announced", site.page("POST", "/a067", &[("content-length", "5")]), ""),
        ("a065: content where none is announced", site.page("POST", "/a065", &[("content-length", "0")]), "GET /admin"),
        ("a065: more content than announced", site.page("POST", "/a065", &[("content-length", "3")]), "12345"),
        ("a065: a coding", site.page("POST", "/a065", &[("transfer-encoding", "chunked")]), "0\r\n\r\n"),
        ("a065: two lengths", site.page("POST", "/a065", &[("content-length", "1"), ("content-length", "1")]), "1"),
        ("a066: a line in a value", site.page("GET", "/a066", &[("x-a", "a\r\nx-evil: 1")]), ""),
        ("a066: upper case", site.page("GET", "/a066", &[("X-Evil", "1")]), ""),
        ("a030: no slash", site.page("GET", "admin", &[]), ""),
        ("two paths", site.page("GET", "/a", &[(":path", "/b")]), ""),
        ("a connection field", site.page("GET", "/a", &[("connection", "close")]), ""),
    ];
    let before = site.wiki.text().len();
    let mut steps: Vec<Value> =
        samples.iter().map(|(_, headers, data)| json!({"headers": headers, "data": data})).collect();
    // a063: CONNECT with content, to an app.
    steps.push(
        json!({"headers": [[":method", "CONNECT"], [":authority", authority]], "data": "GET /admin HTTP/1.1\r\n\r\n"}),
    );
    // a265: a field section of a terabyte, an unknown frame of 2^60 bytes that never comes.
    steps.push(json!({"raw": "01c0000100000000004142", "more": true}));
    steps.push(json!({"headers": site.page("GET", "/honest", &[])}));
    // a265: a reference to a dynamic table ends the connection.
    steps.push(json!({"raw": "0103000080"}));
    let mut client = Client::start(world, "wiki", None, json!(steps)).await;
    for (sample, ..) in &samples {
        let refused = client.next().await;
        assert_eq!((refused["reset"].as_u64(), &refused["status"]), (Some(0x10e), &Value::Null), "{sample}: {refused}");
    }
    assert_eq!(client.next().await["status"], 400, "a063");
    assert_eq!(client.next().await["reset"], 0x107, "a265: the stream is refused, the connection goes on");
    let honest = client.next().await;
    assert_eq!((honest["status"].as_u64(), honest["body"].as_str()), (Some(200), Some("ok")), "{honest}");
    assert_eq!(client.next().await["closed"], 0x200, "a265");
    let upstream = site.wiki.text();
    let since = &upstream[before..];
    assert!(since.starts_with("GET /honest HTTP/1.1\r\n"), "nothing of the samples: {since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a263_nothing_is_amplified_for_an_address_that_is_not_proven() {
    let world = World::start().await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    socket.connect(world.address()).await.expect("connected");
    let mut buffer = vec![0; 65_536];
    // An unknown version: told which are known, but not in answer to less than 1200 bytes.
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    packet.resize(1199, 0);
    socket.send(&packet).await.expect("sent");
    let silent = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await;
    assert!(silent.is_err(), "an Initial of less than 1200 bytes is answered: {silent:?}");
    packet.resize(1200, 0);
    socket.send(&packet).await.expect("sent");
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("in time").expect("answered");
    assert!(length < 100, "the answer is far smaller than the question: {length}");
    let (interpreter, script) = python("amplify.py");
    let (port, name) = (world.port.to_string(), world.host("auth"));
    let ran = run(&interpreter.to_string_lossy(), &[&script.to_string_lossy(), &port, &name]).await;
    let counted: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let count = |name: &str| counted[name].as_u64().expect("a number");
    assert!(count("sent") >= 1200 && count("received") > 0, "{counted}");
    assert!(
        count("received") < count("sent"),
        "less than he sends, and not three times as much (RFC 9000 §8.1): {counted}"
    );
}
