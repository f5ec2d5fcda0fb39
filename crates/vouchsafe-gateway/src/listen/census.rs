//! Counts connections and the requests of strangers, and says who may still come in.
//!
//! A connection *arrives*, and once its handshake is over it belongs to a *stranger* of some source
//! address, or to the device or session that was proven on it. Strangers are bounded by source and
//! leave a share of all places free; what is proven counts for its owner instead, so that an office
//! behind one address is not one client, and a flood of strangers shuts nobody out who has signed in.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_runtime::limits::{
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE, MAX_HANDSHAKES, MAX_HANDSHAKES_PER_SOURCE, MAX_SOURCES,
    MAX_STRANGER_REQUESTS, MAX_STRANGER_REQUESTS_PER_SOURCE, PROVEN_IDLE, RESERVED_SHARE, STRANGER_BURST,
    STRANGER_IDLE, STRANGER_REQUESTS_PER_SECOND,
};

use crate::listen::bucket::Bucket;

/// How often a flood is told of in the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Limits that the operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections from all clients together.
    pub all: usize,
    /// Connections of strangers from one source, and of one device or session.
    pub per_source: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { all: MAX_CONNECTIONS, per_source: MAX_CONNECTIONS_PER_SOURCE }
    }
}

/// Who is proven on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A device, by its certificate.
    Device(DeviceId),
    /// Somebody without a device, by her session.
    Session(SessionId),
    /// A proxy that asks for others, by its number among those of this gateway.
    Proxy(usize),
}

/// Why work is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is too much of it.
    Overloaded,
    /// This source asks too often.
    TooFast,
}

/// Whether a request brings something that proves somebody, or could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brings {
    /// The secret of a proxy, verified: whatever else comes from its address, it is let in.
    Proof,
    /// A cookie or token of ours, still unverified.
    Credential,
    /// Nothing.
    Nothing,
}

/// All connections that are open.
#[derive(Debug)]
pub(crate) struct Census {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    all: usize,
    arriving: usize,
    strangers: usize,
    requests: usize,
    sources: HashMap<IpAddr, Source>,
    owners: HashMap<Owner, usize>,
    shed: u64,
    told: Option<Instant>,
}

/// What one source has under way.
#[derive(Debug)]
struct Source {
    connections: usize,
    arriving: usize,
    requests: usize,
    bucket: Bucket,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Connections whose handshake is under way.
    pub(crate) arriving: usize,
    /// Connections on which nobody is proven.
    pub(crate) strangers: usize,
    /// Connections of a device or session.
    pub(crate) proven: usize,
    /// Requests of strangers under way.
    pub(crate) stranger_requests: usize,
    /// What was not taken on, ever.
    pub(crate) shed: u64,
}

/// A place in the census, given back when dropped. Everything that lives on a connection keeps it:
/// what was upgraded outlives the HTTP connection it came from.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    source: IpAddr,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    stage: Stage,
    /// The last credential on this connection was a good one, or its certificate was.
    trusted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Arriving,
    Stranger {
        /// Came when strangers had their share already: served only if it proves somebody.
        surplus: bool,
    },
    Owned(Owner),
}

/// One request of a stranger, as long as it is worked on.
#[derive(Debug)]
pub(crate) struct Admission(Option<Arc<Place>>);

