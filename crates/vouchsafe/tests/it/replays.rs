//! Issue 5, 4: what was really done, decided again under a draft: `policy simulate` and what `policy diff` says of it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use vouchsafe_demo::postgres::PsqlTls;
use vouchsafe_wire::api::AuditQuery;

use crate::database::{Connect, cluster};
use crate::peers::{curl, curl_as};
use crate::world::{PATIENCE, Recorder, World};

const POLICY: &str = r#"
@id("staff-wiki")
permit (principal in Group::"staff", action, resource == Http::"wiki");

@id("staff-ledger")
permit (principal in Group::"staff", action == Action::"net:connect", resource == Tcp::"ledger");
"#;

/// The policy in force as files of a draft, with a change.
async fn draft(world: &World, name: &str, from: &str, to: &str) -> PathBuf {
    let current: Value = world.admin.get("/v1/policy").await.expect("policy");
    let dir = world.state_dir().parent().expect("a parent").join(name);
    fs::create_dir_all(&dir).expect("made");
    for file in current["files"].as_array().expect("files") {
        let (name, text) = (file["name"].as_str().expect("a name"), file["text"].as_str().expect("a text"));
        if name == "test.cedar" {
            assert!(text.contains(from), "{from}");
        }
        fs::write(dir.join(name), text.replace(from, to)).expect("written");
    }
    dir
}

