//! Exchanges over HTTP/3 in every corner: bodies of any size, trailers, interim answers, streams both
//! ways, an orderly end, and cuts. The client sends its own frames, so that it sees ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use vouchsafe_wire::api::{AuditQuery, Session};
use vouchsafe_wire::http3::{Frame, FrameReader, code, frame};
use vouchsafe_wire::{qpack, varint};

use super::exchange::{OK, say, upstream};
use super::raw::{Events, head};
use super::{Apps, node_dir};
use crate::attacks::probe::h3::{Connection, framed, headers};
use crate::peers::{Server, forget_peak, free_address, pid_of, resident_kib};
use crate::world::{PATIENCE, World, patiently};

/// One of the client's streams, read frame by frame.
struct Exchange {
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    input: BytesMut,
}

/// How a stream went on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Fields(Vec<(String, String)>),
    Data(Bytes),
    End,
    Reset(u64),
    Closed(u64),
}

impl Exchange {
    async fn begin(connection: &Connection, fields: &[(&str, &str)]) -> Self {
        let (send, recv) = connection.stream(&headers(fields), false).await;
        Self { send, recv, reader: FrameReader::new(1 << 20), input: BytesMut::new() }
    }

    async fn data(&mut self, content: &[u8]) {
        self.send.write_all(&framed(frame::DATA, content)).await.expect("sent");
    }

    async fn next(&mut self) -> Next {
        loop {
            match self.reader.next(&mut self.input).expect("frames of ours") {
                Some(Frame::Data(data)) => return Next::Data(data),
                Some(Frame::Whole { kind: frame::HEADERS, content }) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let fields = qpack::decode(&content, 1 << 20).expect("a section of ours");
                    return Next::Fields(fields.iter().map(|f| (text(&f.name), text(&f.value))).collect());
                }
                Some(Frame::Whole { kind, .. }) => panic!("a frame of type {kind:#x}"),
                None => {}
            }
            match tokio::time::timeout(PATIENCE, self.recv.read_chunk(64 * 1024, true)).await.expect("in time") {
                Ok(Some(chunk)) => self.input.extend_from_slice(&chunk.bytes),
                Ok(None) => return Next::End,
                Err(ReadError::Reset(code)) => return Next::Reset(code.into_inner()),
                Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close))) => {
                    return Next::Closed(close.error_code.into_inner());
                }
                Err(error) => panic!("the stream ends otherwise: {error}"),
            }
        }
    }

    /// The next field section must be an answer with this status; its other fields.
    async fn status(&mut self, status: u16) -> Vec<(String, String)> {
        let Next::Fields(mut fields) = self.next().await else { panic!("no answer") };
        assert_eq!(fields.remove(0), (":status".to_owned(), status.to_string()), "{fields:?}");
        fields
    }

    /// Everything to the end: content, and how it went on after that.
    async fn rest(&mut self) -> (Vec<u8>, Next) {
        let mut content = Vec::new();
        loop {
            match self.next().await {
                Next::Data(data) => content.extend_from_slice(&data),
                other => return (content, other),
            }
        }
    }
}

