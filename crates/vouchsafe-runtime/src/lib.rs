//! What several roles share and does I/O.
//!
//! - [`body`]: HTTP bodies as they pass between roles
//! - [`clock`]: the only place that reads the clock and draws random bytes
//! - [`connect_stream`]: a CONNECT stream of HTTP/2 as plain bytes, whose resets are resets
//! - [`cores`]: work that is worth all cores
//! - [`credential`]: cookies and access tokens, by which clients are known
//! - [`datagrams`]: UDP payloads between a socket and a stream of capsules
//! - [`fetch_site`]: whose page made a browser send a request
//! - [`grpc`]: the one gRPC stream between gateway and controller
//! - [`http_client`]: HTTP over a stream that is already connected and verified
//! - [`internal`]: the services behind our own host names, and who calls them
//! - [`limits`]: every number that bounds foreign input, with its reason
//! - [`link`]: what a gateway and its controller say to each other
//! - [`read_ahead`]: larger reads while more keeps coming
//! - [`relay`]: bytes both ways between two streams, with half-close
//! - [`resolve`]: names of upstreams, looked up within limits
//! - [`roster`]: the list of gateways that a controller signs for connectors
//! - [`spans`]: where the time of a request went, for OpenTelemetry
//! - [`task`]: named tasks with an owner, and shutdown in two steps
//! - [`tls`]: TLS set-up for every role: one provider, one set of versions and groups
//! - [`vitals`]: what a role shows of itself to those who run it: figures and health

pub mod body;
pub mod clock;
pub mod connect_stream;
pub mod cores;
pub mod credential;
pub mod datagrams;
pub mod fetch_site;
pub mod grpc;
pub mod http_client;
pub mod internal;
pub mod limits;
pub mod link;
pub mod read_ahead;
pub mod relay;
pub mod resolve;
pub mod roster;
pub mod spans;
pub mod task;
pub mod tls;
pub mod vitals;
