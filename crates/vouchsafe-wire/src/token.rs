//! Claims of the tokens we sign. Every kind has its own `typ`, audience and verifier, so none can
//! be used in the place of another (RFC 8725 §3.11).

use serde::{Deserialize, Serialize};

/// `typ` of an access token (RFC 9068 §2.1).
pub const ACCESS_TYP: &str = "at+jwt";
/// `typ` of the assertion that an upstream gets.
pub const ASSERTION_TYP: &str = "vs-assertion+jwt";
/// Life of an access token, seconds.
pub const ACCESS_LIFE_SECONDS: u64 = 600;
/// Life of an assertion, seconds.
pub const ASSERTION_LIFE_SECONDS: u64 = 60;
/// Name of the header that carries the assertion to the upstream.
pub const ASSERTION_HEADER: &str = "x-vouchsafe-assertion";
/// Longest token we look at, bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// Claims of an access token (RFC 9068 §2.2), bound to a certificate (RFC 8705 §3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Issuer, `https://auth.<domain>[:port]`.
    pub iss: String,
    /// User id (`usr_…`).
    pub sub: String,
    /// Audience: [`AUDIENCE_GATEWAY`] or [`AUDIENCE_API`].
    pub aud: String,
    /// Expiry, unix seconds.
    pub exp: u64,
    /// Issued at, unix seconds.
    pub iat: u64,
    /// When the user proved who she is, unix seconds.
    pub auth_time: u64,
    /// Unique id of the token.
    pub jti: String,
    /// Client: the device id (`dev_…`).
    pub client_id: String,
    /// Session (`ses_…`).
    pub sid: String,
    /// The certificate it is bound to.
    pub cnf: Confirmation,
}

/// `cnf` with the SHA-256 thumbprint of the client certificate (RFC 8705 §3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// base64url without padding of SHA-256 over the certificate's DER.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

/// Claims of the assertion an upstream gets in [`ASSERTION_HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionClaims {
    /// Issuer, `https://auth.<domain>[:port]`.
    pub iss: String,
    /// User name.
    pub sub: String,
    /// Audience: the resource's name.
    pub aud: String,
    /// Expiry, unix seconds.
    pub exp: u64,
    /// Issued at, unix seconds.
    pub iat: u64,
    /// User id (`usr_…`).
    pub uid: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Device id, when one was proven.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// Grade of the device.
    pub device_grade: String,
    /// Session (`ses_…`).
    pub sid: String,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// When the user proved who she is, unix seconds.
    pub auth_time: u64,
}

/// Audience of tokens for tunnels.
pub const AUDIENCE_GATEWAY: &str = "vouchsafe-gateway";
/// Audience of tokens for the administrator's API.
pub const AUDIENCE_API: &str = "vouchsafe-api";
