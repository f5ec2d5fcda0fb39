//! What can be asked for, and where it lives.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use crate::action::Action;
use crate::mode::Mode;
use crate::name::{ResourceGroupName, ResourceName, SiteName, Tag};

/// Something a subject can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Name, first label of its host name, and Cedar id.
    pub name: ResourceName,
    /// What kind it is, and how it is reached.
    pub spec: ResourceSpec,
    /// Groups it belongs to.
    pub groups: BTreeSet<ResourceGroupName>,
    /// Free labels, for policies to read.
    pub tags: BTreeSet<Tag>,
    /// How much harm a leak would do.
    pub sensitivity: Sensitivity,
    /// One line for people, at most 200 characters.
    pub description: String,
    /// How much longer than the lease a gateway may serve it that doesn't hear from its controller, up to
    /// 24 h.
    pub offline_grace: Duration,
    /// Where its upstream is reached from: a site's connectors dial it, and else the gateway does.
    pub via: Option<SiteName>,
    /// What becomes of a denial.
    pub mode: Mode,
}

/// Kind of a resource; each is a Cedar entity type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A web app or HTTP API.
    Http,
    /// Any service on a TCP port.
    Tcp,
    /// Any service on a UDP port. A right to the TCP port of the same number is not a right to it.
    Udp,
    /// vouchsafe's own console and API.
    Console,
}

impl ResourceKind {
    /// The word in manifests, records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ResourceKind::Http => "http",
            ResourceKind::Tcp => "tcp",
            ResourceKind::Udp => "udp",
            ResourceKind::Console => "console",
        }
    }

    /// The Cedar entity type.
    #[must_use]
    pub const fn entity_type(self) -> &'static str {
        match self {
            ResourceKind::Http => "Http",
            ResourceKind::Tcp => "Tcp",
            ResourceKind::Udp => "Udp",
            ResourceKind::Console => "Console",
        }
    }

    /// Actions that make sense on this kind.
    #[must_use]
    pub const fn actions(self) -> &'static [Action] {
        match self {
            ResourceKind::Http => &[Action::HttpRead, Action::HttpWrite, Action::HttpUpgrade],
            ResourceKind::Tcp | ResourceKind::Udp => &[Action::NetConnect],
            ResourceKind::Console => &[Action::ConsoleRead, Action::ConsoleWrite],
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Kind of a resource with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceSpec {
    /// A web app or HTTP API.
    Http(HttpSpec),
    /// Any service on a TCP port.
    Tcp(TcpSpec),
    /// Any service on a UDP port.
    Udp(UdpSpec),
    /// Our own console and API; exactly one exists and it has no upstream.
    Console,
}

impl ResourceSpec {
    /// The kind alone.
    #[must_use]
    pub const fn kind(&self) -> ResourceKind {
        match self {
            ResourceSpec::Http(_) => ResourceKind::Http,
            ResourceSpec::Tcp(_) => ResourceKind::Tcp,
            ResourceSpec::Udp(_) => ResourceKind::Udp,
            ResourceSpec::Console => ResourceKind::Console,
        }
    }
}

/// How a web app is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSpec {
    /// Plain or TLS towards the upstream.
    pub scheme: UpstreamScheme,
    /// Where it listens.
    pub upstream: Endpoint,
    /// PEM of the certificate authorities that may vouch for an `https` upstream;
    /// `None` trusts the public ones.
    pub upstream_ca_pem: Option<String>,
    /// Which host name the upstream sees.
    pub host_header: HostHeader,
    /// Whether the upstream also gets plain identity headers beside the signed assertion.
    pub identity_headers: IdentityHeaders,
    /// Which version of HTTP the upstream is spoken to in.
    pub upstream_protocol: UpstreamProtocol,
    /// Oldest version of TLS that an `https` upstream may choose.
    pub upstream_tls: UpstreamTls,
    /// How long it may take to connect, all addresses and TLS together, 1 s to 60 s.
    pub connect_timeout: Duration,
    /// How long the upstream may take until its response head, 1 s to 1 h.
    pub response_timeout: Duration,
    /// How long an exchange or WebSocket may go on without a byte in either direction, 10 s to 24 h.
    pub idle_timeout: Duration,
    /// When the audit record of a request must be durable.
    pub audit: AuditTiming,
    /// How its paths are read.
    pub paths: PathRules,
    /// Port at which a proxy that asks us serves the app's name; `None`: we serve it ourselves, and nobody may ask for it.
    pub proxy_port: Option<NonZeroU16>,
}

