//! What is decided here can be decided again from its record, and comes to the same (`vouchsafe-replay`).

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustls::NamedGroup;
use vouchsafe_model::grant::Grant;
use vouchsafe_model::id::{GrantId, SessionId, UserId};
use vouchsafe_model::mode::{Boundary, Mode, Trial};
use vouchsafe_model::name::{DeviceName, ResourceGroupName};
use vouchsafe_model::resource::{
    Endpoint, HttpSpec, PathCase, PathRules, Resource, ResourceSpec, Sensitivity, TcpSpec, UpstreamScheme,
};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, Epoch, Grade, UserFacts};
use vouchsafe_replay::{NotReplayed, Recorded};
use vouchsafe_wire::audit::{MAX_LIST_ENTRIES, Record};
use vouchsafe_wire::spool::HEADER_BYTES;

use super::*;

/// 2026-11-21T00:00:00Z.
const MIDNIGHT: Duration = Duration::from_secs(1_795_219_200);

fn name(text: &str) -> ResourceName {
    ResourceName::parse(text).unwrap()
}

fn user(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn resource(of: &str, group: &str, spec: ResourceSpec, mode: Mode) -> Resource {
    Resource {
        name: name(of),
        spec,
        groups: BTreeSet::from([ResourceGroupName::parse(group).unwrap()]),
        tags: BTreeSet::from([Tag::parse("made-for-tests").unwrap()]),
        sensitivity: Sensitivity::Confidential,
        offline_grace: Duration::ZERO,
        via: None,
        description: String::new(),
        mode,
    }
}

/// Two web apps, one of them with every leeway on trial, and a database.
fn resources() -> Vec<Resource> {
    let endpoint = || Endpoint::parse("127.0.0.1:8080").unwrap();
    let http = |paths| ResourceSpec::Http(HttpSpec { paths, ..HttpSpec::new(UpstreamScheme::Http, endpoint()) });
    let trial = Trial {
        from: Boundary::parse(&["10.2.0.0/16"]).unwrap(),
        owner: user("ann"),
        reason: "moving in".into(),
        until: UNIX_EPOCH + MIDNIGHT + Duration::from_secs(86_400),
    };
    let net = ResourceSpec::Tcp(TcpSpec { upstream: endpoint(), port: 5_432 });
    vec![
        resource("r0", "s0", http(PathRules { case: PathCase::Folded, ..PathRules::STRICT }), Mode::Enforce),
        resource("r1", "s1", http(PathRules::WIDEST), Mode::Observe(trial)),
        resource("r2", "s1", net, Mode::Enforce),
    ]
}

fn rules(of: &str) -> PathRules {
    match resources().into_iter().find(|resource| resource.name.as_str() == of).map(|resource| resource.spec) {
        Some(ResourceSpec::Http(http)) => http.paths,
        _ => PathRules::STRICT,
    }
}

/// Policies that read everything that policies can read.
fn policy() -> impl Strategy<Value = String> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal is User",
        "principal == User::\"u0\"",
        "principal in Group::\"g0\"",
        "principal in Group::\"g1\"",
    ]);
    let anywhere = prop::sample::select(vec![
        "true",
        "context.auth.age < 100",
        "context.auth.age > 30",
        "context.auth.phishing_resistant",
        "context.auth.methods.contains(\"passkey\")",
        "context.device.grade == \"hardware\"",
        "context.device.grade != \"none\"",
        "context.device.name == \"laptop\"",
        "context.device.tags.contains(\"managed\")",
        "context.device.tags.isEmpty()",
        "context.device has owner && context.device.owner == principal",
        "context.device has owner && context.device.owner.name == \"u1\"",
        "context.time > datetime(\"2026-11-21T00:00:30Z\")",
        "context.network.ip.isInRange(ip(\"10.0.0.0/8\"))",
        "context.network.ip.isLoopback()",
        "context.tls.post_quantum",
        "!context.tls.post_quantum",
        "principal.name == \"u1\"",
        "principal in [Group::\"g0\", Group::\"g2\"]",
        "resource.sensitivity > 1",
        "context.auth.age + 9223372036854775807 > 0",
    ]);
    let special = prop::sample::select(vec![
        (
            "action in [Action::\"http:read\", Action::\"http:write\", Action::\"http:upgrade\"]",
            "resource",
            "context.request.path like \"/a/*\"",
        ),
        ("action == Action::\"http:read\"", "resource == Http::\"r1\"", "context.request.path like \"*b*\""),
        ("action == Action::\"http:read\"", "resource == Http::\"r0\"", "context.request.method == \"GET\""),
        (
            "action == Action::\"http:write\"",
            "resource in ResourceGroup::\"s1\"",
            "context.request.host like \"*.corp\"",
        ),
        ("action == Action::\"net:connect\"", "resource == Tcp::\"r2\"", "context.request.port == 5432"),
        ("action == Action::\"net:connect\"", "resource", "context.request.port < 1024"),
        ("action == Action::\"console:read\"", "resource", "context.request.operation like \"GET /v1/*\""),
        ("action", "resource", "true"),
        ("action in Action::\"access\"", "resource in ResourceGroup::\"s1\"", "true"),
    ]);
    let word = prop::sample::select(vec!["when", "when", "unless"]);
    let expires = prop::sample::select(vec!["", "", "@expires(\"2026-11-21T00:01:00Z\") "]);
    (0..4_u8, principal, special, anywhere, word, any::<bool>(), expires).prop_map(
        |(effect, principal, (action, resource, special), anywhere, word, any_device, expires)| {
            let (effect, device) = match (effect, any_device) {
                (0, _) => ("forbid", ""),
                (_, true) => ("permit", "@device(\"none\") "),
                (_, false) => ("permit", ""),
            };
            format!("{device}{expires}{effect}({principal}, {action}, {resource}) when {{ {special} }} {word} {{ {anywhere} }};\n")
        },
    )
}

