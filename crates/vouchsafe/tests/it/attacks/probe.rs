//! Exact bytes in HTTP/1.1, and frames in HTTP/2 and HTTP/3 that nothing checks before they are sent.

pub mod h3;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust};

use crate::world::{TestDevice, World};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to listen for more once there is an answer.
const MORE: Duration = Duration::from_millis(60);

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status of the first final answer; 0 when there was none.
    pub status: u16,
    /// Number of answers, interim ones not counted.
    pub answers: usize,
    /// HTTP/1.1: everything. HTTP/2 and HTTP/3: the body.
    pub text: String,
    /// The server closed the connection.
    pub closed: bool,
    /// HTTP/2: error code of RST_STREAM or GOAWAY. HTTP/3: that of the stream or connection.
    pub error: Option<u32>,
}

impl Answer {
    /// Value of a member of our problem details.
    fn member(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    }

    pub fn decision(&self) -> Option<&str> {
        self.member("decision")
    }

    pub fn reason(&self) -> Option<&str> {
        self.member("reason")
    }
}

/// TLS client settings that trust the installation.
pub fn config(world: &World, device: Option<&TestDevice>, alpn: &[&[u8]]) -> ClientConfig {
    let trust = ServerTrust::Roots(tls::roots(&world.root_pem, "root").expect("roots"));
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("readable");
    match device {
        None => tls::client(trust, None, alpn).expect("TLS"),
        Some(device) => {
            let (chain, key) = (read(device.certificate()), read(device.key()));
            tls::client(trust, Some(&Credentials { chain_pem: &chain, key_pem: &key }), alpn).expect("TLS")
        }
    }
}

pub async fn connect(world: &World, sni: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(world.address()).await?;
    let name = world.host(sni).try_into().expect("name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Sends exact bytes and gives what comes back.
pub async fn h1(world: &World, sni: &str, device: Option<&TestDevice>, bytes: &[u8]) -> Answer {
    let mut stream = connect(world, sni, config(world, device, &[b"http/1.1"])).await.expect("handshake");
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_h1(&mut stream).await
}

/// Sends exact bytes and gives what comes back until the server closes, for as long as that takes.
pub async fn h1_to_end(world: &World, sni: &str, device: Option<&TestDevice>, bytes: &[u8]) -> Answer {
    let mut stream = connect(world, sni, config(world, device, &[b"http/1.1"])).await.expect("handshake");
    let _ = stream.write_all(bytes).await;
    read_h1_with(&mut stream, crate::world::PATIENCE).await
}

pub async fn read_h1(stream: &mut TlsStream<TcpStream>) -> Answer {
    read_h1_with(stream, MORE).await
}

/// Reads until the server closes, or says nothing more for that long.
async fn read_h1_with(stream: &mut TlsStream<TcpStream>, more: Duration) -> Answer {
    let mut all = Vec::new();
    let mut closed = false;
    loop {
        let patience = if final_answers(&all).is_empty() { ANSWER } else { more };
        let mut buffer = [0; 16 * 1024];
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Err(_) => break,
            Ok(Ok(length @ 1..)) => all.extend_from_slice(&buffer[..length]),
            Ok(_) => {
                closed = true;
                break;
            }
        }
    }
    let statuses = final_answers(&all);
    Answer {
        status: statuses.first().copied().unwrap_or(0),
        answers: statuses.len(),
        text: String::from_utf8_lossy(&all).into_owned(),
        closed,
        error: None,
    }
}

fn final_answers(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let statuses = text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    statuses.filter(|status| *status >= 200 || *status == 101).collect()
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
/// Largest frame that every peer takes.
pub const MAX_FRAME: usize = 16_384;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// HPACK (RFC 7541 §6.2.2): each field literal, without indexing, without Huffman coding.
pub fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |text: &str, out: &mut Vec<u8>| {
        let mut length = text.len();
        if length < 127 {
            out.push(u8::try_from(length).expect("short"));
        } else {
            out.push(127);
            length -= 127;
            while length >= 128 {
                out.push(u8::try_from(length % 128).expect("small") | 0x80);
                length /= 128;
            }
            out.push(u8::try_from(length).expect("small"));
        }
        out.extend(text.bytes());
    };
    for (name, value) in fields {
        out.push(0);
        text(name, &mut out);
        text(value, &mut out);
    }
    out
}

/// Sends one request of exactly these fields. `body` of `None` ends the stream with the head.
pub async fn h2(
    world: &World,
    sni: &str,
    device: Option<&TestDevice>,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Answer {
    let mut stream = connect(world, sni, config(world, device, &[b"h2"])).await.expect("handshake");
    let _ = stream.write_all(&opening(fields, body)).await;
    let answered = tokio::time::timeout(ANSWER, read_h2(&mut stream)).await;
    answered.unwrap_or_else(|_| panic!("no answer in HTTP/2 to {fields:?}"))
}

/// The first bytes of a connection with one request.
pub fn opening(fields: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let end = if body.is_none() { END_STREAM } else { 0 };
    let block = hpack(fields);
    let mut parts = block.chunks(MAX_FRAME).peekable();
    let mut kind = (HEADERS, end);
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(frame(kind.0, kind.1 | last, 1, part));
        kind = (CONTINUATION, 0);
    }
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    bytes
}

/// Kinds of the frames that come, until one of this kind has.
pub async fn frames_until(stream: &mut TlsStream<TcpStream>, wanted: u8) -> Vec<u8> {
    let mut kinds = Vec::new();
    let reading = async {
        while kinds.last() != Some(&wanted) {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("small")];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let (kind, flags) = (head[3], head[4]);
            if matches!(kind, SETTINGS | PING) && flags & 1 == 0 {
                let payload = if kind == PING { payload } else { Vec::new() };
                let _ = stream.write_all(&frame(kind, 1, 0, &payload)).await;
            }
            kinds.push(kind);
        }
    };
    let _ = tokio::time::timeout(ANSWER, reading).await;
    kinds
}

