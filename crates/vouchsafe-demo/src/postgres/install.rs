//! Where PostgreSQL's programs are, and as whom they may run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::PostgresError;

/// Programs of one PostgreSQL version.
#[derive(Debug, Clone)]
pub struct Installation {
    bin: PathBuf,
    setpriv: Option<PathBuf>,
    pub(super) account: Option<Account>,
}

/// An unprivileged account, for when we are root: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Installation {
    /// Finds the newest server; `None` when none is installed. `psql` alone is no server.
    ///
    /// # Errors
    /// [`PostgresError::NoAccount`] when we are root and there is nobody else to run it as.
    pub fn find() -> Result<Option<Self>, PostgresError> {
        let Some(bin) = newest(&["/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql"]) else { return Ok(None) };
        let account = if rustix::process::geteuid().is_root() {
            let accounts = std::fs::read_to_string("/etc/passwd").map_err(PostgresError::Files)?;
            let account = find_account(&accounts, "postgres").or_else(|| find_account(&accounts, "nobody"));
            Some(account.ok_or(PostgresError::NoAccount)?)
        } else {
            None
        };
        let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].map(PathBuf::from).into_iter().find(|path| path.is_file());
        Ok(Some(Self { bin, setpriv, account }))
    }

    /// Path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command for one of its programs, as the unprivileged account where we are root. The kernel
    /// ends it when the thread that starts it ends, however that comes about.
    pub(super) fn command(&self, name: &str) -> Command {
        use std::os::unix::process::CommandExt;

        let mut command = match &self.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                if let Some(account) = self.account {
                    command.arg(format!("--reuid={}", account.uid));
                    command.arg(format!("--regid={}", account.gid));
                    command.arg("--clear-groups");
                }
                // SIGQUIT is PostgreSQL's immediate shutdown.
                command.arg("--pdeathsig=QUIT").arg("--").arg(self.program(name));
                command
            }
            None => {
                let mut command = Command::new(self.program(name));
                if let Some(account) = self.account {
                    command.uid(account.uid).gid(account.gid);
                }
                command
            }
        };
        // A group of its own: Ctrl-C in the terminal is for us, who then stop it in order.
        command.process_group(0);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/");
        command
    }
}

fn newest(places: &[&str]) -> Option<PathBuf> {
    let complete = |bin: &Path| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).is_file());
    let versions = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            complete(&bin).then_some((version, bin))
        })
        .max_by_key(|(version, _)| *version)
        .map(|(_, bin)| bin)
}

fn find_account(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2);
    let account = Account { uid: numbers.next()?.parse().ok()?, gid: numbers.next()?.parse().ok()? };
    (account.uid != 0).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name_and_is_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        let account = find_account(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(find_account(passwd, "root").is_none());
        assert!(find_account(passwd, "nobody").is_none());
    }
}
