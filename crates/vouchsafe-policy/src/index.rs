//! Which policies can matter to a request: their scopes, and an index over them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, PrincipalConstraint, ResourceConstraint};
use vouchsafe_model::action::Action;

use crate::schema::Words;
use crate::tree::Tree;

/// What the scope of a policy says of the principal or the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    Any,
    Is(EntityTypeName),
    Eq(EntityUid),
    In(EntityUid),
    IsIn(EntityTypeName, EntityUid),
    /// Left open by a template, so nothing satisfies it.
    Slot,
}

/// An entity with all its ancestors.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    pub(crate) uid: EntityUid,
    pub(crate) ancestors: HashSet<EntityUid>,
    /// Of the entity and its ancestors; sorted.
    marks: Vec<Mark>,
}

/// Stands for an entity where looking at numbers is much faster. Two entities can have the same one,
/// so it only ever says where to look; scopes are compared by name.
type Mark = u64;

fn mark(uid: &EntityUid) -> Mark {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

impl Lineage {
    pub(crate) fn new(uid: EntityUid, ancestors: HashSet<EntityUid>) -> Self {
        let mut marks: Vec<Mark> = ancestors.iter().chain([&uid]).map(mark).collect();
        marks.sort_unstable();
        Self { uid, ancestors, marks }
    }

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
            Side::Slot => false,
        }
    }

    /// The entity that has to be the one asked about, or one of its ancestors.
    pub(crate) fn named(&self) -> Option<&EntityUid> {
        match self {
            Side::Any | Side::Is(_) | Side::Slot => None,
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
            Side::Slot => format!("{variable} == ?{variable}"),
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
    pub(crate) fn of(tree: &Tree, words: &Words) -> Self {
        match tree {
            Tree::Policy(policy) => Self {
                principal: policy.principal_constraint().into(),
                action: Doing::of(&policy.action_constraint(), words),
                resource: policy.resource_constraint().into(),
            },
            // Other slots than these two aren't accepted.
            Tree::Template(template) => Self {
                principal: Side::Slot,
                action: Doing::of(&template.action_constraint(), words),
                resource: Side::Slot,
            },
        }
    }

    /// The scope of a grant: of these actions, of which a template says which; else of all.
    pub(crate) fn of_grant(user: EntityUid, resource: EntityUid, action: Option<&Doing>, words: &Words) -> Self {
        Self {
            principal: Side::Eq(user),
            action: action.cloned().unwrap_or_else(|| Doing::of(&ActionConstraint::Any, words)),
            resource: Side::Eq(resource),
        }
    }
}

/// Number of a policy in the engine.
pub(crate) type Number = u32;

/// Policies by resource, and below that by principal.
///
/// A look-up meets no policy of another resource, however many there are, and those of other
/// principals only as numbers in a list. A copy shares what isn't changed.
#[derive(Clone, Default)]
pub(crate) struct Index {
    any: Arc<Bucket>,
    typed: HashMap<EntityTypeName, Arc<Bucket>>,
    named: HashMap<EntityUid, Arc<Bucket>>,
}

/// Policies about one resource, or one type, or all.
#[derive(Clone, Default)]
struct Bucket {
    any: Vec<Number>,
    /// By the principal that each one names; sorted.
    named: Vec<(Mark, Number)>,
}

impl Index {
    /// An index of many policies at once.
    pub(crate) fn of<'s>(scopes: impl Iterator<Item = (Number, &'s Scope)>) -> Self {
        let mut index = Self::default();
        for (number, scope) in scopes {
            let bucket = Arc::make_mut(index.bucket(&scope.resource));
            match scope.principal.named() {
                None => bucket.any.push(number),
                Some(uid) => bucket.named.push((mark(uid), number)),
            }
        }
        let buckets = index.typed.values_mut().chain(index.named.values_mut()).chain([&mut index.any]);
        for bucket in buckets {
            Arc::make_mut(bucket).named.sort_unstable();
        }
        index
    }

    pub(crate) fn add(&mut self, number: Number, scope: &Scope) {
        let bucket = Arc::make_mut(self.bucket(&scope.resource));
        match scope.principal.named() {
            None => bucket.any.push(number),
            Some(uid) => {
                let entry = (mark(uid), number);
                let at = bucket.named.partition_point(|each| *each < entry);
                bucket.named.insert(at, entry);
            }
        }
    }

    pub(crate) fn remove(&mut self, number: Number, scope: &Scope) {
        let bucket = Arc::make_mut(self.bucket(&scope.resource));
        match scope.principal.named() {
            None => bucket.any.retain(|each| *each != number),
            Some(_) => bucket.named.retain(|(_, each)| *each != number),
        }
        if bucket.any.is_empty() && bucket.named.is_empty() {
            match &scope.resource {
                Side::Any | Side::Slot => {}
                Side::Is(of) => drop(self.typed.remove(of)),
                Side::Eq(uid) | Side::In(uid) | Side::IsIn(_, uid) => drop(self.named.remove(uid)),
            }
        }
    }

    fn bucket(&mut self, side: &Side) -> &mut Arc<Bucket> {
        match side {
            // What has slots is no policy, and would match nothing here.
            Side::Any | Side::Slot => &mut self.any,
            Side::Is(of) => self.typed.entry(of.clone()).or_default(),
            Side::Eq(uid) | Side::In(uid) | Side::IsIn(_, uid) => self.named.entry(uid.clone()).or_default(),
        }
    }

    /// Policies whose resource and principal may match, sorted. Scopes still have to be compared:
    /// the index doesn't look at `==` against `in`, nor at types beside an entity.
    pub(crate) fn candidates(&self, principal: &Lineage, resource: &Lineage) -> Vec<Number> {
        let mut found = Vec::new();
        for bucket in self.of_resource(resource) {
            found.extend_from_slice(&bucket.any);
            bucket.named_by(&principal.marks, &mut found);
        }
        found.sort_unstable();
        found
    }

    /// Policies whose resource may match, for whatever principal, sorted.
    pub(crate) fn about(&self, resource: &Lineage) -> Vec<Number> {
        let every = |bucket: &'_ Bucket| {
            bucket.any.iter().chain(bucket.named.iter().map(|(_, number)| number)).copied().collect::<Vec<_>>()
        };
        let mut found: Vec<Number> = self.of_resource(resource).flat_map(every).collect();
        found.sort_unstable();
        found
    }

    fn of_resource<'i>(&'i self, resource: &'i Lineage) -> impl Iterator<Item = &'i Bucket> {
        let named = std::iter::once(&resource.uid).chain(&resource.ancestors).filter_map(|uid| self.named.get(uid));
        std::iter::once(&self.any).chain(self.typed.get(resource.uid.type_name())).chain(named).map(Arc::as_ref)
    }
}

