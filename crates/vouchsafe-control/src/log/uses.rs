//! Who used what: accesses that went on, counted by person, device and resource. Of a closed segment its terms have the
//! counts, so that a month of them is added up without reading a record.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;
use vouchsafe_wire::audit::Scanned;

use super::filter::{Filter, Needle};
use super::terms::{Table, Unusable};
use super::{LogError, Shared, search};

/// Of whose uses to tell, and from when on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsesFilter {
    pub(crate) user: Option<String>,
    /// Id of the device.
    pub(crate) device: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) since_us: u64,
}

/// Uses of one resource by one person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) count: u64,
    /// How many of them were denied, and passed by a mode.
    pub(crate) passed: u64,
    /// The latest, unix microseconds.
    pub(crate) last_us: u64,
}

impl Use {
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.passed += other.passed;
        self.last_us = self.last_us.max(other.last_us);
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// Numbers of canonical values.
    numbers: HashMap<Vec<u8>, u32>,
    /// By numbers of user and resource. These are ours, so nobody can choose such as collide.
    by: FxHashMap<(u32, u32), Use>,
    most: usize,
    /// Some pairs were left out, because there are more than asked for.
    pub(crate) beyond: bool,
}

impl Uses {
    /// Every use, by canonical values of user and resource.
    pub(crate) fn by_values(&self) -> impl Iterator<Item = (&[u8], &[u8], Use)> {
        let mut values = vec![&[][..]; self.numbers.len()];
        for (value, number) in &self.numbers {
            if let Some(place) = values.get_mut(*number as usize) {
                *place = value;
            }
        }
        let value = move |number: u32| values.get(number as usize).copied().unwrap_or_default();
        self.by.iter().map(move |((user, resource), one)| (value(*user), value(*resource), *one))
    }

    fn number(&mut self, value: &[u8]) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        match self.numbers.get(value) {
            Some(number) => *number,
            None => *self.numbers.entry(value.to_vec()).or_insert(next),
        }
    }

    fn add(&mut self, user: u32, resource: u32, one: Use) {
        let full = self.by.len() >= self.most;
        match self.by.entry((user, resource)) {
            Entry::Occupied(known) => known.into_mut().add(one),
            Entry::Vacant(_) if full => self.beyond = true,
            Entry::Vacant(new) => drop(new.insert(one)),
        }
    }

    fn add_table(&mut self, table: &Table, wanted: &Wanted) {
        let numbers: Vec<u32> = table.values.iter().map(|value| self.number(value)).collect();
        let of =
            |wanted: &Option<Vec<u8>>| wanted.as_ref().map(|wanted| table.values.iter().position(|it| it == wanted));
        let (user, device, resource) = (of(&wanted.user), of(&wanted.device), of(&wanted.resource));
        let is = |wanted: Option<Option<usize>>, number: Option<usize>| {
            wanted.is_none_or(|wanted| wanted.is_some() && wanted == number)
        };
        for (row, one) in table.rows() {
            if is(user, Some(row.user)) && is(device, row.device) && is(resource, Some(row.resource)) {
                let number = |at: usize| numbers.get(at).copied().unwrap_or(u32::MAX);
                self.add(number(row.user), number(row.resource), one);
            }
        }
    }
}

/// Canonical values of user, device (empty without one) and resource.
pub(super) type Key<'b> = (&'b [u8], &'b [u8], &'b [u8]);

/// Whose use a record tells of, if it does.
pub(super) fn of<'b>(record: &Scanned<'b>) -> Option<(Key<'b>, Use)> {
    let passed = match (record.outcome?, record.passed) {
        (b"\"allow\"", _) => 0,
        (b"\"deny\"", Some(_)) => 1,
        (_, _) => return None,
    };
    if record.kind != b"\"decision\"" {
        return None;
    }
    let key = (record.user?, record.device.unwrap_or_default(), record.resource?);
    Some((key, Use { count: 1, passed, last_us: record.time_us }))
}

/// Adds up uses, apart for at most `most` pairs of people and resources; when `cancelled` says so, those found by then.
pub(super) fn count(
    shared: &Shared,
    filter: &UsesFilter,
    most: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Uses, LogError> {
    let UsesFilter { user, device, resource, since_us } = filter.clone();
    let kind = Some("decision".to_owned());
    let needle = Needle::new(&Filter { user, device, resource, kind, since_us: Some(since_us), ..Filter::default() });
    let wanted = Wanted::new(filter);
    let mut uses = Uses { most, ..Uses::default() };
    // The newest first: of more pairs than are told apart, those that were used last are.
    for segment in search::segments(shared).into_iter().rev() {
        if cancelled() {
            break;
        }
        if let Some(terms) = segment.terms(shared) {
            if terms.times.1 < filter.since_us {
                continue;
            }
            // A segment that began before that is read, for its counts tell no times.
            if terms.times.0 >= filter.since_us {
                match terms.open(&shared.dir).and_then(|open| open.uses()) {
                    Ok(found) => {
                        uses.add_table(&found, &wanted);
                        continue;
                    }
                    Err(Unusable) => shared.spoiled_terms(terms.first),
                }
            }
        }
        search::scan(shared, segment, &needle, &mut |payload, record| {
            if let Some(((user, _, resource), one)) = of(record)
                && needle.is(record, payload)
            {
                let (user, resource) = (uses.number(user), uses.number(resource));
                uses.add(user, resource, one);
            }
        })?;
    }
    Ok(uses)
}

/// The filter, in canonical values.
struct Wanted {
    user: Option<Vec<u8>>,
    device: Option<Vec<u8>>,
    resource: Option<Vec<u8>>,
}

impl Wanted {
    fn new(filter: &UsesFilter) -> Self {
        let canonical = |value: &Option<String>| value.as_deref().map(vouchsafe_wire::audit::canonical_text);
        Self { user: canonical(&filter.user), device: canonical(&filter.device), resource: canonical(&filter.resource) }
    }
}
