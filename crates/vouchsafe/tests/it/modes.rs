//! I14: modes let denials pass where they say so, are bounded, and end by themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::AuditQuery;
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::resource::second_text;

use crate::database::Connect;
use crate::http::Company;
use crate::peers::{as_device, curl, curl_as, run};
use crate::world::{PATIENCE, VOUCHSAFE, World, patiently};

/// Inside and outside the boundary of these tests.
const INSIDE: &str = "127.0.0.1";
const OUTSIDE: &str = "127.0.1.1";

fn in_seconds(seconds: u64) -> String {
    second_text(clock::now() + Duration::from_secs(seconds)).expect("a time")
}

fn trial(until: &str) -> Value {
    json!({"from": ["127.0.0.0/24"], "owner": "alice", "reason": "moving in", "until": until})
}

/// The finance app and its neighbours; nobody has a right to finance.
async fn company(mode: &str, until: &str) -> Company {
    let company = Company::start().await;
    set(&company, mode, until).await;
    company
}

async fn set(company: &Company, mode: &str, until: &str) {
    let body = match mode {
        "enforce" => json!({"mode": mode}),
        _ => json!({"mode": mode, "observe": trial(until)}),
    };
    let kept: Value = company.world.admin.replace("/v1/resources/finance/mode", &body).await.expect("set");
    assert_eq!(kept.get("mode").and_then(Value::as_str), (mode != "enforce").then_some(mode));
}