fn engine(policies: &[String], grants: Vec<Grant>) -> Arc<Engine> {
    let text: String = policies.iter().enumerate().map(|(at, text)| format!("@id(\"p{at}\") {text}")).collect();
    let files = vec![PolicyFile { name: "a.cedar".into(), text: text.clone() }];
    let source = PolicySource { version: 9, files, grants, resources: resources() };
    Engine::compile(source).unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"))
}

fn subjects() -> impl Strategy<Value = SubjectFacts> {
    let person = prop::sample::select(vec!["u0", "u1", "u2"]);
    let groups = prop::sample::subsequence(vec!["g0", "g1", "g2"], 0..=3);
    let owner = prop::sample::select(vec![None, Some("u0"), Some("u1")]);
    let tags = prop::sample::subsequence(vec!["byod", "managed"], 0..=2);
    let grade = prop::sample::select(vec![Grade::Software, Grade::Hardware, Grade::HardwareAttested]);
    let device =
        (prop::sample::select(vec!["laptop", "phone"]), owner, tags, grade).prop_map(|(name, owner, tags, grade)| {
            DeviceFacts {
                id: DeviceId::from_random([3; 16]),
                name: DeviceName::parse(name).unwrap(),
                grade,
                owner: owner.map(user),
                tags: tags.into_iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
            }
        });
    let methods = prop::sample::subsequence(vec![AuthMethod::Passkey], 0..=1);
    // Ends before the request, with it, or later.
    let ends = prop::sample::select(vec![0_u64, 50, 3_600, 3_600, 3_600]);
    (person, groups, prop::option::weighted(0.8, device), methods, 0_u64..200_000_000, ends, 1..u64::from(u32::MAX))
        .prop_map(|(person, groups, device, methods, signed_in, ends, epoch)| SubjectFacts {
            session: SessionId::from_random([1; 16]),
            user: UserFacts {
                id: UserId::from_random([2; 16]),
                name: user(person),
                groups: groups.into_iter().map(|group| GroupName::parse(group).unwrap()).collect(),
            },
            device,
            auth: AuthFacts {
                methods: methods.into_iter().collect(),
                at: UNIX_EPOCH + MIDNIGHT - Duration::from_micros(signed_in),
            },
            expires: UNIX_EPOCH + MIDNIGHT + Duration::from_secs(ends),
            epoch: Epoch(epoch),
        })
}

