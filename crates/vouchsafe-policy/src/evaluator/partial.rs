//! Conditions as far as they can be told without the circumstances of a request.
//!
//! A condition is cut into parts that all have to hold, in the order in which Cedar comes to them. Of
//! each part it can be known that it holds, or that it doesn't, whatever the circumstances; the others
//! stay as what a request has to bring.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use cedar_policy_core::ast::{
    BinaryOp, Context, EntityUID as CoreUid, EntityUIDEntry, Expr, ExprKind, Literal, PartialValue,
    Request as CoreRequest, UnaryOp, Unknown, Value, ValueKind, Var,
};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

use super::words::{self, Limit};
use super::{Condition, Principal, Verb, World};

/// A part of a condition; the condition holds exactly where all of its parts do.
pub(crate) struct Part {
    expression: Expr,
    /// Whether it may fail, such as by overflow, rather than hold or not.
    pub(crate) can_fail: bool,
    limit: OnceLock<Limit>,
}

/// What is known of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    /// It hangs on the circumstances.
    Open,
    /// It can't be evaluated, whatever the circumstances.
    Error,
}

/// What some conditions read of the user. Two users who agree in all of it are answered alike.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reads {
    /// Names of groups that membership is asked for.
    pub(crate) groups: BTreeSet<String>,
    /// Names of users whom the user is compared with.
    pub(crate) users: BTreeSet<String>,
    /// Whether the user is read in some other way, so that no two are alike.
    pub(crate) each: bool,
    /// Whether memberships are read in some other way, so that all groups of a user count.
    pub(crate) all_groups: bool,
}

impl Condition {
    /// Its parts, in the order in which Cedar comes to them.
    pub(crate) fn parts(&self) -> &[Part] {
        self.parts.get_or_init(|| {
            let mut found = Vec::new();
            split(&self.expression.0, Sense::Plain, &mut found);
            found.into_iter().map(Part::new).collect()
        })
    }

    /// Adds what it reads of the user.
    pub(crate) fn read_principal(&self, reads: &mut Reads) {
        reads.walk(&self.expression.0);
    }

    /// Whether it reads of the resource what two of equal groups, tags and sensitivity may differ in.
    pub(crate) fn reads_resource_itself(&self) -> bool {
        reads_resource_itself(&self.expression.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sense {
    Plain,
    Negated,
}

fn split(expression: &Expr, sense: Sense, found: &mut Vec<Expr>) {
    match (expression.expr_kind(), sense) {
        (ExprKind::And { left, right }, Sense::Plain) | (ExprKind::Or { left, right }, Sense::Negated) => {
            split(left, sense, found);
            split(right, sense, found);
        }
        (ExprKind::UnaryApp { op: UnaryOp::Not, arg }, Sense::Plain) => split(arg, Sense::Negated, found),
        (ExprKind::UnaryApp { op: UnaryOp::Not, arg }, Sense::Negated) => split(arg, Sense::Plain, found),
        (_, Sense::Plain) => found.push(expression.clone()),
        (_, Sense::Negated) => found.push(Expr::not(expression.clone())),
    }
}

impl Part {
    fn new(expression: Expr) -> Self {
        Self { can_fail: can_fail(&expression), expression, limit: OnceLock::new() }
    }

    /// The part for people.
    pub(crate) fn limit(&self) -> &Limit {
        self.limit.get_or_init(|| words::of(&self.expression))
    }
}

/// Whether an expression that passed strict validation may still fail: by arithmetic.
fn can_fail(expression: &Expr) -> bool {
    const NEVER_FAIL: [&str; 14] = [
        "ip",
        "decimal",
        "datetime",
        "duration",
        "isIpv4",
        "isIpv6",
        "isLoopback",
        "isMulticast",
        "isInRange",
        "lessThan",
        "lessThanOrEqual",
        "greaterThan",
        "greaterThanOrEqual",
        "toTime",
    ];
    expression.subexpressions().any(|each| match each.expr_kind() {
        ExprKind::UnaryApp { op, arg: _ } => *op == UnaryOp::Neg,
        ExprKind::BinaryApp { op, arg1: _, arg2: _ } => {
            matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::GetTag)
        }
        ExprKind::ExtensionFunctionApp { fn_name, args: _ } => {
            let name = fn_name.to_string();
            !NEVER_FAIL.contains(&name.as_str())
        }
        _ => false,
    })
}

impl Reads {
    fn walk(&mut self, expression: &Expr) {
        match expression.expr_kind() {
            ExprKind::Var(Var::Principal) => self.each = true,
            // Of which kind somebody is doesn't tell two users apart.
            ExprKind::Is { expr, entity_type: _ } if is_principal(expr) => {}
            ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } if is_principal(arg1) => match entities(arg2) {
                Some(named) => named.into_iter().for_each(|uid| self.name(uid)),
                None => {
                    self.each = true;
                    self.all_groups = true;
                    self.walk(arg2);
                }
            },
            ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } if is_principal(arg1) || is_principal(arg2) => {
                let other = if is_principal(arg1) { arg2 } else { arg1 };
                match entities(other) {
                    Some(named) => named.into_iter().for_each(|uid| self.name(uid)),
                    // Such as the owner of a device, of which nothing is known for anybody.
                    None if of_context(other) => {}
                    None => {
                        self.each = true;
                        self.walk(other);
                    }
                }
            }
            _ => children(expression, &mut |child| self.walk(child)),
        }
    }

