//! How a gateway becomes one, and what it sends on for its clients: HTTP on the connection of the control
//! channel (`docs/spec/control-channel.md`).
//!
//! | request | proof | body → answer |
//! | --- | --- | --- |
//! | `POST /gateway/join` | one-time code, signatures of the requests | [`JoinRequest`] → [`Joined`] |
//! | `POST /gateway/renew` | the gateway's certificate, signatures of the requests | [`RenewRequest`] → [`Certificates`] |
//! | any, with [`CALLER_HEADER`] | the gateway's certificate | as our own hosts answer it |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ticket::{hex, unhex};

/// Path of the first request of a new gateway.
pub const JOIN: &str = "/gateway/join";
/// Path for the next certificates.
pub const RENEW: &str = "/gateway/renew";
/// Says for whom a gateway sends a request on: JSON of [`CallerDoc`]. Never taken from a client.
pub const CALLER_HEADER: &str = "vouchsafe-caller";

/// A second value of [`CALLER_HEADER`]: the key of that client's connection was agreed on with a post-quantum group. Apart from
/// [`CallerDoc`], which a controller of an earlier version would refuse with it; under the same name, because that is what
/// gateways of every version take away from clients.
pub const POST_QUANTUM: &str = "post-quantum";

/// The one-time text that lets a gateway join: `vsj1.<code>.<root>.<host>:<port>`; code is 26 characters of
/// Crockford base32 (128 bits), root is the SHA-256 of the root certificate in 64 hexadecimal digits, host
/// and port are the controller's. With the root in hand, the very first connection verifies its peer.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// The one-time code.
    pub code: String,
    /// SHA-256 of the DER of the root certificate.
    pub root_sha256: [u8; 32],
    /// Host name or address of the controller.
    pub host: String,
    /// Its port for gateways.
    pub port: u16,
}

/// Failure to read a join code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join code: {why}; copy the whole line that `vouchsafe gateway invite` printed")]
pub struct JoinCodeError {
    /// What is wrong, in words.
    pub why: &'static str,
}

impl JoinCode {
    /// Reads a join code; white space around it is ignored.
    ///
    /// # Errors
    /// [`JoinCodeError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, JoinCodeError> {
        let fail = |why| JoinCodeError { why };
        let rest = text.trim().strip_prefix("vsj1.").ok_or(fail("it does not start with `vsj1.`"))?;
        let (code, rest) = rest.split_once('.').ok_or(fail("the root fingerprint is missing"))?;
        let (root, address) = rest.split_once('.').ok_or(fail("the controller's address is missing"))?;
        if code.len() != 26 || !code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(fail("the code is malformed"));
        }
        let root_sha256 = unhex(root).ok_or(fail("the root fingerprint is malformed"))?;
        let (host, port) = address.rsplit_once(':').ok_or(fail("the controller's port is missing"))?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fail("the controller's port is malformed"));
        }
        let port = match port.parse() {
            Ok(port @ 1..) => port,
            Ok(0) | Err(_) => return Err(fail("the controller's port is malformed")),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(fail("the controller's host is malformed"));
        }
        Ok(Self { code: code.to_owned(), root_sha256, host: host.to_owned(), port })
    }

    /// The text form, which is a secret until it is used.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { code, root_sha256, host, port } = self;
        let root = hex(root_sha256);
        if host.contains(':') {
            format!("vsj1.{code}.{root}.[{host}]:{port}")
        } else {
            format!("vsj1.{code}.{root}.{host}:{port}")
        }
    }
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinCode({}:{}, code withheld)", self.host, self.port)
    }
}

/// Asks to become a gateway. Of the requests only the keys count.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// One-time code.
    pub code: String,
    /// PEM of a PKCS#10 request of the key by which controller and upstreams will know it.
    pub identity_csr: String,
    /// PEM of one of the key for our own host names.
    pub server_csr: String,
    /// PEM of one of the P-256 key that will sign assertions.
    pub assertion_csr: String,
}

/// Asks for the next certificates; keys may be the same or new ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// As in [`JoinRequest`].
    pub identity_csr: String,
    /// As in [`JoinRequest`].
    pub server_csr: String,
}

