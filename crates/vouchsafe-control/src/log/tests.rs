mod full_disk;
mod questions;
mod retention;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::spool::push_frame;

use super::*;

const GATEWAY: &str = "gtw_x";

fn record(source: &str, seq: u64) -> Record {
    let mut record = Record::new(if seq.is_multiple_of(3) { Kind::FlowEnd } else { Kind::Decision }, 1_000 + seq);
    record.source = source.to_owned();
    record.seq = seq;
    record.id = Some(format!("dec_{seq:026}"));
    record.flow = seq.is_multiple_of(2).then(|| format!("flw_{seq:026}"));
    record.session = Some(format!("ses_{:026}", seq % 50));
    record.user = Some(format!("user-{} \"é\"", seq % 7));
    record.resource = Some(format!("app-{}", seq % 11));
    record.outcome = Some(if seq.is_multiple_of(13) { "deny" } else { "allow" }.to_owned());
    record.passed = seq.is_multiple_of(17).then(|| if seq < 3_000 { "observe" } else { "warn" }.to_owned());
    record.reason = Some("permitted".to_owned());
    record
}

fn frames(source: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut frames = Vec::new();
    numbers.for_each(|seq| push_frame(&mut frames, &record(source, seq).to_canonical().unwrap()));
    frames
}

fn take_in(log: &Log, source: &str, numbers: std::ops::RangeInclusive<u64>) -> u64 {
    log.take_in(source, *numbers.start(), &frames(source, numbers)).unwrap()
}

fn found(log: &Log, filter: &Filter, span: Span, limit: u32) -> Vec<(u64, Record)> {
    let found = log.read(filter, span, limit, &|| false).unwrap();
    found.into_iter().map(|(position, bytes)| (position, Record::from_canonical(&bytes).unwrap())).collect()
}

fn all(log: &Log) -> Vec<(u64, Record)> {
    found(log, &Filter::default(), Span::Between(0, u64::MAX), u32::MAX)
}

fn numbers(log: &Log) -> Vec<(String, u64)> {
    let all = all(log);
    assert!(all.iter().map(|(position, _)| *position).eq(0..all.len() as u64), "positions have no gap");
    assert_eq!(log.size(), all.len() as u64);
    all.into_iter().map(|(_, record)| (record.source, record.seq)).collect()
}

fn of(source: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<(String, u64)> {
    numbers.map(|seq| (source.to_owned(), seq)).collect()
}

#[test]
fn what_was_taken_in_is_there_in_order_after_any_number_of_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..12_u64 {
        let log = Log::open_with(dir.path(), expected.len() as u64, 2_000).unwrap();
        assert_eq!(numbers(&log), expected);
        assert_eq!(log.last_seq(GATEWAY), round * 5);
        assert_eq!(take_in(&log, GATEWAY, round * 5 + 1..=round * 5 + 5), round * 5 + 5);
        expected.extend(of(GATEWAY, round * 5 + 1..=round * 5 + 5));
        take_in(&log, "controller", round + 1..=round + 1);
        expected.extend(of("controller", round + 1..=round + 1));
        assert_eq!(numbers(&log), expected);
    }
    assert!(segment::list(dir.path()).unwrap().len() > 3);
}

#[tokio::test]
async fn few_read_at_one_time_and_the_others_wait() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 0).unwrap();
    let mut turns = Vec::new();
    for _ in 0..READERS {
        turns.push(log.turn().await);
    }
    let waits = tokio::time::timeout(std::time::Duration::from_millis(50), log.turn()).await;
    assert!(waits.is_err(), "one more than may");
    turns.pop();
    assert!(log.turn().await.is_some());
}

