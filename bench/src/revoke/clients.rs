//! All clients, as a process of their own: each flow is opened when it is asked for, and kept busy until it ends.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};

use super::h3;
use super::kind::{Carrier, Kind};
use crate::asking::Failure;
use crate::say;

type Result<T> = std::result::Result<T, Failure>;

/// Flows that are being opened at the same time.
const AT_ONCE: usize = 64;
/// Longest that opening one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams on one connection of HTTP/2 or HTTP/3, within the gateway's 128.
const STREAMS: usize = 100;

/// The installation, as its clients know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    /// PEM of its root.
    pub(crate) root: String,
    pub(crate) domain: String,
    pub(crate) port: u16,
    pub(crate) people: Vec<Identity>,
}

/// Certificate and key of somebody's device, PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Flows to open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Of each person, by her number.
    pub(crate) tokens: BTreeMap<usize, String>,
    pub(crate) flows: Vec<Flow>,
}

/// One flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) number: u64,
    pub(crate) kind: String,
    pub(crate) person: usize,
    pub(crate) gateway: SocketAddr,
    /// Milliseconds between two bytes.
    pub(crate) every: u64,
}

/// Reads a [`Place`], then an [`Order`] a line, each answered with how many of its flows could not be opened and why.
pub(crate) fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut lines = std::io::stdin().lock().lines();
    let place: Place = serde_json::from_str(&lines.next().ok_or("no place")??)?;
    let clients = Arc::new(Clients::new(place).map_err(|error| error.to_string())?);
    for line in lines {
        let order: Order = serde_json::from_str(&line?)?;
        let failures = runtime.block_on(clients.carry_out(order));
        let why: Vec<&String> = failures.iter().take(5).collect();
        say(&json!({"failed": failures.len(), "why": why}))?;
    }
    Ok(())
}

/// Shared connections, by person, gateway, carrier and number.
type Key = (usize, SocketAddr, usize);

struct Clients {
    place: Place,
    configs: Vec<[Arc<rustls::ClientConfig>; 3]>,
    h2: Mutex<BTreeMap<Key, Arc<Mutex<Option<h2::client::SendRequest<Bytes>>>>>>,
    h3: Mutex<BTreeMap<Key, Arc<Mutex<Option<Arc<h3::Connection>>>>>>,
    /// Streams that each of these has.
    places: Mutex<BTreeMap<(usize, SocketAddr, bool), usize>>,
    tasks: TaskGroup,
}

impl Clients {
    fn new(place: Place) -> Result<Self> {
        let mut configs = Vec::new();
        for person in &place.people {
            let own = Credentials { chain_pem: &person.chain, key_pem: &person.key };
            let config = |alpn: &[u8]| -> Result<_> {
                let trust = ServerTrust::Roots(tls::roots(&place.root, "bench")?);
                Ok(Arc::new(tls::client(trust, Some(&own), &[alpn])?))
            };
            configs.push([config(b"http/1.1")?, config(b"h2")?, config(b"h3")?]);
        }
        let (h2, h3, places, tasks) = Default::default();
        Ok(Self { place, configs, h2, h3, places, tasks })
    }

