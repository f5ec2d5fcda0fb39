//! OpenSSH through `pipe`, and tools through `proxy`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use vouchsafe_wire::api::AuditQuery;

use crate::http::Company;
use crate::peers::{LocalProxy, Ran, Server, curl, free_address, run};
use crate::world::{PATIENCE, TestDevice, VOUCHSAFE, World, patiently};

const POLICY: &str = r#"
@id("build-host")
@reason("Builders reach the build host on an enrolled device.")
permit (principal in Group::"builders", action == Action::"net:connect", resource == Tcp::"build-host");
"#;

/// A host with OpenSSH's server behind vouchsafe.
struct Host {
    world: World,
    laptop: TestDevice,
    stranger: TestDevice,
    dir: PathBuf,
    me: String,
    _sshd: Server,
}

impl Host {
    async fn start() -> Self {
        let world = World::start().await;
        let dir = world.dir.path().join("ssh");
        std::fs::create_dir(&dir).expect("directory");
        let address = free_address();
        let sshd = sshd(&dir, address).await;
        let resource = json!({"name": "build-host", "kind": "tcp", "upstream": address.to_string(), "port": 22});
        world.apply(&["builders"], json!([resource]), POLICY).await;
        let alice = world.person("alice", &["builders"]).await;
        let laptop = world.device(&alice, "laptop").await;
        let bob = world.person("bob", &[]).await;
        let stranger = world.device(&bob, "tablet").await;
        let me = run("id", &["-un"]).await.out.trim().to_owned();
        Self { world, laptop, stranger, dir, me, _sshd: sshd }
    }

