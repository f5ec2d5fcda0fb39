use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::evidence::Evidence;
use vouchsafe_tlog::hash::Hash;
use vouchsafe_tlog::note::{Note, VerifierKey};
use vouchsafe_tlog::tile::entries;

use crate::controller::{Controller, OpenOptions};
use crate::log::{Verification, verify};
use crate::testing::Bench;

const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that keeps its checkpoints in one more place.
async fn open(dir: TempDir) -> Bench {
    let tasks = TaskGroup::new();
    let options = OpenOptions {
        dir: dir.path().join("state"),
        domain: BaseDomain::parse("vouchsafe.localhost").unwrap(),
        port: 8443,
        acme: None,
        checkpoint_copy: Some(dir.path().join("copy")),
        keep_days: None,
        witnesses: super::Witnesses::default(),
    };
    let controller = Controller::open(options, tasks.clone()).await.unwrap();
    Bench { controller, tasks, dir }
}

/// Stops it, and gives back what it lay on.
async fn stop(bench: Bench) -> TempDir {
    let Bench { controller, tasks, dir } = bench;
    tasks.shut_down(PATIENCE).await;
    drop(controller);
    // Connections to the database close behind our back, and the last takes files away with it that would be copied. Two
    // that close at the same moment may leave them: that nobody has them open is what counts.
    let database = dir.path().join("state").join("vouchsafe.db");
    let is_ours = |to: PathBuf| to.to_string_lossy().starts_with(&*database.to_string_lossy());
    let held = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|one| fs::read_link(one.path()).ok()).any(is_ours)
    };
    let closed = async {
        while held() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    dir
}

