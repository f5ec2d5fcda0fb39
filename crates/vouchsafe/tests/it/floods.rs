//! G18: floods and slow clients. Each is bounded in number and time. The connection ends, or what it
//! holds is bounded; memory stays within what is stated; an honest client is served all the while.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::attacks::probe::{
    self, Answer, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, frame, hpack, read_h1,
};
use crate::http::Company;
use crate::peers::{curl_as, resident_kib};
use crate::world::{PATIENCE, World, patiently};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xbe;

/// What memory may grow by in any of these, KiB. Debug builds and the allocator's habits are in it.
const GROWTH_KIB: u64 = 96 * 1024;

/// Somebody who asks for the marketing app again and again, on a connection of her own.
struct Honest {
    stop: Arc<AtomicBool>,
    asking: JoinSet<usize>,
}

impl Honest {
    async fn start(company: &Company) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut stream = device_h1(company).await;
        let (request, stopped) = (proxied(company, "/honest"), Arc::clone(&stop));
        let mut asking = JoinSet::new();
        asking.spawn(async move {
            let mut served = 0;
            while !stopped.load(Ordering::Relaxed) || served == 0 {
                stream.write_all(request.as_bytes()).await.expect("an open connection");
                let answer = read_h1(&mut stream).await;
                assert_eq!(answer.status, 200, "an honest client is served: {answer:?}");
                served += 1;
            }
            served
        });
        Self { stop, asking }
    }

    async fn was_served(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let served = tokio::time::timeout(PATIENCE, self.asking.join_next()).await.expect("in time");
        assert!(served.expect("one task").expect("no refusal") > 0);
    }
}

async fn device_h1(company: &Company) -> TlsStream<TcpStream> {
    let config = probe::config(&company.world, Some(&company.laptop), &[b"http/1.1"]);
    probe::connect(&company.world, "gw", config).await.expect("handshake")
}

fn proxied(company: &Company, path: &str) -> String {
    let host = format!("{}:{}", company.world.host("marketing"), company.world.port);
    let token = &company.laptop.token;
    format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n")
}

/// A stranger's connection to the sign-in host, from an address of this machine.
async fn stranger(world: &World, from: Ipv4Addr, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let tcp = socket.connect(world.address()).await?;
    let name = world.host("auth").try_into().expect("name");
    TlsConnector::from(Arc::new(probe::config(world, None, &[alpn]))).connect(name, tcp).await
}

/// A request of HTTP/2 that goes on after its head.
fn post(world: &World, stream: u32, flags: u8) -> Vec<u8> {
    let authority = format!("{}:{}", world.host("auth"), world.port);
    let fields = [(":method", "POST"), (":scheme", "https"), (":authority", authority.as_str()), (":path", "/flood")];
    frame(HEADERS, flags, stream, &hpack(&fields))
}