#[test]
fn known_records_are_compared_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 3_000).unwrap();
    for first in (1..=91).step_by(10) {
        take_in(&log, GATEWAY, first..=first + 9);
        take_in(&log, "controller", first..=first + 9);
    }
    let before = numbers(&log);
    assert_eq!(take_in(&log, GATEWAY, 1..=100), 100);
    assert_eq!(take_in(&log, GATEWAY, 37..=38), 100);
    assert_eq!(numbers(&log), before);
    let mut altered = frames(GATEWAY, 1..=98);
    push_frame(&mut altered, &{
        let mut other = record(GATEWAY, 99);
        other.user = Some("mallory".into());
        other.to_canonical().unwrap()
    });
    altered.extend(frames(GATEWAY, 100..=105));
    assert!(matches!(log.take_in(GATEWAY, 1, &altered), Err(TakeError::Altered { seq: 99 })));
    assert_eq!(numbers(&log), before);
    assert_eq!(take_in(&log, GATEWAY, 95..=105), 105);
    assert_eq!(numbers(&log), [before, of(GATEWAY, 101..=105)].concat());
}

#[test]
fn a_search_finds_what_a_look_at_every_record_finds() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 600_000).unwrap();
    for first in (1..=6_000).step_by(300) {
        take_in(&log, GATEWAY, first..=first + 299);
    }
    assert!(segment::list(dir.path()).unwrap().len() > 2);
    let every = all(&log);
    let text = |text: &str| Some(text.to_owned());
    let filters = [
        Filter::default(),
        Filter { id: text(&format!("dec_{:026}", 1)), ..Filter::default() },
        Filter { id: text(&format!("dec_{:026}", 3_456)), ..Filter::default() },
        Filter { id: text(&format!("flw_{:026}", 5_998)), ..Filter::default() },
        Filter { id: text(&format!("ses_{:026}", 49)), kind: text("flow_end"), ..Filter::default() },
        Filter { id: text("dec_of nobody"), ..Filter::default() },
        Filter { user: text("user-3 \"é\""), outcome: text("deny"), resource: text("app-4"), ..Filter::default() },
        Filter { reason: text("permitted"), since_us: Some(3_000), until_us: Some(3_010), ..Filter::default() },
        Filter { device: text("dev_x"), ..Filter::default() },
        Filter { passed: text("observe"), ..Filter::default() },
        Filter { passed: text("warn"), user: text("user-3 \"é\""), ..Filter::default() },
    ];
    for filter in filters {
        let id = filter.id.as_ref();
        let is = |record: &Record| {
            let equals = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
            equals(&filter.user, &record.user)
                && equals(&filter.device, &record.device)
                && equals(&filter.resource, &record.resource)
                && equals(&filter.outcome, &record.outcome)
                && equals(&filter.passed, &record.passed)
                && equals(&filter.reason, &record.reason)
                && filter.kind.as_deref().is_none_or(|kind| kind == record.kind.as_str())
                && id.is_none_or(|id| [&record.id, &record.flow, &record.session].contains(&&Some(id.clone())))
                && filter.since_us.is_none_or(|since| record.time_us >= since)
                && filter.until_us.is_none_or(|until| record.time_us < until)
        };
        let mut expected: Vec<_> = every.iter().filter(|(_, record)| is(record)).cloned().collect();
        let between = found(&log, &filter, Span::Between(1_000, 5_000), 700);
        let within = expected.iter().filter(|(position, _)| (1_000..5_000).contains(position)).take(700);
        assert!(between.iter().eq(within), "{filter:?}");
        expected.reverse();
        let (mut paged, mut end) = (Vec::new(), u64::MAX);
        loop {
            let page = found(&log, &filter, Span::Before(end), 900);
            let Some((last, _)) = page.last() else { break };
            end = *last;
            paged.extend(page);
        }
        assert!(paged == expected, "{filter:?}: {} of {}", paged.len(), expected.len());
    }
}

