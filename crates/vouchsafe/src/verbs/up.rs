//! `up`: controller and gateway in one process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use vouchsafe_control::{AcmeOptions, ChallengeKind, DATABASE, SHORTEST_KEEP_DAYS, Witnesses};
use vouchsafe_gateway::{ConnectionLimits, Http3, Proxy};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE};
use vouchsafe_runtime::task::{Drained, TaskGroup};
use vouchsafe_runtime::vitals::Board;

use crate::call::Call;
use crate::collector::{TracesArgs, Variables};
use crate::error::VerbError;
use crate::exit::Exit;
use crate::look::{self, Looking};
use crate::output::Style;
use crate::prover::{self, Started};
use crate::proxies;
use crate::sandbox::{self, Demand, Needs, Sandbox};
use crate::verbs::logs::{LogArgs, LogFormat};
use crate::verbs::serve::{Signals, ended};
use crate::verbs::show_link;
use crate::verbs::vitals::{Shown, VitalsArgs};
use crate::wiring::{self, Running, UpError, UpOptions};
use crate::witnesses;

/// Starts controller and gateway on this machine, with everything they need.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vouchsafe up --domain access.example.org --port 443")]
pub(crate) struct Args {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Domain under which all names live; point `*.<domain>` at this machine.
    #[arg(long, default_value = "vouchsafe.localhost", value_parser = BaseDomain::parse)]
    domain: BaseDomain,
    /// Address to listen on, may be given more than once [default: loopback for `*.localhost`, otherwise all].
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<IpAddr>,
    /// PEM chain to show browsers instead of our own certificate; it must cover `*.<domain>`.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM key of `--tls-cert`.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Don't serve HTTP/3, which otherwise takes the UDP port of the same number.
    #[arg(long)]
    no_http3: bool,
    /// Directory of an ACME authority (RFC 8555) to get browsers' certificates from; by giving it you
    /// agree to the authority's terms of service.
    #[arg(long, value_name = "URL", value_parser = directory, conflicts_with = "tls_cert")]
    acme: Option<String>,
    /// Where the authority sends mail about your certificates.
    #[arg(long, value_name = "ADDRESS", requires = "acme")]
    acme_email: Option<String>,
    /// PEM of the root that vouches for the authority's own server [default: the public roots].
    #[arg(long, value_name = "FILE", requires = "acme")]
    acme_ca_file: Option<PathBuf>,
    /// Port that answers the authority over HTTP (http-01), which must be reached as port 80 [default:
    /// none; it is answered in TLS (tls-alpn-01) on the gateway's port, which must be reached as 443].
    #[arg(long, value_name = "PORT", requires = "acme")]
    acme_http_port: Option<u16>,
    /// Connections held at once, from all clients together.
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS, value_parser = number)]
    max_connections: usize,
    /// Connections held from one source address while nobody is proven on them, and for one device
    /// or session.
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS_PER_SOURCE, value_parser = number)]
    max_connections_per_source: usize,
    /// Whether the process must give up what it doesn't need (files, programs, privileges).
    #[arg(long, value_enum, default_value_t = Demand::BestEffort)]
    sandbox: Demand,
    /// File that says which existing proxies may ask for their clients (`/forward-auth`, ext_authz) [default: none].
    #[arg(long, value_name = "FILE")]
    proxies: Option<PathBuf>,
    #[command(flatten)]
    vitals: VitalsArgs,
    #[command(flatten)]
    traces: TracesArgs,
    #[command(flatten)]
    log: LogArgs,
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
    /// Don't look at this host at the first start; otherwise the console says then what runs here.
    #[arg(long)]
    no_assess: bool,
    #[arg(skip)]
    prover: Option<Started>,
    #[arg(skip)]
    asked_to_cosign: Witnesses,
    #[arg(skip)]
    looking: Option<Looking>,
    #[arg(skip)]
    entered: Option<Sandbox>,
    #[arg(skip)]
    may_ask: Vec<Proxy>,
}

impl Args {
    /// Form of the log.
    pub(crate) const fn log_format(&self) -> LogFormat {
        self.log.log_format
    }
}

/// Settles where to listen and how many connections the system bears, both of which need what is
/// then given up, and enters the sandbox. The process has one thread yet.
///
/// # Errors
/// [`VerbError`] when there is no free port, or the sandbox is required and not to be had.
pub(crate) fn confine(args: &mut Args, dir: &Path, telemetry: &Variables) -> Result<(), VerbError> {
    if args.listen.is_empty() {
        args.listen = wiring::usual_addresses(&args.domain);
    }
    if args.port == 0 {
        args.port = wiring::free_port(&args.listen).map_err(UpError::Port)?;
    }
    args.max_connections = wiring::affordable(args.max_connections);
    args.traces.settle(telemetry)?;
    args.may_ask = proxies::read(args.proxies.as_deref())?;
    args.asked_to_cosign = witnesses::read(args.witnesses.as_deref())?;
    sandbox::make_dir(dir).map_err(|source| UpError::File { path: dir.to_owned(), source })?;
    let read = args.tls_cert.iter().chain(&args.tls_key).chain(&args.acme_ca_file).cloned().collect();
    let ports = [args.port].into_iter().chain(args.acme_http_port).chain(args.vitals.confine()?).collect();
    let write = args.checkpoint_copy.clone().into_iter().collect();
    let needs = Needs { dir: dir.to_owned(), read, write, ports };
    args.prover = prover::try_start(&args.solver, args.sandbox);
    if !args.no_assess && !dir.join(DATABASE).exists() {
        args.looking = look::try_start();
    }
    args.entered = sandbox::enter(args.sandbox, &needs).map_err(|error| {
        VerbError::of(Exit::Failed, &error).hint("start it with `--sandbox best-effort`, or mend what is missing")
    })?;
    Ok(())
}