/// Sends `first`, and then pieces until the server closes; says how many it took, and whether it did.
async fn flood(world: &World, first: &[u8], pieces: usize, mut piece: impl FnMut(u32) -> Vec<u8>) -> (usize, bool) {
    let stream = stranger(world, Ipv4Addr::LOCALHOST, b"h2").await.expect("handshake");
    let (mut read, mut write) = tokio::io::split(stream);
    // What comes back is read, so that it is not the sender who stalls.
    let reading = async {
        let mut sink = vec![0; 64 * 1024];
        while let Ok(1..) = read.read(&mut sink).await {}
    };
    let writing = async {
        write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), first].concat()).await.ok()?;
        for sent in (0..pieces).step_by(200) {
            let batch: Vec<u8> = (sent..sent + 200).flat_map(|at| piece(u32::try_from(at).expect("small"))).collect();
            if write.write_all(&batch).await.is_err() {
                return Some(sent);
            }
        }
        Some(pieces)
    };
    let mut sent = None;
    let both = async {
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => {}
            count = writing => {
                sent = count;
                reading.await;
            }
        }
    };
    let closed = tokio::time::timeout(PATIENCE, both).await.is_ok();
    (sent.unwrap_or_default(), closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a259_a261_floods_of_frames_end_their_connection_and_nobody_elses() {
    let company = Company::start().await;
    let world = &company.world;
    let honest = Honest::start(&company).await;
    let (before, _) = resident_kib(world.pid());
    let open = post(world, 1, END_HEADERS);
    let unended = post(world, 1, 0);
    let settings = [0, 4, 0, 1, 0, 0];
    const MANY: usize = 40_000;
    // Kinds that carry nothing, on a connection and on a stream of it.
    for (kind, stream, payload) in [
        (PING, 0, &[0; 8][..]),
        (SETTINGS, 0, &settings),
        (PRIORITY, 1, &[0, 0, 0, 0, 1]),
        (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        (WINDOW_UPDATE, 1, &[0, 0, 0, 1]),
        (DATA, 1, &[]),
        (UNKNOWN, 0, &[7]),
    ] {
        let barren = frame(kind, 0, stream, payload);
        let (sent, closed) = flood(world, &open, MANY, |_| barren.clone()).await;
        assert!(closed, "frames of kind {kind} on stream {stream} go on for ever; {sent} were taken");
    }
    // A head that never ends (CVE-2024-27316).
    let more = frame(CONTINUATION, 0, 1, &hpack(&[("x-more", "and more")]));
    assert!(flood(world, &unended, MANY, |_| more.clone()).await.1, "CONTINUATION");
    // Rapid reset (CVE-2023-44487): requests that are taken back at once.
    let reset = |at: u32| [post(world, at * 2 + 1, 5), frame(RST_STREAM, 0, at * 2 + 1, &[0, 0, 0, 8])].concat();
    assert!(flood(world, &[], 10_000, reset).await.1, "rapid reset");
    // MadeYouReset (CVE-2025-8671): the client makes the server do it.
    let made = |at: u32| [post(world, at * 2 + 1, END_HEADERS), frame(WINDOW_UPDATE, 0, at * 2 + 1, &[0; 4])].concat();
    assert!(flood(world, &[], 10_000, made).await.1, "an empty window update");
    let over =
        |at: u32| [post(world, at * 2 + 1, 5), frame(WINDOW_UPDATE, 0, at * 2 + 1, &[0x7f, 0xff, 0xff, 0xff])].concat();
    assert!(flood(world, &[], 10_000, over).await.1, "a window that overflows");
    let (after, _) = resident_kib(world.pid());
    assert!(after < before + GROWTH_KIB, "memory grew from {before} to {after} KiB");
    honest.was_served().await;
    assert!(!world.log().contains("panic"), "{}", world.log());
}

/// A field of 4,000 bytes, put into the table once and named by one byte ever after.
#[tokio::test(flavor = "multi_thread")]
async fn a261_a_header_bomb_takes_no_memory() {
    let company = Company::start().await;
    let world = &company.world;
    let (before, _) = resident_kib(world.pid());
    let mut bomb = hpack(&[(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]);
    bomb.push(0x40);
    bomb.extend([1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'y'; 4_000]);
    bomb.extend([0xbe; 11_000]);
    for _ in 0..16 {
        let mut stream = stranger(world, Ipv4Addr::LOCALHOST, b"h2").await.expect("handshake");
        let request = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 1, &bomb)].concat();
        let _ = stream.write_all(&request).await;
        let answer: Answer = tokio::time::timeout(PATIENCE, probe::read_h2(&mut stream)).await.expect("an answer");
        assert!(answer.status == 431 || answer.error.is_some() || answer.closed, "{answer:?}");
    }
    let (after, _) = resident_kib(world.pid());
    // Unfolded these are 700 MB.
    assert!(after < before + GROWTH_KIB, "memory grew from {before} to {after} KiB");
    assert_eq!(curl_as(world, &company.laptop, &[&company.plain_url("marketing", "/")]).await.status, 200);
}

/// Many streams of large answers, of which the client takes nothing (CVE-2019-9511, -9517).
#[tokio::test(flavor = "multi_thread")]
async fn a261_answers_that_are_not_read_are_held_back() {
    let company = Company::start().await;
    let world = &company.world;
    let upstream = endless(world).await;
    let resources = json!([
        {"name": "marketing", "kind": "http", "upstream": format!("http://{}", company.marketing.address)},
        {"name": "finance", "kind": "http", "upstream": format!("http://{upstream}")},
    ]);
    let policy = crate::http::POLICY.replace("Group::\"finance\"", "Group::\"marketing\"");
    world.apply(&["marketing", "finance"], resources, &policy).await;
    for () in patiently() {
        let head = ["-o", "/dev/null", "--max-time", "1", &company.plain_url("finance", "/")];
        if curl_as(world, &company.laptop, &head).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let honest = Honest::start(&company).await;
    let (before, _) = resident_kib(world.pid());
    let host = format!("{}:{}", world.host("finance"), world.port);
    let bearer = format!("Bearer {}", company.laptop.token);
    let request = hpack(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", &host),
        (":path", "/"),
        ("proxy-authorization", &bearer),
    ]);
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let config = probe::config(world, Some(&company.laptop), &[b"h2"]);
        let mut stream = probe::connect(world, "gw", config).await.expect("handshake");
        // SETTINGS_INITIAL_WINDOW_SIZE is 0.
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        for at in 0..128 {
            bytes.extend(frame(HEADERS, 5, at * 2 + 1, &request));
        }
        stream.write_all(&bytes).await.expect("sent");
        stalled.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (after, _) = resident_kib(world.pid());
    assert!(after < before + GROWTH_KIB, "memory grew from {before} to {after} KiB");
    honest.was_served().await;
}

/// An upstream whose answers have no end.
async fn endless(world: &World) -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let tasks = world.tasks.clone();
    world.tasks.spawn("endless upstream", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn("endless answer", async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
                while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
            });
        }
    });
    address
}

