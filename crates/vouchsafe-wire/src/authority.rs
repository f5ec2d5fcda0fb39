//! `host:port` as it stands in CONNECT, Host and `:authority` (RFC 3986 §3.2, RFC 9110 §7.2).

use std::net::IpAddr;

/// Where CONNECT-UDP is served on the gateway's own host (RFC 9298 §3); host and port follow.
pub const UDP_PATH: &str = "/.well-known/masque/udp/";
/// Field of a CONNECT by which our agent leaves the port to the resource (`docs/spec/tunnel.md`).
pub const ANY_PORT_HEADER: &str = "x-vouchsafe-port";
/// Its only value.
pub const ANY_PORT: &str = "any";

/// One canonical host name and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Lower-case host name, no trailing dot; never an address.
    pub host: String,
    /// The port, when one was written.
    pub port: Option<u16>,
}

/// Failure to read an authority as exactly one host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Empty, or longer than 260 bytes.
    #[error("host is empty or too long")]
    Length,
    /// A byte that has no place in a host name and port: user information, a list, white space,
    /// percent-encoding or non-ASCII.
    #[error("host contains a character that does not belong there")]
    Character,
    /// The port is not 1 to 65535 in plain digits.
    #[error("port is not a number of 1 to 65535")]
    Port,
    /// An IP address: resources have names.
    #[error("host is an address; resources have names")]
    Address,
    /// A label is empty, too long, or starts or ends with a hyphen, or the name ends in a dot.
    #[error("host is not a well-formed name")]
    Label,
}

/// A name of 253 bytes, a colon and the longest port.
const MAX_BYTES: usize = 253 + 6;

impl Authority {
    /// Reads `host` or `host:port`. Upper case is folded (names are case-insensitive, RFC 4343);
    /// everything else that is not canonical is refused.
    ///
    /// # Errors
    /// [`AuthorityError`] names the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(AuthorityError::Length);
        }
        if text.starts_with('[') {
            return Err(AuthorityError::Address);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_');
        if !text.bytes().all(allowed) {
            return Err(AuthorityError::Character);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let host = host.to_ascii_lowercase();
        // What has no colon and begins with no digit is no address.
        if host.starts_with(|first: char| first.is_ascii_digit()) && host.parse::<IpAddr>().is_ok() {
            return Err(AuthorityError::Address);
        }
        let label = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(AuthorityError::Label);
        }
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let plain =
        (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match text.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(AuthorityError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a041_hosts_with_two_readings_are_refused() {
        for bad in [
            "",
            " app-a",
            "app-a ",
            "app-a, app-b",
            "app-a@evil",
            "user@app-a",
            "app-a:99999",
            "app-a:0",
            "app-a:+80",
            "app-a:080",
            "app-a:",
            "app-a:80:80",
            "app-a.",
            ".app-a",
            "app..a",
            "app%2da",
            "app\u{131}",
            "127.0.0.1",
            "[::1]:80",
            "app/a",
            "-a",
            "a-",
        ] {
            assert!(Authority::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn lengths_have_limits() {
        let labels = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "x".repeat(61));
        assert_eq!(labels.len(), 253);
        assert!(Authority::parse(&labels).is_ok());
        assert!(Authority::parse(&format!("{labels}:65535")).is_ok());
        assert_eq!(Authority::parse(&format!("{labels}x")), Err(AuthorityError::Label));
        assert_eq!(Authority::parse(&format!("{labels}x:65535")), Err(AuthorityError::Length));
        assert_eq!(Authority::parse(""), Err(AuthorityError::Length));
        assert_eq!(Authority::parse(&"x".repeat(64)), Err(AuthorityError::Label));
    }

    #[test]
    fn a_name_may_begin_with_a_digit_but_not_be_an_address() {
        assert!(Authority::parse("3scale.corp.example").is_ok());
        assert!(Authority::parse("10.0.0.app").is_ok());
        assert_eq!(Authority::parse("10.0.0.1:443"), Err(AuthorityError::Address));
    }

    #[test]
    fn case_is_folded_and_nothing_else() {
        let parsed = Authority::parse("App-A.Corp.Example:8443").expect("valid");
        assert_eq!(parsed, Authority { host: "app-a.corp.example".into(), port: Some(8443) });
    }
}
