//! The one place where certificates are verified: of devices that connect to us, of our own servers
//! as agents see them, and of upstreams.
//!
//! WebPKI (RFC 5280 §6) finds and checks the path; what it leaves open is decided here: key usage,
//! kinds of keys, sizes, and for our own certificates the extended key usage and the names.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_wire::spiffe::{CertifiedIdentity, SpiffeError};
use webpki::{EndEntityCert, KeyUsage};

use super::identity::{self, CertifiedPeer};
use super::{ServerTrust, sha256};

/// Longest certificate of a device, bytes; ours have about 600.
const MAX_DEVICE_CERTIFICATE_BYTES: usize = 8 * 1024;
/// Most certificates that a peer may send beside its own.
const MAX_INTERMEDIATES: usize = 8;
/// id-kp-clientAuth (RFC 5280 §4.2.1.12), as the value of its OBJECT IDENTIFIER.
const EKU_CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// Why a certificate is refused. Each has words of its own, which stand in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CertificateRefusal {
    /// It is no X.509 certificate, or its extensions contradict RFC 5280.
    #[error("it can't be read")]
    Unreadable,
    /// It, or the number of certificates with it, is larger than any of ours.
    #[error("it is too large")]
    TooLarge,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not begun.
    #[error("it is not valid yet")]
    NotYetValid,
    /// Nobody whom we trust issued it.
    #[error("its issuer is not known")]
    UnknownIssuer,
    /// Nobody but itself vouches for it.
    #[error("it is signed by itself only")]
    SelfSigned,
    /// The signature is not of the issuer whose name it carries.
    #[error("its signature is not its issuer's")]
    Signature,
    /// It is signed with an algorithm that is weak or unknown, such as SHA-1 or MD5.
    #[error("it is signed with an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// Its key is too short or of a kind that is not accepted.
    #[error("its key is too short or of a kind that is not accepted")]
    KeyKind,
    /// It is an authority's, not an end's.
    #[error("it is an authority's certificate, or has what only those may have")]
    Authority,
    /// A certificate in its path may not issue others.
    #[error("a certificate in its path is no authority's, or may not issue this one")]
    Issuer,
    /// Its extended key usage does not include this purpose.
    #[error("its extended key usage does not allow this use")]
    Purpose,
    /// Its key usage does not allow signatures.
    #[error("its key usage does not allow signatures")]
    KeyUsage,
    /// It has a critical extension that nobody here understands.
    #[error("it has a critical extension that is not known")]
    CriticalExtension,
    /// An authority in its path may not issue for its name.
    #[error("its issuer may not issue for its name")]
    NameConstraint,
    /// It is of another server.
    #[error("it is not for the name that was asked for")]
    ServerName,
    /// It has no alternative name; the subject's common name counts for nothing.
    #[error("it has no alternative name")]
    NoName,
    /// It has more than one URI name.
    #[error("it has more than one URI name")]
    ManyNames,
    /// It has names of another kind than URI.
    #[error("it has a name that is not a URI")]
    OtherNames,
    /// Its URI name is longer than a SPIFFE id may be.
    #[error("its URI name is too long")]
    NameTooLong,
    /// Its SPIFFE id is of another trust domain, byte by byte.
    #[error("its SPIFFE id is of another trust domain")]
    TrustDomain,
    /// Its SPIFFE id has not the path of one of our roles.
    #[error("its SPIFFE id is not `/device/<id>`, `/gateway/<id>`, `/controller/<id>` or `/connector/<id>`")]
    IdPath,
    /// It is ours, but of another role.
    #[error("it is of another role")]
    Role,
    /// The signature over this handshake is not of the certificate's key.
    #[error("the handshake is not signed by its key")]
    Handshake,
}

impl From<SpiffeError> for CertificateRefusal {
    fn from(error: SpiffeError) -> Self {
        match error {
            SpiffeError::TrustDomain => Self::TrustDomain,
            SpiffeError::Path => Self::IdPath,
        }
    }
}

