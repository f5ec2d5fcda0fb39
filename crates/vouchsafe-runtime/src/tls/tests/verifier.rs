//! A171: certificates that are almost right, each refused for a reason of its own.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::NamedGroup;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use super::peers::{Authority, End, SERVER_NAME, client, device, device_uri, domain, gateway, handshake};
use crate::tls::verify::{ClientRole, Clients};
use crate::tls::{self, CertificateRefusal as Refusal, ClientCertificates, ServerTrust, Shown};

#[test]
fn hybrid_key_agreement_is_preferred_and_told() {
    let authority = Authority::new();
    let server = Arc::new(gateway(&End::server(&authority), &authority));
    let (client_end, server_end) = handshake(&Arc::new(client(&authority, None)), &server, SERVER_NAME).unwrap();
    assert_eq!(client_end.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    let negotiated = tls::Negotiated::of(&server_end);
    assert_eq!(negotiated.to_string(), "1.3 X25519MLKEM768");
    assert!(negotiated.is_post_quantum() && !negotiated.is_resumed());
    let mut provider = (*tls::provider()).clone();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let trust = tls::roots(&authority.pem, "test").unwrap();
    let mut old = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(trust)
        .with_no_client_auth();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let (_, server_end) = handshake(&Arc::new(old), &server, SERVER_NAME).unwrap();
    assert_eq!(tls::Negotiated::of(&server_end).to_string(), "1.3 X25519");
    assert!(!tls::Negotiated::of(&server_end).is_post_quantum());
}

#[test]
fn a_pinned_root_is_verified_like_any_other() {
    let (own, other) = (Authority::new(), Authority::new());
    let server = Arc::new(gateway(&End::server(&own), &own));
    let try_with = |pin: [u8; 32], name: &str| {
        let config = tls::client(ServerTrust::PinnedRoot(pin), None, &[b"h2"]).unwrap();
        handshake(&Arc::new(config), &server, name).map(|_| ()).map_err(|error| Refusal::of(&error))
    };
    assert_eq!(try_with(tls::sha256(&own.der), SERVER_NAME), Ok(()));
    assert_eq!(try_with(tls::sha256(&own.der), "evil.corp.example"), Err(Some(Refusal::ServerName)));
    assert_eq!(try_with(tls::sha256(&other.der), SERVER_NAME), Err(Some(Refusal::UnknownIssuer)));
    assert_eq!(try_with([0; 32], SERVER_NAME), Err(Some(Refusal::UnknownIssuer)));
}

#[test]
fn missing_trust_is_an_error_not_an_open_door() {
    assert!(tls::roots("", "test").is_err());
    assert!(tls::roots("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "test").is_err());
    assert!(tls::private_key("", "test").is_err());
    let own = End::server(&Authority::new());
    for roots_pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let asked = ClientCertificates::OfDevices { roots_pem, domain: &domain() };
        assert!(tls::server(Shown::load(&own.credentials()).unwrap(), &asked, &[]).is_err());
    }
}

#[test]
fn no_certificate_is_for_http_to_refuse() {
    let authority = Authority::new();
    let server = Arc::new(gateway(&End::server(&authority), &authority));
    let (_, end) = handshake(&Arc::new(client(&authority, None)), &server, SERVER_NAME).unwrap();
    assert_eq!(tls::proven_client(&end, &domain(), crate::clock::now()), Ok(None));
    let good = End::device(&authority);
    let (_, end) = handshake(&Arc::new(client(&authority, Some(&good))), &server, SERVER_NAME).unwrap();
    let peer = tls::proven_client(&end, &domain(), crate::clock::now()).unwrap().unwrap();
    assert_eq!(peer.identity.to_uri(&domain()), device_uri());
    assert_eq!(peer.sha256, tls::sha256(&good.leaf()));
    let after = peer.not_after + Duration::from_secs(1);
    assert_eq!(tls::proven_client(&end, &domain(), after), Err(Refusal::Expired));
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = device();
    change(&mut params);
    params
}

fn named(names: Vec<SanType>) -> CertificateParams {
    with(|params| params.subject_alt_names = names)
}

#[test]
fn a171_a_certificate_that_is_almost_a_devices_fails_the_handshake() {
    let (servers, devices) = (Authority::named("servers"), Authority::new());
    let server = Arc::new(gateway(&End::server(&servers), &devices));
    let day = time::Duration::DAY;
    let now = OffsetDateTime::now_utc();
    let good = device_uri();
    let id = good.rsplit('/').next().unwrap().to_owned();
    let cases: Vec<(&str, CertificateParams, Refusal)> = vec![
        ("expired", with(|p| (p.not_before, p.not_after) = (now - day * 2, now - day)), Refusal::Expired),
        ("not yet valid", with(|p| (p.not_before, p.not_after) = (now + day, now + day * 2)), Refusal::NotYetValid),
        ("CA:TRUE", with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Refusal::Authority),
        ("no EKU", with(|p| p.extended_key_usages.clear()), Refusal::Purpose),
        (
            "EKU of servers",
            with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Refusal::Purpose,
        ),
        ("any EKU", with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), Refusal::Purpose),
        ("no KU", with(|p| p.key_usages.clear()), Refusal::KeyUsage),
        (
            "KU without digitalSignature",
            with(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyEncipherment]),
            Refusal::KeyUsage,
        ),
        (
            "KU with keyCertSign",
            with(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]),
            Refusal::Authority,
        ),
        (
            "name constraints",
            with(|p| {
                // permittedSubtrees with the DNS name "a".
                let content = vec![0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'a'];
                p.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 30], content));
            }),
            Refusal::Authority,
        ),
        (
            "unknown critical extension",
            with(|p| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions.push(extension);
            }),
            Refusal::CriticalExtension,
        ),
        ("two URI names", named(vec![uri(&good), uri(&good)]), Refusal::ManyNames),
        ("URI and DNS name", named(vec![uri(&good), dns("a.corp.example")]), Refusal::OtherNames),
        ("DNS name and URI", named(vec![dns("a.corp.example"), uri(&good)]), Refusal::OtherNames),
        ("DNS name with NUL", named(vec![uri(&good), dns("a\0.corp.example")]), Refusal::OtherNames),
        (
            "common name only",
            with(|p| {
                p.subject_alt_names.clear();
                p.distinguished_name.push(DnType::CommonName, good.clone());
            }),
            Refusal::NoName,
        ),
        ("path /", named(vec![uri("spiffe://corp.example/")]), Refusal::IdPath),
        ("no path", named(vec![uri("spiffe://corp.example")]), Refusal::TrustDomain),
        ("path ..", named(vec![uri(&format!("spiffe://corp.example/x/../device/{id}"))]), Refusal::IdPath),
        ("upper-case trust domain", named(vec![uri(&good.replace("corp", "CORP"))]), Refusal::TrustDomain),
        ("upper-case scheme", named(vec![uri(&good.replace("spiffe", "SPIFFE"))]), Refusal::TrustDomain),
        ("percent-encoding", named(vec![uri(&good.replace("device", "%64evice"))]), Refusal::IdPath),
        ("NUL behind the id", named(vec![uri(&format!("{good}\0"))]), Refusal::IdPath),
        ("NUL in the domain", named(vec![uri(&good.replace("example/", "example\0/"))]), Refusal::TrustDomain),
        ("port", named(vec![uri(&good.replace("example/", "example:443/"))]), Refusal::TrustDomain),
        ("user info", named(vec![uri(&good.replace("corp", "x@corp"))]), Refusal::TrustDomain),
        ("query", named(vec![uri(&format!("{good}?a=b"))]), Refusal::IdPath),
        ("another domain", named(vec![uri(&good.replace("corp.example", "corp.example.evil"))]), Refusal::TrustDomain),
        ("a gateway's", named(vec![uri(&good.replace("device/dev", "gateway/gtw"))]), Refusal::Role),
        (
            "3,000-byte id",
            named(vec![uri(&format!("spiffe://corp.example/device/{}", "a".repeat(3_000)))]),
            Refusal::NameTooLong,
        ),
        (
            "10,000-byte id",
            named(vec![uri(&format!("spiffe://corp.example/device/{}", "a".repeat(10_000)))]),
            Refusal::TooLarge,
        ),
    ];
    let try_with = |end: &End| match handshake(&Arc::new(client(&servers, Some(end))), &server, SERVER_NAME) {
        Ok(_) => panic!("accepted"),
        Err(error) => Refusal::of(&error),
    };
    for (case, params, expected) in &cases {
        assert_eq!(try_with(&End::signed(params, &devices)), Some(*expected), "{case}");
    }
    // Issuers.
    assert_eq!(try_with(&End::device(&Authority::named("stranger"))), Some(Refusal::UnknownIssuer));
    let impostor = Authority::new();
    assert_eq!(try_with(&End::device(&impostor)), Some(Refusal::Signature), "same name and key identifier, other key");
    let key = KeyPair::generate().unwrap();
    let alone = device().self_signed(&key).unwrap();
    let alone = End { chain_pem: alone.pem(), key_pem: key.serialize_pem() };
    assert_eq!(try_with(&alone), Some(Refusal::SelfSigned));
    let below = Authority::new();
    let mut chain = End::device(&below);
    chain.chain_pem.push_str(&End::device(&devices).chain_pem);
    assert!(try_with(&chain).is_some(), "a device's certificate vouches for nobody");
    // And the profile as it should be.
    assert!(handshake(&Arc::new(client(&servers, Some(&End::device(&devices)))), &server, SERVER_NAME).is_ok());
}

