//! What a handshake ended with, for records and logs.

use std::fmt;

use rustls::{CommonState, HandshakeKind, NamedGroup, ProtocolVersion};

/// Version, key agreement, and whether the session was resumed. Shown as `1.3 X25519MLKEM768` or
/// `1.3 X25519MLKEM768 resumed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    version: Option<ProtocolVersion>,
    group: Option<NamedGroup>,
    resumed: bool,
}

impl Negotiated {
    /// Reads it from a connection whose handshake is over.
    #[must_use]
    pub fn of(connection: &CommonState) -> Self {
        Self {
            version: connection.protocol_version(),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Of a handshake in QUIC with that group: it is of TLS 1.3 (RFC 9001 §4.2) and, here, never a
    /// resumption.
    #[must_use]
    pub const fn in_quic(group: Option<NamedGroup>) -> Self {
        Self { version: Some(ProtocolVersion::TLSv1_3), group, resumed: false }
    }

    /// Whether what is sent now stays secret from somebody who records it and has a quantum
    /// computer later. A resumed session agreed on a fresh key too (`psk_dhe_ke`).
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        self.group == Some(NamedGroup::X25519MLKEM768)
    }

    /// Whether the session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(ProtocolVersion::TLSv1_3) => f.write_str("1.3")?,
            Some(ProtocolVersion::TLSv1_2) => f.write_str("1.2")?,
            other => write!(f, "{other:?}")?,
        }
        if let Some(group) = self.group {
            write!(f, " {}", group.as_str().unwrap_or("unknown group"))?;
        }
        if self.resumed { f.write_str(" resumed") } else { Ok(()) }
    }
}
