//! HTTP/3: QUIC on the UDP port of the same number, and on it the same requests as everywhere.
//!
//! [`names`] picks TLS by the name that is asked for; `connection` and `request` speak HTTP/3 and
//! hand each request to `route`, as the listener of HTTP/1.1 and HTTP/2 does
//! ([decision 0012](../../../../docs/decisions/0012-http3-and-connect-udp.md)).

mod barren;
mod connection;
mod names;
mod request;
mod stream;
mod takers;
mod turns;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use vouchsafe_model::address;
use vouchsafe_runtime::limits::{
    HANDSHAKE_TIMEOUT, MAX_H3_DATAGRAM_BYTES, MAX_H3_STREAMS, MAX_QUIC_HANDSHAKES, QUIC_IDLE_TIMEOUT,
    QUIC_WAITING_BYTES, QUIC_WAITING_BYTES_OF_ALL,
};
use vouchsafe_runtime::tls::Negotiated;
use vouchsafe_wire::http3::code;

use self::names::Handshaken;
use self::turns::{Arriving, InTurn};
use crate::decide::Shown;
use crate::gateway::Shared;
use crate::listen::handshake;
use crate::route::{Connection, Familiar, Via};

/// Binds the UDP port. Nothing is accepted before [`accept`].
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    if address.is_ipv6() && !address.ip().is_unspecified() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Accepts until the drain begins, then waits until the last connection has told its peer.
pub(crate) async fn accept(shared: Arc<Shared>, socket: std::net::UdpSocket) {
    let endpoint = match endpoint(&shared, socket) {
        Ok(endpoint) => endpoint,
        Err(error) => return tracing::error!(%error, "HTTP/3 can't be served"),
    };
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shared.tasks.draining() => break,
        };
        let Some(incoming) = incoming else { break };
        admit(&shared, incoming);
    }
    // New clients are turned away from here on; what is open ends in order.
    endpoint.set_server_config(None);
    endpoint.wait_idle().await;
}

fn endpoint(shared: &Arc<Shared>, socket: std::net::UdpSocket) -> io::Result<Endpoint> {
    let tls = names::ByName::new(Arc::clone(shared)).ok_or_else(|| io::Error::other("TLS can't be set up for QUIC"))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(MAX_QUIC_HANDSHAKES)
        .incoming_buffer_size(QUIC_WAITING_BYTES)
        .incoming_buffer_size_total(QUIC_WAITING_BYTES_OF_ALL)
        // The address is part of what is decided on; a connection that moves is another connection.
        .migration(false);
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(InTurn(shared.turnstile.clone())))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_H3_STREAMS))
        // Control, QPACK encoder and decoder, and a few that we know nothing of.
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .stream_receive_window(VarInt::from_u32(1 << 20))
        .receive_window(VarInt::from_u32(4 << 20))
        .send_window(4 << 20)
        .datagram_receive_buffer_size(Some(MAX_H3_DATAGRAM_BYTES))
        .datagram_send_buffer_size(MAX_H3_DATAGRAM_BYTES)
        .max_idle_timeout(Some(VarInt::from_u32(QUIC_IDLE_TIMEOUT).into()))
        .keep_alive_interval(Some(Duration::from_secs(30)));
    transport
}

fn admit(shared: &Arc<Shared>, incoming: Incoming) {
    let ip = address::of_client(incoming.remote_address().ip());
    // A client first shows that it is where it says it is (RFC 9000 §8.1.2). So a forger gets less
    // than he sends, where the library alone would send a packet more than three times as much, and
    // nobody fills another's share of the census.
    if !incoming.remote_address_validated() {
        if let Err(error) = incoming.retry() {
            error.into_incoming().ignore();
        }
        return;
    }
    let Some(place) = shared.census.enter(ip, Instant::now()) else {
        tracing::debug!(%ip, "too many connections; one is refused");
        return incoming.refuse();
    };
    let serving = Arc::clone(shared);
    shared.tasks.spawn("quic connection", async move {
        let arriving = async { Arriving::accept(&serving.turnstile, incoming).await?.arrive().await };
        let quic = match tokio::time::timeout(HANDSHAKE_TIMEOUT, arriving).await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => return tracing::debug!(%ip, %error, "QUIC handshake failed"),
            Err(_) => return tracing::debug!(%ip, "QUIC handshake took too long"),
        };
        let data = quic.handshake_data().and_then(|data| data.downcast::<Handshaken>().ok());
        let (name, group) = data.map_or((None, None), |data| (data.name, data.group));
        let host = name.map(|name| name.to_ascii_lowercase());
        let Some((host, site)) = host.and_then(|host| serving.names.site(&host).map(|site| (host, site))) else {
            return quic.close(VarInt::from_u32(code::INTERNAL_ERROR), &[]);
        };
        let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let device = match handshake::device_of_leaf(chain.as_ref().and_then(|chain| chain.first()), &serving.names) {
            Ok(device) => device,
            Err(why) => {
                tracing::info!(%ip, %why, "a client certificate is refused");
                return quic.close(VarInt::from_u32(code::GENERAL_PROTOCOL_ERROR), &[]);
            }
        };
        place.arrived(device.as_ref().map(|device| device.id));
        let connection = Arc::new(Connection {
            ip,
            host,
            site,
            device,
            via: Via::Network,
            place,
            shown: Shown::new(ip, Negotiated::in_quic(group)),
            // Of HTTP/1.1 alone.
            framing: Arc::default(),
            familiar: Familiar::default(),
        });
        connection::serve(serving, quic, connection).await;
    });
}
