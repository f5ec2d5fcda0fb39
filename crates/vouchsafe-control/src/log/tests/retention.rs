use std::time::{Duration, SystemTime};

use super::*;
use crate::log::merkle::{MERKLE_DIRECTORY, Merkle};

/// A log of small segments, of which the first `old` were written long ago. A source of the first record is silent since.
fn aged(dir: &Path, old: usize) -> (Log, SystemTime) {
    let log = Log::open_with(dir, 0, 3_000).unwrap();
    take_in(&log, "gtw_silent", 1..=3);
    for first in (1..=191).step_by(10) {
        take_in(&log, GATEWAY, first..=first + 9);
    }
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for first in segment::list(dir).unwrap().into_iter().take(old) {
        let file = OpenOptions::new().write(true).open(segment::path(dir, first)).unwrap();
        file.set_modified(before - Duration::from_secs(1)).unwrap();
    }
    (log, before)
}

fn firsts(dir: &Path) -> Vec<u64> {
    segment::list(dir).unwrap()
}

fn begins_at(log: &Log, first: u64) {
    let kept = all(log);
    assert!(kept.iter().map(|(position, _)| *position).eq(first..203), "{first}");
    assert_eq!((log.first(), log.size()), (first, 203));
    let newest_first = found(log, &Filter::default(), Span::Before(u64::MAX), u32::MAX);
    assert!(newest_first.iter().rev().eq(kept.iter()));
    let counted = log.count(&Filter::default(), Division::default(), &|| false).unwrap();
    assert_eq!(counted.total.records, 203 - first);
    assert_eq!((log.last_seq("gtw_silent"), log.last_seq(GATEWAY)), (3, 200), "numbers are known for good");
}

#[test]
fn old_segments_go_and_everything_else_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (log, before) = aged(dir.path(), 4);
    let whole = firsts(dir.path());
    assert!(whole.len() > 8, "{whole:?}");
    begins_at(&log, 0);
    while log.index_next(&mut Maker::default()) {}
    assert_eq!(log.older_than(before, u64::MAX).unwrap(), whole[4]);
    assert_eq!(log.older_than(before, whole[3]).unwrap(), whole[3], "what isn't signed stays");
    assert_eq!(log.older_than(before - Duration::from_secs(2), u64::MAX).unwrap(), 0);
    // A record that is newer than its file keeps it: files can get the time of a copy.
    let early = SystemTime::UNIX_EPOCH;
    let file = OpenOptions::new().write(true).open(segment::path(dir.path(), whole[1])).unwrap();
    file.set_modified(early).unwrap();
    assert_eq!(log.older_than(early + Duration::from_micros(1_001), u64::MAX).unwrap(), 0);

    log.begin_at(whole[4]).unwrap();
    begins_at(&log, whole[4]);
    assert_eq!(firsts(dir.path()), whole, "whoever is reading reads to the end");
    assert_eq!(log.remove_old().unwrap(), 4);
    assert_eq!(firsts(dir.path()), whole[4..]);
    let left: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        left.iter().all(|name| name == "begin" || name.as_str() >= format!("{:020}", whole[4]).as_str()),
        "{left:?}"
    );
    // What is delivered once more is known still.
    assert_eq!(take_in(&log, GATEWAY, 1..=12), 200);
    assert_eq!(take_in(&log, "gtw_silent", 1..=3), 3);
    begins_at(&log, whole[4]);
    drop(log);
    for remove_indexes in [false, true] {
        if remove_indexes {
            whole[4..].iter().for_each(|first| drop(fs::remove_file(index_path(dir.path(), *first))));
        }
        let log = Log::open_with(dir.path(), 203, 3_000).unwrap();
        begins_at(&log, whole[4]);
        assert_eq!(take_in(&log, "gtw_silent", 1..=3), 3);
    }
}

#[test]
fn a_removal_that_was_cut_short_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (log, before) = aged(dir.path(), 4);
    let first = log.older_than(before, u64::MAX).unwrap();
    log.begin_at(first).unwrap();
    fs::remove_file(segment::path(dir.path(), 0)).unwrap();
    drop(log);
    begins_at(&Log::open_with(dir.path(), 203, 3_000).unwrap(), first);
    assert_eq!(firsts(dir.path())[0], first);
}

#[test]
fn a_damaged_beginning_is_no_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (log, before) = aged(dir.path(), 4);
    log.begin_at(log.older_than(before, u64::MAX).unwrap()).unwrap();
    drop(log);
    let path = dir.path().join("begin");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = Log::open_with(dir.path(), 203, 3_000).map(drop).unwrap_err();
    assert!(refused.to_string().contains("begin"), "{refused}");
    assert_eq!(firsts(dir.path())[0], 0, "nothing was removed on its word");
}

#[test]
fn hashes_of_what_is_gone_are_kept_and_made_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (log, before) = aged(dir.path(), 4);
    let merkle = Merkle::open(dir.path(), 0).unwrap();
    while merkle.grow(&log).unwrap() {}
    merkle.sync().unwrap();
    let roots: Vec<_> = (0..=203).map(|size| merkle.root(size).unwrap()).collect();
    let first = log.older_than(before, u64::MAX).unwrap();
    log.begin_at(first).unwrap();
    log.remove_old().unwrap();
    // Made again from what is there, it is the same tree.
    merkle.forget(first).unwrap();
    assert_eq!(merkle.size(), first);
    while merkle.grow(&log).unwrap() {}
    assert!((0..=203).zip(&roots).all(|(size, root)| merkle.root(size).unwrap() == *root));
    // Whatever is known of what was synced, these are taken as they are.
    drop(merkle);
    let merkle = Merkle::open(dir.path(), first).unwrap();
    while merkle.grow(&log).unwrap() {}
    assert_eq!(merkle.root(203).unwrap(), roots[203]);
    // Without them nothing is hashed.
    drop(merkle);
    fs::remove_dir_all(dir.path().join(MERKLE_DIRECTORY)).unwrap();
    let merkle = Merkle::open(dir.path(), first).unwrap();
    assert!(!merkle.grow(&log).unwrap());
    assert_eq!(merkle.size(), 0);
}
