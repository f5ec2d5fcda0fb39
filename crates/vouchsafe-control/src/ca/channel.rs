//! What the control channel needs of the authority: the controller's own certificate, the key that signs
//! snapshots, and certificates of gateways that are processes of their own.
//!
//! Their keys were made at the gateways and stay there; only the requests come here.

use bytes::Bytes;
use rcgen::SigningKey as _;
use vouchsafe_model::id::{ControllerId, GatewayId};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::KeyAndChain;
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::roster::{SignedRoster, signed_bytes};
use vouchsafe_wire::ticket::hex;

use super::certificate::{self, GATEWAY_LIFE, ReadBack, Role, SERVER_LIFE, Validity};
use super::key::{Key, pkcs8_pem};
use super::signing::{PublicKey, SnapshotSigner};
use super::{
    Ca, CaError, Certified, MasterKey, ProvenKey, Workshop, generate, issued_detail, issuer_of, sha256, unreadable,
};
use crate::context::Settings;
use crate::store::{Store, Write, keys};

const SNAPSHOTS: &str = "snapshots";
/// Behind it stands the controller's id.
const CONTROLLER_PREFIX: &str = "controller/";
/// Behind it stands the id under which lists of gateways are signed.
const ROSTERS_PREFIX: &str = "rosters/";

/// What the controller's end of the control channel works with.
pub(crate) struct ChannelKeys {
    /// The controller's certificate, with the root along: a new gateway knows nothing but its fingerprint.
    pub(crate) controller: KeyAndChain,
    /// When to ask for the next, unix seconds.
    pub(crate) renew_at: u64,
    /// PEM of the issuer of gateways' certificates, which alone is believed about gateways.
    pub(crate) gateways_pem: String,
    /// Signs snapshots.
    pub(crate) snapshots: SnapshotSigner,
    /// The key that verifies them: uncompressed point.
    pub(crate) snapshot_point: Vec<u8>,
}

/// Signs lists of gateways for connectors, and nothing else. Its certificate says that it is the controller's.
pub(crate) struct RosterSigner {
    key: Key,
    chain: Vec<Bytes>,
    /// When to ask for the next, unix seconds.
    pub(crate) renew_at: u64,
}

impl RosterSigner {
    /// A list with its signature (`docs/spec/connector.md`).
    pub(crate) fn sign(&self, payload: Bytes) -> Result<Bytes, CaError> {
        let signature = self.key.sign(&signed_bytes(&payload))?.into();
        Ok(SignedRoster { payload, signature, chain: self.chain.clone() }.to_bytes())
    }
}

/// The certificates of a gateway.
pub(crate) struct GatewayLeaves {
    /// By which controller and upstreams know it: PEM chain.
    pub(crate) identity_pem: String,
    /// SHA-256 of its DER, in hexadecimal.
    pub(crate) identity_sha256: String,
    /// For our own host names, root along: PEM chain.
    pub(crate) server_pem: String,
    /// End of the first that ends, unix seconds.
    pub(crate) not_after: u64,
    /// When to renew them, unix seconds.
    pub(crate) renew_at: u64,
}

