//! What listens, and which process holds it: `/proc/net`, `/proc/<pid>/fd`, or the output of `ss`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Options;
use crate::finding::{Area, Evidence};
use crate::firewall::Protocol;
use crate::notes::Notes;
use crate::source::{ReadError, Source};
use crate::text::numbered;

/// Largest table of sockets, bytes.
const MAX_TABLE: u64 = 32 << 20;
/// Most sockets that are kept.
const MAX_SOCKETS: usize = 5_000;
/// Most processes whose open files are looked at.
const MAX_PROCESSES: usize = 20_000;
/// Most open files looked at, of all processes.
const MAX_OPEN_FILES: usize = 2_000_000;

/// Something that waits for connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket {
    pub protocol: Protocol,
    /// As it was bound; unspecified for every address.
    pub address: IpAddr,
    pub port: u16,
    /// Number of the socket, to find its process by.
    inode: Option<u64>,
    pub process: Option<String>,
    pub seen: Evidence,
}

/// Looks at sockets.
pub(crate) fn look(source: &Source, options: &Options, notes: &mut Notes) -> Vec<Socket> {
    if let Some(text) = &options.ss {
        notes.have_read(Area::Listening, "ss");
        return of_ss(text, notes);
    }
    let mut sockets = Vec::new();
    let mut any = false;
    for (name, protocol, v6) in [
        ("tcp", Protocol::Tcp, false),
        ("tcp6", Protocol::Tcp, true),
        ("udp", Protocol::Udp, false),
        ("udp6", Protocol::Udp, true),
    ] {
        // `/proc/net` is a link into a process; what was collected is a folder.
        for file in [format!("/proc/net/{name}"), format!("/proc/self/net/{name}")] {
            let Some(text) = notes.text_up_to(Area::Listening, source, &file, MAX_TABLE) else { continue };
            any = true;
            let (found, broken) = table(&file, &text, protocol, v6);
            for (line, why) in broken {
                notes.broken(Area::Listening, &file, line, why);
            }
            sockets.extend(found);
            break;
        }
    }
    if !any {
        let how = "collect /proc/net/{tcp,tcp6,udp,udp6}, or give the output of `ss -tulpn` with --ss";
        notes.gap(
            Area::Listening,
            "/proc/net",
            None,
            "what listens is not known, so it is taken from the configurations",
            how,
        );
    }
    if sockets.len() > MAX_SOCKETS {
        notes.gap(Area::Listening, "/proc/net", None, "too many sockets; not all were kept", "look at `ss -tulpn`");
        sockets.truncate(MAX_SOCKETS);
    }
    processes(source, &mut sockets, notes);
    sockets
}

/// Sockets of a table that wait, and lines that make no sense.
fn table(file: &str, text: &str, protocol: Protocol, v6: bool) -> (Vec<Socket>, Vec<(usize, &'static str)>) {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    // TCP: LISTEN. UDP: not connected to anybody.
    let waiting = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    for (number, line) in numbered(text).skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.is_empty() {
            continue;
        }
        let (Some(local), Some(state)) = (fields.get(1), fields.get(3)) else {
            broken.push((number, "a line of the table is cut off"));
            continue;
        };
        if *state != waiting {
            continue;
        }
        let place = local.split_once(':').and_then(|(address, port)| {
            Some((if v6 { six(address)? } else { four(address)? }, u16::from_str_radix(port, 16).ok()?))
        });
        let Some((address, port)) = place else {
            broken.push((number, "an address of the table makes no sense"));
            continue;
        };
        let inode = fields.get(9).and_then(|inode| inode.parse().ok()).filter(|inode| *inode != 0);
        let shown = match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let seen = Evidence { file: file.to_owned(), line: Some(number), text: shown };
        found.push(Socket { protocol, address, port, inode, process: None, seen });
    }
    (found, broken)
}

/// An address as this kernel prints it: words in the machine's order, which is little-endian wherever this runs.
fn four(text: &str) -> Option<IpAddr> {
    let word = (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok())??;
    Some(Ipv4Addr::from(word.to_le_bytes()).into())
}

fn six(text: &str) -> Option<IpAddr> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = Vec::with_capacity(16);
    for at in (0..32).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_le_bytes());
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}

