//! Floods: how long honest clients wait while somebody floods the gateway, beside how long they wait
//! when nobody does, in turn.
//!
//! The honest ones ask at fixed instants, whether they are answered or not, and an answer's time counts
//! from the instant at which it was due. Gateway on one processor; everything else has the other, the
//! flood with the least priority there, so that it is the gateway who keeps the honest waiting.

pub(crate) mod attack;

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::asking::{Failure, Stream, Target};
use crate::fixed::BODY_BYTES;
use crate::memory;
use crate::ours::{MEASURED, OTHERS, Ours, Process, listening};
use crate::spread::Spread;
use attack::FLOODS;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 5;
/// How long is asked for in one round of one flood.
const ROUND: Duration = Duration::from_secs(1);
/// How long a flood has to get going.
const RISE: Duration = Duration::from_millis(500);
/// Connections of the honest, and how often each asks.
const HONEST: usize = 4;
const EVERY: Duration = Duration::from_millis(5);

pub(crate) async fn run(only: Option<String>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let this = std::env::current_exe()?;
    let (_upstream, said) = Process::announced(OTHERS, &this, &["fixed-plain"])?;
    let resources = json!([{"name": "app", "kind": "http", "upstream": format!("http://{}", listening(&said)?)}]);
    let ours = Ours::start(dir.path(), &[], resources).await?;
    let victim = dir.path().join("victim.json");
    std::fs::write(&victim, attack::Victim::of(&ours)?.to_json().to_string())?;
    let target = ours.get("app", "/", BODY_BYTES)?;
    let mut honest = target.hold(HONEST, |_| Ipv4Addr::LOCALHOST).await.map_err(|error| error.to_string())?;
    let pid = ours.process.pid();
    println!(
        "{HONEST} honest clients, each asking every {EVERY:?}; {ROUNDS} rounds of {ROUND:?} without and with each flood in turn; gateway on processor {MEASURED}"
    );
    println!(
        "| flood | p99 without, ms | p99 during, ms | ratio | largest memory, MiB |\n| --- | --- | --- | --- | --- |"
    );
    let mut over = Vec::new();
    for flood in FLOODS.iter().filter(|flood| only.as_deref().is_none_or(|only| only == flood.name)) {
        let (mut without, mut during, mut most) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            without.push(p99(&target, &mut honest).await.map_err(|error| format!("{}: {error}", flood.name))?);
            let raging = Raging::start(&this, flood.name, &victim)?;
            tokio::time::sleep(RISE).await;
            during.push(p99(&target, &mut honest).await.map_err(|error| format!("{}: {error}", flood.name))?);
            most = most.max(memory::resident_kib(pid));
            drop(raging);
            // What the flood left is cleared away before the next measurement.
            tokio::time::sleep(RISE).await;
        }
        let ratio = Spread::of(during.iter().zip(&without).map(|(during, without)| during / without));
        println!(
            "| {} | {:.2} | {:.2} | {ratio} | {:.0} |",
            flood.words,
            Spread::of(without.into_iter()).median,
            Spread::of(during.into_iter()).median,
            most as f64 / 1024.0
        );
        if ratio.median >= 2.0 {
            over.push(flood.name);
        }
    }
    println!();
    if !over.is_empty() {
        println!("twice the normal or more: {}\n", over.join(", "));
    }
    Ok(())
}

/// The time within which 99 of 100 answers came, in milliseconds.
async fn p99(target: &Target, streams: &mut Vec<Stream>) -> std::result::Result<f64, Failure> {
    let (mut asking, begun) = (JoinSet::new(), Instant::now());
    for (number, mut stream) in streams.drain(..).enumerate() {
        let target = target.clone();
        asking.spawn(async move {
            let mut latencies = Vec::new();
            // Not all at the same instant.
            let mut due = begun + EVERY / u32::try_from(HONEST)? * u32::try_from(number)?;
            while due < begun + ROUND {
                tokio::time::sleep_until(due.into()).await;
                target.ask(&mut stream).await?;
                latencies.push(due.elapsed());
                due += EVERY;
            }
            Ok::<_, Failure>((stream, latencies))
        });
    }
    let mut all = Vec::new();
    while let Some(asked) = asking.join_next().await {
        let (stream, latencies) = asked??;
        streams.push(stream);
        all.extend(latencies);
    }
    Ok(crate::statistics::percentile(&mut all, 99).as_secs_f64() * 1e3)
}

/// A flood that goes on until it is dropped.
struct Raging(Child);

impl Raging {
    fn start(this: &Path, name: &str, victim: &PathBuf) -> Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "taskset", "-c", OTHERS]).arg(this).arg("attack").arg(name).arg(victim);
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Raging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
