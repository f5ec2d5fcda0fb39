//! A device's life: enrolment, sign-in by the verbs, renewal, foreign clients in its place.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use vouchsafe_agent::device::Device;
use vouchsafe_agent::session::Session;
use vouchsafe_wire::api::{AuditQuery, DeviceInvited};
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::http::Company;
use crate::peers::{as_device, curl, curl_as};
use crate::world::{PATIENCE, Recorder, SignInIfNeeded, VOUCHSAFE, World, patiently};

#[tokio::test(flavor = "multi_thread")]
async fn enrol_sign_in_use_and_sign_out_by_the_verbs_alone() {
    let world = World::start().await;
    let web = Recorder::start(&world.tasks).await;
    let resources = json!([{"name": "web", "kind": "tcp", "upstream": web.address.to_string(), "port": 7777}]);
    let policy = r#"@id("web") permit (principal in Group::"staff", action, resource == Tcp::"web");"#;
    world.apply(&["staff"], resources, policy).await;
    let alice = world.person("alice", &["staff"]).await;
    let dir = world.dir.path().join("laptop");

    // The ticket is a secret: it comes by standard input, not in argv.
    let invited: DeviceInvited =
        world.admin.post("/v1/devices/invites", &json!({"owner": "alice"})).await.expect("invited");
    let mut enrol = Command::new(VOUCHSAFE)
        .args(["enroll", "--name", "laptop", "--json", "--dir"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = enrol.stdin.take().expect("piped");
    stdin.write_all(format!("{}\n", invited.ticket).as_bytes()).await.expect("written");
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, enrol.wait_with_output()).await.expect("in time").expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A used ticket is worthless, also in another's hands.
    let mut again = Command::new(VOUCHSAFE)
        .args(["enroll", "--dir"])
        .arg(world.dir.path().join("thief"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    again.stdin.take().expect("piped").write_all(format!("{}\n", invited.ticket).as_bytes()).await.expect("written");
    let output = tokio::time::timeout(PATIENCE, again.wait_with_output()).await.expect("in time").expect("ran");
    assert!(!output.status.success());

    // Before the sign-in a tunnel is refused with exit code 3 and what to do.
    let (code, _, err) = world.cli(&dir, &["pipe", "web"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("vouchsafe login"), "{err}");

    let mut login = Command::new(VOUCHSAFE)
        .args(["login", "--json", "--dir"])
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(login.stdout.take().expect("piped")).lines();
    let line =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable").expect("a line");
    let asked: Value = serde_json::from_str(&line).expect("JSON");
    let link = asked["verification_uri"].as_str().unwrap_or_else(|| panic!("a link in {asked}"));
    alice.browser.sign_in_if_needed(&world, &alice.authenticator).await;
    alice.browser.approve_device(&link.parse().expect("url")).await.expect("approved");
    let status = tokio::time::timeout(PATIENCE, login.wait()).await.expect("in time").expect("ended");
    assert!(status.success());

    let (code, out, err) = world.cli(&dir, &["status", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("alice") && out.contains("laptop"), "{out}");
    let mut pipe = Command::new(VOUCHSAFE)
        .args(["pipe", "web", "--dir"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut stdin = pipe.stdin.take().expect("piped");
    stdin.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.expect("written");
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, pipe.wait_with_output()).await.expect("in time").expect("ran");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\r\n\r\nok"), "half-close keeps the answer: {output:?}");

    let (code, _, err) = world.cli(&dir, &["logout"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(world.cli(&dir, &["pipe", "web"]).await.0, 3);
    let ended = world
        .audit(AuditQuery { kind: Some("session_end".into()), user: Some("alice".into()), ..AuditQuery::default() })
        .await;
    assert!(!ended.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_without_a_person_and_the_old_token_dies_with_the_old_one() {
    let company = Company::start().await;
    let world = &company.world;
    let url = company.plain_url("marketing", "/");
    let before = std::fs::read_to_string(company.laptop.certificate()).expect("certificate");
    company.laptop.device.renew().await.expect("renewed");
    assert_ne!(std::fs::read_to_string(company.laptop.certificate()).expect("certificate"), before);
    // The token was bound to the certificate before.
    let answer = curl_as(world, &company.laptop, &[&url]).await;
    assert_eq!(answer.status, 407, "{answer:?}");
    let session = Session::on(std::sync::Arc::clone(&company.laptop.device));
    let token = session.token(AUDIENCE_GATEWAY).await.expect("refreshed").expect("still signed in");
    let mut arguments = as_device(world, &company.laptop, Some(token.expose()));
    arguments.push(url);
    let answer = curl(world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let renewed = world.audit(AuditQuery { kind: Some("device".into()), ..AuditQuery::default() }).await;
    assert!(
        renewed.iter().any(|record| record.action.as_deref().is_some_and(|action| action.contains("renew"))),
        "{renewed:?}"
    );
}

/// Who took a copy of a device's files has its key for as long as the certificate in them lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a283_a_copy_of_a_device_is_found_out_and_not_renewed() {
    let company = Company::start().await;
    let world = &company.world;
    let copy = world.dir.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&company.laptop.dir).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    let copy = Device::load(&copy).expect("a device like the other");
    company.laptop.device.renew().await.expect("renewed");
    // Nothing says yet that the answer arrived; the copy can't be told from a device that lost it.
    let session = Session::on(std::sync::Arc::clone(&company.laptop.device));
    session.token(AUDIENCE_GATEWAY).await.expect("refreshed").expect("still signed in");
    let refused = copy.renew().await.expect_err("outdated");
    assert!(refused.to_string().contains("replaced"), "{refused}");
    company.laptop.device.renew().await.expect("the device goes on");
    let records = world.audit(AuditQuery { kind: Some("device".into()), ..AuditQuery::default() }).await;
    let told =
        |record: &&Record| record.detail.as_deref().is_some_and(|detail| detail.contains("a copy of the device"));
    assert_eq!(records.iter().filter(told).count(), 1, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_curl_is_a_full_client() {
    let company = Company::start().await;
    let world = &company.world;
    let web = Recorder::start(&world.tasks).await;
    let http =
        |name: &str, to: &Recorder| json!({"name": name, "kind": "http", "upstream": format!("http://{}", to.address)});
    let resources = json!([
        http("marketing", &company.marketing),
        http("finance", &company.finance),
        {"name": "web", "kind": "tcp", "upstream": web.address.to_string(), "port": 7777},
        {"name": "closed", "kind": "tcp", "upstream": web.address.to_string(), "port": 7777},
    ]);
    let policy = format!(
        "{}\n@id(\"web\") permit (principal in Group::\"marketing\", action, resource == Tcp::\"web\");",
        crate::http::POLICY
    );
    world.apply(&["marketing", "finance"], resources, &policy).await;
    let target = |name: &str, port: u16| format!("http://{}:{port}/", world.host(name));
    let mut answer = curl_as(world, &company.laptop, &["-p", &target("web", 7777)]).await;
    for () in patiently() {
        if answer.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = curl_as(world, &company.laptop, &["-p", &target("web", 7777)]).await;
    }
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
    let connections = web.connections();
    // A163: another port, a closed resource and an unknown one get the same answer, and no connection.
    let mut bodies = Vec::new();
    for (name, port) in [("web", 22), ("closed", 7777), ("nothing", 7777)] {
        let refused = curl_as(world, &company.laptop, &["-p", &target(name, port)]).await;
        assert_eq!(refused.status, 403, "{name}:{port} {refused:?}");
        assert!(refused.err.contains("403"), "curl says so: {}", refused.err);
        bodies.push(refused.header("content-type").map(ToOwned::to_owned));
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert_eq!(web.connections(), connections);
    // Through a tunnel to an app's own host, TLS goes on inside: the device is known, the user is not.
    let inside = curl_as(world, &company.laptop, &["-p", world.url("marketing", "/").as_str()]).await;
    assert_eq!(inside.status, 401, "{inside:?}");
    let record = world.decision(inside.decision()).await;
    assert_eq!(record.device.as_deref(), Some(company.laptop.device.id().to_string().as_str()));
}
