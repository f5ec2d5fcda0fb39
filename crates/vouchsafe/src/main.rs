//! `vouchsafe`: one binary for every role and every verb.
//!
//! - `cli`: the verbs and what they take; `verbs`: one file for each
//! - `call`, `output`, `error`, `exit`: what a verb gets, how it prints, how it fails
//! - `admin`: the administrator's API over the local socket or the enrolled device
//! - `wiring`: both roles in one process, each on threads of its own (`apart`); `certificate_files`: the operator's certificate, read again
//! - `witnesses`: the file that says who cosigns checkpoints
//! - `prover`: a process of its own that proves what is to hold of policies
//! - `look`: a process of its own that sees what runs on this host, at the first start
//! - `sandbox`: what a server gives up before it meets its first client
//! - `manifest`, `diagnostics`, `text`: directories of TOML and Cedar, mistakes drawn, times

mod admin;
mod apart;
mod call;
mod certificate_files;
mod cli;
mod collector;
mod diagnostics;
mod error;
mod exit;
mod look;
mod manifest;
mod output;
mod prover;
mod proxies;
mod sandbox;
mod text;
mod verbs;
mod wiring;
mod witnesses;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;
use vouchsafe_runtime::task::TaskGroup;

use crate::call::{Call, Environment};
use crate::cli::Cli;
use crate::collector::Variables;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Colours, Form, Output};
use crate::verbs::logs::LogFormat;

/// Half of what a request allocates is freed by another task; this allocator takes that better than
/// the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long tasks may take to end after the verb has.
const WIND_UP: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // A reader that went away is no failure of ours.
            drop(error.print());
            return exit.into();
        }
    };
    let colours = if has("NO_COLOR") || variable("TERM").is_some_and(|term| term == "dumb") {
        Colours::Never
    } else {
        Colours::OnTerminals
    };
    let out = Output::new(if cli.json { Form::Json } else { Form::People }, colours);
    let out = match cli.verb.log_format() {
        LogFormat::Text => out,
        LogFormat::Json => out.with_json_errors(),
    };
    log(cli.verb.log_filter(), cli.verb.log_format(), &out);
    let environment = environment();
    let dir = cli.dir.unwrap_or_else(|| environment.state_dir());
    let call = Call { out, dir, environment, tasks: TaskGroup::new() };
    let mut verb = cli.verb;
    if let Err(error) = verb.confine(&call.dir, &call.environment.telemetry) {
        call.out.failure(&error);
        return error.exit.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            call.out.failure(&VerbError::of(Exit::Failed, &error));
            return Exit::Failed.into();
        }
    };
    let exit = match runtime.block_on(verb.run(&call)) {
        Ok(exit) => exit,
        Err(error) => {
            call.out.failure(&error);
            error.exit
        }
    };
    // Not awaited without limit: a thread may still be reading standard input.
    runtime.shutdown_timeout(WIND_UP);
    exit.into()
}

fn environment() -> Environment {
    Environment {
        state_home: variable("XDG_STATE_HOME").map(PathBuf::from),
        home: variable("HOME").map(PathBuf::from),
        has_display: has("DISPLAY") || has("WAYLAND_DISPLAY"),
        is_root: rustix::process::geteuid().is_root(),
        telemetry: Variables::among(std::env::vars_os()),
    }
}

fn log(default: &str, format: LogFormat, out: &Output) {
    let wanted = variable("VOUCHSAFE_LOG").and_then(|filter| filter.into_string().ok());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(out.colours_errors()).with_target(false).init(),
        LogFormat::Json => {
            log.json().with_current_span(false).with_span_list(false).init();
            std::panic::set_hook(Box::new(|panic| {
                let place = panic.location().map(ToString::to_string).unwrap_or_default();
                tracing::error!(place, "{}", panic.payload_as_str().unwrap_or("a panic without words"));
            }));
        }
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn has(name: &str) -> bool {
    variable(name).is_some()
}
