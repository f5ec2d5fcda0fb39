//! TLS set-up for every role: one provider (aws-lc-rs), TLS 1.3, X25519MLKEM768 preferred.
//!
//! There is no switch that turns verification off. Trust material that is missing or empty is an
//! error, never an open door.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

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
    /// The roots for client certificates are not usable.
    #[error("roots for client certificates are not usable")]
    ClientRoots(#[source] rustls::server::VerifierBuilderError),
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
    /// Asked; a wrong one fails the handshake, none at all is for HTTP to refuse in words.
    Asked {
        /// PEM of the roots that may vouch for clients.
        roots_pem: &'p str,
    },
}

/// A server's configuration. Tickets and resumption are off where clients are asked for
/// certificates, so that every connection proves its device anew.
///
/// # Errors
/// [`TlsError`].
pub fn server(
    credentials: &Credentials<'_>,
    clients: &ClientCertificates<'_>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let what = "server certificate";
    let unusable = |source| TlsError::Unusable { what, source };
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
    let (builder, resumption) = match clients {
        ClientCertificates::NotAsked => (builder.with_no_client_auth(), true),
        ClientCertificates::Asked { roots_pem } => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(roots_pem, "device roots")?, provider)
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::ClientRoots)?;
            (builder.with_client_cert_verifier(verifier), false)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(credentials.chain_pem, what)?, private_key(credentials.key_pem, what)?)
        .map_err(unusable)?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    if !resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Whom a client trusts.
pub enum ServerTrust {
    /// These roots.
    Roots(Arc<RootCertStore>),
    /// Exactly one root, known by the SHA-256 of its DER, which the server sends along in its
    /// chain: for the first contact of a new device.
    PinnedRoot([u8; 32]),
    /// The public authorities.
    Public,
}

/// A client's configuration. Server names are always verified.
///
/// # Errors
/// [`TlsError`].
pub fn client(
    trust: ServerTrust,
    identity: Option<&Credentials<'_>>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let what = "client certificate";
    let unusable = |source| TlsError::Unusable { what, source };
    let provider = provider();
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(unusable)?;
    let builder = match trust {
        ServerTrust::Roots(roots) => builder.with_root_certificates(roots),
        ServerTrust::Public => {
            let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder.with_root_certificates(store)
        }
        ServerTrust::PinnedRoot(sha256) => {
            let verifier = PinnedRootVerifier { sha256, algorithms: provider.signature_verification_algorithms };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
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

/// Verifies a server in full, by the one root whose fingerprint was given: WebPKI path, name, time
/// and signatures. Only the source of the root differs from the usual verifier.
#[derive(Debug)]
struct PinnedRootVerifier {
    sha256: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedRootVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let root = intermediates.iter().find(|certificate| sha256(certificate) == self.sha256).ok_or_else(unknown)?;
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned()).map_err(|_| unknown())?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &store, intermediates, now, self.algorithms.all)?;
        rustls::client::verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// End of a certificate's validity.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<std::time::SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(crate::clock::from_unix_seconds(seconds))
}

/// The only URI among a certificate's alternative names (X.509-SVID §2); `None` when there is
/// none, or more than one, or any other kind of name beside it.
#[must_use]
pub fn only_uri_name(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    match parsed.subject_alternative_name().ok()??.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some((*uri).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, NamedGroup, ServerConnection};

    struct Made {
        ca_pem: String,
        chain_pem: String,
        key_pem: String,
        ca_der: Vec<u8>,
    }

    fn made(purpose: rcgen::ExtendedKeyUsagePurpose) -> Made {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(vec!["gw.corp.example".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![purpose];
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Made {
            ca_pem: root.pem(),
            chain_pem: format!("{}{}", leaf.pem(), root.pem()),
            key_pem: key.serialize_pem(),
            ca_der: root.der().to_vec(),
        }
    }

    fn handshake(
        client: ClientConfig,
        server: ServerConfig,
        name: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        for _ in 0..8 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    fn server_of(made: &Made, clients: &ClientCertificates<'_>) -> ServerConfig {
        server(&Credentials { chain_pem: &made.chain_pem, key_pem: &made.key_pem }, clients, &[b"h2"]).unwrap()
    }

    #[test]
    fn hybrid_key_agreement_is_preferred() {
        let made = made(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let config = client(ServerTrust::Roots(roots(&made.ca_pem, "test").unwrap()), None, &[b"h2"]).unwrap();
        let server = server_of(&made, &ClientCertificates::NotAsked);
        let (client, server) = handshake(config, server, "gw.corp.example").unwrap();
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }

    #[test]
    fn a_pinned_root_is_verified_like_any_other() {
        let (made, other) =
            (made(rcgen::ExtendedKeyUsagePurpose::ServerAuth), made(rcgen::ExtendedKeyUsagePurpose::ServerAuth));
        let try_with = |pin: [u8; 32], name: &str| {
            let config = client(ServerTrust::PinnedRoot(pin), None, &[b"h2"]).unwrap();
            handshake(config, server_of(&made, &ClientCertificates::NotAsked), name).is_ok()
        };
        assert!(try_with(sha256(&made.ca_der), "gw.corp.example"));
        assert!(!try_with(sha256(&made.ca_der), "evil.corp.example"), "the name counts");
        assert!(!try_with(sha256(&other.ca_der), "gw.corp.example"), "the fingerprint counts");
        assert!(!try_with([0; 32], "gw.corp.example"));
    }

    #[test]
    fn a_client_certificate_of_another_authority_fails_the_handshake_and_none_does_not() {
        let server_side = made(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let (devices, strangers) =
            (made(rcgen::ExtendedKeyUsagePurpose::ClientAuth), made(rcgen::ExtendedKeyUsagePurpose::ClientAuth));
        let try_with = |identity: Option<&Made>| {
            let identity = identity.map(|made| Credentials { chain_pem: &made.chain_pem, key_pem: &made.key_pem });
            let trust = ServerTrust::Roots(roots(&server_side.ca_pem, "test").unwrap());
            let config = client(trust, identity.as_ref(), &[b"h2"]).unwrap();
            let asked = ClientCertificates::Asked { roots_pem: &devices.ca_pem };
            handshake(config, server_of(&server_side, &asked), "gw.corp.example")
                .map(|(_, server)| server.peer_certificates().is_some())
        };
        assert_eq!(try_with(Some(&devices)), Ok(true));
        assert_eq!(try_with(None), Ok(false));
        assert!(try_with(Some(&strangers)).is_err());
    }

    #[test]
    fn missing_trust_is_an_error_not_an_open_door() {
        assert!(roots("", "test").is_err());
        assert!(roots("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "test").is_err());
        assert!(private_key("", "test").is_err());
    }
}
