//! All open flows of a gateway, found by session, user and device.
//!
//! Flows hang on their session: its user and device never change, so a new flow is written down in one
//! place only, and a change of one user costs the same however many others there are. Whoever goes over
//! all flows does it session by session, and lets requests have the lock in between. What an observed
//! resource lets pass without a session hangs on the device or address that it comes from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vouchsafe_model::id::{DeviceId, FlowId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_runtime::limits::{MAX_FLOWS_PER_ADDRESS, MAX_FLOWS_PER_SESSION};
use vouchsafe_runtime::link::Change;

use super::cut::Ended;
use super::{Basis, Live};

/// What flows hang on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// The session of a subject.
    Session(SessionId),
    /// A proven device on which nobody says who asks.
    Device(DeviceId),
    /// The address of nobody.
    Address(IpAddr),
}

impl Holder {
    /// What the flows of that subject hang on, or of nobody on that device or from there.
    pub(super) fn of(facts: Option<&SubjectFacts>, device: Option<DeviceId>, ip: IpAddr) -> Self {
        match (facts, device) {
            (Some(facts), _) => Self::Session(facts.session),
            (None, Some(device)) => Self::Device(device),
            (None, None) => Self::Address(ip),
        }
    }

    /// Most flows that may hang on it. Many people may share an address.
    const fn most(self) -> usize {
        match self {
            Self::Session(_) | Self::Device(_) => MAX_FLOWS_PER_SESSION,
            Self::Address(_) => MAX_FLOWS_PER_ADDRESS,
        }
    }
}

/// An open flow, as the watch sees it.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) id: FlowId,
    pub(super) basis: Arc<Basis>,
    pub(super) live: Arc<Live>,
}

/// All open flows of this gateway.
#[derive(Default)]
pub(crate) struct Flows(Mutex<Register>);

#[derive(Default)]
struct Register {
    holders: HashMap<Holder, Subject>,
    by_user: HashMap<UserName, HashSet<Holder>>,
    by_device: HashMap<DeviceId, HashSet<Holder>>,
    open: usize,
}

/// A holder that has flows, or had some a moment ago: most come back, and making one costs more than a flow.
struct Subject {
    user: Option<UserName>,
    device: Option<DeviceId>,
    flows: HashMap<FlowId, Open>,
}

struct Open {
    basis: Arc<Basis>,
    live: Arc<Live>,
    /// What had passed, and how long silence could last, when something last moved.
    seen: (u64, Option<Duration>, Instant),
}

impl Flows {
    /// Takes a flow in; says no when too many hang on the same.
    pub(super) fn add(
        &self,
        holder: Holder,
        facts: Option<&SubjectFacts>,
        id: FlowId,
        basis: Arc<Basis>,
        live: Arc<Live>,
    ) -> bool {
        let open = Open { basis, live, seen: (0, None, Instant::now()) };
        let mut register = self.0.lock();
        let subject = register.subject(holder, facts);
        if subject.flows.len() >= holder.most() {
            return false;
        }
        subject.flows.insert(id, open);
        register.open += 1;
        true
    }

    pub(super) fn remove(&self, id: FlowId, holder: Holder) {
        let mut register = self.0.lock();
        let known = register.holders.get_mut(&holder).and_then(|subject| subject.flows.remove(&id));
        if known.is_some() {
            register.open -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().open == 0
    }

    /// Those on whom flows hang that a change concerns.
    pub(super) fn concerned(&self, change: &Change) -> Vec<Holder> {
        let register = self.0.lock();
        let of = |holders: Option<&HashSet<Holder>>| holders.into_iter().flatten().copied().collect();
        match change {
            Change::Session(id) => vec![Holder::Session(*id)],
            Change::User(name) => of(register.by_user.get(name)),
            Change::Device(id) => of(register.by_device.get(id)),
            Change::Everything => register.holders.keys().copied().collect(),
        }
    }

    /// All on whom flows hang.
    pub(super) fn holders(&self) -> Vec<Holder> {
        self.concerned(&Change::Everything)
    }

    /// The open flows that hang on it.
    pub(super) fn of(&self, holder: Holder) -> Vec<Watched> {
        let register = self.0.lock();
        let flows = register.holders.get(&holder).map(|subject| &subject.flows);
        let watched = |(id, open): (&FlowId, &Open)| Watched {
            id: *id,
            basis: Arc::clone(&open.basis),
            live: Arc::clone(&open.live),
        };
        flows.into_iter().flatten().map(watched).collect()
    }

    /// Forgets those on whom no flow hangs any more.
    pub(super) fn tidy(&self) {
        for holder in self.holders() {
            self.0.lock().drop_empty(holder);
        }
    }

    /// Ends the flows in which nothing has moved for longer than they may be silent.
    pub(super) fn end_silent(&self, now: Instant) {
        for holder in self.holders() {
            let mut register = self.0.lock();
            let Some(subject) = register.holders.get_mut(&holder) else { continue };
            subject.flows.values_mut().for_each(|open| open.end_silent(now));
        }
    }
}

impl Register {
    fn subject(&mut self, holder: Holder, facts: Option<&SubjectFacts>) -> &mut Subject {
        let user = facts.map(|facts| &facts.user.name);
        let device = match holder {
            Holder::Session(_) => facts.and_then(|facts| facts.device.as_ref()).map(|device| device.id),
            Holder::Device(device) => Some(device),
            Holder::Address(_) => None,
        };
        let known = self.holders.get(&holder);
        if known.is_none_or(|subject| subject.user.as_ref() != user || subject.device != device) {
            // Whoever it stood for before is left in the index: one look too many harms nobody.
            if let Some(user) = user {
                self.by_user.entry(user.clone()).or_default().insert(holder);
            }
            if let Some(device) = device {
                self.by_device.entry(device).or_default().insert(holder);
            }
        }
        let new = || Subject { user: user.cloned(), device, flows: HashMap::new() };
        self.holders.entry(holder).or_insert_with(new)
    }

    fn drop_empty(&mut self, holder: Holder) {
        if self.holders.get(&holder).is_none_or(|subject| !subject.flows.is_empty()) {
            return;
        }
        let Some(Subject { user, device, .. }) = self.holders.remove(&holder) else { return };
        if let Some(user) = user {
            remove_from(&mut self.by_user, &user, holder);
        }
        if let Some(device) = device {
            remove_from(&mut self.by_device, &device, holder);
        }
    }
}

fn remove_from<K: std::hash::Hash + Eq>(index: &mut HashMap<K, HashSet<Holder>>, key: &K, holder: Holder) {
    if let Some(holders) = index.get_mut(key) {
        holders.remove(&holder);
        if holders.is_empty() {
            index.remove(key);
        }
    }
}

impl Open {
    fn end_silent(&mut self, now: Instant) {
        let Some(patience) = self.live.cut.patience() else { return };
        let passed = self.live.traffic.passed();
        let (seen, before, since) = self.seen;
        if (seen, before) != (passed, Some(patience)) {
            self.seen = (passed, Some(patience), now);
        } else if now.duration_since(since) >= patience {
            self.live.cut.end(Ended::Silent(patience));
        }
    }
}
