//! The list of gateways, as connectors are told it (`docs/spec/connector.md`): signed by the controller, so that
//! a gateway that hands it on can withhold it and not change it.

use prost::Message;

/// What the signature is over: these bytes, then the payload. No other signature of ours is.
pub const ROSTER_CONTEXT: &[u8] = b"vouchsafe gateways v1\n";
/// Longest list with its signature, bytes.
pub const MAX_ROSTER_BYTES: usize = 512 * 1024;
/// Most gateways of one list.
pub const MAX_GATEWAYS: usize = 1_024;
/// Most addresses of one gateway.
pub const MAX_ADDRESSES: usize = 4;

/// A list with the controller's signature.
#[derive(Clone, PartialEq, Message)]
pub struct SignedRoster {
    /// Bytes of a [`Roster`].
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: bytes::Bytes,
    /// ECDSA over P-256 and SHA-256 in its ASN.1 form, over [`signed_bytes`], by the key of the first certificate.
    #[prost(bytes = "bytes", tag = "2")]
    pub signature: bytes::Bytes,
    /// DER of the certificate that says whose key it is, then its issuer's.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub chain: Vec<bytes::Bytes>,
}

impl SignedRoster {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        self.encode_to_vec().into()
    }
}

/// The gateways of an installation at one moment.
#[derive(Clone, PartialEq, Message)]
pub struct Roster {
    /// Base domain, so that no list of another installation passes.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Number of the newest row of the change feed when it was made. Of two lists the one with the higher number
    /// is the newer; of two with the same, the one that was made later.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// When it was made, unix microseconds.
    #[prost(uint64, tag = "3")]
    pub made_us: u64,
    /// Until when it says anything, unix microseconds.
    #[prost(uint64, tag = "4")]
    pub ends_us: u64,
    /// All gateways that were not removed.
    #[prost(message, repeated, tag = "5")]
    pub gateways: Vec<Listed>,
}

/// One gateway.
#[derive(Clone, PartialEq, Message)]
pub struct Listed {
    /// Id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `host:port` at which connectors reach it; none where only the name `gw.<domain>` leads to it.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
}

/// The bytes that a list's signature is over.
#[must_use]
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [ROSTER_CONTEXT, payload].concat()
}
