//! What servers log, for programs.

use std::net::Ipv4Addr;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Child;
use vouchsafe_wire::api::ConnectorInvited;

use crate::peers::{pid_of, run};
use crate::roles::{arguments, free_port, invite};
use crate::world::{PATIENCE, VOUCHSAFE, World, launch};

const AS_JSON: [&str; 2] = ["--log-format", "json"];

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

/// Asks a process to stop, and waits for it.
async fn stop(mut process: Child) {
    let pid = pid_of(process.id().expect("running"));
    rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
    let status = tokio::time::timeout(PATIENCE, process.wait()).await.expect("stops in time").expect("status");
    assert!(status.success(), "{status}");
}

/// The lines of a log, each of which must be an object of the log.
fn lines(log: &str) -> Vec<Value> {
    let read = |line: &str| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for member in [&object["timestamp"], &object["level"], &object["target"]] {
            assert!(member.is_string() && object["fields"].is_object(), "{line}");
        }
        object
    };
    log.lines().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_logs_one_object_a_line_when_asked_to() {
    let (port, dir) = (free_port(), tempfile::tempdir().expect("temporary directory"));
    let own = [arguments(port, free_port()), strings(&AS_JSON)].concat();
    let world = World::start_role(dir, &own).await;
    // Each into a log of its own.
    let place = |name: &str| {
        let place = world.dir.path().join(name);
        std::fs::create_dir(&place).expect("made");
        place
    };
    let (gateway, state) = (place("gateway"), world.dir.path().join("gateway-state"));
    let code = invite(&world, "one").await;
    let (exit, out, err) = world.cli(&state, &["gateway", "join", &code]).await;
    assert_eq!(exit, 0, "{out}{err}");
    let arguments = [&["gateway", "--listen", "127.0.0.1"][..], &AS_JSON].concat();
    let (gate, _) = launch(&gateway, &state, &strings(&arguments)).await;
    let (connector, state) = (place("connector"), world.dir.path().join("connector-state"));
    let at = format!("{}:{port}", Ipv4Addr::LOCALHOST);
    let invited: ConnectorInvited =
        world.admin.post("/v1/connectors/invites", &json!({"site": "frankfurt"})).await.expect("invited");
    let (exit, out, err) = world.cli(&state, &["connector", "join", &invited.code, "--gateway", &at]).await;
    assert_eq!(exit, 0, "{out}{err}");
    let arguments = [&["connector", "--allow", "127.0.0.1:1", "--gateway", &at][..], &AS_JSON].concat();
    let (dialling, _) = launch(&connector, &state, &strings(&arguments)).await;
    stop(dialling).await;
    stop(gate).await;
    let read = |place: &std::path::Path| std::fs::read_to_string(place.join("up.log")).expect("a log");
    assert!(!lines(&read(&gateway)).is_empty() && !lines(&read(&connector)).is_empty());
    let dir = world.stop().await;
    assert!(!lines(&read(dir.path())).is_empty());

    // Both in one process, as people start it: what it says on stopping is in the log as well.
    let dir = tempfile::tempdir().expect("temporary directory");
    let process = tokio::process::Command::new(VOUCHSAFE)
        .args(["up", "--port", "0", "--log-format", "json", "--dir"])
        .arg(dir.path().join("state"))
        .env("VOUCHSAFE_LOG", "debug")
        .stdout(std::process::Stdio::piped())
        .stderr(std::fs::File::create(dir.path().join("up.log")).expect("a log"))
        .kill_on_drop(true)
        .spawn();
    let mut process = process.expect("starts");
    let mut ready = tokio::io::BufReader::new(process.stdout.take().expect("piped"));
    let mut line = String::new();
    let said = tokio::io::AsyncBufReadExt::read_line(&mut ready, &mut line);
    tokio::time::timeout(PATIENCE, said).await.expect("in time").expect("readable");
    assert!(line.contains("ready"), "{line}");
    stop(process).await;
    let said = lines(&read(dir.path()));
    let stopping = |line: &&Value| line["fields"]["message"].as_str().is_some_and(|text| text.starts_with("stopping"));
    assert!(said.iter().any(|line| stopping(&line)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_start_says_so_in_the_form_of_its_log() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (state, missing) = (dir.path().display().to_string(), dir.path().join("none").display().to_string());
    let common = ["up", "--port", "0", "--dir", &state, "--tls-cert", &missing, "--tls-key", &missing];
    let ran = run(VOUCHSAFE, &[&common[..], &AS_JSON].concat()).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let last: Value = serde_json::from_str(ran.err.lines().last().expect("a line")).expect("an object");
    assert!(last["error"]["title"].as_str().is_some_and(|title| title.contains("none")), "{last}");
    let ran = run(VOUCHSAFE, &[&common[..], &["--log-format", "text"]].concat()).await;
    assert!(ran.code == 1 && ran.err.contains("error: "), "{ran:?}");
    let ran = run(VOUCHSAFE, &[&common[..], &["--log-format", "xml"]].concat()).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}
