//! TLS: the name that is asked for picks the certificate, and whether a device's is asked for.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{OwnHost, ProvenDevice};
use vouchsafe_runtime::tls::{self, CertificateRefusal};
use vouchsafe_wire::connector;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use crate::gateway::Shared;
use crate::names::{Names, Site};
use crate::route::Via;

/// Alert for a client that names no server (RFC 8446 §9.2).
const MISSING_EXTENSION: u8 = 109;
/// Alert for a client that names a server which we are not (RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;

#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("TLS")]
    Tls(#[from] std::io::Error),
    #[error("no name of ours was asked for")]
    Name,
    #[error("a public authority's question was answered")]
    Challenge,
}

impl HandshakeError {
    /// Why the client's certificate was refused, if that is what failed.
    pub(super) fn refusal(&self) -> Option<CertificateRefusal> {
        match self {
            HandshakeError::Tls(error) => CertificateRefusal::of(error),
            HandshakeError::Name | HandshakeError::Challenge => None,
        }
    }
}

pub(super) async fn handshake<S>(shared: &Shared, stream: S, via: Via) -> Result<Shaken<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let Some(host) = start.client_hello().server_name().map(str::to_ascii_lowercase) else {
        return Err(turned_away(start, MISSING_EXTENSION).await);
    };
    let Some(site) = shared.names.site(&host) else { return Err(turned_away(start, UNRECOGNIZED_NAME).await) };
    let offered: Vec<&[u8]> = start.client_hello().alpn().into_iter().flatten().collect();
    if via == Via::Network
        && let Some(config) = shared.certificates.challenge(&host, &offered)
    {
        // The certificate was all that was asked for; nothing is spoken on such a connection.
        drop(start.into_stream(config).await?);
        return Err(HandshakeError::Challenge);
    }
    if let (Via::Network, Site::Own(OwnHost::Gateway), [connector::ALPN], Some(config)) =
        (via, &site, &offered[..], &shared.certificates.connector)
    {
        return Ok(Shaken::Connector(start.into_stream(Arc::clone(config)).await?));
    }
    drop(offered);
    let Some(config) = config(shared, &site, via) else { return Err(turned_away(start, UNRECOGNIZED_NAME).await) };
    let stream = start.into_stream(Arc::clone(config)).await?;
    Ok(Shaken::Client(stream, host, site))
}

/// Who made a handshake.
pub(super) enum Shaken<S> {
    /// A client, which asks for something of that host.
    Client(TlsStream<S>, String, Site),
    /// Somebody who speaks a connector's protocol; whether it is one, is still to be looked at.
    Connector(TlsStream<S>),
}

/// Ends a handshake that there is no configuration for, with the alert that says so: rustls has one
/// of its own only once it has been given a configuration.
async fn turned_away<S: AsyncRead + AsyncWrite + Unpin>(start: StartHandshake<S>, alert: u8) -> HandshakeError {
    // Alert, in a record of version 1.2 as all are; fatal (RFC 8446 §5.1, §6).
    let record = [21, 3, 3, 0, 2, 2, alert];
    let mut stream = start.io;
    // A client that is gone needs no words.
    let _ = stream.write_all(&record).await;
    let _ = stream.shutdown().await;
    HandshakeError::Name
}

/// The TLS that a site is served with, on TCP and in QUIC; `None` where it is not served at all.
pub(super) fn config<'s>(shared: &'s Shared, site: &Site, via: Via) -> Option<&'s Arc<ServerConfig>> {
    match (site, via) {
        (Site::Own(OwnHost::Gateway | OwnHost::Api), Via::Network) => Some(&shared.certificates.device),
        // A tunnel inside a tunnel has no use, and would hide where a request comes from.
        (Site::Own(OwnHost::Gateway), Via::Tunnel) => None,
        (Site::Own(_) | Site::App(_) | Site::Nothing(_), _) => Some(&shared.certificates.browser),
    }
}

/// The device whose certificate was verified in this handshake, or in the one that this session was
/// resumed from. Whether it is still enrolled is asked before the first request.
pub(super) fn device_of<S>(stream: &TlsStream<S>, names: &Names) -> Result<Option<ProvenDevice>, CertificateRefusal> {
    device_of_leaf(stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()), names)
}

/// The device of the certificate that was verified in a handshake.
pub(super) fn device_of_leaf(
    leaf: Option<&CertificateDer<'_>>,
    names: &Names,
) -> Result<Option<ProvenDevice>, CertificateRefusal> {
    let Some(leaf) = leaf else { return Ok(None) };
    let peer = tls::proven_by(leaf, names.domain(), clock::now())?;
    match peer.identity {
        CertifiedIdentity::Device(id) => {
            Ok(Some(ProvenDevice { id, certificate_sha256: peer.sha256, not_after: peer.not_after }))
        }
        CertifiedIdentity::Gateway(_) | CertifiedIdentity::Controller(_) | CertifiedIdentity::Connector(_) => {
            Err(CertificateRefusal::Role)
        }
    }
}
