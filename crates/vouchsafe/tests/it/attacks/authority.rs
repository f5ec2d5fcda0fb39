//! G3: host, authority and handshake name one and the same.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, NamedGroup};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::probe;
use super::{Lab, Way};
use crate::http3::Client;

#[tokio::test(flavor = "multi_thread")]
async fn a039_a041_a043_one_host_or_none() {
    let lab = Lab::start().await;
    let (own, other, port) = (lab.host("app-a"), lab.host("app-b"), lab.world.port);
    let bare = lab.world.host("app-a");
    let cookie = format!("Cookie: {}", lab.cookie);
    // A039: the handshake was for another host.
    for host in [&other, &lab.host("auth"), &lab.host("console"), &lab.host("gw"), &lab.host("nothing")] {
        let request = format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n\r\n");
        let answer = lab.bytes(Way::H1, request.as_bytes()).await;
        lab.refused(&format!("SNI app-a, Host {host}"), &answer, &[421]).await;
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/public/x"),
            ("cookie", &lab.cookie),
        ];
        for way in [Way::H2, Way::H3] {
            let answer = lab.streamed(way, "app-a", None, &fields, None).await;
            lab.refused(&format!("{way:?} SNI app-a, :authority {host}"), &answer, &[421]).await;
        }
    }
    // A041: hosts with two readings.
    for hosts in [
        format!("Host: {own}\r\nHost: {other}"),
        format!("Host: {own}\r\nHost: {own}"),
        format!("Host: {own}, {other}"),
        format!("Host: {own} {other}"),
        format!("Host: {own}@{other}"),
        format!("Host: evil@{own}"),
        format!("Host: {own}/public"),
        format!("Host: {own}#"),
        format!("Host: {bare}:99999"),
        format!("Host: {bare}:0{port}"),
        format!("Host: {bare}:+{port}"),
        format!("Host: {bare}:"),
        format!("Host: {bare}.:{port}"),
        format!("Host: .{own}"),
        format!("Host: %61pp-a.{own}"),
        format!("Host: 127.0.0.1:{port}"),
        format!("Host: [::1]:{port}"),
        "Host:".to_owned(),
        "X-No: host".to_owned(),
        format!(" Host: {own}"),
        format!("Host : {own}"),
        format!("Host:\r\n {own}"),
        format!("Host: {own}\r\n\t{other}"),
    ] {
        let answer =
            lab.bytes(Way::H1, format!("GET /public/x HTTP/1.1\r\n{hosts}\r\n{cookie}\r\n\r\n").as_bytes()).await;
        lab.refused(&format!("{hosts:?}"), &answer, &[400]).await;
    }
    for host in [bare.clone(), format!("{bare}:443"), format!("{bare}:80")] {
        let answer =
            lab.bytes(Way::H1, format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n\r\n").as_bytes()).await;
        lab.refused(&format!("Host {host}, another port"), &answer, &[421]).await;
    }
    // A043: `:authority` and `host`.
    let with = async |way: Way, fields: &[(&str, &str)]| {
        let mut all = vec![(":method", "GET"), (":scheme", "https"), (":path", "/public/x")];
        all.extend(fields);
        all.push(("cookie", &lab.cookie));
        lab.streamed(way, "app-a", None, &all, None).await
    };
    for fields in [
        vec![(":authority", own.as_str()), ("host", other.as_str())],
        vec![(":authority", other.as_str()), ("host", own.as_str())],
        vec![(":authority", own.as_str()), ("host", own.as_str()), ("host", other.as_str())],
        vec![(":authority", own.as_str()), (":authority", other.as_str())],
        vec![(":authority", own.as_str()), ("host", "")],
        vec![],
        vec![(":authority", "")],
    ] {
        for way in [Way::H2, Way::H3] {
            let answer = with(way, &fields).await;
            lab.refused(&format!("{way:?} {fields:?}"), &answer, &[0, 400]).await;
        }
    }
    for way in [Way::H2, Way::H3] {
        let answer = with(way, &[(":authority", &own), ("host", &own)]).await;
        lab.one("both, the same", &answer, "GET /public/x HTTP/1.1");
    }
}

/// Tickets of any name for any name, as a client would keep them that wants to mix them up.
#[derive(Debug, Default)]
pub(super) struct OneDrawer(Mutex<Vec<Tls13ClientSessionValue>>);