/// A log of three groups in one segment, and where each ends.
fn three_groups(dir: &Path) -> (Vec<u8>, Vec<usize>) {
    let log = Log::open_with(dir, 0, 1 << 16).unwrap();
    let mut ends = vec![0];
    for numbers in [1..=3, 4..=4, 5..=9] {
        take_in(&log, GATEWAY, numbers);
        ends.push(log.0.view.read().open.end as usize);
    }
    let mut bytes = fs::read(segment::path(dir, 0)).unwrap();
    bytes.truncate(ends[3]);
    (bytes, ends)
}

#[test]
fn a_group_that_a_crash_cut_short_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = three_groups(dir.path());
    let path = segment::path(dir.path(), 0);
    let near_an_end =
        |cut: &usize| ends.iter().any(|end| cut.abs_diff(*end) < 2 || cut.abs_diff(end + GROUP_HEADER_BYTES) < 2);
    for cut in (0..=bytes.len()).filter(|cut| cut % 101 == 0 || near_an_end(cut)) {
        // Room that was reserved, and pages of the group that never reached the disk.
        for (room, hole) in [(0, 0), (500, 0), (500, 100)] {
            let whole = ends.iter().rposition(|end| *end <= cut.saturating_sub(hole)).unwrap();
            let mut torn = bytes[..cut].to_vec();
            let hole_start = ends[whole].max(cut.saturating_sub(hole));
            torn[hole_start..].fill(0);
            torn.resize(cut + room, 0);
            fs::write(&path, &torn).unwrap();
            let log = Log::open_with(dir.path(), 0, 1 << 16).unwrap();
            let next = log.last_seq(GATEWAY);
            assert_eq!(next, [0, 3, 4, 9][whole], "cut at {cut}, hole {hole}");
            if cut % 3 == 0 {
                take_in(&log, GATEWAY, next + 1..=next + 2);
                assert_eq!(numbers(&log), of(GATEWAY, 1..=next + 2));
                drop(log);
                assert_eq!(numbers(&Log::open(dir.path(), 0).unwrap()), of(GATEWAY, 1..=next + 2));
            }
        }
    }
}

#[test]
fn a_header_that_a_record_quotes_is_no_later_group() {
    // Sixteen digits whose sum is letters and digits too: anybody can ask for such a path.
    let quoted = |number: u64| {
        let digits = format!("{number:016}").into_bytes();
        let group = Group {
            bytes: u32::from_le_bytes(digits[..4].try_into().unwrap()),
            first: u64::from_le_bytes(digits[4..12].try_into().unwrap()),
            count: u32::from_le_bytes(digits[12..].try_into().unwrap()),
        };
        String::from_utf8(group.header().to_vec())
            .ok()
            .filter(|header| header.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let quoted = (0..).find_map(quoted).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 1 << 16).unwrap();
    take_in(&log, GATEWAY, 1..=3);
    let mut quoting = record(GATEWAY, 4);
    quoting.path = Some(format!("/{quoted}"));
    let mut group = Vec::new();
    push_frame(&mut group, &quoting.to_canonical().unwrap());
    push_frame(&mut group, &record(GATEWAY, 5).to_canonical().unwrap());
    log.take_in(GATEWAY, 4, &group).unwrap();
    let end = log.0.view.read().open.end as usize;
    drop(log);
    let path = segment::path(dir.path(), 0);
    let mut torn = fs::read(&path).unwrap();
    torn[end - 100..].fill(0);
    assert!(torn.windows(quoted.len()).any(|window| window == quoted.as_bytes()));
    fs::write(&path, &torn).unwrap();
    let log = Log::open_with(dir.path(), 0, 1 << 16).unwrap();
    assert_eq!(numbers(&log), of(GATEWAY, 1..=3));
}

#[test]
fn damage_before_the_last_group_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = three_groups(dir.path());
    let path = segment::path(dir.path(), 0);
    for at in (0..ends[2]).step_by(13) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let Err(error) = Log::open_with(dir.path(), 0, 1 << 16) else { panic!("opened with byte {at} changed") };
        let expected = if at < ends[1] { 0 } else { 3 };
        assert!(matches!(error, LogError::Damaged { position, .. } if position == expected), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    // In the last group it can't be told from a crash, unless the log is known to have been longer.
    let mut damaged = bytes.clone();
    damaged[ends[2] + 40] ^= 0x10;
    fs::write(&path, &damaged).unwrap();
    let Err(error) = Log::open_with(dir.path(), 9, 1 << 16) else { panic!("opened") };
    assert!(matches!(error, LogError::Shortened { found: 4, known: 9, .. }), "{error}");
}

#[test]
fn damage_in_a_closed_segment_is_told_by_whoever_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
    for first in (1..=21).step_by(5) {
        take_in(&log, GATEWAY, first..=first + 4);
    }
    let path = segment::path(dir.path(), 5);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 300).unwrap();
    let read = || log.read(&Filter::default(), Span::Before(u64::MAX), 100, &|| false);
    assert!(matches!(read(), Err(LogError::Damaged { position: 5, path: at, .. }) if at == path));
    // What does not lie there is still found.
    assert_eq!(found(&log, &Filter::default(), Span::Before(u64::MAX), 10).len(), 10);
    drop(log);
    fs::remove_file(&path).unwrap();
    let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
    assert!(log.read(&Filter::default(), Span::Before(u64::MAX), 100, &|| false).is_err());
}

