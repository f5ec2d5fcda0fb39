//! Explanations: the same decision, each condition on its own, and the way to a permit.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vouchsafe_model::action::Action;
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_policy::{Engine, Explanation, Holds, KeyAgreement, PolicySource, Question, explain};

use crate::world::{ADDRESS, detail_of, engine, facts, grant, now, source, without_device};

fn ask(engine: &Engine, facts: SubjectFacts, resource: &str, action: Action) -> Explanation {
    ask_at(engine, facts, resource, action, now())
}

fn ask_at(engine: &Engine, facts: SubjectFacts, resource: &str, action: Action, at: SystemTime) -> Explanation {
    let question = Question {
        facts,
        resource: resource.into(),
        action,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail: detail_of(action).into(),
    };
    explain(engine, &question, at)
}

const FINANCE: &str = r#"
@id("erp-read") @reason("Finance reads the ERP on good devices.")
permit(principal in Group::"finance", action == Action::"http:read", resource == Http::"erp")
when { context.device.grade == "hardware" && context.auth.age < 3600 };
@id("erp-write") @advice("step-up")
permit(principal in Group::"finance", action == Action::"http:write", resource == Http::"erp")
when { context.auth.age < 30 && context.request.method == "GET" }
unless { context.request.path like "/admin*" || context.device has owner && context.device.owner != principal };
@id("intranet") @expires("2026-11-20T00:00:00Z")
permit(principal, action, resource in ResourceGroup::"intranet");
@id("wiki") permit(principal in Group::"staff", action, resource == Http::"wiki");
@id("night") @reason("The books are closed.")
forbid(principal in Group::"trainees", action, resource in ResourceGroup::"money") when { context.time < datetime("2026-11-22") };
"#;

#[test]
fn an_allowed_request_names_the_policy_first() {
    let told = ask(&engine(FINANCE), facts("ann", &["finance"]), "erp", Action::HttpRead);
    assert_eq!((told.decision.outcome.as_str(), told.decision.reason.as_str()), ("allow", "permitted"));
    let first = &told.considered[0];
    assert_eq!((first.id.as_str(), first.decides, first.verdict.as_str()), ("erp-read", true, "it allows this"));
    let conditions: Vec<_> = first.conditions.iter().map(|each| (each.text.as_str(), &each.holds)).collect();
    assert_eq!(
        conditions,
        [("context.device.grade == \"hardware\"", &Holds::True), ("context.auth.age < 3600", &Holds::True)]
    );
    assert!(told.would_change.is_empty());
    assert!(told.considered.iter().all(|each| each.id.as_str() != "wiki"), "a policy about another resource");
}

#[test]
fn each_condition_is_judged_alone() {
    let told = ask(&engine(FINANCE), facts("ann", &["finance"]), "erp", Action::HttpWrite);
    let write = told.considered.iter().find(|each| each.id.as_str() == "erp-write").expect("considered");
    let conditions: Vec<_> = write.conditions.iter().map(|each| (each.text.as_str(), &each.holds)).collect();
    assert_eq!(
        conditions,
        [
            ("context.auth.age < 30", &Holds::False),
            ("context.request.method == \"GET\"", &Holds::True),
            ("!(context.request.path like \"/admin*\")", &Holds::True),
            ("!((context.device has owner) && (context.device.owner != principal))", &Holds::True),
        ]
    );
    assert_eq!(write.verdict, "it doesn't allow this, because `context.auth.age < 30` doesn't hold");
    assert_eq!(told.would_change[0], "`context.auth.age < 30` would have to hold (policy `erp-write`)");
}

#[test]
fn it_says_how_to_get_in() {
    let engine = engine(FINANCE);
    let told = ask(&engine, without_device(facts("bob", &[])), "erp", Action::HttpRead);
    assert_eq!(told.decision.reason, "no_permit");
    assert_eq!(
        told.would_change,
        [
            "come from an enrolled device, and have it renewed, since it ended at 2026-11-20T00:00:00.000Z (policy `intranet`)",
            "be a member of group `finance`, come from an enrolled device, and `context.device.grade == \"hardware\"` would have to hold (policy `erp-read`)",
        ]
    );
    let told = ask(&engine, without_device(facts("bob", &["staff"])), "wiki", Action::HttpRead);
    assert_eq!(
        (told.decision.reason.as_str(), told.would_change[0].as_str()),
        ("device_required", "come from an enrolled device (policy `wiki`)")
    );
    assert_eq!(told.considered[0].verdict, "it counts only on an enrolled device");
}

