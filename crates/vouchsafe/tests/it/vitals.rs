//! Metrics and health, as those who run it ask for them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Company;
use crate::peers::{Ran, curl_as, run};
use crate::roles::{LEASE, arguments, controller, free_port, invite};
use crate::world::{World, launch};

/// Status and body of what is answered there.
async fn get(port: u16, path: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let Ran { out, .. } = run("curl", &["-sS", "--max-time", "10", "-w", "\n%{http_code}", &url]).await;
    let (body, status) = out.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or_default(), body.to_owned())
}

/// Runs a verb on a state directory; gives exit code, standard output and standard error.
async fn world_cli(state: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let dir = state.display().to_string();
    let mut all = arguments.to_vec();
    all.extend(["--dir", &dir]);
    let Ran { code, out, err } = run(crate::world::VOUCHSAFE, &all).await;
    (code, out, err)
}

/// The number of the line that begins like this.
fn number(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
}

/// Has Prometheus' own tool look at a page.
async fn checked_by_promtool(world: &World, page: &str) {
    let file = world.dir.path().join("metrics.txt");
    std::fs::write(&file, page).expect("written");
    let ran = run("sh", &["-c", &format!("promtool check metrics < {}", file.display())]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_own_and_count_what_happens_without_telling_of_whom() {
    let (port, address) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let metrics: u16 = address.rsplit_once(':').expect("a port").1.parse().expect("a port");
    let dir = tempfile::tempdir().expect("temporary directory");
    let arguments = ["--metrics-addr".to_owned(), address.clone()];
    let company = Company::start_on(World::start_with(dir, port, &arguments).await).await;
    let world = &company.world;
    for (app, expected) in [("marketing", 200), ("marketing", 200), ("finance", 403)] {
        let answer = curl_as(world, &company.laptop, &[&company.plain_url(app, "/secret-path?q=hidden")]).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    let (status, page) = get(metrics, "/metrics").await;
    assert_eq!(status, 200);
    checked_by_promtool(world, &page).await;
    assert!(number(&page, r#"vouchsafe_decisions_total{outcome="allow",reason="permitted"}"#) >= 2.0);
    assert!(number(&page, r#"vouchsafe_decisions_total{outcome="deny",reason="no_permit"}"#) >= 1.0);
    assert!(number(&page, "vouchsafe_decision_duration_seconds_count") >= 3.0);
    assert_eq!(number(&page, "vouchsafe_ready"), 1.0);
    assert_eq!(number(&page, "vouchsafe_lease_remaining_seconds"), 15.0);
    for word in ["alice", "laptop", "marketing", "finance", "secret-path", "hidden", "127.0.0.1"] {
        assert!(!page.contains(word), "{word} in\n{page}");
    }
    for path in ["/readyz", "/livez", "/healthz"] {
        assert_eq!(get(metrics, path).await.0, 200, "{path}");
    }
    // Not at the names that everybody reaches, and not by a name that a web page gave this machine.
    let outside = crate::peers::curl(world, &[world.url("gw", "/metrics").as_str()]).await;
    assert!(outside.status >= 400 && !outside.body.contains("vouchsafe_"), "{outside:?}");
    let resolve = format!("rebound.example:{metrics}:127.0.0.1");
    let url = format!("http://rebound.example:{metrics}/metrics");
    let rebound = run("curl", &["-sS", "--max-time", "10", "--resolve", &resolve, &url]).await;
    assert!(!rebound.out.contains("vouchsafe_"), "{rebound:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_not_shown_to_others_by_a_slip() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state").display().to_string();
    let open = format!("0.0.0.0:{}", free_port());
    let vouchsafe = crate::world::VOUCHSAFE;
    for role in ["up", "controller"] {
        let ran = run(vouchsafe, &[role, "--dir", &state, "--metrics-addr", &open]).await;
        assert!(ran.code == 2 && ran.err.contains("--metrics-anywhere"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_ready_only_while_it_hears_its_controller() {
    let world = controller().await;
    let state = world.dir.path().join("gateway-one");
    let code = invite(&world, "one").await;
    let (exit, _, err) = world.cli(&state, &["gateway", "join", &code]).await;
    assert_eq!(exit, 0, "{err}");
    let metrics = free_port();
    let arguments_of_gateway =
        ["gateway", "--listen", "127.0.0.1", "--metrics-addr", &format!("127.0.0.1:{metrics}")].map(String::from);
    let log = world.dir.path().to_owned();
    let (gateway, ready) = launch(&log, &state, &arguments_of_gateway).await;
    assert_eq!(ready["metrics"], format!("127.0.0.1:{metrics}"));
    assert_eq!(get(metrics, "/readyz").await.0, 200);
    let gateways = vouchsafe_wire::gateway::JoinCode::parse(&code).expect("a code").port;
    let port = world.port;
    let dir = world.kill().await;
    let killed = Instant::now();
    // Not before the lease is over, but for a ping's time, and at once then.
    let health = loop {
        let (status, health) = get(metrics, "/readyz").await;
        if status == 503 {
            break health;
        }
        assert!(killed.elapsed() < LEASE + Duration::from_secs(3), "{health}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(killed.elapsed() + LEASE / 6 > LEASE, "{:?}", killed.elapsed());
    let health: Value = serde_json::from_str(&health).expect("JSON");
    let failing: Vec<_> =
        health["checks"].as_array().expect("checks").iter().filter(|check| check["holds"] == false).collect();
    assert!(failing.iter().any(|check| check["name"] == "lease"), "{health}");
    // On the spot it says why, and what to do.
    let (exit, said, err) = world_cli(&state, &["doctor", "gateway"]).await;
    assert!(
        exit == 1 && said.contains("✗ lease") && said.contains("✗ channel: the last attempt failed"),
        "{said}{err}"
    );
    assert!(said.contains("look whether the controller runs"), "{said}");
    let (_, page) = get(metrics, "/metrics").await;
    assert_eq!(number(&page, "vouchsafe_lease_remaining_seconds"), 0.0);
    assert_eq!(number(&page, r#"vouchsafe_check{check="lease"}"#), 0.0);
    assert_eq!(get(metrics, "/livez").await.0, 200, "it is alive, and comes back by itself");
    let world = World::start_role(dir, &arguments(port, gateways)).await;
    checked_by_promtool(&world, &page).await;
    let back = Instant::now();
    while get(metrics, "/readyz").await.0 != 200 {
        assert!(back.elapsed() < Duration::from_secs(15), "{}", world.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // While it stops it takes no more work, and says so until the end.
    let probe = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).await.expect("connected");
    let pid = crate::peers::pid_of(gateway.id().expect("running"));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    let stopping = loop {
        let (status, health) = get(metrics, "/readyz").await;
        if status != 200 {
            break (status, health);
        }
    };
    // It may have ended already: then nobody answers, which is no readiness either.
    assert!(stopping.0 == 0 || stopping.1.contains("stopping"), "{stopping:?}");
    drop(probe);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_why_a_gateway_does_not_serve() {
    let world = controller().await;
    let state = world.dir.path().join("gateway-one");
    let (exit, _, err) = world_cli(&state, &["doctor", "gateway"]).await;
    assert!(exit == 4 && err.contains("vouchsafe gateway join"), "{exit} {err}");
    let code = invite(&world, "one").await;
    let (exit, _, err) = world.cli(&state, &["gateway", "join", &code]).await;
    assert_eq!(exit, 0, "{err}");
    let (exit, _, err) = world_cli(&state, &["doctor", "gateway"]).await;
    assert!(exit == 4 && err.contains("start it: `vouchsafe gateway`"), "{exit} {err}");
    // A newer snapshot was in force here once: what the controller has now is taken for a replay.
    std::fs::write(state.join("gateway").join("snapshot"), "999999\n").expect("written");
    let mut gateway = tokio::process::Command::new(crate::world::VOUCHSAFE)
        .args(["gateway", "--listen", "127.0.0.1", "--dir"])
        .arg(&state)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let begun = Instant::now();
    let said = loop {
        let (exit, said, _) = world_cli(&state, &["doctor", "gateway"]).await;
        if exit == 1 && said.contains("a snapshot was refused because it is older") {
            break said;
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "{exit} {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(said.contains("✗ snapshot: no snapshot") && said.contains("join anew"), "{said}");
    assert!(said.contains("✗ serving: it is starting") && said.contains("✓ clock"), "{said}");
    let (_, said, _) = world_cli(&state, &["doctor", "gateway", "--json"]).await;
    let health: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&health["ready"], &health["role"]), (&Value::from(false), &Value::from("gateway")));
    gateway.kill().await.expect("killed");
}
