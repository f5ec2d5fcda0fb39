//! Reads more at once while more keeps coming.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio_util::io::poll_read_buf;

use crate::limits::READ_AHEAD_BYTES;

/// After how many reads in a row that got all they had room for it is worth it to read ahead.
const FULL_READS: u8 = 4;

/// A stream for TLS to stand on. TLS reads 4 KiB at a time, which is right for requests and four
/// system calls for each record of a file. So once a few reads were filled to the brim, this reads
/// larger pieces, and hands them out from memory. It holds memory only while bytes wait in it.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    ahead: BytesMut,
    full: u8,
}

impl<S> ReadAhead<S> {
    /// Reads from that stream.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: BytesMut::new(), full: 0 }
    }

    /// The stream that is read from. Bytes that wait here are not in it any more.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            if this.full < FULL_READS || buf.remaining() >= READ_AHEAD_BYTES {
                let (room, before) = (buf.remaining(), buf.filled().len());
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                let all = room > 0 && buf.filled().len() - before == room;
                this.full = if all { this.full.saturating_add(1).min(FULL_READS) } else { 0 };
                return Poll::Ready(Ok(()));
            }
            this.ahead = BytesMut::with_capacity(READ_AHEAD_BYTES);
            let read = poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.ahead);
            let Poll::Ready(Ok(length)) = read else {
                this.ahead = BytesMut::new();
                return read.map_ok(drop);
            };
            // Little at a time again: not worth a copy.
            if length < READ_AHEAD_BYTES / 16 {
                this.full = 0;
            }
        } else {
            // What lies in memory counts like a read of the stream, so that a connection that has much
            // to say gives way to others as often as it would without this.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let length = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..length).unwrap_or_default());
        this.ahead.advance(length);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// Counts the reads of what lies beneath.
    struct Counted<'a>(&'a [u8], usize);

    impl AsyncRead for Counted<'_> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    async fn read_by(pieces: usize, input: &[u8]) -> (Vec<u8>, usize, ReadAhead<Counted<'_>>) {
        let mut stream = ReadAhead::new(Counted(input, 0));
        let (mut out, mut piece) = (Vec::new(), vec![0; pieces]);
        loop {
            let length = stream.read(&mut piece).await.unwrap();
            if length == 0 {
                return (out, stream.get_ref().1, stream);
            }
            out.extend_from_slice(&piece[..length]);
        }
    }

    #[tokio::test]
    async fn much_is_read_in_few_pieces_and_nothing_is_lost() {
        let input: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        for pieces in [1, 4_095, 4_096, 18_437, 2 * READ_AHEAD_BYTES] {
            let (out, reads, stream) = read_by(pieces, &input).await;
            assert_eq!(out, input);
            assert!(reads <= input.len() / READ_AHEAD_BYTES + 8, "{reads} reads by {pieces}");
            assert_eq!(stream.ahead.capacity(), 0, "nothing is held at the end");
        }
    }

    #[tokio::test]
    async fn a_request_passes_without_a_buffer() {
        let (out, reads, stream) = read_by(4_096, &[7; 1_000]).await;
        assert_eq!((out.len(), reads, stream.full), (1_000, 2, 0));
    }
}
