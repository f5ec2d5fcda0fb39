//! What conditions read of a request, and the key under which their answer may be remembered.
//!
//! Everything else that a condition can read stands for as long as a prepared subject does: the user,
//! the device, the resource, the action, how the user signed in. Cedar's evaluation has no other
//! source of change, so two requests that agree in the inputs get the same answer.
//!
//! Two inputs change by themselves, the instant and the age of the sign-in. A number that is only
//! ever compared with constants decides no more than on which side of each constant it lies; so the
//! key holds its rank among them instead of its value. Read in any other way, it is held as it is.

use std::net::IpAddr;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, Value, Var};

use super::{Circumstances, FUNCTIONS, call};
use crate::request::Detail;

/// Longest key that is remembered, in bytes. What takes more, such as a long path, is decided anew.
const MAX_KEY: usize = 256;

const AGE: u16 = 1;
const AGE_ITSELF: u16 = 1 << 1;
const TIME: u16 = 1 << 2;
const TIME_ITSELF: u16 = 1 << 3;
const IP: u16 = 1 << 4;
const METHOD: u16 = 1 << 5;
const HOST: u16 = 1 << 6;
const PATH: u16 = 1 << 7;
const PORT: u16 = 1 << 8;
const OPERATION: u16 = 1 << 9;
const REQUEST: u16 = METHOD | HOST | PATH | PORT | OPERATION;
const AGREEMENT: u16 = 1 << 10;
const EVERYTHING: u16 = AGE | AGE_ITSELF | TIME | TIME_ITSELF | IP | REQUEST | AGREEMENT;

/// What some conditions read of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    read: u16,
    /// Ages in seconds that the age is compared with; sorted.
    ages: Vec<i64>,
    /// Instants in milliseconds since 1970 that the instant is compared with; sorted.
    times: Vec<i64>,
}

impl Inputs {
    /// All that there is to read.
    #[cfg(test)]
    pub(super) fn everything() -> Self {
        Self { read: EVERYTHING, ..Self::default() }
    }

    /// What an expression reads. What isn't understood counts as reading everything.
    pub(super) fn of(expression: &Expr) -> Self {
        let mut inputs = Self::default();
        inputs.walk(expression);
        inputs.tidy();
        inputs
    }

