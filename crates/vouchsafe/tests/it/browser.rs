//! What people see: Chromium, real pages, real passkey ceremonies.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use vouchsafe_wire::api::{AuditQuery, Connector, ConnectorInvited, DeviceInvited};
use vouchsafe_wire::audit::Record;

use crate::chrome::Chrome;
use crate::http::POLICY;
use crate::peers::{LocalProxy, curl};
use crate::world::{PATIENCE, Recorder, VOUCHSAFE, World, launch, patiently};

/// What the browser notes of a page that is answered with 403, which is what a denial is.
const DENIED: &str = "the server responded with a status of 403";

/// The marketing app, before anybody has joined.
pub(crate) struct Office {
    pub(crate) world: World,
    pub(crate) marketing: Recorder,
}

impl Office {
    pub(crate) async fn start() -> Self {
        let world = World::start().await;
        let marketing = Recorder::start(&world.tasks).await;
        let resource = json!({
            "name": "marketing", "kind": "http", "upstream": format!("http://{}", marketing.address),
            "description": "Campaigns, figures and the press",
        });
        world.apply(&["marketing", "finance"], json!([resource]), &only_marketing()).await;
        Self { world, marketing }
    }

    /// Joins as a person does who got a link: opens it and makes a passkey.
    pub(crate) async fn join(&self, chrome: &Chrome, name: &str) {
        let link = self.world.invite(name, &["marketing"]).await;
        chrome.open(&link).await;
        chrome.press("Make a passkey").await;
        chrome.arrive(&self.world.host("auth"), "/").await;
    }

    /// Address of the marketing app.
    pub(crate) fn app(&self, path: &str) -> String {
        self.world.url("marketing", path).to_string()
    }

    fn auth(&self, path: &str) -> String {
        self.world.url("auth", path).to_string()
    }

    /// Waits at the sign-in page and signs in. There is no field for a name.
    async fn sign_in(&self, chrome: &Chrome) {
        chrome.arrive(&self.world.host("auth"), "/sign-in").await;
        assert_eq!(chrome.script("document.querySelectorAll('input').length").await, 0);
        chrome.press("Sign in with a passkey").await;
    }

    /// Enrols a laptop of that person through the command line, and gives its state directory.
    async fn enrol(&self, owner: &str) -> PathBuf {
        let invited: DeviceInvited =
            self.world.admin.post("/v1/devices/invites", &json!({"owner": owner})).await.expect("device invited");
        let ticket = self.world.dir.path().join("ticket.txt");
        std::fs::write(&ticket, invited.ticket).expect("written");
        let dir = self.world.dir.path().join("laptop");
        let file = ticket.display().to_string();
        let (code, _, err) = self.world.cli(&dir, &["enroll", "--name", "laptop", "--ticket-file", &file]).await;
        assert_eq!(code, 0, "{err}");
        dir
    }