/// Asks for finance as nobody, until the answer is the expected one.
async fn nobody_gets(company: &Company, source: &str, expected: u16) {
    let url = company.world.url("finance", "/");
    let mut status = 0;
    for () in patiently() {
        status = curl(&company.world, &["--interface", source, url.as_str()]).await.status;
        if status == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody from {source} gets {status}, not {expected}: {}", company.world.log());
}

/// Records about finance, once there are so many of them.
async fn records(world: &World, query: AuditQuery, least: usize) -> Vec<Record> {
    let query = AuditQuery { resource: Some("finance".into()), ..query };
    let mut found = Vec::new();
    for () in patiently() {
        found = world.audit(query.clone()).await;
        if found.len() >= least {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("only {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_observation_blocks_nobody_inside_its_boundary_and_changes_nothing_else() {
    let company = company("observe", &in_seconds(3_600)).await;
    let world = &company.world;
    nobody_gets(&company, INSIDE, 200).await;
    let seen = company.finance.text();
    assert!(!seen.to_ascii_lowercase().contains("vouchsafe-"), "nobody is asserted: {seen}");
    // A browser isn't sent to sign in, and what it says of itself goes no further.
    let forged = ["-H", "Accept: text/html", "-H", "X-Vouchsafe-User: own", world.url("finance", "/page").as_str()]
        .map(str::to_owned);
    let answer = curl(world, &forged.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
    assert!(answer.header("x-vouchsafe-would-deny").is_none(), "in observation nobody is told");
    assert!(!company.finance.text().contains("own"));

    // On record it is a denial that passed, and never an allow.
    let query = AuditQuery { kind: Some("decision".into()), passed: Some("observe".into()), ..AuditQuery::default() };
    let passed = records(world, query, 2).await;
    for record in &passed {
        assert_eq!((record.outcome.as_deref(), record.reason.as_deref()), (Some("deny"), Some("sign_in_required")));
        assert_eq!((record.ip.as_deref(), &record.user, &record.session), (Some(INSIDE), &None, &None));
        assert!(record.flow.is_some() && record.repeated.is_none());
    }
    let ends = AuditQuery { kind: Some("flow_end".into()), ..AuditQuery::default() };
    let ends = records(world, ends, 2).await;
    assert!(ends.iter().all(|end| end.passed.as_deref() == Some("observe") && end.status == Some(200)), "{ends:?}");
    let allowed = AuditQuery { outcome: Some("allow".into()), ..AuditQuery::default() };
    assert!(records(world, allowed, 0).await.is_empty());

    // From elsewhere, elsewhere, with what isn't good, and in the console: as if there were no mode.
    nobody_gets(&company, OUTSIDE, 401).await;
    let console = curl(world, &[world.url("console", "/").as_str()]).await;
    let marketing = curl(world, &[world.url("marketing", "/").as_str()]).await;
    let bad = ["-H", "Cookie: __Host-vouchsafe=made-up", world.url("finance", "/").as_str()].map(str::to_owned);
    let bad = curl(world, &bad.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!((console.status, marketing.status, bad.status), (401, 401, 401));
    assert_eq!(world.decision(bad.decision()).await.reason.as_deref(), Some("credential_invalid"));
    assert_eq!(company.marketing.connections(), 0);

    // Who is known is known: to the log, and to the app.
    let before = company.finance.text().len();
    let answer = curl_as(world, &company.laptop, &[&company.plain_url("finance", "/known")]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(company.finance.text()[before..].to_ascii_lowercase().contains("x-vouchsafe-assertion: ey"));
    let query = AuditQuery { user: Some("alice".into()), passed: Some("observe".into()), ..AuditQuery::default() };
    let known = records(world, query, 1).await;
    assert_eq!((known[0].reason.as_deref(), known[0].grade.as_deref()), (Some("no_permit"), Some("software")));
    // From outside she is denied as ever.
    let answer =
        curl_as(world, &company.laptop, &["--interface", OUTSIDE, &company.plain_url("finance", "/known")]).await;
    assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some("no_permit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_a_lock_a_removed_device_and_an_ended_session_stay_closed_in_observation() {
    let company = company("observe", &in_seconds(3_600)).await;
    let world = &company.world;
    nobody_gets(&company, INSIDE, 200).await;
    // A device alone is let pass, as long as it is enrolled.
    let mut alone = as_device(world, &company.laptop, None);
    alone.push(company.plain_url("finance", "/"));
    let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
    assert_eq!(curl(world, &alone).await.status, 200);
    let lock = json!({"kind": "resource", "name": "finance", "reason": "an incident"});
    let _: Value = world.admin.post("/v1/locks", &lock).await.expect("locked");
    nobody_gets(&company, INSIDE, 401).await;
    world.admin.delete("/v1/locks/resource/finance").await.expect("unlocked");
    nobody_gets(&company, INSIDE, 200).await;
    let _: Value = world.admin.post("/v1/locks", &json!({"kind": "user", "name": "alice"})).await.expect("locked");
    let answer = curl_as(world, &company.laptop, &[&company.plain_url("finance", "/")]).await;
    assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some("session_ended"), "{answer:?}");
    world.admin.delete(&format!("/v1/devices/{}", company.laptop.device.id())).await.expect("removed");
    let answer = curl(world, &alone).await;
    assert_eq!(world.decision(answer.decision()).await.reason.as_deref(), Some("device_unknown"), "{answer:?}");
}

/// An app that answers without an end.
async fn endless(tasks: &TaskGroup) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let group = tasks.clone();
    tasks.spawn("endless", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            group.spawn("endless answer", async move {
                let mut head = [0; 4_096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                while stream.write_all(b"more\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    address
}

/// curl that downloads until it is cut.
async fn download(world: &World, source: &str) -> Child {
    let mut child = Command::new("curl")
        .args(["-sSN", "--max-time", "30", "--interface", source, "--cacert"])
        .arg(&world.root_file)
        .arg(world.url("finance", "/").as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("curl");
    let mut first = [0; 5];
    let stdout = child.stdout.as_mut().expect("piped");
    tokio::time::timeout(PATIENCE, stdout.read_exact(&mut first)).await.expect("in time").expect("it flows");
    assert_eq!(&first, b"more\n");
    // What comes is read on, so that nothing but a cut ends it.
    let mut rest = child.stdout.take().expect("piped");
    world.tasks.spawn("reader", async move {
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    });
    child
}

async fn ended(mut child: Child) -> Duration {
    let begun = Instant::now();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("cut in time").expect("waited");
    assert!(!status.success(), "it was cut, and didn't end by itself");
    begun.elapsed()
}

/// Finance with an endless answer behind it, in that mode.
async fn streaming(company: &Company, address: SocketAddr, mode: &str, until: &str) {
    let mut finance = json!({"name": "finance", "kind": "http", "upstream": format!("http://{address}"),
                             "offline_grace": 3600});
    if mode != "enforce" {
        finance["mode"] = json!(mode);
        finance["observe"] = trial(until);
    }
    let _: Value = company.world.admin.replace("/v1/resources/finance", &finance).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_open_flows_end_within_a_second_of_their_mode_or_boundary_and_by_themselves_at_its_end() {
    let company = Company::start().await;
    let world = &company.world;
    let address = endless(&world.tasks).await;
    // The mode is taken back.
    streaming(&company, address, "observe", &in_seconds(3_600)).await;
    nobody_gets_a_stream(&company).await;
    let open = download(world, INSIDE).await;
    set(&company, "enforce", "").await;
    let took = ended(open).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    nobody_gets(&company, INSIDE, 401).await;
    // The boundary moves away.
    streaming(&company, address, "observe", &in_seconds(3_600)).await;
    nobody_gets_a_stream(&company).await;
    let open = download(world, INSIDE).await;
    let mut elsewhere = trial(&in_seconds(3_600));
    elsewhere["from"] = json!(["127.0.1.0/24"]);
    let body = json!({"mode": "observe", "observe": elsewhere});
    let _: Value = world.admin.replace("/v1/resources/finance/mode", &body).await.expect("set");
    let took = ended(open).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // From observation to warning: nobody is nobody's business any more.
    streaming(&company, address, "observe", &in_seconds(3_600)).await;
    nobody_gets_a_stream(&company).await;
    let open = download(world, INSIDE).await;
    set(&company, "warn", &in_seconds(3_600)).await;
    let took = ended(open).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Its time is over, without a word of anybody.
    let until = clock::now() + Duration::from_secs(4);
    streaming(&company, address, "observe", &second_text(until).expect("a time")).await;
    nobody_gets_a_stream(&company).await;
    let open = download(world, INSIDE).await;
    ended(open).await;
    // The end is cut to the second, and looked for every second.
    let late = clock::now().duration_since(until).unwrap_or_default();
    assert!(late < Duration::from_secs(2), "{late:?}");
    nobody_gets(&company, INSIDE, 401).await;
    let query = AuditQuery { kind: Some("flow_end".into()), ..AuditQuery::default() };
    let ends = records(world, query, 4).await;
    assert!(ends.iter().filter(|end| end.reason.as_deref() == Some("sign_in_required")).count() >= 4, "{ends:?}");
}

async fn nobody_gets_a_stream(company: &Company) {
    let url = company.world.url("finance", "/");
    for () in patiently() {
        let answer = curl(&company.world, &["-I", url.as_str()]).await;
        if answer.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("observation doesn't begin: {}", company.world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_a_restart_keeps_a_mode_and_its_end() {
    let company = company("observe", &in_seconds(3_600)).await;
    nobody_gets(&company, INSIDE, 200).await;
    let Company { world, marketing, finance, alice, laptop } = company;
    let port = world.port;
    let world = World::start_in(world.kill().await, port).await;
    let company = Company { world, marketing, finance, alice, laptop };
    nobody_gets(&company, INSIDE, 200).await;
    nobody_gets(&company, OUTSIDE, 401).await;
    let until = clock::now() + Duration::from_secs(3);
    set(&company, "observe", &second_text(until).expect("a time")).await;
    tokio::time::sleep(until.duration_since(clock::now()).unwrap_or_default()).await;
    nobody_gets(&company, INSIDE, 401).await;
    // Started anew after its end, it enforces, and says so once.
    let Company { world, marketing, finance, alice, laptop } = company;
    let world = World::start_in(world.stop().await, port).await;
    let company = Company { world, marketing, finance, alice, laptop };
    nobody_gets(&company, INSIDE, 401).await;
    let query = AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() };
    let changes = company.world.audit(query).await;
    let ended = changes.iter().filter(|record| record.action.as_deref() == Some("resource.mode.end"));
    assert_eq!(ended.map(|record| record.target.as_deref()).collect::<Vec<_>>(), [Some("resource/finance")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_a_warning_asks_for_a_sign_in_is_shown_once_and_alters_nothing() {
    let until = in_seconds(3_600);
    let company = company("warn", &until).await;
    let (world, alice) = (&company.world, &company.alice);
    // Nobody is asked to sign in.
    nobody_gets(&company, INSIDE, 401).await;
    let url = world.url("finance", "/figures?year=2026");
    let mut page = alice.browser.open(&url, &alice.authenticator).await.expect("opened");
    for () in patiently() {
        if page.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        page = alice.browser.get(&url).await.expect("opened");
    }
    let text = page.text();
    assert!(page.status == 200 && text.contains("You will lose access to this"), "{} {text}", page.status);
    for part in ["<strong>alice</strong>", "moving in", "href=\"/figures?year=2026\"", &until[..10], "dec_"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(company.finance.connections(), 0, "she is told before anything goes upstream");
    // Told once; then the app answers, as it is, with a field for programs.
    for _ in 0..2 {
        let page = alice.browser.get(&url).await.expect("opened");
        assert!(page.status == 200 && page.text() == "ok", "{} {}", page.status, page.text());
        let said = page.headers.get("x-vouchsafe-would-deny").expect("a field").to_str().expect("text");
        assert!(
            said.starts_with(&format!("device_required;until=\"{until}\";owner=\"alice\";decision=\"dec_"))
                || said.starts_with(&format!("no_permit;until=\"{until}\";owner=\"alice\";decision=\"dec_")),
            "{said}"
        );
        let id = said.rsplit('"').nth(1).expect("an id");
        let record = world.decision(id).await;
        assert_eq!((record.outcome.as_deref(), record.passed.as_deref()), (Some("deny"), Some("warn")));
        assert_eq!(record.user.as_deref(), Some("alice"));
    }
    assert!(!company.finance.text().contains("vouchsafe-warned"), "our cookie stays ours");
    // Programs are never shown a page.
    let answer =
        curl_as(world, &company.laptop, &["-H", "Accept: text/html", &company.plain_url("finance", "/")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
    assert!(answer.header("x-vouchsafe-would-deny").is_some());
    // From outside there is no warning but a denial.
    let outside = ["--interface", OUTSIDE, &company.plain_url("finance", "/")];
    assert_eq!(curl_as(world, &company.laptop, &outside).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_tunnels_pass_by_a_mode_with_a_device_and_a_sign_in_and_the_person_is_told() {
    let company = Company::start().await;
    let world = &company.world;
    let database = crate::database::cluster("ledger").await;
    let ledger = json!({"name": "finance", "kind": "tcp", "upstream": database.address().to_string(), "port": 5432,
                        "mode": "observe", "observe": trial(&in_seconds(3_600))});
    world.admin.delete("/v1/resources/finance").await.expect("removed");
    let _: Value = world.admin.replace("/v1/resources/finance", &ledger).await.expect("put");
    let connect = Connect::start(&company.laptop, "finance").await;
    let ask = async || database.psql(connect.address, vouchsafe_demo::postgres::PsqlTls::Off, "SELECT 6 * 7").await;
    let mut answer = ask().await.expect("psql");
    for () in patiently() {
        if answer.success {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = ask().await.expect("psql");
    }
    assert!(answer.success && answer.stdout.contains("42"), "{answer:?}");
    let query = AuditQuery { passed: Some("observe".into()), kind: Some("decision".into()), ..AuditQuery::default() };
    let passed = records(world, query, 1).await;
    assert_eq!((passed[0].user.as_deref(), passed[0].reason.as_deref()), (Some("alice"), Some("no_permit")));
    // A tunnel has a device; and a user, whatever the mode.
    let mut alone = as_device(world, &company.laptop, None);
    alone.extend(["-p".to_owned(), format!("http://{}:5432/", world.host("finance"))]);
    let answer = curl(world, &alone.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(answer.status, 407, "{answer:?}");
    let direct = ["-p", "--proxy", &format!("https://{}:{}", world.host("gw"), world.port)].map(str::to_owned);
    let mut direct = direct.to_vec();
    direct.push(format!("http://{}:5432/", world.host("finance")));
    let answer = curl(world, &direct.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    // In `warn` the command line says so, once.
    set(&company, "warn", &in_seconds(3_600)).await;
    let dir = company.laptop.dir.display().to_string();
    let mut told = String::new();
    for () in patiently() {
        let ran = run(VOUCHSAFE, &["pipe", "finance:5432", "--dir", &dir]).await;
        told = ran.err;
        if told.contains("access ends on") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told.contains("ask alice") && told.contains("dec_"), "{told}");
    // Its end cuts a tunnel that is open.
    let port = connect.address.port().to_string();
    let sleeping = async {
        let mut psql = Command::new("psql");
        psql.args(["-h", "127.0.0.1", "-p", &port, "-U", vouchsafe_demo::postgres::ROLE, "-d", "ledger"]);
        psql.args(["-c", "SELECT pg_sleep(30)"]).env("PGPASSWORD", database.password()).env("PGSSLMODE", "disable");
        psql.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status().await.expect("ran")
    };
    let taking_back = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        set(&company, "enforce", "").await;
        Instant::now()
    };
    let (status, at) = tokio::join!(async { (sleeping.await, Instant::now()) }, taking_back);
    assert!(!status.0.success());
    assert!(status.1.duration_since(at) < Duration::from_secs(1), "{:?}", status.1.duration_since(at));
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_no_typo_and_nothing_left_out_opens_anything() {
    let company = Company::start().await;
    let world = &company.world;
    let owner = world.state_dir();
    let upstream = format!("http://{}", company.finance.address);
    let whole = trial(&in_seconds(3_600));
    let with = |mode: Value, observe: Value| json!({"name": "finance", "kind": "http", "upstream": upstream, "mode": mode, "observe": observe});
    let mut world_wide = whole.clone();
    world_wide["from"] = json!(["0.0.0.0/0"]);
    let mut nowhere = whole.clone();
    nowhere.as_object_mut().expect("members").remove("from");
    let mut for_ever = whole.clone();
    for_ever["until"] = json!(in_seconds(91 * 86_400));
    let mut owned_by_nobody = whole.clone();
    owned_by_nobody["owner"] = json!("mallory");
    for (doc, what) in [
        (with(json!("observed"), whole.clone()), "a misspelt mode"),
        (with(json!("observe"), Value::Null), "no bounds"),
        (with(Value::Null, whole.clone()), "bounds alone"),
        (with(json!("enforce"), whole.clone()), "bounds and enforcement"),
        (with(json!("observe"), world_wide), "the whole world"),
        (with(json!("warn"), nowhere), "no boundary"),
        (with(json!("observe"), for_ever), "91 days"),
        (with(json!("observe"), owned_by_nobody), "an owner who is no user"),
    ] {
        let refused = world.admin.replace::<_, Value>("/v1/resources/finance", &doc).await;
        assert!(refused.is_err(), "{what} was accepted");
    }
    nobody_gets(&company, INSIDE, 401).await;
    // Our own console and API have no mode, by any way.
    let body = json!({"mode": "observe", "observe": whole});
    assert!(world.admin.replace::<_, Value>("/v1/resources/console/mode", &body).await.is_err());
    // The verb asks for every bound, and for a yes.
    let mode = async |arguments: &[&str]| {
        let mut all = vec!["resource", "mode", "finance"];
        all.extend_from_slice(arguments);
        world.cli(&owner, &all).await
    };
    let (code, _, err) = mode(&["observe", "--yes"]).await;
    assert!(code == 2 && err.contains("--from, --owner, --reason, --for or --until"), "{code} {err}");
    let bounds = ["--from", "127.0.0.0/24", "--owner", "alice", "--reason", "moving in", "--for", "1h"];
    let (code, _, err) = mode(&[&["observe"], &bounds[..]].concat()).await;
    assert!(code != 0, "nobody is there to say yes: {err}");
    nobody_gets(&company, INSIDE, 401).await;
    let (code, out, err) = mode(&[&["observe", "--yes"], &bounds[..]].concat()).await;
    assert!(code == 0 && out.contains("observe, in") && out.contains("127.0.0.0/24"), "{code} {out}{err}");
    nobody_gets(&company, INSIDE, 200).await;
    let (_, listed, _) = world.cli(&owner, &["resource", "list"]).await;
    assert!(listed.contains("observe, in"), "{listed}");
    // On with what there is, and back by one verb.
    let (code, out, err) = mode(&["warn", "--yes"]).await;
    assert!(code == 0 && out.contains("warn, in"), "{code} {out}{err}");
    nobody_gets(&company, INSIDE, 401).await;
    let (code, _, err) = mode(&["enforce"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = world.cli(&owner, &["audit", "query", "--kind", "admin"]).await;
    assert!(code == 0 && out.contains("mode: observe → warn") && out.contains("mode: warn → unset"), "{out}");
    let ran = run(VOUCHSAFE, &["resource", "mode", "finance", "observed", "--dir", "/nonexistent"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}
