//! Which gateways are attached at this moment. One stream each: a second one takes the place of the first, as
//! when a gateway comes back before it was noticed that it went; or when somebody runs a copy of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{AttachedConnector, codec};
use vouchsafe_wire::api;
use vouchsafe_wire::control::message;

/// Connectors of one gateway that are looked at: as many as it takes connections of.
const MAX_CONNECTORS: usize = 1_024;

/// Gateways that are attached.
#[derive(Clone, Default)]
pub(crate) struct Attached(Arc<Mutex<Streams>>);

#[derive(Default)]
struct Streams {
    /// Never given twice: a stream that ends late must not give up the place of a later one.
    next: u64,
    of: HashMap<GatewayId, Entry>,
}

struct Entry {
    stream: u64,
    seen: Arc<Seen>,
    replaced: watch::Sender<Option<IpAddr>>,
}

/// How many are attached.
pub(crate) struct Attendance {
    pub(crate) attached: usize,
    /// Changes that the one furthest behind hasn't acknowledged.
    pub(crate) most_behind: u64,
}

/// What is known of an attached gateway.
struct Seen {
    ip: IpAddr,
    since: u64,
    /// Last row of the feed that is in force there, and when it said so.
    sequence: AtomicU64,
    heard: AtomicU64,
    /// Connectors that are attached to it, as it last told.
    connectors: Mutex<Vec<AttachedConnector>>,
}

impl Attached {
    /// A gateway attaches, and the stream that it had before ends.
    pub(super) fn enter(&self, gateway: GatewayId, ip: IpAddr) -> Place {
        let now = clock::unix_seconds(clock::now());
        let (sequence, heard) = (AtomicU64::new(0), AtomicU64::new(now));
        let seen = Arc::new(Seen { ip, since: now, sequence, heard, connectors: Mutex::default() });
        let (replaced, watch) = watch::channel(None);
        let mut attached = self.0.lock();
        let stream = attached.next;
        attached.next += 1;
        let entry = Entry { stream, seen: Arc::clone(&seen), replaced };
        if let Some(before) = attached.of.insert(gateway, entry) {
            before.replaced.send_replace(Some(ip));
            if before.seen.ip != ip {
                let was = before.seen.ip;
                tracing::error!(%gateway, %was, now = %ip, "a gateway attaches twice: it moved, or it was copied");
            }
        }
        Place { attached: self.clone(), gateway, stream, seen, watch }
    }

    /// How many are attached when `newest` is the last row of the feed.
    pub(crate) fn attendance(&self, newest: u64) -> Attendance {
        let attached = self.0.lock();
        let behind =
            attached.of.values().map(|entry| newest.saturating_sub(entry.seen.sequence.load(Ordering::Relaxed)));
        Attendance { attached: attached.of.len(), most_behind: behind.max().unwrap_or_default() }
    }

    /// How a gateway is attached when `newest` is the last row of the feed; `None` when it is not.
    pub(crate) fn find(&self, gateway: GatewayId, newest: u64) -> Option<api::Attached> {
        self.0.lock().of.get(&gateway).map(|entry| {
            let Seen { ip, since, sequence, heard, connectors: _ } = &*entry.seen;
            api::Attached {
                ip: ip.to_string(),
                since: *since,
                heard: heard.load(Ordering::Relaxed),
                behind: newest.saturating_sub(sequence.load(Ordering::Relaxed)),
            }
        })
    }
}

impl Attached {
    /// Connectors that are attached to any of the gateways.
    pub(crate) fn connectors(&self) -> Vec<(GatewayId, AttachedConnector)> {
        let attached = self.0.lock();
        let told = |(gateway, entry): (&GatewayId, &Entry)| {
            entry.seen.connectors.lock().iter().map(|one| (*gateway, *one)).collect::<Vec<_>>()
        };
        attached.of.iter().flat_map(told).collect()
    }
}

/// The place of one stream; free again when it is dropped.
pub(super) struct Place {
    attached: Attached,
    gateway: GatewayId,
    stream: u64,
    seen: Arc<Seen>,
    watch: watch::Receiver<Option<IpAddr>>,
}

impl Place {
    /// Notes that everything up to this row is in force at the gateway.
    pub(super) fn acknowledged(&self, sequence: u64) {
        self.seen.sequence.store(sequence, Ordering::Relaxed);
        self.seen.heard.store(clock::unix_seconds(clock::now()), Ordering::Relaxed);
    }

    /// Notes which connectors are attached to the gateway.
    pub(super) fn told_of(&self, connectors: &[message::AttachedConnector]) {
        let told = connectors.iter().take(MAX_CONNECTORS).filter_map(codec::read_attached_connector);
        *self.seen.connectors.lock() = told.collect();
    }

    /// Resolves when another stream of this gateway took the place; says from where.
    pub(super) async fn replaced(&self) -> IpAddr {
        let mut watch = self.watch.clone();
        loop {
            if let Some(by) = *watch.borrow_and_update() {
                return by;
            }
            if watch.changed().await.is_err() {
                // Only `enter` drops the other end, and it says by whom first.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attached = self.attached.0.lock();
        if attached.of.get(&self.gateway).is_some_and(|entry| entry.stream == self.stream) {
            attached.of.remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use vouchsafe_model::id::ConnectorId;

    use super::*;

    #[tokio::test]
    async fn a_second_stream_of_a_gateway_ends_the_first_and_keeps_its_place() {
        let (attached, gateway) = (Attached::default(), GatewayId::from_random([1; 16]));
        let [one, other] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
        let first = attached.enter(gateway, one);
        let second = attached.enter(gateway, other);
        assert_eq!(first.replaced().await, other);
        drop(first);
        second.acknowledged(7);
        // Of connectors it is told by the stream that has the place; what is none is passed over.
        let connector = ConnectorId::from_random([2; 16]);
        let told = |id: &str| message::AttachedConnector { id: id.to_owned(), since_us: 7, connections: 2, streams: 3 };
        second.told_of(&[told(&connector.to_string()), told("nonsense")]);
        let all = attached.connectors();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0, all[0].1.id, all[0].1.streams), (gateway, connector, 3));
        let seen = attached.find(gateway, 9).unwrap();
        assert_eq!((seen.ip, seen.behind), (other.to_string(), 2));
        drop(second);
        assert_eq!(attached.find(gateway, 9), None);
        // One that ends late takes nobody's place.
        let late = attached.enter(gateway, one);
        drop(attached.enter(gateway, one));
        let newest = attached.enter(gateway, other);
        drop(late);
        assert_eq!(attached.find(gateway, 9).map(|seen| seen.ip), Some(other.to_string()));
        drop(newest);
        assert_eq!(attached.find(gateway, 9), None);
    }
}