    /// The allowed requests to the marketing app, once there is one.
    async fn allowed(&self) -> Vec<Record> {
        let query = AuditQuery {
            kind: Some("decision".into()),
            outcome: Some("allow".into()),
            resource: Some("marketing".into()),
            ..AuditQuery::default()
        };
        for () in patiently() {
            let records = self.world.audit(query.clone()).await;
            if !records.is_empty() {
                return records;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("nothing was allowed");
    }
}

/// The part of the policy that is about the one app here.
fn only_marketing() -> String {
    POLICY.split("\n\n").next().expect("a policy").to_owned()
}

/// `vouchsafe login` on a laptop, waiting for its person.
struct SigningIn {
    child: tokio::process::Child,
    link: String,
    code: String,
}

impl SigningIn {
    async fn start(dir: &std::path::Path) -> Self {
        let mut child = Command::new(VOUCHSAFE)
            .args(["login", "--no-browser", "--json", "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable");
        let shown: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let text = |name: &str| shown[name].as_str().expect("a text").to_owned();
        Self { link: text("verification_uri"), code: text("user_code"), child }
    }

    async fn finish(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("in time").expect("status");
        assert!(status.success(), "`login` ends with {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_makes_a_passkey_that_signs_in_without_a_name() {
    let office = Office::start().await;
    let chrome = Chrome::start(&office.world).await;
    office.join(&chrome, "alice").await;
    let page = chrome.text().await;
    assert!(page.contains("alice") && page.contains("no device proven"), "{page}");
    let held = chrome.passkeys().await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["isResidentCredential"], true);
    // Nothing is left of the session: the passkey alone says who this is.
    chrome.forget_cookies().await;
    chrome.open(&office.auth("/")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&office.world.host("auth"), "/").await;
    assert!(chrome.text().await.contains("alice"));
    let cookies = chrome.script("document.cookie").await;
    assert_eq!(cookies, "", "no script can read a cookie of ours");
    // A script that somebody slipped into the page does not run, and the log shows the attempt.
    let slipped = "(s => { s.textContent = 'document.title = \"owned\"'; document.body.append(s); })";
    chrome.script(&format!("{slipped}(document.createElement('script'))")).await;
    assert_ne!(chrome.script("document.title").await, "owned");
    chrome.finish(&["Content Security Policy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_good_once() {
    let office = Office::start().await;
    let chrome = Chrome::start(&office.world).await;
    let link = office.world.invite("alice", &[]).await;
    chrome.open(&link).await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&office.world.host("auth"), "/").await;
    let other = Chrome::start(&office.world).await;
    other.open(&link).await;
    other.until("document.getElementById('notice') && !document.getElementById('notice').hidden").await;
    assert_eq!(other.script("document.querySelector('[data-invite-ready]').hidden").await, true);
    assert!(other.passkeys().await.is_empty());
    other.finish(&["/webauthn/register/start"]).await;
    chrome.finish(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_device_an_app_is_denied_with_what_to_do() {
    let office = Office::start().await;
    let chrome = Chrome::start(&office.world).await;
    office.join(&chrome, "alice").await;
    chrome.forget_cookies().await;
    chrome.open(&office.app("/plans?year=2027")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&office.world.host("marketing"), "/plans").await;
    assert_eq!(chrome.url().await.query(), Some("year=2027"), "the sign-in leads back to what was asked for");
    let page = chrome.text().await;
    assert!(page.contains("Access denied") && page.contains("vouchsafe enroll"), "{page}");
    let id = chrome.script("document.querySelector('footer code').textContent").await;
    let record = office.world.decision(id.as_str().expect("a decision id")).await;
    assert_eq!(record.reason.as_deref(), Some("device_required"));
    assert_eq!((record.user.as_deref(), record.device), (Some("alice"), None));
    assert_eq!(record.path.as_deref(), Some("/plans"));
    assert_eq!(office.marketing.connections(), 0);
    chrome.finish(&[DENIED]).await;
}

/// A browser that uses QUIC and nothing else for a host; there it takes a root that is not a public one.
async fn over_quic(world: &World, label: &str) -> Chrome {
    let origin = format!("--origin-to-force-quic-on={}:{}", world.host(label), world.port);
    Chrome::start_with(world, &["--enable-quic".to_owned(), origin]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http3_the_same_pages_open_and_the_same_is_decided() {
    let office = Office::start().await;
    let world = &office.world;
    let spoken = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
    // One host in each: the certificate is for all names of ours, so that a browser would use one
    // connection for another name, be told so (421), and go to TCP.
    let chrome = over_quic(world, "marketing").await;
    let outside = over_quic(world, "auth").await;
    office.join(&outside, "alice").await;
    assert_eq!(outside.script(spoken).await, "h3");
    chrome.take_passkeys(&outside).await;
    outside.finish(&[]).await;
    chrome.open(&office.app("/plans?year=2027")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&world.host("marketing"), "/plans").await;
    assert_eq!(chrome.script(spoken).await, "h3");
    let id = chrome.script("document.querySelector('footer code').textContent").await;
    let record = world.decision(id.as_str().expect("a decision id")).await;
    assert_eq!(record.protocol.as_deref(), Some("h3"), "{record:?}");
    assert_eq!((record.reason.as_deref(), record.user.as_deref()), (Some("device_required"), Some("alice")));
    assert_eq!(office.marketing.connections(), 0);
    // The app itself, once no device is asked for.
    let policy = only_marketing().replace("permit (", "@device(\"none\")\npermit (");
    let resource =
        json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", office.marketing.address)});
    world.apply(&["marketing", "finance"], json!([resource]), &policy).await;
    for () in patiently() {
        chrome.open(&office.app("/plans?year=2028")).await;
        if chrome.text().await.trim() == "ok" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(chrome.script(spoken).await, "h3");
    assert!(office.allowed().await.iter().all(|record| record.protocol.as_deref() == Some("h3")));
    assert!(office.marketing.text().contains("GET /plans?year=2028 HTTP/1.1"));
    chrome.finish(&[DENIED]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_her_laptops_proxy_the_same_person_gets_in_until_she_signs_out() {
    let office = Office::start().await;
    let outside = Chrome::start(&office.world).await;
    office.join(&outside, "alice").await;
    // She signs in on her laptop, and compares the code.
    let laptop = office.enrol("alice").await;
    let login = SigningIn::start(&laptop).await;
    outside.open(&login.link).await;
    let page = outside.text().await;
    assert!(page.contains(&login.code) && page.contains("laptop"), "{page}");
    outside.press("Approve").await;
    outside.until("document.querySelector('h1').textContent === 'Approved'").await;
    login.finish().await;
    // A browser behind the laptop's proxy, on a fresh profile.
    let proxy = LocalProxy::start(&laptop).await;
    let chrome = Chrome::start_with(&office.world, &proxy.chromium_arguments()).await;
    chrome.take_passkeys(&outside).await;
    chrome.open(&office.app("/plans")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&office.world.host("marketing"), "/plans").await;
    assert_eq!(chrome.text().await, "ok", "the app answers");
    let seen = office.marketing.text();
    assert!(
        seen.contains("GET /plans HTTP/1.1") && seen.to_lowercase().contains("x-vouchsafe-assertion: ey"),
        "{seen}"
    );
    let devices: Vec<Value> = office.world.admin.get("/v1/devices").await.expect("devices");
    for record in office.allowed().await {
        assert_eq!(record.user.as_deref(), Some("alice"));
        assert_eq!(record.device.as_deref(), devices[0]["id"].as_str(), "{record:?}");
    }
    chrome.open(&office.auth("/")).await;
    assert!(chrome.text().await.contains("on laptop"));
    // Signed out here, the app's own cookie is worth nothing any more.
    chrome.press("Sign out").await;
    chrome.arrive(&office.world.host("auth"), "/signed-out").await;
    let connections = office.marketing.text().len();
    chrome.open(&office.app("/plans")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&office.world.host("marketing"), "/plans").await;
    assert!(office.marketing.text().len() > connections);
    // Everywhere: also in the other browser, and on the laptop.
    chrome.open(&office.auth("/")).await;
    chrome.press("Sign out everywhere").await;
    chrome.confirm().await;
    chrome.arrive(&office.world.host("auth"), "/signed-out").await;
    outside.open(&office.auth("/")).await;
    outside.arrive(&office.world.host("auth"), "/sign-in").await;
    chrome.open(&office.app("/plans")).await;
    chrome.arrive(&office.world.host("auth"), "/sign-in").await;
    let (_, out, err) = office.world.cli(&laptop, &["pipe", "marketing"]).await;
    assert!(err.contains("vouchsafe login"), "the laptop is signed out too: {out}{err}");
    outside.finish(&[]).await;
    chrome.finish(&[]).await;
}

/// Everything that a person does on her own page, by what it says.
#[tokio::test(flavor = "multi_thread")]
async fn on_her_own_page_somebody_ends_sessions_removes_a_device_and_asks_for_access() {
    let office = Office::start().await;
    let world = &office.world;
    let resources = json!([
        {"name": "marketing", "kind": "http", "upstream": format!("http://{}", office.marketing.address),
         "description": "Campaigns"},
        {"name": "finance", "kind": "http", "upstream": format!("http://{}", office.marketing.address)},
    ]);
    let policy = format!(
        "{}\n@id(\"may-ask\") @device(\"none\") permit (principal in Group::\"marketing\", action == Action::\"console:write\", \
         resource == Console::\"console\") when {{ context.request.operation like \"POST /v1/resources/*/requests*\" }};",
        only_marketing(),
    );
    world.apply(&["marketing", "finance"], resources, &policy).await;
    let chrome = Chrome::start(world).await;
    office.join(&chrome, "alice").await;
    let laptop = office.enrol("alice").await;
    let login = SigningIn::start(&laptop).await;
    chrome.open(&login.link).await;
    chrome.press("Approve").await;
    chrome.until("document.querySelector('h1').textContent === 'Approved'").await;
    login.finish().await;
    chrome.open(&office.auth("/")).await;
    let page = chrome.text().await;
    assert!(page.contains("Campaigns") && page.contains("not on this device"), "{page}");
    // A session of hers elsewhere ends, and what it was good for with it.
    let ended = Instant::now();
    chrome.press("End session on laptop, command line").await;
    chrome.until("!document.body.innerText.includes('laptop, command line')").await;
    let (_, out, err) = world.cli(&laptop, &["pipe", "marketing"]).await;
    assert!(err.contains("vouchsafe login"), "{out}{err}");
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    chrome.script("document.querySelector('#devices').closest('section').querySelector('details').open = true").await;
    chrome.press("Remove this device: laptop").await;
    chrome.until("document.body.innerText.includes('None is enrolled for you')").await;
    let devices: Vec<Value> = world.admin.get("/v1/devices").await.expect("devices");
    assert!(devices.is_empty(), "{devices:?}");
    // A denial says what to do, and leads there.
    chrome.open(world.url("finance", "/books").as_str()).await;
    chrome.arrive(&world.host("finance"), "/books").await;
    for () in patiently() {
        chrome.open(&office.auth("/")).await;
        if chrome.text().await.contains("/books") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    chrome.press("Ask for access to finance").await;
    chrome.arrive(&world.host("auth"), "/ask").await;
    chrome.type_into("#reason", "closing the quarter").await;
    chrome.press("Ask").await;
    chrome.arrive(&world.host("auth"), "/").await;
    let requests: Vec<Value> = world.admin.get("/v1/requests").await.expect("requests");
    assert_eq!((&requests[0]["user"], &requests[0]["resource"]), (&json!("alice"), &json!("finance")));
    chrome.press("Withdraw the request for finance").await;
    chrome.until("document.body.innerText.includes('withdrawn')").await;
    chrome.press("Ask anew for finance").await;
    chrome.until("document.querySelector('#reason').value === 'closing the quarter'").await;
    chrome.finish(&[DENIED]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_passkey_needs_a_fresh_sign_in() {
    let office = Office::start().await;
    let mut chrome = Chrome::start(&office.world).await;
    office.join(&chrome, "alice").await;
    age_sign_ins(&office.world).await;
    chrome.open(&office.auth("/")).await;
    assert_eq!(chrome.script("document.querySelector('[data-add-passkey]')").await, Value::Null);
    chrome.press("sign in again").await;
    chrome.arrive(&office.world.host("auth"), "/sign-in").await;
    chrome.press("Use your passkey").await;
    chrome.arrive(&office.world.host("auth"), "/").await;
    // The same authenticator would hold two passkeys for one person, so it refuses.
    chrome.press("Add a passkey").await;
    chrome.until("!document.getElementById('notice').hidden").await;
    assert!(chrome.text().await.contains("has a passkey for you already"));
    chrome.change_authenticator().await;
    chrome.type_into("#passkey-name", "security key <b>").await;
    chrome.press("Add a passkey").await;
    chrome.until("document.body.innerText.includes('security key <b>')").await;
    chrome.forget_cookies().await;
    chrome.open(&office.auth("/")).await;
    office.sign_in(&chrome).await;
    chrome.arrive(&office.world.host("auth"), "/").await;
    assert!(chrome.text().await.contains("alice"), "the second passkey signs in too");
    chrome.finish(&[]).await;
}

/// Makes every session's sign-in an hour old. Time can't be advanced in another process.
async fn age_sign_ins(world: &World) {
    let database = world.state_dir().join("vouchsafe.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("the database");
    let aged = sqlx::query("UPDATE sessions SET auth_time = auth_time - 3600").execute(&mut connection).await;
    assert!(aged.expect("aged").rows_affected() > 0);
}

const HOSTILE: &str = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>";

/// An office where names and texts are markup.
async fn hostile_office() -> Office {
    let office = Office::start().await;
    let resource = json!({
        "name": "marketing", "kind": "http", "upstream": format!("http://{}", office.marketing.address),
        "description": HOSTILE, "tags": ["quarter-end"], "sensitivity": "confidential",
    });
    let policy = format!("{}\n// {HOSTILE}\n", only_marketing());
    office.world.apply(&["marketing", "finance"], json!([resource]), &policy).await;
    let path = "/%3Cimg%20src=x%20onerror=document.title='owned'%3E";
    curl(&office.world, &[&office.app(path)]).await;
    office
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_opens_for_the_first_administrator_and_shows_hostile_texts_as_text() {
    let office = hostile_office().await;
    let world = &office.world;
    let chrome = Chrome::start(world).await;
    chrome.open(world.first_invite.as_deref().expect("an invitation")).await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&world.host("auth"), "/").await;
    chrome.press("Console").await;
    chrome.arrive(&world.host("console"), "/").await;
    for (link, path) in [
        ("Users", "/users"),
        ("Devices", "/devices"),
        ("Resources", "/resources"),
        ("Policy", "/policy"),
        ("Audit", "/audit"),
        ("Overview", "/"),
    ] {
        chrome.press(link).await;
        chrome.arrive(&world.host("console"), path).await;
        assert_eq!(chrome.script("document.querySelectorAll('main img, main script').length").await, 0, "{path}");
        assert!(!chrome.script("document.title").await.as_str().unwrap_or_default().contains("owned"), "{path}");
        let page = chrome.text().await;
        match path {
            "/resources" | "/policy" => assert!(page.contains(HOSTILE), "{path}: {page}"),
            "/audit" | "/" => assert!(page.contains("onerror") && page.contains("sign_in_required"), "{path}: {page}"),
            _ => {}
        }
    }
    chrome.open(world.url("console", "/audit?user=%22%3E%3Cimg%20src=x%3E").as_str()).await;
    assert_eq!(chrome.script("document.getElementById('user').value").await, "\"><img src=x>");
    chrome.finish(&[]).await;
    // Who is no administrator doesn't get in.
    let chrome = Chrome::start(world).await;
    office.join(&chrome, "alice").await;
    let offered = "[...document.querySelectorAll('nav a')].some((link) => link.textContent === 'Console')";
    assert_eq!(chrome.script(offered).await, false);
    chrome.open(world.url("console", "/").as_str()).await;
    chrome.arrive(&world.host("console"), "/").await;
    assert!(chrome.text().await.contains("Access denied"));
    chrome.finish(&[DENIED]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_fits_a_desktop_and_a_phone_in_light_and_dark() {
    let office = Office::start().await;
    let world = &office.world;
    let chrome = Chrome::start(world).await;
    chrome.open(&office.auth("/sign-in")).await;
    chrome.look("sign-in").await;
    chrome.open(world.first_invite.as_deref().expect("an invitation")).await;
    chrome.until("document.querySelector('[data-invite-ready]:not([hidden])')").await;
    chrome.look("invite").await;
    chrome.press("Make a passkey").await;
    chrome.arrive(&world.host("auth"), "/").await;
    let account = chrome.script("document.querySelector('h1').textContent").await;
    let account = account.as_str().expect("a name").to_owned();
    let laptop = office.enrol(&account).await;
    let login = SigningIn::start(&laptop).await;
    chrome.open(&office.auth("/device")).await;
    chrome.look("device-code").await;
    chrome.open(&login.link).await;
    chrome.look("device-approval").await;
    chrome.press("Approve").await;
    chrome.until("document.querySelector('h1').textContent === 'Approved'").await;
    chrome.look("device-approved").await;
    login.finish().await;
    chrome.open(&office.auth("/")).await;
    chrome.look("my-page-empty").await;
    chrome.open(&office.app("/plans")).await;
    chrome.arrive(&world.host("marketing"), "/plans").await;
    chrome.look("denied").await;
    let denied = chrome.script("document.querySelector('footer code').textContent").await;
    let denied = denied.as_str().expect("a decision id").to_owned();
    world.decision(&denied).await;
    for (name, path) in [
        ("my-page", "/"),
        ("my-activity", "/activity"),
        ("my-denials", "/activity?show=denied"),
        ("my-sign-ins", "/activity?show=sign-ins"),
        ("my-readers", "/activity?show=readers"),
        ("ask", "/ask?resource=marketing"),
    ] {
        chrome.open(&office.auth(path)).await;
        chrome.look(name).await;
        chrome.inspect(name).await;
    }
    let grant = json!({"user": account, "resource": "marketing", "reason": "test"});
    let _: Value = world.admin.post("/v1/grants", &grant).await.expect("granted");
    let _connector = connectors(world).await;
    let proposal = requests_and_a_change(world, &laptop).await;
    world.invite("mallory", &[]).await;
    let lock = json!({"kind": "user", "name": "mallory", "reason": format!("{HOSTILE}\u{202e}{}", "x".repeat(90))});
    let _: Value = world.admin.post("/v1/locks", &lock).await.expect("locked");
    places_that_are_told(world).await;
    let (person, decision) = (format!("/users/{account}"), format!("/decisions/{denied}"));
    for (name, path) in [
        ("console-overview", "/"),
        ("console-map", "/map"),
        ("console-map-of-one", "/map?resource=marketing"),
        ("console-users", "/users"),
        ("console-person", &person),
        ("console-locked", "/users/mallory"),
        ("console-devices", "/devices"),
        ("console-device", "/devices/tablet"),
        ("console-sessions", "/sessions"),
        ("console-resources", "/resources"),
        ("console-resource", "/resources/marketing"),
        ("console-connectors", "/connectors"),
        ("console-requests", "/requests"),
        ("console-policy", "/policy"),
        ("console-diff", "/policy/diff?recorded=1"),
        ("console-proposals", "/proposals"),
        ("console-proposal", &proposal),
        ("console-webhooks", "/webhooks"),
        ("console-editor", "/policy/edit?file=zoe.cedar"),
        ("console-audit", "/audit"),
        ("console-streams", "/streams"),
        ("console-decision", &decision),
        ("console-nothing", "/nothing"),
    ] {
        chrome.open(world.url("console", path).as_str()).await;
        chrome.look(name).await;
        chrome.inspect(name).await;
    }
    edits_the_policy(world, &chrome).await;
    ends_a_session(world, &chrome).await;
    chrome.open(&office.auth("/signed-out")).await;
    chrome.look("signed-out").await;
    chrome.finish(&[DENIED, "the server responded with a status of 404"]).await;
}

/// A mistake is found while it is typed, without a button.
async fn edits_the_policy(world: &World, chrome: &Chrome) {
    chrome.open(world.url("console", "/policy/edit?file=zoe.cedar").as_str()).await;
    chrome.type_into("#text", "permit (oops);").await;
    chrome.until("document.querySelector('#found .mistakes li')").await;
    chrome.press("Check and run the tests").await;
    chrome.arrive(&world.host("console"), "/v1/policy/check").await;
    let told = chrome.text().await;
    assert!(told.contains("refused") && told.contains("zoe.cedar:"), "{told}");
}

/// A row of the list of sessions has a button that ends it, and a new decision shows up by itself.
async fn ends_a_session(world: &World, chrome: &Chrome) {
    let open = async || world.admin.get::<Vec<Value>>("/v1/sessions").await.expect("sessions");
    let zoes = open().await.into_iter().find(|session| session["user"] == "zoe").expect("a session of hers");
    let id = zoes["id"].as_str().expect("an id").to_owned();
    chrome.open(world.url("console", "/sessions").as_str()).await;
    chrome.script(&format!("document.querySelector('form[action=\"/v1/sessions/{id}/end\"] button').click()")).await;
    for () in patiently() {
        if open().await.iter().all(|session| session["id"] != id) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(open().await.iter().all(|session| session["id"] != id), "her session is still open");
    chrome.arrive(&world.host("console"), "/sessions").await;
    chrome.open(world.url("console", "/").as_str()).await;
    chrome.until("document.querySelector('[data-feed-state]').textContent === 'live'").await;
    let path = "/seen-as-it-happens";
    curl(world, &[world.url("marketing", path).as_str()]).await;
    chrome.until(&format!("document.querySelector('[data-feed]').innerText.includes('{path}')")).await;
}

/// Somebody asks for access, so does who looks, and one was refused; and a policy was added, and one proposed that two
/// people have to want. Gives the page of that.
async fn requests_and_a_change(world: &World, laptop: &Path) -> String {
    let zoe = world.person("zoe", &["administrators"]).await;
    let tablet = world.device(&zoe, "tablet").await;
    let ask = ["request", "marketing", "--for", "2h", "--reason", "figures for the quarter", "--json"];
    let (exit, asked, err) = world.cli(&tablet.dir, &ask).await;
    assert_eq!(exit, 0, "{err}");
    let asked: Value = serde_json::from_str(&asked).expect("JSON");
    let deny = format!("/v1/resources/marketing/requests/{}/deny", asked["id"].as_str().expect("an id"));
    let _: Value = world.admin.post(&deny, &json!({"note": "ask marketing first"})).await.expect("denied");
    for dir in [&tablet.dir, laptop] {
        assert_eq!(world.cli(dir, &ask).await.0, 0);
    }
    let mut version: Value = world.admin.get("/v1/policy").await.expect("policy");
    let added = json!({"name": "zoe.cedar", "text":
        "@id(\"zoe\") permit (principal == User::\"zoe\", action, resource) when { context.device.grade == \"hardware\" };\n"});
    version["files"].as_array_mut().expect("files").push(added);
    let publish = json!({"files": version["files"], "note": "for the quarter"});
    let _: Value = world.admin.post("/v1/policy/publish", &publish).await.expect("published");
    let draft = world.dir.path().join("draft");
    for file in version["files"].as_array().expect("files") {
        let path = draft.join(file["name"].as_str().expect("a name"));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, file["text"].as_str().expect("a text")).expect("written");
    }
    let guarded = "@id(\"payroll\")\n@approval(\"two-person\")\n\
                   permit (principal in Group::\"finance\", action, resource is Http);\n";
    std::fs::write(draft.join("payroll.cedar"), guarded).expect("written");
    let draft = draft.display().to_string();
    let publish = ["policy", "publish", &draft, "--reason", "figures are for finance alone", "--json"];
    let (_, waits, err) = world.cli(&tablet.dir, &publish).await;
    let waits: Value = serde_json::from_str(&waits).unwrap_or_else(|_| panic!("{waits}{err}"));
    format!("/proposals/{}", waits["proposal"].as_str().unwrap_or_else(|| panic!("no proposal: {waits}")))
}

/// A webhook and a stream to places that nobody listens at, so that they say why nothing arrives.
async fn places_that_are_told(world: &World) {
    let hook = json!({"name": "chat", "url": "https://localhost:9/hooks/secret", "events": []});
    let _: Value = world.admin.post("/v1/webhooks", &hook).await.expect("added");
    let place = json!({"name": "siem", "kind": "syslog", "address": "localhost:9", "format": "ocsf", "from": 0});
    let _: Value = world.admin.post("/v1/audit/streams", &place).await.expect("added");
    for () in patiently() {
        let stream: Value = world.admin.get("/v1/audit/streams/siem").await.expect("a stream");
        if stream["failures"].as_u64() > Some(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a place where nobody listens takes records: {}", world.log());
}

/// Two connectors have joined, of which one is attached.
async fn connectors(world: &World) -> Child {
    let mut state = PathBuf::new();
    for name in ["connector-away", "connector-here"] {
        state = world.dir.path().join(name);
        let site = json!({"site": "a-site-with-a-name-as-long-as-they-may-be"});
        let invited: ConnectorInvited = world.admin.post("/v1/connectors/invites", &site).await.expect("invited");
        let (exit, out, err) = world.cli(&state, &["connector", "join", &invited.code]).await;
        assert_eq!(exit, 0, "{out}{err}");
    }
    let arguments = ["connector", "--allow", "10.0.0.0/8:443"].map(String::from);
    let (process, _) = launch(world.dir.path(), &state, &arguments).await;
    let begun = Instant::now();
    loop {
        let all: Vec<Connector> = world.admin.get("/v1/connectors").await.expect("connectors");
        if all.iter().any(|connector| !connector.attached.is_empty()) {
            return process;
        }
        assert!(begun.elapsed() < PATIENCE, "no connector attaches: {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
