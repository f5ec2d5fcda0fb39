//! Cedar's mistakes in the words of this product, with what to do next.

use std::ops::Range;

use cedar_policy::{ParseError, ValidationError, ValidationWarning};
use miette::Diagnostic as _;
use serde_json::Value;
use vouchsafe_model::action::Action;

use crate::diagnostic::nearest;
use crate::schema::Words;
use crate::tree::Tree;

/// A mistake in our words.
pub(crate) struct Told {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What is wrong with the syntax at a place inside the policy `text`, and what to do about it.
pub(crate) fn of_syntax(error: &ParseError, at: Range<usize>, text: &str) -> (String, Option<String>) {
    let told = error.to_string();
    let spot = text.get(at.clone()).unwrap_or_default();
    let before = text.get(..at.start).unwrap_or_default().trim_end();
    if told.contains("policy effect") {
        let hint = nearest(spot, ["permit", "forbid"]).map(|meant| format!("did you mean `{meant}`?"));
        return (format!("a policy begins with `permit` or `forbid`, not with `{spot}`"), hint);
    }
    let hint = match spot {
        _ if begins_again(spot, before) => Some("the policy before this one has to end with `;`".to_owned()),
        _ if told.contains("unexpected end of input") => {
            Some("a policy ends with `;`, and every bracket has to be closed".to_owned())
        }
        _ => error.help().map(|help| help.to_string()).or_else(|| {
            error.labels()?.find_map(|label| label.label().filter(|text| text.len() <= 80).map(str::to_owned))
        }),
    };
    (told, hint)
}

/// Whether the next policy begins at `spot`, or one word before it.
fn begins_again(spot: &str, before: &str) -> bool {
    let before = match spot {
        "permit" | "forbid" | "@" => Some(before),
        "(" => before.strip_suffix("permit").or_else(|| before.strip_suffix("forbid")),
        _ => None,
    };
    before.is_some_and(|before| before.trim_end().ends_with([')', '}']))
}

/// The attribute that the context lacks for an action, such as `context.request.path`, and the action.
pub(crate) fn lacking(error: &ValidationError) -> Option<(String, String)> {
    let ValidationError::UnsafeAttributeAccess(_) = error else { return None };
    let message = error.to_string();
    let (_, rest) = message.split_once("attribute `")?;
    let (attribute, rest) = rest.split_once("` in context for Action::\"")?;
    Some((format!("context.{attribute}"), rest.split('"').next()?.to_owned()))
}

/// A mistake that [`lacking`] found, for all the actions together.
pub(crate) fn of_lacking(attribute: &str, mut actions: Vec<String>) -> Told {
    actions.sort();
    actions.dedup();
    let last = actions.pop().unwrap_or_default();
    let list = if actions.is_empty() { last } else { format!("{} and {last}", actions.join(", ")) };
    let hint = match attribute.rsplit('.').next().unwrap_or_default() {
        "path" | "method" | "host" => Some("[Action::\"http:read\", Action::\"http:write\"]"),
        "port" => Some("[Action::\"net:connect\"]"),
        "operation" => Some("[Action::\"console:read\", Action::\"console:write\"]"),
        _ => None,
    };
    let hint = hint.map(|actions| format!("say which actions the policy is about: `action in {actions}`"));
    let hint = hint.or_else(|| {
        let known = CONTEXT.iter().copied();
        nearest(attribute, known).map(|meant| format!("did you mean `{meant}`?"))
    });
    Told { code: "unknown_attribute", message: format!("there is no `{attribute}` for {list}"), hint }
}

const CONTEXT: [&str; 17] = [
    "context.auth",
    "context.auth.age",
    "context.auth.methods",
    "context.auth.phishing_resistant",
    "context.device",
    "context.device.grade",
    "context.network",
    "context.network.ip",
    "context.request",
    "context.request.host",
    "context.request.method",
    "context.request.operation",
    "context.request.path",
    "context.request.port",
    "context.time",
    "context.tls",
    "context.tls.post_quantum",
];

/// A mistake that strict validation found at `spot`.
pub(crate) fn of_error(error: &ValidationError, spot: &str, words: &Words) -> Told {
    let message = without_policy(&error.to_string());
    let help = error.help().map(|help| help.to_string());
    let (code, hint) = match error {
        ValidationError::UnrecognizedEntityType(_) => ("unknown_entity_type", entity_type(&message, words)),
        ValidationError::UnrecognizedActionId(_) => ("unknown_action", action(&message)),
        ValidationError::UnsafeAttributeAccess(_) => ("unknown_attribute", attribute(&message).or(help)),
        ValidationError::UnsafeOptionalAttributeAccess(_) => ("optional_attribute", guard(spot).or(help)),
        ValidationError::UnexpectedType(_)
        | ValidationError::IncompatibleTypes(_)
        | ValidationError::WrongNumberArguments(_)
        | ValidationError::EmptySetForbidden(_)
        | ValidationError::NonLitExtConstructor(_)
        | ValidationError::FunctionArgumentValidation(_) => ("type", help.filter(|help| !help.contains("for policy"))),
        ValidationError::UndefinedFunction(_) => (
            "unknown_function",
            Some("functions are ip(\"…\"), datetime(\"…\"), duration(\"…\") and decimal(\"…\")".to_owned()),
        ),
        _ => ("invalid", help),
    };
    Told { code, message, hint }
}

/// How to ask first whether an optional attribute is there.
fn guard(spot: &str) -> Option<String> {
    let (of, attribute) = spot.rsplit_once('.')?;
    Some(format!("it may be missing, so ask first: `{of} has {attribute} && …`"))
}

/// A doubt that strict validation has.
pub(crate) fn of_warning(warning: &ValidationWarning) -> Told {
    let message = without_policy(&warning.to_string());
    let help = warning.help().map(|help| help.to_string());
    match warning {
        ValidationWarning::ImpossiblePolicy(_) => Told {
            code: "never_applies",
            message: "the conditions can never hold, so the policy does nothing".to_owned(),
            hint: Some(
                "look for conditions that exclude each other, or an action that doesn't exist on this kind of resource"
                    .to_owned(),
            ),
        },
        ValidationWarning::InvalidActionApplication(_) => Told {
            code: "never_applies",
            message: "no action of this policy exists on this kind of resource, so it does nothing".to_owned(),
            hint: Some(actions_by_kind()),
        },
        _ => Told { code: "confusable", message, hint: help },
    }
}

/// Cedar puts "for policy `3`, " in front; the place says which policy it is.
fn without_policy(message: &str) -> String {
    let rest = message.strip_prefix("for policy `").and_then(|rest| rest.split_once('`'));
    let rest = rest.map_or(message, |(_, rest)| rest.trim_start_matches([',', ':', ' ']));
    rest.to_owned()
}

/// The last thing between backticks.
fn quoted(message: &str) -> &str {
    message.rsplit('`').nth(1).unwrap_or_default()
}

fn entity_type(message: &str, words: &Words) -> Option<String> {
    let known: Vec<String> =
        words.schema.entity_types().map(ToString::to_string).filter(|name| name != "Action").collect();
    let given = quoted(message);
    match nearest(given, known.iter().map(String::as_str)) {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None => {
            let mut known = known;
            known.sort();
            Some(format!("entity types are {}", known.join(", ")))
        }
    }
}

fn action(message: &str) -> Option<String> {
    let given = message.split("::\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    let known = Action::ALL.iter().map(|action| action.as_str()).chain(["access"]);
    match nearest(given, known) {
        Some(meant) => Some(format!("did you mean `Action::\"{meant}\"`?")),
        None => Some(format!("{}; `in Action::\"access\"` is all of them", actions_by_kind())),
    }
}

fn actions_by_kind() -> String {
    "on Http they are http:read, http:write and http:upgrade; on Tcp and Udp net:connect; on Console console:read and console:write".to_owned()
}

/// The nearest attribute of any entity type.
fn attribute(message: &str) -> Option<String> {
    let given = message.split('`').nth(1)?.rsplit('.').next()?;
    let known = ["grade", "name", "owner", "sensitivity", "tags"];
    nearest(given, known).filter(|meant| *meant != given).map(|meant| format!("did you mean `{meant}`?"))
}

/// Whether a policy asks `… .owner in …`. Facts about a subject hold no groups of other people, so
/// such a test would quietly be false; in a `forbid` that would open what was meant to be closed.
pub(crate) fn asks_for_groups_of_an_owner(policy: &Tree, text: &str) -> bool {
    // With a backslash the name can be written in other letters, as in `device["\u{6f}wner"]`.
    if !text.contains("owner") && !text.contains('\\') {
        return false;
    }
    let Some(json) = policy.json() else { return false };
    let mut open = vec![&json];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                let asks = |name: &str, value: &Value| match name {
                    "in" => is_owner(value.get("left")),
                    "is" => value.get("in").is_some() && is_owner(value.get("left")),
                    _ => false,
                };
                if fields.iter().any(|(name, value)| asks(name, value)) {
                    return true;
                }
                open.extend(fields.values());
            }
            Value::Array(values) => open.extend(values),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    false
}

fn is_owner(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get(".")?.get("attr")?.as_str()) == Some("owner")
}
