use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bytes::Bytes;
use vouchsafe_model::id::{DeviceId, UserId};
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::subject::UserFacts;
use vouchsafe_runtime::link::{self, Change, NoSubject, Snapshot, codec};
use vouchsafe_wire::control::message::{
    self, ChangeKind, Deltas, Down, DownKind, Era, Nobody, Outcome, Pong, SignedSnapshot, UpKind, Welcome,
};
use vouchsafe_wire::control::{VERSION, signed_bytes};

use super::{Fault, Follower, Seen, Told};

struct Controller(EcdsaKeyPair);

impl Controller {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn follower(&self, highest: u64) -> Follower {
        Follower::new(
            self.0.public_key().as_ref().to_vec(),
            domain("corp.example"),
            Seen { highest, ..Seen::default() },
        )
    }

    fn snapshot(&self, sequence: u64, of: &str) -> SignedSnapshot {
        self.snapshot_of(sequence, of, &[])
    }

    /// Of a history with these eras: first row, and what its id is made of.
    fn snapshot_of(&self, sequence: u64, of: &str, eras: &[(u64, u8)]) -> SignedSnapshot {
        let era = |(first, id): &(u64, u8)| Era { first: *first, id: vec![*id; 32].into() };
        let eras: Vec<Era> = eras.iter().map(era).collect();
        let snapshot = Snapshot {
            sequence,
            policy_version: 3,
            policy_files: vec![("a.cedar".into(), "permit".into())],
            grants: Vec::new(),
            resources: Vec::new(),
            connectors: Vec::new(),
        };
        let payload = codec::snapshot(&snapshot, &domain(of), &eras).unwrap();
        let signature = self.0.sign(&SystemRandom::new(), &signed_bytes(&payload)).unwrap();
        SignedSnapshot { payload, signature: Bytes::copy_from_slice(signature.as_ref()) }
    }
}

fn checkpoint(origin: &str, size: u64) -> Bytes {
    Bytes::from(format!("{origin}\n{size}\nAAAA\n\n\u{2014} {origin} AAAA\n"))
}

#[test]
fn the_newest_checkpoint_of_each_log_is_kept_and_said() {
    let controller = Controller::new();
    let mut follower = controller.follower(0).keeping(&[checkpoint("a", 5), Bytes::from_static(b"nonsense")]);
    let said = |follower: &mut Follower| match follower.hello().kind {
        Some(UpKind::Hello(hello)) => hello.checkpoints,
        other => panic!("no hello: {other:?}"),
    };
    assert_eq!(said(&mut follower), [checkpoint("a", 5)]);
    follower.handle(down(DownKind::Welcome(Welcome { version: VERSION, lease_ms: 15_000 }))).unwrap();
    let mut told =
        |origin: &str, size: u64| follower.handle(down(DownKind::Checkpoint(checkpoint(origin, size)))).unwrap();
    assert!(matches!(told("a", 4), Told::AuditLogShrank { known: 5, given: 4 }));
    assert!(matches!(told("a", 5), Told::Nothing));
    assert!(matches!(told("a", 6), Told::Checkpoints(notes) if notes == [checkpoint("a", 6)]));
    assert!(matches!(told("a/2", 2), Told::Checkpoints(notes) if notes.len() == 2));
    for number in 3..20 {
        assert!(matches!(told(&format!("a/{number}"), 1), Told::Checkpoints(notes) if notes.len() <= 8));
    }
    let long = Bytes::from(format!("b\n7\n{}", "x".repeat(20_000)));
    for nonsense in [Bytes::new(), Bytes::from_static(b"b\nmany\n"), Bytes::from_static(b"\xff\n1\n"), long] {
        assert!(matches!(follower.handle(down(DownKind::Checkpoint(nonsense))).unwrap(), Told::Nothing));
    }
    let kept = said(&mut follower);
    assert_eq!((kept.len(), kept.last()), (8, Some(&checkpoint("a/19", 1))));
}

fn domain(name: &str) -> BaseDomain {
    BaseDomain::parse(name).unwrap()
}

