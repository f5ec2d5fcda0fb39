//! The certificates that gateways show: made at the start, and renewed while we run, when two thirds
//! of their life are over. The former ones stay good until then, so nothing hangs on the moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{GatewayCertificates, KeyAndChain};

use super::certificate::{self, Role, SERVER_LIFE, Validity};
use super::key::pkcs8_pem;
use super::{Ca, CaError, Certified, GATEWAY_PREFIX, MasterKey, Root, SERVER, Workshop, generate, issuer_of};
use crate::context::Settings;
use crate::store::{Store, keys};

/// The leaves of one gateway.
pub(super) struct Leaves {
    pub(super) gateway: GatewayId,
    /// When the first of them is to be renewed, unix seconds.
    pub(super) renew_at: u64,
    server: KeyAndChain,
    client: KeyAndChain,
}

impl Leaves {
    pub(super) fn into_shown(self) -> GatewayCertificates {
        let Self { server, client, .. } = self;
        GatewayCertificates { server, client, public: Vec::new(), challenges: Vec::new() }
    }
}

impl Ca {
    /// What gateways are to show, and a signal at each change.
    pub(crate) fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        self.certificates.subscribe()
    }

    /// Changes what gateways are to show.
    pub(super) fn show(&self, change: impl FnOnce(&mut GatewayCertificates)) {
        self.certificates.send_modify(|shown| change(Arc::make_mut(shown)));
    }

    /// Renews the server's and the gateway's certificates if it is time; says whether it was.
    ///
    /// # Errors
    /// [`CaError`]; what is shown stays as it is.
    pub(crate) async fn renew(&self, store: &Store, settings: &Settings, now: u64) -> Result<bool, CaError> {
        if now < self.renew_at.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut write = store.write().await?;
        let stored = keys::all(write.connection()).await?;
        let master = MasterKey::read(&settings.dir)?.ok_or_else(|| MasterKey::missing(&settings.dir))?;
        let mut workshop = Workshop { domain: &settings.domain, master, stored, write, now };
        let root = workshop.root().await?;
        let leaves = workshop.leaves(&root).await?;
        workshop.write.commit().await?;
        self.renew_at.store(leaves.renew_at, Ordering::Relaxed);
        let Leaves { server, client, .. } = leaves;
        self.show(|shown| (shown.server, shown.client) = (server, client));
        Ok(true)
    }
}

impl Workshop<'_> {
    pub(super) async fn leaves(&mut self, root: &Root) -> Result<Leaves, CaError> {
        let gateways = self.intermediate(Role::Gateways, root).await?;
        let server_names = self.intermediate(Role::ServerNames, root).await?;
        let server = self.server(&server_names).await?;
        let (gateway, client) = self.gateway(&gateways).await?;
        Ok(Leaves {
            gateway,
            renew_at: server.read.renew_at().min(client.read.renew_at()),
            server: KeyAndChain {
                // The root goes along: a new device knows nothing but its fingerprint.
                chain_pem: format!("{}{}{}", server.pem, server_names.pem, root.pem),
                key_pem: pkcs8_pem(&server.pkcs8),
            },
            client: KeyAndChain {
                chain_pem: format!("{}{}", client.pem, gateways.pem),
                key_pem: pkcs8_pem(&client.pkcs8),
            },
        })
    }

    async fn server(&mut self, authority: &Certified) -> Result<Certified, CaError> {
        if let Some(found) = self.certified(SERVER, &authority.read)?
            && found.read.is_fresh(self.now)
            && found.read.names(self.domain)
        {
            return Ok(found);
        }
        let (key, pkcs8) = generate(SERVER)?;
        let issuer = issuer_of(authority)?;
        let pem = certificate::server(&key, self.domain, &issuer, Validity::from_now(self.now, SERVER_LIFE))?.pem();
        let read = self.keep(SERVER, &pkcs8, &pem).await?;
        Ok(Certified { key, pkcs8, pem, read })
    }

    async fn gateway(&mut self, authority: &Certified) -> Result<(GatewayId, Certified), CaError> {
        let known =
            self.stored.iter().find_map(|stored| stored.name.strip_prefix(GATEWAY_PREFIX)?.parse::<GatewayId>().ok());
        let id = known.unwrap_or_else(|| GatewayId::from_random(clock::random()));
        let name = format!("{GATEWAY_PREFIX}{id}");
        if let Some(found) = self.certified(&name, &authority.read)?
            && found.read.is_fresh(self.now)
        {
            return Ok((id, found));
        }
        let (key, pkcs8) = generate(&name)?;
        let issuer = issuer_of(authority)?;
        let validity = Validity::from_now(self.now, SERVER_LIFE);
        let pem = certificate::gateway(id, &key, self.domain, &issuer, validity)?.pem();
        let read = self.keep(&name, &pkcs8, &pem).await?;
        Ok((id, Certified { key, pkcs8, pem, read }))
    }
}
