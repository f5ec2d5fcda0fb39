//! The first certificate of a device, for a one-time ticket.

use std::path::Path;

use http::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::ServerName;
use vouchsafe_model::name::DeviceName;
use vouchsafe_runtime::tls::{self, ServerTrust};
use vouchsafe_wire::device::{EnrolRequest, Enrolled};
use vouchsafe_wire::ticket::Ticket;
use zeroize::Zeroizing;

use super::{CERTIFICATE, Device, DeviceError, DeviceFile, KEY, ROOT};
use crate::dial::dial;
use crate::exchange::{Content, exchange};
use crate::session;
use crate::state::StateDir;

/// Where the new key waits until the gateway has accepted it.
const NEW_KEY: &str = "device.key.new";

/// Whether a device that is enrolled here already may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// Enrolment is refused while the former certificate is good.
    Keep,
    /// The former key, certificate and session are replaced.
    Replace,
}

pub(super) async fn enrol(
    dir: &Path,
    ticket: &Ticket,
    name: &DeviceName,
    former: Former,
) -> Result<Device, DeviceError> {
    let state = StateDir::below(dir);
    state.create()?;
    let _lock = state.lock().await?;
    if former == Former::Keep
        && let Some(file) = DeviceFile::read(&state)?
        && !file.has_expired()
    {
        return Err(DeviceError::AlreadyEnrolled { name: file.name, domain: file.domain.to_string() });
    }
    let key = KeyPair::generate().map_err(DeviceError::Key)?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    // Written before the code is spent: a full disk must not cost a ticket.
    state.write(NEW_KEY, &key_pem)?;
    let enrolled = ask(ticket, name, &key).await?;
    let device = accept(&state, ticket, &enrolled, &key_pem)?;
    state.remove(session::FILE)?;
    state.write(ROOT, &enrolled.root)?;
    state.write(CERTIFICATE, &enrolled.certificate)?;
    state.rename(NEW_KEY, KEY)?;
    DeviceFile::of(&enrolled, ticket.port, device.id, &device.domain).write(&state)?;
    Ok(device)
}

/// A PKCS#10 request; only its key and signature count.
pub(super) fn signing_request(key: &KeyPair) -> Result<String, DeviceError> {
    let params = CertificateParams::new(Vec::new()).map_err(DeviceError::Key)?;
    params.serialize_request(key).and_then(|request| request.pem()).map_err(DeviceError::Key)
}

async fn ask(ticket: &Ticket, name: &DeviceName, key: &KeyPair) -> Result<Enrolled, DeviceError> {
    let request =
        EnrolRequest { code: ticket.code.clone(), csr: signing_request(key)?, name: name.as_str().to_owned() };
    let config = tls::client(ServerTrust::PinnedRoot(ticket.root_sha256), None, &[b"http/1.1"])?;
    let server = ServerName::try_from(ticket.host.clone())
        .map_err(|_| DeviceError::Unexpected { what: "the ticket's gateway is not a host name" })?;
    let stream = dial(&ticket.host, ticket.port).await?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let handshake =
        tokio::time::timeout(vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT, connector.connect(server, stream));
    let stream = handshake
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|source| DeviceError::Handshake { host: ticket.host.clone(), source })?;
    let authority = format!("{}:{}", ticket.host, ticket.port);
    let answer = exchange(stream, Method::POST, &authority, "/device/enroll", Content::json(&request)?).await?;
    Ok(answer.json()?)
}

/// Checks that the answer is what the ticket promised, and about this key.
fn accept(state: &StateDir, ticket: &Ticket, enrolled: &Enrolled, key_pem: &str) -> Result<Device, DeviceError> {
    let roots = tls::certificates(&enrolled.root, "the gateway's answer")?;
    let [root] = roots.as_slice() else {
        return Err(DeviceError::Unexpected { what: "the gateway's answer has more than one root" });
    };
    if tls::sha256(root) != ticket.root_sha256 {
        return Err(DeviceError::Unexpected { what: "the root in the gateway's answer is not the ticket's" });
    }
    let id = enrolled
        .device
        .parse()
        .map_err(|_| DeviceError::Unexpected { what: "the device id in the gateway's answer is malformed" })?;
    let domain = enrolled
        .domain
        .parse()
        .map_err(|_| DeviceError::Unexpected { what: "the base domain in the gateway's answer is malformed" })?;
    let file = DeviceFile::of(enrolled, ticket.port, id, &domain);
    if file.gateway() != ticket.host {
        return Err(DeviceError::Unexpected { what: "the base domain in the gateway's answer is not the ticket's" });
    }
    Device::assemble(state.clone(), file, key_pem.to_owned().into(), &enrolled.certificate, &enrolled.root)
}
