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
/// QUIC connections that have begun and were not looked at yet; more are refused.
pub const MAX_QUIC_HANDSHAKES: usize = 1_024;
/// Longest silence of a QUIC connection, milliseconds.
pub const QUIC_IDLE_TIMEOUT: u32 = 120_000;
/// Connections from all clients together.
pub const MAX_CONNECTIONS: usize = 20_000;
/// Connections from one source address.
pub const MAX_CONNECTIONS_PER_SOURCE: usize = 2_000;
/// Longest time to connect to an upstream, all its addresses together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest body of our own sign-in, device and API endpoints, bytes.
pub const MAX_OWN_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Copy buffer of a tunnel, bytes for each direction: 64 KiB halves the CPU of 8 KiB.
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;
/// How long open work may go on after SIGTERM.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
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
