//! Controller and gateways as processes of their own, joined by the control channel.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_agent::session::Session;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};
use vouchsafe_wire::api::{AuditQuery, GatewayInvited};
use vouchsafe_wire::gateway::JoinCode;
use vouchsafe_wire::resource::second_text;
use vouchsafe_wire::ticket::hex;
use vouchsafe_wire::token::AUDIENCE_API;

use crate::attacks::probe;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::http::Company;
use crate::peers::{curl, curl_as, run};
use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World, launch_by, patiently};

/// A gateway that is a process of its own. All listen on the same port, each on its own address.
pub struct Gate {
    ip: Ipv4Addr,
    port: u16,
    door: Door,
    /// Port of the controller that it attaches to.
    controller: u16,
    log: PathBuf,
    state: PathBuf,
    id: String,
    around: Around,
    process: Child,
}

/// What of the machine's a process sees as it is, and what not.
enum Around {
    Plain,
    /// Another time.
    Clock(Clock),
    /// Another disk.
    Disk(Disk),
}

impl Around {
    fn command(&self) -> Command {
        match self {
            Around::Plain => Command::new(VOUCHSAFE),
            Around::Clock(clock) => clock.command(),
            Around::Disk(disk) => disk.command(),
        }
    }
}

/// Where a gateway lets devices in.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    domain: String,
    root_pem: String,
}

impl Door {
    /// A connection of a device.
    pub async fn connect(&self, device: &TestDevice) -> std::io::Result<TlsStream<TcpStream>> {
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");
        let (chain, key) = (read(device.certificate()), read(device.key()));
        let trust = ServerTrust::Roots(tls::roots(&self.root_pem, "root").expect("roots"));
        let identity = Credentials { chain_pem: &chain, key_pem: &key };
        let config = Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"]).expect("TLS"));
        let tcp = TcpStream::connect(self.address).await?;
        let name = format!("gw.{}", self.domain).try_into().expect("name");
        TlsConnector::from(config).connect(name, tcp).await
    }

    /// A tunnel to a resource, open; or the answer that refuses it.
    pub async fn tunnel(&self, device: &TestDevice, resource: &str) -> Result<TlsStream<TcpStream>, String> {
        let words = |error: std::io::Error| error.to_string();
        let mut stream = self.connect(device).await.map_err(words)?;
        let (host, token) = (format!("{resource}.{}", self.domain), &device.token);
        let head = format!(
            "CONNECT {host}:7 HTTP/1.1\r\nHost: {host}:7\r\nProxy-Authorization: Bearer {token}\r\n\
             Accept: application/json\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.map_err(words)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.map_err(words)?);
        }
        let answer = String::from_utf8(answer).expect("text");
        if answer.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err(answer) }
    }
}

impl Gate {
    pub async fn join(world: &World, name: &str, ip: Ipv4Addr) -> Self {
        let (state, code) = Self::joined(world, name).await;
        Self::start(world, state, ip, &code, Around::Plain).await
    }

    /// The same, for one whose time is said by a clock of its own.
    pub async fn join_with_clock(world: &World, name: &str, ip: Ipv4Addr) -> Self {
        let (state, code) = Self::joined(world, name).await;
        let clock = Around::Clock(Clock::in_state(&state));
        Self::start(world, state, ip, &code, clock).await
    }

    /// The same, for one whose state lies on a disk of its own.
    pub async fn join_on(world: &World, name: &str, ip: Ipv4Addr, disk: &Disk) -> Self {
        let (state, code) = Self::joined(world, name).await;
        Self::start(world, state, ip, &code, Around::Disk(disk.clone())).await
    }

    /// The same, for one that finds its controller at another address than its code said, and has a clock of its own.
    pub async fn join_by(world: &World, name: &str, ip: Ipv4Addr, by: SocketAddr) -> Self {
        let (state, code) = Self::joined(world, name).await;
        let mut kept = kept(&state);
        (kept["host"], kept["port"]) = (json!(by.ip().to_string()), json!(by.port()));
        std::fs::write(state.join("gateway").join("gateway.json"), kept.to_string()).expect("written");
        let clock = Around::Clock(Clock::in_state(&state));
        Self::start(world, state, ip, &code, clock).await
    }

