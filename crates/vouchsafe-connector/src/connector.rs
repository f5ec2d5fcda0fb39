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
    pub(crate) gateways: Vec<Address>,
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
        let Options { allow, mut gateways, proxy, streams } = options;
        if gateways.is_empty() {
            gateways.push(Address { host: state.member().gateway_host(), port: state.member().port });
        }
        let shared = Arc::new(Shared {
            state,
            allow,
            gateways,
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

    /// Gateways that it dials.
    #[must_use]
    pub fn gateways(&self) -> &[Address] {
        &self.shared.gateways
    }
}

/// Keeps a link on every way to a gateway. One that no name leads to any more ends with its connection.
async fn follow(shared: Arc<Shared>) {
    let mut links: HashMap<Way, Arc<AtomicBool>> = HashMap::new();
    loop {
        let mut found = Vec::new();
        let mut complete = true;
        for gateway in &shared.gateways {
            match Way::all(gateway, shared.proxy.as_ref()).await {
                Ok(ways) => found.extend(ways),
                Err(error) => {
                    complete = false;
                    tracing::warn!(%gateway, %error, "a gateway can't be looked up");
                }
            }
        }
        found.truncate(MAX_WAYS);
        if complete {
            links.retain(|way, wanted| {
                let keep = found.contains(way);
                wanted.store(keep, Ordering::Relaxed);
                keep
            });
        }
        for way in found {
            if links.len() < MAX_WAYS && !links.contains_key(&way) {
                let wanted = Arc::new(AtomicBool::new(true));
                links.insert(way.clone(), Arc::clone(&wanted));
                shared.tasks.spawn("gateway link", link::keep(Arc::clone(&shared), way, wanted));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.tasks.draining() => return,
        }
    }
}
