//! `gateway`: a gateway of its own, and which of them there are.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use http::Method;
use serde_json::json;
use tokio::sync::Notify;
use vouchsafe_gateway::{ConnectionLimits, Gateway, Http3, JoinError, Options, Proxy, Remote, RemoteError, StateError};
use vouchsafe_model::name::GatewayName;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE};
use vouchsafe_runtime::roster::announceable;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::vitals::Board;
use vouchsafe_wire::api::{self, GatewayInvited, NewGateway};
use vouchsafe_wire::gateway::JoinCode;
use vouchsafe_wire::roster::MAX_ADDRESSES;

use super::logs::{LogArgs, LogFormat};
use super::vitals::VitalsArgs;
use super::{ago, agreed, done, now, serve, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::certificate_files::CertificateFiles;
use crate::collector::{TracesArgs, Variables};
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::proxies;
use crate::sandbox::{self, Demand, Needs, Sandbox};
use crate::text;
use crate::wiring::{self, UpError};

const GATEWAYS: &str = "/v1/gateways/";

/// Runs the gateway that has joined under `--dir`; or one of the verbs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  vouchsafe gateway join vsj1.… && vouchsafe gateway"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
}

/// What to do with gateways.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes this machine a gateway by a one-time code.
    #[command(after_help = "Example:\n  vouchsafe gateway join < code.txt")]
    Join {
        /// What `vouchsafe gateway invite` printed [default: asked for on standard input, where no other
        /// process can see it].
        code: Option<String>,
    },
    /// Makes a one-time code for a new gateway.
    #[command(after_help = "Example:\n  vouchsafe gateway invite frankfurt > code.txt")]
    Invite {
        /// Name it gets.
        name: GatewayName,
    },
    /// Lists gateways.
    #[command(after_help = "Example:\n  vouchsafe gateway list")]
    List,
    /// Removes a gateway: it is cut off at once, and stops when its lease is over.
    #[command(after_help = "Example:\n  vouchsafe gateway remove frankfurt --yes")]
    Remove {
        /// Name or id.
        name: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// How a gateway is run.
#[derive(Debug, clap::Args)]
struct Run {
    /// Address to listen on, may be given more than once [default: loopback for `*.localhost`, otherwise all].
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<IpAddr>,
    /// Port to listen on, where it is not the one under which clients reach the gateway (port mapping).
    #[arg(long)]
    port: Option<u16>,
    /// Address at which connectors reach this gateway, may be given more than once [default: each `--listen` that is
    /// one address of this machine, at the port under which clients reach the gateway].
    #[arg(long, value_name = "HOST:PORT", value_parser = announced)]
    announce: Vec<Endpoint>,
    /// PEM chain to show browsers instead of our own certificate; it must cover `*.<domain>`.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM key of `--tls-cert`.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Don't serve HTTP/3, which otherwise takes the UDP port of the same number.
    #[arg(long)]
    no_http3: bool,
    /// Connections held at once, from all clients together.
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS)]
    max_connections: usize,
    /// Connections held from one source address while nobody is proven on them, and for one device
    /// or session.
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS_PER_SOURCE)]
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
    #[arg(skip)]
    entered: Option<Sandbox>,
    #[arg(skip)]
    may_ask: Vec<Proxy>,
}

impl Args {
    /// Whether it is a server that is asked for.
    pub(crate) fn serves(&self) -> bool {
        self.verb.is_none()
    }

    /// Form of the log.
    pub(crate) const fn log_format(&self) -> LogFormat {
        self.run.log.log_format
    }
}

