//! How an app behind vouchsafe knows who asks: it verifies the assertion in
//! `X-Vouchsafe-Assertion` (`docs/spec/assertion.md`) against the published keys, and believes no
//! other header.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;
use vouchsafe_runtime::clock;
use vouchsafe_wire::token::{ASSERTION_HEADER, ASSERTION_TYP, AssertionClaims, MAX_TOKEN_BYTES};

use crate::browser::{Browser, BrowserError, Cause};

/// Path of the published keys on the sign-in host.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// An unknown key id makes the app look for new keys, but not more often than this.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);
/// Clocks of app and gateway may differ so much.
const LEEWAY_SECONDS: u64 = 5;

/// Why an assertion is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    /// There is none.
    #[error("the request carries no assertion")]
    Missing,
    /// There are several, or it is not a JWT of the right type.
    #[error("the assertion is malformed: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// The keys could not be had.
    #[error("the keys that verify assertions could not be had")]
    Keys(#[source] BrowserError),
    /// No published key has its id.
    #[error("the assertion names a key that is not published")]
    UnknownKey,
    /// The signature is not of that key.
    #[error("the assertion's signature is wrong")]
    Signature,
    /// It is of another issuer, for another app, or of another time.
    #[error("the assertion is not for this app now: {why}")]
    NotForUs {
        /// Which claim.
        why: &'static str,
    },
}

/// Verifies assertions for one app.
pub struct Verifier {
    issuer: Url,
    audience: String,
    keys_from: Browser,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    points: HashMap<String, Vec<u8>>,
    read: Option<SystemTime>,
}

impl Verifier {
    /// For the app `audience`. `issuer` is `https://auth.<domain>[:port]`; `keys_from` reaches it.
    #[must_use]
    pub fn new(issuer: Url, audience: &str, keys_from: Browser) -> Arc<Self> {
        Arc::new(Self { issuer, audience: audience.to_owned(), keys_from, keys: Mutex::default() })
    }

    /// Who asks, if the request proves it.
    ///
    /// # Errors
    /// [`AssertionError`] says why not.
    pub async fn verify(&self, headers: &HeaderMap) -> Result<AssertionClaims, AssertionError> {
        let mut values = headers.get_all(ASSERTION_HEADER).iter();
        let value = values.next().ok_or(AssertionError::Missing)?;
        if values.next().is_some() {
            return Err(AssertionError::Malformed { why: "there are several" });
        }
        let text = value.to_str().map_err(|_| AssertionError::Malformed { why: "it is not ASCII" })?;
        let token = Token::parse(text)?;
        let point = self.point(&token.kid).await?;
        let claims = token.verified(&point)?;
        self.check(claims, clock::unix_seconds(clock::now()))
    }

    fn check(&self, claims: AssertionClaims, now: u64) -> Result<AssertionClaims, AssertionError> {
        let not_for_us = |why| Err(AssertionError::NotForUs { why });
        if claims.iss != self.issuer.origin().ascii_serialization() {
            return not_for_us("iss");
        }
        if claims.aud != self.audience {
            return not_for_us("aud");
        }
        if claims.exp.saturating_add(LEEWAY_SECONDS) < now {
            return not_for_us("exp");
        }
        if claims.iat > now.saturating_add(LEEWAY_SECONDS) {
            return not_for_us("iat");
        }
        Ok(claims)
    }

    async fn point(&self, kid: &str) -> Result<Vec<u8>, AssertionError> {
        let mut keys = self.keys.lock().await;
        if let Some(point) = keys.points.get(kid) {
            return Ok(point.clone());
        }
        let now = clock::now();
        let recent = |read: SystemTime| now.duration_since(read).is_ok_and(|age| age < REFRESH_PAUSE);
        if keys.read.is_some_and(recent) {
            return Err(AssertionError::UnknownKey);
        }
        let url = self.issuer.join(JWKS_PATH).map_err(|_| AssertionError::UnknownKey)?;
        let page = self.keys_from.get_once(&url, Cause::Tool).await.map_err(AssertionError::Keys)?;
        let set: KeySet = page.json().map_err(AssertionError::Keys)?;
        keys.points = set.keys.into_iter().filter_map(Key::point).collect();
        keys.read = Some(now);
        keys.points.get(kid).cloned().ok_or(AssertionError::UnknownKey)
    }
}

