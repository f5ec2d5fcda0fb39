use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use vouchsafe_wire::spiffe::CertifiedIdentity;
use x509_parser::prelude::FromDer as _;

use super::*;

async fn open(dir: &Path) -> Result<(Store, Ca), CaError> {
    open_as(dir, "corp.example").await
}

async fn open_as(dir: &Path, domain: &str) -> Result<(Store, Ca), CaError> {
    let settings = Settings { dir: dir.to_owned(), domain: BaseDomain::parse(domain).unwrap(), port: 8443 };
    let (store, _) = Store::open(&dir.join("vouchsafe.db")).await?;
    let ca = Ca::open(&store, &settings).await?;
    Ok((store, ca))
}

async fn run(store: &Store, statement: &'static str) {
    let mut write = store.write().await.unwrap();
    sqlx::query(statement).execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
}

fn refusal(result: Result<(Store, Ca), CaError>) -> CaError {
    match result {
        Ok(_) => panic!("the CA opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_restart_keeps_every_key_and_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = open(dir.path()).await.unwrap();
    let (store, second) = open(dir.path()).await.unwrap();
    assert_eq!(first.root_pem(), second.root_pem());
    let (one, two) = (first.gateway_identity(), second.gateway_identity());
    assert_eq!(one.id, two.id);
    let shown = |ca: &Ca| ca.certificates().borrow().server.chain_pem.clone();
    assert_eq!(shown(&first), shown(&second));
    assert_eq!(one.device_roots_pem, two.device_roots_pem);
    assert_eq!(one.token_keys, two.token_keys);
    assert_eq!(*one.assertion_key_pem, *two.assertion_key_pem);
    assert_eq!(first.jwks(&[]), second.jwks(&[]));
    // Root, four authorities, server and gateway: each issued once, each with its record.
    let records = crate::store::testing::records(&store);
    let issued = records.iter().filter(|record| record.kind == Kind::Lifecycle).count();
    assert_eq!(issued, 7);
}

#[tokio::test]
async fn i10_a_missing_master_key_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await.unwrap());
    fs::remove_file(dir.path().join("master.key")).unwrap();
    let error = refusal(open(dir.path()).await);
    assert!(error.to_string().contains("master.key"), "{error}");
    assert!(error.to_string().contains("backup"), "{error}");
    assert!(!dir.path().join("master.key").exists(), "a new key must not hide the loss");
}

#[tokio::test]
async fn i10_no_private_key_lies_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let (_, ca) = open(dir.path()).await.unwrap();
    let identity = ca.gateway_identity();
    let mut bytes = Vec::new();
    for file in ["vouchsafe.db", "vouchsafe.db-wal"] {
        bytes.extend(fs::read(dir.path().join(file)).unwrap_or_default());
    }
    let shown = Arc::clone(&ca.certificates().borrow());
    for pem in [&shown.server.key_pem, &shown.client.key_pem, &identity.assertion_key_pem] {
        let der = rustls_pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let der = der.secret_der();
        assert!(!bytes.windows(32).any(|window| der.windows(32).any(|secret| secret == window)));
    }
    assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
}

#[tokio::test]
async fn swapped_and_altered_rows_are_refused() {
    for statement in [
        "UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE name = 'gateways') WHERE name = 'devices'",
        "UPDATE keys SET certificate = (SELECT certificate FROM keys WHERE name = 'gateways') WHERE name = 'devices'",
        "UPDATE keys SET certificate = (SELECT certificate FROM keys WHERE name = 'server-names') WHERE name = 'root'",
        "UPDATE keys SET certificate = '' WHERE name = 'server'",
        "UPDATE keys SET sealed = x'00' WHERE name = 'tokens'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path()).await.unwrap();
        run(&store, statement).await;
        drop(store);
        let error = refusal(open(dir.path()).await);
        assert!(matches!(error, CaError::MasterKey(_) | CaError::Certificate { .. }), "{statement}: {error}");
    }
}

#[tokio::test]
async fn another_domain_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await.unwrap());
    assert!(matches!(refusal(open_as(dir.path(), "other.example").await), CaError::OtherDomain { .. }));
}

async fn device(store: &Store, ca: &Ca, csr: &str) -> (DeviceId, DeviceCertificate) {
    let id = DeviceId::from_random(clock::random());
    let now = clock::unix_seconds(clock::now());
    let mut write = store.write().await.unwrap();
    let record = Record::new(Kind::Device, 0);
    let key = ProvenKey::parse(csr).map_err(|error| error.to_string()).unwrap();
    let issued = ca.issue_device(&mut write, record, id, &key, now).unwrap();
    write.commit().await.unwrap();
    (id, issued)
}

