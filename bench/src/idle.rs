//! Memory of idle connections: each has asked once and is silent then. nginx that terminates mTLS, and
//! vouchsafe with nothing but its defaults: so many connections are those of many people, each on a
//! device of her own, who come from several addresses.

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::asking::{Failure, Stream, Target};
use crate::fixed::BODY_BYTES;
use crate::ours::{OTHERS, Ours, Process, listening};
use crate::spread::Spread;
use crate::{contenders, memory};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is held for the comparison.
const COMPARED: usize = 10_000;
const ROUNDS: usize = 3;
/// What is held beside new sign-ins.
const MANY: usize = 50_000;
/// Connections of one person, within the default limit of 2,000.
const PER_PERSON: usize = 1_900;
/// Connections from each loopback address, within what a port's number leaves room for.
const PER_ADDRESS: usize = 2_000;
/// How long they rest before memory is read.
const REST: Duration = Duration::from_secs(6);

pub(crate) async fn run() -> Result<()> {
    let files = Some(u64::try_from(MANY)? + 1_000);
    if setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).is_ok() {
        compare().await?;
        return hold_many().await;
    }
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    compare().await?;
    let most = most.unwrap_or_default();
    println!("{MANY} connections can't be held here: {most} open files are allowed, and root may not raise that");
    Ok(())
}

/// So many with each, in a fresh process each time.
async fn compare() -> Result<()> {
    println!(
        "{COMPARED} idle connections (HTTP/1.1 over mTLS, one request each, then {REST:?} of rest), {ROUNDS} rounds in turn"
    );
    let (mut nginx, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir()?;
        let (upstream, _upstream_server) = contenders::nginx_upstream(dir.path())?;
        let (contender, _server) = contenders::nginx_mtls(dir.path(), upstream)?;
        let target = Target {
            address: contender.target.address,
            server_name: contender.target.server_name.clone(),
            tls: contender.target.tls.clone(),
            request: contender.target.request.clone().into(),
            body_bytes: contender.target.body_bytes,
        };
        nginx.push(grown_by(contender.pid, &[target], COMPARED).await.map_err(|error| error.to_string())?.0);
        let dir = tempfile::tempdir()?;
        let (installed, targets, _upstream) = installed(dir.path(), COMPARED).await?;
        let pid = installed.process.pid();
        ours.push(grown_by(pid, &targets, COMPARED).await.map_err(|error| error.to_string())?.0);
    }
    println!("| | KiB per connection |\n| --- | --- |");
    println!("| nginx, mTLS | {} |", Spread::of(nginx.iter().copied()));
    println!("| vouchsafe, device and session proven | {} |", Spread::of(ours.iter().copied()));
    println!("| vouchsafe ÷ nginx | {} |\n", Spread::of(ours.iter().zip(&nginx).map(|(ours, nginx)| ours / nginx)));
    Ok(())
}

/// Many more, beside which somebody new gets a passkey, enrols a device and signs in on it.
async fn hold_many() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (ours, targets, _upstream) = installed(dir.path(), MANY).await?;
    let pid = ours.process.pid();
    let begun = Instant::now();
    ours.sign_in("before", &dir.path().join("before")).await?;
    let before = begun.elapsed();
    let (each, mut held) = grown_by(pid, &targets, MANY).await.map_err(|error| error.to_string())?;
    let begun = Instant::now();
    ours.sign_in("late", &dir.path().join("late")).await?;
    let late = begun.elapsed();
    // All of them are still there, and are answered.
    for (stream, target) in held.iter_mut() {
        target.ask(stream).await.map_err(|error| format!("a held connection: {error}"))?;
    }
    println!(
        "| connections held and answered again | KiB per connection | resident, MiB | sign-in before, ms | sign-in beside them, ms |"
    );
    println!("| --- | --- | --- | --- | --- |");
    println!(
        "| {} | {each:.1} | {:.0} | {:.0} | {:.0} |\n",
        held.len(),
        memory::resident_kib(pid) as f64 / 1024.0,
        before.as_secs_f64() * 1e3,
        late.as_secs_f64() * 1e3,
    );
    Ok(())
}

/// An installation with as many people as are needed for so many connections.
async fn installed(dir: &Path, connections: usize) -> Result<(Ours, Vec<Target>, Process)> {
    let (upstream, said) = Process::announced(OTHERS, &std::env::current_exe()?, &["fixed-plain"])?;
    let resources = json!([{"name": "app", "kind": "http", "upstream": format!("http://{}", listening(&said)?)}]);
    let ours = Ours::start(dir, &[], resources).await?;
    let mut targets = vec![ours.get("app", "/", BODY_BYTES)?];
    while targets.len() * PER_PERSON < connections {
        let name = format!("person-{}", targets.len());
        let device = dir.join(&name);
        let token = ours.sign_in(&name, &device).await?;
        targets.push(ours.get_as(&device, &token, "app", "/", BODY_BYTES)?);
    }
    Ok((ours, targets, upstream))
}

/// KiB that a process grows by for each connection, and the connections.
async fn grown_by(
    pid: u32,
    targets: &[Target],
    connections: usize,
) -> std::result::Result<(f64, Vec<(Stream, Target)>), Failure> {
    let before = memory::resident_kib(pid);
    let mut held = Vec::with_capacity(connections);
    for (number, target) in targets.iter().enumerate() {
        let count = (connections - held.len()).min(connections.div_ceil(targets.len()));
        let first = number * connections.div_ceil(targets.len());
        let from =
            |at: usize| Ipv4Addr::new(127, 0, 0, u8::try_from(1 + (first + at) / PER_ADDRESS % 250).unwrap_or(1));
        held.extend(target.hold(count, from).await?.into_iter().map(|stream| (stream, target.clone())));
    }
    tokio::time::sleep(REST).await;
    let grown = memory::resident_kib(pid).saturating_sub(before);
    Ok((grown as f64 / connections as f64, held))
}
