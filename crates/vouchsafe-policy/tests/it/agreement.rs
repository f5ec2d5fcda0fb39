//! What is decided is what Cedar's `is_authorized` says over all policies, on generated policies and
//! requests: asked for the first time, asked again, and with one input changed at a time, so that a
//! memo whose key lacks an input is found out. Grants are linked by Cedar's `PolicySet::link` on its side. The engines are made one after the other, each from the
//! one before, so what isn't read again is under test too.
//!
//! `VOUCHSAFE_PAIRS=1000000 cargo test --release -p vouchsafe-policy agreement` asks a million.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Answer, Entities, EntityUid, Policy, PolicyId, PolicySet,
    SlotId, Template,
};
use serde_json::{Value, json};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::GrantId;
use vouchsafe_model::name::PolicyName;
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{Detail, Engine, KeyAgreement, PolicySource, PreparedSubject, Request};

use crate::world::{facts, file, grant, http, name, now, tcp};

/// Numbers that look random and are the same on every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).expect("fits")).expect("fits")
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const ANYWHERE: &[&str] = &[
    "context.auth.age < 60",
    "context.auth.age <= 60",
    "context.auth.age > 30",
    "90 >= context.auth.age",
    "context.auth.age == 61",
    "context.auth.age != 60",
    "context.auth.age + 1 > 61",
    "context.auth.age * 9223372036854775807 > 3",
    "[60, 61].contains(context.auth.age)",
    "context.auth has age",
    "context.time < datetime(\"2026-11-21T00:00:30Z\")",
    "context.time >= datetime(\"2026-11-21T00:00:01Z\")",
    "datetime(\"2026-11-21T00:00:00.500Z\") < context.time",
    "context.time == datetime(\"2026-11-21T01:00:31+0100\")",
    "context.time.toTime() < duration(\"30s\")",
    "context.time.offset(duration(\"10s\")) > datetime(\"2026-11-21T00:00:40Z\")",
    "context.network.ip.isInRange(ip(\"10.0.0.0/8\"))",
    "context.network.ip == ip(\"10.2.3.4\")",
    "context.network.ip.isIpv4()",
    "context.network.ip.isLoopback()",
    "context.tls.post_quantum",
    "!context.tls.post_quantum",
    "context.tls == {\"post_quantum\": true}",
    "context.auth.phishing_resistant",
    "context.auth.methods.contains(\"passkey\")",
    "context.device.grade == \"hardware\"",
    "context.device has owner && context.device.owner == principal",
    "context == context",
    "principal in Group::\"g0\"",
    "principal in [Group::\"g1\", Group::\"g2\"]",
    "resource.name == \"r0\"",
    "resource in ResourceGroup::\"s0\"",
    "resource.sensitivity * 9223372036854775807 > 3",
    "action in Action::\"access\"",
];

const OF_HTTP: &[&str] = &[
    "context.request.path like \"/a*\"",
    "context.request.path == \"/a/b\"",
    "context.request[\"path\"] like \"*b\"",
    "context.request.path like \"*\\*\"",
    "context.request.method == \"GET\"",
    "[\"GET\", \"HEAD\"].contains(context.request.method)",
    "context.request.host like \"*.corp\"",
    "context.request.host == context.request.path",
    "context.request has path",
    "context.request == {\"host\": \"h\", \"method\": \"GET\", \"path\": \"/a\"}",
    "{\"p\": context.request.path}.p == \"/a\"",
    "(if context.auth.age < 61 then context.request.path else context.request.host) == \"/a\"",
];

const OF_NET: &[&str] =
    &["context.request.port < 1024", "context.request.port == 5432", "context.request.port * 2 > 3"];

const OF_CONSOLE: &[&str] = &["context.request.operation == \"o\"", "context.request.operation like \"policy.*\""];

fn condition(dice: &mut Dice, special: &[&str], depth: usize) -> String {
    match dice.below(if depth == 0 { 1 } else { 6 }) {
        0 | 1 => {
            let atoms = if special.is_empty() || dice.below(2) == 0 { ANYWHERE } else { special };
            format!("({})", dice.pick(atoms))
        }
        2 | 3 => format!("({} && {})", condition(dice, special, depth - 1), condition(dice, special, depth - 1)),
        4 => format!("({} || {})", condition(dice, special, depth - 1), condition(dice, special, depth - 1)),
        _ => format!(
            "(if {} then {} else !{})",
            condition(dice, special, depth - 1),
            condition(dice, special, depth - 1),
            condition(dice, special, depth - 1)
        ),
    }
}

