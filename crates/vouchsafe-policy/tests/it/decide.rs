//! The rules on top of Cedar, each with a test that breaks when the rule does.

use std::sync::Arc;
use std::time::Duration;

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Advice, Decision, Outcome, Reason};
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::subject::{Grade, SubjectFacts};
use vouchsafe_policy::{Detail, Engine, KeyAgreement, PolicySource, PreparedSubject, Request, default_policy};

use crate::world::{ADDRESS, ask, ask_at, engine, facts, grant, http, name, now, source, tcp, without_device};

fn denied(result: Result<vouchsafe_policy::Permit, Decision>) -> Decision {
    match result {
        Ok(permit) => panic!("allowed: {:?}", permit.decision()),
        Err(decision) => {
            assert_eq!(decision.outcome, Outcome::Deny);
            decision
        }
    }
}

fn reason(result: Result<vouchsafe_policy::Permit, Decision>) -> Reason {
    match result {
        Ok(permit) => permit.decision().reason,
        Err(decision) => decision.reason,
    }
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|policy| policy.as_str()).collect()
}

const WIKI: &str = r#"@id("wiki") @reason("Staff may use the wiki.")
permit(principal in Group::"staff", action == Action::"http:read", resource == Http::"wiki");"#;

#[test]
fn nothing_is_allowed_that_nothing_permits() {
    let empty = engine("");
    let decision = denied(ask(&empty, &facts("ann", &["staff"]), "wiki", Action::HttpRead));
    assert_eq!((decision.reason, decision.policies.len()), (Reason::NoPermit, 0));
    assert_eq!((decision.policy_version, decision.epoch.0), (7, 3));
    assert_eq!(decision.advice.as_ref(), [Advice::RequestAccess]);
}

#[test]
fn a_permit_names_what_it_allows_and_why() {
    let engine = engine(WIKI);
    let permit = ask(&engine, &facts("ann", &["staff"]), "wiki", Action::HttpRead).expect("allowed");
    let decision = permit.decision();
    assert_eq!(
        (decision.outcome, decision.reason, decision.words.as_ref()),
        (Outcome::Allow, Reason::Permitted, "Staff may use the wiki.")
    );
    assert_eq!((ids(decision), decision.advice.len()), (vec!["wiki"], 0));
    assert_eq!((permit.resource().name.as_str(), permit.action()), ("wiki", Action::HttpRead));
    assert_eq!(permit.subject().user.name.as_str(), "ann");
    assert_eq!(permit.detail(), Detail::Http { method: "GET", host: "wiki.vouchsafe.localhost", path: "/a/b" });
}

#[test]
fn a_right_reaches_no_other_resource_action_or_person() {
    let engine = engine(WIKI);
    let ann = facts("ann", &["staff"]);
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpRead)), Reason::NoPermit);
    assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpWrite)), Reason::NoPermit);
    assert_eq!(reason(ask(&engine, &facts("bob", &["guests"]), "wiki", Action::HttpRead)), Reason::NoPermit);
}

#[test]
fn an_unknown_resource_looks_like_one_without_access() {
    let engine = engine(WIKI);
    let decision = denied(ask(&engine, &facts("ann", &["staff"]), "nowhere", Action::HttpRead));
    assert_eq!(decision.reason, Reason::UnknownResource);
    let closed = denied(ask(&engine, &facts("ann", &["staff"]), "erp", Action::HttpRead));
    assert_eq!((decision.words, decision.advice, decision.policies), (closed.words, closed.advice, closed.policies));
}

#[test]
fn an_action_that_the_kind_does_not_know_is_denied() {
    let engine = engine("@id(\"all\") permit(principal, action, resource);");
    assert_eq!(reason(ask(&engine, &facts("ann", &[]), "ledger", Action::HttpRead)), Reason::NoPermit);
    assert_eq!(reason(ask(&engine, &facts("ann", &[]), "ledger", Action::NetConnect)), Reason::Permitted);
}

#[test]
fn a_request_that_lacks_its_details_is_denied() {
    let engine = engine("@id(\"all\") permit(principal, action, resource);");
    let wiki = name("wiki");
    let request = Request {
        resource: &wiki,
        action: Action::HttpRead,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail: Detail::Net { port: 1 },
    };
    let subject = PreparedSubject::new(engine, Arc::new(facts("ann", &[])));
    assert_eq!(reason(subject.decide(&request, now())), Reason::FactsUnavailable);
}