    /// Runs a command on the host through `pipe`, and gives what it wrote as bytes.
    async fn ssh(&self, device: &TestDevice, command: &str, input: &[u8]) -> (Ran, Vec<u8>) {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let proxy = format!("ProxyCommand={VOUCHSAFE} pipe %h:%p --dir {}", device.dir.display());
        let known = format!("UserKnownHostsFile={}", file("known_hosts"));
        let mut child = Command::new("ssh")
            .args(["-F", "none", "-T", "-i", &file("user_key"), "-l", &self.me])
            .args(["-o", &proxy, "-o", &known, "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "BatchMode=yes", "build-host", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("ssh starts");
        let mut stdin = child.stdin.take().expect("piped");
        let written = async move {
            // Whoever is refused closes early.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let both = async { tokio::join!(written, child.wait_with_output()) };
        let ((), output) = tokio::time::timeout(PATIENCE * 2, both).await.expect("ssh ends in time");
        let output = output.expect("ran");
        let ran = Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        (ran, output.stdout)
    }

    /// Connections in the log of the host's server, which it writes before it talks.
    fn connections(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.join("sshd.log")).unwrap_or_default();
        log.matches("Connection from ").count()
    }

    async fn connections_reach(&self, count: usize) {
        for () in patiently() {
            if self.connections() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} connections in sshd's log, not {count}", self.connections());
    }
}

/// OpenSSH's server with keys and settings of its own, for whoever runs the test.
pub async fn sshd(dir: &Path, address: std::net::SocketAddr) -> Server {
    if rustix::process::getuid().is_root() {
        // Where Debian's service keeps nothing, but sshd insists on it.
        std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
    }
    let file = |name: &str| dir.join(name).display().to_string();
    for key in ["host_key", "user_key"] {
        let made = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", &file(key)]).await;
        assert_eq!(made.code, 0, "{}", made.err);
    }
    std::fs::copy(dir.join("user_key.pub"), dir.join("authorized_keys")).expect("copied");
    let host_key = std::fs::read_to_string(dir.join("host_key.pub")).expect("read");
    std::fs::write(dir.join("known_hosts"), format!("build-host {host_key}")).expect("written");
    let settings = format!(
        "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         LogLevel VERBOSE\n",
        file("host_key"),
        file("authorized_keys"),
    );
    std::fs::write(dir.join("sshd_config"), settings).expect("written");
    let arguments = ["-D", "-e", "-f", &file("sshd_config")];
    Server::start("/usr/sbin/sshd", &arguments, &dir.join("sshd.log"), address).await
}

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_a_command_and_loses_no_byte_in_either_direction() {
    let host = Host::start().await;
    let (ran, _) = host.ssh(&host.laptop, "echo hello; exit 7", b"").await;
    assert_eq!((ran.code, ran.out.as_str()), (7, "hello\n"), "{}", ran.err);
    let sent = noise(20 * 1024 * 1024 + 13);
    let (ran, back) = host.ssh(&host.laptop, "cat", &sent).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(back.len(), sent.len());
    let sha256 = vouchsafe_runtime::tls::sha256;
    assert_eq!(sha256(&back), sha256(&sent));
    // Each is one tunnel with one decision and one end, and its bytes are counted.
    let query = AuditQuery { resource: Some("build-host".into()), ..AuditQuery::default() };
    for () in patiently() {
        let records = host.world.audit(query.clone()).await;
        let ends: Vec<_> = records.iter().filter(|record| record.kind.as_str() == "flow_end").collect();
        if ends.len() == 2 {
            assert_eq!(records.iter().filter(|record| record.kind.as_str() == "decision").count(), 2);
            let length = u64::try_from(sent.len()).expect("a length");
            assert!(ends[1].bytes_in > Some(length) && ends[1].bytes_out > Some(length), "{:?}", ends[1]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("both tunnels have an end in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_ssh_without_the_right_is_told_why_and_the_host_never_hears_of_it() {
    let host = Host::start().await;
    let (ran, _) = host.ssh(&host.laptop, "true", b"").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    // One was the test's own look whether sshd listens.
    host.connections_reach(2).await;
    let (ran, _) = host.ssh(&host.stranger, "true", b"").await;
    assert_eq!(ran.code, 255, "{}", ran.err);
    assert!(ran.err.contains("nothing here that you have access to") && ran.err.contains("dec_"), "{}", ran.err);
    let (code, out, err) = host.world.cli(&host.stranger.dir, &["pipe", "build-host"]).await;
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    let id = err.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').find(|word| word.starts_with("dec_"));
    let record = host.world.decision(id.expect("a decision id")).await;
    assert_eq!((record.reason.as_deref(), record.user.as_deref()), (Some("no_permit"), Some("bob")));
    assert_eq!(host.connections(), 2, "sshd's own log shows no connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_reach_own_names_through_the_local_proxy_and_nothing_else() {
    let company = Company::start().await;
    let world = &company.world;
    let proxy = LocalProxy::start(&company.laptop.dir).await;
    let (socks, connect) = (format!("socks5h://{}", proxy.address), format!("http://{}", proxy.address));
    let laptop = company.laptop.device.id().to_string();
    for way in [&socks, &connect] {
        let answer = curl(world, &["--proxy", way, world.url("auth", "/sign-in").as_str()]).await;
        assert_eq!(answer.status, 200, "{way}: {answer:?}");
        // The device is proven, the user isn't: that takes a cookie.
        let answer = curl(world, &["--proxy", way, world.url("marketing", "/").as_str()]).await;
        assert_eq!(answer.status, 401, "{way}: {answer:?}");
        let record = world.decision(answer.decision()).await;
        assert_eq!(record.reason.as_deref(), Some("sign_in_required"));
        assert_eq!(record.device.as_deref(), Some(laptop.as_str()), "{way}");
        // The gateway refuses to lead to names that are not its own; so does the proxy, by itself.
        for elsewhere in ["https://example.com/", "https://127.0.0.1:1/", "https://vouchsafe.localhost.example/"] {
            let answer = curl(world, &["--proxy", way, elsewhere]).await;
            assert_ne!(answer.status, 200, "{way}: {answer:?}");
            assert!(!answer.err.is_empty(), "{way} {elsewhere}: {answer:?}");
        }
    }
    let plain = curl(world, &["--proxy", &connect, &company.plain_url("marketing", "/a")]).await;
    assert!(plain.header("location").is_some_and(|to| to == world.url("marketing", "/a").as_str()), "{plain:?}");
    let pac = run("curl", &["-sS", &proxy.pac]).await.out;
    assert!(pac.contains("FindProxyForURL") && pac.contains(&world.domain), "{pac}");
}
