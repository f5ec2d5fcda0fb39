//! Mistakes in policies: found all at once, at their place, with the next step.

use vouchsafe_policy::{Diagnostic, Engine, PolicyFile, PolicySource, Severity, check, default_policy, schema_text};

use crate::world::{engine, file, resources, source};

/// Code, line, column and hint of what is found in a text.
fn found(text: &str) -> Vec<(String, u32, u32, String)> {
    let tell = |each: Diagnostic| (each.code.into_owned(), each.line, each.column, each.hint.unwrap_or_default());
    check(&[file(text)]).into_iter().map(tell).collect()
}

/// The only thing found, with part of its hint.
fn only(text: &str, code: &str, line: u32, column: u32, hint: &str) {
    let all = found(text);
    let [(is, at, col, told)] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!((is.as_str(), *at, *col), (code, line, column), "{told}");
    assert!(told.contains(hint), "{told}");
}

#[test]
fn a_good_file_has_nothing_to_complain_about() {
    assert_eq!(found("// nothing yet\n"), []);
    assert_eq!(
        found(
            "@id(\"a\") @reason(\"Äußerst wichtig\") @advice(\"fix:disk-encryption\") @owner(\"ann\") @expires(\"2027-01-01T00:00:00Z\") permit(principal, action, resource);"
        ),
        []
    );
}

#[test]
fn unknown_words_get_the_nearest_known_one() {
    let permit = |rest: &str| format!("@id(\"a\")\npermit({rest};");
    only(
        &permit("principal, action == Action::\"http:raed\", resource)"),
        "unknown_action",
        2,
        29,
        "Action::\"http:read\"",
    );
    only(&permit("principal, action == Action::\"ssh:shell\", resource)"), "unknown_action", 2, 29, "console:write");
    only(&permit("principal, action, resource == Htp::\"wiki\")"), "unknown_entity_type", 2, 39, "`Http`");
    only(&permit("principal, action, resource) when { principal.nam == \"a\" }"), "unknown_attribute", 2, 44, "`name`");
    only(
        &permit("principal, action, resource) when { context.auth.ag < 3 }"),
        "unknown_attribute",
        2,
        44,
        "context.auth.age",
    );
    only("@id(\"a\")\n@reson(\"x\") permit(principal, action, resource);", "unknown_annotation", 2, 1, "`@reason`");
    only("@id(\"a\")\npermti(principal, action, resource);", "syntax", 2, 1, "`permit`");
}

#[test]
fn what_only_some_actions_have_gets_the_hint_to_name_them() {
    let text = |condition: &str| format!("@id(\"a\") permit(principal, action, resource) when {{ {condition} }};");
    only(&text("context.request.path == \"/\""), "unknown_attribute", 1, 53, "action in [Action::\"http:read\"");
    only(&text("context.request.port == 1"), "unknown_attribute", 1, 53, "action in [Action::\"net:connect\"]");
    only(&text("context.request.operation == \"\""), "unknown_attribute", 1, 53, "action in [Action::\"console:read\"");
    assert_eq!(
        found("@id(\"a\") permit(principal, action, resource is Http) when { context.request.path == \"/\" };"),
        []
    );
}

#[test]
fn an_optional_attribute_has_to_be_asked_for() {
    let text = "@id(\"a\") permit(principal, action, resource) when { context.device.owner == principal };";
    only(text, "optional_attribute", 1, 53, "`context.device has owner && …`");
}

/// Facts about a subject hold no groups of others, so the test would be false and the forbid open.
#[test]
fn the_groups_of_an_owner_can_not_be_asked_for() {
    for test in [
        "context.device.owner in Group::\"x\"",
        "context.device.owner is User in Group::\"x\"",
        "!(context.device[\"owner\"] in [Group::\"x\"])",
        "context.device[\"\\u{6f}wner\"] in Group::\"x\"",
    ] {
        let text =
            format!("@id(\"a\") forbid(principal, action, resource) when {{ context.device has owner && {test} }};");
        only(&text, "owner_groups", 1, 1, "== principal");
    }
}

