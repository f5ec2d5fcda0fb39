//! Words that pass through, and are in nothing that we write.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::http::Company;
use crate::peers::{as_device, curl, curl_as, free_address, run};
use crate::roles;
use crate::traces::Receiver;
use crate::world::{VOUCHSAFE, World, patiently};

const POLICY: &str = r#"
@id("marketing-app")
permit (principal in Group::"marketing", action, resource == Http::"marketing");
@id("echo")
permit (principal in Group::"marketing", action, resource == Tcp::"echo");
"#;

/// What is looked for: each has it in it, and a number.
const CANARY: &str = "canary5ecret";

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Where in bytes a canary stands, with a little around it.
fn canary_in(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(CANARY.len()).position(|window| window.eq_ignore_ascii_case(CANARY.as_bytes()))?;
    let around = bytes.get(at.saturating_sub(120)..(at + 60).min(bytes.len())).expect("within");
    Some(String::from_utf8_lossy(around).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a253_no_secret_that_passes_is_in_logs_metrics_traces_records_or_files() {
    let mut receiver = Receiver::start().await;
    let metrics: SocketAddr = free_address();
    let dir = tempfile::tempdir().expect("temporary directory");
    let arguments = [
        "up",
        "--no-assess",
        "--port",
        "0",
        "--otlp-endpoint",
        &format!("http://127.0.0.1:{}", receiver.port),
        "--metrics-addr",
        &metrics.to_string(),
    ]
    .map(ToOwned::to_owned);
    let mut program = Command::new(VOUCHSAFE);
    // Everything that can be logged.
    program.env("VOUCHSAFE_LOG", "trace");
    let world = World::start_role_by(program, dir, &arguments).await;
    let Company { world, marketing, finance: _finance, alice: _alice, laptop } = Company::start_on(world).await;
    let echo = roles::echo(&world).await;
    let app = json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", marketing.address)});
    let tcp = json!({"name": "echo", "kind": "tcp", "upstream": echo.to_string(), "port": 7});
    world.apply(&["marketing"], json!([app, tcp]), POLICY).await;

    // Of the app: query, header fields, cookies, a body; allowed and denied.
    let mut number = 0;
    let mut canary = || {
        number += 1;
        format!("{CANARY}{number}")
    };
    for (label, status) in [("marketing", 200), ("elsewhere", 403)] {
        let url = format!("http://{}:{}/orders?token={}", world.host(label), world.port, canary());
        let fields = [
            format!("Authorization: Bearer {}", canary()),
            format!("Cookie: app={}", canary()),
            format!("X-Api-Key: {}", canary()),
            format!("Referer: https://mail.example/?reset={}", canary()),
        ];
        let mut arguments = vec![url.as_str(), "-d"];
        let body = format!("password={}", canary());
        arguments.push(&body);
        fields.iter().for_each(|field| arguments.extend(["-H", field]));
        let answer = curl_as(&world, &laptop, &arguments).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let heard = marketing.text();
    assert!(heard.matches(CANARY).count() >= 5, "the app gets what is its own: {heard}");
    // Of ours, and wrong: tokens, cookies, codes, invitations, tickets.
    let wrong = canary();
    let url = format!("http://{}:{}/", world.host("marketing"), world.port);
    let mut arguments = as_device(&world, &laptop, Some(&wrong));
    arguments.push(url);
    curl(&world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let cookie = format!("Cookie: __Host-vouchsafe={}", canary());
    let user = format!("alice:{}", canary());
    let of_app = world.url("marketing", "/").to_string();
    curl(&world, &["-H", &cookie, "-u", &user, &of_app]).await;
    let code = world.url("marketing", &format!("/.vouchsafe/session?code={}&state={}", canary(), canary())).to_string();
    curl(&world, &[&code]).await;
    let invite = json!({"invite": canary()}).to_string();
    let register = world.url("auth", "/webauthn/register/start").to_string();
    let origin = format!("Origin: {}", world.url("auth", "/").as_str().trim_end_matches('/'));
    curl(&world, &["-H", "content-type: application/json", "-H", &origin, "-d", &invite, &register]).await;
    for path in ["/oauth/token", "/oauth/device_authorization", "/v1/devices/enrol"] {
        let form = format!("grant_type=refresh_token&refresh_token={}&code={}", canary(), canary());
        let url = world.url("auth", path).to_string();
        curl(&world, &["-d", &form, &url]).await;
    }
    let api = world.url("api", "/v1/users").to_string();
    let bearer = format!("Authorization: Bearer {}", canary());
    curl(&world, &["-H", &bearer, &api]).await;
    // Through a tunnel: what somebody asks a database.
    let literal = format!("http://{}:7/{}", world.host("echo"), canary());
    let told = curl_as(&world, &laptop, &["-p", "--http0.9", "-m", "3", &literal]).await;
    assert!(format!("{told:?}").contains(CANARY) || told.status == 200, "it came back: {told:?}");
    // What an administrator gives to be kept.
    let hook = json!({"name": "chat", "url": format!("https://hooks.invalid/{}", canary()), "events": []});
    let _: Value = world.admin.post("/v1/webhooks", &hook).await.expect("added");
    let field = [["authorization".to_owned(), canary()]];
    let place = json!({
        "name": "siem", "kind": "otlp", "address": "https://siem.invalid", "format": "ocsf", "headers": field,
    });
    let _: Value = world.admin.post("/v1/audit/streams", &place).await.expect("added");
    for tried in ["/v1/webhooks/chat/test", "/v1/audit/streams/siem/test"] {
        let _: Result<Value, _> = world.admin.post(tried, &json!({})).await;
    }

    // All of it is decided on, recorded, and told.
    let mut exported = String::new();
    for () in patiently() {
        let (code, out, err) = world.cli(&world.state_dir(), &["audit", "export", "--format", "json"]).await;
        assert_eq!(code, 0, "{err}");
        exported = out;
        if exported.matches("\"/orders\"").count() >= 2 && exported.contains("\"net:connect\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(exported.matches("\"/orders\"").count() >= 2 && exported.contains("webhook.add"), "{exported}");
    let figures = run("curl", &["-sS", "--max-time", "20", &format!("http://{metrics}/metrics")]).await.out;
    let spans = receiver.drain().await;
    assert!(figures.contains("vouchsafe_") && spans.len() > 4, "{figures}{spans:?}");
    let argv = std::fs::read(format!("/proc/{}/cmdline", world.pid())).expect("argv");
    for (what, bytes) in [
        ("the log", world.log().into_bytes()),
        ("records", exported.into_bytes()),
        ("metrics", figures.into_bytes()),
        ("spans", format!("{spans:?}").into_bytes()),
        ("argv", argv),
    ] {
        assert_eq!(canary_in(&bytes), None, "in {what}");
    }
    let state = world.state_dir();
    let dir = world.stop().await;
    let mut all = Vec::new();
    files(&state, &mut all);
    assert!(all.iter().any(|path| path.ends_with("vouchsafe.db")) && all.len() > 10, "{all:?}");
    for path in all {
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(canary_in(&bytes), None, "in {}", path.display());
    }
    drop(dir);
}
