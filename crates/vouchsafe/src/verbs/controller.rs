//! `controller`: the controller alone, for gateways that are processes of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use vouchsafe_control::{ChannelOptions, Controller, MAX_CONNECTIONS, OpenOptions, SHORTEST_KEEP_DAYS, Witnesses};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::link::LEASE;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::vitals::Board;

use crate::call::Call;
use crate::collector::{TracesArgs, Variables};
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::prover::{self, Started};
use crate::sandbox::{self, Demand, Needs, Sandbox};
use crate::verbs::logs::{LogArgs, LogFormat};
use crate::verbs::vitals::VitalsArgs;
use crate::verbs::{serve, show_link};
use crate::wiring::{self, UpError, copy_in};
use crate::witnesses;

/// Starts a controller, which gateways attach to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe controller --domain access.example.org --port 443")]
pub(crate) struct Args {
    /// Domain under which all names live; point `*.<domain>` at the gateways.
    #[arg(long, default_value = "vouchsafe.localhost", value_parser = BaseDomain::parse)]
    domain: BaseDomain,
    /// Port under which clients reach the gateways.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Where to listen for gateways; port 0 takes a free one [default: port 8444, on loopback for
    /// `*.localhost`, otherwise on all addresses].
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateways: Option<SocketAddr>,
    /// Name or address by which gateways reach this machine; without it the address that is listened on, or
    /// `control.<domain>`.
    #[arg(long, value_name = "HOST")]
    gateways_host: Option<String>,
    /// Seconds that gateways may act on what they were told without a sign of life of the controller, 3 to
    /// 3600; a resource's `--offline-grace` comes on top.
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE.as_secs(), value_parser = clap::value_parser!(u64).range(3..=3600))]
    lease: u64,
    /// Whether the process must give up what it doesn't need (files, programs, privileges).
    #[arg(long, value_enum, default_value_t = Demand::BestEffort)]
    sandbox: Demand,
    #[command(flatten)]
    vitals: VitalsArgs,
    #[command(flatten)]
    traces: TracesArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Connections that this process can hold.
    #[arg(skip)]
    connections: usize,
    /// Directory, best on another machine, that keeps a copy of the newest checkpoint of the audit log: a log that was set
    /// back is told from it [default: none].
    #[arg(long, value_name = "DIR")]
    checkpoint_copy: Option<PathBuf>,
    /// Days after which audit records are removed; their hashes stay, so that what was signed can be verified
    /// [default: they are kept for good].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(i64::from(SHORTEST_KEEP_DAYS)..=36_500))]
    audit_keep: Option<u32>,
    /// File that says which witnesses are asked to cosign checkpoints of the audit log [default: none].
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
    /// Program that proves what is to hold of a policy before it is published.
    #[arg(long, value_name = "PROGRAM", default_value = "cvc5")]
    solver: PathBuf,
    #[arg(skip)]
    prover: Option<Started>,
    #[arg(skip)]
    asked_to_cosign: Witnesses,
    #[arg(skip)]
    entered: Option<Sandbox>,
}

impl Args {
    /// Form of the log.
    pub(crate) const fn log_format(&self) -> LogFormat {
        self.log.log_format
    }
}

