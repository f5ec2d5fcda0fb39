//! A suggested policy gives what was used and nothing else, and an unused right is taken away and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{GroupName, ResourceName, UserName};
use vouchsafe_model::observed::{Observed, Source};
use vouchsafe_model::subject::Grade;
use vouchsafe_policy::{
    Engine, KeyAgreement, People, PolicyFile, PolicySource, PreparedSubject, Request, SuggestError, SuggestOptions,
    SuggestedFile, Suggestion, foresee, suggest, unused,
};

use crate::properties::{compile, detail, grants, resources, specs};
use crate::world::{ADDRESS, facts, file, name, now, printed, user, without_device};

const USERS: [&str; 6] = ["u0", "u1", "u2", "u3", "u4", "u5"];
const GROUPS: [&str; 4] = ["g0", "g1", "g2", "g3"];

fn never() -> bool {
    false
}

/// Random memberships; who isn't there any more is a member, too.
fn people() -> impl Strategy<Value = People> {
    let member = prop::sample::subsequence(vec!["u0", "u1", "u2", "u3", "u4", "u5", "left"], 0..=7);
    prop::collection::vec(member, GROUPS.len()).prop_map(|groups| People {
        users: USERS.map(user).into(),
        members: GROUPS
            .iter()
            .zip(groups)
            .map(|(group, members)| (GroupName::parse(group).expect("group"), members.into_iter().map(user).collect()))
            .collect(),
    })
}

fn seen(who: &str, of: &str, action: Action, count: u64, last: u64, grade: Option<Grade>) -> Observed {
    Observed {
        user: user(who),
        resource: name(of),
        action,
        count,
        first: last.min(1),
        last,
        grade,
        source: Source::Audit,
    }
}

fn observed() -> impl Strategy<Value = Vec<Observed>> {
    let one = (
        prop::sample::select(vec!["u0", "u1", "u2", "u3", "u4", "u5", "left"]),
        prop::sample::select(vec!["r0", "r1", "r2", "r3", "gone"]),
        prop::sample::select(vec![Action::HttpRead, Action::HttpWrite, Action::NetConnect]),
        1_u64..4,
        1_u64..100,
        prop::option::of(prop::sample::select(Grade::ALL.to_vec())),
    );
    let one = one.prop_map(|(who, of, action, count, last, grade)| seen(who, of, action, count, last, grade));
    // Often enough by everybody that groups stand for their members.
    let all = (prop::sample::select(vec!["r0", "r1", "r2"]), 2_u64..5).prop_map(|(of, count)| {
        let action = if of == "r2" { Action::NetConnect } else { Action::HttpRead };
        USERS[..5].iter().map(|who| seen(who, of, action, count, 50, None)).collect::<Vec<_>>()
    });
    (prop::collection::vec(one, 0..30), prop::collection::vec(all, 0..3))
        .prop_map(|(some, all)| some.into_iter().chain(all.into_iter().flatten()).collect())
}

fn drafted(files: &[SuggestedFile], with: Vec<PolicyFile>) -> Arc<Engine> {
    let files = files.iter().map(|file| PolicyFile { name: file.name.clone(), text: file.text.clone() });
    let source = PolicySource {
        version: 1,
        files: with.into_iter().chain(files).collect(),
        grants: Vec::new(),
        resources: resources(),
    };
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

type Right = (UserName, ResourceName, Action);

/// Everything that is allowed on an enrolled device of some grade, decided one by one.
fn allowed(engine: &Arc<Engine>, people: &People, grade: Grade) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for who in &people.users {
        let groups = people.members.iter().filter(|(_, members)| members.contains(who));
        let groups: Vec<&str> = groups.map(|(group, _)| group.as_str()).collect();
        let mut facts = facts(who.as_str(), &groups);
        match facts.device.as_mut() {
            Some(device) if grade != Grade::None => device.grade = grade,
            _ => facts = without_device(facts),
        }
        let subject = PreparedSubject::new(Arc::clone(engine), Arc::new(facts));
        for resource in resources() {
            for action in Action::ALL {
                let request = Request {
                    resource: &resource.name,
                    action: *action,
                    ip: ADDRESS,
                    agreement: KeyAgreement::Other,
                    detail: detail(*action).0,
                };
                if subject.decide(&request, now()).is_ok() {
                    found.insert((who.clone(), resource.name.clone(), *action));
                }
            }
        }
    }
    found
}

