//! `witness`: puts its name under checkpoints of logs that it watches.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use serde_json::json;
use tokio::sync::Notify;
use vouchsafe_gateway::BrowserCertificate;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::shown::Pair;
use vouchsafe_runtime::tls::{Credentials, Shown, TlsError};
use vouchsafe_tlog::note::VerifierKey;
use vouchsafe_witness::Witness;
use vouchsafe_witness::serve::ServeError;
use vouchsafe_witness::state::{State, StateError};

use super::logs::{LogArgs, LogFormat};
use super::serve;
use crate::call::Call;
use crate::certificate_files::CertificateFiles;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::sandbox::{self, Demand, Needs, Sandbox};
use crate::wiring::{self, UpError};

/// Where it is listened when nobody says.
const USUAL: &str = "127.0.0.1:8455";

/// Runs a witness: it cosigns checkpoints of audit logs, each only when it continues the one that it saw last.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  vouchsafe witness key --name witness.example.org/w1\n  vouchsafe witness --logs keys.txt --listen 0.0.0.0:8455 --tls-cert site.pem --tls-key site.key"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
}

/// What else there is.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows the key by which its cosignatures are verified; makes it where there is none yet.
    #[command(after_help = "Example:\n  vouchsafe witness key --name witness.example.org/w1")]
    Key {
        /// Name of the key, best a domain of yours and a path; for a key that is made.
        #[arg(long)]
        name: Option<String>,
    },
}

/// How a witness is run.
#[derive(Debug, clap::Args)]
struct Run {
    /// Name of its key, best a domain of yours and a path; for a key that is made.
    #[arg(long)]
    name: Option<String>,
    /// Verifier key of a log that it watches, as `audit key` shows it; may be given more than once.
    #[arg(long = "log", value_name = "VKEY", value_parser = log_key)]
    watched: Vec<VerifierKey>,
    /// File with such keys, one on each line.
    #[arg(long, value_name = "FILE")]
    logs: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = USUAL)]
    listen: SocketAddr,
    /// PEM chain to show; without one it is served without TLS, for a proxy on this machine.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM key of `--tls-cert`.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Whether the process must give up what it doesn't need (files, programs, privileges).
    #[arg(long, value_enum, default_value_t = Demand::BestEffort)]
    sandbox: Demand,
    #[command(flatten)]
    log: LogArgs,
    #[arg(skip)]
    entered: Option<Sandbox>,
}

fn log_key(text: &str) -> Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|error| error.to_string())
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

/// Settles where to listen, and enters the sandbox. The process has one thread yet.
///
/// # Errors
/// [`VerbError`] when others could listen in, there is no free port, or the sandbox is required and not to be had.
pub(crate) fn confine(args: &mut Args, dir: &Path) -> Result<(), VerbError> {
    if !args.serves() {
        return Ok(());
    }
    let run = &mut args.run;
    if run.tls_cert.is_none() && !is_loopback(run.listen.ip()) {
        let words =
            format!("`--listen {}` can be reached by others, and there is no certificate to show them", run.listen);
        return Err(
            VerbError::usage(words).hint("give `--tls-cert` and `--tls-key`, or listen on 127.0.0.1 behind a proxy")
        );
    }
    if run.listen.port() == 0 {
        run.listen.set_port(wiring::free_port(&[run.listen.ip()]).map_err(UpError::Port)?);
    }
    sandbox::make_dir(dir).map_err(|source| UpError::File { path: dir.to_owned(), source })?;
    let read = run.tls_cert.iter().chain(&run.tls_key).chain(&run.logs).cloned().collect();
    let needs = Needs { dir: dir.to_owned(), read, ports: vec![run.listen.port()], ..Needs::default() };
    run.entered = sandbox::enter(run.sandbox, &needs).map_err(|error| {
        VerbError::of(Exit::Failed, &error).hint("start it with `--sandbox best-effort`, or mend what is missing")
    })?;
    Ok(())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    match args.verb {
        None => watch(args.run, call).await,
        Some(Verb::Key { name }) => key(name.as_deref(), call),
    }
}

