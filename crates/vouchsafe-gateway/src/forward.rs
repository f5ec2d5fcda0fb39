//! What happens with a permit in hand: bytes go to the upstream.

pub(crate) mod body;
pub(crate) mod dial;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod reach;
pub(crate) mod tunnel;
pub(crate) mod udp;
pub(crate) mod upstream;
pub(crate) mod websocket;