/// What a web app needs its paths to be allowed. Strict by default: every leeway is a spelling that
/// some servers read otherwise than others, so it is the owner's word on how this one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PathRules {
    /// `%2F` inside a segment.
    pub encoded_slashes: Leeway,
    /// `//`, but never at the beginning.
    pub double_slashes: Leeway,
    /// `;` and what follows it in a segment.
    pub parameters: Leeway,
    /// Whether upper and lower case are different paths.
    pub case: PathCase,
}

impl PathRules {
    /// No leeway, and case matters: the default.
    pub const STRICT: Self = Self {
        encoded_slashes: Leeway::Refused,
        double_slashes: Leeway::Refused,
        parameters: Leeway::Refused,
        case: PathCase::Sensitive,
    };
    /// Every leeway that any resource can have: what is refused even so has no reading anywhere.
    pub const WIDEST: Self = Self {
        encoded_slashes: Leeway::Kept,
        double_slashes: Leeway::Kept,
        parameters: Leeway::Kept,
        case: PathCase::Sensitive,
    };
}

/// Whether a spelling that servers read in different ways is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Leeway {
    /// A request that has it is refused.
    #[default]
    Refused,
    /// It is kept as it is, and every reading of it must be permitted.
    Kept,
}

/// Whether upper and lower case are different paths to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathCase {
    /// They are.
    #[default]
    Sensitive,
    /// They are the same: the path is decided on, recorded and sent in lower case.
    Folded,
}

impl HttpSpec {
    /// Connect time-out of a resource that does not say.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Response time-out of a resource that does not say.
    pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
    /// Idle time-out of a resource that does not say.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

    /// An upstream with everything else as it is unless said otherwise.
    #[must_use]
    pub fn new(scheme: UpstreamScheme, upstream: Endpoint) -> Self {
        Self {
            scheme,
            upstream,
            upstream_ca_pem: None,
            host_header: HostHeader::default(),
            identity_headers: IdentityHeaders::default(),
            upstream_protocol: UpstreamProtocol::default(),
            upstream_tls: UpstreamTls::default(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            response_timeout: Self::RESPONSE_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            audit: AuditTiming::default(),
            paths: PathRules::STRICT,
            proxy_port: None,
        }
    }
}

/// How a TCP service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSpec {
    /// Where it listens.
    pub upstream: Endpoint,
    /// Port under which subjects ask for it; the upstream's own unless set apart.
    pub port: u16,
}

/// How a UDP service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSpec {
    /// Where it listens.
    pub upstream: Endpoint,
    /// Port under which subjects ask for it; the upstream's own unless set apart.
    pub port: u16,
    /// A flow without a datagram either way for that long ends, 5 s to 1 h.
    pub idle_timeout: Duration,
}

/// Plain or TLS towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// `http`: no protection on the last hop.
    Http,
    /// `https`: the upstream's certificate is verified against its host name.
    Https,
}

impl UpstreamScheme {
    /// The URL scheme.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            UpstreamScheme::Http => "http",
            UpstreamScheme::Https => "https",
        }
    }
}

/// Which version of HTTP an upstream is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpstreamProtocol {
    /// HTTP/2 where an `https` upstream chooses it in the handshake (RFC 7301), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; with an `http` upstream by prior knowledge (RFC 9113 §3.3).
    H2,
}

/// Oldest version of TLS that an upstream may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpstreamTls {
    /// TLS 1.2 or 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// Which host name the upstream sees in `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HostHeader {
    /// The public one that the browser asked for.
    #[default]
    Public,
    /// The upstream's own host and port.
    Upstream,
}

