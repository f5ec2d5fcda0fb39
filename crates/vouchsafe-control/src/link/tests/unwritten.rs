//! A129: a revocation that can't be written is an error, and is treated as done all the same.

use std::collections::BTreeSet;

use super::*;
use crate::directory;

/// One statement that fails, as on a disk that takes no more.
fn broken(table: &str, what: &str) -> String {
    format!("CREATE TRIGGER broken BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END")
}

struct Office {
    bench: Bench,
    link: Arc<dyn ControlLink>,
    alice: SessionId,
    bob: SessionId,
    device: String,
}

impl Office {
    async fn open() -> Self {
        let (bench, link, alice) = signed_in().await;
        bench.done("POST", "/v1/users", json!({"name":"bob","groups":["mkt"]})).await;
        let bob = testing::session(&bench.context().store, "bob", None, &hex(&[9; 32])).await;
        let device = bench.done("GET", "/v1/devices/alice-laptop", Value::Null).await["id"].clone();
        let device = device.as_str().unwrap().to_owned();
        Self { bench, link, alice, bob, device }
    }

    async fn stands(&self, session: SessionId) -> Option<NoSubject> {
        self.link.subject(Credential::Session(session)).await.unwrap().err()
    }

    async fn run(&self, statement: &str) {
        testing::run(&self.bench.context().store, statement).await;
    }

    /// Records of revocations that could not be written, by action and target.
    fn failed(&self) -> BTreeSet<String> {
        let records = testing::records(&self.bench.context().store).into_iter();
        let failed = records.filter(|record| record.outcome.as_deref() == Some("failed"));
        failed.map(|record| format!("{} {}", record.action.unwrap(), record.target.unwrap())).collect()
    }
}

