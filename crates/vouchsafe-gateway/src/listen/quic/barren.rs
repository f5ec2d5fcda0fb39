//! A bound on what a client sends in HTTP/3 that carries nothing, as `listen/frames.rs` has it for
//! HTTP/2 (A261, A265).
//!
//! ```text
//! HTTP/3   frames of no meaning, empty DATA, frames of the control stream, instructions of QPACK,
//!          streams of no use, datagrams of no stream: counted as they are read
//! QUIC     PING, windows, connection ids, paths, complaints of being blocked: the library counts
//!          them and bounds their memory, and is asked now and then
//! ```
//!
//! They must be earned by time, by requests, or by bytes that move; a client that overdraws loses its
//! connection.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{ConnectionStats, VarInt};
use vouchsafe_runtime::limits::{BARREN_FRAMES, BARREN_FRAMES_PER_SECOND, EARNING_BYTES};
use vouchsafe_wire::http3::code;

use crate::listen::bucket::Bucket;

/// How often the library is asked what came.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// What a stream costs that ends before its answer, or that nobody has a use for: the same as in HTTP/2,
/// where such a stream ends with RST_STREAM.
const STREAM: u32 = 2;

/// The account of one connection.
pub(super) struct Barren {
    quic: quinn::Connection,
    ip: IpAddr,
    budget: Mutex<Bucket>,
    seen: Mutex<Seen>,
}

/// What the library had counted at the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    barren: u64,
    bytes: u64,
}

impl Barren {
    pub(super) fn new(quic: quinn::Connection, ip: IpAddr) -> Self {
        let budget = Mutex::new(Bucket::full(BARREN_FRAMES, BARREN_FRAMES_PER_SECOND, Instant::now()));
        Self { quic, ip, budget, seen: Mutex::default() }
    }

    /// Something came that carries nothing.
    pub(super) fn frames(&self, count: u32) {
        if count > 0 && !self.budget.lock().take_many(count, Instant::now()) {
            tracing::info!(ip = %self.ip, "an HTTP/3 connection is closed: a flood of what carries nothing");
            self.quic.close(VarInt::from_u32(code::EXCESSIVE_LOAD), &[]);
        }
    }

    /// A stream ended before its answer, by the client's will or fault. A client that does nothing
    /// else makes us work for nobody (CVE-2023-44487, and A259 where it is we who reset).
    pub(super) fn stream(&self) {
        self.frames(STREAM);
    }

    /// A request came.
    pub(super) fn request(&self) {
        self.budget.lock().give(1);
    }

    /// Counts what came in QUIC's own frames since the last look.
    pub(super) fn look(&self) {
        let now = Seen::of(&self.quic.stats());
        let before = std::mem::replace(&mut *self.seen.lock(), now);
        self.frames(now.cost_since(before));
    }
}

impl Seen {
    fn of(stats: &ConnectionStats) -> Self {
        let frames = &stats.frame_rx;
        // ACK, CRYPTO, STREAM and DATAGRAM carry something; RESET_STREAM and STOP_SENDING end a stream,
        // which has its own price.
        let barren = [
            frames.ping,
            frames.max_data,
            frames.max_stream_data,
            frames.max_streams_bidi,
            frames.max_streams_uni,
            frames.data_blocked,
            frames.stream_data_blocked,
            frames.streams_blocked_bidi,
            frames.streams_blocked_uni,
            frames.new_connection_id,
            frames.retire_connection_id,
            frames.path_challenge,
            frames.path_response,
            frames.immediate_ack,
            frames.ack_frequency,
        ];
        let barren = barren.into_iter().fold(0_u64, u64::saturating_add);
        Self { barren, bytes: stats.udp_rx.bytes.saturating_add(stats.udp_tx.bytes) }
    }

    /// What came since then and was not earned by bytes that moved.
    fn cost_since(self, before: Self) -> u32 {
        let earned = self.bytes.saturating_sub(before.bytes) / EARNING_BYTES;
        u32::try_from(self.barren.saturating_sub(before.barren).saturating_sub(earned)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_quic_are_earned_by_bytes() {
        let before = Seen { barren: 100, bytes: 1_000_000 };
        // A flood of PING, many in each packet.
        assert_eq!(Seen { barren: 500_100, bytes: 1_500_000 }.cost_since(before), 500_000 - 244);
        // A download whose client opens windows.
        assert_eq!(Seen { barren: 900, bytes: 101_000_000 }.cost_since(before), 0);
        assert_eq!(before.cost_since(before), 0);
        assert_eq!(Seen { barren: u64::MAX, bytes: 0 }.cost_since(before), u32::MAX);
    }
}