/// What was used, and how often, of what the directory knows.
fn used(people: &People, observed: &[Observed]) -> BTreeMap<Right, u64> {
    let mut used = BTreeMap::new();
    for one in observed {
        let there = people.users.contains(&one.user)
            && resources().iter().any(|it| it.name == one.resource && it.spec.kind().actions().contains(&one.action));
        if there {
            *used.entry((one.user.clone(), one.resource.clone(), one.action)).or_default() += one.count;
        }
    }
    used
}

fn asked(
    live: &Arc<Engine>,
    people: &People,
    observed: &[Observed],
    options: &SuggestOptions,
) -> Result<Suggestion, SuggestError> {
    suggest(live, people, observed, options, now(), &never)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn it_allows_all_that_is_kept_and_nothing_that_was_not_used(
        people in people(), observed in observed(), specs in specs(), rare in 1_u64..6
    ) {
        let live = compile(&specs, &[]);
        let options = SuggestOptions { rare, ..SuggestOptions::default() };
        let suggestion = asked(&live, &people, &observed, &options).expect("suggests");
        let draft = drafted(&suggestion.files, Vec::new());
        let all = used(&people, &observed);
        let kept: BTreeSet<Right> = all.iter().filter(|(_, count)| **count >= rare).map(|(right, _)| right.clone()).collect();
        // All kept, nothing rare, nothing that wasn't observed.
        prop_assert_eq!(&allowed(&draft, &people, Grade::Software), &kept);
        prop_assert!(allowed(&draft, &people, Grade::None).is_empty(), "a device is demanded");
        prop_assert!(suggestion.policies.iter().all(|policy| policy.beyond.is_empty()));

        let sum = |rights: &mut dyn Iterator<Item = u64>| rights.sum::<u64>();
        let coverage = suggestion.coverage;
        prop_assert_eq!(coverage.observed, sum(&mut observed.iter().map(|one| one.count)));
        prop_assert_eq!(coverage.kept, sum(&mut all.values().copied().filter(|count| *count >= rare)));
        prop_assert_eq!(coverage.rare, sum(&mut all.values().copied().filter(|count| *count < rare)));
        prop_assert_eq!(coverage.rare, sum(&mut suggestion.rare.iter().map(|one| one.count)));
        prop_assert_eq!(coverage.kept, coverage.allowed + coverage.without_device);
        prop_assert_eq!(suggestion.rights.suggested, kept.len());
        prop_assert_eq!(suggestion.rights.today + suggestion.rights.new, suggestion.rights.suggested + suggestion.rights.gone);
    }

    #[test]
    fn what_a_share_gives_beyond_is_told_and_comes_from_a_group_that_reaches_it(
        people in people(), observed in observed(), share in 1_u8..=100
    ) {
        let live = compile(&[], &[]);
        let options = SuggestOptions { rare: 1, share, without_device: true, ..SuggestOptions::default() };
        let suggestion = asked(&live, &people, &observed, &options).expect("suggests");
        let draft = drafted(&suggestion.files, Vec::new());
        let used = used(&people, &observed);
        let given = allowed(&draft, &people, Grade::Hardware);
        prop_assert!(used.keys().all(|right| given.contains(right)));
        prop_assert_eq!(suggestion.coverage.allowed, suggestion.coverage.kept, "where no device is demanded, all are");
        for (who, of, action) in given.iter().filter(|right| !used.contains_key(*right)) {
            let told = suggestion.policies.iter().any(|policy| {
                let members = policy.group.as_ref().and_then(|group| people.members.get(group));
                let active: Vec<_> = members.into_iter().flatten().filter(|who| people.users.contains(who)).collect();
                let did = active.iter().filter(|who| used.contains_key(&((**who).clone(), of.clone(), *action))).count();
                policy.resource == *of
                    && policy.actions.contains(action)
                    && policy.beyond.contains(who)
                    && did * 100 >= active.len() * usize::from(share)
            });
            prop_assert!(told, "{who} {of} {action}");
        }
    }

    #[test]
    fn what_is_unused_is_taken_away_and_nothing_else(
        people in people(), observed in observed(), specs in specs(), grants in grants(), since in 1_u64..100
    ) {
        let live = compile(&specs, &grants);
        let found = unused(&live, &people, &observed, None, since, now(), &never).expect("finds");
        let text: String = specs.iter().enumerate().map(|(number, spec)| spec.text(number)).collect();
        let draft = {
            let files = found.files.iter().map(|file| PolicyFile { name: file.name.clone(), text: file.text.clone() });
            let files = std::iter::once(file(&text)).chain(files).collect();
            let source = PolicySource { version: 1, files, grants: grants.clone(), resources: resources() };
            Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
        };
        let recent = |(who, of, action): &Right| {
            observed.iter().any(|one| one.user == *who && one.resource == *of && one.action == *action && one.last >= since)
        };
        let by_grants = |(who, of, action): &Right| {
            found.can.iter().any(|right| right.granted && right.users.contains(who) && right.resource == *of && right.actions.contains(action))
        };
        let console = ResourceName::console();
        for grade in [Grade::None, Grade::Hardware] {
            let before = allowed(&live, &people, grade);
            let meant: BTreeSet<Right> = before
                .into_iter()
                .filter(|right| right.1 == console || recent(right) || by_grants(right))
                .collect();
            prop_assert_eq!(allowed(&draft, &people, grade), meant);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_as_open_is_allowed_and_what_is_foreseen_as_denied_is_not(
        people in people(), observed in observed(), was in specs(), is in specs(), grants in grants()
    ) {
        let (before, after) = (compile(&was, &grants), compile(&is, &grants));
        let found = foresee(&before, &after, &people, &observed, now(), &never).expect("foresees");
        let under = |engine| Grade::ALL.map(|grade| (grade, allowed(engine, &people, grade)));
        let (was, is) = (under(&before), under(&after));
        // What is known of an access: on that grade, or on any that is proven.
        let on = |of: &[(Grade, BTreeSet<Right>); 4], one: &Observed| -> Vec<bool> {
            let right = (one.user.clone(), one.resource.clone(), one.action);
            let grades = of.iter().filter(|(grade, _)| one.grade.map_or(*grade != Grade::None, |known| known == *grade));
            grades.map(|(_, allowed)| allowed.contains(&right)).collect()
        };
        let there = used(&people, &observed);
        let known = |one: &&Observed| there.contains_key(&(one.user.clone(), one.resource.clone(), one.action));
        let (mut open, mut denied, mut already) = (0, 0, 0);
        for one in observed.iter().filter(known) {
            let concerned = found.concerned.iter().find(|each| {
                each.resource == one.resource
                    && each.action == one.action
                    && each.users.contains(&one.user)
                    && each.without_device == (one.grade == Some(Grade::None))
            });
            match concerned {
                None => {
                    open += one.count;
                    prop_assert!(on(&is, one).iter().all(|allowed| *allowed), "open: {one:?}");
                }
                Some(each) if each.denied => {
                    denied += one.count;
                    prop_assert!(!on(&is, one).iter().any(|allowed| *allowed), "denied: {one:?}");
                    if each.before.is_none() {
                        prop_assert!(!on(&was, one).iter().any(|allowed| *allowed), "denied before: {one:?}");
                        already += one.count;
                    }
                }
                Some(_) => {}
            }
        }
        prop_assert_eq!((found.open, found.denied), (open, denied));
        prop_assert!(found.denied_already >= already && found.denied_already <= denied);
        prop_assert_eq!(found.accesses, found.open + found.depends + found.denied);
        let left: u64 = found.left_out.iter().map(|left| left.access.count).sum();
        prop_assert_eq!(found.accesses + left, observed.iter().map(|one| one.count).sum::<u64>());
    }
}

#[test]
fn what_depends_is_told_with_on_what() {
    let text = r#"
@id("reads") permit (principal in Group::"sales", action == Action::"http:read", resource == Http::"r0");
@id("fresh") permit (principal == User::"u3", action == Action::"http:read", resource == Http::"r0")
  when { context.auth.age < 3600 };
"#;
    let source = PolicySource { version: 8, files: vec![file(text)], grants: Vec::new(), resources: resources() };
    let draft = Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)));
    let read = |who, count, grade| seen(who, "r0", Action::HttpRead, count, 90, grade);
    let observed = [
        read("u0", 5, None),
        read("u1", 3, Some(Grade::None)),
        read("u3", 2, None),
        read("u4", 7, None),
        read("left", 9, None),
        seen("u0", "r2", Action::NetConnect, 4, 90, None),
    ];
    let found = foresee(&live(), &draft, &company(), &observed, now(), &never).expect("foresees");
    assert_eq!((found.before, found.after, found.accesses), (7, 8, 21));
    assert_eq!((found.open, found.depends, found.denied, found.denied_already), (5, 2, 14, 7));
    let told: Vec<_> = found.concerned.iter().map(|one| (one.users[0].as_str(), one.accesses, one.denied)).collect();
    // What is lost stands before what was denied already, and that before what depends.
    assert_eq!(told, [("u4", 7, true), ("u1", 3, true), ("u0", 4, true), ("u3", 2, false)]);
    let words = found.concerned[3].after.as_ref().expect("rights").ways[0].demands();
    assert!(words.iter().any(|words| words.contains("signed in")), "{words:?}");
    assert_eq!(found.left_out[0].access.user, user("left"));
}

