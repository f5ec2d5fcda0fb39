//! A fresh sign-in, where a policy demands it: in a browser, of programs, on the command line, and of what is open.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use vouchsafe_agent::tunnel::{Port, Tunnels};
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Record;

use crate::browser::Office;
use crate::chrome::Chrome;
use crate::http::Company;
use crate::peers::{curl, curl_as};
use crate::world::{PATIENCE, VOUCHSAFE, World, patiently};

/// What the browser notes of a page that is answered with 401.
const UNPROVEN: &str = "the server responded with a status of 401";

/// Everybody of marketing, on any device or none, who has signed in within a quarter of an hour.
const FRESH: &str = r#"
@id("marketing-app") @device("none")
permit (principal in Group::"marketing", action, resource == Http::"marketing") when { context.auth.age < 900 };
"#;

/// Makes all sign-ins an hour old, which can't be waited for, and has gateways ask for their facts anew.
pub async fn age(world: &World) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.state_dir().join("vouchsafe.db"));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("the database");
    let aged = sqlx::query("UPDATE sessions SET auth_time = unixepoch() - 3600").execute(&mut connection).await;
    assert!(aged.expect("aged").rows_affected() > 0);
    let membership = "/v1/groups/finance/members/alice";
    let _: serde_json::Value = world.admin.put(membership).await.expect("joined");
    world.admin.delete(membership).await.expect("left");
}

