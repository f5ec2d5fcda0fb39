//! What every part of the controller shares.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::link::Attendance;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::CertificateState;

use crate::administrator::live::Live;
use crate::administrator::simulate::Turns;
use crate::administrator::turn::Turn;
use crate::ca::Ca;
use crate::channel::Reached;
use crate::checkpoints::Checkpoints;
use crate::prover::Prover;
use crate::room::Room;
use crate::rosters::Rosters;
use crate::store::Store;
use crate::streams::Streams;
use crate::webhooks::Counted;

/// Settings of the controller that do not change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// State directory.
    pub(crate) dir: PathBuf,
    /// Base domain.
    pub(crate) domain: BaseDomain,
    /// Port under which clients reach the gateway.
    pub(crate) port: u16,
}

impl Settings {
    /// `https://<label>.<domain>[:port]`, without a slash at the end; the port is left out when it is 443.
    pub(crate) fn origin(&self, label: &str) -> String {
        self.origin_at(label, self.port)
    }

    /// The same at another port.
    pub(crate) fn origin_at(&self, label: &str, port: u16) -> String {
        match port {
            443 => format!("https://{}", self.domain.host(label)),
            port => format!("https://{}:{port}", self.domain.host(label)),
        }
    }

    /// A command for the owner of this machine, as it has to be typed.
    pub(crate) fn command(&self, words: &str) -> String {
        let dir = self.dir.display().to_string();
        match dir.as_str() {
            "/var/lib/vouchsafe" => format!("vouchsafe {words}"),
            dir if dir.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter)) => {
                format!("vouchsafe {words} --dir {dir}")
            }
            dir => format!("vouchsafe {words} --dir '{}'", dir.replace('\'', "'\\''")),
        }
    }

    /// Issuer of tokens and assertions.
    pub(crate) fn issuer(&self) -> String {
        self.origin("auth")
    }
}

/// Shared by all parts; cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) settings: Arc<Settings>,
    pub(crate) store: Store,
    pub(crate) ca: Arc<Ca>,
    /// The tree over the audit log.
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) tasks: TaskGroup,
    /// How the certificates of a public authority stand.
    pub(crate) certificates: Arc<RwLock<Vec<CertificateState>>>,
    /// The policy in force, made ready.
    pub(crate) live: Arc<Live>,
    /// Whose turn it is to try policies on the log.
    pub(crate) simulations: Arc<Turns>,
    /// Whose turn it is to work on everybody's rights.
    pub(crate) rights: Turn,
    /// Whose turn it is to see what she can reach herself: nobody's page keeps administrators waiting.
    pub(crate) own_rights: Turn,
    /// What came of messages to webhooks.
    pub(crate) webhooks: Arc<Counted>,
    /// Room on the disk for the audit log.
    pub(crate) room: Arc<Room>,
    /// Streams of the audit log.
    pub(crate) streams: Arc<Streams>,
    /// How gateways reach this controller; not set when it doesn't listen for any.
    pub(crate) channel: Arc<OnceLock<Reached>>,
    /// Who proves what is to hold of a policy; not set where nobody does.
    pub(crate) prover: Arc<OnceLock<Arc<dyn Prover>>>,
    /// The gateway in this process, and who knows which connectors are attached to it.
    pub(crate) own_gateway: Arc<OnceLock<(GatewayId, Arc<dyn Attendance>)>>,
    /// The list of gateways for connectors.
    pub(crate) rosters: Arc<Rosters>,
}

#[cfg(test)]
impl Context {
    /// A controller's innards on a fresh database in `dir`, with nobody and no policy in it.
    pub(crate) async fn for_test(dir: &std::path::Path) -> Self {
        let settings =
            Settings { dir: dir.to_owned(), domain: BaseDomain::parse("vouchsafe.localhost").unwrap(), port: 8443 };
        let (store, _) = Store::open(&dir.join("vouchsafe.db")).await.unwrap();
        let ca = Ca::open(&store, &settings).await.unwrap();
        let checkpoints =
            Checkpoints::open(&store, &ca, &settings, None, crate::checkpoints::Witnesses::default()).await.unwrap();
        Self {
            checkpoints: Arc::new(checkpoints),
            settings: Arc::new(settings),
            store,
            ca: Arc::new(ca),
            tasks: TaskGroup::new(),
            certificates: Arc::default(),
            live: Arc::default(),
            simulations: Arc::default(),
            rights: Turn::default(),
            own_rights: Turn::default(),
            webhooks: Arc::default(),
            room: Arc::default(),
            streams: Arc::default(),
            channel: Arc::default(),
            prover: Arc::default(),
            own_gateway: Arc::default(),
            rosters: Arc::default(),
        }
    }
}
