//! A323: a decision on a slice is the decision on everything. I5: a right to A is no right to B.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Answer, Entities, EntityUid, Policy, PolicyId, PolicySet,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::grant::Grant;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::{AuthMethod, SubjectFacts};
use vouchsafe_policy::{
    Detail, Engine, Explanation, KeyAgreement, PolicySource, PreparedSubject, Question, Request, explain,
};

use crate::world::{ADDRESS, facts, file, grant, http, name, now, printed, tcp, without_device};

/// One generated policy, as data that text and oracle are both made of.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    permit: bool,
    principal: &'static str,
    action: &'static str,
    resource: &'static str,
    condition: &'static str,
    any_device: bool,
    /// Seconds after `now` at which it expires.
    expires: Option<i64>,
}

impl Spec {
    fn id(number: usize) -> String {
        // Not in the order of the numbers, so that sorting by id is seen.
        format!("p{}", (number * 7) % 10_007)
    }

    fn scope(&self) -> String {
        let effect = if self.permit { "permit" } else { "forbid" };
        format!("{effect}({}, {}, {})", self.principal, self.action, self.resource)
    }

    pub(crate) fn text(&self, number: usize) -> String {
        let device = if self.any_device && self.permit { "@device(\"none\") " } else { "" };
        let expires = match self.expires {
            // The tests' day begins at midnight; an hour has 3,600 seconds.
            Some(seconds) if seconds < 0 => "@expires(\"2026-11-20T23:59:00Z\") ",
            Some(_) => "@expires(\"2026-11-21T00:01:00Z\") ",
            None => "",
        };
        format!("@id(\"{}\") {device}{expires}{} {};\n", Self::id(number), self.scope(), self.condition)
    }

    fn is_gone(&self, at: SystemTime) -> bool {
        let end =
            |seconds: i64| if seconds < 0 { now() - Duration::from_secs(60) } else { now() + Duration::from_secs(60) };
        self.permit && self.expires.is_some_and(|seconds| end(seconds) <= at)
    }
}

pub(crate) fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal is User",
        "principal is Workload",
        "principal == User::\"u0\"",
        "principal in User::\"u1\"",
        "principal in Group::\"g0\"",
        "principal in Group::\"g1\"",
        "principal is User in Group::\"g2\"",
        "principal is Workload in Group::\"g0\"",
        "principal in Group::\"u0\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"http:read\"",
        "action == Action::\"net:connect\"",
        "action in Action::\"access\"",
        "action in [Action::\"http:write\", Action::\"console:read\", Action::\"net:connect\"]",
        "action == Action::\"access\"",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is Http",
        "resource is Tcp",
        "resource == Http::\"r0\"",
        "resource == Http::\"r1\"",
        "resource == Tcp::\"r2\"",
        "resource in Http::\"r0\"",
        "resource == Tcp::\"r0\"",
        "resource in ResourceGroup::\"s0\"",
        "resource is Http in ResourceGroup::\"s1\"",
        "resource == Console::\"console\"",
        "resource == Http::\"gone\"",
    ]);
    let condition = prop::sample::select(vec![
        "",
        "",
        "when { true }",
        "when { false }",
        "unless { context.auth.age > 30 }",
        "when { context.auth.age < 100 }",
        "when { context.device.grade == \"hardware\" }",
        "unless { context.device.grade == \"none\" }",
        "when { principal in Group::\"g0\" }",
        "unless { resource in ResourceGroup::\"s0\" }",
        "when { context.auth.age + 9223372036854775807 > 0 }",
        "unless { resource.sensitivity * 9223372036854775807 > 3 }",
        "when { context.device has owner && context.device.owner == principal }",
        "when { context.time > datetime(\"2026-11-21T00:00:30Z\") }",
        "when { context.network.ip.isInRange(ip(\"10.0.0.0/8\")) }",
        "when { context.tls.post_quantum }",
        "unless { context.tls.post_quantum || context.auth.age < 30 }",
        "when { resource.name == \"r0\" }",
        "when { action in Action::\"access\" }",
        "when { principal in Group::\"g1\" || context.auth.age < 100 }",
        "when { context.device.grade == \"hardware\" || principal == User::\"u0\" }",
        "unless { principal in [Group::\"g0\", Group::\"g2\"] && context.auth.age > 30 }",
        "when { if principal in Group::\"g2\" then context.auth.age < 30 else context.device.grade != \"none\" }",
        "when { principal == User::\"u0\" || principal.name == \"u1\" }",
        "unless { principal.name == \"u2\" }",
        "when { context.auth.age > 30 && resource.sensitivity * 9223372036854775807 > 3 }",
        "unless { context.device.grade == \"none\" || context.auth.age + 9223372036854775807 > 0 }",
    ]);
    let one =
        (any::<bool>(), principal, action, resource, condition, any::<bool>(), prop::option::weighted(0.3, -1..=1_i64))
            .prop_map(|(permit, principal, action, resource, condition, any_device, expires)| Spec {
                permit: permit || any_device,
                principal,
                action,
                resource,
                condition,
                any_device,
                expires,
            });
    prop::collection::vec(one, 0..12)
}

