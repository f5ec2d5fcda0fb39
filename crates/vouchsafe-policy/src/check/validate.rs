//! Strict validation of policies against the schema, by Cedar's validator.
//!
//! The validator type-checks a policy once for each kind of principal, action and resource, which is
//! by far the larger part of loading. Its answer on two policies can't differ when they differ only
//! in which entities their scopes name: to it an entity in a scope is its type, except for actions.
//! So of policies of one such [`Shape`] it is asked about one, and when it has anything to say of that
//! one, about all of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{EntityTypeName, EntityUid, PolicyId, PolicySet, ValidationMode, ValidationResult};

use super::{Fresh, Read, Wrong, hint, label};
use crate::annotation::Effect;
use crate::diagnostic::Diagnostic;
use crate::evaluator::Expression;
use crate::index::Side;
use crate::scan::Piece;
use crate::schema::Words;
use crate::spread::{self, Spread};
use crate::tree::Tree;

/// Policies that one call of the validator is asked about.
const AT_ONCE: usize = 16;

/// What the validator can tell policies apart by.
#[derive(PartialEq, Eq, Hash)]
struct Shape<'p> {
    effect: Effect,
    principal: Kind<'p>,
    /// As a policy writes it.
    action: &'p str,
    resource: Kind<'p>,
    condition: Option<&'p Expression>,
}

/// One side of a scope without the entity that it names.
#[derive(PartialEq, Eq, Hash)]
enum Kind<'p> {
    Any,
    Is(&'p EntityTypeName),
    Eq(&'p EntityTypeName),
    In(&'p EntityTypeName),
    IsIn(&'p EntityTypeName, &'p EntityTypeName),
}

impl<'p> Shape<'p> {
    /// `None` when the validator looks at the very entities that the scope names.
    fn of(fresh: &'p Fresh) -> Option<Self> {
        let scope = &fresh.scope;
        Some(Self {
            effect: fresh.policy.effect(),
            principal: Kind::of(&scope.principal)?,
            action: &scope.action.text,
            resource: Kind::of(&scope.resource)?,
            condition: fresh.expression.as_ref(),
        })
    }
}

impl<'p> Kind<'p> {
    fn of(side: &'p Side) -> Option<Self> {
        let kind = match side {
            Side::Any => Kind::Any,
            Side::Is(of) => Kind::Is(of),
            Side::Eq(uid) => Kind::Eq(uid.type_name()),
            Side::In(uid) => Kind::In(uid.type_name()),
            Side::IsIn(of, uid) => Kind::IsIn(of, uid.type_name()),
            // Templates are few: each is asked about.
            Side::Slot => return None,
        };
        side.named().is_none_or(is_its_type).then_some(kind)
    }
}

/// Whether the validator sees no more of an entity in a scope than its type. It knows each action by
/// name (the schema has no other entities that it knows so), and doubts names in letters that look
/// like others.
fn is_its_type(uid: &EntityUid) -> bool {
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    uid.type_name().basename() != "Action" && uid.id().unescaped().bytes().all(plain)
}

/// Finds what Cedar's validator has to say, and what is said besides of policies that it accepts.
pub(super) fn validate(words: &Words, read: &[Read], spread: Spread<'_>, wrong: &mut Wrong<'_>) {
    let fresh: Vec<(usize, &Fresh)> = read.iter().filter_map(|each| Some((each.file, each.fresh()?))).collect();
    let mut alike: Vec<Vec<(usize, &Fresh)>> = Vec::new();
    let mut shapes: HashMap<Shape<'_>, usize> = HashMap::new();
    for (file, each) in fresh.iter().copied() {
        let next = alike.len();
        let group = Shape::of(each).map_or(next, |shape| *shapes.entry(shape).or_insert(next));
        match alike.get_mut(group) {
            Some(group) => group.push((file, each)),
            None => alike.push(vec![(file, each)]),
        }
    }
    let first: Vec<&Fresh> = alike.iter().filter_map(|group| group.first()).map(|(_, each)| *each).collect();
    let Some(doubted) = doubted(words, first, spread) else {
        return wrong.push(0, Diagnostic::general("internal", "not every policy was validated".to_owned()));
    };
    let doubted: Vec<(usize, &Fresh)> =
        alike.into_iter().zip(doubted).filter(|(_, it)| *it).flat_map(|(group, _)| group).collect();
    tell(words, alone(doubted, wrong), wrong);
    for (file, Fresh { policy, piece, expression, .. }) in fresh {
        if expression.as_ref().is_some_and(Expression::reads_of_a_named_entity) {
            let message = "attributes of an entity that the policy names are not known here".to_owned();
            let found = wrong.at(file, "named_entity", message, piece.at.clone());
            wrong.push(file, found.hint("a request brings its own principal, device and resource and no others: read theirs, and compare them with a name, as in `principal == User::\"ann\"` or `resource == Http::\"wiki\" && resource.sensitivity < 2`"));
        }
        if let Some((message, hint)) = policy.unfit() {
            let found = wrong.at(file, "unfit_template", message.to_owned(), piece.at.clone());
            wrong.push(file, found.hint(hint));
        }
        let text = wrong.files.get(file).map_or("", |file| piece.text(&file.text));
        if hint::asks_for_groups_of_an_owner(policy, text) {
            let message = "the groups of a device's owner are not known here".to_owned();
            let found = wrong.at(file, "owner_groups", message, piece.at.clone());
            wrong.push(file, found.hint("compare the owner with the principal: `context.device has owner && context.device.owner == principal`"));
        }
    }
}

/// Of which of these policies the validator has something to say. `None` when it wasn't asked about all.
fn doubted(words: &Words, policies: Vec<&Fresh>, spread: Spread<'_>) -> Option<Vec<bool>> {
    let some: Vec<&[&Fresh]> = policies.chunks(AT_ONCE).collect();
    let doubted = spread::map(spread, some, |some| {
        let (result, refused) = ask(words, some.iter().map(|each| &each.policy));
        let errors = result.validation_errors().map(|error| error.policy_id());
        let warnings = result.validation_warnings().map(|warning| warning.policy_id());
        let doubted: HashSet<&PolicyId> = errors.chain(warnings).collect();
        let of = |each: &&Fresh| !refused.is_empty() || doubted.contains(each.policy.id());
        some.iter().map(of).collect::<Vec<bool>>()
    });
    Some(doubted?.concat())
}

/// The validator's answer on some policies, and why others weren't given to it.
fn ask<'p>(words: &Words, policies: impl Iterator<Item = &'p Tree>) -> (ValidationResult, Vec<(&'p Tree, String)>) {
    let mut set = PolicySet::new();
    let mut refused = Vec::new();
    for each in policies {
        if let Err(error) = each.add_to(&mut set) {
            refused.push((each, error));
        }
    }
    (words.validator.validate(&set, ValidationMode::Strict), refused)
}

/// Each policy read by itself, so that what is told of it has its place in it.
fn alone<'p>(policies: Vec<(usize, &'p Fresh)>, wrong: &mut Wrong<'_>) -> Vec<(usize, &'p Piece, Tree)> {
    let mut read = Vec::with_capacity(policies.len());
    for (file, Fresh { policy, piece, .. }) in policies {
        let text = wrong.files.get(file).map_or("", |file| piece.text(&file.text));
        match Tree::parse(Some(policy.id().clone()), text) {
            Ok(policy) => read.push((file, piece, policy)),
            Err(error) => {
                let found = wrong.at(file, "internal", error.to_string(), piece.at.clone());
                wrong.push(file, found);
            }
        }
    }
    read
}

