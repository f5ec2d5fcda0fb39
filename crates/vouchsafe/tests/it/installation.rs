//! Starting, stopping and administering an installation through the binary.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use vouchsafe_agent::session::Session;
use vouchsafe_demo::authenticator::Authenticator;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::token::AUDIENCE_API;

use crate::attacks::probe;
use crate::http::Company;
use crate::peers::{curl, run};
use crate::world::{PATIENCE, Person, VOUCHSAFE, World, patiently};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused_clearly() {
    let world = World::start().await;
    let (code, out, err) = world.cli(&world.state_dir(), &["up", "--port", "0"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    let dir = world.state_dir().display().to_string();
    assert!(err.contains(&dir) && err.contains(&world.pid().to_string()), "names directory and holder: {err}");
    // Another domain than that of the first start is refused as well: certificates and passkeys hang on it.
    let dir = world.stop().await;
    let state = dir.path().join("state").display().to_string();
    let ran = run(VOUCHSAFE, &["up", "--port", "0", "--domain", "other.localhost", "--dir", &state]).await;
    assert!(ran.err.contains("vouchsafe.localhost"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_comes_by_a_one_time_link_and_administers_from_a_device() {
    let world = World::start().await;
    let link = world.first_invite.clone().expect("a first start gives a link");
    let mut admin = Person { name: "admin".into(), authenticator: Authenticator::new(), browser: world.browser() };
    admin.browser.accept_invite(&link, &mut admin.authenticator, "key").await.expect("registered");
    // The link is used up.
    let again = world.browser().accept_invite(&link, &mut Authenticator::new(), "thief").await;
    assert!(again.is_err(), "an invitation works once");
    let console = admin.browser.open(&world.url("console", "/"), &admin.authenticator).await.expect("console");
    assert_eq!(console.status, 200, "{}", console.text());
    // From a device, over the network, with the same verbs as on the machine itself.
    let laptop = world.device(&admin, "admin-laptop").await;
    let (code, out, err) = world.cli(&laptop.dir, &["group", "add", "marketing", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = world.cli(&laptop.dir, &["user", "list", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let users: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(users[0]["name"], "admin");
    // Each is on record, with who did it and from where.
    let query = AuditQuery { kind: Some("admin".into()), user: Some("admin".into()), ..AuditQuery::default() };
    let records = world.audit(query).await;
    assert!(records.iter().any(|record| record.target.as_deref() == Some("group/marketing")), "{records:?}");
    // Somebody without the right is told so, by every verb, with exit code 3.
    let mallory = world.person("mallory", &[]).await;
    let tablet = world.device(&mallory, "tablet").await;
    let (code, _, err) = world.cli(&tablet.dir, &["user", "list"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("dec_"), "{err}");
}

/// A decision is made on the head of a request. Whoever holds back the body keeps a change in hand that
/// was allowed once; it must not outlive the right to make it.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_change_can_t_be_completed_by_who_has_lost_the_right_to_make_it() {
    let world = World::start().await;
    let mallory = world.person("mallory", &["administrators"]).await;
    let tablet = world.device(&mallory, "tablet").await;
    let token = Session::on(Arc::clone(&tablet.device)).token(AUDIENCE_API).await.expect("session").expect("signed in");
    let head = |length: usize| {
        format!(
            "POST /v1/users HTTP/1.1\r\nHost: {}:{}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            world.host("api"),
            world.port,
            token.expose(),
        )
    };
    // In one go it works, so that what is refused below has no other cause.
    let body = r#"{"name":"friend","groups":[]}"#;
    let whole = probe::h1(&world, "api", Some(&tablet), format!("{}{body}", head(body.len())).as_bytes()).await;
    assert_eq!(whole.status, 201, "{whole:?}");
    let body = r#"{"name":"accomplice","groups":["administrators"]}"#;
    let config = probe::config(&world, Some(&tablet), &[b"http/1.1"]);
    let mut held = probe::connect(&world, "api", config).await.expect("handshake");
    held.write_all(format!("{}{}", head(body.len()), &body[..10]).as_bytes()).await.expect("sent");
    let query = || AuditQuery { user: Some("mallory".into()), kind: Some("decision".into()), ..AuditQuery::default() };
    for () in patiently() {
        if world.audit(query()).await.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.admin.post::<_, Value>("/v1/users/mallory/sign-out", &()).await.expect("signed out");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = held.write_all(&body.as_bytes()[10..]).await;
    let answer = probe::read_h1(&mut held).await;
    assert_eq!((answer.status, answer.reason()), (401, Some("session_ended")), "{answer:?}");
    let there = world.admin.get::<Value>("/v1/users/accomplice").await;
    assert!(there.is_err(), "the change was made all the same: {there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_administration_needs_no_sign_in_and_is_on_record() {
    let world = World::start().await;
    let state = world.state_dir();
    for arguments in [
        &["group", "add", "marketing"][..],
        &["user", "add", "alice", "--group", "marketing"],
        &["resource", "add", "http", "wiki", "http://127.0.0.1:1", "--tag", "docs", "--sensitivity", "confidential"],
        &["resource", "add", "tcp", "db", "10.0.0.5:5432"],
        &["grant", "add", "alice", "wiki", "--for", "8h", "--reason", "audit"],
        &["policy", "explain", "--user", "alice", "--resource", "wiki"],
        &["user", "list"],
        &["resource", "list"],
        &["grant", "list"],
        &["session", "list"],
        &["policy", "history"],
        &["policy", "history", "1"],
        &["policy", "who-can", "http:read", "wiki"],
        &["policy", "what-can", "alice", "--device", "none"],
        &["policy", "diff"],
        &["audit", "query", "--kind", "admin"],
        &["status"],
    ] {
        let (code, out, err) = world.cli(&state, arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    }
    let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
    let uid = rustix::process::getuid().as_raw();
    let by_owner = records.iter().filter(|record| record.user.as_deref() == Some(&format!("local:{uid}"))).count();
    assert!(by_owner >= 5, "{records:?}");
    // Mistakes name the thing, the cause and the next step.
    for (arguments, part) in [
        (&["user", "add", "bob", "--group", "nobody-made-this"][..], "group add"),
        (&["resource", "add", "http", "x", "http://169.254.169.254"], "metadata"),
        (&["resource", "add", "http", "auth", "http://127.0.0.1:1"], "vouchsafe's own"),
        (&["grant", "add", "nobody", "wiki"], "nobody"),
    ] {
        let (code, _, err) = world.cli(&state, arguments).await;
        assert!(code != 0 && err.contains(part), "{arguments:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_certificate_is_shown_to_browsers_and_only_to_them() {
    let dir = tempfile::tempdir().expect("directory");
    let names = vec!["*.vouchsafe.localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("certificate");
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let extra = ["--tls-cert", &chain.display().to_string(), "--tls-key", &key.display().to_string()].map(String::from);
    let world = World::start_with(dir, 0, &extra).await;
    let operators = chain.display().to_string();
    let auth = run("curl", &["-sS", "--cacert", &operators, world.url("auth", "/sign-in").as_str()]).await;
    assert_eq!(auth.code, 0, "{}", auth.err);
    let own = curl(&world, &[world.url("gw", "/device/status").as_str()]).await;
    assert!(own.status >= 400 && own.err.is_empty(), "the gateway's own name keeps our certificate: {own:?}");
    let other = run("curl", &["-sS", "--cacert", &operators, world.url("gw", "/").as_str()]).await;
    assert_ne!(other.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_no_secret_is_in_the_log_or_in_argv() {
    let company = Company::start().await;
    let (world, alice) = (&company.world, &company.alice);
    alice.browser.open(&world.url("marketing", "/"), &alice.authenticator).await.expect("opened");
    let mut secrets = vec![company.laptop.token.clone()];
    for host in ["auth", "marketing"] {
        secrets.extend(alice.browser.cookies_of(&world.host(host)).into_iter().map(|(_, value)| value));
    }
    let key = std::fs::read_to_string(company.laptop.key()).expect("key");
    secrets.extend(key.lines().filter(|line| !line.starts_with("---")).map(ToOwned::to_owned));
    secrets.extend(world.first_invite.clone().and_then(|link| link.split_once('#').map(|(_, token)| token.to_owned())));
    assert!(secrets.len() >= 5);
    let log = world.log();
    let argv = std::fs::read_to_string(format!("/proc/{}/cmdline", world.pid())).expect("cmdline");
    let audit: Vec<u8> = {
        let output = Command::new(VOUCHSAFE)
            .args(["audit", "query", "--json", "--limit", "1000", "--dir"])
            .arg(world.state_dir())
            .output()
            .await
            .expect("runs");
        output.stdout
    };
    let audit = String::from_utf8_lossy(&audit);
    assert!(audit.contains("alice"));
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        assert!(!argv.contains(secret.as_str()), "a secret is in argv");
        assert!(!audit.contains(secret.as_str()), "a secret is in the audit log");
    }
    // The directory and what is in it belong to the owner alone; keys and database above all.
    let mode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(world.state_dir().join(name)).expect(name).mode() & 0o777
    };
    assert_eq!((mode(""), mode("master.key"), mode("vouchsafe.db"), mode("admin.sock")), (0o700, 0o600, 0o600, 0o600));
}

async fn demo(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(VOUCHSAFE);
    command.arg("demo").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE * 4, command.output()).await.expect("the demo ends").expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_comes_out_right_with_postgresql_and_without() {
    let (code, out, err) = demo(&["--check"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("psql marketing-db") && !out.contains('✗'), "{out}");
    let (code, out, err) = demo(&["--check", "--without-postgres", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let report: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(report["ok"], true, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_open_work_finish() {
    let company = Company::start().await;
    // An upstream that answers only when it is told to.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let upstream = listener.local_addr().expect("address");
    let (arrived, has_arrived) = tokio::sync::oneshot::channel();
    let (answer, may_answer) = tokio::sync::oneshot::channel::<()>();
    company.world.tasks.spawn("slow upstream", async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = arrived.send(());
        let _ = may_answer.await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
    });
    let resources =
        serde_json::json!([{"name": "marketing", "kind": "http", "upstream": format!("http://{upstream}")}]);
    company
        .world
        .apply(
            &["marketing", "finance"],
            resources,
            "@id(\"m\") permit (principal in Group::\"marketing\", action, resource == Http::\"marketing\");",
        )
        .await;
    let url = company.plain_url("marketing", "/slow");
    let Company { world, laptop, .. } = company;
    let mut arguments = crate::peers::as_device(&world, &laptop, Some(&laptop.token));
    arguments.extend(
        ["-sS", "--proxy-cacert", &world.root_file.display().to_string(), "--max-time", "20", &url].map(String::from),
    );
    let asking = Command::new("curl").args(&arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("curl");
    tokio::time::timeout(PATIENCE, has_arrived).await.expect("in time").expect("arrived");
    let port = world.port;
    let stopping = world.stop();
    let telling = async {
        // New connections are refused while the open request may still finish.
        for () in patiently() {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = answer.send(());
        asking.wait_with_output().await.expect("curl ends")
    };
    let (_dir, output) = tokio::join!(stopping, telling);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done");
}
