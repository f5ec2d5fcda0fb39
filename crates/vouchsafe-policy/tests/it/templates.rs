//! Templates in policy files, and grants made from them.

use std::sync::Arc;
use std::time::Duration;

use vouchsafe_model::action::Action::{HttpRead, HttpUpgrade, HttpWrite};
use vouchsafe_model::decision::Reason;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::name::{GroupName, PolicyName};
use vouchsafe_policy::{
    Change, Engine, Explanation, HostOf, KeyAgreement, OwnedDetail, People, PolicyFile, PolicySource, Question, check,
    difference, explain, plain, touched,
};

use crate::world::{ADDRESS, ask, ask_at, facts, file, grant, name, now, printed, source, user, without_device};

const READER: &str = r#"
@id("reader")
@reason("readers read, and not at /private")
@advice("request-access")
permit (principal == ?principal, action in [Action::"http:read"], resource == ?resource)
  unless { context.request.path like "/private*" };
"#;

fn of(template: &str, grant: Grant) -> Grant {
    Grant { template: Some(PolicyName::parse(template).expect("name")), ..grant }
}

fn with(text: &str, grants: Vec<Grant>) -> PolicySource {
    PolicySource { grants, ..source(text) }
}

fn compile(source: PolicySource) -> Arc<Engine> {
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

#[test]
fn a_grant_of_a_template_permits_what_the_template_says_and_ends() {
    let until = now() + Duration::from_secs(60);
    let engine = compile(with(READER, vec![of("reader", grant(1, "ann", "wiki", Some(until)))]));
    let ann = facts("ann", &[]);
    let permit = ask(&engine, &ann, "wiki", HttpRead).expect("may read");
    assert!(permit.decision().policies[0].is_of_grant(), "{:?}", permit.decision());
    for (who, of, action) in
        [("ann", "wiki", HttpWrite), ("ann", "wiki", HttpUpgrade), ("ann", "erp", HttpRead), ("bob", "wiki", HttpRead)]
    {
        let denial = ask(&engine, &facts(who, &[]), of, action).expect_err("nothing else");
        assert_eq!(denial.reason, Reason::NoPermit, "{who} {of} {action}");
    }
    let late = ask_at(&engine, &ann, "wiki", HttpRead, until).expect_err("it is over");
    assert_eq!(late.reason, Reason::NoPermit);
    let bare = ask(&engine, &without_device(ann), "wiki", HttpRead).expect_err("on enrolled devices");
    assert_eq!(bare.reason, Reason::DeviceRequired);
}

#[test]
fn the_sooner_end_counts_and_the_device_that_the_template_wants() {
    let text = READER.replace("@reason", "@expires(\"2026-11-21T00:00:30Z\") @device(\"none\") @reason");
    let ends = now() + Duration::from_secs(30);
    for until in [None, Some(ends + Duration::from_secs(60))] {
        let engine = compile(with(&text, vec![of("reader", grant(1, "ann", "wiki", until))]));
        let ann = without_device(facts("ann", &[]));
        assert!(ask(&engine, &ann, "wiki", HttpRead).is_ok());
        assert!(ask_at(&engine, &ann, "wiki", HttpRead, ends).is_err(), "{until:?}");
    }
}

#[test]
fn a_template_alone_permits_nothing() {
    let engine = compile(with(READER, Vec::new()));
    assert_eq!(ask(&engine, &facts("ann", &[]), "wiki", HttpRead).expect_err("nobody").reason, Reason::NoPermit);
    assert!(engine.policies().is_empty() && engine.warnings().is_empty());
    let listed = engine.templates();
    assert_eq!(
        (listed.len(), listed[0].id.as_str(), listed[0].actions.as_slice()),
        (1, "reader", [HttpRead].as_slice())
    );
    assert_eq!(listed[0].text.trim(), READER.trim());
}

#[test]
fn a_grant_without_its_template_permits_nothing_and_is_told() {
    let grants = vec![
        of("reader", grant(1, "ann", "wiki", None)),
        of("reader", grant(2, "ann", "ledger", None)),
        of("gone", grant(3, "ann", "erp", None)),
    ];
    let engine = compile(with(READER, grants));
    let told: Vec<(&str, bool)> =
        engine.unlinked().iter().map(|one| (one.resource.as_str(), one.is_of_other_kind)).collect();
    assert_eq!(told, [("ledger", true), ("erp", false)]);
    assert_eq!(engine.warnings().iter().map(|it| it.code.as_ref()).collect::<Vec<_>>(), ["grant_without_template"; 2]);
    let ann = facts("ann", &[]);
    assert!(ask(&engine, &ann, "wiki", HttpRead).is_ok() && ask(&engine, &ann, "erp", HttpRead).is_err());
}

/// From one version to the next, with what is kept of it: as compiled from the beginning.
#[test]
fn a_template_that_changes_changes_what_is_made_from_it() {
    let grants = || vec![of("reader", grant(1, "ann", "wiki", None)), grant(2, "bob", "wiki", None)];
    let versions = [
        READER.to_owned(),
        format!("{READER}@id(\"other\") forbid(principal, action, resource is Tcp);"),
        READER.replace("http:read", "http:write"),
        "@id(\"other\") forbid(principal, action, resource is Tcp);".to_owned(),
        READER.to_owned(),
    ];
    let expected = [(true, false), (true, false), (false, true), (false, false), (true, false)];
    let mut engine = compile(PolicySource::default());
    for (text, (reads, writes)) in versions.iter().zip(expected) {
        engine = Engine::compile_after(with(text, grants()), &engine).expect("policies");
        let ann = facts("ann", &[]);
        let may = |action| ask(&engine, &ann, "wiki", action).is_ok();
        assert_eq!((may(HttpRead), may(HttpWrite)), (reads, writes), "{text}");
        assert!(ask(&engine, &facts("bob", &[]), "wiki", HttpWrite).is_ok(), "the built-in one is everything");
    }
}

#[test]
fn mistakes_in_templates_are_told_in_words() {
    let found = |text: &str| -> Vec<(String, String)> {
        check(&[file(text)]).into_iter().map(|it| (it.code.into_owned(), it.hint.unwrap_or_default())).collect()
    };
    let only = |text: &str, code: &str, hint: &str| {
        let all = found(text);
        let [(is, told)] = all.as_slice() else { panic!("{text}: {all:#?}") };
        assert!(is == code && told.contains(hint), "{text}: {is} {told}");
    };
    assert_eq!(found(READER), []);
    let template = |scope: &str, rest: &str| format!("@id(\"t\") permit ({scope}) {rest};");
    let whole = "principal == ?principal, action == Action::\"http:read\", resource == ?resource";
    for scope in [
        "principal == ?principal, action, resource",
        "principal, action, resource == ?resource",
        "principal in ?principal, action, resource == ?resource",
        "principal == ?principal, action, resource in ?resource",
        "principal == ?principal, action, resource is Http in ?resource",
        "principal == ?principal, action, resource == Http::\"wiki\"",
    ] {
        only(&template(scope, ""), "unfit_template", "principal == ?principal");
    }
    only(&format!("@id(\"t\") forbid ({whole});"), "unfit_template", "`unless`");
    only(&template(whole, "when { context.auth.age + 1 < 60 }"), "unfit_template", "constants");
    only(&template(whole, "when { context.request.port == 1 }"), "unknown_attribute", "net:connect");
    only(&template(whole, "when { User::\"bob\".name == \"bob\" }"), "named_entity", "principal ==");
    only(&template(&whole.replace("http:read", "http:raed"), ""), "unknown_action", "http:read");
    only(&format!("@id(\"t\") @template(\"reader\") permit ({whole});"), "unknown_annotation", "its `@id`");
    only(&format!("permit ({whole});"), "missing_id", "name it");
    only(&format!("{READER}@id(\"reader\") permit(principal, action, resource is Http);"), "duplicate_id", "own name");
    // Cedar lets slots stand in scopes alone.
    for condition in ["when { principal == ?principal }", "when { ?resource == resource }"] {
        let all = found(&template(whole, condition));
        assert!(all.iter().any(|(code, _)| code == "syntax"), "{condition}: {all:#?}");
    }
    let slot = found("@id(\"t\") permit (principal == ?user, action, resource == ?resource);");
    assert!(slot.iter().any(|(code, _)| code == "syntax"), "{slot:#?}");
    let many: String = (0..201).map(|at| READER.replace("\"reader\"", &format!("\"r{at}\""))).collect();
    only(&many, "too_many", "one template does for many");
}

#[test]
fn what_protects_policies_protects_templates() {
    let held = READER.replace("@reason", "@approval(\"two-person\") @reason");
    let wider = held.replace("\"http:read\"", "\"http:read\", Action::\"http:write\"");
    for (before, after) in [(held.as_str(), wider.as_str()), (READER, held.as_str()), (held.as_str(), "")] {
        let found = touched(&[file(before)], &[file(after)]).expect("readable");
        assert_eq!(found.iter().map(PolicyName::as_str).collect::<Vec<_>>(), ["reader"]);
    }
    assert_eq!(touched(&[file(&held)], &[file(&held)]).expect("readable"), []);
}

fn asked(who: &str, path: &str) -> Question {
    let detail = OwnedDetail::Http { method: "GET".into(), host: "wiki.vouchsafe.localhost".into(), path: path.into() };
    Question {
        facts: facts(who, &[]),
        resource: "wiki".into(),
        action: HttpRead,
        ip: ADDRESS,
        agreement: KeyAgreement::Other,
        detail,
    }
}

#[test]
fn an_explanation_names_template_and_grant_with_the_conditions() {
    let engine = compile(with(READER, vec![of("reader", grant(1, "ann", "wiki", None))]));
    let Explanation { decision, considered, .. } = explain(&engine, &asked("ann", "/private/x"), now());
    assert_eq!(
        (decision.reason.as_str(), decision.words.as_str()),
        ("condition_failed", "readers read, and not at /private")
    );
    let [one] = considered.as_slice() else { panic!("{considered:#?}") };
    assert!(one.id.is_of_grant() && one.file == "grants", "{one:?}");
    assert_eq!(one.template.as_ref().map(PolicyName::as_str), Some("reader"));
    assert!(one.conditions[0].text.contains("/private*"), "{one:?}");
    let allowed = explain(&engine, &asked("ann", "/a"), now());
    assert_eq!((allowed.decision.outcome.as_str(), allowed.considered[0].decides), ("allow", true));
}

#[test]
fn rights_and_differences_see_what_is_made_from_a_template() {
    let people =
        People { users: vec![user("ann"), user("bob")], members: std::collections::BTreeMap::<GroupName, _>::new() };
    let grants = || vec![of("reader", grant(1, "ann", "wiki", None))];
    let before = compile(with(READER, grants()));
    let can = before.who_can(HttpRead, &name("wiki"), &people, now()).expect("wiki").can;
    assert_eq!((can.len(), can[0].users.as_slice()), (1, [user("ann")].as_slice()));
    assert!(can[0].rights.ways[0].conditions.len() == 1 && can[0].rights.ways[0].policy.is_of_grant(), "{can:?}");
    assert!(before.who_can(HttpWrite, &name("wiki"), &people, now()).expect("wiki").can.is_empty());
    let after = compile(with(&READER.replace("http:read", "http:write"), grants()));
    let host = |_: &vouchsafe_model::name::ResourceName| "wiki.vouchsafe.localhost".to_owned();
    let found = difference(&before, &after, &people, &host as HostOf<'_>, now());
    let told: Vec<(usize, bool)> =
        found.changes.iter().map(|Change { count, gains, .. }| (*count, gains.is_some())).collect();
    assert_eq!(told, [(1, true), (1, false)], "{found:#?}");
}

/// What is proven is proven of policies; a template is none, and what is made from it is an exception.
#[test]
fn plain_policies_leave_templates_out() {
    let files = [PolicyFile {
        name: "a.cedar".into(),
        text: format!("{READER}@id(\"p\") permit(principal, action, resource is Http);"),
    }];
    let all = plain(&files, &vouchsafe_policy::in_turn).expect("policies");
    assert_eq!(all.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["p"]);
}