pub(crate) fn resources() -> Vec<Resource> {
    vec![http("r0", &["s0"]), http("r1", &["s0", "s1"]), tcp("r2", &["s1"]), tcp("r3", &[])]
}

pub(crate) fn subjects() -> Vec<SubjectFacts> {
    let mut lent = facts("u1", &["g1", "g2"]);
    lent.device.as_mut().expect("device").owner = None;
    vec![facts("u0", &["g0", "g1"]), lent, without_device(facts("u2", &["g2"])), without_device(facts("u0", &["g0"]))]
}

pub(crate) fn detail(action: Action) -> (Detail<'static>, Value) {
    match action {
        Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
            (Detail::Http { method: "GET", host: "h", path: "/" }, json!({"method": "GET", "host": "h", "path": "/"}))
        }
        Action::NetConnect => (Detail::Net { port: 1 }, json!({"port": 1})),
        Action::ConsoleRead | Action::ConsoleWrite => (Detail::Console { operation: "o" }, json!({"operation": "o"})),
    }
}

pub(crate) fn compile(specs: &[Spec], grants: &[Grant]) -> Arc<Engine> {
    let text: String = specs.iter().enumerate().map(|(number, spec)| spec.text(number)).collect();
    let source = PolicySource { version: 1, files: vec![file(&text)], grants: grants.to_vec(), resources: resources() };
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

/// Cedar over everything, with entities and context read from JSON, and the rules written anew.
struct Oracle {
    policies: Vec<(String, Spec)>,
}

impl Oracle {
    fn new(specs: &[Spec], grants: &[Grant]) -> Self {
        let mut policies: Vec<_> =
            specs.iter().enumerate().map(|(number, spec)| (Spec::id(number), spec.clone())).collect();
        for grant in grants {
            let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
            let kind = if matches!(grant.resource.as_str(), "r0" | "r1") { "Http" } else { "Tcp" };
            let spec = Spec {
                permit: true,
                principal: leak(format!("principal == User::\"{}\"", grant.user)),
                action: "action",
                resource: leak(format!("resource == {kind}::\"{}\"", grant.resource)),
                condition: "",
                any_device: false,
                expires: grant.expires.map(|ends| if ends < now() { -1 } else { 1 }),
            };
            policies.push((grant.id.to_string(), spec));
        }
        Self { policies }
    }

    /// Ids that applied, or that failed.
    fn ask(
        &self,
        at: SystemTime,
        request: &cedar_policy::Request,
        entities: &Entities,
        scopes: bool,
    ) -> (Answer, BTreeSet<String>, BTreeSet<String>) {
        let mut set = PolicySet::new();
        for (id, spec) in self.policies.iter().filter(|(_, spec)| !spec.is_gone(at) && (!scopes || spec.permit)) {
            let condition = if scopes { "" } else { spec.condition };
            set.add(Policy::parse(Some(PolicyId::new(id)), format!("{} {condition};", spec.scope())).expect("policy"))
                .expect("add");
        }
        let response = Authorizer::new().is_authorized(request, &set, entities);
        let errors = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string());
        let reasons = response.diagnostics().reason().map(ToString::to_string);
        (response.decision(), reasons.collect(), errors.collect())
    }

    fn decide(&self, facts: &SubjectFacts, of: &str, action: Action, at: SystemTime) -> (Reason, BTreeSet<String>) {
        let console = of == "console";
        let all = resources();
        let Some(resource) = all.iter().find(|resource| resource.name.as_str() == of).or(console.then_some(&all[0]))
        else {
            return (Reason::UnknownResource, BTreeSet::new());
        };
        let kind = if console { vouchsafe_model::resource::ResourceKind::Console } else { resource.spec.kind() };
        if !kind.actions().contains(&action) {
            return (Reason::NoPermit, BTreeSet::new());
        }
        let (request, entities) = cedar(facts, of, action, at, ADDRESS, KeyAgreement::Other);
        let (answer, applied, failed) = self.ask(at, &request, &entities, false);
        let (_, in_scope, _) = self.ask(at, &request, &entities, true);
        let counts = |id: &&String| {
            facts.device.is_some() || self.policies.iter().any(|(each, spec)| each == *id && spec.any_device)
        };
        let counting: BTreeSet<String> = applied.iter().filter(counts).cloned().collect();
        let near: BTreeSet<String> = in_scope.iter().filter(counts).cloned().collect();
        match answer {
            _ if !failed.is_empty() => (Reason::PolicyError, failed),
            Answer::Allow if counting.is_empty() => (Reason::DeviceRequired, applied),
            Answer::Allow => (Reason::Permitted, counting),
            Answer::Deny if !applied.is_empty() && in_scope.is_empty() => (Reason::NoPermit, applied),
            Answer::Deny if !applied.is_empty() => (Reason::Forbidden, applied),
            Answer::Deny if in_scope.is_empty() => (Reason::NoPermit, BTreeSet::new()),
            Answer::Deny if near.is_empty() => (Reason::DeviceRequired, in_scope),
            Answer::Deny => (Reason::ConditionFailed, near),
        }
    }
}

