//! Certificates of devices: the first for a one-time code, the next for the present one.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::HeaderMap;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::{DeviceName, UserName};
use vouchsafe_model::subject::{DeviceFacts, Grade};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Change;
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::device::{DeviceStatus, EnrolRequest, Enrolled, RenewRequest};
use vouchsafe_wire::ticket::hex;

use super::Service;
use super::guard::{Peer, json as read_json};
use super::refusal::Refusal;
use super::secret::{hash, same};
use super::succession::{self, Shown, Standing};
use crate::ca::{CsrError, DeviceCertificate, ProvenKey};
use crate::store::certified::{self, Holder, Issued, Role};
use crate::store::enrolment::{self, NewDevice};
use crate::store::invites::{self, DeviceInvite};
use crate::store::{StoreError, Write, facts, policy};

const TICKET_GONE: Refusal =
    Refusal::NotGood("This ticket was used already or has expired. Ask for a new one (`vouchsafe device invite`).");

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Self {
        Refusal::Malformed(match error {
            CsrError::Unreadable => "`csr` must be one PKCS#10 request in PEM form.",
            CsrError::Signature => "The signature of `csr` does not verify under its own key.",
            CsrError::KeyKind => "The key of `csr` must be P-256, P-384 or Ed25519.",
        })
    }
}

/// `POST /device/enroll`.
pub(super) async fn enroll(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Enrolled>, Refusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let EnrolRequest { code, csr, name } = read_json(&headers, &body)?;
    let key = ProvenKey::parse(&csr)?;
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    let invite: DeviceInvite = match invites::take(write.connection(), &hash(&code), now).await? {
        Some(invite) => invite,
        None => {
            refuse(write, &peer, "device.enrol", "the ticket is unknown, used or expired").await?;
            return Err(TICKET_GONE);
        }
    };
    if let Some(owner) = &invite.owner
        && facts::user(write.connection(), owner).await?.is_none()
    {
        refuse(write, &peer, "device.enrol", "the ticket's owner is disabled or deleted").await?;
        return Err(TICKET_GONE);
    }
    let id = DeviceId::from_random(clock::random());
    let name = free_name(&mut write, &name, id).await?;
    let grade = Grade::Software;
    let mut record = peer.nobody().record(Kind::Device, clock::now());
    record.action = Some("device.enrol".to_owned());
    record.grade = Some(grade.as_str().to_owned());
    record.user = invite.owner.as_ref().map(UserName::to_string);
    record.detail = Some(format!("{name}, key {}", key.sha256()));
    let certificate = service.context.ca.issue_device(&mut write, record, id, &key, now)?;
    let issued = issued(&key, &certificate);
    let device = NewDevice { id, name: &name, invite: &invite, grade, issued };
    enrolment::insert_device(write.connection(), &device, now).await?;
    write.change(Change::Device(id));
    write.commit().await?;
    let facts = DeviceFacts { id, name, grade, owner: invite.owner, tags: Default::default() };
    Ok(Json(answer(&service, facts, certificate)))
}

