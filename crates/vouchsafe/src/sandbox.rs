//! What the process gives up before it meets its first client, so that a mistake in it is worth little
//! to who finds it: files outside its state, listening elsewhere, starting programs, looking into other
//! processes, privileges.
//!
//! Landlock and capabilities are a thread's own and pass to the threads it starts. So all of this
//! happens while the process has one thread, before the async runtime is built.

mod calls;
mod files;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use serde::Serialize;

/// How much the sandbox matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Demand {
    /// Takes what this kernel offers, and says what is missing.
    BestEffort,
    /// Doesn't start unless all of it is in force.
    Require,
    /// No sandbox, for finding faults.
    Off,
}

/// What the process still needs once it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// State directory: read and written.
    pub(crate) dir: PathBuf,
    /// Files that are read, also when they are replaced.
    pub(crate) read: Vec<PathBuf>,
    /// Directories beside it that are written in.
    pub(crate) write: Vec<PathBuf>,
    /// TCP ports that are listened on.
    pub(crate) ports: Vec<u16>,
}

/// How far one part of the sandbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hold {
    /// All of it.
    Complete,
    /// As much of it as this kernel knows.
    Partial,
    /// Nothing.
    Missing,
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sandbox {
    /// Files, listening ports, signals and abstract sockets of others (Landlock).
    pub(crate) files: Hold,
    /// System calls that a server has no use for (seccomp).
    pub(crate) calls: Hold,
    /// Privileges: capabilities are gone and can't come back.
    pub(crate) privileges: Hold,
}

/// The sandbox was required, and this system can't give it.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox is required, and not all of it can be put in force: {missing}")]
pub(crate) struct SandboxError {
    missing: String,
}

/// Makes the state directory where it is missing: there must be something for a rule to be about.
///
/// # Errors
/// What the system says.
pub(crate) fn make_dir(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Enters the sandbox, for ever. To be called while the process has one thread.
///
/// # Errors
/// [`SandboxError`] when all of it was required.
pub(crate) fn enter(demand: Demand, needs: &Needs) -> Result<Option<Sandbox>, SandboxError> {
    if demand == Demand::Off {
        tracing::warn!("the sandbox is off (`--sandbox off`): a fault in this process is worth more to who finds it");
        return Ok(None);
    }
    // Privileges go first: what comes after needs none, and must not get any.
    let sandbox = Sandbox {
        privileges: give_up_privileges(needs),
        files: files::restrict(needs),
        calls: calls::restrict(calls::Role::Server),
    };
    judge(demand, sandbox)
}

/// As [`enter`], for the process that proves: it reads nothing but programs and what they are made of, starts them,
/// and opens no socket.
///
/// # Errors
/// [`SandboxError`] when all of it was required.
pub(crate) fn enter_as_prover(demand: Demand, solver: Option<&Path>) -> Result<Option<Sandbox>, SandboxError> {
    let sandbox = Sandbox {
        privileges: give_up_privileges(&Needs::default()),
        files: files::restrict_to_programs(solver),
        calls: calls::restrict(calls::Role::Prover),
    };
    judge(demand, sandbox)
}

fn judge(demand: Demand, sandbox: Sandbox) -> Result<Option<Sandbox>, SandboxError> {
    let missing = sandbox.missing();
    if missing.is_empty() {
        tracing::info!("the sandbox is complete: files, ports, system calls and privileges");
        return Ok(Some(sandbox));
    }
    let missing = missing.join("; ");
    if demand == Demand::Require {
        return Err(SandboxError { missing });
    }
    tracing::warn!(missing, "the sandbox is not complete on this system; `--sandbox require` would refuse to start");
    Ok(Some(sandbox))
}

impl Sandbox {
    /// What is not in force, in words.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        match self.files {
            Hold::Complete => {}
            Hold::Partial => missing.push("this kernel's Landlock is too old for ports, signals or abstract sockets"),
            Hold::Missing => missing.push("no Landlock (Linux 5.13, `lsm=landlock`): all files stay within reach"),
        }
        match self.calls {
            Hold::Complete => {}
            Hold::Partial | Hold::Missing => missing.push("no seccomp: programs can be started"),
        }
        match self.privileges {
            Hold::Complete => {}
            Hold::Partial | Hold::Missing => missing.push("privileges could not be given up"),
        }
        missing
    }
}

/// Gives up capabilities, core dumps, and being looked into by others; that new privileges can't be got
/// (`no_new_privs`) comes with Landlock and seccomp. A port below 1024 needs one capability to be
/// listened on; with it, Landlock allows that port only.
fn give_up_privileges(needs: &Needs) -> Hold {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let closed =
        setrlimit(Resource::Core, no_core).is_ok() && set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
    match drop_capabilities(needs) {
        Ok(()) if closed => Hold::Complete,
        Ok(()) => Hold::Missing,
        Err(error) => {
            tracing::warn!(%error, "capabilities can't be given up");
            Hold::Missing
        }
    }
}

fn drop_capabilities(needs: &Needs) -> Result<(), CapsError> {
    let mut kept = CapsHashSet::new();
    let privileged = needs.ports.iter().any(|port| *port < 1024);
    if privileged && caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_BIND_SERVICE)? {
        kept.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    // What isn't in the bounding set can't come back by running a program; dropping from it takes a
    // capability of its own, which those without privileges don't have and don't need for that.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported() {
            if !kept.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