#[tokio::test]
async fn a_device_certificate_says_only_what_we_say() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ca) = open(dir.path()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["finance.corp.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let (id, issued) = device(&store, &ca, &csr).await;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(chain.len(), 2);
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&chain[0]).unwrap();
    let (_, issuer) = x509_parser::certificate::X509Certificate::from_der(&chain[1]).unwrap();
    leaf.verify_signature(Some(issuer.public_key())).unwrap();
    let domain = BaseDomain::parse("corp.example").unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let x509_parser::extensions::GeneralName::URI(uri) = names.value.general_names[0] else { panic!("not a URI") };
    assert_eq!(CertifiedIdentity::parse(uri, &domain), Ok(CertifiedIdentity::Device(id)));
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(!constraints.value.ca);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(life, 24 * 3600 + 300);
    assert!(leaf.serial.to_bytes_be().len() >= 14);
    assert_eq!(issued.renew_at + 8 * 3600, issued.not_after);
}

#[tokio::test]
async fn only_the_devices_authority_makes_devices_and_the_server_chain_ends_in_the_root() {
    use vouchsafe_runtime::tls::{self, ClientCertificates, Credentials, ServerTrust};

    let dir = tempfile::tempdir().unwrap();
    let (store, ca) = open(dir.path()).await.unwrap();
    let identity = ca.gateway_identity();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::new(vec![]).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    let (_, issued) = device(&store, &ca, &csr).await;
    let key_pem = key.serialize_pem();
    let shown = Arc::clone(&ca.certificates().borrow());
    let (server, client) = (&shown.server, &shown.client);
    let own = Credentials { chain_pem: &server.chain_pem, key_pem: &server.key_pem };
    let devices = ClientCertificates::OfDevices { roots_pem: &identity.device_roots_pem, domain: &identity.domain };
    let listening = tls::server(tls::Shown::load(&own).unwrap(), &devices, &[]).unwrap();
    let roots = tls::roots(ca.root_pem(), "root").unwrap();
    for (chain, key, good) in [
        (issued.chain_pem.as_str(), key_pem.as_str(), true),
        (client.chain_pem.as_str(), client.key_pem.as_str(), false),
        (server.chain_pem.as_str(), server.key_pem.as_str(), false),
    ] {
        for trust in [ServerTrust::Roots(Arc::clone(&roots)), ServerTrust::PinnedRoot(ca.root_sha256())] {
            let credentials = Credentials { chain_pem: chain, key_pem: key };
            let client = tls::client(trust, Some(&credentials), &[]).unwrap();
            for name in ["gw.corp.example", "wiki.corp.example"] {
                let outcome = handshake(&client, &listening, name);
                assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
            }
            assert!(handshake(&client, &listening, "gw.other.example").is_err());
        }
    }
}

#[tokio::test]
async fn certificates_that_are_shown_are_renewed_while_we_run() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ca) = open(dir.path()).await.unwrap();
    let settings = Settings { dir: dir.path().to_owned(), domain: ca.domain.clone(), port: 8443 };
    let mut certificates = ca.certificates();
    let before = Arc::clone(&certificates.borrow_and_update());
    let now = clock::unix_seconds(clock::now());
    let day = 24 * 3600;
    assert!(!ca.renew(&store, &settings, now + 59 * day).await.unwrap());
    assert!(!certificates.has_changed().unwrap());
    // Without the master key nothing can be sealed: what is shown stays.
    let (key, aside) = (dir.path().join("master.key"), dir.path().join("aside"));
    fs::rename(&key, &aside).unwrap();
    assert!(ca.renew(&store, &settings, now + 61 * day).await.is_err());
    assert!(!certificates.has_changed().unwrap());
    fs::rename(&aside, &key).unwrap();
    assert!(ca.renew(&store, &settings, now + 61 * day).await.unwrap());
    let after = Arc::clone(&certificates.borrow_and_update());
    assert!(before.server != after.server && before.client != after.client);
    let read = ReadBack::of_pem(&after.server.chain_pem).unwrap();
    assert!(read.not_after > now + 150 * day && read.names(&ca.domain));
    assert!(!ca.renew(&store, &settings, now + 62 * day).await.unwrap(), "once is enough");
    assert!(ca.renew(&store, &settings, now + 122 * day).await.unwrap());
}

/// One handshake in memory.
fn handshake(
    client: &rustls::ClientConfig,
    server: &rustls::ServerConfig,
    name: &'static str,
) -> Result<(), rustls::Error> {
    use std::sync::Arc;

    let name = rustls::pki_types::ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client.clone()), name)?;
    let mut server = rustls::ServerConnection::new(Arc::new(server.clone()))?;
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
    Ok(())
}