fn down(kind: DownKind) -> Down {
    Down { kind: Some(kind) }
}

fn welcome() -> Down {
    down(DownKind::Welcome(Welcome { version: VERSION, lease_ms: 15_000 }))
}

fn deltas(after: u64, through: u64, users: &[&str]) -> Down {
    let changes = users.iter().map(|user| change(user, 0, None)).collect();
    down(DownKind::Deltas(Deltas { after, through, changes, everything: false }))
}

fn change(user: &str, row: u64, outcome: Option<Outcome>) -> message::Change {
    message::Change { kind: Some(ChangeKind::User(user.into())), row, outcome }
}

fn everything(through: u64) -> Down {
    down(DownKind::Deltas(Deltas { after: 0, through, changes: Vec::new(), everything: true }))
}

fn pong(nonce: u64, sequence: u64) -> Down {
    down(DownKind::Pong(Pong { nonce, sequence }))
}

/// A follower that is attached and stands at row 10.
fn attached(controller: &Controller) -> Follower {
    let mut follower = controller.follower(0);
    follower.hello();
    follower.handle(welcome()).unwrap();
    follower.handle(everything(10)).unwrap();
    follower
}

fn changes(told: Told) -> Vec<Change> {
    match told {
        Told::Changed(deltas) => deltas.into_iter().map(|delta| delta.change).collect(),
        other => panic!("{other:?}"),
    }
}