    /// Opens them, some at a time; gives why those failed that did.
    async fn carry_out(self: &Arc<Self>, order: Order) -> Vec<String> {
        let (turns, mut opening) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for flow in order.flows {
            let (clients, turns) = (Arc::clone(self), Arc::clone(&turns));
            let token = order.tokens.get(&flow.person).cloned().unwrap_or_default();
            opening.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let opened = tokio::time::timeout(PATIENCE, clients.open(&flow, &token)).await;
                let failed = match opened {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "not within a minute".to_owned(),
                };
                Some(format!("{} {}: {failed}", flow.kind, flow.number))
            });
        }
        opening.join_all().await.into_iter().flatten().collect()
    }

    fn gateway_name(&self) -> String {
        format!("gw.{}", self.place.domain)
    }

    fn config(&self, person: usize, carrier: Carrier) -> Result<Arc<rustls::ClientConfig>> {
        let configs = self.configs.get(person).ok_or("nobody has that number")?;
        let [http1, http2, http3] = configs;
        Ok(Arc::clone(match carrier {
            Carrier::Http1 => http1,
            Carrier::Http2 => http2,
            Carrier::Http3 => http3,
        }))
    }

    async fn open(self: &Arc<Self>, flow: &Flow, token: &str) -> Result<()> {
        let kind = Kind::of_name(&flow.kind).ok_or("no such kind")?;
        match kind.carrier() {
            Carrier::Http1 => self.open_http1(kind, flow, token).await,
            Carrier::Http2 => self.open_http2(kind, flow, token).await,
            Carrier::Http3 => self.open_http3(kind, flow, token).await,
        }
    }

    async fn secure(&self, flow: &Flow, carrier: Carrier) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(flow.gateway).await?;
        tcp.set_nodelay(true)?;
        let config = self.config(flow.person, carrier)?;
        Ok(TlsConnector::from(config).connect(ServerName::try_from(self.gateway_name())?, tcp).await?)
    }

    async fn open_http1(self: &Arc<Self>, kind: Kind, flow: &Flow, token: &str) -> Result<()> {
        let mut stream = self.secure(flow, Carrier::Http1).await?;
        let host = format!("{}.{}", kind.resource(), self.place.domain);
        let (port, path) = (self.place.port, path(flow));
        let proof = format!("Proxy-Authorization: Bearer {token}\r\n");
        if kind.tunnels() {
            let head = format!("CONNECT {host}:7 HTTP/1.1\r\nHost: {host}:7\r\n{proof}\r\n");
            stream.write_all(head.as_bytes()).await?;
            expect(&mut stream, "200").await?;
            stream.write_all(&inner_head(flow)).await?;
        } else {
            let method = if kind == Kind::Upload || kind == Kind::ViaHttp { "POST" } else { "GET" };
            let more = match kind {
                Kind::Upload | Kind::ViaHttp => "Transfer-Encoding: chunked\r\n",
                Kind::WebSocket => {
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                }
                _ => "",
            };
            let head =
                format!("{method} http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{proof}{more}\r\n");
            stream.write_all(head.as_bytes()).await?;
            match kind {
                Kind::WebSocket => expect(&mut stream, "101").await?,
                Kind::Download | Kind::Events => expect(&mut stream, "200").await?,
                // Answered when the body ends, so never.
                _ => {}
            }
        }
        let piece: &'static [u8] = match kind {
            Kind::WebSocket => &[0x82, 0x81, 1, 2, 3, 4, b'x' ^ 1],
            Kind::Upload | Kind::ViaHttp => b"1\r\nx\r\n",
            _ => b"x",
        };
        let (kind, every) = (kind, Duration::from_millis(flow.every));
        self.tasks.spawn("flow", async move { keep_busy(stream, kind.client_sends(), piece, every).await });
        Ok(())
    }

    /// Which of somebody's shared connections the next stream goes on.
    async fn slot(&self, flow: &Flow, http3: bool) -> usize {
        let mut places = self.places.lock().await;
        let taken = places.entry((flow.person, flow.gateway, http3)).or_default();
        *taken += 1;
        (*taken - 1) / STREAMS
    }

    async fn open_http2(self: &Arc<Self>, kind: Kind, flow: &Flow, token: &str) -> Result<()> {
        let slot = self.slot(flow, false).await;
        let shared = Arc::clone(self.h2.lock().await.entry((flow.person, flow.gateway, slot)).or_default());
        let mut sender = {
            let mut shared = shared.lock().await;
            match shared.as_ref() {
                Some(sender) => sender.clone(),
                None => {
                    let (sender, connection) = h2::client::handshake(self.secure(flow, Carrier::Http2).await?).await?;
                    self.tasks.spawn("connection", async move { drop(connection.await) });
                    shared.insert(sender).clone()
                }
            }
        };
        std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
        let host = format!("{}.{}", kind.resource(), self.place.domain);
        let request = match kind.tunnels() {
            true => http::Request::connect(format!("{host}:7")),
            false => http::Request::post(format!("https://{host}:{}{}", self.place.port, path(flow))),
        };
        let request = request.header("proxy-authorization", format!("Bearer {token}")).body(())?;
        let (answer, mut send) = sender.send_request(request, false)?;
        let every = Duration::from_millis(flow.every);
        if kind.tunnels() {
            let answer = answer.await?;
            if answer.status() != 200 {
                return Err(format!("answered {}", answer.status()).into());
            }
            send.send_data(inner_head(flow).into(), false)?;
            self.tasks.spawn("flow", async move {
                let mut body = answer.into_body();
                let ended = async { while let Some(Ok(_)) = body.data().await {} };
                send_until(send, every, ended).await;
            });
        } else {
            // Answered when the body ends, so never.
            self.tasks.spawn("flow", async move { send_until(send, every, async { drop(answer.await) }).await });
        }
        Ok(())
    }

    async fn open_http3(self: &Arc<Self>, kind: Kind, flow: &Flow, token: &str) -> Result<()> {
        let slot = self.slot(flow, true).await;
        let shared = Arc::clone(self.h3.lock().await.entry((flow.person, flow.gateway, slot)).or_default());
        let connection = {
            let mut shared = shared.lock().await;
            match shared.as_ref() {
                Some(connection) => Arc::clone(connection),
                None => {
                    let config = self.config(flow.person, Carrier::Http3)?;
                    let opened = h3::Connection::open(flow.gateway, &self.gateway_name(), config).await?;
                    Arc::clone(shared.insert(Arc::new(opened)))
                }
            }
        };
        let authority = format!("{}.{}:{}", kind.resource(), self.place.domain, self.place.port);
        let upload = connection.upload(&authority, &path(flow), token).await?;
        let every = Duration::from_millis(flow.every);
        self.tasks.spawn("flow", async move {
            let _connection = connection;
            upload.keep_busy(every).await;
        });
        Ok(())
    }
}

/// What tells the upstream which flow it is.
fn path(flow: &Flow) -> String {
    format!("/{}/{}/{}", flow.kind, flow.number, flow.every)
}

/// The same for a tunnel, where nobody else writes a head.
fn inner_head(flow: &Flow) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\n\r\n", path(flow)).into_bytes()
}

/// Reads the head of an answer, which must have that status.
async fn expect(stream: &mut (impl AsyncRead + Unpin), status: &str) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > 16 * 1024 {
            return Err("an answer without end".into());
        }
    }
    if head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()) {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned().into())
}

/// Sends a piece again and again, and reads what comes, until the other side ends it.
async fn keep_busy<S>(stream: S, sends: bool, piece: &[u8], every: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = [0; 4_096];
    loop {
        tokio::select! {
            read = read.read(&mut buffer) => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            },
            _ = due.tick(), if sends => {
                if write.write_all(piece).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Sends a byte again and again until the stream ends.
async fn send_until(mut send: h2::SendStream<Bytes>, every: Duration, ended: impl Future<Output = ()>) {
    let mut ended = std::pin::pin!(ended);
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut ended => return,
            _ = due.tick() => {
                if send.send_data(Bytes::from_static(b"x"), false).is_err() {
                    return;
                }
            }
        }
    }
}
