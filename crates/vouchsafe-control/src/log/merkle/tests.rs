use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::spool::push_frame;

use super::*;

/// Takes in records of a source, by number; segments are small.
pub(in crate::log) fn take_in(log: &Log, source: &str, numbers: std::ops::RangeInclusive<u64>) {
    let first = *numbers.start();
    let mut frames = Vec::new();
    for seq in numbers {
        let mut record = Record::new(if seq.is_multiple_of(5) { Kind::FlowEnd } else { Kind::Decision }, 1_000 + seq);
        record.source = source.to_owned();
        record.seq = seq;
        record.id = Some(format!("dec_{seq:026}"));
        record.user = Some(format!("user-{}", seq % 7));
        push_frame(&mut frames, &record.to_canonical().unwrap());
    }
    log.take_in(source, first, &frames).unwrap();
}

pub(in crate::log) fn log(dir: &Path, rounds: u64) -> Log {
    let log = Log::open_with(dir, 0, 12_000).unwrap();
    for round in 0..rounds {
        take_in(&log, "gtw_a", round * 7 + 1..=round * 7 + 7);
        take_in(&log, "gtw_b", round + 1..=round + 1);
        take_in(&log, "controller", round * 2 + 1..=round * 2 + 2);
    }
    log
}

fn grown(dir: &Path, log: &Log, synced: u64) -> Merkle {
    let merkle = Merkle::open(dir, synced).unwrap();
    while merkle.grow(log).unwrap() {}
    assert_eq!(merkle.size(), log.size());
    merkle
}

/// The root, by the records themselves.
fn expected(log: &Log, size: u64) -> Hash {
    let found = log.read(&super::super::Filter::default(), super::super::Span::Between(0, size), u32::MAX, &|| false);
    let mut edge = Edge::default();
    found.unwrap().iter().for_each(|(_, record)| edge.push(Hash::of_leaf(record), &mut |_, _, _| {}));
    assert_eq!(edge.size(), size);
    edge.root()
}

#[test]
fn the_tree_is_that_of_the_records_however_it_came_about() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 60);
    assert!(super::super::segment::list(dir.path()).unwrap().len() > 3);
    let merkle = grown(dir.path(), &log, 0);
    let whole = expected(&log, 600);
    assert_eq!(merkle.root(600).unwrap(), whole);
    assert_eq!(merkle.root(300).unwrap(), expected(&log, 300));
    take_in(&log, "gtw_b", 61..=120);
    while merkle.grow(&log).unwrap() {}
    assert_eq!(merkle.root(660).unwrap(), expected(&log, 660));
    assert_eq!(merkle.root(600).unwrap(), whole);
    merkle.sync().unwrap();
    drop(merkle);
    // Begun in the middle of a group, from the start, and from where it was.
    for synced in [0, 5, 300, 660, 10_000] {
        assert_eq!(grown(dir.path(), &log, synced).root(660).unwrap(), expected(&log, 660), "{synced}");
    }
}

#[test]
fn what_a_crash_tore_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 60);
    let root = grown(dir.path(), &log, 0).root(600).unwrap();
    let path = |level: u8| dir.path().join(MERKLE_DIRECTORY).join(level.to_string());
    let whole = [fs::read(path(0)).unwrap(), fs::read(path(1)).unwrap()];
    assert_eq!((whole[0].len(), whole[1].len()), (600 * 32, 2 * 32));
    let torn = |level: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole[level].clone();
        change(&mut bytes);
        fs::write(path(u8::try_from(level).unwrap()), bytes).unwrap();
        assert_eq!(grown(dir.path(), &log, 500).root(600).unwrap(), root);
        for (level, expected) in whole.iter().enumerate() {
            assert_eq!(&fs::read(path(u8::try_from(level).unwrap())).unwrap(), expected, "the same as before");
        }
    };
    torn(0, &|bytes| bytes.truncate(550 * 32 + 7));
    torn(0, &|bytes| bytes[500 * 32..].fill(0));
    torn(0, &|bytes| bytes.extend([1; 50]));
    torn(0, &Vec::clear);
    torn(1, &Vec::clear);
    torn(1, &|bytes| bytes.truncate(33));
    fs::remove_file(path(1)).unwrap();
    torn(0, &Vec::clear);
}

#[test]
fn a_damaged_segment_is_not_hashed_and_what_is_hashed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 60);
    let first = super::super::segment::list(dir.path()).unwrap()[1];
    let path = super::super::segment::path(dir.path(), first);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&path, bad).unwrap();
    let merkle = Merkle::open(dir.path(), 0).unwrap();
    let refused = std::iter::repeat_with(|| merkle.grow(&log)).find_map(Result::err).unwrap();
    assert!(matches!(refused, LogError::Damaged { position, .. } if position == first), "{refused:?}");
    assert!(merkle.grow(&log).is_err());
    fs::write(&path, good).unwrap();
    while merkle.grow(&log).unwrap() {}
    assert_eq!(merkle.root(600).unwrap(), expected(&log, 600));
    merkle.forget(0).unwrap();
    assert_eq!(merkle.size(), 0);
    while merkle.grow(&log).unwrap() {}
    assert_eq!(merkle.root(600).unwrap(), expected(&log, 600));
}
