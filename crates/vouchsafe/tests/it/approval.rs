//! Policies that it takes two people to change, with two people on two devices.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vouchsafe_wire::api::AuditQuery;

use crate::world::{PATIENCE, TestDevice, World};

const HELD: &str = r#"
@id("payroll-stays-shut")
@approval("two-person")
forbid (principal, action, resource == Http::"payroll") unless { principal in Group::"payroll" };
"#;

async fn cli(world: &World, device: &TestDevice, arguments: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = world.cli(&device.dir, &[arguments, &["--json"]].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

/// A directory with the policy in force and one file more.
async fn draft(world: &World, name: &str, text: &str) -> PathBuf {
    let dir = world.dir.path().join(name);
    std::fs::create_dir(&dir).expect("a directory");
    let policy: Value = world.admin.get("/v1/policy").await.expect("policy");
    for file in policy["files"].as_array().expect("files").iter().filter(|file| file["name"] != "more.cedar") {
        let path = dir.join(file["name"].as_str().expect("a name"));
        std::fs::write(path, file["text"].as_str().expect("a text")).expect("written");
    }
    std::fs::write(dir.join("more.cedar"), text).expect("written");
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

async fn live(world: &World) -> u64 {
    let policy: Value = world.admin.get("/v1/policy").await.expect("policy");
    policy["version"].as_u64().expect("a version")
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_protected_policy_is_changed_by_two_people_or_not_at_all() {
    let world = World::start().await;
    let ann = world.person("ann", &["administrators"]).await;
    let bob = world.person("bob", &["administrators"]).await;
    let hers = world.device(&ann, "hers").await;
    let his = world.device(&bob, "his").await;

    // To protect is a change as well.
    let held = draft(&world, "held", HELD).await;
    let (code, proposal, err) =
        cli(&world, &hers, &["policy", "publish", text(&held), "--reason", "keep it shut"]).await;
    assert_eq!(
        (code, &proposal["state"], &proposal["protected"]),
        (5, &json!("open"), &json!(["payroll-stays-shut"])),
        "{err}"
    );
    let id = proposal["proposal"].as_str().expect("an id").to_owned();
    assert_eq!(live(&world).await, 1);
    let (code, _, err) = cli(&world, &hers, &["policy", "approve", &id]).await;
    assert!(code != 0 && err.contains("your own proposal"), "{err}");
    let (code, _, err) = world.cli(&world.state_dir(), &["policy", "approve", &id]).await;
    assert!(code != 0 && err.contains("it takes two users"), "{err}");
    let (code, shown, err) = world.cli(&his.dir, &["policy", "pending", "show", &id]).await;
    assert!(
        code == 0 && shown.contains("+ @approval(\"two-person\")") && shown.contains("version 1 → the proposal"),
        "{shown}{err}"
    );
    let digest = proposal["digest"].as_str().expect("a digest");
    let (code, version, err) =
        cli(&world, &his, &["policy", "approve", &id, "--digest", digest, "--reason", "seen together"]).await;
    assert_eq!(
        (code, &version["version"], &version["by"], &version["approved_by"]),
        (0, &json!(2), &json!("ann"), &json!("bob")),
        "{err}"
    );

    // From then on nobody opens it alone, by whichever way.
    let open = draft(&world, "open", "// nothing is shut any more\n").await;
    let (code, _, err) = world.cli(&world.state_dir(), &["policy", "publish", text(&open)]).await;
    assert!(code == 1 && err.contains("it takes two users"), "{code} {err}");
    let (code, _, err) = cli(&world, &hers, &["apply", "-f", text(&open), "--yes"]).await;
    assert!(code == 1 && err.contains("takes two people"), "{code} {err}");
    let (code, back, err) = cli(&world, &hers, &["policy", "rollback", "1", "--yes"]).await;
    assert_eq!((code, &back["kind"]), (5, &json!("rollback")), "{err}");
    let (code, other, err) = cli(&world, &his, &["policy", "publish", text(&open)]).await;
    assert_eq!((code, &other["by"], live(&world).await), (5, &json!("bob"), 2), "{err}");
    let back = back["proposal"].as_str().expect("an id").to_owned();
    let (code, rejected, err) = cli(&world, &his, &["policy", "reject", &back, "--reason", "it opens payroll"]).await;
    assert_eq!((code, &rejected["state"]), (0, &json!("rejected")), "{err}");
    assert_eq!(cli(&world, &his, &["policy", "approve", &back]).await.0, 1, "it is decided");
    // What it says nothing about is still one's own to change; what waits is no change to that.
    let more =
        draft(&world, "more", &format!("{HELD}\n@id(\"b\") forbid (principal, action, resource == Http::\"b\");\n"))
            .await;
    let (code, version, err) = cli(&world, &hers, &["policy", "publish", text(&more)]).await;
    assert_eq!((code, &version["version"]), (0, &json!(3)), "{err}");
    let other = other["proposal"].as_str().expect("an id").to_owned();
    let (code, _, err) = cli(&world, &hers, &["policy", "approve", &other]).await;
    assert!(code == 1 && err.contains("isn't in force any more"), "{code} {err}");
    let (_, pending, _) = cli(&world, &hers, &["policy", "pending"]).await;
    assert_eq!((&pending[0]["proposal"], &pending[0]["stale"]), (&json!(other), &json!(true)));

    let wanted = [("policy.propose", "ann"), ("policy.approve", "bob"), ("policy.reject", "bob")];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
        let has = |(action, user): (&str, &str)| {
            records.iter().any(|one| one.action.as_deref() == Some(action) && one.user.as_deref() == Some(user))
        };
        if wanted.into_iter().all(has) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "who did what is on record: {records:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
