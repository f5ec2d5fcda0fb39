//! Tickets: where they open, what they keep, and certificates that are replaced meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};

use super::peers::{Authority, End, SERVER_NAME, client, domain, gateway, handshake};
use crate::tls::shown::Pair;
use crate::tls::{self, ClientCertificates, Credentials, Shown};

/// Tickets of any server for any other, as a client would keep them that wants to mix them up.
#[derive(Debug, Default)]
struct OneDrawer(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().push(ticket);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().pop()
    }
}

fn mixing(mut config: ClientConfig, drawer: &Arc<OneDrawer>) -> Arc<ClientConfig> {
    config.resumption = Resumption::store(Arc::clone(drawer) as _);
    config.enable_early_data = true;
    Arc::new(config)
}

#[test]
fn a045_a047_a_session_is_resumed_where_it_began_with_its_device_and_nowhere_else() {
    let authority = Authority::new();
    let (own, laptop) = (End::server(&authority), End::device(&authority));
    let server = |asked: bool| -> Arc<ServerConfig> {
        match asked {
            true => Arc::new(gateway(&own, &authority)),
            false => {
                let shown = Shown::load(&own.credentials()).unwrap();
                Arc::new(tls::server(shown, &ClientCertificates::NotAsked, &[b"h2"]).unwrap())
            }
        }
    };
    let (device, browser, other) = (server(true), server(false), server(true));
    let drawer = Arc::new(OneDrawer::default());
    let config = mixing(client(&authority, Some(&laptop)), &drawer);
    let api = "api.corp.example";
    for (first, first_name, second, second_name, resumed) in [
        (&device, SERVER_NAME, &device, SERVER_NAME, true),
        (&browser, SERVER_NAME, &browser, SERVER_NAME, true),
        (&device, SERVER_NAME, &device, api, false),
        (&device, SERVER_NAME, &browser, SERVER_NAME, false),
        (&browser, SERVER_NAME, &device, SERVER_NAME, false),
        (&browser, SERVER_NAME, &browser, api, false),
        // The same roots, but another configuration: after a restart, or a change of the roots.
        (&device, SERVER_NAME, &other, SERVER_NAME, false),
    ] {
        drawer.0.lock().clear();
        handshake(&config, first, first_name).unwrap();
        drawer.0.lock().truncate(1);
        assert_eq!(drawer.0.lock().len(), 1, "a ticket came");
        assert!(drawer.0.lock().iter().all(|ticket| ticket.max_early_data_size() == 0), "A047");
        let (client_end, server_end) = handshake(&config, second, second_name).unwrap();
        let kind = server_end.handshake_kind().unwrap();
        assert_eq!(kind == HandshakeKind::Resumed, resumed, "{first_name} to {second_name}: {kind:?}");
        assert!(!client_end.is_early_data_accepted());
        let peer = tls::proven_client(&server_end, &domain(), crate::clock::now()).unwrap();
        let asked = Arc::ptr_eq(second, &device) || Arc::ptr_eq(second, &other);
        assert_eq!(peer.map(|peer| peer.sha256), asked.then(|| tls::sha256(&laptop.leaf())));
    }
}

#[test]
fn a_session_without_a_certificate_stays_without_one() {
    let authority = Authority::new();
    let server = Arc::new(gateway(&End::server(&authority), &authority));
    let nobody = mixing(client(&authority, None), &Arc::default());
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (_, end) = handshake(&nobody, &server, SERVER_NAME).unwrap();
        assert_eq!(end.handshake_kind(), Some(expected));
        assert_eq!(tls::proven_client(&end, &domain(), crate::clock::now()), Ok(None));
    }
}

#[test]
fn halves_of_two_pairs_are_refused() {
    let authority = Authority::new();
    let (one, two) = (End::server(&authority), End::server(&authority));
    assert!(Pair::load(&one.credentials()).is_ok());
    assert!(Pair::load(&Credentials { chain_pem: &one.chain_pem, key_pem: &two.key_pem }).is_err());
    assert!(Pair::load(&Credentials { chain_pem: &one.key_pem, key_pem: &one.key_pem }).is_err());
    assert!(Pair::load(&Credentials { chain_pem: &one.chain_pem, key_pem: &one.chain_pem }).is_err());
    let reversed = format!("{}{}", authority.pem, one.chain_pem);
    assert!(Pair::load(&Credentials { chain_pem: &reversed, key_pem: &one.key_pem }).is_err());
}

#[test]
fn a183_replacing_the_certificate_under_load_fails_no_handshake() {
    // By hand it was run with 10,000 rotations.
    const ROTATIONS: usize = 300;
    const HANDSHAKES: usize = 60;
    let authority = Authority::new();
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::load(&End::server(&authority).credentials()).unwrap()).collect();
    let shown = Shown::new(pairs[0].clone());
    let config = tls::server(Arc::clone(&shown) as _, &ClientCertificates::NotAsked, &[b"h2"]).unwrap();
    let (server, config) = (Arc::new(config), Arc::new(client(&authority, None)));
    std::thread::scope(|scope| {
        let rotating = scope.spawn(|| {
            for turn in 0..ROTATIONS {
                shown.replace(pairs[turn % pairs.len()].clone());
                if turn % 2 == 0 {
                    shown.replace_named([(SERVER_NAME.to_owned(), pairs[turn % 3].clone())].into());
                } else {
                    shown.replace_named(std::collections::HashMap::new());
                }
                std::thread::yield_now();
            }
        });
        let mut done = 0;
        while !rotating.is_finished() || done < HANDSHAKES {
            // Certificate and key of different pairs would break the signature over the handshake.
            handshake(&config, &server, SERVER_NAME).expect("no handshake fails");
            done += 1;
        }
    });
}

#[test]
fn a_name_with_its_own_pair_is_shown_that_one_however_it_is_spelt() {
    let authority = Authority::new();
    let (own, all) = (End::server(&authority), End::server(&authority));
    let shown = Shown::load(&all.credentials()).unwrap();
    let pair = Pair::load(&own.credentials()).unwrap();
    shown.replace_named([(SERVER_NAME.to_owned(), pair)].into());
    let server = Arc::new(tls::server(shown, &ClientCertificates::NotAsked, &[b"h2"]).unwrap());
    let config = Arc::new(client(&authority, None));
    for (name, expected) in [(SERVER_NAME, &own), ("GW.corp.Example", &own), ("api.corp.example", &all)] {
        let (end, _) = handshake(&config, &server, name).unwrap();
        assert_eq!(end.peer_certificates().unwrap()[0], expected.leaf(), "{name}");
    }
}
