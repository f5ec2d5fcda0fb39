//! TLS: the name that is asked for picks the certificate, and whether a device's is asked for.

use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{OwnHost, ProvenDevice};
use vouchsafe_runtime::tls::{self, CertificateRefusal};
use vouchsafe_wire::spiffe::CertifiedIdentity;

use crate::gateway::Shared;
use crate::names::{Names, Site};
use crate::route::Via;

#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("TLS")]
    Tls(#[from] std::io::Error),
    #[error("no name of ours was asked for")]
    Name,
}

impl HandshakeError {
    /// Why the client's certificate was refused, if that is what failed.
    pub(super) fn refusal(&self) -> Option<CertificateRefusal> {
        match self {
            HandshakeError::Tls(error) => CertificateRefusal::of(error),
            HandshakeError::Name => None,
        }
    }
}

pub(super) async fn handshake<S>(
    shared: &Shared,
    stream: S,
    via: Via,
) -> Result<(TlsStream<S>, String, Site), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let host = start.client_hello().server_name().map(str::to_ascii_lowercase).ok_or(HandshakeError::Name)?;
    let site = shared.names.site(&host).ok_or(HandshakeError::Name)?;
    let config = match (&site, via) {
        (Site::Own(OwnHost::Gateway | OwnHost::Api), Via::Network) => &shared.certificates.device,
        // A tunnel inside a tunnel has no use, and would hide where a request comes from.
        (Site::Own(OwnHost::Gateway), Via::Tunnel) => return Err(HandshakeError::Name),
        (Site::Own(_) | Site::App(_) | Site::Nothing(_), _) => &shared.certificates.browser,
    };
    let stream = start.into_stream(Arc::clone(config)).await?;
    Ok((stream, host, site))
}

/// The device whose certificate was verified in this handshake, or in the one that this session was
/// resumed from. Whether it is still enrolled is asked before the first request.
pub(super) fn device_of<S>(stream: &TlsStream<S>, names: &Names) -> Result<Option<ProvenDevice>, CertificateRefusal> {
    let Some(peer) = tls::proven_client(stream.get_ref().1, names.domain(), clock::now())? else { return Ok(None) };
    match peer.identity {
        CertifiedIdentity::Device(id) => {
            Ok(Some(ProvenDevice { id, certificate_sha256: peer.sha256, not_after: peer.not_after }))
        }
        CertifiedIdentity::Gateway(_) => Err(CertificateRefusal::Role),
    }
}
