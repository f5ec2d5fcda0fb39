//! Access that somebody asks for and somebody else gives, for a time: on the command line, by whom policies say.

use std::sync::Arc;

use serde_json::{Value, json};
use vouchsafe_agent::session::Session;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::token::AUDIENCE_API;

use crate::attacks::probe;
use crate::chrome::Chrome;
use crate::peers::{curl, curl_as};
use crate::world::{PATIENCE, Recorder, TestDevice, World, patiently};

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
@id("leads-decide-in-a-browser") @device("none")
permit (principal in Group::"leads", action in [Action::"console:read", Action::"console:write"], resource == Console::"console")
  when { context.request.operation == "GET /requests"
      || context.request.operation like "GET /assets/*"
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
    let token = Session::on(Arc::clone(&hers.device)).token(AUDIENCE_API).await.expect("session").expect("signed in");
    let direct = format!(
        "POST /v1/resources/finance/requests/{id}/approve HTTP/1.1\r\nHost: {}:{}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        world.host("api"),
        world.port,
        token.expose(),
    );
    let answer = probe::h1(&world, "api", Some(&hers), direct.as_bytes()).await;
    assert_eq!(answer.status, 403, "nor without the list: {answer:?}");
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

/// The page of what waits: who decides there, by whose button, and what it looks like to whom it is none of her business.
#[tokio::test(flavor = "multi_thread")]
async fn a_lead_decides_in_the_console_and_nobodys_page_does_it_for_her() {
    let world = World::start().await;
    let app = Recorder::start(&world.tasks).await;
    let resources = json!([{"name": "finance", "kind": "http", "upstream": format!("http://{}", app.address)}]);
    world.apply(&["staff", "leads"], resources, POLICY).await;
    let alice = world.person("alice", &["staff"]).await;
    let bob = world.person("bob", &["staff", "leads"]).await;
    let hers = world.device(&alice, "hers").await;
    let ask = ["request", "finance", "--for", "2h", "--reason", "<b>closing</b> the quarter"];
    let (code, asked, err) = cli(&world, &hers, &ask).await;
    assert_eq!(code, 0, "{err}");
    let id = asked["id"].as_str().expect("an id").to_owned();

    let page = world.url("console", "/requests");
    let approve = world.url("console", &format!("/v1/resources/finance/requests/{id}/approve"));
    let his = format!("Cookie: {}", world.cookie(&bob, "console", "/requests").await);
    let shown = curl(&world, &["-H", &his, page.as_str()]).await;
    assert!(shown.status == 200 && shown.body.contains("alice asks for finance, for 2 h"), "{shown:?}");
    assert!(shown.body.contains("&lt;b&gt;closing") && shown.body.contains(&id), "{shown:?}");
    let send = async |cookie: &str, fields: &[&str], body: &str| {
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        let all: Vec<&str> = ["-H", cookie, "-d", body].into_iter().chain(fields).chain([approve.as_str()]).collect();
        curl(&world, &all).await
    };
    // A149: an app of the same domain is the same site, and still another's page.
    let of_app = format!("Origin: https://{}:{}", world.host("finance"), world.port);
    for fields in [
        &["Sec-Fetch-Site: same-site", of_app.as_str()][..],
        &["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"],
        &["Sec-Fetch-Site: none"],
        &["Origin: null"],
        &[of_app.as_str()],
        &[],
    ] {
        let answer = send(&his, fields, "note=").await;
        assert!(answer.status == 403 && answer.body.contains("another page"), "{fields:?}: {answer:?}");
    }
    let same = ["Sec-Fetch-Site: same-origin"];
    for form in ["note=a&note=b", "seconds=9", "note=a%0Ab"] {
        let answer = send(&his, &same, form).await;
        assert!((400..500).contains(&answer.status), "{form}: {answer:?}");
    }
    // Who may only ask.
    let only_asks = format!("Cookie: {}", world.cookie(&alice, "console", "/requests").await);
    assert_eq!(curl(&world, &["-H", &only_asks, page.as_str()]).await.status, 403);
    assert_eq!(send(&only_asks, &same, "note=").await.status, 403);
    let (_, mine, _) = cli(&world, &hers, &["request", "list"]).await;
    assert_eq!(mine[0]["state"], "open", "{mine}");

    let link = world.invite("dora", &["staff", "leads"]).await;
    let chrome = Chrome::start(&world).await;
    chrome.open(&link).await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&world.host("auth"), "/").await;
    chrome.open(page.as_str()).await;
    chrome.arrive(&world.host("console"), "/requests").await;
    chrome.type_into("input[name=note]", "until the audit").await;
    chrome.press("Approve for 2 h").await;
    chrome.until("document.body.innerText.includes('Nothing waits to be decided')").await;
    let told = chrome.text().await;
    assert!(told.contains("approved") && told.contains("dora") && told.contains("until the audit"), "{told}");
    chrome.finish(&[]).await;
    let (_, mine, _) = cli(&world, &hers, &["request", "list"]).await;
    assert_eq!((&mine[0]["state"], &mine[0]["decided_by"]), (&json!("approved"), &json!("dora")), "{mine}");
    let url = format!("http://{}:{}/", world.host("finance"), world.port);
    let mut status = 0;
    for () in patiently() {
        status = curl_as(&world, &hers, &[&url]).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, 200, "what was given holds");
    // Once is enough.
    let again = send(&his, &same, "note=").await;
    assert_eq!(again.status, 409, "{again:?}");
}
