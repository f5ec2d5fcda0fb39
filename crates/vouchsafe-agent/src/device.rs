//! The enrolled device: its key, its certificate, and TLS connections that prove both.
//!
//! Files: `device.key` (P-256, PKCS#8 PEM; made here, never leaves), `device.pem` (chain),
//! `root.pem` (the only authority believed), `device.toml` (written last: it says the rest is whole).

mod certified;
mod enrol;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::RwLock;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::name::{BaseDomain, DeviceName};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::OwnHost;
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::read_ahead::ReadAhead;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::TlsError;
use vouchsafe_wire::device::{DeviceStatus, Enrolled, RenewRequest};
use vouchsafe_wire::ticket::Ticket;
use zeroize::Zeroizing;

pub use self::certified::CertificateError;
pub(crate) use self::certified::Certified;
use self::certified::Parts;
pub use self::enrol::Former;
use crate::dial::{DialError, dial};
use crate::exchange::{Answer, Content, ExchangeError, exchange};
use crate::state::{StateDir, StateError};

const KEY: &str = "device.key";
const CERTIFICATE: &str = "device.pem";
const ROOT: &str = "root.pem";
const FILE: &str = "device.toml";

/// Longest pause between two looks at the clock: a laptop that slept must notice soon.
const RENEW_LOOK: Duration = Duration::from_secs(60);
/// Pause after a renewal that failed.
const RENEW_RETRY: Duration = Duration::from_secs(30);

/// Failure of the device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device is enrolled under this state directory.
    #[error("this device is not enrolled (no device in `{}`)", dir.display())]
    NotEnrolled {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// One is, and it is still good.
    #[error("this device is already enrolled as `{name}` at `{domain}`")]
    AlreadyEnrolled {
        /// Its name.
        name: String,
        /// Its installation.
        domain: String,
    },
    /// The certificate's life is over; without it the device can't prove itself any more.
    #[error("the device's certificate has expired")]
    Expired,
    /// The device's files can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of the device is damaged.
    #[error("`{file}` of the device is damaged")]
    Damaged {
        /// Which file.
        file: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key can't be made, read or used.
    #[error("the device's key can't be used")]
    Key(#[source] rcgen::Error),
    /// The certificate can't be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection to the gateway.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The TLS handshake failed: not the right peer, or it does not want this device.
    #[error("no trusted connection to `{host}`")]
    Handshake {
        /// Which host.
        host: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The exchange with the gateway failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The gateway gave what it should not.
    #[error("{what}")]
    Unexpected {
        /// What, in words.
        what: &'static str,
    },
}

impl DeviceError {
    /// Whether the gateway could not be reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            DeviceError::Dial(_) => true,
            DeviceError::Exchange(ExchangeError::Broken(_) | ExchangeError::TimedOut) => true,
            DeviceError::Handshake { source, .. } => source.get_ref().is_none(),
            _ => false,
        }
    }
}

/// `device.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    /// Device id.
    id: DeviceId,
    /// Display name.
    name: String,
    /// Owner's user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Base domain.
    domain: BaseDomain,
    /// Port of the gateway.
    port: u16,
    /// End of the certificate, unix seconds.
    not_after: u64,
    /// When to renew, unix seconds.
    renew_at: u64,
}

impl DeviceFile {
    fn of(enrolled: &Enrolled, port: u16, id: DeviceId, domain: &BaseDomain) -> Self {
        Self {
            id,
            name: enrolled.name.clone(),
            owner: enrolled.owner.clone(),
            domain: domain.clone(),
            port,
            not_after: enrolled.not_after,
            renew_at: enrolled.renew_at.min(enrolled.not_after),
        }
    }

    fn read(state: &StateDir) -> Result<Option<Self>, DeviceError> {
        let damaged = |source| DeviceError::Damaged { file: FILE, source };
        state.read(FILE)?.map(|text| toml::from_str(&text).map_err(|error| damaged(Box::new(error)))).transpose()
    }

    fn write(&self, state: &StateDir) -> Result<(), DeviceError> {
        let text =
            toml::to_string(self).map_err(|error| DeviceError::Damaged { file: FILE, source: Box::new(error) })?;
        Ok(state.write(FILE, &text)?)
    }

    fn gateway(&self) -> String {
        self.domain.host(OwnHost::Gateway.label())
    }

    fn has_expired(&self) -> bool {
        self.not_after <= clock::unix_seconds(clock::now())
    }
}

