//! `who-can` and `what-can` agree with the decision under any circumstances.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cedar_policy::{EvalResult, Expression, eval_expression};
use proptest::prelude::*;
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{GroupName, ResourceName};
use vouchsafe_model::subject::{Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{
    Engine, KeyAgreement, Limit, OnDevice, People, PreparedSubject, Request, Rights, Wanted, Way, WhatCan, WhoCan,
};

use crate::properties::{cedar, compile, detail, grants, specs};
use crate::world::{engine, facts, name, now, user};

pub(crate) const USERS: [(&str, &[&str]); 5] =
    [("u0", &["g0", "g1"]), ("u1", &["g1", "g2"]), ("u2", &["g2"]), ("u3", &["g2"]), ("u4", &[])];
const ASKED: [&str; 5] = ["r0", "r1", "r2", "r3", "console"];

pub(crate) fn people() -> People {
    let mut members: BTreeMap<GroupName, Vec<_>> = BTreeMap::new();
    for (who, groups) in USERS {
        for group in groups {
            members.entry(GroupName::parse(group).expect("group")).or_default().push(user(who));
        }
    }
    People { users: USERS.map(|(who, _)| user(who)).into(), members }
}

pub(crate) fn resource(of: &str) -> ResourceName {
    if of == "console" { ResourceName::console() } else { name(of) }
}

/// What a request can bring with it.
pub(crate) struct Circumstances {
    pub(crate) facts: SubjectFacts,
    pub(crate) at: SystemTime,
    pub(crate) ip: IpAddr,
    pub(crate) agreement: KeyAgreement,
}

/// Enough of them for each condition of `specs` to hold and not to hold, in each mixture that counts.
pub(crate) fn circumstances(who: &str, groups: &[&str]) -> Vec<Circumstances> {
    let on = |grade: Option<Grade>, owner: bool| {
        let mut facts = facts(who, groups);
        facts.device = facts.device.zip(grade).map(|(mut device, grade)| {
            device.grade = grade;
            device.owner = device.owner.filter(|_| owner);
            device
        });
        facts
    };
    let mut all = Vec::new();
    for (grade, owner) in [(None, false), (Some(Grade::Software), true), (Some(Grade::Hardware), false)] {
        for (age, seconds, ip, is_post_quantum) in [
            (0, 0, "10.2.3.4", true),
            (30, 31, "192.0.2.7", false),
            (31, 0, "10.2.3.4", false),
            (31, 0, "10.2.3.4", true),
            (100, 59, "10.2.3.4", false),
        ] {
            let at = now() + Duration::from_secs(seconds);
            let mut facts = on(grade, owner);
            facts.auth.at = at - Duration::from_secs(age);
            let (ip, agreement) = (ip.parse().expect("ip"), KeyAgreement::of(is_post_quantum));
            all.push(Circumstances { facts, at, ip, agreement });
        }
    }
    all
}

/// The subject of some circumstances, to be asked many things.
pub(crate) fn prepared(engine: &Arc<Engine>, given: &Circumstances) -> PreparedSubject {
    PreparedSubject::new(engine.clone(), Arc::new(given.facts.clone()))
}

pub(crate) fn allows(subject: &PreparedSubject, of: &str, action: Action, given: &Circumstances) -> bool {
    let of = resource(of);
    let request = Request { resource: &of, action, ip: given.ip, agreement: given.agreement, detail: detail(action).0 };
    subject.decide(&request, given.at).is_ok()
}

#[derive(Default)]
struct Reader {
    parsed: HashMap<String, Expression>,
}

impl Reader {
    /// Whether all conditions hold, asked one after the other as Cedar does; `None` when one can't be told.
    fn holds(&mut self, way: &Way, of: &str, action: Action, given: &Circumstances) -> Option<bool> {
        let (request, entities) = cedar(&given.facts, of, action, given.at, given.ip, given.agreement);
        for Limit { text, words } in &way.conditions {
            assert!(!words.is_empty());
            let expression = self.parsed.entry(text.clone()).or_insert_with(|| text.parse().expect(text));
            match eval_expression(&request, &entities, expression).ok()? {
                EvalResult::Bool(true) => {}
                EvalResult::Bool(false) => return Some(false),
                other => panic!("{other:?}"),
            }
        }
        Some(!way.enrolled_device || given.facts.device.is_some())
    }

    /// What an answer comes to, once the circumstances are there.
    fn comes_to(&mut self, rights: Option<&Rights>, of: &str, action: Action, given: &Circumstances) -> bool {
        let Some(Rights { ways, unless, may_fail }) = rights else { return false };
        assert!(!ways.is_empty());
        let mut holds = |way: &Way| self.holds(way, of, action, given);
        let works = may_fail.iter().all(|way| holds(way).is_some());
        works && ways.iter().any(|way| holds(way) == Some(true)) && unless.iter().all(|way| holds(way) == Some(false))
    }
}

fn of_user<'w>(answer: &'w WhoCan, who: &str) -> Option<&'w Rights> {
    answer.can.iter().find(|class| class.users.contains(&user(who))).map(|class| &class.rights)
}