/// A request brings no other entities than its own, so such a condition would be about nothing: true or false by
/// who asks, and a proof about it would prove nothing.
#[test]
fn nothing_is_read_of_an_entity_that_a_policy_names() {
    for condition in [
        "User::\"bob\" has name",
        "Http::\"ledger\".sensitivity < 2",
        "Device::\"x\".tags.contains(\"y\")",
        "Device::\"x\" has owner.name",
        "(if context.auth.age > 5 then User::\"bob\" else User::\"ann\").name == \"bob\"",
        "{who: User::\"bob\"}.who.name == \"bob\"",
        "!(User::\"bob\" has name) || context.auth.age > 5",
    ] {
        for when in ["when", "unless"] {
            let text = format!("@id(\"a\") forbid(principal, action, resource is Http) {when} {{ {condition} }};");
            let found = check(&[file(&text)]);
            assert!(found.iter().any(|one| one.code == "named_entity" && one.is_error()), "{text}: {found:?}");
        }
    }
    for condition in [
        "principal == User::\"bob\" && resource.sensitivity < 2",
        "principal in Group::\"staff\" && context.device.grade == \"hardware\"",
        "[Http::\"a\", Http::\"b\"].contains(resource)",
        "context.device has owner && context.device.owner == principal && context.device.owner == User::\"bob\"",
    ] {
        let text = format!("@id(\"a\") forbid(principal is User, action, resource is Http) when {{ {condition} }};");
        let found = check(&[file(&text)]);
        assert!(!found.iter().any(|one| one.code == "named_entity"), "{text}: {found:?}");
    }
}

#[test]
fn every_policy_has_an_id_of_its_own() {
    only("\n\n  permit(principal, action, resource);", "missing_id", 3, 3, "@id(");
    only("@id(\"Ä b\") permit(principal, action, resource);", "invalid_id", 1, 1, "a-z");
    only("@id permit(principal, action, resource);", "invalid_id", 1, 1, "a-z");
    only("@id(\"grt_1\") permit(principal, action, resource);", "invalid_id", 1, 1, "another");
    let other =
        PolicyFile { name: "other.cedar".into(), text: "\n@id(\"a\") permit(principal, action, resource);".into() };
    let all = check(&[file("@id(\"a\") permit(principal, action, resource);"), other]);
    assert_eq!(
        (all.len(), all[0].code.as_ref(), all[0].file.as_str(), all[0].line),
        (1, "duplicate_id", "other.cedar", 2)
    );
    assert!(all[0].hint.as_deref().is_some_and(|hint| hint.contains("test.cedar:1:1")));
}

#[test]
fn annotations_have_their_rules() {
    let with = |annotation: &str| format!("@id(\"a\") {annotation} permit(principal, action, resource);");
    only(&with("@advice(\"stepup\")"), "invalid_advice", 1, 10, "`step-up`");
    only(&with("@advice(\"fix:\")"), "invalid_advice", 1, 10, "enrol-device");
    only(&with("@expires(\"2027-01-01\")"), "invalid_expires", 1, 10, "RFC 3339");
    only(&with("@device(\"any\")"), "invalid_device", 1, 10, "grade");
    only(&with("@approval(\"two\")"), "invalid_approval", 1, 10, "leave it out");
    only(&with("@aproval(\"two-person\")"), "unknown_annotation", 1, 10, "`@approval`");
    only(&with("@reason(\"\")"), "invalid_words", 1, 10, "");
    only(&with("@reason(\"a\\nb\")"), "invalid_words", 1, 10, "");
    only("@id(\"a\") @device(\"none\") forbid(principal, action, resource);", "invalid_device", 1, 10, "take it out");
    only(
        "@id(\"a\") @expires(\"2027-01-01T00:00:00Z\") forbid(principal, action, resource);",
        "expires_on_forbid",
        1,
        10,
        "remove",
    );
    assert!(found(&with("@owner(\"a\") @owner(\"b\")")).iter().any(|(code, ..)| code == "syntax"));
}

