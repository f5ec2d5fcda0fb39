//! TLS in QUIC, by the name that is asked for.
//!
//! QUIC libraries want a TLS configuration before the client has said for whom it comes, but whether
//! a client certificate is asked for depends on just that: a browser that is asked shows a prompt.
//! So a connection begins with a session that only listens. When the ClientHello is whole, its name
//! picks the configuration by the same rules as on TCP, and everything after goes to that one.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::NamedGroup;
use rustls::server::{Acceptor, NoServerSessionStorage, ProducesTickets};
use vouchsafe_wire::hello::{Hello, HelloError, group_of_server_hello};

use crate::gateway::Shared;
use crate::listen::handshake;
use crate::route::Via;

/// What a handshake in QUIC ended with.
pub(super) struct Handshaken {
    /// Name that the client asked for.
    pub(super) name: Option<String>,
    /// Group that the key was agreed on with.
    pub(super) group: Option<NamedGroup>,
}

/// Starts sessions that pick their configuration by name.
pub(super) struct ByName {
    shared: Arc<Shared>,
    /// Knows the keys that every version of QUIC begins with; they are the same for all names.
    initial: Arc<QuicServerConfig>,
}

impl ByName {
    pub(super) fn new(shared: Arc<Shared>) -> Option<Self> {
        let initial = for_quic(&shared.certificates.browser)?;
        Some(Self { shared, initial })
    }

    /// The configuration for the name in a whole ClientHello.
    fn choose(&self, hello: &Hello) -> Option<Arc<QuicServerConfig>> {
        let mut acceptor = Acceptor::default();
        let records = hello.records()?;
        let mut records = records.as_slice();
        while !records.is_empty() {
            acceptor.read_tls(&mut records).ok()?;
        }
        let accepted = acceptor.accept().ok()??;
        let host = accepted.client_hello().server_name()?.to_ascii_lowercase();
        let site = self.shared.names.site(&host)?;
        for_quic(handshake::config(&self.shared, &site, Via::Network)?)
    }
}

/// The same rules, for QUIC: `h3` is all that is spoken, and there is no resumption, so that nothing
/// is ever sent before the handshake is over (A047) and each connection proves its device anew.
fn for_quic(config: &rustls::ServerConfig) -> Option<Arc<QuicServerConfig>> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(NoTickets);
    QuicServerConfig::try_from(Arc::new(config)).ok().map(Arc::new)
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl ServerConfig for ByName {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let listening = Arc::clone(&self.initial).start_session(version, params);
        let hello = Some(Hello::default());
        Box::new(Named { by: self, version, params: *params, hello, group: None, inner: listening })
    }
}

/// A session that listens for a name (`hello` is some), and then is the session for that name.
struct Named {
    by: Arc<ByName>,
    version: u32,
    params: TransportParameters,
    hello: Option<Hello>,
    /// That the key is agreed on with, once our ServerHello was written.
    group: Option<NamedGroup>,
    /// Before there is a name this one never gets a byte; it answers what every session can.
    inner: Box<dyn Session>,
}

fn refused(code: TransportErrorCode, reason: &str) -> TransportError {
    TransportError { reason: reason.to_owned(), ..code.into() }
}

impl Session for Named {
    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Some(mut hello) = self.hello.take() else { return self.inner.read_handshake(buf) };
        let whole = hello.add(buf).map_err(|error| {
            let code = match error {
                HelloError::Other => TransportErrorCode::PROTOCOL_VIOLATION,
                HelloError::TooLong => TransportErrorCode::CRYPTO_BUFFER_EXCEEDED,
            };
            refused(code, &error.to_string())
        })?;
        if !whole {
            self.hello = Some(hello);
            return Ok(false);
        }
        let chosen = self.by.choose(&hello);
        let chosen =
            chosen.ok_or_else(|| refused(TransportErrorCode::CONNECTION_REFUSED, "no name of ours was asked for"))?;
        self.inner = chosen.start_session(self.version, &self.params);
        self.inner.read_handshake(hello.bytes())
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let data = self.inner.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Some(Box::new(Handshaken { name: data.server_name, group: self.group }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // Never: there is no early data here (A047).
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match self.hello {
            Some(_) => None,
            None => {
                let before = buf.len();
                let keys = self.inner.write_handshake(buf);
                // The ServerHello is the first that we write, or the first after a HelloRetryRequest; whatever is written
                // later begins with another message.
                let group = buf.get(before..).and_then(group_of_server_hello);
                self.group = group.map(NamedGroup::from).or(self.group);
                keys
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
