//! Who people and devices are: passkeys, sign-in, the credentials of sessions, enrolment, tokens.
//!
//! - [`routes`]: the pages and endpoints of `auth.<domain>`, and the device endpoints of `gw.<domain>`
//! - `secret`, `rate`, `guard`, `refusal`: what every endpoint stands on
//! - `relying`: WebAuthn as we use it; `register`, `authenticate`: its two ceremonies
//! - `session`: opening a session; `app`: carrying it to an app host; `me`: a person's own page; `ask`: asking for access there
//! - `enrol`: certificates of devices; `oauth`, `approve`: sign-in on a device
//! - `invite`: one-time links and tickets
//!
//! Specifications: `docs/spec/webauthn.md`, `docs/spec/sign-in.md`, `docs/spec/device.md`.

mod app;
mod approve;
mod ask;
mod authenticate;
mod connector;
mod enrol;
mod guard;
mod invite;
mod me;
mod metadata;
mod oauth;
pub(crate) mod rate;
mod refusal;
mod register;
mod relying;
pub(crate) mod secret;
mod session;
pub(crate) mod succession;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use vouchsafe_runtime::clock;

pub(crate) use self::app::Redeemer;
pub(crate) use self::invite::{invite_device, invite_user};
use self::rate::{Pace, RateLimit};
use self::refusal::Refusal;
use self::relying::RelyingParty;
pub(crate) use self::secret::hash;
use crate::context::Context;
use crate::pages;

/// Largest body of these endpoints, bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The services of the sign-in host and of the device endpoints.
pub(crate) struct Identity {
    /// For `auth.<domain>`.
    pub(crate) auth: Router,
    /// For `gw.<domain>`.
    pub(crate) gateway: Router,
}

/// The base domain can't be used for passkeys.
#[derive(Debug, thiserror::Error)]
#[error("passkeys can't be bound to `{origin}`; choose a base domain whose last label is no number")]
pub struct IdentityError {
    origin: String,
}

/// Shared by all handlers.
#[derive(Clone)]
struct Service {
    context: Context,
    relying: Arc<RelyingParty>,
    limits: Arc<Limits>,
}

/// What one address may do. A whole office may sit behind one address, so bursts are generous;
/// guesses of user codes have to be few.
struct Limits {
    /// Steps of ceremonies, enrolments, token requests.
    attempts: RateLimit,
    /// User codes that were typed.
    guesses: RateLimit,
    /// Audit records about cookies that came from another device.
    notes: RateLimit,
    /// Looks at a page of one's own, each of which asks the log and the policies.
    pages: RateLimit,
}

impl Service {
    fn limit(&self, limit: impl FnOnce(&Limits) -> &RateLimit, source: IpAddr) -> Result<(), Refusal> {
        match limit(&self.limits).take(source, clock::now()) {
            Pace::Allowed => Ok(()),
            Pace::TooFast => Err(Refusal::TooFast),
        }
    }
}

/// Makes the services.
///
/// # Errors
/// [`IdentityError`] when the base domain is not usable in a URL.
pub(crate) fn routes(context: Context) -> Result<Identity, IdentityError> {
    let origin = context.settings.origin(guard::AUTH_LABEL);
    let relying = RelyingParty::new(&context.settings).map_err(|_| IdentityError { origin })?;
    let limits = Limits {
        attempts: RateLimit::new(120, Duration::from_millis(500)),
        guesses: RateLimit::new(12, Duration::from_secs(5)),
        notes: RateLimit::new(10, Duration::from_secs(10)),
        pages: RateLimit::new(120, Duration::from_millis(500)),
    };
    let service = Service { context, relying: Arc::new(relying), limits: Arc::new(limits) };
    let auth = Router::new()
        .route("/", get(me::page))
        .route("/sign-in", get(authenticate::page))
        .route("/signed-out", get(me::signed_out))
        .route("/sign-out", post(me::sign_out))
        .route("/activity", get(me::activity))
        .route("/ask", get(ask::page).post(ask::send))
        .route("/ask/withdraw", post(ask::withdraw))
        .route("/passkeys/remove", post(me::remove_passkey))
        .route("/devices/remove", post(me::remove_device))
        .route("/sessions/end", post(me::end_session))
        .route("/invite", get(register::page))
        .route("/device", get(approve::page).post(approve::answer))
        .route("/webauthn/register/start", post(register::start))
        .route("/webauthn/register/finish", post(register::finish))
        .route("/webauthn/authenticate/start", post(authenticate::start))
        .route("/webauthn/authenticate/finish", post(authenticate::finish))
        .route("/.well-known/jwks.json", get(metadata::jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata::authorization_server))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(service.clone())
        .merge(pages::assets())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(map_response(pages::harden));
    let gateway = Router::new()
        .route("/device/enroll", post(enrol::enroll))
        .route("/device/renew", post(enrol::renew))
        .route("/device/status", get(enrol::status))
        .route(vouchsafe_wire::connector::JOIN, post(connector::join))
        .route(vouchsafe_wire::connector::RENEW, post(connector::renew))
        .route("/oauth/device_authorization", post(oauth::device_authorization))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/revoke", post(oauth::revoke))
        .fallback(|| async { Refusal::NotFound.into_response() })
        .with_state(service)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(map_response(pages::harden));
    Ok(Identity { auth, gateway })
}

async fn not_found() -> me::PageRefusal {
    Refusal::NotFound.into()
}

#[cfg(test)]
mod tests;