pub async fn read_h2(stream: &mut TlsStream<TcpStream>) -> Answer {
    let mut answer = Answer::default();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            answer.closed = true;
            return answer;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("small")];
        if stream.read_exact(&mut payload).await.is_err() {
            answer.closed = true;
            return answer;
        }
        let (kind, flags) = (head[3], head[4]);
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            SETTINGS if flags & 1 == 0 => drop(stream.write_all(&frame(SETTINGS, 1, 0, &[])).await),
            PING if flags & 1 == 0 => drop(stream.write_all(&frame(PING, 1, 0, &payload)).await),
            HEADERS => {
                let status = status(&payload);
                if status >= 200 {
                    answer.status = status;
                    answer.answers += 1;
                }
            }
            DATA => answer.text.push_str(&String::from_utf8_lossy(&payload)),
            RST_STREAM => {
                answer.error = Some(code(0));
                return answer;
            }
            GOAWAY => {
                answer.error = Some(code(4));
                answer.closed = true;
                return answer;
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return answer;
        }
    }
}

/// `:status` is always the first field: one of the static table, or a literal of three digits.
fn status(block: &[u8]) -> u16 {
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    if let [byte @ 0x88..=0x8e, ..] = block {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)];
    }
    let length = usize::from(block[1] & 0x7f);
    let text = &block[2..2 + length];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(text).expect("digits").parse().expect("a number");
    }
    // Huffman codes of digits (RFC 7541, appendix B): 0 to 2 have five bits, 3 to 9 have six.
    let bits: Vec<u16> = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let (digit, width) = if short <= 2 { (short, 5) } else { (number(&bits[at..at + 6]) - 0x19 + 3, 6) };
        status = status * 10 + digit;
        at += width;
    }
    status
}
