//! A stream that counts what it receives, so that "not one byte of an answer came" can be known, and
//! that nothing but an answer's beginning comes before the answer (A271).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vouchsafe_runtime::limits::MAX_BEFORE_ANSWER_BYTES;

/// An upstream goes on with interim answers (1xx) instead of giving one.
#[derive(Debug, thiserror::Error)]
#[error("over {MAX_BEFORE_ANSWER_BYTES} bytes came before the answer")]
struct Flood;

/// Bytes that came on one connection.
#[derive(Debug)]
pub(super) struct Received {
    ever: AtomicU64,
    /// How many that may be before the connection fails.
    most: AtomicU64,
}

impl Default for Received {
    fn default() -> Self {
        Self { ever: AtomicU64::new(0), most: AtomicU64::new(u64::MAX) }
    }
}

impl Received {
    /// An exchange begins. Gives how many bytes ever came.
    pub(super) fn expect_answer(&self) -> u64 {
        let before = self.ever();
        self.most.store(before.saturating_add(MAX_BEFORE_ANSWER_BYTES), Ordering::Relaxed);
        before
    }

    /// The head of its answer is here; what follows is content, which has no limit.
    pub(super) fn answered(&self) {
        self.most.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) -> Result<(), Flood> {
        let ever = self.ever.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if ever > self.most.load(Ordering::Relaxed) { Err(Flood) } else { Ok(()) }
    }
}

pub(super) struct Counted<S> {
    inner: S,
    received: Arc<Received>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, received: Arc<Received>) -> Self {
        Self { inner, received }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let fresh = (buffer.filled().len() - before) as u64;
        Poll::Ready(self.received.add(fresh).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
