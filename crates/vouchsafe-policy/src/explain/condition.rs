//! The conditions of one policy, each evaluated as a policy of its own.

use cedar_policy::{AuthorizationError, Authorizer, Entities, Policy, PolicyId, PolicySet, Request};
use serde_json::{Value, json};

use super::{Condition, Holds};
use crate::engine::{Body, Entry};
use crate::tree::Tree;

/// The conditions of an entry in their order, cut at top-level `&&` (in `unless`, at `||`).
pub(super) fn evaluate(entry: &Entry, request: &Request, entities: &Entities) -> Vec<Condition> {
    let source = match &entry.body {
        Body::Policy | Body::Template => &entry.text,
        Body::Grant { template: Some(template), .. } => &template.text,
        Body::Grant { template: None, .. } => return Vec::new(),
    };
    let Some(policy) = Tree::parse(None, source).ok().and_then(|tree| tree.json()) else { return Vec::new() };
    let mut conditions = Vec::new();
    let mut stopped = false;
    for body in bodies(&policy) {
        let (text, mut holds) = match alone(body) {
            Some(policy) => (text(&policy), holds(&policy, request, entities)),
            None => ("…".to_owned(), Holds::Error("the condition can't be taken out of the policy".to_owned())),
        };
        // Alone it may fail on what an earlier condition guards it from, such as `has` does.
        if stopped && matches!(holds, Holds::Error(_)) {
            holds = Holds::NotReached;
        }
        stopped |= holds == Holds::False;
        conditions.push(Condition { text, holds });
    }
    conditions
}

/// The expressions that all have to be true, from the JSON form of the policy.
fn bodies(policy: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let Some(body) = condition.get("body") else { continue };
        if condition.get("kind").and_then(Value::as_str) == Some("unless") {
            let negated = split(body, "||").into_iter().map(|part| json!({ "!": { "arg": part } }));
            found.extend(negated);
        } else {
            found.extend(split(body, "&&"));
        }
    }
    found
}

/// The operands of a chain of one operator, in order.
fn split(body: &Value, operator: &str) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut open = vec![body];
    while let Some(next) = open.pop() {
        let sides = next.get(operator).and_then(|sides| Some((sides.get("left")?, sides.get("right")?)));
        match sides {
            Some((left, right)) => open.extend([right, left]),
            None => parts.push(next.clone()),
        }
    }
    parts
}

/// A policy with nothing but that condition.
fn alone(body: Value) -> Option<Policy> {
    let all = json!({ "op": "All" });
    let conditions = json!([{ "kind": "when", "body": body }]);
    let policy =
        json!({ "effect": "permit", "principal": all, "action": all, "resource": all, "conditions": conditions });
    Policy::from_json(Some(PolicyId::new("condition")), policy).ok()
}

/// The condition as Cedar writes it, on one line.
fn text(policy: &Policy) -> String {
    let whole = policy.to_string();
    let inner = whole
        .split_once("when {")
        .and_then(|(_, rest)| rest.rsplit_once('}'))
        .map_or(whole.as_str(), |(inner, _)| inner);
    inner.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn holds(policy: &Policy, request: &Request, entities: &Entities) -> Holds {
    let mut set = PolicySet::new();
    if let Err(error) = set.add(policy.clone()) {
        return Holds::Error(error.to_string());
    }
    let response = Authorizer::new().is_authorized(request, &set, entities);
    let failed = response.diagnostics().errors().next();
    match failed {
        Some(AuthorizationError::PolicyEvaluationError(error)) => Holds::Error(error.inner().to_string()),
        None if response.diagnostics().reason().next().is_some() => Holds::True,
        None => Holds::False,
    }
}
