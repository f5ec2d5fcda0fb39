//! Which policies can matter to a request: their scopes, and an index over them.

use std::collections::{HashMap, HashSet};
use std::fmt;

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use vouchsafe_model::action::Action;

use crate::schema::Words;

/// What the scope of a policy says of the principal or the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    Any,
    Is(EntityTypeName),
    Eq(EntityUid),
    In(EntityUid),
    IsIn(EntityTypeName, EntityUid),
}

/// An entity with all its ancestors.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    pub(crate) uid: EntityUid,
    pub(crate) ancestors: HashSet<EntityUid>,
}

impl Lineage {
    fn is_in(&self, other: &EntityUid) -> bool {
        self.uid == *other || self.ancestors.contains(other)
    }
}

impl Side {
    /// Whether the entity satisfies it, exactly as Cedar would say.
    pub(crate) fn matches(&self, entity: &Lineage) -> bool {
        match self {
            Side::Any => true,
            Side::Is(of) => entity.uid.type_name() == of,
            Side::Eq(uid) => entity.uid == *uid,
            Side::In(uid) => entity.is_in(uid),
            Side::IsIn(of, uid) => entity.uid.type_name() == of && entity.is_in(uid),
        }
    }

    /// The entity that has to be the one asked about, or one of its ancestors.
    pub(crate) fn named(&self) -> Option<&EntityUid> {
        match self {
            Side::Any | Side::Is(_) => None,
            Side::Eq(uid) | Side::In(uid) | Side::IsIn(_, uid) => Some(uid),
        }
    }

    /// As a policy would write it.
    pub(crate) fn text(&self, variable: &str) -> String {
        match self {
            Side::Any => variable.to_owned(),
            Side::Is(of) => format!("{variable} is {of}"),
            Side::Eq(uid) => format!("{variable} == {uid}"),
            Side::In(uid) => format!("{variable} in {uid}"),
            Side::IsIn(of, uid) => format!("{variable} is {of} in {uid}"),
        }
    }
}

impl From<PrincipalConstraint> for Side {
    fn from(constraint: PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Side::Any,
            PrincipalConstraint::Is(of) => Side::Is(of),
            PrincipalConstraint::Eq(uid) => Side::Eq(uid),
            PrincipalConstraint::In(uid) => Side::In(uid),
            PrincipalConstraint::IsIn(of, uid) => Side::IsIn(of, uid),
        }
    }
}

impl From<ResourceConstraint> for Side {
    fn from(constraint: ResourceConstraint) -> Self {
        match constraint {
            ResourceConstraint::Any => Side::Any,
            ResourceConstraint::Is(of) => Side::Is(of),
            ResourceConstraint::Eq(uid) => Side::Eq(uid),
            ResourceConstraint::In(uid) => Side::In(uid),
            ResourceConstraint::IsIn(of, uid) => Side::IsIn(of, uid),
        }
    }
}

/// What the scope of a policy says of the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doing {
    /// The actions that satisfy it.
    pub(crate) actions: Vec<Action>,
    /// As the policy writes it.
    pub(crate) text: String,
}

impl Doing {
    fn of(constraint: &ActionConstraint, words: &Words) -> Self {
        let below = |uid: &EntityUid, listed: &EntityUid| uid == listed || *listed == words.access;
        let matches = |uid: &EntityUid| match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(listed) => uid == listed,
            ActionConstraint::In(listed) => listed.iter().any(|each| below(uid, each)),
        };
        let actions = words.actions().filter(|(_, uid)| matches(uid)).map(|(action, _)| action).collect();
        let text = match constraint {
            ActionConstraint::Any => "action".to_owned(),
            ActionConstraint::Eq(uid) => format!("action == {uid}"),
            ActionConstraint::In(listed) => {
                let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
                format!("action in [{}]", listed.join(", "))
            }
        };
        Self { actions, text }
    }
}

/// The scope of a policy: what comes between the parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) principal: Side,
    pub(crate) action: Doing,
    pub(crate) resource: Side,
}

impl Scope {
    pub(crate) fn of(policy: &Policy, words: &Words) -> Self {
        Self {
            principal: policy.principal_constraint().into(),
            action: Doing::of(&policy.action_constraint(), words),
            resource: policy.resource_constraint().into(),
        }
    }

    /// The scope of a grant.
    pub(crate) fn of_grant(user: EntityUid, resource: EntityUid, words: &Words) -> Self {
        Self {
            principal: Side::Eq(user),
            action: Doing::of(&ActionConstraint::Any, words),
            resource: Side::Eq(resource),
        }
    }
}

