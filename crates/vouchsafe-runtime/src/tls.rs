//! TLS for every role: one provider (aws-lc-rs), TLS 1.3, X25519MLKEM768 preferred.
//!
//! - [`verify`]: the one place where certificates are verified, of clients and of servers
//! - [`identity`]: who a verified certificate of ours belongs to
//! - [`shown`]: the certificates a server shows, replaced while it serves
//! - `tickets`: session tickets, which open nothing but the configuration that made them
//! - [`negotiated`]: what a handshake ended with
//!
//! There is no switch that turns verification off. Trust material that is missing or empty is an
//! error, never an open door.

pub mod identity;
pub mod negotiated;
pub mod shown;
mod tickets;
pub mod verify;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use vouchsafe_model::name::BaseDomain;

pub use self::identity::{CertifiedPeer, valid_between};
pub use self::negotiated::Negotiated;
pub use self::shown::Shown;
pub use self::verify::{
    CertificateRefusal, proven_by, proven_client, proven_connector, proven_gateway, signed_by_controller,
};

/// Failure to build a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text has no certificate, or one that can't be read.
    #[error("{what} holds no readable certificate in PEM form")]
    Certificates {
        /// Which text.
        what: &'static str,
    },
    /// A PEM text has no private key.
    #[error("{what} holds no readable private key in PEM form (PKCS#8)")]
    Key {
        /// Which text.
        what: &'static str,
    },
    /// Certificate and key do not belong together, or rustls refuses them.
    #[error("{what} is not usable")]
    Unusable {
        /// Which configuration.
        what: &'static str,
        /// Cause.
        #[source]
        source: rustls::Error,
    },
    /// Session tickets can't be sealed.
    #[error("no key for session tickets could be made")]
    Tickets,
}

/// The provider of all TLS here. Groups: X25519MLKEM768 first, then X25519, P-256, P-384.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
}

/// Reads every certificate of a PEM text; none is an error.
///
/// # Errors
/// [`TlsError::Certificates`].
pub fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Certificates { what })?;
    if certificates.is_empty() { Err(TlsError::Certificates { what }) } else { Ok(certificates) }
}

/// Reads the first private key of a PEM text.
///
/// # Errors
/// [`TlsError::Key`].
pub fn private_key(pem: &str, what: &'static str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Key { what })
}

/// Makes a store of the roots in a PEM text; none is an error.
///
/// # Errors
/// [`TlsError`] when a certificate is unreadable or none is there.
pub fn roots(pem: &str, what: &'static str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        store.add(certificate).map_err(|source| TlsError::Unusable { what, source })?;
    }
    Ok(Arc::new(store))
}

/// Certificate and key of one end.
#[derive(Clone, Copy)]
pub struct Credentials<'p> {
    /// PEM chain, leaf first.
    pub chain_pem: &'p str,
    /// PEM key.
    pub key_pem: &'p str,
}

/// Whether a server asks its clients for a certificate.
pub enum ClientCertificates<'p> {
    /// Not at all: browsers show no prompt.
    NotAsked,
    /// Asked; one that is not a device's fails the handshake, none at all is for HTTP to refuse in
    /// words.
    OfDevices {
        /// PEM of the roots that may vouch for devices.
        roots_pem: &'p str,
        /// Trust domain of their SPIFFE ids.
        domain: &'p BaseDomain,
    },
    /// Asked by a gateway of who offers to be a connector; one that is not a connector's fails the handshake.
    OfConnectors {
        /// PEM of the roots that may vouch for connectors.
        roots_pem: &'p str,
        /// Trust domain of their SPIFFE ids.
        domain: &'p BaseDomain,
    },
    /// Asked by a controller; one that is not a gateway's fails the handshake, and without any a gateway
    /// can do nothing but join.
    OfGateways {
        /// PEM of the roots that may vouch for gateways.
        roots_pem: &'p str,
        /// Trust domain of their SPIFFE ids.
        domain: &'p BaseDomain,
    },
}