impl Census {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let counts = Counts {
            all: 0,
            arriving: 0,
            strangers: 0,
            requests: 0,
            sources: HashMap::new(),
            owners: HashMap::new(),
            shed: 0,
            told: None,
        };
        Self { limits, counts: Mutex::new(counts) }
    }

    /// A connection that was just accepted; its handshake is still to come.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr, now: Instant) -> Option<Arc<Place>> {
        let ip = source(ip);
        let mut counts = self.counts.lock();
        let full = counts.all >= self.limits.all || counts.arriving >= MAX_HANDSHAKES;
        let room = !full
            && counts.source(ip, now).is_some_and(|source| {
                let room = source.connections < self.limits.per_source && source.arriving < MAX_HANDSHAKES_PER_SOURCE;
                if room {
                    source.connections += 1;
                    source.arriving += 1;
                }
                room
            });
        if !room {
            counts.shed(now);
            return None;
        }
        counts.all += 1;
        counts.arriving += 1;
        counts.strangers += 1;
        drop(counts);
        let standing = Mutex::new(Standing { stage: Stage::Arriving, trusted: false });
        Some(Arc::new(Place { census: Arc::clone(self), source: ip, standing }))
    }

    /// A connection inside a device's tunnel: it counts for the device, wherever that is.
    pub(crate) fn enter_inside(self: &Arc<Self>, ip: IpAddr, device: DeviceId, now: Instant) -> Option<Arc<Place>> {
        let owner = Owner::Device(device);
        let mut counts = self.counts.lock();
        let owned = counts.owners.get(&owner).copied().unwrap_or_default();
        if counts.all >= self.limits.all || owned >= self.limits.per_source {
            counts.shed(now);
            return None;
        }
        counts.all += 1;
        *counts.owners.entry(owner).or_default() += 1;
        drop(counts);
        let standing = Mutex::new(Standing { stage: Stage::Owned(owner), trusted: true });
        Some(Arc::new(Place { census: Arc::clone(self), source: source(ip), standing }))
    }

    /// The system could not give a connection: it is out of files, or the client went away.
    pub(crate) fn not_accepted(&self, error: &std::io::Error, now: Instant) {
        tracing::debug!(%error, "a connection could not be accepted");
        self.counts.lock().shed(now);
    }

    /// Whether somebody there, for whom a proxy asks, may show a credential that nobody knows yet. Where there is no room
    /// to count that it was none, she may not.
    pub(crate) fn may_guess(&self, ip: IpAddr, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let ip = source(ip);
        counts.has_room(ip, now) && counts.sources.get_mut(&ip).is_none_or(|source| source.bucket.has_some(now))
    }

    /// Whether somebody there, for whom a proxy asks, may ask for what takes no credential. Who may not is counted.
    pub(crate) fn may_ask(&self, ip: IpAddr, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        let may = counts.source(source(ip), now).is_some_and(|source| source.bucket.take(now));
        if !may {
            counts.shed(now);
        }
        may
    }

    /// A request for somebody, for whom a proxy asks, is not taken on.
    pub(crate) fn shed(&self, now: Instant) {
        self.counts.lock().shed(now);
    }

    /// Somebody there, for whom a proxy asks, showed a credential that is none.
    pub(crate) fn guessed(&self, ip: IpAddr, now: Instant) {
        if let Some(source) = self.counts.lock().source(source(ip), now) {
            source.bucket.take(now);
        }
    }

    /// How many there are of each.
    pub(crate) fn numbers(&self) -> Numbers {
        let counts = self.counts.lock();
        Numbers {
            arriving: counts.arriving,
            strangers: counts.strangers.saturating_sub(counts.arriving),
            proven: counts.all.saturating_sub(counts.strangers),
            stranger_requests: counts.requests,
            shed: counts.shed,
        }
    }

    /// Connections that are open.
    #[cfg(test)]
    fn all(&self) -> usize {
        self.counts.lock().all
    }

    fn stranger_share(&self) -> usize {
        self.limits.all - self.limits.all / RESERVED_SHARE
    }
}

impl Counts {
    /// The source's counters; `None` when too many sources are counted already.
    fn source(&mut self, ip: IpAddr, now: Instant) -> Option<&mut Source> {
        if !self.has_room(ip, now) {
            return None;
        }
        Some(self.sources.entry(ip).or_insert_with(|| Source {
            connections: 0,
            arriving: 0,
            requests: 0,
            bucket: Bucket::full(STRANGER_BURST, STRANGER_REQUESTS_PER_SECOND, now),
        }))
    }

    /// Whether the source has counters, or may have them.
    fn has_room(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.sources.contains_key(&ip) || self.sources.len() < MAX_SOURCES {
            return true;
        }
        self.sources.retain(|_, source| source.is_in_use() || !source.bucket.has_rested(now));
        self.sources.len() < MAX_SOURCES
    }

    /// Changes a source's counters, and forgets it once nothing is left to remember.
    fn settle(&mut self, ip: IpAddr, change: impl FnOnce(&mut Source)) {
        if let Some(source) = self.sources.get_mut(&ip) {
            change(source);
            if !source.is_in_use() && source.bucket.is_untouched() {
                self.sources.remove(&ip);
            }
        }
    }

    fn shed(&mut self, now: Instant) {
        self.shed += 1;
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            tracing::warn!(
                shed = self.shed,
                connections = self.all,
                strangers = self.strangers,
                handshakes = self.arriving,
                "more is asked than is taken on; new connections or requests of strangers are refused"
            );
        }
    }
}

impl Source {
    fn is_in_use(&self) -> bool {
        self.connections > 0 || self.requests > 0
    }
}

