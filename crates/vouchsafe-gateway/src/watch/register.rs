//! All open flows of a gateway, found by session, user and device.
//!
//! Flows hang on their session: its user and device never change, so a new flow is written down in one
//! place only, and a change of one user costs the same however many others there are. Whoever goes over
//! all flows does it session by session, and lets requests have the lock in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use vouchsafe_model::id::{DeviceId, FlowId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_runtime::limits::MAX_FLOWS_PER_SESSION;
use vouchsafe_runtime::link::Change;

use super::cut::Ended;
use super::{Basis, Live};

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
    sessions: HashMap<SessionId, Subject>,
    by_user: HashMap<UserName, HashSet<SessionId>>,
    by_device: HashMap<DeviceId, HashSet<SessionId>>,
    open: usize,
}

/// A session that has flows, or had some a moment ago: most come back, and making one costs more than a flow.
struct Subject {
    user: UserName,
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
    /// Takes a flow in; says no when its session has too many.
    pub(super) fn add(&self, facts: &SubjectFacts, id: FlowId, basis: Arc<Basis>, live: Arc<Live>) -> bool {
        let open = Open { basis, live, seen: (0, None, Instant::now()) };
        let mut register = self.0.lock();
        let subject = register.subject(facts);
        if subject.flows.len() >= MAX_FLOWS_PER_SESSION {
            return false;
        }
        subject.flows.insert(id, open);
        register.open += 1;
        true
    }

    pub(super) fn remove(&self, id: FlowId, session: SessionId) {
        let mut register = self.0.lock();
        let known = register.sessions.get_mut(&session).and_then(|subject| subject.flows.remove(&id));
        if known.is_some() {
            register.open -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().open == 0
    }

    /// The sessions that a change concerns.
    pub(super) fn concerned(&self, change: &Change) -> Vec<SessionId> {
        let register = self.0.lock();
        let of = |sessions: Option<&HashSet<SessionId>>| sessions.into_iter().flatten().copied().collect();
        match change {
            Change::Session(id) => vec![*id],
            Change::User(name) => of(register.by_user.get(name)),
            Change::Device(id) => of(register.by_device.get(id)),
            Change::Everything => register.sessions.keys().copied().collect(),
        }
    }

    /// All sessions.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.concerned(&Change::Everything)
    }

    /// The open flows of a session.
    pub(super) fn of(&self, session: SessionId) -> Vec<Watched> {
        let register = self.0.lock();
        let flows = register.sessions.get(&session).map(|subject| &subject.flows);
        let watched = |(id, open): (&FlowId, &Open)| Watched {
            id: *id,
            basis: Arc::clone(&open.basis),
            live: Arc::clone(&open.live),
        };
        flows.into_iter().flatten().map(watched).collect()
    }

    /// Forgets sessions that have no flow any more.
    pub(super) fn tidy(&self) {
        for session in self.sessions() {
            self.0.lock().drop_empty(session);
        }
    }

    /// Ends the flows in which nothing has moved for longer than they may be silent.
    pub(super) fn end_silent(&self, now: Instant) {
        for session in self.sessions() {
            let mut register = self.0.lock();
            let Some(subject) = register.sessions.get_mut(&session) else { continue };
            subject.flows.values_mut().for_each(|open| open.end_silent(now));
        }
    }
}

impl Register {
    fn subject(&mut self, facts: &SubjectFacts) -> &mut Subject {
        let session = facts.session;
        let device = facts.device.as_ref().map(|device| device.id);
        let known = self.sessions.get(&session);
        if known.is_none_or(|subject| subject.user != facts.user.name || subject.device != device) {
            // Whoever it stood for before is left in the index: one look too many harms nobody.
            self.by_user.entry(facts.user.name.clone()).or_default().insert(session);
            if let Some(device) = device {
                self.by_device.entry(device).or_default().insert(session);
            }
        }
        let new = || Subject { user: facts.user.name.clone(), device, flows: HashMap::new() };
        self.sessions.entry(session).or_insert_with(new)
    }

    fn drop_empty(&mut self, session: SessionId) {
        if self.sessions.get(&session).is_none_or(|subject| !subject.flows.is_empty()) {
            return;
        }
        let Some(Subject { user, device, .. }) = self.sessions.remove(&session) else { return };
        remove_from(&mut self.by_user, &user, session);
        if let Some(device) = device {
            remove_from(&mut self.by_device, &device, session);
        }
    }
}

fn remove_from<K: std::hash::Hash + Eq>(index: &mut HashMap<K, HashSet<SessionId>>, key: &K, session: SessionId) {
    if let Some(sessions) = index.get_mut(key) {
        sessions.remove(&session);
        if sessions.is_empty() {
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
