//! Resources in networks that the gateway has no way into, reached through connectors that dial out.

mod udp;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use vouchsafe_demo::postgres::install::Installation;
use vouchsafe_demo::postgres::{Cluster, Plan, PsqlTls};
use vouchsafe_runtime::connect_stream::ConnectStream;
use vouchsafe_runtime::tls::{self, ClientCertificates, Credentials, ServerTrust, Shown};
use vouchsafe_wire::api::{AuditQuery, ConnectorInvited};
use vouchsafe_wire::connector::{ALPN, ROSTER, SITE_HEADER};

use crate::database::Connect;
use crate::http::Company;
use crate::network::Site;
use crate::peers::{Server, curl_as, pid_of};
use crate::roles::{self, Gate};
use crate::world::{PATIENCE, Recorder, TestDevice, VOUCHSAFE, World, launch_by, patiently};

/// A connector in a site.
struct Attached {
    id: String,
    process: Child,
}

async fn invite(world: &World, site: &str) -> String {
    let invited: ConnectorInvited =
        world.admin.post("/v1/connectors/invites", &json!({"site": site})).await.expect("invited");
    invited.code
}

impl Attached {
    /// Joins and starts one, and waits until the gateway has it.
    async fn start(world: &World, network: &Site, name: &str, further: &[&str]) -> Self {
        let state = world.dir.path().join(name);
        let gateway = format!("{}:{}", network.outside, world.port);
        let code = invite(world, "frankfurt").await;
        join(network, &state, &code, &["--gateway", &gateway]).await;
        let mut arguments = vec!["connector", "--gateway", &gateway];
        arguments.extend(further);
        Self::run(world, network, &state, &arguments).await
    }

