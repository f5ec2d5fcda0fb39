//! Who asks: the device by its certificate on this connection, the user by a cookie or a bound
//! token. Headers never say who somebody is (I9).

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::SessionId;
use vouchsafe_policy::Engine;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::link::NoSubject;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::token::{ACCESS_TYP, AccessClaims, MAX_TOKEN_BYTES};

use crate::facts::{Asking, CredentialKey, Facts, Ready};

/// Name of the session cookie; each of our hosts has its own value under it.
pub(crate) const SESSION_COOKIE: &str = "__Host-vouchsafe";
/// Cookies whose names start like this are ours: no upstream sees or sets them.
pub(crate) const OWN_COOKIE_PREFIX: &str = "__host-vouchsafe";

/// Most verified tokens that are remembered.
const MAX_TOKENS: usize = 10_000;

/// What the client presented in place of a user, still unverified.
pub(crate) enum Presented<'r> {
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
    pub(crate) fn cookie(headers: &'r HeaderMap) -> Self {
        let mut values = cookies(headers).filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Presented::Nothing,
            (Some(value), None) => Presented::Cookie(value),
            // A sibling host can't set a `__Host-` cookie for this one; two mean foul play.
            (Some(_), Some(_)) => Presented::Ambiguous,
        }
    }

    /// The token of a proxy request.
    pub(crate) fn proxy_token(headers: &'r HeaderMap) -> Self {
        Self::bearer(headers, &PROXY_AUTHORIZATION)
    }

    /// The token of an API request.
    pub(crate) fn token(headers: &'r HeaderMap) -> Self {
        Self::bearer(headers, &AUTHORIZATION)
    }

    fn bearer(headers: &'r HeaderMap, header: &http::HeaderName) -> Self {
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

fn strip_bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

/// All cookies of a request that are text: name and value. Each by itself, since some hosts' cookies
/// come with the requests to others: one that is no text must not hide ours beside it (A143).
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .filter_map(|pair| pair.trim_ascii().split_once('='))
}

/// Proves users. One for the gateway.
pub(crate) struct Authenticator {
    issuer: String,
    keys: HashMap<String, DecodingKey>,
    verified: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

/// What a token says whose signature is good, in the form in which it is compared at every use.
#[derive(Debug)]
struct Verified {
    issuer: String,
    audience: String,
    expires_unix_seconds: u64,
    session: SessionId,
    /// SHA-256 of the certificate that it is bound to.
    certificate_sha256: [u8; 32],
}

impl Verified {
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

impl Authenticator {
    /// `keys`: `kid` and uncompressed P-256 point of the controller's token keys.
    pub(crate) fn new(issuer: String, keys: &[(String, Vec<u8>)]) -> Self {
        let keys = keys
            .iter()
            .filter_map(|(kid, point)| {
                let (x, y) = (point.get(1..33)?, point.get(33..65)?);
                let key =
                    DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y)).ok()?;
                Some((kid.clone(), key))
            })
            .collect();
        Self { issuer, keys, verified: Mutex::new(HashMap::new()) }
    }

