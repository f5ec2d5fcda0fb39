//! The policy enforcement point.
//!
//! A request's way through it, which is also the order of the modules:
//!
//! 1. `listen`: accept, limits, TLS; the name asked for in the handshake picks the certificate
//!    and whether a client certificate is asked for
//! 2. `route`: one reading of the request, and which of our hosts or resources it is for
//! 3. `authenticate`: cookie or bound token and proven device → subject, by `facts`
//! 4. `decide`: policy engine → permit or denial
//! 5. `record`: the decision goes to the audit `spool` before it takes effect
//! 6. `forward`: with the permit in hand, to the upstream: `http`, `tunnel` or `udp`
//! 7. `watch`: while a flow is open it is decided again at every change, and cut when denied
//!
//! `proxies` are existing ones that ask us for their clients. `connectors` are those that dialled us, and the streams
//! through them to upstreams we can't reach.
//! `take_up` is a connection or stream that is taken up as plain bytes, whichever version of HTTP
//! it came by. `answer` gives denials in the form the client's protocol knows; `sign_in` is the app
//! hosts' half of the browser sign-in; `certificates` is what is shown of ourselves,
//! and `acme_http` answers a public authority that asks over HTTP.
//! `lease` is how long all of that holds without word of the controller; `vitals` is what is counted and
//! shown to those who run it; `remote` is the way to a
//! controller in another process. `seldom` keeps others from filling the log. `fuzzed` is there for tests and fuzzers only.

mod acme_http;
mod answer;
mod assertion;
mod authenticate;
mod certificates;
mod connectors;
mod decide;
mod facts;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod gateway;
mod lease;
mod listen;
mod names;
mod proxies;
mod record;
mod remote;
mod route;
mod seldom;
mod sign_in;
mod spool;
mod strangers;
mod take_up;
#[cfg(test)]
mod testing;
mod vitals;
mod watch;

pub use certificates::BrowserCertificate;
pub use gateway::{BrowserCertificateSlot, Gateway, GatewayError, Http3, Options};
pub use listen::ConnectionLimits;
pub use proxies::{Proxy, ProxyError, ProxyKind, ProxySecret};
pub use record::{Finisher, NotRecorded, Recorder, Until};
pub use remote::{JoinError, Member, Remote, RemoteError, StateError, join, joined};
pub use spool::SpoolError;
