//! Certificate signing requests of devices and gateways: only the key and the proof of its possession count.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use vouchsafe_wire::ticket::hex;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Longest PEM that is looked at, bytes: a P-384 request with many names stays far below.
const MAX_CSR_BYTES: usize = 8 * 1024;

/// Failure to accept a certificate signing request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrError {
    /// Not one PKCS#10 request in PEM form, or too long.
    #[error("this is not a certificate signing request in PEM form")]
    Unreadable,
    /// The signature does not verify: the sender does not hold the key.
    #[error("the request's signature does not verify under its own key")]
    Signature,
    /// A key of another kind.
    #[error("keys must be P-256, P-384 or Ed25519")]
    KeyKind,
}

/// The public key of a device that proved to hold the private one.
pub(crate) struct ProvenKey {
    pub(super) spki: SubjectPublicKeyInfo,
    sha256: String,
}

impl ProvenKey {
    /// Reads a request and verifies its signature. Names and extensions in it are ignored.
    ///
    /// # Errors
    /// [`CsrError`].
    pub(crate) fn parse(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > MAX_CSR_BYTES {
            return Err(CsrError::Unreadable);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError::Unreadable)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Unreadable)?;
        if !rest.is_empty() {
            return Err(CsrError::Unreadable);
        }
        let raw = request.certification_request_info.subject_pki.raw;
        let spki = SubjectPublicKeyInfo::from_der(raw).map_err(|_| CsrError::KeyKind)?;
        let kinds = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !kinds.contains(&spki.algorithm()) {
            return Err(CsrError::KeyKind);
        }
        request.verify_signature().map_err(|_| CsrError::Signature)?;
        Ok(Self { spki, sha256: hex(digest(&SHA256, raw).as_ref()) })
    }

    /// The uncompressed point of a P-256 key; `None` of a key of another kind.
    pub(crate) fn p256_point(&self) -> Option<&[u8]> {
        (self.spki.algorithm() == &PKCS_ECDSA_P256_SHA256).then(|| self.spki.der_bytes())
    }

    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, KeyPair};

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["finance.corp.example".to_owned()]).unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn the_three_kinds_are_accepted() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            assert_eq!(ProvenKey::parse(&request(algorithm)).map(|key| key.sha256().len()), Ok(64));
        }
    }

    impl std::fmt::Debug for ProvenKey {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.sha256)
        }
    }

    impl PartialEq for ProvenKey {
        fn eq(&self, other: &Self) -> bool {
            self.sha256 == other.sha256
        }
    }

    #[test]
    fn a_bad_signature_is_refused() {
        let pem = request(&PKCS_ECDSA_P256_SHA256);
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let wrap = |der: &[u8]| {
            format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
                STANDARD.encode(der)
            )
        };
        assert!(ProvenKey::parse(&wrap(&der)).is_ok());
        let mut altered = der.to_vec();
        let last = altered.len() - 1;
        altered[last] ^= 1;
        assert_eq!(ProvenKey::parse(&wrap(&altered)), Err(CsrError::Signature));
        let mut longer = der.to_vec();
        longer.push(0);
        assert_eq!(ProvenKey::parse(&wrap(&longer)), Err(CsrError::Unreadable));
        for cut in 0..der.len() {
            assert!(ProvenKey::parse(&wrap(&der[..cut])).is_err(), "{cut}");
        }
    }

    #[test]
    fn other_kinds_and_other_texts_are_refused() {
        assert_eq!(ProvenKey::parse(&request(&rcgen::PKCS_ECDSA_P521_SHA512)), Err(CsrError::KeyKind));
        assert_eq!(ProvenKey::parse(""), Err(CsrError::Unreadable));
        assert_eq!(ProvenKey::parse(&"a".repeat(MAX_CSR_BYTES + 1)), Err(CsrError::Unreadable));
    }
}
