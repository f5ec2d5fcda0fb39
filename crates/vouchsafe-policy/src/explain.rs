//! Why one request is decided as it is, policy by policy, and what would change that.
//!
//! For administrators: it names policies, groups and resources that the subject may not know of.

use std::net::IpAddr;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Advice, Decision, Reason};
use vouchsafe_model::name::{PolicyName, ResourceName};
use vouchsafe_model::subject::SubjectFacts;

use crate::annotation::Effect;
use crate::decide::{self, Asked};
use crate::engine::{Engine, Entry};
use crate::facts::Who;
use crate::index::Lineage;
use crate::request::{KeyAgreement, OwnedDetail, Request};
use crate::step_up::Denied;
use crate::subject::Reach;

mod change;
mod condition;

/// Most policies that one explanation shows.
const MAX_CONSIDERED: usize = 50;

/// What is to be explained. To ask "what if", change the facts, the address or `now`.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asks, on what device, signed in when.
    pub facts: SubjectFacts,
    /// Name of what is asked for; `console` is our own.
    pub resource: String,
    /// What is to be done to it.
    pub action: Action,
    /// Where the request comes from.
    pub ip: IpAddr,
    /// How the key of its connection was agreed on.
    pub agreement: KeyAgreement,
    /// What only requests of this kind have.
    pub detail: OwnedDetail,
}

/// Why one request is decided as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Exactly what [`crate::PreparedSubject::decide`] says.
    pub decision: Explained,
    /// Policies about this resource: those that decided first, then the nearest misses; at most 50.
    pub considered: Vec<Considered>,
    /// How many more policies are about this resource.
    pub more: usize,
    /// What would have to be different for a denied request to be allowed, in plain words; each
    /// entry is one way, except that what a `forbid` wants comes on top of any.
    pub would_change: Vec<String>,
}

/// A decision in words and codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// `allow` or `deny`.
    pub outcome: String,
    /// Code of the reason, such as `condition_failed`.
    pub reason: String,
    /// What the person is told.
    pub words: String,
    /// Policies that decided, sorted.
    pub policies: Vec<PolicyName>,
    /// Words of advice, such as `step-up`, best first.
    pub advice: Vec<String>,
    /// Version of the policies.
    pub policy_version: u64,
}

/// One policy about the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Considered {
    /// Its `@id`, or the id of a grant.
    pub id: PolicyName,
    /// Whether it allows or forbids.
    pub effect: Effect,
    /// File that it stands in; `grants` for a grant.
    pub file: String,
    /// The template that it was made from, of a grant that was made from one of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PolicyName>,
    /// Whether it is about this principal, action and resource.
    pub scope: ScopeMatch,
    /// Its conditions, each evaluated alone. Empty when it has none.
    pub conditions: Vec<Condition>,
    /// Whether it is a permit whose time is over.
    pub expired: bool,
    /// Whether it counts only with an enrolled device.
    pub needs_device: bool,
    /// Whether the decision hangs on it.
    pub decides: bool,
    /// What it comes to, in words.
    pub verdict: String,
}

/// The three parts of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScopeMatch {
    /// Who.
    pub principal: Part,
    /// Does what.
    pub action: Part,
    /// To what.
    pub resource: Part,
}

impl ScopeMatch {
    fn matches(&self) -> bool {
        self.principal.matched && self.action.matched && self.resource.matched
    }

    fn misses(&self) -> usize {
        [&self.principal, &self.action, &self.resource].into_iter().filter(|part| !part.matched).count()
    }
}

/// One part of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Whether the request satisfies it.
    pub matched: bool,
    /// As the policy has it, such as `principal in Group::"finance"`.
    pub text: String,
}

/// One condition of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// In Cedar's notation; one of an `unless` stands as `!(…)`.
    pub text: String,
    /// Whether it holds.
    pub holds: Holds,
}

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// It does.
    True,
    /// It doesn't.
    False,
    /// It can't be evaluated; the text says why.
    Error(String),
    /// It can't be evaluated, and needn't: a condition before it doesn't hold.
    NotReached,
}

/// Explains one request. Its decision is the one that [`crate::PreparedSubject`] makes.
#[must_use]
pub fn explain(engine: &Engine, question: &Question, now: SystemTime) -> Explanation {
    let facts = &question.facts;
    let name = if question.resource == ResourceName::console().as_str() {
        Ok(ResourceName::console())
    } else {
        ResourceName::parse(&question.resource)
    };
    let found = name.ok().and_then(|name| engine.target(&name));
    let (Some(target), Some(who)) = (found, Who::new(engine.words, facts)) else {
        let reason = if found.is_none() { Reason::UnknownResource } else { Reason::FactsUnavailable };
        return Explanation {
            decision: decide::denial(engine, facts, reason).into(),
            considered: Vec::new(),
            more: 0,
            would_change: change::without_resource(engine, &question.resource, reason),
        };
    };
    let (resource, lineage) = (&target.resource, &target.lineage);
    let request = Request {
        resource: &resource.name,
        action: question.action,
        ip: question.ip,
        agreement: question.agreement,
        detail: question.detail.as_detail(),
    };
    let decided = Reach::new(engine, &who, target, now, || 0).ok_or(Reason::PolicyError).and_then(|reach| {
        let asked = Asked::new(facts, &reach, &request, now)?;
        let ruling = decide::rule(engine, facts, &who, &reach, &asked)?;
        let denied = Denied { engine, facts, who: &who, reach: &reach, request: &request, now };
        Ok(denied.refine(ruling.decision.clone()))
    });
    let decision = decided.unwrap_or_else(|reason| decide::denial(engine, facts, reason));
    let asked = who.ask(engine, facts, lineage, &request, now);
    let asked = asked.and_then(|asked| Some((asked, who.beside(engine.words, resource, lineage)?)));
    let view = View { engine, facts, who: &who, lineage, action: question.action, decision: &decision, now };
    let (entries, more) = view.nearest();
    let considered: Vec<Considered> = entries
        .into_iter()
        .map(|entry| {
            let conditions = asked.as_ref().map(|(request, entities)| condition::evaluate(entry, request, entities));
            view.consider(entry, conditions.unwrap_or_default())
        })
        .collect();
    let would_change = change::of(&view, &considered);
    Explanation { decision: decision.into(), considered, more, would_change }
}

