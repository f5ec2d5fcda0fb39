//! A subject made ready once per epoch, with the few policies that can matter to it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Reason};
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::SubjectFacts;

use crate::decide::{self, Allowed, Asked, Ruling};
use crate::engine::{Engine, Entry, Target};
use crate::evaluator::World;
use crate::facts::Who;
use crate::index::Lineage;
use crate::memo::Memo;
use crate::permit::Permit;
use crate::request::{Detail, KeyAgreement, Request};
use crate::slice::Slice;
use crate::step_up::Denied;

/// Most resources that one subject's slices are remembered of; past that, all are forgotten.
const MAX_REACHES: usize = 1_024;

/// A subject made ready once per epoch: its entities are built once, and so is, for each resource
/// it asks for, the slice of all policies that can matter. What a request came to is remembered by
/// exactly those of its inputs that the slice reads.
///
/// A change of the facts or of the policies takes a new one, so nothing that is remembered outlives
/// either. It is shared between all flows of the subject, and decides without I/O.
pub struct PreparedSubject {
    engine: Arc<Engine>,
    facts: Arc<SubjectFacts>,
    who: Option<Arc<Who>>,
    reaches: RwLock<HashMap<ResourceName, Arc<Reach>>>,
    memo: Memo,
    /// Slices that were ever made: each has a number of its own in the keys of the memo.
    slices: AtomicU64,
}

impl PreparedSubject {
    /// Makes a subject ready to be decided on.
    #[must_use]
    pub fn new(engine: Arc<Engine>, facts: Arc<SubjectFacts>) -> Self {
        let who = Who::new(engine.words, &facts).map(Arc::new);
        Self::with(engine, facts, who)
    }

    /// The same subject under other policies. What was made of its facts alone is kept; nothing that
    /// was decided is.
    #[must_use]
    pub fn under(&self, engine: Arc<Engine>) -> Self {
        Self::with(engine, self.facts.clone(), self.who.clone())
    }

    fn with(engine: Arc<Engine>, facts: Arc<SubjectFacts>, who: Option<Arc<Who>>) -> Self {
        let (reaches, memo, slices) = (RwLock::default(), Memo::default(), AtomicU64::new(0));
        Self { engine, facts, who, reaches, memo, slices }
    }

    /// The facts it was made of.
    #[must_use]
    pub fn facts(&self) -> &Arc<SubjectFacts> {
        &self.facts
    }

    /// The policies that it is decided under.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Decides one request.
    ///
    /// # Errors
    /// The decision, when it is a denial.
    pub fn decide(&self, request: &Request<'_>, now: SystemTime) -> Result<Permit, Decision> {
        match self.rule(request, now) {
            Ok((ruling, reach)) => {
                let Ruling { decision, allowed } = ruling.as_ref();
                match allowed {
                    Allowed::Yes => {
                        let resource = reach.resource.clone();
                        Ok(Permit::new(decision.clone(), resource, request, self.facts.clone()))
                    }
                    Allowed::No => Err(self.refined(decision.clone(), &reach, request, now)),
                }
            }
            Err(reason) => Err(decide::denial(&self.engine, &self.facts, reason)),
        }
    }

    /// A denial that says so when a fresh sign-in, or another connection, is all that is missing.
    fn refined(&self, denial: Decision, reach: &Reach, request: &Request<'_>, now: SystemTime) -> Decision {
        let Some(who) = self.who.as_deref() else { return denial };
        Denied { engine: &self.engine, facts: &self.facts, who, reach, request, now }.refine(denial)
    }

    fn rule(&self, request: &Request<'_>, now: SystemTime) -> Result<(Arc<Ruling>, Arc<Reach>), Reason> {
        let who = self.who.as_ref().ok_or(Reason::FactsUnavailable)?;
        let reach = self.reach(who, request.resource, now)?;
        let asked = Asked::new(&self.facts, &reach, request, now)?;
        let key = asked.key();
        if let Some(ruling) = key.as_ref().and_then(|key| self.memo.find(key)) {
            return Ok((ruling, reach));
        }
        let ruling = decide::rule(&self.engine, &self.facts, who, &reach, &asked)?;
        if let Some(key) = key.filter(|_| ruling.may_be_remembered()) {
            self.memo.keep(&key, Arc::clone(&ruling));
        }
        Ok((ruling, reach))
    }