#[test]
fn indexes_that_are_lost_or_damaged_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
    for first in (1..=41).step_by(5) {
        take_in(&log, GATEWAY, first..=first + 4);
        take_in(&log, &format!("gtw_{first}"), 1..=2);
    }
    let before = numbers(&log);
    drop(log);
    let segments = segment::list(dir.path()).unwrap();
    let closed = &segments[..segments.len() - 1];
    for first in closed {
        let path = index_path(dir.path(), *first);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&path, damaged).unwrap();
        let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
        assert_eq!(numbers(&log), before);
        assert_eq!(fs::read(&path).unwrap(), whole);
        drop(log);
        let former = block::Index::from_file(&whole).unwrap().of_version(1);
        fs::write(&path, former).unwrap();
        let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
        assert_eq!(numbers(&log), before);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    closed.iter().for_each(|first| fs::remove_file(index_path(dir.path(), *first)).unwrap());
    let log = Log::open_with(dir.path(), 0, 1_000).unwrap();
    assert_eq!((log.last_seq(GATEWAY), log.last_seq("gtw_21"), log.last_seq("nobody")), (45, 2, 0));
    assert_eq!(numbers(&log), before);
}

#[test]
fn after_a_failed_commit_the_log_goes_on_in_a_new_segment() {
    for before in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), 0).unwrap();
        if before > 0 {
            take_in(&log, GATEWAY, 1..=before);
        }
        // Half of a group reaches the file, and then nothing more.
        let path = segment::path(dir.path(), 0);
        let end = log.0.view.read().open.end;
        let frames = frames(GATEWAY, before + 1..=before + 2);
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&frames[..100], end).unwrap();
        log.0.appender.lock().file = File::open(&path).unwrap();
        assert!(matches!(log.take_in(GATEWAY, before + 1, &frames), Err(TakeError::Log(LogError::File { .. }))));
        assert_eq!(log.size(), before);
        take_in(&log, GATEWAY, before + 1..=before + 4);
        assert_eq!(numbers(&log), of(GATEWAY, 1..=before + 4));
        drop(log);
        let log = Log::open(dir.path(), before + 4).unwrap();
        assert_eq!(numbers(&log), of(GATEWAY, 1..=before + 4));
    }
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(&dir.path().join("audit"), 0, 100).unwrap();
    take_in(&log, GATEWAY, 1..=1);
    take_in(&log, GATEWAY, 2..=2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("audit")), 0o700);
    let files: Vec<_> = fs::read_dir(dir.path().join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3 && files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}