fn of_resource<'w>(answer: &'w WhatCan, of: &str, action: Action) -> Option<&'w Rights> {
    let same = |open: &&vouchsafe_policy::Open| open.resource == of && open.actions.contains(&action.to_string());
    answer.can.iter().find(same).map(|open| &open.rights)
}

proptest! {
    // 16 as it is.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 16, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_comes_to_what_is_decided_under_any_circumstances(specs in specs(), grants in grants()) {
        let engine = compile(&specs, &grants);
        let people = people();
        let mut reader = Reader::default();
        for (who, groups) in USERS {
            let facts = facts(who, groups);
            let what = engine.what_can(&facts.user, &OnDevice::Any, now());
            // Grants and permits that end are told by their end; here they are asked about before it.
            let given: Vec<(Circumstances, WhatCan, PreparedSubject)> = circumstances(who, groups)
                .into_iter()
                .map(|given| {
                    let on = OnDevice::This(given.facts.device.clone());
                    let known = engine.what_can(&facts.user, &on, now());
                    let subject = prepared(&engine, &given);
                    (given, known, subject)
                })
                .collect();
            for of in ASKED {
                for action in Action::ALL {
                    let answer = engine.who_can(*action, &resource(of), &people, now()).expect("a resource");
                    let rights = of_user(&answer, who);
                    prop_assert_eq!(rights, of_resource(&what, of, *action), "{} {} {}", who, of, action);
                    if !engine.resource(&resource(of)).expect("there").spec.kind().actions().contains(action) {
                        prop_assert_eq!(rights, None);
                        continue;
                    }
                    for (given, known, subject) in &given {
                        let meant = allows(subject, of, *action, given);
                        prop_assert_eq!(reader.comes_to(rights, of, *action, given), meant, "{} {} {} {:?}", who, of, action, rights);
                        let known = of_resource(known, of, *action);
                        prop_assert_eq!(reader.comes_to(known, of, *action, given), meant, "{} {} {} {:?}", who, of, action, known);
                    }
                }
            }
        }
    }
}

const POLICY: &str = r#"
@id("staff") permit (principal in Group::"staff", action == Action::"http:read", resource == Http::"wiki");
@id("finance") permit (principal in Group::"finance", action in Action::"access", resource in ResourceGroup::"money")
when { context.auth.age < 900 && context.device.tags.contains("encrypted") };
@id("auditor") @device("none") permit (principal == User::"eve", action == Action::"http:read", resource);
@id("not-from-outside") forbid (principal, action, resource in ResourceGroup::"money")
unless { context.network.ip.isInRange(ip("10.0.0.0/8")) };
@id("leavers") forbid (principal in Group::"leavers", action, resource);
"#;

fn staff() -> People {
    let of = |names: &[&str]| names.iter().map(|name| user(name)).collect::<Vec<_>>();
    let group = |name: &str| GroupName::parse(name).expect("group");
    People {
        users: of(&["ann", "bob", "carl", "dan", "eve"]),
        members: BTreeMap::from([
            (group("staff"), of(&["ann", "bob", "carl"])),
            (group("finance"), of(&["bob"])),
            (group("leavers"), of(&["carl"])),
            (group("unread"), of(&["ann"])),
        ]),
    }
}