const LIVE: &str = r#"
@id("all-of-it") permit (principal, action, resource == Http::"r0");
@id("not-at-night") forbid (principal, action, resource == Http::"r0") when { context.auth.age > 100000 };
"#;

fn company() -> People {
    let group = |name: &str, members: &[&str]| {
        (GroupName::parse(name).expect("group"), members.iter().map(|it| user(it)).collect())
    };
    People {
        users: USERS.map(user).into(),
        members: BTreeMap::from([group("sales", &["u0", "u1", "u2", "left"]), group("alone", &["u3"])]),
    }
}

fn live() -> Arc<Engine> {
    let source = PolicySource { version: 7, files: vec![file(LIVE)], grants: Vec::new(), resources: resources() };
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)))
}

#[test]
fn a_suggestion_reads_well() {
    let read = |who, count| seen(who, "r0", Action::HttpRead, count, 1_795_219_200, Some(Grade::Hardware));
    let mut observed = vec![read("u0", 5), read("u1", 3), read("u2", 2), read("u3", 9), read("u4", 1)];
    observed.extend(
        ["u0", "u1", "u2"].map(|who| seen(who, "r0", Action::HttpWrite, 2, 1_795_219_200, Some(Grade::Hardware))),
    );
    observed.iter_mut().for_each(|one| one.first = 1_795_132_800);
    let options = SuggestOptions { demand_grade: true, ..SuggestOptions::default() };
    let suggestion = asked(&live(), &company(), &observed, &options).expect("suggests");
    assert_eq!(suggestion.files.len(), 1);
    let expected = r#"// Suggested by `vouchsafe policy suggest` for r0, from what was used. Read it before you publish it: what
// people did is not always what they should do. It takes the place of other permits of r0.

@id("suggested-r0-sales")
@reason("All 3 members of sales used r0 from 2026-11-20 to 2026-11-21, in 16 accesses.")
permit (
    principal in Group::"sales",
    action in [Action::"http:read", Action::"http:write"],
    resource == Http::"r0"
)
when {
    ["hardware", "hardware-attested"].contains(context.device.grade)
};

@id("suggested-r0-people")
@reason("One person used r0 from 2026-11-20 to 2026-11-21, in 9 accesses.")
permit (
    principal == User::"u3",
    action == Action::"http:read",
    resource == Http::"r0"
)
when {
    ["hardware", "hardware-attested"].contains(context.device.grade)
};

// Seldom: fewer than 2 accesses. Nobody has these rights yet; take the slashes away from those that are right.
//
// @id("seldom-r0-u4")
// @reason("One person used r0 from 2026-11-20 to 2026-11-21, in one access.")
// permit (
//     principal == User::"u4",
//     action == Action::"http:read",
//     resource == Http::"r0"
// );
"#;
    assert_eq!(suggestion.files[0].text, expected);
    let draft = drafted(&suggestion.files, Vec::new());
    assert_eq!(allowed(&draft, &company(), Grade::Software).len(), 0, "a hardware device is demanded");
    assert_eq!(allowed(&draft, &company(), Grade::HardwareAttested).len(), 7);
    // The comments are a policy once the slashes are away.
    let (_, seldom) = expected.split_once("//\n").expect("comments");
    let seldom: String = seldom.lines().map(|line| format!("{}\n", line.trim_start_matches("// "))).collect();
    let with = drafted(&suggestion.files, vec![file(&seldom)]);
    assert!(allowed(&with, &company(), Grade::Hardware).contains(&(user("u4"), name("r0"), Action::HttpRead)));

    let told: Vec<&str> = suggestion.replaces.iter().chain(&suggestion.keeps).map(|name| name.as_str()).collect();
    assert_eq!(told, ["all-of-it", "not-at-night"]);
    let unused: Vec<&str> = suggestion.unused.iter().map(ResourceName::as_str).collect();
    assert_eq!(unused, ["r1", "r2", "r3"]);
    let rights = suggestion.rights;
    assert_eq!((rights.today, rights.suggested, rights.gone, rights.new), (18, 7, 11, 0));
    let coverage = suggestion.coverage;
    assert_eq!((coverage.observed, coverage.kept, coverage.allowed, coverage.rare), (26, 25, 25, 1));
}