/// Settles where to listen, and enters the sandbox. The process has one thread yet.
///
/// # Errors
/// [`VerbError`] when there is no free port, or the sandbox is required and not to be had.
pub(crate) fn confine(args: &mut Args, dir: &Path, telemetry: &Variables) -> Result<(), VerbError> {
    let local = args.domain.as_str().ends_with(".localhost");
    let anywhere: IpAddr = if local { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut listen = args.gateways.unwrap_or(SocketAddr::new(anywhere, 8444));
    if listen.port() == 0 {
        listen.set_port(wiring::free_port(&[listen.ip()]).map_err(UpError::Port)?);
    }
    args.gateways = Some(listen);
    // Raised while that is still allowed.
    args.connections = wiring::affordable(MAX_CONNECTIONS);
    args.traces.settle(telemetry)?;
    args.asked_to_cosign = witnesses::read(args.witnesses.as_deref())?;
    sandbox::make_dir(dir).map_err(|source| UpError::File { path: dir.to_owned(), source })?;
    let ports = [listen.port()].into_iter().chain(args.vitals.confine()?).collect();
    let needs = Needs {
        dir: dir.to_owned(),
        read: Vec::new(),
        write: args.checkpoint_copy.clone().into_iter().collect(),
        ports,
    };
    args.prover = prover::try_start(&args.solver, args.sandbox);
    args.entered = sandbox::enter(args.sandbox, &needs).map_err(|error| {
        VerbError::of(Exit::Failed, &error).hint("start it with `--sandbox best-effort`, or mend what is missing")
    })?;
    Ok(())
}

/// Runs until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// [`VerbError`] when it can't start, or when a part of it ends unexpectedly.
pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let begun = Instant::now();
    let Args {
        domain,
        port,
        gateways,
        gateways_host,
        lease,
        vitals,
        traces,
        connections,
        prover,
        entered,
        checkpoint_copy,
        audit_keep,
        asked_to_cosign,
        ..
    } = args;
    let tasks = TaskGroup::new();
    let signals = serve::Signals::catch()?;
    let Some(listen) = gateways else { return Err(VerbError::usage("no address to listen on for gateways")) };
    let host = gateways_host.unwrap_or_else(|| match listen.ip() {
        ip if ip.is_unspecified() => domain.host("control"),
        ip => ip.to_string(),
    });
    let board = Board::new("controller", env!("CARGO_PKG_VERSION"), tasks.clone());
    let shown = vitals.show(&board).await?;
    let options = OpenOptions {
        dir: call.dir.clone(),
        domain: domain.clone(),
        port,
        acme: None,
        checkpoint_copy: checkpoint_copy.map(copy_in),
        keep_days: audit_keep,
        witnesses: asked_to_cosign,
    };
    let controller = Controller::open(options, tasks.clone()).await.map_err(UpError::Controller)?;
    prover::prove_with(&controller, prover, &tasks);
    // Only now is the directory certainly ours.
    shown.to_owner(&call.dir).await;
    board.add(controller.vitals());
    let (root_file, root_sha256) = wiring::publish_root(&call.dir, controller.root_pem())?;
    let lease_time = Duration::from_secs(lease);
    let (host_told, spans) = (host.clone(), traces.settled);
    let options = ChannelOptions { listen: vec![listen], host: host_told, lease: lease_time, connections, spans };
    let addresses = controller.serve_gateways(options).await.map_err(UpError::Controller)?;
    controller.serve_admin().await.map_err(UpError::Controller)?;
    board.complete();
    let invite = controller.first_invite();
    let origin = |label: &str| wiring::origin(&domain, port, label);
    let listening: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if call.out.is_json() {
        call.out.json(&json!({
            "event": "ready",
            "role": "controller",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "domain": domain.as_str(),
            "port": port,
            "gateways": listening,
            "gateways_host": host,
            "lease": lease,
            "root": root_file,
            "root_sha256": root_sha256,
            "sandbox": entered,
            "metrics": shown.address,
            "first_invite": invite.map(|invite| &invite.link),
        }))?;
    } else {
        let out = &call.out;
        out.line(&format!("{} ready in {} ms", out.paint(Style::Good, "●"), begun.elapsed().as_millis()))?;
        let mut facts = vec![
            ("gateways", format!("attach at {host}, port {}; now: `vouchsafe gateway invite NAME`", listen.port())),
            ("console", out.paint(Style::Accent, &origin("console"))),
            ("root", format!("{} (trust it in your browser)", root_file.display())),
            ("sha256", root_sha256.clone()),
        ];
        facts.extend(shown.words().map(|words| ("metrics", words)));
        out.facts(&facts)?;
        if let Some(invite) = invite {
            let words = "You are the first: when a gateway is there, open this to register your passkey.";
            out.line(&format!("\n{}", out.paint(Style::Bold, words)))?;
            show_link(call, &invite.link, invite.expires)?;
        }
    }
    let served = signals.serve(&tasks, call, || {}).await;
    shown.end().await;
    served.map(|()| Exit::Ok)
}
