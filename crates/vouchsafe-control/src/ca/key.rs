//! P-256 keys of the CA, held by aws-lc, which wipes them when they are dropped.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

/// A P-256 key pair that signs certificates.
pub(super) struct Key {
    pair: EcdsaKeyPair,
}

/// A key could not be made or read.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a key pair could not be made or read")]
pub struct KeyError;

impl Key {
    /// A new key and its PKCS#8 form.
    pub(super) fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// The key of a PKCS#8 form.
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| KeyError)?;
        Ok(Self { pair })
    }

    /// The uncompressed point, 65 bytes.
    pub(super) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// PEM of a PKCS#8 key (RFC 7468 §10).
pub(super) fn pkcs8_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(pkcs8));
    // Room for all of it, so that no growth leaves a copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(encoded.len() + encoded.len() / 64 + 64));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}