/// Whether plain identity headers (`X-Vouchsafe-User`, `X-Vouchsafe-Groups`,
/// `X-Vouchsafe-Device`) go to the upstream beside the signed assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentityHeaders {
    /// Only the signed assertion.
    #[default]
    AssertionOnly,
    /// Also the plain headers, for apps that can't verify a JWT.
    Plain,
}

/// When the audit record of an HTTP exchange must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AuditTiming {
    /// Written before the response and synced within 100 ms.
    #[default]
    Soon,
    /// Synced before the request goes upstream.
    Before,
}

/// How much harm a leak would do; policies read it as a number, 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Sensitivity {
    /// 0: anyone may know.
    Public,
    /// 1: for the organisation.
    #[default]
    Internal,
    /// 2: for those who need it.
    Confidential,
    /// 3: grave harm.
    Restricted,
}

impl Sensitivity {
    /// Every level, least first.
    pub const ALL: [Sensitivity; 4] =
        [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];

    /// The word in manifests and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Sensitivity::Public => "public",
            Sensitivity::Internal => "internal",
            Sensitivity::Confidential => "confidential",
            Sensitivity::Restricted => "restricted",
        }
    }

    /// The number that policies compare.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Sensitivity::Public => 0,
            Sensitivity::Internal => 1,
            Sensitivity::Confidential => 2,
            Sensitivity::Restricted => 3,
        }
    }

    /// The level of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Sensitivity::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// Host and port of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host, as the administrator wrote it.
    pub host: UpstreamHost,
    /// TCP or UDP port, never 0.
    pub port: u16,
}

/// Host of an upstream: an address, or a name that is looked up at each connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// A literal address in canonical form.
    Ip(IpAddr),
    /// A DNS name, lower-case, no trailing dot.
    Name(String),
}

/// Failure to accept an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `host:port`.
    #[error("`{given}` is not `host:port` with a port of 1 to 65535")]
    Shape {
        /// The text as given, shortened.
        given: String,
    },
    /// The host is neither a canonical address nor a DNS name.
    #[error(
        "`{given}` is neither a canonical IP address nor a DNS name; short, octal, hexadecimal and integer forms of addresses are refused"
    )]
    Host {
        /// The text as given, shortened.
        given: String,
    },
    /// The address can't be an upstream.
    #[error("`{given}` can't be an upstream: {why}")]
    Forbidden {
        /// The address.
        given: IpAddr,
        /// Why not, in words.
        why: &'static str,
    },
}

