//! Counts connections, in all and by source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use vouchsafe_runtime::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE};

/// Connections that are open, in all and by source.
#[derive(Debug, Default)]
pub(crate) struct Census {
    all: AtomicUsize,
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// A place in the census, given back when dropped. Everything that lives on a connection keeps it:
/// what was upgraded outlives the HTTP connection it came from.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    ip: IpAddr,
}

impl Census {
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Arc<Place>> {
        let ip = source(ip);
        let mut by_source = self.by_source.lock();
        if self.all.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            return None;
        }
        let from_here = by_source.entry(ip).or_default();
        if *from_here >= MAX_CONNECTIONS_PER_SOURCE {
            return None;
        }
        *from_here += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Place { census: Arc::clone(self), ip }))
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 subscriber has.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.census.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_source = self.census.by_source.lock();
        if let Some(count) = by_source.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.ip);
            }
        }
    }
}
