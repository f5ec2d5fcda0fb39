//! The solver: cvc5, as a process of its own that may use so much memory and time.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar_policy_symcc::CedarSymCompiler;
use cedar_policy_symcc::solver::LocalSolver;
use tokio::process::Command;

/// What a solver may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for each question.
    pub time: Duration,
    /// Time for all of them together; what wasn't asked by then is not proven.
    pub all: Option<Duration>,
    /// Memory of each process, in KiB.
    pub memory_kib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), all: None, memory_kib: 4 << 20 }
    }
}

/// The solver can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SolverError {
    /// There is none.
    #[error("there is no program `{0}`")]
    Missing(PathBuf),
    /// It doesn't start.
    #[error("the solver `{path}` does not start: {cause}")]
    Start {
        /// The program.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
}

/// The program of that name: a path, or found in `PATH`.
///
/// # Errors
/// [`SolverError::Missing`].
pub fn find(name: &Path) -> Result<PathBuf, SolverError> {
    let missing = || SolverError::Missing(name.to_owned());
    if name.components().count() > 1 {
        return if name.is_file() { Ok(name.to_owned()) } else { Err(missing()) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(missing)
}

/// Starts it. It ends with what is returned.
pub(crate) fn start(path: &Path, limits: Limits) -> Result<CedarSymCompiler<LocalSolver>, SolverError> {
    let failed = |cause: String| SolverError::Start { path: path.to_owned(), cause };
    let mut command = Command::new("/bin/sh");
    // The shell sets the limit on itself, and then becomes the solver.
    command
        .args(["-c", "ulimit -v \"$1\" && shift && exec \"$0\" \"$@\""])
        .arg(path)
        .arg(limits.memory_kib.to_string())
        .args(["--lang", "smt"])
        .arg(format!("--tlimit-per={}", limits.time.as_millis()))
        .env_clear()
        .kill_on_drop(true);
    let solver = LocalSolver::from_command(&mut command).map_err(|error| failed(error.to_string()))?;
    CedarSymCompiler::new(solver).map_err(|error| failed(error.to_string()))
}
