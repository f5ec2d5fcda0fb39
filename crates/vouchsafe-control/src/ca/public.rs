//! Certificates that a public authority issued to us: their keys, sealed like all others, and our
//! answers to its questions.

use rcgen::{CertificateParams, CustomExtension};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{Challenge, KeyAndChain};
use vouchsafe_runtime::tls::shown::Pair;
use vouchsafe_runtime::tls::{self, Credentials};
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::ticket::hex;
use zeroize::Zeroizing;

use super::certificate::ReadBack;
use super::key::{Key, pkcs8_pem};
use super::{Ca, CaError, MasterKey, generate, issued_detail, sha256, unreadable};
use crate::context::Settings;
use crate::directory::Actor;
use crate::store::keys::{self, SealedKey};
use crate::store::{Store, Write};

/// Behind it stand a mark of the authority and the host name.
const CERTIFICATE_PREFIX: &str = "acme/";
/// Behind it stands a mark of the authority.
const ACCOUNT_PREFIX: &str = "acme-account/";

/// From when to when a certificate is valid, unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

/// A fresh key that asks for a certificate of one name.
pub(crate) struct CertificateRequest {
    pkcs8: Zeroizing<Vec<u8>>,
    csr: Vec<u8>,
}

impl CertificateRequest {
    /// Makes a key and signs the request (RFC 2986) with it.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn new(host: &str) -> Result<Self, CaError> {
        let (key, pkcs8) = generate(host)?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(Self { csr: params.serialize_request(&key)?.der().to_vec(), pkcs8 })
    }

    /// DER of the request.
    pub(crate) fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// Puts what was issued beside the key, if it is of this key and for that name.
    ///
    /// # Errors
    /// [`CaError::Issued`].
    pub(crate) fn complete(self, chain_pem: String, host: &str) -> Result<KeyAndChain, CaError> {
        let pair = KeyAndChain { key_pem: pkcs8_pem(&self.pkcs8), chain_pem };
        check(&pair, host)?;
        Ok(pair)
    }

    /// The certificate that answers `tls-alpn-01` (RFC 8737 §3).
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) fn answer(host: &str, digest: &[u8]) -> Result<KeyAndChain, CaError> {
        let (key, pkcs8) = generate(host)?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        Ok(KeyAndChain { chain_pem: params.self_signed(&key)?.pem(), key_pem: pkcs8_pem(&pkcs8) })
    }
}

fn check(pair: &KeyAndChain, host: &str) -> Result<Life, CaError> {
    let wrong = |why| CaError::Issued { host: host.to_owned(), why };
    let credentials = Credentials { chain_pem: &pair.chain_pem, key_pem: &pair.key_pem };
    Pair::load(&credentials).map_err(|_| wrong("is not of our key"))?;
    let chain = tls::certificates(&pair.chain_pem, "chain").map_err(|_| wrong("can't be read"))?;
    if !chain.first().is_some_and(|leaf| tls::verify::is_for(leaf, host)) {
        return Err(wrong("is not for this name"));
    }
    let read = ReadBack::of_pem(&pair.chain_pem).ok_or_else(|| wrong("can't be read"))?;
    Ok(Life { not_before: read.not_before, not_after: read.not_after })
}

/// Tells authorities apart: certificates of a test authority must not pass for those of another.
fn mark(directory: &str) -> String {
    let mut mark = hex(&sha256(directory.as_bytes()));
    mark.truncate(16);
    mark
}

impl Ca {
    /// Lets gateways answer a question of the authority.
    pub(crate) fn answer(&self, challenge: Challenge) {
        self.show(|shown| shown.challenges.push(challenge));
    }

    /// Takes the answers for that name back.
    pub(crate) fn forget_answers(&self, of: &str) {
        self.show(|shown| {
            shown.challenges.retain(|challenge| match challenge {
                Challenge::TlsAlpn { host, .. } | Challenge::Http { host, .. } => host != of,
            });
        });
    }

