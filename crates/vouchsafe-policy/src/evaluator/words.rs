//! What a condition demands, in words where it is of a usual form, else as Cedar writes it.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inputs::attribute;

/// A condition that a request has to meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// In Cedar's notation.
    pub text: String,
    /// In words, such as `signed in within 15 min`.
    pub words: String,
}

pub(super) fn of(expression: &Expr) -> Limit {
    let text = expression.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let words = told(expression).unwrap_or_else(|| format!("if `{}`", readable(expression, &text)));
    Limit { text, words }
}

/// Cedar keeps `a > b` as `!(a <= b)`, which nobody wrote.
fn readable(expression: &Expr, text: &str) -> String {
    let ExprKind::UnaryApp { op: UnaryOp::Not, arg } = expression.expr_kind() else { return text.to_owned() };
    let (sign, arg1, arg2) = match arg.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::LessEq, arg1, arg2 } => (">", arg1, arg2),
        ExprKind::BinaryApp { op: BinaryOp::Less, arg1, arg2 } => (">=", arg1, arg2),
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => ("!=", arg1, arg2),
        _ => return text.to_owned(),
    };
    format!("{arg1} {sign} {arg2}")
}

fn told(expression: &Expr) -> Option<String> {
    match expression.expr_kind() {
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => denied(arg),
        ExprKind::Or { left, right } => {
            let (left, right) = (told(left)?, told(right)?);
            Some(format!("{left}, or {right}"))
        }
        ExprKind::And { left, right } => {
            // Asked only so that the owner may be read.
            if is_has_owner(left) {
                return told(right);
            }
            Some(format!("{} and {}", told(left)?, told(right)?))
        }
        ExprKind::HasAttr { .. } if is_has_owner(expression) => Some("on a device that has an owner".to_owned()),
        ExprKind::GetAttr { .. } => match attribute(expression)?.as_slice() {
            ["auth", "phishing_resistant"] => Some("after a sign-in that can't be phished".to_owned()),
            ["tls", "post_quantum"] => Some("on a connection with a post-quantum key agreement".to_owned()),
            _ => None,
        },
        ExprKind::Like { expr, pattern } => match attribute(expr)?.as_slice() {
            ["request", "path"] => Some(format!("on paths like `{pattern}`")),
            ["request", "host"] => Some(format!("on hosts like `{pattern}`")),
            _ => None,
        },
        ExprKind::BinaryApp { op, arg1, arg2 } => binary(*op, arg1, arg2),
        ExprKind::ExtensionFunctionApp { fn_name, args } if fn_name.to_string() == "isInRange" => {
            let [ip, range] = args.as_slice() else { return None };
            let is_source = attribute(ip)?.as_slice() == ["network", "ip"];
            is_source.then(|| constant(range, "ip")).flatten().map(|range| format!("from {range}"))
        }
        _ => None,
    }
}

fn binary(op: BinaryOp, arg1: &Expr, arg2: &Expr) -> Option<String> {
    match op {
        BinaryOp::Eq => equal(arg1, arg2).or_else(|| equal(arg2, arg1)),
        BinaryOp::Contains => {
            if let (Some(path), Some(word)) = (attribute(arg1), string(arg2)) {
                return match path.as_slice() {
                    ["device", "tags"] => Some(format!("on a device tagged `{word}`")),
                    ["auth", "methods"] => Some(format!("after a sign-in with {word}")),
                    _ => None,
                };
            }
            let words = strings(arg1)?;
            match attribute(arg2)?.as_slice() {
                ["device", "grade"] => Some(format!("on a device of grade {}", listed(&words, "or"))),
                ["request", "method"] => Some(format!("with the method {}", listed(&words, "or"))),
                _ => None,
            }
        }
        BinaryOp::Less | BinaryOp::LessEq => {
            if is_age(arg1) {
                return Some(format!("signed in within {}", span(long(arg2)?)));
            }
            if is_age(arg2) {
                return Some(format!("signed in more than {} ago", span(long(arg1)?)));
            }
            let until = if op == BinaryOp::Less { "before" } else { "until" };
            let since = if op == BinaryOp::Less { "after" } else { "from" };
            if is_time(arg1) {
                return Some(format!("{until} {}", constant(arg2, "datetime")?));
            }
            is_time(arg2).then(|| constant(arg1, "datetime")).flatten().map(|from| format!("{since} {from}"))
        }
        _ => None,
    }
}

fn equal(what: &Expr, value: &Expr) -> Option<String> {
    let path = attribute(what)?;
    if path.as_slice() == ["device", "owner"] && matches!(value.expr_kind(), ExprKind::Var(Var::Principal)) {
        return Some("on a device of one's own".to_owned());
    }
    let word = string(value)?;
    match path.as_slice() {
        ["device", "grade"] if word == "none" => Some("without a proven device".to_owned()),
        ["device", "grade"] => Some(format!("on a device of grade {word}")),
        ["device", "name"] => Some(format!("on the device `{word}`")),
        ["request", "path"] => Some(format!("on the path `{word}`")),
        ["request", "host"] => Some(format!("on the host `{word}`")),
        ["request", "method"] => Some(format!("with the method {word}")),
        ["request", "operation"] => Some(format!("for `{word}`")),
        _ => None,
    }
}

