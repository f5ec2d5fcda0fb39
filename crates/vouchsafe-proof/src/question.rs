//! Policies and invariants, prepared for the symbolic compiler.

use std::time::{Duration, SystemTime};

use cedar_policy::{Policy, PolicyId, PolicySet, RequestEnv, Schema};
use vouchsafe_policy::PlainPolicy;

use crate::invariant::{Claim, Invariant, KNOWN, schema};

/// How much later than by this clock a permit may end by that of a gateway.
const CLOCK_LEEWAY: Duration = Duration::from_secs(86_400);

/// What is asked besides the invariants.
#[derive(Debug, Default)]
pub struct Scope {
    /// Policies that these must not allow more than.
    pub no_more_than: Option<Vec<PlainPolicy>>,
    /// Whether each policy is looked at: that it can't fail, and that there is something it is about.
    pub each: bool,
    /// Whether those that compute are looked at: that they can't fail. No others can.
    pub computing: bool,
}

/// One kind of request: type of principal, action, type of resource.
pub(crate) type Kind = RequestEnv;

/// Everything that is asked about.
pub(crate) struct Material {
    pub(crate) schema: Schema,
    pub(crate) kinds: Vec<Kind>,
    /// All that allows or forbids now. Permits that expired a day ago are out. It allows at least what
    /// the engine allows, which is more careful only.
    pub(crate) widest: PolicySet,
    /// [`Self::widest`], about nothing but requests that there can be.
    pub(crate) possible: PolicySet,
    /// Without permits that will expire: what is allowed for as long as the policies stay.
    pub(crate) lasting: PolicySet,
    pub(crate) former: Option<PolicySet>,
    /// Each by itself, about nothing but requests that there can be.
    pub(crate) policies: Vec<Policy>,
    /// Whether each computes.
    computing: Vec<bool>,
    pub(crate) invariants: Vec<Invariant>,
}

/// One question about one kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    /// Whether an invariant holds.
    Holds(usize),
    /// Whether an invariant is about anything at all.
    Speaks(usize),
    /// Whether a policy can't fail.
    CannotFail(usize),
    /// Whether a policy applies to anything at all.
    Applies(usize),
    /// Whether nothing is allowed that was not before.
    NoMore,
}

impl Material {
    /// # Errors
    /// Words for a policy that Cedar can't read by itself.
    pub(crate) fn new(
        policies: &[PlainPolicy],
        invariants: Vec<Invariant>,
        scope: &Scope,
        now: SystemTime,
    ) -> Result<Self, String> {
        let schema = schema().ok_or("the shipped schema is broken")?;
        let mut kinds: Vec<Kind> = schema.request_envs().collect();
        kinds
            .sort_by_key(|kind| (kind.action().to_string(), kind.resource().to_string(), kind.principal().to_string()));
        // A gateway whose clock is behind permits a little longer.
        let surely_over = now.checked_sub(CLOCK_LEEWAY).unwrap_or(SystemTime::UNIX_EPOCH);
        let in_force = |policy: &&PlainPolicy| policy.expires.is_none_or(|end| end > surely_over);
        let former = match &scope.no_more_than {
            Some(former) => Some(set(former.iter().filter(in_force))?),
            None => None,
        };
        let widest = set(policies.iter().filter(in_force))?;
        let mut possible = widest.clone();
        let guard = format!("forbid(principal, action, resource) unless {{{KNOWN}}};");
        // No policy has this name: names have no spaces.
        let guard = Policy::parse(Some(PolicyId::new("what is known")), guard).map_err(|error| error.to_string())?;
        possible.add(guard).map_err(|error| error.to_string())?;
        Ok(Self {
            schema,
            kinds,
            widest,
            possible,
            lasting: set(policies.iter().filter(|policy| policy.expires.is_none()))?,
            former,
            policies: policies.iter().map(|policy| known_first(&read(policy)?)).collect::<Result<_, _>>()?,
            computing: policies.iter().map(|policy| policy.computes).collect(),
            invariants,
        })
    }

    /// Policies that compute, and so could fail.
    pub(crate) fn computing(&self) -> impl Iterator<Item = usize> + '_ {
        self.computing.iter().enumerate().filter_map(|(index, computes)| computes.then_some(index))
    }

    /// Every question, with the number of its kind of request.
    pub(crate) fn asks(&self, scope: &Scope) -> Vec<(usize, Ask)> {
        let mut asks = Vec::new();
        for kind in 0..self.kinds.len() {
            for index in 0..self.invariants.len() {
                asks.extend([(kind, Ask::Speaks(index)), (kind, Ask::Holds(index))]);
            }
            if self.former.is_some() {
                asks.push((kind, Ask::NoMore));
            }
            let always = self.invariants.iter().any(|invariant| invariant.claim == Claim::Always);
            for (index, computes) in self.computing.iter().enumerate() {
                if scope.each || ((always || scope.computing) && *computes) {
                    asks.push((kind, Ask::CannotFail(index)));
                }
                if scope.each {
                    asks.push((kind, Ask::Applies(index)));
                }
            }
        }
        asks
    }
}

/// The policy with what is known of every request before its own conditions, which aren't looked at where that
/// doesn't hold: whether it can fail is asked about requests that there can be.
fn known_first(policy: &Policy) -> Result<Policy, String> {
    let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", policy.id());
    let known = format!("permit(principal, action, resource) when {{{KNOWN}}};");
    let known = Policy::parse(None, known).map_err(|error| broken(&error))?;
    let mut known = known.to_json().map_err(|error| broken(&error))?;
    let mut all = policy.to_json().map_err(|error| broken(&error))?;
    let (Some(known), Some(own)) = (conditions(&mut known), conditions(&mut all)) else {
        return Err(broken(&"it has no conditions in Cedar's JSON"));
    };
    own.splice(0..0, known.drain(..));
    Policy::from_json(Some(policy.id().clone()), all).map_err(|error| broken(&error))
}

fn conditions(policy: &mut serde_json::Value) -> Option<&mut Vec<serde_json::Value>> {
    policy.get_mut("conditions")?.as_array_mut()
}

fn set<'p>(policies: impl Iterator<Item = &'p PlainPolicy>) -> Result<PolicySet, String> {
    let policies = policies.map(read).collect::<Result<Vec<_>, _>>()?;
    PolicySet::from_policies(policies).map_err(|error| error.to_string())
}

fn read(policy: &PlainPolicy) -> Result<Policy, String> {
    Policy::parse(Some(PolicyId::new(policy.name.as_str())), &policy.text)
        .map_err(|error| format!("{}: {error}", policy.name))
}