    async fn joined(world: &World, name: &str) -> (PathBuf, JoinCode) {
        let state = world.dir.path().join(format!("gateway-{name}"));
        let code = invite(world, name).await;
        let (exit, out, err) = world.cli(&state, &["gateway", "join", &code]).await;
        assert_eq!(exit, 0, "{out}{err}");
        (state, JoinCode::parse(&code).expect("a code"))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its own clock.
    pub fn clock(&self) -> &Clock {
        match &self.around {
            Around::Clock(clock) => clock,
            Around::Plain | Around::Disk(_) => panic!("it has none"),
        }
    }

    /// Where devices come in.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Starts one that has joined.
    async fn start(world: &World, state: PathBuf, ip: Ipv4Addr, code: &JoinCode, around: Around) -> Self {
        let log = world.dir.path().to_owned();
        let (process, id) = Self::launch(&log, &state, ip, &around).await;
        let (address, domain, root_pem) = ((ip, world.port).into(), world.domain.clone(), world.root_pem.clone());
        let door = Door { address, domain, root_pem };
        Self { ip, port: world.port, door, controller: code.port, log, state, id, around, process }
    }

    async fn launch(log: &std::path::Path, state: &std::path::Path, ip: Ipv4Addr, around: &Around) -> (Child, String) {
        let arguments = ["gateway", "--listen", &ip.to_string()].map(String::from);
        let (process, ready) = launch_by(around.command(), log, state, &arguments).await;
        assert_eq!(ready["role"], "gateway");
        (process, ready["gateway"].as_str().expect("an id").to_owned())
    }

    /// Kills the process as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("killed");
    }

    /// Kills it, and starts it by the right time.
    pub async fn restart_in_time(&mut self) {
        self.kill().await;
        self.clock().set(0);
        self.restart().await;
    }

    pub async fn restart(&mut self) {
        let (process, id) = Self::launch(&self.log, &self.state, self.ip, &self.around).await;
        assert_eq!(id, self.id);
        self.process = process;
    }

    /// A tunnel to a resource, open.
    async fn tunnel(&self, device: &TestDevice, resource: &str) -> Result<TlsStream<TcpStream>, String> {
        self.door.tunnel(device, resource).await
    }
}

pub async fn invite(world: &World, name: &str) -> String {
    let invited: GatewayInvited =
        world.admin.post("/v1/gateways/invites", &json!({"name": name})).await.expect("invited");
    invited.code
}

/// The identity of a gateway in the hands of somebody else.
struct Stolen {
    chain: String,
    key: String,
}

impl Stolen {
    /// Out of `gateway.json`.
    fn from(world: &World, kept: &Value) -> Self {
        let (chain, key) = (world.dir.path().join("stolen.pem"), world.dir.path().join("stolen.key"));
        std::fs::write(&chain, kept["joined"]["certificates"]["identity"].as_str().expect("a chain")).expect("written");
        std::fs::write(&key, kept["identity_key"].as_str().expect("a key")).expect("written");
        Self { chain: chain.display().to_string(), key: key.display().to_string() }
    }

    fn arguments(&self, port: u16, caller: &Value, field: &str, path: &str) -> Vec<String> {
        let (caller, url) = (format!("vouchsafe-caller: {caller}"), format!("https://127.0.0.1:{port}{path}"));
        let own = ["-sSk", "--http2", "--cert", &self.chain, "--key", &self.key, "-H", &caller, &url];
        let fields = field.lines().flat_map(|field| ["-H", field]);
        own.into_iter().chain(fields).map(str::to_owned).collect()
    }

    /// Sends a request on for that caller, with fields, one a line; gives the status.
    async fn speak(&self, port: u16, caller: &Value, field: &str, path: &str) -> String {
        let mut all = self.arguments(port, caller, field, path);
        all.extend(["--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}"].map(str::to_owned));
        run("curl", &all.iter().map(String::as_str).collect::<Vec<_>>()).await.out
    }
}

