//! The values that conditions compare the circumstances with: between two neighbours of them no answer
//! changes, so trying them is trying everything.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, PatternElem, Var};

use super::Condition;
use super::inputs::attribute;
use super::partial::children;
use super::words::{constant, string, strings};

/// What some conditions compare the circumstances with.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    pub(crate) tags: BTreeSet<String>,
    pub(crate) device_names: BTreeSet<String>,
    pub(crate) methods: BTreeSet<String>,
    pub(crate) paths: Texts,
    pub(crate) operations: Texts,
    /// Networks and addresses, as policies write them.
    pub(crate) networks: BTreeSet<String>,
    pub(crate) reads_ip: bool,
    /// Whether the owner of the device is read.
    pub(crate) owner: bool,
    /// Users whom the owner is compared with.
    pub(crate) owners: BTreeSet<String>,
    /// Whether something is read in a way that these values don't cover.
    pub(crate) beyond: bool,
}

/// What a text is compared with.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) is_read: bool,
    pub(crate) whole: BTreeSet<String>,
    /// Beginnings, of patterns such as `/admin*`.
    pub(crate) prefixes: BTreeSet<String>,
}

impl Mentions {
    pub(crate) fn of<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Self {
        let mut mentions = Self::default();
        conditions.for_each(|condition| mentions.walk(&condition.expression.0));
        mentions
    }

    fn walk(&mut self, expression: &Expr) {
        match expression.expr_kind() {
            ExprKind::BinaryApp {
                op: BinaryOp::Eq | BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny,
                arg1,
                arg2,
            } => {
                if !(self.compared(arg1, arg2) || self.compared(arg2, arg1)) {
                    self.walk(arg1);
                    self.walk(arg2);
                }
            }
            ExprKind::Like { expr, pattern } => match attribute(expr) {
                Some(path) => self.like(&path, pattern.get_elems()),
                None => self.walk(expr),
            },
            ExprKind::ExtensionFunctionApp { fn_name, args } => {
                let is_source = |expression: &Expr| attribute(expression).is_some_and(|it| it == ["network", "ip"]);
                match (fn_name.to_string().as_str(), args.as_slice()) {
                    ("isInRange", [ip, range]) if is_source(ip) => match constant(range, "ip") {
                        Some(range) => self.network(range),
                        None => self.beyond = true,
                    },
                    ("isIpv4" | "isIpv6" | "isLoopback" | "isMulticast", [ip]) if is_source(ip) => self.reads_ip = true,
                    _ => args.iter().for_each(|each| self.walk(each)),
                }
            }
            ExprKind::HasAttr { expr, attr } if attribute(expr).is_some_and(|it| it == ["device"]) => {
                if attr.as_str() == "owner" {
                    self.owner = true;
                }
            }
            ExprKind::GetAttr { .. } => match attribute(expression).as_deref() {
                None => children(expression, &mut |child| self.walk(child)),
                // Every grade and key agreement is tried, ages and instants are known from elsewhere, and the others stand.
                Some(
                    ["device", "grade"]
                    | ["auth", ..]
                    | ["time"]
                    | ["request", "port" | "host"]
                    | ["tls", "post_quantum"],
                ) => {}
                Some(["device", "owner", ..]) => self.owner = true,
                Some(_) => self.beyond = true,
            },
            ExprKind::Var(Var::Context) => self.beyond = true,
            _ => children(expression, &mut |child| self.walk(child)),
        }
    }

    fn network(&mut self, network: &str) {
        self.reads_ip = true;
        self.networks.insert(network.to_owned());
    }

    /// Notes a comparison of something in the context with constants; `false` when it is none.
    fn compared(&mut self, what: &Expr, with: &Expr) -> bool {
        let Some(path) = attribute(what) else { return false };
        let texts = || strings(with).or_else(|| string(with).map(|text| vec![text]));
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        match path.as_slice() {
            ["device", "grade"] | ["request", "host" | "port"] | ["auth", "methods"] => texts().is_some(),
            ["device", "tags"] => texts().map(|it| self.tags.extend(owned(it))).is_some(),
            ["device", "name"] => texts().map(|it| self.device_names.extend(owned(it))).is_some(),
            ["request", "method"] => texts().map(|it| self.methods.extend(owned(it))).is_some(),
            ["request", "path"] => texts().map(|it| self.paths.equal(owned(it))).is_some(),
            ["request", "operation"] => texts().map(|it| self.operations.equal(owned(it))).is_some(),
            ["network", "ip"] => constant(with, "ip").map(|it| self.network(it)).is_some(),
            ["device", "owner"] => {
                self.owner = true;
                match with.expr_kind() {
                    ExprKind::Var(Var::Principal) => true,
                    ExprKind::Lit(Literal::EntityUID(uid)) => {
                        self.owners.insert(AsRef::<str>::as_ref(uid.eid()).to_owned());
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn like(&mut self, path: &[&str], pattern: &[PatternElem]) {
        let texts = match path {
            ["request", "path"] => &mut self.paths,
            ["request", "operation"] => &mut self.operations,
            ["request", "host"] => return,
            _ => {
                self.beyond = true;
                return;
            }
        };
        texts.is_read = true;
        let literal: String = pattern
            .iter()
            .map_while(|element| match element {
                PatternElem::Char(letter) => Some(*letter),
                PatternElem::Wildcard => None,
            })
            .collect();
        let length = literal.chars().count();
        if length == pattern.len() {
            texts.whole.insert(literal);
        } else {
            // Only of beginnings is it known where the answer changes.
            self.beyond |= length + 1 != pattern.len();
            texts.whole.extend(["", "~"].map(|filling| filled(pattern, filling)));
            texts.prefixes.insert(literal);
        }
    }
}

impl Texts {
    fn equal(&mut self, texts: Vec<String>) {
        self.is_read = true;
        self.whole.extend(texts);
    }

    /// Values of which one lies between any two that are told apart.
    pub(crate) fn values(&self, usual: &[&str]) -> Vec<String> {
        let mut values: BTreeSet<String> = usual.iter().map(|text| (*text).to_owned()).collect();
        values.extend(self.whole.iter().cloned());
        values.extend(self.prefixes.iter().flat_map(|prefix| [prefix.clone(), format!("{prefix}~")]));
        values.into_iter().collect()
    }
}

/// A text that a pattern matches.
fn filled(pattern: &[PatternElem], filling: &str) -> String {
    let mut text = String::new();
    for element in pattern {
        match element {
            PatternElem::Char(letter) => text.push(*letter),
            PatternElem::Wildcard => text.push_str(filling),
        }
    }
    text
}
