//! Foreign programs that tests run: curl, psql, nginx, Node, OpenSSH.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World, patiently};

/// What a program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end.
pub async fn run(program: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE * 2, command.output());
    let output = output.await.unwrap_or_else(|_| panic!("{program} {arguments:?} did not end")).expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a program to its end with something on its standard input, which stays open meanwhile.
pub async fn run_with_input(program: &str, arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).await.expect("written");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.unwrap_or_else(|_| panic!("{program} {arguments:?} did not end")).expect("runs");
    drop(stdin);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Resident memory of a process, KiB: now, and at its highest since the last [`forget_peak`].
pub fn resident_kib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let value = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    (value("VmRSS:"), value("VmHWM:"))
}

/// Starts the measure of the highest memory of a process anew (proc(5), `clear_refs`). Only root may
/// do that to a process that lets nobody look into it; the highest since its start bounds it as well.
pub fn forget_peak(pid: u32) {
    if let Err(error) = std::fs::write(format!("/proc/{pid}/clear_refs"), "5") {
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

/// A curl answer.
#[derive(Debug)]
pub struct Curled {
    /// Status of the answer; for a refused tunnel the proxy's.
    pub status: u16,
    pub head: String,
    pub body: String,
    pub err: String,
}

impl Curled {
    /// Value of a header field of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let wanted = format!("{}:", name.to_ascii_lowercase());
        let line = self.head.lines().rev().find(|line| line.to_ascii_lowercase().starts_with(&wanted))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    /// Id of the decision.
    pub fn decision(&self) -> &str {
        self.header("x-vouchsafe-decision").unwrap_or_else(|| panic!("no decision in {self:?}"))
    }
}

/// curl, trusting the installation's root.
pub async fn curl(world: &World, arguments: &[&str]) -> Curled {
    let root = world.root_file.display().to_string();
    let mut all = vec!["-sS", "--max-time", "20", "-D", "-", "--cacert", &root, "--proxy-cacert", &root];
    all.extend(["-w", "\n%{http_code} %{http_connect}"]);
    all.extend(arguments);
    let ran = run("curl", &all).await;
    let (answer, codes) = ran.out.rsplit_once('\n').unwrap_or(("", ""));
    let mut codes = codes.split(' ').map(|code| code.parse().unwrap_or(0));
    let (code, connect): (u16, u16) = (codes.next().unwrap_or(0), codes.next().unwrap_or(0));
    let (head, body) = split_heads(answer);
    Curled { status: if code == 0 { connect } else { code }, head, body, err: ran.err }
}

/// Interim and proxy answers come with heads of their own.
fn split_heads(answer: &str) -> (String, String) {
    let mut head = String::new();
    let mut rest = answer;
    while rest.starts_with("HTTP/") {
        let Some((one, behind)) = rest.split_once("\r\n\r\n") else { return (format!("{head}{rest}"), String::new()) };
        head.push_str(one);
        head.push_str("\r\n");
        rest = behind;
    }
    (head, rest.to_owned())
}

/// Arguments that make curl use the gateway as its proxy, as a device and, with `token`, as a user.
pub fn as_device(world: &World, device: &TestDevice, token: Option<&str>) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let mut arguments = vec![
        "--proxy".into(),
        format!("https://{}:{}", world.host("gw"), world.port),
        "--proxy-cert".into(),
        path(device.certificate()),
        "--proxy-key".into(),
        path(device.key()),
    ];
    if let Some(token) = token {
        arguments.extend(["--proxy-header".to_owned(), format!("Proxy-Authorization: Bearer {token}")]);
    }
    arguments
}

/// curl as a device and user.
pub async fn curl_as(world: &World, device: &TestDevice, arguments: &[&str]) -> Curled {
    let mut all = as_device(world, device, Some(&device.token));
    all.extend(arguments.iter().map(ToString::to_string));
    curl(world, &all.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// A server that is started for a test and ends with it.
pub struct Server {
    child: tokio::process::Child,
}

impl Server {
    /// Starts it, and waits until `address` accepts connections.
    pub async fn start(program: &str, arguments: &[&str], log: &Path, address: std::net::SocketAddr) -> Self {
        let file = std::fs::File::create(log).expect("log");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("clone"))
            .stderr(file)
            .kill_on_drop(true);
        let mut server = Self {
            child: command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; run ./test, which installs it")),
        };
        for () in patiently() {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return server;
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{program} ended with {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{program} does not listen on {address}: {}", std::fs::read_to_string(log).unwrap_or_default());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM lets nginx take its workers along.
        if let Some(pid) = self.child.id() {
            let pid = pid_of(pid);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// A port that is free at this moment.
pub fn free_address() -> std::net::SocketAddr {
    let host = std::net::Ipv4Addr::LOCALHOST;
    (host, free_port(host)).into()
}

/// A port there that nobody listens on, and that no other test of this run was given.
pub fn free_port(host: std::net::Ipv4Addr) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = std::net::TcpListener::bind((host, 0)).expect("bound");
        let port = listener.local_addr().expect("address").port();
        if GIVEN.lock().insert(port) {
            return port;
        }
    }
}

/// A process id as the kernel wants it.
pub fn pid_of(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not zero")
}

/// `vouchsafe proxy` of a device, running.
pub struct LocalProxy {
    pub address: std::net::SocketAddr,
    /// Address of its PAC file.
    pub pac: String,
    _child: tokio::process::Child,
}

impl LocalProxy {
    /// Starts it for the device whose state is in `dir`.
    pub async fn start(dir: &Path) -> Self {
        let mut child = Command::new(VOUCHSAFE)
            .args(["proxy", "--listen", "127.0.0.1:0", "--json", "--dir"])
            .arg(dir)
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
        let text = |name: &str| ready[name].as_str().expect("a text").to_owned();
        Self { address: text("listening").parse().expect("an address"), pac: text("pac"), _child: child }
    }

    /// What makes Chromium use it, also for names under `.localhost`.
    pub fn chromium_arguments(&self) -> Vec<String> {
        vec![format!("--proxy-server=http://{}", self.address), "--proxy-bypass-list=<-loopback>".to_owned()]
    }
}
