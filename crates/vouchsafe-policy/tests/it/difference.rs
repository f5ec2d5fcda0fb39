//! A difference tells every change there is, and none that there isn't.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{DeviceName, Tag};
use vouchsafe_model::subject::{Grade, SubjectFacts};
use vouchsafe_policy::{
    Change, Difference, Engine, Example, KeyAgreement, PreparedSubject, Request, Shift, difference,
};

use crate::properties::{compile, grants, specs};
use crate::rights::{USERS, allows, circumstances, people, prepared, resource};
use crate::world::{engine, facts, now, user};

fn between(before: &Engine, after: &Engine) -> Difference {
    difference(before, after, &people(), &|name| format!("{name}.vouchsafe.localhost"), now())
}

/// Whether the request of an example is allowed.
fn decided(engine: &Arc<Engine>, example: &Example) -> bool {
    let (_, groups) = USERS.iter().find(|(who, _)| *who == example.user.as_str()).expect("a user");
    let mut facts: SubjectFacts = facts(example.user.as_str(), groups);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(example.at);
    facts.auth.at = at - Duration::from_secs(example.auth_age);
    facts.expires = at + Duration::from_secs(60);
    facts.device = facts.device.filter(|_| example.grade != "none").map(|mut device| {
        device.grade = Grade::from_word(&example.grade).expect("a grade");
        device.owner = example.owner.clone();
        device.name = DeviceName::parse(example.device.as_deref().expect("named")).expect("name");
        device.tags = example.tags.iter().map(|tag| Tag::parse(tag).expect("tag")).collect();
        device
    });
    let (of, ip): (_, IpAddr) = (resource(&example.resource), example.ip);
    let action = example.action.parse().expect("an action");
    let request = Request {
        resource: &of,
        action,
        ip,
        agreement: KeyAgreement::of(example.post_quantum),
        detail: example.detail.as_detail(),
    };
    PreparedSubject::new(Arc::clone(engine), Arc::new(facts)).decide(&request, at).is_ok()
}

fn covering<'d>(found: &'d Difference, who: &str, of: &str, action: Action) -> Vec<&'d Change> {
    let covers = |change: &&Change| {
        change.users.contains(&user(who))
            && change.resources.iter().any(|each| each == of)
            && change.actions.contains(&action.to_string())
    };
    found.changes.iter().filter(covers).collect()
}

proptest! {
    // 8 as it is.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 32, ..ProptestConfig::default() })]

    #[test]
    fn every_change_is_told_and_every_change_told_is_one(
        stays in specs(), goes in specs(), comes in specs(), granted in grants(),
    ) {
        let some = |specs: &[_]| specs.iter().take(3).cloned().collect::<Vec<_>>();
        let before = compile(&[stays.clone(), some(&goes)].concat(), &granted);
        let after = compile(&[stays, some(&comes)].concat(), &granted);
        let found = between(&before, &after);
        for change in &found.changes {
            prop_assert_eq!(change.count, change.users.len());
            for (shift, was) in [(&change.gains, false), (&change.loses, true)] {
                let Some(Shift { example, grades }) = shift else { continue };
                prop_assert_eq!(decided(&before, example), was, "{:?}", example);
                prop_assert_eq!(decided(&after, example), !was, "{:?}", example);
                prop_assert!(grades.contains(&example.grade));
            }
        }
        for (who, groups) in USERS {
            for given in circumstances(who, groups) {
                let grade = given.facts.grade().to_string();
                let (old, new) = (prepared(&before, &given), prepared(&after, &given));
                for of in ["r0", "r1", "r2", "r3", "console"] {
                    let kind = after.resource(&resource(of)).expect("there").spec.kind();
                    for action in kind.actions() {
                        let (was, is) = (allows(&old, of, *action, &given), allows(&new, of, *action, &given));
                        let told = covering(&found, who, of, *action);
                        prop_assert!(told.len() <= 1);
                        let shift = told.first().map(|change| if is { &change.gains } else { &change.loses });
                        if was != is {
                            let grades = shift.and_then(|shift| shift.as_ref()).map(|shift| shift.grades.clone());
                            prop_assert!(grades.is_some_and(|grades| grades.contains(&grade)), "{} {} {} {} {:?}", who, of, action, grade, told);
                        }
                    }
                }
            }
        }
    }
}

