//! What a client presents to be known by: a session cookie, or an access token bound to the certificate of its
//! connection. Gateways look at it, and a controller does once more where a gateway sends a request on.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::SessionId;
use vouchsafe_wire::token::{ACCESS_TYP, AccessClaims, MAX_TOKEN_BYTES};

use crate::clock;
use crate::internal::ProvenDevice;

/// Name of the session cookie; each of our hosts has its own value under it.
pub const SESSION_COOKIE: &str = "__Host-vouchsafe";
/// Longest session cookie that is looked at, bytes.
pub const MAX_COOKIE_BYTES: usize = 256;

/// What the client presented in place of a user, still unverified.
pub enum Presented<'r> {
    /// Value of the session cookie.
    Cookie(&'r str),
    /// A bearer token.
    Token(&'r str),
    /// Nothing.
    Nothing,
    /// Two different values where one belongs.
    Ambiguous,
}

impl<'r> Presented<'r> {
    /// The session cookie of a browser.
    #[must_use]
    pub fn cookie(headers: &'r HeaderMap) -> Self {
        let mut values = cookies(headers).filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(value), None) => Presented::Cookie(value),
            // A sibling host can't set a `__Host-` cookie for this one; two mean foul play.
            (Some(_), Some(_)) => Presented::Ambiguous,
        }
    }

    /// The token of a proxy request.
    #[must_use]
    pub fn proxy_token(headers: &'r HeaderMap) -> Self {
        Self::bearer(headers, &PROXY_AUTHORIZATION)
    }

    /// The token of an API request.
    #[must_use]
    pub fn token(headers: &'r HeaderMap) -> Self {
        Self::bearer(headers, &AUTHORIZATION)
    }

    fn bearer(headers: &'r HeaderMap, header: &HeaderName) -> Self {
        let mut values = headers.get_all(header).iter();
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(_), Some(_)) => Presented::Ambiguous,
            (Some(value), None) => match value.to_str().ok().and_then(strip_bearer) {
                Some(token) => Presented::Token(token),
                None => Presented::Ambiguous,
            },
        }
    }
}

/// The token behind the scheme `Bearer`.
#[must_use]
pub fn strip_bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

/// All cookies of a request that are text: name and value. Each by itself, since some hosts' cookies
/// come with the requests to others: one that is no text must not hide ours beside it (A143).
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .filter_map(|pair| pair.trim_ascii().split_once('='))
}

/// Verifies access tokens of one installation.
pub struct TokenVerifier {
    issuer: String,
    keys: HashMap<String, DecodingKey>,
}

/// What a token says whose signature is good, in the form in which it is compared at every use.
#[derive(Debug)]
pub struct VerifiedToken {
    issuer: String,
    audience: String,
    expires_unix_seconds: u64,
    session: SessionId,
    /// SHA-256 of the certificate that it is bound to.
    certificate_sha256: [u8; 32],
}

impl VerifiedToken {
    /// `None` when a claim does not have its form.
    fn new(claims: AccessClaims) -> Option<Self> {
        let certificate = URL_SAFE_NO_PAD.decode(&claims.cnf.x5t_s256).ok()?;
        Some(Self {
            issuer: claims.iss,
            audience: claims.aud,
            expires_unix_seconds: claims.exp,
            session: claims.sid.parse().ok()?,
            certificate_sha256: certificate.try_into().ok()?,
        })
    }
}

impl TokenVerifier {
    /// `keys`: `kid` and uncompressed P-256 point of the controller's token keys.
    #[must_use]
    pub fn new(issuer: String, keys: &[(String, Vec<u8>)]) -> Self {
        let keys = keys
            .iter()
            .filter_map(|(kid, point)| {
                let (x, y) = (point.get(1..33)?, point.get(33..65)?);
                let key =
                    DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y)).ok()?;
                Some((kid.clone(), key))
            })
            .collect();
        Self { issuer, keys }
    }

    /// Verifies our signature and type. What it says may be remembered; [`TokenVerifier::check`] is for every use.
    ///
    /// # Errors
    /// [`Reason::CredentialInvalid`].
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, Reason> {
        let invalid = |_| Reason::CredentialInvalid;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::CredentialInvalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        if header.alg != Algorithm::ES256 || header.typ.as_deref() != Some(ACCESS_TYP) {
            return Err(Reason::CredentialInvalid);
        }
        let key = header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(Reason::CredentialInvalid)?;
        let mut validation = Validation::new(Algorithm::ES256);
        // Time, issuer and audience are checked at every use.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<AccessClaims>(token, key, &validation).map_err(invalid)?.claims;
        VerifiedToken::new(claims).ok_or(Reason::CredentialInvalid)
    }

    /// Checks issuer, audience, time, and the binding to the certificate of this connection (RFC 9068 §4,
    /// RFC 8705 §3). Gives the session.
    ///
    /// # Errors
    /// Why it is not good here.
    pub fn check(
        &self,
        token: &VerifiedToken,
        audience: &str,
        device: Option<&ProvenDevice>,
    ) -> Result<SessionId, Reason> {
        if token.expires_unix_seconds <= clock::unix_seconds(clock::now()) {
            return Err(Reason::SessionEnded);
        }
        if token.audience != audience || token.issuer != self.issuer {
            return Err(Reason::CredentialInvalid);
        }
        let device = device.ok_or(Reason::DeviceMismatch)?;
        if token.certificate_sha256 != device.certificate_sha256 {
            return Err(Reason::DeviceMismatch);
        }
        Ok(token.session)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a143_cookies_of_other_hosts_do_not_hide_ours() {
        let with = |field: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_bytes(field).unwrap());
            match Presented::cookie(&headers) {
                Presented::Cookie(value) => value.to_owned(),
                Presented::Ambiguous => "two".to_owned(),
                Presented::Nothing | Presented::Token(_) => "none".to_owned(),
            }
        };
        assert_eq!(with(b"__Host-vouchsafe=good; lang=\xe9t\xe9"), "good");
        assert_eq!(with("name=Zo\u{eb}; __Host-vouchsafe=good".as_bytes()), "good");
        assert_eq!(with(b"\xff; __Host-vouchsafe=good; \xfe=1"), "good");
        assert_eq!(with(b"__Host-vouchsafe=one; \xff; __Host-vouchsafe=two"), "two");
        assert_eq!(with(b"__Host-vouchsafe=go\xffod"), "none");
    }
}