#[test]
fn syntax_mistakes_say_what_is_missing() {
    only("@id(\"a\") permit(principal, action, resource)", "syntax", 1, 45, "`;`");
    only("@id(\"a\") permit(principal, action, resource)\npermit(principal, action, resource);", "syntax", 2, 7, "`;`");
    only("@id(\"a\") permit(principal, action, resource) when { (true };", "syntax", 1, 59, "`)`");
    only("@id(\"a\") permit(principal == ?principal, action, resource);", "unfit_template", 1, 1, "?resource");
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once_and_in_order() {
    let one = file(
        "permti(principal, action, resource);\n@id(\"ok\") permit(principal, action, resource);\n@id(\"x\") permit(principal, action, resource is Htp);",
    );
    let two = PolicyFile {
        name: "two".into(),
        text: "permit(principal, action, resource);\n@id(\"y\") @advice(\"z\") permit(principal, action, resource"
            .into(),
    };
    let all: Vec<_> =
        check(&[one, two]).into_iter().map(|each| (each.file, each.line, each.code.into_owned())).collect();
    let told: Vec<_> = all.iter().map(|(file, line, code)| (file.as_str(), *line, code.as_str())).collect();
    assert_eq!(
        told,
        [
            ("test.cedar", 1, "syntax"),
            ("test.cedar", 3, "unknown_entity_type"),
            ("two", 1, "missing_id"),
            ("two", 2, "syntax")
        ]
    );
}

#[test]
fn a_policy_that_can_do_nothing_is_doubted_once() {
    for text in [
        "permit(principal, action == Action::\"net:connect\", resource is Http);",
        "permit(principal, action, resource) when { false };",
    ] {
        let all = check(&[file(&format!("@id(\"a\") {text}"))]);
        assert_eq!((all.len(), all[0].severity, all[0].code.as_ref()), (1, Severity::Warning, "never_applies"));
    }
}

#[test]
fn a_policy_about_nothing_that_exists_is_doubted_at_compile() {
    let engine = engine(
        "@id(\"a\") permit(principal, action, resource == Http::\"wikki\");\n@id(\"b\") permit(principal, action, resource in ResourceGroup::\"monei\"); @id(\"c\") permit(principal, action, resource == Tcp::\"wiki\");",
    );
    let told: Vec<_> =
        engine.warnings().iter().map(|each| (each.code.as_ref(), each.line, each.hint.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("unknown_resource", 1, Some("did you mean `Http::\"wiki\"`?")),
            ("unknown_resource", 2, Some("did you mean `ResourceGroup::\"money\"`?")),
            ("unknown_resource", 2, None),
        ]
    );
}

#[test]
fn i8_what_has_an_error_can_not_be_compiled() {
    let wrong = Engine::compile(source("@id(\"a\") permit(principal, action, resource) when { principal.nam == 1 };"))
        .expect_err("refused");
    assert!(wrong.iter().any(Diagnostic::is_error));
    let warned = PolicySource {
        version: 1,
        files: vec![file("@id(\"a\") permit(principal, action, resource) when { false };")],
        grants: vec![],
        resources: resources(),
    };
    assert_eq!(Engine::compile(warned).expect("compiles").warnings().len(), 1);
}

#[test]
fn too_many_policies_are_refused_before_they_are_read() {
    let text = "@id(\"p\") permit(principal, action, resource);\n".repeat(11_000);
    let files = [file(&text), PolicyFile { name: "second".into(), text }];
    let all = check(&files);
    assert_eq!((all.len(), all[0].code.as_ref(), all[0].file.as_str(), all[0].line), (1, "too_many", "second", 9_001));
}

#[test]
fn of_very_many_mistakes_some_are_shown() {
    let all = check(&[file(&"a;\n".repeat(5_000))]);
    assert_eq!((all.len(), all[1_000].code.as_ref(), all[1_000].is_error()), (1_001, "too_many_mistakes", true));
}

/// What is not shown can't be hidden behind warnings.
#[test]
fn i8_an_error_behind_many_warnings_still_refuses() {
    let mut text: String = (0..1_001)
        .map(|number| format!("@id(\"p{number}\") permit(principal, action, resource) when {{ false }};\n"))
        .collect();
    text.push_str("@id(\"last\") @advice(\"nonsense\") permit(principal, action, resource);");
    assert!(Engine::compile(source(&text)).is_err());
}

#[test]
fn two_files_of_one_name_are_refused() {
    let all = check(&[default_policy(), PolicyFile { text: String::new(), ..default_policy() }]);
    assert_eq!(all[0].code, "duplicate_file");
}

#[test]
fn a_diagnostic_travels_as_json() {
    let all = check(&[file("@id(\"a\") permit(principal, action, resource) when { context.auth.ag < 3 };")]);
    let json = serde_json::to_string(&all).expect("json");
    assert_eq!(serde_json::from_str::<Vec<Diagnostic>>(&json).expect("diagnostics"), all);
    assert!(json.contains(r#""severity":"error","code":"unknown_attribute""#));
}

#[test]
fn the_schema_is_printed_with_its_comments() {
    assert!(schema_text().starts_with("//") && schema_text().contains("entity Http in [ResourceGroup]"));
}

/// The examples of the reference are policies, and good ones.
#[test]
fn the_examples_of_the_reference_have_nothing_to_complain_about() {
    let reference = include_str!("../../../../docs/reference/policy.md");
    let text: String = reference.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let found = check(&[file(&text)]);
    assert_eq!((text.matches("@id").count(), found.len()), (7, 0), "{}", crate::world::printed(&found));
}

/// Policies are validated together where the validator can't tell them apart; what it says has to be
/// what it says of each alone.
#[test]
fn what_is_told_of_many_policies_is_what_is_told_of_each_alone() {
    let principals = [
        "principal",
        "principal is User",
        "principal == User::\"ann\"",
        "principal == User::\"bob\"",
        "principal == User::\"~ !#[{|}'\"",
        // Latin letters with a Cyrillic one among them, and one that turns text around.
        "principal == User::\"\u{430}nn\"",
        "principal == User::\"\\u{430}nn\"",
        "principal == User::\"tab\\tular\"",
        "principal in Group::\"a\"",
        "principal in Group::\"b\"",
        "principal in Grup::\"a\"",
        "principal is User in Group::\"a\"",
        "principal is User in Group::\"b\"",
        "principal is Workload in Group::\"b\"",
        "principal == Action::\"http:read\"",
        "principal == Action::\"http:raed\"",
        "principal == Console::\"console\"",
    ];
    let actions =
        ["action", "action == Action::\"http:read\"", "action in [Action::\"http:read\", Action::\"net:connect\"]"];
    let resources = [
        "resource",
        "resource == Http::\"wiki\"",
        "resource == Http::\"other\"",
        "resource == Tcp::\"wiki\"",
        "resource == Console::\"console\"",
        "resource in ResourceGroup::\"a\"",
        "resource is Http in ResourceGroup::\"b\"",
    ];
    let conditions = [
        "",
        " when { context.auth.age < 5 }",
        " unless { context.auth.age < 5 }",
        " when { context.request.path like \"/a*\" }",
        " when { context.auth.age < \"5\" }",
        " when { principal == User::\"ann\" && resource in ResourceGroup::\"a\" }",
        " when { principal.nam == \"p\u{430}th\" }",
        " when { false }",
    ];
    let mut policies = Vec::new();
    for principal in principals {
        for (nth, action) in actions.into_iter().enumerate() {
            for (of, resource) in resources.into_iter().enumerate() {
                let effect = if of % 2 == 0 { "permit" } else { "forbid" };
                // Not all combinations, but each with all the principals that it can be confused with.
                for condition in conditions.into_iter().skip((nth + of) % 4).step_by(4) {
                    policies.push(format!("{effect}({principal}, {action}, {resource}){condition};"));
                }
            }
        }
    }
    // Where a mistake is one for both kinds of principal, Cedar tells of either.
    let told_of = |each: Diagnostic| {
        let message = each.message.replace("`Workload`", "`User`");
        (each.code.into_owned(), message, each.column, each.hint)
    };
    let with_id = |at: usize, policy: &str| format!("@id(\"p{at}\") {policy}\n");
    let mut together: std::collections::BTreeMap<u32, Vec<(String, String, u32, Option<String>)>> = Default::default();
    let mut told = 0;
    for (from, some) in policies.chunks(150).enumerate() {
        let text: String = some.iter().enumerate().map(|(at, policy)| with_id(at, policy)).collect();
        together.clear();
        for each in check(&[file(&text)]) {
            together.entry(each.line).or_default().push(told_of(each));
        }
        for (at, policy) in some.iter().enumerate() {
            let alone: Vec<_> = check(&[file(&with_id(at, policy))]).into_iter().map(told_of).collect();
            let line = u32::try_from(at + 1).expect("few");
            told += usize::from(!alone.is_empty());
            assert_eq!(together.remove(&line).unwrap_or_default(), alone, "{policy} of chunk {from}");
        }
        assert!(together.is_empty(), "{together:?}");
    }
    assert!(told * 10 > policies.len() && told * 10 < policies.len() * 9, "{told} of {}", policies.len());
}

#[test]
fn thousands_of_policies_are_read_alike_however_the_work_is_spread() {
    let policy = |at: usize| {
        let condition = if at % 97 == 5 { "context.auth.agee < 3" } else { "context.auth.age < 3" };
        let end = if at % 101 == 7 { "" } else { ")" };
        format!("@id(\"p{at}\") permit(principal in Group::\"g{at}\", action, resource{end} when {{ {condition} }};\n")
    };
    let files = [file(&(0..700).map(policy).collect::<String>())];
    let backwards: vouchsafe_policy::Spread<'_> = &|work: Vec<vouchsafe_policy::Work<'_>>| {
        work.into_iter().rev().for_each(|each| each());
    };
    let told = check(&files);
    assert_eq!(told.len(), 7 + 8, "{told:#?}");
    assert_eq!(vouchsafe_policy::check_spread(&files, None, backwards), told);
    let lazy: vouchsafe_policy::Spread<'_> = &|_| {};
    let told = vouchsafe_policy::check_spread(&files, None, lazy);
    assert!(told.iter().any(|each| each.severity == Severity::Error && each.code == "internal"), "{told:#?}");
}
