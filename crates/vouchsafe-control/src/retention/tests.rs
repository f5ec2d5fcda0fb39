use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use vouchsafe_runtime::clock;
use vouchsafe_tlog::evidence::Evidence;
use vouchsafe_tlog::note::VerifierKey;

use super::{Removed, round};
use crate::log::{Verification, Verified, verify};
use crate::testing::{Bench, open};

const PATIENCE: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(60 * 86_400);

async fn groups(bench: &Bench, names: std::ops::Range<u32>) {
    for number in names {
        bench.done("PUT", &format!("/v1/groups/g{number}"), Value::Null).await;
    }
    let size = bench.context().store.log().size();
    tokio::time::timeout(PATIENCE, bench.context().checkpoints.covered(size)).await.unwrap();
}

fn verified(dir: &tempfile::TempDir, key: &VerifierKey) -> Verified {
    let asked = Verification { dir: dir.path().join("state"), key: Some(key.clone()), ..Verification::default() };
    verify(&asked, &mut |_, _| {}).unwrap()
}

#[tokio::test]
async fn i7_old_records_go_by_a_signed_record_and_what_was_proven_stays_proven() {
    let mut bench = Bench::open().await;
    bench.context().store.log().turn_over_always();
    groups(&bench, 0..6).await;
    let key = bench.context().checkpoints.key();
    let proof = bench.done("GET", "/v1/audit/log/proof?record=2", Value::Null).await;
    let evidence = Evidence::parse(proof["proof"].as_str().unwrap().as_bytes()).unwrap();

    // Nothing is old yet.
    assert_eq!(round(bench.context(), 31, clock::now()).await.unwrap(), Removed::default());
    // A shorter time than is allowed isn't meant.
    assert_eq!(
        round(bench.context(), 1, clock::now() + Duration::from_secs(86_400 * 2)).await.unwrap(),
        Removed::default()
    );
    let before = bench.context().store.log().size();
    let removed = round(bench.context(), 31, clock::now() + LATER).await.unwrap();
    assert!(removed.records > 4 && removed.files == 0 && removed.records <= before, "{removed:?}");
    let page = bench.done("GET", "/v1/audit?kind=lifecycle&limit=1", Value::Null).await;
    let told = page["records"][0]["detail"].as_str().unwrap().to_owned();
    assert_eq!(told, format!("records before {} are removed: they are older than 31 days", removed.records));
    let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
    assert_eq!(state["removed"], removed.records);
    assert_eq!(bench.refused("GET", "/v1/audit/log/proof?record=2", Value::Null).await, (404, "not_found".into()));
    // The proof that was given is worth what it was.
    evidence.verify(&key).unwrap();

    for _ in 0..2 {
        let found = verified(&bench.dir, &key);
        assert!(found.holds() && found.removed <= removed.records, "{:?}", found.findings);
        let removed = round(bench.context(), 31, clock::now()).await.unwrap();
        assert_eq!(removed.records, 0);
    }
    let found = verified(&bench.dir, &key);
    assert_eq!((found.holds(), found.removed), (true, removed.records), "{:?}", found.findings);
    groups(&bench, 6..8).await;

    // The same after a new start.
    bench.tasks.shut_down(PATIENCE).await;
    drop(bench.controller);
    let (controller, tasks) = open(&bench.dir, "vouchsafe.localhost").await.unwrap();
    bench = Bench { controller, tasks, dir: bench.dir };
    groups(&bench, 8..9).await;
    let found = verified(&bench.dir, &key);
    assert_eq!((found.holds(), found.removed), (true, removed.records), "{:?}", found.findings);
    assert_eq!(bench.context().store.log().first(), removed.records);
}

#[tokio::test]
async fn what_a_stream_has_not_sent_on_waits_for_it_as_long_again() {
    let bench = Bench::open().await;
    bench.context().store.log().turn_over_always();
    groups(&bench, 0..3).await;
    let from = bench.context().store.log().size();
    // Nobody listens there.
    let stream = json!({"name": "siem", "kind": "otlp", "address": "http://127.0.0.1:9", "from": from});
    bench.done("POST", "/v1/audit/streams", stream).await;
    groups(&bench, 3..7).await;
    let now = clock::now() + LATER;
    assert_eq!(round(bench.context(), 31, now).await.unwrap(), Removed { files: 0, records: from });
    assert_eq!(round(bench.context(), 31, now).await.unwrap().records, 0);
    let much_later = clock::now() + 2 * LATER;
    assert!(round(bench.context(), 31, much_later).await.unwrap().records > 3);
}

#[tokio::test]
async fn i7_what_goes_without_a_record_or_with_its_hashes_is_noticed() {
    let bench = Bench::open().await;
    bench.context().store.log().turn_over_always();
    groups(&bench, 0..6).await;
    let key = bench.context().checkpoints.key();
    let removed = round(bench.context(), 31, clock::now() + LATER).await.unwrap().records;
    round(bench.context(), 31, clock::now()).await.unwrap();
    groups(&bench, 6..9).await;
    bench.tasks.shut_down(PATIENCE).await;
    drop(bench.controller);
    let audit = bench.dir.path().join("state/audit");
    let path = |first: u64| audit.join(format!("{first:020}.log"));
    assert!(path(removed).exists());

    // Somebody hides one more record.
    let hidden = fs::read(path(removed)).unwrap();
    fs::remove_file(path(removed)).unwrap();
    let found = verified(&bench.dir, &key);
    assert!(found.findings.iter().any(|one| one.words.contains("no record says why")), "{:?}", found.findings);
    assert_eq!(found.findings[0].record, Some(removed));
    fs::write(path(removed), hidden).unwrap();
    assert!(verified(&bench.dir, &key).holds());

    // A hash of what is gone is all that is left of it.
    let hashes = audit.join("merkle/0");
    let whole = fs::read(&hashes).unwrap();
    for at in [0, 40, usize::try_from(removed).unwrap() * 32 - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        fs::write(&hashes, changed).unwrap();
        assert!(!verified(&bench.dir, &key).holds(), "{at}");
    }
    // Without them nothing is signed any more, and that it isn't is told; records are taken in.
    fs::write(&hashes, &whole[..64]).unwrap();
    assert!(!verified(&bench.dir, &key).holds());
    let (controller, tasks) = open(&bench.dir, "vouchsafe.localhost").await.unwrap();
    let bench = Bench { controller, tasks, dir: bench.dir };
    bench.done("PUT", "/v1/groups/late", Value::Null).await;
    let state = tokio::time::timeout(PATIENCE, async {
        loop {
            let state = bench.done("GET", "/v1/audit/log", Value::Null).await;
            if state["trouble"] != Value::Null {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let state = state.await.unwrap();
    assert!(state["trouble"]["hint"].as_str().unwrap().contains("audit/merkle"), "{state}");
    assert_eq!(bench.refused("POST", "/v1/audit/log/fork", json!({"reason": "x"})).await, (409, "no_fork".into()));
    // While it isn't clear what the log was, nothing of it goes.
    assert_eq!(round(bench.context(), 31, clock::now() + LATER).await.unwrap(), Removed::default());
}
