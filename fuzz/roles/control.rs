//! What must hold of foreign bytes in the controller: files of its log that a disk gives back, what
//! devices ask to have signed, and what people type. `cargo test -p vouchsafe-control --lib fuzzed`
//! replays the seeds.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a broken expectation is what is looked for; the drivers and the tests include this file"
)]

#[path = "../../crates/vouchsafe-control/src/log/block.rs"]
#[allow(clippy::duplicate_mod, dead_code, unused_imports, reason = "the log uses the rest")]
mod block;
#[path = "../../crates/vouchsafe-control/src/ca/csr.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the authority uses the rest")]
mod csr;
#[path = "../../crates/vouchsafe-control/src/identity/secret.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "sign-in uses the rest")]
mod secret;
#[path = "../../crates/vouchsafe-control/src/log/segment.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the log uses the rest")]
mod segment;
#[path = "../../crates/vouchsafe-control/src/log/summed.rs"]
#[allow(clippy::duplicate_mod, reason = "the log has it, too")]
mod summed;

use base64::Engine as _;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::evidence::Evidence;
use vouchsafe_tlog::note::{Note, VerifierKey};
use vouchsafe_tlog::tile::{Tile, entries, push_entry};
use vouchsafe_tlog::witness::AddCheckpoint;
use vouchsafe_wire::audit::{Record, scan};

/// A target: what it is called with.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit_scan", audit_scan),
    ("csr", csr),
    ("log_group", log_group),
    ("log_index", log_index),
    ("tlog_evidence", tlog_evidence),
    ("tlog_note", tlog_note),
    ("tlog_request", tlog_request),
    ("tlog_tile", tlog_tile),
    ("typed_code", typed_code),
];

/// The quick reader of records takes what the whole one takes, and finds the same in it.
pub fn audit_scan(bytes: &[u8]) {
    let (fast, whole) = (scan(bytes), Record::from_canonical(bytes));
    assert_eq!(fast.is_ok(), whole.is_ok());
    if let (Ok(fast), Ok(whole)) = (fast, whole) {
        assert_eq!((fast.seq, fast.time_us), (whole.seq, whole.time_us));
    }
}

/// A group of the log: it is read whole or not at all, and nothing behind it changes it.
pub fn log_group(bytes: &[u8]) {
    let group = summed(bytes);
    for next in [0, 1] {
        let Some(whole) = segment::read_group(&group, next) else { continue };
        assert!(whole.length <= group.len() && !whole.records.is_empty());
        let exactly = &group[..whole.length];
        assert!(segment::read_group(&exactly[..whole.length - 1], next).is_none());
        let again = segment::read_group(exactly, next).expect("reads back");
        assert_eq!(again.records.len(), whole.records.len());
        for (record, _) in &whole.records {
            assert!(Record::from_canonical(record).is_ok());
        }
    }
    let _ = segment::holds_later_group(&group, 0);
}

/// Makes the sums of a group and of its frames right, which no fuzzer would guess.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut group = bytes.to_vec();
    let mut put = |at: usize, over: std::ops::Range<usize>| {
        if let Some(sum) = group.get(over).map(crc32fast::hash) {
            group.iter_mut().skip(at).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    };
    put(20, 0..20);
    let mut at = segment::GROUP_HEADER_BYTES;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = at + 8 + u32::from_le_bytes(*length) as usize;
        put(at + 4, at + 8..end);
        at = end;
    }
    group
}

/// The index of a segment: written and read back it is the same, and asking it never fails.
pub fn log_index(bytes: &[u8]) {
    let _ = block::Index::from_file(bytes);
    let Ok(index) = serde_json::from_slice::<block::Index>(bytes) else { return };
    for held in &index.blocks {
        let _ = held.may_hold(0) | held.may_hold(u64::MAX);
    }
    let again = block::Index::from_file(&index.to_file());
    assert!(again.is_none_or(|again| again == index));
}

/// The key of the seeds.
fn seeds_key() -> VerifierKey {
    let text = include_str!("seeds/tlog_key.txt");
    VerifierKey::parse(text.trim_end()).expect("a key")
}

/// A signed note, and a checkpoint in it: one form each, and nobody's word is taken for the log's.
pub fn tlog_note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.to_string(), note.text());
        }
        if Checkpoint::verify(&note, &seeds_key()).is_ok() {
            // Other signatures may stand below it; the text is what was signed.
            assert!(include_str!("seeds/tlog_note/checkpoint").starts_with(note.text()));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = VerifierKey::parse(text)
    {
        assert_eq!(key.to_string(), text);
    }
}

/// A proof file: one form, and what it proves is the record of the seed.
pub fn tlog_evidence(bytes: &[u8]) {
    let Ok(evidence) = Evidence::parse(bytes) else { return };
    assert_eq!(evidence.to_string().as_bytes(), bytes);
    if let Ok((record, _)) = evidence.verify(&seeds_key()) {
        let seed = Evidence::parse(include_bytes!("seeds/tlog_evidence/proof")).expect("a proof");
        assert_eq!(Some(record), seed.record.as_deref(), "nothing else was signed");
    }
}

/// What a log asks of a witness: one form, and judging it never fails.
pub fn tlog_request(bytes: &[u8]) {
    let Ok(request) = AddCheckpoint::parse(bytes) else { return };
    assert_eq!(request.to_string().as_bytes(), bytes);
    let _ = request.judge(&[&seeds_key()], None);
}

/// Names of tiles, and bundles of entries: one form each.
pub fn tlog_tile(bytes: &[u8]) {
    if let Some(tile) = std::str::from_utf8(bytes).ok().and_then(Tile::parse) {
        assert_eq!(tile.to_string().as_bytes(), bytes);
        assert!((1..=256).contains(&tile.width));
    }
    if let Some(list) = entries(bytes) {
        let mut again = Vec::new();
        list.iter().for_each(|entry| push_entry(&mut again, entry).expect("not too long"));
        assert_eq!(again, bytes);
    }
}

/// A request to sign a device's key: only one whose own key signed it is taken.
pub fn csr(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = csr::ProvenKey::parse(text)
    {
        assert_eq!(key.sha256().len(), 64);
    }
    let body = base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    let _ = csr::ProvenKey::parse(&pem);
}

/// Codes that people type, and secrets that browsers and devices bring back.
pub fn typed_code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(code) = secret::UserCode::parse(text) {
        assert!(secret::UserCode::parse(&code.shown()).is_some_and(|again| again == code));
        assert_eq!(code.shown().len(), 9);
    }
    if let Some(held) = secret::Secret::presented(text) {
        assert_eq!(held.expose(), text);
        assert!(text.is_ascii() && !format!("{held:?}").contains(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_the_fuzzers_passes() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/roles/seeds");
        for (name, target) in TARGETS {
            let seeds =
                std::fs::read_dir(folder.join(name)).unwrap_or_else(|error| panic!("no seeds of {name}: {error}"));
            let seeds: Vec<_> = seeds.map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
            assert!(!seeds.is_empty(), "{name}");
            for bytes in seeds {
                target(&bytes);
                for at in 0..bytes.len().min(512) {
                    target(&bytes[..at]);
                    let mut changed = bytes.clone();
                    changed[at] ^= 0x20;
                    target(&changed);
                }
            }
        }
    }
}