fn told(rights: &Rights) -> String {
    let way = |way: &Way| {
        let device = if way.enrolled_device { "; device" } else { "" };
        let words: Vec<&str> = way.conditions.iter().map(|limit| limit.words.as_str()).collect();
        format!("{}[{}{device}]", way.policy, words.join("; "))
    };
    let ways = |ways: &[Way]| ways.iter().map(way).collect::<Vec<_>>().join(" ");
    format!("{} | {}", ways(&rights.ways), ways(&rights.unless))
}

#[test]
fn who_can_names_policies_and_what_is_still_attached() {
    let engine = engine(POLICY);
    let ask = |action, of: &str| {
        let answer = engine.who_can(action, &name(of), &staff(), now()).expect("a resource");
        assert_eq!(answer.users, 5);
        let names = |users: &[vouchsafe_model::name::UserName]| {
            users.iter().map(|user| user.as_str().to_owned()).collect::<Vec<_>>().join(" ")
        };
        answer.can.iter().map(|class| format!("{}: {}", names(&class.users), told(&class.rights))).collect::<Vec<_>>()
    };
    assert_eq!(ask(Action::HttpRead, "wiki"), ["eve: auditor[] | ", "ann bob: staff[; device] | "]);
    assert_eq!(
        ask(Action::HttpRead, "erp"),
        [
            "eve: auditor[] | not-from-outside[not from 10.0.0.0/8]",
            "bob: finance[signed in within 15 min; on a device tagged `encrypted`; device] | not-from-outside[not from 10.0.0.0/8]"
        ]
    );
    assert_eq!(ask(Action::HttpUpgrade, "wiki"), [""; 0]);
    assert!(engine.who_can(Action::HttpRead, &name("gone"), &staff(), now()).is_none());
    let Wanted::Groups(groups) = engine.groups_about(&name("wiki")) else { panic!("some are enough") };
    let groups: BTreeSet<String> = groups.iter().map(ToString::to_string).collect();
    assert_eq!(groups, ["leavers", "staff"].map(str::to_owned).into());
}

#[test]
fn what_can_lists_a_users_resources_and_a_known_device_settles_its_conditions() {
    let engine = engine(POLICY);
    let bob = facts("bob", &["staff", "finance"]);
    let ask = |user: &UserFacts, on: &OnDevice| {
        let answer = engine.what_can(user, on, now());
        let line = |open: &vouchsafe_policy::Open| {
            format!("{} {}: {}", open.resource, open.actions.join(","), told(&open.rights))
        };
        answer.can.iter().map(line).collect::<Vec<_>>()
    };
    let outside = "not-from-outside[not from 10.0.0.0/8]";
    let on_any = ask(&bob.user, &OnDevice::Any);
    assert_eq!(on_any.len(), 3, "{on_any:?}");
    assert!(on_any[0].starts_with("erp http:read,http:write,http:upgrade: finance[signed in within 15 min; on a"));
    assert_eq!(on_any[2], "wiki http:read: staff[; device] | ");
    assert_eq!(ask(&bob.user, &OnDevice::This(bob.device.clone())), ["wiki http:read: staff[] | "], "not encrypted");
    let mut encrypted = bob.device.clone().expect("device");
    encrypted.tags.insert(vouchsafe_model::name::Tag::parse("encrypted").expect("tag"));
    assert_eq!(
        ask(&bob.user, &OnDevice::This(Some(encrypted))),
        [
            format!("erp http:read,http:write,http:upgrade: finance[signed in within 15 min] | {outside}"),
            format!("ledger net:connect: finance[signed in within 15 min] | {outside}"),
            "wiki http:read: staff[] | ".to_owned(),
        ]
    );
    assert_eq!(ask(&bob.user, &OnDevice::This(None)), [""; 0]);
    assert_eq!(ask(&facts("carl", &["staff", "leavers"]).user, &OnDevice::Any), [""; 0]);
}
