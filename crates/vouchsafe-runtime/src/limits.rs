//! Every number that bounds foreign input, with its reason. `docs/reference/limits.md` lists them.

use std::time::Duration;

/// Longest time from TCP accept to the end of the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a request head to arrive (slow headers).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest request head in HTTP/1.1, bytes; also the largest header list in HTTP/2.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most header fields in one request.
pub const MAX_HEADERS: usize = 100;
/// Largest trailer section of a request in HTTP/1.1, bytes.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// Streams that one HTTP/2 connection may have open.
pub const MAX_H2_STREAMS: u32 = 128;
/// Streams that one HTTP/3 connection may have open.
pub const MAX_H3_STREAMS: u32 = 128;
/// Datagrams of one HTTP/3 connection that may wait in each direction, bytes; more are dropped.
pub const MAX_H3_DATAGRAM_BYTES: usize = 256 * 1024;
/// QUIC connections that have begun and were not accepted yet, be it that their address is not proven or
/// that they wait for their turn ([`MAX_HANDSHAKES`] at most); more are refused.
pub const MAX_QUIC_HANDSHAKES: usize = MAX_HANDSHAKES + 1_024;
/// Bytes of one of them that are kept until it is accepted …
pub const QUIC_WAITING_BYTES: u64 = 16 * 1024;
/// … and of all of them.
pub const QUIC_WAITING_BYTES_OF_ALL: u64 = 16 * 1024 * 1024;
/// Longest silence of a QUIC connection, milliseconds.
pub const QUIC_IDLE_TIMEOUT: u32 = 120_000;
/// Connections from all clients together, unless the operator says otherwise (`--max-connections`).
pub const MAX_CONNECTIONS: usize = 60_000;
/// Connections from one source on which nobody is proven, and as many of one device or session,
/// unless the operator says otherwise (`--max-connections-per-source`).
pub const MAX_CONNECTIONS_PER_SOURCE: usize = 2_000;
/// Of every so many connections, one is kept free of strangers.
pub const RESERVED_SHARE: usize = 4;
/// TLS handshakes that may be under way.
pub const MAX_HANDSHAKES: usize = 4_096;
/// TLS handshakes that may be under way with one source.
pub const MAX_HANDSHAKES_PER_SOURCE: usize = 256;
/// Requests of strangers that are worked on at once.
pub const MAX_STRANGER_REQUESTS: usize = 4_096;
/// Requests of strangers from one source that are worked on at once.
pub const MAX_STRANGER_REQUESTS_PER_SOURCE: usize = 256;
/// Requests that strangers of one source may send at once …
pub const STRANGER_BURST: u32 = 2_000;
/// … and then for each second.
pub const STRANGER_REQUESTS_PER_SECOND: u32 = 200;
/// Sources that are counted apart; when all are in use, newcomers are refused.
pub const MAX_SOURCES: usize = 100_000;
/// Flows that one session may have open.
pub const MAX_FLOWS_PER_SESSION: usize = 1_024;
/// Flows that nobody may have open from one address, at resources that are observed.
pub const MAX_FLOWS_PER_ADDRESS: usize = 4_096;
/// How long a connection may be idle on which nobody is proven.
pub const STRANGER_IDLE: Duration = Duration::from_secs(60);
/// How long a connection of a proven device or session may be idle.
pub const PROVEN_IDLE: Duration = Duration::from_secs(900);
/// How long an HTTP/1.1 connection is idle before its buffers are given back and only TLS is kept.
pub const PARK_AFTER: Duration = Duration::from_secs(2);
/// Frames of HTTP/2 and HTTP/3 that carry nothing a connection may send at once; more must be earned by time or
/// by frames that carry something.
pub const BARREN_FRAMES: u32 = 4_000;
/// Such frames that each second earns.
pub const BARREN_FRAMES_PER_SECOND: u32 = 400;
/// Bytes that earn one such frame: about as much as the WINDOW_UPDATE for it costs.
pub const EARNING_BYTES: u64 = 2_048;
/// Answers that HTTP/2 keeps for one stream that is not read, bytes.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2 streams that a client may make *us* reset by breaking the protocol on them.
pub const MAX_H2_FORCED_RESETS: usize = 64;
/// Names that are being looked up for upstreams at once.
pub const MAX_RESOLVING: usize = 32;
/// Of them, how often the same name: one that hangs must not take the turns of all others.
pub const MAX_RESOLVING_PER_NAME: usize = 4;
/// Longest time to connect to an upstream, all its addresses together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What an upstream may send before the end of its answer's head, interim answers included, bytes on a
/// connection of HTTP/1.1. The head itself is bounded by [`MAX_HEAD_BYTES`], and about as much of the
/// content may come along with it.
pub const MAX_BEFORE_ANSWER_BYTES: u64 = 256 * 1024;
/// Heads that an upstream may send at once on a connection of HTTP/2, interim answers and trailers
/// included …
pub const UPSTREAM_HEADS: u32 = 1_000;
/// … and then each second …
pub const UPSTREAM_HEADS_PER_SECOND: u32 = 100;
/// … and for each request.
pub const UPSTREAM_HEADS_PER_REQUEST: u32 = 16;
/// Longest body of our own sign-in, device and API endpoints, bytes.
pub const MAX_OWN_BODY_BYTES: usize = 4 * 1024 * 1024;
/// What a tunnel reads at most before it writes, bytes for each direction …
pub const RELAY_BUFFER_BYTES: usize = 128 * 1024;
/// … and what it begins with. While nothing comes it holds nothing.
pub const RELAY_FIRST_BYTES: usize = 8 * 1024;
/// What is read at once from a connection that keeps sending, bytes.
pub const READ_AHEAD_BYTES: usize = 64 * 1024;
/// Forms that wait for a fresh sign-in; the oldest make room …
pub const MAX_DRAFTS: usize = 128;
/// … and those of one person, for her newest.
pub const MAX_DRAFTS_PER_USER: usize = 4;
/// Largest form that is kept, bytes …
pub const MAX_DRAFT_BYTES: usize = 64 * 1024;
/// … and most fields of it.
pub const MAX_DRAFT_FIELDS: usize = 256;
/// Longest time for it to arrive.
pub const DRAFT_PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once of those who ask for metrics and health; more wait.
pub const MAX_VITALS_CONNECTIONS: usize = 16;
/// How long open work may go on after SIGTERM.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an open flow goes on after a change that concerns it, when its facts can't be had again: less than
/// the second within which a right that ended is dead (I6).
pub const CHANGE_PATIENCE: Duration = Duration::from_millis(800);
/// The same where nothing is known to have changed, or too much to say what.
pub const SWEEP_PATIENCE: Duration = Duration::from_secs(8);
/// Subjects whose facts a gateway remembers; the oldest go first.
pub const MAX_SUBJECTS: usize = 100_000;
/// Look-ups of unknown credentials at the controller that may be under way at once; more wait.
pub const MAX_LOOKUPS: usize = 64;
/// Such look-ups that may wait for their turn; past it requests are answered 503.
pub const MAX_WAITING_LOOKUPS: usize = 1_024;
/// Longest time for one of our own endpoints to take a request in and answer.
pub const OWN_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest silence of a tunnel of which one direction has ended: a peer that only reads, or that
/// went away without a word, must not hold a connection for ever.
pub const HALF_OPEN_IDLE: Duration = Duration::from_secs(600);
/// Records the audit writer queues before callers wait.
pub const AUDIT_QUEUE: usize = 8_192;
/// Longest wait for an audit record to be written before the request is denied.
pub const AUDIT_WAIT: Duration = Duration::from_secs(5);
/// Room on disk for records that the controller has not taken, bytes: about a million requests.
/// When it is full, nothing is allowed.
pub const AUDIT_SPOOL_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Denials of one address without any proof that are recorded one by one, at once; later ones are
/// counted in one record.
pub const STRANGER_RECORDS_AT_ONCE: u64 = 2_000;
/// The same for each second after that.
pub const STRANGER_RECORDS_PER_SECOND: u64 = 20;
/// The same for all addresses together, at once.
pub const STRANGER_RECORDS_OF_ALL_AT_ONCE: u64 = 20_000;
/// The same for all addresses together, each second after that.
pub const STRANGER_RECORDS_OF_ALL_PER_SECOND: u64 = 500;
