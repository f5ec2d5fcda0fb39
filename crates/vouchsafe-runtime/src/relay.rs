//! Bytes both ways between two streams, with half-close and backpressure.
//!
//! A direction has no buffer while nothing comes, so a silent tunnel costs next to nothing. When
//! something comes it takes all that is there before it writes, since a record of TLS or a frame of
//! HTTP/2 at a time would cost a system call each; what it takes at most grows while it is used up.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use crate::limits::{HALF_OPEN_IDLE, RELAY_BUFFER_BYTES, RELAY_FIRST_BYTES};

/// Bytes that went each way so far. Kept outside the relay, so that they are known also when it
/// is cut.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client to the upstream.
    pub inward: AtomicU64,
    /// From the upstream to the client.
    pub outward: AtomicU64,
}

impl Traffic {
    /// Bytes both ways.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.inward.load(Ordering::Relaxed).wrapping_add(self.outward.load(Ordering::Relaxed))
    }
}

/// Copies until both directions have ended. The end of one direction is passed on (half-close)
/// and the other goes on, as long as it is not silent for [`HALF_OPEN_IDLE`].
///
/// # Errors
/// The first failure of either stream, or that silence; the other direction is then given up.
pub async fn relay<C, U>(mut client: C, mut upstream: U, traffic: &Traffic) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut inward, mut outward) = (Direction::default(), Direction::default());
    let mut silence: Option<(u64, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        let first = inward.poll(cx, &mut client, &mut upstream, &traffic.inward)?;
        let second = outward.poll(cx, &mut upstream, &mut client, &traffic.outward)?;
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if first.is_pending() && second.is_pending() {
            return Poll::Pending;
        }
        let passed = traffic.inward.load(Ordering::Relaxed) + traffic.outward.load(Ordering::Relaxed);
        let (before, over) = silence.get_or_insert_with(|| (passed, Box::pin(tokio::time::sleep(HALF_OPEN_IDLE))));
        if *before != passed {
            *before = passed;
            over.as_mut().reset(Instant::now() + HALF_OPEN_IDLE);
        }
        ready!(over.as_mut().poll(cx));
        let words = "one direction ended and the other was silent";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, words)))
    })
    .await
}

/// One way of a relay.
#[derive(Debug)]
struct Direction {
    stage: Stage,
    /// What was read and not written yet.
    lot: BytesMut,
    /// Most that is read before it is written.
    most: usize,
    /// What was written may not have left yet.
    unflushed: bool,
}

#[derive(Debug)]
enum Stage {
    Copying,
    /// The source has ended or failed; what came before that is still written.
    Ending(io::Result<()>),
    Ended,
}

impl Default for Direction {
    fn default() -> Self {
        Self { stage: Stage::Copying, lot: BytesMut::new(), most: RELAY_FIRST_BYTES, unflushed: false }
    }
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, count: &AtomicU64) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.lot.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.lot))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.lot.advance(written);
                self.unflushed = true;
                count.fetch_add(written as u64, Ordering::Relaxed);
            }
            match &mut self.stage {
                Stage::Copying => {
                    if self.fill(cx, from).is_pending() {
                        // Nobody waits for more while what was written stands still.
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
                Stage::Ending(Err(error)) => {
                    let error = std::mem::replace(error, io::ErrorKind::Other.into());
                    return Poll::Ready(Err(error));
                }
                Stage::Ending(Ok(())) => {
                    match ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                        // The other side is gone already: nothing left to tell it.
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(error)),
                        Ok(()) | Err(_) => self.stage = Stage::Ended,
                    }
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Takes what there is, as far as there is room. Pending when there is nothing.
    fn fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<()> {
        // All of the last lot was written; this gives its room back, or makes some.
        self.lot = BytesMut::with_capacity(self.most);
        while self.lot.len() < self.most {
            match poll_read_buf(Pin::new(&mut *from), cx, &mut self.lot) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    self.stage = Stage::Ending(Ok(()));
                    return Poll::Ready(());
                }
                Poll::Ready(Err(error)) => {
                    self.stage = Stage::Ending(Err(error));
                    return Poll::Ready(());
                }
                Poll::Pending if self.lot.is_empty() => {
                    self.lot = BytesMut::new();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        self.most = match self.lot.len() {
            length if length >= self.most => (self.most * 4).min(RELAY_BUFFER_BYTES),
            length if length < self.most / 8 => (self.most / 2).max(RELAY_FIRST_BYTES),
            _ => self.most,
        };
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_half_open_tunnel_that_is_silent_ends() {
        let (client, client_far) = tokio::io::duplex(64);
        let (_upstream, upstream_far) = tokio::io::duplex(64);
        drop(client);
        let traffic = Traffic::default();
        let error = relay(client_far, upstream_far, &traffic).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn half_close_passes_and_the_answer_still_comes() {
        let (client, client_far) = tokio::io::duplex(64);
        let (upstream, upstream_far) = tokio::io::duplex(64);
        let traffic = Traffic::default();
        let server = async {
            let mut stream = upstream_far;
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            stream.write_all(&asked).await.unwrap();
        };
        let asker = async {
            let (mut read, mut write) = tokio::io::split(client);
            let question = vec![7; 100_000];
            write.write_all(&question).await.unwrap();
            write.shutdown().await.unwrap();
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, question);
        };
        let (result, (), ()) = tokio::join!(relay(client_far, upstream, &traffic), server, asker);
        result.unwrap();
        assert_eq!(traffic.inward.load(Ordering::Relaxed), 100_000);
        assert_eq!(traffic.outward.load(Ordering::Relaxed), 100_000);
    }

    /// Gives pieces, and then fails.
    struct Failing(u8);

    impl AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0 == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.0 -= 1;
            buf.put_slice(b"piece");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_came_before_a_failure_passes_and_then_it_fails() {
        let (mut upstream, upstream_far) = tokio::io::duplex(64);
        let traffic = Traffic::default();
        let error = relay(Failing(3), upstream_far, &traffic).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut passed = Vec::new();
        upstream.read_to_end(&mut passed).await.unwrap();
        assert_eq!(passed, b"piecepiecepiece");
        assert_eq!(traffic.inward.load(Ordering::Relaxed), 15);
    }

    #[tokio::test]
    async fn a_silent_direction_holds_no_buffer_and_a_busy_one_grows() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut direction = Direction::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(direction.fill(&mut cx, &mut near).is_pending());
        assert_eq!(direction.lot.capacity(), 0);
        far.write_all(&vec![1; 1 << 20]).await.unwrap();
        for expected in [RELAY_FIRST_BYTES, 4 * RELAY_FIRST_BYTES, RELAY_BUFFER_BYTES, RELAY_BUFFER_BYTES] {
            assert!(direction.fill(&mut cx, &mut near).is_ready());
            assert_eq!(direction.lot.len(), expected);
        }
    }
}