#[test]
fn a_forbid_wins_and_says_why() {
    let engine = engine(&format!(
        "{WIKI} @id(\"z-lock\") @reason(\"The wiki is being moved.\") @advice(\"request-access\")
         forbid(principal, action, resource == Http::\"wiki\"); @id(\"a-lock\") forbid(principal, action, resource);"
    ));
    let decision = denied(ask(&engine, &facts("ann", &["staff"]), "wiki", Action::HttpRead));
    assert_eq!((decision.reason, decision.words.as_ref()), (Reason::Forbidden, "The wiki is being moved."));
    assert_eq!(
        (ids(&decision), decision.advice.as_ref()),
        (vec!["a-lock", "z-lock"], [Advice::RequestAccess].as_slice())
    );
}

#[test]
fn a_forbid_tells_nothing_to_whom_no_permit_speaks_of() {
    let engine = engine("@id(\"lock\") @reason(\"Secret.\") forbid(principal, action, resource == Http::\"wiki\");");
    let decision = denied(ask(&engine, &facts("ann", &["staff"]), "wiki", Action::HttpRead));
    assert_eq!((decision.reason, decision.words.as_ref()), (Reason::NoPermit, Reason::UnknownResource.words()));
    assert_eq!(ids(&decision), ["lock"], "the record still says what applied");
}

const FRESH: &str = r#"@id("b-erp") @reason("Sign in again to write in the ERP.") @advice("step-up")
permit(principal in Group::"staff", action == Action::"http:write", resource == Http::"erp") when { context.auth.age < 30 };
@id("c-erp") @reason("Later words.") @advice("request-access")
permit(principal in Group::"staff", action, resource == Http::"erp") when { context.device.grade == "hardware-attested" };"#;

#[test]
fn a_condition_that_fails_says_what_to_do() {
    let engine = engine(FRESH);
    let decision = denied(ask(&engine, &facts("ann", &["staff"]), "erp", Action::HttpWrite));
    assert_eq!(
        (decision.reason, decision.words.as_ref()),
        (Reason::StepUpRequired, "Sign in again to write in the ERP.")
    );
    assert_eq!(
        (ids(&decision), decision.advice.to_vec()),
        (vec!["b-erp", "c-erp"], vec![Advice::StepUp, Advice::RequestAccess])
    );
    let earlier = now() - Duration::from_secs(40);
    assert_eq!(
        reason(ask_at(&engine, &facts("ann", &["staff"]), "erp", Action::HttpWrite, earlier)),
        Reason::Permitted
    );
}

#[test]
fn i4_without_a_device_only_a_policy_that_says_so_permits() {
    let engine = engine(&format!(
        "{WIKI} @id(\"open\") @device(\"none\") permit(principal in Group::\"staff\", action == Action::\"http:read\", resource == Http::\"erp\");"
    ));
    let ann = without_device(facts("ann", &["staff"]));
    let decision = denied(ask(&engine, &ann, "wiki", Action::HttpRead));
    assert_eq!((decision.reason, decision.advice.as_ref()), (Reason::DeviceRequired, [Advice::EnrolDevice].as_slice()));
    assert_eq!(decision.words.as_ref(), Reason::DeviceRequired.words());
    assert_eq!(ids(ask(&engine, &ann, "erp", Action::HttpRead).expect("allowed").decision()), ["open"]);
    assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpWrite)), Reason::NoPermit, "no permit's scope matches");
    assert_eq!(reason(ask(&engine, &ann, "ledger", Action::NetConnect)), Reason::NoPermit);
}

#[test]
fn i4_a_device_is_required_too_when_conditions_would_fail_without_one() {
    let engine = engine(FRESH);
    let ann = without_device(facts("ann", &["staff"]));
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpRead)), Reason::DeviceRequired);
}

