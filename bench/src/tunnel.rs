//! One stream through a tunnel to a TCP sink: a bare rustls relay pair, vouchsafe, and WireGuard in
//! user space. Both ends of a tunnel share one processor, and who sends and receives has the other,
//! so the rate is bounded by what the tunnel costs.

pub(crate) mod ends;
mod wireguard;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::ours::{MEASURED, OTHERS, Ours, Process, listening, program};
use crate::spread::Spread;
use crate::{cpu, pki};
use wireguard::WireGuard;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Rounds, each with all contenders in turn.
const ROUNDS: usize = 7;
/// Seconds that a stream is sent in a round.
const SECONDS: u8 = 2;

/// Somebody to measure.
struct Tunnel {
    name: &'static str,
    /// Where the source connects.
    entrance: String,
    /// The processes that are the tunnel.
    pids: Vec<u32>,
    /// Program and arguments in front of the source's.
    inside: Vec<String>,
    up: Vec<Figure>,
    down: Vec<Figure>,
}

#[derive(Debug, Clone, Copy)]
struct Figure {
    gbit_per_second: f64,
    cpu_seconds_per_gb: f64,
}

impl Tunnel {
    fn new(name: &'static str, entrance: String, pids: Vec<u32>) -> Self {
        Self { name, entrance, pids, inside: Vec::new(), up: Vec::new(), down: Vec::new() }
    }

    fn measure(&self, way: &str) -> Result<Figure> {
        let this = std::env::current_exe()?;
        let spent = |pids: &[u32]| pids.iter().map(|pid| cpu::of(*pid).as_secs_f64()).sum::<f64>();
        let before = spent(&self.pids);
        let mut command = match self.inside.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg("taskset");
                command
            }
            None => Command::new("taskset"),
        };
        command.args(["-c", OTHERS]).arg(this).args(["tunnel-source", &self.entrance, way, &SECONDS.to_string()]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let cost = spent(&self.pids) - before;
        let said: Value =
            serde_json::from_slice(&output.stdout).map_err(|_| format!("{}, {way}: the stream broke", self.name))?;
        let number = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or_default();
        let gigabytes = number("bytes") / 1e9;
        Ok(Figure { gbit_per_second: gigabytes * 8.0 / number("seconds"), cpu_seconds_per_gb: cost / gigabytes })
    }
}

pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let this = std::env::current_exe()?;
    let (_sink, said) = Process::announced(OTHERS, &this, &["tunnel-sink", "127.0.0.1:0"])?;
    let sink = listening(&said)?;

    let (bare, _bare) = bare(dir.path(), &this, sink)?;
    let resources = json!([
        {"name": "sink", "kind": "tcp", "upstream": sink.to_string()},
    ]);
    let ours = Ours::start(dir.path(), &[], resources).await?;
    let (connect, _agent) = agent(&ours)?;
    let (plain, _client) = plain_client(dir.path(), &this, &ours, sink)?;
    let direct = Tunnel::new("no tunnel", sink.to_string(), Vec::new());
    let mut tunnels = vec![direct, bare, connect, plain];
    let wireguard = WireGuard::start(&this)?;
    tunnels.push(wireguard.tunnel());

    println!(
        "One stream, {SECONDS} s each way, {ROUNDS} rounds in turn; both ends of the tunnel on one processor. TCP's congestion control: {}",
        fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default().trim()
    );
    for _ in 0..ROUNDS {
        for tunnel in &mut tunnels {
            tunnel.up.push(tunnel.measure("up")?);
            tunnel.down.push(tunnel.measure("down")?);
        }
    }
    print(&tunnels);
    Ok(())
}