/// A policy without its annotations.
fn policy(dice: &mut Dice) -> String {
    let effect = dice.pick(&["permit", "permit", "permit", "forbid"]);
    let principal = dice.pick(&[
        "principal",
        "principal",
        "principal is User",
        "principal == User::\"u0\"",
        "principal in Group::\"g0\"",
        "principal is User in Group::\"g1\"",
        "principal in Group::\"g2\"",
    ]);
    let (action, resource, special) = match dice.below(8) {
        0..=3 => (
            dice.pick(&[
                "action in [Action::\"http:read\", Action::\"http:write\", Action::\"http:upgrade\"]",
                "action == Action::\"http:read\"",
                "action in [Action::\"http:read\", Action::\"http:write\"]",
            ]),
            dice.pick(&[
                "resource",
                "resource is Http",
                "resource == Http::\"r0\"",
                "resource in ResourceGroup::\"s0\"",
            ]),
            OF_HTTP,
        ),
        4 => ("action == Action::\"net:connect\"", dice.pick(&["resource", "resource == Tcp::\"r2\""]), OF_NET),
        5 => ("action in [Action::\"console:read\", Action::\"console:write\"]", "resource", OF_CONSOLE),
        _ => (
            dice.pick(&["action", "action in Action::\"access\""]),
            dice.pick(&["resource", "resource is Http in ResourceGroup::\"s0\"", "resource == Tcp::\"r2\""]),
            [].as_slice(),
        ),
    };
    let mut text = format!("{effect}({principal}, {action}, {resource})");
    for _ in 0..dice.below(3) {
        let word = dice.pick(&["when", "when", "unless"]);
        let depth = dice.below(3);
        write!(text, " {word} {{ {} }}", condition(dice, special, depth)).expect("text");
    }
    text
}

/// A template without its annotations.
fn template(dice: &mut Dice) -> String {
    let (action, special) = match dice.below(4) {
        0 | 1 => (
            dice.pick(&[
                "action == Action::\"http:read\"",
                "action in [Action::\"http:read\", Action::\"http:write\"]",
            ]),
            OF_HTTP,
        ),
        2 => ("action == Action::\"net:connect\"", OF_NET),
        _ => ("action", [].as_slice()),
    };
    let mut text = format!("permit(principal == ?principal, {action}, resource == ?resource)");
    for _ in 0..dice.below(3) {
        let word = dice.pick(&["when", "when", "unless"]);
        let condition = loop {
            let depth = dice.below(3);
            let made = condition(dice, special, depth);
            // What computes is refused in a template.
            if !["+ ", "* ", "offset"].iter().any(|computes| made.contains(computes)) {
                break made;
            }
        };
        write!(text, " {word} {{ {condition} }}").expect("text");
    }
    text
}

/// A grant of one of these templates, or of the built-in one.
fn granted(dice: &mut Dice, number: u8, templates: &[String]) -> Grant {
    let ends = [None, Some(now() + MIDWAY), Some(now() + Duration::from_secs(3_600))][dice.below(3)];
    let (who, of) = (dice.pick(&["u0", "u1"]), dice.pick(&["r0", "r1", "r2"]));
    let template = templates.get(dice.below(templates.len() + 1)).map(|of| PolicyName::parse(of).expect("name"));
    Grant { template, ..grant(number, who, of, ends) }
}

/// When some grants end.
const MIDWAY: Duration = Duration::from_secs(30);

/// All policies, with these grants linked, as Cedar has them.
fn linked(engine: &Engine, grants: &[Grant]) -> PolicySet {
    let mut all = PolicySet::new();
    for listing in engine.policies() {
        let policy = Policy::parse(Some(PolicyId::new(listing.id.as_str())), &listing.text).expect("a policy");
        all.add(policy).expect("a policy");
    }
    let built_in = "permit(principal == ?principal, action, resource == ?resource);".to_owned();
    let templates = engine.templates().into_iter().map(|listing| (listing.id.to_string(), listing.text));
    for (id, text) in templates.chain([("built in".to_owned(), built_in)]) {
        all.add_template(Template::parse(Some(PolicyId::new(id)), text).expect("a template")).expect("a template");
    }
    for Grant { id, user, resource, template, .. } in grants {
        let template = PolicyId::new(template.as_ref().map_or("built in", |name| name.as_str()));
        let kind = if resource.as_str() == "r2" { "Tcp" } else { "Http" };
        let uid = |of: &str, id: &str| -> EntityUid { format!("{of}::{id:?}").parse().expect("uid") };
        let values = HashMap::from([
            (SlotId::principal(), uid("User", user.as_str())),
            (SlotId::resource(), uid(kind, resource.as_str())),
        ]);
        if all.template(&template).is_some() {
            all.link(template, PolicyId::new(id.to_string()), values).expect("linked");
        }
    }
    all
}

