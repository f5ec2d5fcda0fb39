//! The connector as a whole: what it is given, what its parts share, how it starts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use vouchsafe_runtime::resolve::Resolver;
use vouchsafe_runtime::task::TaskGroup;

use crate::allow::AllowList;
use crate::dial::{Address, Proxy, Way};
use crate::join;
use crate::link;
use crate::roster::Rosters;
use crate::state::{Member, State, StateError};

/// How often gateways' names are looked up.
const LOOK: Duration = Duration::from_secs(30);
/// Ways to gateways that are held at once.
const MAX_WAYS: usize = 64;

/// What a connector is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Targets that it opens.
    pub allow: AllowList,
    /// Gateways, where `gw.<domain>` isn't all of them.
    pub gateways: Vec<Address>,
    /// Proxy in between.
    pub proxy: Option<Proxy>,
    /// Most streams, of all gateways together.
    pub streams: usize,
}

/// What the parts share.
pub(crate) struct Shared {
    pub(crate) state: State,
    pub(crate) allow: AllowList,
    /// Gateways that were given; where none are, DNS and the list say which there are.
    given: Vec<Address>,
    pub(crate) rosters: Rosters,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) resolver: Resolver,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskGroup,
}

/// A running connector.
pub struct Connector {
    shared: Arc<Shared>,
}

impl Connector {
    /// Starts the connector that has joined under that directory; it runs until the group's shutdown.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn start(dir: &Path, options: Options, tasks: &TaskGroup) -> Result<Self, StateError> {
        let state = State::load(dir)?;
        let Options { allow, gateways: given, proxy, streams } = options;
        let roots = state.roots()?;
        let rosters = Rosters::load(dir, roots, state.member().domain.clone());
        let shared = Arc::new(Shared {
            state,
            allow,
            given,
            rosters,
            proxy,
            resolver: Resolver::default(),
            places: Arc::new(Semaphore::new(streams)),
            tasks: tasks.clone(),
        });
        tasks.spawn_vital("gateways", follow(Arc::clone(&shared)));
        tasks.spawn_vital("connector certificate", join::renewals(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Who it is.
    #[must_use]
    pub fn member(&self) -> &Member {
        self.shared.state.member()
    }

    /// Gateways that it dials, as it knows them by now.
    #[must_use]
    pub fn gateways(&self) -> Vec<Address> {
        self.shared.gateways().into_iter().map(|(address, _)| address).collect()
    }
}

/// Who says that a gateway is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whoever runs the connector, or the DNS of the installation.
    Configured,
    /// The list, where each gateway's addresses are what it says of itself.
    Listed,
}

impl Shared {
    /// Gateways to dial: those that were given, or else whatever the gateways' name leads to and the list has. The
    /// name finds a first one, also when every address of the list is another by now.
    pub(crate) fn gateways(&self) -> Vec<(Address, Origin)> {
        let configured = |address| (address, Origin::Configured);
        if !self.given.is_empty() {
            return self.given.iter().cloned().map(configured).collect();
        }
        let member = self.state.member();
        let mut all = vec![configured(Address { host: member.gateway_host(), port: member.port })];
        all.extend(self.rosters.addresses().into_iter().map(|address| (address, Origin::Listed)));
        all
    }
}

/// Keeps a link on every way to a gateway. One that no name leads to any more ends with its connection.
async fn follow(shared: Arc<Shared>) {
    let mut links: HashMap<Way, (Origin, Arc<AtomicBool>)> = HashMap::new();
    let mut lists = shared.rosters.changes();
    loop {
        lists.mark_unchanged();
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        for (gateway, origin) in shared.gateways() {
            match Way::all(&gateway, origin, shared.proxy.as_ref()).await {
                Ok(ways) => found.extend(ways.into_iter().map(|way| (way, origin))),
                Err(error) => {
                    unknown.push(origin);
                    tracing::warn!(%gateway, %error, "a gateway can't be looked up");
                }
            }
        }
        found.truncate(MAX_WAYS);
        links.retain(|way, (origin, wanted)| {
            // Where a name can't be looked up, nobody knows that it leads elsewhere.
            let keep = unknown.contains(origin) || found.iter().any(|(other, _)| other == way);
            wanted.store(keep, Ordering::Relaxed);
            keep
        });
        for (way, origin) in found {
            if links.len() < MAX_WAYS && !links.contains_key(&way) {
                let wanted = Arc::new(AtomicBool::new(true));
                links.insert(way.clone(), (origin, Arc::clone(&wanted)));
                shared.tasks.spawn("gateway link", link::keep(Arc::clone(&shared), way, wanted));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = lists.changed() => {}
            () = shared.tasks.draining() => return,
        }
    }
}