fn resumes_at(follower: &mut Follower) -> (u64, u64) {
    match follower.hello().kind.unwrap() {
        UpKind::Hello(hello) => (hello.last_sequence, hello.snapshot_sequence),
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_come_in_a_row_and_a_new_stream_goes_on_behind_the_last() {
    let controller = Controller::new();
    let mut follower = attached(&controller);
    let told = follower.handle(deltas(10, 12, &["alice"])).unwrap();
    assert_eq!(changes(told), [Change::User("alice".parse().unwrap())]);
    // Rows that tell of snapshots only.
    assert_eq!(changes(follower.handle(deltas(12, 13, &[])).unwrap()), []);
    // A name that can't be read may be anybody's.
    assert_eq!(changes(follower.handle(deltas(13, 14, &["\n"])).unwrap()), [Change::Everything]);
    assert_eq!(resumes_at(&mut follower), (14, 0));
    follower.handle(welcome()).unwrap();
    assert_eq!(changes(follower.handle(deltas(14, 15, &["bob"])).unwrap()).len(), 1);
}

#[test]
fn a_gap_is_noticed_and_everything_begins_anew() {
    let controller = Controller::new();
    let lost: [&[Down]; 5] = [
        &[deltas(11, 12, &["alice"])],
        &[deltas(9, 12, &["alice"])],
        &[deltas(10, 9, &[])],
        // Twice the same.
        &[deltas(10, 11, &["alice"]), deltas(10, 11, &["alice"])],
        // What was lost before a sign of life.
        &[pong(1, 11)],
    ];
    for messages in lost {
        let mut follower = attached(&controller);
        follower.ping(Duration::ZERO, Vec::new());
        let mut last = Ok(Told::Nothing);
        for message in messages {
            last = follower.handle(message.clone());
        }
        assert!(matches!(last, Err(Fault::Gap { .. })), "{last:?}");
        assert_eq!(resumes_at(&mut follower).0, 0);
    }
}

#[test]
fn a_sign_of_life_counts_from_when_it_was_asked_for() {
    let controller = Controller::new();
    let mut follower = attached(&controller);
    let at = Duration::from_secs;
    for seconds in 1..=3 {
        follower.ping(at(seconds), Vec::new());
    }
    let heard = |told| match told {
        Told::Heard(asked) => Some(asked),
        _ => None,
    };
    // The first answer was lost on the way; an old one that comes late says nothing new.
    assert_eq!(heard(follower.handle(pong(2, 10)).unwrap()), Some(at(2)));
    assert_eq!(heard(follower.handle(pong(1, 10)).unwrap()), None);
    // What was asked on a stream that is over is not answered on the next.
    follower.ping(at(4), Vec::new());
    follower.hello();
    follower.handle(welcome()).unwrap();
    assert_eq!(heard(follower.handle(pong(4, 10)).unwrap()), None);
    // A controller that answers nothing costs no memory.
    (0..1_000).for_each(|seconds| drop(follower.ping(at(seconds), Vec::new())));
    assert!(follower.pings.len() <= super::MAX_PINGS);
}

#[test]
fn a_snapshot_that_is_older_or_not_the_controllers_is_refused() {
    let controller = Controller::new();
    let mut follower = attached(&controller);
    let take = |follower: &mut Follower, signed| follower.handle(down(DownKind::Snapshot(signed)));
    assert!(matches!(take(&mut follower, controller.snapshot(7, "corp.example")), Ok(Told::Snapshot(_))));
    assert_eq!((follower.highest, resumes_at(&mut follower).1), (7, 7));
    follower.handle(welcome()).unwrap();
    // The same again, as after a restart of the controller, is fine; an older one is a replay.
    assert!(take(&mut follower, controller.snapshot(7, "corp.example")).is_ok());
    let replayed = take(&mut follower, controller.snapshot(6, "corp.example"));
    assert!(matches!(replayed, Err(Fault::Replayed { highest: 7, given: 6 })), "{replayed:?}");
    // Also by a gateway that was started anew.
    let mut restarted = controller.follower(7);
    restarted.hello();
    restarted.handle(welcome()).unwrap();
    assert!(matches!(take(&mut restarted, controller.snapshot(6, "corp.example")), Err(Fault::Replayed { .. })));

    let other = take(&mut follower, Controller::new().snapshot(9, "corp.example"));
    assert!(matches!(other, Err(Fault::Signature)));
    let mut altered = controller.snapshot(9, "corp.example");
    altered.payload = altered.payload.iter().map(|byte| if *byte == 3 { 4 } else { *byte }).collect();
    assert!(matches!(take(&mut follower, altered), Err(Fault::Signature)));
    let mut unsigned = controller.snapshot(9, "corp.example");
    unsigned.signature = Bytes::new();
    assert!(matches!(take(&mut follower, unsigned), Err(Fault::Signature)));
    let foreign = take(&mut follower, controller.snapshot(9, "other.example"));
    assert!(matches!(foreign, Err(Fault::Snapshot(_))));
    assert_eq!((follower.highest, follower.snapshot), (7, 7), "nothing of it is in force");
}

#[test]
fn nothing_is_believed_before_the_welcome_and_none_comes_twice() {
    let controller = Controller::new();
    for first in [everything(3), pong(1, 0), down(DownKind::Snapshot(controller.snapshot(1, "corp.example")))] {
        let mut follower = controller.follower(0);
        follower.hello();
        assert!(matches!(follower.handle(first), Err(Fault::Protocol)));
    }
    let mut follower = attached(&controller);
    assert!(matches!(follower.handle(welcome()), Err(Fault::Protocol)));
    let mut follower = controller.follower(0);
    follower.hello();
    let later = down(DownKind::Welcome(Welcome { version: VERSION + 1, lease_ms: 15_000 }));
    assert!(matches!(follower.handle(later), Err(Fault::Protocol)));
    // A lease that is no time at all, or as good as for ever.
    for lease_ms in [0, 2_999, 3_600_001, u64::MAX] {
        let mut follower = controller.follower(0);
        follower.hello();
        let odd = down(DownKind::Welcome(Welcome { version: VERSION, lease_ms }));
        assert!(matches!(follower.handle(odd), Err(Fault::Protocol)), "{lease_ms}");
    }
    // A kind of a later version is skipped.
    let mut follower = attached(&controller);
    assert!(matches!(follower.handle(Down { kind: None }), Ok(Told::Nothing)));
}

/// A controller that was restored from a backup counts on from there, and may be past what a gateway saw before anybody
/// looks. Its numbers are right then, but it can't name the era of what was in force.
#[test]
fn a_history_that_parted_at_a_backup_is_refused_however_far_it_has_grown() {
    let controller = Controller::new();
    let mut follower = attached(&controller);
    let take = |follower: &mut Follower, sequence: u64, eras: &[(u64, u8)]| {
        follower.handle(down(DownKind::Snapshot(controller.snapshot_of(sequence, "corp.example", eras))))
    };
    // From an older controller without eras to one that has them, and on through its starts.
    assert!(matches!(take(&mut follower, 5, &[]), Ok(Told::Snapshot(_))));
    assert!(matches!(take(&mut follower, 9, &[(0, 1)]), Ok(Told::Snapshot(_))));
    assert!(matches!(take(&mut follower, 12, &[(0, 1), (11, 2)]), Ok(Told::Snapshot(_))));
    assert!(matches!(take(&mut follower, 12, &[(0, 1), (11, 2), (13, 3)]), Ok(Told::Snapshot(_))));
    assert_eq!(follower.seen(), Seen { highest: 12, era: vec![2; 32].into() });
    let UpKind::Hello(hello) = follower.hello().kind.unwrap() else { panic!("a hello") };
    assert_eq!((hello.snapshot_sequence, &hello.era[..]), (12, &[2; 32][..]));
    follower.handle(welcome()).unwrap();
    for (sequence, eras) in [
        // The backup was made at row 9.
        (12, &[(0, 1), (10, 7)][..]),
        (5_000, &[(0, 1), (10, 7)]),
        (5_000, &[(0, 1), (10, 7), (13, 3)]),
        // Era 2 had no row 12 in this one.
        (5_000, &[(0, 1), (11, 2), (12, 7)]),
        (5_000, &[(13, 3)]),
        (5_000, &[]),
    ] {
        assert!(matches!(take(&mut follower, sequence, eras), Err(Fault::OtherHistory { highest: 12 })), "{eras:?}");
    }
    assert!(matches!(take(&mut follower, 13, &[(11, 2), (13, 3)]), Ok(Told::Snapshot(_))), "nothing was forgotten");
}

#[test]
fn i6_what_became_of_a_change_is_believed_where_it_is_of_it_and_of_a_row_that_was_told() {
    let controller = Controller::new();
    let user = |id: &str| Some(Outcome::User(message::User { id: id.into(), groups: vec!["sales".into()] }));
    let id = UserId::from_random([3; 16]);
    let (good, gone) = (user(&id.to_string()), Some(Outcome::Gone(Nobody::Ended.into())));
    let device = message::Device { id: DeviceId::from_random([2; 16]).to_string(), ..message::Device::default() };
    let told = vec![
        change("ann", 11, good.clone()),
        change("bob", 12, gone.clone()),
        // Nothing said; of no row of these; unreadable; of something else.
        change("cat", 13, None),
        change("dan", 10, good.clone()),
        change("eve", 15, good.clone()),
        change("fay", 0, gone),
        change("gus", 14, user("usr_what")),
        change("hal", 14, Some(Outcome::Device(device))),
        message::Change { kind: None, row: 14, outcome: good },
    ];
    let deltas = Deltas { after: 10, through: 14, changes: told, everything: false };
    let Told::Changed(deltas) = attached(&controller).handle(down(DownKind::Deltas(deltas))).unwrap() else {
        panic!("changes")
    };
    let facts = UserFacts { id, name: "ann".parse().unwrap(), groups: BTreeSet::from(["sales".parse().unwrap()]) };
    let outcomes = deltas.iter().map(|delta| (delta.sequence, delta.outcome.as_ref()));
    let (ann, bob) = (link::Outcome::User(facts), link::Outcome::Gone(NoSubject::Ended));
    let expected = [
        (11, Some(&ann)),
        (12, Some(&bob)),
        (13, None),
        (14, None),
        (14, None),
        (14, None),
        (14, None),
        (14, None),
        (14, None),
    ];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    assert_eq!(deltas.last().map(|delta| &delta.change), Some(&Change::Everything));
}