    fn name(&mut self, uid: &CoreUid) {
        let name = AsRef::<str>::as_ref(uid.eid()).to_owned();
        if uid.entity_type().to_string() == "Group" {
            self.groups.insert(name)
        } else {
            self.users.insert(name)
        };
    }
}

fn is_principal(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::Var(Var::Principal))
}

/// The entities of a literal, or of a set of some.
fn entities(expression: &Expr) -> Option<Vec<&CoreUid>> {
    match expression.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => Some(vec![uid]),
        ExprKind::Set(items) => {
            let one = |item: &Expr| matches!(item.expr_kind(), ExprKind::Lit(Literal::EntityUID(_)));
            if !items.iter().all(one) {
                return None;
            }
            Some(items.iter().filter_map(entities).flatten().collect())
        }
        _ => None,
    }
}

/// Whether it is `context` with names behind it.
fn of_context(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::Var(Var::Context) => true,
        ExprKind::GetAttr { expr, attr: _ } => of_context(expr),
        _ => false,
    }
}

fn reads_resource_itself(expression: &Expr) -> bool {
    let is_resource = |expression: &Expr| matches!(expression.expr_kind(), ExprKind::Var(Var::Resource));
    match expression.expr_kind() {
        ExprKind::Var(Var::Resource) => true,
        ExprKind::GetAttr { expr, attr } if is_resource(expr) => !matches!(attr.as_str(), "sensitivity" | "tags"),
        ExprKind::Is { expr, entity_type: _ } if is_resource(expr) => false,
        ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } if is_resource(arg1) => match entities(arg2) {
            // A resource is in itself, too.
            Some(named) => named.into_iter().any(|uid| uid.entity_type().to_string() != "ResourceGroup"),
            None => true,
        },
        _ => {
            let mut found = false;
            children(expression, &mut |child| found |= reads_resource_itself(child));
            found
        }
    }
}

