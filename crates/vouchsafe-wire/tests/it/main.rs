//! Replays what the fuzzers have found worth keeping, and checks the control channel's protocol as a model.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "all of this is test code: a broken expectation ends the test"
)]

mod protocol;
#[path = "../../../../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::Path;

/// Every target runs over its seeds, over each beginning of them, and over each with a byte changed.
#[test]
fn every_seed_of_the_fuzzers_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let mut replayed = BTreeSet::new();
    for (name, target) in targets::TARGETS {
        let seeds = std::fs::read_dir(folder.join(name)).unwrap_or_else(|error| panic!("no seeds of {name}: {error}"));
        for seed in seeds {
            let bytes = std::fs::read(seed.expect("readable").path()).expect("a file");
            target(&bytes);
            for at in 0..bytes.len().min(256) {
                target(&bytes[..at]);
                for change in [1, 0x20, 0x80] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    target(&changed);
                }
            }
            replayed.insert((*name).to_owned());
        }
    }
    let folders: BTreeSet<String> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(replayed, folders, "each folder of seeds has its target, and each target its seeds");
    let drivers = std::fs::read_dir(folder.join("../fuzz_targets")).expect("a folder").count();
    assert_eq!(drivers, targets::TARGETS.len());
}
