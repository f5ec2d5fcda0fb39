//! A policy that demands a post-quantum key agreement (A181), in each version of HTTP and by clients of several kinds.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::{ClientSessionStore, ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, SignatureScheme};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_demo::browser::Browser;
use vouchsafe_demo::browser::dial::{Dial, Stream};
use vouchsafe_runtime::internal::BoxFuture;
use vouchsafe_runtime::tls;
use vouchsafe_wire::audit::Record;

use super::authority::OneDrawer;
use super::probe::{self, Answer, h3};
use super::{Lab, POLICY, Way};
use crate::peers::run_with_input;
use crate::world::Recorder;

const DEMANDS: &str = r#"
@id("quantum") @reason("What is below /public/quantum/ stays secret for decades.")
forbid (principal, action in [Action::"http:read", Action::"http:write", Action::"http:upgrade"], resource == Http::"app-a")
when { context.request.path like "/public/quantum/*" }
unless { context.tls.post_quantum };

@id("books")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Tcp::"books")
when { context.tls.post_quantum };
"#;

/// A lab whose policy demands it, and a service that nobody may reach otherwise.
async fn demanding() -> (Lab, Recorder) {
    let lab = Lab::start().await;
    let books = Recorder::start(&lab.world.tasks).await;
    let http = |name: &str, to: SocketAddr| json!({"name": name, "kind": "http", "upstream": format!("http://{to}"), "identity_headers": "plain"});
    let resources = json!([
        http("app-a", lab.app.address),
        http("app-b", lab.other.address),
        {"name": "books", "kind": "tcp", "upstream": books.address.to_string(), "port": 7},
    ]);
    lab.world.apply(&["staff"], resources, &format!("{POLICY}{DEMANDS}")).await;
    (lab, books)
}

/// TLS with this group and no other. All of one maker can take up each other's sessions.
struct Maker {
    verifier: Arc<WebPkiServerVerifier>,
    client: Arc<dyn ResolvesClientCert>,
    sessions: Arc<OneDrawer>,
}

impl Maker {
    fn new(lab: &Lab) -> Self {
        let roots = tls::roots(&lab.world.root_pem, "root").expect("roots");
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, tls::provider()).build().expect("a verifier");
        Self { verifier, client: Arc::new(NoCertificate), sessions: Arc::default() }
    }

    fn config(&self, group: NamedGroup, alpn: &[u8]) -> ClientConfig {
        let mut provider = CryptoProvider::clone(&tls::provider());
        provider.kx_groups.retain(|each| each.name() == group);
        assert_eq!(provider.kx_groups.len(), 1);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_webpki_verifier(Arc::clone(&self.verifier))
            .with_client_cert_resolver(Arc::clone(&self.client));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::store(Arc::clone(&self.sessions) as Arc<dyn ClientSessionStore>);
        config
    }
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// One request in that version of HTTP, by a client that knows this group alone.
async fn ask(lab: &Lab, maker: &Maker, way: Way, group: NamedGroup, path: &str) -> Answer {
    let host = lab.host("app-a");
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", host.as_str()),
        (":path", path),
        ("cookie", lab.cookie.as_str()),
    ];
    match way {
        Way::H1 => {
            let config = maker.config(group, b"http/1.1");
            let mut stream = probe::connect(&lab.world, "app-a", config).await.expect("handshake");
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n\r\n", lab.cookie);
            stream.write_all(request.as_bytes()).await.expect("written");
            probe::read_h1(&mut stream).await
        }
        Way::H2 => {
            let config = maker.config(group, b"h2");
            let mut stream = probe::connect(&lab.world, "app-a", config).await.expect("handshake");
            stream.write_all(&probe::opening(&fields, None)).await.expect("written");
            probe::read_h2(&mut stream).await
        }
        Way::H3 => {
            let config = maker.config(group, b"h3");
            let connection = h3::Connection::open_with(&lab.world, "app-a", config).await;
            let answer = connection.ask(&h3::headers(&fields)).await;
            connection.leave();
            answer
        }
        Way::H1Proxied | Way::H2Proxied | Way::H3Proxied => panic!("by cookie, not through the gateway's own host"),
    }
}