/// Number of a policy in the engine.
pub(crate) type Number = u32;

/// Policies by resource, and below that by principal.
///
/// A look-up costs `(ancestors of the resource + 3) × (ancestors of the principal + 2)` probes and
/// meets no policy of another resource or principal, however many there are.
#[derive(Default)]
pub(crate) struct Index {
    any: ByPrincipal,
    typed: HashMap<EntityTypeName, ByPrincipal>,
    named: HashMap<EntityUid, ByPrincipal>,
}

#[derive(Default)]
struct ByPrincipal {
    any: Vec<Number>,
    named: HashMap<EntityUid, Vec<Number>>,
}

impl Index {
    pub(crate) fn add(&mut self, number: Number, scope: &Scope) {
        let by_principal = match &scope.resource {
            Side::Any => &mut self.any,
            Side::Is(of) => self.typed.entry(of.clone()).or_default(),
            Side::Eq(uid) | Side::In(uid) | Side::IsIn(_, uid) => self.named.entry(uid.clone()).or_default(),
        };
        match scope.principal.named() {
            None => by_principal.any.push(number),
            Some(uid) => by_principal.named.entry(uid.clone()).or_default().push(number),
        }
    }

    /// Policies whose resource and principal may match, sorted. Scopes still have to be compared:
    /// the index doesn't look at `==` against `in`, nor at types beside an entity.
    pub(crate) fn candidates(&self, principal: &Lineage, resource: &Lineage) -> Vec<Number> {
        let mut found = Vec::new();
        for bucket in self.of_resource(resource) {
            found.extend_from_slice(&bucket.any);
            for uid in std::iter::once(&principal.uid).chain(&principal.ancestors) {
                found.extend(bucket.named.get(uid).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found
    }

    /// Policies whose resource may match, for whatever principal, sorted.
    pub(crate) fn about(&self, resource: &Lineage) -> Vec<Number> {
        let every = |bucket: &ByPrincipal| {
            bucket.any.iter().chain(bucket.named.values().flatten()).copied().collect::<Vec<_>>()
        };
        let mut found: Vec<Number> = self.of_resource(resource).flat_map(every).collect();
        found.sort_unstable();
        found
    }

    fn of_resource<'i>(&'i self, resource: &'i Lineage) -> impl Iterator<Item = &'i ByPrincipal> {
        let named = std::iter::once(&resource.uid).chain(&resource.ancestors).filter_map(|uid| self.named.get(uid));
        std::iter::once(&self.any).chain(self.typed.get(resource.uid.type_name())).chain(named)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("typed", &self.typed.len())
            .field("named", &self.named.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::uid;

    #[test]
    fn a_policy_is_found_under_each_entity_that_can_lead_to_it_and_no_other() {
        let words = Words::get().expect("schema");
        let group = |name: &str| uid(&words.types.group, name);
        let shelf = |name: &str| uid(&words.types.resource_group, name);
        let mut index = Index::default();
        let policies = [
            "permit(principal, action, resource);",
            "permit(principal in Group::\"a\", action, resource is Http);",
            "permit(principal is User in Group::\"a\", action, resource in ResourceGroup::\"r\");",
            "permit(principal in Group::\"b\", action, resource in ResourceGroup::\"r\");",
            "permit(principal == User::\"u\", action, resource == Http::\"x\");",
            "permit(principal == User::\"u\", action, resource == Http::\"y\");",
        ];
        for (number, text) in (0..).zip(policies) {
            let policy = Policy::parse(None, text).expect(text);
            index.add(number, &Scope::of(&policy, words));
        }
        let principal = Lineage { uid: uid(&words.types.user, "u"), ancestors: HashSet::from([group("a")]) };
        let resource = Lineage { uid: "Http::\"x\"".parse().expect("uid"), ancestors: HashSet::from([shelf("r")]) };
        assert_eq!(index.candidates(&principal, &resource), [0, 1, 2, 4]);
        assert_eq!(index.about(&resource), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_parent_of_all_actions_stands_for_each() {
        let words = Words::get().expect("schema");
        let of = |text: &str| Scope::of(&Policy::parse(None, text).expect(text), words).action.actions;
        assert_eq!(of("permit(principal, action in Action::\"access\", resource);"), Action::ALL);
        assert_eq!(of("permit(principal, action == Action::\"access\", resource);"), []);
        assert_eq!(of("permit(principal, action in [Action::\"http:read\"], resource);"), [Action::HttpRead]);
    }
}