/// A server's configuration. Each has ticket keys of its own, so a session can be resumed only
/// where it began: under the same roots, and, since rustls compares the names, at the same name.
/// A resumed session keeps its client certificate, which [`proven_client`] checks again.
/// Early data is never accepted (A047).
///
/// # Errors
/// [`TlsError`].
pub fn server(
    shown: Arc<dyn ResolvesServerCert>,
    clients: &ClientCertificates<'_>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let unusable = |source| TlsError::Unusable { what: "server configuration", source };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
    let (builder, tickets) = match clients {
        ClientCertificates::NotAsked => (builder.with_no_client_auth(), 2),
        ClientCertificates::OfGateways { roots_pem, domain } => {
            let roots = roots(roots_pem, "gateway roots")?;
            let verifier = verify::Clients::new(verify::ClientRole::Gateway, roots, (*domain).clone());
            (builder.with_client_cert_verifier(Arc::new(verifier)), 1)
        }
        ClientCertificates::OfConnectors { roots_pem, domain } => {
            let roots = roots(roots_pem, "connector roots")?;
            let verifier = verify::Clients::new(verify::ClientRole::Connector, roots, (*domain).clone());
            (builder.with_client_cert_verifier(Arc::new(verifier)), 1)
        }
        ClientCertificates::OfDevices { roots_pem, domain } => {
            let roots = roots(roots_pem, "device roots")?;
            let verifier = verify::Clients::new(verify::ClientRole::Device, roots, (*domain).clone());
            // A device gets one ticket for each connection; that each carries its certificate makes them large.
            (builder.with_client_cert_verifier(Arc::new(verifier)), 1)
        }
    };
    let mut config = builder.with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    config.ticketer = Arc::new(tickets::Tickets::new()?);
    config.send_tls13_tickets = tickets;
    Ok(config)
}

/// Whom a client trusts.
#[derive(Clone)]
pub enum ServerTrust {
    /// These roots.
    Roots(Arc<RootCertStore>),
    /// Exactly one root, known by the SHA-256 of its DER, which the server sends along in its
    /// chain: for the first contact of a new device.
    PinnedRoot([u8; 32]),
    /// The public authorities.
    Public,
    /// These roots, for a controller of that trust domain and for no other server of theirs. The name that
    /// is dialled says nothing.
    Controller {
        /// The roots.
        roots: Arc<RootCertStore>,
        /// Trust domain of its SPIFFE id.
        domain: BaseDomain,
    },
    /// These roots, for a gateway of that trust domain and for no other server of theirs. The name that is
    /// dialled says nothing.
    Gateway {
        /// The roots.
        roots: Arc<RootCertStore>,
        /// Trust domain of its SPIFFE id.
        domain: BaseDomain,
    },
    /// As [`ServerTrust::Controller`], for the first contact of a new gateway: the root is known by the
    /// SHA-256 of its DER, and sent along.
    NewController {
        /// SHA-256 of the root.
        root_sha256: [u8; 32],
    },
}

/// A client's configuration for TLS 1.3. Server names are always verified.
///
/// # Errors
/// [`TlsError`].
pub fn client(
    trust: ServerTrust,
    identity: Option<&Credentials<'_>>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    client_since(Oldest::Tls13, trust, identity, alpn)
}

/// Oldest version of TLS that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oldest {
    /// TLS 1.2 (AEAD and ECDHE suites only, which is all that rustls has) or 1.3.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A client's configuration for TLS from some version on. Server names are always verified.
///
/// # Errors
/// [`TlsError`].
pub fn client_since(
    oldest: Oldest,
    trust: ServerTrust,
    identity: Option<&Credentials<'_>>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let what = "client certificate";
    let unusable = |source| TlsError::Unusable { what, source };
    let versions: &[&rustls::SupportedProtocolVersion] = match oldest {
        Oldest::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Oldest::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::Servers::new(trust)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(credentials) => builder
            .with_client_auth_cert(certificates(credentials.chain_pem, what)?, private_key(credentials.key_pem, what)?)
            .map_err(unusable)?,
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// SHA-256 of a certificate's DER.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests;
