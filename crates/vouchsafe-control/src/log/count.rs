//! Counting records that match, without handing any of them out.

use std::collections::HashMap;

use vouchsafe_wire::audit::Scanned;

use super::block::Field;
use super::filter::{Filter, Needle};
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
    search::scan(shared, &needle, &mut |payload, record| {
        if needle.is(record, payload) {
            counted.add(division, record);
        }
        !cancelled()
    })?;
    Ok(counted)
}
