//! Where messages may go, and when they go again. Real receivers: `vouchsafe/tests/it/webhooks.rs`.

use serde_json::{Value, json};

use super::*;
use crate::store::testing;
use crate::testing::Bench;

fn target(url: &str) -> Result<Target, String> {
    Target::new(url, None, Secret::fresh())
}

#[test]
fn messages_go_by_tls_or_to_this_machine_and_never_where_clouds_keep_credentials() {
    for url in [
        "https://chat.example.org/hooks/x?y=z",
        "https://10.0.0.7:8443/hooks",
        "https://[fd00::7]/hooks",
        "http://127.0.0.1:8065/hooks",
        "http://[::1]:8065/hooks",
    ] {
        assert!(target(url).is_ok(), "{url}");
    }
    for url in [
        "http://chat.example.org/hooks",
        "http://localhost:8065/hooks",
        "http://10.0.0.7/hooks",
        "ftp://chat.example.org/",
        "file:///etc/passwd",
        "https://user:pass@chat.example.org/",
        "https://chat.example.org/#x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://2852039166/",
        "/hooks",
        "",
    ] {
        assert!(target(url).is_err(), "{url}");
    }
    assert!(target(&format!("https://chat.example.org/{}", "a".repeat(3_000))).is_err());
    assert!(Target::new("https://chat.example.org/", Some("no roots"), Secret::fresh()).is_err());
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_looked_up() {
    let target = target("https://localhost:1/hooks").unwrap();
    let why = outward::addresses(&target.url, 443).await.unwrap_err();
    assert!(why.contains("loopback"), "{why}");
}

#[test]
fn the_pauses_grow_and_end_after_three_days() {
    let mut message = Message { position: 1, id: "msg_1".into(), body: String::new(), created: 1_000, attempts: 0 };
    let (mut now, mut last) = (1_000, 0);
    while let Some(due) = again_at(&message, now) {
        let pause = due - now;
        assert!(pause >= PAUSES[0] && pause + 1 >= last.min(*PAUSES.last().unwrap()), "{pause} after {last}");
        (now, last, message.attempts) = (due, pause * 10 / 11, message.attempts + 1);
        assert!(message.attempts < 20, "it ends");
    }
    assert!(now > 1_000 + LIFE_SECONDS / 2 && now <= 1_000 + LIFE_SECONDS, "{now}");
}

async fn waiting(bench: &Bench) -> Vec<(String, String)> {
    let mut read = bench.context().store.read().await.unwrap();
    let mut found = Vec::new();
    for webhook in webhooks::list(&mut read).await.unwrap() {
        let name = WebhookName::parse(&webhook.name).unwrap();
        if let Some(message) = webhooks::next(&mut read, &name, u64::MAX).await.unwrap() {
            let body: Value = serde_json::from_str(&message.body).unwrap();
            found.push((webhook.name, body["type"].as_str().unwrap().to_owned()));
        }
    }
    found
}

/// Nobody listens at port 1.
async fn add(bench: &Bench, name: &str, events: Value) -> Value {
    let new = json!({"name": name, "url": "http://127.0.0.1:1/hooks/geheim", "events": events});
    bench.done("POST", "/v1/webhooks", new).await
}

#[tokio::test]
async fn messages_are_there_with_the_change_for_those_that_want_them() {
    let bench = Bench::open().await;
    let added = add(&bench, "all", json!([])).await;
    assert!(added["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(added["webhook"]["origin"], "http://127.0.0.1:1");
    add(&bench, "locks", json!(["lock.set"])).await;
    add(&bench, "requests", json!(["request.created"])).await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    assert_eq!(waiting(&bench).await, []);
    bench.done("POST", "/v1/locks", json!({"kind": "user", "name": "alice", "reason": "stolen"})).await;
    let set = |name: &str| (name.to_owned(), "lock.set".to_owned());
    assert_eq!(waiting(&bench).await, [set("all"), set("locks")]);
    bench.done("DELETE", "/v1/webhooks/all", Value::Null).await;
    assert_eq!(waiting(&bench).await, [set("locks")], "they go with it");
    let tried = bench.done("POST", "/v1/webhooks/requests/test", Value::Null).await;
    assert_eq!(tried["delivered"], false);
    assert_eq!(waiting(&bench).await, [set("locks")], "a try is no message");
    let changes = bench.changes().await;
    assert!(changes.contains(&"webhook.add webhook/all".to_owned()), "{changes:?}");
}

#[tokio::test]
async fn i10_address_and_secret_are_neither_in_the_database_nor_in_what_is_told() {
    let bench = Bench::open().await;
    let secret = add(&bench, "chat", json!([])).await["secret"].as_str().unwrap().to_owned();
    let told = [
        bench.done("GET", "/v1/webhooks", Value::Null).await.to_string(),
        bench.done("GET", "/v1/audit?limit=1000", Value::Null).await.to_string(),
        bench.done("POST", "/v1/webhooks/chat/test", Value::Null).await.to_string(),
    ];
    let mut files = Vec::new();
    for file in std::fs::read_dir(&bench.context().settings.dir).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("vouchsafe.db") {
            files.extend(std::fs::read(file.path()).unwrap());
        }
    }
    let holds = |haystack: &[u8], needle: &str| haystack.windows(needle.len()).any(|at| at == needle.as_bytes());
    assert!(holds(&files, "127.0.0.1:1"), "the origin is there");
    for needle in ["geheim", secret.trim_start_matches("whsec_")] {
        assert!(told.iter().all(|told| !told.contains(needle)), "{needle} in {told:?}");
        assert!(!holds(&files, needle), "{needle} in the database");
    }
}

#[tokio::test]
async fn i11_webhooks_and_what_waits_for_them_are_bounded() {
    let bench = Bench::open().await;
    let refused = async |body: Value| bench.refused("POST", "/v1/webhooks", body).await;
    let url = "http://127.0.0.1:1/";
    assert_eq!(refused(json!({"name": "a", "url": "http://10.0.0.1/"})).await, (422, "invalid".into()));
    assert_eq!(refused(json!({"name": "A", "url": url})).await, (422, "invalid".into()));
    assert_eq!(refused(json!({"name": "a", "url": url, "events": ["request.add"]})).await, (422, "invalid".into()));
    for number in 0..20 {
        add(&bench, &format!("w{number}"), json!(["lock.set"])).await;
    }
    assert_eq!(refused(json!({"name": "w20", "url": url})).await, (409, "too_many_webhooks".into()));
    assert_eq!(refused(json!({"name": "w1", "url": url})).await, (409, "name_taken".into()));
    testing::run(
        &bench.context().store,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO webhook_messages (id, webhook, event, body, created, attempts, due)
         SELECT 'msg_' || i, 'w7', 'lock.set', '{}', 1, 0, 99999999999 FROM n",
    )
    .await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("POST", "/v1/locks", json!({"kind": "user", "name": "alice"})).await;
    let list = bench.done("GET", "/v1/webhooks", Value::Null).await;
    let of = |name: &str| list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!((&of("w7")["waiting"], &of("w7")["dropped"]), (&json!(1000), &json!(1)));
    assert_eq!((&of("w8")["waiting"], &of("w8")["dropped"]), (&json!(1), &json!(0)));
    assert_eq!(bench.refused("POST", "/v1/webhooks/nope/test", Value::Null).await, (404, "not_found".into()));
}
