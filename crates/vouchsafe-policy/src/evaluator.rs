//! The one place that drives Cedar's evaluator itself instead of `is_authorized`.
//!
//! Cedar's public call builds every policy's condition anew, reads every value of the context by its
//! grammar and collects the policies that don't apply, which takes ten times what evaluating takes.
//! The evaluator below it is the same one and stays the only judge: this module gives it the
//! conditions as Cedar parsed them, values made by Cedar's own functions, and nothing of its own.
//! `cedar-policy-core` promises no stable interface, so it is pinned to one version and used nowhere
//! else. Decision 0006 says why.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar_policy::{Entities, Entity, EntityUid, Policy, Template};
use cedar_policy_core::ast::{
    Context, EntityUID as CoreUid, EntityUIDEntry, Expr, ExtensionFunction, Literal, Name, PartialValue,
    Request as CoreRequest, SlotEnv, Value, ValueKind,
};
use cedar_policy_core::entities::{Entities as CoreEntities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use vouchsafe_model::action::Action;
use vouchsafe_model::subject::SubjectFacts;

use crate::moment;
use crate::request::{Detail, KeyAgreement, Request};

mod computing;
mod inputs;
mod mentions;
mod named;
mod partial;
mod words;

pub(crate) use inputs::{Inputs, Key};
pub(crate) use mentions::Mentions;
pub use named::reads_of_a_named_entity;
pub(crate) use partial::{Device, Part, Reads, Sketch, Truth};
pub use words::Limit;

/// 9999-12-31T23:59:59Z, the last second that Cedar's `datetime` is given.
const LAST_SECOND: u64 = 253_402_300_799;

/// The `when` and `unless` of a policy, as Cedar parsed them. Two are equal when they are the same
/// expression, wherever each of them stands.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Expression(Arc<Expr>);

impl Expression {
    /// `None` for a policy without any: it applies wherever its scope matches.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        let expression = AsRef::<cedar_policy_core::ast::Policy>::as_ref(policy).non_scope_constraints_arc()?;
        Some(Self(Arc::clone(expression)))
    }

    /// The same of a template: there are slots in scopes alone.
    pub(crate) fn of_template(template: &Template) -> Option<Self> {
        let template = AsRef::<cedar_policy_core::ast::Template>::as_ref(template);
        Some(Self(Arc::clone(template.non_scope_constraints_arc()?)))
    }
}

/// What decides about a policy whose scope matches. Policies with equal expressions share it.
pub(crate) struct Condition {
    expression: Expression,
    inputs: Inputs,
    /// Made when first asked for: decisions need none of them.
    parts: OnceLock<Vec<Part>>,
}

impl Condition {
    pub(crate) fn new(expression: Expression) -> Self {
        Self { inputs: Inputs::of(&expression.0), expression, parts: OnceLock::new() }
    }

    /// What it reads of a request.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }
}

/// What may differ between two requests of one subject for one action on one resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'r> {
    /// Seconds since the sign-in; 0 when the clock is behind it.
    age: i64,
    /// Unix seconds.
    second: u64,
    ip: IpAddr,
    agreement: KeyAgreement,
    detail: Detail<'r>,
}

impl<'r> Circumstances<'r> {
    /// `None` when the details are not those of the action, or when the instant is none of the years
    /// 1970 to 9999.
    pub(crate) fn new(facts: &SubjectFacts, request: &Request<'r>, now: SystemTime) -> Option<Self> {
        let fits = match (request.action, request.detail) {
            (Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade, Detail::Http { .. })
            | (Action::NetConnect, Detail::Net { .. })
            | (Action::ConsoleRead | Action::ConsoleWrite, Detail::Console { .. }) => true,
            (_, Detail::Http { .. } | Detail::Net { .. } | Detail::Console { .. }) => false,
        };
        let second = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let age = now.duration_since(facts.auth.at).unwrap_or_default().as_secs();
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        let (ip, agreement) = (request.ip.to_canonical(), request.agreement);
        (fits && second <= LAST_SECOND).then_some(Self { age, second, ip, agreement, detail: request.detail })
    }
}

/// A subject as the evaluator meets it, made once for as long as its facts stand.
pub(crate) struct Principal {
    uid: Arc<CoreUid>,
    methods: Value,
    phishing_resistant: Value,
    /// What of the context stands for as long as the facts do: `auth` without the age, and `device`.
    standing: Context,
    entities: CoreEntities,
    said: Mutex<Said>,
}

