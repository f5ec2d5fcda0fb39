//! What our certificates say: one function for each kind, and the checks when they are read back.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use vouchsafe_model::id::{ConnectorId, ControllerId, DeviceId, GatewayId};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::clock;
use vouchsafe_wire::spiffe::CertifiedIdentity;
use vouchsafe_wire::ticket::hex;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::key::Key;

const DAY: u64 = 24 * 3600;
/// Life of the root, seconds.
pub(super) const ROOT_LIFE: u64 = 3652 * DAY;
/// Life of the issuing authorities, seconds.
pub(super) const INTERMEDIATE_LIFE: u64 = 1826 * DAY;
/// Life of our own server and gateway certificates, seconds.
pub(super) const SERVER_LIFE: u64 = 90 * DAY;
/// Life of the certificates of gateways that are processes of their own, seconds. Clients ask nobody whether the one
/// for our host names is still good, so what a removed gateway has must end soon by itself.
pub(super) const GATEWAY_LIFE: u64 = 7 * DAY;
/// Clocks of clients may be behind ours by so much, seconds.
const CLOCK_SKEW: u64 = 300;

/// The issuing authorities, apart by what their certificates are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Policy enforcement points.
    Gateways,
    /// Enrolled devices.
    Devices,
    /// Our own host names.
    ServerNames,
    /// Controllers, as gateways see them.
    Controllers,
    /// Connectors, as gateways see them.
    Connectors,
}

impl Role {
    /// Name of its key in the store.
    pub(super) const fn key_name(self) -> &'static str {
        match self {
            Role::Gateways => "gateways",
            Role::Devices => "devices",
            Role::ServerNames => "server-names",
            Role::Controllers => "controllers",
            Role::Connectors => "connectors",
        }
    }

    fn usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Role::Gateways => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            Role::Devices | Role::Connectors => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Role::ServerNames | Role::Controllers => vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }
}

/// From when to when, unix seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    not_before: u64,
    not_after: u64,
}

impl Validity {
    /// From a little before now, for so many seconds.
    pub(super) fn from_now(now: u64, life: u64) -> Self {
        Self { not_before: now.saturating_sub(CLOCK_SKEW), not_after: now.saturating_add(life) }
    }
}

fn moment(seconds: u64) -> OffsetDateTime {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(validity.not_before);
    params.not_after = moment(validity.not_after);
    params.serial_number = Some(SerialNumber::from_slice(&clock::random::<16>()));
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str, below: u8, validity: Validity) -> CertificateParams {
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Issues the root. Its name carries a piece of its key, so that roots of two installations in one
/// trust store can be told apart.
pub(super) fn root(key: &Key, validity: Validity) -> Result<Certificate, rcgen::Error> {
    let fingerprint = hex(digest(&SHA256, key.point()).as_ref());
    let short = fingerprint.get(..8).unwrap_or_default();
    authority(&format!("vouchsafe root {short}"), 1, validity).self_signed(key)
}

/// Issues one of the issuing authorities.
pub(super) fn intermediate(
    role: Role,
    key: &Key,
    domain: &BaseDomain,
    root: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    let mut params = authority(&format!("vouchsafe {}", role.key_name()), 0, validity);
    params.extended_key_usages = role.usages();
    params.name_constraints = match role {
        Role::Gateways | Role::Devices | Role::Controllers | Role::Connectors => None,
        // Whoever steals this key, or trusts our root in a browser, can't be met with any other name.
        Role::ServerNames => Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_string())],
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
            ],
        }),
    };
    params.signed_by(key, root)
}