async fn covered(bench: &Bench) -> Value {
    let size = bench.context().store.log().size();
    tokio::time::timeout(PATIENCE, bench.context().checkpoints.covered(size)).await.unwrap();
    bench.done("GET", "/v1/audit/log", Value::Null).await
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_all(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

async fn add_group(bench: &Bench, name: &str) {
    bench.done("PUT", &format!("/v1/groups/{name}"), Value::Null).await;
}

fn verified(dir: &TempDir, key: &str) -> crate::log::Verified {
    let key = Some(VerifierKey::parse(key).unwrap());
    verify(
        &Verification { dir: dir.path().join("state"), key, checkpoints: Vec::new(), ..Verification::default() },
        &mut |_, _| {},
    )
    .unwrap()
}

#[tokio::test]
async fn what_is_recorded_is_signed_and_served_and_proven() {
    let bench = open(tempfile::tempdir().unwrap()).await;
    add_group(&bench, "ops").await;
    let state = covered(&bench).await;
    assert_eq!(state["origin"], "api.vouchsafe.localhost/v1/audit/log");
    assert_eq!((&state["records"], &state["records"]), (&state["hashed"], &state["signed"]));
    assert_eq!(state["trouble"], Value::Null);
    let key = VerifierKey::parse(state["key"].as_str().unwrap()).unwrap();
    let published = bench.context().checkpoints.published().unwrap();
    let copy = fs::read(bench.dir.path().join("copy")).unwrap();
    assert_eq!(copy, published.note.to_string().as_bytes());
    let checkpoint = Checkpoint::verify(&Note::parse(&copy).unwrap(), &key).unwrap();
    let size = checkpoint.size;

    let page = bench.done("GET", "/v1/audit?kind=admin&limit=1", Value::Null).await;
    assert_eq!(page["records"][0]["target"], "group/ops");
    let answer = bench.done("GET", &format!("/v1/audit/log/proof?record={}", size - 1), Value::Null).await;
    let evidence = Evidence::parse(answer["proof"].as_str().unwrap().as_bytes()).unwrap();
    let (record, of) = evidence.verify(&key).unwrap();
    assert_eq!((evidence.index, answer["position"].as_u64()), (size - 1, Some(size - 1)));
    assert!(of.size >= size && String::from_utf8_lossy(record).contains("group/ops"));
    for wrong in ["dec_00000000000000000000000000", "99999999", ""] {
        let refused = bench.refused("GET", &format!("/v1/audit/log/proof?record={wrong}"), Value::Null).await;
        assert_eq!(refused, (404, "not_found".into()), "{wrong}");
    }

    let (bundle, hashes) =
        (tile(&bench, &format!("entries/000.p/{size}")).await, tile(&bench, &format!("0/000.p/{size}")).await);
    let list = entries(&bundle).unwrap();
    let (leaves, _) = hashes.as_chunks::<32>();
    assert!(list.iter().map(|entry| Hash::of_leaf(entry).0).eq(leaves.iter().copied()));
    for wrong in ["entries/000", "0/000", "1/000.p/1", "0/001.p/1", "x/000", "0/000.p/0"] {
        let refused = bench.refused("GET", &format!("/v1/audit/log/tile/{wrong}"), Value::Null).await;
        assert_eq!(refused, (404, "not_found".into()), "{wrong}");
    }
    let reads = bench.done("GET", "/v1/audit?kind=audit_read&limit=100", Value::Null).await;
    let verbs: Vec<&str> =
        reads["records"].as_array().unwrap().iter().filter_map(|one| one["action"].as_str()).collect();
    assert!(verbs.contains(&"audit.entries") && verbs.contains(&"audit.prove"), "{verbs:?}");
    assert_eq!(bench.refused("POST", "/v1/audit/log/fork", json!({"reason":"x"})).await, (409, "no_fork".into()));
    let dir = stop(bench).await;
    let found = verified(&dir, &key.to_string());
    assert!(found.holds(), "{:?}", found.findings);
    assert_eq!(found.records, found.covered, "the last records are signed at the end: {:?}", found.notes);
}

async fn tile(bench: &Bench, name: &str) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let request = http::Request::get(format!("/v1/audit/log/tile/{name}"))
        .extension(crate::api::LocalOwner { uid: 0 })
        .body(axum::body::Body::empty())
        .unwrap();
    let response = crate::api::routes(bench.context().clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200, "{name}");
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test]
async fn a249_a_restored_backup_signs_nothing_until_a_new_log_is_begun() {
    let bench = open(tempfile::tempdir().unwrap()).await;
    add_group(&bench, "before").await;
    covered(&bench).await;
    let dir = stop(bench).await;
    copy_all(&dir.path().join("state"), &dir.path().join("backup"));
    let bench = open(dir).await;
    add_group(&bench, "lost").await;
    let state = covered(&bench).await;
    let (old_key, lost) = (state["key"].as_str().unwrap().to_owned(), state["signed"].as_u64().unwrap());
    let dir = stop(bench).await;
    let signed_before = fs::read(dir.path().join("copy")).unwrap();

    fs::remove_dir_all(dir.path().join("state")).unwrap();
    copy_all(&dir.path().join("backup"), &dir.path().join("state"));
    let bench = open(dir).await;
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    let words = state["trouble"]["words"].as_str().unwrap();
    assert!(words.contains("knows") && words.contains("copy"), "{words}");
    assert!(state["signed"].as_u64().unwrap() < lost);
    // Records are taken all the same, beyond what was signed once; and still nothing is.
    for number in 0..20 {
        add_group(&bench, &format!("later-{number}")).await;
    }
    assert!(bench.context().store.log().size() > lost);
    super::publish::round(bench.context()).await;
    assert_eq!(bench.done("GET", "/v1/audit/log", Value::Null).await["signed"], state["signed"]);
    assert_eq!(fs::read(bench.dir.path().join("copy")).unwrap(), signed_before);
    // A start doesn't forget it, though the log is the longer one by now.
    let bench = open(stop(bench).await).await;
    super::publish::round(bench.context()).await;
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    assert!(state["trouble"]["words"].as_str().unwrap().contains("are not those"), "{state}");
    assert_eq!(fs::read(bench.dir.path().join("copy")).unwrap(), signed_before);

    assert_eq!(bench.refused("POST", "/v1/audit/log/fork", json!({"reason":" "})).await.0, 400);
    bench.done("POST", "/v1/audit/log/fork", json!({"reason":"the disk was lost"})).await;
    let state = covered(&bench).await;
    assert_eq!(state["origin"], "api.vouchsafe.localhost/v1/audit/log/2");
    assert_eq!(state["trouble"], Value::Null);
    let key = state["key"].as_str().unwrap().to_owned();
    assert_ne!(key, old_key);
    let forks = bench.done("GET", "/v1/audit?kind=admin&limit=1", Value::Null).await;
    assert_eq!(forks["records"][0]["action"], "audit.fork");
    let detail = forks["records"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("the disk was lost") && detail.contains(&old_key) && detail.contains(&key), "{detail}");
    let dir = stop(bench).await;
    let found = verified(&dir, &key);
    assert!(found.holds(), "{:?}", found.findings);
    // By the old key nothing of it is good any more.
    assert!(!verified(&dir, &old_key).holds());

    // The same backup once more: the copy knows of the log that was begun since.
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    copy_all(&dir.path().join("backup"), &dir.path().join("state"));
    let bench = open(dir).await;
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    assert!(state["trouble"]["words"].as_str().unwrap().contains("copy"), "{state}");
    let state = bench.done("POST", "/v1/audit/log/fork", json!({"reason":"once more"})).await;
    assert_eq!(state["origin"], "api.vouchsafe.localhost/v1/audit/log/3");
    stop(bench).await;
}

#[tokio::test]
async fn hashes_that_were_changed_are_made_again_and_a_changed_log_is_not_signed() {
    let bench = open(tempfile::tempdir().unwrap()).await;
    add_group(&bench, "one").await;
    covered(&bench).await;
    let dir = stop(bench).await;
    let level = dir.path().join("state/audit/merkle/0");
    let good = fs::read(&level).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 1;
    fs::write(&level, &bad).unwrap();
    let bench = open(dir).await;
    let key = covered(&bench).await["key"].as_str().unwrap().to_owned();
    let dir = stop(bench).await;
    assert!(fs::read(&level).unwrap().starts_with(&good));
    assert!(verified(&dir, &key).holds());

    // A place that holds something else stops it, too.
    fs::write(dir.path().join("copy"), "no checkpoint\n").unwrap();
    let bench = open(dir).await;
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    assert!(state["trouble"]["words"].as_str().unwrap().contains("is no checkpoint"), "{state}");
    let dir = stop(bench).await;
    fs::remove_file(dir.path().join("copy")).unwrap();

    // A place that can't be written delays, and nothing is published meanwhile.
    fs::create_dir(dir.path().join("copy.new")).unwrap();
    let bench = open(dir).await;
    add_group(&bench, "two").await;
    super::publish::round(bench.context()).await;
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    assert!(state["trouble"]["words"].as_str().unwrap().contains("at present"), "{state}");
    assert!(state["signed"].as_u64() < state["records"].as_u64());
    fs::remove_dir(bench.dir.path().join("copy.new")).unwrap();
    super::publish::round(bench.context()).await;
    assert_eq!(bench.done("GET", "/v1/audit/log", Value::Null).await["trouble"], Value::Null);
    stop(bench).await;
}
