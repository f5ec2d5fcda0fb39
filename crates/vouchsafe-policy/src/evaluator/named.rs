//! Conditions that read an attribute of an entity which they name themselves, as `User::"bob".name` does.
//!
//! A request brings the entities that it is about, and no others: to the evaluator the others have no attributes
//! (`has` is false, and `.` fails), to the validator and to the proofs they have all that the schema says. So what
//! such a condition says depends on who asks, a proof about it proves nothing, and it is refused.

use cedar_policy::Policy;
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal};

use super::Expression;
use super::partial::children;

/// Whether a policy reads an attribute or tag of an entity that it names.
#[must_use]
pub fn reads_of_a_named_entity(policy: &Policy) -> bool {
    Expression::of(policy).is_some_and(|expression| expression.reads_of_a_named_entity())
}

impl Expression {
    /// Whether it reads an attribute or tag of an entity that it names.
    pub(crate) fn reads_of_a_named_entity(&self) -> bool {
        reads(&self.0)
    }
}

fn reads(expression: &Expr) -> bool {
    let of = match expression.expr_kind() {
        ExprKind::GetAttr { expr, attr: _ }
        | ExprKind::HasAttr { expr, attr: _ }
        | ExprKind::ExtHasAttr { expr, attrs: _ } => Some(expr),
        ExprKind::BinaryApp { op: BinaryOp::GetTag | BinaryOp::HasTag, arg1, arg2: _ } => Some(arg1),
        _ => None,
    };
    let mut found = of.is_some_and(|of| names(of));
    children(expression, &mut |child| found = found || reads(child));
    found
}

/// Whether an entity is named anywhere in it: which one an `if` or a record brings forth isn't worked out.
fn names(expression: &Expr) -> bool {
    let mut found = matches!(expression.expr_kind(), ExprKind::Lit(Literal::EntityUID(_)));
    children(expression, &mut |child| found = found || names(child));
    found
}
