//! Processor time of a new connection: a bare rustls server that verifies client certificates, and
//! the gateway, which also looks the device up. Each new connection asks once; what a request costs
//! on a connection that is there already is taken off again.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use serde_json::json;
use tokio::task::JoinSet;

use crate::asking::{Failure, Target};
use crate::fixed::BODY_BYTES;
use crate::ours::{MEASURED, OTHERS, Ours, Process, listening};
use crate::spread::Spread;
use crate::{cpu, pki};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 7;
/// New connections of each kind in a round.
const CONNECTIONS: usize = 800;
/// Made at the same time.
const AT_ONCE: usize = 8;
/// For how long requests are made on connections that are there already.
const KEPT: Duration = Duration::from_millis(700);

struct Contender {
    name: &'static str,
    pid: u32,
    target: Target,
    /// Microseconds: full, resumed, a request.
    full: Vec<f64>,
    resumed: Vec<f64>,
    request: Vec<f64>,
}

pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let this = std::env::current_exe()?;
    pki::make(dir.path())?;
    let certificates = dir.path().display().to_string();
    let (bare, said) = Process::announced(MEASURED, &this, &["fixed-mtls", &certificates])?;
    let target = Target {
        address: listening(&said)?,
        server_name: "bench.test".into(),
        tls: Arc::new(pki::client(dir.path())?),
        request: (*b"GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n").into(),
        body_bytes: BODY_BYTES,
    };
    let bare_one = contender("bare rustls, mTLS", bare.pid(), target);
    let (_upstream, said) = Process::announced(OTHERS, &this, &["fixed-plain"])?;
    let resources = json!([{"name": "app", "kind": "http", "upstream": format!("http://{}", listening(&said)?)}]);
    let ours = Ours::start(dir.path(), &[], resources).await?;
    let gateway = contender("vouchsafe, device looked up", ours.process.pid(), ours.get("app", "/", BODY_BYTES)?);

    println!(
        "New connections over mTLS (TLS 1.3, X25519MLKEM768, P-256), {CONNECTIONS} of each kind in {ROUNDS} rounds in turn, {AT_ONCE} at once"
    );
    let mut contenders = [bare_one, gateway];
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            round(contender).await.map_err(|error| format!("{}: {error}", contender.name))?;
        }
    }
    println!("| | full, CPU µs | resumed, CPU µs | resumed ÷ full |\n| --- | --- | --- | --- |");
    for Contender { name, full, resumed, .. } in &contenders {
        let ratio = Spread::of(resumed.iter().zip(full).map(|(resumed, full)| resumed / full));
        let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
        println!("| {name} | {:.0} | {:.0} | {ratio} |", median(full), median(resumed));
    }
    let [bare, gateway] = &contenders;
    let ratio = |ours: &[f64], theirs: &[f64]| Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    println!(
        "| vouchsafe ÷ bare | {} | {} | |\n",
        ratio(&gateway.full, &bare.full),
        ratio(&gateway.resumed, &bare.resumed)
    );
    Ok(())
}

fn contender(name: &'static str, pid: u32, target: Target) -> Contender {
    Contender { name, pid, target, full: Vec::new(), resumed: Vec::new(), request: Vec::new() }
}

async fn round(contender: &mut Contender) -> std::result::Result<(), Failure> {
    let with = |resumption: Resumption| {
        let mut config: ClientConfig = (*contender.target.tls).clone();
        config.resumption = resumption;
        Target { tls: Arc::new(config), ..contender.target.clone() }
    };
    let full = with(Resumption::disabled());
    // Room for the tickets of all that are made at once.
    let resuming = with(Resumption::in_memory_sessions(64));
    let pid = contender.pid;
    let kept = cost(pid, async {
        let mut streams = full.hold(AT_ONCE, |_| Ipv4Addr::LOCALHOST).await?;
        // Both costs are of the same round, so what the machine does meanwhile falls on both.
        let before = cpu::of(pid);
        let answered = full.during(&mut streams, KEPT).await?.len();
        Ok((answered, Some(cpu::of(pid).saturating_sub(before))))
    })
    .await?;
    let first = cost(pid, async { Ok((connect(&full, rustls::HandshakeKind::Full).await?, None)) }).await?;
    // The first ones get tickets and are not counted.
    connect_each(&resuming, AT_ONCE, None).await?;
    let again = cost(pid, async { Ok((connect(&resuming, rustls::HandshakeKind::Resumed).await?, None)) }).await?;
    contender.request.push(kept);
    contender.full.push(first - kept);
    contender.resumed.push(again - kept);
    Ok(())
}

/// Microseconds of that process for each of what the work counts.
async fn cost(
    pid: u32,
    work: impl Future<Output = std::result::Result<(usize, Option<Duration>), Failure>>,
) -> std::result::Result<f64, Failure> {
    let before = cpu::of(pid);
    let (count, spent) = work.await?;
    // What a connection's end still costs belongs to it.
    settled(pid).await;
    let spent = spent.unwrap_or_else(|| cpu::of(pid).saturating_sub(before));
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    Ok(spent.as_secs_f64() * 1e6 / count as f64)
}

/// Waits until a process does nothing for a moment.
async fn settled(pid: u32) {
    let begun = Instant::now();
    let mut before = cpu::of(pid);
    while begun.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(120)).await;
        let now = cpu::of(pid);
        if now.saturating_sub(before) < Duration::from_millis(2) {
            return;
        }
        before = now;
    }
}

async fn connect(target: &Target, kind: rustls::HandshakeKind) -> std::result::Result<usize, Failure> {
    connect_each(target, CONNECTIONS, Some(kind)).await
}

/// New connections, each with one request; all must have been made in that way.
async fn connect_each(
    target: &Target,
    count: usize,
    kind: Option<rustls::HandshakeKind>,
) -> std::result::Result<usize, Failure> {
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let target = target.clone();
        workers.spawn(async move {
            for _ in 0..count / AT_ONCE {
                let mut stream = target.connect(Ipv4Addr::LOCALHOST).await?;
                target.ask(&mut stream).await?;
                let made = stream.get_ref().1.handshake_kind();
                if kind.is_some() && made != kind {
                    return Err(format!("a handshake was {made:?} and should be {kind:?}").into());
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(count)
}
