//! Conditions that compute with numbers or times, which is the one way in which a policy that fits the schema and reads
//! of no entity that it names can fail: by an overflow.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp};

use super::Expression;
use super::partial::children;

/// Functions of Cedar that fail where their result is too large.
const OVERFLOWING: [&str; 3] = ["offset", "durationSince", "toDate"];

impl Expression {
    /// Whether it computes.
    pub(crate) fn computes(&self) -> bool {
        computes(&self.0)
    }
}

fn computes(expression: &Expr) -> bool {
    let mut found = match expression.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, .. } => true,
        // A number with its sign in front is one number.
        ExprKind::UnaryApp { op: UnaryOp::Neg, arg } => !matches!(arg.expr_kind(), ExprKind::Lit(_)),
        ExprKind::ExtensionFunctionApp { fn_name, args: _ } => OVERFLOWING.contains(&fn_name.to_string().as_str()),
        _ => false,
    };
    children(expression, &mut |child| found = found || computes(child));
    found
}
