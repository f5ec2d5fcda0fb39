//! A stream through a connector: bytes both ways, reset when it is dropped in its middle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vouchsafe_model::id::ConnectorId;
use vouchsafe_runtime::connect_stream::ConnectStream;

use super::Counted;

/// A stream through a connector.
pub(crate) struct Relayed {
    stream: ConnectStream,
    connector: ConnectorId,
    _counted: Counted,
}

impl Relayed {
    pub(super) fn new(stream: ConnectStream, connector: ConnectorId, counted: Counted) -> Self {
        Self { stream, connector, _counted: counted }
    }

    /// Through which one.
    pub(crate) fn connector(&self) -> ConnectorId {
        self.connector
    }
}

impl AsyncRead for Relayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Relayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
