use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vouchsafe_wire::audit::{Kind, Record};

use super::PAGE;
use crate::api::{self, LocalOwner};
use crate::store::testing;
use crate::testing::Bench;

/// 2026-11-21T00:00:00Z.
const MIDNIGHT: u64 = 1_795_219_200;
const OPEN: &str = "@id(\"open\") @device(\"none\") permit (principal, action, resource is Http);";
const BY_NAME: &str = "@id(\"named\") @device(\"none\") permit (principal == User::\"u1\", action, resource is Http);";

/// With a wiki, and `count` decisions about it, one a second, of three people in turn.
async fn bench(count: u64) -> Bench {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.context().store.log().turn_over_always();
    for number in 0..count {
        let mut write = bench.context().store.write().await.unwrap();
        write.audit(record(number));
        write.commit().await.unwrap();
    }
    bench
}

fn record(number: u64) -> Record {
    let mut record = Record::new(Kind::Decision, (MIDNIGHT + number) * 1_000_000);
    let text = |text: &str| Some(text.to_owned());
    record.id = Some(format!("dec_{number}"));
    record.user = Some(format!("u{}", number % 3));
    record.session = text("ses_00000000000000000000000001");
    record.epoch = Some(1);
    record.grade = text("none");
    record.auth_methods = vec!["passkey".to_owned()];
    record.auth_time_us = Some((MIDNIGHT - 60) * 1_000_000);
    record.action = text("http:read");
    record.resource = text("wiki");
    record.ip = text("10.0.0.9");
    (record.method, record.host, record.path) = (text("GET"), text("wiki.vouchsafe.localhost"), text("/"));
    (record.outcome, record.reason) = (text("allow"), text("permitted"));
    record.policies = vec!["open".to_owned()];
    record
}

