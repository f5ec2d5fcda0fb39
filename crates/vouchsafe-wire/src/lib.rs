//! Byte formats vouchsafe owns or must read, as pure codecs: no sockets, no clock, no randomness.
//!
//! - [`api`]: bodies of the administrator's API, shared by controller and command line
//! - [`audit`]: the audit record and its canonical bytes (`docs/spec/audit-record.md`)
//! - [`authority`]: `host:port` of CONNECT, Host and `:authority`
//! - [`canonical`]: one reading of an HTTP request, or none (`docs/spec/canonical-request.md`)
//! - [`capsule`]: capsules and UDP payloads of CONNECT-UDP (RFC 9297, RFC 9298)
//! - [`control`]: what gateways and controllers say to each other (`docs/spec/control-channel.md`)
//! - [`connector`]: how a connector joins, and what a gateway says to it (`docs/spec/connector.md`)
//! - [`device`]: bodies of the device endpoints (`docs/spec/device.md`)
//! - [`ext_authz`]: how Envoy asks whether a request may pass
//! - [`framing`]: where an HTTP/1.1 request ends and the next begins, strictly
//! - [`gateway`]: how a gateway joins, and what it sends on for its clients
//! - [`health`]: whether a role can do its work
//! - [`hello`]: a ClientHello out of pieces of QUIC's CRYPTO frames
//! - [`http3`]: frames and heads of HTTP/3 (RFC 9114)
//! - [`ocsf`]: audit records as events of OCSF
//! - [`otlp`]: spans and records in OpenTelemetry's protocol
//! - [`proof`]: what is asked of the prover, and what it answers
//! - [`qpack`]: field sections of HTTP/3 (RFC 9204)
//! - [`resource`]: a resource as TOML and JSON (`docs/spec/manifest.md`)
//! - [`roster`]: the list of gateways, as connectors are told it
//! - [`spiffe`]: SPIFFE ids in certificates
//! - [`spool`]: frames of the gateway's audit spool
//! - [`ticket`]: the one-time text that invites a device
//! - [`token`]: claims of the tokens we sign
//! - [`varint`]: integers of variable length (RFC 9000 §16)
//! - [`websocket`]: where frames of a WebSocket begin and end (RFC 6455)
//! - [`would_deny`]: what an answer says of a denial that a mode let pass

pub mod api;
pub mod audit;
pub mod authority;
pub mod canonical;
pub mod capsule;
pub mod connector;
pub mod control;
pub mod device;
pub mod ext_authz;
pub mod framing;
pub mod gateway;
pub mod health;
pub mod hello;
pub mod http3;
pub mod ocsf;
pub mod otlp;
pub mod proof;
pub mod qpack;
pub mod resource;
pub mod roster;
pub mod spiffe;
pub mod spool;
pub mod ticket;
pub mod token;
pub mod varint;
pub mod websocket;
pub mod would_deny;