/// Values that the next request most likely needs again: Cedar makes them by parsing text, or of parts.
#[derive(Default)]
struct Said {
    /// By the age of the sign-in.
    auth: Option<(i64, Value)>,
    ip: Option<(IpAddr, Value)>,
    /// By unix seconds.
    time: Option<(u64, Value)>,
}

impl Principal {
    /// `entities` are those of the user, the device, its owner and all actions, checked against the schema.
    pub(crate) fn new(uid: &EntityUid, device: &EntityUid, facts: &SubjectFacts, entities: &Entities) -> Self {
        let methods = facts.auth.methods.iter().map(|method| Literal::from(method.as_str()));
        let methods = Value::set_of_lits(methods, None);
        let phishing_resistant = Value::from(facts.auth.resists_phishing());
        let auth = record([("methods", methods.clone()), ("phishing_resistant", phishing_resistant.clone())]);
        let device = Value::from(Literal::from(Arc::new(core_uid(device))));
        Self {
            uid: Arc::new(core_uid(uid)),
            methods,
            phishing_resistant,
            standing: Context::Value(Arc::new(BTreeMap::from([("auth".into(), auth), ("device".into(), device)]))),
            entities: AsRef::<CoreEntities>::as_ref(entities).clone(),
            said: Mutex::default(),
        }
    }

    /// Everything that the evaluator has to know of the subject at one resource.
    ///
    /// `None` when Cedar refuses the entity beside the others, for which it has no reason: no user,
    /// device or action has the type of a resource.
    pub(crate) fn at(&self, resource: &Object) -> Option<World> {
        let entities = self.entities.clone().add_entities(
            [Arc::clone(&resource.entity)],
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        );
        Some(World { resource: Arc::clone(&resource.uid), entities: entities.ok()? })
    }

    /// The context of one request, with exactly the inputs that are read and none besides: what a
    /// condition would read beyond them is missing, and makes it fail rather than be remembered wrongly.
    ///
    /// `None` when Cedar can't read an address or instant, which it always can.
    fn context(&self, reads: &Inputs, circumstances: &Circumstances<'_>) -> Option<Context> {
        if reads.nothing() {
            return Some(self.standing.clone());
        }
        let Context::Value(standing) = &self.standing else { return None };
        let mut context = BTreeMap::clone(standing);
        if reads.age() {
            context.insert("auth".into(), self.auth(circumstances.age));
        }
        if reads.ip() {
            context.insert("network".into(), record([("ip", self.ip(circumstances.ip)?)]));
        }
        if reads.request() {
            let text = |read: bool, name, value: &str| read.then(|| (name, Value::from(value)));
            let fields = match circumstances.detail {
                Detail::Http { method, host, path } => [
                    text(reads.host(), "host", host),
                    text(reads.method(), "method", method),
                    text(reads.path(), "path", path),
                ],
                Detail::Net { port } => [reads.port().then(|| ("port", Value::from(i64::from(port)))), None, None],
                Detail::Console { operation } => [text(reads.operation(), "operation", operation), None, None],
            };
            context.insert("request".into(), Value::record(fields.into_iter().flatten(), None));
        }
        if reads.time() {
            context.insert("time".into(), self.time(circumstances.second)?);
        }
        if reads.agreement() {
            let is_post_quantum = Value::from(circumstances.agreement.is_post_quantum());
            context.insert("tls".into(), record([("post_quantum", is_post_quantum)]));
        }
        Some(Context::Value(Arc::new(context)))
    }

    fn auth(&self, age: i64) -> Value {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &said.auth {
            Some((known, value)) if *known == age => value.clone(),
            _ => {
                let value = record([
                    ("age", Value::from(age)),
                    ("methods", self.methods.clone()),
                    ("phishing_resistant", self.phishing_resistant.clone()),
                ]);
                said.auth = Some((age, value.clone()));
                value
            }
        }
    }

