//! Sets of records of one segment, by their place in it.
//!
//! A segment has some ten thousand records, so a set is three kilobytes as plain bits: what compressed bitmaps
//! are made for begins beyond that.

/// A set of numbers below a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

/// Begins a set that is written as steps from one number to the next.
const SPARSE: u8 = 0;
/// Begins a set that is written as it is.
const DENSE: u8 = 1;

impl Bits {
    pub(super) fn none(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    pub(super) fn all(size: usize) -> Self {
        let mut bits = Self(vec![u64::MAX; size.div_ceil(64)]);
        if let Some(last) = bits.0.last_mut().filter(|_| !size.is_multiple_of(64)) {
            *last = (1 << (size % 64)) - 1;
        }
        bits
    }

    pub(super) fn insert(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub(super) fn holds(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> u64 {
        self.0.iter().zip(&other.0).map(|(word, other)| u64::from((word & other).count_ones())).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Its numbers, rising.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let first = u32::try_from(at * 64).unwrap_or(u32::MAX);
            Ones(*word).map(move |bit| first.saturating_add(bit))
        })
    }

    /// Writes a set, given by its numbers in rising order, in the shorter of two forms.
    pub(super) fn write(numbers: &[u32], size: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let dense = size.div_ceil(64) * 8;
        out.push(SPARSE);
        let mut next = 0;
        for number in numbers {
            let mut step = number.wrapping_sub(next);
            next = number.wrapping_add(1);
            while step >= 0x80 {
                out.push(u8::try_from(step & 0x7f).unwrap_or_default() | 0x80);
                step >>= 7;
            }
            out.push(u8::try_from(step).unwrap_or_default());
            if out.len() - start > dense {
                break;
            }
        }
        if out.len() - start > dense {
            out.truncate(start);
            let mut bits = Self::none(size);
            numbers.iter().for_each(|number| bits.insert(*number));
            out.push(DENSE);
            bits.0.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// Adds the numbers of a written set; `None` when it isn't one of this size.
    pub(super) fn read(&mut self, written: &[u8], size: usize) -> Option<()> {
        match written.split_first()? {
            (&SPARSE, steps) => each_step(steps, size, |number| self.insert(number)),
            (&DENSE, words) => {
                let words = self.as_long(words)?;
                self.0.iter_mut().zip(words).for_each(|(word, from)| *word |= u64::from_le_bytes(*from));
                self.keep(&Self::all(size));
                Some(())
            }
            _ => None,
        }
    }

    /// How many are in both, of which one is written.
    pub(super) fn common_with(&self, written: &[u8], size: usize) -> Option<u64> {
        match written.split_first()? {
            (&SPARSE, steps) => {
                let mut common = 0;
                each_step(steps, size, |number| common += u64::from(self.holds(number)))?;
                Some(common)
            }
            (&DENSE, words) => {
                let both = self.0.iter().zip(self.as_long(words)?);
                Some(both.map(|(word, from)| u64::from((word & u64::from_le_bytes(*from)).count_ones())).sum())
            }
            _ => None,
        }
    }

    /// Words as many as these.
    fn as_long<'w>(&self, words: &'w [u8]) -> Option<&'w [[u8; 8]]> {
        let (words, rest) = words.as_chunks::<8>();
        (rest.is_empty() && words.len() == self.0.len()).then_some(words)
    }
}

/// Calls `each` for the numbers of a set that is written as steps.
fn each_step(steps: &[u8], size: usize, mut each: impl FnMut(u32)) -> Option<()> {
    let (mut next, mut step, mut shift) = (0_u32, 0_u32, 0_u32);
    for byte in steps {
        step |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 != 0 {
            shift += 7;
            continue;
        }
        let number = next.checked_add(step).filter(|number| (*number as usize) < size)?;
        each(number);
        (next, step, shift) = (number + 1, 0, 0);
    }
    (shift == 0).then_some(())
}

/// Places of the bits that are set in a word, from both ends.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

impl DoubleEndedIterator for Ones {
    fn next_back(&mut self) -> Option<u32> {
        let bit = (self.0 != 0).then(|| 63 - self.0.leading_zeros())?;
        self.0 &= !(1 << bit);
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_is_a_set(
            size in 1_usize..2_000,
            one in prop::collection::btree_set(0_u32..2_000, 0..400),
            other in prop::collection::btree_set(0_u32..2_000, 0..20),
        ) {
            let numbers = |set: BTreeSet<u32>| -> BTreeSet<u32> {
                set.into_iter().filter(|number| (*number as usize) < size).collect()
            };
            let sets = [numbers(one), numbers(other)];
            let (mut read, mut last) = (Vec::new(), Vec::new());
            for set in &sets {
                let mut written = Vec::new();
                Bits::write(&set.iter().copied().collect::<Vec<_>>(), size, &mut written);
                prop_assert!(written.len() <= 1 + size.div_ceil(64) * 8);
                let mut bits = Bits::none(size);
                bits.read(&written, size).unwrap();
                prop_assert!(bits.iter().eq(set.iter().copied()));
                prop_assert!(bits.iter().rev().eq(set.iter().rev().copied()));
                prop_assert_eq!((bits.len(), bits.is_empty()), (set.len() as u64, set.is_empty()));
                prop_assert_eq!(Bits::all(size).common_with(&written, size), Some(set.len() as u64));
                prop_assert!((0..2_000).all(|number| bits.holds(number) == set.contains(&number)));
                read.push(bits);
                last = written;
            }
            let [one, other]: [Bits; 2] = read.try_into().unwrap();
            let both = sets[0].intersection(&sets[1]).copied();
            prop_assert_eq!(one.common(&other), both.clone().count() as u64);
            prop_assert_eq!(one.common_with(&last, size), Some(one.common(&other)));
            let mut kept = one.clone();
            kept.keep(&other);
            prop_assert!(kept.iter().eq(both));
            prop_assert_eq!(Bits::all(size).len(), size as u64);
        }

        #[test]
        fn other_bytes_are_no_set_or_one_of_that_size(size in 1_usize..300, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bits = Bits::none(size);
            let read = bits.read(&bytes, size);
            prop_assert_eq!(read.is_some(), Bits::none(size).common_with(&bytes, size).is_some());
            prop_assert!(bits.iter().all(|number| (number as usize) < size));
        }
    }
}