/// It was denied for lack of it, once, and says what helps; nothing went upstream.
async fn lacking(lab: &Lab, sample: &str, answer: &Answer, tls: &str) -> Record {
    assert_eq!(answer.status, 403, "{sample}: {answer:?}");
    assert_eq!((lab.app.bytes(), lab.other.bytes()), (0, 0), "{sample}: bytes upstream");
    let record = lab.world.decision(answer.decision().unwrap_or_else(|| panic!("{sample}: {answer:?}"))).await;
    assert_eq!(record.outcome.as_deref(), Some("deny"), "{sample}");
    assert_eq!(record.tls.as_deref(), Some(tls), "{sample}");
    assert_eq!(record.advice.first().map(String::as_str), Some("post-quantum"), "{sample}: {record:?}");
    assert!(answer.text.contains("post-quantum"), "{sample}: {answer:?}");
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a181_a_policy_that_demands_a_post_quantum_group_refuses_every_other_connection() {
    let (lab, _books) = demanding().await;
    let maker = Maker::new(&lab);
    for way in [Way::H1, Way::H2, Way::H3] {
        maker.sessions.clear();
        for group in [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1] {
            let (sample, name) = (format!("{way:?} {group:?}"), group.as_str().expect("a name"));
            let answer = ask(&lab, &maker, way, group, "/public/quantum/x").await;
            let record = lacking(&lab, &sample, &answer, &format!("1.3 {name}")).await;
            assert_eq!((record.reason.as_deref(), record.policies), (Some("forbidden"), vec!["quantum".to_owned()]));
            maker.sessions.clear();
            // Of the rest it isn't demanded.
            let answer = ask(&lab, &maker, way, group, "/public/x").await;
            lab.one(&sample, &answer, "GET /public/x HTTP/1.1");
            maker.sessions.clear();
        }
        let answer = ask(&lab, &maker, way, NamedGroup::X25519MLKEM768, "/public/quantum/x").await;
        lab.one(&format!("{way:?}"), &answer, "GET /public/quantum/x HTTP/1.1");
    }
    // The same by everybody's default, on a device's connection too: the hybrid group comes first.
    for way in super::WAYS {
        let answer = lab.send(way, "GET", "/public/quantum/x", &[]).await;
        lab.one(&format!("{way:?}"), &answer, "GET /public/quantum/x HTTP/1.1");
    }
    let hybrid = |record: &&Record| {
        record.path.as_deref() == Some("/public/quantum/x") && record.outcome.as_deref() == Some("allow")
    };
    let query = vouchsafe_wire::api::AuditQuery { kind: Some("decision".to_owned()), ..Default::default() };
    let records = lab.world.audit_when(query, |records| records.iter().filter(hybrid).count() >= 9).await;
    let records: Vec<_> = records.iter().filter(hybrid).collect();
    assert_eq!(records.len(), 9, "one record of each decision");
    assert!(records.iter().all(|record| record.tls.as_deref() == Some("1.3 X25519MLKEM768")), "{records:?}");
}

/// Another implementation of TLS, which has no hybrid group at all.
#[tokio::test(flavor = "multi_thread")]
async fn a181_openssl_without_a_hybrid_group_is_refused() {
    let (lab, _books) = demanding().await;
    let root = lab.world.root_file.display().to_string();
    let (address, host) = (lab.world.address().to_string(), lab.world.host("app-a"));
    let groups = [("X25519", "1.3 X25519"), ("P-256", "1.3 secp256r1"), ("P-384", "1.3 secp384r1"), ("P-521", "")];
    for (group, tls) in groups {
        let arguments = [
            "s_client",
            "-quiet",
            "-verify_quiet",
            "-groups",
            group,
            "-CAfile",
            &root,
            "-connect",
            &address,
            "-servername",
            &host,
        ];
        let request = format!(
            "GET /public/quantum/x HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            lab.host("app-a"),
            lab.cookie
        );
        let ran = run_with_input("openssl", &arguments, request.as_bytes()).await;
        if tls.is_empty() {
            // No group of ours, so there is no connection.
            assert!(ran.out.is_empty(), "{group}: {}", ran.out);
            continue;
        }
        assert!(ran.out.starts_with("HTTP/1.1 403 "), "{group}: {}", ran.out);
        let answer = Answer { status: 403, text: ran.out, ..Answer::default() };
        lacking(&lab, group, &answer, tls).await;
    }
}

/// A resumed session has a key of its own, which counts, and not the one of the session that it came from. Neither does a
/// decision that was remembered on another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a181_a_resumed_session_is_judged_by_its_own_group() {
    let (lab, _books) = demanding().await;
    let maker = Maker::new(&lab);
    let (hybrid, classical) = (NamedGroup::X25519MLKEM768, NamedGroup::X25519);
    for round in 0..2 {
        let answer = ask(&lab, &maker, Way::H1, hybrid, "/public/quantum/x").await;
        lab.one("hybrid", &answer, "GET /public/quantum/x HTTP/1.1");
        assert!(!maker.sessions.is_empty(), "there is a ticket");
        let answer = ask(&lab, &maker, Way::H1, classical, "/public/quantum/x").await;
        lacking(&lab, &format!("resumed without, {round}"), &answer, "1.3 X25519 resumed").await;
        let answer = ask(&lab, &maker, Way::H1, hybrid, "/public/quantum/x").await;
        lab.one("resumed with", &answer, "GET /public/quantum/x HTTP/1.1");
    }
}