/// What a new gateway is told once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Gateway id (`gtw_…`).
    pub gateway: String,
    /// Its name.
    pub name: String,
    /// Base domain.
    pub domain: String,
    /// Port under which clients reach gateways.
    pub port: u16,
    /// `kid` of its key for assertions.
    pub assertion_kid: String,
    /// The key that signs snapshots: uncompressed P-256 point in hexadecimal.
    pub snapshot_key: String,
    /// Its first certificates.
    pub certificates: Certificates,
}

/// The certificates of a gateway, and whom it believes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificates {
    /// PEM chain of its identity.
    pub identity: String,
    /// PEM chain for our own host names, root along.
    pub server: String,
    /// PEM of the installation's root.
    pub root: String,
    /// PEM of the roots that vouch for devices.
    pub device_roots: String,
    /// PEM of the roots that vouch for connectors; empty from a controller that has none.
    #[serde(default)]
    pub connector_roots: String,
    /// Keys that verify access tokens.
    pub token_keys: Vec<TokenKey>,
    /// End of the certificates, unix seconds.
    pub not_after: u64,
    /// When to renew them, unix seconds.
    pub renew_at: u64,
}

/// A key that verifies access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// `kid`.
    pub kid: String,
    /// Uncompressed P-256 point in hexadecimal.
    pub point: String,
}

/// For whom a gateway sends a request on. Who the subject is isn't here: that is what the request itself proves,
/// to the controller too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerDoc {
    /// First label of the host that was asked.
    pub host: String,
    /// Address of the client.
    pub ip: String,
    /// Device proven on the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<CallerDevice>,
    /// The decision that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// A device proven on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerDevice {
    /// Device id.
    pub id: String,
    /// SHA-256 of its certificate, hexadecimal.
    pub certificate_sha256: String,
    /// End of the certificate, unix microseconds.
    pub not_after_us: u64,
}

/// The 65 bytes of an uncompressed P-256 point in hexadecimal.
#[must_use]
pub fn point(text: &str) -> Option<Vec<u8>> {
    if text.len() != 130 || !text.starts_with("04") {
        return None;
    }
    let (head, tail) = text.split_at_checked(2)?;
    let (x, y) = tail.split_at_checked(64)?;
    let mut out = vec![u8::from_str_radix(head, 16).ok()?];
    out.extend(unhex(x)?);
    out.extend(unhex(y)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(host: &str) -> JoinCode {
        JoinCode { code: "a".repeat(26), root_sha256: [0xab; 32], host: host.to_owned(), port: 8444 }
    }

    #[test]
    fn a_join_code_round_trips_and_hides_its_code() {
        for host in ["control.corp.example", "10.0.0.5", "fd00::5", "controller"] {
            let code = code(host);
            assert_eq!(JoinCode::parse(&format!(" {}\n", code.to_text())), Ok(code.clone()));
            assert!(!format!("{code:?}").contains("aaaa"));
        }
    }

    #[test]
    fn half_a_join_code_and_other_texts_are_refused() {
        let text = code("10.0.0.5").to_text();
        // A port that lost its end is still a port; everything before it is not.
        for end in 0..text.len() - 3 {
            assert!(JoinCode::parse(&text[..end]).is_err(), "{end}");
        }
        for bad in [
            text.replace("vsj1", "vse1"),
            text.replace(":8444", ":0"),
            text.replace(":8444", ":84440"),
            text.replace("10.0.0.5", "10.0.0.5/x"),
            text.replace("10.0.0.5", "user@10.0.0.5"),
            text.replace("aaaa", "AAAA"),
        ] {
            assert!(JoinCode::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_point_has_one_form() {
        let text = format!("04{}", "ab".repeat(64));
        assert_eq!(point(&text).map(|point| point.len()), Some(65));
        for bad in [text.replace("ab", "AB"), format!("03{}", "ab".repeat(64)), format!("{text}00"), String::new()] {
            assert_eq!(point(&bad), None);
        }
    }
}
