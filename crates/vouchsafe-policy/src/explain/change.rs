//! What would have to be different for a denied request to be allowed, in plain words.

use cedar_policy::EntityUid;
use vouchsafe_model::decision::{Outcome, Reason};

use super::{Condition, Considered, Holds, View};
use crate::annotation::Effect;
use crate::diagnostic::nearest;
use crate::engine::Engine;
use crate::moment;

/// Most ways that are told.
const MAX_WAYS: usize = 20;

/// When there is no resource, or no usable facts, to begin with.
pub(super) fn without_resource(engine: &Engine, given: &str, reason: Reason) -> Vec<String> {
    if reason != Reason::UnknownResource {
        return Vec::new();
    }
    let given: String = given.chars().take(80).flat_map(char::escape_default).collect();
    let known = engine.resources().map(|resource| resource.name.as_str()).chain(["console"]);
    let mut ways = vec![format!("a resource of the name `{given}` would have to exist")];
    ways.extend(nearest(&given, known).map(|meant| format!("ask for `{meant}`, if that was meant")));
    ways
}

/// The ways to a permit, nearest first.
pub(super) fn of(view: &View<'_>, considered: &[Considered]) -> Vec<String> {
    if view.decision.outcome == Outcome::Allow {
        return Vec::new();
    }
    if view.decision.reason == Reason::SessionEnded {
        return vec!["sign in again: the session has ended".to_owned()];
    }
    let kind = engine_kind(view);
    if !kind.actions().contains(&view.action) {
        let actions: Vec<String> = kind.actions().iter().map(|action| format!("`{action}`")).collect();
        return vec![format!(
            "ask for {}: `{}` doesn't exist on `{kind}` resources",
            actions.join(" or "),
            view.action
        )];
    }
    let broken = considered.iter().filter(|policy| policy.scope.matches() && !policy.expired).filter_map(mend);
    let forbidding = considered.iter().filter(|policy| policy.effect == Effect::Forbid && policy.decides).map(lift);
    let mut permits: Vec<(usize, String)> = considered
        .iter()
        .filter(|policy| policy.effect == Effect::Permit)
        .filter_map(|policy| way(view, policy))
        .collect();
    permits.sort_by_key(|(demands, _)| *demands);
    let mut ways: Vec<String> = Vec::new();
    for one in broken.chain(forbidding).chain(permits.into_iter().map(|(_, way)| way)) {
        if !ways.contains(&one) && ways.len() < MAX_WAYS {
            ways.push(one);
        }
    }
    if ways.is_empty() && view.decision.reason == Reason::NoPermit {
        ways.push("a policy would have to permit it, or an administrator to grant it".to_owned());
    }
    ways
}

fn engine_kind(view: &View<'_>) -> vouchsafe_model::resource::ResourceKind {
    use vouchsafe_model::resource::ResourceKind::{Console, Http, Tcp, Udp};
    let of = |kind: &vouchsafe_model::resource::ResourceKind| {
        view.engine.words.types.of_kind(*kind) == view.lineage.uid.type_name()
    };
    [Http, Tcp, Udp].into_iter().find(of).unwrap_or(Console)
}

/// What an administrator has to do about a policy that fails.
fn mend(policy: &Considered) -> Option<String> {
    policy.conditions.iter().find_map(|condition| match &condition.holds {
        Holds::Error(why) => Some(format!("policy `{}` would have to be mended: {why}", policy.id)),
        Holds::True | Holds::False | Holds::NotReached => None,
    })
}

/// What makes a forbid stop to apply.
fn lift(policy: &Considered) -> String {
    let conditions: Vec<String> = policy.conditions.iter().map(|condition| stops(&condition.text)).collect();
    match conditions.as_slice() {
        [] => format!("policy `{}` would have to be removed: it forbids this whatever the circumstances", policy.id),
        [one] => format!("{one}, so that policy `{}` no longer forbids it", policy.id),
        several => format!("one of these, so that policy `{}` no longer forbids it: {}", policy.id, several.join("; ")),
    }
}

fn stops(text: &str) -> String {
    match negated(text) {
        Some(inner) => format!("`{inner}` would have to hold"),
        None => format!("`{text}` would have to be false"),
    }
}

fn starts(text: &str) -> String {
    match negated(text) {
        Some(inner) => format!("`{inner}` would have to be false"),
        None => format!("`{text}` would have to hold"),
    }
}

/// What is inside `!(…)`, when that is all of the text.
fn negated(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("!(")?.strip_suffix(')')?;
    let mut open = 0_usize;
    for letter in inner.chars() {
        match letter {
            '(' => open += 1,
            ')' => open = open.checked_sub(1)?,
            _ => {}
        }
    }
    (open == 0).then_some(inner)
}

/// What a permit demands beyond what there is, and how many demands that are; `None` when nothing.
fn way(view: &View<'_>, policy: &Considered) -> Option<(usize, String)> {
    let entry = view.engine.named(&policy.id)?;
    let mut demands: Vec<String> = Vec::new();
    if !policy.scope.principal.matched {
        demands.push(who(view, entry.scope.principal.named(), &policy.scope.principal.text));
    }
    if !policy.scope.action.matched {
        // Another action isn't what was asked for; it is worth a word only to someone who has it.
        if !policy.scope.principal.matched {
            return None;
        }
        let actions: Vec<String> = entry.scope.action.actions.iter().map(|action| format!("`{action}`")).collect();
        demands.push(format!("ask for {}", actions.join(" or ")));
    }
    if policy.needs_device && view.facts.device.is_none() {
        demands.push("come from an enrolled device".to_owned());
    }
    if policy.expired {
        let ended = entry.notes.expires.and_then(moment::to_text).unwrap_or_default();
        demands.push(format!("have it renewed, since it ended at {ended}"));
    }
    let unmet = |condition: &&Condition| matches!(condition.holds, Holds::False | Holds::NotReached);
    demands.extend(policy.conditions.iter().filter(unmet).map(|condition| starts(&condition.text)));
    let last = demands.pop()?;
    let count = demands.len() + 1;
    let list = if demands.is_empty() { last } else { format!("{}, and {last}", demands.join(", ")) };
    Some((count, format!("{list} (policy `{}`)", policy.id)))
}

fn who(view: &View<'_>, named: Option<&EntityUid>, text: &str) -> String {
    let types = &view.engine.words.types;
    match named {
        Some(uid) if *uid.type_name() == types.group => format!("be a member of group `{}`", uid.id().unescaped()),
        Some(uid) if *uid.type_name() == types.user => format!("be the user `{}`", uid.id().unescaped()),
        Some(_) | None => format!("be another kind of subject (`{text}`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::negated;

    #[test]
    fn only_a_negation_of_everything_is_taken_apart() {
        assert_eq!(negated("!(a(b) || c)"), Some("a(b) || c"));
        assert_eq!(negated("!(a) || (b)"), None);
        assert_eq!(negated("(a)"), None);
    }
}
