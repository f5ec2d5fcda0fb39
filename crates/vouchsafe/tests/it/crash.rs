//! I7: `kill -9` under load loses no record of anything a client was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::spool::{Frame, read_frame};

use crate::http::Company;
use crate::world::{TestDevice, World, patiently};

#[tokio::test(flavor = "multi_thread")]
async fn i7_kill_nine_under_load_loses_no_record() {
    let company = Company::start().await;
    let ledger: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8_u32 {
        let mut stream = connect(&company).await;
        let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
        let host = format!("{}:{}", company.world.host("marketing"), company.world.port);
        let token = company.laptop.token.clone();
        clients.spawn(async move {
            for number in (client * 1_000_000).. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let request = format!(
                    "GET http://{host}/n/{number} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
                );
                if stream.write_all(request.as_bytes()).await.is_err() || !answered(&mut stream).await {
                    return;
                }
                ledger.lock().insert(number);
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let port = company.world.port;
    let dir = company.world.kill().await;
    stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    let ledger = std::mem::take(&mut *ledger.lock());
    assert!(ledger.len() > 100, "there was load: {}", ledger.len());

    // A torn record at the end of the spool, as a power cut would leave it, must not matter either.
    tear_last_segment(dir.path());
    let world = World::start_in(dir, port).await;
    let mut found = BTreeSet::new();
    for () in patiently() {
        found = recorded(&world).await;
        if ledger.is_subset(&found) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing: Vec<_> = ledger.difference(&found).collect();
    assert!(missing.is_empty(), "{} of {} answered requests have no record", missing.len(), ledger.len());
}

/// Numbers of all requests that have a decision record. No decision has two; no request has two either, but where a
/// change overtook a permit before its answer: that is a second decision, and denies.
pub async fn recorded(world: &World) -> BTreeSet<u32> {
    let mut numbers = BTreeMap::new();
    let mut after = None;
    loop {
        let query = AuditQuery {
            kind: Some("decision".into()),
            resource: Some("marketing".into()),
            limit: Some(5_000),
            after,
            ..AuditQuery::default()
        };
        let page = world.admin.audit(&query).await.expect("audit");
        for record in page.records {
            let path = record.path.as_deref().unwrap_or_default();
            if let Some(number) = path.strip_prefix("/n/").and_then(|text| text.parse().ok())
                && let Some(other) = numbers.insert(number, record.clone())
            {
                let denies = |record: &Record| record.outcome.as_deref() == Some("deny");
                let overtaken = record.id != other.id && denies(&record) != denies(&other);
                assert!(overtaken, "two records of request {number}: {other:?} and {record:?}");
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return numbers.into_keys().collect(),
        }
    }
}

fn tear_last_segment(dir: &std::path::Path) {
    let spool = dir.join("state").join("gateway").join("spool");
    let mut segments: Vec<_> =
        std::fs::read_dir(spool).expect("spool").map(|entry| entry.expect("entry").path()).collect();
    segments.sort();
    let last = segments.last().expect("a segment");
    let bytes = std::fs::read(last).expect("read");
    let mut end = 0;
    while let Frame::Whole { length, .. } = read_frame(&bytes[end..]) {
        end += length;
    }
    let file = std::fs::OpenOptions::new().write(true).open(last).expect("opened");
    file.write_all_at(&[0x40, 0x01, 0, 0, 1, 2, 3, 4, b'{', b'"'], end as u64).expect("torn");
}

async fn connect(company: &Company) -> TlsStream<TcpStream> {
    connect_to(&company.world, &company.laptop, company.world.address()).await
}

/// A connection of a device to the gateway at that address.
pub async fn connect_to(world: &World, device: &TestDevice, gateway: SocketAddr) -> TlsStream<TcpStream> {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("readable");
    let (chain, key) = (read(device.certificate()), read(device.key()));
    let trust = ServerTrust::Roots(tls::roots(&world.root_pem, "root").expect("roots"));
    let identity = Credentials { chain_pem: &chain, key_pem: &key };
    let config = Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"]).expect("TLS"));
    let tcp = TcpStream::connect(gateway).await.expect("connected");
    let name = world.host("gw").try_into().expect("name");
    TlsConnector::from(config).connect(name, tcp).await.expect("handshake")
}

/// Whether a whole 200 answer came.
pub async fn answered(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => seen.extend_from_slice(&buffer[..length]),
            _ => return false,
        }
        if seen.ends_with(b"\r\n\r\nok") {
            return seen.starts_with(b"HTTP/1.1 200");
        }
    }
}