impl From<CertificateRefusal> for rustls::Error {
    fn from(refusal: CertificateRefusal) -> Self {
        // The errors that rustls knows have alerts of their own, which tell the peer more.
        Self::InvalidCertificate(match refusal {
            CertificateRefusal::Unreadable => CertificateError::BadEncoding,
            CertificateRefusal::Expired => CertificateError::Expired,
            CertificateRefusal::NotYetValid => CertificateError::NotValidYet,
            CertificateRefusal::UnknownIssuer => CertificateError::UnknownIssuer,
            CertificateRefusal::Purpose => CertificateError::InvalidPurpose,
            CertificateRefusal::ServerName => CertificateError::NotValidForName,
            CertificateRefusal::Handshake => CertificateError::BadSignature,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

impl CertificateRefusal {
    /// Reads the refusal back out of what rustls says, also through an I/O error.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.get_ref().and_then(|inner| Self::of(inner));
        }
        let Some(rustls::Error::InvalidCertificate(error)) = error.downcast_ref::<rustls::Error>() else { return None };
        match error {
            CertificateError::BadEncoding => Some(Self::Unreadable),
            CertificateError::Expired => Some(Self::Expired),
            CertificateError::NotValidYet => Some(Self::NotYetValid),
            CertificateError::UnknownIssuer => Some(Self::UnknownIssuer),
            CertificateError::InvalidPurpose => Some(Self::Purpose),
            CertificateError::NotValidForName => Some(Self::ServerName),
            CertificateError::BadSignature => Some(Self::Handshake),
            CertificateError::Other(OtherError(other)) => other.downcast_ref::<Self>().copied(),
            _ => None,
        }
    }

    fn of_path(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CaUsedAsEndEntity => Self::Authority,
            Error::EndEntityUsedAsCa | Error::PathLenConstraintViolated => Self::Issuer,
            Error::UnknownIssuer
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumPathDepthExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::MaximumNameConstraintComparisonsExceeded => Self::UnknownIssuer,
            Error::InvalidSignatureForPublicKey => Self::Signature,
            Error::SignatureAlgorithmMismatch | Error::UnsupportedSignatureAlgorithmContext(_) => {
                Self::SignatureAlgorithm
            }
            Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::KeyKind,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Self::Purpose,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            Error::NameConstraintViolation => Self::NameConstraint,
            Error::CertNotValidForName(_) | Error::UnsupportedNameType => Self::ServerName,
            // What is left speaks of encodings, and whatever is added later is a refusal too.
            _ => Self::Unreadable,
        }
    }
}

/// A path from a leaf to one of the anchors.
fn path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
    usage: KeyUsage,
    now: UnixTime,
) -> Result<(), CertificateRefusal> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(CertificateRefusal::TooLarge);
    }
    let end = EndEntityCert::try_from(leaf).map_err(|error| CertificateRefusal::of_path(&error))?;
    let found = end.verify_for_usage(algorithms.all, anchors, intermediates, now, usage, None, None);
    found.map(|_| ()).map_err(|error| match CertificateRefusal::of_path(&error) {
        CertificateRefusal::UnknownIssuer if is_self_issued(leaf) => CertificateRefusal::SelfSigned,
        refusal => refusal,
    })
}

