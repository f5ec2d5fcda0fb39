//! How many requests for our own hosts may be under way to the controller: in all no more than the streams of its
//! connection, of who has proven nothing no more than half of that, and of one source or device few.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_runtime::body::{Body, BodyError};
use vouchsafe_runtime::internal::Caller;

use crate::listen::source;

/// Requests at once: fewer than the controller allows on one connection.
const MAX_ALL: usize = 1_000;
/// Of callers who have proven neither a session nor a device.
const MAX_STRANGERS: usize = 500;
/// Of one source of those (IPv6: one /64).
const MAX_OF_SOURCE: usize = 32;
/// Of one session or device.
const MAX_OF_KNOWN: usize = 64;

/// By what callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Session(SessionId),
    Device(DeviceId),
    Source(IpAddr),
}

impl Key {
    fn of(caller: &Caller) -> Self {
        match (&caller.subject, &caller.device) {
            (Some(subject), _) => Key::Session(subject.session),
            (None, Some(device)) => Key::Device(device.id),
            (None, None) => Key::Source(source(caller.ip)),
        }
    }

    const fn most(self) -> usize {
        match self {
            Key::Session(_) | Key::Device(_) => MAX_OF_KNOWN,
            Key::Source(_) => MAX_OF_SOURCE,
        }
    }
}

/// Who has requests under way.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<UnderWay>>);

#[derive(Default)]
struct UnderWay {
    all: usize,
    strangers: usize,
    by_key: HashMap<Key, usize>,
}

/// The place of one request, until its answer has ended.
pub(super) struct Place {
    callers: Callers,
    key: Key,
}

impl Callers {
    /// Takes a place; `None` when there is none for this caller.
    pub(super) fn enter(&self, caller: &Caller) -> Option<Place> {
        let key = Key::of(caller);
        let stranger = matches!(key, Key::Source(_));
        let mut under_way = self.0.lock();
        let of_key = under_way.by_key.get(&key).copied().unwrap_or_default();
        if under_way.all >= MAX_ALL || of_key >= key.most() || (stranger && under_way.strangers >= MAX_STRANGERS) {
            return None;
        }
        under_way.all += 1;
        under_way.strangers += usize::from(stranger);
        under_way.by_key.insert(key, of_key + 1);
        Some(Place { callers: self.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.callers.0.lock();
        under_way.all = under_way.all.saturating_sub(1);
        if matches!(self.key, Key::Source(_)) {
            under_way.strangers = under_way.strangers.saturating_sub(1);
        }
        match under_way.by_key.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(under_way.by_key.remove(&self.key)),
        }
    }
}

/// An answer that keeps its request's place until it has ended.
pub(super) struct Placed {
    body: Body,
    _place: Place,
}

impl Placed {
    pub(super) fn new(body: Body, place: Place) -> Self {
        Self { body, _place: place }
    }
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use vouchsafe_runtime::internal::{OwnHost, ProvenDevice};

    use super::*;

    fn from(number: u32) -> Caller {
        let ip = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        Caller { host: OwnHost::Auth, ip, post_quantum: false, device: None, subject: None, decision: None }
    }

    fn on(device: u8) -> Caller {
        let id = DeviceId::from_random([device; 16]);
        let device = ProvenDevice { id, certificate_sha256: [0; 32], not_after: SystemTime::UNIX_EPOCH };
        Caller { device: Some(device), ..from(0) }
    }

    fn entered(callers: &Callers, caller: &Caller, tries: usize) -> Vec<Place> {
        (0..tries).filter_map(|_| callers.enter(caller)).collect()
    }

    #[test]
    fn i11_strangers_leave_room_for_devices_and_one_source_for_others() {
        let callers = Callers::default();
        let first = entered(&callers, &from(0), 1_000);
        assert_eq!(first.len(), MAX_OF_SOURCE);
        let strangers: Vec<_> = (1..100).flat_map(|source| entered(&callers, &from(source), 32)).collect();
        assert_eq!(first.len() + strangers.len(), MAX_STRANGERS);
        // Also from the address that has all of its places.
        let device = entered(&callers, &on(1), 1_000);
        assert_eq!(device.len(), MAX_OF_KNOWN);
        let devices: Vec<_> = (2..100).flat_map(|device| entered(&callers, &on(device), 64)).collect();
        assert_eq!(device.len() + devices.len() + MAX_STRANGERS, MAX_ALL);
        drop(strangers);
        assert!(callers.enter(&from(0)).is_none());
        assert!(callers.enter(&from(5)).is_some());
        drop((first, device, devices));
        let left = callers.0.lock();
        assert_eq!((left.all, left.strangers, left.by_key.len()), (0, 0, 0));
    }

    #[test]
    fn i11_a_place_is_held_until_the_answer_has_ended() {
        let callers = Callers::default();
        let answer = Placed::new(vouchsafe_runtime::body::empty(), callers.enter(&from(0)).unwrap());
        assert_eq!(entered(&callers, &from(0), 100).len(), MAX_OF_SOURCE - 1);
        drop(answer);
        assert_eq!(entered(&callers, &from(0), 100).len(), MAX_OF_SOURCE);
    }
}
