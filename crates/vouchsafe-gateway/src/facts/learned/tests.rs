use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use vouchsafe_model::id::UserId;
use vouchsafe_model::name::DeviceName;
use vouchsafe_model::subject::{AuthFacts, AuthMethod, Grade, UserFacts};
use vouchsafe_policy::{Engine, PolicySource};

use super::*;

const ANSWERED: u64 = 10;

fn device(tag: &str) -> DeviceFacts {
    DeviceFacts {
        id: DeviceId::from_random([2; 16]),
        name: DeviceName::parse("laptop").unwrap(),
        grade: Grade::Software,
        owner: Some(UserName::parse("ann").unwrap()),
        tags: BTreeSet::from([tag.parse().unwrap()]),
    }
}

fn user(id: u8, group: &str) -> UserFacts {
    let groups = BTreeSet::from([group.parse().unwrap()]);
    UserFacts { id: UserId::from_random([id; 16]), name: UserName::parse("ann").unwrap(), groups }
}

fn known() -> Known {
    let facts = SubjectFacts {
        session: SessionId::from_random([1; 16]),
        user: user(3, "finance"),
        device: Some(device("old")),
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: SystemTime::UNIX_EPOCH },
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        epoch: Epoch(ANSWERED),
    };
    let source = PolicySource { version: 1, files: Vec::new(), grants: Vec::new(), resources: Vec::new() };
    let subject = KnownSubject { facts: Arc::new(facts), audience: Some("wiki".into()) };
    Known::answered(Ready::new(subject, &Engine::compile(source).unwrap()))
}

fn of_user(sequence: u64, outcome: Option<Outcome>) -> Delta {
    Delta { sequence, change: Change::User(UserName::parse("ann").unwrap()), outcome }
}

fn of_device(sequence: u64, outcome: Outcome) -> Delta {
    Delta { sequence, change: Change::Device(DeviceId::from_random([2; 16])), outcome: Some(outcome) }
}

fn other(becomes: Becomes<Known>) -> Known {
    let Becomes::Other(known) = becomes else { panic!("it becomes another") };
    known
}

#[test]
fn i6_what_is_said_with_changes_takes_the_place_of_what_was_each_in_its_turn() {
    let first = other(known().after(&of_user(11, Some(Outcome::User(user(3, "marketing"))))));
    let second = other(first.after(&of_device(12, Outcome::Device(device("new")))));
    let ready = second.state.as_ref().expect("she stands for somebody");
    let facts = &ready.known.facts;
    assert_eq!(
        (&facts.user, facts.device.as_ref(), facts.epoch),
        (&user(3, "marketing"), Some(&device("new")), Epoch(12))
    );
    assert_eq!((ready.prepared.facts(), ready.known.audience.as_deref()), (facts, Some("wiki")));
    let gone = other(second.after(&of_user(13, Some(Outcome::Gone(NoSubject::Ended)))));
    assert_eq!(gone.state.as_ref().err(), Some(&NoSubject::Ended));
    let again = gone.after(&of_user(14, Some(Outcome::Gone(NoSubject::DeviceRemoved))));
    assert!(matches!(again, Becomes::Same), "it can't go twice");
    // She is back; whether this session is, only the controller knows.
    assert!(matches!(gone.after(&of_user(15, Some(Outcome::User(user(3, "x"))))), Becomes::Unknown));
}

#[test]
fn i6_what_is_not_said_or_is_of_another_is_forgotten() {
    assert!(matches!(known().after(&of_user(11, None)), Becomes::Unknown));
    let namesake = of_user(11, Some(Outcome::User(user(4, "finance"))));
    assert!(matches!(known().after(&namesake), Becomes::Unknown), "somebody else has her name now");
    let mut stranger = device("new");
    stranger.id = DeviceId::from_random([9; 16]);
    assert!(matches!(known().after(&of_device(11, Outcome::Device(stranger))), Becomes::Unknown));
    let crossed = Delta { outcome: Some(Outcome::Device(device("new"))), ..of_user(11, None) };
    assert!(matches!(known().after(&crossed), Becomes::Unknown));
    let session = Delta { change: Change::Session(SessionId::from_random([1; 16])), ..namesake };
    assert!(matches!(known().after(&session), Becomes::Unknown), "her cookies may be worth nothing now");
}

#[test]
fn i6_an_answer_that_overtook_a_change_stays() {
    let older = of_user(ANSWERED, Some(Outcome::User(user(3, "marketing"))));
    assert!(matches!(known().after(&older), Becomes::Same));
    // Two rows of one message, of which the second concerns her too: it is not taken for an older one.
    let first = other(known().after(&of_user(11, Some(Outcome::User(user(3, "marketing"))))));
    let second = first.after(&of_user(12, Some(Outcome::User(user(3, "sales")))));
    assert_eq!(other(second).whose.user, user(3, "sales"));
    // One whose outcome isn't said counts, however old it may be.
    assert!(matches!(known().after(&of_user(ANSWERED, None)), Becomes::Unknown));
}

#[test]
fn a_device_is_what_is_said_of_it_and_its_owner_changes_nothing_of_it() {
    let (user_changed, user_gone) =
        (of_user(11, Some(Outcome::User(user(3, "sales")))), of_user(11, Some(Outcome::Gone(NoSubject::Ended))));
    assert!(matches!(device_after(&device("old"), &user_changed), Becomes::Same));
    assert!(matches!(device_after(&device("old"), &user_gone), Becomes::Unknown));
    let Becomes::Other(now) = device_after(&device("old"), &of_device(11, Outcome::Device(device("new")))) else {
        panic!("it is said")
    };
    assert_eq!(now, device("new"));
    let removed = of_device(11, Outcome::Gone(NoSubject::DeviceRemoved));
    assert!(matches!(device_after(&device("old"), &removed), Becomes::Unknown));
}
