//! Landlock: files beneath a few directories, listening on our own ports, nothing of other processes.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, path_beneath_rules,
};

use super::{Hold, Needs};

/// The version of Landlock that knows all we ask for (Linux 6.12). On older kernels what they know holds.
const WANTED: ABI = ABI::V6;

/// Programs, and what they are made of.
const PROGRAMS: [&str; 8] =
    ["/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local/bin", "/usr/local/lib"];

/// What the system's resolver reads: its settings, and the modules that they name. Where the settings
/// are links, the directories that they usually lead to.
const RESOLVER: [&str; 16] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/dev/urandom",
];

pub(super) fn restrict(needs: &Needs) -> Hold {
    held(restrict_self(needs))
}

/// Programs are read and run, and nothing else is within reach: this one, the solver, and those of the system.
pub(super) fn restrict_to_programs(solver: Option<&Path>) -> Hold {
    held(restrict_self_to_programs(solver))
}

fn held(status: Result<RulesetStatus, RulesetError>) -> Hold {
    match status {
        Ok(RulesetStatus::FullyEnforced) => Hold::Complete,
        Ok(RulesetStatus::PartiallyEnforced) => Hold::Partial,
        Ok(RulesetStatus::NotEnforced) => Hold::Missing,
        Err(error) => {
            tracing::warn!(%error, "Landlock refused");
            Hold::Missing
        }
    }
}

fn restrict_self_to_programs(solver: Option<&Path>) -> Result<RulesetStatus, RulesetError> {
    let run = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own = std::env::current_exe().ok();
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(PROGRAMS.iter().map(Path::new).chain(own.as_deref()).chain(solver), run))?
        .add_rules(path_beneath_rules(["/etc/ld.so.cache", "/dev/urandom"], read))?
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

fn restrict_self(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(
            needs.write.iter().chain([&needs.dir]),
            AccessFs::from_all(WANTED) & !AccessFs::Execute,
        ))?
        .add_rules(path_beneath_rules(RESOLVER, read))?
        .add_rules(path_beneath_rules(around(&needs.read), read))?
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?;
    for port in &needs.ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// The files, and the directories they are in: a file that is replaced is another one, and a rule is
/// about a file and not its name. Links are followed, since what they lead to is what is replaced.
fn around(files: &[PathBuf]) -> Vec<PathBuf> {
    let too_wide = |dir: &Path| [Path::new("/"), Path::new("/etc"), Path::new("")].contains(&dir);
    let mut found = Vec::new();
    for file in files {
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        for path in [file, &real] {
            found.push(path.clone());
            found.extend(path.parent().filter(|dir| !too_wide(dir)).map(Path::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_files_stay_readable_and_no_wide_directory_opens() {
        let found = around(&["/etc/tls/site.pem".into(), "/etc/key.pem".into(), "key.pem".into()]);
        assert!(found.contains(&"/etc/tls".into()));
        assert!(!found.contains(&"/etc".into()) && !found.contains(&"".into()), "{found:?}");
    }
}
