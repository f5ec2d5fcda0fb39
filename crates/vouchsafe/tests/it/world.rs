//! A whole installation for a test: the real binary in a directory of its own, people with
//! passkeys, devices, and upstreams that remember what reached them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use url::Url;
use vouchsafe_agent::device::{Device, Former};
use vouchsafe_agent::login::Login;
use vouchsafe_agent::session::Session;
use vouchsafe_demo::admin::Admin;
use vouchsafe_demo::authenticator::Authenticator;
use vouchsafe_demo::browser::Browser;
use vouchsafe_demo::browser::dial::Direct;
use vouchsafe_model::name::DeviceName;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{AuditPage, AuditQuery, DeviceInvited, GrantDoc, Invited, PlannedChange};
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::ticket::Ticket;
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

/// Longest time anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Turns of waiting for what comes by itself, each to end with a pause, until [`PATIENCE`] is over.
pub fn patiently() -> impl Iterator<Item = ()> {
    let end = Instant::now() + PATIENCE;
    std::iter::from_fn(move || (Instant::now() < end).then_some(()))
}

/// The binary under test.
pub const VOUCHSAFE: &str = env!("CARGO_BIN_EXE_vouchsafe");

/// A running installation.
pub struct World {
    pub dir: TempDir,
    pub port: u16,
    pub domain: String,
    pub root_file: PathBuf,
    pub root_pem: String,
    pub first_invite: Option<String>,
    pub admin: Admin,
    pub tasks: TaskGroup,
    process: Child,
}