impl Place {
    /// The handshake is over; `device` is proven by its certificate.
    pub(crate) fn arrived(&self, device: Option<DeviceId>) {
        let mut standing = self.standing.lock();
        if standing.stage != Stage::Arriving {
            return;
        }
        let mut counts = self.census.counts.lock();
        counts.arriving -= 1;
        counts.settle(self.source, |source| source.arriving -= 1);
        let surplus = counts.strangers > self.census.stranger_share();
        standing.stage = Stage::Stranger { surplus };
        if let Some(device) = device {
            self.own(&mut standing, &mut counts, Owner::Device(device));
        }
    }

    /// A request on this connection proved somebody.
    pub(crate) fn prove(&self, owner: Owner) {
        let mut standing = self.standing.lock();
        match standing.stage {
            // Once somebody's, a connection stays counted for her.
            Stage::Owned(_) => standing.trusted = true,
            Stage::Arriving => {}
            Stage::Stranger { .. } => self.own(&mut standing, &mut self.census.counts.lock(), owner),
        }
    }

    /// A request on this connection failed to prove anybody. Until one does, requests here are a
    /// stranger's again: a good credential buys no guesses at others.
    pub(crate) fn doubt(&self) {
        let mut standing = self.standing.lock();
        if std::mem::replace(&mut standing.trusted, false) {
            let now = Instant::now();
            let mut counts = self.census.counts.lock();
            if let Some(source) = counts.source(self.source, now) {
                source.bucket.take(now);
            }
        }
    }

    /// Moves the connection from its source to its owner, unless the owner has too many already.
    fn own(&self, standing: &mut Standing, counts: &mut Counts, owner: Owner) {
        let owned = counts.owners.entry(owner).or_default();
        if *owned < self.census.limits.per_source {
            *owned += 1;
            counts.strangers -= 1;
            counts.settle(self.source, |source| source.connections -= 1);
            *standing = Standing { stage: Stage::Owned(owner), trusted: true };
        }
    }

    /// Takes a request on. `None` when the connection is trusted, or the request is by itself, and the request counts nowhere.
    ///
    /// # Errors
    /// [`Refused`] when this stranger's request is one too many.
    pub(crate) fn admit(self: &Arc<Self>, brings: Brings, now: Instant) -> Result<Admission, Refused> {
        let standing = *self.standing.lock();
        if standing.trusted || brings == Brings::Proof {
            return Ok(Admission(None));
        }
        let mut counts = self.census.counts.lock();
        let sheds = standing.stage == Stage::Stranger { surplus: true } && brings == Brings::Nothing;
        let taken = match counts.requests {
            _ if sheds => Err(Refused::Overloaded),
            MAX_STRANGER_REQUESTS.. => Err(Refused::Overloaded),
            _ => match counts.source(self.source, now) {
                None => Err(Refused::Overloaded),
                Some(source) if source.requests >= MAX_STRANGER_REQUESTS_PER_SOURCE => Err(Refused::Overloaded),
                Some(source) => match source.bucket.take(now) {
                    true => {
                        source.requests += 1;
                        Ok(())
                    }
                    false => Err(Refused::TooFast),
                },
            },
        };
        match taken {
            Ok(()) => {
                counts.requests += 1;
                Ok(Admission(Some(Arc::clone(self))))
            }
            Err(refused) => {
                counts.shed(now);
                Err(refused)
            }
        }
    }

    /// How long this connection may be idle.
    pub(crate) fn idle_limit(&self) -> Duration {
        match self.standing.lock().stage {
            Stage::Owned(_) => PROVEN_IDLE,
            Stage::Stranger { .. } | Stage::Arriving => STRANGER_IDLE,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stage = self.standing.get_mut().stage;
        let mut counts = self.census.counts.lock();
        counts.all -= 1;
        match stage {
            Stage::Owned(owner) => {
                if let Some(owned) = counts.owners.get_mut(&owner) {
                    *owned -= 1;
                    if *owned == 0 {
                        counts.owners.remove(&owner);
                    }
                }
            }
            Stage::Arriving => {
                counts.arriving -= 1;
                counts.strangers -= 1;
                counts.settle(self.source, |source| {
                    source.connections -= 1;
                    source.arriving -= 1;
                });
            }
            Stage::Stranger { .. } => {
                counts.strangers -= 1;
                counts.settle(self.source, |source| source.connections -= 1);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            let mut counts = place.census.counts.lock();
            counts.requests -= 1;
            counts.settle(place.source, |source| source.requests -= 1);
            // The lock is let go before the place is, which takes it again.
            drop(counts);
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 subscriber has.
pub(crate) fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
