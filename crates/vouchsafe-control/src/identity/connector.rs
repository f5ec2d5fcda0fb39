//! Certificates of connectors: the first for a one-time code, the next for the key that joined.
//!
//! A connector keeps its key for as long as it is one. So a renewal needs no proof but the request's own
//! signature, and whoever sits in between, such as a gateway that was taken over, gets nothing for itself.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::SiteName;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Kind;
use vouchsafe_wire::connector::{JoinRequest, Joined, RenewRequest};

use super::Service;
use super::guard::{Peer, json as read_json};
use super::refusal::Refusal;
use super::secret::hash;
use crate::ca::{DeviceCertificate, ProvenKey};
use crate::store::connectors::{self, Kept};
use crate::store::invites::{self, ConnectorInvite};
use crate::store::{StoreError, Write};

const CODE_GONE: Refusal =
    Refusal::NotGood("This code was used already or has expired. Ask for a new one (`vouchsafe connector invite`).");
const REMOVED: Refusal = Refusal::NotGood(
    "There is no such connector, or it has another key. Ask for a new code (`vouchsafe connector invite`).",
);

/// `POST /connector/join`.
pub(super) async fn join(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Joined>, Refusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let JoinRequest { code, csr } = read_json(&headers, &body)?;
    let key = ProvenKey::parse(&csr)?;
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    // Used up from here on, whatever else may be wrong: what is committed below takes it out.
    let Some(ConnectorInvite(site)) = invites::take(write.connection(), &hash(&code), now).await? else {
        refuse(write, &peer, "connector.join", "the code is unknown, used or expired").await?;
        return Err(CODE_GONE);
    };
    let id = ConnectorId::from_random(clock::random());
    let name = free_name(&mut write, &site, id).await?;
    let mut record = peer.nobody().record(Kind::Admin, clock::now());
    record.action = Some("connector.join".to_owned());
    record.via = Some(site.to_string());
    record.detail = Some(format!("{name}, key {}", key.sha256()));
    let certificate = service.context.ca.issue_connector(&mut write, record, id, &key, now)?;
    let kept = Kept { id, name, site, key_sha256: key.sha256().to_owned() };
    connectors::insert(write.connection(), &kept, certificate.not_after, now).await?;
    write.snapshot_changed();
    write.commit().await?;
    tracing::info!(connector = %id, site = %kept.site, "a connector has joined");
    Ok(Json(answer(&service, kept, certificate)))
}

/// `POST /connector/renew`.
pub(super) async fn renew(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Joined>, Refusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let RenewRequest { connector, csr } = read_json(&headers, &body)?;
    let id: ConnectorId = connector.parse().map_err(|_| Refusal::Malformed("`connector` must be an id."))?;
    let key = ProvenKey::parse(&csr)?;
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    let kept = match connectors::find(write.connection(), &id).await? {
        Some(kept) if kept.key_sha256 == key.sha256() => kept,
        Some(_) | None => {
            refuse(write, &peer, "connector.renew", "there is no such connector, or it has another key").await?;
            return Err(REMOVED);
        }
    };
    let mut record = peer.nobody().record(Kind::Admin, clock::now());
    record.action = Some("connector.renew".to_owned());
    record.detail = Some(kept.name.clone());
    let certificate = service.context.ca.issue_connector(&mut write, record, id, &key, now)?;
    connectors::renewed(write.connection(), &id, certificate.not_after, now).await?;
    write.commit().await?;
    Ok(Json(answer(&service, kept, certificate)))
}

fn answer(service: &Service, kept: Kept, certificate: DeviceCertificate) -> Joined {
    let DeviceCertificate { chain_pem, sha256: _, not_after, renew_at } = certificate;
    let Kept { id, name, site, key_sha256: _ } = kept;
    let ca = &service.context.ca;
    Joined {
        connector: id.to_string(),
        name,
        site: site.to_string(),
        domain: service.context.settings.domain.to_string(),
        certificate: chain_pem,
        root: ca.root_pem().to_owned(),
        not_after,
        renew_at,
        gateways: service
            .context
            .rosters
            .newest()
            .borrow()
            .as_ref()
            .map(|list| STANDARD.encode(list))
            .unwrap_or_default(),
    }
}

/// `<site>-1`, or the next that is free.
async fn free_name(write: &mut Write, site: &SiteName, id: ConnectorId) -> Result<String, StoreError> {
    for number in 1..=99_u32 {
        let name = format!("{site}-{number}");
        if !connectors::name_is_taken(write.connection(), &name).await? {
            return Ok(name);
        }
    }
    Ok(id.to_string())
}

/// Records a refusal; what the change did until here (a code taken out) stays done.
async fn refuse(mut write: Write, peer: &Peer, action: &str, why: &str) -> Result<(), StoreError> {
    let mut record = peer.nobody().record(Kind::Admin, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("failed".to_owned());
    record.detail = Some(why.to_owned());
    write.audit(record);
    write.commit().await
}
