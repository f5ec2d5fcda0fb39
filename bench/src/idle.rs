//! Memory of idle connections: mutual TLS, one request each, then held.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::contenders;
use crate::cpu;
use crate::load::{self, Target};

type Stream = TlsStream<TcpStream>;
type Failure = Box<dyn Error + Send + Sync>;

/// Connections from each loopback address.
const PER_ADDRESS: usize = 2_000;
/// Handshakes at once.
const AT_ONCE: usize = 64;
/// How long they rest before memory is read.
const REST: Duration = Duration::from_secs(8);

/// Holds that many connections with each contender, one after the other.
pub(crate) async fn run(connections: usize) -> Result<(), Box<dyn Error>> {
    let files = Some(u64::try_from(connections)? + 1_000);
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files })?;
    let dir = tempfile::tempdir()?;
    let (upstream, _upstream_server) = contenders::nginx_upstream(dir.path())?;
    let (nginx, _nginx_server) = contenders::nginx_mtls(dir.path(), upstream)?;
    let (vouchsafe, _vouchsafe_server) = contenders::vouchsafe(dir.path(), upstream).await?;
    println!("{connections} idle connections, HTTP/1.1 over mTLS, one request each, then {REST:?} of rest");
    println!(
        "{:>28} {:>12} {:>12} {:>16} {:>22}",
        "", "before MiB", "held MiB", "KiB/connection", "a new one, milliseconds"
    );
    for contender in [&nginx, &vouchsafe] {
        let before = resident_kib(contender.pid);
        let held = open(&contender.target, connections).await.map_err(|error| error.to_string())?;
        tokio::time::sleep(REST).await;
        let after = resident_kib(contender.pid);
        let begun = std::time::Instant::now();
        let one = connect(contender.target.clone(), Ipv4Addr::new(127, 0, 1, 1)).await;
        let one = one.map_err(|error| error.to_string())?;
        let took = begun.elapsed();
        println!(
            "{:>28} {:>12.1} {:>12.1} {:>16.1} {:>22.1}",
            contender.name,
            before as f64 / 1024.0,
            after as f64 / 1024.0,
            after.saturating_sub(before) as f64 / connections as f64,
            took.as_secs_f64() * 1e3,
        );
        drop((one, held));
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

async fn open(target: &Target, connections: usize) -> Result<Vec<Stream>, Failure> {
    let mut held = Vec::with_capacity(connections);
    let mut opening = JoinSet::new();
    for number in 0..connections {
        let last = u8::try_from(1 + number / PER_ADDRESS % 250)?;
        opening.spawn(connect(target.clone(), Ipv4Addr::new(127, 0, 0, last)));
        if opening.len() >= AT_ONCE
            && let Some(one) = opening.join_next().await
        {
            held.push(one??);
        }
    }
    while let Some(one) = opening.join_next().await {
        held.push(one??);
    }
    Ok(held)
}

async fn connect(target: Target, from: Ipv4Addr) -> Result<Stream, Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::V4(from), 0).into())?;
    let tcp = socket.connect(target.address).await?;
    let name = ServerName::try_from(target.server_name.clone())?;
    let mut stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, tcp).await?;
    load::ask(&mut stream, &target).await?;
    Ok(stream)
}

/// Resident memory of a process and its children.
fn resident_kib(pid: u32) -> u64 {
    let of_one = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    cpu::family(pid).into_iter().filter_map(of_one).sum()
}
