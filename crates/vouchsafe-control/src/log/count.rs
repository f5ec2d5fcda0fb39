//! Counting records that match, without handing any of them out.

use std::collections::HashMap;
use std::path::Path;

use vouchsafe_wire::audit::Scanned;

use super::bits::Bits;
use super::block::Field;
use super::filter::{Among, Filter, Needle};
use super::terms::{Found, Open, Terms, Unusable, value_key};
use super::{LogError, Shared, search};

/// What to count apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Division {
    /// Pieces of time.
    pub(crate) steps: Option<Steps>,
    /// Values of this field.
    pub(crate) by: Option<Field>,
}

/// Pieces of time of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    /// Where the first begins, unix seconds.
    pub(crate) since: u64,
    /// Length of each, seconds.
    pub(crate) step: u64,
    /// How many.
    pub(crate) count: usize,
}

impl Steps {
    /// The one piece that all times between these two are in, if they are in one: or none at all.
    fn whole(self, (earliest, latest): (u64, u64)) -> Option<Option<usize>> {
        let (first, last) = (earliest / 1_000_000, latest / 1_000_000);
        let end = u64::try_from(self.count).unwrap_or(u64::MAX).saturating_mul(self.step).saturating_add(self.since);
        if last < self.since || first >= end {
            return Some(None);
        }
        let piece = self.of(first).filter(|piece| self.of(last) == Some(*piece))?;
        Some(Some(piece))
    }

    /// In which piece a time is.
    fn of(self, second: u64) -> Option<usize> {
        let at = second.checked_sub(self.since)?.checked_div(self.step)?;
        usize::try_from(at).ok().filter(|at| *at < self.count)
    }
}

/// Numbers of records by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) records: u64,
    pub(crate) allow: u64,
    pub(crate) deny: u64,
    pub(crate) passed: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

impl Sums {
    fn add_all(&mut self, other: Self) {
        let Self { records, allow, deny, passed, ok, failed } = other;
        self.records += records;
        self.allow += allow;
        self.deny += deny;
        self.passed += passed;
        self.ok += ok;
        self.failed += failed;
    }

    fn add(&mut self, record: &Scanned<'_>) {
        self.records += 1;
        match record.outcome {
            Some(b"\"allow\"") => self.allow += 1,
            Some(b"\"deny\"") => self.deny += 1,
            Some(b"\"ok\"") => self.ok += 1,
            Some(b"\"failed\"") => self.failed += 1,
            Some(_) | None => {}
        }
        self.passed += u64::from(record.passed.is_some());
    }
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) total: Sums,
    /// One for each piece of time.
    pub(crate) over_time: Vec<Sums>,
    /// By canonical value.
    pub(crate) values: HashMap<Vec<u8>, u64>,
}

impl Counted {
    pub(super) fn new(division: Division) -> Self {
        let over_time = vec![Sums::default(); division.steps.map_or(0, |steps| steps.count)];
        Self { total: Sums::default(), over_time, values: HashMap::new() }
    }

    /// Counts what was counted elsewhere too.
    fn add_all(&mut self, other: Self) {
        let Self { total, over_time, values } = other;
        self.total.add_all(total);
        self.over_time.iter_mut().zip(over_time).for_each(|(sums, others)| sums.add_all(others));
        for (value, count) in values {
            *self.values.entry(value).or_default() += count;
        }
    }

    /// Counts one record.
    pub(super) fn add(&mut self, division: Division, record: &Scanned<'_>) {
        self.total.add(record);
        let piece = division.steps.and_then(|steps| steps.of(record.time_us / 1_000_000));
        if let Some(sums) = piece.and_then(|piece| self.over_time.get_mut(piece)) {
            sums.add(record);
        }
        if let Some(value) = division.by.and_then(|field| field.of(record)) {
            match self.values.get_mut(value) {
                Some(count) => *count += 1,
                None => drop(self.values.insert(value.to_vec(), 1)),
            }
        }
    }
}

/// Counts what matches; when `cancelled` says so, what was found by then.
pub(super) fn count(
    shared: &Shared,
    filter: &Filter,
    division: Division,
    cancelled: &dyn Fn() -> bool,
) -> Result<Counted, LogError> {
    let needle = Needle::new(filter);
    let mut counted = Counted::new(division);
    for segment in search::segments(shared) {
        if cancelled() {
            break;
        }
        if let Some(terms) = segment.terms(shared) {
            match of_terms(&shared.dir, &terms, &needle, division) {
                Ok(found) => {
                    counted.add_all(found);
                    continue;
                }
                Err(Unusable) => shared.spoiled_terms(terms.first),
            }
        }
        search::scan(shared, segment, &needle, &mut |payload, record| {
            if needle.is(record, payload) {
                counted.add(division, record);
            }
        })?;
    }
    Ok(counted)
}

