//! Facts as Cedar's entities and context. All values are typed; nothing is made of text templates.
//!
//! The context that is checked against the schema is made here, for explanations; decisions are made
//! on the same values from `evaluator`, and a test holds both against each other.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request as CedarRequest, RestrictedExpression as Value};
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::{DeviceFacts, Grade, SubjectFacts};

use crate::engine::Engine;
use crate::evaluator::{Object, Principal};
use crate::index::Lineage;
use crate::moment;
use crate::request::{Detail, Request};
use crate::schema::{Words, uid};

/// A subject in Cedar's terms, made once for as long as its facts stand.
pub(crate) struct Who {
    pub(crate) lineage: Lineage,
    device: EntityUid,
    proven: bool,
    methods: Value,
    /// User, device, its owner and all actions.
    entities: Entities,
    /// The same for Cedar's evaluator.
    pub(crate) principal: Principal,
}

impl Who {
    /// `None` when the facts don't fit the schema, which typed facts always do.
    pub(crate) fn new(words: &Words, facts: &SubjectFacts) -> Option<Self> {
        let user = uid(&words.types.user, facts.user.name.as_str());
        let groups: HashSet<EntityUid> =
            facts.user.groups.iter().map(|group| uid(&words.types.group, group.as_str())).collect();
        let mut entities = vec![named(user.clone(), facts.user.name.as_str(), groups.clone())?];
        let (device, owner) = device(words, facts.device.as_ref())?;
        let device_uid = device.uid();
        entities.push(device);
        if let Some(owner) = owner.filter(|owner| *owner != user) {
            let name = owner.id().unescaped().to_owned();
            entities.push(named(owner, &name, HashSet::new())?);
        }
        let methods = facts.auth.methods.iter().map(|method| Value::new_string(method.as_str().to_owned()));
        let entities = Entities::from_entities(entities, Some(&words.schema)).ok()?;
        Some(Self {
            principal: Principal::new(&user, &device_uid, facts, &entities),
            lineage: Lineage::new(user, groups),
            device: device_uid,
            proven: facts.device.is_some(),
            methods: Value::new_set(methods),
            entities,
        })
    }

    /// Whether the subject's device is proven.
    pub(crate) fn has_device(&self) -> bool {
        self.proven
    }

    /// The subject's entities together with a resource.
    pub(crate) fn beside(&self, words: &Words, resource: &Resource, lineage: &Lineage) -> Option<Entities> {
        let entity = target(resource, lineage)?;
        self.entities.clone().add_entities([entity], Some(&words.schema)).ok()
    }

    /// The request in Cedar's terms, checked against the schema.
    pub(crate) fn ask(
        &self,
        engine: &Engine,
        facts: &SubjectFacts,
        resource: &Lineage,
        request: &Request<'_>,
        now: SystemTime,
    ) -> Option<CedarRequest> {
        let action = engine.words.action(request.action)?.clone();
        let age = now.duration_since(facts.auth.at).unwrap_or_default().as_secs();
        let auth = record([
            ("age", Value::new_long(i64::try_from(age).unwrap_or(i64::MAX))),
            ("methods", self.methods.clone()),
            ("phishing_resistant", Value::new_bool(facts.auth.resists_phishing())),
        ])?;
        let context = Context::from_pairs([
            ("auth".to_owned(), auth),
            ("device".to_owned(), Value::new_entity_uid(self.device.clone())),
            ("network".to_owned(), record([("ip", Value::new_ip(address(request.ip)))])?),
            ("request".to_owned(), detail(request.detail)?),
            ("time".to_owned(), Value::new_datetime(moment::to_text(whole_second(now)?)?)),
            ("tls".to_owned(), record([("post_quantum", Value::new_bool(request.agreement.is_post_quantum()))])?),
        ]);
        let principal = self.lineage.uid.clone();
        CedarRequest::new(principal, action, resource.uid.clone(), context.ok()?, Some(&engine.words.schema)).ok()
    }
}

