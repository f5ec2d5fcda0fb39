//! Who a certificate of ours belongs to: one typed reading of a leaf that has been verified.
//!
//! The profile is that of an X.509-SVID (SPIFFE X.509-SVID §2–§5): exactly one URI name and no other
//! kind of name beside it; nothing is ever taken from the subject.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_wire::spiffe::CertifiedIdentity;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use super::sha256;
use super::verify::CertificateRefusal;
use crate::clock;

/// Longest SPIFFE id, bytes (SPIFFE-ID §2.3).
const MAX_ID_BYTES: usize = 2_048;
/// Shortest RSA key, bits of its modulus.
const MIN_RSA_BITS: usize = 2_048;

/// The holder of a certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedPeer {
    /// Device, gateway or controller, by its SPIFFE id.
    pub identity: CertifiedIdentity,
    /// SHA-256 of the certificate's DER.
    pub sha256: [u8; 32],
    /// Begin of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
}

impl CertifiedPeer {
    /// Reads a leaf of ours. That it was verified is for the caller to know: this says whose it is,
    /// not that it is genuine.
    ///
    /// # Errors
    /// [`CertificateRefusal`] when it is not of our profile.
    pub fn read(leaf: &CertificateDer<'_>, domain: &BaseDomain) -> Result<Self, CertificateRefusal> {
        Self::read_in(leaf, Some(domain))
    }

    /// Reads a leaf of an installation whose trust domain isn't known yet: its root must be.
    pub(super) fn read_of_any(leaf: &CertificateDer<'_>) -> Result<Self, CertificateRefusal> {
        Self::read_in(leaf, None)
    }

    fn read_in(leaf: &CertificateDer<'_>, domain: Option<&BaseDomain>) -> Result<Self, CertificateRefusal> {
        let certificate = parse(leaf)?;
        key_kind(&certificate)?;
        if usage(&certificate)? == Usage::Unstated {
            return Err(CertificateRefusal::KeyUsage);
        }
        let names = certificate.subject_alternative_name().map_err(|_| CertificateRefusal::Unreadable)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let uri = match names {
            [GeneralName::URI(uri)] => *uri,
            [] => return Err(CertificateRefusal::NoName),
            names if names.iter().all(|name| matches!(name, GeneralName::URI(_))) => {
                return Err(CertificateRefusal::ManyNames);
            }
            _ => return Err(CertificateRefusal::OtherNames),
        };
        if uri.len() > MAX_ID_BYTES {
            return Err(CertificateRefusal::NameTooLong);
        }
        let identity = match domain {
            Some(domain) => CertifiedIdentity::parse(uri, domain)?,
            None => {
                let domain = CertifiedIdentity::trust_domain(uri).ok_or(CertificateRefusal::TrustDomain)?;
                CertifiedIdentity::parse(uri, &domain)?
            }
        };
        let (not_before, not_after) = validity(&certificate);
        Ok(Self { identity, sha256: sha256(leaf), not_before, not_after })
    }

    /// Whether it is valid at that time.
    ///
    /// # Errors
    /// [`CertificateRefusal::Expired`] and [`CertificateRefusal::NotYetValid`].
    pub fn valid_at(&self, now: SystemTime) -> Result<(), CertificateRefusal> {
        if now >= self.not_after {
            return Err(CertificateRefusal::Expired);
        }
        if now < self.not_before {
            return Err(CertificateRefusal::NotYetValid);
        }
        Ok(())
    }
}

/// End of a certificate's validity.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    parse(certificate).ok().map(|certificate| validity(&certificate).1)
}

/// Begin and end of a certificate's validity.
#[must_use]
pub fn valid_between(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    parse(certificate).ok().map(|certificate| validity(&certificate))
}

pub(super) fn parse<'c>(der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, CertificateRefusal> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateRefusal::Unreadable),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let moment = |seconds: i64| clock::from_unix_seconds(u64::try_from(seconds).unwrap_or_default());
    let validity = certificate.validity();
    (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()))
}

/// Whether an end's certificate says what its key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// It signs handshakes.
    Signatures,
    /// There is no such extension.
    Unstated,
}

/// What an end's certificate says of its use: nothing, or that its key signs handshakes. What only
/// an authority may have, no end does (RFC 5280 §4.2.1.9 and §4.2.1.10).
pub(super) fn usage(certificate: &X509Certificate<'_>) -> Result<Usage, CertificateRefusal> {
    match certificate.name_constraints() {
        Ok(None) => {}
        Ok(Some(_)) => return Err(CertificateRefusal::Authority),
        Err(_) => return Err(CertificateRefusal::Unreadable),
    }
    match certificate.key_usage() {
        Ok(None) => Ok(Usage::Unstated),
        Ok(Some(usage)) if !usage.value.digital_signature() => Err(CertificateRefusal::KeyUsage),
        Ok(Some(usage)) if usage.value.key_cert_sign() => Err(CertificateRefusal::Authority),
        Ok(Some(_)) => Ok(Usage::Signatures),
        Err(_) => Err(CertificateRefusal::Unreadable),
    }
}

/// The kinds of key that our provider verifies signatures of: RSA from 2048 bits, P-256, P-384,
/// P-521 and Ed25519.
pub(super) fn key_kind(certificate: &X509Certificate<'_>) -> Result<(), CertificateRefusal> {
    use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519};
    let spki = certificate.public_key();
    let good = match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() >= MIN_RSA_BITS,
        Ok(PublicKey::EC(_)) => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            curve.is_some_and(|curve| [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].contains(&curve))
        }
        Ok(_) => spki.algorithm.algorithm == OID_SIG_ED25519,
        Err(_) => false,
    };
    if good { Ok(()) } else { Err(CertificateRefusal::KeyKind) }
}