#[test]
fn i4_a_near_miss_without_device_advises_both() {
    let engine = engine(&format!(
        "{WIKI} @id(\"a\") @advice(\"step-up\") @device(\"none\") permit(principal, action, resource == Http::\"wiki\") when {{ context.auth.age < 5 }};
         @id(\"b\") permit(principal, action, resource) when {{ context.device.grade == \"software\" }};"
    ));
    let decision = denied(ask(&engine, &without_device(facts("bob", &[])), "wiki", Action::HttpRead));
    assert_eq!((decision.reason, ids(&decision)), (Reason::StepUpRequired, vec!["a"]));
    assert_eq!(decision.advice.as_ref(), [Advice::StepUp, Advice::EnrolDevice]);
}

#[test]
fn i4_a_forbid_counts_without_a_device() {
    let engine = engine(
        "@id(\"open\") @device(\"none\") permit(principal, action, resource); @id(\"grade\") forbid(principal, action, resource) when { context.device.grade == \"none\" };",
    );
    assert_eq!(reason(ask(&engine, &without_device(facts("ann", &[])), "wiki", Action::HttpRead)), Reason::Forbidden);
    assert_eq!(reason(ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead)), Reason::Permitted);
}

#[test]
fn i3_the_network_alone_changes_nothing() {
    let engine = engine(WIKI);
    let wiki = name("wiki");
    let subject = PreparedSubject::new(engine, Arc::new(facts("ann", &["guests"])));
    for ip in ["127.0.0.1", "10.0.0.1", "::1", "203.0.113.9", "::ffff:127.0.0.1"] {
        let detail = Detail::Http { method: "GET", host: "wiki", path: "/" };
        let request = Request {
            resource: &wiki,
            action: Action::HttpRead,
            ip: ip.parse().expect("ip"),
            agreement: KeyAgreement::Other,
            detail,
        };
        assert_eq!(reason(subject.decide(&request, now())), Reason::NoPermit, "{ip}");
    }
}

#[test]
fn every_fact_that_a_policy_can_read_is_told() {
    let all = r#"@id("all") permit(principal == User::"ann", action == Action::"http:read", resource == Http::"erp") when {
        principal.name == "ann" && principal in Group::"staff" && principal is User in Group::"staff" &&
        resource.name == "erp" && resource.sensitivity == 1 && resource.tags.contains("made-for-tests") && resource in ResourceGroup::"money" &&
        context.device.grade == "hardware" && context.device.name == "laptop" && !context.device.tags.contains("lost") &&
        context.device has owner && context.device.owner == principal && context.device.owner.name == "ann" &&
        context.auth.methods == ["passkey"] && context.auth.phishing_resistant && context.auth.age == 60 &&
        context.network.ip.isInRange(ip("10.0.0.0/8")) && context.time == datetime("2026-11-21") &&
        context.request.method == "GET" && context.request.host like "wiki.*" && context.request.path == "/a/b" &&
        action in Action::"access"
    };
    @id("net") permit(principal, action == Action::"net:connect", resource) when { context.request.port == 5432 };
    @id("console") permit(principal, action == Action::"console:write", resource) when { context.request.operation == "policy.publish" && resource.sensitivity == 3 };"#;
    let engine = engine(all);
    let ann = facts("ann", &["staff"]);
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpRead)), Reason::Permitted);
    assert_eq!(reason(ask(&engine, &ann, "ledger", Action::NetConnect)), Reason::Permitted);
    let subject = PreparedSubject::new(engine, Arc::new(ann));
    assert_eq!(
        reason(subject.decide_console(Action::ConsoleWrite, "policy.publish", ADDRESS, KeyAgreement::Other, now())),
        Reason::Permitted
    );
    assert_eq!(
        reason(subject.decide_console(Action::ConsoleWrite, "other", ADDRESS, KeyAgreement::Other, now())),
        Reason::ConditionFailed
    );
}

#[test]
fn another_persons_device_has_an_owner_with_a_name() {
    let engine = engine(
        "@id(\"lent\") permit(principal, action, resource) when { context.device has owner && context.device.owner.name == \"bob\" && context.device.owner != principal };",
    );
    let mut ann = facts("ann", &[]);
    ann.device.as_mut().expect("device").owner = Some(crate::world::user("bob"));
    assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpRead)), Reason::Permitted);
}

