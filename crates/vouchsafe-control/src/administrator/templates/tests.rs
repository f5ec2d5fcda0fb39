use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use vouchsafe_model::id::SessionId;
use vouchsafe_model::name::UserName;
use vouchsafe_wire::api::{DecideRequest, NewGrant, NewRequest, Publish};

use super::*;
use crate::administrator::requests::{self, Verdict};
use crate::administrator::{confirm, grants, policy};
use crate::directory::Actor;
use crate::testing::Bench;

const ADMINISTRATORS: &str = "@id(\"administrators\") @device(\"none\") permit (principal in Group::\"administrators\", \
                              action, resource == Console::\"console\");\n";
const READER: &str = "@id(\"reader\") @owner(\"ann\") permit (principal == ?principal, action == \
                      Action::\"http:read\", resource == ?resource);\n";

fn files(texts: &[&str]) -> Value {
    json!([{"name": "all.cedar", "text": texts.concat()}])
}

/// An installation with alice, a wiki, a database and the template.
async fn bench() -> Bench {
    let bench = Bench::open().await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("PUT", "/v1/resources/db", json!({"name":"db","kind":"tcp","upstream":"10.0.0.1:5432"})).await;
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS, READER])})).await;
    bench
}

fn user(name: &str) -> Actor {
    Actor::User {
        name: UserName::parse(name).unwrap(),
        session: Some(SessionId::from_random([1; 16])),
        device: None,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        post_quantum: true,
        decision: None,
    }
}

fn reader() -> Value {
    json!({"user": "alice", "resource": "wiki", "seconds": 3_600, "template": "reader"})
}

#[tokio::test]
async fn a_grant_names_its_template_everywhere() {
    let bench = bench().await;
    let listed = bench.done("GET", "/v1/policy/templates", Value::Null).await;
    assert_eq!(
        (&listed[0]["name"], &listed[0]["actions"], &listed[0]["grants"]),
        (&json!("reader"), &json!(["http:read"]), &json!(0))
    );
    assert_eq!((&listed[0]["owner"], listed[0]["digest"].as_str().unwrap().len()), (&json!("ann"), 64));
    let grant = bench.done("POST", "/v1/grants", reader()).await;
    assert_eq!(grant["template"], "reader");
    bench.done("POST", "/v1/grants", json!({"user": "alice", "resource": "db"})).await;
    let all = bench.done("GET", "/v1/grants", Value::Null).await;
    assert_eq!(
        all.as_array().unwrap().iter().map(|it| &it["template"]).collect::<Vec<_>>(),
        [&Value::Null, &json!("reader")]
    );
    let page = bench.done("GET", "/v1/audit?kind=admin&limit=50", Value::Null).await;
    assert!(page["records"].to_string().contains("alice to wiki by template reader"), "{page}");
    assert_eq!(bench.done("GET", "/v1/policy/templates", Value::Null).await[0]["grants"], 1);
    let who = bench.done("GET", "/v1/policy/who-can?action=http:read&resource=wiki", Value::Null).await;
    assert_eq!(who["can"][0]["users"], json!(["alice"]));
    let who = bench.done("GET", "/v1/policy/who-can?action=http:write&resource=wiki", Value::Null).await;
    assert_eq!(who["can"], json!([]));
}

#[tokio::test]
async fn nothing_is_given_that_no_template_gives() {
    let bench = bench().await;
    for (template, resource, refused) in [
        ("writer", "wiki", (404, "not_found")),
        ("Not a name", "wiki", (422, "invalid")),
        ("reader", "db", (422, "template_kind")),
        ("reader", "gone", (404, "not_found")),
        // What decides by itself is no template.
        ("administrators", "wiki", (404, "not_found")),
    ] {
        let new = json!({"user": "alice", "resource": resource, "template": template});
        let (status, kind) = bench.refused("POST", "/v1/grants", new).await;
        assert_eq!((status, kind.as_str()), refused, "{template} {resource}");
    }
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_publish_takes_no_template_from_under_a_grant() {
    let bench = bench().await;
    let grant = bench.done("POST", "/v1/grants", reader()).await;
    let id = grant["id"].as_str().unwrap();
    let renamed = READER.replace("\"reader\"", "\"readers\"");
    let of_net = READER.replace("http:read", "net:connect");
    for (texts, why) in [
        (vec![ADMINISTRATORS], "which isn't there"),
        (vec![ADMINISTRATORS, &renamed], "which isn't there"),
        (vec![ADMINISTRATORS, &of_net], "which says nothing about it"),
    ] {
        let (status, problem) = bench.ask("POST", "/v1/policy/publish", json!({"files": files(&texts)})).await;
        assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("grants_unlinked")), "{problem}");
        let title = problem["title"].as_str().unwrap();
        assert!(title.contains(id) && title.contains("alice to wiki") && title.contains(why), "{title}");
        assert!(problem["detail"].as_str().unwrap().contains("vouchsafe grant remove"), "{problem}");
    }
    // It may say something else, and another file may say it.
    let wider = READER.replace("Action::\"http:read\"", "Action::\"http:write\"");
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS, &wider])})).await;
    bench.done("DELETE", &format!("/v1/grants/{id}"), Value::Null).await;
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS])})).await;
}