fn directory(text: &str) -> Result<String, &'static str> {
    match url::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(url.into()),
        Ok(_) | Err(_) => Err("not an address that starts with https://"),
    }
}

/// Runs until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// [`VerbError`] when it can't start, or when a part of it ends unexpectedly.
pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let begun = Instant::now();
    let options = UpOptions {
        dir: call.dir.clone(),
        domain: args.domain,
        port: args.port,
        listen: args.listen,
        browser_certificate: args.tls_cert.zip(args.tls_key),
        http3: if args.no_http3 { Http3::Off } else { Http3::Served },
        acme: args.acme.map(|directory| (acme(directory, args.acme_email, args.acme_http_port), args.acme_ca_file)),
        acme_http_port: args.acme_http_port,
        spans: args.traces.settled,
        proxies: args.may_ask,
        checkpoint_copy: args.checkpoint_copy.map(wiring::copy_in),
        keep_days: args.audit_keep,
        witnesses: args.asked_to_cosign,
        connections: ConnectionLimits { all: args.max_connections, per_source: args.max_connections_per_source },
    };
    let mut signals = Signals::catch()?;
    let tasks = TaskGroup::new();
    let board = Board::new("up", env!("CARGO_PKG_VERSION"), tasks.clone());
    let shown = args.vitals.show(&board).await?;
    let running = Running::start(options, tasks).await?;
    prover::prove_with(&running.controller, args.prover, running.tasks());
    if let Some(looking) = args.looking {
        running.controller.keep_assessment(look::found(looking));
    }
    // Only now is the directory certainly ours.
    shown.to_owner(&call.dir).await;
    board.add(running.controller.vitals());
    board.add(running.gateway().vitals());
    board.complete();
    announce(&running, &shown, args.entered, begun, call)?;
    let failed = signals.stopped(running.tasks(), || running.reload()).await;
    call.out.note("stopping: no new connections, open ones may finish");
    if running.shut_down().await == Drained::ByCutting {
        call.out.note("stopped; connections that were still open have been cut");
    }
    shown.end().await;
    ended(failed).map(|()| Exit::Ok)
}

fn acme(directory: String, email: Option<String>, http_port: Option<u16>) -> AcmeOptions {
    let challenge = if http_port.is_some() { ChallengeKind::Http } else { ChallengeKind::TlsAlpn };
    AcmeOptions { directory, email, roots_pem: None, challenge }
}

/// A number of connections that can serve anybody at all.
fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 8..=1_000_000) => Ok(number),
        Ok(_) | Err(_) => Err("a number from 8 to 1000000".to_owned()),
    }
}

/// Tells what is where: one line of JSON, or a few for people.
///
/// # Errors
/// What standard output gives.
fn announce(
    running: &Running,
    shown: &Shown,
    sandbox: Option<Sandbox>,
    begun: Instant,
    call: &Call,
) -> Result<(), VerbError> {
    let out = &call.out;
    let invite = running.controller.first_invite();
    let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
    if out.is_json() {
        return Ok(out.json(&json!({
            "event": "ready",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "domain": running.domain.as_str(),
            "port": running.port,
            "addresses": addresses,
            "auth": running.origin("auth"),
            "console": running.origin("console"),
            "api": running.origin("api"),
            "gateway": running.origin("gw"),
            "root": running.root_file,
            "root_sha256": running.root_sha256,
            "sandbox": sandbox,
            "metrics": shown.address,
            "first_invite": invite.map(|invite| &invite.link),
        }))?);
    }
    out.line(&format!("{} ready in {} ms", out.paint(Style::Good, "●"), begun.elapsed().as_millis()))?;
    let mut facts = vec![
        ("console", out.paint(Style::Accent, &running.origin("console"))),
        ("gateway", format!("{} on {}", running.origin("gw"), addresses.join(", "))),
        ("root", format!("{} (trust it in your browser)", running.root_file.display())),
        ("sha256", running.root_sha256.clone()),
    ];
    facts.extend(shown.words().map(|words| ("metrics", words)));
    out.facts(&facts)?;
    if let Some(invite) = invite {
        let words = "You are the first: open this to register your passkey as administrator.";
        out.line(&format!("\n{}", out.paint(Style::Bold, words)))?;
        show_link(call, &invite.link, invite.expires)?;
    }
    Ok(())
}

impl From<UpError> for VerbError {
    fn from(error: UpError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}
