//! A client that asks in HTTP/1.1 over mTLS, and checks each answer.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Stream = TlsStream<TcpStream>;
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Longest that anything may take; a server that is silent fails the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom to ask, and what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// The whole request, as bytes.
    pub(crate) request: Arc<[u8]>,
    /// Length that the answer's body must have.
    pub(crate) body_bytes: usize,
}

impl Target {
    /// A connection from that address, its handshake done.
    pub(crate) async fn connect(&self, from: Ipv4Addr) -> Result<Stream, Failure> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            let tcp = socket.connect(self.address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(self.server_name.clone())?;
            Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?)
        };
        tokio::time::timeout(PATIENCE, connecting).await?
    }

    /// One request, its answer checked and read whole.
    pub(crate) async fn ask(&self, stream: &mut Stream) -> Result<(), Failure> {
        tokio::time::timeout(PATIENCE, self.exchange(stream)).await?
    }

    async fn exchange(&self, stream: &mut Stream) -> Result<(), Failure> {
        stream.write_all(&self.request).await?;
        let (mut buffer, mut filled) = ([0; 4096], 0);
        loop {
            let length = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
            if length == 0 {
                return Err(format!("closed after {filled} bytes of an answer").into());
            }
            filled += length;
            let seen = buffer.get(..filled).unwrap_or_default();
            let Some(head) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            if !seen.starts_with(b"HTTP/1.1 200 ") {
                return Err(format!("unexpected answer: {}", String::from_utf8_lossy(seen)).into());
            }
            if filled >= head + 4 + self.body_bytes {
                return Ok(());
            }
        }
    }

    /// That many connections, made a few at a time, each from an address of its share.
    pub(crate) async fn hold(&self, count: usize, from: impl Fn(usize) -> Ipv4Addr) -> Result<Vec<Stream>, Failure> {
        const AT_ONCE: usize = 64;
        let (mut held, mut opening) = (Vec::with_capacity(count), JoinSet::new());
        for number in 0..count {
            let (target, from) = (self.clone(), from(number));
            opening.spawn(async move {
                let mut stream = target.connect(from).await?;
                target.ask(&mut stream).await?;
                Ok::<_, Failure>(stream)
            });
            if opening.len() >= AT_ONCE
                && let Some(one) = opening.join_next().await
            {
                held.push(one??);
            }
        }
        while let Some(one) = opening.join_next().await {
            held.push(one??);
        }
        Ok(held)
    }

    /// Asks on all these connections for that long, each again when it has its answer; gives how
    /// long each answer took.
    pub(crate) async fn during(&self, streams: &mut Vec<Stream>, time: Duration) -> Result<Vec<Duration>, Failure> {
        let (mut workers, begun) = (JoinSet::new(), Instant::now());
        for mut stream in streams.drain(..) {
            let target = self.clone();
            workers.spawn(async move {
                let mut latencies = Vec::new();
                while begun.elapsed() < time {
                    let asked = Instant::now();
                    target.ask(&mut stream).await?;
                    latencies.push(asked.elapsed());
                }
                Ok::<_, Failure>((stream, latencies))
            });
        }
        let mut all = Vec::new();
        while let Some(worker) = workers.join_next().await {
            let (stream, latencies) = worker??;
            streams.push(stream);
            all.extend(latencies);
        }
        Ok(all)
    }
}
