//! A disk whose syncs take long: who waits, who is refused, and whom it doesn't concern.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;
use vouchsafe_wire::api::AuditQuery;

use crate::http::Company;
use crate::news::{carries, ends, opened};
use crate::peers::{Curled, curl_as, run};
use crate::roles::{self, Gate, LEASE};
use crate::world::{VOUCHSAFE, World, patiently};

/// How long the syncs of one process take at least.
#[derive(Debug, Clone)]
pub struct Disk {
    library: PathBuf,
    wanted: PathBuf,
}

impl Disk {
    async fn new(dir: &Path, name: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk/slow.c");
        let disk = Self { library: dir.join(format!("{name}.so")), wanted: dir.join(format!("{name}.sync")) };
        let paths = [&disk.library, &source].map(|path| path.display().to_string());
        let made = run("cc", &["-Wall", "-shared", "-fPIC", "-o", &paths[0], &paths[1], "-ldl"]).await;
        assert_eq!(made.code, 0, "{made:?}");
        disk.sync_takes(Duration::ZERO);
        disk
    }

    fn sync_takes(&self, least: Duration) {
        let millis = u32::try_from(least.as_millis()).expect("small");
        // In place: it is mapped.
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.wanted);
        std::os::unix::fs::FileExt::write_all_at(&file.expect("opened"), &millis.to_le_bytes(), 0).expect("set");
    }

    /// The binary under test, on this disk.
    pub fn command(&self) -> Command {
        let mut command = Command::new(VOUCHSAFE);
        command.env("LD_PRELOAD", &self.library).env("VOUCHSAFE_TEST_SYNC", &self.wanted);
        command
    }
}

const POLICY: &str = r#"
@id("marketing-app")
permit (principal in Group::"marketing", action, resource == Http::"marketing");
@id("echo")
permit (principal in Group::"marketing", action, resource == Tcp::"echo");
@id("ending")
permit (principal in Group::"extra", action, resource == Tcp::"ending");
"#;
/// Longer than anybody waits for a record.
const FOREVER: Duration = Duration::from_secs(60);
/// Who waits for a record is refused after five seconds, or after ten when its writing has begun.
const REFUSED: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_makes_people_wait_then_denies_and_concerns_nobody_elsewhere() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (controllers, gateways) = (Disk::new(dir.path(), "controller").await, Disk::new(dir.path(), "gateway").await);
    let arguments = roles::arguments(roles::free_port(), roles::free_port());
    let world = World::start_role_by(controllers.command(), dir, &arguments).await;
    let gate = Gate::join_on(&world, "one", Ipv4Addr::LOCALHOST, &gateways).await;
    let Company { world, marketing, finance: _finance, alice: _alice, laptop } = Company::start_on(world).await;
    let echo = roles::echo(&world).await;
    let app = json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", marketing.address)});
    let tcp = |name: &str| json!({"name": name, "kind": "tcp", "upstream": echo.to_string(), "port": 7});
    world.apply(&["marketing", "extra"], json!([app, tcp("echo"), tcp("ending")]), POLICY).await;
    let _: Value = world.admin.put("/v1/groups/extra/members/alice").await.expect("in the group");
    let url = |path: &str| format!("http://{}:{}{path}", world.host("marketing"), world.port);
    let ask = async |path: &str| -> (Curled, Duration) {
        let begun = Instant::now();
        (curl_as(&world, &laptop, &[&url(path)]).await, begun.elapsed())
    };
    let mut kept = opened(&gate, &laptop, "echo").await;
    let mut ending = opened(&gate, &laptop, "ending").await;
    assert_eq!(ask("/quick").await.0.status, 200);

    // The controller's: no gateway waits for it, nor is it taken for dead. A change is answered once it is durable.
    let slow = Duration::from_secs(5);
    controllers.sync_takes(slow);
    let begun = Instant::now();
    let carol = json!({"name": "carol", "groups": []});
    let change = world.admin.post::<_, Value>("/v1/users", &carol);
    let asked = async {
        let mut count = 0;
        while begun.elapsed() < LEASE * 3 {
            let (answer, took) = ask("/elsewhere").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(took < slow, "{took:?}");
            count += 1;
        }
        count
    };
    let (changed, count) = tokio::join!(async { (change.await, begun.elapsed()) }, asked);
    assert!(count > 5 && carries(&mut kept).await, "{count} were answered beside it");
    assert!(changed.0.is_ok() && changed.1 > slow, "{changed:?}");
    controllers.sync_takes(Duration::ZERO);

    // The gateway's, a little: a tunnel begins when its record is durable, a request when it is written.
    let slow = Duration::from_secs(2);
    gateways.sync_takes(slow);
    let begun = Instant::now();
    let mut late = gate.door().tunnel(&laptop, "echo").await.expect("it begins, late");
    assert!(begun.elapsed() >= slow, "{:?}", begun.elapsed());
    assert!(carries(&mut late).await);

    // For good: nobody begins what can't be recorded, and everybody is told. What is open stays so.
    gateways.sync_takes(FOREVER);
    let mut refused = Vec::new();
    let before = marketing.text();
    let mut answered = 0;
    for () in patiently() {
        let (answer, took) = ask("/late").await;
        assert!(took < REFUSED, "{took:?}: {answer:?}");
        if answer.status != 200 {
            refused.push(answer);
            break;
        }
        answered += 1;
    }
    let begun = Instant::now();
    let tunnel = gate.door().tunnel(&laptop, "echo").await.expect_err("no tunnel");
    assert!(tunnel.starts_with("HTTP/1.1 503") && begun.elapsed() < REFUSED, "{:?}: {tunnel}", begun.elapsed());
    refused.push(ask("/late").await.0);
    for answer in &refused {
        assert!(answer.status == 503 && answer.body.contains("audit_unavailable"), "{answer:?}");
    }
    assert_eq!(refused.len(), 2, "{answered} were answered before");
    assert!(carries(&mut kept).await && carries(&mut late).await, "what is open");
    // News come in time, and are followed.
    let begun = Instant::now();
    world.admin.delete("/v1/groups/extra/members/alice").await.expect("out of the group");
    ends(&mut ending, begun).await;
    let heard = marketing.text();
    let heard = heard.strip_prefix(&before).expect("it grows");
    assert_eq!(heard.matches("GET /late ").count(), answered, "nothing of what was refused");

    // Quick again: everything goes on by itself, and what was answered is on record.
    gateways.sync_takes(Duration::ZERO);
    let mut last = 0;
    for () in patiently() {
        last = ask("/after").await.0.status;
        if last == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(last, 200, "{}", world.log());
    let mut again = opened(&gate, &laptop, "echo").await;
    assert!(carries(&mut again).await);
    let mut recorded = (0, 0);
    for () in patiently() {
        let query =
            AuditQuery { kind: Some("decision".into()), outcome: Some("allow".into()), ..AuditQuery::default() };
        let records = world.audit(query).await;
        let of = |path: &str| records.iter().filter(|record| record.path.as_deref() == Some(path)).count();
        recorded = (of("/late"), of("/after"));
        if recorded.1 == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(recorded.0 >= answered && recorded.1 == 1, "{recorded:?}: {answered}");
    let dir = world.stop().await;
    let state = dir.path().join("state").display().to_string();
    let verified = run(VOUCHSAFE, &["audit", "verify", "--dir", &state]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
}