#[test]
fn grades_reach_policies_by_their_words() {
    for grade in [Grade::Software, Grade::Hardware, Grade::HardwareAttested] {
        let engine = engine(&format!(
            "@id(\"g\") permit(principal, action, resource) when {{ context.device.grade == \"{grade}\" }};"
        ));
        let mut ann = facts("ann", &[]);
        ann.device.as_mut().expect("device").grade = grade;
        assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpRead)), Reason::Permitted, "{grade}");
        ann.device.as_mut().expect("device").grade = Grade::None;
        assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpRead)), Reason::ConditionFailed);
    }
}

#[test]
fn a_permit_ends_when_it_says_and_a_forbid_stays() {
    let text = r#"@id("temp") @expires("2026-11-21T01:00:00Z") permit(principal, action, resource == Http::"wiki");
                  @id("all") permit(principal, action, resource == Http::"erp");
                  @id("stop") @expires("2026-11-20T00:00:00Z") forbid(principal, action == Action::"http:write", resource);"#;
    let engine = engine(text);
    let ann = SubjectFacts { expires: now() + Duration::from_secs(86_400), ..facts("ann", &[]) };
    let subject = PreparedSubject::new(engine.clone(), Arc::new(ann.clone()));
    let (wiki, hour) = (name("wiki"), Duration::from_secs(3_600));
    let request = Request {
        resource: &wiki,
        action: Action::HttpRead,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail: crate::world::detail_of(Action::HttpRead),
    };
    // One prepared subject, whose slices have to be built again at the instant, and again when the clock is put back.
    for (at, expected) in [
        (now(), Reason::Permitted),
        (now() + hour - Duration::from_nanos(1), Reason::Permitted),
        (now() + hour, Reason::NoPermit),
        (now() + hour * 2, Reason::NoPermit),
        (now(), Reason::Permitted),
    ] {
        assert_eq!(reason(subject.decide(&request, at)), expected, "{at:?}");
    }
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpRead)), Reason::Permitted);
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpWrite)), Reason::Forbidden, "an expired forbid stays");
}

#[test]
fn nothing_is_permitted_after_the_session() {
    let engine = engine(WIKI);
    let ann = facts("ann", &["staff"]);
    assert_eq!(reason(ask_at(&engine, &ann, "wiki", Action::HttpRead, ann.expires)), Reason::SessionEnded);
    assert_eq!(
        reason(ask_at(&engine, &ann, "wiki", Action::HttpRead, ann.expires - Duration::from_secs(1))),
        Reason::Permitted
    );
}

#[test]
fn a_grant_permits_one_person_one_resource_for_its_time_on_a_device() {
    let ends = now() + Duration::from_secs(600);
    let text = "@id(\"shut\") forbid(principal, action == Action::\"http:upgrade\", resource);";
    let source = PolicySource {
        grants: vec![grant(1, "ann", "wiki", Some(ends)), grant(2, "ann", "ledger", None)],
        ..source(text)
    };
    let engine = Engine::compile(source).expect("compiles");
    let ann = facts("ann", &[]);
    let permit = ask(&engine, &ann, "wiki", Action::HttpWrite).expect("allowed");
    assert_eq!(permit.decision().words.as_ref(), "granted explicitly: month end");
    assert!(permit.decision().policies[0].as_str().starts_with("grt_"));
    assert_eq!(reason(ask(&engine, &ann, "ledger", Action::NetConnect)), Reason::Permitted);
    assert_eq!(reason(ask(&engine, &ann, "wiki", Action::HttpUpgrade)), Reason::Forbidden);
    assert_eq!(reason(ask(&engine, &ann, "erp", Action::HttpRead)), Reason::NoPermit);
    assert_eq!(reason(ask(&engine, &facts("bob", &[]), "wiki", Action::HttpRead)), Reason::NoPermit);
    assert_eq!(reason(ask(&engine, &without_device(ann.clone()), "wiki", Action::HttpRead)), Reason::DeviceRequired);
    assert_eq!(reason(ask_at(&engine, &ann, "wiki", Action::HttpRead, ends)), Reason::NoPermit);
}