/// A version that nobody confirmed goes, whatever was made with it; what was made permits nothing then.
#[tokio::test]
async fn what_goes_back_by_itself_goes_back_over_grants() {
    let bench = bench().await;
    let writer = READER.replace("reader", "writer").replace("http:read", "http:write");
    let publish = json!({"files": files(&[ADMINISTRATORS, READER, &writer]), "confirm_within": 60});
    bench.done("POST", "/v1/policy/publish", publish).await;
    let new = json!({"user": "alice", "resource": "wiki", "template": "writer"});
    let grant = bench.done("POST", "/v1/grants", new).await;
    assert_eq!(bench.refused("POST", "/v1/policy/rollback", json!({"version": 2})).await.1, "grants_unlinked");
    assert!(confirm::overdue(bench.context(), u64::MAX).await.unwrap().is_some());
    let who = bench.done("GET", "/v1/policy/who-can?action=http:write&resource=wiki", Value::Null).await;
    assert_eq!(who["can"], json!([]));
    // It still is there to be removed.
    bench.done("DELETE", &format!("/v1/grants/{}", grant["id"].as_str().unwrap()), Value::Null).await;
}

/// A grant of a template that a publish takes away at that moment: one of the two comes first, and the other is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_and_a_publish_at_once_never_leave_a_grant_without_its_template() {
    let bench = bench().await;
    let context = bench.context();
    let by = Actor::Local { uid: 0 };
    let mut outcomes = Vec::new();
    for round in 0..8 {
        let without = Publish {
            files: serde_json::from_value(files(&[ADMINISTRATORS])).unwrap(),
            tests: None,
            invariants: None,
            compare: false,
            note: String::new(),
            expected_version: None,
            confirm_within: None,
        };
        let new: NewGrant = serde_json::from_value(reader()).unwrap();
        let (given, published) = if round % 2 == 0 {
            tokio::join!(grants::add(context, &new, &by), policy::publish(context, &without, &by))
        } else {
            let (published, given) =
                tokio::join!(policy::publish(context, &without, &by), grants::add(context, &new, &by));
            (given, published)
        };
        match (given, published) {
            (Ok(grant), Err(AdministratorError::GrantsUnlinked { grants: found })) => {
                assert!(found[0].contains(&grant.id));
                grants::remove(context, &grant.id, &by).await.unwrap();
                outcomes.push("given");
            }
            (Err(AdministratorError::Missing { what: "template", .. }), Ok(_)) => {
                let with = Publish {
                    files: serde_json::from_value(files(&[ADMINISTRATORS, READER])).unwrap(),
                    ..without.clone()
                };
                policy::publish(context, &with, &by).await.unwrap();
                outcomes.push("published");
            }
            (given, published) => panic!("{given:?} {published:?}"),
        }
    }
    assert_eq!(outcomes.len(), 8);
}

#[tokio::test]
async fn who_approves_approves_what_was_asked_for() {
    let bench = bench().await;
    let (context, alice, root) = (bench.context(), user("alice"), user("admin"));
    let ask = async || {
        let template = Some("reader".to_owned());
        requests::add(context, "wiki", &NewRequest { seconds: 3_600, reason: "a look".into(), template }, &alice).await
    };
    let with = DecideRequest { note: String::new() };
    let decide = async |id: &str, verdict| requests::decide(context, "wiki", id, verdict, &with, &root).await;
    let asked = ask().await.unwrap();
    let seen = requests::all(context).await.unwrap();
    let template = seen[0].template.as_ref().unwrap();
    assert!(template.stands && template.text.contains("@owner(\"ann\")"), "{template:?}");
    assert_eq!(template.actions, ["http:read"]);
    let own = requests::own(context, &alice).await.unwrap();
    let own = own[0].template.as_ref().unwrap();
    assert!(own.stands && own.text.is_empty(), "what policies say isn't for everybody: {own:?}");

    // It says more than it said when it was asked for.
    let wider = READER.replace("Action::\"http:read\"", "Action::\"http:write\"");
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS, &wider])})).await;
    let seen = requests::all(context).await.unwrap();
    let template = seen[0].template.as_ref().unwrap();
    assert!(!template.stands && template.text.is_empty() && template.actions.is_empty(), "{template:?}");
    let refused = decide(&asked.id, Verdict::Approve).await;
    assert!(matches!(refused, Err(AdministratorError::TemplateChanged { .. })), "{refused:?}");
    // It is gone.
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS])})).await;
    let refused = decide(&asked.id, Verdict::Approve).await;
    assert!(matches!(refused, Err(AdministratorError::Missing { what: "template", .. })), "{refused:?}");
    assert!(matches!(ask().await, Err(AdministratorError::RequestedAlready { .. })));
    decide(&asked.id, Verdict::Deny).await.unwrap();
    assert!(matches!(ask().await, Err(AdministratorError::Missing { what: "template", .. })));
    assert_eq!(bench.done("GET", "/v1/grants", Value::Null).await, json!([]));
    // It is back, and asked for anew.
    bench.done("POST", "/v1/policy/publish", json!({"files": files(&[ADMINISTRATORS, READER])})).await;
    let asked = ask().await.unwrap();
    let approved = decide(&asked.id, Verdict::Approve).await.unwrap();
    let grants = bench.done("GET", "/v1/grants", Value::Null).await;
    assert_eq!((grants[0]["id"].as_str(), grants[0]["template"].as_str()), (approved.grant.as_deref(), Some("reader")));
    let page = bench.done("GET", "/v1/audit?kind=admin&limit=50", Value::Null).await;
    assert!(page["records"].to_string().contains("by template reader"), "{page}");
}
