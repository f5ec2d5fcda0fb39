//! The services behind our own host names (`auth`, `console`, `api`, `gw`), and who calls them.
//!
//! The controller offers them; the gateway calls them with facts of the connection as typed request
//! extensions, which no header from outside can forge.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Request, Response};
use vouchsafe_model::id::{DecisionId, DeviceId};
use vouchsafe_model::subject::SubjectFacts;

use crate::body::Body;

/// Which of our own hosts a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnHost {
    /// Sign-in pages, invitations, device approval: open to everybody.
    Auth,
    /// The console: decided like any resource, action `console:*`.
    Console,
    /// The administrator's API: decided like any resource, action `console:*`.
    Api,
    /// Enrolment, renewal and tokens of devices.
    Gateway,
}

impl OwnHost {
    /// Its first label under the base domain.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            OwnHost::Auth => "auth",
            OwnHost::Console => "console",
            OwnHost::Api => "api",
            OwnHost::Gateway => "gw",
        }
    }

    /// The host of that label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [OwnHost::Auth, OwnHost::Console, OwnHost::Api, OwnHost::Gateway].into_iter().find(|host| host.label() == label)
    }
}

/// A client certificate that was verified against our device CA on this very connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenDevice {
    /// Device of its SPIFFE id. Whether that device is still enrolled is for the controller's facts to say.
    pub id: DeviceId,
    /// SHA-256 of the certificate's DER, for bound tokens (RFC 8705).
    pub certificate_sha256: [u8; 32],
    /// End of the certificate.
    pub not_after: SystemTime,
}

impl ProvenDevice {
    /// Whether the certificate is still valid: a handshake proves it only for its own moment, and
    /// connections outlive certificates.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now < self.not_after
    }
}

/// Who calls an internal service: a request extension.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Which of our hosts was asked.
    pub host: OwnHost,
    /// Address of the client's socket.
    pub ip: IpAddr,
    /// Whether the key of the client's connection was agreed on with a post-quantum group; not so where nobody knows.
    pub post_quantum: bool,
    /// Device proven on this connection.
    pub device: Option<ProvenDevice>,
    /// Subject that was decided on; present on `console` and `api`, where policy already allowed
    /// the action.
    pub subject: Option<Arc<SubjectFacts>>,
    /// Decision that allowed it; present where `subject` is.
    pub decision: Option<DecisionId>,
}

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The controller's HTTP services.
pub trait InternalService: Send + Sync + 'static {
    /// Answers one request; [`Caller`] is in the request's extensions. Failures are answers too.
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}
