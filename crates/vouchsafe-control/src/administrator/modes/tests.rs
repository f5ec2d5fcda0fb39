use std::time::Duration;

use serde_json::{Value, json};
use vouchsafe_model::mode::Mode;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::task::Drained;
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::resource::second_text;

use super::end_over;
use crate::store::{Store, resources, testing};
use crate::testing::{Bench, open};

const DAY: u64 = 86_400;

fn in_seconds(seconds: u64) -> String {
    second_text(clock::now() + Duration::from_secs(seconds)).unwrap()
}

fn observe(until: &str) -> Value {
    json!({"mode": "observe", "observe": {"from": ["10.0.0.0/8"], "owner": "alice", "reason": "moving in", "until": until}})
}

/// With a wiki, and alice who answers for it.
async fn bench() -> Bench {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench
}

/// The mode as gateways get it.
async fn in_force(store: &Store) -> &'static str {
    let mut read = store.read().await.unwrap();
    let all = resources::all(&mut read).await.unwrap();
    all.iter().find(|resource| resource.name.as_str() == "wiki").unwrap().mode.as_str()
}

#[tokio::test]
async fn a_mode_is_set_by_one_request_and_taken_back_by_another() {
    let bench = bench().await;
    let store = &bench.context().store;
    assert_eq!(in_force(store).await, "enforce");
    let until = in_seconds(DAY);
    let kept = bench.done("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    assert_eq!((&kept["mode"], &kept["observe"]["until"]), (&json!("observe"), &json!(until)));
    assert_eq!(kept["upstream"], "http://10.0.0.1:80", "all else stays");
    assert_eq!(in_force(store).await, "observe");
    bench.done("PUT", "/v1/resources/wiki/mode", json!({"mode": "enforce"})).await;
    assert_eq!(in_force(store).await, "enforce");
    let kept = bench.done("GET", "/v1/resources/wiki", Value::Null).await;
    assert_eq!((kept.get("mode"), kept.get("observe")), (None, None));
    // Put as a whole without a mode, it has none.
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    assert_eq!(in_force(store).await, "enforce");
}

#[tokio::test]
async fn i14_what_is_out_of_bounds_is_refused_and_changes_nothing() {
    let bench = bench().await;
    let changes = bench.changes().await;
    let with = |member: &str, value: Value| {
        let mut body = observe(&in_seconds(DAY));
        body["observe"][member] = value;
        body
    };
    for body in [
        with("until", json!(in_seconds(91 * DAY))),
        with("until", json!(in_seconds(0))),
        with("until", json!("2020-01-01T00:00:00Z")),
        with("from", json!([])),
        with("from", json!(["0.0.0.0/0"])),
        with("reason", json!("")),
        with("further", json!(1)),
        json!({"mode": "observe"}),
        json!({"mode": "observed", "observe": observe(&in_seconds(DAY))["observe"]}),
        json!({"observe": observe(&in_seconds(DAY))["observe"]}),
    ] {
        let (status, _) = bench.refused("PUT", "/v1/resources/wiki/mode", body.clone()).await;
        assert_eq!(status, 422, "{body}");
    }
    let by_nobody = bench.refused("PUT", "/v1/resources/wiki/mode", with("owner", json!("mallory"))).await;
    assert_eq!(by_nobody.0, 404, "{by_nobody:?}");
    // There is no resource of ours that could have one.
    let console = bench.refused("PUT", "/v1/resources/console/mode", observe(&in_seconds(DAY))).await;
    assert!([404, 422].contains(&console.0), "{console:?}");
    assert_eq!(bench.changes().await, changes);
    assert_eq!(in_force(&bench.context().store).await, "enforce");
}

#[tokio::test]
async fn i14_a_mode_ends_for_good() {
    let bench = bench().await;
    let store = bench.context().store.clone();
    let until = in_seconds(DAY);
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    let mut write = store.write().await.unwrap();
    let now = clock::unix_seconds(clock::now());
    assert_eq!(end_over(&mut write, now, 10).await.unwrap(), 0, "not yet");
    assert_eq!(end_over(&mut write, now + 2 * DAY, 10).await.unwrap(), 1);
    assert_eq!(end_over(&mut write, now + 2 * DAY, 10).await.unwrap(), 0, "once");
    write.commit().await.unwrap();
    // By the clock it would go on.
    assert_eq!(in_force(&store).await, "enforce");
    assert!(bench.changes().await.contains(&"resource.mode.end resource/wiki".to_owned()));
    // With the same end it isn't begun again, by whatever way, also when something else changes.
    let again = bench.refused("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    assert_eq!(again, (422, "invalid".into()));
    let mut whole = bench.done("GET", "/v1/resources/wiki", Value::Null).await;
    whole["description"] = json!("Our wiki");
    bench.done("PUT", "/v1/resources/wiki", whole).await;
    assert_eq!(in_force(&store).await, "enforce");
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&in_seconds(2 * DAY))).await;
    assert_eq!(in_force(&store).await, "observe", "somebody set another end");
}