/// An enrolled device. Share it in an [`Arc`].
pub struct Device {
    pub(crate) state: StateDir,
    id: DeviceId,
    name: String,
    owner: Option<String>,
    domain: BaseDomain,
    port: u16,
    key_pem: Zeroizing<String>,
    certified: RwLock<Arc<Certified>>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({} at {})", self.id, self.domain)
    }
}

impl Device {
    /// Makes a key and gets its first certificate for a one-time ticket.
    ///
    /// # Errors
    /// [`DeviceError`]; the ticket is spent only if the gateway answered.
    pub async fn enrol(dir: &Path, ticket: &Ticket, name: &DeviceName, former: Former) -> Result<Self, DeviceError> {
        enrol::enrol(dir, ticket, name, former).await
    }

    /// Reads the device that is enrolled under a state directory.
    ///
    /// # Errors
    /// [`DeviceError::NotEnrolled`] when there is none; others when its files are damaged.
    pub fn load(dir: &Path) -> Result<Self, DeviceError> {
        let state = StateDir::below(dir);
        let not_enrolled = || DeviceError::NotEnrolled { dir: dir.to_owned() };
        let file = DeviceFile::read(&state)?.ok_or_else(not_enrolled)?;
        let read = |name| -> Result<String, DeviceError> { state.read(name)?.ok_or_else(not_enrolled) };
        let (key, chain, root) = (Zeroizing::new(read(KEY)?), read(CERTIFICATE)?, read(ROOT)?);
        Self::assemble(state, file, key, &chain, &root)
    }

    fn assemble(
        state: StateDir,
        file: DeviceFile,
        key_pem: Zeroizing<String>,
        chain_pem: &str,
        root_pem: &str,
    ) -> Result<Self, DeviceError> {
        let DeviceFile { id, name, owner, domain, port, not_after, renew_at } = file;
        let parts = Parts { id, domain: &domain, chain_pem, key_pem: &key_pem, root_pem, not_after, renew_at };
        let certified = RwLock::new(Arc::new(Certified::new(&parts)?));
        Ok(Self { state, id, name, owner, domain, port, key_pem, certified })
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its display name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// User it was enrolled for.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The installation's base domain.
    #[must_use]
    pub fn domain(&self) -> &BaseDomain {
        &self.domain
    }

    /// The gateway's port, which all names of the installation share.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// End of the present certificate, unix seconds.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.certified.read().not_after
    }

    pub(crate) fn certified(&self) -> Arc<Certified> {
        self.certified.read().clone()
    }

    /// Gets the next certificate. Another process may have done so already: then that one is taken.
    ///
    /// # Errors
    /// [`DeviceError`]; the present certificate stays in use.
    pub async fn renew(&self) -> Result<(), DeviceError> {
        let _lock = self.state.lock().await?;
        let file = DeviceFile::read(&self.state)?
            .filter(|file| file.id == self.id)
            .ok_or_else(|| DeviceError::NotEnrolled { dir: self.state.path().to_owned() })?;
        // Only the newest certificate is renewed, whoever got it.
        if file.not_after > self.not_after() {
            let chain = self.state.read(CERTIFICATE)?.unwrap_or_default();
            self.take(self.ready(&chain, file.not_after, file.renew_at)?);
            if file.renew_at > clock::unix_seconds(clock::now()) {
                return Ok(());
            }
        }
        let mine = self.certified();
        let key = KeyPair::from_pem(&self.key_pem).map_err(DeviceError::Key)?;
        let request = RenewRequest { csr: enrol::signing_request(&key)? };
        let answer = self.send_with(&mine, Method::POST, "/device/renew", Content::json(&request)?).await?;
        let enrolled: Enrolled = answer.json()?;
        if enrolled.device != self.id.to_string() {
            return Err(DeviceError::Unexpected { what: "the gateway renewed another device" });
        }
        let next = DeviceFile::of(&enrolled, self.port, self.id, &self.domain);
        // Checked before it is kept, so that a wrong answer never replaces a good certificate; and kept
        // before it is used, since after that the one before is not renewed any more.
        let certified = self.ready(&enrolled.certificate, next.not_after, next.renew_at)?;
        self.state.write(CERTIFICATE, &enrolled.certificate)?;
        next.write(&self.state)?;
        self.take(certified);
        Ok(())
    }

    fn take(&self, certified: Certified) {
        *self.certified.write() = Arc::new(certified);
    }

    fn ready(&self, chain_pem: &str, not_after: u64, renew_at: u64) -> Result<Certified, DeviceError> {
        let root = self.state.read(ROOT)?.unwrap_or_default();
        let parts = Parts {
            id: self.id,
            domain: &self.domain,
            chain_pem,
            key_pem: &self.key_pem,
            root_pem: &root,
            not_after,
            renew_at,
        };
        Ok(Certified::new(&parts)?)
    }