#[test]
fn a171_weak_signatures_and_keys_are_refused() {
    let dir = std::env::temp_dir().join(format!("vouchsafe-a171-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let openssl = |line: &str| {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let extensions = format!(
        "subjectAltName=URI:{}\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n",
        device_uri()
    );
    std::fs::write(dir.join("leaf.ext"), extensions).unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=devices");
    let verify = |key: &str, digest: &str| {
        openssl(&format!("req -new {key} -nodes -keyout leaf.key -out leaf.csr -subj /CN=device"));
        openssl(&format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -{digest} -extfile leaf.ext -out leaf.pem"
        ));
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let devices = Clients::new(ClientRole::Device, tls::roots(&read("ca.pem"), "test").unwrap(), domain());
        let leaf = CertificateDer::from_pem_slice(read("leaf.pem").as_bytes()).unwrap();
        devices.verify(&leaf, &[], UnixTime::now()).map(|_| ())
    };
    let good = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1";
    assert_eq!(verify(good, "sha256"), Ok(()));
    assert_eq!(verify(good, "sha1"), Err(Refusal::SignatureAlgorithm));
    assert_eq!(verify(good, "md5"), Err(Refusal::SignatureAlgorithm));
    assert_eq!(verify("-newkey rsa:2048", "sha256"), Ok(()));
    assert_eq!(verify("-newkey rsa:1024", "sha256"), Err(Refusal::KeyKind));
    assert_eq!(verify("-newkey ec -pkeyopt ec_paramgen_curve:secp224r1", "sha256"), Err(Refusal::KeyKind));
    assert_eq!(verify("-newkey ec -pkeyopt ec_paramgen_curve:secp256k1", "sha256"), Err(Refusal::KeyKind));
    assert_eq!(verify("-newkey ed448", "sha256"), Err(Refusal::KeyKind));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a177_upstreams_are_verified_for_their_name_and_use() {
    let authority = Authority::new();
    let day = time::Duration::DAY;
    let now = OffsetDateTime::now_utc();
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["db.corp.example".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        change(&mut params);
        End::signed(&params, &authority)
    };
    let try_with = |end: &End, name: &str| {
        let server = tls::server(Shown::load(&end.credentials()).unwrap(), &ClientCertificates::NotAsked, &[b"h2"]);
        let outcome = handshake(&Arc::new(client(&authority, None)), &Arc::new(server.unwrap()), name);
        outcome.map(|_| ()).map_err(|error| Refusal::of(&error))
    };
    assert_eq!(try_with(&made(&|_| {}), "db.corp.example"), Ok(()));
    assert_eq!(try_with(&made(&|_| {}), "192.0.2.7"), Ok(()), "a homemade certificate without usages");
    for name in ["evil.corp.example", "192.0.2.8", "corp.example", "x.db.corp.example"] {
        assert_eq!(try_with(&made(&|_| {}), name), Err(Some(Refusal::ServerName)), "{name}");
    }
    let expired = made(&|p| (p.not_before, p.not_after) = (now - day * 2, now - day));
    assert_eq!(try_with(&expired, "db.corp.example"), Err(Some(Refusal::Expired)));
    let for_clients = made(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(try_with(&for_clients, "db.corp.example"), Err(Some(Refusal::Purpose)));
    let for_keys = made(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(try_with(&for_keys, "db.corp.example"), Err(Some(Refusal::KeyUsage)));
    let by_common_name = made(&|p| {
        p.subject_alt_names.clear();
        p.distinguished_name.push(DnType::CommonName, "db.corp.example");
    });
    assert_eq!(try_with(&by_common_name, "db.corp.example"), Err(Some(Refusal::ServerName)));
    let key = KeyPair::generate().unwrap();
    let alone = CertificateParams::new(vec!["db.corp.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let alone = End { chain_pem: alone.pem(), key_pem: key.serialize_pem() };
    assert_eq!(try_with(&alone, "db.corp.example"), Err(Some(Refusal::SelfSigned)));
}
