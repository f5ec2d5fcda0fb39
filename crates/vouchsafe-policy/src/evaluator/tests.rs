use std::collections::{BTreeSet, HashSet};

use vouchsafe_model::name::{ResourceName, UserName};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, Epoch, UserFacts};

use super::*;
use crate::engine::Engine;
use crate::facts::Who;
use crate::request::KeyAgreement;
use crate::source::PolicySource;

fn facts() -> SubjectFacts {
    SubjectFacts {
        session: vouchsafe_model::id::SessionId::from_random([1; 16]),
        user: UserFacts {
            id: vouchsafe_model::id::UserId::from_random([2; 16]),
            name: UserName::parse("alice").expect("a name"),
            groups: BTreeSet::new(),
        },
        device: None,
        auth: AuthFacts { methods: [AuthMethod::Passkey].into(), at: UNIX_EPOCH + Duration::from_secs(1_000) },
        expires: UNIX_EPOCH + Duration::from_secs(100_000),
        epoch: Epoch(1),
    }
}

fn requests(resource: &ResourceName) -> Vec<Request<'_>> {
    let http =
        Detail::Http { method: "GET", host: "wiki.corp.example", path: "/a/\u{e9}/a-path-longer-than-any-inline-text" };
    let details = [
        (Action::HttpRead, http),
        (Action::NetConnect, Detail::Net { port: 65_535 }),
        (Action::ConsoleWrite, Detail::Console { operation: "policy.publish" }),
    ];
    let ips = ["10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "2001:db8::a:b", "::1"];
    let ips = ips.map(|ip| ip.parse().expect("an address"));
    let agreements = [KeyAgreement::Other, KeyAgreement::PostQuantum];
    let of = |(action, detail)| {
        ips.into_iter()
            .flat_map(move |ip| agreements.map(|agreement| Request { resource, action, ip, agreement, detail }))
    };
    details.into_iter().flat_map(of).collect()
}

/// The context that the evaluator gets is the one that Cedar's public interface makes, value for
/// value, and that one was checked against the schema.
#[test]
fn the_whole_context_is_the_one_that_the_schema_accepts() {
    let engine = Engine::compile(PolicySource::default()).expect("an empty engine");
    let facts = facts();
    let who = Who::new(engine.words, &facts).expect("a subject");
    let name = ResourceName::parse("wiki").expect("a name");
    for request in requests(&name) {
        for millis in [0, 999_400, 1_000_000, 5_000_999, 253_402_300_799_999] {
            let now = UNIX_EPOCH + Duration::from_millis(millis);
            let kind = match request.action {
                Action::HttpRead | Action::HttpWrite | Action::HttpUpgrade => "Http",
                Action::NetConnect => "Tcp",
                Action::ConsoleRead | Action::ConsoleWrite => "Console",
            };
            let uid = format!("{kind}::\"wiki\"").parse().expect("uid");
            let lineage = crate::index::Lineage::new(uid, HashSet::new());
            let checked = who.ask(&engine, &facts, &lineage, &request, now).expect("the schema accepts it");
            let circumstances = Circumstances::new(&facts, &request, now).expect("circumstances");
            let ours = who.principal.context(&Inputs::everything(), &circumstances);
            assert_eq!(AsRef::<CoreRequest>::as_ref(&checked).context(), ours.as_ref());
        }
    }
}

#[test]
fn what_was_said_of_another_request_is_not_said_of_this_one() {
    let engine = Engine::compile(PolicySource::default()).expect("an empty engine");
    let who = Who::new(engine.words, &facts()).expect("a subject").principal;
    for (ip, second) in [("10.0.0.1", 5), ("10.0.0.1", 6), ("10.0.0.2", 6), ("10.0.0.1", 5)] {
        let age = i64::try_from(second).expect("small");
        let fresh = Who::new(engine.words, &facts()).expect("a subject").principal;
        let ip: IpAddr = ip.parse().expect("address");
        assert_eq!((who.ip(ip), who.time(second)), (fresh.ip(ip), fresh.time(second)));
        assert_eq!(who.auth(age), fresh.auth(age));
        assert!(who.ip(ip).is_some() && who.time(second).is_some());
    }
}

#[test]
fn an_instant_beyond_the_calendar_and_details_of_another_action_are_refused() {
    let name = ResourceName::parse("wiki").expect("a name");
    let request = Request {
        resource: &name,
        action: Action::NetConnect,
        ip: "10.0.0.1".parse().expect("address"),
        agreement: KeyAgreement::Other,
        detail: Detail::Net { port: 1 },
    };
    let at = |request: &Request<'_>, seconds| {
        Circumstances::new(&facts(), request, UNIX_EPOCH + Duration::from_secs(seconds)).is_some()
    };
    assert!(at(&request, LAST_SECOND) && !at(&request, LAST_SECOND + 1));
    assert!(Circumstances::new(&facts(), &request, UNIX_EPOCH - Duration::from_secs(1)).is_none());
    for action in Action::ALL {
        for detail in [
            Detail::Http { method: "GET", host: "h", path: "/" },
            Detail::Net { port: 1 },
            Detail::Console { operation: "o" },
        ] {
            let word = match detail {
                Detail::Http { .. } => "http:",
                Detail::Net { .. } => "net:",
                Detail::Console { .. } => "console:",
            };
            let asked = Request { action: *action, detail, ..request };
            assert_eq!(at(&asked, 5_000), action.as_str().starts_with(word), "{action} {detail:?}");
        }
    }
}
