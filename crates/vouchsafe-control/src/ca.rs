//! The own certificate authority, and every other private key of the installation.
//!
//! ```text
//! root (10 years; its key is unsealed only to issue those below)
//! ├── gateways      policy enforcement points       spiffe://D/gateway/<id>
//! ├── devices       enrolled devices, 24 hours      spiffe://D/device/<id>
//! ├── server-names  our own host names, 90 days     *.D and D, and nothing else
//! ├── controllers   as gateways see them, 90 days   spiffe://D/controller/<id>
//! └── connectors    as gateways see them, 7 days    spiffe://D/connector/<id>
//! ```
//!
//! Private keys lie in the database, sealed under the master key, which is a file apart. Every
//! certificate is recorded in the audit log in the same transaction that makes it, before it leaves.

mod answer;
mod audit;
mod certificate;
mod channel;
mod csr;
mod key;
mod leaves;
mod master;
mod public;
mod signing;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rcgen::Issuer;
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use tokio::sync::watch;
use vouchsafe_model::id::{ConnectorId, DeviceId};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{GatewayCertificates, GatewayIdentity};
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::connector::CONNECTOR_CERT_LIFE_SECONDS;
use vouchsafe_wire::device::DEVICE_CERT_LIFE_SECONDS;
use vouchsafe_wire::ticket::hex;
use vouchsafe_wire::token::AccessClaims;
use zeroize::Zeroizing;

use self::certificate::{INTERMEDIATE_LIFE, ROOT_LIFE, ReadBack, Role, Validity};
pub(crate) use self::channel::{ChannelKeys, GatewayLeaves, RosterSigner};
pub(crate) use self::csr::{CsrError, ProvenKey};
use self::key::{Key, pkcs8_pem};
use self::master::MasterKey;
pub(crate) use self::public::{CertificateRequest, Life};
pub(crate) use self::signing::SnapshotSigner;
use self::signing::{PublicKey, TokenSigner};
use crate::context::Settings;
use crate::directory::Actor;
use crate::store::keys::{self, SealedKey};
use crate::store::{Store, StoreError, Write};

const ROOT: &str = "root";
const SERVER: &str = "server";
const TOKENS: &str = "tokens";
const ASSERTIONS: &str = "assertions";
/// Behind it stands the gateway's id.
const GATEWAY_PREFIX: &str = "gateway/";