/// A request about a resource that exists, with its entities, as Cedar reads them from JSON.
pub(crate) fn cedar(
    facts: &SubjectFacts,
    of: &str,
    action: Action,
    at: SystemTime,
    ip: std::net::IpAddr,
    agreement: KeyAgreement,
) -> (cedar_policy::Request, Entities) {
    let all = resources();
    let found = all.iter().find(|resource| resource.name.as_str() == of);
    let kind = found.map_or(vouchsafe_model::resource::ResourceKind::Console, |resource| resource.spec.kind());
    let entity = |of: &str, id: &str, attrs: Value, parents: Vec<Value>| json!({"uid": {"type": of, "id": id}, "attrs": attrs, "parents": parents});
    let parents =
        |of: &str, names: Vec<&str>| names.into_iter().map(|id| json!({"type": of, "id": id})).collect::<Vec<_>>();
    let groups: Vec<&str> = facts.user.groups.iter().map(|group| group.as_str()).collect();
    let mut device = json!({"grade": facts.grade().as_str(), "name": "laptop", "tags": []});
    let id = facts.device.as_ref().map_or("none".to_owned(), |device| device.id.to_string());
    if let Some(owner) = facts.device.as_ref().and_then(|device| device.owner.as_ref()) {
        device["owner"] = json!({"__entity": {"type": "User", "id": owner}});
    }
    let mut list = vec![
        entity("User", facts.user.name.as_str(), json!({"name": facts.user.name}), parents("Group", groups.clone())),
        entity("Device", &id, device, vec![]),
        entity("Console", "console", json!({"name": "console", "tags": [], "sensitivity": 3}), vec![]),
        entity("Action", "access", json!({}), vec![]),
    ];
    list.extend(groups.iter().map(|group| entity("Group", group, json!({}), vec![])));
    list.extend(["s0", "s1"].map(|group| entity("ResourceGroup", group, json!({}), vec![])));
    list.extend(
        Action::ALL.iter().map(|each| entity("Action", each.as_str(), json!({}), parents("Action", vec!["access"]))),
    );
    for each in &all {
        let groups = each.groups.iter().map(|group| group.as_str()).collect();
        let attrs = json!({"name": each.name, "tags": [], "sensitivity": 1});
        list.push(entity(each.spec.kind().entity_type(), each.name.as_str(), attrs, parents("ResourceGroup", groups)));
    }
    let entities = Entities::from_json_value(Value::Array(list), None).expect("entities");
    let age = at.duration_since(facts.auth.at).expect("later").as_secs();
    let seconds = at.duration_since(now()).expect("later").as_secs();
    let context = json!({
        "device": {"__entity": {"type": "Device", "id": id}},
        "auth": {"methods": ["passkey"], "phishing_resistant": true, "age": age},
        "network": {"ip": {"__extn": {"fn": "ip", "arg": ip.to_string()}}},
        "time": {"__extn": {"fn": "datetime", "arg": format!("2026-11-21T00:{:02}:{:02}Z", seconds / 60, seconds % 60)}},
        "request": detail(action).1,
        "tls": {"post_quantum": agreement.is_post_quantum()},
    });
    let context = Context::from_json_value(context, None).expect("context");
    let uid = |of: &str, id: &str| -> EntityUid { format!("{of}::{id:?}").parse().expect("uid") };
    let request = cedar_policy::Request::new(
        uid("User", facts.user.name.as_str()),
        uid("Action", action.as_str()),
        uid(kind.entity_type(), of),
        context,
        None,
    )
    .expect("request");
    (request, entities)
}

