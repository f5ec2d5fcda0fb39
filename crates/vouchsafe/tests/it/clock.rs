//! Clocks that are set ahead and back by hours while flows are open, at the gateway and at the controller, each by itself:
//! no flow outlives its right by more than the promise, no revocation is lost, and what ended stays so.
//!
//! The processes are as they are; what they read as the time of day comes out of a file (libfaketime), as if somebody had
//! set the machine's clock. The time since the machine's start, which nobody can set, is the machine's.

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::process::Command;
use vouchsafe_wire::api::GrantDoc;

use crate::http::Company;
use crate::news::{Tunnel, carries, ends, opened};
use crate::roles::{self, Gate, LEASE};
use crate::world::{PATIENCE, VOUCHSAFE, World};

/// What says the time of day to one process.
pub struct Clock(PathBuf);

impl Clock {
    /// In a state directory, where the sandbox lets it be read. It is right to begin with.
    pub fn in_state(state: &Path) -> Self {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).expect("made");
        let clock = Self(state.join("clock"));
        clock.set(0);
        clock
    }

    /// Sets it so many hours ahead of the machine's, or behind.
    pub fn set(&self, hours: i64) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{:+}\n", hours * 3_600)).expect("written");
        std::fs::rename(next, &self.0).expect("set");
    }

    /// The binary under test, with this clock.
    pub fn command(&self) -> Command {
        let library = std::fs::read_dir("/usr/lib").expect("readable").find_map(|entry| {
            let path = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
            path.exists().then_some(path)
        });
        let mut command = Command::new(VOUCHSAFE);
        command
            .env("LD_PRELOAD", library.expect("libfaketime is installed by ./test"))
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        command
    }
}

/// Rights that end one after the other.
const ENDING: usize = 4;
/// A bit more than gateways take until they look at everything for what depends on time.
const SWEEP: Duration = Duration::from_secs(12);

async fn end(world: &World, number: usize, tunnel: &mut Tunnel) {
    let began = Instant::now();
    let member = format!("/v1/groups/group-{number}/members/alice");
    world.admin.delete(&member).await.expect("out of the group");
    ends(tunnel, began).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_clocks_that_jump_by_hours_let_nothing_outlive_its_right_and_bring_nothing_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let controllers = Clock::in_state(&dir.path().join("state"));
    let arguments = roles::arguments(roles::free_port(), roles::free_port());
    let world = World::start_role_by(controllers.command(), dir, &arguments).await;
    let mut gate = Gate::join_with_clock(&world, "one", Ipv4Addr::LOCALHOST).await;
    let Company { world, marketing, finance: _finance, alice: _alice, laptop } = Company::start_on(world).await;
    let echo = roles::echo(&world).await;
    let tcp = |name: String| json!({"name": name, "kind": "tcp", "upstream": echo.to_string(), "port": 7});
    let app = json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", marketing.address)});
    let mut resources = vec![app, tcp("kept".into()), tcp("timed".into())];
    let mut policy = String::from(
        "@id(\"marketing-app\") permit (principal in Group::\"marketing\", action, resource == Http::\"marketing\");
         @id(\"kept\") permit (principal in Group::\"marketing\", action, resource == Tcp::\"kept\");",
    );
    let groups: Vec<String> = (0..ENDING).map(|number| format!("group-{number}")).collect();
    for (number, group) in groups.iter().enumerate() {
        resources.push(tcp(format!("ending-{number}")));
        policy.push_str(&format!(
            "@id(\"{group}\") permit (principal in Group::\"{group}\", action, resource == Tcp::\"ending-{number}\");"
        ));
    }
    let mut names = vec!["marketing"];
    names.extend(groups.iter().map(String::as_str));
    world.apply(&names, json!(resources), &policy).await;
    for group in &groups {
        let member = format!("/v1/groups/{group}/members/alice");
        let _: serde_json::Value = world.admin.put(&member).await.expect("in the group");
    }
    let hour = json!({"user": "alice", "resource": "timed", "reason": "test", "seconds": 3_600});
    let _: GrantDoc = world.admin.post("/v1/grants", &hour).await.expect("granted");
    let mut kept = opened(&gate, &laptop, "kept").await;
    let mut timed = opened(&gate, &laptop, "timed").await;
    let mut ending = Vec::new();
    for number in 0..ENDING {
        ending.push(opened(&gate, &laptop, &format!("ending-{number}")).await);
    }
    let [first, second, third, fourth] = &mut ending[..] else { panic!("four") };

    // The gateway's clock goes ahead: what has an end there ends, by the next look at all flows.
    gate.clock().set(2);
    let began = Instant::now();
    end(&world, 0, first).await;
    assert!(tokio::time::timeout(SWEEP, carried_until_cut(&mut timed)).await.is_ok(), "an hour is over there");
    assert!(began.elapsed() < SWEEP && carries(&mut kept).await, "what has no end goes on");
    // It goes back, behind the machine's: what ended stays so, and what ends now does at once.
    gate.clock().set(-3);
    end(&world, 1, second).await;
    assert!(gate.door().tunnel(&laptop, "timed").await.is_err(), "an hour that was over is not there again");
    // So does the controller's.
    controllers.set(2);
    end(&world, 2, third).await;
    controllers.set(-3);
    end(&world, 3, fourth).await;
    assert!(carries(&mut kept).await);

    // Without the controller the lease is as long as it is, wherever the clock goes.
    let before = Instant::now();
    let dir = world.kill().await;
    gate.clock().set(5);
    assert!(carries(&mut kept).await);
    gate.clock().set(-5);
    assert!(tokio::time::timeout(PATIENCE, carried_until_cut(&mut kept)).await.is_ok(), "it ends");
    let after = before.elapsed();
    assert!(after + LEASE / 6 > LEASE && after < LEASE + Duration::from_secs(1), "cut after {after:?}");

    // Both come back to each other with clocks that are hours apart. The gateway denies whom it may: to it everything that
    // is issued now has ended. Started anew by the right time it serves again.
    controllers.set(2);
    let world = World::start_role_by(controllers.command(), dir, &arguments).await;
    gate.clock().set(0);
    roles::attached(&world, 1).await;
    assert!(gate.door().tunnel(&laptop, "kept").await.is_err(), "its time doesn't go back while it runs");
    gate.kill().await;
    gate.restart().await;
    let mut kept = opened(&gate, &laptop, "kept").await;
    assert!(carries(&mut kept).await);
    for name in ["ending-0", "ending-1", "ending-2", "ending-3"] {
        assert!(gate.door().tunnel(&laptop, name).await.is_err(), "{name} is open again");
    }
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

/// Uses a tunnel on and on until it is cut.
async fn carried_until_cut(tunnel: &mut Tunnel) {
    while carries(tunnel).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
