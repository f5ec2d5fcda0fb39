//! Upstreams that go on with interim answers (1xx) instead of giving one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Kind;

use super::Apps;
use super::raw::head;
use crate::attacks::probe::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, hpack};
use crate::peers::{forget_peak, resident_kib};
use crate::world::{PATIENCE, World};

/// What an upstream does with a request.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// As many as it can send of 100, for ever.
    Hundreds,
    /// The same of 103, with fields.
    Hints,
    /// One after the other, slowly, for ever.
    Drip,
    /// Five, and an answer.
    Few,
}

/// An upstream of interim answers.
#[derive(Clone)]
struct Chatterer {
    manner: Manner,
    address: SocketAddr,
    /// Bytes that the gateway took of answers without an end.
    taken: Arc<AtomicU64>,
    /// Connections on which such are under way.
    open: Arc<AtomicUsize>,
}

impl Chatterer {
    async fn start(tasks: &TaskGroup, protocol: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("address");
        let this = Self { manner, address, taken: Arc::default(), open: Arc::default() };
        let (all, group, is_h2) = (this.clone(), tasks.clone(), protocol == "h2");
        tasks.spawn("chatterer", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let all = all.clone();
                group.spawn("chatter", async move {
                    while let Some(words) = request(&mut stream, is_h2).await {
                        all.speak(&mut stream, &words).await;
                    }
                });
            }
        });
        this
    }

    async fn speak(&self, stream: &mut TcpStream, words: &Words) {
        let (one, pause) = match self.manner {
            Manner::Few => {
                let all = [words.hints.repeat(5), words.answer.clone()].concat();
                return stream.write_all(&all).await.expect("it is wanted");
            }
            Manner::Hundreds => (words.hundred.repeat(400), Duration::ZERO),
            Manner::Hints => (words.hints.repeat(400), Duration::ZERO),
            Manner::Drip => (words.hints.clone(), Duration::from_millis(50)),
        };
        self.open.fetch_add(1, Ordering::SeqCst);
        // Whoever closes on unread bytes is seen to close at the next write.
        while let Ok(taken @ 1..) = stream.write(&one).await {
            self.taken.fetch_add(taken as u64, Ordering::SeqCst);
            tokio::time::sleep(pause).await;
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What can be said to one request, in its version of HTTP.
struct Words {
    hundred: Vec<u8>,
    hints: Vec<u8>,
    answer: Vec<u8>,
}

/// Reads a request; `None` when the connection is over.
async fn request(stream: &mut TcpStream, is_h2: bool) -> Option<Words> {
    if !is_h2 {
        head(stream).await?;
        return Some(Words {
            hundred: b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
            hints: b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".to_vec(),
            answer: b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine".to_vec(),
        });
    }
    let number = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        if head.starts_with(b"PRI * HTT") {
            stream.read_exact(&mut [0; 24 - 9]).await.ok()?;
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
            continue;
        }
        let [_, high, low, kind, flags, stream_id @ ..] = head;
        stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([high, low]))]).await.ok()?;
        match kind {
            HEADERS => break u32::from_be_bytes(stream_id),
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.ok()?,
            _ => {}
        }
    };
    let fields = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, number, &hpack(fields));
    Some(Words {
        hundred: fields(&[(":status", "100")]),
        hints: fields(&[(":status", "103"), ("link", "</a>; rel=preload")]),
        answer: [fields(&[(":status", "200")]), frame(DATA, END_STREAM, number, b"fine")].concat(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a271_interim_answers_without_an_end_are_no_answer() {
    const ENDLESS: [(&str, Manner); 3] =
        [("hundreds", Manner::Hundreds), ("hints", Manner::Hints), ("drip", Manner::Drip)];
    let world = World::start().await;
    let mut chatterers = Vec::new();
    let mut resources = Vec::new();
    for protocol in ["http1", "h2"] {
        for (name, manner) in ENDLESS.into_iter().chain([("few", Manner::Few)]) {
            let chatterer = Chatterer::start(&world.tasks, protocol, manner).await;
            let name = format!("{name}-{protocol}");
            resources.push(json!({"name": &name, "kind": "http", "upstream": format!("http://{}", chatterer.address),
                "upstream_protocol": protocol, "response_timeout": 2}));
            chatterers.push((name, chatterer));
        }
    }
    let apps = Apps::start_with(world, resources).await;
    for (name, chatterer) in &chatterers {
        if matches!(chatterer.manner, Manner::Few) {
            let answer = apps.curl(name, "/", &[]).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "fine"), "{name}: {answer:?}");
            continue;
        }
        // Also while a body waits for one of them. (curl 7.88 loses an answer in HTTP/2 that comes
        // before it has sent its body.)
        let waits = ["--http1.1", "-H", "Expect: 100-continue", "-d", "much"];
        let ways = if matches!(chatterer.manner, Manner::Drip) { &[&[][..]][..] } else { &[&[][..], &waits] };
        for arguments in ways.iter().copied() {
            let (before, _) = resident_kib(apps.world.pid());
            forget_peak(apps.world.pid());
            let begun = Instant::now();
            let answer = apps.curl(name, "/", arguments).await;
            assert_eq!(answer.status, 502, "{name} {arguments:?}: {answer:?}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
            let (_, peak) = resident_kib(apps.world.pid());
            assert!(peak.saturating_sub(before) < 24 * 1024, "{name}: from {before} to {peak} KiB");
            let id = answer.decision().to_owned();
            let records = apps.flow(AuditQuery { id: Some(id), ..AuditQuery::default() }).await;
            let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
            assert_eq!(kinds, [Kind::Decision, Kind::FlowEnd], "{name}: {records:?}");
            let detail = records.iter().find_map(|record| record.detail.clone()).unwrap_or_default();
            let why = match (chatterer.manner, name.ends_with("h2")) {
                (Manner::Drip, _) => "2s",
                (_, false) => "before the answer",
                (_, true) => "no answer",
            };
            assert!(detail.contains(why), "{name}: {detail}");
            // Nobody reads on for an exchange that is over.
            let deadline = Instant::now() + PATIENCE;
            while !name.ends_with("drip-h2") && chatterer.open.load(Ordering::SeqCst) > 0 {
                assert!(Instant::now() < deadline, "{name}: the gateway reads on and on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // What fits into the buffers of two sockets was taken by nobody.
        let taken = chatterer.taken.load(Ordering::SeqCst);
        assert!(taken < 2 * 16 * 1024 * 1024, "{name}: {taken} bytes");
    }
}
