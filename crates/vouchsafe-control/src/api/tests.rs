use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use futures_util::StreamExt;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vouchsafe_model::id::{DecisionId, SessionId, UserId};
use vouchsafe_model::name::UserName;
use vouchsafe_model::subject::{AuthFacts, AuthMethod, Epoch, SubjectFacts, UserFacts};
use vouchsafe_runtime::internal::{Caller, OwnHost};

use super::{LocalOwner, ROUTES, routes};
use crate::administrator::confirm;
use crate::store::testing;
use crate::testing::Bench;

fn caller(host: OwnHost, subject: Option<&str>) -> Caller {
    let subject = subject.map(|name| {
        Arc::new(SubjectFacts {
            session: SessionId::from_random([1; 16]),
            user: UserFacts {
                id: UserId::from_random([2; 16]),
                name: UserName::parse(name).unwrap(),
                groups: BTreeSet::new(),
            },
            device: None,
            auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: SystemTime::UNIX_EPOCH },
            expires: SystemTime::UNIX_EPOCH,
            epoch: Epoch(1),
        })
    });
    let decision = subject.as_ref().map(|_| DecisionId::from_random([3; 16]));
    Caller { host, ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), post_quantum: true, device: None, subject, decision }
}

#[tokio::test]
async fn i13_every_route_refuses_whom_nobody_vouched_for() {
    let bench = Bench::open().await;
    let before = bench.context().store.log().size();
    let callers = [
        None,
        Some(caller(OwnHost::Api, None)),
        Some(caller(OwnHost::Auth, Some("admin"))),
        Some(caller(OwnHost::Console, Some("admin"))),
        Some(caller(OwnHost::Gateway, Some("admin"))),
    ];
    assert!(ROUTES.len() > 30);
    for (method, path) in ROUTES.iter().chain(super::tlog::ROUTES).chain(&[
        ("get", "/api/openapi.json"),
        ("get", "/v1/nothing"),
        ("post", "/"),
    ]) {
        for caller in &callers {
            let path = path
                .replace("{name}", "admin")
                .replace("{user}", "admin")
                .replace("{id}", "x")
                .replace("{version}", "1");
            let mut request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace("{device}", "x"))
                .header(header::CONTENT_TYPE, "application/json")
                .header("x-vouchsafe-user", "admin");
            if let Some(caller) = caller {
                request = request.extension(caller.clone());
            }
            let request = request.body(Body::from("{}")).unwrap();
            let response = routes(bench.context().clone()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        }
    }
    assert_eq!(bench.context().store.log().size(), before, "nothing was done");
}

#[tokio::test]
async fn a_change_by_a_user_names_user_address_and_decision() {
    let bench = Bench::open().await;
    let request = Request::builder()
        .method("PUT")
        .uri("/v1/groups/finance")
        .extension(caller(OwnHost::Api, Some("ann")))
        .body(Body::empty())
        .unwrap();
    let response = routes(bench.context().clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let id = DecisionId::from_random([3; 16]);
    let page = bench.done("GET", &format!("/v1/audit?id={id}"), Value::Null).await;
    let record = &page["records"][0];
    assert_eq!(record["user"], "ann");
    assert_eq!(record["ip"], "192.0.2.7");
    assert_eq!(record["action"], "group.add");
    assert_eq!(record["target"], "group/finance");
    assert_eq!(record["protocol"], "api");
}

#[tokio::test]
async fn the_log_is_counted_over_time_and_by_value_and_searched_for_words() {
    let bench = Bench::open().await;
    for group in ["finance-eu", "ops-eu", "sales-berlin-eu"] {
        bench.done("PUT", &format!("/v1/groups/{group}"), Value::Null).await;
    }
    let before = bench.context().store.log().size();
    let counts = bench.done("GET", "/v1/audit/counts?kind=admin&text=group/+EU", Value::Null).await;
    assert_eq!(counts["total"]["records"], 3);
    assert_eq!(counts["total"]["ok"], 3);
    assert_eq!((&counts["over_time"], &counts["others"], &counts["without"]), (&Value::Null, &json!(0), &json!(0)));
    assert_eq!(bench.context().store.log().size(), before + 1, "that it was asked is recorded");
    let asked = bench.done("GET", "/v1/audit?kind=audit_read&text=counts", Value::Null).await;
    // The newest is this very question.
    assert_eq!(asked["records"][1]["action"], "audit.counts");
    assert_eq!(asked["records"][1]["detail"], r#"{"kind":"admin","text":"group/ EU"}"#);
    let found = bench.done("GET", "/v1/audit?text=BERLIN+gro&kind=admin", Value::Null).await;
    assert_eq!(
        (found["records"].as_array().unwrap().len(), &found["records"][0]["target"]),
        (1, &json!("group/sales-berlin-eu"))
    );
    let now = vouchsafe_runtime::clock::unix_seconds(vouchsafe_runtime::clock::now());
    let since = now - 7_200;
    let counts = bench.done("GET", &format!("/v1/audit/counts?since={since}&step=3600"), Value::Null).await;
    let over_time = counts["over_time"].as_array().unwrap();
    assert!((3..=4).contains(&over_time.len()), "{counts}");
    assert_eq!(over_time[1]["at"], since + 3_600);
    let added: u64 = over_time.iter().map(|piece| piece["records"].as_u64().unwrap()).sum();
    assert_eq!(counts["total"]["records"], added);
    let counts = bench.done("GET", "/v1/audit/counts?by=kind&top=1", Value::Null).await;
    assert_eq!(counts["top"].as_array().unwrap().len(), 1);
    let top = counts["top"][0]["records"].as_u64().unwrap();
    assert_eq!(counts["total"]["records"], top + counts["others"].as_u64().unwrap());
    for (refused, named) in [
        ("text=--", "text"),
        ("text=1+2+3+4+5+6+7+8+9", "text"),
        ("step=60", "step"),
        ("step=0&since=1", "step"),
        ("step=1&since=1&until=2000", "step"),
        ("step=60&since=100&until=50", "step"),
        ("by=user&top=51", "top"),
    ] {
        let (status, problem) = bench.ask("GET", &format!("/v1/audit/counts?{refused}"), Value::Null).await;
        assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("invalid")), "{refused}: {problem}");
        assert!(problem["title"].as_str().unwrap().starts_with(&format!("`{named}`")), "{problem}");
    }
    assert_eq!(bench.refused("GET", "/v1/audit/counts?by=path", Value::Null).await.0, 400);
    for refused in ["limit=0", "limit=1001", "by=user", "device=nobodys"] {
        let status = bench.refused("GET", &format!("/v1/audit/uses?{refused}"), Value::Null).await.0;
        assert!(matches!(status, 400 | 404 | 422), "{refused}: {status}");
    }
    let uses = bench.done("GET", "/v1/audit/uses?user=nobody", Value::Null).await;
    assert_eq!(uses, json!({"uses": [], "others": 0, "whole": true}));
}