/// Settles where to listen, and enters the sandbox, if a gateway is to be run. The process has one thread
/// yet.
///
/// # Errors
/// [`VerbError`] when none has joined, or the sandbox is required and not to be had.
pub(crate) fn confine(args: &mut Args, dir: &Path, telemetry: &Variables) -> Result<(), VerbError> {
    if !args.serves() {
        return Ok(());
    }
    let run = &mut args.run;
    let joined = vouchsafe_gateway::joined(dir)?;
    if run.listen.is_empty() {
        run.listen = wiring::usual_addresses(&joined.domain);
    }
    if run.announce.is_empty() {
        let told = run.listen.iter().map(|ip| SocketAddr::new(*ip, joined.port).to_string());
        run.announce = told.filter_map(|text| announceable(&text)).collect();
    }
    run.announce.truncate(MAX_ADDRESSES);
    let port = *run.port.get_or_insert(joined.port);
    run.max_connections = wiring::affordable(run.max_connections);
    run.traces.settle(telemetry)?;
    run.may_ask = proxies::read(run.proxies.as_deref())?;
    let read = run.tls_cert.iter().chain(&run.tls_key).cloned().collect();
    let ports = [port].into_iter().chain(run.vitals.confine()?).collect();
    let needs = Needs { dir: dir.to_owned(), read, ports, ..Needs::default() };
    run.entered = sandbox::enter(run.sandbox, &needs).map_err(|error| {
        VerbError::of(Exit::Failed, &error).hint("start it with `--sandbox best-effort`, or mend what is missing")
    })?;
    Ok(())
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    match args.verb {
        None => serve_gateway(args.run, call).await,
        Some(Verb::Join { code }) => join(code, call).await,
        Some(Verb::Invite { name }) => {
            let client = AdminClient::open(call).await?;
            let new = NewGateway { name: name.to_string() };
            let invited: GatewayInvited = client.send(Method::POST, "/v1/gateways/invites", &new).await?;
            show(call, &invited, |GatewayInvited { code, expires }| {
                let out = &call.out;
                // The code stands alone on standard output, so that `> code.txt` makes a good file.
                out.line(&clean(code))?;
                let ends = text::relative(*expires, now());
                out.note(&out.paint_error(Style::Dim, &format!("good once, ends {ends}; on the gateway's machine:")));
                out.note(&format!("  {}", out.paint_error(Style::Accent, "vouchsafe gateway join")));
                Ok(())
            })
        }
        Some(Verb::List) => {
            let gateways: Vec<api::Gateway> = AdminClient::open(call).await?.get("/v1/gateways").await?;
            show(call, &gateways, |gateways| call.out.table(&table(gateways)))
        }
        Some(Verb::Remove { name, yes }) => {
            agreed(call, yes, &format!("Remove gateway `{name}`? It has to join anew to come back."))?;
            AdminClient::open(call).await?.delete(&path(GATEWAYS, &name, "")).await?;
            done(call, &format!("removed gateway {name}"))
        }
    }
}

/// An address that other machines may be told.
fn announced(text: &str) -> Result<Endpoint, String> {
    let other = || format!("`{text}` is not `host:port` of a machine that connectors may dial");
    announceable(text).ok_or_else(other)
}

fn table(gateways: &[api::Gateway]) -> Table {
    let mut table = Table::new(&["name", "attached", "last sign of life", "behind", "certificate", "id"]);
    for gateway in gateways {
        let ends = text::relative(gateway.certificate_expires, now());
        let (attached, heard, behind) = match &gateway.attached {
            Some(api::Attached { ip, heard, behind, since: _ }) => {
                (Cell::new(Style::Good, format!("from {ip}")), Some(*heard), behind.to_string())
            }
            None => (Cell::new(Style::Bad, "no"), gateway.last_seen, String::new()),
        };
        table.row([
            Cell::new(Style::Bold, &gateway.name),
            attached,
            ago(heard).into(),
            behind.as_str().into(),
            Cell::new(Style::Plain, format!("ends {ends}")),
            Cell::new(Style::Dim, &gateway.id),
        ]);
    }
    table
}