/// Counts in a closed segment, without reading it.
fn of_terms(dir: &Path, terms: &Terms, needle: &Needle, division: Division) -> Result<Counted, Unusable> {
    let mut counted = Counted::new(division);
    let mut open = terms.open(dir)?;
    let among = match needle.among(terms, &mut open)? {
        Among::All => None,
        Among::These(bits) if bits.is_empty() => return Ok(counted),
        Among::These(bits) => Some(bits),
    };
    let among = among.as_ref();
    counted.total.records = among.map_or(terms.size as u64, Bits::len);
    let spread = division.steps.filter(|steps| steps.whole(terms.times).is_none());
    let times = spread.map(|_| open.times()).transpose()?;
    if let (Some(steps), Some(times)) = (spread, &times) {
        let all = among.cloned().unwrap_or_else(|| Bits::all(terms.size));
        over_time(&mut counted.over_time, steps, times, &all, Outcome::Any);
    }
    for outcome in Outcome::TOLD {
        let found = outcome.found(&mut open)?;
        let mut records = None;
        *outcome.of(&mut counted.total) = match among {
            None => found.count,
            Some(_) if found.count == 0 => 0,
            Some(among) => records.insert(open.records(&found)?).common(among),
        };
        if let (Some(steps), Some(times)) = (spread, &times)
            && found.count > 0
        {
            let mut records = match records {
                Some(records) => records,
                None => open.records(&found)?,
            };
            if let Some(among) = among {
                records.keep(among);
            }
            over_time(&mut counted.over_time, steps, times, &records, outcome);
        }
    }
    let piece = division.steps.and_then(|steps| steps.whole(terms.times)).flatten();
    if let Some(sums) = piece.and_then(|piece| counted.over_time.get_mut(piece)) {
        *sums = counted.total;
    }
    if let Some(field) = division.by {
        let values = &mut counted.values;
        open.values(field, among, &mut |value, records| {
            if records > 0 {
                values.insert(value.to_vec(), records);
            }
        })?;
    }
    Ok(counted)
}

/// Adds records to their pieces of time.
fn over_time(pieces: &mut [Sums], steps: Steps, times: &[u64], records: &Bits, outcome: Outcome) {
    // Neighbours are mostly of one piece: it is worked out anew only when one isn't.
    let (mut seconds, mut piece) = (0..0, None);
    for number in records.iter() {
        let second = times.get(number as usize).copied().unwrap_or_default() / 1_000_000;
        if !seconds.contains(&second) {
            piece = steps.of(second);
            let begun = |at: usize| steps.since.saturating_add(steps.step.saturating_mul(at as u64));
            seconds = piece.map_or(second..second + 1, |at| begun(at)..begun(at + 1));
        }
        if let Some(sums) = piece.and_then(|piece| pieces.get_mut(piece)) {
            *outcome.of(sums) += 1;
        }
    }
}

/// What is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Any,
    Allow,
    Deny,
    Passed,
    Ok,
    Failed,
}

impl Outcome {
    /// Those that terms know.
    const TOLD: [Outcome; 5] = [Outcome::Allow, Outcome::Deny, Outcome::Passed, Outcome::Ok, Outcome::Failed];

    fn of(self, sums: &mut Sums) -> &mut u64 {
        match self {
            Outcome::Any => &mut sums.records,
            Outcome::Allow => &mut sums.allow,
            Outcome::Deny => &mut sums.deny,
            Outcome::Passed => &mut sums.passed,
            Outcome::Ok => &mut sums.ok,
            Outcome::Failed => &mut sums.failed,
        }
    }

    fn found(self, open: &mut Open<'_>) -> Result<Found, Unusable> {
        let word: &[u8] = match self {
            Outcome::Allow => b"\"allow\"",
            Outcome::Deny => b"\"deny\"",
            Outcome::Ok => b"\"ok\"",
            Outcome::Failed => b"\"failed\"",
            Outcome::Any | Outcome::Passed => return open.beginning(&value_key(Field::Passed, b"")),
        };
        open.value(&value_key(Field::Outcome, word))
    }
}