fn decide(subject: &PreparedSubject, of: &str, action: Action, at: SystemTime) -> Decision {
    let result = if of == "console" {
        let Detail::Console { operation } = detail(Action::ConsoleRead).0 else { unreachable!("of the console") };
        subject.decide_console(action, operation, ADDRESS, KeyAgreement::Other, at)
    } else {
        let of = name(of);
        subject.decide(
            &Request { resource: &of, action, ip: ADDRESS, agreement: KeyAgreement::Other, detail: detail(action).0 },
            at,
        )
    };
    match result {
        Ok(permit) => permit.decision().clone(),
        Err(decision) => decision,
    }
}

pub(crate) fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let one = (
        prop::sample::select(vec!["u0", "u1", "u2"]),
        prop::sample::select(vec!["r0", "r2"]),
        prop::option::of(-1..=1_i64),
    );
    prop::collection::vec(one, 0..3).prop_map(|list| {
        let end =
            |seconds: i64| if seconds < 0 { now() - Duration::from_secs(60) } else { now() + Duration::from_secs(60) };
        (1..).zip(list).map(|(number, (who, of, expires))| grant(number, who, of, expires.map(end))).collect()
    })
}

const ASKED: [&str; 6] = ["r0", "r1", "r2", "r3", "console", "gone"];

proptest! {
    // 32 as it is; `PROPTEST_CASES=100000` asks for as many as an eighth of that.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn a323_the_slice_decides_as_everything_would(specs in specs(), grants in grants()) {
        let engine = compile(&specs, &grants);
        let oracle = Oracle::new(&specs, &grants);
        for facts in subjects() {
            let subject = PreparedSubject::new(engine.clone(), Arc::new(facts.clone()));
            for of in ASKED {
                for action in Action::ALL {
                    for seconds in [0, 60] {
                        let at = now() + Duration::from_secs(seconds);
                        let decision = decide(&subject, of, *action, at);
                        let policies: BTreeSet<String> = decision.policies.iter().map(ToString::to_string).collect();
                        let (mut reason, meant) = (decision.reason, oracle.decide(&facts, of, *action, at));
                        if reason == Reason::StepUpRequired {
                            // Said of a denial that a sign-in of this moment would turn.
                            let mut fresh = facts.clone();
                            fresh.auth.at = at;
                            fresh.auth.methods = [AuthMethod::Passkey].into();
                            prop_assert_eq!(oracle.decide(&fresh, of, *action, at).0, Reason::Permitted);
                            prop_assert!(matches!(meant.0, Reason::ConditionFailed | Reason::Forbidden));
                            reason = meant.0;
                        }
                        prop_assert_eq!((reason, policies), meant, "{} {} {}", of, action, seconds);
                        prop_assert_eq!(decision.outcome == Outcome::Allow, decision.reason == Reason::Permitted);
                    }
                }
            }
        }
    }

    #[test]
    fn i5_a_policy_about_one_resource_changes_no_other(before in specs(), mut added in specs(), given in grants()) {
        for spec in &mut added {
            spec.resource = "resource == Http::\"r0\"";
        }
        let given: Vec<Grant> = given.into_iter().filter(|grant| grant.resource.as_str() == "r0").collect();
        let after: Vec<Spec> = before.iter().cloned().chain(added).collect();
        let (before, after) = (compile(&before, &[]), compile(&after, &given));
        for facts in subjects() {
            let facts = Arc::new(facts);
            let (old, new) = (PreparedSubject::new(before.clone(), facts.clone()), PreparedSubject::new(after.clone(), facts));
            for of in ASKED.into_iter().filter(|of| *of != "r0") {
                for action in Action::ALL {
                    prop_assert_eq!(decide(&old, of, *action, now()), decide(&new, of, *action, now()));
                }
            }
        }
    }

    #[test]
    fn an_explanation_says_what_the_decision_was(specs in specs(), grants in grants()) {
        let engine = compile(&specs, &grants);
        for facts in subjects() {
            let subject = PreparedSubject::new(engine.clone(), Arc::new(facts.clone()));
            for of in ASKED {
                for action in [Action::HttpRead, Action::NetConnect, Action::ConsoleRead] {
                    let decision = decide(&subject, of, action, now());
                    let question = Question { facts: facts.clone(), resource: of.into(), action, ip: ADDRESS, agreement: KeyAgreement::Other, detail: detail(action).0.into() };
                    let told: Explanation = explain(&engine, &question, now());
                    prop_assert_eq!(&told.decision.reason, decision.reason.code());
                    prop_assert_eq!(told.decision.words.as_str(), decision.words.as_ref());
                    prop_assert_eq!(told.decision.policies.as_slice(), decision.policies.as_ref());
                    prop_assert_eq!(told.would_change.is_empty(), decision.outcome == Outcome::Allow);
                    let decides = told.considered.iter().filter(|each| each.decides).count();
                    prop_assert_eq!(decides, decision.policies.len());
                }
            }
        }
    }
}