    /// Shows the certificates of that authority which are kept and still good; names them with their lives.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn show_kept(
        &self,
        store: &Store,
        settings: &Settings,
        directory: &str,
    ) -> Result<Vec<(String, Life)>, CaError> {
        let prefix = format!("{CERTIFICATE_PREFIX}{}/", mark(directory));
        let master = master(settings)?;
        let now = clock::unix_seconds(clock::now());
        let (mut pairs, mut lives) = (Vec::new(), Vec::new());
        for stored in keys::all(&mut *store.read().await?).await? {
            let Some(host) = stored.name.strip_prefix(&prefix) else { continue };
            let key_pem = pkcs8_pem(&master.open(&stored.name, &stored.sealed)?);
            let pair = KeyAndChain { chain_pem: stored.certificate, key_pem };
            match check(&pair, host) {
                Ok(life) if now < life.not_after => {
                    lives.push((host.to_owned(), life));
                    pairs.push((host.to_owned(), pair));
                }
                // What has ended, or was altered, is ordered anew.
                Ok(_) | Err(_) => tracing::info!(host, "a kept certificate is not good any more"),
            }
        }
        self.show(|shown| shown.public = pairs);
        Ok(lives)
    }

    /// Keeps a certificate that was issued, and shows it from now on in the place of the one before.
    ///
    /// # Errors
    /// [`CaError`]; nothing changes then.
    pub(crate) async fn keep_public(
        &self,
        store: &Store,
        settings: &Settings,
        directory: &str,
        host: &str,
        pair: KeyAndChain,
    ) -> Result<Life, CaError> {
        let life = check(&pair, host)?;
        let name = format!("{CERTIFICATE_PREFIX}{}/{host}", mark(directory));
        let key = tls::private_key(&pair.key_pem, "key").map_err(|_| unreadable(&name))?;
        // Sealed is the form that the other keys have too.
        Key::from_pkcs8(key.secret_der()).map_err(|source| CaError::Key { name: name.clone(), source })?;
        let read = ReadBack::of_pem(&pair.chain_pem).ok_or_else(|| unreadable(&name))?;
        let mut record: Record = Actor::Controller.record(Kind::Lifecycle, clock::now());
        record.action = Some("acme:issue".to_owned());
        record.target = Some(format!("certificate/{host}"));
        record.outcome = Some("ok".to_owned());
        record.detail = Some(format!("{} by {directory}", issued_detail(&read)));
        let mut write = store.write().await?;
        seal(&mut write, settings, &name, key.secret_der(), &pair.chain_pem).await?;
        write.audit(record);
        write.commit().await?;
        self.show(|shown| {
            shown.public.retain(|(of, _)| of != host);
            shown.public.push((host.to_owned(), pair));
        });
        Ok(life)
    }

    /// The kept account at that authority.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn kept_account(
        &self,
        store: &Store,
        settings: &Settings,
        directory: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CaError> {
        let name = format!("{ACCOUNT_PREFIX}{}", mark(directory));
        let stored = keys::all(&mut *store.read().await?).await?;
        let Some(stored) = stored.into_iter().find(|stored| stored.name == name) else { return Ok(None) };
        Ok(Some(master(settings)?.open(&name, &stored.sealed)?))
    }

    /// Keeps an account.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn keep_account(
        &self,
        store: &Store,
        settings: &Settings,
        directory: &str,
        account: &[u8],
    ) -> Result<(), CaError> {
        let name = format!("{ACCOUNT_PREFIX}{}", mark(directory));
        let mut record: Record = Actor::Controller.record(Kind::Lifecycle, clock::now());
        record.action = Some("acme:account".to_owned());
        record.outcome = Some("ok".to_owned());
        record.detail = Some(directory.to_owned());
        let mut write = store.write().await?;
        seal(&mut write, settings, &name, account, "").await?;
        write.audit(record);
        Ok(write.commit().await?)
    }
}

pub(super) fn master(settings: &Settings) -> Result<MasterKey, CaError> {
    Ok(MasterKey::read(&settings.dir)?.ok_or_else(|| MasterKey::missing(&settings.dir))?)
}

async fn seal(
    write: &mut Write,
    settings: &Settings,
    name: &str,
    secret: &[u8],
    certificate: &str,
) -> Result<(), CaError> {
    let sealed = master(settings)?.seal(name, secret)?;
    let key = SealedKey { name: name.to_owned(), sealed, certificate: certificate.to_owned() };
    keys::put(write.connection(), &key, clock::unix_seconds(clock::now())).await?;
    Ok(())
}