/// What is asked; each field has its own way to change.
#[derive(Debug, Clone, Copy)]
struct Asked {
    millis: u64,
    ip: &'static str,
    method: &'static str,
    host: &'static str,
    path: &'static str,
    port: u16,
    operation: &'static str,
    agreement: KeyAgreement,
}

const BASE: Asked = Asked {
    millis: 0,
    ip: "10.2.3.4",
    method: "GET",
    host: "h",
    path: "/a",
    port: 5432,
    operation: "o",
    agreement: KeyAgreement::Other,
};

/// The base, and what differs from it in one input.
fn asked() -> Vec<Asked> {
    let mut all = vec![BASE];
    all.extend([400, 999, 1_000, 29_000, 30_000, 31_000, 61_000].map(|millis| Asked { millis, ..BASE }));
    all.extend(["10.2.3.5", "11.0.0.1", "127.0.0.1", "::1", "2001:db8::1"].map(|ip| Asked { ip, ..BASE }));
    all.extend(["HEAD", "POST"].map(|method| Asked { method, ..BASE }));
    all.extend(["x.corp", "/a"].map(|host| Asked { host, ..BASE }));
    all.extend(["/a/b", "/b", "/", "/a*", "/a/c"].map(|path| Asked { path, ..BASE }));
    all.extend([1, 1024].map(|port| Asked { port, ..BASE }));
    all.push(Asked { operation: "policy.publish", ..BASE });
    all.push(Asked { agreement: KeyAgreement::PostQuantum, ..BASE });
    all
}

impl Asked {
    fn at(&self) -> SystemTime {
        now() + Duration::from_millis(self.millis)
    }

    fn detail(&self, action: Action) -> (Detail<'static>, Value) {
        let Self { method, host, path, port, operation, .. } = *self;
        match action {
            Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => {
                (Detail::Http { method, host, path }, json!({"method": method, "host": host, "path": path}))
            }
            Action::NetConnect => (Detail::Net { port }, json!({"port": port})),
            Action::ConsoleRead | Action::ConsoleWrite => {
                (Detail::Console { operation }, json!({"operation": operation}))
            }
        }
    }
}

fn resources() -> Vec<Resource> {
    vec![http("r0", &["s0"]), http("r1", &["s1"]), tcp("r2", &["s0"])]
}

const TARGETS: [(&str, &str, &[&str], Action); 6] = [
    ("Http", "r0", &["s0"], Action::HttpRead),
    ("Http", "r0", &["s0"], Action::HttpWrite),
    ("Http", "r1", &["s1"], Action::HttpUpgrade),
    ("Tcp", "r2", &["s0"], Action::NetConnect),
    ("Console", "console", &[], Action::ConsoleRead),
    ("Http", "r1", &["s1"], Action::HttpRead),
];

/// The user and device as JSON that Cedar reads; the resource beside them.
fn entities(facts: &SubjectFacts, kind: &str, id: &str, groups: &[&str]) -> Entities {
    let parents =
        |of: &str, ids: Vec<&str>| ids.into_iter().map(|id| json!({"type": of, "id": id})).collect::<Vec<_>>();
    let device = facts.device.as_ref().expect("a device");
    let user = facts.user.name.as_str();
    let (sensitivity, tags) = if kind == "Console" { (3, vec![]) } else { (1, vec!["made-for-tests"]) };
    let mut list = vec![
        json!({"uid": {"type": "User", "id": user}, "attrs": {"name": user}, "parents": parents("Group", facts.user.groups.iter().map(|group| group.as_str()).collect())}),
        json!({"uid": {"type": "Device", "id": device.id.to_string()}, "parents": [], "attrs": {
            "grade": device.grade.as_str(), "name": device.name.as_str(), "tags": [],
            "owner": {"__entity": {"type": "User", "id": user}},
        }}),
        json!({"uid": {"type": kind, "id": id}, "attrs": {"name": id, "sensitivity": sensitivity, "tags": tags}, "parents": parents("ResourceGroup", groups.to_vec())}),
        json!({"uid": {"type": "Action", "id": "access"}, "attrs": {}, "parents": []}),
    ];
    for action in Action::ALL {
        list.push(json!({"uid": {"type": "Action", "id": action.as_str()}, "attrs": {}, "parents": parents("Action", vec!["access"])}));
    }
    Entities::from_json_value(Value::Array(list), None).expect("entities")
}