impl World {
    /// Starts a new installation.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self::start_in(dir, 0).await
    }

    /// Starts in a directory that may hold the state of an earlier run.
    pub async fn start_in(dir: TempDir, port: u16) -> Self {
        Self::start_with(dir, port, &[]).await
    }

    /// Starts with further arguments of `up`.
    pub async fn start_with(dir: TempDir, port: u16, arguments: &[String]) -> Self {
        // Whoever wants this machine looked at starts it without.
        let mut all = vec!["up".to_owned(), "--no-assess".to_owned(), "--port".to_owned(), port.to_string()];
        all.extend_from_slice(arguments);
        Self::start_role(dir, &all).await
    }

    /// Starts a role that opens the state directory `state`: `up`, or a controller alone.
    pub async fn start_role(dir: TempDir, arguments: &[String]) -> Self {
        Self::start_role_by(Command::new(VOUCHSAFE), dir, arguments).await
    }

    /// The same by another command, such as one that sees another time.
    pub async fn start_role_by(program: Command, dir: TempDir, arguments: &[String]) -> Self {
        let state = dir.path().join("state");
        let (process, ready) = launch_by(program, dir.path(), &state, arguments).await;
        let text = |name: &str| ready[name].as_str().map(ToOwned::to_owned);
        let tasks = TaskGroup::new();
        let root_file = PathBuf::from(text("root").expect("root"));
        Self {
            port: u16::try_from(ready["port"].as_u64().expect("port")).expect("a port"),
            domain: text("domain").expect("domain"),
            root_pem: std::fs::read_to_string(&root_file).expect("root.pem"),
            root_file,
            first_invite: text("first_invite"),
            admin: Admin::new(state.join("admin.sock"), tasks.clone()),
            tasks,
            process,
            dir,
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("running")
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    pub fn host(&self, label: &str) -> String {
        format!("{label}.{}", self.domain)
    }

    pub fn url(&self, label: &str, path: &str) -> Url {
        format!("https://{}:{}{path}", self.host(label), self.port).parse().expect("url")
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Kills the process as a power cut would, and gives the directory back.
    pub async fn kill(mut self) -> TempDir {
        self.process.kill().await.expect("killed");
        self.dir
    }

    /// Asks the process to stop, waits for it, and gives the directory back.
    pub async fn stop(mut self) -> TempDir {
        let pid = crate::peers::pid_of(self.pid());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("stops in time").expect("status");
        assert!(
            status.success(),
            "SIGTERM ends it cleanly: {status}\n{}",
            std::fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
        );
        self.dir
    }

    /// Brings the installation to this state: groups, resources, and policies beside the default one.
    pub async fn apply(&self, groups: &[&str], resources: Value, policy: &str) {
        let current: Value = self.admin.get("/v1/policy").await.expect("policy");
        let mut files: Vec<Value> = current["files"].as_array().cloned().unwrap_or_default();
        files.retain(|file| file["name"] != "test.cedar");
        files.push(json!({"name": "test.cedar", "text": policy}));
        let mut groups: Vec<Value> = groups.iter().map(|name| json!({"name": name})).collect();
        groups.push(json!({"name": "administrators"}));
        let manifest = json!({"groups": groups, "resources": resources, "policy": files});
        let before = self.policies_in_force();
        let plan = self.admin.apply(serde_json::from_value(manifest).expect("manifest")).await.expect("applied");
        // What is applied holds a moment later, when the gateway has made it ready. Gateways that are processes of
        // their own log elsewhere.
        let is_seen = |change: &PlannedChange| !change.target.starts_with("group/");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while before > 0 && plan.changes.iter().any(is_seen) && self.policies_in_force() == before {
            assert!(tokio::time::Instant::now() < deadline, "what was applied never came into force");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often this process's gateway has put a policy into force.
    fn policies_in_force(&self) -> usize {
        self.log().matches("policy in force").count()
    }

    /// Makes a user, and gives the link that lets her register a passkey.
    pub async fn invite(&self, name: &str, groups: &[&str]) -> String {
        let invited: Invited =
            self.admin.post("/v1/users", &json!({"name": name, "groups": groups})).await.expect("invited");
        invited.link
    }

    /// Makes a user and lets her register a passkey in a browser without a device.
    pub async fn person(&self, name: &str, groups: &[&str]) -> Person {
        let link = self.invite(name, groups).await;
        let mut authenticator = Authenticator::new();
        let browser = self.browser();
        browser.accept_invite(&link, &mut authenticator, "test key").await.expect("registered");
        Person { name: name.to_owned(), authenticator, browser }
    }

    /// A browser on a machine without a device.
    pub fn browser(&self) -> Browser {
        Browser::new(Arc::new(Direct::loopback(self.port)), &self.root_pem, self.tasks.clone()).expect("browser")
    }

    /// The session cookie of a person at an app, as a field value. Waits until the app lets her in.
    pub async fn cookie(&self, person: &Person, app: &str, path: &str) -> String {
        let mut page = person.browser.open(&self.url(app, path), &person.authenticator).await.expect("opened");
        for () in patiently() {
            if page.status != 403 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            page = person.browser.get(&self.url(app, path)).await.expect("opened");
        }
        let cookies = person.browser.cookies_of(&self.host(app));
        let own = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe");
        let (name, value) = own.unwrap_or_else(|| panic!("no session at {app}: {}", page.text()));
        format!("{name}={value}")
    }

    /// Enrols a device for a user and signs her in on it.
    pub async fn device(&self, person: &Person, name: &str) -> TestDevice {
        let invited: DeviceInvited =
            self.admin.post("/v1/devices/invites", &json!({"owner": person.name})).await.expect("device invited");
        let dir = self.dir.path().join(format!("device-{name}"));
        let ticket = Ticket::parse(&invited.ticket).expect("ticket");
        let name = DeviceName::parse(name).expect("name");
        let device = Arc::new(Device::enrol(&dir, &ticket, &name, Former::Keep).await.expect("enrolled"));
        self.sign_in(person, TestDevice { dir, device, token: String::new() }).await
    }

    /// Signs a person in on her device.
    pub async fn sign_in(&self, person: &Person, device: TestDevice) -> TestDevice {
        let TestDevice { dir, device, .. } = device;
        let login = Login::start(Arc::clone(&device)).await.expect("login");
        person.browser.sign_in_if_needed(self, &person.authenticator).await;
        person.browser.approve_device(&login.link().parse().expect("link")).await.expect("approved");
        login.finish().await.expect("signed in");
        let token =
            Session::on(Arc::clone(&device)).token(AUDIENCE_GATEWAY).await.expect("session").expect("signed in");
        TestDevice { dir, device, token: token.expose().to_owned() }
    }

    /// Audit records that match, oldest first.
    pub async fn audit(&self, query: AuditQuery) -> Vec<Record> {
        let query = AuditQuery { limit: Some(10_000), ..query };
        let page: AuditPage = self.admin.audit(&query).await.expect("audit");
        let mut records = page.records;
        records.reverse();
        records
    }

    /// The same, once there are enough of them, or as they are when patience ends. Delivery takes some milliseconds.
    pub async fn audit_when(&self, query: AuditQuery, enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        for () in patiently() {
            let records = self.audit(query.clone()).await;
            if enough(&records) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.audit(query).await
    }

    /// The decision of that id. Waits for it: delivery takes some milliseconds.
    pub async fn decision(&self, id: &str) -> Record {
        for () in patiently() {
            let query = AuditQuery { id: Some(id.to_owned()), kind: Some("decision".into()), ..AuditQuery::default() };
            let mut found = self.audit(query).await;
            assert!(found.len() <= 1, "exactly one record for {id}");
            if let Some(record) = found.pop() {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no audit record of decision {id}");
    }

    pub async fn grant(&self, user: &str, resource: &str) -> GrantDoc {
        let grant = json!({"user": user, "resource": resource, "reason": "test"});
        self.admin.post("/v1/grants", &grant).await.expect("granted")
    }

    /// Runs the binary's client verbs against a directory; gives exit code, stdout and stderr.
    pub async fn cli(&self, dir: &Path, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(VOUCHSAFE).args(arguments).arg("--dir").arg(dir).stdin(Stdio::null()).output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("verb ends in time").expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

/// Signs in where there is no session yet.
pub trait SignInIfNeeded {
    async fn sign_in_if_needed(&self, world: &World, authenticator: &Authenticator);
}

impl SignInIfNeeded for Browser {
    async fn sign_in_if_needed(&self, world: &World, authenticator: &Authenticator) {
        if self.cookies_of(&world.host("auth")).is_empty() {
            self.sign_in(&world.url("auth", "/"), authenticator, None).await.expect("signed in");
        }
    }
}

/// Starts a role; gives the process and the line in which it says that it is ready.
pub async fn launch(log: &Path, state: &Path, arguments: &[String]) -> (Child, Value) {
    launch_by(Command::new(VOUCHSAFE), log, state, arguments).await
}

/// Starts a role by another program, such as one that enters a network namespace.
pub async fn launch_by(mut program: Command, log: &Path, state: &Path, arguments: &[String]) -> (Child, Value) {
    program
        .args(arguments)
        .args(["--json", "--dir"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if !program.as_std().get_envs().any(|(name, _)| name == "VOUCHSAFE_LOG") {
        program.env("VOUCHSAFE_LOG", "debug");
    }
    let logged = || std::fs::read_to_string(log.join("up.log")).unwrap_or_default();
    let mut attempts = 0;
    loop {
        let before = logged().len();
        let mut process = program.stderr(log_file(log)).spawn().expect("the binary starts");
        let stdout = process.stdout.take().expect("piped");
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        if let Some(line) = line.expect("ready in time").expect("readable") {
            return (process, serde_json::from_str(&line).expect("one line of JSON"));
        }
        // A port that it found free is anybody's until it listens there.
        let text = logged();
        let said = text.get(before..).unwrap_or(&text);
        attempts += 1;
        let chose = arguments.windows(2).any(|pair| pair == ["--port", "0"]);
        assert!(chose && attempts < 3 && said.contains("Address already in use"), "{arguments:?} ended: {said}");
    }
}

fn log_file(dir: &Path) -> Stdio {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("up.log")).expect("log file");
    Stdio::from(file)
}

/// Somebody with a passkey and a browser.
pub struct Person {
    pub name: String,
    pub authenticator: Authenticator,
    pub browser: Browser,
}

/// An enrolled device with somebody signed in.
pub struct TestDevice {
    pub dir: PathBuf,
    pub device: Arc<Device>,
    /// Access token for the gateway.
    pub token: String,
}

impl TestDevice {
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("device").join("device.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("device").join("device.key")
    }
}

/// An upstream that keeps every byte it gets and answers 200 to each request head.
pub struct Recorder {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

impl Recorder {
    pub async fn start(tasks: &TaskGroup) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound"), tasks)
    }

    /// Listens where it is told to.
    pub fn on(listener: TcpListener, tasks: &TaskGroup) -> Self {
        let address = listener.local_addr().expect("address");
        let (seen, connections) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicUsize>::default());
        let (to, count, group) = (Arc::clone(&seen), Arc::clone(&connections), tasks.clone());
        tasks.spawn("recorder", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let to = Arc::clone(&to);
                group.spawn("recorded connection", async move {
                    let mut buffer = vec![0; 64 * 1024];
                    let mut heads = 0;
                    let mut all = Vec::new();
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        to.lock().extend_from_slice(&buffer[..length]);
                        all.extend_from_slice(&buffer[..length]);
                        let now = all.windows(4).filter(|window| window == b"\r\n\r\n").count();
                        for _ in heads..now {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                        }
                        heads = now;
                    }
                });
            }
        });
        Self { address, seen, connections }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock()).into_owned()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
