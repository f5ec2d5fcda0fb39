//! `connector`: a connector, and which of them there are.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Subcommand;
use http::Method;
use serde_json::json;
use vouchsafe_connector::{Address, AllowList, Connector, JoinError, Options, Proxy, StateError};
use vouchsafe_model::name::SiteName;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{self, ConnectorInvited, NewConnector};
use vouchsafe_wire::ticket::{Invited, Ticket};

use super::logs::{LogArgs, LogFormat};
use super::{agreed, done, now, serve, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::sandbox::{self, Demand, Needs, Sandbox};
use crate::text;
use crate::wiring::{self, UpError};

/// Most streams of one connector, where the limit of open files bears as many.
const MAX_STREAMS: usize = 4_096;
const CONNECTORS: &str = "/v1/connectors/";

/// Runs the connector that has joined under `--dir`; or one of the verbs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  vouchsafe connector join < code.txt && vouchsafe connector --allow 10.0.0.5:5432 --allow wiki.internal:443"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
}

/// What to do with connectors.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes this machine a connector by a one-time code.
    #[command(after_help = "Example:\n  vouchsafe connector join < code.txt")]
    Join {
        /// What `vouchsafe connector invite` printed [default: asked for on standard input, where no other
        /// process can see it].
        code: Option<String>,
        /// Gateway to ask, where the name in the code leads elsewhere.
        #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
        gateway: Option<Address>,
        #[command(flatten)]
        proxy: ProxyArgs,
    },
    /// Makes a one-time code for a new connector of a site.
    #[command(after_help = "Example:\n  vouchsafe connector invite frankfurt > code.txt")]
    Invite {
        /// Site that it serves, as in `resource add … --via SITE`.
        site: SiteName,
    },
    /// Lists connectors.
    #[command(after_help = "Example:\n  vouchsafe connector list")]
    List,
    /// Removes a connector: no gateway takes it any more, and what passes through it is cut at once.
    #[command(after_help = "Example:\n  vouchsafe connector remove frankfurt-1 --yes")]
    Remove {
        /// Name or id.
        name: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A proxy between connector and gateways.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ProxyArgs {
    /// HTTP proxy that leads to the gateways (CONNECT).
    #[arg(long, value_name = "http://HOST:PORT")]
    proxy: Option<String>,
    /// File with `user:password` for the proxy.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    proxy_auth: Option<PathBuf>,
}

impl ProxyArgs {
    fn read(&self) -> Result<Option<Proxy>, VerbError> {
        let Some(text) = &self.proxy else { return Ok(None) };
        let proxy = Proxy::parse(text).map_err(|error| VerbError::usage(error.to_string()))?;
        let Some(file) = &self.proxy_auth else { return Ok(Some(proxy)) };
        let with = proxy.with_credentials_of(file);
        Ok(Some(with.map_err(|source| UpError::File { path: file.clone(), source })?))
    }
}

/// How a connector is run.
#[derive(Debug, clap::Args)]
struct Run {
    /// Target that it opens when a gateway asks, may be given more than once: `name:port`, `address:port` or
    /// `network/bits:port`, with `*` for every port, by TCP; by UDP with `udp://` in front. Nothing else is ever opened.
    #[arg(long, value_name = "TARGET:PORT")]
    allow: Vec<String>,
    /// File with such targets, one on each line.
    #[arg(long, value_name = "FILE")]
    allow_file: Option<PathBuf>,
    /// Gateway to dial, may be given more than once; every address of `gw.<domain>` when none is.
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    gateway: Vec<Address>,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Whether the process must give up what it doesn't need (files, programs, privileges).
    #[arg(long, value_enum, default_value_t = Demand::BestEffort)]
    sandbox: Demand,
    #[command(flatten)]
    log: LogArgs,
    #[arg(skip)]
    entered: Option<Sandbox>,
    #[arg(skip)]
    streams: usize,
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

/// Enters the sandbox, if a connector is to be run. The process has one thread yet.
///
/// # Errors
/// [`VerbError`] when the sandbox is required and not to be had.
pub(crate) fn confine(args: &mut Args, dir: &Path) -> Result<(), VerbError> {
    if !args.serves() {
        return Ok(());
    }
    let run = &mut args.run;
    run.streams = wiring::affordable(MAX_STREAMS);
    // It listens nowhere.
    let read = run.allow_file.iter().chain(&run.proxy.proxy_auth).cloned().collect();
    let needs = Needs { dir: dir.to_owned(), read, ..Needs::default() };
    run.entered = sandbox::enter(run.sandbox, &needs).map_err(|error| {
        VerbError::of(Exit::Failed, &error).hint("start it with `--sandbox best-effort`, or mend what is missing")
    })?;
    Ok(())
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    match args.verb {
        None => serve_connector(args.run, call).await,
        Some(Verb::Join { code, gateway, proxy }) => join(code, gateway.as_ref(), &proxy, call).await,
        Some(Verb::Invite { site }) => {
            let client = AdminClient::open(call).await?;
            let new = NewConnector { site: site.to_string() };
            let invited: ConnectorInvited = client.send(Method::POST, "/v1/connectors/invites", &new).await?;
            show(call, &invited, |ConnectorInvited { code, expires }| {
                let out = &call.out;
                // The code stands alone on standard output, so that `> code.txt` makes a good file.
                out.line(&clean(code))?;
                let ends = text::relative(*expires, now());
                out.note(&out.paint_error(Style::Dim, &format!("good once, ends {ends}; in the site:")));
                out.note(&format!("  {}", out.paint_error(Style::Accent, "vouchsafe connector join")));
                Ok(())
            })
        }
        Some(Verb::List) => {
            let connectors: Vec<api::Connector> = AdminClient::open(call).await?.get("/v1/connectors").await?;
            show(call, &connectors, |connectors| call.out.table(&table(connectors)))
        }
        Some(Verb::Remove { name, yes }) => {
            agreed(call, yes, &format!("Remove connector `{name}`? It has to join anew to come back."))?;
            AdminClient::open(call).await?.delete(&path(CONNECTORS, &name, "")).await?;
            done(call, &format!("removed connector {name}"))
        }
    }
}

fn table(connectors: &[api::Connector]) -> Table {
    let mut table = Table::new(&["name", "site", "attached to", "since", "streams", "certificate", "joined", "id"]);
    for connector in connectors {
        let ends = text::relative(connector.certificate_expires, now());
        let gateways: Vec<&str> = connector.attached.iter().map(|to| to.gateway.as_str()).collect();
        let attached = match gateways[..] {
            [] => Cell::new(Style::Bad, "no gateway"),
            _ => Cell::new(Style::Good, gateways.join(", ")),
        };
        let since = connector.attached.iter().map(|to| to.since).min();
        let streams: u32 = connector.attached.iter().map(|to| to.streams).fold(0, u32::saturating_add);
        let streams = since.map(|_| streams.to_string()).unwrap_or_default();
        table.row([
            Cell::new(Style::Bold, &connector.name),
            (&connector.site).into(),
            attached,
            since.map(|since| text::relative(since, now())).unwrap_or_default().as_str().into(),
            streams.as_str().into(),
            Cell::new(Style::Plain, format!("ends {ends}")),
            text::relative(connector.created, now()).as_str().into(),
            Cell::new(Style::Dim, &connector.id),
        ]);
    }
    table
}

async fn join(
    code: Option<String>,
    gateway: Option<&Address>,
    proxy: &ProxyArgs,
    call: &Call,
) -> Result<Exit, VerbError> {
    let code = match code {
        Some(code) => code,
        None => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line
        }
    };
    let ticket = Ticket::parse_of(Invited::Connector, &code).map_err(|error| VerbError::usage(error.to_string()))?;
    sandbox::make_dir(&call.dir).map_err(|source| UpError::File { path: call.dir.clone(), source })?;
    let proxy = proxy.read()?;
    let member = vouchsafe_connector::join(&call.dir, &ticket, gateway, proxy.as_ref(), &call.tasks).await?;
    let what = format!(
        "joined as connector {} of site {}; start it with `vouchsafe connector --allow TARGET:PORT`",
        member.name, member.site
    );
    done(call, &what)
}

fn allowed(run: &Run) -> Result<AllowList, VerbError> {
    let wrong = |error: vouchsafe_connector::PatternError| VerbError::usage(error.to_string());
    let mut allow = AllowList::parse(run.allow.iter().map(String::as_str)).map_err(wrong)?;
    if let Some(path) = &run.allow_file {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| UpError::File { path: path.clone(), source })?;
        allow.extend(AllowList::parse_file(&text).map_err(wrong)?);
    }
    if allow.is_empty() {
        let hint = "name what it may open: `--allow 10.0.0.5:5432`, or a file of such lines with `--allow-file`";
        return Err(VerbError::usage("nothing is allowed, so this connector would open nothing").hint(hint));
    }
    Ok(allow)
}

