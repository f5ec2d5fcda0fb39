//! Who is a controller to a gateway, and a gateway to a controller; who is a connector to a gateway, and a gateway
//! to a connector: the role in the certificate, in both directions, and nothing else.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::{ClientConfig, ServerConfig};
use vouchsafe_model::id::{ConnectorId, ControllerId, DeviceId, GatewayId};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use super::peers::{Authority, End, domain, handshake};
use crate::clock;
use crate::tls::{
    self, CertificateRefusal, ClientCertificates, ServerTrust, Shown, proven_connector, proven_gateway, sha256,
};

/// A certificate of a role, good for both ends of TLS, so that nothing but the role tells them apart.
fn of(identity: CertifiedIdentity, domain: &BaseDomain, by: &Authority) -> End {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity.to_uri(domain).as_str().try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    End::signed(&params, by)
}

fn controller() -> CertifiedIdentity {
    CertifiedIdentity::Controller(ControllerId::from_random([1; 16]))
}

fn gateway() -> CertifiedIdentity {
    CertifiedIdentity::Gateway(GatewayId::from_random([2; 16]))
}

fn device() -> CertifiedIdentity {
    CertifiedIdentity::Device(DeviceId::from_random([3; 16]))
}

fn connector() -> CertifiedIdentity {
    CertifiedIdentity::Connector(ConnectorId::from_random([4; 16]))
}

fn server(own: &End, gateways: &Authority) -> Arc<ServerConfig> {
    let asked = ClientCertificates::OfGateways { roots_pem: &gateways.pem, domain: &domain() };
    Arc::new(tls::server(Shown::load(&own.credentials()).unwrap(), &asked, &[b"h2"]).unwrap())
}

fn client(trust: ServerTrust, own: Option<&End>) -> Arc<ClientConfig> {
    Arc::new(tls::client(trust, own.map(End::credentials).as_ref(), &[b"h2"]).unwrap())
}

fn trusting(authority: &Authority) -> ServerTrust {
    ServerTrust::Controller { roots: tls::roots(&authority.pem, "test").unwrap(), domain: domain() }
}

fn refusal(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Option<CertificateRefusal> {
    // Any name may be dialled: it says nothing.
    let error = handshake(client, server, "10.0.0.7").err()?;
    Some(CertificateRefusal::of(&error).unwrap_or(CertificateRefusal::Handshake))
}

#[test]
fn a_gateway_and_a_controller_know_each_other_by_their_roles() {
    let authority = Authority::new();
    let server = server(&of(controller(), &domain(), &authority), &authority);
    let own = of(gateway(), &domain(), &authority);
    for trust in [trusting(&authority), ServerTrust::NewController { root_sha256: sha256(&authority.der) }] {
        let (_, server) = handshake(&client(trust, Some(&own)), &server, "10.0.0.7").unwrap();
        let peer = proven_gateway(&server, &domain(), clock::now()).unwrap().unwrap();
        assert_eq!(peer.identity, gateway());
    }
    // Without a certificate a new gateway can come, but is nobody.
    let (_, server) = handshake(&client(trusting(&authority), None), &server, "10.0.0.7").unwrap();
    assert_eq!(proven_gateway(&server, &domain(), clock::now()), Ok(None));
}

#[test]
fn nobody_but_a_gateway_is_one_to_a_controller() {
    let authority = Authority::new();
    let server = server(&of(controller(), &domain(), &authority), &authority);
    let other: BaseDomain = BaseDomain::parse("other.example").unwrap();
    for (own, why) in [
        (of(device(), &domain(), &authority), CertificateRefusal::Role),
        (of(controller(), &domain(), &authority), CertificateRefusal::Role),
        (of(gateway(), &other, &authority), CertificateRefusal::TrustDomain),
        (End::server(&authority), CertificateRefusal::Purpose),
    ] {
        assert_eq!(refusal(&client(trusting(&authority), Some(&own)), &server), Some(why));
    }
}

#[test]
fn nobody_but_a_controller_is_one_to_a_gateway() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = of(gateway(), &domain(), &authority);
    let other: BaseDomain = BaseDomain::parse("other.example").unwrap();
    for (shown, why) in [
        (of(gateway(), &domain(), &authority), CertificateRefusal::Role),
        (of(device(), &domain(), &authority), CertificateRefusal::Role),
        (of(controller(), &other, &authority), CertificateRefusal::TrustDomain),
        // What browsers see of a gateway: our own host names, but no role.
        (End::server(&authority), CertificateRefusal::OtherNames),
        (of(controller(), &domain(), &stranger), CertificateRefusal::Signature),
    ] {
        let server = server(&shown, &authority);
        assert_eq!(refusal(&client(trusting(&authority), Some(&own)), &server), Some(why));
        // At the first contact the trust domain is not known, only the root.
        let new = ServerTrust::NewController { root_sha256: sha256(&authority.der) };
        let told = refusal(&client(new, None), &server);
        match why {
            CertificateRefusal::TrustDomain => assert_eq!(told, None),
            CertificateRefusal::Signature => assert_eq!(told, Some(CertificateRefusal::UnknownIssuer)),
            why => assert_eq!(told, Some(why)),
        }
    }
}