#[test]
fn a_forbid_comes_first_and_says_what_lifts_it() {
    let told = ask(&engine(FINANCE), facts("tim", &["finance", "trainees"]), "erp", Action::HttpRead);
    assert_eq!((told.decision.reason.as_str(), told.decision.words.as_ref()), ("forbidden", "The books are closed."));
    assert_eq!((told.considered[0].id.as_str(), told.considered[0].verdict.as_str()), ("night", "it forbids this"));
    assert_eq!(told.considered[1].verdict, "it would allow this alone");
    assert_eq!(
        told.would_change[0],
        "`context.time < datetime(\"2026-11-22\")` would have to be false, so that policy `night` no longer forbids it"
    );
}

#[test]
fn a_failing_policy_is_named_with_its_error() {
    let text = "@id(\"all\") permit(principal, action, resource); @id(\"bad\") forbid(principal, action, resource) when { context.auth.age + 9223372036854775807 > 0 };";
    let told = ask(&engine(text), facts("ann", &[]), "wiki", Action::HttpRead);
    assert_eq!(told.decision.reason, "policy_error");
    assert!(
        matches!(&told.considered[0].conditions[0].holds, Holds::Error(why) if why.contains("overflow")),
        "{told:#?}"
    );
    assert!(
        told.would_change[0].starts_with("policy `bad` would have to be mended: integer overflow"),
        "{:?}",
        told.would_change
    );
}

#[test]
fn what_a_condition_guards_is_not_called_an_error() {
    let text = "@id(\"own\") permit(principal, action, resource) when { context.device has owner && context.device.owner == principal };";
    let mut ann = facts("ann", &[]);
    ann.device.as_mut().expect("device").owner = None;
    let told = ask(&engine(text), ann, "wiki", Action::HttpRead);
    let holds: Vec<_> = told.considered[0].conditions.iter().map(|each| &each.holds).collect();
    assert_eq!(holds, [&Holds::False, &Holds::NotReached]);
}

#[test]
fn there_are_words_for_what_no_policy_is_asked_about() {
    let engine = engine(FINANCE);
    let told = ask(&engine, facts("ann", &[]), "wikki", Action::HttpRead);
    assert_eq!(told.decision.reason, "unknown_resource");
    assert_eq!(
        told.would_change,
        ["a resource of the name `wikki` would have to exist", "ask for `wiki`, if that was meant"]
    );
    let told = ask(&engine, facts("ann", &[]), "ledger", Action::HttpRead);
    assert_eq!(told.would_change, ["ask for `net:connect`: `http:read` doesn't exist on `tcp` resources"]);
    let told = ask(&engine, facts("ann", &[]), "console", Action::ConsoleRead);
    assert_eq!(told.would_change, ["a policy would have to permit it, or an administrator to grant it"]);
    let ann = facts("ann", &[]);
    let after = ann.expires;
    assert_eq!(
        ask_at(&engine, ann, "wiki", Action::HttpRead, after).would_change,
        ["sign in again: the session has ended"]
    );
}

#[test]
fn grants_are_explained_like_policies() {
    let source =
        PolicySource { grants: vec![grant(1, "ann", "wiki", Some(now() + Duration::from_secs(5)))], ..source("") };
    let engine = Engine::compile(source).expect("compiles");
    let told = ask(&engine, facts("ann", &[]), "wiki", Action::HttpRead);
    assert_eq!((told.considered[0].file.as_str(), told.considered[0].verdict.as_str()), ("grants", "it allows this"));
    let told = ask_at(&engine, facts("ann", &[]), "wiki", Action::HttpRead, now() + Duration::from_secs(5));
    assert!(told.considered[0].expired && told.would_change[0].contains("renewed"), "{told:#?}");
    let told = ask(&engine, facts("bob", &[]), "wiki", Action::HttpRead);
    assert!(told.would_change[0].starts_with("be the user `ann`"));
}

#[test]
fn only_the_nearest_fifty_are_shown() {
    let text: String = (0..80)
        .map(|number| format!("@id(\"p{number:02}\") permit(principal in Group::\"g{number}\", action, resource);"))
        .collect();
    let told = ask(&engine(&text), facts("ann", &["g77"]), "wiki", Action::HttpRead);
    assert_eq!((told.considered.len(), told.more, told.considered[0].id.as_str()), (50, 30, "p77"));
}

#[test]
fn an_explanation_travels_as_json() {
    let told = ask(&engine(FINANCE), facts("ann", &["finance"]), "erp", Action::HttpWrite);
    let json = serde_json::to_string(&told).expect("json");
    assert_eq!(serde_json::from_str::<Explanation>(&json).expect("explanation"), told);
    let _ = Arc::new(told);
}
