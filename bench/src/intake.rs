//! What people at a gateway feel while the controller takes in, makes durable and indexes as many records as it should.
//!
//! A controller, a gateway through which requests go at a fixed pace, and a second gateway that delivers records at a
//! fixed pace over the control channel: processes of their own on all cores of the machine, with the clients beside them.
//! Rounds without and with the second take turns.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, setpriority_process};
use serde_json::{Value, json};
use vouchsafe_agent::session::Session;
use vouchsafe_demo::admin::Admin;
use vouchsafe_gateway::Remote;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::RecordBatch;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};
use vouchsafe_runtime::vitals::Board;
use vouchsafe_wire::api::{GatewayInvited, Manifest};
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::fixed::BODY_BYTES;
use crate::load::{Connections, Pace, Target, Transport};
use crate::ours::{Door, Process, program};
use crate::questions::draft;
use crate::revoke::installed::{finished, free_port};
use crate::spread::Spread;
use crate::statistics::percentile;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Requests a second, and over how many connections.
const RATE: u32 = 500;
const CONNECTIONS: usize = 16;
/// Records a second that are delivered: the goal for what becomes durable.
const RECORDS: u64 = 100_000;
/// Records of one delivery.
const BATCH: u64 = 2_048;
const LENGTH: Duration = Duration::from_secs(10);
const ROUNDS: usize = 7;
/// Priorities (`nice(2)`) of what stands for other machines: the clients' answers are what is measured, so they get a core
/// at once; the other gateway only has to deliver as much as it should, which the figures say.
const CLIENTS_NICE: i32 = -10;
const FEEDER_NICE: i32 = 10;

/// `intake`.
pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let upstream = {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("fixed-plain");
        Process::announced_by(command)?
    };
    let listening = upstream.1.get("listening").and_then(Value::as_str).ok_or("no upstream")?.to_owned();
    let (port, for_gateways) = (free_port()?, free_port()?);
    let state = dir.path().join("state");
    let mut controller = Command::new(program()?);
    let gateways = format!("127.0.0.1:{for_gateways}");
    controller
        .args(["controller", "--json", "--port", &port.to_string(), "--gateways", &gateways, "--dir"])
        .arg(&state);
    let (controller, ready) = Process::announced_by(controller)?;
    let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (domain, root_pem) = (text("domain"), fs::read_to_string(text("root"))?);
    let tasks = TaskGroup::new();
    let admin = Admin::new(state.join("admin.sock"), tasks.clone());
    for name in ["served", "feeder"] {
        let invited: GatewayInvited = admin.post("/v1/gateways/invites", &json!({"name": name})).await?;
        let mut join = Command::new(program()?);
        join.args(["gateway", "join", "--dir"]).arg(dir.path().join(name));
        finished(join, &invited.code)?;
    }
    let mut gateway = Command::new(program()?);
    gateway.args(["gateway", "--json", "--listen", "127.0.0.1", "--dir"]).arg(dir.path().join("served"));
    let (_gateway, _) = Process::announced_by(gateway)?;
    let manifest: Manifest = serde_json::from_value(json!({
        "groups": [{"name": "administrators"}, {"name": "bench"}],
        "resources": [{"name": "app", "kind": "http", "upstream": format!("http://{listening}")}],
        "policy": with_ours(&admin).await?,
    }))?;
    admin.apply(manifest).await?;
    let door = Door { admin: &admin, port, root_pem: &root_pem, tasks: &tasks };
    let device_dir = dir.path().join("device");
    let device = door.enrol("bench", &["bench"], &device_dir).await?;
    let token = Session::on(device).token(AUDIENCE_GATEWAY).await?.ok_or("not signed in")?;
    let read = |name: &str| fs::read_to_string(device_dir.join("device").join(name));
    let (chain, key) = (read("device.pem")?, read("device.key")?);
    let identity = Credentials { chain_pem: &chain, key_pem: &key };
    let trust = ServerTrust::Roots(tls::roots(&root_pem, "bench")?);
    let host = format!("app.{domain}:{port}");
    let head = format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        token.expose()
    );
    let target = Target {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        server_name: format!("gw.{domain}"),
        tls: Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?),
        request: head.into_bytes(),
        body_bytes: BODY_BYTES,
    };
    let mut connections = Connections::open(&target, Transport::Tls, CONNECTIONS).await.map_err(|e| e.to_string())?;
    let mut feeder = Feeder::start(&dir.path().join("feeder"))?;
    // Clients stand for other machines: what is measured is how long an answer takes, not how long they wait for a core.
    priority(CLIENTS_NICE)?;
    let pace = Pace::PerSecond(RATE);
    let mut drive = async |length| connections.drive(pace, length).await.map_err(|error| error.to_string());
    drive(Duration::from_secs(2)).await?;
    let (mut alone, mut beside, mut taken, mut waiting) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut outcome = drive(LENGTH).await?;
        alone.push(times(&mut outcome.latencies));
        feeder.begin()?;
        let mut outcome = drive(LENGTH).await?;
        taken.push(feeder.end()?);
        waiting.push(unindexed(&state.join("audit"))?);
        beside.push(times(&mut outcome.latencies));
        // What is left of its work must not fall into the next round.
        indexed(&state.join("audit")).await?;
    }
    println!("{RATE} requests a second through a gateway; beside it {RECORDS} records a second for its controller");
    let show = |name: &str, of: &[(f64, f64)]| {
        let (p50, p99) = (of.iter().map(|(p50, _)| *p50), of.iter().map(|(_, p99)| *p99));
        println!("  {name:<8} p50 {} ms, p99 {} ms", Spread::of(p50), Spread::of(p99));
    };
    show("without", &alone);
    show("with", &beside);
    let ratios = beside.iter().zip(&alone).map(|((_, with), (_, without))| with / without);
    println!("  p99, with ÷ without: {} (goal: at most 2)", Spread::of(ratios));
    println!("  durable records a second: {}", Spread::of(taken.into_iter()));
    println!("  segments that waited for their index at the end of a round: {}", Spread::of(waiting.into_iter()));
    drop(controller);
    Ok(())
}

