//! The list of targets that a connector opens, whatever it is asked for.
//!
//! Each pattern is `host:port`, where the host is a name, an address, or a network (`10.0.0.0/8`, `[fd00::/8]`),
//! and the port a number or `*`. It is about TCP; one that begins with `udp://` is about UDP, and nothing is about
//! both. A name is allowed by its own pattern, or by patterns for all it leads to;
//! whatever it leads to, loopback and the services of clouds need a pattern that is about them alone.

use std::net::IpAddr;

use ipnet::IpNet;
use vouchsafe_model::resource::{UpstreamHost, embedded_v4, never_by_name, never_upstream};

/// Most patterns of one list.
const MAX_PATTERNS: usize = 4_096;

/// Targets that may be opened.
#[derive(Debug, Clone, Default)]
pub struct AllowList(Vec<Pattern>);

/// By what a target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    transport: Transport,
    hosts: Hosts,
    /// `None` is every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Name(String),
    Network(IpNet),
}

/// Failure to read a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is none.
    #[error(
        "`{given}` is not a target: `name:port`, `address:port`, `network/bits:port`, IPv6 in brackets, with `*` for every port, and `udp://` in front for UDP"
    )]
    Shape {
        /// The text as given, shortened.
        given: String,
    },
    /// A network has bits set behind its length.
    #[error("`{given}` has bits set behind the length of its network; do you mean `{meant}`?")]
    HostBits {
        /// The text as given, shortened.
        given: String,
        /// The network that it lies in.
        meant: String,
    },
    /// There are too many.
    #[error("the list has more than {MAX_PATTERNS} targets")]
    TooMany,
}

/// Why a target isn't opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the connector's list does not have it")]
    NotListed,
    #[error("{0}")]
    Never(&'static str),
}

impl AllowList {
    /// Reads patterns.
    ///
    /// # Errors
    /// [`PatternError`] for the first that is none.
    pub fn parse<'t>(patterns: impl IntoIterator<Item = &'t str>) -> Result<Self, PatternError> {
        let patterns = patterns.into_iter().map(Pattern::parse).collect::<Result<Vec<_>, _>>()?;
        if patterns.len() > MAX_PATTERNS { Err(PatternError::TooMany) } else { Ok(Self(patterns)) }
    }

    /// Reads the content of a file: one pattern on each line, `#` begins a comment.
    ///
    /// # Errors
    /// As [`AllowList::parse`].
    pub fn parse_file(text: &str) -> Result<Self, PatternError> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        Self::parse(lines.filter(|line| !line.is_empty()))
    }

    /// Adds another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many patterns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it makes sense to look a name up for that port: some pattern could allow what it leads to.
    pub(crate) fn may_look_up(&self, transport: Transport, port: u16, name: &str) -> bool {
        self.0.iter().any(|pattern| {
            pattern.is_of(transport, port)
                && match &pattern.hosts {
                    Hosts::Name(listed) => listed == name,
                    Hosts::Network(_) => true,
                }
        })
    }

    /// Whether that address may be dialled, which `host` led to.
    pub(crate) fn check(
        &self,
        transport: Transport,
        host: &UpstreamHost,
        address: IpAddr,
        port: u16,
    ) -> Result<(), Refused> {
        if let Some(why) = never_upstream(address) {
            return Err(Refused::Never(why));
        }
        let address = address.to_canonical();
        let of_port = || self.0.iter().filter(|pattern| pattern.is_of(transport, port));
        let networks = || {
            of_port().filter_map(|pattern| match &pattern.hosts {
                Hosts::Network(network) => Some(network),
                Hosts::Name(_) => None,
            })
        };
        if let Some(why) = special(address) {
            // A wide network was not written with these in mind.
            let about_them = |network: &IpNet| network.contains(&address) && special(network.addr()).is_some();
            return if networks().any(about_them) { Ok(()) } else { Err(Refused::Never(why)) };
        }
        let by_name = matches!(host, UpstreamHost::Name(name)
            if of_port().any(|pattern| matches!(&pattern.hosts, Hosts::Name(listed) if listed == name)));
        if by_name || networks().any(|network| network.contains(&address)) { Ok(()) } else { Err(Refused::NotListed) }
    }
}

