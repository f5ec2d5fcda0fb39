//! Who used what in a segment, as its terms have it.

use std::collections::HashMap;

use vouchsafe_wire::audit::Scanned;

use super::super::uses::{self, Use};
use super::{number, take};

/// Stands for a value that is missing.
const NONE: u32 = u32::MAX;

/// Bytes of a row.
const ROW_BYTES: usize = 28;

/// Uses by user, device and resource.
#[derive(Debug, Default)]
pub(in super::super) struct Table {
    /// Every value once.
    pub(in super::super) values: Vec<Vec<u8>>,
    rows: Vec<u8>,
}

/// Numbers of the values that a use is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Row {
    pub(in super::super) user: usize,
    pub(in super::super) device: Option<usize>,
    pub(in super::super) resource: usize,
}

impl Table {
    /// All of them.
    pub(in super::super) fn rows(&self) -> impl Iterator<Item = (Row, Use)> {
        self.rows.as_chunks::<ROW_BYTES>().0.iter().filter_map(read_row)
    }

    /// Reads a whole table; `None` when it isn't one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut values = Vec::new();
        for _ in 0..number(&mut rest)? {
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (value, behind) = rest.split_at_checked(length)?;
            rest = behind;
            values.push(value.to_vec());
        }
        let known = |number: usize| number < values.len();
        let (rows, []) = rest.as_chunks::<ROW_BYTES>() else { return None };
        let good = rows.iter().all(|row| {
            read_row(row).is_some_and(|(row, _)| known(row.user) && known(row.resource) && row.device.is_none_or(known))
        });
        good.then(|| Self { rows: rest.to_vec(), values })
    }
}

fn read_row(row: &[u8; ROW_BYTES]) -> Option<(Row, Use)> {
    let mut rest = row.as_slice();
    let (user, device, resource) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    let device = (device != NONE).then_some(device as usize);
    let (count, passed) = (u64::from(number(&mut rest)?), u64::from(number(&mut rest)?));
    let one = Use { count, passed, last_us: u64::from_le_bytes(take(&mut rest)?) };
    Some((Row { user: user as usize, device, resource: resource as usize }, one))
}

/// Uses that are counted while a segment is read.
#[derive(Default)]
pub(super) struct Count {
    values: HashMap<Vec<u8>, u32>,
    rows: HashMap<[u32; 3], Use>,
}

impl Count {
    pub(super) fn add(&mut self, record: &Scanned<'_>) {
        let Some(((user, device, resource), one)) = uses::of(record) else { return };
        let key = [self.value(user), if device.is_empty() { NONE } else { self.value(device) }, self.value(resource)];
        self.rows.entry(key).or_default().add(one);
    }

    fn value(&mut self, value: &[u8]) -> u32 {
        let next = u32::try_from(self.values.len()).unwrap_or(NONE);
        match self.values.get(value) {
            Some(number) => *number,
            None => *self.values.entry(value.to_vec()).or_insert(next),
        }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let mut values: Vec<(Vec<u8>, u32)> = self.values.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        out.extend_from_slice(&u32::try_from(values.len()).unwrap_or(NONE).to_le_bytes());
        for (value, _) in &values {
            out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(value);
        }
        let mut rows: Vec<([u32; 3], Use)> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        for (key, Use { count, passed, last_us }) in rows {
            key.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            for number in [count, passed] {
                out.extend_from_slice(&u32::try_from(number).unwrap_or(NONE).to_le_bytes());
            }
            out.extend_from_slice(&last_us.to_le_bytes());
        }
    }
}
