//! The way to an upstream: dialled from here, or by a connector of the site that the resource is reached via.
//! Either way only for an admission, and broken off so that nobody takes a cut for an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_policy::Admission;

use crate::connectors::Relayed;
use crate::forward::dial::{self, DialError};
use crate::forward::udp::Upstream;
use crate::gateway::Shared;

/// An open way to an upstream.
pub(crate) enum Reached {
    /// Dialled from here.
    Direct(TcpStream),
    /// Dialled by a connector.
    Via(Relayed),
}

/// Opens the way to the upstream of the permitted resource.
pub(crate) async fn connect(shared: &Arc<Shared>, admission: &Admission) -> Result<Reached, DialError> {
    match &admission.resource().via {
        None => dial::connect(admission, &shared.resolver, &shared.own_ports).await.map(Reached::Direct),
        Some(site) => shared.connectors.open(admission, site).await.map(Reached::Via),
    }
}

/// Opens the way for datagrams to the upstream of the permitted `udp` resource.
pub(crate) async fn connect_udp(shared: &Arc<Shared>, admission: &Admission) -> Result<Upstream, DialError> {
    match &admission.resource().via {
        None => dial::connect_udp(admission, &shared.resolver, &shared.own_ports).await.map(Upstream::Direct),
        Some(site) => shared.connectors.open(admission, site).await.map(Upstream::via),
    }
}

impl Reached {
    /// The connector that dialled it.
    pub(crate) fn connector(&self) -> Option<ConnectorId> {
        match self {
            Reached::Direct(_) => None,
            Reached::Via(relayed) => Some(relayed.connector()),
        }
    }

    /// Ends it by a reset: the upstream must not take a cut or broken stream for a whole one.
    pub(crate) fn break_off(self) {
        match self {
            Reached::Direct(stream) => {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            // Dropped before its end it is reset, and its connector does the same to the upstream.
            Reached::Via(_) => {}
        }
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $what:expr) => {
        match $self.get_mut() {
            Reached::Direct($stream) => $what,
            Reached::Via($stream) => $what,
        }
    };
}

impl AsyncRead for Reached {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Reached {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Reached::Direct(stream) => stream.is_write_vectored(),
            Reached::Via(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