/// The fields of a request.
fn asked<'f>(authority: &'f str, cookie: &'f str, method: &'f str, path: &'f str) -> Vec<(&'f str, &'f str)> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)];
    pseudo.into_iter().chain([("cookie", cookie)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_pass_over_http3_with_bounded_memory() {
    const SIZE: usize = 64 << 20;
    let world = World::start().await;
    // Takes an upload to its end and says how much it was; sends as much; or does nothing at all.
    let address = upstream(&world.tasks, |mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            if head.starts_with("PUT /slow") {
                std::future::pending::<()>().await;
            } else if head.starts_with("PUT") {
                let (mut left, mut sum) = (SIZE, 0u64);
                let mut buffer = vec![0; 256 * 1024];
                while left > 0 {
                    let most = left.min(buffer.len());
                    let Ok(length @ 1..) = stream.read(&mut buffer[..most]).await else { return };
                    sum += buffer[..length].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                    left -= length;
                }
                let text = sum.to_string();
                say(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
            } else if !head.starts_with("GET /down") && !head.starts_with("GET /unread") {
                say(&mut stream, OK).await;
            } else {
                say(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n")).await;
                let block = vec![7; 1 << 20];
                for _ in 0..SIZE / block.len() {
                    if stream.write_all(&block).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    let apps = Apps::start(world, &[("app", format!("http://{address}"), None)]).await;
    let (authority, cookie) = (apps.authority("app"), apps.cookie("app").await);
    let (cookie, length) = (cookie.as_str(), SIZE.to_string());
    let connection = Connection::open(&apps.world, "app", None).await;
    let mut warm = Exchange::begin(&connection, &asked(&authority, cookie, "HEAD", "/warm")).await;
    warm.send.finish().expect("open");
    warm.status(200).await;
    assert_eq!(warm.rest().await, (vec![], Next::End), "the answer to HEAD has no content");
    let (before, _) = resident_kib(apps.world.pid());
    forget_peak(apps.world.pid());

    let mut fields = asked(&authority, cookie, "PUT", "/up");
    fields.push(("content-length", length.as_str()));
    let mut up = Exchange::begin(&connection, &fields).await;
    let block = vec![3; 1 << 20];
    for _ in 0..SIZE / block.len() {
        up.data(&block).await;
    }
    up.send.finish().expect("open");
    up.status(200).await;
    let (content, end) = up.rest().await;
    assert_eq!((&*String::from_utf8_lossy(&content), end), ((SIZE * 3).to_string().as_str(), Next::End));

    let mut down = Exchange::begin(&connection, &asked(&authority, cookie, "GET", "/down")).await;
    down.send.finish().expect("open");
    down.status(200).await;
    let mut received = 0;
    let end = loop {
        match down.next().await {
            Next::Data(data) => {
                assert!(data.iter().all(|byte| *byte == 7));
                received += data.len();
            }
            other => break other,
        }
    };
    assert_eq!((received, end), (SIZE, Next::End));

    // Both ends hold each other back: an upstream that reads nothing, a client that reads nothing.
    let mut fields = asked(&authority, cookie, "PUT", "/slow");
    fields.push(("content-length", length.as_str()));
    let mut held = Exchange::begin(&connection, &fields).await;
    let sending = async {
        for _ in 0..SIZE / block.len() {
            held.data(&block).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), sending).await.is_err(), "the upload is held back");
    let mut unread = Exchange::begin(&connection, &asked(&authority, cookie, "GET", "/unread")).await;
    unread.send.finish().expect("open");
    unread.status(200).await;
    // Others on the connection are not held up by that.
    let mut other = Exchange::begin(&connection, &asked(&authority, cookie, "HEAD", "/other")).await;
    other.send.finish().expect("open");
    other.status(200).await;
    let (_, peak) = resident_kib(apps.world.pid());
    assert!(peak < before + 50 * 1024, "memory grew from {before} to {peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_and_interim_answers_pass_over_http3() {
    let world = World::start().await;
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&seen);
    let address = upstream(&world.tasks, move |mut stream, _| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = head(&mut stream).await {
                if head.starts_with("GET") {
                    say(&mut stream, OK).await;
                    continue;
                }
                let waits = head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n");
                if head.starts_with("PUT /no") {
                    say(&mut stream, "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    keep.lock().push(format!("{waits} {}", rest.len()));
                    return;
                }
                if waits {
                    say(&mut stream, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
                        .await;
                }
                let mut body = Vec::new();
                while !body.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    body.push(byte);
                }
                keep.lock().push(String::from_utf8_lossy(&body).to_ascii_lowercase());
                let fields = "transfer-encoding: chunked\r\ntrailer: X-Fine, X-Vouchsafe-Decision";
                let trailers = "X-Fine: yes\r\nX-Vouchsafe-Decision: evil\r\nContent-Length: 0";
                say(&mut stream, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n\r\n"))
                    .await;
            }
        }
    })
    .await;
    let apps = Apps::start(world, &[("app", format!("http://{address}"), None)]).await;
    let (authority, cookie) = (apps.authority("app"), apps.cookie("app").await);
    let connection = Connection::open(&apps.world, "app", None).await;

    // Trailers both ways, and none that headers may not bring.
    let mut fields = asked(&authority, &cookie, "POST", "/trailers");
    fields.extend([("te", "trailers"), ("trailer", "x-sum, x-vouchsafe-user")]);
    let mut exchange = Exchange::begin(&connection, &fields).await;
    exchange.data(b"abc").await;
    let trailers = headers(&[("x-sum", "1"), ("x-vouchsafe-user", "own"), ("x-forwarded-for", "own")]);
    exchange.send.write_all(&trailers).await.expect("sent");
    exchange.send.finish().expect("open");
    exchange.status(200).await;
    let (content, next) = exchange.rest().await;
    let fine = Next::Fields(vec![("x-fine".to_owned(), "yes".to_owned())]);
    assert_eq!((content.as_slice(), next), (b"ok".as_slice(), fine));
    assert_eq!(exchange.next().await, Next::End);
    assert_eq!(seen.lock().pop().expect("a body"), "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");

    // Who waits to be asked for the body is asked once the upstream does.
    for method in ["PUT", "DELETE"] {
        let mut fields = asked(&authority, &cookie, method, "/yes");
        fields.push(("expect", "100-continue"));
        let mut exchange = Exchange::begin(&connection, &fields).await;
        assert!(exchange.status(100).await.is_empty(), "{method}");
        exchange.data(b"hello").await;
        exchange.send.finish().expect("open");
        exchange.status(200).await;
        assert_eq!(exchange.rest().await.0, b"ok", "{method}");
        assert_eq!(seen.lock().pop().expect("a body"), "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
    // And is not where the answer is there before, or access is denied (A061).
    let mut fields = asked(&authority, &cookie, "PUT", "/no");
    fields.push(("expect", "100-continue"));
    let mut exchange = Exchange::begin(&connection, &fields).await;
    exchange.status(413).await;
    assert_eq!(exchange.rest().await, (b"no".to_vec(), Next::End));
    let mut fields = asked(&authority, "none=1", "PUT", "/yes");
    fields.push(("expect", "100-continue"));
    let mut exchange = Exchange::begin(&connection, &fields).await;
    exchange.status(401).await;
    // An answer before its request has come ends the upload, and says that this is no error.
    let mut exchange = Exchange::begin(&connection, &asked(&authority, &cookie, "PUT", "/no")).await;
    exchange.data(b"begun").await;
    exchange.status(413).await;
    assert_eq!(exchange.rest().await, (b"no".to_vec(), Next::End));
    let stopped = tokio::time::timeout(PATIENCE, exchange.send.stopped()).await.expect("in time").expect("open");
    assert_eq!(stopped, Some(code::NO_ERROR.into()));
    connection.leave();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_over_http3_lets_open_exchanges_end_whole() {
    let world = World::start().await;
    let permits = Arc::new(Semaphore::new(0));
    let may = Arc::clone(&permits);
    let address = upstream(&world.tasks, move |mut stream, _| {
        let may = Arc::clone(&may);
        async move {
            while let Some(head) = head(&mut stream).await {
                if head.starts_with("GET /large") {
                    // Large enough that much of it waits for the client when all of it was handed over.
                    say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n").await;
                    may.acquire().await.expect("open").forget();
                    let _ = stream.write_all(&vec![9; 3_000_000]).await;
                } else {
                    say(&mut stream, OK).await;
                }
            }
        }
    })
    .await;
    let apps = Apps::start(world, &[("app", format!("http://{address}"), None)]).await;
    let (authority, cookie) = (apps.authority("app"), apps.cookie("app").await);
    let idle = Connection::open(&apps.world, "app", None).await;
    let mut once = Exchange::begin(&idle, &asked(&authority, &cookie, "GET", "/")).await;
    once.send.finish().expect("open");
    once.status(200).await;
    assert_eq!(once.rest().await, (b"ok".to_vec(), Next::End));
    let busy = Connection::open(&apps.world, "app", None).await;
    let mut control = server_control(&busy).await;
    let mut large = Exchange::begin(&busy, &asked(&authority, &cookie, "GET", "/large")).await;
    large.send.finish().expect("open");
    large.status(200).await;

    rustix::process::kill_process(pid_of(apps.world.pid()), rustix::process::Signal::TERM).expect("signalled");
    assert_eq!(idle.closed().await, u64::from(code::NO_ERROR), "an idle connection is closed");
    // GOAWAY names the first stream that is not served any more.
    let goaway = control.next_goaway().await;
    assert_eq!(goaway, 4);
    let mut late = Exchange::begin(&busy, &asked(&authority, &cookie, "GET", "/late")).await;
    assert_eq!(late.next().await, Next::Reset(u64::from(code::REQUEST_REJECTED)), "to be asked for elsewhere");
    // What was begun comes whole, though all of it is handed over before the client reads.
    permits.add_permits(1);
    let mut content = Vec::new();
    let end = loop {
        match large.next().await {
            Next::Data(data) => content.extend_from_slice(&data),
            other => break other,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!((content.len(), end), (3_000_000, Next::End));
    assert_eq!(busy.closed().await, u64::from(code::NO_ERROR));
}

/// The server's control stream.
struct Control {
    recv: RecvStream,
    reader: FrameReader,
    input: BytesMut,
}

async fn server_control(connection: &Connection) -> Control {
    let recv = connection.quic.accept_uni().await.expect("a control stream");
    Control { recv, reader: FrameReader::new(0), input: BytesMut::new() }
}

impl Control {
    async fn next_goaway(&mut self) -> u64 {
        let mut begun = false;
        loop {
            let read = tokio::time::timeout(PATIENCE, self.recv.read_chunk(1024, true)).await.expect("in time");
            self.input.extend_from_slice(&read.expect("open").expect("never ended").bytes);
            if !begun {
                // The type of the stream.
                begun = true;
                let _ = self.input.split_to(1);
            }
            while let Some(frame) = self.reader.next(&mut self.input).expect("frames of ours") {
                if let Frame::Whole { kind: frame::GOAWAY, content } = frame {
                    return varint::read(&content).expect("a number").0;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_over_http3_are_cut_one_by_one() {
    let world = World::start().await;
    let events = Events::start(&world.tasks).await;
    let apps = Apps::start(world, &[("news", format!("http://{}", events.address), None)]).await;
    let bob = apps.world.person("bob", &["staff"]).await;
    let cookies = [apps.cookie("news").await, apps.world.cookie(&bob, "news", "/").await];
    let authority = apps.authority("news");
    // Two people's streams on one connection.
    let connection = Connection::open(&apps.world, "news", None).await;
    let mut streams = Vec::new();
    for cookie in &cookies {
        let mut stream = Exchange::begin(&connection, &asked(&authority, cookie, "GET", "/events")).await;
        stream.send.finish().expect("open");
        stream.status(200).await;
        streams.push(stream);
    }
    let [alices, bobs] = streams.as_mut_slice() else { panic!("two") };
    for stream in [&mut *alices, &mut *bobs] {
        // Either may take a permit.
        let data = loop {
            events.permits.add_permits(1);
            if let Ok(next) = tokio::time::timeout(Duration::from_millis(200), stream.next()).await {
                break next;
            }
        };
        assert!(matches!(&data, Next::Data(data) if data.starts_with(b"data: ")), "{data:?}");
    }
    let sessions: Vec<Session> = apps.world.admin.get("/v1/sessions").await.expect("sessions");
    let begun = Instant::now();
    for session in sessions.iter().filter(|session| session.user == "alice") {
        apps.world.admin.delete(&format!("/v1/sessions/{}", session.id)).await.expect("ended");
    }
    let end = alices.rest().await.1;
    assert_eq!(end, Next::Reset(u64::from(code::REQUEST_CANCELLED)));
    assert!(begun.elapsed() < Duration::from_secs(1), "cut after {:?}", begun.elapsed());
    // A second permit may have gone to alice's stream, whose upstream is gone by now.
    events.permits.add_permits(4);
    let Next::Data(data) = bobs.next().await else { panic!("bob's stream goes on") };
    assert!(data.starts_with(b"data: "), "{data:?}");
    let query = AuditQuery { resource: Some("news".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let mut cut = Vec::new();
    for () in patiently() {
        cut = apps.world.audit(query.clone()).await;
        cut.retain(|end| end.reason.as_deref() == Some("session_ended"));
        if !cut.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(cut.as_slice(), [end] if end.protocol.as_deref() == Some("h3")), "{cut:?}");
    connection.leave();
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_streams_both_ways_over_http3() {
    let world = World::start().await;
    let address = free_address();
    let script = node_dir().join("grpc-server.mjs").display().to_string();
    let log = world.dir.path().join("grpc.log");
    let _server = Server::start("node", &[&script, &address.port().to_string()], &log, address).await;
    let upstream = format!("http://{address}");
    let resource = json!({"name": "rpc", "kind": "http", "upstream": upstream, "upstream_protocol": "h2"});
    let apps = Apps::start_with(world, vec![resource]).await;
    let (authority, cookie) = (apps.authority("rpc"), apps.cookie("rpc").await);
    let connection = Connection::open(&apps.world, "rpc", None).await;
    let fields = |path: &'static str| {
        let mut fields = asked(&authority, &cookie, "POST", path);
        fields.extend([("content-type", "application/grpc"), ("te", "trailers")]);
        fields
    };
    let message = |text: &str| {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&[0][..], &length, text.as_bytes()].concat()
    };
    let mut talk = Exchange::begin(&connection, &fields("/test.Echo/Talk")).await;
    for round in 0..50 {
        let said = message(&format!("round {round}"));
        talk.data(&said).await;
        if round == 0 {
            talk.status(200).await;
        }
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            let Next::Data(data) = talk.next().await else { panic!("round {round}") };
            heard.extend_from_slice(&data);
        }
        assert_eq!(heard, said, "round {round}");
    }
    talk.send.finish().expect("open");
    let (_, Next::Fields(trailers)) = talk.rest().await else { panic!("no trailers") };
    let value = |name: &str| trailers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    assert_eq!(
        (value("grpc-status"), value("x-checksum"), value("x-vouchsafe-user")),
        (Some("0"), Some("right"), None)
    );
    assert_eq!(talk.next().await, Next::End);
    // The client gives a call up, and the server hears of it.
    let mut hang = Exchange::begin(&connection, &fields("/test.Echo/Hang")).await;
    hang.data(&message("")).await;
    hang.send.finish().expect("open");
    hang.status(200).await;
    let Next::Data(_) = hang.next().await else { panic!("not begun") };
    hang.recv.stop(code::REQUEST_CANCELLED.into()).expect("open");
    for () in patiently() {
        if std::fs::read_to_string(&log).expect("log").contains("cancelled") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(std::fs::read_to_string(&log).expect("log").contains("cancelled"));
    connection.leave();
}

/// Starts an upstream that answers everything.
async fn answering(world: &World) -> SocketAddr {
    upstream(&world.tasks, |mut stream, _| async move {
        while head(&mut stream).await.is_some() {
            say(&mut stream, OK).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http3_that_only_takes_back_what_it_asks_for_is_cut_off() {
    let world = World::start().await;
    let address = answering(&world).await;
    let apps = Apps::start(world, &[("app", format!("http://{address}"), None)]).await;
    let (authority, cookie) = (apps.authority("app"), apps.cookie("app").await);
    let good = headers(&asked(&authority, &cookie, "GET", "/"));
    let malformed = headers(&asked(&authority, &cookie, "GET", "no-slash"));
    for (what, bytes) in [("taken back at once", &good), ("malformed, so that it is we who reset", &malformed)] {
        let flood = Connection::open(&apps.world, "app", None).await;
        let honest = Connection::open(&apps.world, "app", None).await;
        let mut sent = 0;
        let closed = loop {
            let Ok((mut send, mut recv)) = flood.quic.open_bi().await else { break flood.quic.closed().await };
            sent += 1;
            assert!(sent < 50_000, "{what}: never cut off");
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
            if bytes == &good {
                let _ = recv.stop(code::REQUEST_CANCELLED.into());
            }
            if sent % 500 == 0 {
                assert_eq!(honest.ask(&good).await.status, 200, "{what}: others are served");
            }
        };
        let ConnectionError::ApplicationClosed(close) = closed else { panic!("{what}: {closed}") };
        assert_eq!(close.error_code.into_inner(), u64::from(code::EXCESSIVE_LOAD), "{what}");
        assert_eq!(honest.ask(&good).await.status, 200, "{what}: others are served");
        honest.leave();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http3_has_the_same_patience_as_every_version() {
    let world = World::start().await;
    let silent = Connection::open(&world, "auth", None).await;
    let slow = Connection::open(&world, "auth", None).await;
    let begun = Instant::now();
    // Half a head, and half the type of a stream.
    let (_send, mut recv) = slow.stream(&[1, 0x40], false).await;
    let reset = async { recv.read_chunk(1, true).await.err() };
    // A connection that never asks for anything is closed, and so is one whose only request never comes.
    let (closed, reset) = tokio::join!(silent.closed(), reset);
    let waited = begun.elapsed();
    assert_eq!(closed, u64::from(code::NO_ERROR));
    assert!(matches!(reset, Some(ReadError::Reset(reset)) if reset == code::REQUEST_CANCELLED.into()), "{reset:?}");
    assert!(waited > Duration::from_secs(14) && waited < Duration::from_secs(25), "after {waited:?}");
}
