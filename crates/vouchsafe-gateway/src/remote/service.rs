//! Requests for our own hosts, sent on to the controller on a connection beside that of the control channel, so that
//! what they carry never stands in the way of changes. The same was decided on them as where both are in one process;
//! from where they come goes along.

use std::sync::Arc;

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use vouchsafe_runtime::body::{Body, boxed};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{BoxFuture, Caller, InternalService, ProvenDevice};
use vouchsafe_wire::gateway::{CALLER_HEADER, CallerDevice, CallerDoc, POST_QUANTUM};
use vouchsafe_wire::ticket::hex;

use super::RemoteLink;
use super::callers::{Callers, Placed};
use crate::answer;
use crate::listen::Refused;

/// Sends requests on.
pub(super) struct Forwarder {
    link: Arc<RemoteLink>,
    callers: Callers,
}

impl Forwarder {
    pub(super) fn new(link: Arc<RemoteLink>) -> Self {
        Self { link, callers: Callers::default() }
    }
}

impl InternalService for Forwarder {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let connection = self.link.connection.borrow().clone();
        let place = request.extensions().get::<Caller>().map(|caller| self.callers.enter(caller));
        Box::pin(async move {
            let unavailable = || {
                let words = "The controller isn't reached right now. Try again in a moment.";
                answer::plain(StatusCode::SERVICE_UNAVAILABLE, words)
            };
            let Some(mut sender) = connection else { return unavailable() };
            let place = match place {
                Some(None) => return answer::shed(Refused::Overloaded),
                Some(Some(place)) => Some(place),
                None => None,
            };
            let (Some(place), Some(request)) = (place, addressed(request)) else {
                // A caller that nobody described is a mistake of ours, and gets nothing.
                tracing::error!("an internal request came without its caller");
                return answer::plain(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong; it has been noted.");
            };
            match sender.send_request(request).await {
                Ok(response) => {
                    let mut response = response.map(|body| boxed(Placed::new(body.into(), place)));
                    response.extensions_mut().clear();
                    response
                }
                Err(error) => {
                    tracing::warn!(%error, "a request could not be sent on to the controller");
                    unavailable()
                }
            }
        })
    }
}

/// The request as the controller gets it: over its connection, with its caller, whatever the client called
/// itself.
fn addressed(request: Request<Body>) -> Option<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>()?;
    let (post_quantum, caller) = (caller.post_quantum, describe(caller)?);
    let path = parts.uri.path_and_query()?.as_str();
    parts.uri = format!("https://controller{path}").parse().ok()?;
    parts.version = http::Version::HTTP_2;
    parts.extensions.clear();
    for name in [CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE] {
        parts.headers.remove(name);
    }
    // Takes the place of any that a client may have sent.
    parts.headers.insert(CALLER_HEADER, caller);
    if post_quantum {
        parts.headers.append(CALLER_HEADER, HeaderValue::from_static(POST_QUANTUM));
    }
    Some(Request::from_parts(parts, body))
}

fn describe(caller: &Caller) -> Option<HeaderValue> {
    let Caller { host, ip, post_quantum: _, device, subject: _, decision } = caller;
    let device = device.as_ref().map(|ProvenDevice { id, certificate_sha256, not_after }| CallerDevice {
        id: id.to_string(),
        certificate_sha256: hex(certificate_sha256),
        not_after_us: clock::unix_micros(*not_after),
    });
    let doc = CallerDoc {
        host: host.label().to_owned(),
        ip: ip.to_string(),
        device,
        decision: decision.map(|id| id.to_string()),
    };
    HeaderValue::try_from(serde_json::to_string(&doc).ok()?).ok()
}
