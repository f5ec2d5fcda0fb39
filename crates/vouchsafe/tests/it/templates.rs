//! Rights for a time by templates that the policy has: as wide as the template says, by request and by grant, and live
//! connections end with them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditQuery, GrantDoc};
use vouchsafe_wire::resource::second_text;

use crate::database::Connect;
use crate::peers::curl_as;
use crate::roles;
use crate::world::{PATIENCE, Recorder, TestDevice, World, patiently};

const POLICY: &str = r#"
@id("ask-and-decide")
permit (principal in Group::"staff", action in [Action::"console:read", Action::"console:write"], resource == Console::"console")
  when { context.request.operation like "* /v1/requests*" || context.request.operation like "POST /v1/resources/*/requests*" };
@id("reader") @reason("Readers read.")
permit (principal == ?principal, action in [Action::"http:read"], resource == ?resource)
  unless { context.request.path like "/private*" };
"#;
const VISITOR: &str =
    r#"@id("visitor") permit (principal == ?principal, action == Action::"net:connect", resource == ?resource);"#;

async fn cli(world: &World, device: &TestDevice, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = world.cli(&device.dir, &[arguments, &["--json"]].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

/// A connection of a device to an echo, once it carries something.
async fn carried(connect: &Connect) -> TcpStream {
    for () in patiently() {
        let mut stream = TcpStream::connect(connect.address).await.expect("to the local listener");
        let sent = stream.write_all(b"x").await.is_ok();
        let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("answered or ended");
        if sent && read.is_ok_and(|byte| byte == b'x') {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing was carried");
}

/// By what finance was opened.
async fn allowed_by(world: &World) -> Vec<String> {
    let (resource, outcome) = (Some("finance".to_owned()), Some("allow".to_owned()));
    let query = AuditQuery { resource, outcome, kind: Some("decision".into()), ..AuditQuery::default() };
    for () in patiently() {
        if let Some(record) = world.audit(query.clone()).await.pop() {
            return record.policies;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no record of an allowed request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_by_a_template_is_as_wide_as_it_says_and_what_is_open_ends_with_it() {
    let world = World::start().await;
    let app = Recorder::start(&world.tasks).await;
    let echo = roles::echo(&world).await;
    let resources = json!([
        {"name": "finance", "kind": "http", "upstream": format!("http://{}", app.address)},
        {"name": "ledger", "kind": "tcp", "upstream": echo.to_string(), "port": 7},
    ]);
    world.apply(&["staff"], resources.clone(), &format!("{POLICY}{VISITOR}")).await;
    let alice = world.person("alice", &["staff"]).await;
    let bob = world.person("bob", &["staff"]).await;
    let hers = world.device(&alice, "hers").await;
    let his = world.device(&bob, "his").await;

    // She asks for no more than she needs; who decides sees what it permits.
    let ask = ["request", "finance", "--template", "reader", "--for", "2h", "--reason", "a look at the numbers"];
    let (code, asked, err) = cli(&world, &hers, &ask).await;
    assert_eq!((code, &asked["template"]["name"]), (0, &json!("reader")), "{err}");
    let (code, table, err) = world.cli(&his.dir, &["request", "list", "--all"]).await;
    assert!(code == 0 && table.contains("reader") && table.contains("http:read"), "{table}{err}");
    let id = asked["id"].as_str().expect("an id");
    let (code, given, err) = cli(&world, &his, &["request", "approve", id]).await;
    assert_eq!((code, &given["state"]), (0, &json!("approved")), "{err}");

    let url = |path: &str| format!("http://{}:{}{path}", world.host("finance"), world.port);
    let mut read = curl_as(&world, &hers, &[&url("/")]).await;
    for () in patiently() {
        if read.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        read = curl_as(&world, &hers, &[&url("/")]).await;
    }
    assert_eq!(read.status, 200, "what was given never held: {}", world.log());
    assert_eq!(allowed_by(&world).await, [given["grant"].as_str().expect("a grant")]);
    assert_eq!(curl_as(&world, &hers, &["-X", "POST", "-d", "x", &url("/")]).await.status, 403, "readers read");
    assert_eq!(curl_as(&world, &hers, &[&url("/private/x")]).await.status, 403, "and not everything");
    assert_eq!(curl_as(&world, &his, &[&url("/")]).await.status, 403, "and not who approved");

    // No publish takes the template from under the grant.
    let current: Value = world.admin.get("/v1/policy").await.expect("policy");
    let mut files: Vec<Value> = current["files"].as_array().cloned().expect("files");
    files.retain(|file| file["name"] != "test.cedar");
    let refused = world.admin.post::<_, Value>("/v1/policy/publish", &json!({"files": files})).await;
    let refused = format!("{:?}", refused.expect_err("refused"));
    assert!(refused.contains("would permit nothing any more"), "{refused}");

    // What is open ends when the right does, here by the end that the template itself is given.
    let visit = json!({"user": "alice", "resource": "ledger", "seconds": 3_600, "template": "visitor"});
    let visit: GrantDoc = world.admin.post("/v1/grants", &visit).await.expect("granted");
    assert_eq!(visit.template.as_deref(), Some("visitor"));
    let connect = Connect::start(&hers, "ledger").await;
    let mut stream = carried(&connect).await;
    let ends = clock::now() + Duration::from_secs(5);
    let text = second_text(ends).expect("a time");
    let ending = VISITOR.replace("permit", &format!("@expires(\"{text}\") permit"));
    world.apply(&["staff"], resources, &format!("{POLICY}{ending}")).await;
    let mut rest = Vec::new();
    let over = tokio::time::timeout(Duration::from_secs(5) + PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(over.is_ok(), "it outlived its right");
    // The text has whole seconds.
    let earliest = ends.checked_sub(Duration::from_secs(1)).expect("a time");
    assert!(clock::now() >= earliest, "it was cut before its end");
    let query = AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() };
    let told = world.audit(query).await.iter().any(|record| {
        record.action.as_deref() == Some("grant.add")
            && record.detail.as_deref().is_some_and(|detail| detail.contains("by template visitor"))
    });
    assert!(told, "the record names the template");
}
