//! Authorities, certificates and handshakes for the tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use crate::tls::{self, ClientCertificates, Credentials, ServerTrust, Shown};

pub(super) const SERVER_NAME: &str = "gw.corp.example";

pub(super) fn domain() -> BaseDomain {
    BaseDomain::parse("corp.example").unwrap()
}

pub(super) fn device_uri() -> String {
    CertifiedIdentity::Device(DeviceId::from_random([7; 16])).to_uri(&domain())
}

pub(super) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::named("authority")
    }

    pub(super) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        // The same for every authority of the tests, so that only the key tells them apart.
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; 20]);
        let root = params.self_signed(&key).unwrap();
        Self { pem: root.pem(), der: root.der().to_vec(), issuer: Issuer::new(params, key) }
    }
}

/// Chain and key of one end.
pub(super) struct End {
    pub(super) chain_pem: String,
    pub(super) key_pem: String,
}

impl End {
    pub(super) fn signed(params: &CertificateParams, by: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &by.issuer).unwrap();
        Self { chain_pem: format!("{}{}", leaf.pem(), by.pem), key_pem: key.serialize_pem() }
    }

    pub(super) fn server(by: &Authority) -> Self {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "api.corp.example".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Self::signed(&params, by)
    }

    pub(super) fn device(by: &Authority) -> Self {
        Self::signed(&device(), by)
    }

    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials { chain_pem: &self.chain_pem, key_pem: &self.key_pem }
    }

    pub(super) fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).unwrap()
    }
}

/// A device's certificate as ours are.
pub(super) fn device() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(device_uri().as_str().try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

/// A server that asks for certificates of devices.
pub(super) fn gateway(own: &End, devices: &Authority) -> ServerConfig {
    let asked = ClientCertificates::OfDevices { roots_pem: &devices.pem, domain: &domain() };
    tls::server(Shown::load(&own.credentials()).unwrap(), &asked, &[b"h2"]).unwrap()
}

/// A client that shows whatever it is given: ours would refuse to be set up with half of the cases.
pub(super) fn client(servers: &Authority, identity: Option<&End>) -> ClientConfig {
    let trust = ServerTrust::Roots(tls::roots(&servers.pem, "test").unwrap());
    let mut config = tls::client(trust, None, &[b"h2"]).unwrap();
    if let Some(end) = identity {
        let chain = tls::certificates(&end.chain_pem, "test").unwrap();
        let key = tls::private_key(&end.key_pem, "test").unwrap();
        let key = tls::provider().key_provider.load_private_key(key).unwrap();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    }
    config
}

pub(super) type Ends = (ClientConnection, ServerConnection);

/// One handshake in memory, and what comes behind it.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Ends, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}
