//! Open connections of gateways: a few of each, which end at once when it is removed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use vouchsafe_model::id::GatewayId;

/// Connections of one gateway at once: it has two, and two more while it comes back after a loss that was not
/// noticed here yet. Past that its oldest ends.
const MAX_OF_ONE: usize = 4;

/// All of them.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    of: HashMap<GatewayId, VecDeque<(u64, CancellationToken)>>,
}

/// One of them; it is given up when this is dropped.
pub(super) struct Held {
    connections: Connections,
    gateway: GatewayId,
    number: u64,
    end: CancellationToken,
}

impl Connections {
    /// Counts a connection in.
    pub(super) fn enter(&self, gateway: GatewayId) -> Held {
        let end = CancellationToken::new();
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        let own = open.of.entry(gateway).or_default();
        own.push_back((number, end.clone()));
        if own.len() > MAX_OF_ONE
            && let Some((_, oldest)) = own.pop_front()
        {
            oldest.cancel();
        }
        Held { connections: self.clone(), gateway, number, end }
    }

    /// Ends those of a gateway that was removed.
    pub(super) fn end(&self, gateway: GatewayId) {
        for (_, end) in self.0.lock().of.remove(&gateway).into_iter().flatten() {
            end.cancel();
        }
    }

    /// Gateways that have any.
    pub(super) fn gateways(&self) -> Vec<GatewayId> {
        self.0.lock().of.keys().copied().collect()
    }
}

impl Held {
    /// Resolves when it must end.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock();
        let Some(own) = open.of.get_mut(&self.gateway) else { return };
        own.retain(|(number, _)| *number != self.number);
        if own.is_empty() {
            open.of.remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn i11_a_gateway_has_four_connections_and_none_once_it_is_removed() {
        let connections = Connections::default();
        let [one, other] = [1, 2].map(|byte| GatewayId::from_random([byte; 16]));
        let mut own: Vec<_> = (0..MAX_OF_ONE).map(|_| connections.enter(one)).collect();
        let of_other = connections.enter(other);
        assert!(own.iter().all(|held| !held.end.is_cancelled()));
        own.push(connections.enter(one));
        own.first().unwrap().ended().await;
        assert_eq!(own.iter().filter(|held| held.end.is_cancelled()).count(), 1);
        drop(own.remove(0));
        // One that went by itself leaves room.
        drop(own.remove(0));
        own.push(connections.enter(one));
        assert!(own.iter().all(|held| !held.end.is_cancelled()));
        connections.end(one);
        assert!(own.iter().all(|held| held.end.is_cancelled()));
        assert!(!of_other.end.is_cancelled());
        drop(own);
        assert_eq!(connections.gateways(), [other]);
        drop(of_other);
        assert!(connections.gateways().is_empty());
    }
}
