//! Byte strings, each once, with the numbers in which they came.

use ahash::RandomState;
use hashbrown::HashTable;

/// All strings stand in one piece of memory, and what leads to them in another, so that filling it again after a
/// [`Numbered::clear`] takes no more of it. What is hashed comes from strangers, so it is hashed with a key of this process.
#[derive(Default)]
pub(super) struct Numbered {
    strings: Strings,
    numbers: HashTable<u32>,
    hashes: RandomState,
}

#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    fn get(&self, number: u32) -> &[u8] {
        let end_of = |number: usize| self.ends.get(number).map_or(0, |end| *end as usize);
        let number = number as usize;
        self.bytes.get(number.checked_sub(1).map_or(0, end_of)..end_of(number)).unwrap_or_default()
    }
}

impl Numbered {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.strings.ends.len()
    }

    /// Forgets all; the memory stays.
    pub(super) fn clear(&mut self) {
        self.strings.bytes.clear();
        self.strings.ends.clear();
        self.numbers.clear();
    }

    /// The number of a string, if it is there.
    pub(super) fn find(&self, string: &[u8]) -> Option<usize> {
        let hash = self.hashes.hash_one(string);
        self.numbers.find(hash, |number| self.strings.get(*number) == string).map(|number| *number as usize)
    }

    /// The number of a string; if it is new, the next.
    pub(super) fn number_of(&mut self, string: &[u8]) -> u32 {
        let Self { strings, numbers, hashes } = self;
        let hash = hashes.hash_one(string);
        if let Some(number) = numbers.find(hash, |number| strings.get(*number) == string) {
            return *number;
        }
        // INVARIANT: what a segment holds has far fewer bytes, and so fewer strings, than this counts.
        let next = u32::try_from(strings.ends.len()).unwrap_or(u32::MAX);
        strings.bytes.extend_from_slice(string);
        strings.ends.push(u32::try_from(strings.bytes.len()).unwrap_or(u32::MAX));
        numbers.insert_unique(hash, next, |number| hashes.hash_one(strings.get(*number)));
        next
    }

    /// All with their numbers, in the order of their bytes.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&[u8], u32)> {
        // Most differ in their first bytes, which are compared at once.
        let head = |string: &[u8]| {
            let mut head = [0; 16];
            head.iter_mut().zip(string).for_each(|(to, from)| *to = *from);
            u128::from_be_bytes(head)
        };
        let mut all: Vec<(u128, u32)> =
            (0..).zip(&self.strings.ends).map(|(number, _)| (head(self.strings.get(number)), number)).collect();
        all.sort_unstable_by(|(one, first), (other, second)| {
            one.cmp(other).then_with(|| self.strings.get(*first).cmp(self.strings.get(*second)))
        });
        all.into_iter().map(|(_, number)| (self.strings.get(number), number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_string_has_one_number_and_all_are_sorted_by_their_bytes() {
        let mut numbered = Numbered::default();
        for _ in 0..2 {
            let strings: [&[u8]; 7] =
                [b"", b"\0", b"b", b"the same sixteen and more", b"the same sixteen and less", b"a", b"\0\0"];
            for (string, number) in strings.into_iter().zip(0..) {
                assert_eq!(numbered.find(string), None);
                assert_eq!((numbered.number_of(string), numbered.number_of(string)), (number, number));
                assert_eq!(numbered.find(string), Some(number as usize));
            }
            assert_eq!(numbered.len(), strings.len());
            let sorted: Vec<&[u8]> = numbered.sorted().map(|(string, _)| string).collect();
            let mut expected = strings.to_vec();
            expected.sort_unstable();
            assert_eq!(sorted, expected);
            assert!(numbered.sorted().all(|(string, number)| strings[number as usize] == string));
            numbered.clear();
            assert_eq!((numbered.len(), numbered.sorted().count()), (0, 0));
        }
    }
}
