//! What stands at both ends of a tunnel: who sends, who receives, and the bare relays between them.
//! Each runs as a process of its own, so that its processor time is its own.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls;

use crate::{pki, say};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What passes repeats after so many bytes, which no buffer's size divides.
pub(crate) const PATTERN: usize = 1_000_003;
/// Bytes that are sent or read at a time.
const PIECE: usize = 256 * 1024;
/// Buffer of the bare relays: 64 KiB is where larger ones gain little.
const RELAY_BUFFER: usize = 64 * 1024;

/// Runs the end of that name.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<()> {
    let at = |index: usize| arguments.get(index).map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match name {
        "tunnel-sink" => sink(at(0)),
        "tunnel-source" => source(at(0), at(1), at(2)),
        "tunnel-in" => runtime.block_on(relay_in(at(0), at(1), at(2))),
        "tunnel-out" => runtime.block_on(relay_out(at(0), at(1), at(2))),
        "tunnel-connect" => runtime.block_on(relay_connect(at(0), at(1))),
        _ => Err(format!("no end is called `{name}`").into()),
    }
}

/// Bytes that don't compress, two periods of them.
pub(crate) fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = Vec::with_capacity(2 * PATTERN);
    for _ in 0..PATTERN {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(state.to_be_bytes().first());
    }
    bytes.extend_from_within(..);
    bytes
}

/// Sends until the time is over; gives how much it was.
fn send(stream: &mut StdStream, time: Duration) -> Result<u64> {
    let (pattern, begun, mut sent) = (pattern(), Instant::now(), 0_u64);
    while begun.elapsed() < time {
        let from = usize::try_from(sent % PATTERN as u64)?;
        let piece = pattern.get(from..from + PIECE).ok_or("the pattern is too short")?;
        stream.write_all(piece)?;
        sent += PIECE as u64;
    }
    Ok(sent)
}

/// Reads until the end, and looks at each byte.
fn receive(stream: &mut StdStream) -> Result<u64> {
    let (pattern, mut piece, mut received) = (pattern(), vec![0; PIECE], 0_u64);
    loop {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(received);
        }
        let from = usize::try_from(received % PATTERN as u64)?;
        if piece.get(..length) != pattern.get(from..from + length) {
            return Err(format!("what came after {received} bytes is not what was sent").into());
        }
        received += length as u64;
    }
}

/// Takes one stream after the other: `u` and it receives and says how much, `d` and seconds and it sends.
fn sink(listen: &str) -> Result<()> {
    let listener = StdListener::bind(listen)?;
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let mut order = [0; 2];
        if stream.read_exact(&mut order).is_err() {
            continue;
        }
        let done = match order {
            [b'u', _] => receive(&mut stream).and_then(|count| Ok(stream.write_all(&count.to_be_bytes())?)),
            [_, seconds] => send(&mut stream, Duration::from_secs(seconds.into())).map(drop),
        };
        if let Err(error) = done {
            // The other side sees a reset, and fails.
            let _ = error;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// One stream to the sink, up or down; says how many bytes arrived, and in what time.
fn source(address: &str, way: &str, seconds: &str) -> Result<()> {
    let mut stream = StdStream::connect(address)?;
    stream.set_nodelay(true)?;
    let time: u8 = seconds.parse()?;
    let begun = Instant::now();
    let bytes = if way == "up" {
        stream.write_all(&[b'u', time])?;
        let sent = send(&mut stream, Duration::from_secs(time.into()))?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut said = [0; 8];
        stream.read_exact(&mut said)?;
        let arrived = u64::from_be_bytes(said);
        if arrived != sent {
            return Err(format!("{sent} bytes were sent and {arrived} arrived").into());
        }
        arrived
    } else {
        stream.write_all(&[b'd', time])?;
        receive(&mut stream)?
    };
    say(&json!({"bytes": bytes, "seconds": begun.elapsed().as_secs_f64()}))
}

/// Plain bytes here, mTLS to the other bare relay.
async fn relay_in(listen: &str, to: &str, dir: &str) -> Result<()> {
    let connector = TlsConnector::from(Arc::new(pki::client(Path::new(dir))?));
    relay(listen, move || {
        let (connector, to) = (connector.clone(), to.to_owned());
        async move {
            let name = ServerName::try_from("bench.test")?;
            Ok(connector.connect(name, dial(&to).await?).await?)
        }
    })
    .await
}

/// mTLS here, plain bytes to the sink.
async fn relay_out(listen: &str, to: &str, dir: &str) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(pki::server(Path::new(dir))?));
    let (tasks, listener) = (TaskGroup::new(), TcpListener::bind(listen).await?);
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, to) = (acceptor.clone(), to.to_owned());
        tasks.spawn("relay", async move {
            let Ok(client) = acceptor.accept(stream).await else { return };
            let Ok(upstream) = dial(&to).await else { return };
            join(client, upstream).await;
        });
    }
}

/// Plain bytes here, and a gateway's CONNECT in HTTP/1.1 over mTLS: what any client could do.
/// The file holds address, names, keys and the token.
async fn relay_connect(listen: &str, file: &str) -> Result<()> {
    let given: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let text = |name: &str| given.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let identity = tls::Credentials { chain_pem: &text("chain"), key_pem: &text("key") };
    let trust = tls::ServerTrust::Roots(tls::roots(&text("root"), "bench")?);
    let connector = TlsConnector::from(Arc::new(tls::client(trust, Some(&identity), &[b"http/1.1"])?));
    relay(listen, move || {
        let (connector, to, target) = (connector.clone(), text("address"), text("target"));
        let (name, authorization) = (text("server_name"), text("authorization"));
        async move {
            let mut stream = connector.connect(ServerName::try_from(name)?, dial(&to).await?).await?;
            let head =
                format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {authorization}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await?);
            }
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(String::from_utf8_lossy(&answer).into_owned().into());
            }
            Ok(stream)
        }
    })
    .await
}

type Failure = Box<dyn Error + Send + Sync>;

/// Listens, and joins each connection with what `open` gives.
async fn relay<O, F, S>(listen: &str, open: O) -> Result<()>
where
    O: Fn() -> F,
    F: Future<Output = std::result::Result<S, Failure>>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (tasks, listener) = (TaskGroup::new(), TcpListener::bind(listen).await?);
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let upstream = open().await.map_err(|error| error.to_string())?;
        tasks.spawn("relay", join(client, upstream));
    }
}

async fn dial(address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn join<A, B>(mut one: A, mut other: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let _ = copy_bidirectional_with_sizes(&mut one, &mut other, RELAY_BUFFER, RELAY_BUFFER).await;
}