/// Failure of the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key is missing, unreadable or of another installation.
    #[error(transparent)]
    MasterKey(#[from] master::MasterKeyError),
    /// A key could not be made or read.
    #[error("the key `{name}` is not usable")]
    Key {
        /// Name of the key.
        name: String,
        /// Cause.
        #[source]
        source: key::KeyError,
    },
    /// A certificate in the database is not what it should be.
    #[error("the certificate of `{name}` {why}: the database was altered or is damaged; restore a backup")]
    Certificate {
        /// Name of the key.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The installation was made for another base domain.
    #[error(
        "this state directory belongs to another base domain than `{domain}`; start with the one it was made for, or with an empty directory"
    )]
    OtherDomain {
        /// The domain as asked for.
        domain: BaseDomain,
    },
    /// A public authority issued something else than it was asked for.
    #[error("what the public authority issued for `{host}` {why}")]
    Issued {
        /// The name.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A certificate could not be issued.
    #[error("a certificate could not be issued")]
    Issue(#[from] rcgen::Error),
    /// A token could not be signed.
    #[error("a token could not be signed")]
    Token(#[from] jsonwebtoken::errors::Error),
}

/// The certificate authority, open.
pub(crate) struct Ca {
    domain: BaseDomain,
    root_pem: String,
    root_sha256: [u8; 32],
    devices: Issuer<'static, Key>,
    devices_pem: String,
    connectors: Issuer<'static, Key>,
    connectors_pem: String,
    tokens: TokenSigner,
    published: Vec<PublicKey>,
    identity: GatewayIdentity,
    certificates: watch::Sender<Arc<GatewayCertificates>>,
    /// When the first of them wants to be renewed, unix seconds.
    renew_at: AtomicU64,
}

/// A certificate of a device or connector that was just issued.
pub(crate) struct DeviceCertificate {
    /// PEM: the certificate, then its issuer.
    pub(crate) chain_pem: String,
    /// SHA-256 of its DER, in hexadecimal.
    pub(crate) sha256: String,
    /// End, unix seconds.
    pub(crate) not_after: u64,
    /// When to renew, unix seconds.
    pub(crate) renew_at: u64,
}

impl Ca {
    /// Opens the authority of that state directory; makes it at the first start.
    ///
    /// # Errors
    /// [`CaError`] says which key or file is not as it should be, and what to do.
    pub(crate) async fn open(store: &Store, settings: &Settings) -> Result<Self, CaError> {
        let now = clock::unix_seconds(clock::now());
        let mut write = store.write().await?;
        let stored = keys::all(write.connection()).await?;
        let master = match MasterKey::read(&settings.dir)? {
            Some(master) => master,
            None if stored.is_empty() => MasterKey::create(&settings.dir)?,
            None => return Err(MasterKey::missing(&settings.dir).into()),
        };
        let mut workshop = Workshop { domain: &settings.domain, master, stored, write, now };
        let root = workshop.root().await?;
        let devices = workshop.intermediate(Role::Devices, &root).await?;
        let connectors = workshop.intermediate(Role::Connectors, &root).await?;
        let leaves = workshop.leaves(&root).await?;
        let tokens = workshop.signing_key(TOKENS).await?;
        let assertions = workshop.signing_key(ASSERTIONS).await?;
        workshop.write.commit().await?;

        let token_public = PublicKey::of(&tokens.key);
        let assertion_public = PublicKey::of(&assertions.key);
        let identity = GatewayIdentity {
            id: leaves.gateway,
            domain: settings.domain.clone(),
            issuer: settings.issuer(),
            // The devices' own issuer is the anchor, so no other certificate of ours passes for a device.
            device_roots_pem: devices.pem.clone(),
            connector_roots_pem: connectors.pem.clone(),
            assertion_key_pem: pkcs8_pem(&assertions.pkcs8),
            assertion_kid: assertion_public.kid.clone(),
            token_keys: vec![(token_public.kid.clone(), token_public.point.clone())],
        };
        Ok(Self {
            domain: settings.domain.clone(),
            root_sha256: sha256(&root.read.der),
            root_pem: root.pem,
            devices: Issuer::from_ca_cert_der(&devices.read.der, devices.key)?,
            devices_pem: devices.pem,
            connectors: Issuer::from_ca_cert_der(&connectors.read.der, connectors.key)?,
            connectors_pem: connectors.pem,
            tokens: TokenSigner::new(&tokens.pkcs8, token_public.kid.clone()),
            published: vec![token_public, assertion_public],
            identity,
            renew_at: AtomicU64::new(leaves.renew_at),
            certificates: watch::Sender::new(Arc::new(leaves.into_shown())),
        })
    }

    /// All that a gateway in this process needs of us.
    pub(crate) fn gateway_identity(&self) -> GatewayIdentity {
        self.identity.clone()
    }

    /// PEM of the root.
    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// SHA-256 of the root's DER, which stands in tickets.
    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        self.root_sha256
    }

    /// The published keys as a JWK set (RFC 7517 §5): ours, and those that gateways sign assertions with
    /// (uncompressed points).
    pub(crate) fn jwks(&self, of_gateways: &[Vec<u8>]) -> Value {
        let of_gateways = of_gateways.iter().map(|point| PublicKey::of_point(point.clone()).jwk());
        json!({ "keys": self.published.iter().map(PublicKey::jwk).chain(of_gateways).collect::<Vec<_>>() })
    }

    /// Issues a device certificate. `record` says who asked and why; it is completed here and
    /// becomes part of the change, so that no certificate leaves without one.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub(crate) fn issue_device(
        &self,
        write: &mut Write,
        mut record: Record,
        id: DeviceId,
        key: &ProvenKey,
        now: u64,
    ) -> Result<DeviceCertificate, CaError> {
        let validity = Validity::from_now(now, DEVICE_CERT_LIFE_SECONDS);
        let pem = certificate::device(id, &key.spki, &self.domain, &self.devices, validity)?.pem();
        record.device = Some(id.to_string());
        record.target = Some(format!("device/{id}"));
        issued(write, record, &pem, &self.devices_pem, now.saturating_add(DEVICE_CERT_LIFE_SECONDS / 3 * 2))
    }

    /// Issues the certificate of a connector, as [`Ca::issue_device`] does a device's.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub(crate) fn issue_connector(
        &self,
        write: &mut Write,
        mut record: Record,
        id: ConnectorId,
        key: &ProvenKey,
        now: u64,
    ) -> Result<DeviceCertificate, CaError> {
        let validity = Validity::from_now(now, CONNECTOR_CERT_LIFE_SECONDS);
        let pem = certificate::connector(id, &key.spki, &self.domain, &self.connectors, validity)?.pem();
        record.target = Some(format!("connector/{id}"));
        issued(write, record, &pem, &self.connectors_pem, now.saturating_add(CONNECTOR_CERT_LIFE_SECONDS / 3 * 2))
    }

    /// PEM of the authority that alone vouches for connectors.
    pub(crate) fn connector_roots_pem(&self) -> &str {
        &self.connectors_pem
    }

    /// Signs an access token.
    ///
    /// # Errors
    /// [`CaError::Token`].
    pub(crate) fn sign_access_token(&self, claims: &AccessClaims) -> Result<String, CaError> {
        Ok(self.tokens.sign(claims)?)
    }
}

