//! A device's certificate, made ready for TLS and checked to be ours.

use std::sync::Arc;

use rustls::ClientConfig;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust, TlsError};
use vouchsafe_wire::spiffe::CertifiedIdentity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Failure to accept a certificate as this device's.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain, the key or the root can't be used for TLS.
    #[error("the device's certificate and key can't be used")]
    Tls(#[from] TlsError),
    /// The certificate can't be read.
    #[error("the device's certificate can't be read")]
    Unreadable,
    /// The certificate names somebody else.
    #[error("the certificate is not of device `{expected}`")]
    Identity {
        /// The SPIFFE id that it must carry.
        expected: String,
    },
}

/// A certificate and the TLS configurations that show it.
pub(crate) struct Certified {
    /// SHA-256 of the certificate, which tokens are bound to.
    pub(crate) sha256: [u8; 32],
    /// End of its life, unix seconds.
    pub(crate) not_after: u64,
    /// When to renew, unix seconds.
    pub(crate) renew_at: u64,
    /// For HTTP/1.1.
    pub(crate) http1: Arc<ClientConfig>,
    /// For HTTP/2.
    pub(crate) http2: Arc<ClientConfig>,
}

/// What a certificate is made ready from.
pub(crate) struct Parts<'p> {
    pub(crate) id: DeviceId,
    pub(crate) domain: &'p BaseDomain,
    pub(crate) chain_pem: &'p str,
    pub(crate) key_pem: &'p str,
    pub(crate) root_pem: &'p str,
    pub(crate) not_after: u64,
    pub(crate) renew_at: u64,
}

impl Certified {
    pub(crate) fn new(parts: &Parts<'_>) -> Result<Self, CertificateError> {
        let Parts { id, domain, chain_pem, key_pem, root_pem, not_after, renew_at } = *parts;
        let leaf = tls::certificates(chain_pem, "the device's certificate")?;
        let leaf = leaf.first().ok_or(CertificateError::Unreadable)?;
        let expected = CertifiedIdentity::Device(id).to_uri(domain);
        if only_uri(leaf)? != expected {
            return Err(CertificateError::Identity { expected });
        }
        let roots = tls::roots(root_pem, "the installation's root")?;
        let config = |alpn: &[u8]| -> Result<Arc<ClientConfig>, TlsError> {
            let identity = Credentials { chain_pem, key_pem };
            // Building it also checks that certificate and key belong together.
            Ok(Arc::new(tls::client(ServerTrust::Roots(roots.clone()), Some(&identity), &[alpn])?))
        };
        Ok(Self { sha256: tls::sha256(leaf), not_after, renew_at, http1: config(b"http/1.1")?, http2: config(b"h2")? })
    }
}

/// The one URI name of a certificate.
fn only_uri(der: &[u8]) -> Result<String, CertificateError> {
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
    let names = certificate.subject_alternative_name().ok().flatten().ok_or(CertificateError::Unreadable)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        _ => Err(CertificateError::Unreadable),
    }
}
