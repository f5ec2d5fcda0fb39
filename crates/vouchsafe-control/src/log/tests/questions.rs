//! Searches and counts beside a look at every record.

use proptest::prelude::*;
use vouchsafe_wire::audit::{Kind, Record, Words};
use vouchsafe_wire::spool::push_frame;

use super::super::*;

/// One record in small numbers, so that proptest can make it smaller.
type Seed = (u8, u8, u8, u8, u8, i8);

fn record(source: &str, seq: u64, number: u64, (kind, user, resource, outcome, words, late): Seed) -> Record {
    let pick = |from: &[&str], at: u8| {
        from.get(usize::from(at) % from.len()).filter(|text| !text.is_empty()).map(|text| (*text).to_owned())
    };
    let second = 5_000_i64 + i64::try_from(number).unwrap() / 3 + i64::from(late % 5);
    let kinds = [Kind::Decision, Kind::FlowEnd, Kind::Lifecycle];
    let mut record =
        Record::new(kinds[usize::from(kind) % 3], u64::try_from(second).unwrap() * 1_000_000 + u64::from(kind));
    record.source = source.to_owned();
    record.seq = seq;
    record.id = Some(format!("dec_{number:026}"));
    record.flow = (kind % 2 == 0).then(|| format!("flw_{:026}", number / 2));
    record.session = Some(format!("ses_{:026}", user % 4));
    record.user = pick(&["alice", "bob \"b\"", "çelik", "", "dave"], user);
    record.device = pick(&["", "dev_1", "dev_2"], user);
    record.resource = pick(&["wiki", "finance", "db", "git"], resource);
    record.outcome = pick(&["allow", "allow", "deny", "ok", "failed", ""], outcome);
    record.passed = (outcome % 6 == 2).then(|| "observe".to_owned());
    record.reason = pick(&["permitted", "no_permit", "session_ended"], outcome);
    record.path = pick(&["/", "/ledger/2026", "/Ledger/Ärger", "/a\\b\n", "/api/v1/x"], words);
    record.detail = pick(&["", "", "ended by Bob", "ledgers of 2026"], words / 3);
    record.policies = if words % 2 == 0 { vec!["marketing-read".to_owned(), "x".to_owned()] } else { Vec::new() };
    record
}

fn text_of(word: &str) -> Option<String> {
    (!word.is_empty()).then(|| word.to_owned())
}

/// What a filter is, and whether it takes a record, said without the log's own code.
fn takes(filter: &Filter, text: &str, record: &Record) -> bool {
    let Filter { user, device, resource, outcome, passed, kind, reason, id, text: _, since_us, until_us } = filter;
    let equals = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
    let texts = [
        &record.action,
        &record.detail,
        &record.device,
        &record.device_name,
        &record.device_owner,
        &record.host,
        &record.ip,
        &record.method,
        &record.path,
        &record.reason,
        &record.resource,
        &record.target,
        &record.user,
        &record.via,
        &record.words,
    ];
    let mut all: Vec<String> = texts.into_iter().flatten().cloned().collect();
    all.extend(record.policies.clone());
    let all = all.join(" ").to_lowercase();
    let words: Vec<&str> = all.split(|c: char| !c.is_alphanumeric()).collect();
    let wanted = text.to_lowercase();
    let mut wanted = wanted.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    equals(user, &record.user)
        && equals(device, &record.device)
        && equals(resource, &record.resource)
        && equals(outcome, &record.outcome)
        && equals(passed, &record.passed)
        && equals(reason, &record.reason)
        && kind.as_deref().is_none_or(|kind| kind == record.kind.as_str())
        && id.is_none_or_in(&[&record.id, &record.flow, &record.session])
        && since_us.is_none_or(|since| record.time_us >= since)
        && until_us.is_none_or(|until| record.time_us < until)
        && wanted.all(|wanted| words.iter().any(|word| word.starts_with(wanted)))
}

trait NoneOrIn {
    fn is_none_or_in(&self, values: &[&Option<String>]) -> bool;
}