#[tokio::test]
async fn i14_a_row_without_its_trial_enforces() {
    let bench = bench().await;
    let store = &bench.context().store;
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&in_seconds(DAY))).await;
    testing::run(store, "DELETE FROM trials").await;
    assert_eq!(in_force(store).await, "enforce");
}

#[tokio::test]
async fn i14_a_clock_that_was_set_back_ends_every_mode() {
    let bench = bench().await;
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&in_seconds(DAY))).await;
    let now = clock::unix_seconds(clock::now());
    let restart = async |bench: Bench, clock_was: u64| {
        let Bench { controller, tasks, dir } = bench;
        let store = controller.context().store.clone();
        drop(controller);
        assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Drained::Completely);
        let set = format!("UPDATE settings SET value = '{clock_was}' WHERE name = 'clock'");
        testing::run(&store, &set).await;
        drop(store);
        let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
        Bench { controller, tasks, dir }
    };
    let bench = restart(bench, now + 30).await;
    assert_eq!(in_force(&bench.context().store).await, "observe", "a restart ends nothing");
    let bench = restart(bench, now + 3_600).await;
    assert_eq!(in_force(&bench.context().store).await, "enforce");
    // Over by the latest time that was seen, though the clock went back by less than is minded.
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&in_seconds(40))).await;
    assert_eq!(in_force(&bench.context().store).await, "observe");
    let bench = restart(bench, clock::unix_seconds(clock::now()) + 50).await;
    assert_eq!(in_force(&bench.context().store).await, "enforce");
}

#[tokio::test]
async fn a_manifest_whose_mode_is_over_stands_in_nobodys_way() {
    let bench = bench().await;
    let wiki = |description: &str| {
        let mut wiki = observe("2020-01-01T00:00:00Z");
        wiki["name"] = json!("wiki");
        wiki["kind"] = json!("http");
        wiki["upstream"] = json!("http://10.0.0.1:80");
        wiki["description"] = json!(description);
        json!({"resources": [wiki]})
    };
    let apply = async |manifest: Value| {
        let plan = bench.done("POST", "/v1/plan", manifest.clone()).await;
        bench.done("POST", "/v1/apply", json!({"manifest": manifest, "digest": plan["digest"]})).await
    };
    assert_eq!(apply(wiki("one")).await["changes"].as_array().unwrap().len(), 1);
    let mut read = bench.context().store.read().await.unwrap();
    let all = resources::all(&mut read).await.unwrap();
    assert!(all.iter().all(|resource| resource.mode.in_force([10, 0, 0, 1].into(), clock::now()).is_none()));
    assert!(!all.iter().any(|resource| resource.mode == Mode::Enforce), "it is over, and says so");
    drop(read);
    assert_eq!(apply(wiki("one")).await["changes"], json!([]), "a second apply does nothing");
    assert_eq!(apply(wiki("two")).await["changes"].as_array().unwrap().len(), 1);
    let mut missing = wiki("two");
    missing["resources"][0]["observe"]["owner"] = json!("mallory");
    assert_eq!(bench.refused("POST", "/v1/plan", missing).await.0, 404);
}

