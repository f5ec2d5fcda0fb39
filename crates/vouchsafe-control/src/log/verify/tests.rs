//! The tampering suite: whatever is changed in a stored log is found, and found where it is.

use std::ops::Range;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use vouchsafe_tlog::note::{KeyKind, NoteSigner};
use vouchsafe_wire::spool::push_frame;

use super::super::merkle::tests::{log, take_in};
use super::super::{Log, Merkle, keep_milestone};
use super::*;

const ORIGIN: &str = "api.corp.example/v1/audit/log";
const RECORDS: u64 = 300;

/// A log with its tree, checkpoints and key.
struct Stored {
    dir: tempfile::TempDir,
    signer: NoteSigner,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let audit = dir.path().join("audit");
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let stored = Self { dir, signer: NoteSigner::from_pkcs8(ORIGIN, KeyKind::Ed25519, pkcs8.as_ref()).unwrap() };
        let log = log(&audit, RECORDS / 10);
        assert_eq!(log.size(), RECORDS);
        stored.hash_and_sign(&log, &stored.signer, &[100, 200]);
        assert!(segment::list(&audit).unwrap().len() > 3);
        // Room that is reserved behind the end is nothing that anybody wrote.
        stored.cut_room();
        stored
    }

    fn hash_and_sign(&self, log: &Log, signer: &NoteSigner, milestones: &[u64]) {
        let merkle = Merkle::open(&self.audit(), 0).unwrap();
        while merkle.grow(log).unwrap() {}
        let sign = |size| {
            let root = merkle.root(size).unwrap();
            let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root, extension: String::new() };
            checkpoint.sign(signer).to_string()
        };
        for size in milestones {
            keep_milestone(&self.audit().join(MERKLE_DIRECTORY), *size, sign(*size).as_bytes()).unwrap();
        }
        fs::write(checkpoint_path(&self.audit()), sign(log.size())).unwrap();
        fs::write(checkpoint_path(&self.audit()).with_file_name("key"), format!("{}\n", signer.verifier())).unwrap();
    }

    fn cut_room(&self) {
        let path = segment::path(&self.audit(), *segment::list(&self.audit()).unwrap().last().unwrap());
        let bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        fs::write(&path, &bytes[..end]).unwrap();
    }

    fn audit(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn verify(&self) -> Verified {
        self.verify_with(&self.signer, Vec::new())
    }

    fn verify_with(&self, signer: &NoteSigner, checkpoints: Vec<(String, Vec<u8>)>) -> Verified {
        let dir = self.dir.path().to_owned();
        let asked = Verification { dir, key: Some(signer.verifier().clone()), checkpoints, ..Verification::default() };
        verify(&asked, &mut |_, _| {}).unwrap()
    }

    fn segments(&self) -> Vec<Segment> {
        let firsts = segment::list(&self.audit()).unwrap();
        firsts.iter().map(|first| Segment::read(segment::path(&self.audit(), *first), *first)).collect()
    }
}

/// A segment, taken apart.
#[derive(Clone)]
struct Segment {
    path: PathBuf,
    groups: Vec<Vec<Vec<u8>>>,
    first: u64,
}

impl Segment {
    fn read(path: PathBuf, first: u64) -> Self {
        let bytes = fs::read(&path).unwrap();
        let (mut at, mut position, mut groups) = (0, first, Vec::new());
        while let Some(group) = bytes.get(at..).and_then(Group::read) {
            let length = GROUP_HEADER_BYTES + group.bytes as usize;
            let payloads = segment::payloads(&bytes[at..at + length], position).unwrap();
            groups.push(payloads.into_iter().map(<[u8]>::to_vec).collect());
            at += length;
            position += u64::from(group.count);
        }
        assert_eq!(at, bytes.len());
        Self { path, groups, first }
    }

    /// The file with good sums, as somebody writes it who knows the format.
    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut first) = (Vec::new(), self.first);
        for group in &self.groups {
            let mut frames = Vec::new();
            group.iter().for_each(|payload| push_frame(&mut frames, payload));
            let count = u32::try_from(group.len()).unwrap();
            bytes.extend(Group { bytes: u32::try_from(frames.len()).unwrap(), first, count }.header());
            bytes.extend(frames);
            first += u64::from(count);
        }
        bytes
    }

    fn write(&self) {
        fs::write(&self.path, self.bytes()).unwrap();
    }

    /// Where in the file each part stands, and which record it is about: heads of commits are about their first.
    fn places(&self) -> Vec<(Range<usize>, u64)> {
        let (mut at, mut position, mut places) = (0, self.first, Vec::new());
        for group in &self.groups {
            places.push((at..at + GROUP_HEADER_BYTES, position));
            at += GROUP_HEADER_BYTES;
            for payload in group {
                places.push((at..at + HEADER_BYTES + payload.len(), position));
                at += HEADER_BYTES + payload.len();
                position += 1;
            }
        }
        places
    }
}

/// A row of numbers that looks like chance and is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below as u64).unwrap()
    }
}

