//! Room for peers that are no gateways yet: a handshake under way, or somebody who may want to join. It is
//! bounded by source and in all. A gateway that comes back needs such a place for its handshake, so strangers
//! from many addresses can keep it out: decision 0014, "Known to be open".

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::identity::rate::network;

/// Strangers at once, and of one address (IPv6: one /64).
const MAX_STRANGERS: usize = 512;
const MAX_PER_SOURCE: usize = 16;

/// Who is here and not known.
#[derive(Clone, Default)]
pub(super) struct Strangers(Arc<Mutex<Here>>);

#[derive(Default)]
struct Here {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// The place of one; free again when it is dropped.
pub(super) struct Stranger {
    strangers: Strangers,
    source: IpAddr,
}

impl Strangers {
    /// Takes a place; `None` when there is none.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Stranger> {
        let source = network(ip);
        let mut here = self.0.lock();
        let of_source = here.by_source.get(&source).copied().unwrap_or_default();
        if here.all >= MAX_STRANGERS || of_source >= MAX_PER_SOURCE {
            return None;
        }
        here.all += 1;
        here.by_source.insert(source, of_source + 1);
        Some(Stranger { strangers: self.clone(), source })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut here = self.strangers.0.lock();
        here.all = here.all.saturating_sub(1);
        match here.by_source.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(here.by_source.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_one_source_takes_a_few_places_and_all_together_a_bounded_number() {
        let strangers = Strangers::default();
        let mut inside = Vec::new();
        for source in 0..100_u32 {
            let ip = IpAddr::from(source.to_be_bytes());
            inside.extend((0..20).filter_map(|_| strangers.enter(ip)));
            assert!(inside.len() <= MAX_STRANGERS);
            if source == 0 {
                assert_eq!(inside.len(), MAX_PER_SOURCE);
            }
        }
        assert_eq!(inside.len(), MAX_STRANGERS);
        drop(inside);
        let of_one_network = ["2001:db8::1", "2001:db8::2"].map(|ip| strangers.enter(ip.parse().unwrap()));
        assert!(of_one_network.iter().all(Option::is_some));
        assert_eq!(strangers.0.lock().by_source.len(), 1);
        drop(of_one_network);
        let left = strangers.0.lock();
        assert_eq!((left.all, left.by_source.len()), (0, 0));
    }
}