impl Ca {
    /// Makes what the control channel needs, or reads it back.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn channel(&self, store: &Store, settings: &Settings, now: u64) -> Result<ChannelKeys, CaError> {
        let write = store.write().await?;
        let mut workshop = Workshop::open(settings, write, now).await?;
        let root = workshop.root().await?;
        let gateways = workshop.intermediate(Role::Gateways, &root).await?;
        let controllers = workshop.intermediate(Role::Controllers, &root).await?;
        let Certified { pkcs8, pem, read, .. } = workshop.controllers_own(CONTROLLER_PREFIX, &controllers).await?;
        let signing = workshop.signing_key(SNAPSHOTS).await?;
        workshop.write.commit().await?;
        let unusable = |source| CaError::Key { name: SNAPSHOTS.to_owned(), source };
        Ok(ChannelKeys {
            controller: KeyAndChain {
                chain_pem: format!("{pem}{}{}", controllers.pem, root.pem),
                key_pem: pkcs8_pem(&pkcs8),
            },
            renew_at: read.renew_at(),
            gateways_pem: gateways.pem,
            snapshots: SnapshotSigner::new(&signing.pkcs8).map_err(unusable)?,
            snapshot_point: PublicKey::of(&signing.key).point,
        })
    }

    /// Makes what signs lists of gateways, or reads it back.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn roster_signer(
        &self,
        store: &Store,
        settings: &Settings,
        now: u64,
    ) -> Result<RosterSigner, CaError> {
        let write = store.write().await?;
        let mut workshop = Workshop::open(settings, write, now).await?;
        let root = workshop.root().await?;
        let controllers = workshop.intermediate(Role::Controllers, &root).await?;
        let Certified { key, read, .. } = workshop.controllers_own(ROSTERS_PREFIX, &controllers).await?;
        workshop.write.commit().await?;
        let chain = [&read.der, &controllers.read.der].map(|der| Bytes::copy_from_slice(der)).into();
        Ok(RosterSigner { key, chain, renew_at: read.renew_at() })
    }

    /// Issues the certificates of a gateway within a change. `record` says who asked and why; it is
    /// completed here and becomes part of the change.
    ///
    /// # Errors
    /// [`CaError`].
    pub(crate) async fn issue_gateway(
        &self,
        write: Write,
        settings: &Settings,
        mut record: Record,
        id: GatewayId,
        [identity, server]: [&ProvenKey; 2],
        now: u64,
    ) -> Result<(Write, GatewayLeaves), CaError> {
        let mut workshop = Workshop::open(settings, write, now).await?;
        let root = workshop.root().await?;
        let gateways = workshop.intermediate(Role::Gateways, &root).await?;
        let names = workshop.intermediate(Role::ServerNames, &root).await?;
        let validity = Validity::from_now(now, GATEWAY_LIFE);
        let own = certificate::gateway(id, &identity.spki, &self.domain, &issuer_of(&gateways)?, validity)?.pem();
        let hosts = certificate::server(&server.spki, &self.domain, &issuer_of(&names)?, validity)?.pem();
        let mut write = workshop.write;
        let name = format!("gateway/{id}");
        let [read, read_hosts] = [&own, &hosts].map(|pem| ReadBack::of_pem(pem).ok_or_else(|| unreadable(&name)));
        let (read, read_hosts) = (read?, read_hosts?);
        record.outcome = Some("ok".to_owned());
        let before = record.detail.take().map(|before| format!("{before}; ")).unwrap_or_default();
        record.detail = Some(format!("{before}{}; host names: {}", issued_detail(&read), issued_detail(&read_hosts)));
        record.target = Some(name);
        write.audit(record);
        let leaves = GatewayLeaves {
            identity_pem: format!("{own}{}", gateways.pem),
            identity_sha256: hex(&sha256(&read.der)),
            server_pem: format!("{hosts}{}{}", names.pem, root.pem),
            not_after: read.not_after.min(read_hosts.not_after),
            renew_at: read.renew_at().min(read_hosts.renew_at()),
        };
        Ok((write, leaves))
    }

    /// Keys that verify access tokens: `kid` and uncompressed point.
    pub(crate) fn token_keys(&self) -> &[(String, Vec<u8>)] {
        &self.identity.token_keys
    }

    /// PEM of the roots that vouch for devices.
    pub(crate) fn device_roots_pem(&self) -> &str {
        &self.devices_pem
    }

    /// The `kid` of a gateway's key for assertions.
    pub(crate) fn kid_of(point: &[u8]) -> String {
        PublicKey::of_point(point.to_vec()).kid
    }
}

impl<'d> Workshop<'d> {
    pub(super) async fn open(settings: &'d Settings, mut write: Write, now: u64) -> Result<Self, CaError> {
        let stored = keys::all(write.connection()).await?;
        let master = MasterKey::read(&settings.dir)?.ok_or_else(|| MasterKey::missing(&settings.dir))?;
        Ok(Self { domain: &settings.domain, master, stored, write, now })
    }

    /// A key with a certificate that says that it is this controller's.
    async fn controllers_own(&mut self, prefix: &str, authority: &Certified) -> Result<Certified, CaError> {
        let known = self.stored.iter().find_map(|stored| stored.name.strip_prefix(prefix)?.parse().ok());
        let id = known.unwrap_or_else(|| ControllerId::from_random(clock::random()));
        let name = format!("{prefix}{id}");
        if let Some(found) = self.certified(&name, &authority.read)?
            && found.read.is_fresh(self.now)
        {
            return Ok(found);
        }
        let (key, pkcs8) = generate(&name)?;
        let issuer = issuer_of(authority)?;
        let validity = Validity::from_now(self.now, SERVER_LIFE);
        let pem = certificate::controller(id, &key, self.domain, &issuer, validity)?.pem();
        let read = self.keep(&name, &pkcs8, &pem).await?;
        Ok(Certified { key, pkcs8, pem, read })
    }
}