impl Bucket {
    /// Adds the policies that name one of these principals, from whichever list is shorter.
    fn named_by(&self, marks: &[Mark], found: &mut Vec<Number>) {
        if self.named.len() <= marks.len() * 16 {
            let meant = self.named.iter().filter(|(mark, _)| marks.binary_search(mark).is_ok());
            found.extend(meant.map(|(_, number)| number));
        } else {
            for mark in marks {
                let from = self.named.partition_point(|(each, _)| each < mark);
                let here = self.named.iter().skip(from).take_while(|(each, _)| each == mark);
                found.extend(here.map(|(_, number)| number));
            }
        }
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
        let policies = [
            "permit(principal, action, resource);",
            "permit(principal in Group::\"a\", action, resource is Http);",
            "permit(principal is User in Group::\"a\", action, resource in ResourceGroup::\"r\");",
            "permit(principal in Group::\"b\", action, resource in ResourceGroup::\"r\");",
            "permit(principal == User::\"u\", action, resource == Http::\"x\");",
            "permit(principal == User::\"u\", action, resource == Http::\"y\");",
        ];
        let scopes = policies.map(|text| Scope::of(&Tree::parse(None, text).expect(text), words));
        let principal = Lineage::new(uid(&words.types.user, "u"), HashSet::from([group("a")]));
        let resource = Lineage::new("Http::\"x\"".parse().expect("uid"), HashSet::from([shelf("r")]));
        let at_once = Index::of((0..).zip(&scopes));
        let mut one_by_one = Index::default();
        (0..).zip(&scopes).for_each(|(number, scope)| one_by_one.add(number, scope));
        for index in [&at_once, &one_by_one] {
            assert_eq!(index.candidates(&principal, &resource), [0, 1, 2, 4]);
            assert_eq!(index.about(&resource), [0, 1, 2, 3, 4]);
        }
        let mut less = at_once.clone();
        for number in [1, 4] {
            less.remove(number, &scopes[number as usize]);
        }
        assert_eq!(less.candidates(&principal, &resource), [0, 2]);
        assert_eq!(less.about(&resource), [0, 2, 3]);
        assert_eq!(at_once.candidates(&principal, &resource), [0, 1, 2, 4], "a copy changes nothing");
        (0..).zip(&scopes).for_each(|(number, scope)| less.remove(number, scope));
        assert!(less.named.is_empty() && less.typed.is_empty() && less.about(&resource).is_empty());
    }

    #[test]
    fn a_long_list_is_searched_as_a_short_one_is_read() {
        let words = Words::get().expect("schema");
        let group = |at: usize| uid(&words.types.group, &format!("g{at}"));
        let scope = |at: usize| {
            let text = format!("permit(principal in Group::\"g{}\", action, resource == Http::\"x\");", at % 40);
            Scope::of(&Tree::parse(None, &text).expect("policy"), words)
        };
        let scopes: Vec<Scope> = (0..200).map(scope).collect();
        let index = Index::of((0..).zip(&scopes));
        let resource = Lineage::new("Http::\"x\"".parse().expect("uid"), HashSet::new());
        for groups in [0..1, 0..3, 0..20, 39..41] {
            let members: HashSet<EntityUid> = groups.clone().map(group).collect();
            let principal = Lineage::new(uid(&words.types.user, "u"), members);
            let meant: Vec<Number> = (0..200).filter(|at| groups.contains(&(*at as usize % 40))).collect();
            assert_eq!(index.candidates(&principal, &resource), meant);
        }
    }

    #[test]
    fn the_parent_of_all_actions_stands_for_each() {
        let words = Words::get().expect("schema");
        let of = |text: &str| Scope::of(&Tree::parse(None, text).expect(text), words).action.actions;
        assert_eq!(of("permit(principal, action in Action::\"access\", resource);"), Action::ALL);
        assert_eq!(of("permit(principal, action == Action::\"access\", resource);"), []);
        assert_eq!(of("permit(principal, action in [Action::\"http:read\"], resource);"), [Action::HttpRead]);
    }
}
