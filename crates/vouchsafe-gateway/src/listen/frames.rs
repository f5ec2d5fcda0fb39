//! A bound on HTTP/2 frames that carry nothing.
//!
//! A flood of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, CONTINUATION or empty DATA costs
//! its sender a few bytes each and gets no answer that anybody waits for (A261, CVE-2019-9511 and
//! those after it). The library bounds the memory of each; this bounds their number, for all of them
//! and for kinds that don't exist yet: barren frames must be earned by time, by requests, or by bytes
//! that move. A connection that overdraws is closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vouchsafe_runtime::limits::{BARREN_FRAMES, BARREN_FRAMES_PER_SECOND};

use crate::listen::bucket::Bucket;

/// Bytes of the preface that opens each connection (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;
/// Payload that earns one barren frame: about as much as the WINDOW_UPDATE for it costs.
const EARNING_BYTES: u64 = 2_048;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// More frames that carry nothing than a client has a use for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a flood of HTTP/2 frames that carry nothing")]
pub(super) struct Flood;

/// Follows the frames of one direction and counts. It reads heads only, and checks nothing else.
#[derive(Debug)]
struct Meter {
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    head: [u8; HEAD_BYTES],
    filled: usize,
    budget: Bucket,
    /// Bytes that moved and have earned nothing yet.
    moved: u64,
}

impl Meter {
    fn new(now: Instant) -> Self {
        let budget = Bucket::full(BARREN_FRAMES, BARREN_FRAMES_PER_SECOND, now);
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES], filled: 0, budget, moved: 0 }
    }

    /// Bytes that the client sent.
    fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let (here, rest) = bytes.split_at((HEAD_BYTES - self.filled).min(bytes.len()));
            for (to, from) in self.head.iter_mut().skip(self.filled).zip(here) {
                *to = *from;
            }
            self.filled += here.len();
            bytes = rest;
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                self.frame(&now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: impl Fn() -> Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        let barren = match kind {
            DATA if length > 0 => {
                self.moved(u64::from(length));
                0
            }
            DATA => u32::from(flags & END_STREAM == 0),
            HEADERS => {
                self.budget.give(1);
                0
            }
            // A request that is taken back at once has earned nothing either.
            RST_STREAM => 2,
            _ => 1,
        };
        for _ in 0..barren {
            if !self.budget.take(now()) {
                return Err(Flood);
            }
        }
        Ok(())
    }

    /// Bytes that moved, in either direction.
    fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
        let earned = self.moved / EARNING_BYTES;
        if earned > 0 {
            self.moved %= EARNING_BYTES;
            self.budget.give(u32::try_from(earned).unwrap_or(u32::MAX));
        }
    }
}

/// A stream whose HTTP/2 frames are counted as they are read.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, meter: Meter::new(Instant::now()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            let fresh = buf.filled().get(before..).unwrap_or_default();
            if let Err(flood) = this.meter.received(fresh, Instant::now) {
                tracing::info!("an HTTP/2 connection is closed: {flood}");
                return Poll::Ready(Err(io::Error::other(flood)));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.meter.moved(length as u64);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(length)) = written {
            self.meter.moved(length as u64);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD_BYTES + length, 0xff);
        bytes
    }

    fn opened(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now).unwrap();
        meter
    }

    /// How many of these frames a new connection may send at once.
    fn endured(frame: &[u8]) -> u32 {
        let now = Instant::now();
        let mut meter = opened(now);
        (0..100_000).find(|_| meter.received(frame, || now).is_err()).unwrap_or(u32::MAX)
    }

    #[test]
    fn barren_frames_of_every_kind_come_to_an_end() {
        for kind in 0..=255 {
            let length = if kind == DATA { 0 } else { 8 };
            let expected = match kind {
                HEADERS => u32::MAX,
                RST_STREAM => BARREN_FRAMES / 2,
                _ => BARREN_FRAMES,
            };
            assert_eq!(endured(&frame(kind, 0, length)), expected, "kind {kind}");
        }
    }

    #[test]
    fn what_carries_something_goes_on_for_ever() {
        let request = [frame(HEADERS, 5, 40), frame(8, 0, 4)].concat();
        assert_eq!(endured(&request), u32::MAX);
        let upload = frame(DATA, 0, 1);
        assert_eq!(endured(&upload), u32::MAX);
        // Reset at once, it carried nothing.
        assert_eq!(endured(&[frame(HEADERS, 5, 40), frame(RST_STREAM, 0, 4)].concat()), BARREN_FRAMES - 1);
        // A download whose client opens the window for each 16 KiB.
        let now = Instant::now();
        let mut meter = opened(now);
        for _ in 0..100_000 {
            meter.moved(16 * 1024);
            meter.received(&[frame(8, 0, 4), frame(8, 0, 4)].concat(), || now).unwrap();
        }
    }

    #[test]
    fn frames_are_found_wherever_reads_split_them() {
        let bytes = [frame(4, 0, 6), frame(HEADERS, 5, 300), frame(DATA, 1, 0), frame(6, 0, 8)].concat();
        let now = Instant::now();
        for size in 1..40 {
            let mut meter = opened(now);
            for chunk in bytes.chunks(size) {
                meter.received(chunk, || now).unwrap();
            }
            assert_eq!((meter.skip, meter.filled), (0, 0), "in pieces of {size}");
            assert!(!meter.budget.is_untouched());
        }
    }

    #[test]
    fn time_earns_frames() {
        let start = Instant::now();
        let mut meter = opened(start);
        let ping = frame(6, 0, 8);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            for _ in 0..BARREN_FRAMES_PER_SECOND {
                meter.received(&ping, || now).unwrap();
            }
        }
    }
}
