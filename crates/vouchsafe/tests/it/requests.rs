//! Access that somebody asks for and somebody else gives, for a time: on the command line, by whom policies say.

use serde_json::{Value, json};
use vouchsafe_wire::api::AuditQuery;

use crate::peers::curl_as;
use crate::world::{PATIENCE, Recorder, TestDevice, World};

/// The whole staff may ask; leads decide on what is asked of finance, and on nothing else.
const POLICY: &str = r#"
@id("may-ask")
permit (principal in Group::"staff", action == Action::"console:write", resource == Console::"console")
  when { context.request.operation like "POST /v1/resources/*/requests"
      || context.request.operation like "POST /v1/resources/*/requests/*/withdraw" };
@id("own-requests")
permit (principal in Group::"staff", action == Action::"console:read", resource == Console::"console")
  when { context.request.operation == "GET /v1/requests/mine" };
@id("leads-decide")
permit (principal in Group::"leads", action in [Action::"console:read", Action::"console:write"], resource == Console::"console")
  when { context.request.operation == "GET /v1/requests"
      || context.request.operation like "POST /v1/resources/finance/requests/*" };
"#;

async fn cli(world: &World, device: &TestDevice, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = world.cli(&device.dir, &[arguments, &["--json"]].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_asked_for_and_given_by_whom_policies_say() {
    let world = World::start().await;
    let app = Recorder::start(&world.tasks).await;
    let upstream = format!("http://{}", app.address);
    let resources = json!([
        {"name": "finance", "kind": "http", "upstream": upstream},
        {"name": "payroll", "kind": "http", "upstream": upstream},
    ]);
    world.apply(&["staff", "leads"], resources, POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    let bob = world.person("bob", &["staff", "leads"]).await;
    let hers = world.device(&alice, "hers").await;
    let his = world.device(&bob, "his").await;
    let url = format!("http://{}:{}/", world.host("finance"), world.port);
    assert_eq!(curl_as(&world, &hers, &[&url]).await.status, 403);

    let ask = ["request", "finance", "--for", "2h", "--reason", "closing the quarter"];
    let (code, asked, err) = cli(&world, &hers, &ask).await;
    assert_eq!((code, &asked["state"]), (0, &json!("open")), "{err}");
    let id = asked["id"].as_str().expect("an id").to_owned();
    // Who may only ask may neither look at others' nor decide; not even by the owner of the machine's help.
    assert_eq!(cli(&world, &hers, &["request", "approve", &id]).await.0, 3);
    let approve = format!("http://{}:{}/v1/resources/finance/requests/{id}/approve", world.host("api"), world.port);
    let body = ["-X", "POST", "-H", "Content-Type: application/json", "-d", "{}", &approve];
    assert_eq!(curl_as(&world, &hers, &body).await.status, 403, "nor without the list");
    assert_eq!(cli(&world, &hers, &["request", "list", "--all"]).await.0, 3);
    let (code, mine, _) = cli(&world, &hers, &["request", "list"]).await;
    assert_eq!((code, &mine[0]["id"]), (0, &json!(id)));
    assert_eq!(curl_as(&world, &hers, &[&url]).await.status, 403);

    // Leads decide on finance, and nobody on his own.
    let (_, own, _) = cli(&world, &his, &["request", "finance", "--for", "1h", "--reason", "me too"]).await;
    let own = own["id"].as_str().expect("an id").to_owned();
    let (code, _, err) = cli(&world, &his, &["request", "approve", &own]).await;
    assert!(code != 0 && err.contains("your own request"), "{err}");
    let (_, other, _) = cli(&world, &hers, &["request", "payroll", "--for", "1h", "--reason", "salaries"]).await;
    let other = other["id"].as_str().expect("an id").to_owned();
    assert_eq!(cli(&world, &his, &["request", "approve", &other]).await.0, 3, "payroll is not for leads to give");
    let (code, given, err) = cli(&world, &his, &["request", "approve", &id, "--note", "until the audit"]).await;
    assert_eq!((code, &given["state"], &given["decided_by"]), (0, &json!("approved"), &json!("bob")), "{err}");

    let deadline = tokio::time::Instant::now() + PATIENCE;
    while curl_as(&world, &hers, &[&url]).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "what was given never held");
    }
    let payroll = format!("http://{}:{}/", world.host("payroll"), world.port);
    assert_eq!(curl_as(&world, &hers, &[&payroll]).await.status, 403, "one resource, and no other");
    let grants: Value = world.admin.get("/v1/grants").await.expect("grants");
    assert_eq!(grants[0]["expires"].as_u64(), grants[0]["created"].as_u64().map(|at| at + 7_200), "it ends by itself");
    // What was given is taken back as any grant is.
    world.admin.delete(&format!("/v1/grants/{}", given["grant"].as_str().expect("a grant"))).await.expect("removed");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while curl_as(&world, &hers, &[&url]).await.status != 403 {
        assert!(tokio::time::Instant::now() < deadline, "what was taken back held on");
    }

    assert_eq!(cli(&world, &hers, &["request", "withdraw", &other]).await.0, 0);
    assert_eq!(cli(&world, &his, &["request", "deny", &id]).await.0, 1, "it is decided");
    let query = AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() };
    let records = world.audit(query).await;
    let by = |action: &str| {
        let record = records.iter().find(|record| record.action.as_deref() == Some(action));
        record.and_then(|record| record.user.clone()).unwrap_or_default()
    };
    assert_eq!(
        (by("request.add"), by("request.approve"), by("request.withdraw")),
        ("alice".into(), "bob".into(), "alice".into())
    );
}
