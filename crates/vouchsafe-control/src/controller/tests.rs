use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::{Value, json};
use vouchsafe_runtime::body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{Caller, OwnHost};
use vouchsafe_runtime::task::Drained;
use vouchsafe_wire::audit::Record;

use super::{OpenError, StateDirectoryError, upkeep};
use crate::store::{Store, testing};
use crate::testing::{Bench, open};

async fn stop(bench: Bench) -> tempfile::TempDir {
    let Bench { controller, tasks, dir } = bench;
    drop(controller);
    assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Drained::Completely);
    dir
}

#[tokio::test]
async fn the_first_start_invites_one_administrator() {
    let bench = Bench::open().await;
    let invited = bench.controller.first_invite().unwrap();
    assert_eq!(
        (invited.user.name.as_str(), invited.user.groups.as_slice()),
        ("admin", &["administrators".to_owned()][..])
    );
    assert_eq!(invited.user.state, "invited");
    assert!(invited.link.starts_with("https://auth.vouchsafe.localhost:8443/invite#"), "{}", invited.link);
    let state = bench.dir.path().join("state");
    let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("."), 0o700);
    for file in ["vouchsafe.db", "vouchsafe.db-wal", "lock"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_second_process_is_refused_with_directory_and_holder() {
    let bench = Bench::open().await;
    let error = open(&bench.dir, "vouchsafe.localhost").await.err().unwrap();
    assert!(matches!(error, OpenError::StateDirectory(StateDirectoryError::InUse { .. })));
    let text = error.to_string();
    for part in ["state", &format!("process {}", std::process::id()), "hint: "] {
        assert!(text.contains(part), "{text}");
    }
    let dir = stop(bench).await;
    open(&dir, "vouchsafe.localhost").await.unwrap();
}

/// By a clock that was set back, sessions would live longer than they were given.
#[tokio::test]
async fn a_clock_that_was_set_back_ends_what_has_an_end() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("POST", "/v1/devices/invites", json!({"owner": "alice"})).await;
    testing::session(&bench.context().store, "alice", None, "hash").await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("POST", "/v1/grants", json!({"user":"alice","resource":"wiki","seconds":60})).await;
    bench.done("POST", "/v1/grants", json!({"user":"admin","resource":"wiki"})).await;
    let now = clock::unix_seconds(clock::now());
    let count = |store: Store| async move {
        let mut read = store.read().await.unwrap();
        let of = "SELECT (SELECT COUNT(*) FROM sessions) + (SELECT COUNT(*) FROM invites WHERE kind = 'device')";
        sqlx::query_scalar::<_, i64>(of).fetch_one(&mut *read).await.unwrap()
    };
    let clock_was = |store: Store, at: u64| async move {
        testing::run(&store, &format!("UPDATE settings SET value = '{at}' WHERE name = 'clock'")).await;
    };
    // The stop notes the time as it is.
    let dir = stop(bench).await;
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let store = controller.context().store.clone();
    assert_eq!(count(store.clone()).await, 2, "a restart ends nothing");
    drop(controller);
    assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Drained::Completely);
    clock_was(store.clone(), now + 30).await;
    drop(store);
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let store = controller.context().store.clone();
    assert_eq!(count(store.clone()).await, 2, "clocks are a little off at first");
    drop(controller);
    assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Drained::Completely);
    clock_was(store.clone(), now + 3600).await;
    drop(store);
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let store = controller.context().store.clone();
    assert_eq!(count(store.clone()).await, 0);
    let records = testing::records(&store);
    let ended = |record: &&Record| record.detail.as_deref().is_some_and(|detail| detail.contains("clock was set back"));
    assert_eq!(records.iter().filter(ended).count(), 2, "the session's end, and why: {records:?}");
    let mut read = store.read().await.unwrap();
    let left = crate::store::grants::list(&mut read, 0).await.unwrap();
    assert!(matches!(&left[..], [grant] if grant.user == "admin"), "only what has no end stays: {left:?}");
    drop(read);
    drop((controller, store));
    assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Drained::Completely);
    // Once is enough.
    open(&dir, "vouchsafe.localhost").await.unwrap();
}

/// A clock that was ahead for a while ends timed locks; set right, they hold again for the time that is left.
#[tokio::test]
async fn i6_locks_that_a_wrong_clock_ended_come_back() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("POST", "/v1/users", json!({"name": "bob"})).await;
    bench.done("POST", "/v1/users", json!({"name": "carol"})).await;
    for (name, seconds) in [("alice", 3600), ("bob", 60), ("carol", 3600)] {
        let lock = json!({"kind": "user", "name": name, "reason": "lost", "seconds": seconds});
        bench.done("POST", "/v1/locks", lock).await;
    }
    let now = clock::unix_seconds(clock::now());
    let context = bench.context();
    let mut write = context.store.write().await.unwrap();
    assert_eq!(crate::directory::locks::expire(&mut write, now + 7200, 10).await.unwrap(), 3);
    write.commit().await.unwrap();
    // What an administrator decided on since is hers to decide.
    bench.done("POST", "/v1/locks", json!({"kind": "user", "name": "carol"})).await;
    bench.done("DELETE", "/v1/locks/user/carol", Value::Null).await;
    let store = context.store.clone();
    let dir = stop(bench).await;
    testing::run(&store, &format!("UPDATE settings SET value = '{}' WHERE name = 'clock'", now + 7200)).await;
    testing::run(&store, &format!("UPDATE ended_locks SET expires = {} WHERE name = 'bob'", now - 1)).await;
    drop(store);
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let bench = Bench { controller, tasks, dir };
    let locks = bench.done("GET", "/v1/locks", Value::Null).await;
    assert!(matches!(&locks.as_array().unwrap()[..], [lock] if lock["name"] == "alice"), "{locks}");
    assert!(bench.changes().await.contains(&"lock.return user/alice".to_owned()));
}