fn lines(found: &Difference) -> Vec<String> {
    let grades = |sign: &str, shift: &Option<Shift>| {
        shift.as_ref().map(|shift| format!(" {sign}[{}]", shift.grades.join(" "))).unwrap_or_default()
    };
    let line = |change: &Change| {
        let users: Vec<&str> = change.users.iter().map(|user| user.as_str()).collect();
        format!(
            "{} {} {}{}{}",
            users.join(","),
            change.resources.join(","),
            change.actions.join(","),
            grades("+", &change.gains),
            grades("-", &change.loses)
        )
    };
    found.changes.iter().map(line).collect()
}

const WIKI: &str =
    "@id(\"wiki\") permit(principal in Group::\"g0\", action == Action::\"http:read\", resource == Http::\"wiki\")";

#[test]
fn a_change_is_told_by_people_devices_resources_and_actions() {
    let before = engine(&format!("{WIKI};"));
    assert_eq!(lines(&between(&before, &before)), [""; 0]);
    let stricter =
        engine(&format!("{WIKI} when {{ context.device.grade != \"software\" && context.auth.age < 600 }};"));
    let found = between(&before, &stricter);
    assert!(found.exact && found.loses() && !found.gains());
    assert_eq!(lines(&found), ["u0 wiki http:read -[software hardware hardware-attested]"]);
    let loses = found.changes[0].loses.as_ref().expect("something");
    assert_eq!((loses.example.grade.as_str(), loses.example.auth_age), ("software", 0));
    let words: Vec<&str> =
        found.changes[0].after.as_ref().expect("open").ways[0].conditions.iter().map(|it| it.words.as_str()).collect();
    assert_eq!(words, ["not on a device of grade software", "signed in within 10 min"]);
    assert_eq!(lines(&between(&stricter, &before)), ["u0 wiki http:read +[software hardware hardware-attested]"]);

    let quantum = engine(&format!("{WIKI} when {{ context.tls.post_quantum }};"));
    let found = between(&before, &quantum);
    assert!(found.exact && !found.gains());
    let loses = found.changes[0].loses.as_ref().expect("something");
    assert!(!loses.example.post_quantum, "{:?}", loses.example);
    let gained = between(&quantum, &before).changes[0].gains.as_ref().expect("something").example.to_string();
    assert!(!gained.contains("post-quantum"), "{gained}");
    let words = &found.changes[0].after.as_ref().expect("open").ways[0].conditions[0].words;
    assert_eq!(words, "on a connection with a post-quantum key agreement");
    let never = engine(&format!("{WIKI} when {{ context.auth.age < 0 }};"));
    let gained = between(&never, &quantum).changes[0].gains.as_ref().expect("something").example.to_string();
    assert!(gained.ends_with("key agreed on post-quantum"), "{gained}");

    let wider = engine(
        "@id(\"wiki\") @device(\"none\") permit(principal in Group::\"g2\", action in [Action::\"http:read\", Action::\"http:write\"], resource in ResourceGroup::\"intranet\");",
    );
    assert_eq!(
        lines(&between(&before, &wider)),
        [
            "u1,u2,u3 erp,wiki http:read,http:write +[none software hardware hardware-attested]",
            "u0 wiki http:read -[software hardware hardware-attested]",
        ]
    );
}

#[test]
fn a_policy_that_is_only_said_differently_changes_nothing() {
    let before = engine(&format!(
        "{WIKI} when {{ context.auth.age < 600 }} unless {{ context.request.path like \"/admin*\" }};"
    ));
    let after = engine(&format!(
        "{WIKI} when {{ context.auth.age <= 599 && !(context.request.path like \"/admin/*\") && !(context.request.path == \"/admin\") }} unless {{ context.request.path like \"/admin*\" }};"
    ));
    let found = between(&before, &after);
    assert_eq!((lines(&found).len(), found.exact), (0, true));
    let narrower =
        engine(&format!("{WIKI} when {{ context.auth.age < 600 }} unless {{ context.request.path like \"/a*\" }};"));
    let found = between(&before, &narrower);
    assert_eq!(lines(&found), ["u0 wiki http:read -[software hardware hardware-attested]"]);
}

#[test]
fn what_cannot_be_tried_wholly_is_said() {
    let before = engine(&format!("{WIKI};"));
    let after = engine(&format!("{WIKI} unless {{ context.request.path like \"*/secret/*\" }};"));
    let found = between(&before, &after);
    assert!(!found.exact && found.loses());
}