async fn records(world: &World, query: AuditQuery) -> Vec<Record> {
    for () in patiently() {
        let found = world.audit(query.clone()).await;
        if !found.is_empty() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no record of {query:?}");
}

/// Sends a form from the page that is open, as a page of the app does.
async fn send_form(chrome: &Chrome, path: &str, fields: &[(&str, &str)]) {
    let fields = json!(fields);
    let script = format!(
        "(() => {{ const form = document.createElement('form'); form.method = 'post'; form.acceptCharset = 'utf-8'; form.action = '{path}'; \
         for (const [name, value] of {fields}) {{ const field = document.createElement('textarea'); \
         field.name = name; field.value = value; form.append(field); }} \
         document.body.append(form); setTimeout(() => form.submit(), 0); return true; }})()"
    );
    chrome.script(&script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_sent_to_prove_it_and_comes_back_to_what_it_wanted() {
    let office = Office::start().await;
    let world = &office.world;
    let resource =
        json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", office.marketing.address)});
    world.apply(&["marketing", "finance"], json!([resource]), FRESH).await;
    let chrome = Chrome::start(world).await;
    office.join(&chrome, "alice").await;
    age(world).await;
    let (auth, app) = (world.host("auth"), world.host("marketing"));

    // A page: she proves that it is still she, and is where she wanted to be.
    chrome.open(&office.app("/plans?year=2027")).await;
    chrome.arrive(&auth, "/sign-in").await;
    let page = chrome.text().await;
    assert!(page.contains("Is it still you?") && page.contains(&app), "{page}");
    chrome.look("step-up").await;
    assert_eq!(office.marketing.connections(), 0);
    chrome.press("Use your passkey").await;
    chrome.arrive(&app, "/plans").await;
    assert_eq!(chrome.url().await.query(), Some("year=2027"));
    assert!(office.marketing.text().starts_with("GET /plans?year=2027 "), "{}", office.marketing.text());
    // It was demanded, and it was done: both on record, in one session.
    let demanded = AuditQuery { reason: Some("step_up_required".into()), ..AuditQuery::default() };
    let demanded = records(world, demanded).await;
    assert_eq!((demanded[0].user.as_deref(), &demanded[0].advice[..]), (Some("alice"), &["step-up".to_owned()][..]));
    let query = AuditQuery { kind: Some("sign_in".into()), ..AuditQuery::default() };
    let signed_in = records(world, query).await;
    let done = signed_in.iter().find(|record| record.action.as_deref() == Some("step-up")).expect("on record");
    assert_eq!((done.outcome.as_deref(), &done.session), (Some("ok"), &demanded[0].session));

    // A small form of the app's own page: kept meanwhile, and sent by her own hand.
    age(world).await;
    let fields = [("item", "3"), ("note", "Zoë & <b>\r\nsecond \"line\"")];
    send_form(&chrome, "/orders?list=1", &fields).await;
    chrome.arrive(&auth, "/sign-in").await;
    chrome.press("Use your passkey").await;
    chrome.arrive(&app, "/.vouchsafe/resume").await;
    let page = chrome.text().await;
    assert!(page.contains("Send it now?") && page.contains("POST /orders") && page.contains("2 fields"), "{page}");
    chrome.look("step-up-send").await;
    assert!(!office.marketing.text().contains("POST "), "nothing is sent without her");
    chrome.press("Send it").await;
    chrome.arrive(&app, "/orders").await;
    let seen = office.marketing.text();
    assert_eq!(seen.matches("POST /orders?list=1 ").count(), 1, "{seen}");
    assert!(seen.contains("item=3&note=Zo%C3%AB+%26+%3Cb%3E%0D%0Asecond+%22line%22"), "{seen}");
    chrome.open(&office.app("/.vouchsafe/resume")).await;
    assert!(chrome.text().await.contains("wasn’t kept"), "one look, and no more");
    chrome.look("step-up-gone").await;

    // A large one is not kept, and she is told.
    chrome.open(&office.app("/write")).await;
    age(world).await;
    send_form(&chrome, "/upload", &[("text", &"x".repeat(70_000))]).await;
    chrome.until("document.body && document.body.innerText.includes('Sign in again first')").await;
    chrome.look("step-up-not-kept").await;
    chrome.press("Sign in again").await;
    chrome.arrive(&auth, "/sign-in").await;
    chrome.press("Use your passkey").await;
    chrome.arrive(&app, "/write").await;
    assert!(!office.marketing.text().contains("/upload"));

    // Who is sent again and again is told instead.
    age(world).await;
    chrome.open(&office.app("/plans")).await;
    let page = chrome.text().await;
    assert!(page.contains("A fresh sign-in doesn’t help"), "{page}");
    chrome.look("step-up-no-use").await;
    chrome.finish(&[UNPROVEN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_the_challenge_of_rfc_9470_and_no_redirect() {
    let company = Company::start().await;
    let world = &company.world;
    let resource =
        json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", company.marketing.address)});
    world.apply(&["marketing", "finance"], json!([resource]), FRESH).await;
    let cookie = world.cookie(&company.alice, "marketing", "/").await;
    let before = company.marketing.connections();
    age(world).await;
    let (cookie, url) = (format!("Cookie: {cookie}"), world.url("marketing", "/api"));
    for (more, why) in [
        (&["-H", "Accept: application/json"][..], "a program"),
        (&["-X", "POST", "-d", "a=b", "-H", "Accept: text/html"], "a program that takes pages too"),
        (&["-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: cors"], "a script of a page"),
    ] {
        let mut arguments = vec!["-H", &cookie, url.as_str()];
        arguments.extend(more);
        let answer = curl(world, &arguments).await;
        assert_eq!(answer.status, 401, "{why}: {answer:?}");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer ") && challenge.contains(r#"error="insufficient_user_authentication""#));
        assert!(challenge.contains(r#"max_age="899""#), "{challenge}");
        assert!(answer.header("location").is_none() && answer.body.contains("step_up_required"), "{answer:?}");
    }
    // Through a proxy it is the proxy's challenge.
    let answer = curl_as(world, &company.laptop, &[&company.plain_url("marketing", "/")]).await;
    assert_eq!(answer.status, 407, "{answer:?}");
    let challenge = answer.header("proxy-authenticate").expect("a challenge");
    assert!(challenge.contains(r#"error="insufficient_user_authentication""#), "{challenge}");
    assert_eq!(company.marketing.connections(), before, "nothing went upstream");
}

/// A company with a tunnel whose sign-ins must be younger than so many seconds.
async fn with_tunnel(limit: u64) -> Company {
    let company = Company::start().await;
    let web = json!([{"name": "web", "kind": "tcp", "upstream": company.marketing.address.to_string(), "port": 7777}]);
    let policy = format!(
        "@id(\"web\") permit (principal in Group::\"marketing\", action, resource == Tcp::\"web\") \
         when {{ context.auth.age < {limit} }};"
    );
    company.world.apply(&["marketing", "finance"], web, &policy).await;
    company
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_to_do_and_does_it() {
    let company = with_tunnel(900).await;
    let (world, laptop) = (&company.world, &company.laptop);
    age(world).await;
    // Where nobody can be asked, it says what to do.
    let (exit, _, err) = world.cli(&laptop.dir, &["pipe", "web"]).await;
    assert!(exit == 3 && err.contains("vouchsafe login --fresh"), "{exit} {err}");
    // On a terminal it does it: the tunnel opens once she has proven that it is she.
    let pipe = format!("{VOUCHSAFE} pipe web --dir {}", laptop.dir.display());
    let mut child = Command::new("script")
        .args(["-qec", &pipe, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let shown = tokio::time::timeout(PATIENCE, async {
        let mut shown = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            shown.push_str(&line);
            if let Some(link) = line.split_whitespace().find(|word| word.contains("user_code=")) {
                return link.trim_matches(|letter: char| letter.is_control()).to_owned();
            }
        }
        panic!("no link in {shown}");
    });
    let link = shown.await.expect("in time");
    let link = link.split('\u{1b}').find(|part| part.contains("https://")).expect("a link");
    let link: url::Url = link[link.find("https://").expect("a link")..].parse().expect("a link");
    assert!(link.query().is_some_and(|query| query.contains("fresh=1")), "{link}");
    assert_eq!(company.marketing.connections(), 0);
    // Her browser is signed in, but not freshly: it asks for the passkey first.
    let page = company.alice.browser.get(&link).await.expect("opened");
    assert_eq!(page.url.path(), "/sign-in", "{}", page.text());
    let next = format!("/sign-in?{}", page.url.query().expect("a query"));
    company.alice.browser.sign_in(&page.url, &company.alice.authenticator, Some(&next)).await.expect("signed in");
    company.alice.browser.approve_device(&link).await.expect("approved");
    let begun = Instant::now();
    while company.marketing.connections() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no tunnel: {}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let query = AuditQuery { kind: Some("sign_in".into()), ..AuditQuery::default() };
    let signed_in = records(world, query).await;
    assert!(signed_in.iter().any(|record| record.action.as_deref() == Some("step-up")), "{signed_in:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_tunnel_is_cut_when_its_sign_in_grows_too_old_and_the_record_says_so() {
    let company = with_tunnel(3_610).await;
    let (world, laptop) = (&company.world, &company.laptop);
    age(world).await;
    let tunnels = Tunnels::new(std::sync::Arc::clone(&laptop.device), world.tasks.clone());
    let host = world.host("web");
    let mut tunnel = tunnels.open(&host, Port::Any).await.expect("young enough still");
    let cut = tokio::time::timeout(Duration::from_secs(40), tunnel.read_u8()).await.expect("the sweep cuts it");
    assert!(cut.is_err(), "nothing more comes");
    let query =
        AuditQuery { kind: Some("flow_end".into()), reason: Some("step_up_required".into()), ..AuditQuery::default() };
    let ends = records(world, query).await;
    assert_eq!((ends.len(), ends[0].resource.as_deref()), (1, Some("web")));
    assert!(ends[0].detail.as_deref().is_some_and(|detail| detail.contains("fresh sign-in")), "{:?}", ends[0].detail);
}