#[tokio::test]
async fn a_restart_keeps_everything_and_another_domain_is_refused() {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    let before = (bench.controller.gateway_identity().id, bench.controller.root_pem().to_owned());
    let dir = stop(bench).await;

    let error = open(&dir, "other.example").await.err().unwrap();
    assert!(
        matches!(&error, OpenError::OtherDomain { remembered, .. } if remembered == "vouchsafe.localhost"),
        "{error}"
    );

    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let bench = Bench { controller, tasks, dir };
    assert_eq!((bench.controller.gateway_identity().id, bench.controller.root_pem().to_owned()), before);
    assert!(bench.controller.first_invite().is_none(), "the link of the first start is still good");
    let status = bench.done("GET", "/v1/status", Value::Null).await;
    assert_eq!((&status["users"], &status["resources"], &status["policy_version"]), (&json!(2), &json!(1), &json!(1)));
    let snapshot = bench.controller.link().snapshots().borrow().clone();
    assert_eq!(snapshot.resources.len(), 1);
}

#[tokio::test]
async fn an_expired_first_link_is_replaced_until_somebody_has_a_passkey() {
    let bench = Bench::open().await;
    testing::run(&bench.context().store, "UPDATE invites SET expires = 1").await;
    let dir = stop(bench).await;
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    assert!(controller.first_invite().is_some());
    testing::run(&controller.context().store, "UPDATE invites SET expires = 1").await;
    testing::passkey(&controller.context().store, "admin").await;
    let dir = stop(Bench { controller, tasks, dir }).await;
    let (controller, _tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    assert!(controller.first_invite().is_none());
}

#[tokio::test]
async fn a_directory_that_others_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(state.join("notes.txt"), "mine").unwrap();
    let error = open(&dir, "vouchsafe.localhost").await.err().unwrap();
    assert!(
        matches!(error, OpenError::StateDirectory(StateDirectoryError::OpenToOthers { mode: 0o755, .. })),
        "{error}"
    );
    std::fs::remove_file(state.join("notes.txt")).unwrap();
    open(&dir, "vouchsafe.localhost").await.unwrap();
}

#[tokio::test]
async fn what_has_expired_is_removed_with_a_record() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let grant = bench.done("POST", "/v1/grants", json!({"user":"alice","resource":"wiki","seconds":60})).await;
    let store = &bench.context().store;
    let session = testing::session(store, "alice", None, "c1").await;
    testing::run(store, "UPDATE grants SET expires = 1").await;
    testing::run(store, "UPDATE sessions SET expires = 1").await;
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
    assert!(upkeep::remove_expired(bench.context()).await.unwrap() >= 2);
    // The remembered end of a session that expired is over at once as well.
    upkeep::remove_expired(bench.context()).await.unwrap();
    assert!(bench.changes().await.contains(&format!("grant.expire grant/{}", grant["id"].as_str().unwrap())));
    let ended = bench.done("GET", &format!("/v1/audit?id={session}"), Value::Null).await;
    assert_eq!(ended["records"][0]["kind"], "session_end");
    assert_eq!(upkeep::remove_expired(bench.context()).await.unwrap(), 0);
}

#[tokio::test]
async fn start_and_stop_are_on_record() {
    let bench = Bench::open().await;
    let dir = stop(bench).await;
    let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
    let bench = Bench { controller, tasks, dir };
    let page = bench.done("GET", "/v1/audit?kind=lifecycle", Value::Null).await;
    let actions: Vec<_> = page["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["action"].as_str().unwrap())
        .filter(|action| action.starts_with("controller."))
        .collect();
    assert_eq!(actions, ["controller.start", "controller.stop", "controller.start"]);
}

#[tokio::test]
async fn each_of_our_hosts_is_answered_by_its_own_part() {
    let bench = Bench::open().await;
    let ask = async |host: Option<OwnHost>, path: &str| {
        let mut request = Request::get(path).body(body::empty()).unwrap();
        if let Some(host) = host {
            let ip = "192.0.2.1".parse().unwrap();
            request.extensions_mut().insert(Caller {
                host,
                ip,
                post_quantum: true,
                device: None,
                subject: None,
                decision: None,
            });
        }
        bench.controller.service().call(request).await.status()
    };
    assert_eq!(ask(Some(OwnHost::Auth), "/sign-in").await, StatusCode::OK);
    assert_eq!(ask(Some(OwnHost::Auth), "/v1/status").await, StatusCode::NOT_FOUND);
    assert_eq!(ask(Some(OwnHost::Api), "/v1/status").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Some(OwnHost::Gateway), "/v1/status").await, StatusCode::NOT_FOUND);
    assert!(!ask(Some(OwnHost::Console), "/").await.is_success(), "the console shows nothing to nobody");
    assert_eq!(ask(None, "/v1/status").await, StatusCode::INTERNAL_SERVER_ERROR);
}