/// Changes one thing, and says what, and the record that differs first if it is about one.
fn tamper(stored: &Stored, segments: &[Segment], dice: &mut Dice) -> (String, Option<u64>) {
    let segment = segments[dice.roll(segments.len())].clone();
    let mut changed = segment.clone();
    let group = dice.roll(segment.groups.len());
    let record = dice.roll(segment.groups[group].len());
    let before: usize = segment.groups[..group].iter().map(Vec::len).sum();
    let position = segment.first + (before + record) as u64;
    match dice.roll(10) {
        0..=2 => {
            let mut bytes = segment.bytes();
            let at = dice.roll(bytes.len());
            bytes[at] ^= 1 << dice.roll(8);
            fs::write(&segment.path, bytes).unwrap();
            let places = segment.places();
            let (_, record) = places.iter().find(|(range, _)| range.contains(&at)).unwrap();
            (format!("a bit of byte {at} of {}", segment.path.display()), Some(*record))
        }
        3 => {
            let payload = &mut changed.groups[group][record];
            let digits: Vec<usize> = (0..payload.len()).filter(|at| payload[*at] == b'1').collect();
            let at = digits[dice.roll(digits.len())];
            payload[at] = b'2';
            changed.write();
            (format!("a digit of record {position}, with new sums"), Some(position))
        }
        4 => {
            changed.groups[group].remove(record);
            changed.groups.retain(|group| !group.is_empty());
            changed.write();
            (format!("record {position} removed, with new sums"), Some(position))
        }
        5 => {
            let again = changed.groups[group][record].clone();
            changed.groups[group].insert(record + 1, again);
            changed.write();
            (format!("record {position} repeated, with new sums"), Some(position + 1))
        }
        6 => {
            let other = (record + 1) % changed.groups[group].len();
            if other == record {
                // A commit of one record: it changes places with the commit behind or before it.
                let (low, high) = if group == 0 { (0, 1) } else { (group - 1, group) };
                changed.groups.swap(low, high);
                changed.write();
                let before: usize = segment.groups[..low].iter().map(Vec::len).sum();
                return ("two commits swapped, with new sums".to_owned(), Some(segment.first + before as u64));
            }
            changed.groups[group].swap(record, other);
            changed.write();
            let first = segment.first + (before + record.min(other)) as u64;
            (format!("records {position} and its neighbour swapped, with new sums"), Some(first))
        }
        7 => {
            let last = segments.last().unwrap();
            let bytes = last.bytes();
            let keep = dice.roll(bytes.len());
            fs::write(&last.path, &bytes[..keep]).unwrap();
            let places = last.places();
            let (_, record) = places.iter().find(|(range, _)| range.contains(&keep)).unwrap();
            (format!("the end cut off at byte {keep}"), Some(*record))
        }
        8 => {
            let level = dice.roll(2);
            let path = stored.audit().join(MERKLE_DIRECTORY).join(level.to_string());
            let mut bytes = fs::read(&path).unwrap();
            let at = dice.roll(bytes.len());
            if dice.roll(5) == 0 {
                bytes.truncate(at);
                fs::write(&path, bytes).unwrap();
                return (format!("hashes of level {level} cut off at byte {at}"), None);
            }
            bytes[at] ^= 1 << dice.roll(8);
            fs::write(&path, bytes).unwrap();
            let first = (at / HASH_BYTES) as u64 * 256_u64.pow(u32::try_from(level).unwrap());
            (format!("a bit of byte {at} of level {level}"), Some(first))
        }
        _ => {
            let mut paths = milestones(&stored.audit().join(MERKLE_DIRECTORY));
            paths.push(checkpoint_path(&stored.audit()));
            let path = &paths[dice.roll(paths.len())];
            let mut bytes = fs::read(path).unwrap();
            let at = dice.roll(bytes.len());
            bytes[at] ^= 1 << dice.roll(8);
            fs::write(path, bytes).unwrap();
            (format!("a bit of byte {at} of {}", path.display()), None)
        }
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found
}

#[test]
fn i7_each_of_a_thousand_changes_is_found_and_located() {
    let stored = Stored::new();
    let good = stored.verify();
    assert!(good.holds(), "{:?}", good.findings);
    assert_eq!((good.records, good.covered, good.checkpoints), (RECORDS, RECORDS, 3));
    assert!(good.notes.is_empty(), "{:?}", good.notes);
    let segments = stored.segments();
    let before = files(&stored.audit());
    let mut dice = Dice(20_261_127);
    for number in 0..1_000 {
        let (what, record) = tamper(&stored, &segments, &mut dice);
        let found = stored.verify();
        assert!(!found.holds(), "{number}: {what} was not noticed");
        if let Some(record) = record {
            let located = found.findings.first().and_then(|finding| finding.record);
            assert_eq!(located, Some(record), "{number}: {what}: {:?}", found.findings);
        }
        for (path, bytes) in &before {
            if fs::read(path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
    assert!(stored.verify().holds());
}

#[test]
fn a247_who_writes_everything_anew_but_has_no_key_is_found_out() {
    let stored = Stored::new();
    let mut segment = stored.segments()[2].clone();
    let record = segment.first + 3;
    let mut count = 3;
    for group in &mut segment.groups {
        if let Some(payload) = group.get_mut(count) {
            let at = payload.iter().position(|byte| *byte == b'1').unwrap();
            payload[at] = b'2';
            break;
        }
        count -= group.len();
    }
    segment.write();
    // The hashes are those of the new records, in every level; the indexes are made again by whoever needs them.
    let kept: Vec<_> = milestones(&stored.audit().join(MERKLE_DIRECTORY)).into_iter().collect();
    let log = Log::open_with(&stored.audit(), 0, 12_000).unwrap();
    let merkle = Merkle::open(&stored.audit(), 0).unwrap();
    merkle.forget(0).unwrap();
    while merkle.grow(&log).unwrap() {}
    drop(log);
    stored.cut_room();
    let found = stored.verify();
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    // Between which of the checkpoints that were kept it is.
    let expected = match record {
        ..100 => 0,
        100..200 => 100,
        _ => 200,
    };
    assert_eq!(found.findings[0].record, Some(expected), "{:?}", found.findings);
    // With a key of her own for all checkpoints she convinces only who knows no other.
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let hers = NoteSigner::from_pkcs8(ORIGIN, KeyKind::Ed25519, pkcs8.as_ref()).unwrap();
    let old = fs::read(checkpoint_path(&stored.audit())).unwrap();
    kept.iter().for_each(|path| fs::remove_file(path).unwrap());
    let log = Log::open_with(&stored.audit(), 0, 12_000).unwrap();
    stored.hash_and_sign(&log, &hers, &[100]);
    drop(log);
    stored.cut_room();
    assert!(stored.verify_with(&hers, Vec::new()).holds());
    let unkeyed = Verification { dir: stored.dir.path().to_owned(), ..Verification::default() };
    let believed = verify(&unkeyed, &mut |_, _| {}).unwrap();
    assert!(believed.holds() && believed.notes[0].contains("give `--key`"), "{:?}", believed.notes);
    assert!(!stored.verify().holds());
    // A checkpoint from before tells it, too.
    let known = vec![("from before".to_owned(), old)];
    assert!(!stored.verify_with(&stored.signer, known).holds());
}

#[test]
fn a_log_that_lost_its_newest_records_is_held_against_an_older_checkpoint() {
    let stored = Stored::new();
    let newest = fs::read(checkpoint_path(&stored.audit())).unwrap();
    // Everything is as it was once: a backup of the whole directory.
    let old = Stored { dir: tempfile::tempdir().unwrap(), signer: stored.signer };
    let log = log(&old.audit(), 20);
    old.hash_and_sign(&log, &old.signer, &[100]);
    drop(log);
    assert!(old.verify().holds());
    let found = old.verify_with(&old.signer, vec![("elsewhere".to_owned(), newest)]);
    assert_eq!(found.findings.len(), 1);
    assert!(found.findings[0].words.contains("`elsewhere` signs 300 records"), "{:?}", found.findings);
    // What came since the newest checkpoint is told apart, and is nothing wrong.
    let log = Log::open_with(&old.audit(), 200, 12_000).unwrap();
    take_in(&log, "gtw_b", 21..=30);
    let found = old.verify();
    assert!(found.holds(), "{:?}", found.findings);
    assert_eq!((found.records, found.covered), (210, 200));
    assert!(found.notes.iter().any(|note| note.contains("last 10 records are not hashed yet")), "{:?}", found.notes);
}

#[test]
fn numbers_that_are_missing_or_come_twice_are_told_unless_it_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit");
    let log = Log::open_with(&audit, 0, 1 << 20).unwrap();
    take_in(&log, "gtw_a", 1..=3);
    take_in(&log, "gtw_a", 6..=7);
    let stored = Stored {
        dir,
        signer: {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            NoteSigner::from_pkcs8(ORIGIN, KeyKind::Ed25519, pkcs8.as_ref()).unwrap()
        },
    };
    stored.hash_and_sign(&log, &stored.signer, &[]);
    let found = stored.verify();
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert!(found.findings[0].words.contains("records 4 to 5 of gtw_a are missing"), "{:?}", found.findings);
    assert_eq!(found.findings[0].record, Some(3));
    assert_eq!(gap(b"{}"), None);
    let mut told = Record::new(vouchsafe_wire::audit::Kind::Lifecycle, 5);
    told.source = CONTROLLER_SOURCE.to_owned();
    told.seq = 1;
    told.action = Some("audit.gap".to_owned());
    told.target = Some("gateway/gtw_a".to_owned());
    told.detail = Some("records 8 to 9 never arrived".to_owned());
    let mut frame = Vec::new();
    push_frame(&mut frame, &told.to_canonical().unwrap());
    log.take_in(CONTROLLER_SOURCE, 1, &frame).unwrap();
    take_in(&log, "gtw_a", 10..=11);
    assert_eq!(stored.verify().findings.len(), 1);
}
