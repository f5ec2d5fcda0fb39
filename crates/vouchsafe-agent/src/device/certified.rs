//! A device's certificate, made ready for TLS and checked to be ours.

use std::sync::Arc;

use rustls::ClientConfig;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::tls::{self, CertificateRefusal, CertifiedPeer, Credentials, ServerTrust, TlsError};
use vouchsafe_wire::spiffe::CertifiedIdentity;

/// Failure to accept a certificate as this device's.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain, the key or the root can't be used for TLS.
    #[error("the device's certificate and key can't be used")]
    Tls(#[from] TlsError),
    /// The certificate is not of the profile of ours.
    #[error("the device's certificate is not what it should be")]
    Refused(#[from] CertificateRefusal),
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
        let leaf = leaf.first().ok_or(CertificateRefusal::Unreadable)?;
        let expected = CertifiedIdentity::Device(id);
        let peer = CertifiedPeer::read(leaf, domain)?;
        if peer.identity != expected {
            return Err(CertificateError::Identity { expected: expected.to_uri(domain) });
        }
        let roots = tls::roots(root_pem, "the installation's root")?;
        let config = |alpn: &[u8]| -> Result<Arc<ClientConfig>, TlsError> {
            let identity = Credentials { chain_pem, key_pem };
            // Building it also checks that certificate and key belong together.
            Ok(Arc::new(tls::client(ServerTrust::Roots(roots.clone()), Some(&identity), &[alpn])?))
        };
        Ok(Self { sha256: peer.sha256, not_after, renew_at, http1: config(b"http/1.1")?, http2: config(b"h2")? })
    }
}
