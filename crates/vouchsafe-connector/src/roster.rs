//! The list of gateways, as this connector has it. The controller signed it; which gateway handed it over says
//! nothing. Streams are taken only from gateways that the newest list has, and only until it ends: a gateway that
//! was removed has a good certificate for days.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::RootCertStore;
use tokio::sync::watch;
use vouchsafe_model::id::GatewayId;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::{Endpoint, UpstreamHost};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::roster::{Roster, RosterError};
use vouchsafe_wire::roster::MAX_ROSTER_BYTES;

use crate::dial::Address;
use crate::state::{FOLDER, StateError, replace_file};

const FILE: &str = "gateways.bin";
/// How long a gateway has to bring a list that has it.
const INTRODUCTION: Duration = Duration::from_secs(8);
/// How often it is looked whether a list has ended: by the clock, which may be set.
const LOOK: Duration = Duration::from_secs(30);

/// The newest list, on disk too.
pub(crate) struct Rosters {
    path: PathBuf,
    roots: Arc<RootCertStore>,
    domain: BaseDomain,
    newest: watch::Sender<Option<Arc<Roster>>>,
    /// One at a time is compared and kept.
    taking: Mutex<()>,
}

/// What became of a list that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in force.
    New,
    /// It is the one that was in force, or an older one.
    Known,
}

impl Rosters {
    /// Reads what was kept. A list that can't be believed is none.
    pub(crate) fn load(dir: &Path, roots: Arc<RootCertStore>, domain: BaseDomain) -> Self {
        let path = dir.join(FOLDER).join(FILE);
        let kept = fs::metadata(&path).ok().filter(|about| about.len() <= MAX_ROSTER_BYTES as u64);
        let roster = kept.and_then(|_| fs::read(&path).ok()).and_then(|bytes| {
            Roster::verified(&bytes, &roots, &domain, clock::now())
                .inspect_err(|error| tracing::warn!(%error, "the list of gateways that was kept is not believed"))
                .ok()
        });
        Self { path, roots, domain, newest: watch::Sender::new(roster.map(Arc::new)), taking: Mutex::default() }
    }

    /// Takes a list in, if it is newer than what is in force.
    pub(crate) fn take(&self, bytes: &[u8]) -> Result<Taken, RosterError> {
        let roster = Roster::verified(bytes, &self.roots, &self.domain, clock::now())?;
        let _one = self.taking.lock();
        if self.newest.borrow().as_ref().is_some_and(|newest| !roster.is_newer_than(newest)) {
            return Ok(Taken::Known);
        }
        tracing::info!(sequence = roster.sequence, gateways = roster.gateways.len(), "a new list of gateways");
        // In force before it is kept, and also where it can't be: a removal counts now, however slow the disk is.
        self.newest.send_replace(Some(Arc::new(roster)));
        if let Err(error) = self.keep(bytes) {
            tracing::error!(error = &error as &dyn std::error::Error, "the list of gateways can't be kept");
        }
        Ok(Taken::New)
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), StateError> {
        replace_file(&self.path, bytes)
    }

    /// Whether streams of that gateway are taken at this moment.
    pub(crate) fn believes(&self, gateway: GatewayId) -> bool {
        self.newest.borrow().as_ref().is_some_and(|roster| roster.has(gateway) && !roster.is_over(clock::now()))
    }

    /// Resolves when streams of a gateway that is connected are not taken any more, or it brought no list that has
    /// it; says why.
    pub(crate) async fn doubted(&self, gateway: GatewayId) -> &'static str {
        let mut newest = self.newest.subscribe();
        let introduced = async {
            while !self.believes(gateway) {
                if newest.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if tokio::time::timeout(INTRODUCTION, introduced).await.is_err() {
            return "it brings no list of gateways that has it";
        }
        loop {
            match newest.borrow_and_update().as_ref() {
                Some(roster) if !roster.has(gateway) => return "it is not on the list of gateways any more",
                Some(roster) if roster.is_over(clock::now()) => return "the list of gateways has ended",
                Some(_) | None => {}
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// A signal at each new list.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<Arc<Roster>>> {
        self.newest.subscribe()
    }

    /// Addresses of the gateways on it; of a list that has ended too, since it is only where to look.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let newest = self.newest.borrow();
        let all = newest.iter().flat_map(|roster| &roster.gateways).flat_map(|(_, addresses)| addresses);
        all.map(|Endpoint { host, port }| Address { host: plain(host), port: *port }).collect()
    }
}

fn plain(host: &UpstreamHost) -> String {
    match host {
        UpstreamHost::Ip(address) => address.to_string(),
        UpstreamHost::Name(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests;