#[tokio::test]
async fn a_user_is_made_with_groups_and_link_or_not_at_all() {
    let bench = Bench::open().await;
    let (status, problem) =
        bench.ask("POST", "/v1/users", json!({"name":"alice","groups":["administrators","mkt","ops"]})).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("missing_groups")));
    assert_eq!(problem["title"], "there is no group `mkt`, `ops`");
    assert!(problem["detail"].as_str().unwrap().contains("vouchsafe group add mkt"));
    assert_eq!(bench.refused("GET", "/v1/users/alice", Value::Null).await, (404, "not_found".into()));
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    let invited = bench.done("POST", "/v1/users", json!({"name":"alice","groups":["mkt"]})).await;
    assert_eq!(invited["user"]["groups"], json!(["mkt"]));
    assert_eq!(bench.refused("POST", "/v1/users", json!({"name":"alice"})).await, (409, "name_taken".into()));
    assert_eq!(bench.refused("POST", "/v1/users", json!({"name":"Ålice"})).await, (422, "invalid".into()));
    assert_eq!(bench.refused("POST", "/v1/users", json!({"name":"bob","admin":true})).await.0, 422);
    assert_eq!(bench.refused("POST", "/v1/users", json!(["bob", []])).await.0, 422, "a list is no object");
    assert_eq!(bench.done("GET", "/v1/users", Value::Null).await[1]["name"], "alice");
    assert_eq!(
        bench.changes().await[3..],
        ["group.add group/mkt".to_owned(), "user.add user/alice".to_owned()],
        "refused changes leave nothing"
    );
}

#[tokio::test]
async fn nobody_is_named_so_that_a_record_could_mean_somebody_else() {
    let bench = Bench::open().await;
    for name in ["controller", "anonymous", "nobody", "dev_00000000000000000000000000"] {
        let refused = bench.refused("POST", "/v1/users", json!({"name": name})).await;
        assert_eq!(refused, (422, "invalid".into()), "{name}");
    }
    bench.done("POST", "/v1/users", json!({"name": "controllers"})).await;
}

