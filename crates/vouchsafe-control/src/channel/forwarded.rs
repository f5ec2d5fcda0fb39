//! Requests for our own hosts that a gateway sends on for its clients.
//!
//! The gateway says on whose behalf: it ends the client's TLS, so nobody else could. Facts it doesn't say:
//! they are read here, of the session that policy was asked about, so a session that ended is nobody; and
//! policy is asked again (`guard`).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{Caller, InternalService as _, OwnHost, ProvenDevice};
use vouchsafe_wire::gateway::{CALLER_HEADER, CallerDevice, CallerDoc};
use vouchsafe_wire::ticket::unhex;

use super::{Channel, plain};
use crate::directory::Actor;
use crate::store::{StoreError, facts, gateways};

/// Longest description of a caller, bytes; ours take about 400.
const MAX_CALLER_BYTES: usize = 2_048;

pub(super) async fn answer(
    channel: &Arc<Channel>,
    gateway: GatewayId,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let Some(doc) = request.headers_mut().remove(CALLER_HEADER).and_then(|value| read(&value)) else {
        tracing::error!(%gateway, "a gateway sent a request on for a caller that can't be read");
        return plain(StatusCode::BAD_REQUEST);
    };
    let caller = match caller(channel, gateway, &doc).await {
        Ok(Ok(caller)) => caller,
        Ok(Err(status)) => return plain(status),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let (mut parts, incoming) = request.into_parts();
    // The authority was that of the control channel.
    parts.uri = match parts.uri.path_and_query().and_then(|path| path.as_str().parse::<Uri>().ok()) {
        Some(uri) => uri,
        None => return plain(StatusCode::BAD_REQUEST),
    };
    if let Some(subject) = &caller.subject
        && !channel.guard.allows(subject, caller.ip, parts.method.as_str(), &parts.uri.to_string())
    {
        return overruled(channel, gateway, &caller, &parts).await;
    }
    parts.extensions.clear();
    parts.extensions.insert(caller);
    channel.service.call(Request::from_parts(parts, Body::from(incoming))).await
}

/// Nobody may do what policy doesn't allow, whatever a gateway decided. A change of policy may have overtaken
/// it; where that is not so, the gateway is not what it was.
async fn overruled(channel: &Channel, gateway: GatewayId, caller: &Caller, parts: &Parts) -> Response<Body> {
    tracing::error!(%gateway, "a gateway let through to console or API what policy doesn't allow");
    let Some(actor) = Actor::of_caller(caller) else { return plain(StatusCode::FORBIDDEN) };
    let asked = format!("{} {}", parts.method, parts.uri.path());
    let mut record = actor.changed("gateway.overruled", format!("gateway/{gateway}"), asked);
    record.outcome = Some("failed".to_owned());
    let recorded = async {
        let mut write = channel.context.store.write().await?;
        write.audit(record);
        write.commit().await
    };
    if let Err(error) = recorded.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
    }
    plain(StatusCode::FORBIDDEN)
}

fn read(value: &HeaderValue) -> Option<CallerDoc> {
    if value.len() > MAX_CALLER_BYTES {
        return None;
    }
    serde_json::from_slice(value.as_bytes()).ok()
}

/// Who calls; or the status that a caller gets whom we don't, or no longer, know.
async fn caller(
    channel: &Channel,
    gateway: GatewayId,
    doc: &CallerDoc,
) -> Result<Result<Caller, StatusCode>, StoreError> {
    let CallerDoc { host, ip, device, session, decision } = doc;
    let mut read = channel.context.store.read().await?;
    if gateways::find(&mut read, &gateway).await?.is_none() {
        return Ok(Err(StatusCode::FORBIDDEN));
    }
    let subject = match session {
        None => None,
        // Only there policy is asked, so only there it is somebody's right that counts.
        Some(_) if !matches!(OwnHost::from_label(host), Some(OwnHost::Console | OwnHost::Api)) => {
            return Ok(Err(StatusCode::BAD_REQUEST));
        }
        Some(session) => {
            let Ok(session) = session.parse() else { return Ok(Err(StatusCode::BAD_REQUEST)) };
            let now = clock::unix_seconds(clock::now());
            match facts::subject_by_session(&mut read, &session, now).await? {
                Ok(subject) => Some(Arc::<SubjectFacts>::new(subject)),
                Err(_) => return Ok(Err(StatusCode::UNAUTHORIZED)),
            }
        }
    };
    let parsed = || {
        Some(Caller {
            host: OwnHost::from_label(host)?,
            ip: ip.parse().ok()?,
            device: match device {
                None => None,
                Some(CallerDevice { id, certificate_sha256, not_after_us }) => Some(ProvenDevice {
                    id: id.parse().ok()?,
                    certificate_sha256: unhex(certificate_sha256)?,
                    not_after: clock::from_unix_micros(*not_after_us),
                }),
            },
            subject,
            decision: match decision {
                None => None,
                Some(id) => Some(id.parse().ok()?),
            },
        })
    };
    Ok(parsed().ok_or(StatusCode::BAD_REQUEST))
}
