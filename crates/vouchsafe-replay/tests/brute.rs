//! Issue 5, bars: a simulation agrees with brute force on random policies and records.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but does not see that helpers of an integration test are tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Decision, Outcome, Reason};
use vouchsafe_model::id::{DeviceId, SessionId, UserId};
use vouchsafe_model::mode::Mode;
use vouchsafe_model::name::{DeviceName, GroupName, ResourceName, Tag, UserName};
use vouchsafe_model::resource::{Endpoint, HttpSpec, Resource, ResourceSpec, Sensitivity, TcpSpec, UpstreamScheme};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{Detail, Engine, KeyAgreement, PolicyFile, PolicySource, PreparedSubject, Request};
use vouchsafe_replay::{Against, Looked, Recorded, Replay, Simulated, Tally, Turn};
use vouchsafe_wire::audit::{FORMER_FORMAT, Kind, Record};

/// 2026-11-21T00:00:00Z.
fn midnight() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_219_200)
}

fn resources() -> Vec<Resource> {
    let endpoint = || Endpoint::parse("127.0.0.1:8080").expect("endpoint");
    let of = |name: &str, spec| Resource {
        name: ResourceName::parse(name).expect("name"),
        spec,
        groups: BTreeSet::new(),
        tags: BTreeSet::new(),
        sensitivity: Sensitivity::Internal,
        offline_grace: Duration::ZERO,
        via: None,
        description: String::new(),
        mode: Mode::Enforce,
    };
    let http = || ResourceSpec::Http(HttpSpec::new(UpstreamScheme::Http, endpoint()));
    vec![
        of("wiki", http()),
        of("erp", http()),
        of("ledger", ResourceSpec::Tcp(TcpSpec { upstream: endpoint(), port: 5_432 })),
    ]
}

fn engine(version: u64, policies: &[&str]) -> Arc<Engine> {
    let text: String = policies.iter().enumerate().map(|(at, text)| format!("@id(\"p{at}\") {text};\n")).collect();
    let files = vec![PolicyFile { name: "a.cedar".into(), text }];
    Engine::compile(PolicySource { version, files, grants: Vec::new(), resources: resources() }).expect("compiles")
}

fn policies() -> impl Strategy<Value = Vec<&'static str>> {
    let one = prop::sample::select(vec![
        "permit(principal, action, resource)",
        "permit(principal in Group::\"g0\", action, resource is Http)",
        "permit(principal in Group::\"g1\", action == Action::\"http:read\", resource is Http)",
        "permit(principal == User::\"u1\", action == Action::\"net:connect\", resource)",
        "permit(principal, action == Action::\"http:read\", resource == Http::\"wiki\") when { context.auth.age < 100 }",
        "permit(principal, action, resource is Http) when { context.device.tags.contains(\"managed\") }",
        "permit(principal, action == Action::\"http:read\", resource) when { context.request.path like \"/a/*\" }",
        "forbid(principal, action, resource) when { context.device has owner && context.device.owner != principal }",
        "forbid(principal, action, resource is Http) when { context.time > datetime(\"2026-11-21T00:00:30Z\") }",
        "forbid(principal == User::\"u2\", action, resource)",
    ]);
    prop::collection::vec(one, 0..5)
}

/// A request to be recorded.
#[derive(Debug, Clone)]
struct Asked {
    facts: SubjectFacts,
    resource: &'static str,
    action: Action,
    path: &'static str,
    after_us: u64,
    /// What becomes of the record: 0 as it is, 1 of the former format, 2 of nobody, 3 of a resource that is gone, 4 passed by
    /// a mode if it was denied, 5 of nobody and passed.
    fate: u8,
}

