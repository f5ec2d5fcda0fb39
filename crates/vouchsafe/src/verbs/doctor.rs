//! `doctor`: looks at this machine, and says what holds.

pub(crate) mod gateway;
mod modes;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde::Serialize;

use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::Style;
use crate::sandbox::{self, Demand, Hold, Needs, Sandbox};

/// What to look at.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Says whether the process of this state directory serves, and if not, why.
    #[command(after_help = "Example:\n  vouchsafe doctor gateway --dir /var/lib/vouchsafe")]
    Gateway,
    /// Says which resources let denials pass, for how long still, and which modes are over.
    #[command(after_help = "Example:\n  vouchsafe doctor modes")]
    Modes,
    /// Enters the sandbox that `up` runs in, and tries what must fail there.
    #[command(after_help = "Example:\n  vouchsafe doctor sandbox")]
    Sandbox(SandboxArgs),
}

/// Arguments of `doctor sandbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct SandboxArgs {
    #[arg(skip)]
    entered: Option<Sandbox>,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Attempt {
    what: &'static str,
    /// Whether it must work inside.
    should_work: bool,
    worked: bool,
    /// The part of the sandbox that this shows.
    part: &'static str,
    /// That part is in force, so that the outcome must be right.
    in_force: bool,
    outcome: String,
}

impl Verb {
    /// Enters the sandbox; the process has one thread yet.
    ///
    /// # Errors
    /// [`VerbError`] when the state directory can't be made.
    pub(crate) fn confine(&mut self, dir: &Path) -> Result<(), VerbError> {
        let Verb::Sandbox(args) = self else { return Ok(()) };
        sandbox::make_dir(dir)?;
        let needs = Needs { dir: dir.to_owned(), ..Needs::default() };
        args.entered =
            sandbox::enter(Demand::BestEffort, &needs).map_err(|error| VerbError::of(Exit::Failed, &error))?;
        Ok(())
    }
}

/// Tries each, from a thread that was started inside.
///
/// # Errors
/// [`VerbError`] when something is possible that a part in force should refuse.
pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let entered = match verb {
        Verb::Gateway => return gateway::run(call).await,
        Verb::Modes => return modes::run(call).await,
        Verb::Sandbox(SandboxArgs { entered }) => entered,
    };
    let Some(sandbox) = entered else { return Err(VerbError::failed("the sandbox was not entered")) };
    let dir = call.dir.clone();
    let tried = tokio::task::spawn_blocking(move || attempts(&dir, sandbox)).await;
    let attempts = tried.map_err(|error| VerbError::of(Exit::Failed, &error))?;
    if call.out.is_json() {
        call.out.json(&serde_json::json!({ "sandbox": sandbox, "attempts": attempts }))?;
    } else {
        for attempt in &attempts {
            let right = attempt.worked == attempt.should_work;
            let (mark, style) = if right { ("✓", Style::Good) } else { ("✗", Style::Bad) };
            let line = format!("{} {}: {}", call.out.paint(style, mark), attempt.what, attempt.outcome);
            call.out.line(&line)?;
        }
        for missing in sandbox.missing() {
            call.out.note(missing);
        }
    }
    let wrong = attempts.iter().filter(|attempt| attempt.in_force && attempt.worked != attempt.should_work).count();
    match wrong {
        0 => Ok(Exit::Ok),
        wrong => Err(VerbError::failed(format!("{wrong} of these should have come out differently"))),
    }
}

fn attempts(dir: &Path, sandbox: Sandbox) -> Vec<Attempt> {
    let files = sandbox.files != Hold::Missing;
    let ports = sandbox.files == Hold::Complete;
    let calls = sandbox.calls == Hold::Complete;
    let own = dir.join("sandbox-check");
    let refused = |what, part, in_force, result: io::Result<()>| attempt(what, part, in_force, false, &result);
    vec![
        refused("read /etc/shadow", "files", files, std::fs::read("/etc/shadow").map(drop)),
        refused("list /root", "files", files, std::fs::read_dir("/root").map(drop)),
        refused("write to /tmp", "files", files, write(&std::env::temp_dir().join("vouchsafe-sandbox-check"))),
        refused("listen on another port", "files", ports, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        refused("start a program", "calls", calls, std::process::Command::new("/bin/true").status().map(drop)),
        refused("reach into another process", "calls", calls, reach_into_parent()),
        refused("open a raw packet socket", "calls", calls, packet_socket()),
        attempt("write to the state directory", "files", true, true, &write(&own)),
        attempt("look up a name", "files", true, true, &look_up()),
    ]
}

fn attempt(
    what: &'static str,
    part: &'static str,
    in_force: bool,
    should_work: bool,
    result: &io::Result<()>,
) -> Attempt {
    let outcome = match result {
        Ok(()) => "possible".to_owned(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => "refused".to_owned(),
        Err(error) => error.to_string(),
    };
    Attempt { what, should_work, worked: result.is_ok(), part, in_force, outcome }
}

fn write(path: &Path) -> io::Result<()> {
    std::fs::write(path, b"a check of the sandbox\n")?;
    std::fs::remove_file(path)
}

fn look_up() -> io::Result<()> {
    use std::net::ToSocketAddrs;
    ("localhost", 0).to_socket_addrs().map(drop)
}

/// Takes an open file of the process that started us: allowed where tracing it would be (ptrace(2), "ptrace
/// access mode checking").
fn reach_into_parent() -> io::Result<()> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getppid, pidfd_getfd, pidfd_open};
    let parent = getppid().ok_or(ErrorKind::NotFound)?;
    let parent = pidfd_open(parent, PidfdFlags::empty())?;
    pidfd_getfd(&parent, 2, PidfdGetfdFlags::empty()).map(drop).map_err(io::Error::from)
}

fn packet_socket() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::PACKET, SocketType::RAW, None).map(drop).map_err(io::Error::from)
}
