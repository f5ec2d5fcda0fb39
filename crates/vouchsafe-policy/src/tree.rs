//! One policy or template as Cedar read it.

use cedar_policy::{
    ParseErrors, Policy, PolicyId, PolicySet, Template, TemplatePrincipalConstraint, TemplateResourceConstraint,
};
use serde_json::Value;

use crate::annotation::Effect;
use crate::evaluator::Expression;

/// One policy or template as Cedar read it.
pub(crate) enum Tree {
    Policy(Policy),
    /// With slots, which a grant fills.
    Template(Template),
}

impl Tree {
    /// Reads exactly one of them.
    pub(crate) fn parse(id: Option<PolicyId>, text: &str) -> Result<Self, Box<ParseErrors>> {
        let policy = match Policy::parse(id.clone(), text) {
            Ok(policy) => return Ok(Self::Policy(policy)),
            Err(errors) => Box::new(errors),
        };
        // What it says of a policy with slots is that it is a template.
        if !text.contains('?') {
            return Err(policy);
        }
        match Template::parse(id, text) {
            Ok(template) => Ok(Self::Template(template)),
            Err(errors) if policy.to_string().contains("template") => Err(Box::new(errors)),
            Err(_) => Err(policy),
        }
    }

    /// The one of that id in a set that was read.
    pub(crate) fn of_set(set: &PolicySet, id: &PolicyId) -> Option<Self> {
        let policy = || set.policy(id).cloned().map(Self::Policy);
        policy().or_else(|| set.template(id).cloned().map(Self::Template))
    }

    /// Adds it to a set; the error says why the set doesn't take it.
    pub(crate) fn add_to(&self, set: &mut PolicySet) -> Result<(), String> {
        let added = match self {
            Tree::Policy(policy) => set.add(policy.clone()),
            Tree::Template(template) => set.add_template(template.clone()),
        };
        added.map_err(|error| error.to_string())
    }

    pub(crate) fn id(&self) -> &PolicyId {
        match self {
            Tree::Policy(policy) => policy.id(),
            Tree::Template(template) => template.id(),
        }
    }

    pub(crate) fn new_id(&self, id: PolicyId) -> Self {
        match self {
            Tree::Policy(policy) => Tree::Policy(policy.new_id(id)),
            Tree::Template(template) => Tree::Template(template.new_id(id)),
        }
    }

    pub(crate) fn effect(&self) -> Effect {
        match self {
            Tree::Policy(policy) => policy.effect().into(),
            Tree::Template(template) => template.effect().into(),
        }
    }

    pub(crate) fn annotations(&self) -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        match self {
            Tree::Policy(policy) => policy.annotations().map(owned).collect(),
            Tree::Template(template) => template.annotations().map(owned).collect(),
        }
    }

    pub(crate) fn has_annotation(&self, name: &str) -> bool {
        match self {
            Tree::Policy(policy) => policy.annotation(name).is_some(),
            Tree::Template(template) => template.annotation(name).is_some(),
        }
    }

    /// What decides besides the scope.
    pub(crate) fn expression(&self) -> Option<Expression> {
        match self {
            Tree::Policy(policy) => Expression::of(policy),
            Tree::Template(template) => Expression::of_template(template),
        }
    }

    /// Its JSON form, where it has one.
    pub(crate) fn json(&self) -> Option<Value> {
        match self {
            Tree::Policy(policy) => policy.to_json().ok(),
            Tree::Template(template) => template.to_json().ok(),
        }
    }

    /// As Cedar has it.
    pub(crate) fn text(&self) -> String {
        match self {
            Tree::Policy(policy) => policy.to_string(),
            Tree::Template(template) => template.to_string(),
        }
    }

    /// What keeps a template from being one that grants are made from, and what to do about it.
    pub(crate) fn unfit(&self) -> Option<(&'static str, &'static str)> {
        let Tree::Template(template) = self else { return None };
        let is_open = matches!(template.principal_constraint(), TemplatePrincipalConstraint::Eq(None))
            && matches!(template.resource_constraint(), TemplateResourceConstraint::Eq(None));
        if !is_open {
            let hint = "begin it with `permit (principal == ?principal, action …, resource == ?resource)`";
            return Some(("a template leaves open one user and one resource", hint));
        }
        if self.effect() == Effect::Forbid {
            let hint = "write it as a policy: a `forbid` that is there for everybody can say `unless`";
            return Some(("a template permits: what is made from it gives a right", hint));
        }
        if self.expression().is_some_and(|expression| expression.computes()) {
            let hint = "compare with constants: what computes can overflow, and of templates nothing is proven";
            return Some(("a template doesn't compute with numbers or times", hint));
        }
        None
    }
}