    fn ip(&self, ip: IpAddr) -> Option<Value> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &said.ip {
            Some((known, value)) if *known == ip => Some(value.clone()),
            _ => {
                let value = call(FUNCTIONS.ip?, &[Value::from(crate::facts::address(ip))])?;
                said.ip = Some((ip, value.clone()));
                Some(value)
            }
        }
    }

    fn time(&self, second: u64) -> Option<Value> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &said.time {
            Some((known, value)) if *known == second => Some(value.clone()),
            _ => {
                let text = moment::to_text(UNIX_EPOCH + Duration::from_secs(second))?;
                let value = call(FUNCTIONS.datetime?, &[Value::from(text)])?;
                said.time = Some((second, value.clone()));
                Some(value)
            }
        }
    }
}

/// A resource as the evaluator meets it, made once for as long as it stands.
#[derive(Clone)]
pub(crate) struct Object {
    uid: Arc<CoreUid>,
    entity: Arc<cedar_policy_core::ast::Entity>,
}

impl Object {
    pub(crate) fn new(entity: &Entity) -> Self {
        let entity: &cedar_policy_core::ast::Entity = entity.as_ref();
        Self { uid: Arc::new(entity.uid().clone()), entity: Arc::new(entity.clone()) }
    }
}

/// One subject at one resource.
pub(crate) struct World {
    resource: Arc<CoreUid>,
    entities: CoreEntities,
}

/// The type of an action as the evaluator takes it.
#[derive(Clone)]
pub(crate) struct Verb(Arc<CoreUid>);

impl Verb {
    pub(crate) fn new(uid: &EntityUid) -> Self {
        Self(Arc::new(core_uid(uid)))
    }
}

/// Cedar's evaluator, bound to one request.
pub(crate) struct Judge<'w>(Evaluator<'w>);

/// What became of one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Fails,
    /// It can't be evaluated.
    Error,
}

impl<'w> Judge<'w> {
    /// For conditions that read no more than `reads`. `None` as in [`Principal::context`].
    pub(crate) fn new(
        principal: &Principal,
        verb: &Verb,
        world: &'w World,
        reads: &Inputs,
        circumstances: &Circumstances<'_>,
    ) -> Option<Self> {
        let known = |uid: &Arc<CoreUid>| EntityUIDEntry::Known { euid: Arc::clone(uid), loc: None };
        let context = principal.context(reads, circumstances)?;
        let request =
            CoreRequest::new_unchecked(known(&principal.uid), known(&verb.0), known(&world.resource), Some(context));
        Some(Self(Evaluator::new(request, &world.entities, Extensions::all_available())))
    }

    /// What Cedar says of a condition: exactly what it would say of the policy, whose scope matches.
    pub(crate) fn judge(&self, condition: &Condition) -> Verdict {
        let value = self.0.interpret(&condition.expression.0, no_slots());
        match value.as_ref().map(Value::value_kind) {
            Ok(ValueKind::Lit(Literal::Bool(true))) => Verdict::Holds,
            Ok(ValueKind::Lit(Literal::Bool(false))) => Verdict::Fails,
            Ok(ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_))
            | Err(_) => Verdict::Error,
        }
    }
}

/// Slots stand in scopes alone, which are compared here; Cedar reads none in a condition.
fn no_slots() -> &'static SlotEnv {
    static NO_SLOTS: LazyLock<SlotEnv> = LazyLock::new(HashMap::new);
    &NO_SLOTS
}

/// The functions of Cedar that make values of text; each is there (a test says so).
struct Functions {
    ip: Option<&'static ExtensionFunction>,
    datetime: Option<&'static ExtensionFunction>,
    duration_since: Option<&'static ExtensionFunction>,
    to_milliseconds: Option<&'static ExtensionFunction>,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let function = |name: &str| {
        let name = Name::parse_unqualified_name(name).ok()?;
        Extensions::all_available().func(&name).ok()
    };
    Functions {
        ip: function("ip"),
        datetime: function("datetime"),
        duration_since: function("durationSince"),
        to_milliseconds: function("toMilliseconds"),
    }
});

fn call(function: &ExtensionFunction, arguments: &[Value]) -> Option<Value> {
    match function.call(arguments).ok()? {
        PartialValue::Value(value) => Some(value),
        PartialValue::Residual(_) => None,
    }
}

fn record<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::record(fields, None)
}

fn core_uid(uid: &EntityUid) -> CoreUid {
    AsRef::<CoreUid>::as_ref(uid).clone()
}

#[cfg(test)]
mod tests;