fn print(tunnels: &[Tunnel]) {
    let rate = |figure: &Figure| figure.gbit_per_second;
    let cost = |figure: &Figure| figure.cpu_seconds_per_gb;
    println!("| tunnel | up Gbit/s | CPU s/GB | down Gbit/s | CPU s/GB |\n| --- | --- | --- | --- | --- |");
    for tunnel in tunnels {
        let of = |figures: &[Figure], what: &dyn Fn(&Figure) -> f64| Spread::of(figures.iter().map(what)).median;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            tunnel.name,
            of(&tunnel.up, &rate),
            of(&tunnel.up, &cost),
            of(&tunnel.down, &rate),
            of(&tunnel.down, &cost),
        );
    }
    println!("\n| ratio, median (least–most) | up Gbit/s | up CPU per GB | down Gbit/s | down CPU per GB |");
    println!("| --- | --- | --- | --- | --- |");
    for (ours, theirs) in [(2, 1), (3, 1), (2, 4), (3, 4)] {
        let (Some(ours), Some(theirs)) = (tunnels.get(ours), tunnels.get(theirs)) else { continue };
        let ratio = |mine: &[Figure], others: &[Figure], what: &dyn Fn(&Figure) -> f64| {
            Spread::of(mine.iter().zip(others).map(|(mine, other)| what(mine) / what(other)))
        };
        println!(
            "| {} ÷ {} | {} | {} | {} | {} |",
            ours.name,
            theirs.name,
            ratio(&ours.up, &theirs.up, &rate),
            ratio(&ours.up, &theirs.up, &cost),
            ratio(&ours.down, &theirs.down, &rate),
            ratio(&ours.down, &theirs.down, &cost),
        );
    }
}

/// The same provider and algorithms as ours, `copy_bidirectional`, and nothing else.
fn bare(dir: &Path, this: &Path, sink: SocketAddr) -> Result<(Tunnel, [Process; 2])> {
    pki::make(dir)?;
    let certificates = dir.display().to_string();
    let (out, said) =
        Process::announced(MEASURED, this, &["tunnel-out", "127.0.0.1:0", &sink.to_string(), &certificates])?;
    let to = listening(&said)?.to_string();
    let (entrance, said) = Process::announced(MEASURED, this, &["tunnel-in", "127.0.0.1:0", &to, &certificates])?;
    let pids = vec![entrance.pid(), out.pid()];
    Ok((Tunnel::new("bare rustls relay pair", listening(&said)?.to_string(), pids), [entrance, out]))
}

/// Our agent and our gateway, HTTP/2 between them.
fn agent(ours: &Ours) -> Result<(Tunnel, Process)> {
    let dir = ours.device_dir.display().to_string();
    let arguments = ["connect", "sink", "--listen", "0", "--json", "--dir", &dir];
    let (agent, said) = Process::announced(MEASURED, &program()?, &arguments)?;
    let pids = vec![agent.pid(), ours.process.pid()];
    Ok((Tunnel::new("vouchsafe, agent and gateway (HTTP/2)", listening(&said)?.to_string(), pids), agent))
}

/// A bare client that asks our gateway for a tunnel in HTTP/1.1.
fn plain_client(dir: &Path, this: &Path, ours: &Ours, sink: SocketAddr) -> Result<(Tunnel, Process)> {
    let file: PathBuf = dir.join("connect.json");
    let read = |name: &str| fs::read_to_string(ours.device_dir.join("device").join(name));
    let given = json!({
        "address": ours.address().to_string(),
        "server_name": ours.gateway_name(),
        "target": format!("sink.{}:{}", ours.domain, sink.port()),
        "authorization": ours.proxy_authorization(),
        "chain": read("device.pem")?,
        "key": read("device.key")?,
        "root": ours.root_pem,
    });
    fs::write(&file, given.to_string())?;
    let (client, said) =
        Process::announced(MEASURED, this, &["tunnel-connect", "127.0.0.1:0", &file.display().to_string()])?;
    let pids = vec![client.pid(), ours.process.pid()];
    Ok((Tunnel::new("bare client and gateway (HTTP/1.1)", listening(&said)?.to_string(), pids), client))
}