/// The lines of an answer.
async fn simulate(bench: &Bench, asked: Value) -> (StatusCode, Vec<Value>) {
    let request = Request::post("/v1/policy/simulate").header(header::CONTENT_TYPE, "application/json");
    let request = request.extension(LocalOwner { uid: 0 }).body(Body::from(asked.to_string())).unwrap();
    let response = api::routes(bench.context().clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (status, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
}

fn asked(files: &str, more: Value) -> Value {
    let mut asked =
        json!({"files": [{"name": "draft.cedar", "text": files}], "since": MIDNIGHT, "until": MIDNIGHT + 1_000});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

async fn result(bench: &Bench, asked: Value) -> Value {
    let (status, mut lines) = simulate(bench, asked).await;
    assert_eq!(status, StatusCode::OK);
    let last = lines.pop().unwrap();
    let of = |line: &Value| line["progress"]["of"].as_u64().unwrap();
    let mut done = 0;
    for line in &lines {
        let now = line["progress"]["done"].as_u64().unwrap();
        assert!(now >= done && now <= of(line), "{line}");
        done = now;
    }
    last.get("result").cloned().unwrap_or_else(|| panic!("{last}"))
}

#[tokio::test]
async fn the_whole_log_is_walked_page_by_page() {
    let count = u64::from(PAGE) * 3 + 1;
    let bench = bench(count).await;
    let found = result(&bench, asked("", json!({}))).await;
    assert_eq!((&found["records"], &found["whole"]), (&json!(count), &json!(true)));
    assert_eq!(found["lost"], json!({"requests": count, "people": 3}));
    assert_eq!(found["oldest"], json!(MIDNIGHT));
    assert_eq!(found["changes"][0]["examples"][0]["id"], json!(format!("dec_{}", count - 1)), "the newest");
    // The policy in force, which knows no wiki, denies them already.
    assert_eq!(found["changes"][0]["already"], json!(count));
    assert_eq!(found["lost_already"], json!(count), "and so it isn't the draft that takes them away");
    let open = result(&bench, asked(OPEN, json!({}))).await;
    assert_eq!((&open["lost"]["requests"], &open["allowed"]), (&json!(0), &json!(count)));
    assert_eq!(open["before"], Value::Null);
    let named = result(&bench, asked(BY_NAME, json!({}))).await;
    assert_eq!(named["lost"], json!({"requests": count - (count + 1) / 3, "people": 2}));
    let reads = testing::records(&bench.context().store);
    assert!(reads.iter().any(|record| record.action.as_deref() == Some("audit.simulate")), "it is recorded");
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let bench = bench(9).await;
    let newest = result(&bench, asked("", json!({"limit": 6}))).await;
    assert_eq!((&newest["records"], &newest["whole"]), (&json!(6), &json!(false)));
    assert_eq!(newest["oldest"], json!(MIDNIGHT + 3));
    let all = result(&bench, asked("", json!({"limit": 9}))).await;
    assert_eq!((&all["records"], &all["whole"]), (&json!(9), &json!(true)), "just as many as there are");
    let some = result(&bench, asked("", json!({"since": MIDNIGHT + 2, "until": MIDNIGHT + 5}))).await;
    assert_eq!((&some["records"], &some["whole"]), (&json!(3), &json!(true)));
    let none = result(&bench, asked("", json!({"since": 5, "until": 6}))).await;
    assert_eq!((&none["records"], &none["oldest"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn two_versions_are_compared_on_what_was_asked() {
    let bench = bench(9).await;
    let publish = |text: &str| {
        let mut files = vec![json!({"name": "a.cedar", "text": text})];
        let default = vouchsafe_policy::default_policy();
        files.push(json!({"name": default.name, "text": default.text}));
        json!({"files": files, "note": ""})
    };
    let open = bench.done("POST", "/v1/policy/publish", publish(OPEN)).await["version"].clone();
    let named = bench.done("POST", "/v1/policy/publish", publish(BY_NAME)).await["version"].clone();
    let asked = |before: &Value, after: &Value| json!({"before": before, "after": after, "since": MIDNIGHT, "until": MIDNIGHT + 100});
    let lost = result(&bench, asked(&open, &named)).await;
    assert_eq!((&lost["lost"]["requests"], &lost["gained"]["requests"]), (&json!(6), &json!(0)));
    assert_eq!((&lost["before"], &lost["after"]), (&open, &named));
    assert_eq!(lost["changes"][0]["before"], json!({"reason": "permitted", "policies": ["open"]}));
    let gained = result(&bench, asked(&named, &open)).await;
    assert_eq!((&gained["lost"]["requests"], &gained["gained"]["requests"]), (&json!(0), &json!(6)));
    // Without a word of what to try, it is the policy in force.
    let in_force = result(&bench, json!({"since": MIDNIGHT, "until": MIDNIGHT + 100})).await;
    assert_eq!((&in_force["after"], &in_force["lost"]["requests"]), (&named, &json!(6)));
    assert_eq!(in_force["changes"][0]["already"], json!(6));
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused() {
    let bench = bench(1).await;
    for (body, status, kind) in [
        (json!({"limit": 0}), 422, "invalid"),
        (json!({"limit": 20_000_001}), 422, "invalid"),
        (json!({"after": 77}), 404, "not_found"),
        (json!({"after": 1, "files": []}), 422, "invalid"),
        (asked("permit (principal, action, resource);", json!({})), 422, "policy_invalid"),
    ] {
        assert_eq!(
            bench.refused("POST", "/v1/policy/simulate", body.clone()).await,
            (status, kind.to_owned()),
            "{body}"
        );
    }
    let waiting = &bench.context().simulations.waiting;
    let places = waiting.clone().try_acquire_many_owned(u32::try_from(waiting.available_permits()).unwrap()).unwrap();
    let refused = bench.refused("POST", "/v1/policy/simulate", json!({})).await;
    assert_eq!(refused, (429, "busy".to_owned()));
    drop(places);
    assert_eq!(result(&bench, json!({"since": MIDNIGHT})).await["records"], json!(1));
}
