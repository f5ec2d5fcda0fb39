//! Bodies of the device endpoints on `gw.<domain>`. Specification: `docs/spec/device.md`.
//!
//! | request | proof | body → answer |
//! | --- | --- | --- |
//! | `POST /device/enroll` | one-time code and CSR signature | [`EnrolRequest`] → [`Enrolled`] |
//! | `POST /device/renew` | client certificate, CSR signature | [`RenewRequest`] → [`Enrolled`] |
//! | `GET /device/status` | client certificate | → [`DeviceStatus`] |
//! | `POST /oauth/device_authorization` | client certificate | form → [`DeviceAuthorization`] (RFC 8628 §3.2) |
//! | `POST /oauth/token` | client certificate | form → [`TokenAnswer`] or [`OauthError`] (RFC 6749 §5) |
//! | `POST /oauth/revoke` | client certificate | form `token=<refresh token>` → 200 (RFC 7009) |

use serde::{Deserialize, Serialize};

/// Asks for the first certificate of a new device.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// One-time code of the ticket.
    pub code: String,
    /// PEM of a PKCS#10 request (RFC 2986); its signature proves possession of the key. Names and
    /// extensions in it are ignored: the controller writes the certificate.
    pub csr: String,
    /// Display name that the device suggests.
    pub name: String,
}

/// Asks for the next certificate of an enrolled device; the key may be the same or a new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PEM of a PKCS#10 request.
    pub csr: String,
}

/// A device certificate and what goes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// Device id (`dev_…`).
    pub device: String,
    /// Display name as kept.
    pub name: String,
    /// Owner's user name, when the device is somebody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Grade of the key (`software`).
    pub grade: String,
    /// PEM chain: the device's certificate, then its issuer.
    pub certificate: String,
    /// PEM of the root that vouches for the gateway's names.
    pub root: String,
    /// Base domain.
    pub domain: String,
    /// End of the certificate, unix seconds.
    pub not_after: u64,
    /// When to renew, unix seconds: two thirds of the certificate's life.
    pub renew_at: u64,
}

/// What the gateway knows of the device that asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Device id.
    pub device: String,
    /// Display name.
    pub name: String,
    /// Owner's user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Grade of the key.
    pub grade: String,
    /// Version of the policy in force.
    pub policy_version: u64,
}

/// Answer of the device authorization endpoint (RFC 8628 §3.2).
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceAuthorization {
    /// Secret of this device; worthless without the device's key.
    pub device_code: String,
    /// What the person compares and types.
    pub user_code: String,
    /// Where the person goes.
    pub verification_uri: String,
    /// The same with the user code in it.
    pub verification_uri_complete: String,
    /// Life in seconds.
    pub expires_in: u64,
    /// Least seconds between polls.
    pub interval: u64,
}

/// Answer of the token endpoint (RFC 6749 §5.1).
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// RFC 9068 JWT.
    pub access_token: String,
    /// Always `Bearer`; the binding to the certificate is in the token (RFC 8705 §3).
    pub token_type: String,
    /// Life in seconds.
    pub expires_in: u64,
    /// For the next access token; used once, replaced by the answer.
    pub refresh_token: String,
    /// User name, for display.
    pub user: String,
    /// End of the session, unix seconds.
    pub session_expires: u64,
}

/// Refusal of the token endpoint (RFC 6749 §5.2, RFC 8628 §3.5).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OauthError {
    /// `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`,
    /// `invalid_request`, `unsupported_grant_type`, `invalid_target`.
    pub error: String,
    /// For people.
    pub error_description: String,
}

/// `grant_type` of the device authorization grant (RFC 8628 §3.4).
pub const GRANT_DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// `grant_type` of a refresh (RFC 6749 §6). The form may carry `resource=` with
/// [`crate::token::AUDIENCE_GATEWAY`] (default) or [`crate::token::AUDIENCE_API`] (RFC 8707).
pub const GRANT_REFRESH: &str = "refresh_token";
/// Life of a device certificate, seconds.
pub const DEVICE_CERT_LIFE_SECONDS: u64 = 24 * 3600;
