//! The audit log in other programs: files and streams, as their own schemas and programs read them.

mod streams;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use vouchsafe_demo::admin::Admin;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::ocsf;

use crate::http::Company;
use crate::http3::python;
use crate::peers::curl_as;
use crate::world::{PATIENCE, VOUCHSAFE, World, patiently};

/// Runs a script on a file; gives what it prints, line by line.
async fn script(name: &str, argument: &str, input: &Path) -> Vec<Value> {
    let (interpreter, script) = python(name);
    let output = Command::new(interpreter)
        .args([script.as_os_str(), argument.as_ref()])
        .stdin(Stdio::from(File::open(input).expect("input")))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE * 2, output).await.expect("in time").expect("installed by ./test");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Makes that many records.
pub async fn fill(world: &World, records: usize) {
    for _ in 0..records {
        let _page: Value = world.admin.get("/v1/audit?limit=1").await.expect("asked");
    }
}

/// Makes records until the group ends, whatever happens to the controller.
pub fn load(world: &World) -> TaskGroup {
    let tasks = TaskGroup::new();
    for _ in 0..2 {
        let admin = Admin::new(world.state_dir().join("admin.sock"), tasks.clone());
        let group = tasks.clone();
        tasks.spawn("load", async move {
            while !group.is_draining() {
                if admin.get::<Value>("/v1/audit?limit=1").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    tasks
}

/// Records of every kind, with each outcome and action, with everything and with nothing in them.
fn every_kind() -> Vec<Record> {
    let actions = [
        "http:read",
        "http:write",
        "net:connect",
        "console:write",
        "sign-in",
        "app-sign-in",
        "session.end",
        "passkey.add",
        "passkey.remove",
        "device.enrol",
        "device.renew",
        "user.add",
        "user.delete",
        "user.change",
        "user.sign-out",
        "lock.add",
        "lock.remove",
        "lock.expire",
        "group.add-member",
        "resource.put",
        "resource.remove",
        "resource.mode.end",
        "policy.publish",
        "policy.rollback",
        "policy.lapse",
        "grant.add",
        "grant.expire",
        "gateway.join",
        "connector.join",
        "request.approve",
        "webhook.give-up",
        "audit.query",
        "audit.export",
        "audit.stream.add",
        "audit.gap",
        "audit.interrupted",
        "controller.start",
        "controller.stop",
        "ca:issue",
        "never.heard-of",
        "",
    ];
    let targets = [None, Some("user/alice"), Some("device/dev_1"), Some("policy"), Some("user/"), Some("/"), Some("")];
    let outcomes = [None, Some("allow"), Some("deny"), Some("ok"), Some("failed"), Some("else")];
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for (number, action) in actions.into_iter().enumerate() {
            let mut bare = Record::new(kind, 1_790_000_000_000_000);
            bare.source = "gtw_1".to_owned();
            bare.seq = all.len() as u64 + 1;
            bare.action = Some(action.to_owned());
            bare.outcome = outcomes[number % outcomes.len()].map(ToOwned::to_owned);
            bare.target = targets[number % targets.len()].map(ToOwned::to_owned);
            let text = |text: &str| Some(text.to_owned());
            let full = Record {
                advice: vec!["step_up".to_owned()],
                auth_methods: vec!["passkey".to_owned()],
                auth_time_us: Some(1),
                bytes_in: Some(1),
                bytes_out: Some(u64::MAX),
                connector: text("con_1"),
                detail: text("<b>\u{202e}\u{0}"),
                device: text("dev_1"),
                device_name: text("laptop"),
                device_owner: text("alice"),
                device_tags: vec!["pii".to_owned()],
                duration_us: Some(u64::MAX),
                epoch: Some(3),
                flow: text("flw_1"),
                grade: text("hardware"),
                groups: vec!["staff".to_owned(), String::new()],
                host: text("wiki.example.org"),
                id: text("dec_1"),
                ip: text(["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "…"][number % 4]),
                method: text(["GET", "PROPFIND", "CONNECT", ""][number % 4]),
                passed: (number % 3 == 0).then(|| "observe".to_owned()),
                path: text(["/a?b", "", "/\u{fffd}"][number % 3]),
                policies: vec!["p1".to_owned(), "…".to_owned()],
                policy_version: Some(4),
                port: Some(65_535),
                protocol: text("h2"),
                proxy: text("edge"),
                reason: text("no_permit"),
                repeated: Some(u64::MAX),
                resource: text("wiki"),
                session: text("ses_1"),
                status: Some(403),
                tls: text("1.3 X25519MLKEM768 resumed"),
                user: text(["alice", "local:0", "controller"][number % 3]),
                via: text("frankfurt"),
                words: text("words"),
                ..bare.clone()
            };
            all.extend([bare, full]);
        }
        all.push(Record::new(kind, 0));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_an_event_of_the_schema_that_ocsf_publishes() {
    let company = Company::start_on(World::start().await).await;
    let (world, laptop) = (&company.world, &company.laptop);
    assert_eq!(curl_as(world, laptop, &[&company.plain_url("finance", "/x")]).await.status, 403);
    assert_eq!(curl_as(world, laptop, &[&company.plain_url("marketing", "/x")]).await.status, 200);
    world.grant("alice", "finance").await;
    let lock = serde_json::json!({"kind": "user", "name": "alice", "reason": "lost"});
    let _lock: Value = world.admin.post("/v1/locks", &lock).await.expect("locked");
    let out = world.dir.path().join("events.ocsf");
    let path = out.display().to_string();
    let mut kinds = BTreeSet::new();
    for () in patiently() {
        let _ = std::fs::remove_file(&out);
        let _ = std::fs::remove_file(out.with_extension("ocsf.cursor"));
        let (code, _, err) = world.cli(&world.state_dir(), &["audit", "export", "--out", &path]).await;
        assert_eq!(code, 0, "{err}");
        let events = std::fs::read_to_string(&out).expect("events");
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        kinds = events
            .lines()
            .map(|line| read(line)["metadata"]["event_code"].as_str().expect("a kind").to_owned())
            .collect();
        if kinds.contains("decision") && kinds.contains("flow_end") && kinds.contains("session_end") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(kinds.len() >= 8, "{kinds:?}");
    let real = script("ocsf.py", ocsf::VERSION, &out).await;
    assert_eq!(real[0]["wrong"], Value::Array(Vec::new()), "{real:?}");
    assert!(real[0]["classes"].as_object().expect("classes").len() >= 6, "{real:?}");

    let made = world.dir.path().join("made.ocsf");
    let lines: Vec<String> =
        every_kind().iter().enumerate().map(|(at, record)| ocsf::event(at as u64, record).to_string()).collect();
    std::fs::write(&made, lines.join("\n")).expect("written");
    let judged = script("ocsf.py", ocsf::VERSION, &made).await;
    assert_eq!(judged[0]["wrong"], Value::Array(Vec::new()), "{judged:?}");
    assert_eq!(judged[0]["count"], lines.len());
    // And it does judge.
    std::fs::write(&made, lines[0].replace("\"severity_id\"", "\"gravity\"")).expect("written");
    let judged = script("ocsf.py", ocsf::VERSION, &made).await;
    assert!(judged[0]["wrong"][0]["said"].to_string().contains("gravity"), "{judged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_killed_goes_on_without_a_hole_and_without_a_record_twice() {
    let world = World::start().await;
    let out = world.dir.path().join("audit.json");
    let export = |follow: bool| {
        let mut command = Command::new(VOUCHSAFE);
        command.args(["audit", "export", "--format", "json", "--out"]).arg(&out).arg("--dir").arg(world.state_dir());
        command.args(follow.then_some("--follow")).stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    let busy = load(&world);
    for _ in 0..6 {
        let before = std::fs::metadata(&out).map_or(0, |found| found.len());
        let mut child = export(true).spawn().expect("runs");
        for () in patiently() {
            if std::fs::metadata(&out).is_ok_and(|found| found.len() > before) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        child.kill().await.expect("killed");
    }
    busy.shut_down(PATIENCE).await;
    let output = export(false).output().await.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&out).expect("an export");
    let records: Vec<Record> =
        text.lines().map(|line| Record::from_canonical(line.as_bytes()).expect("canonical bytes")).collect();
    assert!(records.len() > 100, "{}", records.len());
    // Each source's numbers have no gap, which says that no record is missing or there twice.
    let mut last = std::collections::BTreeMap::<&str, u64>::new();
    for record in &records {
        let before = last.insert(&record.source, record.seq).unwrap_or_default();
        assert_eq!(record.seq, before + 1, "of {}", record.source);
    }
    let reads = records.iter().filter(|record| record.action.as_deref() == Some("audit.export")).count();
    assert!(reads >= 6, "each export is itself recorded: {reads}");

    // The same as log records, read by OpenTelemetry's own definitions.
    let path = world.dir.path().join("audit.otlp").display().to_string();
    let arguments = ["audit", "export", "--format", "otlp", "--out", &path, "--kind", "lifecycle"];
    let (code, _, err) = world.cli(&world.state_dir(), &arguments).await;
    assert_eq!(code, 0, "{err}");
    let told = script("otlp_logs.py", "-", Path::new(&path)).await;
    assert!(!told.is_empty() && told.iter().all(|one| one["event"] == "vouchsafe.lifecycle"), "{told:?}");
    assert_eq!(told[0]["attributes"]["log.record.uid"], format!("{}/{}", records[0].source, records[0].seq));
    let (code, _, err) = world.cli(&world.state_dir(), &["audit", "export", "--out", &path]).await;
    assert_eq!((code, err.contains("in the format `otlp`")), (1, true), "{err}");
}
