//! Whose process is at the other end of a loopback connection, from `/proc/net/tcp` and `tcp6`
//! (Linux, `proc_net(5)`). On systems without these files nobody is let in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest table that is read, bytes: some hundred thousand sockets.
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// `TCP_TIME_WAIT` and `TCP_LISTEN`: these rows have no peer of their own.
const NOT_CONNECTED: [&str; 2] = ["06", "0A"];

/// Why a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The peer's process belongs to another user.
    #[error("the peer is a process of another user (uid {uid})")]
    Foreign { uid: u32 },
    /// The connection is not in the tables: the peer has gone already.
    #[error("the kernel does not know the peer's socket")]
    Unknown,
    /// The tables can't be read.
    #[error("the kernel's table of sockets can't be read")]
    Unreadable(#[source] io::Error),
}

/// Checks that the socket at `from`, connected to our `listener`, is a process of our own user.
pub(crate) fn of_this_user(from: SocketAddr, listener: SocketAddr) -> Result<(), PeerError> {
    let own = rustix::process::getuid().as_raw();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let file = match File::open(table) {
            Ok(file) => BufReader::new(file.take(MAX_TABLE_BYTES)),
            // Without IPv6 there is no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(PeerError::Unreadable(error)),
        };
        match uid_in(file, from, listener).map_err(PeerError::Unreadable)? {
            Some(uid) if uid == own => return Ok(()),
            Some(uid) => return Err(PeerError::Foreign { uid }),
            None => {}
        }
    }
    Err(PeerError::Unknown)
}

/// Checks that every UDP socket that could have sent from this loopback port is one of our own user.
pub(crate) fn of_this_users_port(from: SocketAddr) -> Result<(), PeerError> {
    let own = rustix::process::getuid().as_raw();
    let mut known = false;
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let file = match File::open(table) {
            Ok(file) => BufReader::new(file.take(MAX_TABLE_BYTES)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(PeerError::Unreadable(error)),
        };
        for line in file.lines() {
            let Some(row) = Row::parse(&line.map_err(PeerError::Unreadable)?) else { continue };
            let here = row.local.ip() == from.ip().to_canonical() || row.local.ip().is_unspecified();
            if row.local.port() != from.port() || !here {
                continue;
            }
            if row.uid != own {
                return Err(PeerError::Foreign { uid: row.uid });
            }
            known = true;
        }
    }
    if known { Ok(()) } else { Err(PeerError::Unknown) }
}

/// The owner of the socket with that local and remote address.
fn uid_in(table: impl BufRead, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    let wanted = (plain(local), plain(remote));
    for line in table.lines() {
        if let Some(row) = Row::parse(&line?)
            && (row.local, row.remote) == wanted
        {
            return Ok(Some(row.uid));
        }
    }
    Ok(None)
}

struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    uid: u32,
}

impl Row {
    /// Reads `sl local remote st tx:rx tr:when retrnsmt uid …`; the heading and anything else is `None`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
        if NOT_CONNECTED.contains(&words.next()?) {
            return None;
        }
        let uid = words.nth(3)?.parse().ok()?;
        // A socket that no process holds any more is shown as root's, whoever opened it; it has no inode.
        let held = words.nth(1)?.parse::<u64>().is_ok_and(|inode| inode != 0);
        held.then_some(Self { local, remote, uid })
    }
}

/// Reads `0100007F:1F90`: 32-bit words in the machine's byte order, and a port in plain order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(plain(SocketAddr::new(ip, port)))
}

/// An IPv4 address inside IPv6 stands for itself: programs with one socket for both show it so.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0438 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:CB2E 0100007F:0438 06 00000000:00000000 03:00000E5C 00000000     0        0 0 3 0
   2: 0100007F:CB2E 0100007F:0438 01 00000000:00000000 00:00000000 00000000  1001        0 222 1 0 20 4 30 10 -1
   3: 0100007F:0438 0100007F:CB2E 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 20 4 30 10 -1
";
    const TABLE6: &str = "  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:CB2E 00000000000000000000000001000000:0438 01 0:0 0:0 0  1002 0 1
   1: 0000000000000000FFFF00000100007F:CB2F 0000000000000000FFFF00000100007F:0438 08 0:0 0:0 0  1003 0 1
   2: 0000000000000000FFFF00000100007F:CB30 0000000000000000FFFF00000100007F:0438 05 0:0 0:0 0  0 0 0
";

    fn uid(table: &str, from: &str, listener: &str) -> Option<u32> {
        uid_in(table.as_bytes(), from.parse().unwrap(), listener.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_peers_row_is_found_and_not_ours_nor_a_waiting_one() {
        assert_eq!(uid(TABLE, "127.0.0.1:52014", "127.0.0.1:1080"), Some(1001));
        assert_eq!(uid(TABLE, "127.0.0.1:52015", "127.0.0.1:1080"), None);
        assert_eq!(uid(TABLE, "127.0.0.1:1080", "0.0.0.0:0"), None, "a listening socket is nobody's peer");
    }

    #[test]
    fn ipv6_and_ipv4_inside_it_are_read() {
        assert_eq!(uid(TABLE6, "[::1]:52014", "[::1]:1080"), Some(1002));
        assert_eq!(uid(TABLE6, "127.0.0.1:52015", "127.0.0.1:1080"), Some(1003));
        assert_eq!(uid(TABLE6, "127.0.0.1:52016", "127.0.0.1:1080"), None, "nobody's socket is shown as root's");
    }

    #[test]
    fn odd_rows_are_passed_over() {
        for odd in ["", "x", "0: zz:1 1:1 01", "0: 0100007F:0438", "0: 0100007F:0438 0100007F:CB2E 01 a b c notauid"] {
            assert!(Row::parse(odd).is_none(), "{odd:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(line in "\\PC{0,120}") {
            let _ = Row::parse(&line);
        }
    }

    #[test]
    fn a_process_of_another_user_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (from, to) = (client.local_addr().unwrap(), listener.local_addr().unwrap());
        of_this_user(from, to).unwrap();
        let accepted = listener.accept().unwrap();
        assert!(matches!(of_this_user(to, from), Ok(())), "our own end is ours as well");
        // Whoever says something and leaves at once is nobody that could be known, and not root.
        let mut hasty = std::net::TcpStream::connect(to).unwrap();
        let hasty_from = hasty.local_addr().unwrap();
        std::io::Write::write_all(&mut hasty, b"FLUSHALL\r\n").unwrap();
        drop(hasty);
        assert!(of_this_user(hasty_from, to).is_err());
        drop((accepted, client, listener));
        let gone: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(of_this_user(gone, to), Err(PeerError::Unknown)));
    }
}