fn asked() -> impl Strategy<Value = Asked> {
    let who = (0..3_u8, prop::sample::subsequence(vec!["g0", "g1"], 0..=2), any::<bool>(), any::<bool>(), 0..3_u64);
    let what = prop::sample::select(vec![
        ("wiki", Action::HttpRead),
        ("wiki", Action::HttpWrite),
        ("erp", Action::HttpRead),
        ("ledger", Action::NetConnect),
    ]);
    let path = prop::sample::select(vec!["/", "/a/b"]);
    (who, what, path, 0_u64..60_000_000, 0..9_u8).prop_map(
        |((user, groups, has_device, own, sign_in), (resource, action), path, after_us, fate)| {
            let name = UserName::parse(&format!("u{user}")).expect("name");
            let device = has_device.then(|| DeviceFacts {
                id: DeviceId::from_random([user; 16]),
                name: DeviceName::parse("laptop").expect("name"),
                grade: Grade::Software,
                owner: Some(if own { name.clone() } else { UserName::parse("ann").expect("name") }),
                tags: if own { BTreeSet::from([Tag::parse("managed").expect("tag")]) } else { BTreeSet::new() },
            });
            let groups = groups.into_iter().map(|group| GroupName::parse(group).expect("name")).collect();
            let facts = SubjectFacts {
                // Sessions that are not one subject's all along, too.
                session: SessionId::from_random([user; 16]),
                user: UserFacts { id: UserId::from_random([user; 16]), name, groups },
                device,
                auth: AuthFacts {
                    methods: BTreeSet::from([AuthMethod::Passkey]),
                    at: midnight() - Duration::from_secs(sign_in * 60),
                },
                expires: midnight() + Duration::from_secs(3_600),
                epoch: Epoch(5),
            };
            Asked { facts, resource, action, path, after_us, fate }
        },
    )
}

impl Asked {
    fn decide(&self, engine: &Arc<Engine>) -> Decision {
        let resource = ResourceName::parse(self.resource).expect("name");
        let detail = match self.action {
            Action::NetConnect => Detail::Net { port: 5_432 },
            _ => Detail::Http { method: "GET", host: "h.corp", path: self.path },
        };
        let request = Request {
            resource: &resource,
            action: self.action,
            ip: [10, 0, 0, 1].into(),
            agreement: KeyAgreement::Other,
            detail,
        };
        let subject = PreparedSubject::new(Arc::clone(engine), Arc::new(self.facts.clone()));
        match subject.decide(&request, midnight() + Duration::from_micros(self.after_us)) {
            Ok(permit) => permit.decision().clone(),
            Err(denial) => denial,
        }
    }

    /// Written by hand, not by the gateway's code.
    fn record(&self, seq: u64, engine: &Arc<Engine>) -> Record {
        let decision = self.decide(engine);
        let micros =
            |at: SystemTime| u64::try_from(at.duration_since(UNIX_EPOCH).expect("after").as_micros()).expect("fits");
        let mut record = Record::new(Kind::Decision, micros(midnight()) + self.after_us);
        let text = |text: &dyn ToString| Some(text.to_string());
        record.seq = seq;
        record.id = Some(format!("dec_{seq}"));
        record.source = "gtw_x".into();
        record.action = text(&self.action);
        record.resource = text(&self.resource);
        record.ip = text(&"10.0.0.1");
        match self.action {
            Action::NetConnect => record.port = Some(5_432),
            _ => (record.method, record.host, record.path) = (text(&"GET"), text(&"h.corp"), text(&self.path)),
        }
        record.outcome = text(&decision.outcome);
        record.reason = text(&decision.reason);
        record.policies = decision.policies.iter().map(ToString::to_string).collect();
        if self.fate == 2 || self.fate == 5 {
            record.outcome = text(&Outcome::Deny);
            record.reason = text(&Reason::SignInRequired);
            record.policies = Vec::new();
            record.passed = (self.fate == 5).then(|| "observe".to_owned());
            return record;
        }
        record.user = text(&self.facts.user.name);
        record.groups = self.facts.user.groups.iter().map(ToString::to_string).collect();
        record.session = text(&self.facts.session);
        record.epoch = Some(self.facts.epoch.0);
        record.grade = text(&self.facts.grade());
        record.auth_methods = vec!["passkey".into()];
        record.auth_time_us = Some(micros(self.facts.auth.at));
        if let Some(device) = &self.facts.device {
            record.device = text(&device.id);
            record.device_name = text(&device.name);
            record.device_owner = device.owner.as_ref().map(ToString::to_string);
            record.device_tags = device.tags.iter().map(ToString::to_string).collect();
        }
        match self.fate {
            1 => {
                (record.v, record.device_name, record.device_owner) = (FORMER_FORMAT, None, None);
                record.device_tags.clear();
            }
            3 => record.resource = text(&"gone"),
            4 if decision.outcome == Outcome::Deny => record.passed = Some("warn".into()),
            _ => {}
        }
        record
    }
}