#[tokio::test]
async fn progress_counts_from_when_the_mode_began_and_says_when_it_is_over() {
    let bench = bench().await;
    let progress =
        async |query: &str| bench.done("GET", &format!("/v1/resources/wiki/progress{query}"), Value::Null).await;
    let enforced = progress("").await;
    assert_eq!(
        (&enforced["mode"], &enforced["next"], &enforced["safe"]),
        (&json!("enforce"), &json!(null), &json!(false))
    );
    let until = in_seconds(DAY);
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    let mut write = bench.context().store.write().await.unwrap();
    for (user, passed) in [(Some("alice"), None), (Some("bob"), Some("observe")), (None, Some("observe"))] {
        let mut record = Record::new(Kind::Decision, clock::unix_micros(clock::now()));
        record.user = user.map(ToOwned::to_owned);
        record.ip = Some("10.0.0.9".into());
        record.resource = Some("wiki".into());
        record.outcome = Some(if passed.is_some() { "deny" } else { "allow" }.into());
        record.passed = passed.map(ToOwned::to_owned);
        record.reason = Some("no_permit".into());
        write.audit(record);
    }
    write.commit().await.unwrap();
    let observed = progress("?days=30").await;
    assert_eq!((&observed["mode"], &observed["next"]), (&json!("observe"), &json!("warn")));
    assert_eq!((&observed["accesses"], &observed["would_deny"]), (&json!(3), &json!(2)));
    assert_eq!(
        (&observed["owner"], &observed["safe"], &observed["whole"]),
        (&json!("alice"), &json!(false), &json!(true))
    );
    assert_eq!(observed["reasons"], json!([{"reason": "no_permit", "count": 2}]));
    assert_eq!(observed["people"].as_array().unwrap().len(), 3);
    assert_eq!(bench.refused("GET", "/v1/resources/wiki/progress?days=0", Value::Null).await.0, 422);
    assert_eq!(bench.refused("GET", "/v1/resources/none/progress", Value::Null).await.0, 404);
    let mut write = bench.context().store.write().await.unwrap();
    end_over(&mut write, u64::MAX, 10).await.unwrap();
    write.commit().await.unwrap();
    let over = progress("").await;
    assert_eq!((&over["mode"], &over["over"], &over["next"]), (&json!("enforce"), &json!(true), &json!(null)));
    let reads = testing::records(&bench.context().store);
    assert!(
        reads.iter().any(|record| record.action.as_deref() == Some("audit.progress")),
        "reading the log is recorded"
    );
}

/// What has ended can't begin anew by the same end, whatever was between, nor by a clock that went back.
#[tokio::test]
async fn an_end_that_has_come_is_not_forgotten_when_the_resource_enforces() {
    let bench = bench().await;
    let until = in_seconds(DAY);
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    // By a clock that was ahead it has ended.
    let mut write = bench.context().store.write().await.unwrap();
    assert_eq!(end_over(&mut write, clock::unix_seconds(clock::now()) + 2 * DAY, 10).await.unwrap(), 1);
    write.commit().await.unwrap();
    bench.done("PUT", "/v1/resources/wiki/mode", json!({"mode": "enforce"})).await;
    let (status, problem) = bench.ask("PUT", "/v1/resources/wiki/mode", observe(&until)).await;
    assert!(!status.is_success() && problem.to_string().contains("ended already"), "{problem}");
    // One that somebody took back before its end can be set again.
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&in_seconds(2 * DAY))).await;
    let other = in_seconds(2 * DAY);
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&other)).await;
    bench.done("PUT", "/v1/resources/wiki/mode", json!({"mode": "enforce"})).await;
    bench.done("PUT", "/v1/resources/wiki/mode", observe(&other)).await;
    assert_eq!(in_force(&bench.context().store).await, "observe");
}