pub(super) fn children(expression: &Expr, each: &mut dyn FnMut(&Expr)) {
    match expression.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        ExprKind::GetAttr { expr, attr: _ }
        | ExprKind::HasAttr { expr, attr: _ }
        | ExprKind::ExtHasAttr { expr, attrs: _ }
        | ExprKind::Like { expr, pattern: _ }
        | ExprKind::Is { expr, entity_type: _ } => each(expr),
        ExprKind::UnaryApp { op: _, arg } => each(arg),
        ExprKind::BinaryApp { op: _, arg1, arg2 } => {
            each(arg1);
            each(arg2);
        }
        ExprKind::And { left, right } | ExprKind::Or { left, right } => {
            each(left);
            each(right);
        }
        ExprKind::If { test_expr, then_expr, else_expr } => {
            each(test_expr);
            each(then_expr);
            each(else_expr);
        }
        ExprKind::ExtensionFunctionApp { fn_name: _, args } => args.iter().for_each(each),
        ExprKind::Set(items) => items.iter().for_each(each),
        ExprKind::Record(fields) => fields.values().for_each(each),
    }
}

/// Whether the device of a request is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// It is that of the subject.
    Known,
    Open,
}

/// Cedar's evaluator, bound to a subject, an action and a resource, without the circumstances.
pub(crate) struct Sketch<'w>(Evaluator<'w>);

impl<'w> Sketch<'w> {
    pub(crate) fn new(principal: &Principal, verb: &Verb, world: &'w World, device: Device) -> Self {
        let known = |uid: &Arc<CoreUid>| EntityUIDEntry::Known { euid: Arc::clone(uid), loc: None };
        let context = match device {
            Device::Known => principal.device_only(),
            Device::Open => None,
        };
        let request =
            CoreRequest::new_unchecked(known(&principal.uid), known(&verb.0), known(&world.resource), context);
        Self(Evaluator::new(request, &world.entities, Extensions::all_available()))
    }

    /// What is known of a part.
    pub(crate) fn truth(&self, part: &Part) -> Truth {
        self.of(&part.expression)
    }

    /// Cedar itself leaves more open than has to be: of `a || true` it would still evaluate `a`.
    fn of(&self, expression: &Expr) -> Truth {
        match expression.expr_kind() {
            ExprKind::And { left, right } => match self.of(left) {
                Truth::True => self.of(right),
                Truth::Open if self.of(right) == Truth::False && !can_fail(left) => Truth::False,
                stays @ (Truth::False | Truth::Open | Truth::Error) => stays,
            },
            ExprKind::Or { left, right } => match self.of(left) {
                Truth::False => self.of(right),
                Truth::Open if self.of(right) == Truth::True && !can_fail(left) => Truth::True,
                stays @ (Truth::True | Truth::Open | Truth::Error) => stays,
            },
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => match self.of(arg) {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                stays @ (Truth::Open | Truth::Error) => stays,
            },
            ExprKind::If { test_expr, then_expr, else_expr } => match self.of(test_expr) {
                Truth::True => self.of(then_expr),
                Truth::False => self.of(else_expr),
                Truth::Open => match (self.of(then_expr), self.of(else_expr)) {
                    (one, other) if one == other && !can_fail(test_expr) => one,
                    _ => Truth::Open,
                },
                Truth::Error => Truth::Error,
            },
            _ => self.leaf(expression),
        }
    }

    fn leaf(&self, expression: &Expr) -> Truth {
        match self.0.partial_interpret(expression, super::no_slots()) {
            Ok(PartialValue::Residual(_)) => Truth::Open,
            Ok(PartialValue::Value(value)) => match value.value_kind() {
                ValueKind::Lit(Literal::Bool(true)) => Truth::True,
                ValueKind::Lit(Literal::Bool(false)) => Truth::False,
                ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_) => {
                    Truth::Error
                }
            },
            Err(_) => Truth::Error,
        }
    }
}

impl Principal {
    /// The circumstances, of which nothing is known but the device.
    fn device_only(&self) -> Option<Context> {
        let Context::Value(standing) = &self.standing else { return None };
        let device: Value = standing.get("device")?.clone();
        let open = |name: &'static str| (name.into(), Expr::unknown(Unknown::new_untyped(name)));
        let mut fields: BTreeMap<_, Expr> = ["auth", "network", "request", "time", "tls"].map(open).into();
        fields.insert("device".into(), Expr::from(device));
        Some(Context::RestrictedResidual(Arc::new(fields)))
    }
}
