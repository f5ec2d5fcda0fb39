//! The first steps: from `up` to a protected app in the browser alone, following only what the screen says; and what goes
//! wrong on the way.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{AssessmentDoc, AuditQuery};

use crate::chrome::Chrome;
use crate::peers::{Curled, curl, free_port};
use crate::world::{Recorder, World, patiently};

/// Somebody at a browser, who counts what she does.
struct Newcomer {
    chrome: Chrome,
    steps: u32,
}

impl Newcomer {
    async fn press(&mut self, words: &str) {
        self.chrome.press(words).await;
        self.steps += 1;
    }

    async fn write(&mut self, selector: &str, text: &str) {
        self.chrome.script(&format!("document.querySelector('{selector}').value = ''")).await;
        self.chrome.type_into(selector, text).await;
        self.steps += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_has_never_seen_it_protects_a_first_app_by_what_the_screen_says() {
    let tasks = TaskGroup::new();
    let app = Recorder::start(&tasks).await;
    let address = app.address.to_string();
    // The one command of it.
    let arguments = ["up", "--port", "0"].map(String::from);
    let world = World::start_role(tempfile::tempdir().expect("temporary directory"), &arguments).await;
    let console = world.host("console");
    let mut she = Newcomer { chrome: Chrome::start(&world).await, steps: 0 };
    she.chrome.open(world.first_invite.as_deref().expect("a link")).await;
    she.press("Make a passkey").await;
    she.chrome.arrive(&world.host("auth"), "/").await;
    she.press("Console").await;
    she.chrome.arrive(&console, "/").await;
    let page = she.chrome.text().await;
    assert!(page.contains("First steps") && page.contains("1 of 4 done"), "{page}");
    she.chrome.look("first-steps").await;
    she.chrome.inspect("first-steps").await;
    she.press("Protect a first app").await;
    she.chrome.arrive(&console, "/start").await;
    for () in patiently() {
        // Until then the page says that it takes a moment.
        let page = she.chrome.text().await;
        if page.contains(&address) {
            break;
        }
        assert!(page.contains("load this page again"), "{page}");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        she.chrome.open(world.url("console", "/start").as_str()).await;
    }
    she.chrome.look("start").await;
    she.chrome.inspect("start").await;
    she.press(&format!("Protect {address}")).await;
    she.chrome.arrive(&console, "/start/app").await;
    she.write("#name", "intranet").await;
    she.chrome.look("start-app").await;
    she.chrome.inspect("start-app").await;
    she.press("Show what would be done").await;
    she.chrome.arrive(&console, "/v1/plan").await;
    let page = she.chrome.text().await;
    for words in
        ["resource/intranet", "group/intranet", "mode: observe", "@id(\"intranet-users\")", "Nobody is kept out yet"]
    {
        assert!(page.contains(words), "the plan says {words}: {page}");
    }
    she.chrome.look("start-plan").await;
    she.chrome.inspect("start-plan").await;
    assert!(world.admin.get::<Vec<Value>>("/v1/resources").await.expect("resources").is_empty(), "nothing is done yet");
    she.press("Protect it").await;
    she.chrome.arrive(&console, "/start/protected").await;
    she.chrome.look("start-protected").await;
    she.chrome.inspect("start-protected").await;
    let link = she.chrome.script("document.querySelector('main a.go').textContent").await;
    let link = link.as_str().expect("a link").to_owned();
    she.press(&link).await;
    she.chrome.arrive(&world.host("intranet"), "/").await;
    assert_eq!(she.chrome.text().await, "ok", "the app answers");
    assert!(app.text().contains("GET / HTTP/1.1"), "{}", app.text());
    she.chrome.script("history.back()").await;
    she.steps += 1;
    she.chrome.arrive(&console, "/start/protected").await;
    she.write("#invite-name", "bea").await;
    she.press("Invite").await;
    she.chrome.arrive(&console, "/v1/users").await;
    she.chrome.look("invited").await;
    she.chrome.inspect("invited").await;
    let invitation = she.chrome.script("document.querySelector('code.secret').textContent").await;
    let invitation = invitation.as_str().expect("a link").to_owned();
    assert!(
        she.chrome
            .script("document.querySelector('#text').value")
            .await
            .as_str()
            .is_some_and(|text| text.contains(&invitation))
    );
    assert!(she.steps <= 12, "{} steps", she.steps);

    let colleague = Chrome::start(&world).await;
    colleague.open(&invitation).await;
    colleague.press("Make a passkey").await;
    colleague.arrive(&world.host("auth"), "/").await;
    let page = colleague.text().await;
    assert!(page.contains("intranet") && page.contains("not on this device"), "{page}");
    colleague.press("intranet").await;
    colleague.arrive(&world.host("intranet"), "/").await;
    assert_eq!(colleague.text().await, "ok", "nobody is kept out while it is watched");
    let query =
        AuditQuery { resource: Some("intranet".into()), passed: Some("observe".into()), ..AuditQuery::default() };
    let mut seen = Vec::new();
    for () in patiently() {
        seen = world.audit(query.clone()).await;
        if seen.iter().filter(|record| record.path.as_deref() == Some("/")).count() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let reasons: Vec<_> = seen.iter().map(|record| (record.user.clone(), record.reason.clone())).collect();
    assert!(
        seen.iter().filter(|record| record.path.as_deref() == Some("/")).count() >= 2,
        "both are seen: {reasons:?}"
    );

    she.chrome.press("To the overview").await;
    she.chrome.arrive(&console, "/").await;
    let page = she.chrome.text().await;
    assert!(page.contains("3 of 4 done") && page.contains("intranet"), "{page}");
    she.chrome.open(world.url("console", "/assessment").as_str()).await;
    she.chrome.look("assessment").await;
    she.chrome.inspect("assessment").await;
    let page = she.chrome.text().await;
    assert!(page.contains("Pillars") && page.contains("What could be protected"), "{page}");
    she.chrome.open(world.url("console", "/").as_str()).await;
    she.chrome.press("Hide this").await;
    she.chrome.until("!document.body.innerText.includes('First steps')").await;
    she.chrome.finish(&[]).await;
    colleague.finish(&[]).await;
    let query = AuditQuery { kind: Some("admin".into()), user: Some("admin".into()), ..AuditQuery::default() };
    let done: Vec<String> = world.audit(query).await.into_iter().filter_map(|record| record.action).collect();
    for action in ["group.add", "resource.put", "policy.publish", "user.add", "console.first-steps.hide"] {
        assert!(done.iter().any(|one| one == action), "{action} is on record: {done:?}");
    }
}

/// The forms as they are sent, with all that can be wrong about them.
struct Forms {
    world: World,
    cookie: String,
}

impl Forms {
    async fn start() -> Self {
        let world = World::start().await;
        let root = world.person("root", &["administrators"]).await;
        let cookie = format!("Cookie: {}", world.cookie(&root, "console", "/").await);
        Self { world, cookie }
    }

    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Curled {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let url = self.world.url("console", path);
        curl(&self.world, &["-H", &self.cookie, "-H", "Sec-Fetch-Site: same-origin", "-d", &body, url.as_str()]).await
    }

    async fn resources(&self) -> usize {
        self.world.admin.get::<Vec<Value>>("/v1/resources").await.expect("resources").len()
    }
}

fn field(page: &str, name: &str) -> String {
    let (_, rest) =
        page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {page}"));
    rest.split('"').next().expect("a value").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_says_what_is_wrong_and_does_things_once() {
    let forms = Forms::start().await;
    let world = &forms.world;
    let app = Recorder::start(&world.tasks).await;
    let (good, nobody) = (app.address.to_string(), format!("127.0.0.1:{}", free_port(std::net::Ipv4Addr::LOCALHOST)));
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let silent = mute.local_addr().expect("address").to_string();
    let own = format!("127.0.0.1:{}", world.port);
    for (upstream, name, from, words) in [
        (nobody.as_str(), "wiki", "127.0.0.0/8", "doesn’t answer: "),
        (silent.as_str(), "wiki", "127.0.0.0/8", "doesn’t answer as a web server does"),
        (own.as_str(), "wiki", "127.0.0.0/8", "vouchsafe&#39;s own port"),
        ("ftp://127.0.0.1:21", "wiki", "127.0.0.0/8", "upstream"),
        ("", "wiki", "127.0.0.0/8", "upstream"),
        (good.as_str(), "Wiki_1", "127.0.0.0/8", "Wiki_1"),
        (good.as_str(), "<b>", "127.0.0.0/8", "&lt;b&gt;"),
        (good.as_str(), "console", "127.0.0.0/8", "console"),
        (good.as_str(), "wiki", "0.0.0.0/0", "0.0.0.0/0"),
        (good.as_str(), "wiki", "", "127.0.0.0/8"),
    ] {
        let answer = forms.send("/v1/plan", &[("upstream", upstream), ("name", name), ("from", from)]).await;
        if from.is_empty() {
            assert_eq!(answer.status, 200, "what is left out is what is usual: {answer:?}");
            continue;
        }
        assert_eq!(answer.status, 422, "{upstream} {name} {from}: {answer:?}");
        let said = answer.body.replace("&#x27;", "&#39;").replace('\'', "&#39;");
        assert!(said.contains(words) && said.contains("role=\"alert\""), "{upstream} {name} {from}: {said}");
    }
    assert_eq!(forms.resources().await, 0);

    // What was shown is done once, also when it is sent again, and only as it was shown.
    let ask = [("upstream", good.as_str()), ("name", "wiki"), ("kind", "web"), ("device", "none"), ("group", "team")];
    let shown = forms.send("/v1/plan", &ask).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let (digest, until, from) = (field(&shown.body, "digest"), field(&shown.body, "until"), field(&shown.body, "from"));
    let with = |digest: &str| {
        let mut all: Vec<(String, String)> =
            ask.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(
            [("until", until.as_str()), ("from", &from), ("digest", digest)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        all
    };
    let send = async |digest: &str| {
        let all = with(digest);
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        forms.send("/v1/apply", &all).await
    };
    let other = send(&"0".repeat(64)).await;
    assert!(other.status == 409 && other.body.contains("nothing was done"), "{other:?}");
    assert_eq!(forms.resources().await, 0);
    for time in 1..=2 {
        let answer = send(&digest).await;
        assert_eq!(answer.status, 303, "{time}: {answer:?}");
        assert_eq!(forms.resources().await, 1, "{time}");
    }
    let query = AuditQuery { kind: Some("admin".into()), user: Some("root".into()), ..AuditQuery::default() };
    let done: Vec<String> = world.audit(query).await.into_iter().filter_map(|record| record.action).collect();
    for action in ["group.add", "resource.put", "policy.publish"] {
        assert_eq!(done.iter().filter(|one| *one == action).count(), 1, "{action}, once: {done:?}");
    }
    let taken = forms.send("/v1/plan", &[("upstream", &good), ("name", "wiki"), ("description", "another")]).await;
    assert!(taken.status == 422 && taken.body.contains("no resource has yet"), "{taken:?}");

    // A policy that the gate refuses is shown as that, and can't be gone on with.
    let mut version: Value = world.admin.get("/v1/policy").await.expect("policy");
    let same = json!({"name": "other.cedar", "text": "@id(\"blog-users\") permit (principal in Group::\"team\", action, resource == Http::\"wiki\");\n"});
    version["files"].as_array_mut().expect("files").push(same);
    let publish = json!({"files": version["files"], "note": "test"});
    let _: Value = world.admin.post("/v1/policy/publish", &publish).await.expect("published");
    let refused = forms.send("/v1/plan", &[("upstream", &good), ("name", "blog")]).await;
    assert!(
        refused.status == 422 && refused.body.contains("refused") && !refused.body.contains("action=\"/v1/apply\""),
        "{refused:?}"
    );

    // A link is shown once; sent again, nothing happens.
    let invited = forms.send("/v1/users", &[("name", "bea"), ("group", "team")]).await;
    assert!(invited.status == 200 && invited.body.contains("/invite#"), "{invited:?}");
    let again = forms.send("/v1/users", &[("name", "bea"), ("group", "team")]).await;
    assert!(
        again.status == 409 && !again.body.contains("/invite#") && again.body.contains("nothing was done"),
        "{again:?}"
    );
    let odd = forms.send("/v1/users", &[("name", "be a"), ("group", "")]).await;
    assert!((400..500).contains(&odd.status) && !odd.body.contains("/invite#"), "{odd:?}");
}

/// A149 and I13: each of the guide's forms, from another page and from who may not.
#[tokio::test(flavor = "multi_thread")]
async fn i13_the_guide_does_nothing_for_other_pages_and_for_whom_no_policy_lets() {
    let forms = Forms::start().await;
    let world = &forms.world;
    let policy = r#"@id("readers") @device("none") permit (principal in Group::"readers", action == Action::"console:read", resource == Console::"console");"#;
    world.apply(&["readers"], json!([]), policy).await;
    let rita = world.person("rita", &["readers"]).await;
    let ritas = format!("Cookie: {}", world.cookie(&rita, "console", "/").await);
    let found = json!({"taken_at": 1, "pillars": [], "findings": [], "drafts": [
        {"name": "secret-app", "kind": "http", "upstream": "http://127.0.0.1:9", "description": "of the host"}]});
    let found: AssessmentDoc = serde_json::from_value(found).expect("an assessment");
    let _: Value = world.admin.replace("/v1/assessment", &found).await.expect("kept");
    for path in ["/start", "/assessment", "/start/app?draft=secret-app"] {
        let url = world.url("console", path);
        let hers = curl(world, &["-H", &ritas, url.as_str()]).await;
        assert!(
            !hers.body.contains("secret-app") && !hers.body.contains("127.0.0.1:9"),
            "{path}: what runs here is for who may change something: {hers:?}"
        );
        let roots = curl(world, &["-H", &forms.cookie, url.as_str()]).await;
        assert!(roots.status == 200 && roots.body.contains("secret-app"), "{path}: {roots:?}");
    }
    for path in ["/v1/plan", "/v1/apply", "/v1/users", "/start/hide"] {
        let url = world.url("console", path);
        let body = "name=wiki&upstream=127.0.0.1%3A9&digest=x";
        let hers = curl(world, &["-H", &ritas, "-H", "Sec-Fetch-Site: same-origin", "-d", body, url.as_str()]).await;
        assert_eq!(hers.status, 403, "{path}: {hers:?}");
        for site in ["Sec-Fetch-Site: same-site", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"] {
            let sent = curl(world, &["-H", &forms.cookie, "-H", site, "-d", body, url.as_str()]).await;
            assert!(sent.status == 403 && sent.body.contains("another page"), "{path} {site}: {sent:?}");
        }
    }
    assert_eq!(forms.resources().await, 0);
    let users: Vec<Value> = world.admin.get("/v1/users").await.expect("users");
    assert!(users.iter().all(|user| user["name"] != "wiki"), "{users:?}");
}
