//! A private PostgreSQL cluster for one department, thrown away at the end.
//!
//! It never touches a cluster that exists: its files are in a directory of its own, it listens on a
//! free loopback port only, and it has no Unix socket. Everybody signs in with a password
//! (SCRAM-SHA-256), so the port alone is no open door to other people on this machine. Connections
//! are logged, so that a refused access can be shown to have left no trace.
//!
//! - [`install`]: where PostgreSQL's programs are, and as whom they may run
//! - `keeper`: the thread that starts the server and outlives nobody

pub mod install;
mod keeper;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::oneshot;
use vouchsafe_runtime::clock;

use install::Installation;
use keeper::Keeper;

/// Role that people sign in with: it may read and write the tables, and nothing else.
pub const ROLE: &str = "demo";
/// Longest time that a `psql` of ours may take.
const PSQL_TIMEOUT: Duration = Duration::from_secs(20);

/// Failure to run a private cluster.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A file or directory of the cluster could not be made.
    #[error("the private PostgreSQL cluster's directory could not be prepared")]
    Files(#[source] io::Error),
    /// A program could not be run.
    #[error("`{program}` could not be run")]
    Program {
        /// Which.
        program: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The server did not get ready.
    #[error("the private PostgreSQL server was not ready within {after:?}: {said}")]
    NotReady {
        /// The limit.
        after: Duration,
        /// The end of its log.
        said: String,
    },
    /// A program took too long.
    #[error("`{program}` did not end within {after:?}")]
    TimedOut {
        /// Which.
        program: &'static str,
        /// The limit.
        after: Duration,
    },
    /// Root has no unprivileged account to run the server as.
    #[error("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")]
    NoAccount,
    /// The keeper ended without a word.
    #[error("the private PostgreSQL server's keeper ended early")]
    KeeperGone,
}

/// Certificate and key that a cluster shows to clients which ask for TLS.
pub struct ServerTls<'p> {
    /// PEM chain.
    pub chain_pem: &'p str,
    /// PEM key.
    pub key_pem: &'p str,
}

/// What a cluster should be.
pub struct Plan<'p> {
    /// Name of its one database.
    pub database: &'static str,
    /// SQL that makes its tables.
    pub tables: &'static str,
    /// TLS, or none.
    pub tls: Option<ServerTls<'p>>,
}

/// A running private cluster. Dropping it stops the server and removes its files.
pub struct Cluster {
    // Order matters: the keeper stops the server before the directory goes.
    _keeper: Keeper,
    dir: tempfile::TempDir,
    installation: Installation,
    database: &'static str,
    port: u16,
    password: String,
    own_connections: usize,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({} on port {})", self.database, self.port)
    }
}

impl Cluster {
    /// Makes and starts a cluster, ready with its tables.
    ///
    /// # Errors
    /// [`PostgresError`]; nothing is left behind.
    pub async fn start(installation: &Installation, plan: Plan<'_>) -> Result<Self, PostgresError> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("vouchsafe-demo-{}-", plan.database))
            .tempdir()
            .map_err(PostgresError::Files)?;
        let password = clock::random_code();
        let files = Files { dir: dir.path(), installation };
        files.secret("password", &password)?;
        if let Some(tls) = &plan.tls {
            files.secret("server.crt", tls.chain_pem)?;
            files.secret("server.key", tls.key_pem)?;
        }
        files.give(dir.path())?;
        let (ready, started) = oneshot::channel();
        let keeper = Keeper::start(installation.clone(), dir.path().to_owned(), plan.tls.is_some(), ready)?;
        let port = started.await.map_err(|_| PostgresError::KeeperGone)??;
        let mut cluster = Self {
            _keeper: keeper,
            dir,
            installation: installation.clone(),
            database: plan.database,
            port,
            password,
            own_connections: 0,
        };
        cluster.furnish(plan.tables).await?;
        cluster.own_connections = cluster.all_connections()?;
        Ok(cluster)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory of its settings and data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join(keeper::CLUSTER)
    }

