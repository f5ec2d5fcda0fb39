//! What a page that an administrator is lured to can make her browser do at our own hosts: nothing. The page is of an app of
//! the same domain, which is the same site to a browser, so cookies of `SameSite` alone would not help.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vouchsafe_wire::api::{AuditQuery, Session};

use crate::browser::Office;
use crate::chrome::Chrome;
use crate::world::World;

/// Serves one page at every path.
async fn evil(world: &World, page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let tasks = world.tasks.clone();
    world.tasks.spawn("evil", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let page = page.clone();
            tasks.spawn("evil page", async move {
                let mut head = vec![0; 16 * 1024];
                while let Ok(1..) = stream.read(&mut head).await {
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{page}",
                        page.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

async fn sessions(world: &World) -> Vec<Session> {
    world.admin.get("/v1/sessions").await.expect("sessions")
}

/// What was changed since, and not by the test itself.
async fn changes(world: &World) -> usize {
    world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a149_an_apps_page_neither_frames_nor_posts_nor_reads_at_our_own_hosts() {
    let office = Office::start().await;
    let world = &office.world;
    let chrome = Chrome::start(world).await;
    // An administrator who uses the app as everybody does.
    chrome.open(world.first_invite.as_deref().expect("an invitation")).await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&world.host("auth"), "/").await;
    chrome.open(world.url("console", "/sessions").as_str()).await;
    chrome.arrive(&world.host("console"), "/sessions").await;
    let before = sessions(world).await;
    let session = before.first().expect("hers").id.clone();

    let (end, lock) = (format!("/v1/sessions/{session}/end"), world.url("console", "/v1/locks").to_string());
    let page = format!(
        r#"<!doctype html><title>cats</title><h1>cats</h1>
        <iframe id="framed" src="{console}"></iframe><iframe src="{auth}"></iframe>
        <form id="end" method="post" action="{end}"><input name="back" value="/sessions"></form>
        <form id="lock" method="post" action="{lock}"><input name="kind" value="user"><input name="name" value="admin"></form>
        <form id="plain" method="post" enctype="text/plain" action="{api}"><input name='{{"name":"x","a":"' value='"}}'></form>
        <script>
        const read = (url) => fetch(url, {{credentials: "include"}}).then(() => "read", () => "kept");
        const sent = (url) => fetch(url, {{method: "POST", mode: "no-cors", credentials: "include", body: "back=/",
            headers: {{"content-type": "application/x-www-form-urlencoded"}}}}).then((answer) => answer.type, () => "kept");
        window.came = Promise.all([read("{console}"), read("{api}"), sent("{end}"), sent("{lock}")]).then((all) => window.got = all);
        window.tells = () => {{ try {{ return window.other.closed ? "" : String(window.other.document); }} catch (error) {{ return ""; }} }};
        </script>"#,
        console = world.url("console", "/"),
        auth = world.url("auth", "/"),
        end = world.url("console", &end),
        api = world.url("api", "/v1/users"),
    );
    let upstream = evil(world, page).await;
    let resource = json!({"name": "cats", "kind": "http", "upstream": upstream});
    let policy = r#"@id("cats") @device("none") permit (principal, action in [Action::"http:read", Action::"http:write"], resource == Http::"cats");"#;
    world.apply(&["marketing", "finance"], json!([resource]), policy).await;
    let begun = changes(world).await;

    chrome.open(world.url("cats", "/").as_str()).await;
    chrome.arrive(&world.host("cats"), "/").await;
    chrome.until("window.got").await;
    let got = chrome.script("window.got").await;
    assert_eq!(got[0], "kept", "the console is read by nobody's script: {got}");
    assert_eq!(got[1], "kept", "nor is the API: {got}");
    // What is sent without being read can't be held back by the browser; it is refused where it comes.
    assert_eq!(sessions(world).await.len(), before.len());
    // A form moves the window there, with her cookies.
    for form in ["end", "lock", "plain"] {
        chrome.open(world.url("cats", "/").as_str()).await;
        chrome.until("window.got").await;
        let _ = chrome.script(&format!("document.getElementById('{form}').submit()")).await;
        chrome.until("location.hostname.startsWith('console') || location.hostname.startsWith('api')").await;
        let told = chrome.text().await;
        assert!(
            told.contains("another page") || told.contains("sign_in_required") || told.contains("denied"),
            "{form}: {told}"
        );
    }
    assert!(sessions(world).await.iter().any(|one| one.id == session), "her session goes on");
    let locks: Value = world.admin.get("/v1/locks").await.expect("locks");
    assert_eq!(locks, json!([]));
    assert_eq!(changes(world).await, begun, "nothing was changed");

    // Neither host is shown in a frame, and a window that was opened tells its opener nothing.
    chrome.open(world.url("cats", "/").as_str()).await;
    chrome.until("window.got").await;
    let _ = chrome.script(&format!("window.other = window.open({}), true", json!(world.url("console", "/")))).await;
    chrome.until("window.tells() === ''").await;

    // What was shown isn't kept: after she signed out, the way back leads to the sign-in.
    chrome.open(world.url("console", "/users").as_str()).await;
    chrome.arrive(&world.host("console"), "/users").await;
    chrome.open(world.url("auth", "/").as_str()).await;
    chrome.press("Sign out").await;
    chrome.until("document.body.innerText.includes('igned out')").await;
    let _ = chrome.script("history.go(-2)").await;
    chrome.until("location.hostname.startsWith('auth') && location.pathname === '/sign-in'").await;
    chrome
        .finish(&[
            "frame-ancestors",
            "the server responded with a status of 403",
            "the server responded with a status of 401",
            "CORS policy",
            "net::ERR_FAILED",
        ])
        .await;
}