/// What took rights away before goes on doing so when others are taken away later.
#[test]
fn a_second_look_at_what_is_unused_comes_beside_the_first() {
    let read = |who: &str, last| seen(who, "r0", Action::HttpRead, 2, last, None);
    let source =
        |files: Vec<PolicyFile>| PolicySource { version: 7, files, grants: Vec::new(), resources: resources() };
    let of = |found: &[SuggestedFile]| -> Vec<PolicyFile> {
        found.iter().map(|file| PolicyFile { name: file.name.clone(), text: file.text.clone() }).collect()
    };
    let everybody = ["u0", "u1", "u2", "u3", "u4", "u5"];
    let all_but = |gone: &[&str], last| -> Vec<Observed> {
        everybody.iter().filter(|who| !gone.contains(who)).map(|who| read(who, last)).collect()
    };
    let first = unused(&live(), &company(), &all_but(&["u0"], 50), None, 10, now(), &never).expect("finds");
    let mut files = vec![file(LIVE)];
    files.extend(of(&first.files));
    let narrower = Engine::compile(source(files.clone())).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)));
    let later = now() + std::time::Duration::from_secs(86_400);
    let second = unused(&narrower, &company(), &all_but(&["u0", "u1"], 150), None, 100, later, &never).expect("finds");
    let names: BTreeSet<&str> = first.files.iter().chain(&second.files).map(|file| file.name.as_str()).collect();
    assert_eq!(names.len(), first.files.len() + second.files.len(), "no file takes the place of another: {names:?}");
    files.extend(of(&second.files));
    let narrowest = Engine::compile(source(files)).unwrap_or_else(|wrong| panic!("{}", printed(&wrong)));
    let reads: BTreeSet<UserName> = allowed(&narrowest, &company(), Grade::Hardware)
        .into_iter()
        .filter(|(_, of, action)| *of == name("r0") && *action == Action::HttpRead)
        .map(|(who, ..)| who)
        .collect();
    assert!(!reads.contains(&user("u0")) && !reads.contains(&user("u1")) && reads.contains(&user("u2")), "{reads:?}");
}

