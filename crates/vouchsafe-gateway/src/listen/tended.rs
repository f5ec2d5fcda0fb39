//! A stream that HTTP/1.1 can be taken off and put on again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// A stream, with bytes that were read ahead of it, and whether all that was written has left.
#[derive(Debug)]
pub(super) struct Tended<S> {
    ahead: Bytes,
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Tended<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { ahead: Bytes::new(), stream, activity }
    }

    /// What goes on on this stream, from now on.
    pub(super) fn attend_anew(&self) -> Arc<Activity> {
        self.activity.begin_anew();
        Arc::clone(&self.activity)
    }

    /// Gives bytes back that were read and not used.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        let mut all = BytesMut::with_capacity(bytes.len() + self.ahead.len());
        all.extend_from_slice(bytes);
        all.extend_from_slice(&self.ahead);
        self.ahead = all.freeze();
    }

    /// Whether bytes wait that were read already.
    pub(super) fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tended<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(length);
        if self.ahead.is_empty() {
            // Lets the allocation go.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tended<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.activity.flushed.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
