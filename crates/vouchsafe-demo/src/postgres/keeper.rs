//! The thread that starts a private server and stops it again.
//!
//! It is a thread of its own because the kernel's parent-death signal follows the *thread* that
//! started a child: when this thread ends, by order, by a panic or because the whole process was
//! killed, the server ends too.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::PostgresError;
use super::install::Installation;

/// The server's log in the cluster's directory.
pub(super) const LOG: &str = "log";
/// The cluster's superuser.
pub(super) const OWNER: &str = "owner";
pub(super) const CLUSTER: &str = "cluster";
/// Longest start, `initdb` apart.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// Waits for a fast shutdown before it is made an immediate one.
const STOP_PAUSES: u32 = 150;
/// The port is chosen before the server binds it, so another program may take it in between.
const PORT_ATTEMPTS: u32 = 3;

/// Stops the server when dropped, and waits until it has stopped.
pub(super) struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Makes the cluster in `dir` and starts it; its port, or why not, comes through `ready`.
    pub(super) fn start(
        installation: Installation,
        dir: PathBuf,
        tls: bool,
        ready: oneshot::Sender<Result<u16, PostgresError>>,
    ) -> Result<Self, PostgresError> {
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("postgres keeper".to_owned())
            .spawn(move || keep(&Site { installation, dir, tls }, ready, &stopped))
            .map_err(|source| PostgresError::Program { program: "a thread", source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Without a sender the keeper's wait ends.
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the keeper of a private PostgreSQL server panicked");
        }
    }
}

struct Site {
    installation: Installation,
    dir: PathBuf,
    tls: bool,
}

fn keep(site: &Site, ready: oneshot::Sender<Result<u16, PostgresError>>, stopped: &Receiver<()>) {
    match site.initialise().and_then(|()| site.serve(stopped)) {
        Ok((server, port)) => {
            // Nobody waiting means that the start was given up: stop at once.
            if ready.send(Ok(port)).is_ok() {
                let _ = stopped.recv();
            }
            stop(server);
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}

impl Site {
    fn initialise(&self) -> Result<(), PostgresError> {
        let output = self
            .installation
            .command("initdb")
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"])
            .arg(format!("--username={OWNER}"))
            .arg(format!("--pwfile={}", self.dir.join("password").display()))
            .arg(format!("--pgdata={}", self.dir.join(CLUSTER).display()))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| PostgresError::Program { program: "initdb", source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(PostgresError::Failed { program: "initdb", said: end_of(&String::from_utf8_lossy(&output.stderr)) })
    }

    fn serve(&self, stopped: &Receiver<()>) -> Result<(Child, u16), PostgresError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let port = free_port().map_err(PostgresError::Files)?;
            let mut server = self.launch(port)?;
            match self.wait_until_ready(&mut server, stopped) {
                Ok(()) => return Ok((server, port)),
                Err(PostgresError::Failed { said, .. })
                    if attempt < PORT_ATTEMPTS && said.contains("could not bind") => {}
                Err(error) => {
                    stop(server);
                    return Err(error);
                }
            }
        }
    }

    fn launch(&self, port: u16) -> Result<Child, PostgresError> {
        let log = File::create(self.dir.join(LOG)).map_err(PostgresError::Files)?;
        let mut command = self.installation.command("postgres");
        command.arg("-D").arg(self.dir.join(CLUSTER)).arg("-p").arg(port.to_string());
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "log_connections=on".to_owned(),
            "log_destination=stderr".to_owned(),
            "logging_collector=off".to_owned(),
            // Thrown away at the end: nothing here has to survive a crash of the machine.
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            "wal_level=minimal".to_owned(),
            "max_wal_senders=0".to_owned(),
            "shared_buffers=8MB".to_owned(),
            "max_connections=60".to_owned(),
            "autovacuum=off".to_owned(),
            "jit=off".to_owned(),
        ];
        if self.tls {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={}", self.dir.join("server.crt").display()));
            settings.push(format!("ssl_key_file={}", self.dir.join("server.key").display()));
        }
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|source| PostgresError::Program { program: "postgres", source })
    }

    /// Reads the lock file, whose eighth line turns `ready`: asking by a connection would stand in
    /// the log as one.
    fn wait_until_ready(&self, server: &mut Child, stopped: &Receiver<()>) -> Result<(), PostgresError> {
        let lock_file = self.dir.join(CLUSTER).join("postmaster.pid");
        let mut waited = Duration::ZERO;
        while waited < READY_TIMEOUT {
            let state = std::fs::read_to_string(&lock_file).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if matches!(server.try_wait(), Ok(Some(_))) {
                return Err(PostgresError::Failed { program: "postgres", said: self.said() });
            }
            match stopped.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) => waited += PAUSE,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(PostgresError::KeeperGone),
            }
        }
        Err(PostgresError::NotReady { after: READY_TIMEOUT, said: self.said() })
    }

    fn said(&self) -> String {
        end_of(&read_lossy(&self.dir.join(LOG)))
    }
}

fn stop(mut server: Child) {
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    let (_keep_open, pause) = sync_channel::<()>(0);
    // SIGINT is PostgreSQL's fast shutdown: sessions are ended, files closed in order.
    for signal in [Signal::INT, Signal::QUIT] {
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
        for _ in 0..STOP_PAUSES {
            if !matches!(server.try_wait(), Ok(None)) {
                return;
            }
            let _ = pause.recv_timeout(PAUSE);
        }
    }
    let _ = server.kill();
    let _ = server.wait();
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines, on one line.
fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join(" / ")
}
