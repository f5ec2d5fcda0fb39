//! The composition: opens the state directory, and hands out what a gateway needs.

mod directory_lock;
mod service;
mod start;
mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::internal::InternalService;
use vouchsafe_runtime::link::{ControlLink, GatewayIdentity};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::vitals::Vitals;
use vouchsafe_wire::api::{AssessmentDoc, Invited};

use self::directory_lock::StateDirectory;
pub use self::directory_lock::StateDirectoryError;
pub(crate) use self::service::Service;
pub(crate) use self::upkeep::clock_jumped;
use crate::acme::{self, AcmeError, AcmeOptions};
use crate::admin_socket::{self, AdminSocketError};
use crate::administrator::assessment;
use crate::administrator::turn::Turn;
use crate::ca::{Ca, CaError};
use crate::channel::{self, ChannelError, ChannelOptions};
use crate::checkpoints::{self, CheckpointError, Checkpoints, Witnesses};
use crate::context::{Context, Settings};
use crate::directory::{Actor, DirectoryError};
use crate::identity::IdentityError;
use crate::link::Link;
use crate::prover::Prover;
use crate::retention;
use crate::rosters;
use crate::store::{Store, StoreError};
use crate::vitals::ControllerVitals;
use crate::{room, streams, webhooks};

/// Name of the database in the state directory.
pub const DATABASE: &str = "vouchsafe.db";

/// What a controller needs to know before it opens its state.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// State directory; made when it is not there.
    pub dir: PathBuf,
    /// Base domain; the one of the first start, ever after.
    pub domain: BaseDomain,
    /// Port under which clients reach the gateway; it may change from start to start.
    pub port: u16,
    /// Public authority that issues certificates for the names of browsers.
    pub acme: Option<AcmeOptions>,
    /// One more file that every checkpoint of the audit log is kept in, best on another machine.
    pub checkpoint_copy: Option<PathBuf>,
    /// Days after which audit records are removed, [`SHORTEST_KEEP_DAYS`](crate::SHORTEST_KEEP_DAYS) at least; `None` keeps them for good.
    pub keep_days: Option<u32>,
    /// Who is asked to cosign them.
    pub witnesses: Witnesses,
}

/// Failure to open a controller.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory can't be used.
    #[error(transparent)]
    StateDirectory(#[from] StateDirectoryError),
    /// The installation is for another domain.
    #[error(
        "the state directory `{}` is of the base domain `{remembered}`, not `{given}`; \
         hint: start it with --domain {remembered}, or give an empty --dir for a new installation", dir.display()
    )]
    OtherDomain {
        /// The directory.
        dir: PathBuf,
        /// The domain of the first start.
        remembered: String,
        /// The domain asked for.
        given: BaseDomain,
    },
    /// The certificate authority could not be opened.
    #[error("the certificate authority could not be opened")]
    Ca(#[from] CaError),
    /// The base domain does not suit passkeys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The first administrator could not be made or invited.
    #[error("the first administrator could not be invited: {why}")]
    FirstAdministrator {
        /// Cause in words.
        why: String,
    },
    /// The public authority can't be asked.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The admin socket could not be opened.
    #[error(transparent)]
    AdminSocket(#[from] AdminSocketError),
    /// Gateways can't be served.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Checkpoints of the audit log can't be made.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DirectoryError> for OpenError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Store(error) => OpenError::Store(error),
            other => OpenError::FirstAdministrator { why: other.to_string() },
        }
    }
}

/// An open controller. Its tasks run in the group that it was opened with; it holds the lock on its
/// state directory until it is dropped and they have ended.
pub struct Controller {
    context: Context,
    link: Arc<Link>,
    service: Arc<Service>,
    first_invite: Option<Invited>,
    owner: u32,
    acme: Option<acme::Keeper>,
}

