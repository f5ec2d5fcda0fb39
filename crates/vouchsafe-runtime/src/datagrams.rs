//! UDP payloads between a socket and a stream of capsules (RFC 9297, RFC 9298), as CONNECT-UDP carries them from a
//! client to a gateway, and from there to a connector.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use vouchsafe_wire::capsule::{CapsuleReader, udp_payload, write_capsule};

/// Bytes that are read from a stream at once.
const READ_BYTES: usize = 16 * 1024;
/// "Message too long", the same number on every Linux.
const EMSGSIZE: i32 = 90;

/// Payloads out of a stream of capsules.
#[derive(Debug)]
pub struct Payloads<R> {
    stream: R,
    reader: CapsuleReader,
    buffer: Vec<u8>,
    /// What of the buffer is still to be looked at.
    left: std::ops::Range<usize>,
}

impl<R: AsyncRead + Unpin> Payloads<R> {
    /// Out of that stream.
    #[must_use]
    pub fn new(stream: R) -> Self {
        Self { stream, reader: CapsuleReader::default(), buffer: vec![0; READ_BYTES], left: 0..0 }
    }

    /// The next payload; `None` at the end of the stream. What is no UDP payload is passed over.
    ///
    /// # Errors
    /// The stream's, and for a datagram that no UDP packet could hold.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut input = self.buffer.get(self.left.clone()).unwrap_or_default();
            let found = self.reader.next(&mut input).map_err(io::Error::other)?;
            self.left.start = self.left.end.saturating_sub(input.len());
            match found {
                Some(mut datagram) => {
                    let Some(length) = udp_payload(&datagram).map(<[u8]>::len) else { continue };
                    drop(datagram.drain(..datagram.len().saturating_sub(length)));
                    return Ok(Some(datagram));
                }
                None => match self.stream.read(&mut self.buffer).await? {
                    0 => return Ok(None),
                    length => self.left = 0..length,
                },
            }
        }
    }
}

/// Writes a payload as a capsule; `scratch` is room that is used again.
///
/// # Errors
/// The stream's.
pub async fn write_payload(
    to: &mut (impl AsyncWrite + Unpin),
    scratch: &mut Vec<u8>,
    payload: &[u8],
) -> io::Result<()> {
    scratch.clear();
    write_capsule(scratch, payload);
    to.write_all(scratch).await?;
    to.flush().await
}

/// Sends a payload; says whether it left. One that is larger than the way allows is lost, like every datagram that is.
///
/// # Errors
/// The socket's: among them is what the peer's machine said of earlier ones (ICMP).
pub async fn send(socket: &UdpSocket, payload: &[u8]) -> io::Result<bool> {
    match socket.send(payload).await {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A socket that sends to one address and hears nobody else. It is never bound: the kernel picks its port, and a
/// process that may not listen may have it. Nothing is sent. Broadcast addresses are refused by the kernel.
///
/// # Errors
/// The kernel's.
pub fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Resolves when a count has stood still for that long.
pub async fn silence<C: PartialEq>(idle: Duration, count: impl Fn() -> C) {
    let mut seen = count();
    loop {
        tokio::time::sleep(idle).await;
        let now = count();
        if now == seen {
            return;
        }
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn payloads_come_out_as_they_went_in_and_nothing_else_does() {
        let (mut near, far) = tokio::io::duplex(64);
        let sizes = [0, 1, 63, 64, 1_200, 65_527];
        let writing = async {
            let mut scratch = Vec::new();
            for size in sizes {
                write_payload(&mut near, &mut scratch, &vec![7; size]).await.unwrap();
                // A capsule of another type, and a datagram of a context that nobody knows.
                near.write_all(&[0x17, 3, 1, 2, 3, 0, 2, 9, 9]).await.unwrap();
            }
            drop(near);
        };
        let reading = async {
            let mut payloads = Payloads::new(far);
            let mut found = Vec::new();
            while let Some(payload) = payloads.next().await.unwrap() {
                assert!(payload.iter().all(|byte| *byte == 7));
                found.push(payload.len());
            }
            found
        };
        let ((), found) = tokio::join!(writing, reading);
        assert_eq!(found, sizes);
        let mut too_long = Payloads::new(&[0, 0x80, 1, 0, 9, 0][..]);
        assert!(too_long.next().await.is_err());
    }

    #[tokio::test]
    async fn a_connected_socket_hears_its_peer_alone() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = connected(peer.local_addr().unwrap()).unwrap();
        assert!(send(&socket, b"question").await.unwrap());
        let mut buffer = [0; 16];
        let (_, from) = peer.recv_from(&mut buffer).await.unwrap();
        other.send_to(b"forged", from).await.unwrap();
        peer.send_to(b"answer", from).await.unwrap();
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"answer");
        // What no packet can hold is lost, and the flow goes on.
        assert!(!send(&socket, &vec![0; 65_536]).await.unwrap());
        assert!(connected("255.255.255.255:9".parse().unwrap()).is_err());
    }
}