/// `POST /device/renew`.
pub(super) async fn renew(
    State(service): State<Service>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Enrolled>, Refusal> {
    service.limit(|limits| &limits.attempts, peer.ip())?;
    let proven = peer.device()?;
    let id = proven.id;
    let RenewRequest { csr } = read_json(&headers, &body)?;
    let key = ProvenKey::parse(&csr)?;
    let now = clock::unix_seconds(clock::now());
    let mut write = service.context.store.write().await?;
    let Some(facts) = facts::device(write.connection(), &id).await? else {
        refuse(write, &peer, "device.renew", "the device is not, or no longer, enrolled").await?;
        return Err(Refusal::DeviceUnknown);
    };
    let words = match succession::seen(&mut write, Shown::of(proven)).await? {
        Some(Standing::Newest) => "",
        Some(Standing::Replaced) => "; the one issued before was never seen",
        Some(Standing::Outdated) => {
            tracing::warn!(device = %id, "an outdated certificate asks for renewal: there may be a copy of this device");
            let why = "the certificate was replaced by one that has been used since; there may be a copy of the device";
            refuse(write, &peer, "device.renew", why).await?;
            return Err(Refusal::CertificateReplaced);
        }
        None => return Err(Refusal::DeviceUnknown),
    };
    // Who ends the device's TLS (a gateway) could otherwise show its certificate, and have one for a key of its own.
    let holder = Holder::Device(id);
    let known = certified::certificates(write.connection(), holder).await?.ok_or(Refusal::DeviceUnknown)?;
    if !same(&known.key_sha256, key.sha256()) {
        tracing::warn!(device = %id, "a device asks for a certificate for another key than its own");
        refuse(write, &peer, "device.renew", "the key is not the one that the device enrolled with").await?;
        return Err(Refusal::OtherKey);
    }
    let mut record: Record = peer.nobody().record(Kind::Device, clock::now());
    record.action = Some("device.renew".to_owned());
    record.detail = Some(format!("{}, key {}{words}", facts.name, key.sha256()));
    let certificate = service.context.ca.issue_device(&mut write, record, id, &key, now)?;
    let issued = issued(&key, &certificate);
    certified::renewed(write.connection(), holder, issued, &hex(&proven.certificate_sha256), now).await?;
    write.commit().await?;
    Ok(Json(answer(&service, facts, certificate)))
}

/// `GET /device/status`.
pub(super) async fn status(State(service): State<Service>, peer: Peer) -> Result<Json<DeviceStatus>, Refusal> {
    let proven = peer.device()?;
    let id = proven.id;
    let mut read = service.context.store.read().await?;
    let facts = facts::device(&mut read, &id).await?.ok_or(Refusal::DeviceUnknown)?;
    if let Some(known) = certified::certificates(&mut read, Holder::Device(id)).await?
        && known.replaced.is_some()
    {
        let mut write = service.context.store.write().await?;
        succession::seen(&mut write, Shown::of(proven)).await?;
        write.commit().await?;
    }
    Ok(Json(DeviceStatus {
        device: id.to_string(),
        name: facts.name.to_string(),
        owner: facts.owner.map(|owner| owner.to_string()),
        grade: facts.grade.as_str().to_owned(),
        policy_version: policy::highest(&mut read).await?,
    }))
}

fn answer(service: &Service, facts: DeviceFacts, certificate: DeviceCertificate) -> Enrolled {
    let DeviceCertificate { chain_pem, sha256: _, not_after, renew_at } = certificate;
    Enrolled {
        device: facts.id.to_string(),
        name: facts.name.to_string(),
        owner: facts.owner.map(|owner| owner.to_string()),
        grade: facts.grade.as_str().to_owned(),
        certificate: chain_pem,
        root: service.context.ca.root_pem().to_owned(),
        domain: service.context.settings.domain.to_string(),
        not_after,
        renew_at,
    }
}

fn issued<'c>(key: &'c ProvenKey, certificate: &'c DeviceCertificate) -> Issued<'c> {
    Issued { key_sha256: key.sha256(), sha256: &certificate.sha256, not_after: certificate.not_after }
}

/// Records a refusal; what the change did until here (a ticket taken out) stays done.
async fn refuse(mut write: Write, peer: &Peer, action: &str, why: &str) -> Result<(), StoreError> {
    let mut record = peer.nobody().record(Kind::Device, clock::now());
    record.action = Some(action.to_owned());
    record.outcome = Some("failed".to_owned());
    record.detail = Some(why.to_owned());
    write.audit(record);
    write.commit().await
}

/// The name that the device suggests, in the form of a name and told apart from others by a number.
async fn free_name(write: &mut Write, wanted: &str, id: DeviceId) -> Result<DeviceName, Refusal> {
    const UNNAMEABLE: Refusal = Refusal::Malformed("`name` can't be made into a device name.");
    let base = base_name(wanted);
    for number in 1..=99_u32 {
        let text = if number == 1 { base.clone() } else { format!("{base}-{number}") };
        let name = DeviceName::parse(&text).map_err(|_| UNNAMEABLE)?;
        if !certified::name_is_taken(write.connection(), Role::Device, name.as_str()).await? {
            return Ok(name);
        }
    }
    DeviceName::parse(&id.to_string()).map_err(|_| UNNAMEABLE)
}

/// Lower case, other characters as hyphens, short enough for a number behind it.
fn base_name(wanted: &str) -> String {
    let mapped: String = wanted
        .chars()
        .take(48)
        .map(|letter| letter.to_ascii_lowercase())
        .map(|letter| if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_') { letter } else { '-' })
        .collect();
    let trimmed = mapped.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    // An id is how devices are told apart for certain, so no name may look like one.
    if trimmed.is_empty() || trimmed.parse::<DeviceId>().is_ok() { "device".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_suggestion_becomes_a_name() {
        for (wanted, name) in [
            ("Alice's MacBook", "alice-s-macbook"),
            ("", "device"),
            ("---", "device"),
            ("ünicode", "nicode"),
            ("web01.corp", "web01.corp"),
            ("dev_00000000000000000000000001", "device"),
        ] {
            assert_eq!(base_name(wanted), name);
        }
        assert!(DeviceName::parse(&format!("{}-99", base_name(&"x".repeat(200)))).is_ok());
    }
}