/// One request after the other, each on its own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Brute {
    skipped: BTreeMap<&'static str, u64>,
    was: [u64; 3],
    nobody: u64,
    covered: u64,
    /// By turn, user, resource and action: requests, and how many are decided so already.
    changed: BTreeMap<(Turn, String, String, String, String), (u64, u64)>,
}

fn brute(
    all: &[Asked],
    recorded: &Arc<Engine>,
    after: &Arc<Engine>,
    in_force: &Arc<Engine>,
    before: Option<&Arc<Engine>>,
) -> Brute {
    let mut brute = Brute::default();
    for asked in all {
        let why = match asked.fate {
            1 => Some("former_format"),
            2 | 5 => Some("no_policy_asked"),
            3 => Some("resource_gone"),
            _ => None,
        };
        if let Some(why) = why {
            *brute.skipped.entry(why).or_default() += 1;
            brute.nobody += u64::from(asked.fate == 5);
            continue;
        }
        let allows = |engine: &Arc<Engine>| asked.decide(engine).outcome == Outcome::Allow;
        let was_allowed = allows(before.unwrap_or(recorded));
        let passed = asked.fate == 4 && before.is_none() && !was_allowed;
        brute.was[if was_allowed {
            0
        } else if passed {
            2
        } else {
            1
        }] += 1;
        let turn = match (was_allowed, passed, allows(after)) {
            (true, _, false) => Turn::Lost,
            (false, false, true) => Turn::Gained,
            (false, true, false) => Turn::Tolerated,
            (false, true, true) => {
                brute.covered += 1;
                continue;
            }
            (true, _, true) | (false, false, false) => continue,
        };
        let already = before.is_none() && turn != Turn::Tolerated && allows(in_force) == allows(after);
        let reason = asked.decide(after).reason.code().to_owned();
        let key =
            (turn, asked.facts.user.name.to_string(), asked.resource.to_owned(), asked.action.to_string(), reason);
        let (count, so_already) = brute.changed.entry(key).or_default();
        *count += 1;
        *so_already += u64::from(already);
    }
    brute
}

/// What a simulation says, in the form of brute force.
fn summed(told: &Simulated) -> Brute {
    let mut brute = Brute {
        was: [told.allowed, told.denied, told.passed],
        nobody: told.nobody,
        covered: told.covered,
        ..Brute::default()
    };
    for skipped in &told.skipped {
        let why = ["former_format", "no_policy_asked", "resource_gone"];
        let why = why.into_iter().find(|why| *why == skipped.why).expect("a reason that is meant");
        brute.skipped.insert(why, skipped.count);
    }
    for change in &told.changes {
        let of_people: u64 = change.people.iter().map(|person| person.count).sum();
        assert_eq!((of_people, change.people_count), (change.count, change.people.len()));
        assert!(!change.examples.is_empty() && change.first <= change.last);
        for person in &change.people {
            let key = (
                change.turn,
                person.user.clone(),
                change.resource.clone(),
                change.action.clone(),
                change.after.reason.clone(),
            );
            let (count, _) = brute.changed.entry(key).or_default();
            *count += person.count;
        }
    }
    brute
}