impl NoneOrIn for Option<String> {
    fn is_none_or_in(&self, values: &[&Option<String>]) -> bool {
        self.is_none() || values.contains(&self)
    }
}

fn any_filter() -> impl Strategy<Value = (Filter, String)> {
    let one_of = |values: &'static [&'static str]| prop::sample::select(values).prop_map(text_of);
    let values = (
        one_of(&["", "", "", "alice", "bob \"b\"", "çelik", "nobody"]),
        one_of(&["", "", "", "dev_1", "dev_9"]),
        one_of(&["", "", "wiki", "finance", "nothing"]),
        one_of(&["", "", "allow", "deny", "failed"]),
        one_of(&["", "", "", "observe", "warn"]),
        one_of(&["", "", "decision", "flow_end", "lifecycle"]),
        one_of(&["", "", "permitted", "no_permit"]),
        one_of(&[
            "",
            "",
            "",
            "",
            "dec_00000000000000000000000017",
            "flw_00000000000000000000000009",
            "ses_00000000000000000000000002",
            "dec_x",
        ]),
    );
    let texts =
        &["", "", "", "ledger", "LED 20", "ärg", "2026 bob", "edger", "a b", "marketing read x", "zzz", "permit"];
    let times = (prop::option::of(4_990_u64..5_120), prop::option::of(4_990_u64..5_120), prop::bool::ANY);
    (values, prop::sample::select(texts.as_slice()), times).prop_map(|(values, text, (since, until, between))| {
        let (user, device, resource, outcome, passed, kind, reason, id) = values;
        let micros = |second: u64| second * 1_000_000 + u64::from(between);
        let words = Words::parse(text).ok();
        let (since_us, until_us) = (since.map(micros), until.map(micros));
        (
            Filter { user, device, resource, outcome, passed, kind, reason, id, text: words, since_us, until_us },
            text.to_owned(),
        )
    })
}

/// What a count of these records must come to.
fn counted(records: &[&Record], division: Division) -> Counted {
    let mut expected = Counted {
        over_time: vec![Sums::default(); division.steps.map_or(0, |steps| steps.count)],
        ..Counted::default()
    };
    for record in records {
        let add = |sums: &mut Sums| {
            sums.records += 1;
            match record.outcome.as_deref() {
                Some("allow") => sums.allow += 1,
                Some("deny") => sums.deny += 1,
                Some("ok") => sums.ok += 1,
                Some("failed") => sums.failed += 1,
                _ => {}
            }
            sums.passed += u64::from(record.passed.is_some());
        };
        add(&mut expected.total);
        if let Some(steps) = division.steps {
            let second = record.time_us / 1_000_000;
            let piece = second.checked_sub(steps.since).map(|since| usize::try_from(since / steps.step).unwrap());
            if let Some(sums) = piece.and_then(|piece| expected.over_time.get_mut(piece)) {
                add(sums);
            }
        }
        let value = match division.by {
            Some(Field::User) => record.user.clone(),
            Some(Field::Reason) => record.reason.clone(),
            Some(Field::Kind) => Some(record.kind.as_str().to_owned()),
            _ => None,
        };
        if let Some(value) = value {
            *expected.values.entry(vouchsafe_wire::audit::canonical_text(&value)).or_default() += 1;
        }
    }
    expected
}

/// Who used what, said without the log's own code.
fn used(records: &[Record], filter: &UsesFilter) -> HashMap<(Vec<u8>, Vec<u8>), Use> {
    let mut by: HashMap<(Vec<u8>, Vec<u8>), Use> = HashMap::new();
    for record in records {
        let went_on = match record.outcome.as_deref() {
            Some("allow") => true,
            Some("deny") => record.passed.is_some(),
            _ => false,
        };
        let equals = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        let wanted = equals(&filter.user, &record.user)
            && equals(&filter.device, &record.device)
            && equals(&filter.resource, &record.resource)
            && record.time_us >= filter.since_us;
        let (Some(user), Some(resource)) = (&record.user, &record.resource) else { continue };
        if record.kind != Kind::Decision || !went_on || !wanted {
            continue;
        }
        let canonical = vouchsafe_wire::audit::canonical_text;
        let one = by.entry((canonical(user), canonical(resource))).or_default();
        one.count += 1;
        one.passed += u64::from(record.outcome.as_deref() == Some("deny"));
        one.last_us = one.last_us.max(record.time_us);
    }
    by
}

