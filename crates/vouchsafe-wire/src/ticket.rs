//! The one-time text that invites a device or connector: where the gateway is, the code, and the
//! fingerprint of the root that vouches for it, so that the very first connection already verifies its peer.
//!
//! Text form: `vse1.<gateway host>:<port>.<code>.<root>`, of a connector `vsc1.` in front; code is 26
//! characters of Crockford base32 (128 bits), root is the SHA-256 of the root certificate in 64 hexadecimal
//! digits.

use std::fmt;

use crate::authority::Authority;

/// Who is invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invited {
    /// A device.
    Device,
    /// A connector.
    Connector,
}

impl Invited {
    const fn prefix(self) -> &'static str {
        match self {
            Invited::Device => "vse1.",
            Invited::Connector => "vsc1.",
        }
    }

    const fn other(self) -> &'static str {
        match self {
            Invited::Device => "it does not start with `vse1.`",
            Invited::Connector => "it does not start with `vsc1.`",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Invited::Device => "device",
            Invited::Connector => "connector",
        }
    }
}

/// An invitation for one device or connector.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Host name of the gateway, `gw.<base domain>`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The one-time code.
    pub code: String,
    /// SHA-256 of the DER of the root certificate.
    pub root_sha256: [u8; 32],
}

/// Failure to read a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not the ticket of a {}: {why}; copy the whole line that `vouchsafe {} invite` printed",
    invited.verb(), invited.verb()
)]
pub struct TicketError {
    /// For whom it should have been.
    pub invited: Invited,
    /// What is wrong, in words.
    pub why: &'static str,
}

impl Ticket {
    /// Reads the ticket of a device; white space around it is ignored.
    ///
    /// # Errors
    /// [`TicketError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        Self::parse_of(Invited::Device, text)
    }

    /// Reads the ticket of a device or connector.
    ///
    /// # Errors
    /// As [`Ticket::parse`].
    pub fn parse_of(invited: Invited, text: &str) -> Result<Self, TicketError> {
        let fail = |why| TicketError { invited, why };
        let rest = text.trim().strip_prefix(invited.prefix()).ok_or(fail(invited.other()))?;
        let (rest, root) = rest.rsplit_once('.').ok_or(fail("the root fingerprint is missing"))?;
        let (authority, code) = rest.rsplit_once('.').ok_or(fail("the code is missing"))?;
        let authority = Authority::parse(authority).map_err(|_| fail("the gateway's host is malformed"))?;
        let port = authority.port.ok_or(fail("the gateway's port is missing"))?;
        if code.len() != 26 || !code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(fail("the code is malformed"));
        }
        let root_sha256 = unhex(root).ok_or(fail("the root fingerprint is malformed"))?;
        Ok(Self { host: authority.host, port, code: code.to_owned(), root_sha256 })
    }

    /// The text form for a device, which is a secret until it is used.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_text_of(Invited::Device)
    }

    /// The text form for a device or connector.
    #[must_use]
    pub fn to_text_of(&self, invited: Invited) -> String {
        format!("{}{}:{}.{}.{}", invited.prefix(), self.host, self.port, self.code, hex(&self.root_sha256))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}:{}, code withheld)", self.host, self.port)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes of 64 lower-case hexadecimal digits.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_round_trips_and_hides_its_code() {
        let ticket =
            Ticket { host: "gw.corp.example".into(), port: 8443, code: "a".repeat(26), root_sha256: [0xab; 32] };
        for (invited, other) in [(Invited::Device, Invited::Connector), (Invited::Connector, Invited::Device)] {
            let text = ticket.to_text_of(invited);
            assert_eq!(Ticket::parse_of(invited, &format!(" {text}\n")), Ok(ticket.clone()));
            assert!(Ticket::parse_of(other, &text).is_err());
        }
        assert!(!format!("{ticket:?}").contains("aaaa"));
    }

    #[test]
    fn half_a_ticket_is_refused_with_a_hint() {
        let text =
            Ticket { host: "gw.corp.example".into(), port: 8443, code: "a".repeat(26), root_sha256: [1; 32] }.to_text();
        for end in 0..text.len() {
            assert!(Ticket::parse(&text[..end]).is_err(), "{end}");
        }
    }
}
