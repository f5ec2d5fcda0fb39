//! How a connector becomes one, and what it is asked. Specification: `docs/spec/connector.md`.
//!
//! | request, at `gw.<domain>` | proof | body → answer |
//! | --- | --- | --- |
//! | `POST /connector/join` | one-time code, signature of the request | [`JoinRequest`] → [`Joined`] |
//! | `POST /connector/renew` | signature of the request, by the key that joined | [`RenewRequest`] → [`Joined`] |
//!
//! All else passes on the connection that the connector opens to a gateway, which is TLS with both roles'
//! certificates and [`ALPN`], and on which the gateway is the client: CONNECT streams of HTTP/2.

use serde::{Deserialize, Serialize};
use vouchsafe_model::resource::{Endpoint, UpstreamHost};

use crate::authority::UDP_PATH;

/// Path of the first request of a new connector.
pub const JOIN: &str = "/connector/join";
/// Path for the next certificate.
pub const RENEW: &str = "/connector/renew";
/// Protocol that a connector, and nobody else, offers in its handshake (RFC 7301): HTTP/2 with the client's
/// part played by who accepted the connection.
pub const ALPN: &[u8] = b"vouchsafe-connector/1";
/// Field of a CONNECT: the site that it is meant for. A connector of another one refuses it.
pub const SITE_HEADER: &str = "vouchsafe-site";
/// Path under which a gateway hands a connector the list of gateways, by PUT on the connector's connection.
pub const ROSTER: &str = "/gateways";
/// `:protocol` of a CONNECT that asks for datagrams to a UDP target (RFC 9298); the path says which.
pub const CONNECT_UDP: &str = "connect-udp";
/// Life of a connector's certificate, seconds.
pub const CONNECTOR_CERT_LIFE_SECONDS: u64 = 7 * 24 * 3600;

/// The path of a UDP target (RFC 9298 §3): the colons of an IPv6 address are percent-encoded.
#[must_use]
pub fn udp_path(target: &Endpoint) -> String {
    let host = match &target.host {
        UpstreamHost::Ip(address) => address.to_string().replace(':', "%3A"),
        UpstreamHost::Name(name) => name.clone(),
    };
    format!("{UDP_PATH}{host}/{}/", target.port)
}

/// Reads such a path, in exactly that form.
#[must_use]
pub fn udp_target(path: &str) -> Option<Endpoint> {
    let (host, port) = path.strip_prefix(UDP_PATH)?.strip_suffix('/')?.split_once('/')?;
    let host = if host.contains("%3A") { format!("[{}]", host.replace("%3A", ":")) } else { host.to_owned() };
    let target = Endpoint::parse(&format!("{host}:{port}")).ok()?;
    (udp_path(&target) == path).then_some(target)
}

/// Asks to become a connector. Of the request only the key counts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// One-time code.
    pub code: String,
    /// PEM of a PKCS#10 request.
    pub csr: String,
}

/// Asks for the next certificate of the same key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Id of the connector.
    pub connector: String,
    /// PEM of a PKCS#10 request of its key.
    pub csr: String,
}

/// What a connector is told when it joins, and at each renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its id (`con_…`).
    pub connector: String,
    /// Its name.
    pub name: String,
    /// The site it serves.
    pub site: String,
    /// Base domain.
    pub domain: String,
    /// PEM of its certificate, then its issuer's.
    pub certificate: String,
    /// PEM of the installation's root.
    pub root: String,
    /// End of the certificate, unix seconds.
    pub not_after: u64,
    /// When to renew it, unix seconds.
    pub renew_at: u64,
    /// The signed list of gateways in base64. Its signature is what makes it good, not who handed it on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateways: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_target_has_one_path() {
        for (target, path) in [
            ("dns.internal:53", "/.well-known/masque/udp/dns.internal/53/"),
            ("10.0.0.5:53", "/.well-known/masque/udp/10.0.0.5/53/"),
            ("[fd00::5]:53", "/.well-known/masque/udp/fd00%3A%3A5/53/"),
        ] {
            let target = Endpoint::parse(target).unwrap();
            assert_eq!(udp_path(&target), path);
            assert_eq!(udp_target(path), Some(target));
        }
        for other in [
            "/.well-known/masque/udp/10.0.0.5/53",
            "/.well-known/masque/udp/10.0.0.5/053/",
            "/.well-known/masque/udp/10.0.0.5/0/",
            "/.well-known/masque/udp/10.0.0.5/53/x/",
            "/.well-known/masque/udp/10.0.0.5:53/53/",
            "/.well-known/masque/udp/127.1/53/",
            "/.well-known/masque/udp/169.254.169.254/80/",
            "/.well-known/masque/udp/DNS.internal/53/",
            "/.well-known/masque/udp/dns%2einternal/53/",
            "/.well-known/masque/udp/fd00%3a%3a5/53/",
            "/.well-known/masque/udp/fd00::5/53/",
            "/.well-known/masque/udp//53/",
            "/.well-known/masque/ip/10.0.0.5/53/",
            "",
        ] {
            assert_eq!(udp_target(other), None, "{other}");
        }
    }
}