fn looked(before: Option<u64>) -> Looked {
    Looked { before, after: 2, since: 0, until: 1, whole: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn it_agrees_with_brute_force_however_the_records_are_cut(
        first in policies(),
        second in policies(),
        third in policies(),
        all in prop::collection::vec(asked(), 0..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        against_policy in any::<bool>(),
    ) {
        let (recorded, after, in_force) = (engine(1, &first), engine(2, &second), engine(3, &third));
        let records: Vec<Record> = (1..).zip(&all).map(|(seq, asked)| asked.record(seq, &recorded)).collect();
        for record in &records {
            // What is replayed is what was asked.
            prop_assert_eq!(&Record::from_canonical(&record.to_canonical().unwrap()).unwrap(), record);
        }
        let (against, before) = match against_policy {
            true => (Against::Policy(Arc::clone(&in_force)), Some(&in_force)),
            false => (Against::Records { in_force: Arc::clone(&in_force) }, None),
        };
        let replay = Replay::new(Arc::clone(&after), against);
        let whole = replay.tally(records.clone()).told(looked(None));
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(records.len() + 1)).collect();
        ends.extend([0, records.len()]);
        ends.sort_unstable();
        let parts: Vec<&[Record]> = ends.windows(2).map(|ends| &records[ends[0]..ends[1]]).collect();
        let mut tally = Tally::default();
        // The newest part first, as a log is read.
        parts.iter().rev().for_each(|part| tally.merge(replay.tally(part.to_vec())));
        prop_assert_eq!(tally.told(looked(None)), whole.clone());

        let meant = brute(&all, &recorded, &after, &in_force, before);
        let already: BTreeMap<Turn, u64> = meant.changed.iter().fold(BTreeMap::new(), |mut sums, (key, (_, already))| {
            *sums.entry(key.0).or_default() += already;
            sums
        });
        let said: BTreeMap<Turn, u64> = whole.changes.iter().fold(BTreeMap::new(), |mut sums, change| {
            *sums.entry(change.turn).or_default() += change.already;
            sums
        });
        prop_assert_eq!(already, said);
        for (turn, count) in [(Turn::Lost, whole.lost), (Turn::Gained, whole.gained), (Turn::Tolerated, whole.tolerated)] {
            let of: Vec<_> = meant.changed.iter().filter(|(key, _)| key.0 == turn).collect();
            let people: BTreeSet<&String> = of.iter().map(|(key, _)| &key.1).collect();
            prop_assert_eq!(count.requests, of.iter().map(|(_, (count, _))| count).sum::<u64>());
            prop_assert_eq!(count.people, people.len());
        }
        let counts_only = Brute { changed: meant.changed.into_iter().map(|(key, (count, _))| (key, (count, 0))).collect(), ..meant };
        prop_assert_eq!(summed(&whole), counts_only);
        prop_assert_eq!(whole.records, u64::try_from(all.len()).unwrap());
        let skipped: u64 = whole.skipped.iter().map(|skipped| skipped.count).sum();
        prop_assert_eq!(whole.records, whole.replayed + skipped, "each record is one or the other");
    }
}

#[test]
fn an_example_can_be_found_again_and_the_groups_are_those_of_all() {
    let of = |user: u8, groups: &[&str]| {
        let name = UserName::parse(&format!("u{user}")).expect("name");
        let groups = groups.iter().map(|group| GroupName::parse(group).expect("name")).collect();
        SubjectFacts {
            session: SessionId::from_random([user; 16]),
            user: UserFacts { id: UserId::from_random([user; 16]), name, groups },
            device: None,
            auth: AuthFacts { methods: BTreeSet::new(), at: midnight() },
            expires: midnight() + Duration::from_secs(60),
            epoch: Epoch(1),
        }
    };
    let open = engine(1, &["@device(\"none\") permit(principal, action, resource)"]);
    let shut = engine(2, &[]);
    let asked = |facts: SubjectFacts, second: u64| {
        let after_us = second * 1_000_000;
        Asked { facts, resource: "wiki", action: Action::HttpRead, path: "/a/b", after_us, fate: 0 }
    };
    let all = [
        asked(of(1, &["g0", "g1"]), 1),
        asked(of(2, &["g0"]), 5),
        asked(of(1, &["g0", "g1"]), 3),
        asked(of(1, &["g0", "g1"]), 2),
    ];
    let records: Vec<Record> = (1..).zip(&all).map(|(seq, asked)| asked.record(seq, &open)).collect();
    assert!(Recorded::of(&records[0]).is_ok());
    let replay = Replay::new(shut, Against::Records { in_force: open });
    let told = replay.tally(records).told(looked(None));
    let [change] = told.changes.as_slice() else { panic!("{told:?}") };
    assert_eq!((change.turn, change.count, change.already, &change.groups), (Turn::Lost, 4, 0, &vec!["g0".to_owned()]));
    assert_eq!((change.before.reason.as_str(), change.after.reason.as_str()), ("permitted", "no_permit"));
    assert_eq!(change.before.policies, ["p0"]);
    let people: Vec<(&str, u64)> = change.people.iter().map(|person| (person.user.as_str(), person.count)).collect();
    assert_eq!(people, [("u1", 3), ("u2", 1)]);
    let examples: Vec<Option<&str>> = change.examples.iter().map(|example| example.id.as_deref()).collect();
    assert_eq!(examples, [Some("dec_2"), Some("dec_3"), Some("dec_4")], "the newest");
    assert_eq!(change.device.grade, "none");
}