fn questions() -> impl Strategy<Value = Question> {
    let ip = prop::sample::select(vec!["10.2.3.4", "192.0.2.7", "127.0.0.1", "::1", "2001:db8::a"]);
    let what = prop::sample::select(vec!["r0", "r1", "r1", "r1", "r2", "console"]);
    let path =
        prop::sample::select(vec!["/", "/a", "/a/b", "/a%2Fb", "/a//b", "/a;v=1/b", "/A/B", "/x/%C3%A4", "/v1/users"]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST"]);
    let host = prop::sample::select(vec!["r0.corp", "r1.other"]);
    let port = prop::sample::select(vec![22, 5_432]);
    (ip, what, path, method, host, port, any::<bool>()).prop_filter_map(
        "the resource doesn't read such a path",
        |(ip, what, path, method, host, port, is_post_quantum)| {
            let origin = Origin { ip: ip.parse().unwrap(), agreement: KeyAgreement::of(is_post_quantum) };
            if what == "r2" {
                return Some(Question::net(name(what), origin, port));
            }
            let target = Arc::new(CanonicalTarget::parse(method, path, rules(what)).ok()?);
            Some(match what {
                "console" if method == "POST" => Question::console(Action::ConsoleWrite, origin, target),
                "console" => Question::console(Action::ConsoleRead, origin, target),
                _ => Question::http(name(what), target.action(), origin, host.into(), target),
            })
        },
    )
}

fn origin() -> Origin {
    Origin { ip: [10, 0, 0, 1].into(), agreement: KeyAgreement::Other }
}

/// What a route notes of such a request.
fn observed(question: &Question) -> Observed {
    let (host, port) = match &question.what {
        What::Http { host, .. } => (Some(Arc::clone(host)), Some(8_443)),
        What::Net { port } => (None, Some(*port)),
        What::Console { .. } => (Some("api.corp".into()), Some(8_443)),
    };
    let tls = Negotiated::in_quic(Some(match question.origin.agreement {
        KeyAgreement::PostQuantum => NamedGroup::X25519MLKEM768,
        KeyAgreement::Other => NamedGroup::X25519,
    }));
    Observed {
        ip: Some(question.ip()),
        shown: Some(Shown::new(question.ip(), tls)),
        protocol: "h2",
        host,
        port,
        target: question.target().map(Arc::clone),
        resource: Some(question.resource.as_str().into()),
        action: Some(question.action),
        device: None,
        proxy: None,
    }
}

/// The record as the controller gets it.
fn written(draft: Result<Draft, NotRecorded>) -> Record {
    let mut frame = Vec::new();
    draft.unwrap().push_frame(7, &mut frame);
    Record::from_canonical(&frame[HEADER_BYTES..]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Issue 5, 4: whatever is decided, its record decided again under the same policies comes to the same.
    #[test]
    fn a_record_decided_again_comes_to_what_it_came_to(
        policies in prop::collection::vec(policy(), 0..6),
        granted in any::<bool>(),
        facts in subjects(),
        question in questions(),
        after_us in 0_u64..100_000_000,
    ) {
        let now = UNIX_EPOCH + MIDNIGHT + Duration::from_micros(after_us);
        let grant = Grant {
            id: GrantId::from_random([4; 16]),
            user: user("u1"),
            resource: name("r1"),
            expires: Some(UNIX_EPOCH + MIDNIGHT + Duration::from_secs(60)),
            reason: "month end".into(),
            template: None,
        };
        let engine = engine(&policies, granted.then_some(grant).into_iter().collect());
        let subject = PreparedSubject::new(Arc::clone(&engine), Arc::new(facts.clone()));
        let admission = question.admit_subject(&subject, now);
        let by = admission.as_ref().ok().and_then(Admission::tolerance).map(|tolerance| tolerance.by());
        let decision = admission.map(|admission| admission.decision().clone()).unwrap_or_else(|denial| denial);
        let decided = Decided::new(decision.clone(), now);
        let opened = Opened { flow: FlowId::from_random([5; 16]), via: None, by };
        let opened = (decision.outcome == Outcome::Allow || by.is_some()).then_some(&opened);
        let record = written(super::record("gtw_1", &decided, &observed(&question), Some(&Who::new(&facts)), opened));
        let recorded = match Recorded::of(&record) {
            Ok(recorded) => recorded,
            Err(why) => {
                prop_assert_eq!((why, decision.reason), (NotReplayed::NoPolicyAsked, Reason::SessionEnded));
                return Ok(());
            }
        };
        prop_assert_eq!(recorded.decide(&engine), decision.clone(), "{:?}", record);
        let told = recorded.verdict;
        prop_assert_eq!((told.outcome, told.reason, told.passed), (decision.outcome, decision.reason, by));
        let policies: Vec<&str> = decision.policies.iter().map(PolicyName::as_str).collect();
        prop_assert_eq!(told.policies, policies);
        let SubjectFacts { session, user, device, auth, expires: _, epoch } = recorded.subject;
        prop_assert_eq!((session, user.name, user.groups), (facts.session, facts.user.name, facts.user.groups));
        prop_assert_eq!((device, auth, epoch), (facts.device, facts.auth, facts.epoch));
    }
}

fn someone(groups: usize) -> SubjectFacts {
    let at = UNIX_EPOCH + MIDNIGHT;
    SubjectFacts {
        session: SessionId::from_random([1; 16]),
        user: UserFacts {
            id: UserId::from_random([2; 16]),
            name: user("u0"),
            groups: (0..groups).map(|number| GroupName::parse(&format!("g{number}")).unwrap()).collect(),
        },
        device: None,
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at },
        expires: at + Duration::from_secs(60),
        epoch: Epoch(3),
    }
}

#[test]
fn what_the_record_does_not_hold_whole_is_not_guessed() {
    let question = Question::net(name("r2"), origin(), 5_432);
    let decided = Decided::new(Decision { epoch: Epoch(3), ..Decision::denied(Reason::NoPermit, 9) }, clock::now());
    let of = |groups| {
        let who = Who::new(&someone(groups));
        Recorded::of(&written(super::record("gtw_1", &decided, &observed(&question), Some(&who), None)))
    };
    assert!(of(MAX_LIST_ENTRIES - 1).is_ok());
    assert_eq!(of(MAX_LIST_ENTRIES).unwrap_err(), NotReplayed::Shortened);
    assert_eq!(of(MAX_LIST_ENTRIES + 1).unwrap_err(), NotReplayed::Shortened);
}

/// An enforcement point's own denial, such as of a flow that a change overtook, may have a policy's reason; the facts
/// beside it are not what it was made on.
#[test]
fn a_denial_of_the_enforcement_point_itself_is_not_replayed() {
    let question = Question::net(name("r2"), origin(), 5_432);
    for reason in Reason::ALL {
        let decided = Decided::denied(*reason, &engine(&[], Vec::new()));
        let who = Who::new(&someone(1));
        let record = written(super::record("gtw_1", &decided, &observed(&question), Some(&who), None));
        assert_eq!(Recorded::of(&record).unwrap_err(), NotReplayed::NoPolicyAsked, "{reason}");
    }
}
