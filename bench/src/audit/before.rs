//! What it costs to answer only once the record of the decision is on disk (`audit = "before"`):
//! the same app twice behind the whole gateway, 64 connections on either in turn.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;

use crate::fixed::BODY_BYTES;
use crate::ours::{OTHERS, Ours, Process, listening};
use crate::spread::Spread;
use crate::statistics::{micros, percentile};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1_500);

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    // Not where temporary files go: that may be memory.
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let (_upstream, said) = Process::announced(OTHERS, &std::env::current_exe()?, &["fixed-plain"])?;
    let upstream = format!("http://{}", listening(&said)?);
    let resources = json!([
        {"name": "soon", "kind": "http", "upstream": upstream},
        {"name": "before", "kind": "http", "upstream": upstream, "audit": "before"},
    ]);
    let ours = Ours::start(dir.path(), &[], resources).await?;
    let said = |error: Box<dyn Error + Send + Sync>| error.to_string();
    let mut apps = Vec::new();
    for name in ["soon", "before"] {
        let target = ours.get(name, "/", BODY_BYTES)?;
        let streams = target.hold(CONNECTIONS, |_| Ipv4Addr::LOCALHOST).await.map_err(said)?;
        apps.push((name, target, streams, Vec::new(), Vec::new()));
    }
    println!("requests over {CONNECTIONS} connections, {ROUNDS} rounds of {ROUND:?} in turn, gateway on one processor");
    for _ in 0..ROUNDS {
        for (_, target, streams, rates, p99) in &mut apps {
            let mut latencies = target.during(streams, ROUND).await.map_err(said)?;
            #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
            rates.push(latencies.len() as f64 / ROUND.as_secs_f64());
            p99.push(micros(percentile(&mut latencies, 99)));
        }
    }
    println!("| the record is on disk | requests/s | p99 µs |\n| --- | --- | --- |");
    for ((name, _, _, rates, p99), words) in apps.iter().zip(["within 100 ms (`soon`)", "before the answer (`before`)"])
    {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
        debug_assert!(words.contains(name));
        println!("| {words} | {:.0} | {:.0} |", median(rates), median(p99));
    }
    if let [(_, _, _, soon, _), (_, _, _, before, _)] = apps.as_slice() {
        println!(
            "throughput, before ÷ soon: {}\n",
            Spread::of(before.iter().zip(soon).map(|(before, soon)| before / soon))
        );
    }
    Ok(())
}