    /// The certificate to use now, renewed first when that is due.
    ///
    /// # Errors
    /// [`DeviceError::Expired`] when there is none to prove oneself with. A renewal that failed is
    /// only logged while the present certificate is good.
    pub(crate) async fn current(&self) -> Result<Arc<Certified>, DeviceError> {
        let now = clock::unix_seconds(clock::now());
        let present = self.certified();
        if now < present.renew_at {
            return Ok(present);
        }
        if now >= present.not_after {
            // Another process may have renewed it while this one slept.
            return match self.renew().await {
                Ok(()) => Ok(self.certified()),
                Err(error) if error.is_unreachable() => Err(error),
                Err(_) => Err(DeviceError::Expired),
            };
        }
        if let Err(error) = self.renew().await {
            tracing::warn!(%error, "the device's certificate could not be renewed; the present one is still good");
        }
        Ok(self.certified())
    }

    /// Renews the certificate for as long as the group lives.
    pub fn keep_fresh(self: &Arc<Self>, tasks: &TaskGroup) {
        let device = self.clone();
        let draining = tasks.clone();
        tasks.spawn("certificate renewal", async move {
            tokio::select! {
                () = draining.draining() => {}
                () = device.renew_when_due() => {}
            }
        });
    }

    async fn renew_when_due(&self) {
        loop {
            let due = clock::from_unix_seconds(self.certified().renew_at);
            match due.duration_since(clock::now()) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(RENEW_LOOK)).await,
                Ok(_) | Err(_) => match self.renew().await {
                    Ok(()) => tracing::info!(not_after = self.not_after(), "renewed the device's certificate"),
                    Err(error) => {
                        tracing::warn!(%error, "the device's certificate could not be renewed");
                        tokio::time::sleep(RENEW_RETRY).await;
                    }
                },
            }
        }
    }

    /// What the gateway knows of this device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn status(&self) -> Result<DeviceStatus, DeviceError> {
        Ok(self.send(Method::GET, "/device/status", Content::Nothing).await?.json()?)
    }

    /// A TLS connection for HTTP/1.1 to one of the installation's own hosts, proving this device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn connect(&self, host: OwnHost) -> Result<TlsStream<ReadAhead<TcpStream>>, DeviceError> {
        let certified = self.current().await?;
        self.handshake(host, certified.http1.clone()).await
    }

    /// The `host:port` of one of the installation's own hosts.
    #[must_use]
    pub fn authority(&self, host: OwnHost) -> String {
        format!("{}:{}", self.domain.host(host.label()), self.port)
    }

    /// Sends one request to the gateway's device endpoints.
    pub(crate) async fn send(&self, method: Method, path: &str, content: Content<'_>) -> Result<Answer, DeviceError> {
        let certified = self.current().await?;
        self.send_with(&certified, method, path, content).await
    }

    /// The same with a certain certificate, which tokens get bound to.
    pub(crate) async fn send_with(
        &self,
        certified: &Certified,
        method: Method,
        path: &str,
        content: Content<'_>,
    ) -> Result<Answer, DeviceError> {
        let stream = self.handshake(OwnHost::Gateway, certified.http1.clone()).await?;
        Ok(exchange(stream, method, &self.authority(OwnHost::Gateway), path, content).await?)
    }

    pub(crate) async fn handshake(
        &self,
        host: OwnHost,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<ReadAhead<TcpStream>>, DeviceError> {
        let host = self.domain.host(host.label());
        let server = ServerName::try_from(host.clone())
            .map_err(|_| DeviceError::Unexpected { what: "the base domain makes no host name" })?;
        let stream = dial(&host, self.port).await?;
        let handshake = TlsConnector::from(config).connect(server, ReadAhead::new(stream));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(DeviceError::Handshake { host, source }),
            Err(_) => Err(DeviceError::Handshake { host, source: io::ErrorKind::TimedOut.into() }),
        }
    }
}

#[cfg(test)]
mod tests;

/// An enrolled device for the tests of other modules.
#[cfg(test)]
pub(crate) fn tests_enrolled(dir: &Path) {
    tests_enrolled_until(dir, u64::MAX / 4);
}

/// The same with a certificate that ends then; it is due for renewal at two thirds of that number.
#[cfg(test)]
pub(crate) fn tests_enrolled_until(dir: &Path, not_after: u64) {
    tests::enrolled(dir, None, not_after);
}