/// A tunnel is judged by its own connection; what comes through it to a host of ours, by the connection inside.
#[tokio::test(flavor = "multi_thread")]
async fn a181_tunnels_and_what_comes_through_them_are_judged_by_their_own_connection() {
    let (lab, books) = demanding().await;
    let maker = Maker::new(&lab);
    let own = probe::config(&lab.world, Some(&lab.laptop), &[b"http/1.1"]);
    let through = |config: ClientConfig| {
        let (address, gateway) = (lab.world.address(), lab.world.host("gw"));
        Arc::new(Tunnels { address, gateway, config: Arc::new(config), token: lab.laptop.token.clone() })
    };
    let with_certificate = |group| {
        let read = |path| std::fs::read_to_string(path).expect("readable");
        let mut provider = CryptoProvider::clone(&tls::provider());
        provider.kx_groups.retain(|each| each.name() == group);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_webpki_verifier(Arc::clone(&maker.verifier))
            .with_client_auth_cert(
                tls::certificates(&read(lab.laptop.certificate()), "chain").expect("chain"),
                tls::private_key(&read(lab.laptop.key()), "key").expect("key"),
            )
            .expect("a client");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    };
    // To a TCP service.
    let books_host = lab.world.host("books");
    let mut refused = through(with_certificate(NamedGroup::X25519)).ask(&books_host, 7).await.expect("asked");
    let answer = probe::read_h1(&mut refused).await;
    let record = lacking(&lab, "a tunnel", &answer, "1.3 X25519").await;
    assert_eq!(record.reason.as_deref(), Some("condition_failed"));
    assert_eq!(books.connections(), 0, "it was dialled all the same");
    let mut open = through(own.clone()).dial(&books_host, 7).await.expect("a tunnel");
    open.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.expect("an answer through the tunnel");
    assert_eq!(&answer, b"HTTP/1.1 200");

    // To a host of ours, through a tunnel whose own key is post-quantum: what comes inside isn't for that.
    let tunnels = through(own);
    let browser = Browser::new(Arc::clone(&tunnels) as Arc<dyn Dial>, &lab.world.root_pem, lab.world.tasks.clone());
    let (browser, host) = (browser.expect("a browser"), lab.world.host("app-a"));
    browser.open(&lab.world.url("app-a", "/public/x"), &lab.people[0].authenticator).await.expect("opened");
    lab.app.take();
    let cookies = browser.cookies_of(&host);
    let (_, cookie) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("a session");
    for (group, tls) in [(NamedGroup::X25519, "1.3 X25519"), (NamedGroup::X25519MLKEM768, "1.3 X25519MLKEM768")] {
        let outer = tunnels.dial(&host, lab.world.port).await.expect("a tunnel");
        let name = host.clone().try_into().expect("name");
        maker.sessions.clear();
        let inner = TlsConnector::from(Arc::new(maker.config(group, b"http/1.1"))).connect(name, outer).await;
        let mut inner = inner.expect("a handshake inside");
        let request = format!(
            "GET /public/quantum/inside HTTP/1.1\r\nHost: {}\r\nCookie: __Host-vouchsafe={cookie}\r\nConnection: close\r\n\r\n",
            lab.host("app-a")
        );
        inner.write_all(request.as_bytes()).await.expect("written");
        let mut text = Vec::new();
        // The peer may close without taking leave of TLS.
        let _ = inner.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let answer = Answer { status, answers: 1, text, ..Answer::default() };
        if group == NamedGroup::X25519 {
            let record = lacking(&lab, "inside a tunnel", &answer, tls).await;
            assert!(record.device.is_some(), "it is the tunnel's device: {record:?}");
        } else {
            lab.one("inside a tunnel", &answer, "GET /public/quantum/inside HTTP/1.1");
        }
    }
}

/// Tunnels of the lab's device, over connections of this kind.
struct Tunnels {
    address: SocketAddr,
    gateway: String,
    config: Arc<ClientConfig>,
    token: String,
}

impl Tunnels {
    /// Asks for one, and reads nothing.
    async fn ask(&self, host: &str, port: u16) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = self.gateway.clone().try_into().expect("name");
        let mut stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await?;
        let token = &self.token;
        let head = format!(
            "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }
}

impl Dial for Tunnels {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let mut stream = self.ask(host, port).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
