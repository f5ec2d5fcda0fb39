//! Web apps: a decision on every request, exactly the canonical request upstream, identity signed.

use serde_json::json;
use vouchsafe_wire::api::AuditQuery;

use crate::peers::{curl, curl_as};
use crate::world::{Person, Recorder, TestDevice, World, patiently};

/// Marketing and finance behind recorders; alice is in marketing, and has a device.
pub struct Company {
    pub world: World,
    pub marketing: Recorder,
    pub finance: Recorder,
    pub alice: Person,
    pub laptop: TestDevice,
}

pub const POLICY: &str = r#"
@id("marketing-app")
@reason("Marketing staff use the marketing app on an enrolled device.")
@advice("enrol-device")
permit (principal in Group::"marketing", action, resource == Http::"marketing");

@id("finance-app")
@reason("Finance staff use the finance app on an enrolled device.")
permit (principal in Group::"finance", action, resource == Http::"finance");
"#;

impl Company {
    pub async fn start() -> Self {
        Self::start_on(World::start().await).await
    }

    pub async fn start_on(world: World) -> Self {
        let (marketing, finance) = (Recorder::start(&world.tasks).await, Recorder::start(&world.tasks).await);
        let http = |name: &str, to: &Recorder| json!({"name": name, "kind": "http", "upstream": format!("http://{}", to.address)});
        let resources = json!([http("marketing", &marketing), http("finance", &finance)]);
        world.apply(&["marketing", "finance"], resources, POLICY).await;
        let alice = world.person("alice", &["marketing"]).await;
        let laptop = world.device(&alice, "laptop").await;
        Self { world, marketing, finance, alice, laptop }
    }