/// A key with its certificate, as the workshop hands it over.
struct Certified {
    key: Key,
    pkcs8: Zeroizing<Vec<u8>>,
    pem: String,
    read: ReadBack,
}

/// The root, whose key stays sealed.
struct Root {
    pem: String,
    read: ReadBack,
}

/// A key with the form in which it is sealed and handed on.
struct Pair {
    key: Key,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Reads what the store has, makes what is missing or old, within one transaction.
struct Workshop<'d> {
    domain: &'d BaseDomain,
    master: MasterKey,
    stored: Vec<SealedKey>,
    write: Write,
    now: u64,
}

impl Workshop<'_> {
    async fn root(&mut self) -> Result<Root, CaError> {
        if let Some(stored) = self.stored(ROOT) {
            let read = ReadBack::of_pem(&stored.certificate).ok_or_else(|| unreadable(ROOT))?;
            if !read.is_signed_by(&read) {
                return Err(CaError::Certificate { name: ROOT.to_owned(), why: "is not signed by its own key" });
            }
            return Ok(Root { pem: stored.certificate.clone(), read });
        }
        let (key, pkcs8) = generate(ROOT)?;
        let pem = certificate::root(&key, Validity::from_now(self.now, ROOT_LIFE))?.pem();
        let read = self.keep(ROOT, &pkcs8, &pem).await?;
        Ok(Root { pem, read })
    }

    async fn intermediate(&mut self, role: Role, root: &Root) -> Result<Certified, CaError> {
        let name = role.key_name();
        let (key, pkcs8) = match self.certified(name, &root.read)? {
            Some(found) => {
                if role == Role::ServerNames && !found.read.permits(self.domain) {
                    return Err(CaError::OtherDomain { domain: self.domain.clone() });
                }
                if found.read.is_fresh(self.now) {
                    return Ok(found);
                }
                // The key stays: what it issued is still good.
                (found.key, found.pkcs8)
            }
            None => generate(name)?,
        };
        let Pair { key: root_key, .. } = self.unseal(ROOT)?.ok_or_else(|| unreadable(ROOT))?;
        if !root.read.is_of(&root_key) {
            return Err(CaError::Certificate { name: ROOT.to_owned(), why: "is not of its key" });
        }
        let issuer = Issuer::from_ca_cert_der(&root.read.der, root_key)?;
        let validity = Validity::from_now(self.now, INTERMEDIATE_LIFE);
        let pem = certificate::intermediate(role, &key, self.domain, &issuer, validity)?.pem();
        let read = self.keep(name, &pkcs8, &pem).await?;
        Ok(Certified { key, pkcs8, pem, read })
    }

    async fn signing_key(&mut self, name: &str) -> Result<Pair, CaError> {
        if let Some(pair) = self.unseal(name)? {
            return Ok(pair);
        }
        let (key, pkcs8) = generate(name)?;
        self.seal(name, &pkcs8, "").await?;
        Ok(Pair { key, pkcs8 })
    }

    fn stored(&self, name: &str) -> Option<&SealedKey> {
        self.stored.iter().find(|stored| stored.name == name)
    }

    fn unseal(&self, name: &str) -> Result<Option<Pair>, CaError> {
        let Some(stored) = self.stored(name) else { return Ok(None) };
        let pkcs8 = self.master.open(name, &stored.sealed)?;
        let key = Key::from_pkcs8(&pkcs8).map_err(|source| CaError::Key { name: name.to_owned(), source })?;
        Ok(Some(Pair { key, pkcs8 }))
    }

    /// A stored key with its certificate, both checked: the certificate is of this key and of this
    /// issuer, so nobody who can write the database can slip in another.
    fn certified(&self, name: &str, issuer: &ReadBack) -> Result<Option<Certified>, CaError> {
        let wrong = |why| CaError::Certificate { name: name.to_owned(), why };
        let Some(Pair { key, pkcs8 }) = self.unseal(name)? else { return Ok(None) };
        let Some(stored) = self.stored(name) else { return Ok(None) };
        let pem = stored.certificate.clone();
        let read = ReadBack::of_pem(&pem).ok_or_else(|| unreadable(name))?;
        if !read.is_of(&key) {
            return Err(wrong("is not of its key"));
        }
        if !read.is_signed_by(issuer) {
            return Err(wrong("is not signed by its issuer"));
        }
        Ok(Some(Certified { key, pkcs8, pem, read }))
    }

    /// Seals a key, stores it with its new certificate and records the issuance.
    async fn keep(&mut self, name: &str, pkcs8: &[u8], pem: &str) -> Result<ReadBack, CaError> {
        let read = ReadBack::of_pem(pem).ok_or_else(|| unreadable(name))?;
        self.seal(name, pkcs8, pem).await?;
        let mut record: Record = Actor::Controller.record(Kind::Lifecycle, clock::from_unix_seconds(self.now));
        record.action = Some("ca:issue".to_owned());
        record.target = Some(format!("certificate/{name}"));
        record.outcome = Some("ok".to_owned());
        record.detail = Some(issued_detail(&read));
        self.write.audit(record);
        Ok(read)
    }

    async fn seal(&mut self, name: &str, pkcs8: &[u8], pem: &str) -> Result<(), CaError> {
        let sealed = self.master.seal(name, pkcs8)?;
        let key = SealedKey { name: name.to_owned(), sealed, certificate: pem.to_owned() };
        let connection: &mut SqliteConnection = self.write.connection();
        keys::put(connection, &key, self.now).await?;
        self.stored.retain(|stored| stored.name != name);
        self.stored.push(key);
        Ok(())
    }
}