    async fn run(world: &World, network: &Site, state: &Path, arguments: &[&str]) -> Self {
        let before = lines(world, "a connector attaches").len();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (process, ready) = launch_by(network.vouchsafe(), world.dir.path(), state, &arguments).await;
        assert_eq!((&ready["role"], &ready["site"]), (&json!("connector"), &json!("frankfurt")));
        let id = ready["connector"].as_str().expect("an id").to_owned();
        for () in patiently() {
            if lines(world, "a connector attaches").len() > before {
                return Self { id, process };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} does not attach: {}", world.log());
    }
}

fn lines(world: &World, what: &str) -> Vec<String> {
    world.log().lines().filter(|line| line.contains(what)).map(ToOwned::to_owned).collect()
}

async fn join(network: &Site, state: &Path, code: &str, further: &[&str]) {
    let mut command = network.vouchsafe();
    command.args(["connector", "join", code]).args(further).arg("--dir").arg(state);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("runs");
    assert!(output.status.success(), "{output:?}");
}

/// Waits for a line in the log that says both.
async fn logged(world: &World, what: &str, of: &str) {
    for () in patiently() {
        if lines(world, what).iter().any(|line| line.contains(of)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no `{what}` of {of}: {}", world.log());
}

/// A company on this machine's loopback and at the line to a site.
async fn company(network: &Site) -> Company {
    let dir = tempfile::tempdir().expect("temporary directory");
    let listen = ["--listen", "127.0.0.1", "--listen", &network.outside.to_string()].map(String::from);
    Company::start_on(World::start_with(dir, 0, &listen).await).await
}

const FAR: &str = r#"
@id("far")
permit (principal in Group::"marketing", action, resource in ResourceGroup::"far");
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_site_reaches_is_reached_through_its_connector() {
    let network = Site::new();
    let company = company(&network).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let wiki = Recorder::on(network.listener().await, &world.tasks);
    // Nobody outside has a way in.
    let straight = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(wiki.address)).await;
    assert!(!matches!(straight, Ok(Ok(_))), "{straight:?}");
    let resources = json!([{"name": "wiki", "kind": "http", "upstream": format!("http://{}", wiki.address),
                            "via": "frankfurt", "groups": ["far"]}]);
    world.apply(&["marketing"], resources, FAR).await;
    let allow = wiki.address.to_string();
    let connector = Attached::start(world, &network, "connector", &["--allow", &allow]).await;
    let answer = curl_as(world, laptop, &[&company.plain_url("wiki", "/a")]).await;
    assert_eq!(answer.status, 200, "{answer:?} {}", world.log());
    assert!(wiki.text().starts_with("GET /a HTTP/1.1\r\n"), "{}", wiki.text());
    // What is on record says the site, and which of its connectors it was.
    let query = AuditQuery { resource: Some("wiki".into()), ..AuditQuery::default() };
    let mut ends = Vec::new();
    for () in patiently() {
        let records = world.audit(query.clone()).await;
        let allowed = records.iter().filter(|record| record.outcome.as_deref() == Some("allow"));
        assert!(allowed.clone().all(|record| record.via.as_deref() == Some("frankfurt")), "{records:?}");
        ends = records.into_iter().filter(|record| record.kind.as_str() == "flow_end").collect();
        if !ends.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ends[0].connector.as_deref(), Some(connector.id.as_str()));
    // A device is no connector, and a connector no device.
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");
    let (chain, key) = (read(laptop.certificate()), read(laptop.key()));
    let kept = kept(world, "connector");
    let own = (kept["joined"]["certificate"].as_str().expect("a chain"), kept["key"].as_str().expect("a key"));
    for (chain_pem, key_pem, alpn) in [(&*chain, &*key, ALPN), (own.0, own.1, b"http/1.1"), (own.0, own.1, b"h2")] {
        let refused = knock(world, Some(&Credentials { chain_pem, key_pem }), alpn).await;
        assert!(refused.is_err(), "{}: {refused:?}", String::from_utf8_lossy(alpn));
    }
    // Without any certificate there is a handshake, and then an end without a byte.
    let nobody = knock(world, None, ALPN).await.unwrap_or_default();
    assert!(nobody.is_empty(), "{nobody:?}");
    assert_eq!(lines(world, "a connector attaches").len(), 1);
    // What an administrator sees.
    let (exit, out, err) = world.cli(&world.state_dir(), &["connector", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{exit} {out}{err}"));
    assert_eq!((&listed[0]["name"], &listed[0]["site"]), (&json!("frankfurt-1"), &json!("frankfurt")));
    let attached = listed[0]["attached"].as_array().expect("gateways");
    assert!(attached.len() == 1 && attached[0]["connections"] == 1 && attached[0]["since"].is_u64(), "{listed}");
    drop(connector.process);
}

/// What a connector keeps.
fn kept(world: &World, name: &str) -> Value {
    let file = world.dir.path().join(name).join("connector").join("connector.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).expect("kept")) & 0o777;
    assert_eq!(mode, 0o600);
    serde_json::from_str(&std::fs::read_to_string(file).expect("kept")).expect("JSON")
}

/// What comes of a handshake at the gateway's own name: its first bytes, or that it failed.
async fn knock(world: &World, own: Option<&Credentials<'_>>, alpn: &[u8]) -> io::Result<Vec<u8>> {
    let roots = tls::roots(&world.root_pem, "root").expect("roots");
    let trust = match alpn == ALPN {
        true => ServerTrust::Gateway { roots, domain: world.domain.parse().expect("domain") },
        false => ServerTrust::Roots(roots),
    };
    let config = Arc::new(tls::client(trust, own, &[alpn]).expect("TLS"));
    let tcp = TcpStream::connect(world.address()).await?;
    let mut stream = TlsConnector::from(config).connect(world.host("gw").try_into().expect("name"), tcp).await?;
    // A client's certificate is refused behind its handshake.
    let mut bytes = vec![0; 64];
    let count = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer or an end")?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A tunnel to a resource, open.
async fn tunnel(world: &World, device: &TestDevice, resource: &str) -> Result<TlsStream<TcpStream>, String> {
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");
    let (chain, key) = (read(device.certificate()), read(device.key()));
    let trust = ServerTrust::Roots(tls::roots(&world.root_pem, "root").expect("roots"));
    let identity = Credentials { chain_pem: &chain, key_pem: &key };
    let config = Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"]).expect("TLS"));
    let tcp = TcpStream::connect(world.address()).await.expect("connected");
    let name = world.host("gw").try_into().expect("name");
    let mut stream = TlsConnector::from(config).connect(name, tcp).await.expect("handshake");
    let (host, token) = (world.host(resource), &device.token);
    let head = format!(
        "CONNECT {host}:7 HTTP/1.1\r\nHost: {host}:7\r\nProxy-Authorization: Bearer {token}\r\n\
         Accept: application/json\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    let answer = String::from_utf8(answer).expect("text");
    if answer.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err(answer) }
}

async fn says(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let exchange = async {
        stream.write_all(b"x").await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("answered or ended") == Some(b'x')
}

/// An echo in the site that tells how each of its connections ended: in order, or not.
async fn echo(world: &World, network: &Site) -> (SocketAddr, mpsc::UnboundedReceiver<bool>) {
    let listener = network.listener().await;
    let address = listener.local_addr().expect("address");
    let (told, ends) = mpsc::unbounded_channel();
    let tasks = world.tasks.clone();
    world.tasks.spawn("echo", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tasks.spawn("echoed", async move {
                let (mut read, mut write) = stream.split();
                let _ = told.send(tokio::io::copy(&mut read, &mut write).await.is_ok());
            });
        }
    });
    (address, ends)
}

fn tcp(name: &str, to: SocketAddr) -> Value {
    json!({"name": name, "kind": "tcp", "upstream": to.to_string(), "port": 7, "via": "frankfurt", "groups": ["far"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_cut_and_a_removed_connector_end_a_flow_at_both_of_its_ends_within_a_second() {
    let network = Site::new();
    let company = company(&network).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let (address, mut ends) = echo(world, &network).await;
    let (vault, _) = echo(world, &network).await;
    world.apply(&["marketing"], json!([tcp("echo", address), tcp("vault", vault)]), FAR).await;
    let allow = address.to_string();
    let connector = Attached::start(world, &network, "connector", &["--allow", &allow]).await;
    let mut open = opened(world, laptop, "echo").await;
    assert!(says(&mut open).await);
    // What the connector's own list has not isn't opened, whatever policy permits.
    let refused = tunnel(world, laptop, "vault").await.expect_err("refused");
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
    logged(world, "a gateway asks for what it can't have", &vault.to_string()).await;
    // An end in order stays one, all the way.
    open.shutdown().await.expect("ended");
    assert_eq!(
        tokio::time::timeout(PATIENCE, open.read_u8()).await.expect("ends").unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert_eq!(tokio::time::timeout(PATIENCE, ends.recv()).await.expect("in time"), Some(true));
    // A right that ends cuts at both ends.
    let mut open = opened(world, laptop, "echo").await;
    assert!(says(&mut open).await);
    let begin = Instant::now();
    world.admin.delete("/v1/groups/marketing/members/alice").await.expect("removed from the group");
    assert!(open.read_u8().await.is_err());
    assert_eq!(tokio::time::timeout(PATIENCE, ends.recv()).await.expect("in time"), Some(false), "a reset, no end");
    assert!(begin.elapsed() < Duration::from_secs(1), "cut after {:?}", begin.elapsed());
    let _: Value = world.admin.put("/v1/groups/marketing/members/alice").await.expect("in again");
    // And so does the end of the connector, which stays outside.
    let mut open = opened(world, laptop, "echo").await;
    assert!(says(&mut open).await);
    let begin = Instant::now();
    let (exit, out, err) = world.cli(&world.state_dir(), &["connector", "remove", "frankfurt-1", "--yes"]).await;
    assert_eq!(exit, 0, "{out}{err}");
    assert!(open.read_u8().await.is_err());
    assert_eq!(tokio::time::timeout(PATIENCE, ends.recv()).await.expect("in time"), Some(false));
    assert!(begin.elapsed() < Duration::from_secs(2), "cut after {:?}, the command included", begin.elapsed());
    logged(world, "a connector that was removed", &connector.id).await;
    let refused = tunnel(world, laptop, "echo").await.expect_err("nobody there");
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
}

/// Opens a tunnel once the policy that allows it has arrived.
async fn opened(world: &World, device: &TestDevice, resource: &str) -> TlsStream<TcpStream> {
    let mut refused = String::new();
    for () in patiently() {
        match tunnel(world, device, resource).await {
            Ok(stream) => return stream,
            Err(answer) => refused = answer,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no tunnel to {resource}: {refused} {}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_recover_by_themselves_when_a_connector_is_killed_and_none_notices_one_that_stops() {
    let network = Site::new();
    let company = company(&network).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let (address, _ends) = echo(world, &network).await;
    world.apply(&["marketing"], json!([tcp("echo", address)]), FAR).await;
    let allow = address.to_string();
    let mut first = Attached::start(world, &network, "one", &["--allow", &allow]).await;
    let mut second = Attached::start(world, &network, "two", &["--allow", &allow]).await;
    // The one with fewer streams is next: of four, each has two.
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(opened(world, laptop, "echo").await);
    }
    first.process.kill().await.expect("killed");
    let mut lived = 0;
    for stream in &mut open {
        lived += usize::from(says(stream).await);
    }
    assert_eq!(lived, 2, "what passed through the other goes on");
    // Nobody waits for the dead one.
    for _ in 0..20 {
        let begin = Instant::now();
        let mut stream = tunnel(world, laptop, "echo").await.expect("through the other");
        assert!(says(&mut stream).await);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
    // It comes back, the other is asked to stop, and nobody is refused meanwhile; what is open goes on.
    let state = world.dir.path().join("one");
    let gateway = format!("{}:{}", network.outside, world.port);
    let arguments = ["connector", "--gateway", &gateway, "--allow", &allow];
    let _first = Attached::run(world, &network, &state, &arguments).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(tunnel(world, laptop, "echo").await.expect("through one of them"));
    }
    let pid = pid_of(second.process.id().expect("running"));
    rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
    for _ in 0..20 {
        let mut stream = tunnel(world, laptop, "echo").await.expect("through the one that stays");
        assert!(says(&mut stream).await);
    }
    for stream in &mut open {
        assert!(says(stream).await, "what is open goes on");
    }
    drop(open);
    let status = tokio::time::timeout(PATIENCE, second.process.wait()).await.expect("ends by itself").expect("status");
    assert!(status.success(), "{status}");
}

/// A gateway that was taken over: it has the certificate, and asks for what it likes.
struct Hostile {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Hostile {
    async fn new(chain_pem: &str, key_pem: &str) -> Self {
        let shown = Shown::load(&Credentials { chain_pem, key_pem }).expect("a pair");
        let config = tls::server(shown, &ClientCertificates::NotAsked, &[ALPN]).expect("TLS");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("address").to_string()
    }

    /// The next connection of a connector; `None` when that ends it.
    async fn attached(&self, world: &World) -> Option<SendRequest<Bytes>> {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("dials in time");
        let stream = self.acceptor.accept(accepted.expect("accepted").0).await.ok()?;
        let (sender, connection) = h2::client::handshake(stream).await.ok()?;
        world.tasks.spawn("hostile gateway", async move { drop(connection.await) });
        sender.ready().await.ok()
    }
}

/// A gateway that has joined, and whose keys somebody else has; and what it keeps of itself.
async fn taken_over(world: &World, name: &str) -> (Hostile, Value) {
    let stolen = world.dir.path().join(format!("gateway-{name}"));
    let code = roles::invite(world, name).await;
    let (exit, _, err) = world.cli(&stolen, &["gateway", "join", &code]).await;
    assert_eq!(exit, 0, "{err}");
    let gateway = std::fs::read_to_string(stolen.join("gateway").join("gateway.json")).expect("kept");
    let gateway: Value = serde_json::from_str(&gateway).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let chain = text(&gateway["joined"]["certificates"]["identity"]);
    (Hostile::new(&chain, &text(&gateway["identity_key"])).await, gateway)
}

async fn ask(sender: &SendRequest<Bytes>, method: Method, target: &str, site: &str) -> (StatusCode, ConnectStream) {
    let mut sender = sender.clone().ready().await.expect("open");
    let request = Request::builder().method(method).uri(target).header(SITE_HEADER, site).body(()).expect("a request");
    let (response, send) = sender.send_request(request, false).expect("sent");
    let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    (response.status(), ConnectStream::new(send, response.into_body()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a163_a_gateway_that_was_taken_over_gets_what_the_connectors_list_has_and_nothing_else() {
    let world = roles::controller().await;
    let gate = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (hostile, gateway) = taken_over(&world, "two").await;
    let certificates = &gateway["joined"]["certificates"];
    let (listed, other) = (Recorder::start(&world.tasks).await, Recorder::start(&world.tasks).await);
    // It joins through the gateway that is one still.
    let state = world.dir.path().join("connector");
    let at = format!("{}:{}", Ipv4Addr::LOCALHOST, world.port);
    let code = invite(&world, "frankfurt").await;
    for (exit, words) in [(0, "joined as connector frankfurt-1"), (1, "joined under"), (3, "used already")] {
        let state = if exit == 3 { world.dir.path().join("thief") } else { state.clone() };
        let (got, out, err) = world.cli(&state, &["connector", "join", &code, "--gateway", &at]).await;
        assert!(got == exit && format!("{out}{err}").contains(words), "{got} {out}{err}");
    }
    let run = async |fake: &Hostile| {
        let allow = format!("127.0.0.0/8:{}", listed.address.port());
        let arguments = ["connector", "--gateway", &fake.address(), "--allow", &allow].map(String::from);
        launch_by(Command::new(VOUCHSAFE), world.dir.path(), &state, &arguments).await.0
    };
    let connector = run(&hostile).await;
    let sender = hostile.attached(&world).await.expect("its certificate is a gateway's");
    let port = other.address.port();
    for (method, target, site, status) in [
        (Method::CONNECT, format!("127.0.0.1:{port}"), "frankfurt", 403),
        (Method::CONNECT, format!("[::ffff:127.0.0.1]:{port}"), "frankfurt", 403),
        (Method::CONNECT, format!("localhost:{port}"), "frankfurt", 403),
        (Method::CONNECT, "10.0.0.5:22".to_owned(), "frankfurt", 403),
        (Method::CONNECT, "169.254.169.254:80".to_owned(), "frankfurt", 400),
        (Method::CONNECT, format!("127.1:{}", listed.address.port()), "frankfurt", 400),
        (Method::CONNECT, format!("LOCALHOST:{}", listed.address.port()), "frankfurt", 400),
        (Method::CONNECT, listed.address.to_string(), "hamburg", 421),
        (Method::GET, format!("http://{}/", listed.address), "frankfurt", 400),
    ] {
        assert_eq!(ask(&sender, method, &target, site).await.0, status, "{target} {site}");
    }
    assert_eq!((listed.connections(), other.connections()), (0, 0));
    let (status, mut stream) = ask(&sender, Method::CONNECT, &listed.address.to_string(), "frankfurt").await;
    assert_eq!(status, StatusCode::OK);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(connector);
    // Neither the certificate of our host names nor a connector's own is a gateway's.
    let own = kept(&world, "connector");
    for (chain, key) in [
        (text(&certificates["server"]), text(&gateway["server_key"])),
        (text(&own["joined"]["certificate"]), text(&own["key"])),
    ] {
        let fake = Hostile::new(&chain, &key).await;
        let _connector = run(&fake).await;
        assert!(fake.attached(&world).await.is_none());
    }
    // And a gateway's certificate is no connector's, at the gateway.
    let (chain, key) = (text(&certificates["identity"]), text(&gateway["identity_key"]));
    let own = Credentials { chain_pem: &chain, key_pem: &key };
    let refused = knock(&world, Some(&own), ALPN).await;
    assert!(refused.is_err(), "{refused:?}");
    drop(gate);
}

/// Waits until the connector is attached to exactly these gateways, once each.
async fn attached_to(world: &World, gateways: &[&str]) {
    let mut seen = Value::Null;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        seen = world.admin.get("/v1/connectors").await.expect("connectors");
        let attached = seen[0]["attached"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = attached.iter().filter_map(|to| to["gateway"].as_str()).collect();
        if names == gateways {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not attached to {gateways:?}: {seen} {}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_finds_a_gateway_that_joins_later_and_leaves_one_that_is_removed() {
    let network = Site::new();
    let world = roles::controller().await;
    let _one = Gate::join(&world, "one", network.outside).await;
    // Told once, where to join; from there on it is the controller that says which gateways there are.
    let state = world.dir.path().join("connector");
    let gateway = format!("{}:{}", network.outside, world.port);
    join(&network, &state, &invite(&world, "frankfurt").await, &["--gateway", &gateway]).await;
    let arguments = ["connector", "--allow", "10.0.0.5:5432"];
    let mut connector = Attached::run(&world, &network, &state, &arguments).await;
    attached_to(&world, &["one"]).await;
    let _two = Gate::join(&world, "two", network.beside).await;
    attached_to(&world, &["one", "two"]).await;
    let (exit, out, err) = world.cli(&world.state_dir(), &["gateway", "remove", "one", "--yes"]).await;
    assert_eq!(exit, 0, "{out}{err}");
    // It goes at once, though the gateway runs on and its certificate is a good one.
    logged(&world, "it is not on the list of gateways any more", &network.outside.to_string()).await;
    attached_to(&world, &["two"]).await;
    // Also when it starts anew, without a word of anybody: what it knows is on disk.
    connector.process.kill().await.expect("killed");
    attached_to(&world, &[]).await;
    let before = world.log().len();
    let _connector = Attached::run(&world, &network, &state, &arguments).await;
    attached_to(&world, &["two"]).await;
    let after = world.log().split_off(before);
    let dialled = |line: &&str| line.contains("attached to a gateway") && line.contains(&network.outside.to_string());
    assert_eq!(after.lines().find(dialled), None, "it is not dialled any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a163_a_removed_gateway_in_the_wrong_hands_is_believed_no_more() {
    let world = roles::controller().await;
    let _one = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    let (hostile, _) = taken_over(&world, "two").await;
    let (state, at) = (world.dir.path().join("connector"), format!("{}:{}", Ipv4Addr::LOCALHOST, world.port));
    let code = invite(&world, "frankfurt").await;
    let (exit, out, err) = world.cli(&state, &["connector", "join", &code, "--gateway", &at]).await;
    assert_eq!(exit, 0, "{out}{err}");
    let list = std::fs::read(state.join("connector").join("gateways.bin")).expect("a list came with the certificate");
    let target = Recorder::start(&world.tasks).await;
    let allow = format!("127.0.0.0/8:{}", target.address.port());
    let arguments = ["connector", "--gateway", &at, "--gateway", &hostile.address(), "--allow", &allow];
    let arguments = arguments.map(String::from);
    let _connector = launch_by(Command::new(VOUCHSAFE), world.dir.path(), &state, &arguments).await.0;
    let sender = hostile.attached(&world).await.expect("it is a gateway still");
    let target = target.address.to_string();
    let (status, mut open) = ask(&sender, Method::CONNECT, &target, "frankfurt").await;
    assert_eq!(status, StatusCode::OK);
    // What it makes up is no list, and what is one already changes nothing.
    assert_eq!(hand_over(&sender, b"nonsense").await, StatusCode::BAD_REQUEST);
    let mut altered = list.clone();
    altered[40] ^= 1;
    assert_eq!(hand_over(&sender, &altered).await, StatusCode::BAD_REQUEST);
    assert_eq!(hand_over(&sender, &list).await, StatusCode::NO_CONTENT);
    let (exit, out, err) = world.cli(&world.state_dir(), &["gateway", "remove", "two", "--yes"]).await;
    assert_eq!(exit, 0, "{out}{err}");
    // The other gateway brings the news, and what was open is cut.
    let ended = tokio::time::timeout(PATIENCE, open.read_u8()).await.expect("cut in time");
    assert!(ended.is_err(), "{ended:?}");
    // It may connect, since its certificate is a good one, but gets nothing; also not for the list of before.
    let sender = hostile.attached(&world).await.expect("its certificate is good for days");
    assert_eq!(ask(&sender, Method::CONNECT, &target, "frankfurt").await.0, StatusCode::FORBIDDEN);
    assert_eq!(hand_over(&sender, &list).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(&sender, Method::CONNECT, &target, "frankfurt").await.0, StatusCode::FORBIDDEN);
    logged(&world, "it brings no list of gateways that has it", &hostile.address()).await;
}

/// Hands a connector a list of gateways; gives its answer.
async fn hand_over(sender: &SendRequest<Bytes>, list: &[u8]) -> StatusCode {
    let mut sender = sender.clone().ready().await.expect("open");
    let uri = format!("https://connector{ROSTER}");
    let request = Request::builder().method(Method::PUT).uri(uri).body(()).expect("a request");
    let (response, mut body) = sender.send_request(request, false).expect("sent");
    body.send_data(Bytes::copy_from_slice(list), true).expect("sent");
    tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer").status()
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_passes_a_proxy_and_a_connector_to_a_database_in_a_site() {
    let network = Site::new();
    let company = company(&network).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let installation = Installation::find().expect("searched").expect("PostgreSQL is installed by ./test");
    let plan = Plan { database: "marketing", tables: "CREATE TABLE figures (n int);", tls: None };
    let cluster = Cluster::start(&installation, plan).await.expect("a cluster");
    // The database's port in the site: what comes there goes on to the cluster.
    let listener = network.listener().await;
    let (inside, database) = (listener.local_addr().expect("address"), cluster.address());
    world.tasks.spawn("database in the site", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut to = TcpStream::connect(database).await.expect("connected");
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
        }
    });
    world.apply(&["marketing"], json!([tcp("db", inside)]), FAR).await;
    // The only way out of the site is the proxy: the gateway's loopback is nothing there.
    let proxy = SocketAddr::from((network.outside, 8888));
    let file = world.dir.path().join("tinyproxy.conf");
    let lines = format!(
        "Port 8888\nListen {}\nTimeout 600\nMaxClients 20\nConnectPort {}\nBasicAuth site secret\n",
        network.outside, world.port
    );
    std::fs::write(&file, lines).expect("written");
    let log = world.dir.path().join("tinyproxy.log");
    let _proxy = Server::start("tinyproxy", &["-d", "-c", &file.display().to_string()], &log, proxy).await;
    let auth = world.dir.path().join("auth");
    std::fs::write(&auth, "site:secret\n").expect("written");
    let (proxy, gateway) = (format!("http://{proxy}"), format!("127.0.0.1:{}", world.port));
    let through = ["--gateway", &gateway, "--proxy", &proxy, "--proxy-auth", &auth.display().to_string()];
    let state = world.dir.path().join("connector");
    join(&network, &state, &invite(world, "frankfurt").await, &through).await;
    let targets = world.dir.path().join("targets");
    std::fs::write(&targets, format!("# databases\n{inside}\n")).expect("written");
    let mut arguments = vec!["connector", "--allow-file"];
    let targets = targets.display().to_string();
    arguments.push(&targets);
    arguments.extend(through);
    let _connector = Attached::run(world, &network, &state, &arguments).await;
    drop(opened(world, laptop, "db").await);
    let connect = Connect::start(laptop, "db").await;
    let answer = cluster.psql(connect.address, PsqlTls::Off, "SELECT current_database()").await.expect("psql runs");
    assert!(answer.success && answer.stdout.contains("marketing"), "{answer:?}");
}