/// Whoever begins something and doesn't go on is closed in time: 10 s for a handshake, 15 s for a head.
#[tokio::test(flavor = "multi_thread")]
async fn g18_slow_and_silent_clients_are_closed() {
    let company = Company::start().await;
    let world = &company.world;
    let long = Duration::from_secs(60);
    let ended = |name: &'static str, mut stream: Box<dyn Silent>, trickle: &'static [u8]| async move {
        let mut drip = tokio::time::interval(Duration::from_millis(700));
        let mut rest = trickle.iter();
        let mut sink = vec![0; 4096];
        let closing = async {
            loop {
                tokio::select! {
                    read = stream.read(&mut sink) => if !matches!(read, Ok(1..)) { return },
                    _ = drip.tick() => if let Some(byte) = rest.next() && stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            }
        };
        assert!(tokio::time::timeout(long, closing).await.is_ok(), "{name}: still open");
    };
    let here = Ipv4Addr::LOCALHOST;
    let tcp = || async { Box::new(TcpStream::connect(world.address()).await.expect("connected")) };
    let tls = |alpn: &'static [u8], first: Vec<u8>| async move {
        let mut stream = stranger(world, here, alpn).await.expect("handshake");
        stream.write_all(&first).await.expect("sent");
        Box::new(stream)
    };
    let opened = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let unended = [opened.clone(), post(world, 1, 0)].concat();
    let trickle: &[u8] = &[b'a'; 200];
    let honest = Honest::start(&company).await;
    tokio::join!(
        ended("no handshake", tcp().await, b""),
        ended(
            "half a handshake, slowly",
            tcp().await,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        ),
        ended("no request in HTTP/1.1", tls(b"http/1.1", vec![]).await, b""),
        ended("a head that trickles", tls(b"http/1.1", b"GET / HTTP/1.1\r\nX: ".to_vec()).await, trickle),
        ended("no preface in HTTP/2", tls(b"h2", vec![]).await, b""),
        ended("no request in HTTP/2", tls(b"h2", opened).await, b""),
        ended("a head in HTTP/2 that doesn't end", tls(b"h2", unended).await, b""),
    );
    honest.was_served().await;
}

trait Silent: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Silent for S {}

