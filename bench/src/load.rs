//! A closed-loop HTTP/1.1 client over mTLS: each connection sends its next request when it has read
//! the answer to the last. Every answer's status and length are checked.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

/// What one run gave.
pub(crate) struct Outcome {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Vec<Duration>,
}

/// Asks on that many connections for that long.
pub(crate) async fn run(
    target: &Target,
    connections: usize,
    length: Duration,
) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(target.server_name.clone())?;
        let mut stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, tcp).await?;
        ask(&mut stream, target).await?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for mut stream in streams {
        let target = target.clone();
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while begun.elapsed() < length {
                let asked = Instant::now();
                ask(&mut stream, &target).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    Ok(Outcome { requests: latencies.len(), elapsed: begun.elapsed(), latencies })
}

/// One request, its answer checked and read whole.
pub(crate) async fn ask(
    stream: &mut TlsStream<TcpStream>,
    target: &Target,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    stream.write_all(&target.request).await?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let length = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if length == 0 {
            return Err("the server closed the connection".into());
        }
        filled += length;
        let seen = buffer.get(..filled).unwrap_or_default();
        let Some(head) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        if !seen.starts_with(b"HTTP/1.1 200 ") {
            return Err(format!("unexpected answer: {}", String::from_utf8_lossy(seen)).into());
        }
        if filled >= head + 4 + target.body_bytes {
            return Ok(());
        }
    }
}
