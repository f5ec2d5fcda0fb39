//! How a gateway becomes one: the first certificates for a one-time code, the next for the present ones.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::body::{self, Body};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::Problem;
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::gateway::{Certificates, JoinRequest, Joined, RenewRequest, TokenKey};
use vouchsafe_wire::ticket::hex;

use super::{Channel, Peer};
use crate::ca::{Ca, CaError, CsrError, GatewayLeaves, ProvenKey};
use crate::context::Context;
use crate::directory::Actor;
use crate::identity::hash;
use crate::identity::rate::{Pace, RateLimit};
use crate::identity::succession::{self, Standing};
use crate::store::certified::{self, Holder, Issued};
use crate::store::gateways::{self, NewGateway};
use crate::store::invites::{self, GatewayInvite};
use crate::store::{StoreError, Write};

/// Longest body, bytes: three requests of at most 8 KiB, and some.
const MAX_BODY_BYTES: usize = 32 * 1024;

const OUTDATED: &str =
    "the certificate was replaced by one that has been used since; there may be a copy of this gateway";

/// Why a gateway does not get certificates, in words for who runs it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the request can't be read")]
    Malformed,
    #[error("a certificate request of the gateway is not acceptable")]
    Csr(#[from] CsrError),
    #[error("the key for assertions must be P-256")]
    AssertionKey,
    #[error("this code was used already or has expired; ask for a new one: `vouchsafe gateway invite`")]
    CodeGone,
    #[error("there is a gateway of that name by now; ask for another code: `vouchsafe gateway invite`")]
    NameTaken,
    #[error("this gateway was removed; ask for a new code: `vouchsafe gateway invite`")]
    Removed,
    #[error("this certificate was replaced by one that has been used since: there may be a copy of this gateway")]
    Outdated,
    #[error("too many attempts from this address; wait a minute")]
    TooFast,
    #[error("something went wrong at the controller; its log says what")]
    Store(#[from] StoreError),
    #[error("something went wrong at the controller; its log says what")]
    Ca(#[from] CaError),
}

/// `POST /gateway/join`.
pub(super) async fn join(channel: &Arc<Channel>, ip: IpAddr, request: Request<Incoming>) -> Response<Body> {
    respond(joined(channel, ip, request).await)
}

async fn joined(channel: &Channel, ip: IpAddr, request: Request<Incoming>) -> Result<Joined, Refusal> {
    let now = clock::now();
    if channel.joins.take(ip, now) == Pace::TooFast {
        return Err(Refusal::TooFast);
    }
    let JoinRequest { code, identity_csr, server_csr, assertion_csr } = read(request).await?;
    let (identity, server) = (ProvenKey::parse(&identity_csr)?, ProvenKey::parse(&server_csr)?);
    let assertions = ProvenKey::parse(&assertion_csr)?;
    let point = assertions.p256_point().ok_or(Refusal::AssertionKey)?;
    let (context, now) = (&channel.context, clock::unix_seconds(now));
    // Looked for before the one writer is taken: made-up codes must not hold up those who change something.
    let good = invites::find::<GatewayInvite>(&mut *context.store.read().await?, &hash(&code), now).await?;
    if good.is_none() {
        return made_up(channel, ip).await;
    }
    let mut write = context.store.write().await?;
    // Used up from here on, whatever else may be wrong: what is committed below takes it out.
    let Some(GatewayInvite(name)) = invites::take(write.connection(), &hash(&code), now).await? else {
        return refuse(write, ip, "the code is unknown, used or expired", Refusal::CodeGone).await;
    };
    if certified::name_is_taken(write.connection(), certified::Role::Gateway, name.as_str()).await? {
        return refuse(write, ip, "the name is taken by now", Refusal::NameTaken).await;
    }
    let id = GatewayId::from_random(clock::random());
    let mut record = Actor::Anonymous { ip }.record(Kind::Admin, clock::now());
    record.action = Some("gateway.join".to_owned());
    record.detail = Some(format!("{name}, key {}", identity.sha256()));
    let keys = [&identity, &server];
    let (mut write, leaves) = context.ca.issue_gateway(write, &context.settings, record, id, keys, now).await?;
    let gateway = NewGateway { id, name: &name, assertion_point: point, issued: issued(&identity, &leaves) };
    gateways::insert(write.connection(), &gateway, now).await?;
    write.commit().await?;
    context.rosters.gateways_changed();
    tracing::info!(gateway = %id, %name, "a gateway has joined");
    Ok(Joined {
        gateway: id.to_string(),
        name: name.to_string(),
        domain: context.settings.domain.to_string(),
        port: context.settings.port,
        assertion_kid: Ca::kid_of(point),
        snapshot_key: hex(&channel.snapshot_point),
        certificates: certificates(context, leaves),
    })
}

/// Answers a code that isn't there. Few of them are on record one by one; the others are counted.
async fn made_up<T>(channel: &Channel, ip: IpAddr) -> Result<T, Refusal> {
    tracing::warn!(%ip, "a gateway wants to join by a code that is unknown, used or expired");
    let everybody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if channel.made_up.pace.take(everybody, clock::now()) == Pace::TooFast {
        channel.made_up.unrecorded.fetch_add(1, Ordering::Relaxed);
        return Err(Refusal::CodeGone);
    }
    let why = match channel.made_up.unrecorded.swap(0, Ordering::Relaxed) {
        0 => "the code is unknown, used or expired".to_owned(),
        before => {
            format!("the code is unknown, used or expired; {before} more were tried since the record before this")
        }
    };
    refuse(channel.context.store.write().await?, ip, &why, Refusal::CodeGone).await
}

/// Codes that were made up.
pub(super) struct MadeUp {
    pace: RateLimit,
    unrecorded: AtomicU64,
}

impl Default for MadeUp {
    fn default() -> Self {
        Self { pace: RateLimit::new(10, Duration::from_secs(6)), unrecorded: AtomicU64::new(0) }
    }
}

/// `POST /gateway/renew`.
pub(super) async fn renew(channel: &Arc<Channel>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    respond(renewed(channel, peer, request).await)
}

/// Whether this is the newest certificate of a gateway that is one of ours. Who has an older one while the newest is
/// in use is a copy, which gets nowhere (A283).
pub(super) async fn admitted(channel: &Channel, peer: Peer) -> Result<bool, StoreError> {
    let Peer { gateway, ip, .. } = peer;
    let store = &channel.context.store;
    let known = certified::certificates(&mut *store.read().await?, Holder::Gateway(gateway)).await?;
    let Some(known) = known else {
        tracing::warn!(%gateway, %ip, "a gateway that was removed wants to attach");
        return Ok(false);
    };
    match peer.shown().standing(&known) {
        Standing::Newest if known.replaced.is_none() => Ok(true),
        Standing::Newest => {
            let mut write = store.write().await?;
            let standing = succession::seen(&mut write, peer.shown()).await?;
            write.commit().await?;
            Ok(standing == Some(Standing::Newest))
        }
        Standing::Replaced => Ok(true),
        Standing::Outdated => {
            tracing::error!(%gateway, %ip, "{OUTDATED}");
            // A record each would let it write without bound.
            if channel.joins.take(ip, clock::now()) == Pace::Allowed {
                let mut write = store.write().await?;
                write.audit(failed(ip, "gateway.attach", Some(gateway), OUTDATED));
                write.commit().await?;
            }
            Ok(false)
        }
    }
}

/// Whether a gateway was not removed.
pub(super) async fn still_ours(channel: &Channel, gateway: GatewayId) -> bool {
    let found = async { gateways::find(&mut *channel.context.store.read().await?, &gateway).await };
    found
        .await
        .inspect_err(|error: &StoreError| {
            tracing::error!(error = error as &dyn std::error::Error, "a gateway can't be looked up");
        })
        .is_ok_and(|found| found.is_some())
}

async fn renewed(channel: &Channel, peer: Peer, request: Request<Incoming>) -> Result<Certificates, Refusal> {
    let Peer { gateway: id, ip, .. } = peer;
    let RenewRequest { identity_csr, server_csr } = read(request).await?;
    let (identity, server) = (ProvenKey::parse(&identity_csr)?, ProvenKey::parse(&server_csr)?);
    let (context, now) = (&channel.context, clock::unix_seconds(clock::now()));
    let mut write = context.store.write().await?;
    let holder = Holder::Gateway(id);
    match succession::seen(&mut write, peer.shown()).await? {
        Some(Standing::Newest | Standing::Replaced) => {}
        Some(Standing::Outdated) => {
            tracing::error!(gateway = %id, %ip, "{OUTDATED}");
            write.audit(failed(ip, "gateway.renew", Some(id), OUTDATED));
            write.commit().await?;
            return Err(Refusal::Outdated);
        }
        None => return Err(Refusal::Removed),
    }
    let mut record: Record = Actor::Anonymous { ip }.record(Kind::Admin, clock::now());
    record.action = Some("gateway.renew".to_owned());
    record.detail = Some(format!("key {}", identity.sha256()));
    let keys = [&identity, &server];
    let (mut write, leaves) = context.ca.issue_gateway(write, &context.settings, record, id, keys, now).await?;
    let issued = issued(&identity, &leaves);
    certified::renewed(write.connection(), holder, issued, &hex(&peer.certificate_sha256), now).await?;
    write.commit().await?;
    Ok(certificates(context, leaves))
}

fn issued<'c>(key: &'c ProvenKey, leaves: &'c GatewayLeaves) -> Issued<'c> {
    Issued { key_sha256: key.sha256(), sha256: &leaves.identity_sha256, not_after: leaves.not_after }
}

fn certificates(context: &Context, leaves: GatewayLeaves) -> Certificates {
    let GatewayLeaves { identity_pem, identity_sha256: _, server_pem, not_after, renew_at } = leaves;
    let keys = context.ca.token_keys().iter();
    Certificates {
        identity: identity_pem,
        server: server_pem,
        root: context.ca.root_pem().to_owned(),
        device_roots: context.ca.device_roots_pem().to_owned(),
        connector_roots: context.ca.connector_roots_pem().to_owned(),
        token_keys: keys.map(|(kid, point)| TokenKey { kid: kid.clone(), point: hex(point) }).collect(),
        not_after,
        renew_at,
    }
}

/// Records a refusal; that the code is taken out stays done.
async fn refuse<T>(mut write: Write, ip: IpAddr, why: &str, refusal: Refusal) -> Result<T, Refusal> {
    write.audit(failed(ip, "gateway.join", None, why));
    write.commit().await?;
    Err(refusal)
}

fn failed(ip: IpAddr, action: &str, gateway: Option<GatewayId>, why: &str) -> Record {
    let mut record = Actor::Anonymous { ip }.record(Kind::Admin, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("failed".to_owned());
    record.target = gateway.map(|gateway| format!("gateway/{gateway}"));
    record.detail = Some(why.to_owned());
    record
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::Malformed);
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await.map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| Refusal::Malformed)
}

fn respond<T: Serialize>(result: Result<T, Refusal>) -> Response<Body> {
    let (status, text) = match result {
        Ok(value) => (StatusCode::OK, serde_json::to_vec(&value)),
        Err(refusal) => {
            let (status, kind) = match &refusal {
                Refusal::Malformed | Refusal::Csr(_) | Refusal::AssertionKey => (StatusCode::BAD_REQUEST, "malformed"),
                Refusal::CodeGone | Refusal::Removed | Refusal::Outdated => (StatusCode::FORBIDDEN, "not_good"),
                Refusal::NameTaken => (StatusCode::CONFLICT, "name_taken"),
                Refusal::TooFast => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
                Refusal::Store(_) | Refusal::Ca(_) => {
                    let error = &refusal as &dyn std::error::Error;
                    tracing::error!(error, "a gateway got no certificates");
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal")
                }
            };
            let problem = Problem {
                kind: kind.to_owned(),
                status: status.as_u16(),
                title: refusal.to_string(),
                detail: None,
                decision: None,
                reason: None,
                advice: Vec::new(),
                max_age: None,
                diagnostics: Vec::new(),
                failed_tests: Vec::new(),
                unproven: Vec::new(),
            };
            (status, serde_json::to_vec(&problem))
        }
    };
    let mut response = Response::new(body::full(text.unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
