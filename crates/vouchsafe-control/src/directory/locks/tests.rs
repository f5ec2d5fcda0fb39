use serde_json::{Value, json};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::{Credential, NoSubject};

use super::expire;
use crate::store::{facts, resources, testing};
use crate::testing::Bench;

async fn lock(bench: &Bench, kind: &str, name: &str) -> Value {
    bench.done("POST", "/v1/locks", json!({"kind": kind, "name": name, "reason": "lost"})).await
}

#[tokio::test]
async fn i6_what_is_locked_has_no_facts_and_its_sessions_stay_ended() {
    let bench = Bench::open().await;
    let store = &bench.context().store;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    let device = testing::device(store, "laptop", "alice").await;
    for kind in ["user", "device", "session"] {
        let session = testing::session(store, "alice", Some(device), &format!("cookie of {kind}")).await;
        let id = session.to_string();
        let name = match kind {
            "user" => "alice",
            "device" => "laptop",
            _ => &id,
        };
        let link = bench.controller.link();
        assert!(link.subject(Credential::Session(session)).await.unwrap().is_ok());
        let locked = lock(&bench, kind, name).await;
        assert_eq!((&locked["reason"], &locked["expires"]), (&json!("lost"), &Value::Null));
        let ended = async || link.subject(Credential::Session(session)).await.unwrap().err();
        assert_eq!(ended().await, Some(NoSubject::Ended), "{kind}");
        let mut read = store.read().await.unwrap();
        let user = facts::user(&mut read, &"alice".parse().unwrap()).await.unwrap();
        assert_eq!(user.is_none(), kind == "user");
        assert_eq!(facts::device(&mut read, &device).await.unwrap().is_none(), kind == "device");
        drop(read);
        bench.done("DELETE", &format!("/v1/locks/{kind}/{name}"), Value::Null).await;
        assert_eq!(ended().await, Some(NoSubject::Ended), "unlocking brings no session back");
        assert_eq!(bench.refused("DELETE", &format!("/v1/locks/{kind}/{name}"), Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn nothing_is_given_to_who_is_locked() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    lock(&bench, "user", "alice").await;
    assert_eq!(bench.done("GET", "/v1/users/alice", Value::Null).await["state"], "locked");
    let locked = (409, "user_locked".to_owned());
    assert_eq!(bench.refused("POST", "/v1/users/alice/invite", Value::Null).await, locked);
    assert_eq!(bench.refused("POST", "/v1/devices/invites", json!({"owner": "alice"})).await, locked);
    bench.done("PATCH", "/v1/users/alice", json!({"disabled": true})).await;
    bench.done("DELETE", "/v1/locks/user/alice", Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/users/alice", Value::Null).await["state"], "disabled", "a lock changes nothing");
}

/// An answer without the device would say what policy thinks of no device at all.
#[tokio::test]
async fn nothing_is_explained_for_a_locked_device() {
    let bench = Bench::open().await;
    testing::device(&bench.context().store, "laptop", "admin").await;
    let ask = json!({"user": "admin", "device": "laptop", "resource": "console"});
    bench.done("POST", "/v1/policy/explain", ask.clone()).await;
    lock(&bench, "device", "laptop").await;
    let locked = (409, "device_locked".to_owned());
    assert_eq!(bench.refused("POST", "/v1/policy/explain", ask).await, locked);
}

#[tokio::test]
async fn the_console_and_the_last_administrator_stay() {
    let bench = Bench::open().await;
    testing::passkey(&bench.context().store, "admin").await;
    for (kind, name, why) in [
        ("user", "admin", (409, "last_administrator")),
        ("resource", "console", (409, "console_stays")),
        ("resource", "nothing", (404, "not_found")),
        ("user", "nobody", (404, "not_found")),
    ] {
        let refused = bench.refused("POST", "/v1/locks", json!({"kind": kind, "name": name})).await;
        assert_eq!(refused, (why.0, why.1.to_owned()), "{kind} {name}");
    }
    let long = json!({"kind": "user", "name": "admin", "reason": "x".repeat(201)});
    assert_eq!(bench.refused("POST", "/v1/locks", long).await.0, 400);
    assert_eq!(bench.done("GET", "/v1/locks", Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_locked_resource_is_none_until_its_time_is_over() {
    let bench = Bench::open().await;
    let store = &bench.context().store;
    bench.done("PUT", "/v1/resources/wiki", json!({"name": "wiki", "kind": "tcp", "upstream": "h:1"})).await;
    let count = async || resources::all(&mut store.read().await.unwrap()).await.unwrap().len();
    assert_eq!(count().await, 1);
    let new = json!({"kind": "resource", "name": "wiki", "seconds": 60});
    let locked = bench.done("POST", "/v1/locks", new).await;
    assert_eq!(count().await, 0);
    // Removed and made anew it is locked all the same.
    bench.done("DELETE", "/v1/resources/wiki", Value::Null).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name": "wiki", "kind": "tcp", "upstream": "h:1"})).await;
    assert_eq!(count().await, 0);
    let end = locked["expires"].as_u64().unwrap();
    assert!(end >= clock::unix_seconds(clock::now()) + 50);
    for (now, removed) in [(end - 1, 0), (end, 1)] {
        let mut write = store.write().await.unwrap();
        assert_eq!(expire(&mut write, now, 10).await.unwrap(), removed);
        write.commit().await.unwrap();
    }
    assert_eq!(count().await, 1);
    let last = bench.changes().await.pop();
    assert_eq!(last.as_deref(), Some("lock.expire resource/wiki"));
}