/// A JWS in compact form (RFC 7515 §3.1), read but not yet believed.
struct Token<'t> {
    signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    kid: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

impl<'t> Token<'t> {
    fn parse(text: &'t str) -> Result<Self, AssertionError> {
        let malformed = |why| AssertionError::Malformed { why };
        if text.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is too long"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed("it has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed("it has no payload"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("it is not base64url"));
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| malformed("its header is unreadable"))?;
        if header.alg != "ES256" || header.typ.as_deref() != Some(ASSERTION_TYP) {
            return Err(malformed("it is of another type"));
        }
        let kid = header.kid.ok_or(malformed("it names no key"))?;
        Ok(Self { signed, payload: decode(payload)?, signature: decode(signature)?, kid })
    }

    fn verified(&self, point: &[u8]) -> Result<AssertionClaims, AssertionError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| AssertionError::Signature)?;
        serde_json::from_slice(&self.payload)
            .map_err(|_| AssertionError::Malformed { why: "its claims are unreadable" })
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// A JWK (RFC 7517 §4); other kinds than P-256 are passed over.
#[derive(Deserialize)]
struct Key {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    fn point(self) -> Option<(String, Vec<u8>)> {
        if self.kty != "EC" || self.crv.as_deref() != Some("P-256") {
            return None;
        }
        let (x, y) = (URL_SAFE_NO_PAD.decode(self.x?).ok()?, URL_SAFE_NO_PAD.decode(self.y?).ok()?);
        let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
        (point.len() == 65).then_some((self.kid?, point))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::{Value, json};
    use vouchsafe_runtime::task::TaskGroup;

    use super::*;
    use crate::browser::dial::Direct;

    fn verifier(key: &EcdsaKeyPair) -> Arc<Verifier> {
        let root_key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&root_key).unwrap().pem();
        let browser = Browser::new(Arc::new(Direct::loopback(1)), &root, TaskGroup::new()).unwrap();
        let verifier = Verifier::new(Url::parse("https://auth.corp.example").unwrap(), "marketing", browser);
        let mut keys = verifier.keys.try_lock().unwrap();
        keys.points.insert("k1".to_owned(), key.public_key().as_ref().to_vec());
        keys.read = Some(clock::now());
        drop(keys);
        verifier
    }

    fn sign(key: &EcdsaKeyPair, header: &Value, change: impl FnOnce(&mut Value)) -> HeaderMap {
        let now = clock::unix_seconds(clock::now());
        let mut claims = json!({"iss": "https://auth.corp.example", "sub": "alice", "aud": "marketing",
            "exp": now + 60, "iat": now, "uid": "usr_x", "groups": ["marketing"], "device_grade": "software",
            "sid": "ses_x", "amr": ["passkey"], "auth_time": now});
        change(&mut claims);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(&claims));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        HeaderMap::from_iter([(ASSERTION_HEADER.parse().unwrap(), token.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_a_fresh_assertion_for_this_app_by_a_published_key_is_believed() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let verifier = verifier(&key);
        let header = json!({"alg": "ES256", "typ": ASSERTION_TYP, "kid": "k1"});
        let good = verifier.verify(&sign(&key, &header, |_| {})).await.unwrap();
        assert_eq!(good.sub, "alice");
        let bad = [
            sign(&other, &header, |_| {}),
            sign(&key, &header, |claims| claims["aud"] = json!("finance")),
            sign(&key, &header, |claims| claims["iss"] = json!("https://auth.evil.example")),
            sign(&key, &header, |claims| claims["exp"] = json!(1)),
            sign(&key, &header, |claims| claims["iat"] = json!(u32::MAX)),
            sign(&key, &json!({"alg": "none", "typ": ASSERTION_TYP, "kid": "k1"}), |_| {}),
            sign(&key, &json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}), |_| {}),
            sign(&key, &json!({"alg": "ES256", "typ": ASSERTION_TYP, "kid": "k2"}), |_| {}),
            HeaderMap::new(),
        ];
        for headers in bad {
            assert!(verifier.verify(&headers).await.is_err(), "{headers:?}");
        }
    }
}