/// Why an address is one that only its own pattern allows.
fn special(address: IpAddr) -> Option<&'static str> {
    // IPv4 in any form of IPv6 is what a router makes of it.
    match never_upstream(address) {
        None => never_by_name(address).or_else(|| never_by_name(embedded_v4(address))),
        Some(_) => None,
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let given = || text.chars().take(100).flat_map(char::escape_default).collect::<String>();
        let shape = || PatternError::Shape { given: given() };
        let (transport, text) = match text.strip_prefix("udp://") {
            Some(rest) => (Transport::Udp, rest),
            None => (Transport::Tcp, text),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
        let port = match port {
            "*" => None,
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0).ok_or_else(shape)?)
            }
            _ => return Err(shape()),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let hosts = if host.contains('/') {
            let network: IpNet = inner.unwrap_or(host).parse().map_err(|_| shape())?;
            if inner.is_some() != network.addr().is_ipv6() {
                return Err(shape());
            }
            if network.trunc() != network {
                return Err(PatternError::HostBits { given: given(), meant: network.trunc().to_string() });
            }
            Hosts::Network(network)
        } else {
            match UpstreamHost::parse(host).map_err(|_| shape())? {
                UpstreamHost::Ip(address) => Hosts::Network(address.to_canonical().into()),
                UpstreamHost::Name(name) => Hosts::Name(name),
            }
        };
        Ok(Self { transport, hosts, port })
    }

    fn is_of(&self, transport: Transport, port: u16) -> bool {
        self.transport == transport && self.port.is_none_or(|own| own == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &[&str], host: &str, address: &str, port: u16) -> Result<(), Refused> {
        let list = AllowList::parse(list.iter().copied()).unwrap();
        list.check(Transport::Tcp, &UpstreamHost::parse(host).unwrap(), address.parse().unwrap(), port)
    }

    #[test]
    fn a163_a_right_to_tcp_is_none_to_udp_nor_the_other_way_round() {
        let list = &["udp://10.0.0.5:53", "10.0.0.6:53", "udp://dns.internal:53", "udp://[fd00::/8]:*"];
        let list = AllowList::parse(list.iter().copied()).unwrap();
        let check = |transport, host: &str, address: &str| {
            list.check(transport, &UpstreamHost::parse(host).unwrap(), address.parse().unwrap(), 53)
        };
        for (host, address) in [("10.0.0.5", "10.0.0.5"), ("dns.internal", "10.9.9.9"), ("[fd00::5]", "fd00::5")] {
            assert_eq!(check(Transport::Udp, host, address), Ok(()), "{host}");
            assert_eq!(check(Transport::Tcp, host, address), Err(Refused::NotListed), "{host}");
        }
        assert_eq!(check(Transport::Tcp, "10.0.0.6", "10.0.0.6"), Ok(()));
        assert_eq!(check(Transport::Udp, "10.0.0.6", "10.0.0.6"), Err(Refused::NotListed));
        let by_udp = AllowList::parse(["udp://dns.internal:53"]).unwrap();
        assert!(by_udp.may_look_up(Transport::Udp, 53, "dns.internal"));
        assert!(!by_udp.may_look_up(Transport::Tcp, 53, "dns.internal"));
        // This machine needs a pattern of its own by UDP as well.
        assert!(matches!(
            AllowList::parse(["udp://0.0.0.0/0:*"]).unwrap().check(
                Transport::Udp,
                &UpstreamHost::Name("dns.internal".into()),
                "127.0.0.1".parse().unwrap(),
                53
            ),
            Err(Refused::Never(_))
        ));
    }

    #[test]
    fn a163_exactly_what_is_listed_is_opened() {
        let list = &["10.0.0.5:443", "db.internal:5432", "10.1.0.0/16:*", "[fd00:1::/32]:22"];
        for (host, address, port) in [
            ("10.0.0.5", "10.0.0.5", 443),
            ("db.internal", "192.168.7.7", 5432),
            ("10.1.2.3", "10.1.2.3", 22),
            ("web.internal", "10.1.2.3", 80),
            ("[fd00:1::5]", "fd00:1::5", 22),
            ("[::ffff:10.0.0.5]", "::ffff:10.0.0.5", 443),
        ] {
            assert_eq!(check(list, host, address, port), Ok(()), "{host} {address} {port}");
        }
        for (host, address, port) in [
            ("10.0.0.5", "10.0.0.5", 22),
            ("10.0.0.6", "10.0.0.6", 443),
            ("db.internal", "192.168.7.7", 22),
            // A name that begins alike, or ends alike, is another.
            ("db.internal.evil", "192.168.7.7", 5432),
            ("xdb.internal", "192.168.7.7", 5432),
            ("other.internal", "10.0.0.5", 80),
            ("[fd00:2::5]", "fd00:2::5", 22),
        ] {
            assert_eq!(check(list, host, address, port), Err(Refused::NotListed), "{host} {address} {port}");
        }
        assert_eq!(check(&[], "10.0.0.5", "10.0.0.5", 443), Err(Refused::NotListed));
    }

    #[test]
    fn a159_no_name_and_no_wide_network_leads_to_this_machine_or_a_clouds_services() {
        let wide = &["0.0.0.0/0:*", "[::/0]:*", "db.internal:*", "96.0.0.0/3:*"];
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "100.100.100.200", "64:ff9b::7f00:1", "fd00:ec2::23"] {
            let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            assert!(matches!(check(wide, &host, address, 80), Err(Refused::Never(_))), "{address}");
            assert!(matches!(check(wide, "db.internal", address, 80), Err(Refused::Never(_))), "{address} by name");
        }
        // Not even its own pattern helps.
        let host = UpstreamHost::Name("db.internal".into());
        let metadata = AllowList::parse(["169.254.0.0/16:*"]).unwrap();
        assert!(metadata.check(Transport::Tcp, &host, "169.254.169.254".parse().unwrap(), 80).is_err());
        // Who writes it down means it.
        assert_eq!(check(&["127.0.0.0/8:5432"], "127.0.0.1", "127.0.0.1", 5432), Ok(()));
        assert_eq!(check(&["[::1]:80"], "localhost", "::1", 80), Ok(()));
        assert_eq!(check(&["100.100.100.200:80"], "100.100.100.200", "100.100.100.200", 80), Ok(()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "",
            "10.0.0.5",
            "10.0.0.5:",
            "10.0.0.5:0",
            "10.0.0.5:65536",
            "10.0.0.5:+1",
            "10.0.0.0/33:1",
            "fd00::/8:1",
            "[10.0.0.0/8]:1",
            "10.0.0.5/:1",
            "*:80",
            "*.internal:80",
            "Db.internal:1",
            "db.internal.:1",
            "a b:1",
            "169.254.169.254:80",
            "127.1:80",
            "tcp://10.0.0.5:80",
            "udp:10.0.0.5:80",
            "UDP://10.0.0.5:80",
            "udp://udp://10.0.0.5:80",
        ] {
            assert!(matches!(AllowList::parse([bad]), Err(PatternError::Shape { .. })), "{bad}");
        }
        assert!(matches!(AllowList::parse(["10.0.0.1/8:1"]), Err(PatternError::HostBits { .. })));
        assert!(AllowList::parse(std::iter::repeat_n("10.0.0.1:1", MAX_PATTERNS + 1)).is_err());
        let file = AllowList::parse_file("# databases\n10.0.0.5:5432  # the big one\n\n  db.internal:5432\n").unwrap();
        assert_eq!(file.len(), 2);
    }
}