fn key(name: Option<&str>, call: &Call) -> Result<Exit, VerbError> {
    sandbox::make_dir(&call.dir).map_err(|source| UpError::File { path: call.dir.clone(), source })?;
    let signer = State::lock(&call.dir)?.signer(name)?;
    let text = signer.verifier().to_string();
    if call.out.is_json() {
        call.out.json(&json!({ "name": signer.verifier().name(), "key": text }))?;
    } else {
        // It stands alone on standard output, so that `> witness.txt` makes a good file.
        call.out.line(&clean(&text))?;
    }
    Ok(Exit::Ok)
}

fn watched(run: &Run) -> Result<Vec<VerifierKey>, VerbError> {
    let mut keys = run.watched.clone();
    if let Some(path) = &run.logs {
        let read = std::fs::read_to_string(path).map_err(|source| UpError::File { path: path.clone(), source })?;
        for (line, number) in read.lines().zip(1_usize..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(
                VerifierKey::parse(line)
                    .map_err(|error| VerbError::usage(format!("`{}`, line {number}: {error}", path.display())))?,
            );
        }
    }
    if keys.is_empty() {
        let hint = "give the key that `vouchsafe audit key` shows: `--log KEY`, or a file of such lines with `--logs`";
        return Err(VerbError::usage("no log is given, so there would be nothing to cosign").hint(hint));
    }
    Ok(keys)
}

async fn watch(run: Run, call: &Call) -> Result<Exit, VerbError> {
    let begun = Instant::now();
    let tasks = TaskGroup::new();
    let signals = serve::Signals::catch()?;
    let keys = watched(&run)?;
    let witness = Witness::open(&call.dir, run.name.as_deref(), &keys)?;
    let files = run.tls_cert.zip(run.tls_key).map(|(chain, key)| CertificateFiles::new(chain, key));
    let shown = files.as_ref().map(|files| Ok::<_, VerbError>(Shown::new(pair(&files.read()?)?))).transpose()?;
    let reload = Arc::new(Notify::new());
    if let (Some(files), Some(shown)) = (files, shown.clone()) {
        let replace = move |given: &BrowserCertificate| pair(given).map(|pair| shown.replace(pair));
        tasks.spawn_vital("certificate files", files.follow(replace, Arc::clone(&reload), tasks.clone()));
    }
    let secure = shown.is_some();
    let address = witness.serve(run.listen, shown, &tasks).await?;
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let logs = witness.logs();
    if call.out.is_json() {
        let logs: Vec<_> = logs.iter().map(|(origin, size)| json!({ "origin": origin, "size": size })).collect();
        call.out.json(&json!({
            "event": "ready",
            "role": "witness",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "key": witness.key().to_string(),
            "url": url,
            "logs": logs,
            "sandbox": run.entered,
        }))?;
    } else {
        let out = &call.out;
        out.line(&format!("{} ready in {} ms", out.paint(Style::Good, "●"), begun.elapsed().as_millis()))?;
        let mut facts = vec![("asked at", url), ("key", clean(&witness.key().to_string()).into_owned())];
        for (origin, size) in &logs {
            let seen = size.map_or("nothing seen yet".to_owned(), |size| format!("{size} records seen"));
            facts.push(("log", format!("{}: {seen}", clean(origin))));
        }
        out.facts(&facts)?;
    }
    signals.serve(&tasks, call, || reload.notify_one()).await.map(|()| Exit::Ok)
}

fn pair(given: &BrowserCertificate) -> Result<Pair, TlsError> {
    Pair::load(&Credentials { chain_pem: &given.chain_pem, key_pem: &given.key_pem })
}

impl From<StateError> for VerbError {
    fn from(error: StateError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

impl From<ServeError> for VerbError {
    fn from(error: ServeError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

impl From<TlsError> for VerbError {
    fn from(error: TlsError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}