/// Method, path and body; the verb on record; tables with the statement that fails there.
type Sample = (&'static str, String, Value, &'static str, &'static [(&'static str, &'static str)]);

/// What revokes something of alice's, and the statements of which any can fail on the way.
fn revocations(office: &Office) -> Vec<Sample> {
    let (session, device) = (office.alice, &office.device);
    let lock = |kind: &str, name: &str| json!({"kind": kind, "name": name, "reason": "", "seconds": null});
    vec![
        (
            "DELETE",
            format!("/v1/sessions/{session}"),
            Value::Null,
            "session.end",
            &[("sessions", "DELETE"), ("feed", "INSERT"), ("audit_outbox", "INSERT")],
        ),
        (
            "POST",
            "/v1/users/alice/sign-out".into(),
            Value::Null,
            "user.sign-out",
            &[("ended_sessions", "INSERT"), ("feed", "INSERT")],
        ),
        (
            "PATCH",
            "/v1/users/alice".into(),
            json!({"disabled": true}),
            "user.change",
            &[("users", "UPDATE"), ("feed", "INSERT")],
        ),
        (
            "PATCH",
            "/v1/users/alice".into(),
            json!({"groups": []}),
            "user.change",
            &[("memberships", "DELETE"), ("feed", "INSERT")],
        ),
        ("DELETE", "/v1/users/alice".into(), Value::Null, "user.delete", &[("sessions", "DELETE"), ("feed", "INSERT")]),
        (
            "DELETE",
            "/v1/groups/mkt/members/alice".into(),
            Value::Null,
            "group.remove-member",
            &[("memberships", "DELETE"), ("feed", "INSERT")],
        ),
        (
            "DELETE",
            "/v1/devices/alice-laptop".into(),
            Value::Null,
            "device.remove",
            &[("devices", "DELETE"), ("feed", "INSERT")],
        ),
        ("POST", "/v1/locks".into(), lock("user", "alice"), "lock.add", &[("locks", "INSERT"), ("feed", "INSERT")]),
        ("POST", "/v1/locks".into(), lock("device", device), "lock.add", &[("locks", "INSERT"), ("feed", "INSERT")]),
        (
            "POST",
            "/v1/locks".into(),
            lock("session", &session.to_string()),
            "lock.add",
            &[("locks", "INSERT"), ("feed", "INSERT")],
        ),
    ]
}

#[tokio::test]
async fn a129_what_can_not_be_written_as_revoked_is_treated_as_revoked() {
    let count = revocations(&Office::open().await).len();
    for number in 0..count {
        for place in 0..3 {
            let office = Office::open().await;
            let (method, path, body, verb, statements) = revocations(&office).remove(number);
            let Some((table, statement)) = statements.get(place) else { continue };
            let sample = format!("{method} {path} {body}, {statement} on {table}");
            assert_eq!((office.stands(office.alice).await, office.stands(office.bob).await), (None, None), "{sample}");
            office.run(&broken(table, statement)).await;
            let mut changes = office.link.news();
            let answer = office.bench.ask(method, &path, body.clone()).await;
            assert_eq!(answer.0.as_u16(), 500, "{sample}: never ok: {answer:?}");
            assert!(!answer.1.to_string().contains("no room"), "{sample}: {answer:?}");
            let gone = office.stands(office.alice).await;
            assert!(matches!(gone, Some(NoSubject::Ended | NoSubject::DeviceRemoved)), "{sample}: {gone:?}");
            assert_eq!(office.stands(office.bob).await, None, "{sample}: nobody else");
            let told = changes.try_recv().unwrap_or_else(|_| panic!("{sample}: the gateway is told"));
            assert!(told.changed().unwrap().outcome.is_none(), "{sample}: it has to ask");
            // Nothing of it is written, and it stays so while it can't be.
            let kept = testing_count(&office, "SELECT COUNT(*) FROM sessions").await;
            assert_eq!(kept, 2, "{sample}");
            assert!(office.bench.ask(method, &path, body.clone()).await.0.is_server_error(), "{sample}: again");
            assert!(office.stands(office.alice).await.is_some(), "{sample}: after another try");
            // Written at last, it is on record as what it was.
            office.run("DROP TRIGGER broken").await;
            let (status, answer) = office.bench.ask(method, &path, body).await;
            // Sessions are ended without anybody asking, as soon as that can be written.
            assert!(status.is_success() || status.as_u16() == 404, "{sample}: {status} {answer}");
            directory::end_unwritten(office.bench.context()).await.unwrap();
            assert!(!office.bench.context().store.suspended().waits(), "{sample}");
            assert!(
                office.failed().iter().any(|what| what.starts_with(&format!("{verb} "))),
                "{sample}: {:?}",
                office.failed()
            );
            assert_eq!(office.stands(office.bob).await, None, "{sample}: nobody else, still");
        }
    }
}

async fn testing_count(office: &Office, statement: &'static str) -> i64 {
    let mut read = office.bench.context().store.read().await.unwrap();
    sqlx::query_scalar(statement).fetch_one(&mut *read).await.unwrap()
}

/// Whoever is kept out for want of a write goes on when it was written and is still hers to go on, or when an administrator
/// takes it back.
#[tokio::test]
async fn a129_it_ends_when_the_same_is_written_or_taken_back() {
    let office = Office::open().await;
    let (bench, member) = (&office.bench, "/v1/groups/mkt/members/alice");
    office.run(&broken("memberships", "DELETE")).await;
    bench.refused("DELETE", member, Value::Null).await;
    assert_eq!(office.stands(office.alice).await, Some(NoSubject::Ended));
    assert_eq!(office.link.subject(Credential::AppCookie(COOKIE)).await.unwrap().err(), Some(NoSubject::Ended));
    // Another change of hers is not what was to be written.
    bench.done("PUT", "/v1/groups/sales", Value::Null).await;
    bench.done("PUT", "/v1/groups/sales/members/alice", Value::Null).await;
    assert_eq!(office.stands(office.alice).await, Some(NoSubject::Ended));
    office.run("DROP TRIGGER broken").await;
    let mut changes = office.link.news();
    bench.done("DELETE", member, Value::Null).await;
    assert!(changes.try_recv().is_ok(), "the gateway hears that there is something to ask for");
    let facts = office.link.subject(Credential::Session(office.alice)).await.unwrap().unwrap().facts;
    assert_eq!(facts.user.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>(), ["sales"]);
    assert_eq!(office.failed(), BTreeSet::from(["group.remove-member group/mkt/alice".to_owned()]));

    // Bob's removal is given up: locked and unlocked, he may go on.
    office.run(&broken("memberships", "DELETE")).await;
    bench.refused("DELETE", "/v1/groups/mkt/members/bob", Value::Null).await;
    assert_eq!(office.stands(office.bob).await, Some(NoSubject::Ended));
    office.run("DROP TRIGGER broken").await;
    bench.done("POST", "/v1/locks", json!({"kind": "user", "name": "bob", "reason": "", "seconds": null})).await;
    bench.done("DELETE", "/v1/locks/user/bob", Value::Null).await;
    let bob = testing::session(&bench.context().store, "bob", None, &hex(&[10; 32])).await;
    assert_eq!(office.stands(bob).await, None);
}

/// What may not be is refused for its own reason, and nobody is kept out for that.
#[tokio::test]
async fn a129_a_refusal_is_no_failure() {
    let office = Office::open().await;
    let bench = &office.bench;
    testing::passkey(&bench.context().store, "alice").await;
    bench.done("PUT", "/v1/groups/administrators/members/alice", Value::Null).await;
    for (method, path, body) in [
        ("DELETE", "/v1/groups/administrators/members/alice", Value::Null),
        ("PATCH", "/v1/users/alice", json!({"disabled": true})),
        ("DELETE", "/v1/users/alice", Value::Null),
        ("POST", "/v1/locks", json!({"kind": "user", "name": "alice", "reason": "", "seconds": null})),
        ("DELETE", "/v1/groups/administrators", Value::Null),
    ] {
        let (status, _) = bench.refused(method, path, body).await;
        assert!((400..500).contains(&status), "{method} {path}: {status}");
        assert_eq!(office.stands(office.alice).await, None, "{method} {path}");
    }
    assert!(!bench.context().store.suspended().waits());
    assert_eq!(office.failed(), BTreeSet::new());
}

/// A change that can't even begin, since the audit log takes no record of the one before; and a session that ended while
/// nothing could be written is ended for good as soon as something can.
#[tokio::test]
async fn a129_what_can_not_begin_is_treated_as_done_and_done_later() {
    let office = Office::open().await;
    let (bench, state) = (&office.bench, office.bench.dir.path().join("state"));
    bench.context().store.log().turn_over_always();
    std::fs::rename(state.join("audit"), state.join("away")).unwrap();
    // The last change that is committed: its record waits.
    bench.done("PUT", "/v1/groups/sales", Value::Null).await;
    let path = format!("/v1/sessions/{}", office.alice);
    assert_eq!(bench.ask("DELETE", &path, Value::Null).await.0.as_u16(), 500);
    assert_eq!(office.stands(office.alice).await, Some(NoSubject::Ended));
    assert!(directory::end_unwritten(bench.context()).await.is_err(), "nor can it be now");
    std::fs::rename(state.join("away"), state.join("audit")).unwrap();
    assert!(directory::end_unwritten(bench.context()).await.unwrap());
    assert_eq!(testing_count(&office, "SELECT COUNT(*) FROM sessions").await, 1, "ended for good");
    assert_eq!(office.stands(office.alice).await, Some(NoSubject::Ended));
    assert_eq!(office.failed(), BTreeSet::from([format!("session.end session/{}", office.alice)]));
}

/// A restart forgets it: what counts then is what is written.
#[tokio::test]
async fn a129_a_restart_goes_by_what_is_written() {
    let office = Office::open().await;
    office.run(&broken("memberships", "DELETE")).await;
    office.bench.refused("DELETE", "/v1/groups/mkt/members/alice", Value::Null).await;
    assert_eq!(office.stands(office.alice).await, Some(NoSubject::Ended));
    let path = office.bench.dir.path().join("state").join("vouchsafe.db");
    let (store, _signals) = crate::store::Store::open(&path).await.unwrap();
    let mut read = store.read().await.unwrap();
    let facts = crate::store::facts::user(&mut read, &"alice".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(facts.groups.len(), 1);
}