fn any_uses() -> impl Strategy<Value = UsesFilter> {
    let one = |words: &'static [&'static str]| prop::sample::select(words).prop_map(text_of);
    let names =
        (one(&["", "", "alice", "bob \"b\"", "nobody"]), one(&["", "", "dev_1"]), one(&["", "", "wiki", "git"]));
    (names, prop::sample::select(vec![0_u64, 5_010, 5_060, 9_000])).prop_map(|((user, device, resource), since)| {
        UsesFilter { user, device, resource, since_us: since * 1_000_000 }
    })
}

fn any_division() -> impl Strategy<Value = Division> {
    let steps = prop::option::of((4_990_u64..5_100, 1_u64..40, 0_usize..20));
    let by = prop::sample::select(vec![None, Some(Field::User), Some(Field::Reason), Some(Field::Kind)]);
    (steps, by)
        .prop_map(|(steps, by)| Division { steps: steps.map(|(since, step, count)| Steps { since, step, count }), by })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_log_answers_as_a_look_at_every_record_does(
        seeds in prop::collection::vec(any::<Seed>(), 1..400),
        asked in prop::collection::vec((any_filter(), any_division()), 8),
        uses in prop::collection::vec(any_uses(), 4),
        (batch, segment_bytes, page) in (8_usize..60, 2_000_u64..60_000, 1_u32..50),
        (from, to) in (0_u64..400, 0_u64..500),
        damage in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open_with(dir.path(), 0, segment_bytes).unwrap();
        let (mut all, mut numbers): (Vec<Record>, [u64; 2]) = (Vec::new(), [0, 0]);
        for (round, seeds) in seeds.chunks(batch).enumerate() {
            let source = ["gtw_x", "controller"][round % 2];
            let first = numbers[round % 2] + 1;
            let mut frames = Vec::new();
            for seed in seeds {
                numbers[round % 2] += 1;
                let record = record(source, numbers[round % 2], all.len() as u64, *seed);
                push_frame(&mut frames, &record.to_canonical().unwrap());
                all.push(record);
            }
            log.take_in(source, first, &frames).unwrap();
        }
        let mut maker = Maker::default();
        for state in [State::AsItCame, State::Indexed, State::OpenedAgain, State::Damaged, State::MadeAgain] {
            match state {
                State::AsItCame => {}
                State::Indexed => {
                    while log.index_next(&mut maker) {}
                    let closed = log.0.view.read().closed.clone();
                    prop_assert!(closed.iter().all(|first| terms::path(dir.path(), *first).exists()));
                }
                State::OpenedAgain => {
                    drop(log);
                    log = Log::open_with(dir.path(), 0, segment_bytes).unwrap();
                }
                State::MadeAgain => while log.index_next(&mut maker) {},
                State::Damaged => {
                    let closed = log.0.view.read().closed.clone();
                    for (number, first) in closed.iter().enumerate() {
                        let path = terms::path(dir.path(), *first);
                        let mut bytes = fs::read(&path).unwrap();
                        let (length, at) = (bytes.len(), damage.index(bytes.len()));
                        match number % 3 {
                            0 => bytes[at] ^= 0x10,
                            1 => bytes.truncate(at),
                            _ => bytes[..at.min(length / 2)].fill(0xff),
                        }
                        fs::write(&path, bytes).unwrap();
                    }
                }
            }
            for filter in &uses {
                let expected = used(&all, filter);
                let found = log.uses(filter, 1_000, &|| false).unwrap();
                let told: HashMap<_, _> =
                    found.by_values().map(|(user, resource, one)| ((user.to_vec(), resource.to_vec()), one)).collect();
                prop_assert_eq!(&told, &expected, "{:?} {:?}", state, filter);
                prop_assert!(!found.beyond);
                let few = log.uses(filter, 1, &|| false).unwrap();
                prop_assert_eq!((few.by_values().count(), few.beyond), (expected.len().min(1), expected.len() > 1));
            }
            for ((filter, text), division) in &asked {
                let matching: Vec<(u64, &Record)> =
                    (0..).zip(&all).filter(|(_, record)| takes(filter, text, record)).collect();
                let read = |span, limit| -> Vec<(u64, Record)> {
                    let found = log.read(filter, span, limit, &|| false).unwrap();
                    found.into_iter().map(|(at, bytes)| (at, Record::from_canonical(&bytes).unwrap())).collect()
                };
                let (mut paged, mut before) = (Vec::new(), u64::MAX);
                loop {
                    let found = read(Span::Before(before), page);
                    prop_assert!(found.len() <= page as usize);
                    let Some((last, _)) = found.last() else { break };
                    before = *last;
                    paged.extend(found);
                }
                paged.reverse();
                prop_assert!(
                    paged.iter().map(|(at, record)| (*at, record)).eq(matching.iter().copied()),
                    "{state:?} {filter:?}: {} of {}", paged.len(), matching.len()
                );
                let between = read(Span::Between(from, to), page);
                let expected = matching.iter().filter(|(at, _)| (from..to).contains(at)).take(page as usize);
                prop_assert!(between.iter().map(|(at, record)| (*at, record)).eq(expected.copied()), "{state:?} {filter:?}");
                let matching: Vec<&Record> = matching.into_iter().map(|(_, record)| record).collect();
                let found = log.count(filter, *division, &|| false).unwrap();
                prop_assert_eq!(found, counted(&matching, *division), "{:?} {:?} {:?}", state, filter, division);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    AsItCame,
    Indexed,
    OpenedAgain,
    Damaged,
    MadeAgain,
}

/// What thousands of words begin with is one set in the file, and the records are those that a look at each finds.
#[test]
fn the_beginning_of_many_words_is_looked_up_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open_with(dir.path(), 0, 125_000).unwrap();
    let words: Vec<String> = (0..900_u32).map(|number| format!("path{}x", number * 7 % 331)).collect();
    for (number, word) in (1..).zip(&words) {
        let mut record = record("controller", number, number, (0, 0, 0, 0, 0, 0));
        record.path = Some(format!("/{word}"));
        let mut frames = Vec::new();
        push_frame(&mut frames, &record.to_canonical().unwrap());
        log.take_in("controller", number, &frames).unwrap();
    }
    while log.index_next(&mut Maker::default()) {}
    let first = *log.0.view.read().closed.first().unwrap();
    let terms = log.0.terms(first, log.0.view.read().closed[1]).unwrap();
    let mut open = terms.open(dir.path()).unwrap();
    for prefix in ["p", "pa", "path", "path1"] {
        assert_eq!(open.words(prefix.as_bytes()).unwrap().sets(), 1, "{prefix}");
    }
    assert!(open.words(b"path17").unwrap().sets() > 1, "few words need no set of their own");
    let prefixes: std::collections::BTreeSet<&str> =
        words.iter().flat_map(|word| (1..=word.len()).map(|end| &word[..end])).chain(["q", "pb", "path9999"]).collect();
    for prefix in prefixes {
        let filter = Filter { text: Some(Words::parse(prefix).unwrap()), ..Filter::default() };
        let expected = words.iter().filter(|word| word.starts_with(prefix)).count() as u64;
        // What else of a record begins so.
        let others = u64::from("permitted".starts_with(prefix)) * 900;
        let found = log.count(&filter, Division::default(), &|| false).unwrap();
        assert_eq!(found.total.records, expected.max(others), "{prefix}");
    }
}