    /// What these and those read together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.read |= other.read;
        self.ages.extend_from_slice(&other.ages);
        self.times.extend_from_slice(&other.times);
        self.tidy();
    }

    fn tidy(&mut self) {
        for numbers in [&mut self.ages, &mut self.times] {
            numbers.sort_unstable();
            numbers.dedup();
        }
    }

    pub(super) fn nothing(&self) -> bool {
        self.read == 0
    }

    /// Whether the age of the sign-in is read.
    pub(crate) fn age(&self) -> bool {
        self.reads(AGE)
    }

    /// Ages in seconds that it is compared with; sorted. Where it is read in other ways, there may be none.
    pub(crate) fn ages(&self) -> &[i64] {
        &self.ages
    }

    /// Instants in milliseconds since 1970 that the time is compared with; sorted.
    pub(crate) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Whether an age or instant is read in some other way than by comparing it with a constant.
    pub(crate) fn numbers_themselves(&self) -> bool {
        self.reads(AGE_ITSELF | TIME_ITSELF)
    }

    /// Whether host or port is read, which stand for as long as the resource does.
    pub(crate) fn place(&self) -> bool {
        self.reads(HOST | PORT)
    }

    pub(super) fn time(&self) -> bool {
        self.reads(TIME)
    }

    pub(super) fn ip(&self) -> bool {
        self.reads(IP)
    }

    /// Whether it is read how the key of the connection was agreed on.
    pub(crate) fn agreement(&self) -> bool {
        self.reads(AGREEMENT)
    }

    pub(super) fn request(&self) -> bool {
        self.reads(REQUEST)
    }

    pub(super) fn method(&self) -> bool {
        self.reads(METHOD)
    }

    pub(super) fn host(&self) -> bool {
        self.reads(HOST)
    }

    pub(super) fn path(&self) -> bool {
        self.reads(PATH)
    }

    pub(super) fn port(&self) -> bool {
        self.reads(PORT)
    }

    pub(super) fn operation(&self) -> bool {
        self.reads(OPERATION)
    }

    /// Whether there is something among it that differs with nearly every request.
    pub(crate) fn passing(&self) -> bool {
        self.reads(PATH | OPERATION)
    }

    fn reads(&self, any: u16) -> bool {
        self.read & any != 0
    }

    fn walk(&mut self, expression: &Expr) {
        match expression.expr_kind() {
            ExprKind::Lit(_) | ExprKind::Var(Var::Principal | Var::Action | Var::Resource) => {}
            // No condition has slots or unknowns.
            ExprKind::Var(Var::Context) | ExprKind::Slot(_) | ExprKind::Unknown(_) => self.read |= EVERYTHING,
            ExprKind::GetAttr { expr, attr: _ } => match attribute(expression) {
                Some(path) => self.attribute(&path),
                None => self.walk(expr),
            },
            // Whether an attribute is there is a question about the record that it would be in.
            ExprKind::HasAttr { expr, attr: _ }
            | ExprKind::ExtHasAttr { expr, attrs: _ }
            | ExprKind::Like { expr, pattern: _ }
            | ExprKind::Is { expr, entity_type: _ } => self.walk(expr),
            ExprKind::UnaryApp { op: _, arg } => self.walk(arg),
            ExprKind::BinaryApp { op, arg1, arg2 } => {
                let compares = matches!(op, BinaryOp::Eq | BinaryOp::Less | BinaryOp::LessEq);
                if !(compares && (self.comparison(arg1, arg2) || self.comparison(arg2, arg1))) {
                    self.walk(arg1);
                    self.walk(arg2);
                }
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.walk(left);
                self.walk(right);
            }
            ExprKind::If { test_expr, then_expr, else_expr } => {
                self.walk(test_expr);
                self.walk(then_expr);
                self.walk(else_expr);
            }
            ExprKind::ExtensionFunctionApp { fn_name: _, args } => args.iter().for_each(|each| self.walk(each)),
            ExprKind::Set(items) => items.iter().for_each(|each| self.walk(each)),
            ExprKind::Record(fields) => fields.values().for_each(|each| self.walk(each)),
        }
    }

    /// `context` followed by these names.
    fn attribute(&mut self, path: &[&str]) {
        self.read |= match path {
            ["auth", "methods" | "phishing_resistant", ..] | ["device", ..] => 0,
            ["auth"] | ["auth", "age", ..] => AGE | AGE_ITSELF,
            ["network", ..] => IP,
            ["tls", ..] => AGREEMENT,
            ["time", ..] => TIME | TIME_ITSELF,
            ["request"] => REQUEST,
            ["request", "method", ..] => METHOD,
            ["request", "host", ..] => HOST,
            ["request", "path", ..] => PATH,
            ["request", "port", ..] => PORT,
            ["request", "operation", ..] => OPERATION,
            _ => EVERYTHING,
        };
    }

    /// Notes the comparison of an age or an instant with a constant; `false` when it is none.
    fn comparison(&mut self, number: &Expr, constant: &Expr) -> bool {
        let path = attribute(number);
        match (path.as_deref(), constant.expr_kind()) {
            (Some(["auth", "age"]), ExprKind::Lit(Literal::Long(seconds))) => {
                self.read |= AGE;
                self.ages.push(*seconds);
                true
            }
            (Some(["time"]), ExprKind::ExtensionFunctionApp { .. }) => match instant(constant) {
                Some(millis) => {
                    self.read |= TIME;
                    self.times.push(millis);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// The key of a request's inputs: two requests have the same one only if these inputs can't tell
    /// them apart. `whose` says which conditions are meant; keys of different conditions mustn't be
    /// compared without it.
    ///
    /// `None` when it would be too long.
    pub(crate) fn key(&self, whose: u64, circumstances: &Circumstances<'_>) -> Option<Key> {
        let mut key = Key { bytes: [0; MAX_KEY], length: 0 };
        key.push(&whose.to_le_bytes())?;
        if self.reads(AGE) {
            key.number(circumstances.age, &self.ages, self.reads(AGE_ITSELF))?;
        }
        if self.reads(TIME) {
            let millis = i64::try_from(circumstances.second).ok()?.checked_mul(1_000)?;
            key.number(millis, &self.times, self.reads(TIME_ITSELF))?;
        }
        if self.reads(IP) {
            match circumstances.ip {
                IpAddr::V4(ip) => key.text(&ip.octets())?,
                IpAddr::V6(ip) => key.text(&ip.octets())?,
            }
        }
        if self.reads(AGREEMENT) {
            key.push(&[u8::from(circumstances.agreement.is_post_quantum())])?;
        }
        if self.reads(REQUEST) {
            match circumstances.detail {
                Detail::Http { method, host, path } => {
                    for (field, value) in [(METHOD, method), (HOST, host), (PATH, path)] {
                        if self.reads(field) {
                            key.text(value.as_bytes())?;
                        }
                    }
                }
                Detail::Net { port } => key.push(&port.to_le_bytes())?,
                Detail::Console { operation } => key.text(operation.as_bytes())?,
            }
        }
        Some(key)
    }
}

/// The names behind `context` in `context.a.b`; `None` when it is something else.
pub(super) fn attribute(expression: &Expr) -> Option<Vec<&str>> {
    match expression.expr_kind() {
        ExprKind::GetAttr { expr, attr } => {
            let mut path = attribute(expr)?;
            path.push(attr.as_str());
            Some(path)
        }
        ExprKind::Var(Var::Context) => Some(Vec::new()),
        _ => None,
    }
}

/// The instant of `datetime("…")` as Cedar reads it, in milliseconds since 1970.
fn instant(constant: &Expr) -> Option<i64> {
    let ExprKind::ExtensionFunctionApp { fn_name, args } = constant.expr_kind() else { return None };
    let datetime = FUNCTIONS.datetime?;
    let [text] = args.as_slice() else { return None };
    let (ExprKind::Lit(text @ Literal::String(_)), true) = (text.expr_kind(), fn_name == datetime.name()) else {
        return None;
    };
    let at = call(datetime, &[Value::from(text.clone())])?;
    let epoch = call(datetime, &[Value::from("1970-01-01")])?;
    let since = call(FUNCTIONS.duration_since?, &[at, epoch])?;
    match call(FUNCTIONS.to_milliseconds?, &[since])?.value_kind() {
        cedar_policy_core::ast::ValueKind::Lit(Literal::Long(millis)) => Some(*millis),
        _ => None,
    }
}

/// The inputs of one request in bytes, each of known length, so that no two ways to write them meet.
pub(crate) struct Key {
    bytes: [u8; MAX_KEY],
    length: usize,
}

impl Key {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Bytes of that length which are a key.
    #[cfg(test)]
    pub(crate) fn of_test(number: u64, length: usize) -> Self {
        let mut key = Self { bytes: [0; MAX_KEY], length: 0 };
        key.push(&number.to_le_bytes()).expect("short");
        key.push(&vec![7; length - 8]).expect("short");
        key
    }

    fn push(&mut self, more: &[u8]) -> Option<()> {
        let end = self.length.checked_add(more.len())?;
        self.bytes.get_mut(self.length..end)?.copy_from_slice(more);
        self.length = end;
        Some(())
    }

    fn text(&mut self, text: &[u8]) -> Option<()> {
        self.push(&u16::try_from(text.len()).ok()?.to_le_bytes())?;
        self.push(text)
    }

    /// The number itself, or its rank: twice the number of constants below it, and one more when it
    /// is itself among them.
    fn number(&mut self, number: i64, constants: &[i64], itself: bool) -> Option<()> {
        if itself {
            return self.push(&number.to_le_bytes());
        }
        let below = constants.partition_point(|constant| *constant < number);
        let met = constants.get(below) == Some(&number);
        self.push(&(u64::try_from(below).ok()? * 2 + u64::from(met)).to_le_bytes())
    }
}

#[cfg(test)]
mod tests;
