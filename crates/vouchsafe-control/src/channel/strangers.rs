//! Room for peers that are no gateways yet: a handshake under way, or somebody who may want to join. It is
//! bounded by source and in all. When it is full, whoever has most gives up its oldest place, so that strangers
//! from many addresses hold it only for as long as they keep coming; and an address from which a gateway came
//! has a share of its own, so that one that lost its connection is back before its lease ends.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::identity::rate::network;

/// Strangers at once, and of one address (IPv6: one /64).
const MAX_STRANGERS: usize = 512;
const MAX_PER_SOURCE: usize = 16;
/// Places that only addresses have from which a gateway came, beside the others.
const SHARE_OF_GATEWAYS: usize = 128;
/// Addresses of gateways that are remembered; past that all are forgotten and learned anew.
const MAX_REMEMBERED: usize = 4_096;

/// Who is here and not known.
#[derive(Clone)]
pub(super) struct Strangers(Arc<Mutex<Here>>);

struct Here {
    most: usize,
    share: usize,
    next: u64,
    /// The oldest first.
    places: BTreeMap<u64, Place>,
    by_source: HashMap<IpAddr, usize>,
    /// How many have a place of the gateways' share.
    in_share: usize,
    gateways: HashSet<IpAddr>,
}

struct Place {
    source: IpAddr,
    of: Room,
    out: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Everybodys,
    Gateways,
}

/// The place of one; free again when it is dropped.
pub(super) struct Stranger {
    strangers: Strangers,
    number: u64,
    out: CancellationToken,
}

impl Strangers {
    /// Their places are a small part of the connections that can be held.
    pub(super) fn new(connections: usize) -> Self {
        Self(Arc::new(Mutex::new(Here {
            most: MAX_STRANGERS.min(connections / 4).max(1),
            share: SHARE_OF_GATEWAYS.min(connections / 8),
            next: 0,
            places: BTreeMap::new(),
            by_source: HashMap::new(),
            in_share: 0,
            gateways: HashSet::new(),
        })))
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        let here = self.0.lock();
        here.most + here.share
    }

    /// Takes a place; `None` when there is none.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Stranger> {
        let source = network(ip);
        let mut here = self.0.lock();
        if here.count(source) >= MAX_PER_SOURCE {
            return None;
        }
        let of = if here.gateways.contains(&source) && here.in_share < here.share {
            Room::Gateways
        } else {
            Room::Everybodys
        };
        if of == Room::Everybodys && here.places.len() - here.in_share >= here.most {
            here.evict();
        }
        let number = here.next;
        here.next += 1;
        let out = CancellationToken::new();
        here.places.insert(number, Place { source, of, out: out.clone() });
        *here.by_source.entry(source).or_default() += 1;
        here.in_share += usize::from(of == Room::Gateways);
        Some(Stranger { strangers: self.clone(), number, out })
    }

    /// Remembers that a gateway came from there.
    pub(super) fn gateway_came_from(&self, ip: IpAddr) {
        let mut here = self.0.lock();
        if here.gateways.len() >= MAX_REMEMBERED {
            here.gateways.clear();
        }
        here.gateways.insert(network(ip));
    }
}

impl Here {
    fn count(&self, source: IpAddr) -> usize {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    /// Ends the oldest of those whose source has most of everybody's places.
    fn evict(&mut self) {
        let of_all = || self.places.iter().filter(|(_, place)| place.of == Room::Everybodys);
        let most = of_all().map(|(_, place)| self.count(place.source)).max().unwrap_or_default();
        let oldest = of_all().find(|(_, place)| self.count(place.source) == most).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.leave(number);
        }
    }

    fn leave(&mut self, number: u64) {
        let Some(Place { source, of, out }) = self.places.remove(&number) else { return };
        out.cancel();
        self.in_share -= usize::from(of == Room::Gateways);
        match self.by_source.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(self.by_source.remove(&source)),
        }
    }
}

impl Stranger {
    /// Resolves when it has to go, to make room for another.
    pub(super) async fn evicted(&self) {
        self.out.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.0.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    fn still_here(inside: &[Stranger]) -> usize {
        inside.iter().filter(|stranger| !stranger.out.is_cancelled()).count()
    }

    #[test]
    fn i11_one_source_takes_a_few_places_and_all_together_a_bounded_number() {
        let strangers = Strangers::new(usize::MAX);
        let mut inside = Vec::new();
        for number in 0..100 {
            inside.extend((0..20).filter_map(|_| strangers.enter(source(number))));
            assert!(still_here(&inside) <= MAX_STRANGERS);
            if number == 0 {
                assert_eq!(inside.len(), MAX_PER_SOURCE);
            }
        }
        assert_eq!(still_here(&inside), MAX_STRANGERS);
        drop(inside);
        let of_one_network = ["2001:db8::1", "2001:db8::2"].map(|ip| strangers.enter(ip.parse().unwrap()));
        assert!(of_one_network.iter().all(Option::is_some));
        assert_eq!(strangers.0.lock().by_source.len(), 1);
        drop(of_one_network);
        let left = strangers.0.lock();
        assert_eq!((left.places.len(), left.by_source.len(), left.in_share), (0, 0, 0));
    }

    /// Once, strangers from 32 addresses kept everybody out for as long as they stayed.
    #[tokio::test]
    async fn i11_who_comes_to_a_full_house_takes_the_oldest_place_of_who_has_most() {
        let strangers = Strangers::new(usize::MAX);
        let from_32: Vec<_> = (0..32).flat_map(|number| [number; 20]).collect();
        let inside: Vec<_> = from_32.into_iter().filter_map(|number| strangers.enter(source(number))).collect();
        assert_eq!(still_here(&inside), MAX_STRANGERS);
        let newcomer = strangers.enter(source(1_000)).expect("a place");
        assert_eq!(still_here(&inside), MAX_STRANGERS - 1);
        inside.first().expect("the oldest").evicted().await;
        // However many come after, one that is alone at its address stays while others have more.
        let flood: Vec<_> = (100..140).flat_map(|number| [number; 16]).collect();
        let flood: Vec<_> = flood.into_iter().filter_map(|number| strangers.enter(source(number))).collect();
        assert!(!newcomer.out.is_cancelled());
        assert_eq!(still_here(&inside) + still_here(&flood) + 1, MAX_STRANGERS);
    }

    /// A flood from thousands of addresses, one connection each, gets by that; a gateway that comes back has its share.
    #[test]
    fn i11_addresses_of_gateways_have_a_share_of_their_own() {
        let strangers = Strangers::new(usize::MAX);
        strangers.gateway_came_from(source(7));
        let back: Vec<_> = (0..20).filter_map(|_| strangers.enter(source(7))).collect();
        assert_eq!(back.len(), MAX_PER_SOURCE);
        let flood: Vec<_> = (1_000..3_000).filter_map(|number| strangers.enter(source(number))).collect();
        assert_eq!((still_here(&back), still_here(&flood)), (MAX_PER_SOURCE, MAX_STRANGERS));
        drop(back);
        // Its share isn't for others, and is bounded too.
        (0..100).for_each(|number| strangers.gateway_came_from(source(number)));
        let all: Vec<_> = (0..100).flat_map(|number| [number; 16]).collect();
        let all: Vec<_> = all.into_iter().filter_map(|number| strangers.enter(source(number))).collect();
        assert_eq!(still_here(&all) + still_here(&flood), MAX_STRANGERS + SHARE_OF_GATEWAYS);
    }
}