fn question(facts: &SubjectFacts, kind: &str, id: &str, action: Action, asked: &Asked) -> cedar_policy::Request {
    let second = asked.millis / 1_000;
    let context = json!({
        "device": {"__entity": {"type": "Device", "id": facts.device.as_ref().expect("a device").id.to_string()}},
        "auth": {"methods": ["passkey"], "phishing_resistant": true, "age": 60 + second},
        "network": {"ip": {"__extn": {"fn": "ip", "arg": asked.ip}}},
        "time": {"__extn": {"fn": "datetime", "arg": format!("2026-11-21T00:{:02}:{:02}Z", second / 60, second % 60)}},
        "request": asked.detail(action).1,
        "tls": {"post_quantum": asked.agreement.is_post_quantum()},
    });
    let uid = |of: &str, id: &str| -> EntityUid { format!("{of}::{id:?}").parse().expect("uid") };
    cedar_policy::Request::new(
        uid("User", facts.user.name.as_str()),
        uid("Action", action.as_str()),
        uid(kind, id),
        Context::from_json_value(context, None).expect("context"),
        None,
    )
    .expect("request")
}

fn decide(subject: &PreparedSubject, of: &str, action: Action, asked: &Asked) -> Decision {
    let ip: IpAddr = asked.ip.parse().expect("address");
    let result = if of == "console" {
        subject.decide_console(action, asked.operation, ip, asked.agreement, asked.at())
    } else {
        let of = name(of);
        subject.decide(
            &Request { resource: &of, action, ip, agreement: asked.agreement, detail: asked.detail(action).0 },
            asked.at(),
        )
    };
    match result {
        Ok(permit) => permit.decision().clone(),
        Err(decision) => decision,
    }
}

/// Cedar's answer with the ids that it gives as reasons, or that failed.
fn cedar(all: &PolicySet, request: &cedar_policy::Request, entities: &Entities) -> (Answer, Vec<String>, Vec<String>) {
    let response = Authorizer::new().is_authorized(request, all, entities);
    let failed = response.diagnostics().errors();
    let failed: BTreeSet<String> =
        failed.map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string()).collect();
    let reasons: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    (response.decision(), reasons.into_iter().collect(), failed.into_iter().collect())
}

fn assert_agrees(
    decision: &Decision,
    (answer, reasons, failed): &(Answer, Vec<String>, Vec<String>),
    about: &dyn Fn() -> String,
) {
    let policies: Vec<String> = decision.policies.iter().map(ToString::to_string).collect();
    let meant = match answer {
        _ if !failed.is_empty() => decision.reason == Reason::PolicyError && policies == *failed,
        Answer::Allow => decision.reason == Reason::Permitted && policies == *reasons,
        Answer::Deny if !reasons.is_empty() => {
            let denied = matches!(decision.reason, Reason::Forbidden | Reason::NoPermit | Reason::StepUpRequired);
            denied && policies == *reasons
        }
        Answer::Deny => {
            matches!(decision.reason, Reason::ConditionFailed | Reason::NoPermit | Reason::StepUpRequired)
        }
    };
    let allowed = (decision.outcome == Outcome::Allow) == (*answer == Answer::Allow && failed.is_empty());
    assert!(meant && allowed, "{decision:?} but Cedar says {answer:?} {reasons:?} {failed:?} of {}", about());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "says how much to ask; the usual test asks little")]
