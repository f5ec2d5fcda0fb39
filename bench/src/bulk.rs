//! Large bodies through an app, up and down, over HTTP/1.1 and HTTP/2: what the gateway's memory
//! grows by meanwhile, and what a gigabyte costs it.

use std::convert::Infallible;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use vouchsafe_runtime::task::TaskGroup;

use crate::ours::{MEASURED, OTHERS, Ours, Process, listening};
use crate::tunnel::ends::{PATTERN, pattern};
use crate::{cpu, memory, say};

type Failure = Box<dyn Error + Send + Sync>;
type Content = BoxBody<Bytes, Infallible>;

/// What is sent each way, unless the command line says otherwise: 1 GiB.
const BYTES: u64 = 1 << 30;
/// What the gateway's memory may grow by meanwhile.
const GROWTH_MIB: f64 = 32.0;
/// Bytes that are sent at a time.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// The upstream: `PUT` takes a body and says how long it was, `GET /<number>` sends so many bytes.
pub(crate) fn upstream() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (tasks, listener) = (TaskGroup::new(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        say(&json!({"listening": listener.local_addr()?.to_string()}))?;
        let pattern = Bytes::from(pattern());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pattern = pattern.clone();
            tasks.spawn("upstream", async move {
                let service = service_fn(|request| answer(request, pattern.clone()));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>, pattern: Bytes) -> Result<Response<Content>, Failure> {
    if request.method() == Method::PUT {
        let count = checked(request.into_body(), &pattern).await?;
        return Ok(Response::new(Full::new(Bytes::from(count.to_string())).boxed()));
    }
    let count: u64 = request.uri().path().trim_start_matches('/').parse()?;
    Ok(Response::builder().header("content-length", count).body(sent(pattern, count))?)
}

/// A body of so many bytes of the pattern.
fn sent(pattern: Bytes, count: u64) -> Content {
    let pieces = futures_util::stream::iter((0..count).step_by(PIECE).map(move |at| {
        let from = usize::try_from(at % PATTERN as u64).unwrap_or_default();
        let length = usize::try_from(count - at).unwrap_or(PIECE).min(PIECE);
        Ok(Frame::data(pattern.slice(from..from + length)))
    }));
    BodyExt::boxed(StreamBody::new(pieces))
}

/// Reads a body to its end, and looks at each byte; gives its length.
async fn checked<B>(mut body: B, pattern: &[u8]) -> Result<u64, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Failure>,
{
    let mut count = 0_u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
        let from = usize::try_from(count % PATTERN as u64)?;
        let mut rest = data.as_ref();
        let mut at = from;
        while !rest.is_empty() {
            let length = rest.len().min(pattern.len() - at);
            let (now, later) = rest.split_at(length);
            if pattern.get(at..at + length) != Some(now) {
                return Err(format!("what came after {count} bytes is not what was sent").into());
            }
            (rest, at) = (later, (at + length) % PATTERN);
        }
        count += data.len() as u64;
    }
    Ok(count)
}

pub(crate) async fn run(bytes: Option<u64>) -> Result<(), Box<dyn Error>> {
    let bytes = bytes.unwrap_or(BYTES);
    let dir = tempfile::tempdir()?;
    let (_upstream, said) = Process::announced(OTHERS, &std::env::current_exe()?, &["bulk-upstream"])?;
    let resources = json!([{"name": "app", "kind": "http", "upstream": format!("http://{}", listening(&said)?)}]);
    let ours = Ours::start(dir.path(), &[], resources).await?;
    let pattern = Bytes::from(pattern());
    println!("{bytes} bytes through an app in one request, processor {MEASURED} for the gateway");
    println!(
        "| | Gbit/s | gateway's CPU s/GB | memory before, MiB | largest growth, MiB |\n| --- | --- | --- | --- | --- |"
    );
    for version in [Version::Http1, Version::Http2] {
        for method in [Method::GET, Method::PUT] {
            let pid = ours.process.pid();
            let before = memory::resident_kib(pid);
            let watching = Watch::begin(pid);
            let (begun, spent) = (Instant::now(), cpu::of(pid));
            let name = format!("{}, {version:?}", if method == Method::GET { "down" } else { "up" });
            once(&ours, version, method, bytes, &pattern).await.map_err(|error| format!("{name}: {error}"))?;
            let (took, cost) = (begun.elapsed().as_secs_f64(), cpu::of(pid).saturating_sub(spent).as_secs_f64());
            let growth = watching.largest().saturating_sub(before) as f64 / 1024.0;
            let gigabytes = bytes as f64 / 1e9;
            println!(
                "| {name} | {:.2} | {:.2} | {:.1} | {growth:.1} |",
                gigabytes * 8.0 / took,
                cost / gigabytes,
                before as f64 / 1024.0,
            );
            if growth > GROWTH_MIB {
                return Err(format!("{name}: memory grew by {growth:.1} MiB").into());
            }
        }
    }
    println!();
    Ok(())
}

/// One large request on a connection of its own.
async fn once(ours: &Ours, version: Version, method: Method, bytes: u64, pattern: &Bytes) -> Result<(), Failure> {
    let alpn: &[u8] = if version == Version::Http1 { b"http/1.1" } else { b"h2" };
    let tls = ours.tls(&ours.device_dir, &[alpn]).map_err(|error| error.to_string())?;
    let tcp = TcpStream::connect(ours.address()).await?;
    tcp.set_nodelay(true)?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(ours.gateway_name().try_into()?, tcp).await?;
    let (tasks, host) = (TaskGroup::new(), ours.authority("app"));
    let is_up = method == Method::PUT;
    let builder = Request::builder()
        .method(method)
        .uri(format!("http://{host}/{bytes}"))
        .header("proxy-authorization", ours.proxy_authorization());
    let content: Content = if is_up { sent(pattern.clone(), bytes) } else { Empty::new().boxed() };
    let response = match version {
        Version::Http1 => {
            let builder = builder.header("host", &host);
            // Its length is not told, so it goes up in chunks.
            let request = builder.body(content)?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tasks.spawn("client", async move { drop(connection.await) });
            sender.send_request(request).await?
        }
        Version::Http2 => {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(2 << 20)
                .initial_connection_window_size(8 << 20)
                .max_frame_size(64 << 10)
                .handshake(TokioIo::new(stream))
                .await?;
            tasks.spawn("client", async move { drop(connection.await) });
            sender.send_request(builder.body(content)?).await?
        }
    };
    if response.status() != StatusCode::OK {
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        return Err(format!("{status}: {}", String::from_utf8_lossy(&text)).into());
    }
    let arrived = if is_up {
        let said = response.into_body().collect().await?.to_bytes();
        String::from_utf8_lossy(&said).parse()?
    } else {
        checked(response.into_body(), pattern).await?
    };
    if arrived == bytes { Ok(()) } else { Err(format!("{arrived} of {bytes} bytes arrived").into()) }
}

/// Looks at a process's memory until dropped.
struct Watch {
    largest: Arc<AtomicU64>,
}

impl Watch {
    fn begin(pid: u32) -> Self {
        let largest = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&largest);
        std::thread::spawn(move || {
            while let Some(seen) = seen.upgrade() {
                seen.fetch_max(memory::resident_kib(pid), Ordering::Relaxed);
                drop(seen);
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { largest }
    }

    fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }
}
