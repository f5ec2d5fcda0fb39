//! Who asks: the device by its certificate on this connection, the user by a cookie or a bound
//! token. Headers never say who somebody is (I9).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use parking_lot::Mutex;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::SessionId;
use vouchsafe_policy::Engine;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::credential::{MAX_COOKIE_BYTES, TokenVerifier, VerifiedToken, strip_bearer};
pub(crate) use vouchsafe_runtime::credential::{Presented, SESSION_COOKIE, cookies};
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::link::NoSubject;
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::token::{ACCESS_TYP, MAX_TOKEN_BYTES};
use zeroize::Zeroizing;

use crate::facts::{Asking, CredentialKey, Facts, Ready};

/// Cookies whose names start like this are ours: no upstream sees or sets them.
pub(crate) const OWN_COOKIE_PREFIX: &str = "__host-vouchsafe";

/// Most verified tokens that are remembered.
const MAX_TOKENS: usize = 10_000;

/// By what somebody says who she is, on which connection.
pub(crate) struct Proof<'r> {
    pub(crate) presented: Presented<'r>,
    /// The host label a cookie must be for, or the audience a token must have.
    pub(crate) audience: &'r str,
    /// Device proven on this connection.
    pub(crate) device: Option<&'r ProvenDevice>,
    /// The token that this connection showed before.
    pub(crate) last: &'r LastToken,
}

/// The last good token of a connection. Nearly every request shows it again, byte for byte, and then
/// it takes no digest to find what it says.
pub(crate) struct LastToken<V = VerifiedToken>(Mutex<Option<(Zeroizing<String>, Arc<V>)>>);

impl<V> Default for LastToken<V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<V> fmt::Debug for LastToken<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastToken(hidden)")
    }
}

impl<V> LastToken<V> {
    fn find(&self, token: &str) -> Option<Arc<V>> {
        let last = self.0.lock();
        let same = |known: &str| verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_ok();
        last.as_ref().filter(|(known, _)| same(known)).map(|(_, verified)| Arc::clone(verified))
    }

    fn keep(&self, token: &str, verified: &Arc<V>) {
        *self.0.lock() = Some((Zeroizing::new(token.to_owned()), Arc::clone(verified)));
    }

    pub(crate) fn forget(&self) {
        *self.0.lock() = None;
    }
}

/// Proves users. One for the gateway.
pub(crate) struct Authenticator {
    tokens: TokenVerifier,
    verified: Mutex<HashMap<[u8; 32], Arc<VerifiedToken>>>,
}

impl Authenticator {
    /// `keys`: `kid` and uncompressed P-256 point of the controller's token keys.
    pub(crate) fn new(issuer: String, keys: &[(String, Vec<u8>)]) -> Self {
        Self { tokens: TokenVerifier::new(issuer, keys), verified: Mutex::new(HashMap::new()) }
    }

    /// The subject of what was presented, or why there is none.
    pub(crate) async fn subject(
        &self,
        proof: Proof<'_>,
        facts: &Facts,
        engine: &Arc<Engine>,
    ) -> Result<(CredentialKey, Ready), Reason> {
        let Proof { presented, audience, device, last } = proof;
        let key = match presented {
            Presented::Nothing => return Err(Reason::SignInRequired),
            Presented::Ambiguous => return Err(Reason::CredentialInvalid),
            Presented::Cookie(value) if value.len() > MAX_COOKIE_BYTES => return Err(Reason::CredentialInvalid),
            Presented::Cookie(value) => CredentialKey::AppCookie(sha256(value.as_bytes())),
            Presented::Token(token) => CredentialKey::Session(self.verify(token, audience, device, last)?),
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
    /// to the certificate of this connection. Gives its session.
    pub(crate) fn verify(
        &self,
        token: &str,
        audience: &str,
        device: Option<&ProvenDevice>,
        last: &LastToken,
    ) -> Result<SessionId, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::CredentialInvalid);
        }
        let verified = match last.find(token) {
            Some(verified) => verified,
            None => {
                let digest = sha256(token.as_bytes());
                let known = self.verified.lock().get(&digest).map(Arc::clone);
                let verified = match known {
                    Some(verified) => verified,
                    None => self.remember(Arc::new(self.tokens.verify(token)?), digest),
                };
                last.keep(token, &verified);
                verified
            }
        };
        // Said by the same bytes or not: time, issuer, audience and binding are looked at every time.
        self.tokens.check(&verified, audience, device)
    }

    fn remember(&self, verified: Arc<VerifiedToken>, digest: [u8; 32]) -> Arc<VerifiedToken> {
        let mut remembered = self.verified.lock();
        if remembered.len() >= MAX_TOKENS {
            remembered.clear();
        }
        remembered.insert(digest, Arc::clone(&verified));
        verified
    }
}

/// Whether a cookie needs no look-up, since who it is of is remembered.
pub(crate) fn is_remembered(presented: &Presented<'_>, facts: &Facts, engine: &Arc<Engine>) -> bool {
    match presented {
        Presented::Cookie(value) if value.len() <= MAX_COOKIE_BYTES => {
            facts.remembered(CredentialKey::AppCookie(sha256(value.as_bytes())), engine).is_some()
        }
        Presented::Cookie(_) | Presented::Nothing | Presented::Ambiguous | Presented::Token(_) => false,
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
    let (facts, now) = (&ready.known.facts, clock::now());
    if facts.expires <= now {
        return Err(Reason::SessionEnded);
    }
    if matches!(key, CredentialKey::AppCookie(_)) && ready.known.audience.as_deref() != Some(audience) {
        return Err(Reason::CredentialInvalid);
    }
    // A certificate proves its device only while it is valid, also on a connection that is older.
    let device = device.filter(|device| device.is_valid(now));
    if facts.device.as_ref().map(|device| device.id) != device.map(|device| device.id) {
        return Err(Reason::DeviceMismatch);
    }
    Ok(())
}

/// What must hold at every use of a proven device on which nobody says who asks: its certificate is valid, and it is
/// enrolled still.
pub(crate) async fn device_alone(device: &ProvenDevice, facts: &Facts, asking: Asking) -> Result<(), Reason> {
    if !device.is_valid(clock::now()) {
        return Err(Reason::DeviceUnknown);
    }
    match facts.device(device.id, asking).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Reason::DeviceUnknown),
        Err(_) => Err(Reason::FactsUnavailable),
    }
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
    use super::*;

    #[test]
    fn a_connection_knows_its_last_token_by_every_byte_of_it() {
        let last = LastToken::<&str>::default();
        assert!(last.find("").is_none());
        last.keep("a.b.c", &Arc::new("one"));
        assert!(["a.b.", "a.b.d", "a.b.c.", "A.b.c", ""].iter().all(|other| last.find(other).is_none()));
        assert_eq!(*last.find("a.b.c").unwrap(), "one");
        last.keep("secret", &Arc::new("two"));
        assert!(last.find("a.b.c").is_none());
        assert!(!format!("{last:?}").contains("secret"));
        last.forget();
        assert!(last.find("secret").is_none());
    }
}