fn shorten(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

impl Endpoint {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`EndpointError`] when the text is not of that shape or the host can't be an upstream.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let shape = || EndpointError::Shape { given: shorten(text) };
        let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
        let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = if digits { port.parse().map_err(|_| shape())? } else { return Err(shape()) };
        if port == 0 {
            return Err(shape());
        }
        Ok(Self { host: UpstreamHost::parse(host)?, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl UpstreamHost {
    /// Reads an address (IPv6 in brackets) or a DNS name.
    ///
    /// # Errors
    /// [`EndpointError::Host`] or [`EndpointError::Forbidden`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Host { given: shorten(text) };
        let address = match text.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                Some(IpAddr::V6(inner.parse::<Ipv6Addr>().map_err(|_| wrong())?))
            }
            None => text.parse().ok().filter(IpAddr::is_ipv4),
        };
        if let Some(address) = address {
            return match never_upstream(address) {
                Some(why) => Err(EndpointError::Forbidden { given: address, why }),
                None => Ok(UpstreamHost::Ip(address)),
            };
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name whose last label starts with a digit is one of the many spellings of an IPv4
        // address (`127.1`, `0x7f.1`, `2130706433`) to some resolver (WHATWG URL, "ends in a number").
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_name = text.len() <= 253
            && text.split('.').all(label)
            && !last.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if is_name { Ok(UpstreamHost::Name(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamHost::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            UpstreamHost::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            UpstreamHost::Name(name) => f.write_str(name),
        }
    }
}

/// Why no upstream can have this address, even when an administrator writes it down.
///
/// Link-local holds cloud metadata services (169.254.169.254), the others can't be the address
/// of one host. IPv4 inside IPv6 is judged as the IPv4 address that a router would make of it.
#[must_use]
pub fn never_upstream(address: IpAddr) -> Option<&'static str> {
    match embedded_v4(address) {
        IpAddr::V4(v4) if v4.is_unspecified() || v4.octets().first() == Some(&0) => {
            Some("it is an unspecified address")
        }
        IpAddr::V4(v4) if v4.is_link_local() => Some("it is link-local, where cloud metadata services live"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("it is a multicast or broadcast address"),
        IpAddr::V4(v4) if v4.octets().first().is_some_and(|first| *first >= 240) => Some("it is a reserved address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("it is an unspecified address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("it is link-local"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("it is a multicast address"),
        IpAddr::V6(v6) if v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => {
            Some("it is a cloud metadata service")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Why a *name* may not lead to this address though a literal may: a name that turns out to
/// be this very machine, or what its cloud keeps for it, is a surprise through DNS (rebinding), not an
/// upstream.
#[must_use]
pub fn never_by_name(address: IpAddr) -> Option<&'static str> {
    if let Some(why) = never_upstream(address) {
        return Some(why);
    }
    let plain = embedded_v4(address);
    if METADATA.contains(&plain) {
        return Some("it is a service of the cloud for this machine: write the address itself if it is meant");
    }
    plain.is_loopback().then_some("a name may not lead to a loopback address: write the address itself if it is meant")
}

/// Where clouds answer the machine itself, with its credentials too, outside the link-local range: Amazon
/// (pods), Google (IPv6), Alibaba, Azure and Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The IPv4 address inside an IPv4-mapped (`::ffff:0:0/96`), IPv4-compatible, IPv4-translated
/// (`::ffff:0:0:0/96`), NAT64 (`64:ff9b::/96`, and `64:ff9b:1::/48` with the address at its end), 6to4
/// (`2002::/16`) or Teredo (`2001::/32`) one; any other address unchanged.
#[must_use]
pub fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::from(((u32::from(high) << 16) | u32::from(low)).to_be_bytes());
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // RFC 4380 §4: each bit turned over.
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a159_other_spellings_of_forbidden_addresses_are_refused() {
        for bad in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[::ffff:a9fe:a9fe]:80",
            "2852039166:80",
            "0xA9FEA9FE:80",
            "0251.0376.0251.0376:80",
            "127.1:80",
            "[::]:80",
            "0.0.0.0:80",
            "localhost.:80",
            "[fd00:ec2::254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::]:80",
            "[64:ff9b:1::a9fe:a9fe]:80",
            "[2001:0:53aa:64c::5601:5601]:80",
            "[::169.254.169.254]:80",
            "[::ffff:0:169.254.169.254]:80",
            "[fe80::1%lo]:80",
            "[fe80::1]:80",
            "::1:80",
            "224.0.0.1:80",
            "host:0",
            "host:65536",
            "host:+80",
            "host",
            "user@host:80",
            "ho st:80",
            "[::ffff:0.0.0.0]:1",
            "0x7f.1:80",
            ":80",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn usual_upstreams_are_accepted() {
        for good in
            ["127.0.0.1:5432", "[::1]:80", "10.0.0.5:443", "db.internal:5432", "localhost:3000", "a_b.internal:1"]
        {
            let parsed = Endpoint::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(parsed.to_string(), good);
        }
    }

    #[test]
    fn a_name_may_not_lead_to_loopback() {
        let clouds = ["100.100.100.200", "::ffff:168.63.129.16", "192.0.0.192", "fd20:ce::254", "fd00:ec2::23"];
        for bad in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"].into_iter().chain(clouds) {
            assert!(never_by_name(bad.parse().expect("address")).is_some(), "{bad}");
        }
        assert_eq!(never_by_name("10.1.2.3".parse().expect("address")), None);
    }
}