/// Strangers are bounded by source and in all; the newest are told to come back; who has signed in
/// keeps a share of all places.
#[tokio::test(flavor = "multi_thread")]
async fn i11_overload_sheds_the_newest_strangers_and_serves_who_is_proven() {
    let limits = ["--max-connections", "64", "--max-connections-per-source", "40"].map(ToOwned::to_owned);
    let world = World::start_with(tempfile::tempdir().expect("directory"), 0, &limits).await;
    let company = Company::start_on(world).await;
    let world = &company.world;
    let (one, two, three) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3).to_string());
    // One source takes what it may have, and no more.
    let mut held = Vec::new();
    let ask = format!("GET / HTTP/1.1\r\nHost: {}:{}\r\n\r\n", world.host("auth"), world.port);
    while held.len() < 60 {
        let Ok(mut stream) = stranger(world, one, b"http/1.1").await else { break };
        let answer = match stream.write_all(ask.as_bytes()).await {
            Ok(()) => read_h1(&mut stream).await,
            Err(_) => break,
        };
        if answer.status == 0 {
            break;
        }
        assert!(!answer.closed, "{answer:?}");
        held.push(stream);
    }
    assert!((20..=40).contains(&held.len()), "{} connections from one source", held.len());
    // Another fills the strangers' share. The newest are told to come back, and closed.
    let mut told = None;
    for _ in 0..40 {
        let mut stream = stranger(world, two, b"http/1.1").await.expect("a handshake is possible");
        stream.write_all(ask.as_bytes()).await.expect("sent");
        let answer = read_h1(&mut stream).await;
        if answer.status == 503 {
            told = Some(answer);
            break;
        }
        held.push(stream);
    }
    let told = told.expect("strangers leave a share");
    assert!(told.closed && told.text.to_ascii_lowercase().contains("\r\nretry-after: "), "{told:?}");
    assert!(held.len() <= 48, "{} strangers are held", held.len());
    // Those before them are still served, and so is a device from anywhere.
    let first = held.first_mut().expect("one");
    first.write_all(ask.as_bytes()).await.expect("open");
    assert_ne!(read_h1(first).await.status, 503);
    for source in ["127.0.0.2", &three] {
        let served =
            curl_as(world, &company.laptop, &["--interface", source, &company.plain_url("marketing", "/")]).await;
        assert_eq!(served.status, 200, "from {source}: {served:?}");
    }
    // Once they have gone, strangers are welcome again.
    drop(held);
    for () in patiently() {
        let mut stream = stranger(world, two, b"http/1.1").await.expect("handshake");
        stream.write_all(ask.as_bytes()).await.expect("sent");
        if read_h1(&mut stream).await.status != 503 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("strangers are still refused");
}

/// The loop that accepts outlives a lack of files (A183, tonic RUSTSEC-2024-0376).
#[tokio::test(flavor = "multi_thread")]
async fn a183_a_lack_of_files_ends_nothing() {
    use rustix::process::{Resource, Rlimit, prlimit};
    let company = Company::start().await;
    let world = &company.world;
    let pid = crate::peers::pid_of(world.pid());
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.pid())).map_or(40, Iterator::count);
    let few = u64::try_from(open + 8).expect("small");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.pid())).expect("limits");
    let limits = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    // The hard limit stays: not even root may be able to raise it again.
    let hard = limits.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    let before = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(few), maximum: hard });
    let before = before.expect("the limit is set");
    let many: Vec<_> =
        join_all((0..60).map(|_| TcpStream::connect(world.address()))).await.into_iter().flatten().collect();
    assert!(many.len() > 40);
    // The refusals are told of, once in a while.
    for () in patiently() {
        if world.log().contains("could not be accepted") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.log().contains("could not be accepted"), "it never ran out of files");
    drop(many);
    prlimit(Some(pid), Resource::Nofile, before).expect("the limit is set back");
    for () in patiently() {
        if curl_as(world, &company.laptop, &[&company.plain_url("marketing", "/")]).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody is served any more");
}

async fn join_all<F: Future + Send + 'static>(all: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Send,
{
    let mut set = JoinSet::new();
    for one in all {
        set.spawn(one);
    }
    set.join_all().await
}

