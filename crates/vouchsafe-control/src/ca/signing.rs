//! Keys that sign tokens, and how verifiers get to know them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use vouchsafe_wire::control::message::SignedSnapshot;
use vouchsafe_wire::control::signed_bytes;
use vouchsafe_wire::token::{ACCESS_TYP, AccessClaims};

use super::key::{Key, KeyError};

/// The public half of a P-256 signing key.
#[derive(Clone)]
pub(super) struct PublicKey {
    /// RFC 7638 thumbprint, which is the `kid`.
    pub(super) kid: String,
    /// Uncompressed point, 65 bytes.
    pub(super) point: Vec<u8>,
}

impl PublicKey {
    pub(super) fn of(key: &Key) -> Self {
        Self::of_point(key.point().to_vec())
    }

    /// Of an uncompressed point.
    pub(super) fn of_point(point: Vec<u8>) -> Self {
        let (x, y) = coordinates(&point);
        // RFC 7638 §3.2: the required members in the order of their names, no white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Self { kid, point }
    }

    /// As a member of a JWK set (RFC 7517 §4, RFC 7518 §6.2).
    pub(super) fn jwk(&self) -> Value {
        let (x, y) = coordinates(&self.point);
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid, "use": "sig", "alg": "ES256" })
    }
}

fn coordinates(point: &[u8]) -> (String, String) {
    let half = |range| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
    (half(1..33), half(33..65))
}

/// Signs snapshots for gateways, and nothing else.
pub(crate) struct SnapshotSigner(EcdsaKeyPair);

impl SnapshotSigner {
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self).map_err(|_| KeyError)
    }

    /// A snapshot with its signature (`docs/spec/control-channel.md`).
    pub(crate) fn sign(&self, payload: Bytes) -> Result<SignedSnapshot, KeyError> {
        let signature = self.0.sign(&SystemRandom::new(), &signed_bytes(&payload)).map_err(|_| KeyError)?;
        Ok(SignedSnapshot { payload, signature: Bytes::copy_from_slice(signature.as_ref()) })
    }
}

/// Signs access tokens.
pub(super) struct TokenSigner {
    key: EncodingKey,
    kid: String,
}

impl TokenSigner {
    pub(super) fn new(pkcs8: &[u8], kid: String) -> Self {
        Self { key: EncodingKey::from_ec_der(pkcs8), kid }
    }

    /// One signed access token (RFC 9068).
    pub(super) fn sign(&self, claims: &AccessClaims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(ACCESS_TYP.to_owned());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key)
    }
}
