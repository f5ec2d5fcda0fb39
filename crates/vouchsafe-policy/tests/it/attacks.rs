//! Attacks on the engine, by their numbers in the attack catalogue.

use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_policy::check;

use crate::world::{ask, engine, facts, file, without_device};

const GOOD: &str = "@id(\"good\") permit(principal, action, resource);";
const OVERFLOW: &str = "context.auth.age + 9223372036854775807 > 0";

#[test]
fn a317_a_permit_that_fails_beside_a_good_one_denies() {
    let engine = engine(&format!("{GOOD} @id(\"bad\") permit(principal, action, resource) when {{ {OVERFLOW} }};"));
    let decision = ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead).expect_err("denied");
    assert_eq!(decision.reason, Reason::PolicyError);
    assert_eq!(decision.policies[0].as_str(), "bad");
}

#[test]
fn a321_a_forbid_that_overflows_denies_instead_of_being_skipped() {
    let engine = engine(&format!("{GOOD} @id(\"risk\") forbid(principal, action, resource) when {{ {OVERFLOW} }};"));
    let decision = ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead).expect_err("denied");
    assert_eq!(decision.reason, Reason::PolicyError);
}

#[test]
fn a317_a_failing_permit_denies_even_where_it_would_not_count() {
    let engine = engine(&format!(
        "@id(\"open\") @device(\"none\") permit(principal, action, resource); @id(\"bad\") permit(principal, action, resource) when {{ {OVERFLOW} }};"
    ));
    assert_eq!(
        ask(&engine, &without_device(facts("ann", &[])), "wiki", Action::HttpRead).expect_err("denied").reason,
        Reason::PolicyError
    );
}

#[test]
fn an_error_elsewhere_closes_nothing_here() {
    let engine = engine(&format!(
        "{GOOD} @id(\"bad\") forbid(principal, action, resource == Http::\"erp\") when {{ {OVERFLOW} }};"
    ));
    assert!(ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead).is_ok());
    assert!(ask(&engine, &facts("ann", &[]), "erp", Action::HttpRead).is_err());
}

#[test]
fn a321_values_that_do_not_parse_are_found_before_they_are_published() {
    for bad in [
        "context.network.ip == ip(\"10.0.0.300\")",
        "context.time < datetime(\"tomorrow\")",
        "context.network.ip == ip(context.request.path)",
        "context.device.owner == principal",
        "principal.email like \"*\"",
        "principal has name && principal.nam == \"a\"",
    ] {
        let text = format!("@id(\"p\") permit(principal, action == Action::\"http:read\", resource) when {{ {bad} }};");
        assert!(check(&[file(&text)]).iter().any(vouchsafe_policy::Diagnostic::is_error), "{bad} was accepted");
    }
}

#[test]
fn a213_names_in_policies_are_only_ever_names() {
    let engine = engine(r#"@id("odd") permit(principal in Group::"x\" || true //", action, resource == Http::"*");"#);
    assert!(ask(&engine, &facts("ann", &["staff"]), "wiki", Action::HttpRead).is_err());
}

/// What exhausts the stack of a reader by recursion is a diagnostic; threads of 2 MiB as usual.
#[test]
fn deep_nesting_is_a_diagnostic_and_never_a_crash() {
    let of = |body: &str| format!("@id(\"p\") permit(principal, action, resource) when {{ {body} }};");
    let n = 10_000;
    let deep = [
        format!("{}true{}", "(".repeat(n), ")".repeat(n)),
        "(".repeat(n),
        format!("{}true", "!".repeat(n)),
        format!("{}1 == 1", "-".repeat(n)),
        format!("{}1{}", "[".repeat(n), "]".repeat(n)),
        format!("{}1{}", "{a: ".repeat(n), "}".repeat(n)),
        format!("{}true", "if true then true else ".repeat(n)),
        format!("true{}", " && true".repeat(n)),
        format!("1{} == 1", " + 1".repeat(n)),
        format!("context{}", ".a".repeat(n)),
        format!("context{}", "[\"a\"]".repeat(n)),
        format!("context has a{}", ".a".repeat(n)),
        format!("true{}", " && context.auth has age".repeat(n)),
    ];
    for body in deep {
        let found = check(&[file(&of(&body)), vouchsafe_policy::PolicyFile { name: "b".into(), text: of(&body) }]);
        assert!(found.iter().any(vouchsafe_policy::Diagnostic::is_error), "{:.60} was accepted", body);
    }
    assert!(!check(&[file(&"@id".repeat(n)), file(&"@id(\"a\")".repeat(n))]).is_empty());
}

/// The limits are far enough from the end of a stack of 2 MiB that all within them is safe, in a
/// debug build too. There Cedar's evaluator may give up earlier, which is a denial.
#[test]
fn what_is_within_the_limits_crashes_nothing() {
    let of = |body: &str| format!("@id(\"p\") permit(principal, action, resource) when {{ {body} }};\n");
    let bodies = [
        format!("{}true{}", "(".repeat(15), ")".repeat(15)),
        format!("{}true{}", "!(".repeat(15), ")".repeat(15)),
        format!("{}1{} == {}1{}", "[".repeat(15), "]".repeat(15), "[".repeat(15), "]".repeat(15)),
        format!("{}1{} == 1", "{a: ".repeat(15), "}".repeat(15)),
        format!("{}true", "if true then true else ".repeat(15)),
        format!("true{}", " && true".repeat(190)),
        format!("1{} == 1", " + 0".repeat(390)),
        format!("context{}", ".a".repeat(390)),
        format!("context{}", "[\"a\"]".repeat(390)),
        format!("context has a{}", ".a".repeat(390)),
        format!("[{}].contains(\"a\")", "\"a\",".repeat(50_000)),
        format!("true{}", " || (context.auth.age < 5 && !(principal in Group::\"a\"))".repeat(35)),
    ];
    for body in bodies {
        let text = of(&body);
        let run = move || {
            if check(&[file(&text)]).iter().all(|found| !found.is_error()) {
                let engine = engine(&text);
                let _ = ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead);
            }
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("thread").join().expect("no panic");
    }
}

#[test]
fn what_people_write_is_within_the_limits() {
    let engine = engine(
        "@id(\"p\") permit(principal, action == Action::\"http:read\", resource) when { if (((context.auth.age < 90) || (false))) then
           ([[\"GET\"], [\"HEAD\"]].contains([context.request.method]) && !(!(true)) && 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 == 36) else (false) };",
    );
    assert!(ask(&engine, &facts("ann", &[]), "wiki", Action::HttpRead).is_ok());
}