async fn join(code: Option<String>, call: &Call) -> Result<Exit, VerbError> {
    let code = match code {
        Some(code) => code,
        None => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line
        }
    };
    let code = JoinCode::parse(&code).map_err(|error| VerbError::usage(error.to_string()))?;
    sandbox::make_dir(&call.dir).map_err(|source| UpError::File { path: call.dir.clone(), source })?;
    let name = vouchsafe_gateway::join(&call.dir, &code, &call.tasks).await?;
    done(call, &format!("joined as gateway {name}; start it with `vouchsafe gateway`"))
}

async fn serve_gateway(run: Run, call: &Call) -> Result<Exit, VerbError> {
    let begun = Instant::now();
    let tasks = TaskGroup::new();
    let mut signals = serve::Signals::catch()?;
    let files = run.tls_cert.zip(run.tls_key).map(|(chain, key)| CertificateFiles::new(chain, key));
    let given = files.as_ref().map(CertificateFiles::read).transpose()?;
    let board = Board::new("gateway", env!("CARGO_PKG_VERSION"), tasks.clone());
    let shown = run.vitals.show(&board).await?;
    shown.to_owner(&call.dir).await;
    let starting = Remote::start(&call.dir, run.announce, &tasks, &board);
    let remote = tokio::select! {
        started = starting => started?,
        failed = signals.stopped(&tasks, || {}) => {
            tasks.shut_down(std::time::Duration::ZERO).await;
            return serve::ended(failed).map(|()| Exit::Ok);
        }
    };
    let port = run.port.unwrap_or(remote.port);
    let options = Options {
        listen: run.listen.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        public_port: Some(remote.port),
        spool: call.dir.join("gateway").join("spool"),
        browser_certificate: given,
        connections: ConnectionLimits { all: run.max_connections, per_source: run.max_connections_per_source },
        http3: if run.no_http3 { Http3::Off } else { Http3::Served },
        acme_http: Vec::new(),
        spans: run.traces.settled,
        proxies: run.may_ask,
    };
    let Remote { identity, link, service, name, .. } = remote;
    let (id, domain) = (identity.id, identity.domain.clone());
    let gateway = Gateway::start(options, identity, link, service, &tasks).await.map_err(UpError::Gateway)?;
    board.add(gateway.vitals());
    board.complete();
    let reload = Arc::new(Notify::new());
    if let Some(files) = files {
        let slot = gateway.browser_certificate();
        let following = files.follow(move |given| slot.replace(given), Arc::clone(&reload), tasks.clone());
        tasks.spawn_vital("certificate files", following);
    }
    let addresses: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
    if call.out.is_json() {
        call.out.json(&json!({
            "event": "ready",
            "role": "gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "gateway": id.to_string(),
            "name": name,
            "domain": domain.as_str(),
            "port": port,
            "addresses": addresses,
            "sandbox": run.entered,
            "metrics": shown.address,
        }))?;
    } else {
        let out = &call.out;
        out.line(&format!("{} ready in {} ms", out.paint(Style::Good, "●"), begun.elapsed().as_millis()))?;
        let mut facts = vec![("gateway", format!("{} on {}", clean(&name), addresses.join(", ")))];
        facts.extend(shown.words().map(|words| ("metrics", words)));
        out.facts(&facts)?;
    }
    let served = signals.serve(&tasks, call, || reload.notify_one()).await;
    // The records of all that was served are on disk before the process ends.
    gateway.finish().await;
    shown.end().await;
    served.map(|()| Exit::Ok)
}

impl From<StateError> for VerbError {
    fn from(error: StateError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

impl From<JoinError> for VerbError {
    fn from(error: JoinError) -> Self {
        let exit = match &error {
            JoinError::Dial { .. } | JoinError::Broken => Exit::Unreachable,
            JoinError::Refused(_) => Exit::Denied,
            JoinError::State(_) | JoinError::Key(_) | JoinError::Tls(_) | JoinError::Answer => Exit::Failed,
        };
        Self::of(exit, &error)
    }
}

impl From<RemoteError> for VerbError {
    fn from(error: RemoteError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}
