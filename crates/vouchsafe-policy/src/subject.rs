//! A subject made ready once per epoch, with the few policies that can matter to it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use cedar_policy::{Entities, PolicySet};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Reason};
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::SubjectFacts;

use crate::annotation::Effect;
use crate::decide::{self, Ruling};
use crate::engine::{Engine, Entry};
use crate::facts::Who;
use crate::index::{Lineage, Number};
use crate::permit::Permit;
use crate::request::{Detail, Request};

/// Most resources that one subject's slices are remembered of; past that, all are forgotten.
const MAX_REACHES: usize = 1_024;

/// A subject made ready once per epoch: its entities are built once, and so is, for each resource
/// it asks for, the slice of all policies that can matter.
///
/// A change of the facts or of the policies takes a new one. It is shared between all flows of the
/// subject, and decides without I/O.
pub struct PreparedSubject {
    engine: Arc<Engine>,
    facts: Arc<SubjectFacts>,
    who: Option<Who>,
    reaches: RwLock<HashMap<ResourceName, Arc<Reach>>>,
}

impl PreparedSubject {
    /// Makes a subject ready to be decided on.
    #[must_use]
    pub fn new(engine: Arc<Engine>, facts: Arc<SubjectFacts>) -> Self {
        let who = Who::new(engine.words, &facts);
        Self { engine, facts, who, reaches: RwLock::new(HashMap::new()) }
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
        let ruling = match self.reach(request.resource, now) {
            Ok(reach) => match &self.who {
                Some(who) => {
                    decide::rule(&self.engine, &self.facts, who, &reach, request, now).map(|ruling| (ruling, reach))
                }
                None => Err(Reason::FactsUnavailable),
            },
            Err(reason) => Err(reason),
        };
        match ruling {
            Ok((Ruling { decision, allowed: decide::Allowed::Yes, .. }, reach)) => {
                Ok(Permit::new(decision, reach.resource.clone(), request, self.facts.clone()))
            }
            Ok((Ruling { decision, allowed: decide::Allowed::No, .. }, _)) => Err(decision),
            Err(reason) => Err(decide::denial(&self.engine, &self.facts, reason)),
        }
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
        now: SystemTime,
    ) -> Result<Permit, Decision> {
        let resource = ResourceName::console();
        self.decide(&Request { resource: &resource, action, ip, detail: Detail::Console { operation } }, now)
    }

    fn reach(&self, name: &ResourceName, now: SystemTime) -> Result<Arc<Reach>, Reason> {
        let known = self.reaches.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(reach) = known.filter(|reach| reach.stands(now)) {
            return Ok(reach);
        }
        let resource = self.engine.resource(name).ok_or(Reason::UnknownResource)?;
        let who = self.who.as_ref().ok_or(Reason::FactsUnavailable)?;
        let reach = Arc::new(Reach::new(&self.engine, who, resource, now).ok_or(Reason::PolicyError)?);
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
    pub(crate) lineage: Lineage,
    pub(crate) entities: Entities,
    slices: Vec<Slice>,
    /// The slices are right at instants `from..until`: between two expiries.
    from: Option<SystemTime>,
    until: Option<SystemTime>,
}

/// The policies whose scope matches subject, action and resource, without expired permits.
pub(crate) struct Slice {
    pub(crate) action: Action,
    /// Permits among them, sorted by policy id.
    pub(crate) permits: Vec<Number>,
    pub(crate) set: Arc<PolicySet>,
}

impl Reach {
    /// `None` when Cedar refuses an entity or policy that it took before.
    pub(crate) fn new(engine: &Engine, who: &Who, resource: &Arc<Resource>, now: SystemTime) -> Option<Self> {
        let lineage = engine.lineage(resource);
        let matching: Vec<(Number, &Entry)> = engine
            .index
            .candidates(&who.lineage, &lineage)
            .into_iter()
            .filter_map(|number| Some((number, engine.entry(number)?)))
            .filter(|(_, entry)| entry.scope.principal.matches(&who.lineage) && entry.scope.resource.matches(&lineage))
            .collect();
        let ends = || matching.iter().filter_map(|(_, entry)| entry.ends());
        let (from, until) = (ends().filter(|end| *end <= now).max(), ends().filter(|end| *end > now).min());
        let slice = |action: &Action| {
            let mut here: Vec<(Number, &Entry)> = matching
                .iter()
                .filter(|(_, entry)| entry.scope.action.actions.contains(action) && !entry.is_expired(now))
                .copied()
                .collect();
            let numbers: Vec<Number> = here.iter().map(|(number, _)| *number).collect();
            here.retain(|(_, entry)| entry.effect == Effect::Permit);
            here.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
            let permits = here.into_iter().map(|(number, _)| number).collect();
            Some(Slice { action: *action, permits, set: engine.policy_set(&numbers)? })
        };
        Some(Self {
            slices: resource.spec.kind().actions().iter().map(slice).collect::<Option<_>>()?,
            entities: who.beside(engine.words, resource, &lineage)?,
            resource: resource.clone(),
            lineage,
            from,
            until,
        })
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
