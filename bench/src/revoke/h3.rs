//! As much of HTTP/3 as an upload without end needs, on the formats that the gateway has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, RecvStream, SendStream};
use rustls::ClientConfig;
use vouchsafe_wire::http3::{frame, stream, write_head, write_settings};
use vouchsafe_wire::{qpack, varint};

use crate::asking::Failure;

/// A connection, open as long as this is kept.
pub(crate) struct Connection {
    quic: quinn::Connection,
    _endpoint: Endpoint,
    _control: SendStream,
}

impl Connection {
    /// Opens one.
    pub(crate) async fn open(gateway: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Self, Failure> {
        let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)));
        let quic = endpoint.connect(gateway, name)?.await?;
        let mut control = quic.open_uni().await?;
        let mut opening = Vec::new();
        varint::write(&mut opening, stream::CONTROL);
        write_settings(&mut opening, &[]);
        control.write_all(&opening).await?;
        Ok(Self { quic, _endpoint: endpoint, _control: control })
    }

    /// Begins a POST.
    pub(crate) async fn upload(&self, authority: &str, path: &str, token: &str) -> Result<Upload, Failure> {
        let (mut send, recv) = self.quic.open_bi().await?;
        let proof = format!("Bearer {token}");
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
            ("proxy-authorization", &proof),
        ];
        let section = qpack::encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut bytes = Vec::new();
        write_head(&mut bytes, frame::HEADERS, section.len());
        bytes.extend_from_slice(&section);
        send.write_all(&bytes).await?;
        Ok(Upload { send, recv })
    }
}

/// A request whose body has no end.
pub(crate) struct Upload {
    send: SendStream,
    recv: RecvStream,
}

impl Upload {
    /// Sends a byte again and again until the stream ends.
    pub(crate) async fn keep_busy(mut self, every: Duration) {
        let mut piece = Vec::new();
        write_head(&mut piece, frame::DATA, 1);
        piece.push(b'x');
        let mut due = tokio::time::interval(every);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = async { while let Ok(Some(_)) = self.recv.read_chunk(4_096, true).await {} };
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => return,
                _ = due.tick() => {
                    if self.send.write_all(&piece).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
