//! What the running process has given up.

use serde_json::Value;

use crate::peers::run;
use crate::world::{VOUCHSAFE, World};

/// Lines of `/proc/<pid>/task/<thread>/status`, for each thread.
fn threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("status")).expect("status")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_thread_of_the_running_gateway_is_confined() {
    let world = World::start().await;
    // Something has happened, so that threads for blocking work have been started as well.
    world.person("alice", &[]).await;
    let threads = threads(world.pid());
    assert!(threads.len() > 2);
    for status in threads {
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(value("NoNewPrivs:"), Some("1"), "{status}");
        assert_eq!(value("Seccomp:"), Some("2"), "{status}");
        assert_eq!(value("CapEff:"), Some("0000000000000000"), "{status}");
        assert_eq!(value("CapPrm:"), Some("0000000000000000"), "{status}");
    }
    assert!(!world.log().contains("no seccomp"), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_the_sandbox_secrets_programs_and_other_processes_are_out_of_reach() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state").display().to_string();
    let ran = run(VOUCHSAFE, &["doctor", "sandbox", "--json", "--dir", &state]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["sandbox"]["calls"], "complete", "{report}");
    assert_eq!(report["sandbox"]["privileges"], "complete", "{report}");
    let attempts = report["attempts"].as_array().expect("attempts");
    let outcome = |what: &str| attempts.iter().find(|attempt| attempt["what"] == what).map(|found| &found["outcome"]);
    for what in ["start a program", "reach into another process", "open a raw packet socket"] {
        assert_eq!(outcome(what), Some(&"refused".into()), "{what}: {report}");
    }
    for what in ["write to the state directory", "look up a name"] {
        assert_eq!(outcome(what), Some(&"possible".into()), "{what}: {report}");
    }
    // Whether this kernel has Landlock, and all of it, is for it to say; what it has must hold.
    let files = report["sandbox"]["files"].as_str().expect("a word");
    if files != "missing" {
        for what in ["read /etc/shadow", "list /root", "write to /tmp"] {
            assert_eq!(outcome(what), Some(&"refused".into()), "{what}: {report}");
        }
    }
    // Who requires all of it gets all of it, or no gateway. The port is taken, so this ends either way.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("address").port().to_string();
    let up = ["up", "--sandbox", "require", "--listen", "127.0.0.1", "--port", &port, "--dir", &state];
    let ran = run(VOUCHSAFE, &up).await;
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let expected = if files == "complete" { "can't listen" } else { "the sandbox is required" };
    assert!(ran.err.contains(expected), "{}", ran.err);
}