#[tokio::test]
async fn deleting_and_disabling_end_everything_and_keep_the_name() {
    let bench = Bench::open().await;
    let store = &bench.context().store;
    bench.done("POST", "/v1/users", json!({"name":"alice"})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("POST", "/v1/grants", json!({"user":"alice","resource":"wiki"})).await;
    testing::passkey(store, "alice").await;
    testing::session(store, "alice", None, "c1").await;
    let user = bench.done("GET", "/v1/users/alice", Value::Null).await;
    assert_eq!((&user["state"], &user["sessions"]), (&json!("active"), &json!(1)));
    let user = bench.done("PATCH", "/v1/users/alice", json!({"disabled":true})).await;
    assert_eq!((&user["state"], &user["sessions"]), (&json!("disabled"), &json!(0)));
    assert_eq!(bench.refused("POST", "/v1/users/alice/invite", Value::Null).await.1, "user_disabled");
    let records = bench.changes().await.len();
    bench.done("PATCH", "/v1/users/alice", json!({"disabled":true})).await;
    assert_eq!(bench.changes().await.len(), records, "nothing changed, so nothing is recorded");
    bench.done("DELETE", "/v1/users/alice", Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
    assert_eq!(bench.refused("POST", "/v1/users", json!({"name":"alice"})).await, (409, "name_reserved".into()));
    assert_eq!(bench.refused("DELETE", "/v1/users/alice", Value::Null).await, (404, "not_found".into()));
    assert_eq!(bench.refused("POST", "/v1/grants", json!({"user":"alice","resource":"wiki"})).await.0, 404);
}

#[tokio::test]
async fn the_last_administrator_who_can_sign_in_stays() {
    let bench = Bench::open().await;
    let store = &bench.context().store;
    testing::passkey(store, "admin").await;
    bench.done("POST", "/v1/users", json!({"name":"eve","groups":["administrators"]})).await;
    let last = (409, "last_administrator".to_owned());
    for _ in 0..2 {
        assert_eq!(bench.refused("PATCH", "/v1/users/admin", json!({"disabled":true})).await, last);
        assert_eq!(bench.refused("PATCH", "/v1/users/admin", json!({"groups":[]})).await, last);
        assert_eq!(bench.refused("DELETE", "/v1/users/admin", Value::Null).await, last);
        assert_eq!(bench.refused("DELETE", "/v1/groups/administrators/members/admin", Value::Null).await, last);
        let manifest = json!({"groups":[{"name":"administrators","members":["eve"]}]});
        let plan = bench.done("POST", "/v1/plan", manifest.clone()).await;
        let apply = json!({"manifest": manifest, "digest": plan["digest"]});
        assert_eq!(bench.refused("POST", "/v1/apply", apply).await, last);
        assert_eq!(bench.refused("DELETE", "/v1/groups/administrators", Value::Null).await.1, "administrators_stay");
    }
    testing::passkey(store, "eve").await;
    bench.done("PATCH", "/v1/users/admin", json!({"disabled":true})).await;
    assert_eq!(bench.refused("DELETE", "/v1/users/eve", Value::Null).await, last);
}

#[tokio::test]
async fn two_administrators_can_not_disable_each_other_at_the_same_moment() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name":"eve","groups":["administrators"]})).await;
    for user in ["admin", "eve"] {
        testing::passkey(&bench.context().store, user).await;
    }
    let (one, other) = tokio::join!(
        bench.ask("PATCH", "/v1/users/admin", json!({"disabled":true})),
        bench.ask("PATCH", "/v1/users/eve", json!({"disabled":true})),
    );
    let mut statuses = [one.0.as_u16(), other.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn a_name_is_given_once_however_many_ask_at_the_same_moment() {
    let bench = Bench::open().await;
    let asked = (0..8).map(|_| bench.ask("POST", "/v1/users", json!({"name":"alice"})));
    let made = futures_util::future::join_all(asked).await;
    assert_eq!(made.iter().filter(|(status, _)| status.is_success()).count(), 1);
    assert_eq!(bench.changes().await.iter().filter(|change| *change == "user.add user/alice").count(), 1);
}

#[tokio::test]
async fn putting_a_resource_is_idempotent_and_its_grants_go_with_it() {
    let bench = Bench::open().await;
    let wiki =
        json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1:80/","tags":["b","a"],"sensitivity":"internal"});
    let put = bench.done("PUT", "/v1/resources/wiki", wiki.clone()).await;
    assert_eq!(put, json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1:80","tags":["a","b"]}));
    let newest = bench.context().store.log().size();
    bench.done("PUT", "/v1/resources/wiki", put.clone()).await;
    bench.done("PUT", "/v1/resources/wiki", wiki).await;
    assert_eq!(bench.context().store.log().size(), newest);
    bench.done("POST", "/v1/users", json!({"name":"alice"})).await;
    let grant = bench.done("POST", "/v1/grants", json!({"user":"alice","resource":"wiki","reason":"audit"})).await;
    bench.done("DELETE", "/v1/resources/wiki", Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
    let page = bench.done("GET", "/v1/audit?kind=admin&limit=1", Value::Null).await;
    let detail = page["records"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(grant["id"].as_str().unwrap()), "{detail}");
}

#[tokio::test]
async fn resources_that_lead_back_here_or_break_a_rule_are_refused() {
    let bench = Bench::open().await;
    for upstream in [
        "https://127.0.0.1:8443",
        "https://[::1]:8443",
        "https://[::ffff:127.0.0.9]:8443",
        "https://localhost:8443",
        "https://gw.vouchsafe.localhost:8443",
    ] {
        let doc = json!({"name":"loop","kind":"http","upstream":upstream});
        let (status, problem) = bench.ask("PUT", "/v1/resources/loop", doc).await;
        assert_eq!(status.as_u16(), 422, "{upstream}");
        assert!(problem["title"].as_str().unwrap().contains("own port"), "{upstream}: {problem}");
    }
    bench
        .done("PUT", "/v1/resources/app", json!({"name":"app","kind":"http","upstream":"https://127.0.0.1:8444"}))
        .await;
    let other = json!({"name":"other","kind":"http","upstream":"http://10.0.0.1"});
    assert_eq!(bench.refused("PUT", "/v1/resources/wiki", other).await.0, 422);
    let reserved = json!({"name":"console","kind":"http","upstream":"http://10.0.0.1"});
    assert_eq!(bench.refused("PUT", "/v1/resources/console", reserved).await.0, 422);
    assert_eq!(bench.refused("GET", "/v1/resources/none", Value::Null).await, (404, "not_found".into()));
}

#[tokio::test]
async fn grants_need_both_ends_and_a_sane_time() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name":"alice"})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let grant = |seconds: u64| json!({"user":"alice","resource":"wiki","seconds":seconds});
    for seconds in [0, 59, 31_536_001] {
        assert_eq!(bench.refused("POST", "/v1/grants", grant(seconds)).await, (422, "invalid".into()));
    }
    assert_eq!(bench.refused("POST", "/v1/grants", json!({"user":"bob","resource":"wiki"})).await.0, 404);
    assert_eq!(bench.refused("POST", "/v1/grants", json!({"user":"alice","resource":"crm"})).await.0, 404);
    let given = bench.done("POST", "/v1/grants", grant(60)).await;
    assert_eq!(given["expires"].as_u64().unwrap() - given["created"].as_u64().unwrap(), 60);
    bench.done("DELETE", &format!("/v1/grants/{}", given["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
}

fn policy(files: &[(&str, &str)]) -> Value {
    files.iter().map(|(name, text)| json!({"name": name, "text": text})).collect()
}

const CONSOLE: &str = r#"@id("admins") permit (principal in Group::"administrators", action == Action::"console:write", resource == Console::"console");"#;
const WIKI: &str =
    r#"@id("wiki") permit (principal in Group::"mkt", action in Action::"access", resource == Http::"wiki");"#;

#[tokio::test]
async fn i8_a_policy_with_mistakes_or_without_administrators_is_not_published() {
    let bench = Bench::open().await;
    let publish = |files: Value| json!({"files": files});
    let (status, problem) = bench.ask("POST", "/v1/policy/publish", publish(policy(&[("a.cedar", "permit (")]))).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("policy_invalid")));
    assert_eq!(problem["diagnostics"][0]["file"], "a.cedar");
    for files in [policy(&[]), policy(&[("wiki.cedar", WIKI)])] {
        assert_eq!(bench.refused("POST", "/v1/policy/publish", publish(files)).await, (409, "lock_out".into()));
    }
    // A user without a passkey does not count once somebody has one.
    testing::passkey(&bench.context().store, "admin").await;
    bench.done("PUT", "/v1/groups/others", Value::Null).await;
    bench.done("POST", "/v1/users", json!({"name":"eve","groups":["others"]})).await;
    let others = CONSOLE.replace("administrators", "others");
    let files = policy(&[("console.cedar", &others)]);
    assert_eq!(bench.refused("POST", "/v1/policy/publish", publish(files)).await, (409, "lock_out".into()));
    assert_eq!(bench.refused("POST", "/v1/policy/publish", publish(policy(&[("../x.cedar", CONSOLE)]))).await.0, 422);
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["version"], 1);
    assert_eq!(bench.done("GET", "/v1/policy/history", Value::Null).await.as_array().unwrap().len(), 1);
}

const WIKI_TESTS: &str = "[defaults]\ndevice = \"software\"\nresource = \"wiki\"\naction = \"http:read\"\n\
[subjects.marketer]\ngroups = [\"mkt\"]\n[subjects.other]\ngroups = []\n\
[[cases]]\nname = \"marketing reads\"\nsubject = \"marketer\"\nexpect = \"allow\"\n\
[[cases]]\nname = \"nobody else does\"\nsubject = \"other\"\nexpect = \"deny\"\n";

#[tokio::test]
async fn i8_a_policy_whose_tests_fail_is_not_published_and_its_tests_stay_with_it() {
    let bench = Bench::open().await;
    let tests = policy(&[("tests/wiki.toml", WIKI_TESTS)]);
    let closed = json!({"files": policy(&[("console.cedar", CONSOLE)]), "tests": tests});
    // Without the resource nothing can be asked of it, though a denial is what one case expects.
    let (status, problem) = bench.ask("POST", "/v1/policy/publish", closed.clone()).await;
    assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("tests_failed")));
    assert_eq!(problem["failed_tests"].as_array().unwrap().len(), 2, "{problem}");
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let (_, problem) = bench.ask("POST", "/v1/policy/publish", closed).await;
    assert_eq!(problem["title"], "1 of 2 tests of the policy fail");
    let failed = &problem["failed_tests"][0];
    assert_eq!((&failed["case"], &failed["line"]), (&json!("marketing reads"), &json!(9)), "{failed}");
    assert_eq!(failed["failure"], "expected to be allowed, but it is denied, as no_permit");
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["version"], 1, "nothing of it is live");

    let files = policy(&[("console.cedar", CONSOLE), ("wiki.cedar", WIKI)]);
    let two = bench.done("POST", "/v1/policy/publish", json!({"files": files, "tests": tests})).await;
    assert_eq!((&two["version"], &two["tests"][0]["name"]), (&json!(2), &json!("tests/wiki.toml")));
    let plan = json!({"policy": policy(&[("console.cedar", CONSOLE)])});
    let planned = bench.done("POST", "/v1/plan", plan.clone()).await;
    let apply = json!({"manifest": plan, "digest": planned["digest"]});
    assert_eq!(
        bench.refused("POST", "/v1/apply", apply).await,
        (422, "tests_failed".into()),
        "tests that aren't sent stay"
    );
    let (status, problem) = bench
        .ask("POST", "/v1/policy/publish", json!({"files": files, "tests": policy(&[("tests/x.toml", "[case]")])}))
        .await;
    assert_eq!(
        (status.as_u16(), &problem["type"], &problem["diagnostics"][0]["file"]),
        (422, &json!("policy_invalid"), &json!("tests/x.toml"))
    );

    let without = json!({"files": policy(&[("console.cedar", CONSOLE)]), "tests": []});
    assert_eq!(bench.done("POST", "/v1/policy/publish", without).await["version"], 3);
    bench.done("DELETE", "/v1/resources/wiki", Value::Null).await;
    let back = json!({"version": 2});
    assert_eq!(
        bench.refused("POST", "/v1/policy/rollback", back.clone()).await,
        (422, "tests_failed".into()),
        "a rollback runs its tests"
    );
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let four = bench.done("POST", "/v1/policy/rollback", back).await;
    assert_eq!((&four["version"], &four["tests"]), (&json!(4), &two["tests"]));
}

#[tokio::test]
async fn versions_are_numbered_and_one_can_go_back() {
    let bench = Bench::open().await;
    let mut snapshots = bench.controller.link().snapshots();
    let files = policy(&[("console.cedar", CONSOLE), ("apps/wiki.cedar", WIKI)]);
    let two = bench.done("POST", "/v1/policy/publish", json!({"files":files,"note":"wiki","expected_version":1})).await;
    assert_eq!((&two["version"], &two["policies"], &two["note"]), (&json!(2), &json!(2), &json!("wiki")));
    let published = snapshots.wait_for(|snapshot| snapshot.policy_version == 2);
    tokio::time::timeout(Duration::from_secs(5), published).await.unwrap().unwrap();
    let again = bench.done("POST", "/v1/policy/publish", json!({"files":files})).await;
    assert_eq!(again["version"], 2, "the same files make no version");
    let stale = json!({"files":policy(&[("console.cedar", CONSOLE)]),"expected_version":1});
    assert_eq!(bench.refused("POST", "/v1/policy/publish", stale).await, (409, "version_moved".into()));
    let three = bench.done("POST", "/v1/policy/rollback", json!({"version":1})).await;
    assert_eq!((&three["version"], &three["note"]), (&json!(3), &json!("rollback to version 1")));
    assert_eq!(bench.refused("POST", "/v1/policy/rollback", json!({"version":9})).await.0, 404);
    let history = bench.done("GET", "/v1/policy/history", Value::Null).await;
    let numbers: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["version"].as_u64().unwrap(), one["current"] == true))
        .collect();
    assert_eq!(numbers, [(3, true), (2, false), (1, false)]);
    let checked = bench.done("POST", "/v1/policy/check", json!({"files":policy(&[("a.cedar", "permit (")])})).await;
    assert_eq!((&checked["ok"], checked["diagnostics"].as_array().unwrap().is_empty()), (&json!(false), false));
    let (status, _) = bench.ask("POST", "/v1/policy/explain", json!({"user":"admin","resource":"console"})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn explain_says_what_the_gateway_would_decide() {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    bench.done("POST", "/v1/users", json!({"name":"alice","groups":["mkt"]})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("POST", "/v1/policy/publish", json!({"files":policy(&[("a.cedar", CONSOLE), ("b.cedar", WIKI)])})).await;
    let device = testing::device(&bench.context().store, "alice-laptop", "alice").await;
    let ask = |extra: Value| {
        let mut body = json!({"user":"alice","resource":"wiki"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let without = bench.done("POST", "/v1/policy/explain", ask(json!({}))).await;
    assert_eq!(
        (&without["decision"]["outcome"], &without["decision"]["reason"]),
        (&json!("deny"), &json!("device_required"))
    );
    for device in [json!({"device":"alice-laptop"}), json!({"device":device.to_string()}), json!({"grade":"hardware"})]
    {
        let with = bench.done("POST", "/v1/policy/explain", ask(device)).await;
        assert_eq!(with["decision"]["outcome"], "allow", "{with}");
    }
    assert_eq!(bench.refused("POST", "/v1/policy/explain", ask(json!({"device":"none"}))).await.0, 404);
    assert_eq!(bench.refused("POST", "/v1/policy/explain", ask(json!({"action":"fly"}))).await.0, 422);
}

#[tokio::test]
async fn a_version_that_nobody_confirms_goes_back_by_itself() {
    let bench = Bench::open().await;
    let context = bench.context();
    let now = || vouchsafe_runtime::clock::unix_seconds(vouchsafe_runtime::clock::now());
    let publish = |files: &[(&str, &str)], within: u64| json!({"files": policy(files), "confirm_within": within});
    let two = bench.done("POST", "/v1/policy/publish", publish(&[("a.cedar", CONSOLE)], 60)).await;
    let by = two["confirm_by"].as_u64().unwrap();
    assert!((now() + 50..=now() + 60).contains(&by), "{two}");
    assert_eq!(bench.done("GET", "/v1/policy", Value::Null).await["confirm_by"], by, "it is in force all the same");
    let other = json!({"files": policy(&[("a.cedar", CONSOLE), ("b.cedar", WIKI)])});
    assert_eq!(bench.refused("POST", "/v1/policy/publish", other.clone()).await, (409, "unconfirmed".into()));
    assert_eq!(confirm::overdue(context, by - 1).await.unwrap(), None);
    // The controller may have been away at that time: it is a row, and no task that remembers.
    assert_eq!(confirm::overdue(context, by + 3_600).await.unwrap(), Some(3));
    assert_eq!(confirm::overdue(context, by + 3_600).await.unwrap(), None);
    let three = bench.done("GET", "/v1/policy", Value::Null).await;
    let one = bench.done("GET", "/v1/policy/history/1", Value::Null).await;
    assert_eq!((&three["version"], &three["files"], &three["by"]), (&json!(3), &one["files"], &json!("controller")));
    assert_eq!(three["note"], "version 2 was not confirmed in time: back to version 1");

    let four = bench.done("POST", "/v1/policy/publish", publish(&[("a.cedar", CONSOLE)], 60)).await;
    assert_eq!(bench.refused("POST", "/v1/policy/confirm", json!({"version": 3})).await, (409, "version_moved".into()));
    let confirmed = bench.done("POST", "/v1/policy/confirm", json!({"version": 4})).await;
    assert_eq!((&four["version"], &confirmed["confirm_by"]), (&json!(4), &Value::Null));
    assert_eq!(confirm::overdue(context, u64::MAX).await.unwrap(), None);
    bench.done("POST", "/v1/policy/confirm", json!({"version": 4})).await;

    bench.done("POST", "/v1/policy/publish", json!({"files": other["files"], "confirm_within": 60})).await;
    assert_eq!(bench.done("POST", "/v1/policy/rollback", json!({"version": 4})).await["version"], 6);
    assert_eq!(confirm::overdue(context, u64::MAX).await.unwrap(), None, "whoever goes back has decided");
    for within in [0, 29, 86_401] {
        let (status, _) = bench.refused("POST", "/v1/policy/publish", publish(&[("a.cedar", CONSOLE)], within)).await;
        assert_eq!(status, 422);
    }
    assert_eq!(
        bench.changes().await.iter().filter(|it| it.starts_with("policy.")).map(String::as_str).collect::<Vec<_>>(),
        [
            "policy.publish policy/1",
            "policy.publish policy/2",
            "policy.rollback policy/3",
            "policy.publish policy/4",
            "policy.confirm policy/4",
            "policy.publish policy/5",
            "policy.rollback policy/6",
        ]
    );
}

#[tokio::test]
async fn who_can_and_what_can_follow_the_directory_as_it_is() {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    bench.done("PUT", "/v1/groups/unread", Value::Null).await;
    for user in ["alice", "bob", "carl"] {
        bench.done("POST", "/v1/users", json!({"name":user,"groups":["unread"]})).await;
    }
    bench.done("PUT", "/v1/groups/mkt/members/alice", Value::Null).await;
    bench.done("PUT", "/v1/groups/mkt/members/bob", Value::Null).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let wiki = "@id(\"wiki\") permit (principal in Group::\"mkt\", action, resource == Http::\"wiki\") when { context.auth.age < 600 };";
    bench.done("POST", "/v1/policy/publish", json!({"files":policy(&[("a.cedar", CONSOLE), ("b.cedar", wiki)])})).await;
    let who = async || {
        let answer = bench.done("GET", "/v1/policy/who-can?action=http:read&resource=wiki", Value::Null).await;
        let users =
            answer["can"].as_array().unwrap().iter().flat_map(|class| class["users"].as_array().unwrap().clone());
        (answer["users"].as_u64().unwrap(), users.collect::<Vec<_>>())
    };
    assert_eq!(who().await, (4, vec![json!("alice"), json!("bob")]));
    let answer = bench.done("GET", "/v1/policy/who-can?action=http:read&resource=wiki", Value::Null).await;
    let way = &answer["can"][0]["rights"]["ways"][0];
    assert_eq!(
        (&way["policy"], &way["conditions"][0]["words"], &way["enrolled_device"]),
        (&json!("wiki"), &json!("signed in within 10 min"), &json!(true))
    );
    // What is locked, disabled, granted or moved counts from that moment on.
    bench.done("POST", "/v1/locks", json!({"kind":"user","name":"alice"})).await;
    assert_eq!(who().await, (3, vec![json!("bob")]));
    bench.done("POST", "/v1/grants", json!({"user":"carl","resource":"wiki"})).await;
    assert_eq!(who().await.1, [json!("carl"), json!("bob")], "a grant has fewer conditions, so it comes first");
    bench.done("DELETE", "/v1/groups/mkt/members/bob", Value::Null).await;
    assert_eq!(who().await.1, [json!("carl")]);
    let device = testing::device(&bench.context().store, "carl-laptop", "carl").await;
    let what = async |query: &str| {
        let answer = bench.done("GET", &format!("/v1/policy/what-can?user=carl{query}"), Value::Null).await;
        answer["can"]
            .as_array()
            .unwrap()
            .iter()
            .map(|open| open["resource"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(what("").await, ["wiki"]);
    assert_eq!(what("&device=carl-laptop").await, ["wiki"]);
    assert_eq!(what(&format!("&device={device}")).await, ["wiki"]);
    assert_eq!(what("&device=none").await, [""; 0]);
    bench.done("POST", "/v1/locks", json!({"kind":"resource","name":"wiki"})).await;
    assert_eq!(what("").await, [""; 0]);
    for (path, status) in [
        ("who-can?action=http:read&resource=wiki", 404),
        ("who-can?action=http:fly&resource=console", 422),
        ("who-can?action=http:read&resource=console", 422),
        ("who-can?resource=console", 400),
        ("who-can?action=console:read&resource=console&limit=3", 400),
        ("what-can?user=nobody-such", 404),
        ("what-can?user=carl&device=nope", 404),
    ] {
        let (got, _) = bench.refused("GET", &format!("/v1/policy/{path}"), Value::Null).await;
        assert_eq!(got, status, "{path}");
    }
}

#[tokio::test]
async fn a_diff_compares_versions_and_drafts_over_the_directory() {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    bench.done("POST", "/v1/users", json!({"name":"alice","groups":["mkt"]})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let files = policy(&[("a.cedar", CONSOLE), ("b.cedar", WIKI)]);
    bench.done("POST", "/v1/policy/publish", json!({"files":files})).await;
    let gains =
        |answer: &Value| answer["changes"].as_array().unwrap().iter().filter(|it| !it["gains"].is_null()).count();
    let last = bench.done("POST", "/v1/policy/diff", json!({})).await;
    assert_eq!((&last["before"], &last["after"], &last["exact"]), (&json!(1), &json!(2), &json!(true)));
    let mine = last["changes"].as_array().unwrap().iter().find(|it| it["users"] == json!(["alice"])).unwrap();
    assert_eq!(
        (&mine["resources"], &mine["actions"], &mine["gains"]["grades"]),
        (
            &json!(["wiki"]),
            &json!(["http:read", "http:write", "http:upgrade"]),
            &json!(["software", "hardware", "hardware-attested"])
        )
    );
    let back = bench.done("POST", "/v1/policy/diff", json!({"before":2,"after":1})).await;
    let mine = back["changes"].as_array().unwrap().iter().find(|it| it["users"] == json!(["alice"])).unwrap();
    assert!(mine["gains"].is_null() && mine["after"].is_null(), "{back}");
    let draft = json!({"files":policy(&[("a.cedar", CONSOLE)])});
    let draft = bench.done("POST", "/v1/policy/diff", draft).await;
    assert_eq!((&draft["before"], &draft["after"], gains(&draft)), (&json!(2), &json!(3), 0));
    assert!(draft["changes"].as_array().unwrap().iter().any(|it| it["loses"]["example"]["user"] == "alice"), "{draft}");
    assert_eq!(bench.refused("POST", "/v1/policy/diff", json!({"before":9})).await, (404, "not_found".into()));
    let both = json!({"after":1,"files":[]});
    assert_eq!(bench.refused("POST", "/v1/policy/diff", both).await, (422, "invalid".into()));
    let broken = json!({"files":policy(&[("a.cedar", "permit (")])});
    assert_eq!(bench.refused("POST", "/v1/policy/diff", broken).await, (422, "policy_invalid".into()));
}

#[tokio::test]
async fn a_suggestion_is_made_of_what_was_observed_and_changes_nothing() {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    for user in ["alice", "bob", "carl"] {
        bench.done("POST", "/v1/users", json!({"name":user,"groups":["mkt"]})).await;
    }
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    let files = policy(&[("a.cedar", CONSOLE), ("b.cedar", WIKI)]);
    bench.done("POST", "/v1/policy/publish", json!({"files":files})).await;
    let before = bench.changes().await;
    let seen = |user: &str, count: u64| json!({"user":user,"resource":"wiki","action":"http:read","count":count,"first":5,"last":9,"source":"nginx"});
    let observed = json!([seen("alice", 4), seen("bob", 2), seen("carl", 1), seen("gone", 9)]);
    let answer = bench.done("POST", "/v1/policy/suggest", json!({"observed": observed})).await;
    assert_eq!((&answer["looked"]["given"], &answer["looked"]["since"]), (&json!(4), &Value::Null), "{answer}");
    let suggestion = &answer["answer"];
    assert_eq!(
        suggestion["coverage"],
        json!({"observed":16,"kept":6,"allowed":6,"without_device":0,"rare":1,"left_out":9})
    );
    let text = suggestion["files"][0]["text"].as_str().unwrap();
    assert!(text.contains("[User::\"alice\", User::\"bob\"].contains(principal)"), "{text}");
    let shared = json!({"observed": observed, "group_share": 60});
    let shared = bench.done("POST", "/v1/policy/suggest", shared).await;
    assert_eq!(
        (&shared["answer"]["policies"][0]["group"], &shared["answer"]["policies"][0]["beyond"]),
        (&json!("mkt"), &json!(["carl"]))
    );
    let unused = bench.done("POST", "/v1/policy/unused", json!({"days":30})).await;
    assert_eq!(unused["answer"]["rights"], unused["answer"]["unused"], "the log knows of nobody: {unused}");
    assert!(unused["answer"]["files"][0]["text"].as_str().unwrap().contains("forbid ("), "{unused}");
    assert_eq!(bench.changes().await, before);

    for (path, body, status) in [
        ("suggest", json!({"rare":0}), 422),
        ("suggest", json!({"group_share":101}), 422),
        ("suggest", json!({"days":367}), 422),
        ("suggest", json!({"resources":["gone"]}), 404),
        ("suggest", json!({"resources":["console"]}), 422),
        ("suggest", json!({"observed":[seen("alice", 0)]}), 422),
        ("suggest", json!({"observed":[seen("Alice", 1)]}), 422),
        ("suggest", json!({"guess":true}), 422),
        ("unused", json!({}), 422),
        ("unused", json!({"days":0}), 422),
    ] {
        let (got, _) = bench.refused("POST", &format!("/v1/policy/{path}"), body.clone()).await;
        assert_eq!(got, status, "{path} {body}");
    }
}

#[tokio::test]
async fn an_apply_does_all_of_the_shown_plan_or_nothing() {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name":"alice"})).await;
    bench.done("PUT", "/v1/groups/old", Value::Null).await;
    bench.done("PUT", "/v1/resources/gone", json!({"name":"gone","kind":"tcp","upstream":"10.0.0.9:5432"})).await;
    let manifest = json!({
        "groups": [{"name":"mkt","members":["alice"]}],
        "resources": [{"name":"wiki","kind":"http","upstream":"http://10.0.0.1"}],
        "policy": policy(&[("console.cedar", CONSOLE), ("wiki.cedar", WIKI)]),
    });
    let plan = bench.done("POST", "/v1/plan", manifest.clone()).await;
    let targets: Vec<_> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["verb"].as_str().unwrap(), one["target"].as_str().unwrap()))
        .collect();
    assert_eq!(
        targets,
        ["add group/mkt", "add resource/wiki", "remove resource/gone", "remove group/old", "change policy"]
    );
    // The state moves between plan and apply.
    bench.done("PUT", "/v1/groups/newer", Value::Null).await;
    let stale = json!({"manifest":manifest,"digest":plan["digest"]});
    assert_eq!(bench.refused("POST", "/v1/apply", stale).await, (409, "plan_moved".into()));
    // A part that is refused undoes the parts before it.
    let mut locked = manifest.clone();
    locked["policy"] = policy(&[("wiki.cedar", WIKI)]);
    let plan = bench.done("POST", "/v1/plan", locked.clone()).await;
    let before = bench.changes().await;
    let apply = json!({"manifest":locked,"digest":plan["digest"]});
    assert_eq!(bench.refused("POST", "/v1/apply", apply).await, (409, "lock_out".into()));
    assert_eq!(bench.changes().await, before);
    assert_eq!(bench.refused("GET", "/v1/resources/wiki", Value::Null).await.0, 404);

    let plan = bench.done("POST", "/v1/plan", manifest.clone()).await;
    bench.done("POST", "/v1/apply", json!({"manifest":manifest,"digest":plan["digest"]})).await;
    assert_eq!(
        bench.changes().await[before.len()..],
        [
            "group.add group/mkt",
            "group.add-member group/mkt",
            "resource.put resource/wiki",
            "resource.remove resource/gone",
            "group.remove group/newer",
            "group.remove group/old",
            "policy.publish policy/2",
        ]
    );
    let again = bench.done("POST", "/v1/plan", manifest.clone()).await;
    assert_eq!(again["changes"], json!([]));
    let changes = bench.changes().await.len();
    bench.done("POST", "/v1/apply", json!({"manifest":manifest,"digest":again["digest"]})).await;
    assert_eq!(bench.changes().await.len(), changes);
    assert_eq!(bench.done("POST", "/v1/plan", json!({})).await["changes"], json!([]), "what is absent stays");
    let twice = json!({"groups":[{"name":"a"},{"name":"a"}]});
    assert_eq!(bench.refused("POST", "/v1/plan", twice).await.0, 422);
}

#[tokio::test]
async fn the_log_is_paged_filtered_and_reading_it_is_recorded() {
    let bench = Bench::open().await;
    for number in 0..7 {
        bench.done("PUT", &format!("/v1/groups/group-{number}"), Value::Null).await;
    }
    let mut path = "/v1/audit?kind=admin&limit=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = bench.done("GET", &path, Value::Null).await;
        seen.extend(page["records"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap().to_owned()));
        match page["next"].as_u64() {
            Some(next) => path = format!("/v1/audit?kind=admin&limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert_eq!(seen[0], "group/group-6");
    let reads = bench.done("GET", "/v1/audit?kind=audit_read&limit=1", Value::Null).await;
    assert!(reads["records"][0]["detail"].as_str().unwrap().contains("audit_read"), "{reads}");
    for wrong in ["limit=0", "limit=10001", "kind=x", "outcome=maybe", "device=none", "user=a&x=1", "limit=x"] {
        let (status, _) = bench.ask("GET", &format!("/v1/audit?{wrong}"), Value::Null).await;
        assert!(status.is_client_error(), "{wrong}: {status}");
    }
}

#[tokio::test]
async fn a_follower_sees_what_a_query_sees_and_ends_with_the_drain() {
    let bench = Bench::open().await;
    let request = Request::get("/v1/audit/tail?kind=admin&limit=2").extension(LocalOwner { uid: 0 });
    let request = request.body(Body::empty()).unwrap();
    let response = routes(bench.context().clone()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-ndjson");
    // Far more than any buffer holds, before the follower reads its first line.
    for number in 0..1_200 {
        let mut write = bench.context().store.write().await.unwrap();
        write.audit(crate::directory::Actor::Controller.changed("test.note", format!("note/{number}"), String::new()));
        write.commit().await.unwrap();
    }
    bench.done("PUT", "/v1/groups/last", Value::Null).await;
    let mut lines = response.into_body().into_data_stream();
    let mut followed = Vec::new();
    while followed.last().is_none_or(|line: &String| !line.contains("group/last")) {
        let line = tokio::time::timeout(Duration::from_secs(5), lines.next()).await.unwrap().unwrap().unwrap();
        followed.push(String::from_utf8(line.to_vec()).unwrap().trim_end().to_owned());
    }
    let page = bench.done("GET", "/v1/audit?kind=admin&limit=10000", Value::Null).await;
    let mut queried: Vec<String> = page["records"].as_array().unwrap().iter().map(Value::to_string).collect();
    queried.reverse();
    let start = queried.len() - followed.len();
    assert_eq!(followed.len(), 1_203);
    let sorted: Vec<String> =
        followed.iter().map(|line| serde_json::from_str::<Value>(line).unwrap().to_string()).collect();
    assert_eq!(sorted, queried[start..]);
    let shutting = bench.tasks.shut_down(Duration::from_secs(5));
    let (_, end) = tokio::join!(shutting, lines.next());
    assert!(end.is_none());
}

#[tokio::test]
async fn devices_are_found_by_id_and_name_and_removed_with_their_sessions() {
    let bench = Bench::open().await;
    let store = &bench.context().store;
    bench.done("POST", "/v1/users", json!({"name":"alice"})).await;
    let ticket = bench.done("POST", "/v1/devices/invites", json!({"owner":"alice","tags":["laptop"]})).await;
    assert!(ticket["ticket"].as_str().unwrap().starts_with("vse1."));
    assert_eq!(bench.refused("POST", "/v1/devices/invites", json!({"owner":"bob"})).await.0, 404);
    let id = testing::device(store, "alice-laptop", "alice").await;
    let session = testing::session(store, "alice", Some(id), "c1").await;
    let sessions = bench.done("GET", "/v1/sessions", Value::Null).await;
    assert_eq!((&sessions[0]["id"], &sessions[0]["device_name"]), (&json!(session), &json!("alice-laptop")));
    assert_eq!(bench.done("GET", &format!("/v1/devices/{id}"), Value::Null).await["name"], "alice-laptop");
    bench.done("DELETE", "/v1/devices/alice-laptop", Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/sessions", Value::Null).await, json!([]));
    assert_eq!(bench.refused("DELETE", &format!("/v1/devices/{id}"), Value::Null).await, (404, "not_found".into()));
    assert_eq!(bench.refused("DELETE", &format!("/v1/sessions/{session}"), Value::Null).await.0, 404);
    let records = bench.done("GET", &format!("/v1/audit?device={id}"), Value::Null).await;
    assert_eq!(records["records"][0]["kind"], "session_end");
}

#[tokio::test]
async fn bodies_are_json_and_bounded_and_unknown_routes_are_problems() {
    let bench = Bench::open().await;
    let send = |builder: http::request::Builder, body: Body| {
        let request = builder.extension(LocalOwner { uid: 0 }).body(body).unwrap();
        routes(bench.context().clone()).oneshot(request)
    };
    let form = Request::post("/v1/users").header(header::CONTENT_TYPE, "text/plain");
    let response = send(form, Body::from("{\"name\":\"alice\"}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let huge = Request::post("/v1/users").header(header::CONTENT_TYPE, "application/json");
    let response = send(huge, Body::from(vec![b' '; 5 * 1024 * 1024])).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(bench.refused("GET", "/v2/users", Value::Null).await, (404, "no_such_route".into()));
    assert_eq!(bench.refused("POST", "/v1/status", Value::Null).await, (405, "no_such_method".into()));
    let response = send(Request::get("/v1/policy/schema"), Body::empty()).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("entity User"));
}

/// Asks as that user, who was let through by a policy.
async fn as_user(bench: &Bench, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .extension(caller(OwnHost::Api, Some(user)))
        .body(body)
        .unwrap();
    let response = routes(bench.context().clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn a_request_is_decided_once_by_somebody_else_and_for_its_own_resource() {
    let bench = Bench::open().await;
    for user in ["alice", "bob"] {
        bench.done("POST", "/v1/users", json!({"name": user})).await;
    }
    for name in ["wiki", "git"] {
        let doc = json!({"name": name, "kind": "tcp", "upstream": "10.0.0.1:22"});
        bench.done("PUT", &format!("/v1/resources/{name}"), doc).await;
    }
    let asked = json!({"seconds": 3600, "reason": "closing the quarter"});
    let ask = async |user: &'static str, resource: &str| {
        as_user(&bench, user, "POST", &format!("/v1/resources/{resource}/requests"), asked.clone()).await
    };
    let (status, request) = ask("alice", "wiki").await;
    assert_eq!((status, &request["state"]), (201, &json!("open")), "{request}");
    let id = request["id"].as_str().unwrap().to_owned();
    let decide = async |user: &'static str, resource: &str, verb: &str| {
        let path = format!("/v1/resources/{resource}/requests/{id}/{verb}");
        let (status, answer) = as_user(&bench, user, "POST", &path, json!({})).await;
        (status, answer["type"].as_str().unwrap_or_default().to_owned())
    };
    // The owner of the machine is nobody who could ask; a user who doesn't exist neither.
    let refused = bench.refused("POST", "/v1/resources/wiki/requests", asked.clone()).await;
    assert_eq!(refused, (409, "no_user".into()));
    assert_eq!(ask("carol", "wiki").await.0, 404);
    // Once for each resource, whether there is one or not, and five in all.
    assert_eq!(ask("alice", "wiki").await.1["type"], "requested_already");
    for resource in ["git", "nothing-1", "nothing-2", "nothing-3"] {
        assert_eq!(ask("alice", resource).await.0, 201, "{resource}");
    }
    assert_eq!(ask("alice", "nothing-4").await.1["type"], "too_many_requests");
    for (member, value) in
        [("seconds", json!(59)), ("seconds", json!(2_592_001)), ("reason", json!(" ")), ("reason", json!("a\nb"))]
    {
        let mut bad = asked.clone();
        bad[member] = value;
        assert_eq!(as_user(&bench, "bob", "POST", "/v1/resources/wiki/requests", bad.clone()).await.0, 422, "{bad}");
    }

    // Policies were asked about the resource in the path: a request for another one isn't there.
    for (user, resource, verb, expected) in [
        ("alice", "wiki", "approve", (403, "own_request")),
        ("alice", "wiki", "deny", (403, "own_request")),
        ("bob", "git", "approve", (404, "not_found")),
        ("alice", "git", "withdraw", (404, "not_found")),
        ("bob", "wiki", "withdraw", (404, "not_found")),
    ] {
        let (status, kind) = decide(user, resource, verb).await;
        assert_eq!((status, kind.as_str()), expected, "{user} {resource} {verb}");
    }
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
    assert_eq!(decide("bob", "wiki", "approve").await.0, 200);
    let grants = bench.done("GET", "/v1/grants", Value::Null).await;
    assert_eq!(
        (&grants[0]["user"], &grants[0]["by"], grants.as_array().unwrap().len()),
        (&json!("alice"), &json!("bob"), 1)
    );
    let lasts = grants[0]["expires"].as_u64().unwrap() - grants[0]["created"].as_u64().unwrap();
    assert_eq!(lasts, 3600);
    for verb in ["approve", "deny"] {
        assert_eq!(decide("bob", "wiki", verb).await, (409, "request_settled".into()), "{verb}");
    }
    // A grant for what isn't there can't be given; what is taken back can't be given either.
    let (_, own) = as_user(&bench, "alice", "GET", "/v1/requests/mine", Value::Null).await;
    let id_of = |resource: &str| {
        let all = own.as_array().unwrap();
        let found = all.iter().find(|request| request["resource"] == resource).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let absent = format!("/v1/resources/nothing-1/requests/{}/approve", id_of("nothing-1"));
    assert_eq!(as_user(&bench, "bob", "POST", &absent, json!({})).await.0, 404);
    let git = format!("/v1/resources/git/requests/{}", id_of("git"));
    assert_eq!(as_user(&bench, "alice", "POST", &format!("{git}/withdraw"), json!({})).await.0, 200);
    assert_eq!(as_user(&bench, "bob", "POST", &format!("{git}/approve"), json!({})).await.0, 409);
    assert_eq!(as_user(&bench, "bob", "GET", "/v1/requests/mine", Value::Null).await.1, json!([]));
    let changes = bench.changes().await;
    for verb in ["request.add", "request.approve", "request.withdraw", "grant.add"] {
        assert!(changes.iter().any(|change| change.starts_with(verb)), "{verb}: {changes:?}");
    }

    // A week later what nobody decided is over, and with its user a request goes.
    let later = vouchsafe_runtime::clock::unix_seconds(vouchsafe_runtime::clock::now()) + 604_801;
    let mut write = bench.context().store.write().await.unwrap();
    assert_eq!(crate::administrator::requests::end_over(&mut write, later, 100).await.unwrap(), 3);
    write.commit().await.unwrap();
    assert_eq!(as_user(&bench, "bob", "POST", &absent, json!({})).await.1["type"], "request_settled");
    assert!(bench.changes().await.iter().any(|change| change.starts_with("request.expire")));
    bench.done("DELETE", "/v1/users/alice", Value::Null).await;
    assert_eq!(bench.done("GET", "/v1/requests", Value::Null).await, json!([]));
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_written_over() {
    let bench = Bench::open().await;
    let wiki = |upstream: &str| json!({"name": "wiki", "kind": "http", "upstream": upstream});
    bench.done("PUT", "/v1/resources/wiki", wiki("http://10.0.0.1")).await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("PUT", "/v1/groups/staff", Value::Null).await;
    let ask = |method: &str, path: &str, header: Option<(&str, &str)>, body: Value| {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .extension(LocalOwner { uid: 0 });
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        routes(bench.context().clone()).oneshot(request.body(body).unwrap())
    };
    let read = ask("GET", "/v1/resources/wiki", None, Value::Null).await.unwrap();
    let tag = read.headers()[header::ETAG].to_str().unwrap().to_owned();
    let again =
        ask("GET", "/v1/resources/wiki", Some(("if-none-match", &format!("\"x\", W/{tag}"))), Value::Null).await;
    let again = again.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()[header::ETAG], tag.as_str());
    assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());

    let first = ask("PUT", "/v1/resources/wiki", Some(("if-match", &tag)), wiki("http://10.0.0.2")).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let trial = json!({"mode": "enforce"});
    for (method, path, body) in [
        ("PUT", "/v1/resources/wiki", wiki("http://10.0.0.3")),
        ("PUT", "/v1/resources/wiki/mode", trial),
        ("DELETE", "/v1/resources/wiki", Value::Null),
        ("PATCH", "/v1/users/alice", json!({"disabled": true})),
        ("DELETE", "/v1/users/alice", Value::Null),
        ("PUT", "/v1/groups/staff/members/alice", Value::Null),
        ("DELETE", "/v1/groups/staff/members/alice", Value::Null),
        ("DELETE", "/v1/groups/staff", Value::Null),
        ("PUT", "/v1/resources/other", json!({"name": "other", "kind": "http", "upstream": "http://10.0.0.1"})),
    ] {
        let refused = ask(method, path, Some(("if-match", &tag)), body.clone()).await.unwrap();
        assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED, "{method} {path}");
        let unread = ask(method, path, Some(("if-match", "nonsense")), body).await.unwrap();
        assert_eq!(unread.status(), StatusCode::BAD_REQUEST, "{method} {path}");
    }
    assert_eq!(bench.done("GET", "/v1/resources/wiki", Value::Null).await["upstream"], "http://10.0.0.2:80");
    assert_eq!(bench.done("GET", "/v1/users/alice", Value::Null).await["state"], "invited");
    // By the tag of a group somebody is put into exactly that group, once.
    let read = ask("GET", "/v1/groups/staff", None, Value::Null).await.unwrap();
    let tag = read.headers()[header::ETAG].to_str().unwrap().to_owned();
    for expected in [StatusCode::OK, StatusCode::PRECONDITION_FAILED] {
        let put = ask("PUT", "/v1/groups/staff/members/alice", Some(("if-match", &tag)), Value::Null).await.unwrap();
        assert_eq!(put.status(), expected);
    }
    assert_eq!(bench.done("GET", "/v1/groups/staff", Value::Null).await["members"], json!(["alice"]));
    assert_eq!(bench.refused("GET", "/v1/groups/nobody", Value::Null).await, (404, "not_found".into()));
}

#[tokio::test]
async fn a_long_list_comes_in_pages_that_miss_nobody() {
    let bench = Bench::open().await;
    for number in 0..7 {
        bench.done("POST", "/v1/users", json!({"name": format!("user-{number}")})).await;
        testing::passkey(&bench.context().store, &format!("user-{number}")).await;
        testing::session(&bench.context().store, &format!("user-{number}"), None, &format!("c{number}")).await;
        bench.done("PUT", &format!("/v1/groups/user-{number}"), Value::Null).await;
        bench.done("PUT", &format!("/v1/groups/user-{number}/members/user-{number}"), Value::Null).await;
        let resource = json!({"name": format!("user-{number}"), "kind": "http", "upstream": "http://10.0.0.1"});
        bench.done("PUT", &format!("/v1/resources/user-{number}"), resource).await;
        for _ in 0..2 {
            let grant = json!({"user": format!("user-{number}"), "resource": format!("user-{number}")});
            bench.done("POST", "/v1/grants", grant).await;
        }
    }
    for number in (0..7).rev() {
        bench.done("POST", "/v1/locks", json!({"kind": "resource", "name": format!("user-{number}")})).await;
    }
    let lists = [
        ("/v1/users", "name"),
        ("/v1/sessions", "user"),
        ("/v1/groups", "name"),
        ("/v1/resources", "name"),
        ("/v1/grants", "user"),
        ("/v1/locks", "name"),
    ];
    let mut came = 0;
    for (path, key) in lists {
        let mut next = Some(format!("{path}?limit=3"));
        let (mut seen, mut pages) = (Vec::new(), 0);
        while let Some(path) = next {
            let request = Request::builder().uri(&path).extension(LocalOwner { uid: 0 }).body(Body::empty()).unwrap();
            let (parts, body) = routes(bench.context().clone()).oneshot(request).await.unwrap().into_parts();
            assert_eq!(parts.status, StatusCode::OK, "{path}");
            let page: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
            seen.extend(page.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()));
            pages += 1;
            // Somebody who comes in front of where the reader is shifts nothing.
            came += 1;
            bench.done("POST", "/v1/users", json!({"name": format!("a{came}")})).await;
            let link = parts.headers.get(header::LINK).map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| {
                let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
                assert_eq!(rest, "; rel=\"next\"");
                target.to_owned()
            });
        }
        seen.retain(|name| name.starts_with("user-"));
        if path == "/v1/grants" {
            assert_eq!(seen.len(), 14);
            seen.dedup();
        }
        if path == "/v1/locks" {
            // The newest first; within a second by name.
            seen.sort();
        }
        assert_eq!(seen, (0..7).map(|number| format!("user-{number}")).collect::<Vec<_>>());
        assert!(pages >= 3, "{pages}");
    }
    for wrong in [
        "/v1/users?limit=0",
        "/v1/users?limit=1001",
        "/v1/sessions?after=x",
        "/v1/locks?after=a+b+c",
        "/v1/grants?after=a",
    ] {
        assert_eq!(bench.refused("GET", wrong, Value::Null).await, (422, "invalid".into()), "{wrong}");
    }
}

#[tokio::test]
async fn what_is_sent_twice_under_one_key_is_done_once() {
    let bench = Bench::open().await;
    let post = async |path: &str, key: &str, by: u32, body: &str| {
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .extension(LocalOwner { uid: by })
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = routes(bench.context().clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            parts.headers.contains_key("idempotency-replayed"),
            String::from_utf8(body.to_vec()).unwrap(),
        )
    };
    let alice = r#"{"name":"alice"}"#;
    let first = post("/v1/users", "\"k1\"", 0, alice).await;
    assert_eq!((first.0, first.1), (201, false), "{first:?}");
    let second = post("/v1/users", "\"k1\"", 0, alice).await;
    assert_eq!((second.0, second.1, &second.2), (201, true, &first.2), "the one link again");
    // What was answered holds a secret, which stands nowhere in the open.
    let link = serde_json::from_str::<Value>(&first.2).unwrap()["link"].as_str().unwrap().to_owned();
    let secret = link.rsplit('#').next().unwrap().as_bytes().to_vec();
    let mut read = bench.context().store.read().await.unwrap();
    let kept: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM idempotency").fetch_one(&mut *read).await.unwrap();
    drop(read);
    assert!(!kept.windows(secret.len()).any(|part| part == secret));

    assert_eq!(post("/v1/users", "\"k1\"", 0, r#"{"name":"bob"}"#).await.0, 422, "another body");
    assert_eq!(
        post("/v1/users", "\"k1\"", 1, alice).await.0,
        409,
        "another caller's key is another: the name is taken"
    );
    assert_eq!(post("/v1/groups", "\"k1\"", 0, alice).await.0, 405, "another path's, too");
    // A refusal is not kept: what was wrong may be right later.
    let into = r#"{"name":"carol","groups":["ops"]}"#;
    assert_eq!(post("/v1/users", "\"k2\"", 0, into).await.0, 422);
    bench.done("PUT", "/v1/groups/ops", Value::Null).await;
    assert_eq!(post("/v1/users", "\"k2\"", 0, into).await.0, 201);

    for key in ["", "bare", "\"a b\"", "\"", "\"\"", "\"a\\\"", &format!("\"{}\"", "x".repeat(256))] {
        assert_eq!(post("/v1/users", key, 0, alice).await.0, 400, "{key}");
    }
    // Many at once: one makes it, and the others get its answer or are told that there is none yet.
    let dave = r#"{"name":"dave"}"#;
    let answers = futures_util::future::join_all((0..8).map(|_| post("/v1/users", "\"k3\"", 0, dave))).await;
    assert_eq!(answers.iter().filter(|answer| answer.0 == 201 && !answer.1).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.0 == 201 || answer.2.contains("unfinished")), "{answers:?}");
    let added = |change: &String| change == "user.add user/dave";
    assert_eq!(bench.changes().await.iter().filter(|change| added(change)).count(), 1);
}