fn is_self_issued(leaf: &CertificateDer<'_>) -> bool {
    identity::parse(leaf).is_ok_and(|certificate| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

/// Which role a client must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRole {
    /// A device, at a gateway.
    Device,
    /// A gateway, at a controller.
    Gateway,
    /// A connector, at a gateway.
    Connector,
}

/// Verifies the certificates of clients: of devices and connectors at a gateway, of gateways at a controller.
#[derive(Debug)]
pub struct Clients {
    role: ClientRole,
    roots: Arc<RootCertStore>,
    subjects: Vec<DistinguishedName>,
    domain: BaseDomain,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// Trusts those roots for clients of that role and trust domain.
    #[must_use]
    pub fn new(role: ClientRole, roots: Arc<RootCertStore>, domain: BaseDomain) -> Self {
        Self { role, subjects: roots.subjects(), roots, domain, algorithms: algorithms() }
    }

    /// Verifies a client's certificate and says whose it is.
    ///
    /// # Errors
    /// [`CertificateRefusal`].
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<CertifiedPeer, CertificateRefusal> {
        if leaf.len() > MAX_DEVICE_CERTIFICATE_BYTES {
            return Err(CertificateRefusal::TooLarge);
        }
        let usage = KeyUsage::required(EKU_CLIENT_AUTH);
        path(leaf, intermediates, &self.roots.roots, &self.algorithms, usage, now)?;
        of_role(self.role, leaf, &self.domain)
    }
}

fn of_role(
    role: ClientRole,
    leaf: &CertificateDer<'_>,
    domain: &BaseDomain,
) -> Result<CertifiedPeer, CertificateRefusal> {
    let peer = CertifiedPeer::read(leaf, domain)?;
    match (peer.identity, role) {
        (CertifiedIdentity::Device(_), ClientRole::Device)
        | (CertifiedIdentity::Gateway(_), ClientRole::Gateway)
        | (CertifiedIdentity::Connector(_), ClientRole::Connector) => Ok(peer),
        (
            CertifiedIdentity::Device(_)
            | CertifiedIdentity::Gateway(_)
            | CertifiedIdentity::Controller(_)
            | CertifiedIdentity::Connector(_),
            ClientRole::Device | ClientRole::Gateway | ClientRole::Connector,
        ) => Err(CertificateRefusal::Role),
    }
}

/// The device that a connection's handshake proved; `None` when it showed no certificate.
///
/// [`Clients`] verified the certificate in this handshake, or in the one that this session was
/// resumed from: tickets open only under the roots that it was verified with. Its time is checked
/// once more here, since a resumption is later.
///
/// # Errors
/// [`CertificateRefusal`].
pub fn proven_client(
    connection: &CommonState,
    domain: &BaseDomain,
    now: SystemTime,
) -> Result<Option<CertifiedPeer>, CertificateRefusal> {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    leaf.map(|leaf| proven_by(leaf, domain, now)).transpose()
}

/// The device whose certificate a handshake verified, as [`proven_client`]: for handshakes that are
/// not kept in one of rustls' own connections (QUIC).
///
/// # Errors
/// [`CertificateRefusal`].
pub fn proven_by(
    leaf: &CertificateDer<'_>,
    domain: &BaseDomain,
    now: SystemTime,
) -> Result<CertifiedPeer, CertificateRefusal> {
    let peer = of_role(ClientRole::Device, leaf, domain)?;
    peer.valid_at(now)?;
    Ok(peer)
}

/// The gateway that a connection's handshake proved, as [`proven_client`] says of devices.
///
/// # Errors
/// [`CertificateRefusal`].
pub fn proven_gateway(
    connection: &CommonState,
    domain: &BaseDomain,
    now: SystemTime,
) -> Result<Option<CertifiedPeer>, CertificateRefusal> {
    let Some(leaf) = connection.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
    let peer = of_role(ClientRole::Gateway, leaf, domain)?;
    peer.valid_at(now)?;
    Ok(Some(peer))
}

/// The connector that a connection's handshake proved, as [`proven_client`] says of devices.
///
/// # Errors
/// [`CertificateRefusal`].
pub fn proven_connector(
    connection: &CommonState,
    domain: &BaseDomain,
    now: SystemTime,
) -> Result<Option<CertifiedPeer>, CertificateRefusal> {
    let Some(leaf) = connection.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
    let peer = of_role(ClientRole::Connector, leaf, domain)?;
    peer.valid_at(now)?;
    Ok(Some(peer))
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
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

/// Verifies servers: our own as agents see them, and upstreams.
#[derive(Debug)]
pub struct Servers {
    anchors: Anchors,
    named: Named,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What a server's certificate must say of it.
#[derive(Debug)]
enum Named {
    /// The host name that was asked for.
    Host,
    /// That it is a controller, of that trust domain if it is known yet. No host name has it, so
    /// neither a gateway's certificate nor that of our host names passes for it.
    Controller(Option<BaseDomain>),
    /// That it is a gateway of that trust domain. Its certificate for our host names doesn't say so.
    Gateway(BaseDomain),
}

#[derive(Debug)]
enum Anchors {
    Roots(Arc<RootCertStore>),
    Pinned([u8; 32]),
    Public,
}

impl Servers {
    /// Trusts as said.
    #[must_use]
    pub fn new(trust: ServerTrust) -> Self {
        let (anchors, named) = match trust {
            ServerTrust::Roots(roots) => (Anchors::Roots(roots), Named::Host),
            ServerTrust::PinnedRoot(sha256) => (Anchors::Pinned(sha256), Named::Host),
            ServerTrust::Public => (Anchors::Public, Named::Host),
            ServerTrust::Controller { roots, domain } => (Anchors::Roots(roots), Named::Controller(Some(domain))),
            ServerTrust::Gateway { roots, domain } => (Anchors::Roots(roots), Named::Gateway(domain)),
            ServerTrust::NewController { root_sha256 } => (Anchors::Pinned(root_sha256), Named::Controller(None)),
        };
        Self { anchors, named, algorithms: algorithms() }
    }

    /// Verifies a server's certificate for a name. Extended key usage and key usage may be absent,
    /// as they are in many homemade certificates of upstreams, but may not say otherwise.
    ///
    /// # Errors
    /// [`CertificateRefusal`].
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), CertificateRefusal> {
        let path = |anchors: &[TrustAnchor<'_>]| {
            path(leaf, intermediates, anchors, &self.algorithms, KeyUsage::server_auth(), now)
        };
        match &self.anchors {
            Anchors::Roots(roots) => path(&roots.roots)?,
            Anchors::Public => path(webpki_roots::TLS_SERVER_ROOTS)?,
            Anchors::Pinned(fingerprint) => {
                let root = intermediates.iter().find(|certificate| sha256(certificate) == *fingerprint);
                let root = root.ok_or(CertificateRefusal::UnknownIssuer)?;
                let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| CertificateRefusal::Unreadable)?;
                path(&[anchor])?;
            }
        }
        let end = EndEntityCert::try_from(leaf).map_err(|error| CertificateRefusal::of_path(&error))?;
        match &self.named {
            Named::Host => {
                end.verify_is_valid_for_subject_name(name).map_err(|error| CertificateRefusal::of_path(&error))?;
            }
            Named::Controller(domain) => of_controller(leaf, domain.as_ref())?,
            Named::Gateway(domain) => of_role(ClientRole::Gateway, leaf, domain).map(|_| ())?,
        }
        let certificate = identity::parse(leaf)?;
        identity::key_kind(&certificate)?;
        identity::usage(&certificate).map(|_| ())
    }
}

/// Our own authority issued it, which always says what its certificates are for; so here that must stand
/// in it.
fn of_controller(leaf: &CertificateDer<'_>, domain: Option<&BaseDomain>) -> Result<(), CertificateRefusal> {
    let peer = match domain {
        Some(domain) => CertifiedPeer::read(leaf, domain)?,
        None => CertifiedPeer::read_of_any(leaf)?,
    };
    match peer.identity {
        CertifiedIdentity::Controller(_) => Ok(()),
        CertifiedIdentity::Device(_) | CertifiedIdentity::Gateway(_) | CertifiedIdentity::Connector(_) => {
            Err(CertificateRefusal::Role)
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
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

/// Whether a message was signed by a controller of that trust domain: by the key of the first certificate of the
/// chain, which leads to one of the roots. ECDSA over P-256 and SHA-256.
///
/// # Errors
/// [`CertificateRefusal`], also for a signature that is of another key.
pub fn signed_by_controller(
    message: &[u8],
    signature: &[u8],
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    domain: &BaseDomain,
    now: UnixTime,
) -> Result<(), CertificateRefusal> {
    let (leaf, issuers) = chain.split_first().ok_or(CertificateRefusal::Unreadable)?;
    path(leaf, issuers, &roots.roots, &algorithms(), KeyUsage::server_auth(), now)?;
    of_controller(leaf, Some(domain))?;
    let end = EndEntityCert::try_from(leaf).map_err(|error| CertificateRefusal::of_path(&error))?;
    end.verify_signature(webpki::aws_lc_rs::ECDSA_P256_SHA256, message, signature)
        .map_err(|_| CertificateRefusal::Signature)
}

/// Whether a certificate is for that host name. That alone says nothing of its issuer.
#[must_use]
pub fn is_for(leaf: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(end), Ok(name)) = (EndEntityCert::try_from(leaf), ServerName::try_from(host)) else { return false };
    end.verify_is_valid_for_subject_name(&name).is_ok()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