/// A connection that is idle is parked and taken up again where its next request begins.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_parked_connection_goes_on_where_it_stopped() {
    let company = Company::start().await;
    let rest = Duration::from_secs(3);
    let seen = AtomicUsize::new(0);
    let served = |answer: &Answer| {
        assert_eq!((answer.status, answer.answers, answer.closed), (200, 1, false), "{answer:?}");
        seen.fetch_add(1, Ordering::Relaxed);
    };
    let mut plain = device_h1(&company).await;
    let mut ahead = device_h1(&company).await;
    let mut posting = device_h1(&company).await;
    let get = |path: &str| proxied(&company, path);
    // One that reads to the end, one that sends half of its next head along, one with a body.
    plain.write_all(get("/one").as_bytes()).await.expect("sent");
    let next = get("/two");
    let (half, other_half) = next.split_at(40);
    ahead.write_all(format!("{}{half}", get("/one")).as_bytes()).await.expect("sent");
    let post = get("/post").replacen("GET", "POST", 1).replacen("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody", 1);
    posting.write_all(post.as_bytes()).await.expect("sent");
    for stream in [&mut plain, &mut ahead, &mut posting] {
        served(&read_h1(stream).await);
    }
    tokio::time::sleep(rest).await;
    plain.write_all(get("/two").as_bytes()).await.expect("sent");
    ahead.write_all(other_half.as_bytes()).await.expect("sent");
    posting.write_all(get("/two").as_bytes()).await.expect("sent");
    for stream in [&mut plain, &mut ahead, &mut posting] {
        served(&read_h1(stream).await);
    }
    let text = company.marketing.text();
    assert_eq!(text.matches("GET /two HTTP/1.1\r\n").count(), 3, "{text}");
    // Taken up a byte at a time, and for a tunnel.
    tokio::time::sleep(rest).await;
    for byte in get("/three").as_bytes() {
        plain.write_all(&[*byte]).await.expect("sent");
        plain.flush().await.expect("sent");
    }
    served(&read_h1(&mut plain).await);
    tokio::time::sleep(rest).await;
    let world = &company.world;
    let target = format!("{}:{}", world.host("auth"), world.port);
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    plain.write_all(connect.as_bytes()).await.expect("sent");
    assert_eq!(read_h1(&mut plain).await.status, 200);
    let inside = TlsConnector::from(Arc::new(probe::config(world, None, &[b"http/1.1"])));
    let mut inside = inside.connect(world.host("auth").try_into().expect("name"), plain).await.expect("TLS inside");
    let ask = format!("GET /sign-in HTTP/1.1\r\nHost: {target}\r\n\r\n");
    inside.write_all(ask.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    inside.read_exact(&mut answer).await.expect("an answer inside");
    assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
}

/// What is compressed stays so: nothing here unfolds what a stranger folded (RFC 9110 §8.4).
#[test]
fn g18_nothing_decompresses() {
    let lock = include_str!("../../../../Cargo.lock");
    for library in ["flate2", "miniz_oxide", "libz-sys", "zlib-rs", "brotli", "zstd", "async-compression", "lz4_flex"] {
        assert!(!lock.contains(&format!("name = \"{library}\"\n")), "{library} is linked; what for?");
    }
}

/// How many requests each of these makes; by hand it was ten thousand (docs/concepts/assurance.md).
const REQUESTS: usize = 1_000;

/// Foreign load generators get an answer to each request, in both versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_over_64_connections_passes_without_one_error() {
    let world = World::start().await;
    let upstream = crate::world::Recorder::start(&world.tasks).await;
    let resources = json!([{"name": "web", "kind": "http", "upstream": format!("http://{}", upstream.address)}]);
    let policy = r#"@id("web") @device("none") permit (principal in Group::"staff", action, resource == Http::"web");"#;
    world.apply(&["staff"], resources, policy).await;
    let alice = world.person("alice", &["staff"]).await;
    let cookie = format!("cookie: {}", world.cookie(&alice, "web", "/").await);
    let (address, number, url) = (world.address().to_string(), REQUESTS.to_string(), world.url("web", "/load"));
    let to = format!("--connect-to={address}");
    for version in [&["--h1"][..], &[]] {
        let mut arguments = vec!["-n", &number, "-c", "64", "-m", "4", "-H", &cookie, &to];
        arguments.extend(version);
        arguments.push(url.as_str());
        let ran = crate::peers::run("h2load", &arguments).await;
        let whole = format!("{number} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(ran.out.contains(&whole), "{version:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains(&format!("status codes: {number} 2xx")), "{version:?}: {}", ran.out);
    }
}