/// Names the process of each socket, where its open files may be seen.
fn processes(source: &Source, sockets: &mut [Socket], notes: &mut Notes) {
    let wanted: BTreeMap<u64, usize> =
        sockets.iter().enumerate().filter_map(|(at, socket)| Some((socket.inode?, at))).collect();
    if wanted.is_empty() {
        return;
    }
    let pids: Vec<String> = match source.list("/proc") {
        Ok(names) => names.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect(),
        Err(error) => {
            notes.unreadable(Area::Listening, "/proc", error);
            return;
        }
    };
    let (mut refused, mut files) = (0_usize, 0_usize);
    for pid in pids.iter().take(MAX_PROCESSES) {
        let folder = format!("/proc/{pid}/fd");
        let open = match source.list(&folder) {
            Ok(open) => open,
            Err(ReadError::Denied) => {
                refused += 1;
                continue;
            }
            // It has ended, or was not collected.
            Err(_) => continue,
        };
        let mut name = None;
        for descriptor in open {
            files += 1;
            if files > MAX_OPEN_FILES {
                break;
            }
            let Ok(target) = source.link(&folder, &descriptor) else { continue };
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .and_then(|rest| rest.parse().ok());
            let Some(at) = inode.and_then(|inode: u64| wanted.get(&inode)) else { continue };
            let name = name.get_or_insert_with(|| {
                let comm = source.bytes(&format!("/proc/{pid}/comm"), 256).unwrap_or_default();
                let comm = String::from_utf8_lossy(&comm).trim().to_owned();
                if comm.is_empty() { format!("pid {pid}") } else { comm }
            });
            if let Some(socket) = sockets.get_mut(*at)
                && socket.process.is_none()
            {
                socket.seen.text.push_str(&format!(", {name}, pid {pid}"));
                socket.process = Some(name.clone());
            }
        }
    }
    let nameless = sockets.iter().filter(|socket| socket.process.is_none()).count();
    if nameless > 0 {
        let why = format!("which process holds {nameless} of {} sockets is not known", sockets.len());
        let how = if refused > 0 {
            "run this as root: open files of other users' processes may not be seen"
        } else {
            "look at `ss -tulpn` as root"
        };
        notes.remark(Area::Listening, "/proc", why, how);
    }
}

/// Lines of `ss -tulpn`.
fn of_ss(text: &str, notes: &mut Notes) -> Vec<Socket> {
    let mut found = Vec::new();
    for (number, line) in numbered(text) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.is_empty() || line.starts_with("Netid") || line.starts_with("State") {
            continue;
        }
        if found.len() >= MAX_SOCKETS {
            notes.broken(Area::Listening, "ss", number, "too many sockets; the rest was left out");
            break;
        }
        let Some(state) = fields.iter().position(|word| matches!(*word, "LISTEN" | "UNCONN")) else {
            if !fields.iter().any(|word| matches!(*word, "ESTAB" | "TIME-WAIT")) {
                notes.broken(Area::Listening, "ss", number, "it is no line of a socket that waits");
            }
            continue;
        };
        let protocol = match (state.checked_sub(1).and_then(|at| fields.get(at)), fields.get(state)) {
            (Some(&"udp"), _) | (None, Some(&"UNCONN")) => Protocol::Udp,
            (Some(&"tcp"), _) | (None, _) => Protocol::Tcp,
            _ => continue,
        };
        let Some((address, port)) = fields.get(state + 3).and_then(|place| place_of(place)) else {
            notes.broken(Area::Listening, "ss", number, "its address makes no sense");
            continue;
        };
        let process = line
            .split_once("((\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(name, _)| crate::text::short(name, 60));
        let seen = Evidence::line("ss", number, line);
        found.push(Socket { protocol, address, port, inode: None, process, seen });
    }
    found
}

/// `0.0.0.0:22`, `[::]:22`, `*:80`, `127.0.0.53%lo:53`
fn place_of(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.split('%').next()?.trim_matches(['[', ']']);
    let address = if host == "*" { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { host.parse().ok()? };
    Some((address, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   106        0 12345 1\n\
            \x20  1: 0100007F:1538 0100007F:9999 01 00000000:00000000 00:00000000 00000000   106        0 12346 1\n\
            \x20  2: zz:1 0:0 0A\n";
        let (found, broken) = table("f", text, Protocol::Tcp, false);
        assert_eq!((found[0].address, found[0].port, found[0].inode), (Ipv4Addr::LOCALHOST.into(), 5432, Some(12_345)));
        assert_eq!((found.len(), broken.len()), (1, 1));
        assert_eq!(six("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(six("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_output_of_ss_is_read() {
        let text = "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n\
            tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:((\"sshd\",pid=1,fd=3))\n\
            udp   UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*\n\
            tcp   LISTEN 0      511             [::]:80           [::]:*    users:((\"nginx\",pid=2,fd=6))\nrubbish\n";
        let mut notes = Notes::default();
        let found = of_ss(text, &mut notes);
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].process.as_deref(), found[0].port), (Some("sshd"), 22));
        assert_eq!((found[1].protocol, found[1].port), (Protocol::Udp, 53));
        assert_eq!(notes.gaps.len(), 1);
    }

    proptest! {
        #[test]
        fn no_table_is_too_broken(text in "(h\n)?( [0-9A-F:]{0,40} [0-9A-F:]{0,40} [0-9A-F:]{0,40} 0A [0-9]{0,5}\n|\\PC{0,60}\n){0,4}", v6 in any::<bool>()) {
            let _ = table("f", &text, Protocol::Udp, v6);
            let _ = of_ss(&text.replace("0A", "LISTEN 0 0"), &mut Notes::default());
        }
    }
}