/// Gives all threads of this process another priority; those that they start have it too.
fn priority(nice: i32) -> Result<()> {
    for task in fs::read_dir("/proc/self/task")? {
        let name = task?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw).ok_or("no thread")?;
        setpriority_process(Some(id), nice).map_err(|error| format!("run this as root, to set priorities: {error}"))?;
    }
    Ok(())
}

/// How many closed segments have no terms yet.
fn unindexed(log: &Path) -> Result<f64> {
    let count = |ending: &str| -> Result<u32> {
        let names = fs::read_dir(log)?.filter_map(std::result::Result::ok).map(|entry| entry.file_name());
        Ok(u32::try_from(names.filter(|name| name.to_string_lossy().ends_with(ending)).count())?)
    };
    Ok(f64::from(count(".log")?.saturating_sub(1 + count(".terms")?)))
}

/// Waits until every closed segment has its terms.
async fn indexed(log: &Path) -> Result<()> {
    while unindexed(log)? > 0.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn with_ours(admin: &Admin) -> Result<Value> {
    let current: Value = admin.get("/v1/policy").await?;
    let mut files = current.get("files").cloned().unwrap_or_else(|| json!([]));
    let policy = "@id(\"bench\") permit (principal in Group::\"bench\", action, resource) \
                  when { context.device.grade != \"none\" };";
    if let Some(files) = files.as_array_mut() {
        files.push(json!({"name": "bench.cedar", "text": policy}));
    }
    Ok(files)
}

/// Median and 99th percentile, ms.
fn times(latencies: &mut [Duration]) -> (f64, f64) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    (millis(percentile(latencies, 50)), millis(percentile(latencies, 99)))
}

/// The second gateway, in a process of its own.
struct Feeder {
    process: std::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Feeder {
    fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("feed-records").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (input, output) = (process.stdin.take().ok_or("no pipe")?, process.stdout.take().ok_or("no pipe")?);
        let mut feeder = Self { process, input, output: BufReader::new(output) };
        feeder.line()?;
        Ok(feeder)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn begin(&mut self) -> Result<()> {
        Ok(writeln!(self.input, "begin")?)
    }

    /// Waits until it is done; gives the records a second that became durable.
    fn end(&mut self) -> Result<f64> {
        Ok(self.line()?.trim().parse()?)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `feed-records DIR`: attaches as the gateway that has joined there; at each line it gets, delivers for as long as a
/// round takes.
pub(crate) async fn feed(dir: &str) -> Result<()> {
    priority(FEEDER_NICE)?;
    let tasks = TaskGroup::new();
    let board = Board::new("bench", "0", tasks.clone());
    let remote = Remote::start(Path::new(dir), Vec::new(), &tasks, &board).await?;
    let (gateway, source) = (remote.identity.id, remote.identity.id.to_string());
    crate::say(&json!("attached"))?;
    let mut next = 0;
    for line in std::io::stdin().lines() {
        line?;
        let begun = Instant::now();
        let first = next;
        while begun.elapsed() < LENGTH {
            let now = clock::now().duration_since(UNIX_EPOCH)?.as_micros();
            let mut frames = Vec::new();
            for number in next..next + BATCH {
                draft(&source, number, u64::try_from(now)?)?.push_frame(number + 1, &mut frames);
            }
            let batch = RecordBatch { first_seq: next + 1, count: BATCH, frames: frames.into() };
            remote.link.deliver(gateway, batch).await?;
            next += BATCH;
            let due = Duration::from_micros((next - first) * 1_000_000 / RECORDS);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        // INVARIANT: a round's records are far fewer than what a float tells apart.
        #[allow(clippy::cast_precision_loss, reason = "see above")]
        crate::say(&json!(((next - first) as f64 / seconds).round()))?;
    }
    Ok(())
}
