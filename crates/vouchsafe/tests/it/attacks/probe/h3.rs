//! Frames in HTTP/3 that nothing checks before they are sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt};
use vouchsafe_wire::http3::{Frame, FrameReader, frame, setting, stream, write_head, write_settings};
use vouchsafe_wire::{qpack, varint};

use super::{Answer, config};
use crate::world::{TestDevice, World};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection of our own making.
pub struct Connection {
    pub quic: quinn::Connection,
    _endpoint: Endpoint,
    /// Open as long as the connection is, as it has to be.
    pub control: SendStream,
}

impl Connection {
    pub async fn open(world: &World, sni: &str, device: Option<&TestDevice>) -> Self {
        Self::open_with(world, sni, config(world, device, &[b"h3"])).await
    }

    /// With these settings of TLS.
    pub async fn open_with(world: &World, sni: &str, config: rustls::ClientConfig) -> Self {
        let (quic, _endpoint) = handshake(world, &world.host(sni), config).await.expect("QUIC");
        let mut control = quic.open_uni().await.expect("a stream");
        let mut opening = Vec::new();
        varint::write(&mut opening, stream::CONTROL);
        write_settings(&mut opening, &[(setting::H3_DATAGRAM, 1)]);
        control.write_all(&opening).await.expect("sent");
        Self { quic, _endpoint, control }
    }

    /// Opens a stream and sends these bytes on it; with an end or without.
    pub async fn stream(&self, bytes: &[u8], end: bool) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.quic.open_bi().await.expect("a stream");
        // A server that refuses early may stop it before it has read everything.
        let _ = send.write_all(bytes).await;
        if end {
            let _ = send.finish();
        }
        (send, recv)
    }

    /// Sends one request of exactly these bytes, and gives what comes back.
    pub async fn ask(&self, bytes: &[u8]) -> Answer {
        let (_send, mut recv) = self.stream(bytes, true).await;
        read(&mut recv).await
    }

    /// Sends bytes on a new stream of one direction.
    pub async fn unidirectional(&self, bytes: &[u8]) -> SendStream {
        let mut send = self.quic.open_uni().await.expect("a stream");
        let _ = send.write_all(bytes).await;
        send
    }

    /// The code that the server closes the connection with.
    pub async fn closed(&self) -> u64 {
        self.ended().await.unwrap_or_else(|| panic!("the code got lost"))
    }

    /// As [`Self::closed`]; none where the packet with the code got lost, and the server answered a later one
    /// with a stateless reset, as one does that doesn't know the connection any more (RFC 9000 §10.3).
    pub async fn ended(&self) -> Option<u64> {
        match tokio::time::timeout(ANSWER, self.quic.closed()).await.expect("closed in time") {
            ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            ConnectionError::Reset => None,
            other => panic!("closed otherwise: {other}"),
        }
    }

    /// Takes leave, so that the server needn't find out.
    pub fn leave(self) {
        self.quic.close(VarInt::from_u32(0x100), b"");
    }
}

/// A QUIC handshake for this name.
pub async fn handshake(
    world: &World,
    name: &str,
    config: rustls::ClientConfig,
) -> Result<(quinn::Connection, Endpoint), ConnectionError> {
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a UDP port");
    let tls = QuicClientConfig::try_from(Arc::new(config)).expect("TLS 1.3");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connecting = endpoint.connect(world.address(), name).expect("a name");
    let quic = tokio::time::timeout(ANSWER, connecting).await.expect("a handshake in time")?;
    Ok((quic, endpoint))
}

/// A HEADERS frame of exactly these fields.
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    headers_of_bytes(&fields)
}

pub fn headers_of_bytes(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    framed(frame::HEADERS, &qpack::encode(fields.iter().copied()))
}

/// One frame (RFC 9114 §7.1).
pub fn framed(kind: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_head(&mut out, kind, content.len());
    out.extend_from_slice(content);
    out
}

/// Sends one request of exactly these fields. `body` of `None` ends the stream with the head.
pub async fn h3(
    world: &World,
    sni: &str,
    device: Option<&TestDevice>,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Answer {
    let connection = Connection::open(world, sni, device).await;
    let mut bytes = headers(fields);
    if let Some(body) = body {
        bytes.extend(framed(frame::DATA, body));
    }
    let answer = connection.ask(&bytes).await;
    connection.leave();
    answer
}

/// Reads a stream to its end, however it ends.
pub async fn read(recv: &mut RecvStream) -> Answer {
    let (mut reader, mut input, mut answer) = (FrameReader::new(1 << 20), BytesMut::new(), Answer::default());
    loop {
        let read = tokio::time::timeout(ANSWER, recv.read_chunk(usize::MAX, true)).await;
        match read.unwrap_or_else(|_| panic!("no answer in HTTP/3: {answer:?}")) {
            Ok(Some(chunk)) => input.extend_from_slice(&chunk.bytes),
            Ok(None) => return answer,
            Err(ReadError::Reset(code)) => {
                answer.error = u32::try_from(code.into_inner()).ok();
                return answer;
            }
            Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close))) => {
                answer.error = u32::try_from(close.error_code.into_inner()).ok();
                answer.closed = true;
                return answer;
            }
            Err(error) => panic!("the stream ends otherwise: {error}"),
        }
        while let Some(frame) = reader.next(&mut input).expect("frames of ours") {
            match frame {
                Frame::Data(data) => answer.text.push_str(&String::from_utf8_lossy(&data)),
                Frame::Whole { kind: frame::HEADERS, content } => {
                    let fields = qpack::decode(&content, 1 << 20).expect("a section of ours");
                    let status = fields.iter().find(|field| field.name == b":status");
                    let status = status.map(|field| String::from_utf8_lossy(&field.value).parse().expect("a number"));
                    if let Some(status) = status.filter(|status| *status >= 200) {
                        answer.status = status;
                        answer.answers += 1;
                    }
                }
                Frame::Whole { kind, .. } => panic!("a frame of type {kind:#x}"),
            }
        }
    }
}