impl Controller {
    /// Opens the state directory, the database and the keys in it, makes what is missing, and
    /// starts the controller's tasks.
    ///
    /// # Errors
    /// [`OpenError`]: the directory is in use, not ours, of another domain, or damaged.
    pub async fn open(options: OpenOptions, tasks: TaskGroup) -> Result<Self, OpenError> {
        let OpenOptions { dir, domain, port, acme, checkpoint_copy, keep_days, witnesses } = options;
        let directory = StateDirectory::lock(&dir)?;
        let owner = directory.owner();
        let database = directory.private_file(DATABASE)?;
        let settings = Settings { dir, domain, port };
        let (store, snapshots) = Store::open(&database).await?;
        store.hold(directory);
        start::remember_domain(&store, &settings).await?;
        let ca = Ca::open(&store, &settings).await?;
        let checkpoints = Arc::new(Checkpoints::open(&store, &ca, &settings, checkpoint_copy, witnesses).await?);
        let certificates = Arc::default();
        let (settings, ca) = (Arc::new(settings), Arc::new(ca));
        let (live, simulations, channel) = (Arc::default(), Arc::default(), Arc::default());
        let (own_gateway, prover, rosters) = (Arc::default(), Arc::default(), Arc::default());
        let context = Context {
            settings,
            store,
            ca,
            checkpoints,
            tasks,
            certificates,
            live,
            simulations,
            rights: Turn::default(),
            own_rights: Turn::default(),
            webhooks: Arc::default(),
            room: Arc::default(),
            streams: Arc::default(),
            channel,
            prover,
            own_gateway,
            rosters,
        };
        start::notice_the_clock(&context.store).await?;
        let first_invite = start::first_start(&context).await?;
        let link = Link::start(context.clone(), snapshots).await?;
        rosters::start(&context).await?;
        start::record_start(&context).await?;
        checkpoints::start(&context);
        retention::start(&context, keep_days);
        upkeep::start(&context);
        webhooks::start(&context);
        streams::start(&context);
        room::start(&context);
        let acme = match acme {
            Some(options) => Some(acme::prepare(&context, options, link.snapshots()).await?),
            None => None,
        };
        let service = Service::new(&context)?;
        Ok(Self { context, link: Arc::new(link), service: Arc::new(service), first_invite, owner, acme })
    }

    #[cfg(test)]
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// What the gateway in this process asks.
    #[must_use]
    pub fn link(&self) -> Arc<dyn ControlLink> {
        Arc::clone(&self.link) as Arc<dyn ControlLink>
    }

    /// The services behind our own host names.
    #[must_use]
    pub fn service(&self) -> Arc<dyn InternalService> {
        Arc::clone(&self.service) as Arc<dyn InternalService>
    }

    /// How it is, for those who run it.
    #[must_use]
    pub fn vitals(&self) -> Arc<dyn Vitals> {
        Arc::new(ControllerVitals(self.context.clone()))
    }

    /// Who proves what is to hold of a policy. Without one, a policy of which something must be proven isn't
    /// published. Only the first one counts.
    pub fn prove_with(&self, prover: Arc<dyn Prover>) {
        let _ = self.context.prover.set(prover);
    }

    /// Keys and certificates of the gateway in this process.
    #[must_use]
    pub fn gateway_identity(&self) -> GatewayIdentity {
        self.context.ca.gateway_identity()
    }

    /// PEM of the root that vouches for our own server names.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        self.context.ca.root_pem()
    }

    /// The link for the first administrator: on the first start, and on a later one while nobody
    /// has registered a passkey and no earlier link is good any more.
    #[must_use]
    pub fn first_invite(&self) -> Option<&Invited> {
        self.first_invite.as_ref()
    }

    /// Keeps a look at this host when it is done; whoever looks does that elsewhere.
    pub fn keep_assessment(&self, coming: impl Future<Output = Option<AssessmentDoc>> + Send + 'static) {
        let context = self.context.clone();
        self.context.tasks.spawn("assessment", async move {
            let Some(found) = coming.await else { return };
            if let Err(error) = assessment::put(&context, &found, &Actor::Controller).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a look at this host could not be kept");
            }
        });
    }

    /// Begins to order certificates of the public authority, if there is one. To be called when the
    /// gateway serves: the authority looks at our names at once.
    pub fn order_certificates(&mut self) {
        if let Some(keeper) = self.acme.take() {
            self.context.tasks.spawn_vital("acme", keeper.run());
        }
    }

    /// Lets gateways that are processes of their own attach until the drain. Gives the addresses that are
    /// listened on.
    ///
    /// # Errors
    /// [`OpenError::Channel`].
    pub async fn serve_gateways(&self, options: ChannelOptions) -> Result<Vec<SocketAddr>, OpenError> {
        let (link, service) = (Arc::clone(&self.link), Arc::clone(&self.service));
        Ok(channel::serve(&self.context, link, service, options).await?)
    }

    /// Offers the API to the owner of the machine, on `<dir>/admin.sock`, until the drain.
    ///
    /// # Errors
    /// [`OpenError::AdminSocket`].
    pub async fn serve_admin(&self) -> Result<(), OpenError> {
        Ok(admin_socket::serve(&self.context, self.owner).await?)
    }
}

#[cfg(test)]
mod tests;