    /// The subject of what was presented, or why there is none.
    ///
    /// `audience` is the host label a cookie must be for, or the audience a token must have.
    pub(crate) async fn subject(
        &self,
        presented: Presented<'_>,
        audience: &str,
        device: Option<&ProvenDevice>,
        facts: &Facts,
        engine: &Arc<Engine>,
    ) -> Result<(CredentialKey, Ready), Reason> {
        let key = match presented {
            Presented::Nothing => return Err(Reason::SignInRequired),
            Presented::Ambiguous => return Err(Reason::CredentialInvalid),
            Presented::Cookie(value) if value.len() > 256 => return Err(Reason::CredentialInvalid),
            Presented::Cookie(value) => CredentialKey::AppCookie(sha256(value.as_bytes())),
            Presented::Token(token) => CredentialKey::Session(self.verify(token, audience, device)?),
        };
        let ready = match facts.subject(key, engine, Asking::Request).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(NoSubject::Unknown)) => return Err(Reason::CredentialInvalid),
            Ok(Err(NoSubject::Ended)) => return Err(Reason::SessionEnded),
            Ok(Err(NoSubject::DeviceRemoved)) => return Err(Reason::DeviceUnknown),
            Err(error) => {
                tracing::error!(%error, "facts can't be had; the request is denied");
                return Err(Reason::FactsUnavailable);
            }
        };
        check(&ready, key, audience, device).map(|()| (key, ready))
    }

    /// Verifies an access token: our signature and type, issuer, audience, time, and the binding
    /// to the certificate of this connection (RFC 9068 §4, RFC 8705 §3). Gives its session.
    pub(crate) fn verify(
        &self,
        token: &str,
        audience: &str,
        device: Option<&ProvenDevice>,
    ) -> Result<SessionId, Reason> {
        let invalid = Reason::CredentialInvalid;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid);
        }
        let digest = sha256(token.as_bytes());
        let known = self.verified.lock().get(&digest).map(Arc::clone);
        let verified = match known {
            Some(verified) => verified,
            None => self.verify_signature(token, digest)?,
        };
        if verified.expires_unix_seconds <= clock::unix_seconds(clock::now()) {
            return Err(Reason::SessionEnded);
        }
        if verified.audience != audience || verified.issuer != self.issuer {
            return Err(invalid);
        }
        let device = device.ok_or(Reason::DeviceMismatch)?;
        if verified.certificate_sha256 != device.certificate_sha256 {
            return Err(Reason::DeviceMismatch);
        }
        Ok(verified.session)
    }

    fn verify_signature(&self, token: &str, digest: [u8; 32]) -> Result<Arc<Verified>, Reason> {
        let invalid = |_| Reason::CredentialInvalid;
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        if header.alg != Algorithm::ES256 || header.typ.as_deref() != Some(ACCESS_TYP) {
            return Err(Reason::CredentialInvalid);
        }
        let key = header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(Reason::CredentialInvalid)?;
        let mut validation = Validation::new(Algorithm::ES256);
        // Time, issuer and audience are checked by the caller, at every use of a remembered token.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<AccessClaims>(token, key, &validation).map_err(invalid)?.claims;
        let verified = Arc::new(Verified::new(claims).ok_or(Reason::CredentialInvalid)?);
        let mut remembered = self.verified.lock();
        if remembered.len() >= MAX_TOKENS {
            remembered.clear();
        }
        remembered.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }
}

/// What must hold at every use, also of remembered facts: the session is alive, the cookie is for
/// this host, and the device on this connection is exactly the session's. A session without a
/// device stays without one: a stolen cookie gains nothing from the thief's own device.
pub(crate) fn check(
    ready: &Ready,
    key: CredentialKey,
    audience: &str,
    device: Option<&ProvenDevice>,
) -> Result<(), Reason> {
    let facts = &ready.known.facts;
    if facts.expires <= clock::now() {
        return Err(Reason::SessionEnded);
    }
    if matches!(key, CredentialKey::AppCookie(_)) && ready.known.audience.as_deref() != Some(audience) {
        return Err(Reason::CredentialInvalid);
    }
    // A certificate proves its device only while it is valid, also on a connection that is older.
    let device = device.filter(|device| device.is_valid(clock::now()));
    if facts.device.as_ref().map(|device| device.id) != device.map(|device| device.id) {
        return Err(Reason::DeviceMismatch);
    }
    Ok(())
}

/// Whether a bearer token is one of our access tokens, which no upstream may see. Only its shape
/// is looked at: better to withhold a foreign token that claims our type than to leak ours.
pub(crate) fn looks_like_ours(authorization: &str) -> bool {
    strip_bearer(authorization)
        .and_then(|token| jsonwebtoken::decode_header(token).ok())
        .is_some_and(|header| header.typ.as_deref() == Some(ACCESS_TYP))
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
