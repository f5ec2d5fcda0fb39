//! A counterexample: one request that the solver found, tried out and told in words.

use cedar_policy::{Authorizer, Decision, Entities, Entity, EntityUid, EvalResult, PolicySet, Request};
use cedar_policy_symcc::Env;
use serde::Serialize;

/// One request that shows what does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Who asks, such as `User::"a"`.
    pub principal: String,
    /// For what, such as `Action::"http:read"`.
    pub action: String,
    /// Of what, such as `Http::"b"`.
    pub resource: String,
    /// What else is so, a line each.
    pub facts: Vec<String>,
    /// Whether the policies allow it.
    pub allowed: bool,
    /// Policies that decide it.
    pub policies: Vec<String>,
    /// Why a policy fails on it. Cedar skips such a policy; the engine denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// What Cedar's own evaluator says to a request that the solver found.
pub(crate) fn try_out(found: &Env, policies: &PolicySet) -> Case {
    let Env { request, entities } = found;
    let answer = Authorizer::new().is_authorized(request, policies, entities);
    let mut deciding: Vec<String> = answer.diagnostics().reason().map(ToString::to_string).collect();
    deciding.sort();
    Case {
        principal: name(request.principal()),
        action: name(request.action()),
        resource: name(request.resource()),
        facts: facts(request, entities),
        allowed: answer.decision() == Decision::Allow,
        policies: deciding,
        fails: answer.diagnostics().errors().next().map(ToString::to_string),
    }
}

/// An id as it stands in policies, or that it may be any: the solver gives what has no name the empty one.
fn name(uid: Option<&EntityUid>) -> String {
    match uid {
        Some(uid) if uid.id().unescaped().is_empty() => format!("some {}", uid.type_name()),
        Some(uid) => uid.to_string(),
        None => "anybody".to_owned(),
    }
}

fn facts(request: &Request, entities: &Entities) -> Vec<String> {
    let mut facts = Vec::new();
    for (who, uid) in [("principal", request.principal()), ("resource", request.resource())] {
        let Some(entity) = uid.and_then(|uid| entities.get(uid)) else { continue };
        member_of(who, entities, entity, &mut facts);
        attributes(who, entity, &mut facts);
    }
    let Some(context) = request.context() else { return facts };
    for (what, _) in context.clone() {
        match context.get(&what) {
            // The device is an entity of its own.
            Some(EvalResult::EntityUid(uid)) => {
                if let Some(entity) = entities.get(&uid) {
                    attributes(&format!("context.{what}"), entity, &mut facts);
                }
            }
            Some(value) => facts.push(format!("context.{what} = {value}")),
            None => {}
        }
    }
    facts
}

fn member_of(who: &str, entities: &Entities, entity: &Entity, facts: &mut Vec<String>) {
    let mut groups: Vec<String> =
        entities.ancestors(&entity.uid()).into_iter().flatten().map(ToString::to_string).collect();
    groups.sort();
    if !groups.is_empty() {
        facts.push(format!("{who} in {}", groups.join(", ")));
    }
}

fn attributes(who: &str, entity: &Entity, facts: &mut Vec<String>) {
    let mut all: Vec<String> = entity
        .attrs()
        .filter(|(attribute, _)| *attribute != "name")
        .filter_map(|(attribute, value)| value.ok().map(|value| format!("{who}.{attribute} = {value}")))
        .collect();
    all.sort();
    facts.extend(all);
}