fn generate(name: &str) -> Result<(Key, Zeroizing<Vec<u8>>), CaError> {
    Key::generate().map_err(|source| CaError::Key { name: name.to_owned(), source })
}

fn issuer_of(authority: &Certified) -> Result<Issuer<'static, Key>, CaError> {
    let key = Key::from_pkcs8(&authority.pkcs8)
        .map_err(|source| CaError::Key { name: "issuing authority".to_owned(), source })?;
    Ok(Issuer::from_ca_cert_der(&authority.read.der, key)?)
}

/// Completes the record of a certificate, and hands both on.
fn issued(
    write: &mut Write,
    mut record: Record,
    pem: &str,
    issuer_pem: &str,
    renew_at: u64,
) -> Result<DeviceCertificate, CaError> {
    let read = ReadBack::of_pem(pem).ok_or_else(|| unreadable(record.target.as_deref().unwrap_or_default()))?;
    record.outcome = Some("ok".to_owned());
    let detail = issued_detail(&read);
    record.detail = Some(match record.detail.take() {
        Some(before) => format!("{before}; {detail}"),
        None => detail,
    });
    write.audit(record);
    Ok(DeviceCertificate {
        chain_pem: format!("{pem}{issuer_pem}"),
        sha256: hex(&sha256(&read.der)),
        not_after: read.not_after,
        renew_at,
    })
}

fn issued_detail(read: &ReadBack) -> String {
    format!("certificate {} until {}", read.serial, read.not_after)
}

fn unreadable(name: &str) -> CaError {
    CaError::Certificate { name: name.to_owned(), why: "is unreadable" }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    out.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests;