fn agreement_with_is_authorized_on_generated_pairs() {
    let wanted: usize = std::env::var("VOUCHSAFE_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(3_000);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let subjects = [facts("u0", &["g0", "g1"]), facts("u1", &["g2"])];
    let worlds: Vec<Vec<Entities>> = subjects
        .iter()
        .map(|facts| TARGETS.iter().map(|(kind, id, groups, _)| entities(facts, kind, id, groups)).collect())
        .collect();
    let asked = asked();
    let questions: Vec<Vec<Vec<cedar_policy::Request>>> = subjects
        .iter()
        .map(|facts| {
            let at = |(kind, id, _, action): &(&str, &str, &[&str], Action)| {
                asked.iter().map(|asked| question(facts, kind, id, *action, asked)).collect()
            };
            TARGETS.iter().map(at).collect()
        })
        .collect();
    let mut engine = Engine::compile(PolicySource::default()).expect("empty");
    let mut specs: Vec<String> = Vec::new();
    let mut grants: Vec<Grant> = Vec::new();
    let (mut pairs, mut allowed, mut failed, mut version, mut by_template) = (0_usize, 0_usize, 0_usize, 0, 0_usize);
    while pairs < wanted {
        version += 1;
        // Some policies come, some go, most stay: as when administrators work.
        for _ in 0..=dice.below(3) {
            if specs.len() > 14 || (specs.len() > 4 && dice.below(3) == 0) {
                specs.remove(dice.below(specs.len()));
            }
            let at = dice.below(specs.len() + 1);
            let made = if dice.below(3) == 0 { template(&mut dice) } else { policy(&mut dice) };
            specs.insert(at, format!("@id(\"p{version}-{}\") {made};\n", dice.below(1_000_000)));
        }
        let number = u8::try_from(version % 250).expect("small");
        let templates: Vec<String> = engine.templates().into_iter().map(|listing| listing.id.to_string()).collect();
        grants.retain(|grant| grant.id != GrantId::from_random([number; 16]));
        grants.push(granted(&mut dice, number, &templates));
        if grants.len() > 6 {
            grants.remove(dice.below(6));
        }
        let text: String = specs.concat();
        let source = PolicySource { version, files: vec![file(&text)], grants: grants.clone(), resources: resources() };
        let Ok(next) = Engine::compile_after(source.clone(), &engine) else {
            // Cedar's validator refuses a few, such as a test that its types say is always false.
            assert!(Engine::compile(source).is_err(), "what is refused is refused from the beginning too: {text}");
            specs.truncate(3);
            continue;
        };
        let anew = Engine::compile(source).expect("what is accepted is accepted from the beginning too");
        assert_eq!((next.policies(), next.warnings()), (anew.policies(), anew.warnings()));
        assert_eq!((next.templates(), next.unlinked()), (anew.templates(), anew.unlinked()));
        let all = linked(&next, &grants);
        let lasting: Vec<Grant> =
            grants.iter().filter(|grant| grant.expires != Some(now() + MIDWAY)).cloned().collect();
        let later = linked(&next, &lasting);
        let of_templates: BTreeSet<String> =
            grants.iter().filter(|grant| grant.template.is_some()).map(|grant| grant.id.to_string()).collect();
        for (who, facts) in subjects.iter().enumerate() {
            let before = PreparedSubject::new(engine.clone(), Arc::new(facts.clone()));
            let subject = before.under(next.clone());
            for (target, (_, id, _, action)) in TARGETS.iter().enumerate() {
                let answer = |(asked, question): (&Asked, &cedar_policy::Request)| {
                    let all = if Duration::from_millis(asked.millis) < MIDWAY { &all } else { &later };
                    cedar(all, question, &worlds[who][target])
                };
                let answers: Vec<_> = asked.iter().zip(&questions[who][target]).map(answer).collect();
                // Each in turn, then each again, when all the others have been remembered as well.
                for round in ["first", "again"] {
                    for (asked, answer) in asked.iter().zip(&answers) {
                        let decision = decide(&subject, id, *action, asked);
                        assert_eq!(decision.policy_version, version);
                        assert_agrees(&decision, answer, &|| format!("{id} {action} {asked:?} ({round})\n{text}"));
                        allowed += usize::from(decision.outcome == Outcome::Allow);
                        let by = decision.policies.iter().any(|by| of_templates.contains(by.as_str()));
                        by_template += usize::from(by && decision.outcome == Outcome::Allow);
                        failed += usize::from(decision.reason == Reason::PolicyError);
                    }
                }
                pairs += answers.len();
            }
        }
        engine = next;
    }
    // Each pair was decided twice.
    assert!(allowed * 10 > pairs && allowed * 10 < pairs * 19, "{allowed} of {pairs} allowed: too much of one kind");
    assert!(by_template > 0, "no grant of a template allowed anything");
    assert!(failed > 0 || pairs < 50_000, "no policy failed");
    eprintln!(
        "{pairs} pairs over {version} policy sets agree; {} allowed, {} by templates, {} failed",
        allowed / 2,
        by_template / 2,
        failed / 2
    );
}
