//! Sockets of container engines: who may write to one commands the engine, and with it the host.

use rustix::fs::FileType;

use crate::accounts::{Accounts, ROOT_GROUPS};
use crate::finding::{Area, Evidence};
use crate::kinds;
use crate::notes::Notes;
use crate::source::{ReadError, Source};

/// Where engines listen.
const SOCKETS: [&str; 11] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
];
const DAEMON: &str = "/etc/docker/daemon.json";

/// Looks at sockets and at what Docker's configuration opens.
pub(crate) fn look(source: &Source, accounts: &Accounts, notes: &mut Notes) {
    let mut seen = Vec::new();
    for path in SOCKETS {
        let stat = match source.stat(path) {
            Ok(stat) => stat,
            // Its folder is closed to others, and so is the socket.
            Err(ReadError::Missing | ReadError::Denied) => continue,
            Err(error) => {
                notes.unreadable(Area::Containers, path, error);
                continue;
            }
        };
        // Only the socket itself counts; a plain file of that name can be a collected stand-in.
        if stat.kind != FileType::Socket && source.label().is_none() {
            continue;
        }
        let place = (stat.mode, stat.uid, stat.gid, path.rsplit('/').next());
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        notes.have_read(Area::Containers, path);
        let group = accounts.groups.iter().find(|group| group.gid == stat.gid);
        let name = group.map_or_else(|| stat.gid.to_string(), |group| group.name.clone());
        let evidence = Evidence::file(path, format!("mode {:04o}, group {name}", stat.mode));
        if stat.mode & 0o002 != 0 {
            let what = "Every process of this host may command the container engine, and so become root.";
            notes.find(&kinds::CONTAINER_SOCKET_OPEN, path, what, vec![evidence]);
        } else if stat.mode & 0o020 != 0 && stat.gid != 0 {
            let members = group.map(|group| accounts.members(group)).unwrap_or_default();
            // Groups that are known for it are named with the accounts.
            if !members.is_empty() && !ROOT_GROUPS.iter().any(|(known, _)| *known == name) {
                let list = crate::text::short(&members.join(", "), 150);
                let what = format!("Members of `{name}` command the container engine: {list}.");
                notes.find(&kinds::CONTAINER_SOCKET_GROUP, path, what, vec![evidence]);
            }
        }
    }
    daemon(source, notes);
}

/// Addresses that `daemon.json` opens, and whether clients need a certificate.
fn hosts(text: &str) -> Result<(Vec<String>, bool), String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("line {}: it is no JSON", error.line()))?;
    let list = value.get("hosts").and_then(|hosts| hosts.as_array()).cloned().unwrap_or_default();
    let hosts = list.iter().filter_map(|host| host.as_str()).map(str::to_owned).collect();
    Ok((hosts, value.get("tlsverify").and_then(serde_json::Value::as_bool).unwrap_or(false)))
}

fn daemon(source: &Source, notes: &mut Notes) {
    let Some(text) = notes.text(Area::Containers, source, DAEMON) else { return };
    let (hosts, verified) = match hosts(&text) {
        Ok(read) => read,
        Err(why) => {
            notes.gap(Area::Containers, DAEMON, None, why, "mend the file, then look again");
            return;
        }
    };
    for host in hosts.iter().filter(|host| host.starts_with("tcp://") && !verified) {
        let (line, text) =
            crate::text::numbered(&text).find(|(_, line)| line.contains(host.as_str())).unwrap_or((1, ""));
        let what = format!(
            "The container engine takes commands at `{}`, from whoever gets there.",
            crate::text::short(host, 80)
        );
        notes.find(&kinds::CONTAINER_TCP_OPEN, host.as_str(), what, vec![Evidence::line(DAEMON, line, text)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_of_the_engine_are_read() {
        let (read, verified) = hosts(r#"{"hosts": ["unix:///x", "tcp://0.0.0.0:2375"], "tlsverify": false}"#).unwrap();
        assert_eq!((read.len(), verified), (2, false));
        assert!(hosts("{").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_broken(text in "[{}\\[\\]\":,a-z0-9]{0,40}") {
            let _ = hosts(&text);
        }
    }
}
