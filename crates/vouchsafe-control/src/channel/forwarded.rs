//! Requests for our own hosts that a gateway sends on for its clients.
//!
//! The gateway says from where they come, which device the connection proved, and how its key was agreed on: it ends
//! the client's TLS, so nobody else could. Who asks, it does not say: that is found out here once more, by the cookie or token that the
//! request itself carries, so a gateway speaks only for those who came to it. The facts are read here too, so a
//! session that ended is nobody; and policy is asked again (`guard`).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use sqlx::SqliteConnection;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::credential::{MAX_COOKIE_BYTES, Presented};
use vouchsafe_runtime::internal::{Caller, InternalService as _, OwnHost, ProvenDevice};
use vouchsafe_wire::gateway::{CALLER_HEADER, CallerDevice, CallerDoc, POST_QUANTUM};
use vouchsafe_wire::ticket::unhex;
use vouchsafe_wire::token::AUDIENCE_API;

use super::{Channel, plain};
use crate::directory::Actor;
use crate::identity::hash;
use crate::store::{StoreError, facts, gateways};

/// Longest description of a caller, bytes; ours take about 400.
const MAX_CALLER_BYTES: usize = 2_048;

pub(super) async fn answer(
    channel: &Arc<Channel>,
    gateway: GatewayId,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let key = request.headers().get_all(CALLER_HEADER).iter().nth(1);
    let post_quantum = key.is_some_and(|key| key.as_bytes() == POST_QUANTUM.as_bytes());
    let Some(doc) = request.headers_mut().remove(CALLER_HEADER).and_then(|value| read(&value)) else {
        tracing::error!(%gateway, "a gateway sent a request on for a caller that can't be read");
        return plain(StatusCode::BAD_REQUEST);
    };
    let caller = match caller(channel, gateway, &doc, post_quantum, request.headers()).await {
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
        && !channel.guard.allows(subject, &caller, parts.method.as_str(), &parts.uri.to_string())
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
    let key = if caller.post_quantum { " on a post-quantum connection" } else { "" };
    let asked = format!("{} {}{key}", parts.method, parts.uri.path());
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
    post_quantum: bool,
    headers: &HeaderMap,
) -> Result<Result<Caller, StatusCode>, StoreError> {
    let CallerDoc { host, ip, device, decision } = doc;
    let parsed = || {
        Some(Caller {
            host: OwnHost::from_label(host)?,
            ip: ip.parse().ok()?,
            post_quantum,
            device: match device {
                None => None,
                Some(CallerDevice { id, certificate_sha256, not_after_us }) => Some(ProvenDevice {
                    id: id.parse().ok()?,
                    certificate_sha256: unhex(certificate_sha256)?,
                    not_after: clock::from_unix_micros(*not_after_us),
                }),
            },
            subject: None,
            decision: match decision {
                None => None,
                Some(id) => Some(id.parse().ok()?),
            },
        })
    };
    let Some(caller) = parsed() else { return Ok(Err(StatusCode::BAD_REQUEST)) };
    let mut read = channel.context.store.read().await?;
    if gateways::find(&mut read, &gateway).await?.is_none() {
        return Ok(Err(StatusCode::FORBIDDEN));
    }
    Ok(match subject(channel, &mut read, &caller, headers).await? {
        Ok(subject) => Ok(Caller { subject: subject.map(Arc::new), ..caller }),
        Err(Unproven) => Err(StatusCode::UNAUTHORIZED),
    })
}

/// What a request carries proves nobody who is here.
struct Unproven;

/// Whom the request itself proves, on the hosts that policy guards; nobody where it carries nothing.
async fn subject(
    channel: &Channel,
    read: &mut SqliteConnection,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Result<Option<SubjectFacts>, Unproven>, StoreError> {
    let now = clock::now();
    // A certificate proves its device only while it is valid.
    let device = caller.device.as_ref().filter(|device| device.is_valid(now));
    let presented = match caller.host {
        OwnHost::Auth | OwnHost::Gateway => return Ok(Ok(None)),
        OwnHost::Console => Presented::cookie(headers),
        OwnHost::Api => Presented::token(headers),
    };
    let session = match presented {
        Presented::Nothing => return Ok(Ok(None)),
        Presented::Ambiguous => return Ok(Err(Unproven)),
        Presented::Token(token) => {
            let tokens = &channel.tokens;
            match tokens.verify(token).and_then(|token| tokens.check(&token, AUDIENCE_API, device)) {
                Ok(session) => session,
                Err(_) => return Ok(Err(Unproven)),
            }
        }
        Presented::Cookie(value) if value.len() > MAX_COOKIE_BYTES => return Ok(Err(Unproven)),
        Presented::Cookie(value) => match facts::session_of_cookie(read, &hash(value)).await? {
            Some((session, label)) if label == caller.host.label() => session,
            Some(_) | None => return Ok(Err(Unproven)),
        },
    };
    let found = facts::subject_by_session(read, &session, clock::unix_seconds(now)).await?;
    let of_this_device =
        |facts: &SubjectFacts| facts.device.as_ref().map(|device| device.id) == device.map(|device| device.id);
    Ok(found.ok().filter(of_this_device).map(Some).ok_or(Unproven))
}