/// What a gateway keeps of itself.
fn kept(state: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(state.join("gateway").join("gateway.json")).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

/// A device as a gateway describes it to the controller.
fn described(device: &TestDevice) -> Value {
    let shown = std::fs::read_to_string(device.certificate()).expect("readable");
    let leaf = tls::certificates(&shown, "certificate").expect("certificates").remove(0);
    json!({"id": device.device.id().to_string(), "certificate_sha256": hex(&tls::sha256(&leaf)),
           "not_after_us": u64::MAX / 4})
}

/// An administrator's token for the API, as a field.
async fn api_token(device: &TestDevice) -> String {
    let token = Session::on(Arc::clone(&device.device)).token(AUDIENCE_API).await.expect("session");
    format!("Authorization: Bearer {}", token.expect("signed in").expose())
}

/// A controller without any gateway.
pub async fn controller() -> World {
    let dir = tempfile::tempdir().expect("temporary directory");
    let port = free_port();
    World::start_role(dir, &arguments(port, free_port())).await
}

pub fn arguments(port: u16, gateways: u16) -> Vec<String> {
    let gateways = format!("127.0.0.1:{gateways}");
    ["controller", "--port", &port.to_string(), "--gateways", &gateways, "--lease", &LEASE.as_secs().to_string()]
        .map(String::from)
        .into()
}

/// A lease that tests can wait for.
pub const LEASE: Duration = Duration::from_secs(4);

/// A port that is free on every address of ours.
pub fn free_port() -> u16 {
    crate::peers::free_port(Ipv4Addr::UNSPECIFIED)
}

const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Sends back what it gets.
pub async fn echo(world: &World) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let tasks = world.tasks.clone();
    world.tasks.spawn("echo", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn("echoed", async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn says(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let exchange = async {
        stream.write_all(b"x").await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("answered or ended") == Some(b'x')
}

/// How long it takes until an open tunnel is cut.
async fn cut(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let begin = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("cut in time");
    assert!(ended.is_err(), "nothing more comes");
    begin.elapsed()
}

const TUNNELS: &str = r#"
@id("marketing-app")
permit (principal in Group::"marketing", action, resource == Http::"marketing");
@id("tunnels")
permit (principal in Group::"marketing", action == Action::"net:connect", resource in ResourceGroup::"tunnels");
"#;

/// A company whose two tunnels lead to an echo: one stays open for an hour without the controller.
async fn company(world: World) -> Company {
    let company = Company::start_on(world).await;
    let echo = echo(&company.world).await;
    let tcp = |name: &str, grace: u64| {
        json!({"name": name, "kind": "tcp", "upstream": echo.to_string(), "port": 7, "groups": ["tunnels"],
               "offline_grace": grace})
    };
    let marketing = format!("http://{}", company.marketing.address);
    let marketing = json!({"name": "marketing", "kind": "http", "upstream": marketing});
    let resources = json!([marketing, tcp("strict", 0), tcp("patient", 3600)]);
    company.world.apply(&["marketing"], resources, TUNNELS).await;
    company
}

/// Opens a tunnel once the policy that allows it has arrived.
async fn opened(gate: &Gate, company: &Company, resource: &str) -> TlsStream<TcpStream> {
    for () in patiently() {
        match gate.tunnel(&company.laptop, resource).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("no tunnel to {resource}: {}", company.world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_one_session_works_on_all_gateways_and_a_revocation_reaches_them_all_within_a_second() {
    let world = controller().await;
    // Invitations, sign-in, enrolment and the console are reached through the gateway from here on.
    let one = Gate::join(&world, "one", ONE).await;
    let two = Gate::join(&world, "two", TWO).await;
    let company = company(world).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let mut tunnels = vec![opened(&one, &company, "strict").await, opened(&two, &company, "strict").await];
    for tunnel in &mut tunnels {
        assert!(says(tunnel).await);
    }
    // An administrator sees both.
    let (exit, shown, err) = world.cli(&world.state_dir(), &["status", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{exit} {shown}{err}"));
    let shown = &shown["installation"];
    assert_eq!(shown["lease"], LEASE.as_secs());
    let gateways = shown["gateways"].as_array().expect("gateways").iter();
    let attached: Vec<_> = gateways.map(|gateway| (&gateway["name"], &gateway["attached"]["ip"])).collect();
    assert_eq!(attached, [(&json!("one"), &json!("127.0.0.1")), (&json!("two"), &json!("127.0.0.1"))]);
    // Web requests on both, with the cookie of one sign-in.
    let alice = &company.alice;
    alice.browser.open(&world.url("marketing", "/"), &alice.authenticator).await.expect("opened");
    let cookies = alice.browser.cookies_of(&world.host("marketing"));
    let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("a cookie of the app");
    let cookie = format!("{name}={value}");
    for gate in [&one, &two] {
        let to = format!("{}:{}:{}", world.host("marketing"), world.port, gate.ip);
        let url = world.url("marketing", "/");
        let answer = curl(world, &["--resolve", &to, "-H", &format!("Cookie: {cookie}"), url.as_str()]).await;
        // The policy wants a device; that she is known, on each of them, is what the reason says.
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains("device_required"), "{answer:?}");
        let record = world.decision(answer.decision()).await;
        assert_eq!((record.user.as_deref(), record.source.as_str()), (Some("alice"), gate.id.as_str()));
    }
    let answer = curl_as(world, laptop, &[&company.plain_url("marketing", "/")]).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let begin = Instant::now();
    let _: Value = world.admin.post("/v1/users/alice/sign-out", &json!({})).await.expect("signed out");
    let [first, second] = &mut tunnels[..] else { panic!("two tunnels") };
    tokio::join!(cut(first), cut(second));
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "both were cut after {took:?}");
    for gate in [&one, &two] {
        assert!(gate.tunnel(laptop, "strict").await.is_err(), "and stay closed");
    }
    // The ends are on record, once each, by each gateway.
    let mut sources = Vec::new();
    for () in patiently() {
        let query = AuditQuery { kind: Some("flow_end".into()), ..AuditQuery::default() };
        let ends = world.audit(query).await;
        let cut = ends.iter().filter(|record| record.reason.as_deref() == Some("session_ended"));
        sources = cut.map(|record| record.source.clone()).collect();
        if sources.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sources.sort();
    let mut expected = vec![one.id.clone(), two.id.clone()];
    expected.sort();
    assert_eq!(sources, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_a_gateway_that_is_cut_off_ends_a_mode_at_its_time() {
    let world = controller().await;
    let _one = Gate::join(&world, "one", ONE).await;
    let company = Company::start_on(world).await;
    let until = clock::now() + LEASE + Duration::from_secs(6);
    let text = second_text(until).expect("a time");
    let observe = json!({"from": ["127.0.0.0/24"], "owner": "alice", "reason": "moving in", "until": text});
    let finance = format!("http://{}", company.finance.address);
    let finance = json!({"name": "finance", "kind": "http", "upstream": finance, "offline_grace": 3600,
                         "mode": "observe", "observe": observe});
    let _: Value = company.world.admin.replace("/v1/resources/finance", &finance).await.expect("put");
    let Company { world, marketing: _marketing, finance: _finance, alice: _alice, laptop: _laptop } = company;
    let (url, root) = (world.url("finance", "/").to_string(), world.root_file.display().to_string());
    let ask =
        async || run("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &root, &url]).await.out;
    for () in patiently() {
        if ask().await == "200" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask().await, "200", "observed");
    let begun = Instant::now();
    let _dir = world.kill().await;
    let mut last = String::new();
    while clock::now() < until + Duration::from_secs(5) {
        let asked_at = clock::now();
        last = ask().await;
        if last != "200" {
            // The end is given to the second, and is cut to it.
            assert!(asked_at + Duration::from_secs(1) >= until, "{last} too early");
            break;
        }
        assert!(asked_at < until, "still open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(last, "401");
    assert!(begun.elapsed() > LEASE, "it served on by its grace until then");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_without_the_controller_a_gateway_serves_for_lease_and_grace_then_fails_closed_and_comes_back() {
    let world = controller().await;
    let one = Gate::join(&world, "one", ONE).await;
    let company = company(world).await;
    let mut strict = opened(&one, &company, "strict").await;
    let mut patient = opened(&one, &company, "patient").await;
    let Company { world, marketing: _marketing, finance: _finance, alice: _alice, laptop } = company;
    let port = world.port;
    let before = Instant::now();
    let dir = world.kill().await;
    // Inside the lease the data plane goes on, open flows and new ones.
    assert!(says(&mut strict).await && says(&mut patient).await);
    let again = one.tunnel(&laptop, "strict").await;
    assert!(again.is_ok(), "{again:?}");
    // Then the strict one is cut, not before the lease is over and not much later.
    cut(&mut strict).await;
    let after = before.elapsed();
    // It counts from the last ping that was answered, so at most one ping's time less; and some is the test's.
    assert!(after + LEASE / 6 > LEASE && after < LEASE + Duration::from_secs(1), "cut after {after:?}");
    assert!(says(&mut patient).await, "the resource with a grace is still open");
    let refused = one.tunnel(&laptop, "strict").await.expect_err("fails closed");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(one.tunnel(&laptop, "patient").await.is_ok());
    // The controller comes back, and the gateway to it, by itself.
    let world = World::start_role(dir, &arguments(port, one.controller)).await;
    let mut recovered = false;
    for () in patiently() {
        if one.tunnel(&laptop, "strict").await.is_ok() {
            recovered = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(recovered, "{}", world.log());
    assert!(says(&mut patient).await, "what was open all the time is open still");
    // What was denied meanwhile is on record now.
    let query = AuditQuery { reason: Some("controller_silent".into()), ..AuditQuery::default() };
    for () in patiently() {
        if !world.audit(query.clone()).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no record of what was denied without the controller");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_gateway_that_is_killed_under_load_delivers_each_record_once() {
    let world = controller().await;
    let mut one = Gate::join(&world, "one", ONE).await;
    let company = Company::start_on(world).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let mut answered = BTreeSet::new();
    let mut asking = tokio::task::JoinSet::new();
    let urls: Vec<String> = (0..120).map(|number| company.plain_url("marketing", &format!("/n/{number}"))).collect();
    for part in urls.chunks(30) {
        let mut arguments = crate::peers::as_device(world, laptop, Some(&laptop.token));
        let root = world.root_file.display().to_string();
        arguments.extend(
            ["-sS", "--max-time", "20", "--proxy-cacert", &root, "-w", "%{url} %{http_code}\n"].map(String::from),
        );
        arguments.extend(part.iter().flat_map(|url| ["-o".to_owned(), "/dev/null".to_owned(), url.clone()]));
        asking.spawn(async move { run("curl", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.out });
    }
    let outs = asking.join_all().await;
    one.kill().await;
    for line in outs.iter().flat_map(|out| out.lines()) {
        if let Some((url, "200")) = line.rsplit_once(' ') {
            answered.insert(url.rsplit_once("/n/").expect("ours").1.to_owned());
        }
    }
    assert!(answered.len() > 50, "there was load: {outs:?}");
    one.restart().await;
    let mut found = Vec::new();
    for () in patiently() {
        let query = AuditQuery {
            kind: Some("decision".into()),
            resource: Some("marketing".into()),
            limit: Some(5_000),
            ..AuditQuery::default()
        };
        let records = world.audit(query).await;
        found = records
            .into_iter()
            .filter_map(|record| record.path.as_deref()?.strip_prefix("/n/").map(ToOwned::to_owned))
            .collect();
        if answered.iter().all(|number| found.contains(number)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let unique: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(unique.len(), found.len(), "none twice");
    assert!(answered.is_subset(&unique), "{:?}", answered.difference(&unique).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_join_code_works_once_and_only_gateways_get_into_the_control_channel() {
    let world = controller().await;
    let code = invite(&world, "one").await;
    let parsed = JoinCode::parse(&code).expect("a code");
    let other = world.dir.path().join("thief");
    // Of another root: whoever sits in the way has no certificate that this code believes.
    let wrong = JoinCode { root_sha256: [7; 32], ..parsed.clone() }.to_text();
    let (exit, _, err) = world.cli(&other, &["gateway", "join", &wrong]).await;
    assert_eq!(exit, 4, "{err}");
    let made_up = JoinCode { code: "0".repeat(26), ..parsed.clone() }.to_text();
    let (exit, _, err) = world.cli(&other, &["gateway", "join", &made_up]).await;
    assert_eq!(exit, 3, "{err}");
    let state = world.dir.path().join("gateway-one");
    let (exit, _, err) = world.cli(&state, &["gateway", "join", &code]).await;
    assert_eq!(exit, 0, "{err}");
    let (exit, _, err) = world.cli(&other, &["gateway", "join", &code]).await;
    assert!(exit == 3 && err.contains("used already"), "{exit} {err}");
    // No key of it was ever at the controller, and nobody else can read them here.
    let file = state.join("gateway").join("gateway.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).expect("kept")) & 0o777;
    assert_eq!(mode, 0o600);
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("kept")).expect("JSON");
    let database = std::fs::read(world.state_dir().join("vouchsafe.db")).expect("database");
    let mut wal = std::fs::read(world.state_dir().join("vouchsafe.db-wal")).unwrap_or_default();
    wal.extend(database);
    for key in ["identity_key", "server_key", "assertion_key"] {
        let pem = kept[key].as_str().expect("a key");
        let line = pem.lines().nth(1).expect("a line").as_bytes();
        assert!(!wal.windows(line.len()).any(|window| window == line), "{key} is at the controller");
    }
    let one = Gate::start(&world, state, ONE, &parsed, Around::Plain).await;

    // A device's certificate opens nothing at the controller, and neither does none.
    let alice = world.person("alice", &[]).await;
    let laptop = world.device(&alice, "laptop").await;
    let url = format!("https://127.0.0.1:{}/vouchsafe.control.v1.Control/Attach", parsed.port);
    let (certificate, key) = (laptop.certificate().display().to_string(), laptop.key().display().to_string());
    for arguments in [
        &["--cert", &certificate, "--key", &key, "--http2", "-X", "POST", &url][..],
        &["--http2", "-X", "POST", "-H", "vouchsafe-caller: {\"host\":\"api\",\"ip\":\"127.0.0.1\"}", &url],
    ] {
        let mut all = vec!["-sSk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code} %{header_json}"];
        all.extend(arguments);
        let ran = run("curl", &all).await;
        let denied = ran.code != 0 || ran.out.starts_with("401") || ran.out.contains("\"grpc-status\":[\"7\"]");
        assert!(denied, "{ran:?}");
    }
    // Nor can a client make the controller believe who calls, through a gateway.
    let forged = format!("vouchsafe-caller: {{\"host\":\"api\",\"ip\":\"127.0.0.1\",\"session\":\"{}\"}}", "ses_x");
    let answer = curl(&world, &["-H", &forged, world.url("auth", "/me").as_str()]).await;
    assert!(answer.status != 200, "{answer:?}");

    // Who has the key of a gateway speaks for those whose cookie or token he has seen, and has only their rights:
    // alice is no administrator, and the id of a session gives nothing.
    let stolen = Stolen::from(&world, &kept);
    let sessions: Value = world.admin.get("/v1/sessions").await.expect("sessions");
    let session = sessions[0]["id"].as_str().expect("alice's").to_owned();
    alice.browser.open(&world.url("console", "/"), &alice.authenticator).await.expect("opened");
    let cookie_of = |host: &str| {
        let cookies = alice.browser.cookies_of(&world.host(host));
        let (name, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("a cookie").clone();
        format!("Cookie: {name}={value}")
    };
    let (cookie, elsewhere) = (cookie_of("console"), cookie_of("auth"));
    let api = api_token(&laptop).await;
    let tunnels = format!("Authorization: Bearer {}", laptop.token);
    let made_up = format!("Cookie: __Host-vouchsafe={session}");
    let device = described(&laptop);
    let speak = async |caller: Value, field: &str, path: &str| stolen.speak(parsed.port, &caller, field, path).await;
    let to = |host: &str| json!({"host": host, "ip": "127.0.0.1"});
    let on_laptop = |host: &str| json!({"host": host, "ip": "127.0.0.1", "device": device});
    let named = |host: &str| json!({"host": host, "ip": "127.0.0.1", "session": session});
    for (caller, field, path, status) in [
        (to("auth"), "X-None: 1", "/.well-known/jwks.json", "200"),
        (to("api"), "X-None: 1", "/v1/users", "401"),
        (named("api"), "X-None: 1", "/v1/users", "400"),
        (to("console"), &made_up, "/", "401"),
        (to("console"), &elsewhere, "/", "401"),
        (on_laptop("console"), &cookie, "/", "401"),
        (to("console"), &cookie, "/", "403"),
        (to("api"), &cookie, "/v1/users", "401"),
        (to("api"), &api, "/v1/users", "401"),
        (on_laptop("api"), &tunnels, "/v1/users", "401"),
        (on_laptop("api"), &api, "/v1/users", "403"),
        (json!({"host": "api", "ip": "127.0.0.1", "subject": "root"}), &api, "/v1/users", "400"),
    ] {
        assert_eq!(speak(caller.clone(), field, path).await, status, "{caller} {field} {path}");
    }
    let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
    let overruled = records.iter().filter(|record| record.action.as_deref() == Some("gateway.overruled"));
    assert_eq!(overruled.count(), 2);

    // How the key of a client's connection was agreed on is the gateway's word too, in a field that it always sets itself.
    let ada = world.person("ada", &["administrators"]).await;
    let tablet = world.device(&ada, "tablet").await;
    let caller = json!({"host": "api", "ip": "127.0.0.1", "device": described(&tablet)});
    let api = api_token(&tablet).await;
    let demands = r#"@id("quantum") forbid (principal, action == Action::"console:read", resource)
        when { context.request.operation == "GET /v1/users" } unless { context.tls.post_quantum };"#;
    let mut files: Value = world.admin.get::<Value>("/v1/policy").await.expect("policy")["files"].take();
    files.as_array_mut().expect("files").push(json!({"name": "quantum.cedar", "text": demands}));
    let _: Value = world.admin.post("/v1/policy/publish", &json!({"files": files})).await.expect("published");
    for () in patiently() {
        if speak(caller.clone(), &api, "/v1/users").await == "403" {
            break;
        }
    }
    let on = |key: &str| format!("{api}\nvouchsafe-caller: {key}");
    for (field, status) in [(api.clone(), "403"), (on("none"), "403"), (on("post-quantum"), "200")] {
        assert_eq!(speak(caller.clone(), &field, "/v1/users").await, status, "{field}");
    }
    // Through the gateway: a program that agrees on such a key, and one that doesn't but says so.
    let (exit, out, err) = world.cli(&tablet.dir, &["user", "list", "--json"]).await;
    assert!(exit == 0 && out.contains("ada"), "{out}{err}");
    let (certificate, key) = (tablet.certificate().display().to_string(), tablet.key().display().to_string());
    let url = world.url("api", "/v1/users").to_string();
    let says = "vouchsafe-caller: post-quantum";
    let all = ["--curves", "X25519", "--cert", &certificate, "--key", &key, "-H", &api, "-H", says, &url];
    let answer = curl(&world, &all).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_gateway_that_is_removed_serves_nobody_within_a_second_whatever_the_grace() {
    let world = controller().await;
    let one = Gate::join(&world, "one", ONE).await;
    let company = company(world).await;
    let mut patient = opened(&one, &company, "patient").await;
    assert!(says(&mut patient).await);
    // It follows the log for an administrator who came to it.
    let ada = company.world.person("ada", &["administrators"]).await;
    let tablet = company.world.device(&ada, "tablet").await;
    let (stolen, api) = (Stolen::from(&company.world, &kept(&one.state)), api_token(&tablet).await);
    let caller = json!({"host": "api", "ip": "127.0.0.1", "device": described(&tablet)});
    let mut follower = tokio::process::Command::new("curl");
    follower.args(stolen.arguments(one.controller, &caller, &api, "/v1/audit/tail?limit=10")).arg("-N");
    let mut follower = follower.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().expect("started");
    let mut lines = follower.stdout.take().expect("piped");
    let mut first = [0; 4_096];
    let read = tokio::time::timeout(PATIENCE, lines.read(&mut first)).await.expect("in time").expect("readable");
    assert!(String::from_utf8_lossy(&first[..read]).starts_with("{\""), "{:?}", &first[..read]);
    let begin = Instant::now();
    company.world.admin.delete("/v1/gateways/one").await.expect("removed");
    cut(&mut patient).await;
    let ended = async {
        while lines.read(&mut first).await.expect("readable") > 0 {}
        begin.elapsed()
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("the log is not followed any more");
    assert!(ended < Duration::from_secs(1), "the log was followed for {ended:?}");
    assert_eq!(stolen.speak(one.controller, &caller, &api, "/v1/users").await, "401", "nor does it open anything");
    assert!(begin.elapsed() < Duration::from_secs(1), "cut after {:?}", begin.elapsed());
    let refused = one.tunnel(&company.laptop, "patient").await.expect_err("serves nobody");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let gone = curl(&company.world, &[company.world.url("auth", "/sign-in").as_str()]).await;
    assert_eq!(gone.status, 503, "{gone:?}");
    // Nor does it when it is started anew: there is nothing that it could act on.
    let mut one = one;
    one.kill().await;
    let (listen, dir) = (ONE.to_string(), one.state.display().to_string());
    let mut process = tokio::process::Command::new(crate::world::VOUCHSAFE);
    process.args(["gateway", "--listen", &listen, "--dir", &dir]).kill_on_drop(true);
    let mut process =
        process.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("started");
    let ended = tokio::time::timeout(Duration::from_secs(3), process.wait()).await;
    assert!(ended.is_err(), "it waits to be let in again: {ended:?}");
    assert!(TcpStream::connect((one.ip, one.port)).await.is_err(), "and listens to nobody");
}

/// Waits until two gateways are attached.
pub async fn both_attached(world: &World) {
    attached(world, 2).await;
}

/// Waits until all gateways, that many, are attached.
pub async fn attached(world: &World, count: usize) {
    for () in patiently() {
        let gateways: Value = world.admin.get("/v1/gateways").await.expect("gateways");
        let all = gateways.as_array().expect("gateways");
        if all.len() == count && all.iter().all(|gateway| gateway["attached"].is_object()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a gateway doesn't come back: {}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_lock_ends_everything_on_all_gateways_and_holds_over_a_restart_until_it_is_taken_away() {
    let world = controller().await;
    let one = Gate::join(&world, "one", ONE).await;
    let two = Gate::join(&world, "two", TWO).await;
    let company = company(world).await;
    let mut tunnels = [opened(&one, &company, "strict").await, opened(&two, &company, "strict").await];
    let begin = Instant::now();
    let dir = company.world.state_dir();
    let (exit, _, err) = company.world.cli(&dir, &["lock", "resource", "strict", "--reason", "incident"]).await;
    assert_eq!(exit, 0, "{err}");
    let [first, second] = &mut tunnels;
    tokio::join!(cut(first), cut(second));
    assert!(begin.elapsed() < Duration::from_secs(2), "with the start of a verb: {:?}", begin.elapsed());
    let mut patient = [opened(&one, &company, "patient").await, opened(&two, &company, "patient").await];
    // The device: everything of it ends, also to what is not locked.
    let locked: Value =
        company.world.admin.post("/v1/locks", &json!({"kind": "device", "name": "laptop"})).await.expect("locked");
    assert_eq!(locked["by"].as_str().map(|by| by.starts_with("local:")), Some(true), "{locked}");
    let [first, second] = &mut patient;
    let took = tokio::join!(cut(first), cut(second));
    assert!(took.0.max(took.1) < Duration::from_secs(1), "{took:?}");
    let Company { world, marketing: _marketing, finance: _finance, alice, laptop } = company;
    let port = world.port;
    let dir = world.kill().await;
    let world = World::start_role(dir, &arguments(port, one.controller)).await;
    let locks: Value = world.admin.get("/v1/locks").await.expect("locks");
    assert_eq!(locks.as_array().map(Vec::len), Some(2), "{locks}");
    // Both gateways come back, and neither lets her in; nor does she get anything on that device.
    both_attached(&world).await;
    for gate in [&one, &two] {
        let refused = gate.tunnel(&laptop, "patient").await.expect_err("locked");
        assert!(!refused.starts_with("HTTP/1.1 5"), "{refused}");
    }
    let status = laptop.device.status().await;
    assert!(status.is_err(), "a locked device is told nothing: {status:?}");
    world.admin.delete("/v1/locks/device/laptop").await.expect("unlocked");
    let laptop = world.sign_in(&alice, laptop).await;
    let mut open = false;
    for () in patiently() {
        if one.tunnel(&laptop, "patient").await.is_ok() {
            open = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(open, "unlocked: {}", world.log());
    assert!(one.tunnel(&laptop, "strict").await.is_err(), "the resource is still locked");
}

/// Who has what a gateway had before its renewal gets nowhere from when the gateway uses what it was issued.
#[tokio::test(flavor = "multi_thread")]
async fn a283_an_older_key_of_a_gateway_is_worth_nothing_once_the_next_is_in_use() {
    let world = controller().await;
    let mut one = Gate::join(&world, "one", ONE).await;
    let before = kept(&one.state);
    let stolen = Stolen::from(&world, &before);
    let open = json!({"host": "auth", "ip": "127.0.0.1"});
    let port = one.controller;
    let speak = async || stolen.speak(port, &open, "X-None: 1", "/.well-known/jwks.json").await;
    assert_eq!(speak().await, "200");
    one.kill().await;
    let mut due = before.clone();
    due["joined"]["certificates"]["renew_at"] = json!(1);
    std::fs::write(one.state.join("gateway").join("gateway.json"), due.to_string()).expect("written");
    one.restart().await;
    let mut refused = false;
    for () in patiently() {
        if speak().await == "401" {
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(refused, "{}", world.log());
    let after = kept(&one.state);
    assert_ne!(after["identity_key"], before["identity_key"]);
    let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
    let told = |record: &&vouchsafe_wire::audit::Record| record.action.as_deref() == Some("gateway.attach");
    assert!(records.iter().any(|record| told(&record)), "a copy is on record: {records:?}");
    // The gateway itself goes on.
    let answer = curl(&world, &[world.url("auth", "/sign-in").as_str()]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let newest = Stolen::from(&world, &after);
    assert_eq!(newest.speak(one.controller, &open, "X-None: 1", "/.well-known/jwks.json").await, "200");
}

/// Answers that nobody reads once shared a window with the changes: a megabyte each, and the thirtieth held back what
/// was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn i6_answers_that_nobody_reads_hold_back_no_change() {
    const UNREAD: usize = 40;
    let world = controller().await;
    let one = Gate::join(&world, "one", ONE).await;
    let company = company(world).await;
    let world = &company.world;
    let ada = world.person("ada", &["administrators"]).await;
    let tablet = world.device(&ada, "tablet").await;
    let api = api_token(&tablet).await;
    let (_, token) = api.split_once(": ").expect("a field");
    // Whoever asks for the policy gets a megabyte.
    let words = "// Nothing to see here, but much of it.\n".repeat(23_000);
    let echo = echo(world).await;
    let strict =
        json!({"name": "strict", "kind": "tcp", "upstream": echo.to_string(), "port": 7, "groups": ["tunnels"]});
    let marketing = json!({"name": "marketing", "kind": "http",
                           "upstream": format!("http://{}", company.marketing.address)});
    world.apply(&["marketing"], json!([marketing, strict]), &format!("{TUNNELS}{words}")).await;
    let mut tunnel = opened(&one, &company, "strict").await;
    assert!(says(&mut tunnel).await);
    let config = probe::config(world, Some(&tablet), &[b"h2"]);
    let stream = probe::connect(world, "api", config).await.expect("handshake");
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await;
    let (sender, connection) = builder.expect("HTTP/2");
    world.tasks.spawn("unread answers", async move { drop(connection.await) });
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        let request = http::Request::get(world.url("api", "/v1/policy").as_str()).header("authorization", token);
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
        let response = sender.clone().send_request(request).await.expect("a head");
        assert_eq!(response.status(), 200);
        unread.push(response);
    }
    // What fits into the windows has come.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    let _: Value = world.admin.post("/v1/users/alice/sign-out", &json!({})).await.expect("signed out");
    cut(&mut tunnel).await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
    // Nor do they keep requests of others from the controller.
    let answer = curl(world, &[world.url("auth", "/sign-in").as_str()]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(unread.len(), UNREAD);
}