/// One access that went through two logs is one.
#[test]
fn what_two_logs_saw_of_one_access_is_still_rare() {
    let once = seen("u0", "r0", Action::HttpRead, 1, 5, None);
    let behind = Observed { source: Source::Nginx, ..once.clone() };
    let suggestion = asked(&live(), &company(), &[once, behind], &SuggestOptions::default()).expect("suggests");
    assert!(suggestion.policies.is_empty(), "{:?}", suggestion.policies);
    assert_eq!((suggestion.coverage.rare, suggestion.rare.len()), (2, 2));
}

#[test]
fn a_share_of_a_group_is_asked_for_and_told() {
    let read = |who| seen(who, "r0", Action::HttpRead, 4, 5, None);
    let observed = [read("u0"), read("u1")];
    let exact = asked(&live(), &company(), &observed, &SuggestOptions::default()).expect("suggests");
    assert!(exact.policies.iter().all(|policy| policy.group.is_none()), "not all of sales did");
    let options = SuggestOptions { share: 60, ..SuggestOptions::default() };
    let shared = asked(&live(), &company(), &observed, &options).expect("suggests");
    let [policy] = shared.policies.as_slice() else { panic!("{:?}", shared.policies) };
    assert_eq!((policy.users, policy.used, policy.beyond.as_slice()), (3, 2, [user("u2")].as_slice()));
    assert!(policy.reason.starts_with("2 of 3 members of sales used r0"), "{}", policy.reason);
    assert!(shared.files[0].text.contains("// Beyond what was used: u2.\n"), "{}", shared.files[0].text);
}

#[test]
fn it_gives_up_when_it_is_told_to_and_refuses_what_does_not_exist() {
    let nothing = SuggestOptions::default();
    let result = suggest(&live(), &company(), &[], &nothing, now(), &|| true);
    assert_eq!(result.expect_err("given up"), SuggestError::TooLong);
    for missing in [name("gone"), ResourceName::console()] {
        let options =
            SuggestOptions { resources: Some(BTreeSet::from([missing.clone()])), ..SuggestOptions::default() };
        assert_eq!(asked(&live(), &company(), &[], &options).expect_err("refused"), SuggestError::NoResource(missing));
    }
}