async fn serve_connector(run: Run, call: &Call) -> Result<Exit, VerbError> {
    let begun = Instant::now();
    let tasks = TaskGroup::new();
    let signals = serve::Signals::catch()?;
    let allow = allowed(&run)?;
    let targets = allow.len();
    let options = Options { allow, gateways: run.gateway.clone(), proxy: run.proxy.read()?, streams: run.streams };
    let connector = Connector::start(&call.dir, options, &tasks)?;
    let member = connector.member();
    let gateways: Vec<String> = connector.gateways().iter().map(ToString::to_string).collect();
    if call.out.is_json() {
        call.out.json(&json!({
            "event": "ready",
            "role": "connector",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "connector": member.id.to_string(),
            "name": member.name,
            "site": member.site.as_str(),
            "domain": member.domain.as_str(),
            "gateways": gateways,
            "targets": targets,
            "sandbox": run.entered,
        }))?;
    } else {
        let out = &call.out;
        out.line(&format!("{} ready in {} ms", out.paint(Style::Good, "●"), begun.elapsed().as_millis()))?;
        out.facts(&[
            ("connector", format!("{} of site {}", clean(&member.name), member.site)),
            ("dials", gateways.join(", ")),
            ("opens", format!("{targets} targets and nothing else")),
        ])?;
    }
    signals.serve(&tasks, call, || {}).await.map(|()| Exit::Ok)
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
            JoinError::State(_)
            | JoinError::Key(_)
            | JoinError::Tls(_)
            | JoinError::Roster(_)
            | JoinError::Answer(_) => Exit::Failed,
        };
        Self::of(exit, &error)
    }
}
