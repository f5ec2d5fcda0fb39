//! Asks over and over, and checks each answer: its status and its length.
//!
//! A client of HTTP/1.1 that does no more than it must, so that it is not what is measured:
//! [`h2`] is its sister for HTTP/2. In a closed loop each connection asks again when it has its answer.
//! In an open loop requests are due at fixed instants whether earlier ones are answered or not, and a
//! latency counts from the instant at which a request was due: a server that stands still is not
//! spared the requests that come meanwhile.

pub(crate) mod h2;
mod pace;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::pace::Ticket;
pub(crate) use self::pace::{Pace, Schedule};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Whom to ask, and what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// The whole request, as bytes.
    pub(crate) request: Vec<u8>,
    /// Length that the answer's body must have.
    pub(crate) body_bytes: usize,
}

/// What lies between the client and the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// What one run gave.
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Vec<Duration>,
}

/// A byte stream to a target.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Open connections, each of which has been asked once.
pub(crate) struct Connections {
    target: Target,
    streams: Vec<Asker>,
}

struct Asker {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connections {
    /// Opens that many.
    pub(crate) async fn open(target: &Target, transport: Transport, count: usize) -> Result<Self, Failure> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let stream: Box<dyn Stream> = match transport {
                Transport::Plain => {
                    let tcp = TcpStream::connect(target.address).await?;
                    tcp.set_nodelay(true)?;
                    Box::new(tcp)
                }
                Transport::Tls => Box::new(secure(target, &[b"http/1.1"]).await?),
            };
            let mut asker = Asker { stream, buffer: vec![0; 16 * 1024] };
            asker.ask(target).await?;
            streams.push(asker);
        }
        Ok(Self { target: target.clone(), streams })
    }

    /// Asks at that pace for that long.
    pub(crate) async fn drive(&mut self, pace: Pace, length: Duration) -> Result<Outcome, Failure> {
        let schedule = Schedule::begin(pace, length)?;
        let mut workers = JoinSet::new();
        for mut asker in self.streams.drain(..) {
            let (schedule, target) = (schedule.clone(), self.target.clone());
            workers.spawn(async move {
                let mut latencies = Vec::new();
                while let Some(Ticket { due }) = schedule.next().await {
                    asker.ask(&target).await?;
                    latencies.push(since(due));
                }
                Ok::<_, Failure>((asker, latencies))
            });
        }
        let mut latencies = Vec::new();
        while let Some(worker) = workers.join_next().await {
            let (asker, seen) = worker??;
            self.streams.push(asker);
            latencies.extend(seen);
        }
        Ok(Outcome { elapsed: schedule.elapsed(), latencies })
    }
}

impl Asker {
    async fn ask(&mut self, target: &Target) -> Result<(), Failure> {
        self.stream.write_all(&target.request).await?;
        let mut filled = 0;
        loop {
            let length = self.stream.read(self.buffer.get_mut(filled..).unwrap_or_default()).await?;
            if length == 0 {
                return Err("the server closed the connection".into());
            }
            filled += length;
            if is_whole(self.buffer.get(..filled).unwrap_or_default(), target)? {
                return Ok(());
            }
        }
    }
}

/// Whether an answer is here; an error if it is not the one that it must be.
fn is_whole(seen: &[u8], target: &Target) -> Result<bool, Failure> {
    let Some(head) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let length = seen.len() - (head + 4);
    if !seen.starts_with(b"HTTP/1.1 200 ") || length > target.body_bytes {
        return Err(format!("unexpected answer: {}", String::from_utf8_lossy(seen)).into());
    }
    Ok(length == target.body_bytes)
}

/// A connection with TLS, on which that protocol was agreed.
async fn secure(target: &Target, alpn: &[&[u8]]) -> Result<TlsStream<TcpStream>, Failure> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    let mut tls = ClientConfig::clone(&target.tls);
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(target.server_name.clone())?;
    Ok(TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?)
}

/// How long ago an instant was that may lie a little ahead.
fn since(due: Instant) -> Duration {
    Instant::now().saturating_duration_since(due)
}

/// The body of the answer to a request of its own, as text.
pub(crate) async fn get(target: &Target, request: &[u8]) -> Result<String, Failure> {
    let mut stream = secure(target, &[b"http/1.1"]).await?;
    stream.write_all(request).await?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let length = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        filled += length;
        let text = String::from_utf8_lossy(buffer.get(..filled).unwrap_or_default());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let expected = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if length == 0 || expected == Some(body.len()) {
            return Ok(body.to_owned());
        }
    }
}