    /// Name of its database.
    #[must_use]
    pub fn database(&self) -> &'static str {
        self.database
    }

    /// Password of [`ROLE`].
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Connections that ever reached the server, by its own log, without those that made its tables.
    ///
    /// # Errors
    /// [`PostgresError::Files`] when the log is unreadable.
    pub fn connections(&self) -> Result<usize, PostgresError> {
        Ok(self.all_connections()?.saturating_sub(self.own_connections))
    }

    /// Runs one SQL command as [`ROLE`] with `psql` through `to`, wherever that leads.
    ///
    /// # Errors
    /// [`PostgresError`] when `psql` can't be run; what the server refused is in the answer.
    pub async fn psql(&self, to: SocketAddr, tls: PsqlTls, sql: &str) -> Result<PsqlAnswer, PostgresError> {
        let call = Call { to, tls, role: ROLE, database: self.database, input: sql };
        run_psql(&self.installation, &self.password, &call).await
    }

    fn all_connections(&self) -> Result<usize, PostgresError> {
        let log = std::fs::read_to_string(self.dir.path().join(keeper::LOG)).map_err(PostgresError::Files)?;
        Ok(log.matches("connection received:").count())
    }

    async fn furnish(&self, tables: &str) -> Result<(), PostgresError> {
        let (database, password) = (self.database, &self.password);
        // Both names are constants of ours, the password is of [a-z0-9] only: nothing to escape.
        let role = format!(
            "CREATE ROLE {ROLE} LOGIN PASSWORD '{password}' NOSUPERUSER NOCREATEDB NOCREATEROLE;\n\
             CREATE DATABASE {database};\n"
        );
        let grants = format!("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {ROLE};\n");
        for (database, input) in [("postgres", role), (database, format!("{tables}\n{grants}"))] {
            let call =
                Call { to: self.address(), tls: PsqlTls::Off, role: keeper::OWNER, database, input: input.as_str() };
            let answer = run_psql(&self.installation, &self.password, &call).await?;
            if !answer.success {
                return Err(PostgresError::Failed { program: "psql", said: answer.stderr });
            }
        }
        Ok(())
    }
}

/// Whether `psql` asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsqlTls {
    /// Plain.
    Off,
    /// TLS or nothing; whose certificate it is isn't checked, since the name is the tunnel's.
    Required,
}

/// What `psql` said.
#[derive(Debug, Clone)]
pub struct PsqlAnswer {
    /// Whether it ended well.
    pub success: bool,
    /// Rows, unaligned and without headings.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

struct Call<'c> {
    to: SocketAddr,
    tls: PsqlTls,
    role: &'c str,
    database: &'c str,
    input: &'c str,
}

async fn run_psql(installation: &Installation, password: &str, call: &Call<'_>) -> Result<PsqlAnswer, PostgresError> {
    use tokio::io::AsyncWriteExt;

    let program = |source| PostgresError::Program { program: "psql", source };
    let mut child = Command::new(installation.program("psql"))
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"])
        .args(["--set", "ON_ERROR_STOP=1", "--file", "-"])
        .arg("--host")
        .arg(call.to.ip().to_string())
        .arg("--port")
        .arg(call.to.port().to_string())
        .args(["--username", call.role, "--dbname", call.database])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGSSLMODE", if call.tls == PsqlTls::Required { "require" } else { "disable" })
        .env("PGGSSENCMODE", "disable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(program)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A refused connection ends psql before it reads; its exit status tells of that.
        let _ = stdin.write_all(call.input.as_bytes()).await;
    }
    let output = tokio::time::timeout(PSQL_TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_| PostgresError::TimedOut { program: "psql", after: PSQL_TIMEOUT })?
        .map_err(program)?;
    Ok(PsqlAnswer {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Files of a cluster, owned by whom the server runs as.
struct Files<'f> {
    dir: &'f Path,
    installation: &'f Installation,
}

impl Files<'_> {
    fn secret(&self, name: &str, text: &str) -> Result<PathBuf, PostgresError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;

        let path = self.dir.join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(PostgresError::Files)?;
        self.give(&path)?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> Result<(), PostgresError> {
        match self.installation.account {
            None => Ok(()),
            Some(account) => {
                std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).map_err(PostgresError::Files)
            }
        }
    }
}

#[cfg(test)]
mod tests;