#[test]
fn a_connector_and_a_gateway_know_each_other_by_their_roles_and_nobody_else_is_either() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let other: BaseDomain = BaseDomain::parse("other.example").unwrap();
    let server = |shown: &End| {
        let asked = ClientCertificates::OfConnectors { roots_pem: &authority.pem, domain: &domain() };
        Arc::new(tls::server(Shown::load(&shown.credentials()).unwrap(), &asked, &[b"h2"]).unwrap())
    };
    let trust = || ServerTrust::Gateway { roots: tls::roots(&authority.pem, "test").unwrap(), domain: domain() };
    let (own, shown) = (of(connector(), &domain(), &authority), of(gateway(), &domain(), &authority));
    let (client_side, server_side) = handshake(&client(trust(), Some(&own)), &server(&shown), "10.0.0.7").unwrap();
    let proven = proven_connector(&server_side, &domain(), clock::now()).unwrap().unwrap();
    assert_eq!(proven.identity, connector());
    assert_eq!(proven_gateway(&client_side, &domain(), clock::now()).unwrap().unwrap().identity, gateway());
    for (own, why) in [
        (of(device(), &domain(), &authority), CertificateRefusal::Role),
        (of(gateway(), &domain(), &authority), CertificateRefusal::Role),
        (of(controller(), &domain(), &authority), CertificateRefusal::Role),
        (of(connector(), &other, &authority), CertificateRefusal::TrustDomain),
        (End::server(&authority), CertificateRefusal::Purpose),
    ] {
        assert_eq!(refusal(&client(trust(), Some(&own)), &server(&shown)), Some(why));
    }
    for (shown, why) in [
        (of(device(), &domain(), &authority), CertificateRefusal::Role),
        (of(controller(), &domain(), &authority), CertificateRefusal::Role),
        (of(connector(), &domain(), &authority), CertificateRefusal::Role),
        (of(gateway(), &other, &authority), CertificateRefusal::TrustDomain),
        (End::server(&authority), CertificateRefusal::OtherNames),
        (of(gateway(), &domain(), &stranger), CertificateRefusal::Signature),
    ] {
        assert_eq!(refusal(&client(trust(), Some(&own)), &server(&shown)), Some(why));
    }
    // A gateway's other trusts don't take a connector for anything.
    let gateways = Arc::new(
        tls::server(
            Shown::load(&of(controller(), &domain(), &authority).credentials()).unwrap(),
            &ClientCertificates::OfGateways { roots_pem: &authority.pem, domain: &domain() },
            &[b"h2"],
        )
        .unwrap(),
    );
    assert_eq!(refusal(&client(trusting(&authority), Some(&own)), &gateways), Some(CertificateRefusal::Role));
}
