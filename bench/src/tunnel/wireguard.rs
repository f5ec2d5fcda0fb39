//! WireGuard in user space on both sides of a pair of network namespaces: `gotatun`, a crate by
//! Mullvad. Needs root, `ip`, `wg` and `/dev/net/tun`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Tunnel;
use crate::ours::{MEASURED, OTHERS, Process};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NEAR: &str = "vsbench-near";
const FAR: &str = "vsbench-far";
const PORT: u16 = 5201;

/// Both ends, and the sink behind the far one; all of it goes away when dropped.
pub(super) struct WireGuard {
    ends: Vec<Process>,
    _sink: Option<Process>,
    keys: tempfile::TempDir,
}

impl WireGuard {
    pub(super) fn start(this: &Path) -> Result<Self> {
        let mut made = Self { ends: Vec::new(), _sink: None, keys: tempfile::tempdir()? };
        remove_namespaces();
        for name in [NEAR, FAR] {
            ip(&["netns", "add", name])?;
        }
        ip(&["link", "add", "vsb0", "netns", NEAR, "type", "veth", "peer", "name", "vsb1", "netns", FAR])?;
        for (namespace, link, address) in [(NEAR, "vsb0", "10.99.0.1/24"), (FAR, "vsb1", "10.99.0.2/24")] {
            ip(&["-n", namespace, "addr", "add", address, "dev", link])?;
            ip(&["-n", namespace, "link", "set", link, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        let program = gotatun()?.display().to_string();
        for (namespace, device) in [(NEAR, "vsgt0"), (FAR, "vsgt1")] {
            let socket = PathBuf::from(format!("/var/run/wireguard/{device}.sock"));
            let _ = std::fs::remove_file(&socket);
            let arguments =
                ["netns", "exec", namespace, &program, "--disable-drop-privileges", "-f", "-v", "error", device];
            made.ends.push(Process::start(MEASURED, Path::new("ip"), &arguments)?);
            let begun = Instant::now();
            while !socket.exists() {
                if begun.elapsed() > Duration::from_secs(10) {
                    return Err("gotatun did not start".into());
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        let publics = [made.key("near")?, made.key("far")?];
        let [near, far] = &publics;
        made.configure((NEAR, "vsgt0", "near"), (far, "10.98.0.2/32", "10.99.0.2:51820"), "10.98.0.1/24")?;
        made.configure((FAR, "vsgt1", "far"), (near, "10.98.0.1/32", "10.99.0.1:51820"), "10.98.0.2/24")?;
        let listen = format!("10.98.0.2:{PORT}");
        let this = this.display().to_string();
        let arguments = ["netns", "exec", FAR, &this, "tunnel-sink", &listen];
        made._sink = Some(Process::announced(OTHERS, Path::new("ip"), &arguments)?.0);
        Ok(made)
    }

    /// Makes a private key; gives the public one.
    fn key(&self, name: &str) -> Result<String> {
        let file = self.keys.path().join(name);
        let private = Command::new("wg").arg("genkey").output()?.stdout;
        std::fs::write(&file, private)?;
        let public = Command::new("wg").arg("pubkey").stdin(std::fs::File::open(&file)?).output()?;
        Ok(String::from_utf8(public.stdout)?.trim().to_owned())
    }

    fn configure(&self, end: (&str, &str, &str), peer: (&str, &str, &str), address: &str) -> Result<()> {
        let (namespace, device, key) = end;
        let (public, allowed, endpoint) = peer;
        let key = self.keys.path().join(key).display().to_string();
        ip(&[
            "netns",
            "exec",
            namespace,
            "wg",
            "set",
            device,
            "listen-port",
            "51820",
            "private-key",
            &key,
            "peer",
            public,
            "allowed-ips",
            allowed,
            "endpoint",
            endpoint,
        ])?;
        ip(&["-n", namespace, "addr", "add", address, "dev", device])?;
        ip(&["-n", namespace, "link", "set", device, "mtu", "1420", "up"])
    }

    pub(super) fn tunnel(&self) -> Tunnel {
        let pids = self.ends.iter().map(Process::pid).collect();
        let mut tunnel = Tunnel::new("gotatun pair (WireGuard in user space)", format!("10.98.0.2:{PORT}"), pids);
        tunnel.inside = ["ip", "netns", "exec", NEAR].map(ToOwned::to_owned).to_vec();
        tunnel
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        self._sink = None;
        self.ends.clear();
        remove_namespaces();
    }
}

fn remove_namespaces() {
    for name in [NEAR, FAR] {
        let _ = Command::new("ip").args(["netns", "del", name]).stderr(std::process::Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Where `bench/run` has put it.
fn gotatun() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("gotatun").join("bin").join("gotatun");
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("`{}` is missing; `bench/run tunnel` installs it", path.display()).into())
    }
}