#[test]
fn a_grant_of_nothing_is_skipped_with_a_warning() {
    let source =
        PolicySource { grants: vec![grant(1, "ann", "gone", None), grant(2, "ann", "wiki", None)], ..source("") };
    let engine = Engine::compile(source).expect("compiles");
    let codes: Vec<_> = engine.warnings().iter().map(|warning| warning.code.as_ref()).collect();
    assert_eq!(codes, ["grant_without_resource"]);
    assert_eq!(reason(ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead)), Reason::Permitted);
}

#[test]
fn sources_that_contradict_themselves_are_refused() {
    let twice = PolicySource { resources: vec![http("a", &[]), tcp("a", &[])], ..source("") };
    assert_eq!(Engine::compile(twice).expect_err("refused")[0].code, "duplicate_resource");
    let same =
        PolicySource { grants: vec![grant(1, "ann", "wiki", None), grant(1, "bob", "wiki", None)], ..source("") };
    assert_eq!(Engine::compile(same).expect_err("refused")[0].code, "duplicate_grant");
    let console = vouchsafe_model::resource::Resource {
        spec: vouchsafe_model::resource::ResourceSpec::Console,
        ..http("mine", &[])
    };
    let console = PolicySource { resources: vec![console], ..source("") };
    assert_eq!(Engine::compile(console).expect_err("refused")[0].code, "console_resource");
}

#[test]
fn the_default_policy_lets_administrators_into_the_console_and_nobody_else() {
    let source = PolicySource { files: vec![default_policy()], ..source("") };
    let engine = Engine::compile(source).expect("compiles");
    assert_eq!(engine.warnings(), []);
    let first = PreparedSubject::new(engine.clone(), Arc::new(without_device(facts("ann", &["administrators"]))));
    let permit =
        first.decide_console(Action::ConsoleWrite, "user.add", ADDRESS, KeyAgreement::Other, now()).expect("allowed");
    assert_eq!(permit.resource().name, ResourceName::console());
    assert_eq!(
        reason(first.decide_console(Action::ConsoleRead, "user.list", ADDRESS, KeyAgreement::Other, now())),
        Reason::Permitted
    );
    assert_eq!(
        reason(first.decide_console(Action::HttpRead, "user.list", ADDRESS, KeyAgreement::Other, now())),
        Reason::NoPermit
    );
    let other = PreparedSubject::new(engine, Arc::new(facts("bob", &["staff"])));
    assert_eq!(
        reason(other.decide_console(Action::ConsoleRead, "user.list", ADDRESS, KeyAgreement::Other, now())),
        Reason::NoPermit
    );
}

#[test]
fn an_engine_lists_what_it_has() {
    let engine = engine(
        "// about\n@id(\"a\") @owner(\"ann\") @expires(\"2027-01-01T00:00:00+01:00\") permit(principal, action, resource); // end",
    );
    let listing = engine.policies().pop().expect("one");
    assert_eq!(
        (listing.id.as_str(), listing.file.as_str(), listing.owner.as_deref()),
        ("a", "test.cedar", Some("ann"))
    );
    assert_eq!(listing.expires.as_deref(), Some("2026-12-31T23:00:00.000Z"));
    assert!(listing.text.starts_with("@id") && listing.text.ends_with(';'));
    assert_eq!((engine.version(), engine.resources().count()), (7, 3));
    assert!(engine.resource(&ResourceName::console()).is_some() && engine.resource(&name("gone")).is_none());
}

#[test]
fn what_is_remembered_of_a_subject_is_bounded() {
    let resources = (0..1_100).map(|number| http(&format!("r{number}"), &[])).collect();
    let source = PolicySource { resources, ..source("@id(\"all\") permit(principal, action, resource is Http);") };
    let subject = PreparedSubject::new(Engine::compile(source).expect("compiles"), Arc::new(facts("ann", &[])));
    for number in (0..1_100).chain([0, 1_099]) {
        let of = name(&format!("r{number}"));
        let request = Request {
            resource: &of,
            action: Action::HttpRead,
            ip: ADDRESS,
            agreement: KeyAgreement::Other,
            detail: crate::world::detail_of(Action::HttpRead),
        };
        assert_eq!(reason(subject.decide(&request, now())), Reason::Permitted);
    }
}

#[test]
fn a_subject_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PreparedSubject>();
    shared::<Engine>();
}