impl From<Decision> for Explained {
    fn from(decision: Decision) -> Self {
        let Decision { outcome, reason, words, policies, advice, policy_version, epoch: _, step_up: _ } = decision;
        Self {
            outcome: outcome.as_str().to_owned(),
            reason: reason.code().to_owned(),
            words: words.as_ref().to_owned(),
            policies: policies.to_vec(),
            advice: advice.iter().map(|advice: &Advice| advice.as_str().to_owned()).collect(),
            policy_version,
        }
    }
}

struct View<'e> {
    engine: &'e Engine,
    facts: &'e SubjectFacts,
    who: &'e Who,
    lineage: &'e Lineage,
    action: Action,
    decision: &'e Decision,
    now: SystemTime,
}

impl<'e> View<'e> {
    /// The policies about the resource, nearest to a decision first, and how many are left out.
    fn nearest(&self) -> (Vec<&'e Entry>, usize) {
        let numbers = self.engine.index.about(self.lineage);
        let mut found: Vec<&Entry> = numbers
            .into_iter()
            .filter_map(|number| self.engine.entry(number).map(std::sync::Arc::as_ref))
            .filter(|entry| entry.scope.resource.matches(self.lineage))
            .collect();
        let rank = |entry: &'e Entry| {
            (
                !self.decides(entry),
                self.scope(entry).misses(),
                entry.is_expired(self.now),
                entry.effect == Effect::Forbid,
                &entry.name,
            )
        };
        found.sort_by(|first, second| rank(first).cmp(&rank(second)));
        let more = found.len().saturating_sub(MAX_CONSIDERED);
        found.truncate(MAX_CONSIDERED);
        (found, more)
    }

    /// Whether the decision hangs on it.
    fn decides(&self, entry: &Entry) -> bool {
        self.decision.policies.contains(&entry.name)
    }

    fn scope(&self, entry: &Entry) -> ScopeMatch {
        let scope = &entry.scope;
        ScopeMatch {
            principal: Part {
                matched: scope.principal.matches(&self.who.lineage),
                text: scope.principal.text("principal"),
            },
            action: Part { matched: scope.action.actions.contains(&self.action), text: scope.action.text.clone() },
            resource: Part { matched: scope.resource.matches(self.lineage), text: scope.resource.text("resource") },
        }
    }

    fn consider(&self, entry: &Entry, conditions: Vec<Condition>) -> Considered {
        let mut considered = Considered {
            id: entry.name.clone(),
            effect: entry.effect,
            file: entry.file.as_ref().to_owned(),
            template: entry.template().map(|template| template.name.clone()),
            scope: self.scope(entry),
            conditions,
            expired: entry.is_expired(self.now),
            needs_device: entry.needs_device(),
            decides: self.decides(entry),
            verdict: String::new(),
        };
        considered.verdict = self.verdict(&considered);
        considered
    }

    fn verdict(&self, policy: &Considered) -> String {
        let broken = policy.conditions.iter().find(|condition| condition.holds != Holds::True);
        let permit = policy.effect == Effect::Permit;
        if policy.expired {
            return "its time is over".to_owned();
        }
        match (policy.scope.principal.matched, policy.scope.action.matched) {
            (false, false) => return "it is about other people and other actions".to_owned(),
            (false, true) => return "it is about other people".to_owned(),
            (true, false) => return "it is about other actions".to_owned(),
            (true, true) => {}
        }
        match broken {
            Some(Condition { text, holds: Holds::Error(_) }) => {
                format!("it fails at `{text}`, so nothing that it is about is open")
            }
            Some(Condition { text, .. }) if permit => format!("it doesn't allow this, because `{text}` doesn't hold"),
            Some(Condition { text, .. }) => format!("it doesn't forbid this, because `{text}` doesn't hold"),
            None if !permit => "it forbids this".to_owned(),
            None if policy.needs_device && self.facts.device.is_none() => {
                "it counts only on an enrolled device".to_owned()
            }
            None if self.decision.reason == Reason::Permitted => "it allows this".to_owned(),
            None => "it would allow this alone".to_owned(),
        }
    }
}
