//! A bounded memory of facts, in which those that a change concerns are found without looking at the others.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use parking_lot::Mutex;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::link::Change;

/// Whose facts these are: what a change that makes them untrue may name.
pub(super) trait Concerns {
    fn user(&self) -> Option<&UserName>;
    fn device(&self) -> Option<DeviceId>;
    fn session(&self) -> Option<SessionId>;
}

/// What a change makes of something that it concerns.
pub(super) enum Becomes<V> {
    /// What it was.
    Same,
    /// This, of the same user, device and session.
    Other(V),
    /// Something that isn't known here.
    Unknown,
}

/// When it is full it is emptied: facts are cheap to ask for again, and a flood of sessions must not grow memory.
pub(super) struct Memory<K, V> {
    kept: Mutex<Kept<K, V>>,
    most: usize,
}

struct Kept<K, V> {
    values: HashMap<K, V>,
    of_user: HashMap<UserName, HashSet<K>>,
    of_device: HashMap<DeviceId, HashSet<K>>,
    of_session: HashMap<SessionId, HashSet<K>>,
}

impl<K: Hash + Eq + Copy, V: Clone + Concerns> Memory<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Mutex::new(Kept::new()), most }
    }

    pub(super) fn find(&self, key: &K) -> Option<V> {
        self.kept.lock().values.get(key).cloned()
    }

    /// Keeps the value when `still_true` holds under the lock that [`Memory::hear`] takes.
    pub(super) fn keep_if(&self, key: K, value: V, still_true: impl FnOnce() -> bool) -> bool {
        let mut kept = self.kept.lock();
        if !still_true() {
            return false;
        }
        if kept.values.len() >= self.most {
            *kept = Kept::new();
        }
        kept.remove(&key);
        kept.insert(key, value);
        true
    }

    /// Puts `value`, which is of the same user, device and session, in the place of the one that is kept.
    pub(super) fn replace_if(&self, key: K, value: V, same: impl FnOnce(&V) -> bool) {
        if let Some(present) = self.kept.lock().values.get_mut(&key)
            && same(present)
        {
            *present = value;
        }
    }

    /// Does with all that a change concerns what becomes of each.
    pub(super) fn hear(&self, change: &Change, becomes: impl Fn(&V) -> Becomes<V>) {
        let mut kept = self.kept.lock();
        let keys = match change {
            Change::User(name) => kept.of_user.get(name),
            Change::Device(id) => kept.of_device.get(id),
            Change::Session(id) => kept.of_session.get(id),
            Change::Everything => {
                *kept = Kept::new();
                None
            }
        };
        let keys: Vec<K> = keys.into_iter().flatten().copied().collect();
        for key in keys {
            let Some(value) = kept.values.get_mut(&key) else { continue };
            match becomes(value) {
                Becomes::Same => {}
                Becomes::Other(other) => *value = other,
                Becomes::Unknown => kept.remove(&key),
            }
        }
    }
}

impl<K: Hash + Eq + Copy, V: Concerns> Kept<K, V> {
    fn new() -> Self {
        let (of_user, of_device, of_session) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { values: HashMap::new(), of_user, of_device, of_session }
    }

    fn insert(&mut self, key: K, value: V) {
        if let Some(user) = value.user() {
            self.of_user.entry(user.clone()).or_default().insert(key);
        }
        if let Some(device) = value.device() {
            self.of_device.entry(device).or_default().insert(key);
        }
        if let Some(session) = value.session() {
            self.of_session.entry(session).or_default().insert(key);
        }
        self.values.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        let Some(value) = self.values.remove(key) else { return };
        if let Some(user) = value.user() {
            unlink(&mut self.of_user, user, key);
        }
        if let Some(device) = value.device() {
            unlink(&mut self.of_device, &device, key);
        }
        if let Some(session) = value.session() {
            unlink(&mut self.of_session, &session, key);
        }
    }
}