/// What it takes that something doesn't hold.
fn denied(expression: &Expr) -> Option<String> {
    match expression.expr_kind() {
        ExprKind::BinaryApp { op: op @ (BinaryOp::Less | BinaryOp::LessEq), arg1, arg2 } => {
            if is_age(arg1) {
                return Some(format!("signed in more than {} ago", span(long(arg2)?)));
            }
            if is_age(arg2) {
                return Some(format!("signed in within {}", span(long(arg1)?)));
            }
            let (since, until) = if *op == BinaryOp::Less { ("from", "until") } else { ("after", "before") };
            if is_time(arg1) {
                return Some(format!("{since} {}", constant(arg2, "datetime")?));
            }
            is_time(arg2).then(|| constant(arg1, "datetime")).flatten().map(|end| format!("{until} {end}"))
        }
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 }
            if attribute(arg1).is_some_and(|path| path.as_slice() == ["device", "grade"])
                && string(arg2) == Some("none") =>
        {
            Some("on an enrolled device".to_owned())
        }
        ExprKind::BinaryApp { .. }
        | ExprKind::Like { .. }
        | ExprKind::ExtensionFunctionApp { .. }
        | ExprKind::GetAttr { .. }
        | ExprKind::HasAttr { .. } => told(expression).map(|words| format!("not {words}")),
        _ => None,
    }
}

fn is_has_owner(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::HasAttr { expr, attr } => {
            attr.as_str() == "owner" && attribute(expr).is_some_and(|path| path.as_slice() == ["device"])
        }
        _ => false,
    }
}

fn is_age(expression: &Expr) -> bool {
    attribute(expression).is_some_and(|path| path.as_slice() == ["auth", "age"])
}

fn is_time(expression: &Expr) -> bool {
    attribute(expression).is_some_and(|path| path.as_slice() == ["time"])
}

pub(super) fn string(expression: &Expr) -> Option<&str> {
    match expression.expr_kind() {
        ExprKind::Lit(Literal::String(text)) => Some(text.as_str()),
        _ => None,
    }
}

pub(super) fn strings(expression: &Expr) -> Option<Vec<&str>> {
    match expression.expr_kind() {
        ExprKind::Set(items) => items.iter().map(string).collect(),
        _ => None,
    }
}

fn long(expression: &Expr) -> Option<i64> {
    match expression.expr_kind() {
        ExprKind::Lit(Literal::Long(number)) => Some(*number),
        _ => None,
    }
}

/// The text that a value is made of by this function.
pub(super) fn constant<'e>(expression: &'e Expr, function: &str) -> Option<&'e str> {
    match expression.expr_kind() {
        ExprKind::ExtensionFunctionApp { fn_name, args } if fn_name.to_string() == function => {
            args.first().and_then(string)
        }
        _ => None,
    }
}

fn listed(words: &[&str], and: &str) -> String {
    match words {
        [] => "none at all".to_owned(),
        [one] => (*one).to_owned(),
        [before @ .., last] => format!("{} {and} {last}", before.join(", ")),
    }
}

/// Seconds in the largest unit that needs no fraction.
fn span(seconds: i64) -> String {
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "min")] {
        if seconds >= unit && seconds % unit == 0 {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::super::{Condition, Expression};

    /// The parts of `when { … }` in words.
    fn words(condition: &str) -> Vec<String> {
        let policy = Policy::parse(None, format!("permit(principal, action, resource) {condition};")).expect("policy");
        let condition = Condition::new(Expression::of(&policy).expect("a condition"));
        condition.parts().iter().map(|part| part.limit().words.clone()).collect()
    }

    #[test]
    fn usual_conditions_are_told_in_words() {
        for (condition, told) in [
            ("when { context.auth.age < 900 }", vec!["signed in within 15 min"]),
            ("unless { context.auth.age > 3600 }", vec!["signed in within 1 h"]),
            ("when { context.device.grade == \"hardware\" }", vec!["on a device of grade hardware"]),
            (
                "when { [\"hardware\", \"hardware-attested\"].contains(context.device.grade) }",
                vec!["on a device of grade hardware or hardware-attested"],
            ),
            ("when { context.device.grade != \"none\" }", vec!["on an enrolled device"]),
            ("when { context.device.tags.contains(\"encrypted\") }", vec!["on a device tagged `encrypted`"]),
            (
                "when { context.device has owner && context.device.owner == principal }",
                vec!["on a device that has an owner", "on a device of one's own"],
            ),
            ("when { context.network.ip.isInRange(ip(\"10.0.0.0/8\")) }", vec!["from 10.0.0.0/8"]),
            ("unless { context.request.path like \"/admin*\" }", vec!["not on paths like `/admin*`"]),
            ("when { context.time < datetime(\"2027-01-01\") }", vec!["before 2027-01-01"]),
            ("when { context.time >= datetime(\"2027-01-01\") }", vec!["from 2027-01-01"]),
            (
                "unless { context.auth.age >= 60 || context.device.grade == \"software\" }",
                vec!["signed in within 1 min", "not on a device of grade software"],
            ),
            (
                "when { context.request.path == \"/\" || context.request.path like \"/a*\" }",
                vec!["on the path `/`, or on paths like `/a*`"],
            ),
            ("when { context.auth.age * 2 > 10 }", vec!["-"]),
        ] {
            let found = words(condition);
            if condition.contains("* 2") {
                assert!(found[0].starts_with("if `") && found[0].contains("> 10"), "{found:?}");
            } else {
                assert_eq!(found, told, "{condition}");
            }
        }
    }
}