    /// Decides about our own console and API; `operation` is what it is asked to do.
    ///
    /// # Errors
    /// The decision, when it is a denial.
    pub fn decide_console(
        &self,
        action: Action,
        operation: &str,
        ip: IpAddr,
        agreement: KeyAgreement,
        now: SystemTime,
    ) -> Result<Permit, Decision> {
        let (resource, detail) = (ResourceName::console(), Detail::Console { operation });
        self.decide(&Request { resource: &resource, action, ip, agreement, detail }, now)
    }

    fn reach(&self, who: &Who, name: &ResourceName, now: SystemTime) -> Result<Arc<Reach>, Reason> {
        let known = self.reaches.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(reach) = known.filter(|reach| reach.stands(now)) {
            return Ok(reach);
        }
        let target = self.engine.target(name).ok_or(Reason::UnknownResource)?;
        let number = || self.slices.fetch_add(1, Ordering::Relaxed);
        let reach = Arc::new(Reach::new(&self.engine, who, target, now, number).ok_or(Reason::PolicyError)?);
        let mut reaches = self.reaches.write().unwrap_or_else(PoisonError::into_inner);
        if reaches.len() >= MAX_REACHES {
            reaches.clear();
        }
        reaches.insert(name.clone(), reach.clone());
        Ok(reach)
    }
}

impl fmt::Debug for PreparedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedSubject")
            .field("engine", &self.engine)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What one subject may meet at one resource: the entities, and a slice of policies per action.
pub(crate) struct Reach {
    pub(crate) resource: Arc<Resource>,
    pub(crate) world: World,
    slices: Vec<Slice>,
    /// The slices are right at instants `from..until`: between two expiries.
    from: Option<SystemTime>,
    until: Option<SystemTime>,
}

impl Reach {
    /// `None` when Cedar refuses an entity that it took before.
    pub(crate) fn new(
        engine: &Engine,
        who: &Who,
        target: &Target,
        now: SystemTime,
        number: impl Fn() -> u64,
    ) -> Option<Self> {
        let Target { resource, lineage, object } = target;
        let mut matching: Vec<&Arc<Entry>> = engine
            .index
            .candidates(&who.lineage, lineage)
            .into_iter()
            .filter_map(|number| engine.entry(number))
            .filter(|entry| in_scope(entry, &who.lineage, lineage))
            .collect();
        matching.sort_by(|a, b| a.name.cmp(&b.name));
        let ends = || matching.iter().filter_map(|entry| entry.ends());
        let (from, until) = (ends().filter(|end| *end <= now).max(), ends().filter(|end| *end > now).min());
        let slice = |action: &Action| {
            let here = |entry: &&&Arc<Entry>| entry.scope.action.actions.contains(action) && !entry.is_expired(now);
            let policies: Vec<Arc<Entry>> = matching.iter().filter(here).map(|entry| Arc::clone(entry)).collect();
            Slice::new(*action, number(), policies)
        };
        let slices = resource.spec.kind().actions().iter().map(slice).collect();
        Some(Self { resource: resource.clone(), world: who.principal.at(object)?, slices, from, until })
    }

    /// Whether no policy has expired since, nor would be alive again after the clock went back.
    fn stands(&self, now: SystemTime) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// The slice for an action; `None` when the resource knows no such action.
    pub(crate) fn slice(&self, action: Action) -> Option<&Slice> {
        self.slices.iter().find(|slice| slice.action == action)
    }
}

fn in_scope(entry: &Entry, principal: &Lineage, resource: &Lineage) -> bool {
    entry.scope.principal.matches(principal) && entry.scope.resource.matches(resource)
}