fn unlink<N: Hash + Eq, K: Hash + Eq>(index: &mut HashMap<N, HashSet<K>>, name: &N, key: &K) {
    if let Some(keys) = index.get_mut(name) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Fact(Option<UserName>, Option<DeviceId>, Option<SessionId>);

    impl Concerns for Fact {
        fn user(&self) -> Option<&UserName> {
            self.0.as_ref()
        }
        fn device(&self) -> Option<DeviceId> {
            self.1
        }
        fn session(&self) -> Option<SessionId> {
            self.2
        }
    }

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    fn device(n: u8) -> DeviceId {
        DeviceId::from_random([n; 16])
    }

    fn session(n: u8) -> SessionId {
        SessionId::from_random([n; 16])
    }

    fn filled() -> Memory<u8, Fact> {
        let memory = Memory::new(100);
        for (key, fact) in [
            (1, Fact(Some(user("ann")), Some(device(1)), Some(session(1)))),
            (2, Fact(Some(user("ann")), Some(device(2)), Some(session(2)))),
            (3, Fact(Some(user("bob")), Some(device(1)), Some(session(3)))),
            (4, Fact(Some(user("bob")), None, Some(session(3)))),
            (5, Fact(None, None, None)),
        ] {
            assert!(memory.keep_if(key, fact, || true));
        }
        memory
    }

    fn left(memory: &Memory<u8, Fact>) -> Vec<u8> {
        let left = (1..=5).filter(|key| memory.find(key).is_some()).collect();
        let kept = memory.kept.lock();
        let named: HashSet<u8> = kept
            .of_user
            .values()
            .chain(kept.of_device.values())
            .chain(kept.of_session.values())
            .flatten()
            .copied()
            .collect();
        assert!(
            named.iter().all(|key| kept.values.contains_key(key)),
            "the index names what is kept, and nothing else"
        );
        left
    }

    #[test]
    fn i6_a_change_forgets_all_that_it_concerns_and_nothing_else() {
        for (change, stay) in [
            (Change::User(user("ann")), vec![3, 4, 5]),
            (Change::User(user("eve")), vec![1, 2, 3, 4, 5]),
            (Change::Device(device(1)), vec![2, 4, 5]),
            (Change::Session(session(3)), vec![1, 2, 5]),
            (Change::Everything, vec![]),
        ] {
            let memory = filled();
            memory.hear(&change, |_| Becomes::Unknown);
            assert_eq!(left(&memory), stay, "{change:?}");
            memory.hear(&change, |_| Becomes::Unknown);
            assert_eq!(left(&memory), stay, "{change:?} twice");
        }
    }

    #[test]
    fn what_stays_and_what_becomes_another_is_still_found() {
        let memory = filled();
        let fact = |key| Fact(Some(user("ann")), Some(device(key)), Some(session(key)));
        memory.hear(&Change::User(user("ann")), |value| match value.1 == Some(device(1)) {
            true => Becomes::Other(fact(1)),
            false => Becomes::Same,
        });
        assert_eq!(left(&memory), [1, 2, 3, 4, 5]);
        assert_eq!([memory.find(&1), memory.find(&2)], [Some(fact(1)), Some(fact(2))]);
        memory.hear(&Change::User(user("ann")), |_| Becomes::Unknown);
        assert_eq!(left(&memory), [3, 4, 5]);
    }

    #[test]
    fn i6_facts_that_changed_hands_are_forgotten_with_their_new_owner() {
        let memory = filled();
        assert!(memory.keep_if(1, Fact(Some(user("bob")), None, None), || true));
        memory.hear(&Change::User(user("ann")), |_| Becomes::Unknown);
        assert_eq!(left(&memory), [1, 3, 4, 5]);
        memory.hear(&Change::User(user("bob")), |_| Becomes::Unknown);
        assert_eq!(left(&memory), [5]);
    }

    #[test]
    fn nothing_is_kept_that_is_untrue_already_and_a_full_memory_starts_anew() {
        let memory = Memory::new(2);
        assert!(!memory.keep_if(1, Fact(Some(user("ann")), None, None), || false));
        assert!(left(&memory).is_empty());
        for key in 1..=3 {
            assert!(memory.keep_if(key, Fact(Some(user("ann")), None, None), || true));
        }
        assert_eq!(left(&memory), [3]);
    }
}