/// Issues the certificate of our own host names: `*.<domain>` and `<domain>`.
pub(super) fn server(
    key: &impl PublicKeyData,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    let mut params = params("vouchsafe server", validity);
    params.subject_alt_names =
        vec![SanType::DnsName(domain.host("*").as_str().try_into()?), SanType::DnsName(domain.as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.signed_by(key, issuer)
}

/// Issues the certificate by which a gateway is known to the controller and to upstreams.
pub(super) fn gateway(
    id: GatewayId,
    key: &impl PublicKeyData,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    let mut params = params(&id.to_string(), validity);
    params.subject_alt_names = vec![SanType::URI(CertifiedIdentity::Gateway(id).to_uri(domain).as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.signed_by(key, issuer)
}

/// Issues the certificate by which a controller is known to gateways.
pub(super) fn controller(
    id: ControllerId,
    key: &Key,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    let mut params = params(&id.to_string(), validity);
    params.subject_alt_names =
        vec![SanType::URI(CertifiedIdentity::Controller(id).to_uri(domain).as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.signed_by(key, issuer)
}

/// Issues a device certificate. Everything in it is ours; of the request only the key is taken.
pub(super) fn device(
    id: DeviceId,
    key: &impl PublicKeyData,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    client(CertifiedIdentity::Device(id), &id.to_string(), key, domain, issuer, validity)
}

/// Issues the certificate by which a connector is known to gateways.
pub(super) fn connector(
    id: ConnectorId,
    key: &impl PublicKeyData,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    client(CertifiedIdentity::Connector(id), &id.to_string(), key, domain, issuer, validity)
}

/// Issues the certificate of who only ever dials.
fn client(
    identity: CertifiedIdentity,
    name: &str,
    key: &impl PublicKeyData,
    domain: &BaseDomain,
    issuer: &Issuer<'_, Key>,
    validity: Validity,
) -> Result<Certificate, rcgen::Error> {
    let mut params = params(name, validity);
    params.subject_alt_names = vec![SanType::URI(identity.to_uri(domain).as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.signed_by(key, issuer)
}

/// What is read back of a certificate of ours.
pub(super) struct ReadBack {
    pub(super) der: CertificateDer<'static>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) serial: String,
    dns_names: Vec<String>,
    permitted_names: Vec<String>,
    point: Vec<u8>,
}

impl ReadBack {
    /// Reads the first certificate of a PEM text; `None` when it is unreadable.
    pub(super) fn of_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (rest, certificate) = X509Certificate::from_der(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let dns_name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        let dns_names = certificate
            .subject_alternative_name()
            .ok()?
            .map(|names| names.value.general_names.iter().filter_map(dns_name).collect())
            .unwrap_or_default();
        let permitted_names = certificate
            .name_constraints()
            .ok()?
            .and_then(|constraints| constraints.value.permitted_subtrees.as_ref())
            .map(|trees| trees.iter().filter_map(|tree| dns_name(&tree.base)).collect())
            .unwrap_or_default();
        let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
        let (not_before, not_after) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        let serial = hex(&certificate.serial.to_bytes_be());
        let point = certificate.public_key().subject_public_key.data.to_vec();
        let (not_before, not_after) = (seconds(not_before), seconds(not_after));
        Some(Self { not_before, not_after, serial, dns_names, permitted_names, point, der: der.clone() })
    }

    /// Whether the certificate is of that key.
    pub(super) fn is_of(&self, key: &Key) -> bool {
        self.point == key.point()
    }

    /// Whether the issuer's key signed it.
    pub(super) fn is_signed_by(&self, issuer: &ReadBack) -> bool {
        let read = |der| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
        match (read(&self.der), read(&issuer.der)) {
            (Some(own), Some(issuer)) => own.verify_signature(Some(issuer.public_key())).is_ok(),
            _ => false,
        }
    }

    /// Whether at least a third of its life is left.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        self.not_before <= now && now < self.renew_at()
    }

    /// When a third of its life is left, unix seconds.
    pub(super) fn renew_at(&self) -> u64 {
        self.not_after.saturating_sub(self.not_after.saturating_sub(self.not_before) / 3)
    }

    /// Whether the names it carries are those of that domain.
    pub(super) fn names(&self, domain: &BaseDomain) -> bool {
        self.dns_names == [domain.host("*"), domain.to_string()]
    }

    /// Whether it may issue for names of that domain.
    pub(super) fn permits(&self, domain: &BaseDomain) -> bool {
        self.permitted_names == [domain.to_string()]
    }
}