/// A resource as an entity; the evaluator's is made of the same.
fn target(resource: &Resource, lineage: &Lineage) -> Option<Entity> {
    let attributes = HashMap::from([
        ("name".to_owned(), Value::new_string(resource.name.as_str().to_owned())),
        ("sensitivity".to_owned(), Value::new_long(resource.sensitivity.level())),
        ("tags".to_owned(), tags(resource.tags.iter().map(|tag| tag.as_str()))),
    ]);
    Entity::new(lineage.uid.clone(), attributes, lineage.ancestors.clone()).ok()
}

/// A resource as Cedar's evaluator meets it.
pub(crate) fn object(resource: &Resource, lineage: &Lineage) -> Option<Object> {
    target(resource, lineage).map(|entity| Object::new(&entity))
}

/// The instant without what is less than a second; `None` before 1970.
fn whole_second(now: SystemTime) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(now.duration_since(UNIX_EPOCH).ok()?.as_secs()))
}

/// A user with a name, in groups.
fn named(user: EntityUid, name: &str, groups: HashSet<EntityUid>) -> Option<Entity> {
    let attributes = HashMap::from([("name".to_owned(), Value::new_string(name.to_owned()))]);
    Entity::new(user, attributes, groups).ok()
}

/// The device and its owner; `Device::"none"` when none was proven.
fn device(words: &Words, facts: Option<&DeviceFacts>) -> Option<(Entity, Option<EntityUid>)> {
    let id = facts.map_or_else(|| "none".to_owned(), |device| device.id.to_string());
    let grade = facts.map_or(Grade::None, |device| device.grade);
    let name = facts.map_or("none", |device| device.name.as_str());
    let mut attributes = HashMap::from([
        ("grade".to_owned(), Value::new_string(grade.as_str().to_owned())),
        ("name".to_owned(), Value::new_string(name.to_owned())),
        ("tags".to_owned(), tags(facts.into_iter().flat_map(|device| &device.tags).map(|tag| tag.as_str()))),
    ]);
    let owner = facts.and_then(|device| device.owner.as_ref()).map(|owner| uid(&words.types.user, owner.as_str()));
    if let Some(owner) = &owner {
        attributes.insert("owner".to_owned(), Value::new_entity_uid(owner.clone()));
    }
    let entity = Entity::new(uid(&words.types.device, &id), attributes, HashSet::new()).ok()?;
    Some((entity, owner))
}

fn tags<'t>(tags: impl Iterator<Item = &'t str>) -> Value {
    Value::new_set(tags.map(|tag| Value::new_string(tag.to_owned())))
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Option<Value> {
    Value::new_record(fields.map(|(name, value)| (name.to_owned(), value))).ok()
}

fn detail(detail: Detail<'_>) -> Option<Value> {
    let text = |text: &str| Value::new_string(text.to_owned());
    match detail {
        Detail::Http { method, host, path } => {
            record([("host", text(host)), ("method", text(method)), ("path", text(path))])
        }
        Detail::Net { port } => record([("port", Value::new_long(i64::from(port)))]),
        Detail::Console { operation } => record([("operation", text(operation))]),
    }
}

/// An address as Cedar reads it: IPv4 inside IPv6 as what it is, and no mixed notation.
pub(crate) fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cedar_reads_every_address_as_written() {
        for ip in
            ["10.0.0.1", "::", "::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "fe80::1", "2001:db8::a:b"]
        {
            let ip: IpAddr = ip.parse().expect("address");
            let text = format!(
                "ip({:?}).isInRange(ip({:?}))",
                address(ip),
                ip.to_canonical().to_string().replace("::10.0.0.1", "::a00:1")
            );
            let no_request = cedar_policy::Request::new(
                "User::\"a\"".parse().expect("uid"),
                "Action::\"a\"".parse().expect("uid"),
                "Http::\"a\"".parse().expect("uid"),
                cedar_policy::Context::empty(),
                None,
            )
            .expect("request");
            let value =
                cedar_policy::eval_expression(&no_request, &Entities::empty(), &text.parse().expect("expression"));
            assert_eq!(value.expect("evaluates"), cedar_policy::EvalResult::Bool(true), "{text}");
        }
    }
}