/// Tells all that the validator has to say of some policies.
fn tell(words: &Words, policies: Vec<(usize, &Piece, Tree)>, wrong: &mut Wrong<'_>) {
    let by_id: HashMap<&PolicyId, (usize, &Piece)> =
        policies.iter().map(|(file, piece, policy)| (policy.id(), (*file, *piece))).collect();
    let (result, refused) = ask(words, policies.iter().map(|(_, _, policy)| policy));
    for (policy, error) in refused {
        let Some((file, piece)) = by_id.get(policy.id()).copied() else { continue };
        let found = wrong.at(file, "internal", error, piece.at.clone());
        wrong.push(file, found);
    }
    let mut failed: HashSet<&PolicyId> = HashSet::new();
    // Cedar tells of an attribute that the context lacks once for each action.
    let mut lacking: BTreeMap<(usize, usize, usize), (String, Vec<String>)> = BTreeMap::new();
    for error in result.validation_errors() {
        let Some((file, piece)) = by_id.get(error.policy_id()).copied() else {
            wrong.push(0, Diagnostic::general("internal", error.to_string()));
            continue;
        };
        failed.insert(error.policy_id());
        let at = label(error, piece);
        if let Some((attribute, action)) = hint::lacking(error) {
            let place = (file, at.start, at.end);
            lacking.entry(place).or_insert_with(|| (attribute, Vec::new())).1.push(action);
            continue;
        }
        let spot = wrong.files.get(file).and_then(|file| file.text.get(at.clone())).unwrap_or_default();
        let told = hint::of_error(error, spot, words);
        let found = wrong.at(file, told.code, told.message, at);
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for ((file, start, end), (attribute, actions)) in lacking {
        let told = hint::of_lacking(&attribute, actions);
        let found = wrong.at(file, told.code, told.message, start..end);
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
    for warning in result.validation_warnings() {
        let Some((file, piece)) = by_id.get(warning.policy_id()).copied() else { continue };
        let told = hint::of_warning(warning);
        // What a policy with errors would do is not worth a doubt, nor is one doubt worth two.
        if told.code == "never_applies" && !failed.insert(warning.policy_id()) {
            continue;
        }
        let found = wrong.at(file, told.code, told.message, label(warning, piece)).warning();
        wrong.push(file, Diagnostic { hint: told.hint, ..found });
    }
}