impl OneDrawer {
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a045_a047_a_ticket_opens_only_the_host_it_is_for_and_carries_no_early_data() {
    let lab = Lab::start().await;
    let drawer = Arc::new(OneDrawer::default());
    let mut config = probe::config(&lab.world, Some(&lab.laptop), &[b"http/1.1"]);
    config.resumption = Resumption::store(drawer.clone());
    config.enable_early_data = true;
    let request = format!("GET /public/x HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", lab.host("app-a"), lab.cookie);
    let mut kinds = Vec::new();
    for (first, second) in
        [("app-a", "app-a"), ("app-a", "app-b"), ("app-a", "gw"), ("app-a", "api"), ("gw", "app-a"), ("gw", "gw")]
    {
        drawer.0.lock().clear();
        let mut stream = probe::connect(&lab.world, first, config.clone()).await.expect("handshake");
        // Tickets come behind the handshake, so something is read.
        stream.write_all(request.as_bytes()).await.expect("written");
        probe::read_h1(&mut stream).await;
        // Exactly one, so that nothing but it can be taken up.
        drawer.0.lock().truncate(1);
        // A047: nothing may be sent before the handshake is over, so no request can be replayed.
        assert!(drawer.0.lock().iter().all(|ticket| ticket.max_early_data_size() == 0), "{first}: early data");
        let tickets = drawer.0.lock().len();
        let stream = probe::connect(&lab.world, second, config.clone()).await.expect("handshake");
        kinds.push((first, second, tickets, stream.get_ref().1.handshake_kind()));
        assert!(!stream.get_ref().1.is_early_data_accepted(), "{second}");
    }
    lab.app.take();
    let resumed: Vec<_> = kinds
        .iter()
        .filter(|(_, _, _, kind)| {
            *kind != Some(HandshakeKind::Full) && *kind != Some(HandshakeKind::FullWithHelloRetryRequest)
        })
        .collect();
    // Only the very name where a session began may take it up.
    let names: Vec<_> = resumed.iter().map(|(first, second, _, _)| (*first, *second)).collect();
    assert_eq!(names, [("app-a", "app-a"), ("gw", "gw")], "{kinds:?}");
    assert!(kinds.iter().all(|(_, _, tickets, _)| *tickets == 1), "the test saw tickets: {kinds:?}");
}

/// A resumed session proves the device of the session it came from, and no more than that: the device
/// is looked up anew.
#[tokio::test(flavor = "multi_thread")]
async fn a045_a_device_that_was_removed_gets_nothing_on_a_resumed_session() {
    let lab = Lab::start().await;
    let config = probe::config(&lab.world, Some(&lab.laptop), &[b"http/1.1"]);
    let target = lab.host("app-a");
    let request = format!(
        "GET https://{target}/public/x HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        lab.laptop.token
    );
    let mut statuses = Vec::new();
    for round in 0..3 {
        if round == 2 {
            let id = lab.laptop.device.id();
            lab.world.admin.delete(&format!("/v1/devices/{id}")).await.expect("removed");
        }
        let mut stream = probe::connect(&lab.world, "gw", config.clone()).await.expect("handshake");
        stream.write_all(request.as_bytes()).await.expect("written");
        let answer = probe::read_h1(&mut stream).await;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        assert_eq!(resumed, round > 0, "round {round}");
        if let Some(decision) = answer.decision() {
            let record = lab.world.decision(decision).await;
            assert_eq!(record.tls.as_deref(), Some("1.3 X25519MLKEM768 resumed"));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert!([401, 403, 407].contains(&statuses[2]), "{statuses:?}");
    assert_eq!(lab.app.take().len(), 2, "nothing went upstream for a removed device");
}

#[tokio::test(flavor = "multi_thread")]
async fn a049_the_case_of_a_name_changes_nothing() {
    let lab = Lab::start().await;
    let (host, port) = (lab.world.host("app-a"), lab.world.port);
    let mixed = host.replace("app-a", "ApP-a").replace("localhost", "LocalHost");
    for (path, status) in [("/public/x", 200), ("/admin", 403)] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {mixed}:{port}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            lab.cookie
        );
        assert_eq!(lab.bytes(Way::H1, request.as_bytes()).await.status, status, "{path}");
        let authority = format!("{mixed}:{port}");
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", &authority),
            (":path", path),
            ("cookie", &lab.cookie),
        ];
        for way in [Way::H2, Way::H3] {
            assert_eq!(lab.streamed(way, "app-a", None, &fields, None).await.status, status, "{way:?} {path}");
        }
        // The handshake too: our own TLS library folds the name, OpenSSL sends it as it is.
        let root = lab.world.root_file.display().to_string();
        let address = lab.world.address().to_string();
        let arguments =
            ["s_client", "-quiet", "-verify_quiet", "-CAfile", &root, "-connect", &address, "-servername", &mixed];
        let answer = crate::peers::run_with_input("openssl", &arguments, request.as_bytes()).await;
        assert!(answer.out.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {} {}", answer.out, answer.err);
        // aioquic does as well.
        let steps = json!([{"headers": fields}]);
        let answer = Client::start(&lab.world, "ApP-a", None, steps).await.next().await;
        assert_eq!(answer["status"], status, "{path}: {answer}");
    }
    let seen = lab.app.take();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|seen| seen.values("host") == [lab.host("app-a")]), "canonical upstream: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a051_one_protocol_is_never_taken_for_another() {
    let lab = Lab::start().await;
    for offer in ["acme-tls/1", "vouchsafe-agent/1", "h2c", "http/1.0", "spdy/3"] {
        for sni in ["app-a", "gw"] {
            let result = probe::connect(&lab.world, sni, probe::config(&lab.world, None, &[offer.as_bytes()])).await;
            assert!(result.is_err(), "ALPN {offer} for {sni} was accepted");
        }
    }
    let mut config = probe::config(&lab.world, None, &[b"http/1.1"]);
    config.enable_sni = false;
    let error = probe::connect(&lab.world, "app-a", config).await.expect_err("a handshake without a name");
    assert!(error.to_string().contains("MissingExtension"), "{error}");
    let tcp = tokio::net::TcpStream::connect(lab.world.address()).await.expect("connected");
    let foreign = tokio_rustls::TlsConnector::from(std::sync::Arc::new(probe::config(&lab.world, None, &[b"h2"])));
    let foreign = foreign.connect("app-a.evil.example".try_into().expect("a name"), tcp).await;
    let error = foreign.expect_err("a handshake for a name that is not ours");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    // HTTP/2 where HTTP/1.1 was agreed on (A071, prior knowledge), and the other way round.
    let answer = lab.bytes(Way::H1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    lab.refused("preface of HTTP/2", &answer, &[0, 400, 505]).await;
    let mut stream =
        probe::connect(&lab.world, "app-a", probe::config(&lab.world, None, &[b"h2"])).await.expect("handshake");
    let _ = stream.write_all(lab.head(Way::H1, "GET", "/public/x").as_bytes()).await;
    let _ = stream.write_all(b"\r\n").await;
    let answer = probe::read_h1(&mut stream).await;
    lab.refused("HTTP/1.1 where HTTP/2 was agreed on", &answer, &[0, 400]).await;
}
