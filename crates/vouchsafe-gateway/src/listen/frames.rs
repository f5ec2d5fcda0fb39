//! A bound on HTTP/2 frames that carry nothing.
//!
//! A flood of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, CONTINUATION or empty DATA costs
//! its sender a few bytes each and gets no answer that anybody waits for (A261, CVE-2019-9511 and
//! those after it). The library bounds the memory of each; this bounds their number, for all of them
//! and for kinds that don't exist yet: barren frames must be earned by time, by requests, or by bytes
//! that move. A connection that overdraws is closed.
//!
//! Of an upstream's frames only HEADERS are counted: any number of interim answers (1xx) may come
//! before an answer, and each is something to decode and to keep until it is dropped (A271).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vouchsafe_runtime::limits::{
    BARREN_FRAMES, BARREN_FRAMES_PER_SECOND, EARNING_BYTES, UPSTREAM_HEADS, UPSTREAM_HEADS_PER_REQUEST,
    UPSTREAM_HEADS_PER_SECOND,
};

use crate::listen::bucket::Bucket;

/// Bytes of the preface that opens each connection (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// More frames than there is a use for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Flood {
    #[error("a flood of HTTP/2 frames that carry nothing")]
    Barren,
    #[error("a flood of HTTP/2 heads that are no answer")]
    Heads,
}

/// Requests sent to an upstream on one connection that have earned nothing yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<AtomicU32>);

impl Requests {
    /// One more is sent.
    pub(crate) fn sent(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whose frames are followed.
#[derive(Debug)]
enum Sender {
    Client,
    Upstream(Requests),
}

/// Follows the frames of one direction and counts. It reads heads only, and checks nothing else.
#[derive(Debug)]
struct Meter {
    sender: Sender,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    head: [u8; HEAD_BYTES],
    filled: usize,
    budget: Bucket,
    /// Bytes that moved and have earned nothing yet.
    moved: u64,
}

impl Meter {
    fn new(sender: Sender, now: Instant) -> Self {
        let (skip, budget) = match sender {
            Sender::Client => (PREFACE_BYTES, Bucket::full(BARREN_FRAMES, BARREN_FRAMES_PER_SECOND, now)),
            // A server begins with a frame.
            Sender::Upstream(_) => (0, Bucket::full(UPSTREAM_HEADS, UPSTREAM_HEADS_PER_SECOND, now)),
        };
        Self { sender, skip, head: [0; HEAD_BYTES], filled: 0, budget, moved: 0 }
    }

    /// Bytes that came.
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
        let (cost, flood) = match &self.sender {
            Sender::Client => (self.cost(kind, flags, length), Flood::Barren),
            Sender::Upstream(requests) => {
                let sent = requests.0.swap(0, Ordering::Relaxed);
                self.budget.give(sent.saturating_mul(UPSTREAM_HEADS_PER_REQUEST));
                (u32::from(kind == HEADERS), Flood::Heads)
            }
        };
        if cost > 0 && !self.budget.take_many(cost, now()) {
            return Err(flood);
        }
        Ok(())
    }

    /// What a client's frame costs; what it earns is given at once.
    fn cost(&mut self, kind: u8, flags: u8, length: u32) -> u32 {
        match kind {
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
        }
    }

    /// Bytes that moved, in either direction; an upstream earns nothing by them.
    fn moved(&mut self, bytes: u64) {
        if let Sender::Upstream(_) = self.sender {
            return;
        }
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
pub(crate) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    /// A client's frames.
    pub(super) fn client(stream: S) -> Self {
        Self { stream, meter: Meter::new(Sender::Client, Instant::now()) }
    }

    /// An upstream's, which is sent these requests.
    pub(crate) fn upstream(stream: S, requests: Requests) -> Self {
        Self { stream, meter: Meter::new(Sender::Upstream(requests), Instant::now()) }
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
        let mut meter = Meter::new(Sender::Client, now);
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
    fn a271_an_upstreams_heads_are_earned_by_requests_and_time() {
        let now = Instant::now();
        let requests = Requests::default();
        let mut meter = Meter::new(Sender::Upstream(requests.clone()), now);
        let (head, ping) = (frame(HEADERS, 4, 20), frame(6, 0, 8));
        for _ in 0..UPSTREAM_HEADS {
            meter.received(&head, || now).unwrap();
        }
        // Other frames are the library's affair, and bytes earn nothing.
        meter.received(&ping, || now).unwrap();
        meter.moved(1 << 30);
        meter.received(&frame(DATA, 0, 1 << 20), || now).unwrap();
        assert_eq!(meter.received(&head, || now), Err(Flood::Heads));
        let mut meter = Meter::new(Sender::Upstream(requests.clone()), now);
        for _ in 0..100_000 {
            requests.sent();
            meter
                .received(&[frame(HEADERS, 4, 20), frame(DATA, 0, 1), frame(HEADERS, 5, 20)].concat(), || now)
                .unwrap();
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
