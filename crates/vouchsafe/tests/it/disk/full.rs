//! A disk that is full: what is told, what is refused, and that everything goes on afterwards. The
//! state directory of the real binary lies on a small file system of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vouchsafe_wire::audit::{Kind, Record};

use crate::http::Company;
use crate::peers::{as_device, curl_as, free_port, run};
use crate::world::{PATIENCE, TestDevice, World, patiently};

/// A small file system in memory, which goes with this.
struct Disk {
    path: PathBuf,
}

impl Disk {
    async fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).expect("made");
        let options = format!("size={size},mode=700");
        let shown = path.display().to_string();
        let mounted = run("mount", &["-t", "tmpfs", "-o", &options, "vouchsafe-test", &shown]).await;
        assert_eq!(mounted.code, 0, "{mounted:?}");
        Self { path: path.to_owned() }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all room but so many MiB.
    fn fill(&self, leave_mib: u64) {
        let found = rustix::fs::statvfs(&self.path).expect("a file system");
        let bytes = (found.f_bavail * found.f_frsize).saturating_sub(leave_mib * 1024 * 1024);
        let file = std::fs::File::create(self.ballast()).expect("ballast");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("room");
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("freed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while something still runs there: it goes when that ends.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

async fn readiness(metrics: SocketAddr) -> Value {
    let answer = run("curl", &["-sS", "--max-time", "20", &format!("http://{metrics}/readyz")]).await;
    serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:?}"))
}

async fn figure(metrics: SocketAddr, name: &str) -> f64 {
    let answer = run("curl", &["-sS", "--max-time", "20", &format!("http://{metrics}/metrics")]).await;
    let line = answer.out.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {}", answer.out))
}

/// Heads of the answers to all that a URL with a range stands for, up to the first refusal: each of those takes its time.
async fn heads(world: &World, laptop: &TestDevice, url: &str) -> Vec<String> {
    let mut arguments = as_device(world, laptop, Some(&laptop.token));
    let root = world.root_file.display().to_string();
    let more = [
        "-s",
        "--fail",
        "--fail-early",
        "--max-time",
        "60",
        "--cacert",
        &root,
        "--proxy-cacert",
        &root,
        "-D",
        "-",
        "-o",
        "/dev/null",
        url,
    ];
    arguments.extend(more.map(ToOwned::to_owned));
    let answers = run("curl", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    answers.out.split("HTTP/").filter(|head| !head.trim().is_empty()).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_denies_what_can_t_be_recorded_and_loses_nothing() {
    let dir: TempDir = tempfile::tempdir().expect("temporary directory");
    let disk = Disk::mount(&dir.path().join("state"), "220m").await;
    let metrics: SocketAddr =
        format!("127.0.0.1:{}", free_port(std::net::Ipv4Addr::LOCALHOST)).parse().expect("address");
    let arguments = ["--metrics-addr".to_owned(), metrics.to_string()];
    let company = Company::start_on(World::start_with(dir, 0, &arguments).await).await;
    let (world, laptop) = (&company.world, &company.laptop);
    assert_eq!(figure(metrics, "vouchsafe_audit_disk_low").await, 0.0, "there is enough");

    // Many requests, whose records are long, until the disk has no room for more of them.
    let url = |burst: &str| company.plain_url("marketing", &format!("/{burst}/{}/[1-200]", "x".repeat(1_900)));
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    let mut round = 0;
    let mut refused = 0;
    let mut told = String::new();
    disk.fill(1);
    let deadline = Instant::now() + PATIENCE * 6;
    while !told.starts_with("503") {
        assert!(Instant::now() < deadline, "{} answered, {refused} refused, {told}", answered.len());
        round += 1;
        let ask = async |which: &str| {
            let burst = format!("{round}-{which}");
            let heads = heads(world, laptop, &url(&burst)).await;
            (burst, heads)
        };
        let (one, two, three) = tokio::join!(ask("a"), ask("b"), ask("c"));
        for (burst, heads) in [one, two, three] {
            for head in heads {
                match head.split_whitespace().nth(1).expect("a status") {
                    "200" => *answered.entry(burst.clone()).or_default() += 1,
                    "503" => refused += 1,
                    other => panic!("{other}: {head}"),
                }
            }
        }
        if refused > 0 {
            let denied = curl_as(world, laptop, &[&company.plain_url("marketing", "/once")]).await;
            told = format!("{} {}{}", denied.status, denied.head, denied.body);
        }
    }
    assert!(told.starts_with("503") && told.contains("audit_unavailable"), "denied, with the reason: {told}");
    // A change is made with its record, in the room that is left for it, or not at all; why is told everywhere.
    let mut made = BTreeSet::new();
    for number in 0..5 {
        let name = format!("late-{number}");
        let new = serde_json::json!({"name": name, "groups": []});
        if world.admin.post::<_, Value>("/v1/users", &new).await.is_ok() {
            made.insert(format!("user/{name}"));
        }
    }
    assert_eq!(figure(metrics, "vouchsafe_audit_disk_low").await, 2.0);
    let health = readiness(metrics).await;
    assert_eq!(health["ready"], false, "{health}");
    assert!(health["notes"].to_string().contains("the disk of the audit log is full"), "{health}");
    let log = world.log();
    let lines = log.lines().filter(|line| line.contains("the disk of the audit log is full")).count();
    assert!((1..=3).contains(&lines), "once a minute: {lines}");

    // With room, everything goes on by itself.
    disk.free();
    let mut last = 0;
    for () in patiently() {
        let answer = curl_as(world, laptop, &[&company.plain_url("marketing", "/after")]).await;
        last = answer.status;
        if last == 200 && readiness(metrics).await["ready"] == true {
            answered.insert("after".to_owned(), 1);
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(last, 200, "{}", world.log());
    world.invite("bob", &[]).await;
    for () in patiently() {
        if figure(metrics, "vouchsafe_audit_disk_low").await == 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.log().contains("the disk of the audit log has room again"));

    // Whatever was answered is recorded, and what was refused meanwhile is told once.
    let (mut interrupted, mut seen, mut missing) = (false, BTreeSet::new(), BTreeMap::new());
    for () in patiently() {
        let (code, out, err) = world.cli(&world.state_dir(), &["audit", "export", "--format", "json"]).await;
        assert_eq!(code, 0, "{err}");
        let mut recorded: BTreeMap<String, usize> = BTreeMap::new();
        for line in out.lines() {
            let record = Record::from_canonical(line.as_bytes()).expect("a record");
            if record.action.as_deref() == Some("user.add")
                && let Some(target) = &record.target
                && target.starts_with("user/late-")
            {
                assert!(made.contains(target), "{target} was refused");
                seen.insert(target.clone());
            }
            interrupted |= record.action.as_deref() == Some("audit.interrupted");
            if record.kind == Kind::Decision && record.outcome.as_deref() == Some("allow") {
                let burst = record.path.as_deref().and_then(|path| path.split('/').nth(1));
                *recorded.entry(burst.unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        missing = answered.clone();
        missing.retain(|burst, count| recorded.get(burst).is_none_or(|recorded| recorded < count));
        if missing.is_empty() && interrupted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(missing.is_empty(), "answered, and in no record: {missing:?}");
    assert_eq!(seen, made, "each change has its record");
    let all: usize = answered.values().sum();
    assert!(interrupted && all > 1_000, "{all}");
    let Company { world, .. } = company;
    let dir = world.stop().await;
    let state = dir.path().join("state").display().to_string();
    let verified = run(crate::world::VOUCHSAFE, &["audit", "verify", "--dir", &state]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    drop(disk);
}