/// Waits until so many decisions of that outcome are on record.
async fn recorded(world: &World, outcome: &str, count: usize) {
    let query = AuditQuery { kind: Some("decision".into()), outcome: Some(outcome.into()), ..AuditQuery::default() };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = world.audit(query.clone()).await;
        assert!(found.len() <= count && tokio::time::Instant::now() < deadline, "{count} {outcome}: {found:?}");
        if found.len() == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_takes_a_right_away_is_named_with_exactly_whose_and_how_often_it_was_used() {
    let world = World::start().await;
    let (wiki, ledger) = (Recorder::start(&world.tasks).await, cluster("ledger").await);
    let resources = json!([
        {"name": "wiki", "kind": "http", "upstream": format!("http://{}", wiki.address)},
        {"name": "ledger", "kind": "tcp", "upstream": ledger.address().to_string(), "port": 5432},
    ]);
    world.apply(&["staff"], resources, POLICY).await;
    let (alice, bob) = (world.person("alice", &["staff"]).await, world.person("bob", &["staff"]).await);
    let (alice, bob) = (world.device(&alice, "alice-laptop").await, world.device(&bob, "bob-laptop").await);
    let page = |path: &str| format!("http://{}:{}{path}", world.host("wiki"), world.port);
    for path in ["/", "/a", "/b"] {
        assert_eq!(curl_as(&world, &alice, &[&page(path)]).await.status, 200, "{}", world.log());
    }
    assert_eq!(curl_as(&world, &bob, &[&page("/")]).await.status, 200);
    assert_eq!(curl(&world, &[world.url("wiki", "/").as_str()]).await.status, 401, "nobody");
    for (device, times) in [(&alice, 2), (&bob, 1)] {
        // A name for the port is left to the resource, whose own is on record then.
        let connect = Connect::start(device, "ledger").await;
        for _ in 0..times {
            let answer = ledger.psql(connect.address, PsqlTls::Off, "SELECT 1").await.expect("psql");
            assert!(answer.success, "{answer:?}");
        }
    }
    recorded(&world, "allow", 7).await;
    recorded(&world, "deny", 1).await;
    let state = world.state_dir();

    // Alice loses the ledger, and nobody anything else.
    let unless = "resource == Tcp::\"ledger\") unless { principal == User::\"alice\" };";
    let taken = draft(&world, "taken", "resource == Tcp::\"ledger\");", unless).await.display().to_string();
    let (code, out, err) = world.cli(&state, &["policy", "simulate", &taken, "--json"]).await;
    assert_eq!(code, 1, "{out}{err}");
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["lost"], json!({"requests": 2, "people": 1}), "{found}");
    assert_eq!((&found["allowed"], &found["gained"]["requests"]), (&json!(7), &json!(0)));
    assert_eq!((&found["records"], &found["replayed"], &found["whole"]), (&json!(8), &json!(7), &json!(true)));
    let skipped = [json!({"why": "no_policy_asked", "words": "no policy was asked", "count": 1})];
    assert_eq!(found["skipped"].as_array().expect("a list"), &skipped);
    let changes = found["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 1, "{found}");
    let change = &changes[0];
    assert_eq!(change["people"], json!([{"user": "alice", "count": 2}]));
    assert_eq!((&change["resource"], &change["action"]), (&json!("ledger"), &json!("net:connect")));
    assert_eq!(change["device"], json!({"grade": "software", "owner": "own"}));
    assert_eq!(change["before"], json!({"reason": "permitted", "policies": ["staff-ledger"]}));
    assert_eq!(change["after"], json!({"reason": "condition_failed", "policies": ["staff-ledger"]}));
    let example = &change["examples"][0];
    assert_eq!(
        (&example["device"], &example["detail"]),
        (&json!("alice-laptop"), &json!({"kind": "net", "port": 5432}))
    );
    let quoted = world.decision(example["id"].as_str().expect("an id")).await;
    assert_eq!((quoted.user.as_deref(), quoted.outcome.as_deref()), (Some("alice"), Some("allow")));
    let (code, out, err) = world.cli(&state, &["policy", "simulate", "-f", &taken]).await;
    assert_eq!(code, 1, "{out}{err}");
    for part in [
        "alice: net:connect on ledger, on her own device of grade software",
        "- 2 requests allowed by staff-ledger, would be denied (condition_failed by staff-ledger)",
        "1 request not decided again: no policy was asked",
        "✗ 2 of 7 recorded accesses would be denied, of 1 person",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    // The comparison of policies says the same of the log.
    let (code, out, err) = world.cli(&state, &["policy", "diff", "-f", &taken, "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let difference: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(difference["recorded"]["lost"], json!({"requests": 2, "people": 1}), "{difference}");
    assert_eq!(difference["changes"].as_array().map(Vec::len), Some(1), "{difference}");
    let (_, out, _) = world.cli(&state, &["policy", "diff", "-f", &taken, "--days", "7"]).await;
    assert!(out.contains("of 7 requests recorded in 7 d it would have denied 2 of 1 person"), "{out}");
    let (_, out, _) = world.cli(&state, &["policy", "diff", "-f", &taken, "--days", "0", "--json"]).await;
    assert!(!out.contains("\"recorded\""), "{out}");

    // What nobody did may be taken away, and what is in force takes nothing away.
    let unused = "action in [Action::\"http:read\"], resource == Http::\"wiki\");";
    let unused = draft(&world, "unused", "action, resource == Http::\"wiki\");", unused).await.display().to_string();
    for arguments in [&["policy", "simulate", unused.as_str()][..], &["policy", "simulate"]] {
        let (code, out, err) = world.cli(&state, arguments).await;
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("✓ nobody of 7 recorded accesses would be denied"), "{out}");
    }
    // Records from before a time, a mistake in a draft, and that it was asked is on record.
    let (code, out, _) = world.cli(&state, &["policy", "simulate", &taken, "--until", "1h"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("no access was recorded that could be decided again"), "{out}");
    fs::write(PathBuf::from(&taken).join("test.cedar"), "permit (principal, action, resource) when { context.nope };")
        .expect("written");
    let (code, _, err) = world.cli(&state, &["policy", "simulate", &taken]).await;
    assert!(code == 1 && err.contains("test.cedar"), "{err}");
    let reads = world.audit(AuditQuery { kind: Some("audit_read".into()), ..AuditQuery::default() }).await;
    assert!(reads.iter().any(|record| record.action.as_deref() == Some("audit.simulate")), "{reads:?}");
}