    pub fn plain_url(&self, app: &str, path: &str) -> String {
        format!("http://{}:{}{path}", self.world.host(app), self.world.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_i2_nobody_reaches_anything_without_a_permit() {
    let company = Company::start().await;
    let world = &company.world;
    // No identity: a program is told, a browser is sent to sign in. Unknown names look the same.
    for app in ["marketing", "finance", "nothing-here"] {
        let answer = curl(world, &[world.url(app, "/").as_str()]).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.body.contains("sign_in_required"));
        let answer = curl(world, &["-H", "Accept: text/html", world.url(app, "/a?b=c").as_str()]).await;
        assert_eq!(answer.status, 303);
        assert!(answer.header("location").unwrap().starts_with(world.url("auth", "/sign-in?app=").as_str()));
    }
    // A device alone is nobody.
    let mut device_only = crate::peers::as_device(world, &company.laptop, None);
    device_only.push(company.plain_url("marketing", "/"));
    let answer = curl(world, &device_only.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(answer.status, 407, "{answer:?}");
    // The right user and device: finance stays closed, and looks like nothing.
    let finance = curl_as(world, &company.laptop, &[&company.plain_url("finance", "/")]).await;
    let unknown = curl_as(world, &company.laptop, &[&company.plain_url("nothing-here", "/")]).await;
    assert_eq!((finance.status, unknown.status), (403, 403), "{finance:?}");
    let scrub = |answer: &crate::peers::Curled| answer.body.replace(answer.decision(), "");
    assert_eq!(scrub(&finance), scrub(&unknown));
    assert_eq!(world.decision(finance.decision()).await.reason.as_deref(), Some("no_permit"));
    assert_eq!(world.decision(unknown.decision()).await.reason.as_deref(), Some("unknown_resource"));
    assert_eq!((company.marketing.connections(), company.finance.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_permitted_request_arrives_once_canonical_and_signed() {
    let company = Company::start().await;
    let world = &company.world;
    let url = company.plain_url("marketing", "/%61pi/figures?q=%2e&x=1");
    let forged = ["-H", "X-Vouchsafe-User: own", "-H", "x_vouchsafe_user: own", "-H", "X-Forwarded-For: 1.2.3.4"];
    let mut arguments = forged.to_vec();
    arguments.extend([
        "-H",
        "Connection: close, X-Vouchsafe-Assertion",
        "-H",
        "Cookie: mine=1; __Host-vouchsafe=stolen",
        &url,
    ]);
    let answer = curl_as(world, &company.laptop, &arguments).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
    let seen = company.marketing.text();
    assert_eq!(seen.matches("HTTP/1.1\r\n").count(), 1, "one request upstream: {seen}");
    assert!(seen.starts_with("GET /api/figures?q=%2e&x=1 HTTP/1.1\r\n"), "{seen}");
    let lower = seen.to_ascii_lowercase();
    assert_eq!(lower.matches("x-vouchsafe-assertion: ey").count(), 1);
    assert!(
        !lower.contains("own") && !lower.contains("stolen") && !lower.contains("1.2.3.4") && !lower.contains("bearer"),
        "{seen}"
    );
    assert!(lower.contains("cookie: mine=1\r\n"));
    // One decision record, of exactly what went upstream, and the end of the flow.
    let query = AuditQuery { resource: Some("marketing".into()), ..AuditQuery::default() };
    let mut records = Vec::new();
    for () in patiently() {
        records = world.audit(query.clone()).await;
        if records.len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["decision", "flow_end"]);
    let [decision, end] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((decision.method.as_deref(), decision.path.as_deref()), (Some("GET"), Some("/api/figures")));
    assert_eq!((decision.user.as_deref(), decision.outcome.as_deref()), (Some("alice"), Some("allow")));
    assert_eq!(decision.policies, ["marketing-app"]);
    assert_eq!(decision.grade.as_deref(), Some("software"));
    assert_eq!(end.flow, decision.flow);
    assert_eq!((end.status, end.bytes_out), (Some(200), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_the_network_a_request_comes_from_grants_nothing() {
    let company = Company::start().await;
    let world = &company.world;
    let mut codes = Vec::new();
    for source in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        for app in ["marketing", "finance"] {
            let allowed = curl_as(world, &company.laptop, &["--interface", source, &company.plain_url(app, "/")]).await;
            let nobody = curl(world, &["--interface", source, world.url(app, "/").as_str()]).await;
            codes.push((app, allowed.status, nobody.status));
        }
    }
    assert_eq!(codes, [[("marketing", 200, 401), ("finance", 403, 401)]; 3].concat());
    assert_eq!(company.finance.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_the_device_is_demanded_and_a_policy_can_do_without_it_only_in_words() {
    let company = Company::start().await;
    let world = &company.world;
    let page = company.alice.browser.open(&world.url("marketing", "/"), &company.alice.authenticator).await.unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("vouchsafe enroll"), "the page says what to do: {}", page.text());
    let id = page.headers.get("x-vouchsafe-decision").unwrap().to_str().unwrap().to_owned();
    let record = world.decision(&id).await;
    assert_eq!(record.reason.as_deref(), Some("device_required"));
    assert_eq!(record.grade.as_deref(), Some("none"));
    assert_eq!(company.marketing.connections(), 0);
    let resources =
        json!([{"name": "marketing", "kind": "http", "upstream": format!("http://{}", company.marketing.address)}]);
    let policy = r#"@id("open") @device("none") permit (principal in Group::"marketing", action == Action::"http:read", resource == Http::"marketing");"#;
    world.apply(&["marketing"], resources, policy).await;
    for () in patiently() {
        let page =
            company.alice.browser.open(&world.url("marketing", "/"), &company.alice.authenticator).await.unwrap();
        if page.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a policy that says so in words opens it");
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_grant_opens_one_resource_to_one_user_and_its_end_closes_it() {
    let company = Company::start().await;
    let world = &company.world;
    let status = async |expected: u16| {
        for () in patiently() {
            let answer = curl_as(world, &company.laptop, &[&company.plain_url("finance", "/")]).await;
            if answer.status == expected {
                return world.decision(answer.header("x-vouchsafe-decision").unwrap_or_default()).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("finance does not answer {expected}");
    };
    let bob = world.person("bob", &[]).await;
    let tablet = world.device(&bob, "tablet").await;
    let grant = world.grant("alice", "finance").await;
    for () in patiently() {
        if curl_as(world, &company.laptop, &[&company.plain_url("finance", "/")]).await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let query = AuditQuery { outcome: Some("allow".into()), resource: Some("finance".into()), ..AuditQuery::default() };
    let mut allowed = Vec::new();
    for () in patiently() {
        allowed = world.audit(query.clone()).await;
        if !allowed.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(allowed.iter().any(|record| record.policies == [grant.id.clone()]), "{allowed:?}");
    assert_eq!(curl_as(world, &tablet, &[&company.plain_url("finance", "/")]).await.status, 403);
    assert_eq!(curl_as(world, &tablet, &[&company.plain_url("marketing", "/")]).await.status, 403);
    world.admin.delete(&format!("/v1/grants/{}", grant.id)).await.unwrap();
    assert_eq!(status(403).await.reason.as_deref(), Some("no_permit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_cookies_and_tokens_are_worth_nothing_elsewhere() {
    let company = Company::start().await;
    let world = &company.world;
    let bob = world.person("bob", &["finance"]).await;
    let tablet = world.device(&bob, "tablet").await;
    // Alice's token with Bob's device certificate.
    let mut arguments = crate::peers::as_device(world, &tablet, Some(&company.laptop.token));
    arguments.push(company.plain_url("marketing", "/"));
    let answer = curl(world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(answer.status, 407);
    assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some("device_mismatch"));
    // An altered token.
    let mut forged = company.laptop.token.clone();
    let at = forged.len() - 20;
    forged.replace_range(at..=at, if &forged[at..=at] == "A" { "B" } else { "A" });
    let mut arguments = crate::peers::as_device(world, &company.laptop, Some(&forged));
    arguments.push(company.plain_url("marketing", "/"));
    let answer = curl(world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some("credential_invalid"));
    // Alice's cookie of one host at another, and at another of ours.
    company.alice.browser.open(&world.url("marketing", "/"), &company.alice.authenticator).await.unwrap();
    let cookies = company.alice.browser.cookies_of(&world.host("marketing"));
    let (_, value) = cookies.iter().find(|(name, _)| name == "__Host-vouchsafe").expect("an app cookie");
    for (app, reason) in
        [("marketing", "device_required"), ("finance", "credential_invalid"), ("console", "credential_invalid")]
    {
        let cookie = format!("Cookie: __Host-vouchsafe={value}");
        let answer = curl(world, &["-H", &cookie, world.url(app, "/").as_str()]).await;
        assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some(reason), "{app}");
    }
    assert_eq!((company.marketing.connections(), company.finance.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_and_a_disabled_user_are_out_at_once() {
    let company = Company::start().await;
    let world = &company.world;
    let url = company.plain_url("marketing", "/");
    assert_eq!(curl_as(world, &company.laptop, &[&url]).await.status, 200);
    world.admin.delete(&format!("/v1/devices/{}", company.laptop.device.id())).await.unwrap();
    let answer = curl_as(world, &company.laptop, &[&url]).await;
    assert!(matches!(answer.status, 403 | 407), "{answer:?}");
    let reason = world.decision(answer.decision()).await.reason;
    assert!(matches!(reason.as_deref(), Some("device_unknown" | "session_ended")), "{reason:?}");
    let mut own = crate::peers::as_device(world, &company.laptop, None);
    own.extend(["-p".to_owned(), world.url("auth", "/").to_string()]);
    let answer = curl(world, &own.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(answer.status, 403, "no tunnel for a removed device: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_survives_a_restart() {
    let company = Company::start().await;
    let url = company.plain_url("marketing", "/");
    let Company { world, laptop, .. } = company;
    let port = world.port;
    let dir = world.stop().await;
    let world = World::start_in(dir, port).await;
    assert_eq!(curl_as(&world, &laptop, &[&url]).await.status, 200, "users, devices, sessions and policy are kept");
}
